//! Requests whose body is part of the cache key: `QUERY` (RFC 10008), and `POST` that only reads.

use std::{io::Write as _, time::Duration};

use actix_web::{
    App, HttpRequest, HttpResponse,
    http::{Method, header::HeaderName},
    web,
};
use actix_web_cache::{
    Cache, CacheBuilder, ManualClock, MemoryStore, Mode, Policy, PurgeTarget, QueryKey, Rule,
    store::Store as _,
};
use bytes::Bytes;
use futures_util::future::join_all;

use crate::support::{
    Answer, Client, Counter, GatedApp, Protocol, SETUPS, START, Server, SharedLines, Wire, builder,
    secs, serve, store, wait_until,
};

const JSON: (&str, &str) = ("content-type", "application/json");

/// A response that is stale at once, and that is refreshed in the background.
const REFRESHED: (&str, &str) = ("answer", "cache-control: max-age=5, stale-while-revalidate=50");

fn query() -> Method {
    Method::from_bytes(b"QUERY").unwrap()
}

fn reading_post() -> Rule {
    Rule::prefix("/graphql").method(Method::POST).with(|policy| policy.cache_posts_by_body(1000))
}

/// An application whose responses have the number of the handler call, the method and the body of
/// the request. Each line `answer: name: value` of a request adds a field to the response.
struct EchoApp {
    server: Server,
    client: Client,
    runs: Counter,
    /// The conditions and the bodies of the requests that reached the handler.
    handled: SharedLines,
}

impl EchoApp {
    fn new(workers: usize, cache: &Cache, protocol: Protocol) -> Self {
        let (runs, handled) = <(Counter, SharedLines)>::default();
        let (cache, counter, lines) = (cache.clone(), runs.clone(), handled.clone());
        let server = serve(workers, move || {
            let (counter, lines) = (counter.clone(), lines.clone());
            let handler = move |request: HttpRequest, body: Result<Bytes, actix_web::Error>| {
                let body =
                    body.map_or_else(|_| "failed".into(), |body| body.escape_ascii().to_string());
                let response = respond(&request, &body, &counter, &lines);
                async move { response }
            };
            let routed = web::resource("/routed").route(web::method(query()).to(handler.clone()));
            App::new()
                .app_data(web::PayloadConfig::new(1 << 24))
                .service(routed)
                .default_service(web::to(handler))
                .wrap(cache.clone())
        });
        Self { client: Client::new(server.addr, protocol), server, runs, handled }
    }

    async fn send(
        &self,
        method: &str,
        path: &str,
        fields: &[(&str, &str)],
        body: &'static str,
    ) -> Answer {
        self.client.send_body(method.parse().unwrap(), path, fields, body).await.unwrap()
    }

    async fn query(&self, fields: &[(&str, &str)], body: &'static str) -> Answer {
        self.send("QUERY", "/", fields, body).await
    }

    async fn post(&self, fields: &[(&str, &str)], body: &'static str) -> Answer {
        self.send("POST", "/graphql", fields, body).await
    }
}

fn respond(
    request: &HttpRequest,
    body: &str,
    counter: &Counter,
    handled: &SharedLines,
) -> HttpResponse {
    let condition = request.headers().get("if-none-match");
    let condition = condition.map_or("", |tag| tag.to_str().unwrap());
    handled.add(format!("{condition}:{body}"));
    let run = counter.count();
    let lines = request.headers().get_all("answer").map(|line| line.to_str().unwrap());
    let mut response = HttpResponse::Ok();
    if !condition.is_empty() && request.headers().contains_key("answer-304") {
        response = HttpResponse::NotModified();
    } else if !condition.is_empty() && request.headers().contains_key("answer-412") {
        response = HttpResponse::PreconditionFailed();
    }
    for line in lines {
        let (name, value) = line.split_once(':').unwrap();
        response.append_header((name.parse::<HeaderName>().unwrap(), value.trim()));
    }
    response.body(format!("{run} {} {body}", request.method()))
}

fn echo_app() -> (EchoApp, ManualClock, Cache) {
    let (builder, clock) = builder();
    let cache = builder.rule(reading_post()).build().unwrap();
    (EchoApp::new(1, &cache, Protocol::Http1), clock, cache)
}

/// A builder with a manual clock, and the store of its cache.
fn builder_with_store() -> (CacheBuilder, ManualClock, MemoryStore) {
    let (store, clock) = (store(), ManualClock::at(START));
    (Cache::builder(store.clone()).clock(clock.clock()), clock, store)
}

