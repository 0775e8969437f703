//! The parts of a target URI that a cache key is made of.

use smallvec::SmallVec;

/// The host, path and query of a URL.
///
/// The scheme is left out: an invalidation of a URL applies to `http` and `https` alike, because a
/// TLS proxy between the client and this cache may have changed the scheme.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UrlTarget {
    /// Host and port as in the `Host` field.
    pub(crate) host: String,
    /// Path, undecoded.
    pub(crate) path: String,
    /// Query without the question mark, undecoded.
    pub(crate) query: Option<String>,
}

/// The scheme's default port with the colon before it.
pub(crate) fn default_port(scheme: &str) -> &'static str {
    if scheme == "https" { ":443" } else { ":80" }
}

/// A host without the default port of its scheme (RFC 9110 section 4.2.3).
pub(crate) fn normalize_host<'a>(scheme: &str, host: &'a str) -> &'a str {
    host.strip_suffix(default_port(scheme)).unwrap_or(host)
}

/// All hosts that keys can have for one value of the `Host` field: in lower case, and without the
/// default port of either scheme.
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
