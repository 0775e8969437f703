//! Functions of the application that refuse to store responses (`Policy::store_if`).

use actix_web::{
    App, HttpMessage, HttpRequest, HttpResponse,
    body::BodyStream,
    dev::Service as _,
    http::{Method, header::ContentType},
    web,
};
use actix_web_cache::{
    Cache, CacheBuilder, ManualClock, Policy, StorableResponse, StoreDecision,
    outcome::{NotStored, Outcome},
    store::Store as _,
};
use bytes::Bytes;
use futures_util::stream;

use crate::support::{
    Client, Protocol, START, SharedLines, TestApp, builder, secs, serve, store, test_app,
    wait_until,
};

/// A handler whose body and fields say the number of the call.
fn numbered(_: &HttpRequest, run: usize) -> HttpResponse {
    HttpResponse::Ok().insert_header(("x-run", run)).body(format!("run {run}"))
}

fn refuse_run_two(decision: StoreDecision) -> impl Fn(Policy) -> Policy {
    move |policy| {
        policy.store_if(move |_, response| match response.headers().get("x-run") {
            Some(run) if run == "2" => decision,
            _ => StoreDecision::Store,
        })
    }
}

fn app_of(builder: CacheBuilder, policy: Policy) -> TestApp {
    test_app(&builder.policy(policy).build().unwrap(), numbered)
}

#[actix_web::test]
async fn refused_response_is_sent_and_not_stored_with_its_reason() {
    let (builder, _) = builder();
    let policy = Policy::new().store_if(|request, response| {
        match (request.path(), response.body().map(Bytes::as_ref)) {
            ("/token", _) => StoreDecision::DoNotStore("no-results"),
            ("/text", _) => StoreDecision::DoNotStore("say \"no\""),
            ("/invalid", _) => StoreDecision::KeepStored("a\r\nset-cookie: b"),
            ("/body", Some(b"run 4")) => StoreDecision::DoNotStore("fourth"),
            _ => StoreDecision::Store,
        }
    });
    let app = app_of(builder, policy);
    for (path, run, want) in [
        ("/token", "run 1", "fwd=uri-miss; detail=no-results"),
        ("/text", "run 2", r#"fwd=uri-miss; detail="say \"no\"""#),
        ("/invalid", "run 3", "fwd=uri-miss; detail=application"),
        ("/body", "run 4", "fwd=uri-miss; detail=fourth"),
        ("/body", "run 5", "fwd=uri-miss; stored"),
    ] {
        let answer = app.client.get(path).await;
        assert_eq!((answer.text(), answer.cache_status()), (run, want.to_owned()), "{path}");
        assert_eq!(answer.status, 200);
    }
    assert!(app.client.get("/body").await.is_hit());
}

#[actix_web::test]
async fn observer_gets_the_reason_of_a_refusal() {
    let (builder, _) = builder();
    let observed = SharedLines::default();
    let recorded = observed.clone();
    let builder = builder.observer(move |_, outcome: &Outcome| {
        if let Outcome::Forward { stored, .. } = outcome {
            recorded.add(format!("{stored:?}"));
        }
    });
    let app = app_of(builder, Policy::new().store_if(|_, _| StoreDecision::DoNotStore("no")));
    app.client.get("/").await;
    let want = format!("No({:?})", NotStored::Application("no"));
    assert_eq!(observed.take(), [want]);
}

#[actix_web::test]
async fn first_refusal_of_several_functions_applies() {
    let calls = SharedLines::default();
    let (first, second, third) = (calls.clone(), calls.clone(), calls.clone());
    let policy = Policy::new()
        .store_if(move |_, _| {
            first.add("first".to_owned());
            StoreDecision::Store
        })
        .store_if(move |_, _| {
            second.add("second".to_owned());
            StoreDecision::DoNotStore("second")
        })
        .store_if(move |_, _| {
            third.add("third".to_owned());
            StoreDecision::KeepStored("third")
        });
    let app = app_of(builder().0, policy);
    let answer = app.client.get("/").await;
    assert!(answer.cache_status().ends_with("detail=second"), "{}", answer.cache_status());
    assert_eq!(calls.take(), ["first", "second"]);
}

/// The function cannot loosen a check of the cache, so it is asked only after all of them.
#[actix_web::test]
async fn function_is_called_once_for_each_response_that_would_be_stored() {
    let calls = SharedLines::default();
    let recorded = calls.clone();
    let policy = Policy::new().status_ttl(503, secs(60)).store_if(move |request, response| {
        recorded.add(format!("{} {}", request.path(), response.status().as_u16()));
        StoreDecision::Store
    });
    let app =
        test_app(&builder().0.policy(policy).build().unwrap(), |request, _| match request.path() {
            "/private" => HttpResponse::Ok().insert_header(("cache-control", "private")).finish(),
            "/cookie" => HttpResponse::Ok().insert_header(("set-cookie", "a=b")).finish(),
            "/error" => HttpResponse::ServiceUnavailable().finish(),
            "/missing" => HttpResponse::NotFound().finish(),
            _ => HttpResponse::Ok().body("page"),
        });
    for path in ["/private", "/cookie", "/missing", "/error", "/page", "/page", "/error"] {
        app.client.get(path).await;
    }
    app.client.head("/head").await;
    assert_eq!(calls.take(), ["/error 503", "/page 200"]);
}

#[actix_web::test]
async fn function_sees_whole_bodies_but_no_streams() {
    let bodies = SharedLines::default();
    let recorded = bodies.clone();
    let policy = Policy::new().store_if(move |_, response: &StorableResponse<'_>| {
        recorded.add(format!("{:?}", response.body()));
        StoreDecision::Store
    });
    let app = test_app(&builder().0.policy(policy).build().unwrap(), |request, _| {
        let chunk = Ok::<_, std::io::Error>(Bytes::from_static(b"chunk"));
        match request.path() {
            "/stream" => HttpResponse::Ok().body(BodyStream::new(stream::iter([chunk]))),
            "/empty" => HttpResponse::Ok().finish(),
            _ => HttpResponse::Ok().content_type(ContentType::plaintext()).body("whole"),
        }
    });
    for path in ["/stream", "/empty", "/whole"] {
        assert!(app.client.get(path).await.is_stored(), "{path}");
        assert!(app.client.get(path).await.is_hit(), "{path}");
    }
    assert_eq!(bodies.take(), ["None", "Some(b\"\")", "Some(b\"whole\")"]);
}

