//! Request directives of `Cache-Control` (RFC 9111 section 5.2.1).

use actix_web::HttpResponse;
use actix_web_cache::Policy;
use futures_util::{future::join_all, join};

use crate::support::{
    CLIENTS, Client, GatedApp, Protocol, builder, recording_app, requested_response, secs,
    test_app, wait_until,
};

const TAG: (&str, &str) = ("answer", "etag: \"a\"");
const VALIDATED: &str = "fwd-status=304; stored";

#[actix_web::test]
async fn request_directives_decide_the_response_only_when_honored() {
    for (cache_control, second, directive, honored, ignored) in [
        ("max-age=60", 50, "max-age=50", "hit; ttl=10", "hit; ttl=10"),
        ("max-age=60", 50, "max-age=49", "fwd=request", "hit; ttl=10"),
        ("max-age=60", 0, "max-age=0", "hit; ttl=60", "hit; ttl=60"),
        ("max-age=60", 1, "max-age=0", "fwd=request", "hit; ttl=59"),
        ("max-age=60", 50, "min-fresh=10", "hit; ttl=10", "hit; ttl=10"),
        ("max-age=60", 50, "min-fresh=11", "fwd=request", "hit; ttl=10"),
        ("max-age=60", 0, "no-cache", "fwd=request", "hit; ttl=60"),
        ("max-age=60", 0, "no-store", "hit; ttl=60", "hit; ttl=60"),
        ("max-age=60", 0, "only-if-cached", "hit; ttl=60", "hit; ttl=60"),
        ("max-age=60", 70, "max-stale", "hit; ttl=-10", "fwd=stale"),
        ("max-age=60", 70, "max-stale=10", "hit; ttl=-10", "fwd=stale"),
        ("max-age=60", 70, "max-stale=9", "fwd=stale", "fwd=stale"),
        ("max-age=60", 70, "max-stale, max-age=60", "fwd=request", "fwd=stale"),
        ("max-age=60", 70, "max-stale, min-fresh=1", "fwd=stale", "fwd=stale"),
        ("max-age=60, must-revalidate", 70, "max-stale", "fwd=stale", "fwd=stale"),
        ("max-age=60, proxy-revalidate", 70, "max-stale", "fwd=stale", "fwd=stale"),
        ("s-maxage=60", 70, "max-stale", "fwd=stale", "fwd=stale"),
        ("max-age=60, no-cache", 1, "max-stale", "fwd=stale", "fwd=stale"),
    ] {
        for (policy, want) in
            [(Policy::new().honor_request_directives(), honored), (Policy::new(), ignored)]
        {
            let (builder, clock) = builder();
            let (app, recorded) = recording_app(&builder.policy(policy).build().unwrap());
            let line = format!("cache-control: {cache_control}");
            assert!(app.client.get_with("/", &[TAG, ("answer", &line)]).await.is_stored());
            clock.advance(secs(second));
            recorded.take();
            let fields = [("cache-control", directive), ("answer-status", "304"), TAG];
            let answer = app.client.get_with("/", &fields).await;
            let case = format!("request {directive}, response {cache_control}, after {second} s");
            assert_eq!((answer.status.as_u16(), answer.text()), (200, "run 1"), "{case}");
            if want.starts_with("fwd") {
                assert_eq!(answer.cache_status(), format!("{want}; {VALIDATED}"), "{case}");
                assert_eq!(recorded.take(), ["if-none-match: \"a\""], "{case}");
            } else {
                assert_eq!(answer.cache_status(), want, "{case}");
                assert_eq!(answer.field("age"), Some(second.to_string()), "{case}");
                assert_eq!(recorded.take(), [""; 0], "{case}");
            }
        }
    }
}

