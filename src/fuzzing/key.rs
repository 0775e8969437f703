//! The target `key`: two different URLs or parts never make equal cache keys.
//!
//! The input has two requests, one after the other, with a line `--` between them. The lines of a
//! request are its namespace, scheme, host, path and query, and then names and values of further
//! parts of the key. A query or a value begins with `=`. A line without `=` stands for an absent
//! query or value.

use std::borrow::Cow;

use actix_web::{dev::Url, http::Uri};

use crate::entry::{
    key::CacheKey,
    length_prefixed::{append_optional, append_part, read_optional},
    tag::TagId,
    url::{normalize_path, normalized_hosts},
};

/// The request of which a key is made.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Request<'a> {
    namespace: Cow<'a, str>,
    scheme: Cow<'a, str>,
    host: Cow<'a, str>,
    path: Cow<'a, str>,
    query: Option<Cow<'a, str>>,
    parts: Vec<(Cow<'a, str>, Option<&'a [u8]>)>,
}

/// Runs the target.
///
/// # Panics
///
/// Panics if different requests have equal keys, if equivalent requests have different keys, or if
/// a key does not contain the URL from which it was made.
pub fn run(input: &[u8]) {
    let separator = b"\n--\n";
    let end = input.windows(separator.len()).position(|bytes| bytes == separator);
    let (first, second) = input.split_at(end.unwrap_or(input.len()));
    let first = Request::read(first);
    let second = Request::read(second.get(separator.len()..).unwrap_or_default());
    compare(&first, &second);
    for neighbor in first.neighbors() {
        compare(&first, &neighbor);
    }
    check_url(&first);
    check_path(&first.path);
    check_lists(&first);
}

impl<'a> Request<'a> {
    fn read(text: &'a [u8]) -> Self {
        let mut lines = text.split(|&byte| byte == b'\n');
        let mut line = || lines.next().unwrap_or_default();
        let mut text = || String::from_utf8_lossy(line());
        let (namespace, scheme, host, path) = (text(), text(), text(), text());
        let query = line().strip_prefix(b"=").map(String::from_utf8_lossy);
        let mut parts = Vec::new();
        while let Some(name) = lines.next() {
            let value = lines.next().unwrap_or_default();
            parts.push((String::from_utf8_lossy(name), value.strip_prefix(b"=")));
        }
        Self { namespace, scheme, host, path, query, parts }
    }

    fn key(&self) -> CacheKey {
        let Self { namespace, scheme, host, path, query, .. } = self;
        let mut key = CacheKey::new(namespace, scheme, host, path, query.as_deref());
        for (name, value) in &self.parts {
            key.push_part(name, *value);
        }
        key
    }

    /// Returns the URL of the request, without its scheme.
    fn url(&self) -> (&str, &str, &str, Option<&str>) {
        (&self.namespace, &self.host, &self.path, self.query.as_deref())
    }

    /// Returns the path and the query of the request.
    fn path_and_query(&self) -> (&str, &str, Option<&str>) {
        (&self.namespace, &self.path, self.query.as_deref())
    }

    /// Returns the request as the key represents it, computed in another way than in the crate.
    fn canonical(&self) -> Self {
        let port = if self.scheme == "https" { ":443" } else { ":80" };
        let host = self.host.to_ascii_lowercase();
        let host = host.strip_suffix(port).unwrap_or(&host).to_owned();
        Self { host: host.into(), path: canonical_path(&self.path).into(), ..self.clone() }
    }

    /// Returns requests that differ from this one in the place of one character, or in a value that
    /// is empty instead of absent.
    fn neighbors(&self) -> Vec<Self> {
        let mut neighbors = Vec::new();
        let mut add = |change: &dyn Fn(&mut Self)| {
            let mut changed = self.clone();
            change(&mut changed);
            neighbors.push(changed);
        };
        add(&|request| move_last(&mut request.namespace, &mut request.host));
        add(&|request| move_last(&mut request.host, &mut request.path));
        add(&|request| move_last(&mut request.path, request.query.get_or_insert_default()));
        add(&|request| move_last(request.query.get_or_insert_default(), &mut request.scheme));
        add(&|request| request.query = request.query.is_none().then(Cow::default));
        add(&|request| request.parts.push((Cow::default(), None)));
        add(&|request| drop(request.parts.pop()));
        add(&|request| request.parts.reverse());
        add(&|request| {
            if let Some((_, value)) = request.parts.last_mut() {
                *value = value.is_none().then_some(&[]);
            }
        });
        neighbors
    }
}

