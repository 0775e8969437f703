//! Finds the stored responses that an unsafe request invalidates (RFC 9111 section 4.4).

use actix_web::http::{
    Method, StatusCode,
    header::{CONTENT_LOCATION, HeaderMap, LOCATION},
};
use url::Url;

use super::fields::field_lines;
use crate::entry::url::UrlTarget;

/// Returns whether requests with this method invalidate no stored responses, because the method is
/// safe (RFC 9110 section 9.2.1 and the IANA method registry). An unknown method counts as unsafe.
pub(crate) fn is_safe(method: &Method) -> bool {
    matches!(
        method.as_str(),
        "GET" | "HEAD" | "OPTIONS" | "TRACE" | "QUERY" | "PROPFIND" | "REPORT" | "SEARCH"
    )
}

/// The choices of a policy about which URLs an unsafe request invalidates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct InvalidationChoices {
    /// Whether unsafe requests invalidate anything.
    pub(crate) requests: Requests,
    /// Whether an unsafe request that is answered with a redirect (3xx) invalidates URLs.
    pub(crate) redirects: Redirects,
    /// Whether an unsafe request invalidates the URL in `Location` of its response.
    pub(crate) location: LocationField,
    /// Which queries of its own path an unsafe request invalidates.
    pub(crate) queries: Queries,
}

/// The queries for which an unsafe request invalidates the responses of its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum Queries {
    /// The query of the request, as section 4.4 requires.
    #[default]
    OfTarget,
    All,
}

/// Whether unsafe requests invalidate URLs and groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum Requests {
    /// A request invalidates them if it succeeds (section 4.4).
    #[default]
    Invalidate,
    Ignored,
}

/// Whether an unsafe request that is answered with a redirect invalidates URLs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum Redirects {
    /// The request invalidates URLs, because a redirect is a non-error response (section 4.4).
    #[default]
    Invalidate,
    Ignored,
}

/// Whether the URL in `Location` of the response to an unsafe request is invalidated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum LocationField {
    /// The URL is invalidated, as section 4.4 permits.
    #[default]
    Invalidated,
    Ignored,
}

/// Returns the URLs whose stored responses an unsafe request invalidates.
///
/// `targets` are the URLs that can be the target of the request. There are several if the request
/// names several hosts. If the response is an error, the request invalidates no URL. Besides the
/// targets, the request invalidates the URLs in `Location` and `Content-Location` that are on the
/// host of a target. It invalidates no URLs on other hosts, because a site must not invalidate the
/// responses of another site.
pub(crate) fn invalidated(
    targets: &[UrlTarget],
    status: StatusCode,
    response: &HeaderMap,
    choices: InvalidationChoices,
) -> Vec<UrlTarget> {
    let redirects = choices.redirects == Redirects::Invalidate && status.is_redirection();
    let ignored = choices.requests == Requests::Ignored;
    if ignored || (!status.is_success() && !redirects) {
        return Vec::new();
    }
    let mut urls = targets.to_vec();
    let location = (choices.location == LocationField::Invalidated).then_some(&LOCATION);
    let locations = location.into_iter().chain([&CONTENT_LOCATION]);
    for line in locations.flat_map(|name| field_lines(response, name)) {
        for url in targets.iter().filter_map(|target| resolve_on_host(target, line)) {
            if !urls.contains(&url) {
                urls.push(url);
            }
        }
    }
    urls
}

/// Returns whether a response is a representation of the request's target: the request has only one
/// possible target, and `Content-Location` is the URL of this target (RFC 9110 section 9.3.3).
pub(crate) fn represents_target(targets: &[UrlTarget], response: &HeaderMap) -> bool {
    let [target] = targets else { return false };
    let mut locations = field_lines(response, &CONTENT_LOCATION);
    let (Some(location), None) = (locations.next(), locations.next()) else { return false };
    resolve_on_host(target, location).is_some_and(|url| url == *target)
}

