//! Collects the tags (surrogate keys) of a response from the policy, the deciding rule, the handler
//! and the response fields. The deciding rule is the first rule that matches the request and the
//! status code.

use actix_web::{
    dev::ServiceRequest,
    http::{StatusCode, header::HeaderMap},
};
use smallvec::SmallVec;

use super::{compiled::CompiledPolicy, matched::MatchedRules};
use crate::{
    entry::{key::CacheKey, limits::MAX_TAGS, tag::TagId},
    outcome::NotStored,
    semantics::tags::{CACHE_GROUPS, groups, listed_tags},
};

/// The length of the longest tag in bytes.
const MAX_LENGTH: usize = 256;

/// The tags that the policy and the rules give to the response to a request.
#[derive(Debug, Clone, Default)]
pub(crate) struct RequestTags {
    policy: SmallVec<[String; 1]>,
    /// The tags of each rule that can be the deciding rule, by the index of the rule.
    rules: SmallVec<[(usize, SmallVec<[String; 1]>); 1]>,
}

impl CompiledPolicy {
    /// Returns the tags that the policy and the matching rules give to the response to a request.
    /// The tags of all matching rules are included, because the status code decides which rule
    /// applies.
    pub(crate) fn request_tags(
        &self,
        request: &ServiceRequest,
        matched: &MatchedRules,
    ) -> RequestTags {
        let policy = self.policy.tags.iter().filter_map(|tag| tag.of_request(request)).collect();
        let mut tags = RequestTags { policy, rules: SmallVec::new() };
        for index in matched.indices() {
            let rule = self.rules.get(index).filter(|rule| !rule.tags.is_empty());
            let Some(rule) = rule else { continue };
            let path = request.match_info().as_str();
            let parameter = |name: &str| rule.parameter(path, name);
            let texts = rule.tags.iter().filter_map(|tag| tag.of_request(request, parameter));
            tags.rules.push((index, texts.collect()));
        }
        tags
    }

    /// Returns all tags of a response. `handler_tags` are the tags that the handler added.
    ///
    /// # Errors
    ///
    /// Returns [`NotStored::Tags`] if the response has too many tags or a tag that is too long. The
    /// cache then does not store the response: if one of its tags were left out, a purge of that
    /// tag would miss the response.
    pub(crate) fn tags(
        &self,
        request_tags: &RequestTags,
        matched: &MatchedRules,
        status: StatusCode,
        key: &CacheKey,
        handler_tags: &[String],
        fields: &HeaderMap,
    ) -> Result<Vec<TagId>, NotStored> {
        let deciding = self.deciding_index(matched, status);
        let rule_tags = request_tags.rules.iter().filter(|(index, _)| Some(*index) == deciding);
        let rule_tags = rule_tags.flat_map(|(_, tags)| tags);
        let mut tags = Vec::new();
        for name in request_tags.policy.iter().chain(rule_tags).chain(handler_tags) {
            add(&mut tags, TagId::tag(&self.namespace, name), name)?;
        }
        for name in self.tag_fields.iter().flat_map(|field| listed_tags(fields, field)) {
            add(&mut tags, TagId::tag(&self.namespace, &name), &name)?;
        }
        // RFC 9875: a group belongs to the origin (scheme and host) of the response.
        if fields.contains_key(CACHE_GROUPS)
            && let Some(url) = key.url_parts()
        {
            for name in groups(fields, &CACHE_GROUPS) {
                let group = TagId::group(url.namespace, url.scheme, url.host, &name);
                add(&mut tags, group, &name)?;
            }
        }
        Ok(tags)
    }
}

fn add(tags: &mut Vec<TagId>, tag: TagId, name: &str) -> Result<(), NotStored> {
    if name.len() > MAX_LENGTH {
        return Err(NotStored::Tags);
    }
    merge_tags(tags, &[tag])
}

