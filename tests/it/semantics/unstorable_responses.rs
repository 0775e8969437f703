//! Responses that are never stored (RFC 9111 section 3). Each refused response stands beside a
//! similar one that is stored.

use actix_web_cache::Rule;
use httpdate::fmt_http_date;

use crate::support::{Client, Protocol, Reply, START, builder, cache, secs, serve_replies};

/// A case: its name, the status and fields of the response, and the reason if it is not stored.
type Case<'a> = (&'a str, u16, &'a [(&'a str, &'a str)], Option<&'a str>);

/// Requests each case twice. The second response is a hit exactly if the first was stored.
async fn check(cases: &[Case<'_>]) {
    for (protocol, workers) in [(Protocol::Http1, 1), (Protocol::Http2, 2)] {
        let (cache, _) = cache();
        let replies: Vec<_> =
            cases.iter().map(|(_, status, fields, _)| Reply::new(*status, fields)).collect();
        let (server, runs) = serve_replies(workers, &cache, &replies);
        let client = Client::new(server.addr, protocol);
        for (index, (case, status, fields, refusal)) in cases.iter().enumerate() {
            let path = format!("/{index}");
            let case = format!("{case}: {status} {fields:?} by {protocol:?}");
            let before = runs.get();
            let first = client.get(&path).await;
            let want = match refusal {
                None => "fwd=uri-miss; stored".to_owned(),
                Some(refusal) => format!("fwd=uri-miss; detail={refusal}"),
            };
            assert_eq!(first.cache_status(), want, "{case}");
            let second = client.get(&path).await;
            assert_eq!(second.is_hit(), refusal.is_none(), "{case}: {}", second.cache_status());
            assert_eq!(second.status, first.status, "{case}");
            let handler_runs = if refusal.is_none() { 1 } else { 2 };
            assert_eq!(runs.get() - before, handler_runs, "{case}");
        }
    }
}

/// Checks cases that differ in `Cache-Control` only. A case may have several field lines.
async fn check_cache_control(cases: &[(&[&str], Option<&str>)]) {
    let fields: Vec<Vec<_>> = cases
        .iter()
        .map(|(lines, _)| lines.iter().map(|line| ("cache-control", *line)).collect())
        .collect();
    let cases: Vec<Case<'_>> = cases
        .iter()
        .zip(&fields)
        .map(|((_, refusal), fields)| ("", 200, fields.as_slice(), *refusal))
        .collect();
    check(&cases).await;
}

/// See RFC 9111 section 5.2.2.5.
#[actix_web::test]
async fn no_store_response_is_never_stored() {
    let refused = Some("no-store");
    check_cache_control(&[
        (&["no-store"], refused),
        (&["no-store, max-age=60"], refused),
        (&["public, s-maxage=60, No-Store"], refused),
        (&["max-age=60", "NO-STORE"], refused),
        (&["no-store=\"x\", max-age=60"], refused),
        (&["max-age=60,\tno-store ,"], refused),
        (&["ext=\"a, b\", no-store, max-age=60"], refused),
        (&["max-age=60"], None),
        (&["max-age=60, ext=\"no-store\""], None),
        (&["max-age=60, ext=\"a, no-store, b\""], None),
        (&["max-age=60, ext=\"a\\\", no-store, b\""], None),
        (&["max-age=60, x-no-store, no-storex"], None),
    ])
    .await;
}

/// See RFC 9111 section 5.2.2.7.
#[actix_web::test]
async fn private_response_is_never_stored_even_when_qualified() {
    let refused = Some("private");
    check_cache_control(&[
        (&["private"], refused),
        (&["Private, max-age=60"], refused),
        (&["max-age=60", "private"], refused),
        (&["private=\"set-cookie\", max-age=60"], refused),
        (&["private=\"\", max-age=60"], refused),
        (&["private=x-a, max-age=60"], refused),
        (&["public, private, max-age=60"], refused),
        (&["private, s-maxage=60"], refused),
        (&["public, max-age=60"], None),
        (&["max-age=60, ext=\"private\""], None),
        (&["max-age=60, semi-private, privately"], None),
    ])
    .await;
}

#[actix_web::test]
async fn no_cache_response_without_a_validator_is_never_stored() {
    let refused = Some("no-cache");
    check_cache_control(&[
        (&["no-cache"], refused),
        (&["No-Cache, max-age=60"], refused),
        (&["max-age=60", "no-cache"], refused),
        (&["no-cache=\"set-cookie\", max-age=60"], refused),
        (&["public, no-cache=x-a, max-age=60"], refused),
        (&["public, max-age=60"], None),
        (&["max-age=60, ext=\"no-cache\""], None),
    ])
    .await;
}

/// The author of `private; max-age=60` does not want a shared copy.
#[actix_web::test]
async fn refusal_with_wrong_syntax_is_still_a_refusal() {
    check_cache_control(&[
        (&["private; max-age=60"], Some("private")),
        (&["max-age=60; private"], Some("private")),
        (&["no-cache no-store"], Some("no-store")),
        (&["no-cache; must-revalidate"], Some("no-cache")),
        (&["max-age=60 private"], Some("private")),
        (&["x=1; no-store"], Some("no-store")),
        (&["max-age=60, ext=\"never closed, no-store"], Some("no-store")),
        (&["ext=\"never closed", "max-age=60"], Some("no-store")),
        (&["max-age=60, ext=private"], None),
        (&["max-age=60, ext=\"a; private\""], None),
        (&["max-age=60", "ext=\"closed, no-store\""], None),
    ])
    .await;
}

#[actix_web::test]
async fn pragma_no_cache_response_is_not_stored_without_a_lifetime() {
    check(&[
        ("alone", 200, &[("pragma", "no-cache")], Some("no-cache")),
        ("in any case", 200, &[("pragma", "x, No-Cache")], Some("no-cache")),
        ("beside a lifetime", 200, &[("pragma", "no-cache"), ("cache-control", "max-age=9")], None),
        ("another pragma", 200, &[("pragma", "x=no-cache")], None),
    ])
    .await;
}

/// A stored cookie would reach other clients (RFC 9111 section 7.3).
#[actix_web::test]
async fn response_with_set_cookie_is_never_stored() {
    let refused = Some("set-cookie");
    let public = ("cache-control", "public, max-age=60");
    check(&[
        ("one cookie", 200, &[("set-cookie", "sid=1"), public], refused),
        ("under the default lifetime", 200, &[("set-cookie", "sid=1")], refused),
        ("several cookies", 200, &[("set-cookie", "a=1"), ("set-cookie", "b=2"), public], refused),
        ("upper-case name", 200, &[("SET-COOKIE", "sid=1"), public], refused),
        ("an empty value", 200, &[("Set-Cookie", ""), public], refused),
        ("a removed cookie", 200, &[("set-cookie", "sid=; Max-Age=0"), public], refused),
        ("the obsolete Set-Cookie2", 200, &[("Set-Cookie2", "sid=1"), public], refused),
        ("on a redirect", 301, &[("set-cookie", "sid=1"), ("location", "/"), public], refused),
        ("on a permanent redirect", 308, &[("set-cookie", "sid=1"), ("location", "/")], refused),
        ("on a 404", 404, &[("set-cookie", "sid=1"), public], refused),
        ("on a 204", 204, &[("set-cookie", "sid=1"), public], refused),
        ("no cookie", 200, &[("x-set-cookie", "sid=1"), public], None),
        ("a redirect without a cookie", 301, &[("location", "/"), public], None),
        ("a 404 without a cookie", 404, &[public], None),
        ("a 204 without a cookie", 204, &[public], None),
    ])
    .await;
}

/// `Vary: *` matches no later request (RFC 9111 section 4.1).
#[actix_web::test]
async fn response_with_vary_star_or_an_invalid_vary_is_never_stored() {
    let refused = Some("vary");
    let public = ("cache-control", "public, max-age=60");
    let many: Vec<_> = (0..17).map(|n| format!("x-{n}")).collect();
    let (at_limit, over_limit) = (many[..16].join(","), many.join(","));
    check(&[
        ("a star", 200, &[("vary", "*"), public], refused),
        ("under the default lifetime", 200, &[("vary", "*")], refused),
        ("a star after a name", 200, &[("vary", "accept, *"), public], refused),
        ("a star before a name", 200, &[("vary", " * ,accept"), public], refused),
        ("a star in a second line", 200, &[("vary", "accept"), ("vary", "*"), public], refused),
        ("a star on a 404", 404, &[("vary", "*"), public], refused),
        ("an invalid field name", 200, &[("vary", "accept encoding"), public], refused),
        ("a quoted field name", 200, &[("vary", "\"accept\""), public], refused),
        ("more names than the limit", 200, &[("vary", &over_limit), public], refused),
        ("as many names as the limit", 200, &[("vary", &at_limit), public], None),
        ("a name", 200, &[("vary", "accept"), public], None),
        ("no name", 200, &[("vary", ""), public], None),
    ])
    .await;
}

#[actix_web::test]
async fn authentication_challenge_or_client_specific_error_is_not_stored() {
    let challenge = ("www-authenticate", "Basic realm=\"a\"");
    check(&[
        ("401", 401, &[challenge], Some("status")),
        ("401 with a lifetime", 401, &[challenge, ("cache-control", "max-age=60")], Some("status")),
        (
            "407",
            407,
            &[("proxy-authenticate", "Basic"), ("cache-control", "max-age=60")],
            Some("status"),
        ),
        ("403 with a lifetime", 403, &[("cache-control", "public, max-age=60")], Some("status")),
        (
            "429 with a lifetime",
            429,
            &[("cache-control", "max-age=60"), ("retry-after", "9")],
            Some("status"),
        ),
        ("503 with a lifetime", 503, &[("cache-control", "public, s-maxage=60")], Some("status")),
        ("404 with a lifetime", 404, &[("cache-control", "max-age=60")], None),
    ])
    .await;
}

/// An invalid lifetime counts as 0 (RFC 9111 section 4.2.1).
#[actix_web::test]
async fn response_with_a_zero_or_invalid_lifetime_is_not_stored() {
    let refused = Some("no-lifetime");
    check_cache_control(&[
        (&["max-age=0"], refused),
        (&["s-maxage=0, max-age=60"], refused),
        (&["max-age=60, s-maxage=0"], refused),
        (&["public, max-age=0"], refused),
        (&["max-age=-1"], refused),
        (&["max-age=1.5"], refused),
        (&["max-age=abc"], refused),
        (&["max-age=0x5"], refused),
        (&["max-age=60s"], refused),
        (&["max-age='60'"], refused),
        (&["max-age="], refused),
        (&["max-age"], refused),
        (&["s-maxage=abc, max-age=60"], refused),
        (&["max-age=0, max-age=60"], refused),
        (&["max-age=60, max-age=0"], refused),
        (&["max-age=60", "max-age=abc"], refused),
        (&["max-age = 60"], refused),
        (&["s-maxage=60, s-maxage=0"], refused),
        (&["max-age=1"], None),
        (&["max-age=\"60\""], None),
        (&["MAX-AGE=60"], None),
        (&["max-age=0, s-maxage=60"], None),
        (&["max-age=00060"], None),
        (&["max-age=99999999999999999999999999"], None),
    ])
    .await;
}

#[actix_web::test]
async fn expired_response_is_not_stored() {
    let date = |second| fmt_http_date(std::time::UNIX_EPOCH + secs(second));
    let (past, now, later) = (date(START - 1), date(START), date(START + 60));
    let (date_past, far) = (("date", past.as_str()), date(START + 400_000_000));
    let refused = Some("no-lifetime");
    check(&[
        ("a second ago", 200, &[("expires", &past)], refused),
        ("now", 200, &[("expires", &now)], refused),
        ("zero", 200, &[("expires", "0")], refused),
        ("minus one", 200, &[("expires", "-1")], refused),
        ("empty", 200, &[("expires", "")], refused),
        ("not a date", 200, &[("expires", "tomorrow")], refused),
        ("another zone", 200, &[("expires", &later.replace("GMT", "CET"))], refused),
        ("two field lines", 200, &[("expires", &later), ("expires", &far)], refused),
        ("before its Date", 200, &[("expires", &past), ("date", &now)], refused),
        ("equal to its Date", 200, &[("expires", &past), date_past], refused),
        (
            "overridden by max-age=0",
            200,
            &[("expires", &later), ("cache-control", "max-age=0")],
            refused,
        ),
        ("a minute later", 200, &[("expires", &later)], None),
        ("years later", 200, &[("expires", &far)], None),
        (
            "overridden by a longer max-age",
            200,
            &[("expires", "0"), ("cache-control", "max-age=9")],
            None,
        ),
    ])
    .await;
}

#[actix_web::test]
async fn response_that_arrives_stale_is_not_stored() {
    let date = |second| fmt_http_date(std::time::UNIX_EPOCH + secs(second));
    let (old, young) = (date(START - 60), date(START - 59));
    let (later, minute) = (date(START + 1), ("cache-control", "max-age=60"));
    let refused = Some("stale");
    check(&[
        ("Age", 200, &[minute, ("age", "60")], refused),
        ("a larger Age", 200, &[minute, ("age", "99999999999999999999")], refused),
        ("Date", 200, &[minute, ("date", &old)], refused),
        ("Age of the default lifetime", 200, &[("age", "60")], refused),
        ("Date, and Expires in the future", 200, &[("date", &old), ("expires", &later)], None),
        ("a smaller Age", 200, &[minute, ("age", "59")], None),
        ("a younger Date", 200, &[minute, ("date", &young)], None),
        ("an Age that cannot be read", 200, &[minute, ("age", "-60")], None),
    ])
    .await;
}

#[actix_web::test]
async fn override_ttl_of_a_rule_never_overrides_a_refusal() {
    let overriding = Rule::any().with(|policy| policy.override_ttl(secs(60)));
    let cache = builder().0.rule(overriding).build().unwrap();
    let cases: &[(&[(&str, &str)], bool)] = &[
        (&[("cache-control", "no-store")], false),
        (&[("cache-control", "private")], false),
        (&[("cache-control", "private=\"x-a\", max-age=9")], false),
        (&[("cache-control", "no-cache")], false),
        (&[("set-cookie", "sid=1"), ("cache-control", "public")], false),
        (&[("vary", "*")], false),
        (&[("cache-control", "max-age=0")], true),
        (&[("expires", "0")], true),
        (&[], true),
    ];
    let replies: Vec<_> = cases.iter().map(|(fields, _)| Reply::new(200, fields)).collect();
    let (server, _) = serve_replies(1, &cache, &replies);
    let client = Client::new(server.addr, Protocol::Http1);
    for (index, (fields, stored)) in cases.iter().enumerate() {
        let path = format!("/{index}");
        assert_eq!(client.get(&path).await.is_stored(), *stored, "{fields:?}");
        assert_eq!(client.get(&path).await.is_hit(), *stored, "{fields:?}");
    }
}
