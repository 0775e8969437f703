//! Log messages: one line for each decision, and no data of clients or handlers.

use actix_web::{
    App, HttpRequest, HttpResponse,
    web::{self, Bytes},
};
use actix_web_cache::{Cache, CacheHandle, Policy, Rule};
use futures_util::stream;
use hyper::Method;
use log::Level;

use crate::support::{
    CapturedLog, Client, HookedStore, Protocol, Server, StoreCall, StoreFault, builder,
    requested_response, serve,
};

/// An application whose only worker logs to the returned lines.
fn logging_app(cache: Cache) -> (Server, Client, CapturedLog) {
    let lines = CapturedLog::default();
    let captured = lines.clone();
    let server = serve(1, move || {
        captured.capture();
        let streamed = || async {
            let chunks = ["a", "b"].map(|chunk| Ok::<_, actix_web::Error>(Bytes::from(chunk)));
            HttpResponse::Ok().streaming(stream::iter(chunks))
        };
        let purge = |cache: CacheHandle| async move { cache.purge_url("/").await.map(|_| "") };
        App::new()
            .wrap(cache.clone())
            .route("/streamed", web::get().to(streamed))
            .route("/purge", web::post().to(purge))
            .default_service(web::to(|request: HttpRequest, _body: Bytes| async move {
                requested_response(&request, 1)
            }))
    });
    let client = Client::new(server.addr, Protocol::Http1);
    (server, client, lines)
}

#[actix_web::test]
async fn miss_and_hit_log_three_debug_lines() {
    let (_server, client, lines) = logging_app(builder().0.build().unwrap());
    assert!(!client.get("/").await.is_hit());
    assert!(client.get("/").await.is_hit());
    assert_eq!(lines.take(Level::Debug), ["miss uri-miss", "store ttl=60", "hit ttl=60"]);
}

#[actix_web::test]
async fn streamed_response_is_logged_as_stored_when_its_body_ends() {
    let (_server, client, lines) = logging_app(builder().0.build().unwrap());
    assert!(!client.get("/streamed").await.is_hit());
    assert!(client.get("/streamed").await.is_hit());
    assert_eq!(lines.take(Level::Debug), ["miss uri-miss", "store ttl=60", "hit ttl=60"]);
}

#[actix_web::test]
async fn each_decision_is_logged_with_its_reason() {
    let (builder, clock) = builder();
    let (_server, client, lines) =
        logging_app(builder.rule(Rule::path("/no").bypass()).build().unwrap());
    let get = Method::GET;
    for (method, path, fields, want) in [
        (&get, "/no", &[][..], &["bypass rule"][..]),
        (&get, "/part", &[("range", "bytes=0-")], &["miss uri-miss not stored: range"]),
        (&get, "/", &[("answer", "set-cookie: a=b")], &["miss uri-miss not stored: set-cookie"]),
        (
            &get,
            "/",
            &[("answer", "cache-control: private")],
            &["miss uri-miss not stored: private"],
        ),
        (&get, "/", &[("answer-status", "500")], &["miss uri-miss not stored: status"]),
        (&get, "/", &[("answer", "vary: x-a")], &["miss uri-miss", "store ttl=60"]),
        (&get, "/", &[("x-a", "1"), ("answer", "vary: *")], &["miss vary-miss not stored: vary"]),
        (&get, "/", &[("authorization", "a")], &["miss request not stored: authorization"]),
        (&Method::HEAD, "/", &[], &["hit ttl=60"]),
        (&Method::OPTIONS, "/", &[], &["bypass method"]),
        (&Method::PUT, "/", &[], &["purge url: 1 stored response", "bypass method"]),
        (
            &Method::POST,
            "/purge",
            &[],
            &["purge url: 0 stored responses", "purge url: 0 stored responses", "bypass method"],
        ),
    ] {
        client.send(method.clone(), path, fields).await;
        assert_eq!(lines.take(Level::Debug), want, "{method} {path} {fields:?}");
    }
    client.get("/").await;
    clock.advance(std::time::Duration::from_secs(60));
    lines.take(Level::Debug);
    client.get("/").await;
    assert_eq!(lines.take(Level::Debug), ["miss stale", "store ttl=60"]);
}

#[actix_web::test]
async fn log_lines_never_contain_data_of_clients_or_handlers() {
    let store = HookedStore::new();
    let policy =
        Policy::new().key_header("x-tenant").vary_cookie("lang").honor_request_directives();
    let cache = Cache::builder(store.clone()).policy(policy).build().unwrap();
    let (_server, client, lines) = logging_app(cache);
    let fields = [
        ("x-tenant", "secret-tenant"),
        ("cookie", "lang=secret-language; sid=secret-session"),
        ("x-a", "secret-selecting"),
        ("accept", "secret/type"),
        ("cache-control", "max-age=60, ext=secret"),
        ("x-forwarded-host", "secret.example"),
        ("answer", "vary: x-a"),
        ("answer", "cache-control: max-age=60, public, ext=secret"),
        ("answer", "etag: \"secret-tag\""),
        ("answer", "x-answer: secret-answer"),
    ];
    let refusals = [
        ("authorization", "Bearer secret"),
        ("answer", "set-cookie: sid=secret"),
        ("x-api-key", "secret"),
    ];
    let range = [("range", "bytes=0-"), ("host", "secret-host")];
    for broken in [false, true] {
        if broken {
            store.set_fault(&StoreCall::ALL, StoreFault::Error);
        }
        for fields in [&fields[..], &fields[..], &fields[1..], &refusals, &range] {
            for method in [Method::GET, Method::HEAD, Method::POST, Method::DELETE] {
                client
                    .send_body(method.clone(), "/path?token=secret-query", fields, "secret body")
                    .await
                    .unwrap();
                client.send(method, "/path?token=secret-query", fields).await;
            }
        }
        client.send(Method::POST, "/purge?token=secret-query", &fields).await;
    }
    let logged = lines.take(Level::Trace);
    for beginning in ["miss ", "hit ", "store ", "bypass ", "purge ", "the cache store failed"] {
        assert!(
            logged.iter().any(|line| line.starts_with(beginning)),
            "no line begins with {beginning:?}: {logged:#?}"
        );
    }
    let leaked: Vec<_> = logged.iter().filter(|line| line.contains("secret")).collect();
    assert!(leaked.is_empty(), "{leaked:#?}");
    assert!(
        logged.iter().any(|line| line == "GET /path"),
        "only the path is logged, at trace level"
    );
}
