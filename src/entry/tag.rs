//! Names under which several stored responses are invalidated at once.

use std::{fmt, hash::Hasher as _};

use actix_web::http::header::HeaderName;
use siphasher::sip128::{Hasher128 as _, SipHasher13};
use smallvec::SmallVec;

use crate::{
    entry::key::{CacheKey, UrlParts},
    entry::response::StoredResponse,
};

/// Levels of a path that can be told apart by prefix; what is below belongs to the last.
pub(crate) const MAX_LEVELS: usize = 16;

/// What a stored response can be invalidated by, beside its key and everything at once.
///
/// A digest of 120 bits behind the kind of name it stands for. It is the same in every process and
/// for every build, so that stores may write it down. Two names of one kind that collide would be
/// invalidated together: too much, never too little.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TagId(u128);

/// What a tag stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// A name the application gives.
    Tag = 1,
    /// A name that `Cache-Groups` gives within one origin (RFC 9875).
    Group = 2,
    /// All keys of one URL.
    Url = 3,
    /// A path and its query on any host.
    Path = 4,
    /// A path and what is below it on one host.
    Prefix = 5,
    /// The same on any host.
    AnyPrefix = 6,
    /// One variant of a key.
    Variant = 7,
    /// One key.
    Key = 8,
}

impl TagId {
    /// The tag shared by all keys of one URL; `url` is [`CacheKey::url`](crate::store::CacheKey::url).
    #[must_use]
    pub fn url(url: &[u8]) -> Self {
        digest(Kind::Url, [url])
    }

    /// A name that an application gives to some of its responses.
    #[must_use]
    pub fn tag(namespace: &str, name: &str) -> Self {
        digest(Kind::Tag, [namespace.as_bytes(), name.as_bytes()])
    }

    /// The bytes of the tag, the kind of its name first: for stores that write tags down.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// The tag with these [bytes](Self::to_bytes).
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(bytes))
    }

    /// A group of an origin's responses (RFC 9875 section 2.1).
    pub(crate) fn group(namespace: &[u8], scheme: &[u8], host: &[u8], name: &str) -> Self {
        digest(Kind::Group, [namespace, scheme, host, name.as_bytes()])
    }

    /// What is stored under one key, for stores that remember removals as they do invalidations.
    pub(crate) fn key(key: &CacheKey) -> Self {
        digest(Kind::Key, [key.as_bytes()])
    }

    /// A path with its query, on whatever host.
    pub(crate) fn path(url: &UrlParts<'_>) -> Self {
        let known = [u8::from(url.query.is_some())];
        digest(Kind::Path, [url.scope, url.path, &known, url.query.unwrap_or_default()])
    }

    /// A path and what is below it by whole segments, on one host or on any. Where it has more
    /// levels than are told apart, what it is below of.
    pub(crate) fn prefix(namespace: &str, host: Option<&str>, path: &str) -> Self {
        let path = decoded(path.as_bytes());
        let levels: SmallVec<[usize; MAX_LEVELS]> = levels(trimmed(&path)).collect();
        let end = levels.last().copied().unwrap_or_default();
        level(namespace.as_bytes(), host.map(str::as_bytes), path.get(..end).unwrap_or_default())
    }

    /// One variant of a key: what the same values of these request fields select.
    pub(crate) fn variant<V: AsRef<[u8]>>(
        key: &CacheKey,
        selecting: impl Iterator<Item = (HeaderName, Option<V>)>,
    ) -> Self {
        let mut selecting: Vec<_> = selecting.collect();
        selecting.sort_unstable_by(|(one, _), (other, _)| one.as_str().cmp(other.as_str()));
        let mut text = Vec::new();
        for (name, value) in &selecting {
            let known = [u8::from(value.is_some())];
            for part in
                [name.as_str().as_bytes(), &known, value.as_ref().map_or(&[][..], AsRef::as_ref)]
            {
                text.extend_from_slice(&(part.len() as u64).to_le_bytes());
                text.extend_from_slice(part);
            }
        }
        digest(Kind::Variant, [key.as_bytes(), &text])
    }

    pub(crate) fn is_key(self) -> bool {
        self.kinds() == Kinds::of(Kind::Key)
    }

    pub(crate) fn kinds(self) -> Kinds {
        let [kind, ..] = self.0.to_be_bytes();
        Kinds(1_u16.checked_shl(u32::from(kind)).unwrap_or_default())
    }
}