/// Moves the last character of a text to the beginning of the next text.
fn move_last<'a>(from: &mut Cow<'a, str>, to: &mut Cow<'a, str>) {
    if let Some(last) = from.to_mut().pop() {
        to.to_mut().insert(0, last);
    }
}

/// Normalizes the percent-encodings of a path, one character after the other.
fn canonical_path(path: &str) -> String {
    let mut canonical = String::new();
    let mut rest = path.chars();
    while let Some(next) = rest.next() {
        if next != '%' {
            canonical.push(next);
            continue;
        }
        let digits: String = rest.by_ref().take(2).collect();
        let is_encoding = digits.len() == 2 && digits.chars().all(|c| c.is_ascii_hexdigit());
        if !is_encoding {
            return path.to_owned();
        }
        let decoded = char::from(u8::from_str_radix(&digits, 16).unwrap());
        if decoded.is_ascii_alphanumeric() || "-._~".contains(decoded) {
            canonical.push(decoded);
        } else if "%/+".contains(decoded) {
            canonical = canonical + "%" + &digits;
        } else {
            canonical = canonical + "%" + &digits.to_ascii_uppercase();
        }
    }
    canonical
}

/// Two requests have equal keys exactly if their canonical forms are equal.
fn compare(one: &Request<'_>, other: &Request<'_>) {
    let (key, other_key) = (one.key(), other.key());
    let (one, other) = (one.canonical(), other.canonical());
    assert_eq!(key == other_key, one == other, "{one:?} and {other:?}");
    assert_eq!(TagId::key(&key) == TagId::key(&other_key), one == other, "digests of keys");
    let is_same_url = one.url() == other.url();
    assert_eq!(key.url().contains(&other_key), is_same_url, "URLs of {one:?} and {other:?}");
    assert_eq!(TagId::url(key.url()) == TagId::url(other_key.url()), is_same_url);
    let (Some(parts), Some(other_parts)) = (key.url_parts(), other_key.url_parts()) else { return };
    let is_same_path = one.path_and_query() == other.path_and_query();
    assert_eq!(TagId::path(&parts) == TagId::path(&other_parts), is_same_path);
}

/// The URL can be read from the key.
fn check_url(request: &Request<'_>) {
    let key = request.key();
    let canonical = request.canonical();
    let parts = key.url_parts().unwrap();
    assert_eq!(parts.namespace, canonical.namespace.as_bytes());
    assert_eq!(parts.scheme, canonical.scheme.as_bytes());
    assert_eq!(parts.host, canonical.host.as_bytes());
    assert_eq!(parts.path, canonical.path.as_bytes());
    assert_eq!(parts.query, canonical.query.as_deref().map(str::as_bytes));
    assert_eq!(key.has_parts(), !request.parts.is_empty());
    if ["http", "https"].contains(&&*request.scheme) {
        let hosts = normalized_hosts(&request.host);
        assert!(hosts.iter().any(|host| *host == canonical.host), "{hosts:?} lacks the host");
    }
}

/// A normalized path is stable, and actix routes it like the path that the client sent.
fn check_path(path: &str) {
    let normalized = normalize_path(path);
    assert_eq!(normalize_path(&normalized), normalized, "{path:?}");
    let route = |path: &str| path.parse::<Uri>().ok().map(|uri| Url::new(uri).path().to_owned());
    if let Some(sent) = route(path).filter(|_| path.starts_with('/')) {
        assert_eq!(route(&normalized), Some(sent), "the routes of {path:?} and {normalized:?}");
    }
    for host in [None, Some("h")] {
        let prefix = |path: &str| TagId::prefix("n", host, path);
        assert_eq!(prefix(path), prefix(&normalized), "the prefixes of {path:?}");
    }
}

/// The parts of an encoded list can be read one after the other.
fn check_lists(request: &Request<'_>) {
    let mut encoded = Vec::new();
    for (name, value) in &request.parts {
        append_part(&mut encoded, name.as_bytes());
        append_optional(&mut encoded, *value);
    }
    let mut rest = &encoded[..];
    for (name, value) in &request.parts {
        for want in [Some(name.as_bytes()), *value] {
            let (part, tail) = read_optional(rest).unwrap();
            assert_eq!(part, want);
            rest = tail;
        }
    }
    assert!(rest.is_empty() && read_optional(rest).is_none());
}
