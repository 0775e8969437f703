//! Tags (surrogate keys): names by which an application purges or expires several stored responses
//! at once.
//!
//! No tag depends on the policy of a cache, so a purge by tag applies to the responses that every
//! policy has stored.

use std::fmt;

use actix_web::http::header::HeaderName;
use siphasher::sip128::{Hasher128 as _, SipHasher13};
use smallvec::SmallVec;

use crate::entry::{
    key::{CacheKey, UrlKey, UrlParts},
    length_prefixed::{append_optional, append_part},
};

/// The largest number of prefixes of one path that have tags. A purge of a deeper prefix uses the
/// tag of the deepest prefix that has one, and may therefore purge more responses.
pub(crate) const MAX_PREFIXES: usize = 16;

/// A tag (surrogate key), by which stored responses are purged or expired.
///
/// Some tags of a response come from the application or from the header fields of the response. The
/// other tags follow from its cache key and its variant. Examples are the tags of its URL, of its
/// path, and of each prefix of its path.
///
/// A tag consists of the kind of its name and a 120-bit digest of the name. The tag of a name is
/// the same in every process and every build, so stores may write tags to disk or to the network.
/// If two names of one kind had equal digests, an invalidation of one name would also invalidate
/// the responses of the other name. The only effect would be a cache miss.
///
/// The digest of a variant has three parts: 56 bits for the cache key, 32 bits for the names of the
/// selecting fields, and 32 bits for their values. The digest of a group, and of a path or a path
/// prefix on one host, begins with 40 bits for the namespace and the host.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TagId(u128);

/// The part of the tag of a variant that stands for the cache key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct KeyDigest(u64);

/// The part of the tag of a variant that stands for the names of the selecting fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FieldsDigest(u32);

/// The tags that one record replaces if too many tags were purged or expired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum TagFamily {
    /// The groups, the paths and the path prefixes of one host. The value is a digest of
    /// the namespace and the host.
    Host(u64),
    /// The names and the ids of people that applications give.
    Names,
}

/// The kind of name that a tag is made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum TagKind {
    /// A name that the application gives.
    Name = 1,
    /// A name in the `Cache-Groups` field of responses of one origin (RFC 9875).
    Group = 2,
    /// The URL of a key. All keys of one URL have this tag.
    Url = 3,
    /// A path with its query, on any host.
    Path = 4,
    /// A path and everything below it, on one host.
    Prefix = 5,
    /// A path and everything below it, on any host.
    PrefixOnAnyHost = 6,
    /// One variant of one cache key.
    Variant = 7,
    /// One cache key, with all its variants.
    Key = 8,
    /// All responses to which the application has given a name or a person.
    AnyName = 9,
    /// A path with any query, on one host.
    PathOnHost = 10,
    /// A path with any query, on any host.
    PathOnAnyHost = 11,
    /// The id of a person.
    User = 12,
}

impl TagId {
    /// Makes the tag that all keys of one URL share.
    #[must_use]
    pub fn url(url: UrlKey<'_>) -> Self {
        digest(TagKind::Url, [url.as_bytes()])
    }

    /// Makes the tag of a name that an application gives to some of its responses. `namespace` is
    /// the namespace of the cache.
    #[must_use]
    pub fn tag(namespace: &str, name: &str) -> Self {
        digest(TagKind::Name, [namespace.as_bytes(), name.as_bytes()])
    }

