//! `Vary`: cookies and credentials are compared exactly, and downstream caches learn the fields
//! that selected the response (RFC 9111 section 4.1).

use std::time::UNIX_EPOCH;

use actix_web_cache::Policy;
use http_cache_semantics::{CacheOptions, CachePolicy};
use hyper::{Method, Request, Response};

use crate::support::{
    Answer, Client, Protocol, Reply, SETUPS, START, builder, cache, secs, serve_replies,
};

type Fields<'a> = &'a [(&'a str, &'a str)];

/// Returns whether a response with `Vary: name` for one request also answers the other.
async fn is_shared(
    policy: Policy,
    protocol: Protocol,
    name: &str,
    one: Fields<'_>,
    other: Fields<'_>,
) -> bool {
    let cache = builder().0.policy(policy).build().unwrap();
    let fields = [("vary", name), ("cache-control", "public, max-age=60")];
    let (server, runs) = serve_replies(1, &cache, &[Reply::new(200, &fields)]);
    let client = Client::new(server.addr, protocol);
    let first = client.get_with("/0", one).await;
    assert!(first.is_stored(), "{name} {one:?}: {}", first.cache_status());
    let second = client.get_with("/0", other).await;
    assert!(second.is_hit() || second.cache_status() == "fwd=vary-miss; stored");
    assert!(client.get_with("/0", one).await.is_hit());
    assert_eq!(runs.get(), if second.is_hit() { 1 } else { 2 });
    second.is_hit()
}

