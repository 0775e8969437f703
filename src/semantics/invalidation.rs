//! What a change makes invalid (section 4.4).

use actix_web::http::{
    Method, StatusCode,
    header::{CONTENT_LOCATION, HeaderMap, LOCATION},
};
use url::Url;

use super::fields::lines;
use crate::entry::url::UrlTarget;

/// RFC 9110 section 9.2.1, and the registered methods that are safe. Of methods nobody knows the
/// worst is assumed.
pub(crate) fn is_safe(method: &Method) -> bool {
    matches!(
        method.as_str(),
        "GET"
            | "HEAD"
            | "OPTIONS"
            | "TRACE"
            | "CONNECT"
            | "QUERY"
            | "PROPFIND"
            | "REPORT"
            | "SEARCH"
    )
}

/// The URLs whose stored responses an unsafe request made invalid; `targets` are its own: one,
/// unless it names several hosts.
///
/// Only an answer that is no error changes anything. `Location` and `Content-Location` count where
/// they stay on the same host: others could be named to harm.
pub(crate) fn invalidated(
    targets: &[UrlTarget],
    status: StatusCode,
    answer: &HeaderMap,
) -> Vec<UrlTarget> {
    if !(status.is_success() || status.is_redirection()) {
        return Vec::new();
    }
    let mut all = targets.to_vec();
    for line in lines(answer, &LOCATION).chain(lines(answer, &CONTENT_LOCATION)) {
        for named in targets.iter().filter_map(|target| named(target, line)) {
            if !all.contains(&named) {
                all.push(named);
            }
        }
    }
    all
}

/// Whether the answer to a request represents its own target: `Content-Location` is the same URL
/// (RFC 9110 section 9.3.3).
pub(crate) fn represents_target(targets: &[UrlTarget], answer: &HeaderMap) -> bool {
    let [target] = targets else { return false };
    let mut locations = lines(answer, &CONTENT_LOCATION);
    let (Some(location), None) = (locations.next(), locations.next()) else { return false };
    named(target, location).is_some_and(|named| named == *target)
}

/// A URL named in a field, if it is on the target's host.
fn named(target: &UrlTarget, reference: &[u8]) -> Option<UrlTarget> {
    // Which of the two schemes it is makes no difference here: a TLS proxy may stand in between.
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

    fn target(path: &str, query: Option<&str>) -> UrlTarget {
        UrlTarget {
            host: "Example.com:8080".to_owned(),
            path: path.to_owned(),
            query: query.map(str::to_owned),
        }
    }

    fn answer(fields: &[(HeaderName, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(name.clone(), HeaderValue::from_str(value).unwrap());
        }
        map
    }

    #[test]
    fn safe_methods_change_nothing_and_unknown_ones_may() {
        for (method, safe) in [
            ("GET", true),
            ("HEAD", true),
            ("OPTIONS", true),
            ("TRACE", true),
            ("CONNECT", true),
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
    fn an_answer_that_is_no_error_invalidates_the_target_and_what_it_names_on_its_host() {
        let own = || target("/a/b", Some("q=1"));
        for (case, status, fields, named) in [
            ("nothing named", 200, vec![], vec![]),
            ("a redirection", 303, vec![], vec![]),
            ("a path", 201, vec![(LOCATION, "/c?d")], vec![target("/c", Some("d"))]),
            ("a relative path", 201, vec![(LOCATION, "c")], vec![target("/a/c", None)]),
            ("a query", 200, vec![(CONTENT_LOCATION, "?x")], vec![target("/a/b", Some("x"))]),
            (
                "both",
                201,
                vec![(LOCATION, "/c"), (CONTENT_LOCATION, "/d")],
                vec![target("/c", None), target("/d", None)],
            ),
            ("itself", 200, vec![(CONTENT_LOCATION, "/a/b?q=1")], vec![]),
            (
                "a full URL of the same host",
                201,
                vec![(LOCATION, "https://example.com:8080/c#f")],
                vec![target("/c", None)],
            ),
            ("another port", 201, vec![(LOCATION, "http://example.com/c")], vec![]),
            ("another host", 201, vec![(LOCATION, "http://evil:8080/c")], vec![]),
            ("another host without scheme", 201, vec![(LOCATION, "//evil/c")], vec![]),
            ("another scheme", 201, vec![(LOCATION, "ftp://example.com:8080/c")], vec![]),
            ("no URL", 201, vec![(LOCATION, "http://[")], vec![]),
        ] {
            let mut want = vec![own()];
            want.extend(named);
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(invalidated(&[own()], status, &answer(&fields)), want, "{case}");
        }
        for status in [400, 404, 500, 503] {
            let status = StatusCode::from_u16(status).unwrap();
            assert!(invalidated(&[own()], status, &answer(&[(LOCATION, "/c")])).is_empty());
        }
    }

    #[test]
    fn a_port_that_is_the_default_is_none_and_no_other_is() {
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
            let fields = answer(&[(LOCATION, location)]);
            let got = invalidated(&[at(host, "/a")], StatusCode::CREATED, &fields);
            let want =
                if same { vec![at(host, "/a"), at(host, "/c")] } else { vec![at(host, "/a")] };
            assert_eq!(got, want, "section 4.4: {location} of {host}");
        }
    }

    #[test]
    fn a_request_that_names_two_hosts_changes_what_both_have() {
        let at = |host: &str, path: &str| UrlTarget { host: host.to_owned(), ..target(path, None) };
        let both = [at("a", "/x"), at("b", "/x")];
        let fields = answer(&[(LOCATION, "/c"), (CONTENT_LOCATION, "http://b/d")]);
        let got = invalidated(&both, StatusCode::OK, &fields);
        assert_eq!(
            got,
            [at("a", "/x"), at("b", "/x"), at("a", "/c"), at("b", "/c"), at("b", "/d")]
        );
        let own = answer(&[(CONTENT_LOCATION, "/x")]);
        assert!(!represents_target(&both, &own), "whose it is nobody can tell");
        let mut odd = HeaderMap::new();
        odd.insert(LOCATION, HeaderValue::from_bytes(&[0xff]).unwrap());
        assert_eq!(invalidated(&both, StatusCode::OK, &odd), both, "no text");
    }

    #[test]
    fn an_answer_represents_its_target_only_if_it_says_so() {
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
                represents_target(std::slice::from_ref(&own), &answer(&fields)),
                want,
                "{locations:?}"
            );
        }
    }
}