#[actix_web::test]
async fn equal_request_gets_the_stored_response() {
    for (protocol, workers) in SETUPS {
        let cache = builder().0.rule(reading_post()).build().unwrap();
        let app = EchoApp::new(workers, &cache, protocol);
        for (method, path) in
            [("QUERY", "/"), ("QUERY", "/routed"), ("QUERY", "/graphql"), ("POST", "/graphql")]
        {
            for (fields, body) in [
                (&[][..], ""),
                (&[], "{a}"),
                (&[], "{b}"),
                (&[JSON], "{a}"),
                (&[("content-type", "text/plain")], "{a}"),
                (&[("content-encoding", "unknown")], "{a}"),
                (&[("content-language", "de")], "{a}"),
            ] {
                let case = format!("{method} {path} {fields:?} {body} {protocol:?}");
                let first = app.send(method, path, fields, body).await;
                assert_eq!(first.cache_status(), "fwd=uri-miss; stored", "{case}");
                assert_eq!(first.text(), format!("{} {method} {body}", app.runs.get()), "{case}");
                let second = app.send(method, path, fields, body).await;
                assert_eq!(second.cache_status(), "hit; ttl=60", "{case}");
                assert_eq!(second.text(), first.text(), "{case}");
            }
        }
        let get = app.client.get("/").await;
        assert_eq!(get.cache_status(), "fwd=uri-miss; stored", "a QUERY answers no GET");
        assert!(app.query(&[], "{a}").await.is_hit(), "a GET displaces no QUERY");
    }
}

#[actix_web::test]
async fn query_obeys_the_rules_of_get() {
    let (app, clock, _) = echo_app();
    let with = |line| [("answer", line)];
    for (fields, status) in [
        (&with("cache-control: no-store")[..], "fwd=uri-miss; detail=no-store"),
        (&with("set-cookie: a=b"), "fwd=uri-miss; detail=set-cookie"),
        (&[("cookie", "session=1")], "fwd=uri-miss; detail=cookie"),
        (&[("authorization", "x")], "fwd=uri-miss; detail=authorization"),
        (&[("if-match", "\"a\"")], "fwd=bypass; detail=condition"),
        (&[("cache-control", "no-store")], "fwd=uri-miss; detail=request-no-store"),
        (&[("range", "bytes=0-1")], "fwd=uri-miss; detail=range"),
        (&[("x-forwarded-host", "evil")], "fwd=uri-miss; stored"),
    ] {
        assert_eq!(app.query(fields, "{a}").await.cache_status(), status, "{fields:?}");
    }
    app.query(&with("vary: accept-language"), "{b}").await;
    let french = app.query(&[("accept-language", "fr")], "{b}").await;
    assert_eq!(french.cache_status(), "fwd=vary-miss; stored");
    let whole = app.query(&[("range", "bytes=0-1")], "{b}").await;
    assert_eq!((whole.status.as_u16(), whole.is_hit()), (200, true));
    clock.advance(secs(61));
    assert_eq!(app.query(&[], "{b}").await.cache_status(), "fwd=stale; stored");
}

#[actix_web::test]
async fn policy_can_pass_queries() {
    let cache = builder().0.policy(Policy::new().pass_queries()).build().unwrap();
    let app = EchoApp::new(1, &cache, Protocol::Http1);
    app.client.get("/").await;
    for run in [2, 3] {
        let answer = app.query(&[], "{a}").await;
        assert_eq!(
            (answer.cache_status(), answer.text()),
            ("fwd=method".into(), &*format!("{run} QUERY {{a}}"))
        );
    }
    assert!(app.client.get("/").await.is_hit(), "a QUERY is safe");
}

#[actix_web::test]
async fn conditional_query_gets_304_and_conditional_post_reaches_the_handler() {
    let (app, _, _) = echo_app();
    let tagged = ("answer", "etag: \"v1\"");
    let condition = ("if-none-match", "\"v1\"");
    let answer = app.query(&[tagged, condition], "{a}").await;
    assert_eq!((answer.status.as_u16(), answer.is_stored()), (304, true));
    let answer = app.query(&[condition], "{a}").await;
    assert_eq!((answer.status.as_u16(), answer.is_hit()), (304, true));
    assert_eq!(app.query(&[condition], "{b}").await.status.as_u16(), 200, "another query");
    app.handled.take();
    app.post(&[tagged], "{a}").await;
    assert!(app.post(&[tagged], "{a}").await.is_hit());
    let answer = app.post(&[condition], "{a}").await;
    assert_eq!(answer.cache_status(), "fwd=bypass; detail=condition");
    assert_eq!(app.handled.take(), [":{a}", "\"v1\":{a}"]);
}

