//! Pages of people: one page for each person, one page for all people that passed a check, and pages
//! that depend on sessions.

use actix_session::{Session, SessionMiddleware, storage::CookieSessionStore};
use actix_web::{App, HttpResponse, cookie::Key, web};
use actix_web_cache::{Cache, CacheBuilder, Policy, Rule};

use crate::support::{
    Client, Counter, Protocol, Reply, SETUPS, Server, builder, serve, serve_replies,
};

const ALICE: (&str, &str) = ("authorization", "Bearer alice");
const BOB: (&str, &str) = ("authorization", "Bearer bob");

/// A policy that keeps the pages of each token.
fn per_token() -> Policy {
    Policy::new().per_user(|request| {
        let token = request.headers().get("authorization")?.to_str().ok()?;
        token.strip_prefix("Bearer ").map(str::to_owned)
    })
}

fn cache_with(policy: Policy) -> Cache {
    builder().0.policy(policy).build().unwrap()
}

#[actix_web::test]
async fn page_of_one_person_is_kept_for_this_person() {
    for (protocol, workers) in SETUPS {
        for (cache_control, want) in [
            (&[][..], "max-age=60, private"),
            (&[("cache-control", "private, max-age=60")], "private, max-age=60"),
            (&[("cache-control", "public, s-maxage=60, max-age=60")], "max-age=60, private"),
        ] {
            let cache = cache_with(per_token());
            let (server, runs) = serve_replies(workers, &cache, &[Reply::new(200, cache_control)]);
            let client = Client::new(server.addr, protocol);
            let case = format!("{cache_control:?} over {protocol:?}");
            for (token, name) in [(ALICE, "Bearer alice"), (BOB, "Bearer bob")] {
                let first = client.get_with("/0", &[token]).await;
                assert_eq!(first.cache_status(), "fwd=uri-miss; stored", "{case}");
                let again = client.get_with("/0", &[token]).await;
                assert!(again.is_hit(), "{case}: {}", again.cache_status());
                for answer in [first, again] {
                    assert!(answer.text().contains(name), "{case}: {}", answer.text());
                    assert_eq!(answer.field("cache-control").unwrap(), want, "{case}");
                }
            }
            assert_eq!(runs.get(), 2, "{case}");
            let visitor = client.get("/0").await;
            assert!(!visitor.is_hit() && !visitor.text().contains("Bearer"), "{case}");
        }
    }
}

#[actix_web::test]
async fn pages_of_one_person_are_purged_together() {
    let cache = cache_with(per_token());
    let (server, _) = serve_replies(1, &cache, &[Reply::new(200, &[]), Reply::new(200, &[])]);
    let client = Client::new(server.addr, Protocol::Http1);
    for path in ["/0", "/1"] {
        for token in [ALICE, BOB] {
            client.get_with(path, &[token]).await;
        }
        client.get(path).await;
    }
    cache.handle().purge_user("alice").await.unwrap();
    for path in ["/0", "/1"] {
        assert!(!client.get_with(path, &[ALICE]).await.is_hit(), "{path}");
        assert!(client.get_with(path, &[BOB]).await.is_hit(), "{path}");
        assert!(client.get(path).await.is_hit(), "{path}");
    }
    // The purge of a URL reaches the pages of all people.
    cache.handle().purge_url(format!("http://{}/0", server.addr)).await.unwrap();
    for token in [ALICE, BOB] {
        assert!(!client.get_with("/0", &[token]).await.is_hit());
        assert!(client.get_with("/1", &[token]).await.is_hit());
    }
}

#[actix_web::test]
async fn refused_responses_are_not_kept_for_a_person_either() {
    let reply = |name, value| Reply::new(200, &[(name, value)]);
    let cache = cache_with(per_token());
    let replies =
        [reply("cache-control", "no-store"), reply("set-cookie", "a=b"), reply("vary", "*")];
    let (server, _) = serve_replies(1, &cache, &replies);
    let client = Client::new(server.addr, Protocol::Http1);
    for (path, want) in [("/0", "no-store"), ("/1", "set-cookie"), ("/2", "vary")] {
        let status = client.get_with(path, &[ALICE]).await.cache_status();
        assert_eq!(status, format!("fwd=uri-miss; detail={want}"));
    }
}

#[actix_web::test]
async fn page_behind_a_check_is_shared_by_all_that_pass_it() {
    for (protocol, workers) in SETUPS {
        let cache = cache_with(Policy::new().share_authorized());
        let public = Reply::new(200, &[("cache-control", "public, max-age=60")]);
        let (server, runs) = serve_replies(workers, &cache, &[Reply::new(200, &[]), public]);
        let client = Client::new(server.addr, protocol);
        assert!(client.get_with("/0", &[ALICE]).await.is_stored());
        let other = client.get_with("/0", &[BOB]).await;
        assert!(other.is_hit() && other.text().contains("Bearer alice"), "{protocol:?}");
        assert_eq!(other.field("cache-control").unwrap(), "max-age=60, private");
        // A request that did not meet the check, and one that met another check.
        for fields in [&[][..], &[("x-api-key", "a")], &[BOB, ("x-api-key", "a")]] {
            let answer = client.get_with("/0", fields).await;
            assert!(!answer.is_hit(), "{fields:?}: {}", answer.text());
        }
        assert!(!client.get_with("/0", &[BOB, ("cookie", "sid=1")]).await.is_hit());
        assert_eq!(runs.get(), 5);
        let public = client.get_with("/1", &[ALICE]).await;
        assert_eq!(public.field("cache-control").unwrap(), "public, max-age=60");
    }
}