impl fmt::Debug for TagId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TagId({:032x})", self.0)
    }
}

/// Some kinds of tags.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Kinds(u16);

impl Kinds {
    const fn of(kind: Kind) -> Self {
        Self(1 << kind as u8)
    }

    pub(crate) const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    const fn include(self, kind: Kind) -> bool {
        self.0 & Self::of(kind).0 != 0
    }
}

/// The tags that a response has by its key and by what selects it: made when they are asked for,
/// which is rare, instead of being kept with every response.
pub(crate) fn implied(
    key: &CacheKey,
    response: &StoredResponse,
    kinds: Kinds,
) -> SmallVec<[TagId; 2 * MAX_LEVELS]> {
    let mut tags = SmallVec::new();
    if kinds.include(Kind::Key) {
        tags.push(TagId::key(key));
    }
    if kinds.include(Kind::Url) {
        tags.push(TagId::url(key.url()));
    }
    if kinds.include(Kind::Variant) {
        tags.push(TagId::variant(key, response.selecting.iter().cloned()));
    }
    let by_path = [Kind::Path, Kind::Prefix, Kind::AnyPrefix];
    if !by_path.iter().any(|&kind| kinds.include(kind)) {
        return tags;
    }
    let Some(url) = key.url_parts() else { return tags };
    if kinds.include(Kind::Path) {
        tags.push(TagId::path(&url));
    }
    let path = decoded(url.path);
    for end in levels(&path) {
        let path = path.get(..end).unwrap_or_default();
        if kinds.include(Kind::Prefix) {
            tags.push(level(url.namespace(), Some(url.host), path));
        }
        if kinds.include(Kind::AnyPrefix) {
            tags.push(level(url.namespace(), None, path));
        }
    }
    tags
}

fn level(namespace: &[u8], host: Option<&[u8]>, path: &[u8]) -> TagId {
    match host {
        Some(host) => digest(Kind::Prefix, [namespace, host, path]),
        None => digest(Kind::AnyPrefix, [namespace, path]),
    }
}

/// Where the levels of a path end, from the root's on.
fn levels(path: &[u8]) -> impl Iterator<Item = usize> {
    let ends = path.iter().enumerate().skip(1).filter(|(_, byte)| **byte == b'/');
    let whole = (path.len() > 1).then_some(path.len());
    [0].into_iter().chain(ends.map(|(at, _)| at)).chain(whole).take(MAX_LEVELS)
}

/// Without the slashes that it ends with.
fn trimmed(mut path: &[u8]) -> &[u8] {
    while let [rest @ .., b'/'] = path {
        path = rest;
    }
    path
}

/// A path as it is routed, or more so: what routes to one handler is one path.
fn decoded(path: &[u8]) -> SmallVec<[u8; 96]> {
    let digit = |byte: Option<&u8>| byte.and_then(|&byte| char::from(byte).to_digit(16));
    let mut text = SmallVec::new();
    let mut rest = path;
    while let [first, tail @ ..] = rest {
        let escaped = digit(tail.first()).zip(digit(tail.get(1)));
        let value = escaped.and_then(|(high, low)| u8::try_from(high * 16 + low).ok());
        match value.filter(|value| *first == b'%' && !matches!(value, b'/' | b'%')) {
            Some(value) => {
                text.push(value);
                rest = tail.get(2..).unwrap_or_default();
            }
            None => {
                text.push(*first);
                rest = tail;
            }
        }
    }
    text
}

/// Keys of no secret: whoever could make names collide would only have more forgotten.
const KEYS: (u64, u64) = (0x6163_7469_782d_7765, 0x622d_6361_6368_6531);

