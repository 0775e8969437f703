//! Requests with cookies, `Authorization` or API keys: when their responses are stored, and when a
//! stored response answers them (RFC 9111 section 3.5).

use actix_web::{App, HttpRequest, web};
use actix_web_cache::{CacheOptions, Policy, Rule};
use hyper::Method;

use crate::support::{
    Answer, Client, Counter, Protocol, Reply, SETUPS, builder, cache, identity_fields, secs, serve,
    serve_replies,
};

type Fields<'a> = &'a [(&'a str, &'a str)];

const ALICE_TOKEN: (&str, &str) = ("authorization", "Bearer alice");
const BOB_TOKEN: (&str, &str) = ("authorization", "Bearer bob");
const ALICE_COOKIE: (&str, &str) = ("cookie", "sid=alice");
const BOB_COOKIE: (&str, &str) = ("cookie", "sid=bob");

/// Returns whether `serve_replies` made the response for `requester`.
fn is_for(answer: &Answer, requester: &str) -> bool {
    answer.text().ends_with(&format!(" for {requester}"))
}

/// RFC 9111 section 3.5 covers `Authorization` only. For cookies and API keys the cache has rules
/// of its own.
#[actix_web::test]
async fn response_to_credentials_is_stored_only_when_marked_shared() {
    let cc = |value| ("cache-control", value);
    let (auth, cookie, credentials) = ("authorization", "cookie", "credentials");
    let cases: &[(Fields<'_>, Fields<'_>, Option<&str>)] = &[
        (&[ALICE_TOKEN], &[], Some(auth)),
        (&[ALICE_TOKEN], &[cc("max-age=60")], Some(auth)),
        (&[ALICE_TOKEN], &[cc("max-age=60, proxy-revalidate")], Some(auth)),
        (&[ALICE_TOKEN], &[cc("max-age=60, ext=\"public\"")], Some(auth)),
        (&[ALICE_TOKEN], &[cc("max-age=60"), ("vary", "authorization")], Some(auth)),
        (&[("authorization", "")], &[cc("max-age=60")], Some(auth)),
        (&[ALICE_TOKEN], &[cc("public")], None),
        (&[ALICE_TOKEN], &[cc("max-age=60"), cc("Public")], None),
        (&[ALICE_TOKEN], &[cc("s-maxage=60")], None),
        (&[ALICE_TOKEN], &[cc("max-age=60, must-revalidate")], None),
        (&[ALICE_TOKEN], &[cc("public, private")], Some("private")),
        (&[ALICE_TOKEN], &[cc("public"), ("set-cookie", "sid=alice")], Some("set-cookie")),
        (&[ALICE_COOKIE], &[], Some(cookie)),
        (&[ALICE_COOKIE], &[cc("max-age=60")], Some(cookie)),
        (&[ALICE_COOKIE], &[cc("max-age=60, must-revalidate")], Some(cookie)),
        (&[("cookie", "sid")], &[cc("max-age=60")], Some(cookie)),
        (&[("cookie", ""), ALICE_COOKIE], &[cc("max-age=60")], Some(cookie)),
        (&[ALICE_COOKIE], &[cc("public")], None),
        (&[ALICE_COOKIE], &[cc("s-maxage=60")], None),
        (&[("cookie", " ; ")], &[cc("max-age=60")], None),
        (&[ALICE_COOKIE, ALICE_TOKEN], &[cc("max-age=60, must-revalidate")], Some(cookie)),
        (&[ALICE_COOKIE, ALICE_TOKEN], &[cc("max-age=60"), ("vary", "cookie")], Some(auth)),
        (&[ALICE_COOKIE, ALICE_TOKEN], &[cc("s-maxage=60")], None),
        (&[("x-api-key", "alice")], &[], Some(credentials)),
        (&[("api-key", "alice")], &[], Some(credentials)),
        (&[("x-auth-token", "alice")], &[], Some(credentials)),
        (&[("X-Access-Token", "alice")], &[], Some(credentials)),
        (&[("proxy-authorization", "Basic alice")], &[], Some(credentials)),
        (&[("x-api-key", "alice")], &[cc("public")], None),
        (&[("x-api-key", "alice")], &[cc("max-age=60")], None),
        (&[("x-session", "alice")], &[], None),
        (&[], &[], None),
    ];
    for (protocol, workers) in SETUPS {
        let (cache, _) = cache();
        let replies: Vec<_> = cases.iter().map(|(_, fields, _)| Reply::new(200, fields)).collect();
        let (server, runs) = serve_replies(workers, &cache, &replies);
        let client = Client::new(server.addr, protocol);
        for (index, (request, response, refusal)) in cases.iter().enumerate() {
            let path = format!("/{index}");
            let case = format!("{request:?} answered by {response:?} over {protocol:?}");
            let first = client.get_with(&path, request).await;
            let want = match refusal {
                None => "fwd=uri-miss; stored".to_owned(),
                Some(refusal) => format!("fwd=uri-miss; detail={refusal}"),
            };
            assert_eq!(first.cache_status(), want, "{case}");
            let before = runs.get();
            let anonymous = client.get(&path).await;
            assert_eq!(anonymous.is_hit(), refusal.is_none(), "{case}");
            assert_eq!(runs.get() - before, usize::from(refusal.is_some()), "{case}");
            if refusal.is_some() {
                assert!(is_for(&anonymous, "///"), "{case}: {}", anonymous.text());
            } else {
                // A response that is reported as stored also answers such requests.
                assert!(client.get_with(&path, request).await.is_hit(), "{case}");
            }
        }
    }
}

