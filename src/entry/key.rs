//! Cache keys. A cache key encodes the URL of a request, the policy of the cache, and further parts
//! that the application adds (for example the tenant).
//!
//! The encoding is injective: different inputs never have equal keys. All keys of one URL begin with
//! the same bytes, whatever their scheme, policy and further parts are. A purge of the URL can
//! therefore reach all of them.

use std::{borrow::Cow, fmt, sync::Arc};

use smallvec::SmallVec;

use crate::entry::{
    digest::KeyDigests,
    key_scope::{KeyScope, SCHEMA},
    length_prefixed::{
        LENGTH, append_optional, append_part, encoded_length, read_optional, read_part,
    },
    url::{normalize_host, normalize_path},
};

/// The query in the keys of responses that answer several queries of a path. The query of no URL has
/// this character, with which a fragment begins.
pub(crate) const SEVERAL_QUERIES: &str = "#";

/// The number of bytes up to which the buffer of a [`KeyBuilder`] needs no heap allocation.
const INLINE: usize = 192;

/// The buffer of an encoded key.
type Encoded = SmallVec<[u8; INLINE]>;

/// A key to which parts can be added. The parts are in one buffer, and
/// [`finish`](Self::finish) copies it once.
pub(crate) struct KeyBuilder {
    encoded: Encoded,
    url_len: usize,
    parts_at: usize,
}

/// The key under which responses for a URL are stored.
///
/// A key encodes the namespace, host, path, query and scheme of the target URI, the policy, and the
/// parts that the application adds (for example the tenant). Two requests that differ in any of
/// these inputs have different keys. Stores compare whole keys ([`as_bytes`](Self::as_bytes)), never
/// only a digest, because two keys with equal digests would mix up two resources.
///
/// The URL in a key may contain secrets, for example a token in the query. [`Debug`](fmt::Debug)
/// therefore prints only the length of the key.
///
/// ```
/// use actix_web_cache::store::CacheKey;
///
/// let mut key = CacheKey::new("shop", "https", "Example.com:443", "/posts", Some("page=2"));
/// assert_eq!(key, CacheKey::new("shop", "https", "example.com", "/posts", Some("page=2")));
///
/// let http = CacheKey::new("shop", "http", "example.com", "/posts", Some("page=2"));
/// key.push_part("tenant", Some(b"a"));
/// assert!(key.has_parts() && key.url() == http.url());
/// ```
///
/// # Encoding
///
/// A key consists of the schema version (the ASCII digit `3`) and a list of parts: namespace, host,
/// path, query, scheme, fingerprint of the policy, then the name and the value of each application
/// part. The keys of responses with `No-Vary-Search` have the query `#`, which no URL has, and the
/// significant part of the query is an application part. So they all belong to one URL, and a purge
/// of any query of the path can reach them. A part is preceded by its length in 4 bytes,
/// little-endian. An absent query or value has the length 2³²−1 and no bytes.
///
/// The clones of a key share its bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CacheKey {
    encoded: Arc<[u8]>,
    url_len: usize,
    parts_at: usize,
    digests: KeyDigests,
}

/// The part of a cache key that identifies a URL: the namespace, host, path and query.
///
/// All keys of a URL begin with these bytes, whatever their scheme, policy and further parts are.
/// The host has no default port, so the keys of `http://h/` and `https://h/` have one URL.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UrlKey<'a> {
    bytes: &'a [u8],
    digest: u64,
}

impl<'a> UrlKey<'a> {
    /// Makes the key of the URL with these bytes.
    pub(crate) fn of_bytes(bytes: &'a [u8]) -> Self {
        Self { bytes, digest: KeyDigests::of(bytes, &[]).url }
    }

    /// Returns the bytes with which all keys of the URL begin.
    #[must_use]
    pub const fn as_bytes(self) -> &'a [u8] {
        self.bytes
    }

    /// Returns the digest of the URL ([`KeyDigests`]).
    pub(crate) const fn digest(self) -> u64 {
        self.digest
    }

    /// Returns whether `key` is a key of this URL.
    #[must_use]
    pub fn contains(self, key: &CacheKey) -> bool {
        self.contains_bytes(key.as_bytes())
    }

    /// Returns whether these are the [bytes](CacheKey::as_bytes) of a key of this URL.
    #[must_use]
    pub fn contains_bytes(self, key: &[u8]) -> bool {
        // The encoding is prefix-free: the bytes of one URL are never the beginning of the bytes of
        // another one.
        key.starts_with(self.bytes)
    }
}

