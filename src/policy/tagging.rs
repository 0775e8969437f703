//! Which tags a response gets: by rules, by the policy, from its handler and from its fields.

use std::{fmt, sync::Arc};

use actix_web::{
    dev::ServiceRequest,
    http::{StatusCode, header::HeaderMap},
};
use percent_encoding::percent_decode_str;
use smallvec::SmallVec;

use super::{
    ConfigError, DownstreamFields, MakePart, Policy,
    compiled::{CompiledPolicy, MatchedRules},
};
use crate::{
    entry::{key::CacheKey, limits::MAX_TAGS, tag::TagId},
    outcome::NotStored,
    semantics::tags::{CACHE_GROUPS, groups, listed_tags},
};

/// Bytes of the longest tag.
const MAX_LENGTH: usize = 256;

/// How something is named that answers a request.
#[derive(Clone)]
pub(super) enum Tagging {
    Text(String),
    With(MakePart),
}

impl fmt::Debug for Tagging {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => fmt::Debug::fmt(text, f),
            Self::With(_) => f.write_str("with"),
        }
    }
}

impl Policy {
    /// Tags all responses, so that [`CacheHandle::purge_tag`](crate::CacheHandle::purge_tag) finds
    /// them. Those of rules, handlers and fields are added to it; a response with more than 64 tags,
    /// or with one longer than 256 bytes, is not stored.
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tags.push(Tagging::Text(tag.into()));
        self
    }

    /// Tags all responses by something in the request: a tenant, a shop. `None` gives no tag. It is
    /// asked before the handler is, and not on hits.
    pub fn tag_with(
        mut self,
        tag: impl Fn(&ServiceRequest) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        self.tags.push(Tagging::With(Arc::new(tag)));
        self
    }

    /// Response fields that list tags: `Cache-Tag`, `Surrogate-Key`. Default: none; `Cache-Groups`
    /// (RFC 9875) is always read, and names [groups](crate::CacheHandle::purge_group).
    ///
    /// In `Surrogate-Key` and `xkey` white space separates the tags, in all others commas do. The
    /// fields reach clients as they are; see [`remove_tag_fields`](Self::remove_tag_fields).
    pub fn tag_fields(mut self, names: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        self.tag_fields = names.into_iter().map(|name| name.as_ref().to_owned()).collect();
        self
    }

    /// Takes the [`tag_fields`](Self::tag_fields) out of what clients get. Default: they stay, for
    /// the cache in front may be meant too.
    pub const fn remove_tag_fields(mut self) -> Self {
        self.tags_downstream = DownstreamFields::Removed;
        self
    }
}

/// How something is named, checked.
#[derive(Debug, Clone)]
pub(super) enum CompiledTagging {
    Pieces(Vec<Piece>),
    With(Tagging),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    Text(String),
    Parameter(String),
}

impl Tagging {
    /// With the parameters that it names, of those there are.
    pub(super) fn checked(&self, parameters: &[String]) -> Result<CompiledTagging, ConfigError> {
        match self {
            Self::Text(text) => pieces(text, parameters).map(CompiledTagging::Pieces),
            Self::With(_) => Ok(CompiledTagging::With(self.clone())),
        }
    }

    /// As far as it can be told from another.
    pub(super) fn known(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::With(_) => None,
        }
    }

    fn text(&self, request: &ServiceRequest) -> Option<String> {
        match self {
            Self::Text(text) => Some(text.clone()),
            Self::With(make) => make(request),
        }
    }
}

impl CompiledTagging {
    /// `parameter` tells what the path has for one.
    pub(super) fn text(
        &self,
        request: &ServiceRequest,
        parameter: impl Fn(&str) -> Option<String>,
    ) -> Option<String> {
        match self {
            Self::With(tagging) => tagging.text(request),
            Self::Pieces(pieces) => Some(
                pieces
                    .iter()
                    .map(|piece| match piece {
                        Piece::Text(text) => text.clone(),
                        Piece::Parameter(name) => {
                            let value = parameter(name).unwrap_or_default();
                            // As `web::Path` hands it to handlers.
                            percent_decode_str(&value).decode_utf8_lossy().into_owned()
                        }
                    })
                    .collect(),
            ),
        }
    }
}