#[actix_web::test]
async fn response_with_default_lifetime_is_not_shared_between_requesters() {
    for (protocol, workers) in SETUPS {
        let (cache, _) = cache();
        let (server, runs) = serve_replies(workers, &cache, &[Reply::new(200, &[])]);
        let client = Client::new(server.addr, protocol);
        for (n, (fields, name)) in [
            (&[ALICE_COOKIE][..], "sid=alice///"),
            (&[BOB_COOKIE], "sid=bob///"),
            (&[ALICE_TOKEN], "/Bearer alice//"),
            (&[BOB_TOKEN], "/Bearer bob//"),
            (&[ALICE_COOKIE, BOB_TOKEN], "sid=alice/Bearer bob//"),
            (&[("x-api-key", "alice")], "//alice/"),
            (&[], "///"),
        ]
        .into_iter()
        .enumerate()
        {
            let answer = client.get_with("/0", fields).await;
            assert!(is_for(&answer, name), "{fields:?} by {protocol:?}: {}", answer.text());
            assert_eq!(runs.get(), n + 1);
        }
    }
}

/// A lifetime from the policy or a rule is not explicit, so the entry answers no request with
/// credentials.
#[actix_web::test]
async fn entry_without_explicit_lifetime_does_not_answer_credentials() {
    let policies = [
        ("default policy", builder().0),
        ("default_ttl", builder().0.policy(Policy::new().default_ttl(secs(600)))),
        ("status_ttl", builder().0.policy(Policy::new().explicit_only().status_ttl(200, secs(60)))),
        (
            "ttl of a rule",
            builder().0.rule(Rule::any().with(|policy| policy.default_ttl(secs(60)))),
        ),
        (
            "override_ttl of a rule",
            builder().0.rule(Rule::any().with(|policy| policy.override_ttl(secs(60)))),
        ),
    ];
    for (case, builder) in policies {
        let cache = builder.build().unwrap();
        let (server, runs) = serve_replies(2, &cache, &[Reply::new(200, &[])]);
        let client = Client::new(server.addr, Protocol::Http1);
        assert!(client.get("/0").await.is_stored(), "{case}");
        for (n, (fields, name)) in [
            (&[ALICE_COOKIE][..], "sid=alice///"),
            (&[ALICE_TOKEN], "/Bearer alice//"),
            (&[("x-api-key", "alice")], "//alice/"),
        ]
        .into_iter()
        .enumerate()
        {
            for method in [Method::GET, Method::HEAD] {
                let answer = client.send(method.clone(), "/0", fields).await;
                let status = answer.cache_status();
                assert!(status.starts_with("fwd=request; detail="), "{case} {fields:?}: {status}");
                assert!(method == Method::HEAD || is_for(&answer, name), "{case} {fields:?}");
            }
            assert_eq!(runs.get(), 1 + 2 * (n + 1), "{case}");
            assert!(client.get("/0").await.is_hit(), "the anonymous entry is kept: {case}");
        }
    }
}

#[actix_web::test]
async fn entry_with_handler_lifetime_does_not_answer_credentials() {
    let (cache, _) = cache();
    let server = serve(1, move || {
        let page = |request: HttpRequest, cache: CacheOptions| async move {
            cache.ttl(secs(60));
            identity_fields(&request)
        };
        App::new().wrap(cache.clone()).route("/", web::get().to(page))
    });
    let client = Client::new(server.addr, Protocol::Http1);
    assert!(client.get("/").await.is_stored());
    for (fields, text) in [([ALICE_COOKIE], "sid=alice///"), ([ALICE_TOKEN], "/Bearer alice//")] {
        assert_eq!(client.get_with("/", &fields).await.text(), text);
    }
    assert!(client.get("/").await.is_hit());
}

