//! The parts of a target URI from which cache keys are made.

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

#[cfg(test)]
mod tests {
    use super::*;

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