/// See RFC 9111 section 5.2.1.7.
#[actix_web::test]
async fn only_if_cached_request_gets_504_when_honored() {
    for (policy, honored) in [
        (Policy::new().honor_request_directives(), true),
        (Policy::rfc9111(), true),
        (Policy::new(), false),
    ] {
        let (builder, clock) = builder();
        let (app, _) = recording_app(&builder.policy(policy).build().unwrap());
        let only_if_cached = ("cache-control", "only-if-cached");
        let fields = [TAG, ("answer", "cache-control: max-age=60, must-revalidate")];
        assert!(app.client.get_with("/stale", &fields).await.is_stored());
        clock.advance(secs(60));
        let vary = [fields[1], ("answer", "vary: accept"), ("accept", "a/b")];
        assert!(app.client.get_with("/vary", &vary).await.is_stored());
        let runs = app.runs.get();
        for path in ["/cold", "/stale", "/vary"] {
            let answer =
                app.client.get_with(path, &[only_if_cached, ("if-none-match", "\"a\"")]).await;
            assert_eq!(answer.status == 504, honored, "{path}");
            if honored {
                let cache_status = answer.field("cache-status").unwrap();
                assert_eq!(cache_status, "actix-web-cache; detail=only-if-cached", "{path}");
                assert_eq!(answer.field("content-length").as_deref(), Some("0"), "{path}");
            }
        }
        assert_eq!(app.runs.get() == runs, honored);
    }
}

#[actix_web::test]
async fn no_store_request_stores_nothing_but_may_be_a_hit() {
    for policy in [Policy::new(), Policy::rfc9111()] {
        let (builder, clock) = builder();
        let (app, _) = recording_app(&builder.policy(policy).build().unwrap());
        let no_store = ("cache-control", "no-store");
        let fresh = ("answer", "cache-control: max-age=60");
        for _ in 0..2 {
            let answer = app.client.get_with("/", &[no_store, fresh, TAG]).await;
            assert_eq!(answer.cache_status(), "fwd=uri-miss; detail=request-no-store");
        }
        assert!(app.client.get_with("/", &[fresh, TAG]).await.is_stored());
        assert!(
            app.client.get_with("/", &[no_store]).await.is_hit(),
            "no-store does not forbid a stored response (RFC 9111 section 5.2.1.5)"
        );
        clock.advance(secs(60));
        let answer =
            app.client.get_with("/", &[no_store, fresh, TAG, ("answer-status", "304")]).await;
        assert_eq!(answer.text(), "run 3");
        assert_eq!(answer.cache_status(), "fwd=stale; fwd-status=304; detail=request-no-store");
        assert!(!app.client.get_with("/", &[fresh]).await.is_hit(), "the 304 freshened nothing");
    }
}

#[actix_web::test]
async fn pragma_is_ignored_in_requests() {
    let (builder, _) = builder();
    let (app, _) = recording_app(&builder.policy(Policy::rfc9111()).build().unwrap());
    // Pragma is deprecated (RFC 9111 section 5.4).
    let fresh = ("answer", "cache-control: max-age=60");
    assert!(app.client.get_with("/", &[fresh, ("pragma", "no-cache")]).await.is_stored());
    assert!(app.client.get_with("/", &[("pragma", "no-cache")]).await.is_hit());
}

#[actix_web::test]
async fn request_directive_forces_a_forward_only_when_honored() {
    let ignoring = test_app(&builder().0.build().unwrap(), requested_response);
    let policy = Policy::new().honor_request_directives();
    let (builder, clock) = builder();
    let honoring = test_app(&builder.policy(policy).build().unwrap(), requested_response);
    for app in [&ignoring, &honoring] {
        app.client.get("/").await;
    }
    clock.advance(secs(10));
    for (directive, want) in [
        ("no-cache", "fwd=request; stored"),
        ("max-age=0", "hit; ttl=60"),
        ("max-age=5", "hit; ttl=60"),
        ("min-fresh=61", "fwd=request; stored"),
        ("only-if-cached", "hit; ttl=60"),
    ] {
        let fields = [("cache-control", directive)];
        assert!(ignoring.client.get_with("/", &fields).await.is_hit(), "{directive}");
        assert_eq!(
            honoring.client.get_with("/", &fields).await.cache_status(),
            want,
            "{directive}"
        );
    }
    for app in [&ignoring, &honoring] {
        let answer = app.client.get_with("/secret", &[("cache-control", "no-store")]).await;
        assert_eq!(answer.cache_status(), "fwd=uri-miss; detail=request-no-store");
    }
}