/// Resolves the URL reference in a response field against the target; `None` if the resolved URL is
/// on another host.
fn resolve_on_host(target: &UrlTarget, reference: &[u8]) -> Option<UrlTarget> {
    // The scheme of the target is not known, because a proxy in front of the server may terminate
    // TLS. Hosts are therefore compared without the scheme, and any scheme can serve for the base
    // URL.
    let mut base = format!("http://{}{}", target.host, target.path);
    if let Some(query) = &target.query {
        base = format!("{base}?{query}");
    }
    let base = Url::parse(&base).ok()?;
    let url = base.join(std::str::from_utf8(reference).ok()?).ok()?;
    let same_host = matches!(url.scheme(), "http" | "https")
        && url.host() == base.host()
        && (url.port() == base.port()
            || url.port_or_known_default() == base.port_or_known_default());
    same_host.then(|| UrlTarget {
        host: target.host.clone(),
        path: url.path().to_owned(),
        query: url.query().map(str::to_owned),
    })
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::{HeaderName, HeaderValue};

    use super::*;

    const DEFAULT: InvalidationChoices = InvalidationChoices {
        requests: Requests::Invalidate,
        redirects: Redirects::Invalidate,
        location: LocationField::Invalidated,
        queries: Queries::OfTarget,
    };

    fn target(path: &str, query: Option<&str>) -> UrlTarget {
        UrlTarget {
            host: "Example.com:8080".to_owned(),
            path: path.to_owned(),
            query: query.map(str::to_owned),
        }
    }

    fn response(fields: &[(HeaderName, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(name.clone(), HeaderValue::from_str(value).unwrap());
        }
        map
    }

    #[test]
    fn only_known_safe_methods_are_safe() {
        for (method, safe) in [
            ("GET", true),
            ("HEAD", true),
            ("OPTIONS", true),
            ("TRACE", true),
            ("CONNECT", false),
            ("QUERY", true),
            ("PROPFIND", true),
            ("REPORT", true),
            ("SEARCH", true),
            ("POST", false),
            ("PUT", false),
            ("PATCH", false),
            ("DELETE", false),
            ("M-SEARCH", false),
            ("PURGE", false),
            ("get", false),
        ] {
            assert_eq!(is_safe(&Method::from_bytes(method.as_bytes()).unwrap()), safe, "{method}");
        }
    }

    #[test]
    fn successful_response_invalidates_target_and_locations_on_its_host() {
        let own = || target("/a/b", Some("q=1"));
        for (case, status, fields, locations) in [
            ("no location", 200, vec![], vec![]),
            ("redirection", 303, vec![], vec![]),
            ("path", 201, vec![(LOCATION, "/c?d")], vec![target("/c", Some("d"))]),
            ("relative path", 201, vec![(LOCATION, "c")], vec![target("/a/c", None)]),
            ("query", 200, vec![(CONTENT_LOCATION, "?x")], vec![target("/a/b", Some("x"))]),
            (
                "both fields",
                201,
                vec![(LOCATION, "/c"), (CONTENT_LOCATION, "/d")],
                vec![target("/c", None), target("/d", None)],
            ),
            ("target itself", 200, vec![(CONTENT_LOCATION, "/a/b?q=1")], vec![]),
            (
                "full URL on the same host",
                201,
                vec![(LOCATION, "https://example.com:8080/c#f")],
                vec![target("/c", None)],
            ),
            ("other port", 201, vec![(LOCATION, "http://example.com/c")], vec![]),
            ("other host", 201, vec![(LOCATION, "http://evil:8080/c")], vec![]),
            ("other host without scheme", 201, vec![(LOCATION, "//evil/c")], vec![]),
            ("other scheme", 201, vec![(LOCATION, "ftp://example.com:8080/c")], vec![]),
            ("no URL", 201, vec![(LOCATION, "http://[")], vec![]),
        ] {
            let mut want = vec![own()];
            want.extend(locations);
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(invalidated(&[own()], status, &response(&fields), DEFAULT), want, "{case}");
        }
        for status in [400, 404, 500, 503] {
            let status = StatusCode::from_u16(status).unwrap();
            assert!(
                invalidated(&[own()], status, &response(&[(LOCATION, "/c")]), DEFAULT).is_empty()
            );
        }
    }

    #[test]
    fn policy_can_exclude_all_requests_or_redirects_and_location() {
        let own = target("/a", None);
        let fields = response(&[(LOCATION, "/c"), (CONTENT_LOCATION, "/d")]);
        let ignore_redirects = InvalidationChoices { redirects: Redirects::Ignored, ..DEFAULT };
        let ignore_requests = InvalidationChoices { requests: Requests::Ignored, ..DEFAULT };
        let ignore_location = InvalidationChoices { location: LocationField::Ignored, ..DEFAULT };
        let (location, content) = (target("/c", None), target("/d", None));
        for (case, choices, status, want) in [
            ("default", DEFAULT, 303, vec![own.clone(), location.clone(), content.clone()]),
            ("redirects", ignore_redirects, 303, vec![]),
            ("redirects", ignore_redirects, 308, vec![]),
            ("redirects", ignore_redirects, 201, vec![own.clone(), location, content.clone()]),
            ("requests", ignore_requests, 200, vec![]),
            ("requests", ignore_requests, 303, vec![]),
            ("location", ignore_location, 303, vec![own.clone(), content.clone()]),
            ("location", ignore_location, 201, vec![own.clone(), content]),
            ("location", ignore_location, 404, vec![]),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            let got = invalidated(std::slice::from_ref(&own), status, &fields, choices);
            assert_eq!(got, want, "{case} {status}");
        }
    }

    #[test]
    fn default_port_equals_no_port() {
        let at = |host: &str, path: &str| UrlTarget { host: host.to_owned(), ..target(path, None) };
        for (host, location, same) in [
            ("example.com", "http://example.com/c", true),
            ("example.com", "https://example.com/c", true),
            ("example.com", "http://example.com:80/c", true),
            ("example.com", "https://example.com:443/c", true),
            ("example.com", "https://example.com:80/c", true),
            ("example.com", "http://example.com:443/c", false),
            ("example.com", "http://example.com:8080/c", false),
            ("example.com:80", "https://example.com/c", true),
            ("example.com:8443", "https://example.com:8443/c", true),
            ("example.com:8443", "https://example.com/c", false),
        ] {
            let fields = response(&[(LOCATION, location)]);
            let got = invalidated(&[at(host, "/a")], StatusCode::CREATED, &fields, DEFAULT);
            let want =
                if same { vec![at(host, "/a"), at(host, "/c")] } else { vec![at(host, "/a")] };
            assert_eq!(got, want, "section 4.4: {location} of {host}");
        }
    }

    #[test]
    fn request_that_names_two_hosts_invalidates_urls_on_both() {
        let at = |host: &str, path: &str| UrlTarget { host: host.to_owned(), ..target(path, None) };
        let both = [at("a", "/x"), at("b", "/x")];
        let fields = response(&[(LOCATION, "/c"), (CONTENT_LOCATION, "http://b/d")]);
        let got = invalidated(&both, StatusCode::OK, &fields, DEFAULT);
        assert_eq!(
            got,
            [at("a", "/x"), at("b", "/x"), at("a", "/c"), at("b", "/c"), at("b", "/d")]
        );
        let own = response(&[(CONTENT_LOCATION, "/x")]);
        assert!(!represents_target(&both, &own), "of two hosts");
        let mut odd = HeaderMap::new();
        odd.insert(LOCATION, HeaderValue::from_bytes(&[0xff]).unwrap());
        assert_eq!(
            invalidated(&both, StatusCode::OK, &odd, DEFAULT),
            both,
            "Location is not UTF-8"
        );
    }

    #[test]
    fn response_represents_its_target_if_content_location_is_the_same() {
        let own = target("/a", Some("q"));
        for (locations, want) in [
            (vec![], false),
            (vec!["/a?q"], true),
            (vec!["http://example.com:8080/a?q"], true),
            (vec!["/a"], false),
            (vec!["/b"], false),
            (vec!["http://evil/a?q"], false),
            (vec!["/a?q", "/a?q"], false),
        ] {
            let fields: Vec<_> = locations.iter().map(|text| (CONTENT_LOCATION, *text)).collect();
            assert_eq!(
                represents_target(std::slice::from_ref(&own), &response(&fields)),
                want,
                "{locations:?}"
            );
        }
    }
}
