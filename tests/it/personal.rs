//! Requests that could mean somebody: when their answers are stored, and when they are answered
//! from the store.

use actix_web::{App, HttpRequest, web};
use actix_web_cache::{CacheOptions, Policy, Rule};
use hyper::Method;

use crate::support::{
    Answer, Client, Counter, Protocol, Reply, SETUPS, builder, cache, secs, serve, serve_replies,
    who,
};

type Fields<'a> = &'a [(&'a str, &'a str)];

const ALICE: (&str, &str) = ("authorization", "Bearer alice");
const BOB: (&str, &str) = ("authorization", "Bearer bob");
const ALICES: (&str, &str) = ("cookie", "sid=alice");
const BOBS: (&str, &str) = ("cookie", "sid=bob");

/// What `serve_replies` says of who asked.
fn is_for(answer: &Answer, who: &str) -> bool {
    answer.text().ends_with(&format!(" for {who}"))
}

#[actix_web::test]
async fn what_was_made_for_somebody_is_stored_only_if_it_says_that_others_may_have_it() {
    let cc = |value| ("cache-control", value);
    let (auth, cookie, key) = ("authorization", "cookie", "credentials");
    let cases: &[(Fields<'_>, Fields<'_>, Option<&str>)] = &[
        (&[ALICE], &[], Some(auth)),
        (&[ALICE], &[cc("max-age=60")], Some(auth)),
        (&[ALICE], &[cc("max-age=60, proxy-revalidate")], Some(auth)),
        (&[ALICE], &[cc("max-age=60, ext=\"public\"")], Some(auth)),
        (&[ALICE], &[cc("max-age=60"), ("vary", "authorization")], Some(auth)),
        (&[("authorization", "")], &[cc("max-age=60")], Some(auth)),
        (&[ALICE], &[cc("public")], None),
        (&[ALICE], &[cc("max-age=60"), cc("Public")], None),
        (&[ALICE], &[cc("s-maxage=60")], None),
        (&[ALICE], &[cc("max-age=60, must-revalidate")], None),
        (&[ALICE], &[cc("public, private")], Some("private")),
        (&[ALICE], &[cc("public"), ("set-cookie", "sid=alice")], Some("set-cookie")),
        (&[ALICES], &[], Some(cookie)),
        (&[ALICES], &[cc("max-age=60")], Some(cookie)),
        (&[ALICES], &[cc("max-age=60, must-revalidate")], Some(cookie)),
        (&[("cookie", "sid")], &[cc("max-age=60")], Some(cookie)),
        (&[("cookie", ""), ALICES], &[cc("max-age=60")], Some(cookie)),
        (&[ALICES], &[cc("public")], None),
        (&[ALICES], &[cc("s-maxage=60")], None),
        (&[("cookie", " ; ")], &[cc("max-age=60")], None),
        (&[ALICES, ALICE], &[cc("max-age=60, must-revalidate")], Some(cookie)),
        (&[ALICES, ALICE], &[cc("max-age=60"), ("vary", "cookie")], Some(auth)),
        (&[ALICES, ALICE], &[cc("s-maxage=60")], None),
        (&[("x-api-key", "alice")], &[], Some(key)),
        (&[("api-key", "alice")], &[], Some(key)),
        (&[("x-auth-token", "alice")], &[], Some(key)),
        (&[("X-Access-Token", "alice")], &[], Some(key)),
        (&[("proxy-authorization", "Basic alice")], &[], Some(key)),
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
            }
        }
    }
}