/// A stale response is a stored response, so it answers where a stale response is allowed (RFC 9111
/// sections 4.2.4 and 5.2.1.7).
#[actix_web::test]
async fn only_if_cached_request_gets_a_stale_response_only_where_one_is_allowed() {
    let window = "max-age=60, stale-while-revalidate=30";
    for (cache_control, second, directives, want) in [
        ("max-age=60", 59, "only-if-cached", Some("hit; ttl=1")),
        ("max-age=60", 70, "only-if-cached", None),
        ("max-age=60", 70, "only-if-cached, max-stale=20", Some("hit; ttl=-10")),
        ("max-age=60", 70, "only-if-cached, max-stale", Some("hit; ttl=-10")),
        ("max-age=60", 70, "only-if-cached, max-stale=5", None),
        ("max-age=60, must-revalidate", 70, "only-if-cached, max-stale", None),
        (window, 70, "only-if-cached", Some("hit; ttl=-10")),
        (window, 90, "only-if-cached", None),
        ("max-age=60, stale-if-error=30", 70, "only-if-cached", None),
        ("max-age=60", 0, "only-if-cached, no-cache", None),
        ("max-age=60", 50, "only-if-cached, max-age=49", None),
        ("max-age=60", 50, "only-if-cached, min-fresh=11", None),
    ] {
        let (builder, clock) = builder();
        let policy = Policy::new().honor_request_directives();
        let (app, _) = recording_app(&builder.policy(policy).build().unwrap());
        let line = format!("cache-control: {cache_control}");
        assert!(app.client.get_with("/", &[TAG, ("answer", &line)]).await.is_stored());
        clock.advance(secs(second));
        let answer = app.client.get_with("/", &[("cache-control", directives)]).await;
        let case = format!("{directives}, {cache_control}, after {second} s");
        match want {
            Some(want) => {
                assert_eq!((answer.status.as_u16(), answer.text()), (200, "run 1"), "{case}");
                assert_eq!(answer.cache_status(), want, "{case}");
            }
            None => {
                assert_eq!((answer.status.as_u16(), app.runs.get()), (504, 1), "{case}");
                assert_eq!(answer.cache_status(), "detail=only-if-cached", "{case}");
            }
        }
    }
}

/// A client that sends directives causes calls of the handler for its own requests alone.
#[actix_web::test]
async fn honored_directives_do_not_affect_requests_without_them() {
    let app = GatedApp::new();
    let cache = builder().0.policy(Policy::new().honor_request_directives()).build().unwrap();
    let server = app.serve(
        1,
        move || cache.clone(),
        async |app, _| HttpResponse::Ok().body(app.pass_gate().await.to_string()),
    );
    let client = || Client::new(server.addr, Protocol::Http1);
    app.gate.add_permits(1);
    assert!(client().get("/").await.is_stored());
    let forced = join_all((0..CLIENTS).map(|_| async {
        let answer = client().get_with("/", &[("cache-control", "no-cache")]).await;
        assert_eq!(answer.cache_status(), "fwd=request; stored");
    }));
    let others = async {
        wait_until("each request runs the handler", || app.runs.get() == 1 + CLIENTS).await;
        for _ in 0..10 {
            let answer = client().get("/").await;
            assert_eq!((answer.text(), answer.is_hit()), ("1", true));
        }
        app.gate.add_permits(CLIENTS);
    };
    join!(forced, others);
    assert_eq!(app.runs.get(), 1 + CLIENTS);
    assert!(client().get("/").await.is_hit());
}