impl fmt::Debug for UrlKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UrlKey({} bytes)", self.bytes.len())
    }
}

impl CacheKey {
    /// Makes the key of a URL in a namespace, for the default policy. The key has no application
    /// parts.
    ///
    /// The key contains `host` in lower case and without the default port of `scheme` (RFC 9110
    /// section 4.2.3). It contains `path` without percent-encodings of unreserved characters, so
    /// that `/%61` and `/a` have one key (RFC 3986 section 6.2.2).
    #[must_use]
    pub fn new(namespace: &str, scheme: &str, host: &str, path: &str, query: Option<&str>) -> Self {
        KeyBuilder::new(&KeyScope::new(namespace, ""), scheme, host, path, query).finish()
    }

    /// Adds an application part: a name, and the value that the request has for this name.
    ///
    /// `None` (for example for a header field that is absent from the request) differs from an
    /// empty value.
    pub fn push_part(&mut self, name: &str, value: Option<&[u8]>) {
        let mut longer = KeyBuilder::from_key(self);
        longer.push_part(name, value);
        *self = longer.finish();
    }

    /// Returns the bytes of the whole key.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.encoded
    }

    /// Returns the beginning of the key, which identifies its URL. A purge of a URL applies to all
    /// keys with equal URLs: of `http` and `https`, of every policy, and with any further parts,
    /// such as those of [`Policy::key_with`](crate::Policy::key_with) and
    /// [`Policy::key_header`](crate::Policy::key_header).
    #[must_use]
    pub fn url(&self) -> UrlKey<'_> {
        let bytes = self.encoded.get(..self.url_len).unwrap_or(&self.encoded);
        UrlKey { bytes, digest: self.digests.url }
    }

    /// Reads the parts of the URL from the key. Returns `None` if the encoding is invalid, which
    /// the constructors rule out.
    pub(crate) fn url_parts(&self) -> Option<UrlParts<'_>> {
        let rest = self.encoded.strip_prefix(&[SCHEMA])?;
        let (namespace, rest) = read_part(rest)?;
        let (host, rest) = read_part(rest)?;
        let (path, rest) = read_part(rest)?;
        let (query, rest) = read_optional(rest)?;
        let (scheme, _) = read_part(rest)?;
        Some(UrlParts { namespace, scheme, host, path, query })
    }

    /// Returns the key of the path: the query becomes [`SEVERAL_QUERIES`], and the application parts
    /// are left out. Returns `None` if the encoding is invalid, which the constructors rule out.
    pub(crate) fn of_path(&self) -> Option<Self> {
        let mut encoded = Encoded::from_slice(self.encoded.get(..self.query_at()?)?);
        append_optional(&mut encoded, Some(SEVERAL_QUERIES.as_bytes()));
        let url_len = encoded.len();
        encoded.extend_from_slice(self.encoded.get(self.url_len..self.parts_at)?);
        let parts_at = encoded.len();
        Some(KeyBuilder { encoded, url_len, parts_at }.finish())
    }

    /// Returns the position of the query in the encoded key.
    fn query_at(&self) -> Option<usize> {
        let mut rest = self.encoded.strip_prefix(&[SCHEMA])?;
        for _ in 0..3 {
            (_, rest) = read_part(rest)?;
        }
        self.encoded.len().checked_sub(rest.len())
    }

    /// Returns whether the key contains application parts: values that the policy adds to the key,
    /// such as the value of a header field or a cookie, or a computed value. If the key contains
    /// such parts, one URL can have several keys.
    #[must_use]
    pub fn has_parts(&self) -> bool {
        self.parts_at < self.encoded.len()
    }

    /// Returns the digest of the key, for tables in the memory of this process.
    pub(crate) const fn digest(&self) -> u64 {
        self.digests.key
    }

    /// Returns the bytes of the key, which all clones of the key share.
    #[must_use]
    pub fn to_shared(&self) -> Arc<[u8]> {
        Arc::clone(&self.encoded)
    }

    pub(crate) const fn shared(&self) -> &Arc<[u8]> {
        &self.encoded
    }
}