/// RFC 9111 lets a shared cache answer any request with an entry that was stored for a request
/// without `Authorization`. The cache does so when the response states its lifetime.
#[actix_web::test]
async fn anonymous_entry_with_explicit_lifetime_answers_every_requester() {
    for (protocol, workers) in SETUPS {
        let (cache, _) = cache();
        let stated = Reply::new(200, &[("cache-control", "max-age=60")]);
        let (server, runs) = serve_replies(workers, &cache, &[stated]);
        let client = Client::new(server.addr, protocol);
        assert!(client.get("/0").await.is_stored());
        for fields in [&[ALICE_COOKIE][..], &[ALICE_TOKEN], &[("x-api-key", "alice")], &[]] {
            assert!(client.get_with("/0", fields).await.is_hit(), "{fields:?} by {protocol:?}");
            assert!(client.send(Method::HEAD, "/0", fields).await.is_hit(), "{fields:?}");
        }
        assert_eq!(runs.get(), 1);
    }
}

/// `override_ttl` sets the lifetime only. The permission to share must come from the response.
#[actix_web::test]
async fn override_ttl_does_not_make_personal_response_storable() {
    let cache =
        builder().0.rule(Rule::any().with(|policy| policy.override_ttl(secs(60)))).build().unwrap();
    let cases = [
        ("", false),
        ("max-age=60", false),
        ("s-maxage=0, max-age=0", false),
        ("s-maxage=soon", false),
        ("s-maxage=1", true),
        ("public", true),
    ];
    let replies: Vec<_> =
        cases.iter().map(|(cc, _)| Reply::new(200, &[("cache-control", cc)])).collect();
    let (server, _) = serve_replies(1, &cache, &replies);
    let client = Client::new(server.addr, Protocol::Http1);
    for (index, (cc, stored)) in cases.into_iter().enumerate() {
        let path = format!("/{index}");
        for fields in [[ALICE_TOKEN], [ALICE_COOKIE]] {
            let answer = client.get_with(&path, &fields).await;
            assert_eq!(answer.is_stored() || answer.is_hit(), stored, "{cc} {fields:?}");
        }
        assert_eq!(client.get(&path).await.is_hit(), stored, "{cc}");
    }
}

#[actix_web::test]
async fn ignored_cookies_do_not_prevent_caching() {
    let cases: &[(&[&str], &str, bool)] = &[
        (&["_ga"], "_ga=1", true),
        (&["_ga"], "_ga=1; _ga=2", true),
        (&["_ga*"], "_ga=1; _ga_X1=2", true),
        (&["_ga", "theme"], "theme=dark;_ga=1", true),
        (&["*"], "sid=alice; _ga=1", true),
        (&["_ga"], "_ga=1; sid=alice", false),
        (&["_ga"], "sid=_ga", false),
        (&["_ga"], "_GA=1", false),
        (&["_ga"], "_ga_X1=1", false),
        (&["_ga*"], "x_ga=1", false),
        (&["_ga"], "_ga=1, sid=alice", true),
        (&["_ga"], "\"_ga\"=1", false),
        (&["_ga"], "_ga =1", true),
    ];
    for (ignored, cookies, shared) in cases {
        let cache = builder()
            .0
            .policy(Policy::new().ignore_cookies(ignored.iter().copied()))
            .build()
            .unwrap();
        let (server, runs) = serve_replies(1, &cache, &[Reply::new(200, &[])]);
        let client = Client::new(server.addr, Protocol::Http1);
        let fields = [("cookie", *cookies)];
        let case = format!("{ignored:?} and {cookies}");
        assert_eq!(client.get_with("/0", &fields).await.is_stored(), *shared, "{case}");
        assert!(client.get("/0").await.status.is_success());
        assert_eq!(client.get_with("/0", &fields).await.is_hit(), *shared, "{case}");
        assert_eq!(runs.get(), if *shared { 1 } else { 3 }, "{case}");
    }
}

