//! Implied tags: the tags (surrogate keys) that follow from the cache key and the variant of a
//! response.

use smallvec::SmallVec;

use crate::entry::{
    key::CacheKey,
    response::StoredResponse,
    tag::{MAX_PREFIXES, TagId, TagKind, TagKinds, decode_path, prefix_ends},
};

/// Computes the implied tags of a response that are of the given kinds.
///
/// Implied tags are not stored with the response. They are needed only after an invalidation by
/// such a tag, which is rare. The check whether a response is still valid then computes them.
pub(crate) fn implied_tags(
    key: &CacheKey,
    response: &StoredResponse,
    kinds: TagKinds,
) -> SmallVec<[TagId; 2 * MAX_PREFIXES]> {
    let mut tags = SmallVec::new();
    if kinds.contains(TagKind::Key) {
        tags.push(TagId::key(key));
    }
    if kinds.contains(TagKind::AnyName) && response.tags.iter().any(|tag| tag.is_name()) {
        tags.push(TagId::any_name());
    }
    if kinds.contains(TagKind::Url) {
        tags.push(TagId::url(key.url()));
    }
    if kinds.contains(TagKind::Variant) {
        tags.push(TagId::variant(key, response.selecting.iter().cloned()));
    }
    let by_path = [
        TagKind::Path,
        TagKind::Prefix,
        TagKind::PrefixOnAnyHost,
        TagKind::PathOnHost,
        TagKind::PathOnAnyHost,
    ];
    if !by_path.iter().any(|&kind| kinds.contains(kind)) {
        return tags;
    }
    let Some(url) = key.url_parts() else { return tags };
    if kinds.contains(TagKind::Path) {
        tags.push(TagId::path(&url));
    }
    let path = decode_path(url.path);
    if kinds.contains(TagKind::PathOnHost) {
        tags.push(TagId::decoded_path(url.namespace, Some(url.host), &path));
    }
    if kinds.contains(TagKind::PathOnAnyHost) {
        tags.push(TagId::decoded_path(url.namespace, None, &path));
    }
    for end in prefix_ends(&path) {
        let prefix = path.get(..end).unwrap_or_default();
        if kinds.contains(TagKind::Prefix) {
            tags.push(TagId::decoded_prefix(url.namespace, Some(url.host), prefix));
        }
        if kinds.contains(TagKind::PrefixOnAnyHost) {
            tags.push(TagId::decoded_prefix(url.namespace, None, prefix));
        }
    }
    tags
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::fixtures::stored;

    #[test]
    fn path_is_below_its_prefixes_by_whole_segments() {
        let deep = |levels: usize| "/x".repeat(levels);
        for (path, prefix, below) in [
            ("/", "/", true),
            ("/a", "/", true),
            ("/a/b/c", "/a/b", true),
            ("/a/b", "/a/b", true),
            ("/a/b/", "/a/b", true),
            ("/a/b", "/a/b/", true),
            ("/a/bc", "/a/b", false),
            ("/a", "/a/b", false),
            ("/ab", "/a", false),
            ("/%61/%7e", "/a/~", true),
            ("/caf%C3%A9/x", "/caf\u{e9}", true),
            ("/a%2Fb", "/a", false),
            ("/a%2Fb", "/a%2fb", false),
            ("/a%zz/%", "/a%zz", true),
            ("//a/b", "//a", true),
            ("//a/b", "/a", false),
            (&deep(40), &deep(15), true),
            (&deep(40), &deep(20), true),
            (&deep(15), &deep(20), true),
            (&deep(14), &deep(20), false),
        ] {
            let key = CacheKey::new("shop", "http", "h", path, Some("q"));
            let kinds = TagKinds::of(TagKind::Prefix).with(TagKinds::of(TagKind::PrefixOnAnyHost));
            let tags = implied_tags(&key, &stored(0, &[]), kinds);
            for host in [Some("h"), None] {
                let tag = TagId::prefix("shop", host, prefix);
                assert_eq!(tags.contains(&tag), below, "{path} below {prefix} of {host:?}");
            }
            assert!(!tags.contains(&TagId::prefix("shop", Some("g"), prefix)), "{path}");
        }
    }

    #[test]
    fn path_includes_every_query_and_encoding_of_one_path() {
        for (path, query, purged, same) in [
            ("/a", None, "/a", true),
            ("/a", Some(""), "/a", true),
            ("/a", Some("q=1"), "/a", true),
            ("/%61/%7e", Some("q"), "/a/~", true),
            ("/caf%C3%A9", None, "/caf\u{e9}", true),
            ("/", Some("q"), "/", true),
            ("/a/", None, "/a", false),
            ("/a/b", None, "/a", false),
            ("/A", None, "/a", false),
            ("/a%2Fb", None, "/a/b", false),
        ] {
            let key = CacheKey::new("shop", "http", "h", path, query);
            let kinds =
                TagKinds::of(TagKind::PathOnHost).with(TagKinds::of(TagKind::PathOnAnyHost));
            let tags = implied_tags(&key, &stored(0, &[]), kinds);
            for host in [Some("h"), None] {
                let tag = TagId::path_with_any_query("shop", host, purged);
                assert_eq!(tags.contains(&tag), same, "{path} {query:?}: {purged} on {host:?}");
            }
            assert!(!tags.contains(&TagId::path_with_any_query("shop", Some("g"), purged)));
        }
    }

    #[test]
    fn only_requested_kinds_are_computed() {
        let key = CacheKey::new("shop", "http", "h", "/a/b", None);
        let number = |kind| implied_tags(&key, &stored(0, &[]), TagKinds::of(kind)).len();
        let kinds = [
            TagKind::Name,
            TagKind::Group,
            TagKind::Url,
            TagKind::Path,
            TagKind::Variant,
            TagKind::Key,
        ];
        assert_eq!(kinds.map(number), [0, 0, 1, 1, 1, 1]);
        assert_eq!([TagKind::Prefix, TagKind::PrefixOnAnyHost].map(number), [3, 3]);
        assert_eq!([TagKind::PathOnHost, TagKind::PathOnAnyHost].map(number), [1, 1]);
    }
}
