//! Collects the tags (surrogate keys) of a response from the policy, the handler and the response
//! fields.

use std::borrow::Cow;

use actix_web::{
    dev::ServiceRequest,
    http::header::{HeaderMap, HeaderName, HeaderValue},
};
use smallvec::SmallVec;

use super::compiled::CompiledPolicy;
use crate::{
    entry::{key::CacheKey, limits::MAX_TAGS, response::StoredResponse, tag::TagId},
    outcome::NotStored,
    semantics::{
        fields::field_lines,
        tags::{CACHE_GROUPS, TagsTooLong, groups, listed_tags, tag_list},
    },
};

/// The length of the longest tag in bytes.
pub(super) const MAX_LENGTH: usize = 256;

/// The tags that the policy gives to the response to a request.
#[derive(Debug, Clone, Default)]
pub(crate) struct RequestTags(SmallVec<[String; 1]>);

impl CompiledPolicy {
    /// Returns the tags that the policy gives to the response to a request.
    pub(crate) fn request_tags(&self, request: &ServiceRequest) -> RequestTags {
        let path = self.compared.of(request);
        let parameter = |name: &str| self.path.parameter(path, name);
        RequestTags(self.tags.iter().filter_map(|tag| tag.of_request(request, parameter)).collect())
    }

    /// Returns the names of all tags of a response. `handler_tags` are those that the handler added,
    /// and `fields` are the fields that the handler sent.
    fn tag_names<'a>(
        &'a self,
        request_tags: &'a RequestTags,
        handler_tags: &'a [String],
        fields: &'a HeaderMap,
    ) -> impl Iterator<Item = Cow<'a, str>> {
        let named = request_tags.0.iter().chain(handler_tags);
        let listed = self.tag_fields.iter().flat_map(|field| listed_tags(fields, field));
        named.map(|name| Cow::Borrowed(name.as_str())).chain(listed)
    }

    /// Returns whether the policy writes the tags of responses into response fields.
    pub(crate) const fn emits_tags(&self) -> bool {
        !self.emitted_tag_fields.is_empty()
    }

    /// Makes the response fields that list the tags of a response for a CDN. `answer` are the fields
    /// that the handler sent. If they update a stored response, `updated` is this response, whose
    /// listed tags remain. If the response has one of the fields already, the result replaces it.
    pub(crate) fn emitted_tags(
        &self,
        request_tags: &RequestTags,
        handler_tags: &[String],
        answer: &HeaderMap,
        updated: Option<&StoredResponse>,
    ) -> Result<Vec<(HeaderName, HeaderValue)>, TagsTooLong> {
        let mut emitted = Vec::new();
        for name in &self.emitted_tag_fields {
            let stored = updated.into_iter().flat_map(|updated| updated.lines(name));
            let lines = stored.map(HeaderValue::as_bytes).chain(field_lines(answer, name));
            let tags = self.tag_names(request_tags, handler_tags, answer);
            if let Some(value) = tag_list(name, lines, tags)? {
                emitted.push((name.clone(), value));
            }
        }
        Ok(emitted)
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
        key: &CacheKey,
        handler_tags: &[String],
        fields: &HeaderMap,
    ) -> Result<Vec<TagId>, NotStored> {
        let mut tags = Vec::new();
        for name in self.tag_names(request_tags, handler_tags, fields) {
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
        super::{
            policy_set::{PolicyConfig, PolicySet},
            rule::Rule,
            settings::Policy,
        },
        *,
    };

    fn compile(policy: Policy, rules: Vec<Rule>) -> PolicySet {
        PolicySet::new(PolicyConfig { policy, rules, ..PolicyConfig::new() }, "t").unwrap()
    }

    /// Returns the tags of a response with these fields.
    fn tags(
        policies: &PolicySet,
        path: &str,
        handler_tags: &[&str],
        fields: &[(&str, &str)],
    ) -> Result<Vec<TagId>, NotStored> {
        let request = TestRequest::with_uri(path).insert_header(("host", "h")).to_srv_request();
        let policy = policies.policy(policies.applied_rule(&request).unwrap());
        let key = policy.key(&request, None).unwrap().key;
        let request_tags = policy.request_tags(&request);
        let handler_tags: Vec<_> = handler_tags.iter().map(ToString::to_string).collect();
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            map.append(name, HeaderValue::from_str(value).unwrap());
        }
        policy.tags(&request_tags, &key, &handler_tags, &map)
    }

    fn named(names: &[&str]) -> Vec<TagId> {
        names.iter().map(|name| TagId::tag("t", name)).collect()
    }

    #[test]
    fn response_gets_tags_of_its_policy_handler_and_fields() {
        let policy = Policy::new()
            .tag("site")
            .tag_with(|request| request.headers().get("host")?.to_str().ok().map(str::to_owned))
            .tag_fields(["Cache-Tag", "surrogate-key"]);
        let policy = compile(
            policy,
            vec![
                Rule::pattern("/posts/{id}").with(|policy| policy.tag("post:{id}").tag("posts")),
                Rule::pattern("/{a}/{b}/c").with(|policy| policy.tag("{b}/{a}{b}")),
                Rule::prefix("/wiki").with(|policy| {
                    let page = |query: &str| query.strip_prefix("page=").map(str::to_owned);
                    policy.tag("wiki").tag_with(move |request| page(request.query_string()))
                }),
                Rule::path("/new").with(|_| Policy::new().tag("new")),
            ],
        );
        for (path, handler_tags, fields, want) in [
            ("/", &[][..], &[][..], &["site", "h"][..]),
            ("/", &["a", "site"], &[], &["site", "h", "a"]),
            ("/posts/1", &[], &[], &["site", "h", "post:1", "posts"]),
            ("/posts/%7Ea%20b%2Fc", &[], &[], &["site", "h", "post:~a b/c", "posts"]),
            ("/x/y/c", &[], &[], &["site", "h", "y/xy"]),
            ("/wiki/x?page=1", &[], &[], &["site", "h", "wiki", "1"]),
            ("/wiki/x", &[], &[], &["site", "h", "wiki"]),
            ("/new", &["a"], &[], &["new", "a"]),
            (
                "/",
                &[],
                &[("cache-tag", "a, b"), ("surrogate-key", "b c"), ("xkey", "d")],
                &["site", "h", "a", "b", "c"],
            ),
        ] {
            let got = tags(&policy, path, handler_tags, fields);
            assert_eq!(got.unwrap(), named(want), "{path} {handler_tags:?} {fields:?}");
        }
    }

    #[test]
    fn group_belongs_to_the_origin_of_the_response() {
        let policy = compile(Policy::new(), vec![]);
        let got = tags(&policy, "/", &[], &[("cache-groups", "\"a\", \"b\"")]).unwrap();
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
            let got = tags(&policy, "/", &handler_tags, &[(field, &value)]);
            assert_eq!(got.map(|tags| tags.len()), want, "{case}");
        }
    }

    #[cfg(feature = "regex")]
    #[test]
    fn named_groups_of_a_regex_are_parameters_of_tags() {
        let policy = compile(
            Policy::new(),
            vec![Rule::regex("/(?<kind>[a-z]+)/.*").with(|policy| policy.tag("{kind}s"))],
        );
        assert_eq!(tags(&policy, "/post/1", &[], &[]).unwrap(), named(&["posts"]));
    }
}