#[actix_web::test]
async fn requests_with_credentials_bypass_a_cache_for_anonymous_ones() {
    let cache = cache_with(Policy::new().anonymous_only());
    let page = Reply::new(200, &[("cache-control", "public, max-age=60")]);
    let (server, _) = serve_replies(1, &cache, &[page]);
    let client = Client::new(server.addr, Protocol::Http1);
    assert!(client.get("/0").await.is_stored());
    for field in [ALICE, ("cookie", "sid=1"), ("x-api-key", "a")] {
        let status = client.get_with("/0", &[field]).await.cache_status();
        assert_eq!(status, "fwd=bypass; detail=credentials", "{field:?}");
    }
    assert!(client.get("/0").await.is_hit());
}

#[test]
fn settings_that_exclude_each_other_are_refused() {
    for policy in [per_token().anonymous_only(), Policy::new().share_authorized().anonymous_only()]
    {
        let error = builder().0.policy(policy).build().unwrap_err().to_string();
        assert!(error.contains("anonymous_only"), "{error}");
    }
    let rule = Rule::prefix("/account").with(|policy| policy.share_authorized());
    let base = builder().0.policy(Policy::new().anonymous_only()).rule(rule);
    assert!(base.build().is_err());
}

/// Serves pages that use the session in different ways. The session middleware is outside of the
/// cache.
fn serve_sessions(builder: CacheBuilder) -> (Server, Counter) {
    let (cache, runs) = (builder.build().unwrap(), Counter::default());
    let (key, counter) = (Key::generate(), runs.clone());
    let server = serve(1, move || {
        let sessions = SessionMiddleware::builder(CookieSessionStore::default(), key.clone());
        let runs = counter.clone();
        let plain = move || {
            let run = runs.count();
            async move { format!("run {run}") }
        };
        App::new()
            .wrap(cache.clone())
            .wrap(sessions.cookie_secure(false).build())
            .route("/plain", web::get().to(plain))
            .route("/login/{name}", web::get().to(login))
            .route("/token", web::get().to(token))
            .route("/name", web::get().to(name))
    });
    (server, runs)
}

async fn login(name: web::Path<String>, session: Session) -> HttpResponse {
    session.insert("name", name.into_inner()).unwrap();
    HttpResponse::Ok().finish()
}

/// A page that puts a new entry of the session into its body.
async fn token(session: Session) -> HttpResponse {
    session.insert("token", "secret").unwrap();
    HttpResponse::Ok().insert_header(("cache-control", "max-age=60")).body("secret")
}

async fn name(session: Session) -> HttpResponse {
    let name = session.get::<String>("name").unwrap().unwrap_or_default();
    HttpResponse::Ok().insert_header(("cache-control", "public, max-age=60")).body(name)
}

async fn logged_in(client: &Client, name: &str) -> String {
    let answer = client.get(&format!("/login/{name}")).await;
    let cookie = answer.field("set-cookie").unwrap();
    cookie.split(';').next().unwrap().to_owned()
}

#[actix_web::test]
async fn response_that_may_depend_on_a_session_is_not_stored() {
    let (server, runs) = serve_sessions(builder().0);
    let client = Client::new(server.addr, Protocol::Http1);
    assert_eq!(client.get("/token").await.cache_status(), "fwd=uri-miss; detail=session");
    let alice = logged_in(&client, "alice").await;
    // The handler says that the page may be shared, but the request has a session with entries.
    let own = client.get_with("/name", &[("cookie", &alice)]).await;
    assert_eq!(own.text(), "alice");
    assert_eq!(own.cache_status(), "fwd=uri-miss; detail=session");
    assert!(client.get("/plain").await.is_stored());
    assert!(client.get("/plain").await.is_hit());
    assert_eq!(runs.get(), 1);
}

#[actix_web::test]
async fn page_of_a_session_is_kept_for_its_person_unless_the_session_changes() {
    let policy = Policy::new().per_user(|request| {
        use actix_session::SessionExt as _;
        request.get_session().get::<String>("name").ok().flatten()
    });
    let (server, _) = serve_sessions(builder().0.policy(policy));
    let client = Client::new(server.addr, Protocol::Http1);
    for name in ["alice", "bob"] {
        let cookie = logged_in(&client, name).await;
        for is_hit in [false, true] {
            let answer = client.get_with("/name", &[("cookie", &cookie)]).await;
            assert_eq!((answer.text(), answer.is_hit()), (name, is_hit));
            assert_eq!(answer.field("cache-control").unwrap(), "max-age=60, private");
        }
        let changed = client.get_with("/token", &[("cookie", &cookie)]).await;
        assert_eq!(changed.cache_status(), "fwd=uri-miss; detail=session");
    }
}

#[actix_web::test]
async fn session_with_entries_bypasses_a_cache_for_anonymous_requests() {
    // The cookie of the session does not count, but its entries do.
    let policy = Policy::new().anonymous_only().ignore_cookies(["*"]);
    let (server, _) = serve_sessions(builder().0.policy(policy));
    let client = Client::new(server.addr, Protocol::Http1);
    let cookie = logged_in(&client, "alice").await;
    assert!(client.get("/plain").await.is_stored());
    let answer = client.get_with("/plain", &[("cookie", &cookie)]).await;
    assert_eq!(answer.cache_status(), "fwd=bypass; detail=credentials");
    assert!(client.get("/plain").await.is_hit());
}