#[actix_web::test]
async fn nobody_gets_what_was_made_for_another_under_the_default_lifetime() {
    for (protocol, workers) in SETUPS {
        let (cache, _) = cache();
        let (server, runs) = serve_replies(workers, &cache, &[Reply::new(200, &[])]);
        let client = Client::new(server.addr, protocol);
        for (n, (fields, name)) in [
            (&[ALICES][..], "sid=alice///"),
            (&[BOBS], "sid=bob///"),
            (&[ALICE], "/Bearer alice//"),
            (&[BOB], "/Bearer bob//"),
            (&[ALICES, BOB], "sid=alice/Bearer bob//"),
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

/// Lifetimes that the response does not state, however the application gives them.
#[actix_web::test]
async fn what_states_no_lifetime_answers_nobody_in_particular_from_the_store() {
    let policies = [
        ("the default", builder().0),
        ("a policy", builder().0.policy(Policy::new().default_ttl(secs(600)))),
        ("a status", builder().0.policy(Policy::new().explicit_only().status_ttl(200, secs(60)))),
        ("a rule", builder().0.rule(Rule::any().ttl(secs(60)))),
        ("an overriding rule", builder().0.rule(Rule::any().override_ttl(secs(60)))),
    ];
    for (case, builder) in policies {
        let cache = builder.build().unwrap();
        let (server, runs) = serve_replies(2, &cache, &[Reply::new(200, &[])]);
        let client = Client::new(server.addr, Protocol::Http1);
        assert!(client.get("/0").await.is_stored(), "{case}");
        for (n, (fields, name)) in [
            (&[ALICES][..], "sid=alice///"),
            (&[ALICE], "/Bearer alice//"),
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
            assert!(client.get("/0").await.is_hit(), "what anonymous readers have stays: {case}");
        }
    }
}

#[actix_web::test]
async fn a_lifetime_from_a_handler_answers_nobody_in_particular_either() {
    let (cache, _) = cache();
    let server = serve(1, move || {
        let page = |request: HttpRequest, cache: CacheOptions| async move {
            cache.ttl(secs(60));
            who(&request)
        };
        App::new().wrap(cache.clone()).route("/", web::get().to(page))
    });
    let client = Client::new(server.addr, Protocol::Http1);
    assert!(client.get("/").await.is_stored());
    for (fields, text) in [([ALICES], "sid=alice///"), ([ALICE], "/Bearer alice//")] {
        assert_eq!(client.get_with("/", &fields).await.text(), text);
    }
    assert!(client.get("/").await.is_hit());
}

#[actix_web::test]
async fn what_states_its_lifetime_and_was_made_for_nobody_answers_everybody() {
    for (protocol, workers) in SETUPS {
        let (cache, _) = cache();
        let stated = Reply::new(200, &[("cache-control", "max-age=60")]);
        let (server, runs) = serve_replies(workers, &cache, &[stated]);
        let client = Client::new(server.addr, protocol);
        assert!(client.get("/0").await.is_stored());
        for fields in [&[ALICES][..], &[ALICE], &[("x-api-key", "alice")], &[]] {
            assert!(client.get_with("/0", fields).await.is_hit(), "{fields:?} by {protocol:?}");
            assert!(client.send(Method::HEAD, "/0", fields).await.is_hit(), "{fields:?}");
        }
        assert_eq!(runs.get(), 1);
    }
}

#[actix_web::test]
async fn an_overriding_lifetime_does_not_make_a_personal_answer_everybodys() {
    let cache = builder().0.rule(Rule::any().override_ttl(secs(60))).build().unwrap();
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
        for fields in [[ALICE], [ALICES]] {
            assert_eq!(
                client.get_with(&path, &fields).await.is_stored(),
                stored,
                "{cc} {fields:?}"
            );
        }
        assert_eq!(client.get(&path).await.is_hit(), stored, "{cc}");
    }
}

#[actix_web::test]
async fn cookies_that_mean_nothing_do_not_keep_requests_from_the_store() {
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
async fn a_cookie_in_the_key_has_pages_of_its_own_for_each_value() {
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
        // Another cookie beside it is somebody's still.
        let mine = client.get_with("/0", &[("cookie", "theme=dark; sid=alice")]).await;
        assert_eq!(mine.cache_status(), "fwd=request; detail=cookie");
        assert!(client.get_with("/0", requests[0]).await.text().starts_with("run 1 "));
    }
}

#[actix_web::test]
async fn a_credential_in_the_key_has_pages_of_its_own_for_each_value() {
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
        // Keyed by one credential is not keyed by another.
        let other = if name == "cookie" { ALICE } else { ALICES };
        let mine = client.get_with("/0", &[(name, "a=alice"), other]).await;
        assert!(mine.cache_status().starts_with("fwd=request; detail="), "{name}");
    }
}

#[actix_web::test]
async fn the_list_of_credentials_can_be_extended() {
    let plain = cache().0;
    let extended = builder().0.policy(Policy::new().credentials(["X-Session"])).build().unwrap();
    for (cache, personal) in [(plain, false), (extended, true)] {
        let (server, _) = serve_replies(1, &cache, &[Reply::new(200, &[])]);
        let client = Client::new(server.addr, Protocol::Http1);
        let fields = [("x-session", "alice")];
        assert_eq!(client.get_with("/0", &fields).await.is_stored(), !personal);
        assert_eq!(client.get("/0").await.is_stored(), personal);
        assert_eq!(client.get_with("/0", &fields).await.is_hit(), !personal);
        let known = client.get_with("/0", &[("x-api-key", "alice")]).await;
        assert_eq!(known.cache_status(), "fwd=request; detail=credentials");
    }
}

#[actix_web::test]
async fn a_handler_that_counts_is_asked_for_each_of_many_readers_at_once() {
    for (protocol, workers) in SETUPS {
        let (cache, _) = cache();
        let runs = Counter::default();
        let counter = runs.clone();
        let server = serve(workers, move || {
            let runs = counter.clone();
            let page = move |request: HttpRequest| {
                runs.count();
                async move { who(&request) }
            };
            App::new().wrap(cache.clone()).route("/", web::get().to(page))
        });
        let client = Client::new(server.addr, protocol);
        let readers = (0..40).map(|n| {
            let client = client.clone();
            tokio::spawn(async move {
                let cookie = format!("sid={n}");
                let answer = client.get_with("/", &[("cookie", &cookie)]).await;
                assert_eq!(answer.text(), format!("{cookie}///"));
            })
        });
        for reader in readers.collect::<Vec<_>>() {
            reader.await.unwrap();
        }
        assert_eq!(runs.get(), 40, "{protocol:?}");
    }
}