fn pieces(text: &str, parameters: &[String]) -> Result<Vec<Piece>, ConfigError> {
    let wrong = || ConfigError::TagParameter(text.to_owned());
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        let (name, tail) = after.split_once('}').ok_or_else(wrong)?;
        if !parameters.iter().any(|known| known == name) {
            return Err(wrong());
        }
        pieces.push(Piece::Text(before.to_owned()));
        pieces.push(Piece::Parameter(name.to_owned()));
        rest = tail;
    }
    pieces.push(Piece::Text(rest.to_owned()));
    Ok(pieces)
}

type Tags = Vec<TagId>;

/// What a request says of the tags of its answer.
#[derive(Debug, Clone, Default)]
pub(crate) struct RequestTags {
    policy: SmallVec<[String; 1]>,
    /// Those of each rule that may turn out to decide.
    rules: SmallVec<[(usize, SmallVec<[String; 1]>); 1]>,
}

impl CompiledPolicy {
    /// The tags that an answer to this request gets by rules and policy.
    pub(crate) fn request_tags(
        &self,
        request: &ServiceRequest,
        matched: &MatchedRules,
    ) -> RequestTags {
        let mut tags = RequestTags {
            policy: self.policy.tags.iter().filter_map(|tag| tag.text(request)).collect(),
            rules: SmallVec::new(),
        };
        for index in matched.indices() {
            let rule = self.rules.get(index).filter(|rule| !rule.tags.is_empty());
            let Some(rule) = rule else { continue };
            let path = request.match_info().as_str();
            let parameter = |name: &str| rule.parameter(path, name);
            let texts = rule.tags.iter().filter_map(|tag| tag.text(request, parameter));
            tags.rules.push((index, texts.collect()));
        }
        tags
    }

    /// All tags of a response; `said` are those that its handler gave it. An error if there are
    /// too many, or one is too long: what is not stored need not be found.
    pub(crate) fn tags(
        &self,
        requested: &RequestTags,
        matched: &MatchedRules,
        status: StatusCode,
        key: &CacheKey,
        said: &[String],
        fields: &HeaderMap,
    ) -> Result<Tags, NotStored> {
        let decides = self.deciding_index(matched, status);
        let by_rule = requested.rules.iter().filter(|(index, _)| Some(*index) == decides);
        let listed = self.tag_fields.iter().flat_map(|name| listed_tags(fields, name));
        let mut tags = Tags::new();
        let given = requested.policy.iter().chain(by_rule.flat_map(|(_, tags)| tags)).chain(said);
        for name in given {
            add(&mut tags, TagId::tag(&self.namespace, name), name)?;
        }
        for name in listed {
            add(&mut tags, TagId::tag(&self.namespace, &name), &name)?;
        }
        if fields.contains_key(CACHE_GROUPS)
            && let Some(url) = key.url_parts()
        {
            for name in groups(fields, &CACHE_GROUPS) {
                let group = TagId::group(url.namespace(), url.scheme, url.host, &name);
                add(&mut tags, group, &name)?;
            }
        }
        Ok(tags)
    }
}

fn add(tags: &mut Tags, tag: TagId, name: &str) -> Result<(), NotStored> {
    if name.len() > MAX_LENGTH {
        return Err(NotStored::Tags);
    }
    merge_tags(tags, &[tag])
}