/// A stale response of a `QUERY` is revalidated with the body; that of a `POST` is replaced.
#[actix_web::test]
async fn stale_response_is_revalidated_or_replaced() {
    let (app, clock, _) = echo_app();
    let tagged = ("answer", "etag: \"v1\"");
    for (fields, handled, status) in [
        (
            &[tagged, ("answer-304", "")][..],
            &["\"v1\":{a}"][..],
            "fwd=stale; fwd-status=304; stored",
        ),
        (&[tagged], &["\"v1\":{a}"], "fwd=stale; stored"),
        // A handler that does not know QUERY.
        (&[tagged, ("answer-412", "")], &["\"v1\":{a}", ":{a}"], "fwd=stale; stored"),
    ] {
        app.query(&[tagged], "{a}").await;
        clock.advance(secs(61));
        app.handled.take();
        let answer = app.query(fields, "{a}").await;
        assert_eq!((answer.status.as_u16(), answer.cache_status().as_str()), (200, status));
        assert_eq!(app.handled.take(), handled, "{fields:?}");
    }
    app.post(&[tagged], "{a}").await;
    clock.advance(secs(61));
    app.handled.take();
    let answer = app.post(&[tagged, ("answer-304", "")], "{a}").await;
    assert_eq!(
        (answer.status.as_u16(), answer.cache_status().as_str()),
        (200, "fwd=stale; stored")
    );
    assert_eq!(app.handled.take(), [":{a}"]);
}

#[actix_web::test]
async fn refresh_in_the_background_sends_the_body_again() {
    let (builder, clock, store) = builder_with_store();
    let cache = builder.rule(reading_post()).build().unwrap();
    let app = EchoApp::new(1, &cache, Protocol::Http1);
    for (method, path) in [("QUERY", "/"), ("POST", "/graphql")] {
        let send = || app.send(method, path, &[REFRESHED, JSON], "{a}");
        let first = send().await;
        let run = app.runs.get();
        clock.advance(secs(10));
        let stale = send().await;
        assert_eq!((stale.cache_status().as_str(), stale.text()), ("hit; ttl=-5", first.text()));
        let coordinator = store.coordinator().clone();
        wait_until("the refresh ended", || {
            app.runs.get() == run + 1 && coordinator.open_refreshes() == 0
        })
        .await;
        let fresh = send().await;
        assert_eq!(fresh.cache_status(), "hit; ttl=5");
        assert_eq!(fresh.text(), format!("{} {method} {{a}}", run + 1));
    }
}

#[actix_web::test]
async fn concurrent_equal_requests_cause_one_handler_call() {
    for method in ["QUERY", "POST"] {
        let cache = builder().0.rule(
            Rule::any()
                .method(Method::POST)
                .method(query())
                .with(|policy| policy.cache_posts_by_body(9)),
        );
        let cache = cache.build().unwrap();
        let app = GatedApp::new();
        let served = cache.clone();
        let server = app.serve(
            2,
            move || served.clone(),
            async |app, _| HttpResponse::Ok().body(format!("run {}", app.pass_gate().await)),
        );
        let clients: Vec<_> = (0..20).map(|_| Client::new(server.addr, Protocol::Http1)).collect();
        let send = |(n, client): (usize, &Client)| {
            let client = client.clone();
            let body = if n % 2 == 0 { "{a}" } else { "{b}" };
            async move { client.send_body(method.parse().unwrap(), "/", &[], body).await.unwrap() }
        };
        let answers = join_all(clients.iter().enumerate().map(send));
        let release = async {
            wait_until("all requests have reached the cache", || app.arrived.get() == 20).await;
            app.gate.add_permits(20);
        };
        let (answers, ()) = futures_util::join!(answers, release);
        for (n, answer) in answers.iter().enumerate() {
            assert_eq!(answer.text(), answers[n % 2].text(), "{n} {}", answer.cache_status());
        }
        assert_ne!(answers[0].text(), answers[1].text());
        assert_eq!(app.runs.get(), 2, "one call for each body");
    }
}