#[actix_web::test]
async fn key_cookie_separates_entries_by_value() {
    for (protocol, workers) in SETUPS {
        let policy = Policy::new().vary_cookie("theme").ignore_cookies(["_ga"]);
        let cache = builder().0.policy(policy).build().unwrap();
        let (server, runs) = serve_replies(workers, &cache, &[Reply::new(200, &[])]);
        let client = Client::new(server.addr, protocol);
        let requests: [Fields<'_>; 4] = [
            &[("cookie", "theme=dark")],
            &[("cookie", "theme=light; _ga=1")],
            &[("cookie", "theme=")],
            &[],
        ];
        for fields in requests {
            assert!(client.get_with("/0", fields).await.is_stored(), "{fields:?} {protocol:?}");
        }
        assert_eq!(runs.get(), 4);
        for (n, fields) in requests.into_iter().enumerate() {
            let hit = client.get_with("/0", fields).await;
            assert!(hit.is_hit() && hit.text().starts_with(&format!("run {} ", n + 1)), "{n}");
        }
        // A cookie outside of the key still makes the request personal.
        let personal = client.get_with("/0", &[("cookie", "theme=dark; sid=alice")]).await;
        assert_eq!(personal.cache_status(), "fwd=request; detail=cookie");
        assert!(client.get_with("/0", requests[0]).await.text().starts_with("run 1 "));
    }
}

#[actix_web::test]
async fn key_credential_separates_entries_by_value() {
    for name in ["authorization", "cookie", "x-api-key"] {
        let cache = builder().0.policy(Policy::new().key_header(name)).build().unwrap();
        let (server, runs) = serve_replies(2, &cache, &[Reply::new(200, &[])]);
        let client = Client::new(server.addr, Protocol::Http2);
        let requests: [&[(&str, &str)]; 5] = [
            &[(name, "a=alice")],
            &[(name, "a=bob")],
            &[(name, "A=alice")],
            &[(name, "a=alice"), (name, "a=bob")],
            &[],
        ];
        for fields in requests {
            assert!(client.get_with("/0", fields).await.is_stored(), "{fields:?}");
        }
        for (n, fields) in requests.into_iter().enumerate() {
            let hit = client.get_with("/0", fields).await;
            assert!(hit.is_hit(), "{fields:?}");
            assert!(hit.text().starts_with(&format!("run {} ", n + 1)), "{fields:?}");
        }
        assert_eq!(runs.get(), 5, "{name}");
        // A credential outside of the key still makes the request personal.
        let other = if name == "cookie" { ALICE_TOKEN } else { ALICE_COOKIE };
        let personal = client.get_with("/0", &[(name, "a=alice"), other]).await;
        assert!(personal.cache_status().starts_with("fwd=request; detail="), "{name}");
    }
}

#[actix_web::test]
async fn policy_adds_credential_fields() {
    let plain = cache().0;
    let extended = builder().0.policy(Policy::new().credentials(["X-Session"])).build().unwrap();
    for (cache, is_credential) in [(plain, false), (extended, true)] {
        let (server, _) = serve_replies(1, &cache, &[Reply::new(200, &[])]);
        let client = Client::new(server.addr, Protocol::Http1);
        let fields = [("x-session", "alice")];
        assert_eq!(client.get_with("/0", &fields).await.is_stored(), !is_credential);
        assert_eq!(client.get("/0").await.is_stored(), is_credential);
        assert_eq!(client.get_with("/0", &fields).await.is_hit(), !is_credential);
        let built_in = client.get_with("/0", &[("x-api-key", "alice")]).await;
        assert_eq!(built_in.cache_status(), "fwd=request; detail=credentials");
    }
}

#[actix_web::test]
async fn concurrent_requests_with_cookies_each_run_the_handler() {
    for (protocol, workers) in SETUPS {
        let (cache, _) = cache();
        let runs = Counter::default();
        let counter = runs.clone();
        let server = serve(workers, move || {
            let runs = counter.clone();
            let page = move |request: HttpRequest| {
                runs.count();
                async move { identity_fields(&request) }
            };
            App::new().wrap(cache.clone()).route("/", web::get().to(page))
        });
        let client = Client::new(server.addr, protocol);
        let requests = (0..40).map(|n| {
            let client = client.clone();
            tokio::spawn(async move {
                let cookie = format!("sid={n}");
                let answer = client.get_with("/", &[("cookie", &cookie)]).await;
                assert_eq!(answer.text(), format!("{cookie}///"));
            })
        });
        for request in requests.collect::<Vec<_>>() {
            request.await.unwrap();
        }
        assert_eq!(runs.get(), 40, "{protocol:?}");
    }
}