/// Adds tags that are not there yet.
pub(crate) fn merge_tags(tags: &mut Tags, more: &[TagId]) -> Result<(), NotStored> {
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

    use super::*;
    use crate::policy::{compiled::Unmatched, rule::Rule};

    fn checked(policy: Policy, rules: Vec<Rule>) -> CompiledPolicy {
        CompiledPolicy::new(policy, rules, Unmatched::Policy, "t").unwrap()
    }

    /// The tags of an answer with these fields.
    fn tags(
        checked: &CompiledPolicy,
        path: &str,
        status: u16,
        said: &[&str],
        fields: &[(&str, &str)],
    ) -> Result<Vec<TagId>, NotStored> {
        let request = TestRequest::with_uri(path).insert_header(("host", "h")).to_srv_request();
        let matched = checked.match_rules(&request).unwrap();
        let key = checked.key(&request, &matched).unwrap();
        let requested = checked.request_tags(&request, &matched);
        let said: Vec<_> = said.iter().map(ToString::to_string).collect();
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            map.append(name, HeaderValue::from_str(value).unwrap());
        }
        let status = StatusCode::from_u16(status).unwrap();
        checked.tags(&requested, &matched, status, &key, &said, &map)
    }

    fn named(names: &[&str]) -> Vec<TagId> {
        names.iter().map(|name| TagId::tag("t", name)).collect()
    }

    #[test]
    fn tags_come_from_the_policy_the_rule_that_decides_the_handler_and_fields() {
        let policy = Policy::new()
            .tag("site")
            .tag_with(|request| request.headers().get("host")?.to_str().ok().map(str::to_owned))
            .tag_fields(["Cache-Tag", "surrogate-key"]);
        let cache = checked(
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
        for (path, status, said, fields, want) in [
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
            let got = tags(&cache, path, status, said, fields);
            assert_eq!(got.unwrap(), named(want), "{path} {status} {said:?} {fields:?}");
        }
    }

    #[test]
    fn groups_are_bound_to_their_origin() {
        let cache = checked(Policy::new(), vec![]);
        let got = tags(&cache, "/", 200, &[], &[("cache-groups", "\"a\", \"b\"")]).unwrap();
        let group = |name| TagId::group(b"t", b"http", b"h", name);
        assert_eq!(got, [group("a"), group("b")]);
    }

    #[test]
    fn more_or_longer_tags_than_can_be_kept_are_not_dropped_in_silence() {
        let cache = checked(Policy::new().tag_fields(["cache-tag"]), vec![]);
        let many = |count: usize| (0..count).map(|n| n.to_string()).collect::<Vec<_>>();
        let long = |length: usize| "x".repeat(length);
        let groups = |count| format!("\"{}\"", many(count).join("\", \""));
        for (case, said, field, value, want) in [
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
            let said: Vec<_> = said.iter().map(String::as_str).collect();
            let got = tags(&cache, "/", 200, &said, &[(field, &value)]);
            assert_eq!(got.map(|tags| tags.len()), want, "{case}");
        }
    }

    #[test]
    fn a_rule_can_only_name_parameters_that_it_has() {
        for (rule, fits) in [
            (Rule::pattern("/a/{id}").tag("x:{id}"), true),
            (Rule::pattern("/a/{id:[0-9]+}").tag("x:{id}"), true),
            (Rule::pattern("/a/{tail}*").tag("x:{tail}"), true),
            (Rule::pattern("/a/{id}").tag("x:{name}"), false),
            (Rule::pattern("/a/{id}").tag("x:{id"), false),
            (Rule::path("/a").tag("x:{id}"), false),
            (Rule::any().tag("x"), true),
        ] {
            let built =
                CompiledPolicy::new(Policy::new(), vec![rule.clone()], Unmatched::Policy, "t");
            assert_eq!(built.is_ok(), fits, "{rule:?}");
        }
        let error = Rule::path("/a").tag("x:{id}");
        let error =
            CompiledPolicy::new(Policy::new(), vec![error], Unmatched::Policy, "t").unwrap_err();
        assert!(error.to_string().contains("x:{id}"), "{error}");
    }

    #[cfg(feature = "regex")]
    #[test]
    fn groups_of_a_regular_expression_are_parameters_too() {
        let cache = checked(Policy::new(), vec![Rule::regex("/(?<kind>[a-z]+)/.*").tag("{kind}s")]);
        assert_eq!(tags(&cache, "/post/1", 200, &[], &[]).unwrap(), named(&["posts"]));
    }
}
