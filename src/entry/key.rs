//! The name of what is stored: an injective encoding of everything that identifies a resource.

use std::{borrow::Cow, fmt, sync::Arc};

use actix_web::http::header::{HeaderMap, HeaderName};
use smallvec::SmallVec;

/// Version of the encoding; a change of it makes all older keys unreachable.
const SCHEMA: u8 = b'1';

/// The name under which responses for a URL are stored.
///
/// A key is a canonical text: namespace, scheme, host, path and query of the target URI, followed
/// by the parts the application added. Every part is written with its length before it, and an
/// absent query differs from an empty one, so two different requests cannot write the same text.
/// Stores compare the whole text, so a hash collision cannot mix up two pages either.
///
/// The text holds the URL as the client sent it; [`Debug`](fmt::Debug) therefore prints only its
/// length.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CacheKey {
    text: SmallVec<[u8; 192]>,
    url_len: usize,
}

impl CacheKey {
    /// The key of a URL without application parts.
    ///
    /// `host` is lower-cased, and the scheme's default port is dropped (RFC 9110 section 4.2.3).
    #[must_use]
    pub fn new(namespace: &str, scheme: &str, host: &str, path: &str, query: Option<&str>) -> Self {
        let mut text = SmallVec::new();
        text.push(SCHEMA);
        part(&mut text, namespace.as_bytes());
        part(&mut text, scheme.as_bytes());
        host_part(&mut text, scheme, host);
        part(&mut text, path.as_bytes());
        match query {
            Some(query) => part(&mut text, query.as_bytes()),
            None => absent(&mut text),
        }
        let url_len = text.len();
        Self { text, url_len }
    }

    /// Adds an application part: a name and what the request says for it. `None` (the request
    /// has no such field) differs from an empty value.
    pub fn push_part(&mut self, name: &str, value: Option<&[u8]>) {
        part(&mut self.text, name.as_bytes());
        match value {
            Some(value) => part(&mut self.text, value),
            None => absent(&mut self.text),
        }
    }

    /// The whole canonical text.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.text
    }

    /// The text without application parts: the same for all keys of one URL.
    #[must_use]
    pub fn url(&self) -> &[u8] {
        self.text.get(..self.url_len).unwrap_or(&self.text)
    }

    /// The parts of the URL that it was made of.
    pub(crate) fn url_parts(&self) -> Option<UrlParts<'_>> {
        let rest = self.url().strip_prefix(&[SCHEMA])?;
        let (scope, rest) = read_part(rest)?;
        let (scheme, rest) = read_part(rest)?;
        let (host, rest) = read_part(rest)?;
        let (path, rest) = read_part(rest)?;
        let query = read_part(rest).map(|(query, _)| query);
        Some(UrlParts { scope, scheme, host, path, query })
    }

    /// Whether the application added parts, so that one URL has several keys.
    #[must_use]
    pub fn has_parts(&self) -> bool {
        self.url_len < self.text.len()
    }

    /// An owned, shared copy of the text.
    #[must_use]
    pub fn to_shared(&self) -> Arc<[u8]> {
        Arc::from(self.as_bytes())
    }
}

impl fmt::Debug for CacheKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CacheKey({} bytes)", self.text.len())
    }
}

/// The parts of a key's URL, as they were written: the host in lower case and without a default
/// port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct UrlParts<'a> {
    /// The namespace and what tells policies apart.
    pub(crate) scope: &'a [u8],
    pub(crate) scheme: &'a [u8],
    pub(crate) host: &'a [u8],
    pub(crate) path: &'a [u8],
    pub(crate) query: Option<&'a [u8]>,
}

impl UrlParts<'_> {
    /// The namespace alone: policies that differ still are one application's.
    pub(crate) fn namespace(&self) -> &[u8] {
        read_part(self.scope).map_or(self.scope, |(namespace, _)| namespace)
    }
}

/// The hosts that keys may have for what a `Host` field says, whichever the scheme.
pub(crate) fn hosts(host: &str) -> SmallVec<[String; 2]> {
    let mut hosts = SmallVec::new();
    for scheme in ["http", "https"] {
        let host = normalize_host(scheme, host).to_ascii_lowercase();
        if !hosts.contains(&host) {
            hosts.push(host);
        }
    }
    hosts
}

/// Whoever can tell under which keys a URL may be stored: each cache over a store, for purging.
pub(crate) trait UrlKeys: Send + Sync {
    /// The namespace its keys are in.
    fn namespace(&self) -> &str;

    /// The keys that this cache may have for a URL, without parts that the application adds.
    fn keys_for_url(&self, target: &UrlTarget) -> Vec<CacheKey>;

    /// Whether its keys have such parts, so that one URL has more keys than can be told.
    fn has_key_parts(&self) -> bool;

    /// The key for a request with these fields, if they tell all parts.
    fn key_for_fields(&self, url: &CacheKey, fields: &HeaderMap) -> Option<CacheKey>;

    /// What a request with these fields has for one that may select among variants.
    fn value<'a>(&self, fields: &'a HeaderMap, name: &HeaderName) -> Option<Cow<'a, [u8]>>;
}