/// Adds the tags that are not in the list yet. Returns an error if the list then has more tags than
/// a response may have.
pub(crate) fn merge_tags(tags: &mut Vec<TagId>, more: &[TagId]) -> Result<(), NotStored> {
    for tag in more {
        if !tags.contains(tag) {
            tags.push(*tag);
        }
    }
    if tags.len() > MAX_TAGS { Err(NotStored::Tags) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use actix_web::{
        http::header::{HeaderName, HeaderValue},
        test::TestRequest,
    };

    use super::{
        super::{compiled::Unmatched, rule::Rule, settings::Policy},
        *,
    };

    fn compile(policy: Policy, rules: Vec<Rule>) -> CompiledPolicy {
        CompiledPolicy::new(policy, rules, Unmatched::Policy, "t").unwrap()
    }

    /// Returns the tags of a response with these fields.
    fn tags(
        policy: &CompiledPolicy,
        path: &str,
        status: u16,
        handler_tags: &[&str],
        fields: &[(&str, &str)],
    ) -> Result<Vec<TagId>, NotStored> {
        let request = TestRequest::with_uri(path).insert_header(("host", "h")).to_srv_request();
        let matched = policy.match_rules(&request).unwrap();
        let key = policy.key(&request, &matched).unwrap();
        let request_tags = policy.request_tags(&request, &matched);
        let handler_tags: Vec<_> = handler_tags.iter().map(ToString::to_string).collect();
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            map.append(name, HeaderValue::from_str(value).unwrap());
        }
        let status = StatusCode::from_u16(status).unwrap();
        policy.tags(&request_tags, &matched, status, &key, &handler_tags, &map)
    }

    fn named(names: &[&str]) -> Vec<TagId> {
        names.iter().map(|name| TagId::tag("t", name)).collect()
    }

    #[test]
    fn response_gets_tags_of_policy_deciding_rule_handler_and_fields() {
        let policy = Policy::new()
            .tag("site")
            .tag_with(|request| request.headers().get("host")?.to_str().ok().map(str::to_owned))
            .tag_fields(["Cache-Tag", "surrogate-key"]);
        let policy = compile(
            policy,
            vec![
                Rule::pattern("/posts/{id}").status([404]).tag("missing:{id}"),
                Rule::pattern("/posts/{id}").tag("post:{id}").tag("posts"),
                Rule::pattern("/{a}/{b}/c").tag("{b}/{a}{b}"),
                Rule::prefix("/wiki").tag("wiki").tag_with(|request| {
                    request.query_string().strip_prefix("page=").map(str::to_owned)
                }),
            ],
        );
        for (path, status, handler_tags, fields, want) in [
            ("/", 200, &[][..], &[][..], &["site", "h"][..]),
            ("/", 200, &["a", "site"], &[], &["site", "h", "a"]),
            ("/posts/1", 200, &[], &[], &["site", "h", "post:1", "posts"]),
            ("/posts/1", 404, &[], &[], &["site", "h", "missing:1"]),
            ("/posts/%7Ea%20b%2Fc", 200, &[], &[], &["site", "h", "post:~a b/c", "posts"]),
            ("/x/y/c", 200, &[], &[], &["site", "h", "y/xy"]),
            ("/wiki/x?page=1", 200, &[], &[], &["site", "h", "wiki", "1"]),
            ("/wiki/x", 200, &[], &[], &["site", "h", "wiki"]),
            (
                "/",
                200,
                &[],
                &[("cache-tag", "a, b"), ("surrogate-key", "b c"), ("xkey", "d")],
                &["site", "h", "a", "b", "c"],
            ),
        ] {
            let got = tags(&policy, path, status, handler_tags, fields);
            assert_eq!(got.unwrap(), named(want), "{path} {status} {handler_tags:?} {fields:?}");
        }
    }

    #[test]
    fn group_belongs_to_the_origin_of_the_response() {
        let policy = compile(Policy::new(), vec![]);
        let got = tags(&policy, "/", 200, &[], &[("cache-groups", "\"a\", \"b\"")]).unwrap();
        let group = |name| TagId::group(b"t", b"http", b"h", name);
        assert_eq!(got, [group("a"), group("b")]);
    }

    #[test]
    fn response_with_too_many_or_too_long_tags_is_not_stored() {
        let policy = compile(Policy::new().tag_fields(["cache-tag"]), vec![]);
        let many = |count: usize| (0..count).map(|n| n.to_string()).collect::<Vec<_>>();
        let long = |length: usize| "x".repeat(length);
        let groups = |count| format!("\"{}\"", many(count).join("\", \""));
        for (case, handler_tags, field, value, want) in [
            ("64 tags", many(64), "x", String::new(), Ok(64)),
            ("65 tags", many(65), "x", String::new(), Err(NotStored::Tags)),
            ("one of them twice", [many(64), many(9)].concat(), "x", String::new(), Ok(64)),
            ("one of 256 bytes", vec![long(256)], "x", String::new(), Ok(1)),
            ("one of 257", vec![long(257)], "x", String::new(), Err(NotStored::Tags)),
            ("in a field", vec![], "cache-tag", many(64).join(","), Ok(64)),
            ("too many there", vec![], "cache-tag", many(65).join(","), Err(NotStored::Tags)),
            ("too long there", vec![], "cache-tag", long(257), Err(NotStored::Tags)),
            ("64 groups", vec![], "cache-groups", groups(64), Ok(64)),
            ("65 groups", vec![], "cache-groups", groups(65), Err(NotStored::Tags)),
            ("together", many(40), "cache-groups", groups(25), Err(NotStored::Tags)),
        ] {
            let handler_tags: Vec<_> = handler_tags.iter().map(String::as_str).collect();
            let got = tags(&policy, "/", 200, &handler_tags, &[(field, &value)]);
            assert_eq!(got.map(|tags| tags.len()), want, "{case}");
        }
    }

    #[cfg(feature = "regex")]
    #[test]
    fn named_groups_of_a_regex_are_parameters_of_tags() {
        let policy =
            compile(Policy::new(), vec![Rule::regex("/(?<kind>[a-z]+)/.*").tag("{kind}s")]);
        assert_eq!(tags(&policy, "/post/1", 200, &[], &[]).unwrap(), named(&["posts"]));
    }
}
