//! The parts of a target URI from which cache keys are made.

use std::borrow::Cow;

use smallvec::SmallVec;

/// The host, path and query of a URL.
///
/// `UrlTarget` has no scheme, because an invalidation of a URL applies to `http` and `https` alike.
/// The reason is that a TLS proxy between the client and the cache may have changed the scheme of a
/// request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UrlTarget {
    /// The host and port, as in the `Host` field.
    pub(crate) host: String,
    /// The path, percent-encoded as the client sent it.
    pub(crate) path: String,
    /// The query, without the question mark and percent-encoded as the client sent it.
    pub(crate) query: Option<String>,
}

/// Returns the default port of a scheme, with a colon before the number.
pub(crate) fn default_port(scheme: &str) -> &'static str {
    if scheme == "https" { ":443" } else { ":80" }
}

/// Removes the default port of the scheme from a host (RFC 9110 section 4.2.3).
pub(crate) fn normalize_host<'a>(scheme: &str, host: &'a str) -> &'a str {
    host.strip_suffix(default_port(scheme)).unwrap_or(host)
}

/// Returns all hosts that cache keys can contain for one value of the `Host` field. A key has the
/// host in lower case, without the default port of its scheme.
pub(crate) fn normalized_hosts(host: &str) -> SmallVec<[String; 2]> {
    let mut hosts = SmallVec::new();
    for scheme in ["http", "https"] {
        let host = normalize_host(scheme, host).to_ascii_lowercase();
        if !hosts.contains(&host) {
            hosts.push(host);
        }
    }
    hosts
}

/// Returns a path without the differences that have no meaning (RFC 3986 section 6.2.2): the
/// percent-encoding of unreserved characters, and the letter case of other percent-encodings.
///
/// Actix decodes these percent-encodings before it selects a route. It keeps those of `%`, `/` and
/// `+` as the client sent them, so this function keeps them, too.
pub(crate) fn normalize_path(path: &str) -> Cow<'_, str> {
    if !path.contains('%') {
        return Cow::Borrowed(path);
    }
    let mut normalized = String::with_capacity(path.len());
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('%') {
        let encoded = after.get(..2).filter(|two| two.bytes().all(|two| two.is_ascii_hexdigit()));
        let byte = encoded.and_then(|two| u8::from_str_radix(two, 16).ok());
        // After a `%` that encodes nothing, a decoded character could make a new percent-encoding.
        let (Some(encoded), Some(byte)) = (encoded, byte) else { return Cow::Borrowed(path) };
        normalized.push_str(before);
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                normalized.push(char::from(byte));
            }
            b'%' | b'/' | b'+' => {
                normalized.push('%');
                normalized.push_str(encoded);
            }
            _ => {
                normalized.push('%');
                normalized.push_str(&encoded.to_ascii_uppercase());
            }
        }
        rest = after.get(2..).unwrap_or_default();
    }
    normalized.push_str(rest);
    Cow::Owned(normalized)
}

#[cfg(test)]
mod tests {
    use actix_web::dev::Url;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn equivalent_paths_are_normalized_to_one() {
        for (path, want) in [
            ("/plain/path", "/plain/path"),
            ("/%61lias/%7Eme/%2d%2E%5f", "/alias/~me/-._"),
            ("/caf%c3%a9", "/caf%C3%A9"),
            ("/a%20b%3a", "/a%20b%3A"),
            ("/a%2fb%2Fc%2bd%25", "/a%2fb%2Fc%2bd%25"),
            ("/%2561", "/%2561"),
            ("/%", "/%"),
            ("/%6", "/%6"),
            ("/%zz%61", "/%zz%61"),
            ("/%0%30", "/%0%30"),
            ("/\u{e9}%\u{e9}1%61", "/\u{e9}%\u{e9}1%61"),
            ("/\u{e9}%61", "/\u{e9}a"),
        ] {
            assert_eq!(normalize_path(path), want, "{path}");
        }
    }

    proptest! {
        /// Paths that become equal are paths that actix routes alike.
        #[test]
        fn normalized_path_is_routed_like_the_path(path in "(/|[a~%+]|%[0-9a-fA-F]{2}|%[0-9a-z]){0,12}") {
            let routed = |path: &str| {
                Some(Url::new(format!("/{path}").parse().ok()?).path().to_owned())
            };
            let normalized = normalize_path(&path);
            prop_assert_eq!(routed(&normalized), routed(&path));
            prop_assert_eq!(normalize_path(&normalized), normalized.as_ref());
        }
    }

    #[test]
    fn hosts_are_normalized_for_both_schemes() {
        for (host, want) in [
            ("Example.com", &["example.com"][..]),
            ("example.com:8080", &["example.com:8080"]),
            ("example.com:80", &["example.com", "example.com:80"]),
            ("example.com:443", &["example.com:443", "example.com"]),
        ] {
            assert_eq!(&normalized_hosts(host)[..], want, "{host}");
        }
    }
}