#[actix_web::test]
async fn purges_reach_responses_of_all_methods() {
    for target in [
        Some(PurgeTarget::url("http://a/graphql?q=1&x")),
        Some(PurgeTarget::url("/graphql?q=1&x").on_any_host()),
        Some(PurgeTarget::prefix("/graphql").on_host("a")),
        Some(PurgeTarget::tag("graphql")),
        Some(PurgeTarget::all()),
        // An unsafe request for the URL.
        None,
    ] {
        let name = format!("{target:?}");
        let change = |policy: Policy| policy.query(QueryKey::only(["q"])).tag("graphql");
        let rule = Rule::prefix("/graphql").method(Method::POST).method(query());
        let rule = rule.with(move |policy| change(policy.cache_posts_by_body(1000)));
        let cache = builder().0.rule(rule).build().unwrap();
        let app = EchoApp::new(1, &cache, Protocol::Http1);
        let path = "/graphql?q=1";
        let host = &[("host", "a")][..];
        for method in ["QUERY", "POST"] {
            app.send(method, path, host, "{a}").await;
            assert!(app.send(method, path, host, "{a}").await.is_hit(), "{name}");
        }
        match target {
            Some(target) => {
                cache.handle().purge(target).await.unwrap();
            }
            None => {
                app.send("PUT", "/graphql?q=1&x", host, "").await;
            }
        }
        for method in ["QUERY", "POST"] {
            assert!(!app.send(method, path, host, "{a}").await.is_hit(), "{name}");
        }
    }
}

#[actix_web::test]
async fn post_that_only_reads_purges_nothing() {
    let (app, _, cache) = echo_app();
    let large: &'static str = "x".repeat(2000).leak();
    for mode in [Mode::On, Mode::Bypass] {
        cache.handle().set_mode(mode);
        for (path, body, purges) in
            [("/graphql", "{a}", false), ("/graphql", large, false), ("/other", "{a}", true)]
        {
            cache.handle().set_mode(Mode::On);
            app.client.get(path).await;
            assert!(app.client.get(path).await.is_hit());
            cache.handle().set_mode(mode);
            app.send("POST", path, &[], body).await;
            cache.handle().set_mode(Mode::On);
            assert_eq!(!app.client.get(path).await.is_hit(), purges, "{path} {mode:?}");
        }
    }
}

/// The handler gets the bytes of a body in order, whether the cache has read none, some or all of
/// them.
#[actix_web::test]
async fn handler_gets_the_exact_body_of_any_size() {
    let text = |length: usize| -> &'static str {
        (0..length).map(|n| char::from(b'a' + (n % 26) as u8)).collect::<String>().leak()
    };
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let (builder, _, store) = builder_with_store();
        let cache = builder.policy(Policy::new().cache_queries(100_000)).build().unwrap();
        let app = EchoApp::new(1, &cache, protocol);
        for (length, status) in [
            (0, "fwd=uri-miss; stored"),
            (1, "fwd=uri-miss; stored"),
            (100_000, "fwd=uri-miss; stored"),
            (100_001, "fwd=bypass; detail=request-body-size"),
            (3_000_000, "fwd=bypass; detail=request-body-size"),
        ] {
            let body = text(length);
            let answer = app.query(&[], body).await;
            assert_eq!(answer.cache_status(), status, "{length} {protocol:?}");
            assert_eq!(answer.text().split(' ').nth(2).unwrap(), body, "{length} {protocol:?}");
        }
        let coordinator = store.coordinator().clone();
        wait_until("no body is kept", || coordinator.bytes_in_requests() == 0).await;
    }
}

/// The length of a chunked body is not known before its end.
#[actix_web::test]
async fn chunked_body_is_read_or_passed_on_as_it_arrives() {
    let cache = builder().0.policy(Policy::new().cache_queries(1000)).build().unwrap();
    let app = EchoApp::new(1, &cache, Protocol::Http1);
    for (length, status) in [
        (1000, "fwd=uri-miss; stored"),
        (1000, "hit; ttl=60"),
        (1001, "fwd=bypass; detail=request-body-size"),
        (5000, "fwd=bypass; detail=request-body-size"),
    ] {
        let mut wire = Wire::open(app.server.addr);
        wire.send("QUERY / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n");
        let body: String = (0..length).map(|n| char::from(b'a' + (n % 26) as u8)).collect();
        for byte in body.bytes() {
            wire.send(format!("1\r\n{}\r\n", char::from(byte)));
        }
        wire.send("0\r\n\r\n");
        let message = wire.receive();
        assert!(message.head.contains(status), "{length}: {}", message.head);
        let echoed = String::from_utf8(message.body).unwrap();
        assert_eq!(echoed.split(' ').nth(2).unwrap(), body, "{length}");
        // The connection is usable for another request.
        assert_eq!(wire.get("/next", "").status, 200);
    }
}