    /// Returns the bytes of the tag, for stores that write tags to disk or to the network. The
    /// first byte is the kind of the name from which the tag is made.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// Makes the tag with these [bytes](Self::to_bytes).
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(bytes))
    }

    /// Makes the tag with these [bytes](Self::to_bytes). Returns `None` if this build does not know
    /// the kind of the tag.
    ///
    /// A later version of this crate may write tags of further kinds. This build does not know which
    /// responses have such a tag, so an invalidation by the tag must apply to all responses.
    #[must_use]
    pub fn try_from_bytes(bytes: [u8; 16]) -> Option<Self> {
        let tag = Self::from_bytes(bytes);
        TagKinds::ALL.intersects(tag.kinds()).then_some(tag)
    }

    /// Makes the tag of a group of responses of one origin (RFC 9875 section 2.1).
    pub(crate) fn group(namespace: &[u8], scheme: &[u8], host: &[u8], name: &str) -> Self {
        of_host(TagKind::Group, namespace, host, [scheme, name.as_bytes()])
    }

    /// Makes the tag of the responses that are kept for one person.
    pub(crate) fn user(namespace: &str, id: &str) -> Self {
        digest(TagKind::User, [namespace.as_bytes(), id.as_bytes()])
    }

    /// Makes the tag of all responses to which the application has given a name or a person.
    pub(crate) fn any_name() -> Self {
        digest(TagKind::AnyName, [])
    }

    /// Returns the family of the tag, if it has one.
    pub(crate) fn family(self) -> Option<TagFamily> {
        let [kind, h0, h1, h2, h3, h4, ..] = self.to_bytes();
        if [TagKind::Name as u8, TagKind::User as u8].contains(&kind) {
            return Some(TagFamily::Names);
        }
        let of_host = [TagKind::Group, TagKind::Prefix, TagKind::PathOnHost];
        of_host
            .iter()
            .any(|&of_host| of_host as u8 == kind)
            .then(|| TagFamily::Host(u64::from_be_bytes([0, 0, 0, h0, h1, h2, h3, h4])))
    }

    /// Makes the tag that all responses with a tag of the family have.
    pub(crate) fn of_family(family: TagFamily) -> Self {
        match family {
            TagFamily::Names => Self::any_name(),
            TagFamily::Host(host) => {
                let root = first_bits(&hash([b"".as_slice()]), 80);
                Self(with_kind(TagKind::Prefix, (u128::from(host) << 80) | root))
            }
        }
    }

    /// Returns whether the tag is a name or the id of a person, which an application gives.
    pub(super) fn is_name(self) -> bool {
        self.family() == Some(TagFamily::Names)
    }

    /// Makes the tag of one cache key. All variants of the key have this tag. Stores that record
    /// the removal of a key as an invalidation use this tag.
    pub(crate) fn key(key: &CacheKey) -> Self {
        digest(TagKind::Key, [key.as_bytes()])
    }

    /// Makes the tag of a path with its query, on any host.
    pub(crate) fn path(url: &UrlParts<'_>) -> Self {
        let mut hasher = hasher();
        append_part(&mut hasher, url.namespace);
        append_part(&mut hasher, url.path);
        append_optional(&mut hasher, url.query);
        finish(TagKind::Path, &hasher)
    }

    /// Makes the tag of a path with any query, on one host or on any host.
    pub(crate) fn path_with_any_query(namespace: &str, host: Option<&str>, path: &str) -> Self {
        let path = decode_path(path.as_bytes());
        Self::decoded_path(namespace.as_bytes(), host.map(str::as_bytes), &path)
    }

    /// Makes the tag of a path with any query. The path must be decoded by [`decode_path`].
    pub(super) fn decoded_path(namespace: &[u8], host: Option<&[u8]>, path: &[u8]) -> Self {
        match host {
            Some(host) => of_host(TagKind::PathOnHost, namespace, host, [path]),
            None => digest(TagKind::PathOnAnyHost, [namespace, path]),
        }
    }

    /// Makes the tag of a path and everything below it, on one host or on any host. "Below" counts
    /// whole segments: `/a/b` is below `/a`, but `/ab` is not. Only the first [`MAX_PREFIXES`]
    /// prefixes of a path have tags, so the result for a deeper `path` is the tag of its last
    /// prefix that has one.
    pub(crate) fn prefix(namespace: &str, host: Option<&str>, path: &str) -> Self {
        let path = decode_path(path.as_bytes());
        let end = prefix_ends(without_trailing_slashes(&path)).last().unwrap_or_default();
        let prefix = path.get(..end).unwrap_or_default();
        Self::decoded_prefix(namespace.as_bytes(), host.map(str::as_bytes), prefix)
    }

    /// Makes the tag of a path prefix. The prefix must be decoded by [`decode_path`] and end at one
    /// of its [`prefix_ends`].
    pub(super) fn decoded_prefix(namespace: &[u8], host: Option<&[u8]>, prefix: &[u8]) -> Self {
        match host {
            Some(host) => of_host(TagKind::Prefix, namespace, host, [prefix]),
            None => digest(TagKind::PrefixOnAnyHost, [namespace, prefix]),
        }
    }

    /// Makes the tag of one variant of a key. `selecting` has the request fields that choose the
    /// variant, each with its value. [`variant_parts`](Self::variant_parts) tells whether two
    /// variants of a key have the same selecting fields.
    pub(crate) fn variant<V: AsRef<[u8]>>(
        key: &CacheKey,
        selecting: impl Iterator<Item = (HeaderName, Option<V>)>,
    ) -> Self {
        let mut selecting: SmallVec<[_; 4]> = selecting.collect();
        selecting.sort_unstable_by(|(one, _), (other, _)| one.as_str().cmp(other.as_str()));
        let [mut of_key, mut names, mut values] = [hasher(), hasher(), hasher()];
        append_part(&mut of_key, key.as_bytes());
        for (name, value) in &selecting {
            append_part(&mut names, name.as_str().as_bytes());
            append_optional(&mut values, value.as_ref().map(AsRef::as_ref));
        }
        let digest = (first_bits(&of_key, 56) << 64)
            | (first_bits(&names, 32) << 32)
            | first_bits(&values, 32);
        Self(with_kind(TagKind::Variant, digest))
    }

    /// Returns the parts of the tag of a variant that stand for the key and for the names of the
    /// selecting fields. Returns `None` for a tag of another kind.
    pub(crate) fn variant_parts(self) -> Option<(KeyDigest, FieldsDigest)> {
        let [kind, k0, k1, k2, k3, k4, k5, k6, n0, n1, n2, n3, ..] = self.to_bytes();
        let key = KeyDigest(u64::from_be_bytes([0, k0, k1, k2, k3, k4, k5, k6]));
        let names = FieldsDigest(u32::from_be_bytes([n0, n1, n2, n3]));
        (kind == TagKind::Variant as u8).then_some((key, names))
    }

    /// Returns the set that contains only the kind of the tag. If this build does not know the
    /// kind, the set contains none of the [`TagKind`]s.
    pub(crate) fn kinds(self) -> TagKinds {
        let [kind, ..] = self.0.to_be_bytes();
        TagKinds(1_u16.checked_shl(u32::from(kind)).unwrap_or_default())
    }
}