#[actix_web::test]
async fn function_sees_the_extensions_of_middlewares() {
    let policy =
        Policy::new().store_if(|request, _| match request.extensions().get::<&'static str>() {
            Some(&reason) => StoreDecision::DoNotStore(reason),
            None => StoreDecision::Store,
        });
    let cache: Cache = builder().0.policy(policy).build().unwrap();
    let server = serve(1, move || {
        App::new()
            .wrap(cache.clone())
            .wrap_fn(|request, service| {
                request.extensions_mut().insert("tenant");
                service.call(request)
            })
            .default_service(web::to(|| async { "page" }))
    });
    let client = Client::new(server.addr, Protocol::Http1);
    let answer = client.get("/").await;
    assert!(answer.cache_status().ends_with("detail=tenant"), "{}", answer.cache_status());
}

#[actix_web::test]
async fn kept_response_answers_in_place_of_an_error_in_disguise() {
    let (builder, clock) = builder();
    let policy = Policy::new().stale_if_error(secs(100));
    let app = app_of(builder, refuse_run_two(StoreDecision::KeepStored("upstream"))(policy));
    app.client.get("/").await;
    clock.advance(secs(61));
    let stale = app.client.get("/").await;
    assert_eq!((stale.status.as_u16(), stale.text()), (200, "run 1"));
    let want = "fwd=stale; fwd-status=200; detail=stale-if-error";
    assert_eq!(stale.cache_status(), want);
    assert_eq!(stale.field("x-run").as_deref(), Some("1"));
    let next = app.client.get("/").await;
    assert_eq!((next.text(), next.is_stored()), ("run 3", true));
}

#[actix_web::test]
async fn error_in_disguise_is_sent_if_the_stored_response_is_too_stale() {
    let (builder, clock) = builder();
    let app = app_of(builder, refuse_run_two(StoreDecision::KeepStored("upstream"))(Policy::new()));
    app.client.get("/").await;
    clock.advance(secs(61));
    let sent = app.client.get("/").await;
    assert_eq!(sent.text(), "run 2");
    assert_eq!(sent.cache_status(), "fwd=stale; detail=upstream");
}

/// A refused response goes to the client, even within the window for errors.
#[actix_web::test]
async fn refusal_alone_is_no_failure() {
    let (builder, clock) = builder();
    let policy = Policy::new().stale_if_error(secs(100));
    let app = app_of(builder, refuse_run_two(StoreDecision::DoNotStore("second"))(policy));
    app.client.get("/").await;
    clock.advance(secs(61));
    let sent = app.client.get("/").await;
    assert_eq!(sent.text(), "run 2");
    assert_eq!(sent.cache_status(), "fwd=stale; detail=second");
}