/// A URL taken apart, as a key needs it. The scheme is missing: what is said of a URL is meant for
/// both, for a TLS proxy in between may have changed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UrlTarget {
    /// Host and port as in the `Host` field.
    pub(crate) host: String,
    /// Path, undecoded.
    pub(crate) path: String,
    /// Query without the question mark, undecoded.
    pub(crate) query: Option<String>,
}

/// `4:path,`: the length makes the encoding injective whatever the bytes are.
fn part(text: &mut SmallVec<[u8; 192]>, value: &[u8]) {
    length(text, value.len());
    text.extend_from_slice(value);
    text.push(b',');
}

/// No length starts with a dash.
fn absent(text: &mut SmallVec<[u8; 192]>) {
    text.extend_from_slice(b"-,");
}

fn length(text: &mut SmallVec<[u8; 192]>, len: usize) {
    let mut digits = [0_u8; 20];
    let mut rest = len;
    let mut used = 0;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + u8::try_from(rest % 10).unwrap_or(0);
        rest /= 10;
        used += 1;
        if rest == 0 {
            break;
        }
    }
    text.extend_from_slice(digits.get(20 - used..).unwrap_or_default());
    text.push(b':');
}

/// What `part` wrote, and what follows it.
fn read_part(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let digits = text.iter().position(|&byte| byte == b':')?;
    let length: usize = std::str::from_utf8(text.get(..digits)?).ok()?.parse().ok()?;
    let rest = text.get(digits + 1..)?;
    let (value, rest) = rest.split_at_checked(length)?;
    Some((value, rest.strip_prefix(b",")?))
}

/// A host without the port that its scheme implies.
pub(crate) fn normalize_host<'a>(scheme: &str, host: &'a str) -> &'a str {
    host.strip_suffix(default_port(scheme)).unwrap_or(host)
}

fn host_part(text: &mut SmallVec<[u8; 192]>, scheme: &str, host: &str) {
    let host = normalize_host(scheme, host).as_bytes();
    length(text, host.len());
    text.extend(host.iter().map(u8::to_ascii_lowercase));
    text.push(b',');
}

/// The port that need not be written, as it is written.
pub(crate) fn default_port(scheme: &str) -> &'static str {
    if scheme == "https" { ":443" } else { ":80" }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Parts = Vec<(String, Option<Vec<u8>>)>;
    type Name = (String, String, String, Option<String>, Parts);

    fn key((namespace, host, path, query, parts): &Name) -> CacheKey {
        let mut key = CacheKey::new(namespace, "http", host, path, query.as_deref());
        for (name, value) in parts {
            key.push_part(name, value.as_deref());
        }
        key
    }

    /// Short strings over the encoding's own characters: the likeliest to collide.
    fn text() -> impl Strategy<Value = String> {
        "[0-3:,a-]{0,6}"
    }

    fn name() -> impl Strategy<Value = Name> {
        let value = proptest::option::of(text().prop_map(String::into_bytes));
        let parts = proptest::collection::vec((text(), value), 0..3);
        (text(), text(), text(), proptest::option::of(text()), parts)
    }

    proptest! {
        #[test]
        fn two_keys_are_equal_only_if_every_part_is((a, b) in (name(), name())) {
            prop_assert_eq!(key(&a) == key(&b), a == b);
        }

        #[test]
        fn what_was_written_is_read_again(a in name()) {
            let key = key(&a);
            let parts = key.url_parts().unwrap();
            let (namespace, host, path, query, _) = &a;
            prop_assert_eq!(parts.scope, namespace.as_bytes());
            prop_assert_eq!(parts.scheme, b"http");
            prop_assert_eq!(parts.host, normalize_host("http", host).as_bytes());
            prop_assert_eq!(parts.path, path.as_bytes());
            prop_assert_eq!(parts.query, query.as_deref().map(str::as_bytes));
        }

        #[test]
        fn the_url_is_the_key_without_its_parts(a in name()) {
            let mut bare = a.clone();
            bare.4.clear();
            let (with, without) = (key(&a), key(&bare));
            prop_assert_eq!(with.url(), without.as_bytes());
            prop_assert_eq!(with.has_parts(), !a.4.is_empty());
        }
    }

    #[test]
    fn host_case_and_default_port_do_not_count() {
        let key = |scheme, host| CacheKey::new("", scheme, host, "/", None);
        for (case, scheme, one, other, same) in [
            ("case", "http", "EXAMPLE.com", "example.com", true),
            ("default port of http", "http", "example.com:80", "example.com", true),
            ("default port of https", "https", "example.com:443", "example.com", true),
            ("port of the other scheme", "http", "example.com:443", "example.com", false),
            ("another port", "http", "example.com:8080", "example.com", false),
            ("another host", "http", "a", "b", false),
        ] {
            assert_eq!(key(scheme, one) == key(scheme, other), same, "{case}");
        }
        assert_ne!(key("http", "a"), key("https", "a"));
    }

    #[test]
    fn an_absent_query_differs_from_an_empty_one() {
        let key = |query| CacheKey::new("", "http", "h", "/", query);
        assert_ne!(key(None), key(Some("")));
    }

    #[test]
    fn debug_does_not_show_the_url() {
        let key = CacheKey::new("", "http", "h", "/secret", Some("token=1"));
        assert!(!format!("{key:?}").contains("secret"));
    }
}