/// Each part with its length before it, so that no two lists of parts are one text.
fn digest<const N: usize>(kind: Kind, parts: [&[u8]; N]) -> TagId {
    let mut hasher = SipHasher13::new_with_keys(KEYS.0, KEYS.1);
    for part in parts {
        hasher.write(&(part.len() as u64).to_le_bytes());
        hasher.write(part);
    }
    let digest = hasher.finish128().as_u128() >> 8;
    TagId((u128::from(kind as u8) << 120) | digest)
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::ACCEPT;

    use super::*;
    use crate::entry::response::tests::stored;

    #[test]
    fn a_tag_is_the_same_in_every_process() {
        // Written down: a store on disk or beside other processes keeps them.
        let tags = [
            TagId::tag("shop", "post:1"),
            TagId::group(b"shop", b"http", b"a", "post:1"),
            TagId::url(b"url"),
            TagId::prefix("shop", Some("a"), "/posts"),
            TagId::prefix("shop", None, "/posts"),
        ];
        let written = tags.map(|tag| format!("{tag:?}"));
        assert_eq!(written, WRITTEN);
        let digits = |tag: TagId| tag.to_bytes().map(|byte| format!("{byte:02x}")).concat();
        assert_eq!(tags.map(|tag| format!("TagId({})", digits(tag))), WRITTEN);
        assert_eq!(tags.map(|tag| TagId::from_bytes(tag.to_bytes())), tags);
    }

    const WRITTEN: [&str; 5] = [
        "TagId(017a16ca9b2ce756b640d9d4b6116094)",
        "TagId(022ff53b71b938ff12aa9204ff64781b)",
        "TagId(038a69800bb046435b0ea7cff6450822)",
        "TagId(05dee366082bcdc2f27d76149261aaff)",
        "TagId(06ec1f382e957d8ec02a806357a1a51e)",
    ];

    #[test]
    fn names_that_differ_in_any_part_are_different_tags() {
        let key = |host, path, query| CacheKey::new("4:shop,", "http", host, path, query);
        let path = |key: CacheKey| TagId::path(&key.url_parts().unwrap());
        let variant = |key: CacheKey, by: &[(HeaderName, Option<&'static str>)]| {
            TagId::variant(&key, by.iter().cloned())
        };
        let tags = [
            TagId::tag("shop", "a"),
            TagId::tag("shop", "A"),
            TagId::tag("shop", ""),
            TagId::tag("sho", "pa"),
            TagId::group(b"shop", b"http", b"h", "a"),
            TagId::group(b"shop", b"https", b"h", "a"),
            TagId::group(b"shop", b"http", b"ha", ""),
            TagId::prefix("shop", Some("h"), "/a"),
            TagId::prefix("shop", Some("h"), "/"),
            TagId::prefix("shop", Some("h"), "/a/b"),
            TagId::prefix("shop", Some("h"), "/a%2Fb"),
            TagId::prefix("shop", Some("h"), "//a"),
            TagId::prefix("shop", None, "/a"),
            TagId::prefix("other", None, "/a"),
            TagId::url(key("h", "/a", None).url()),
            TagId::key(&key("h", "/a", None)),
            path(key("h", "/a", None)),
            path(key("h", "/a", Some(""))),
            path(key("h", "/a", Some("b"))),
            path(key("h", "/b", None)),
            variant(key("h", "/a", None), &[]),
            variant(key("h", "/a", None), &[(ACCEPT, None)]),
            variant(key("h", "/a", None), &[(ACCEPT, Some(""))]),
            variant(key("h", "/b", None), &[(ACCEPT, Some(""))]),
        ];
        for (index, one) in tags.iter().enumerate() {
            assert!(!tags[index + 1..].contains(one), "{index}");
        }
        assert_eq!(path(key("h", "/a", None)), path(key("g", "/a", None)), "on any host");
    }

    #[test]
    fn a_path_is_below_its_prefixes_by_whole_segments() {
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
            let key = CacheKey::new("4:shop,0123", "http", "h", path, Some("q"));
            let kinds = Kinds::of(Kind::Prefix).and(Kinds::of(Kind::AnyPrefix));
            let implied = implied(&key, &stored(0, &[]), kinds);
            for host in [Some("h"), None] {
                let tag = TagId::prefix("shop", host, prefix);
                assert_eq!(implied.contains(&tag), below, "{path} below {prefix} of {host:?}");
            }
            assert!(!implied.contains(&TagId::prefix("shop", Some("g"), prefix)), "{path}");
        }
    }

    #[test]
    fn only_the_kinds_that_are_asked_for_are_made() {
        let key = CacheKey::new("4:shop,", "http", "h", "/a/b", None);
        let made = |kind| implied(&key, &stored(0, &[]), Kinds::of(kind)).len();
        let kinds = [Kind::Tag, Kind::Group, Kind::Url, Kind::Path, Kind::Variant, Kind::Key];
        assert_eq!(kinds.map(made), [0, 0, 1, 1, 1, 1]);
        assert_eq!([Kind::Prefix, Kind::AnyPrefix].map(made), [3, 3]);
    }
}