/// A 404 withdraws the stored response, but a 404 that the application calls an error does not.
#[actix_web::test]
async fn disguised_error_does_not_withdraw_the_stored_response() {
    for (decision, want) in
        [(StoreDecision::KeepStored("bad"), "run 1"), (StoreDecision::DoNotStore("bad"), "down")]
    {
        let (builder, clock) = builder();
        let policy = Policy::new().status_ttl(404, secs(60)).stale_if_error(secs(1000)).store_if(
            move |_, response| match response.status().as_u16() {
                404 => decision,
                _ => StoreDecision::Store,
            },
        );
        let app = test_app(&builder.policy(policy).build().unwrap(), |_, run| match run {
            1 => HttpResponse::Ok().body("run 1"),
            2 => HttpResponse::NotFound().finish(),
            _ => HttpResponse::InternalServerError().body("down"),
        });
        app.client.get("/").await;
        clock.advance(secs(61));
        app.client.get("/").await;
        assert_eq!(app.client.get("/").await.text(), want, "{decision:?}");
    }
}

#[actix_web::test]
async fn refresh_whose_response_is_an_error_in_disguise_backs_off() {
    let (clock, store) = (ManualClock::at(START), store());
    let policy = Policy::new().stale_while_revalidate(secs(1000)).stale_if_error(secs(1000));
    let builder = Cache::builder(store.clone()).clock(clock.clock());
    let app = app_of(builder, refuse_run_two(StoreDecision::KeepStored("upstream"))(policy));
    let refreshed = || async {
        wait_until("no refresh runs", || store.coordinator().open_refreshes() == 0).await;
    };
    app.client.get("/").await;
    clock.advance(secs(61));
    assert_eq!(app.client.get("/").await.text(), "run 1");
    refreshed().await;
    assert_eq!((app.runs.get(), store.coordinator().problems().failed_refreshes), (2, 1));
    // Within the pause after the failure, no refresh starts.
    assert_eq!(app.client.get("/").await.text(), "run 1");
    refreshed().await;
    assert_eq!(app.runs.get(), 2);
    clock.advance(secs(2));
    assert_eq!(app.client.get("/").await.text(), "run 1");
    refreshed().await;
    let fresh = app.client.get("/").await;
    assert_eq!((fresh.text(), fresh.is_hit(), app.runs.get()), ("run 3", true, 3));
}

/// The client of an update by 304 gets the stored body in any case.
#[actix_web::test]
async fn update_by_304_shows_the_updated_fields_and_the_stored_body() {
    for (refused, want) in [
        (StoreDecision::Store, "fwd-status=304; stored"),
        (StoreDecision::DoNotStore("no"), "fwd-status=304; detail=no"),
        (StoreDecision::KeepStored("no"), "fwd-status=304; detail=no"),
    ] {
        let (builder, clock) = builder();
        let seen = SharedLines::default();
        let recorded = seen.clone();
        let policy = Policy::new().store_if(move |_, response| {
            let run = response.headers().get("x-run").unwrap().to_str().unwrap().to_owned();
            recorded.add(format!("{} {run} {:?}", response.status(), response.body().unwrap()));
            if run == "2" { refused } else { StoreDecision::Store }
        });
        let app = test_app(&builder.policy(policy).build().unwrap(), |request, run| {
            let mut response = match request.headers().contains_key("if-none-match") {
                true => HttpResponse::NotModified(),
                false => HttpResponse::Ok(),
            };
            response.insert_header(("etag", "\"a\"")).insert_header(("x-run", run));
            if run == 1 { response.body("page") } else { response.finish() }
        });
        app.client.get("/").await;
        clock.advance(secs(61));
        let answer = app.client.get("/").await;
        assert_eq!(answer.text(), "page");
        assert!(answer.cache_status().ends_with(want), "{}", answer.cache_status());
        assert_eq!(seen.take(), ["200 OK 1 b\"page\"", "200 OK 2 b\"page\""]);
    }
}

#[actix_web::test]
async fn response_to_post_can_be_refused() {
    for (decision, stored) in
        [(StoreDecision::Store, true), (StoreDecision::DoNotStore("post"), false)]
    {
        let policy = Policy::rfc9111().store_if(move |request, _| match *request.method() {
            Method::POST => decision,
            _ => StoreDecision::Store,
        });
        let app = test_app(&builder().0.policy(policy).build().unwrap(), |request, _| {
            HttpResponse::Ok()
                .insert_header(("cache-control", "max-age=60"))
                .insert_header(("content-location", request.path()))
                .body(request.method().to_string())
        });
        let post = app.client.send(hyper::Method::POST, "/", &[]).await;
        assert_eq!(post.is_stored(), stored, "{}", post.cache_status());
        assert_eq!(app.client.get("/").await.text(), if stored { "POST" } else { "GET" });
    }
}