impl fmt::Debug for TagId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TagId({:032x})", self.0)
    }
}

/// A set of [`TagKind`]s.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct TagKinds(u16);

impl TagKinds {
    /// The kinds that this build knows.
    const ALL: Self = Self::of(TagKind::Name)
        .with(Self::of(TagKind::Group))
        .with(Self::of(TagKind::Url))
        .with(Self::of(TagKind::Path))
        .with(Self::of(TagKind::Prefix))
        .with(Self::of(TagKind::PrefixOnAnyHost))
        .with(Self::of(TagKind::Variant))
        .with(Self::of(TagKind::Key))
        .with(Self::of(TagKind::AnyName))
        .with(Self::of(TagKind::PathOnHost))
        .with(Self::of(TagKind::PathOnAnyHost))
        .with(Self::of(TagKind::User));

    const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Makes the set of one kind.
    pub(super) const fn of(kind: TagKind) -> Self {
        Self(1 << kind as u8)
    }

    /// Makes the union of two sets.
    pub(crate) const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(super) const fn contains(self, kind: TagKind) -> bool {
        self.0 & Self::of(kind).0 != 0
    }
}

/// Returns the lengths of the prefixes of a path that have tags, from the empty prefix (the root)
/// to the whole path. Returns at most [`MAX_PREFIXES`] lengths.
pub(super) fn prefix_ends(path: &[u8]) -> impl Iterator<Item = usize> {
    let slashes = path.iter().enumerate().skip(1).filter(|(_, byte)| **byte == b'/');
    let whole = (path.len() > 1).then_some(path.len());
    [0].into_iter().chain(slashes.map(|(at, _)| at)).chain(whole).take(MAX_PREFIXES)
}