#[actix_web::test]
async fn client_that_expects_100_continue_gets_it() {
    let (app, _, _) = echo_app();
    for status in ["fwd=uri-miss; stored", "hit; ttl=60"] {
        let mut wire = Wire::open(app.server.addr);
        wire.send(
            "QUERY / HTTP/1.1\r\nHost: t\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n",
        );
        assert_eq!(wire.receive().status, 100);
        wire.send("{a}");
        let message = wire.receive();
        assert!(message.head.contains(status), "{}", message.head);
        assert_eq!(message.body, b"1 QUERY {a}");
    }
}

/// A body that does not arrive in time is passed to the handler with what has arrived.
#[actix_web::test]
async fn slow_or_failed_body_is_passed_to_the_handler() {
    let policy = Policy::new().request_body_limit(Duration::from_millis(20));
    let cache = builder().0.policy(policy).build().unwrap();
    let began = Counter::default();
    let (served, counter) = (cache.clone(), began.clone());
    let server = serve(1, move || {
        let counter = counter.clone();
        let handler = move |payload: web::Payload| {
            counter.count();
            async move { payload.to_bytes().await.unwrap() }
        };
        App::new().default_service(web::to(handler)).wrap(served.clone())
    });
    let mut wire = Wire::open(server.addr);
    wire.send("QUERY / HTTP/1.1\r\nHost: t\r\nContent-Length: 6\r\n\r\nabc");
    wait_until("the handler was called", || began.get() == 1).await;
    wire.send("def");
    let message = wire.receive();
    assert!(message.head.contains("fwd=bypass; detail=request-body-time"), "{}", message.head);
    assert_eq!(message.body, b"abcdef");

    let (app, _, _) = echo_app();
    let mut wire = Wire::open(app.server.addr);
    wire.send("QUERY / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
    wire.writer().write_all(b"no chunk\r\n").unwrap();
    wait_until("the handler got the error", || app.runs.get() == 1).await;
    assert_eq!(app.handled.take(), [":failed"]);
}

/// While the bodies of requests fill their memory, further requests reach the handler.
#[actix_web::test]
async fn bodies_beyond_the_memory_limit_are_passed_to_the_handler() {
    const SIZE: usize = 4 * 1024 * 1024;
    let policy = Policy::new().cache_queries(SIZE).request_body_limit(secs(60));
    let (builder, _, store) = builder_with_store();
    let cache = builder.policy(policy).build().unwrap();
    let app = EchoApp::new(1, &cache, Protocol::Http1);
    let coordinator = store.coordinator().clone();
    let open = |n: usize| {
        let mut wire = Wire::open(app.server.addr);
        wire.send(format!("QUERY /{n} HTTP/1.1\r\nHost: t\r\nContent-Length: {SIZE}\r\n\r\n"));
        wire.send(vec![b'a'; SIZE - 1]);
        wire
    };
    let mut wires: Vec<_> = (0..4).map(open).collect();
    wait_until("the bodies were read", || coordinator.bytes_in_requests() == 4 * (SIZE - 1)).await;
    let answer = app.query(&[], "abcdef").await;
    assert_eq!(answer.cache_status(), "fwd=bypass; detail=request-body-memory");
    assert!(answer.text().ends_with("QUERY abcdef"));
    for wire in &mut wires {
        wire.send("a");
        assert!(wire.receive().head.contains("fwd=uri-miss; detail=too-large"));
    }
    wait_until("the bodies were dropped", || coordinator.bytes_in_requests() == 0).await;
    assert_eq!(app.query(&[], "abcdef").await.cache_status(), "fwd=uri-miss; stored");
}

#[actix_web::test]
async fn impossible_settings_are_refused() {
    for (result, message) in [
        (builder().0.policy(Policy::new().cache_queries(0)).build(), "cache_queries is 0"),
        (
            builder()
                .0
                .rule(Rule::any().method(Method::POST).with(|policy| policy.cache_posts_by_body(0)))
                .build(),
            "cache_posts_by_body is 0",
        ),
        (
            builder().0.policy(Policy::new().request_body_limit(Duration::ZERO)).build(),
            "request_body_limit is 0",
        ),
        (
            builder().0.policy(Policy::new().cache_posts_by_body(1)).build(),
            "outside of a rule for POST",
        ),
        (
            builder().0.rule(Rule::any().with(|policy| policy.cache_posts_by_body(1))).build(),
            "outside of a rule for POST",
        ),
        (
            builder()
                .0
                .rule(Rule::any().method(Method::PUT).with(|policy| policy.cache_posts_by_body(1)))
                .build(),
            "outside of a rule for POST",
        ),
    ] {
        let error = result.err().unwrap().to_string();
        assert!(error.contains(message), "{error}");
    }
}
