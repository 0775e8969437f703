//! `Vary`: what is selected by cookies and credentials is compared exactly, and whoever else keeps
//! a copy is told what it hung on.

use std::time::UNIX_EPOCH;

use actix_web_cache::Policy;
use http_cache_semantics::{CacheOptions, CachePolicy};
use hyper::{Method, Request, Response};

use crate::support::{
    Answer, Client, Protocol, Reply, SETUPS, START, builder, cache, secs, serve_replies,
};

type Fields<'a> = &'a [(&'a str, &'a str)];

/// Whether two requests are the same to a response that says it was selected by `name`.
async fn same(
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

#[actix_web::test]
async fn what_is_selected_by_a_field_is_for_those_who_send_the_same() {
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
            let got = same(Policy::new(), protocol, name, &one, &other).await;
            assert_eq!(got, want, "{one:?} and {other:?} by {protocol:?}");
            let back = same(Policy::new(), protocol, name, &other, &one).await;
            assert_eq!(back, want, "{other:?} and {one:?} by {protocol:?}");
        }
    }
}

#[actix_web::test]
async fn ignored_cookies_do_not_count_for_what_is_selected_by_cookies() {
    for (one, other, want) in [
        (&["_ga=1; sid=a"][..], &["sid=a"][..], true),
        (&["_ga=1; sid=a"], &["sid=a; _ga=2"], true),
        (&["_ga=1", "sid=a"], &["sid=a"], true),
        (&["_ga=1"], &[], true),
        (&["_ga=1; sid=a"], &["_ga=1; sid=b"], false),
        (&["_ga=1; sid=a"], &["_ga=1"], false),
        (&["_ga=1; sid=a,b"], &["sid=a, b"], false),
        // Parsers may stumble over these, and then find no cookie at all.
        (&["_ga; sid=a"], &["sid=a"], false),
        (&["_ga=\u{fc}; sid=a"], &["sid=a"], false),
    ] {
        let fields =
            |lines: &[&'static str]| lines.iter().map(|line| ("cookie", *line)).collect::<Vec<_>>();
        let (one, other) = (fields(one), fields(other));
        let policy = || Policy::new().ignore_cookies(["_ga"]);
        for protocol in [Protocol::Http1, Protocol::Http2] {
            let got = same(policy(), protocol, "cookie", &one, &other).await;
            assert_eq!(got, want, "{one:?} and {other:?} by {protocol:?}");
        }
    }
}

#[actix_web::test]
async fn a_page_selected_by_cookies_is_stored_for_those_who_send_the_same() {
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

/// The members of a `Vary` field, in lower case and order.
fn vary(answer: &Answer) -> Vec<String> {
    let field = answer.field("vary").unwrap_or_default().to_lowercase();
    let mut names: Vec<_> =
        field.split(',').map(|name| name.trim().to_owned()).filter(|n| !n.is_empty()).collect();
    names.sort();
    names
}

#[actix_web::test]
async fn what_hung_on_the_absence_of_cookies_says_so_to_everybody() {
    let cc = |value| ("cache-control", value);
    let plain = Policy::new;
    let cases: [(&str, Policy, u16, Fields<'_>, &[&str]); 17] = [
        ("the default lifetime", plain(), 200, &[], &["cookie"]),
        ("a stated lifetime", plain(), 200, &[cc("max-age=60")], &["cookie"]),
        ("a redirect", plain(), 301, &[("location", "/")], &["cookie"]),
        ("a 404", plain(), 404, &[cc("max-age=60")], &["cookie"]),
        ("must-revalidate", plain(), 200, &[cc("max-age=60, must-revalidate")], &["cookie"]),
        ("beside another", plain(), 200, &[("vary", "accept")], &["accept", "cookie"]),
        ("said already", plain(), 200, &[("vary", "COOKIE, accept")], &["accept", "cookie"]),
        ("some ignored", plain().ignore_cookies(["_ga*"]), 200, &[], &["cookie"]),
        ("some in the key", plain().vary_cookie("lang"), 200, &[], &["cookie"]),
        ("public", plain(), 200, &[cc("public")], &[]),
        ("a shared lifetime", plain(), 200, &[cc("s-maxage=60")], &[]),
        ("all ignored", plain().ignore_cookies(["*"]), 200, &[cc("max-age=60")], &[]),
        // What the key is made of is what the page is made of.
        ("all in the key", plain().key_header("cookie"), 200, &[], &["cookie"]),
        ("all in the key, public", plain().key_header("cookie"), 200, &[cc("public")], &["cookie"]),
        (
            "some in the key, public, others ignored",
            plain().vary_cookie("lang").ignore_cookies(["*"]),
            200,
            &[cc("public")],
            &["cookie"],
        ),
        (
            "a field in the key",
            plain().key_header("Authorization").key_header("x-tenant"),
            200,
            &[],
            &["authorization", "cookie", "x-tenant"],
        ),
        (
            "a field in the key, said already",
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
        let known = client.get_with("/0", &[("if-none-match", "\"a\"")]).await;
        assert!(known.is_hit() && (known.status == 304) == (status == 200), "{case}");
        assert_eq!(vary(&known), want, "{case}: told with 304 too");
    }
}

#[actix_web::test]
async fn what_is_not_stored_is_left_as_it_is() {
    let (cache, _) = cache();
    let replies = ["", "private", "no-store", "max-age=0"]
        .map(|cc| Reply::new(200, &[("cache-control", cc)]));
    let (server, _) = serve_replies(1, &cache, &replies);
    let client = Client::new(server.addr, Protocol::Http1);
    for (index, reply) in replies.iter().enumerate() {
        let path = format!("/{index}");
        let answer = client.get_with(&path, &[("cookie", "sid=alice")]).await;
        let kept = answer.field("cache-control").unwrap_or_default();
        assert_eq!(kept, reply.fields[0].1, "no lifetime is added");
        assert_eq!((answer.field("vary"), answer.field("expires")), (None, None), "{kept}");
    }
}

/// What a browser that got `answer` does when it is to ask again, with other fields.
fn browser_reuses(answer: &Answer, then: Fields<'_>) -> bool {
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
    let kept = CachePolicy::new_options(&first, &response, now, options);
    let again = request(then).body(()).unwrap();
    kept.before_request(&again, now + secs(1)).satisfies_without_revalidation()
}

#[actix_web::test]
async fn a_browser_that_logs_in_asks_anew() {
    for (protocol, workers) in SETUPS {
        let keyed = Policy::new().key_header("authorization");
        let caches = [cache().0, builder().0.policy(keyed).build().unwrap()];
        for (n, cache) in caches.iter().enumerate() {
            let (server, _) = serve_replies(workers, cache, &[Reply::new(200, &[])]);
            let client = Client::new(server.addr, protocol);
            for answer in [client.get("/0").await, client.get("/0").await] {
                assert!(browser_reuses(&answer, &[]), "the same reader keeps what it has");
                assert!(!browser_reuses(&answer, &[("cookie", "sid=alice")]), "{protocol:?}");
                let authorised = browser_reuses(&answer, &[("authorization", "Bearer alice")]);
                assert!(n == 0 || !authorised, "keyed by it: {protocol:?}");
            }
        }
    }
}