fn without_trailing_slashes(mut path: &[u8]) -> &[u8] {
    while let [rest @ .., b'/'] = path {
        path = rest;
    }
    path
}

/// Percent-decodes a path. The result is decoded further than in the router of actix-web, so two
/// encodings that the router treats as the same path have equal results. An encoded slash (`%2F`)
/// stays encoded, because it does not separate segments. An encoded percent sign (`%25`) stays
/// encoded too, so that the result is not ambiguous.
pub(super) fn decode_path(path: &[u8]) -> SmallVec<[u8; 96]> {
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

/// The keys of the hash function. The keys are public and fixed, so that all processes compute
/// equal tags. A client can therefore find two names with equal tags. The only effect is that an
/// invalidation of one name also invalidates the responses of the other name.
const HASH_KEYS: (u64, u64) = (0x6163_7469_782d_7765, 0x622d_6361_6368_6531);

fn hasher() -> SipHasher13 {
    SipHasher13::new_with_keys(HASH_KEYS.0, HASH_KEYS.1)
}

fn finish(kind: TagKind, hasher: &SipHasher13) -> TagId {
    TagId(with_kind(kind, first_bits(hasher, 120)))
}

/// Returns the bits of a tag: the kind, and the digest, which has at most 120 bits.
const fn with_kind(kind: TagKind, digest: u128) -> u128 {
    ((kind as u128) << 120) | digest
}

fn first_bits(hasher: &SipHasher13, bits: u32) -> u128 {
    hasher.finish128().as_u128() >> (128 - bits)
}

fn hash<const N: usize>(parts: [&[u8]; N]) -> SipHasher13 {
    let mut hasher = hasher();
    for part in parts {
        append_part(&mut hasher, part);
    }
    hasher
}

fn digest<const N: usize>(kind: TagKind, parts: [&[u8]; N]) -> TagId {
    finish(kind, &hash(parts))
}

/// Makes a tag of one host. The first 40 bits of the digest are those of the host.
fn of_host<const N: usize>(
    kind: TagKind,
    namespace: &[u8],
    host: &[u8],
    parts: [&[u8]; N],
) -> TagId {
    let of_host = first_bits(&hash([namespace, host]), 40) << 80;
    TagId(with_kind(kind, of_host | first_bits(&hash(parts), 80)))
}

#[cfg(test)]
mod tests {
    use std::slice;

    use actix_web::http::header::{ACCEPT, ACCEPT_LANGUAGE};

    use super::*;

    #[test]
    fn tag_is_the_same_in_every_process() {
        // Stores that several processes share contain these tags, so the values must not change.
        let tags = [
            TagId::tag("shop", "post:1"),
            TagId::group(b"shop", b"http", b"a", "post:1"),
            TagId::url(CacheKey::new("shop", "http", "a", "/posts", None).url()),
            TagId::prefix("shop", Some("a"), "/posts"),
            TagId::prefix("shop", None, "/posts"),
            TagId::variant(
                &CacheKey::new("shop", "http", "a", "/posts", None),
                [(ACCEPT, Some("a"))].into_iter(),
            ),
            TagId::path_with_any_query("shop", Some("a"), "/posts"),
            TagId::path_with_any_query("shop", None, "/posts"),
        ];
        let written = tags.map(|tag| format!("{tag:?}"));
        assert_eq!(written, WRITTEN);
        let digits = |tag: TagId| tag.to_bytes().map(|byte| format!("{byte:02x}")).concat();
        assert_eq!(tags.map(|tag| format!("TagId({})", digits(tag))), WRITTEN);
        assert_eq!(tags.map(|tag| TagId::from_bytes(tag.to_bytes())), tags);
        assert_eq!(tags.map(|tag| TagId::try_from_bytes(tag.to_bytes())), tags.map(Some));
    }

    #[test]
    fn tag_of_an_unknown_kind_is_not_made() {
        let known = |kind: u8| {
            let mut bytes = [7; 16];
            bytes[0] = kind;
            TagId::try_from_bytes(bytes).is_some()
        };
        let kinds: Vec<_> = (0..=u8::MAX).filter(|kind| known(*kind)).collect();
        assert_eq!(kinds, (1..=TagKind::User as u8).collect::<Vec<_>>());
    }

    const WRITTEN: [&str; 8] = [
        "TagId(017481b48ca7b7136cd46db6447e5302)",
        "TagId(02a8a24521ea9c87f07c0a2c0d8c1e3e)",
        "TagId(037f49672a1ee42f7d7aafe7cac164fb)",
        "TagId(05a8a24521ea7ca96bb8037f25d72c4f)",
        "TagId(06eefde7b99c0eb81a0bc67a1ac91170)",
        "TagId(072e008a723eec5a790bbb9fe74f03e5)",
        "TagId(0aa8a24521ea7ca96bb8037f25d72c4f)",
        "TagId(0beefde7b99c0eb81a0bc67a1ac91170)",
    ];

    #[test]
    fn names_that_differ_in_any_part_are_different_tags() {
        let key = |host, path, query| CacheKey::new("shop", "http", host, path, query);
        let path = |key: CacheKey| TagId::path(&key.url_parts().unwrap());
        let variant = |key: CacheKey, selecting: &[(HeaderName, Option<&'static str>)]| {
            TagId::variant(&key, selecting.iter().cloned())
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
            TagId::path_with_any_query("shop", Some("h"), "/a"),
            TagId::path_with_any_query("shop", Some("h"), "/a/"),
            TagId::path_with_any_query("shop", Some("g"), "/a"),
            TagId::path_with_any_query("shop", None, "/a"),
            TagId::path_with_any_query("other", None, "/a"),
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
    fn tags_of_a_host_and_names_have_families() {
        let group = |host: &str| TagId::group(b"shop", b"http", host.as_bytes(), "g");
        let prefix = |host| TagId::prefix("shop", Some(host), "/a");
        let family = |tag: TagId| tag.family().unwrap();
        assert_eq!(family(group("h")), family(prefix("h")));
        let path = TagId::path_with_any_query("shop", Some("h"), "/a");
        assert_eq!(family(path), family(prefix("h")));
        assert_ne!(family(group("h")), family(group("other")));
        assert_ne!(family(prefix("h")), family(TagId::prefix("other", Some("h"), "/a")));
        assert_eq!(TagId::of_family(family(group("h"))), TagId::prefix("shop", Some("h"), "/"));
        assert_eq!(family(TagId::tag("shop", "a")), family(TagId::tag("other", "b")));
        assert_eq!(TagId::of_family(TagFamily::Names), TagId::any_name());
        let key = CacheKey::new("shop", "http", "h", "/a", None);
        for tag in [
            TagId::url(key.url()),
            TagId::key(&key),
            TagId::prefix("shop", None, "/a"),
            TagId::path_with_any_query("shop", None, "/a"),
            TagId::any_name(),
        ] {
            assert_eq!(tag.family(), None, "{tag:?}");
        }
    }

    #[test]
    fn variant_tag_tells_key_and_names_of_selecting_fields() {
        let (en, de) = ((ACCEPT_LANGUAGE, Some("en")), (ACCEPT_LANGUAGE, Some("de")));
        let parts = |path, selecting: &[(HeaderName, Option<&'static str>)]| {
            let key = CacheKey::new("shop", "http", "h", path, None);
            TagId::variant(&key, selecting.iter().cloned()).variant_parts().unwrap()
        };
        let (key, names) = parts("/a", slice::from_ref(&en));
        assert_eq!(parts("/a", &[de]), (key, names));
        let (other_key, same_names) = parts("/b", slice::from_ref(&en));
        assert!(other_key != key && same_names == names);
        let both = [en.clone(), (ACCEPT, None)];
        for selecting in [&[][..], &[(ACCEPT, Some("en"))], &both] {
            let (same_key, other_names) = parts("/a", selecting);
            assert!(same_key == key && other_names != names, "{selecting:?}");
        }
        assert_eq!(parts("/a", &both), parts("/a", &[(ACCEPT, Some("x")), en]));
        assert_eq!(TagId::tag("shop", "a").variant_parts(), None);
    }
}