/// Cookies and tokens are compared byte for byte. In other fields only whitespace around commas and
/// the split into lines are normalized (RFC 9111 section 4.1).
#[actix_web::test]
async fn vary_compares_selecting_field_values() {
    for (name, one, other, want) in [
        ("cookie", &["sid=a"][..], &["sid=a"][..], true),
        ("cookie", &[], &[], true),
        ("cookie", &["sid=a"], &[], false),
        ("cookie", &["sid=a"], &["sid=b"], false),
        ("cookie", &["sid=a"], &["sid=A"], false),
        ("cookie", &["sid=a"], &["SID=a"], false),
        ("cookie", &["sid=a; b=1"], &["b=1; sid=a"], false),
        ("cookie", &["sid=a,b"], &["sid=a, b"], false),
        ("cookie", &["sid=a,b"], &["sid=a,,b"], false),
        ("cookie", &["sid=a,b"], &["sid=a,b,"], false),
        ("cookie", &["sid=a, b=1"], &["sid=a", "b=1"], false),
        ("cookie", &["sid=a; b=1"], &["sid=a", "b=1"], true),
        ("cookie", &["sid"], &["sid="], false),
        ("Cookie", &["sid=a"], &["sid=b"], false),
        ("accept, cookie", &["sid=a"], &["sid=b"], false),
        ("authorization", &["Bearer a"], &["Bearer a"], true),
        ("authorization", &["Bearer a"], &[], false),
        ("authorization", &["Bearer a"], &["Bearer b"], false),
        ("authorization", &["Bearer a"], &["bearer a"], false),
        ("authorization", &["Bearer a,b"], &["Bearer a, b"], false),
        ("authorization", &["Bearer a,b"], &["Bearer a,,b"], false),
        ("authorization", &["Bearer a, b"], &["Bearer a", "b"], false),
        ("x-region", &["eu"], &["eu,"], false),
        ("x-region", &["eu"], &[",eu"], false),
        ("x-region", &["a,b"], &["a,,b"], false),
        ("x-region", &["\"a, b\""], &["\"a,b\""], false),
        ("x-region", &[""], &[","], false),
        ("x-region", &["a,b"], &["a , b"], true),
        ("x-region", &["a, b"], &["a", "b"], true),
    ] {
        let field = name.rsplit(", ").next().unwrap();
        let fields = |lines: &[&'static str]| lines.iter().map(|l| (field, *l)).collect::<Vec<_>>();
        let (one, other) = (fields(one), fields(other));
        for protocol in [Protocol::Http1, Protocol::Http2] {
            let got = is_shared(Policy::new(), protocol, name, &one, &other).await;
            assert_eq!(got, want, "{one:?} and {other:?} by {protocol:?}");
            let reverse = is_shared(Policy::new(), protocol, name, &other, &one).await;
            assert_eq!(reverse, want, "{other:?} and {one:?} by {protocol:?}");
        }
    }
}

#[actix_web::test]
async fn vary_on_cookie_excludes_ignored_cookies() {
    for (one, other, want) in [
        (&["_ga=1; sid=a"][..], &["sid=a"][..], true),
        (&["_ga=1; sid=a"], &["sid=a; _ga=2"], true),
        (&["_ga=1", "sid=a"], &["sid=a"], true),
        (&["_ga=1"], &[], true),
        (&["_ga=1; sid=a"], &["_ga=1; sid=b"], false),
        (&["_ga=1; sid=a"], &["_ga=1"], false),
        (&["_ga=1; sid=a,b"], &["sid=a, b"], false),
        // Cookie parsers of handlers may fail on these and then find no cookie at all.
        (&["_ga; sid=a"], &["sid=a"], false),
        (&["_ga=\u{fc}; sid=a"], &["sid=a"], false),
    ] {
        let fields =
            |lines: &[&'static str]| lines.iter().map(|line| ("cookie", *line)).collect::<Vec<_>>();
        let (one, other) = (fields(one), fields(other));
        let policy = || Policy::new().ignore_cookies(["_ga"]);
        for protocol in [Protocol::Http1, Protocol::Http2] {
            let got = is_shared(policy(), protocol, "cookie", &one, &other).await;
            assert_eq!(got, want, "{one:?} and {other:?} by {protocol:?}");
        }
    }
}

#[actix_web::test]
async fn vary_on_cookie_stores_one_variant_per_value() {
    for lifetime in ["", "max-age=60"] {
        let (cache, _) = cache();
        let reply = Reply::new(200, &[("vary", "cookie"), ("cache-control", lifetime)]);
        let (server, runs) = serve_replies(2, &cache, &[reply]);
        let client = Client::new(server.addr, Protocol::Http1);
        let requests: [Fields<'_>; 3] = [&[("cookie", "sid=alice")], &[("cookie", "sid=bob")], &[]];
        for fields in requests {
            assert!(client.get_with("/0", fields).await.is_stored(), "{fields:?} {lifetime}");
        }
        for (n, fields) in requests.into_iter().enumerate() {
            let hit = client.get_with("/0", fields).await;
            assert!(hit.is_hit(), "{fields:?} {lifetime}: {}", hit.cache_status());
            assert!(hit.text().starts_with(&format!("run {} ", n + 1)), "{fields:?} {lifetime}");
        }
        assert_eq!(runs.get(), 3);
    }
}

/// Returns the members of the `Vary` field, in lower case and sorted.
fn vary(answer: &Answer) -> Vec<String> {
    let field = answer.field("vary").unwrap_or_default().to_lowercase();
    let mut names: Vec<_> =
        field.split(',').map(|name| name.trim().to_owned()).filter(|n| !n.is_empty()).collect();
    names.sort();
    names
}

/// A downstream cache that does not know these fields would reuse the response for other values.
#[actix_web::test]
async fn stored_response_lists_cookie_and_key_fields_in_vary() {
    let cc = |value| ("cache-control", value);
    let plain = Policy::new;
    let cases: [(&str, Policy, u16, Fields<'_>, &[&str]); 17] = [
        ("default lifetime", plain(), 200, &[], &["cookie"]),
        ("explicit lifetime", plain(), 200, &[cc("max-age=60")], &["cookie"]),
        ("redirect", plain(), 301, &[("location", "/")], &["cookie"]),
        ("404", plain(), 404, &[cc("max-age=60")], &["cookie"]),
        ("must-revalidate", plain(), 200, &[cc("max-age=60, must-revalidate")], &["cookie"]),
        ("other selecting field", plain(), 200, &[("vary", "accept")], &["accept", "cookie"]),
        (
            "cookie named already",
            plain(),
            200,
            &[("vary", "COOKIE, accept")],
            &["accept", "cookie"],
        ),
        ("some cookies ignored", plain().ignore_cookies(["_ga*"]), 200, &[], &["cookie"]),
        ("a cookie in the key", plain().vary_cookie("lang"), 200, &[], &["cookie"]),
        ("public", plain(), 200, &[cc("public")], &[]),
        ("s-maxage", plain(), 200, &[cc("s-maxage=60")], &[]),
        ("all cookies ignored", plain().ignore_cookies(["*"]), 200, &[cc("max-age=60")], &[]),
        // Fields in the cache key select the response as well.
        ("all cookies in the key", plain().key_header("cookie"), 200, &[], &["cookie"]),
        (
            "all cookies in the key, public",
            plain().key_header("cookie"),
            200,
            &[cc("public")],
            &["cookie"],
        ),
        (
            "a cookie in the key, public, others ignored",
            plain().vary_cookie("lang").ignore_cookies(["*"]),
            200,
            &[cc("public")],
            &["cookie"],
        ),
        (
            "fields in the key",
            plain().key_header("Authorization").key_header("x-tenant"),
            200,
            &[],
            &["authorization", "cookie", "x-tenant"],
        ),
        (
            "field in the key, named already",
            plain().key_header("x-tenant"),
            200,
            &[("vary", "X-Tenant"), cc("public")],
            &["x-tenant"],
        ),
    ];
    for (case, policy, status, fields, want) in cases {
        let cache = builder().0.policy(policy).build().unwrap();
        let fields = [fields, &[("etag", "\"a\"")]].concat();
        let (server, _) = serve_replies(1, &cache, &[Reply::new(status, &fields)]);
        let client = Client::new(server.addr, Protocol::Http1);
        let miss = client.get("/0").await;
        assert!(miss.is_stored(), "{case}");
        assert_eq!(vary(&miss), want, "{case}");
        let hit = client.get("/0").await;
        assert!(hit.is_hit() && hit.field("vary") == miss.field("vary"), "{case}");
        assert_eq!(vary(&client.head("/0").await), want, "{case}");
        let not_modified = client.get_with("/0", &[("if-none-match", "\"a\"")]).await;
        assert!(not_modified.is_hit() && (not_modified.status == 304) == (status == 200), "{case}");
        assert_eq!(vary(&not_modified), want, "{case}: on 304 as well");
    }
}

#[actix_web::test]
async fn unstored_response_gets_no_lifetime_or_vary() {
    let (cache, _) = cache();
    let replies = ["", "private", "no-store", "max-age=0"]
        .map(|cc| Reply::new(200, &[("cache-control", cc)]));
    let (server, _) = serve_replies(1, &cache, &replies);
    let client = Client::new(server.addr, Protocol::Http1);
    for (index, reply) in replies.iter().enumerate() {
        let path = format!("/{index}");
        let answer = client.get_with(&path, &[("cookie", "sid=alice")]).await;
        let directives = answer.field("cache-control").unwrap_or_default();
        assert_eq!(directives, reply.fields[0].1, "no lifetime is added");
        assert_eq!((answer.field("vary"), answer.field("expires")), (None, None), "{directives}");
    }
}

/// Returns whether a private cache that stored `answer` reuses it for a request with other fields.
fn browser_reuses(answer: &Answer, fields: Fields<'_>) -> bool {
    let request = |fields: Fields<'_>| {
        let request = Request::builder().method(Method::GET).uri("http://a/0");
        fields.iter().fold(request, |request, (name, value)| request.header(*name, *value))
    };
    let mut response = Response::new(());
    *response.status_mut() = answer.status;
    *response.headers_mut() = answer.headers.clone();
    let options = CacheOptions { shared: false, ..CacheOptions::default() };
    let now = UNIX_EPOCH + secs(START);
    let first = request(&[]).body(()).unwrap();
    let stored = CachePolicy::new_options(&first, &response, now, options);
    let again = request(fields).body(()).unwrap();
    stored.before_request(&again, now + secs(1)).satisfies_without_revalidation()
}

/// The cache of a browser must not show the anonymous response to a user who logged in.
#[actix_web::test]
async fn browser_does_not_reuse_anonymous_response_after_login() {
    for (protocol, workers) in SETUPS {
        let keyed = Policy::new().key_header("authorization");
        let caches = [cache().0, builder().0.policy(keyed).build().unwrap()];
        for (n, cache) in caches.iter().enumerate() {
            let (server, _) = serve_replies(workers, cache, &[Reply::new(200, &[])]);
            let client = Client::new(server.addr, protocol);
            for answer in [client.get("/0").await, client.get("/0").await] {
                assert!(browser_reuses(&answer, &[]), "an unchanged request reuses the response");
                assert!(!browser_reuses(&answer, &[("cookie", "sid=alice")]), "{protocol:?}");
                let authorized = browser_reuses(&answer, &[("authorization", "Bearer alice")]);
                assert!(n == 0 || !authorized, "Authorization is in the key: {protocol:?}");
            }
        }
    }
}