impl KeyBuilder {
    /// Begins the key of a URL in the scope of one policy.
    pub(crate) fn new(
        scope: &KeyScope,
        scheme: &str,
        host: &str,
        path: &str,
        query: Option<&str>,
    ) -> Self {
        let (host, path) = (normalize_host(scheme, host), normalize_path(path));
        let end = match scope.ends.iter().find(|(known, _)| *known == scheme) {
            Some((_, end)) => Cow::Borrowed(&**end),
            None => Cow::Owned(KeyScope::end(scheme, &scope.fingerprint).into_vec()),
        };
        let host_at = scope.begin.len() + LENGTH;
        let mut encoded = concat(&[
            &scope.begin,
            &encoded_length(Some(host.len())),
            host.as_bytes(),
            &encoded_length(Some(path.len())),
            path.as_bytes(),
            &encoded_length(query.map(str::len)),
            query.unwrap_or_default().as_bytes(),
            &end,
        ]);
        let parts_at = encoded.len();
        if let Some(host) = encoded.get_mut(host_at..host_at + host.len()) {
            host.make_ascii_lowercase();
        }
        Self { url_len: parts_at - end.len(), encoded, parts_at }
    }

    /// Begins a key with all parts of another key.
    pub(crate) fn from_key(key: &CacheKey) -> Self {
        let encoded = Encoded::from_slice(&key.encoded);
        Self { encoded, url_len: key.url_len, parts_at: key.parts_at }
    }

    /// Adds an application part, as [`CacheKey::push_part`] does.
    pub(crate) fn push_part(&mut self, name: &str, value: Option<&[u8]>) {
        append_part(&mut self.encoded, name.as_bytes());
        append_optional(&mut self.encoded, value);
    }

    /// Returns the complete key.
    pub(crate) fn finish(&self) -> CacheKey {
        let Self { encoded, url_len, parts_at } = self;
        let (url, rest) = encoded.split_at_checked(*url_len).unwrap_or((encoded, &[]));
        CacheKey {
            encoded: Arc::from(&**encoded),
            url_len: *url_len,
            parts_at: *parts_at,
            digests: KeyDigests::of(url, rest),
        }
    }
}

/// Joins the pieces of a key. Each lookup makes a key, and to copy the pieces into an array is faster
/// than to append them to a vector one by one.
fn concat(pieces: &[&[u8]]) -> Encoded {
    let mut buffer = [0; INLINE];
    let mut end = 0;
    for piece in pieces {
        let Some(place) = buffer.get_mut(end..end + piece.len()) else {
            return Encoded::from_vec(pieces.concat());
        };
        place.copy_from_slice(piece);
        end += piece.len();
    }
    Encoded::from_buf_and_len(buffer, end)
}

impl fmt::Debug for CacheKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CacheKey({} bytes)", self.encoded.len())
    }
}

/// The parts of the URL in a key. The host is in lower case and has no default port, as in the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct UrlParts<'a> {
    pub(crate) namespace: &'a [u8],
    pub(crate) scheme: &'a [u8],
    pub(crate) host: &'a [u8],
    pub(crate) path: &'a [u8],
    pub(crate) query: Option<&'a [u8]>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Parts = Vec<(String, Option<Vec<u8>>)>;
    type KeyInput = (String, String, String, Option<String>, Parts);

    fn key((namespace, host, path, query, parts): &KeyInput) -> CacheKey {
        let mut key = CacheKey::new(namespace, "http", host, path, query.as_deref());
        for (name, value) in parts {
            key.push_part(name, value.as_deref());
        }
        key
    }

    /// Generates short strings that look like encoded lengths. Such strings would most likely
    /// reveal an ambiguous encoding.
    fn text() -> impl Strategy<Value = String> {
        "[\0-\x04:a]{0,6}"
    }

    fn input() -> impl Strategy<Value = KeyInput> {
        let value = proptest::option::of(text().prop_map(String::into_bytes));
        let parts = proptest::collection::vec((text(), value), 0..3);
        (text(), text(), text(), proptest::option::of(text()), parts)
    }

    /// Spellings of the pieces of a path, each with its normal form.
    const PATH_PIECES: [(&str, &str); 16] = [
        ("/", "/"),
        ("a", "a"),
        ("%61", "a"),
        ("A", "A"),
        ("%41", "A"),
        ("~", "~"),
        ("%7e", "~"),
        ("%7E", "~"),
        ("%2f", "%2f"),
        ("%2F", "%2F"),
        ("%25", "%25"),
        ("%c3%A4", "%C3%A4"),
        ("%C3%a4", "%C3%A4"),
        ("\u{e4}", "\u{e4}"),
        ("\0", "\0"),
        ("6", "6"),
    ];

    /// Spellings of hosts, each with its normal forms for `http` and `https`.
    const HOSTS: [(&str, [&str; 2]); 9] = [
        ("a", ["a", "a"]),
        ("A", ["a", "a"]),
        ("a:80", ["a", "a:80"]),
        ("A:443", ["a:443", "a"]),
        ("a:8080", ["a:8080", "a:8080"]),
        ("a:", ["a:", "a:"]),
        ("[::1]:80", ["[::1]", "[::1]:80"]),
        ("", ["", ""]),
        (":80", ["", ":80"]),
    ];

    /// The input of a key in one of its spellings, and the normal form of the input.
    #[derive(Debug, Clone)]
    struct Spelling {
        sent: KeyInput,
        normal: KeyInput,
        scheme: &'static str,
    }

    /// Generates any text, mostly a short one that equals another one now and then.
    fn any_text() -> impl Strategy<Value = String> {
        prop_oneof![3 => text(), 1 => any::<String>()]
    }

    fn spelling() -> impl Strategy<Value = Spelling> {
        use proptest::{collection::vec, option, sample::select};
        let bytes =
            prop_oneof![3 => text().prop_map(String::into_bytes), 1 => vec(any::<u8>(), 0..6)];
        let parts = vec((any_text(), option::of(bytes)), 0..3);
        let path = vec(select(PATH_PIECES.to_vec()), 0..3);
        let host = (select(HOSTS.to_vec()), 0..2_usize);
        (any_text(), host, path, option::of(any_text()), parts).prop_map(
            |(namespace, ((host, hosts), scheme), path, query, parts)| {
                let (sent, normal): (Vec<_>, Vec<_>) = path.into_iter().unzip();
                let (sent, normal) = (sent.concat(), normal.concat());
                let normal_host = hosts[scheme].to_owned();
                let scheme = ["http", "https"][scheme];
                let rest = (query, parts);
                let with = |host: String, path| {
                    (namespace.clone(), host, path, rest.0.clone(), rest.1.clone())
                };
                Spelling {
                    sent: with(host.to_owned(), sent),
                    normal: with(normal_host, normal),
                    scheme,
                }
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(3000))]

        #[test]
        fn keys_are_equal_only_if_every_part_is((a, b) in (input(), input())) {
            prop_assert_eq!(key(&a) == key(&b), a == b);
        }

        #[test]
        fn keys_are_equal_exactly_if_normalized_inputs_are(a in spelling(), b in spelling()) {
            // The second input differs from the first one in one part, in its spelling, or in
            // everything.
            let (namespace, host, path, query, parts) = a.sent.clone();
            let (normal_host, normal_path) = (a.normal.1.clone(), a.normal.2.clone());
            let variations = [
                b.clone(),
                a.clone(),
                Spelling {
                    sent: (b.sent.0.clone(), host.clone(), path.clone(), query.clone(), parts.clone()),
                    normal: (
                        b.sent.0.clone(),
                        normal_host.clone(),
                        normal_path.clone(),
                        query.clone(),
                        parts.clone(),
                    ),
                    scheme: a.scheme,
                },
                Spelling {
                    sent: (
                        namespace.clone(),
                        b.sent.1.clone(),
                        path.clone(),
                        query.clone(),
                        parts.clone(),
                    ),
                    normal: (
                        namespace.clone(),
                        b.normal.1.clone(),
                        normal_path,
                        query.clone(),
                        parts.clone(),
                    ),
                    scheme: b.scheme,
                },
                Spelling {
                    sent: (namespace.clone(), host, b.sent.2.clone(), query.clone(), parts.clone()),
                    normal: (namespace, normal_host, b.normal.2.clone(), query, parts),
                    scheme: a.scheme,
                },
            ];
            let key = |spelling: &Spelling| {
                let (namespace, host, path, query, parts) = &spelling.sent;
                let mut key =
                    CacheKey::new(namespace, spelling.scheme, host, path, query.as_deref());
                for (name, value) in parts {
                    key.push_part(name, value.as_deref());
                }
                key
            };
            for other in variations {
                let is_equal = (&a.normal, a.scheme) == (&other.normal, other.scheme);
                prop_assert_eq!(key(&a) == key(&other), is_equal, "{:?}", other);
            }
        }
    }

    proptest! {

        #[test]
        fn url_parts_are_read_back(a in input()) {
            let key = key(&a);
            let parts = key.url_parts().unwrap();
            let (namespace, host, path, query, _) = &a;
            prop_assert_eq!(parts.namespace, namespace.as_bytes());
            prop_assert_eq!(parts.scheme, b"http");
            prop_assert_eq!(parts.host, normalize_host("http", host).as_bytes());
            let normalized = normalize_path(path);
            prop_assert_eq!(parts.path, normalized.as_bytes());
            prop_assert_eq!(parts.query, query.as_deref().map(str::as_bytes));
        }

        #[test]
        fn key_of_the_path_has_no_query_and_no_parts(a in input(), b in input()) {
            let of_path = |(namespace, host, path, _, _): &KeyInput| {
                CacheKey::new(namespace, "http", host, path, Some(SEVERAL_QUERIES))
            };
            prop_assert_eq!(key(&a).of_path().unwrap(), of_path(&a));
            let same = (&a.0, &a.1, &a.2) == (&b.0, &b.1, &b.2);
            prop_assert_eq!(key(&a).of_path() == key(&b).of_path(), same);
        }

        #[test]
        fn url_contains_exactly_the_keys_of_its_namespace_host_path_and_query(
            (a, b) in (input(), input()),
            fingerprint in text(),
        ) {
            let scope = KeyScope::new(&b.0, &fingerprint);
            let mut other = KeyBuilder::new(&scope, "https", &b.1, &b.2, b.3.as_deref());
            for (name, value) in &b.4 {
                other.push_part(name, value.as_deref());
            }
            let other = other.finish();
            prop_assert_eq!(other.has_parts(), !b.4.is_empty());
            let same = (&a.0, &a.1, &a.2, &a.3) == (&b.0, &b.1, &b.2, &b.3);
            prop_assert_eq!(key(&a).url().contains(&other), same);
            prop_assert_eq!(key(&a).url() == other.url(), same);
            prop_assert!(key(&b).url().contains(&other));
        }

        #[test]
        fn scope_keeps_its_namespace_and_fingerprint_apart(
            (one, other) in ((text(), text()), (text(), text())),
        ) {
            let key = |(namespace, fingerprint): &(String, String)| {
                KeyBuilder::new(&KeyScope::new(namespace, fingerprint), "http", "h", "/", None).finish()
            };
            prop_assert_eq!(key(&one) == key(&other), one == other);
            let key = key(&one);
            let parts = key.url_parts().unwrap();
            prop_assert_eq!(parts.namespace, one.0.as_bytes());
        }
    }

    #[test]
    fn host_is_compared_without_case_and_default_port() {
        let key = |scheme, host| CacheKey::new("", scheme, host, "/", None);
        for (case, scheme, one, other, equal) in [
            ("case", "http", "EXAMPLE.com", "example.com", true),
            ("default port of http", "http", "example.com:80", "example.com", true),
            ("default port of https", "https", "example.com:443", "example.com", true),
            ("port of the other scheme", "http", "example.com:443", "example.com", false),
            ("another port", "http", "example.com:8080", "example.com", false),
            ("another host", "http", "a", "b", false),
        ] {
            assert_eq!(key(scheme, one) == key(scheme, other), equal, "{case}");
        }
        assert_ne!(key("http", "a"), key("https", "a"));
    }

    #[test]
    fn absent_query_differs_from_an_empty_one() {
        let key = |query| CacheKey::new("", "http", "h", "/", query);
        assert_ne!(key(None), key(Some("")));
    }

    #[test]
    fn encoding_is_as_documented() {
        let mut key = CacheKey::new("ns", "http", "H", "/", None);
        key.push_part("a", Some(b"b"));
        let parts: [&[u8]; 9] = [
            b"3",
            b"\x02\0\0\0ns",
            b"\x01\0\0\0h",
            b"\x01\0\0\0/",
            b"\xff\xff\xff\xff",
            b"\x04\0\0\0http",
            b"\0\0\0\0",
            b"\x01\0\0\0a",
            b"\x01\0\0\0b",
        ];
        assert_eq!(key.as_bytes(), parts.concat());
    }

    #[test]
    fn debug_does_not_show_the_url() {
        let key = CacheKey::new("", "http", "h", "/secret", Some("token=1"));
        assert!(!format!("{key:?}").contains("secret"));
    }
}
