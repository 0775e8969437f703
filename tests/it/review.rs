//! What lies between the rooms: failures, validation, purges and background work where they meet.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use actix_web::{
    App, Error, HttpMessage, HttpRequest, HttpResponse,
    body::MessageBody,
    dev::{ServiceRequest, ServiceResponse},
    error::InternalError,
    guard,
    http::{Method, StatusCode},
    middleware::{Compress, Next, from_fn},
    web,
};
use actix_web_cache::{Cache, Policy, store::Store as _};

use crate::support::*;

/// Like many handlers: compares the tag of the page it would send, without a look at whose page
/// the client has.
fn tagged(request: &HttpRequest, tag: &str, body: String) -> HttpResponse {
    let has =
        request.headers().get_all("if-none-match").any(|line| line.to_str().unwrap().contains(tag));
    let mut response = if has { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    response.insert_header(("etag", tag));
    if has { response.finish() } else { response.body(body) }
}

async fn refuse(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let status =
        request.headers().get("refuse").map(|line| line.to_str().unwrap().parse().unwrap());
    match status {
        Some(status) => {
            let status = StatusCode::from_u16(status).unwrap();
            Err(InternalError::new("refused", status).into())
        }
        None => next.call(request).await,
    }
}

#[actix_web::test]
async fn an_error_that_refuses_is_no_failure_that_something_stale_could_answer() {
    let (builder, clock) = builder();
    let cache = builder.policy(Policy::new().stale_if_error(secs(3600))).build().unwrap();
    let server = serve(1, move || {
        App::new()
            .wrap(from_fn(refuse))
            .wrap(cache.clone())
            .default_service(web::to(|| async { "page" }))
    });
    let client = Client::new(server.addr, Protocol::Http1);
    assert!(client.get("/").await.is_stored());
    clock.advance(secs(70));
    for (refused, want) in
        [("401", 401), ("403", 403), ("404", 404), ("410", 410), ("429", 429), ("501", 501)]
    {
        let answer = client.get_with("/", &[("refuse", refused)]).await;
        assert_eq!(answer.status.as_u16(), want, "{refused}");
    }
    for failed in ["500", "502", "503", "504"] {
        let answer = client.get_with("/", &[("refuse", failed)]).await;
        assert_eq!((answer.status.as_u16(), answer.text()), (200, "page"), "{failed}");
    }
}

#[actix_web::test]
async fn what_is_purged_while_its_handler_fails_rescues_nobody() {
    for keyed in [false, true] {
        let (builder, clock) = builder();
        let policy = Policy::new().stale_if_error(secs(3600));
        let policy = if keyed { policy.key_header("x-tenant") } else { policy };
        let cache = builder.policy(policy).build().unwrap();
        let (stop, fails) = (Stop::new(), Arc::new(AtomicBool::new(false)));
        let made = (cache.clone(), stop.clone(), Arc::clone(&fails));
        let server = serve(1, move || {
            let (cache, stop, fails) = made.clone();
            App::new().wrap(cache).default_service(web::to(move || {
                let (stop, fails) = (stop.clone(), fails.load(Ordering::SeqCst));
                async move {
                    if !fails {
                        return HttpResponse::Ok().body("withdrawn");
                    }
                    stop.wait().await;
                    HttpResponse::ServiceUnavailable().finish()
                }
            }))
        });
        let client = Client::new(server.addr, Protocol::Http1);
        assert!(client.get("/").await.is_stored());
        clock.advance(secs(70));
        fails.store(true, Ordering::SeqCst);
        let asked = tokio::task::spawn({
            let client = client.clone();
            async move { client.get("/").await }
        });
        stop.reached().await;
        cache.handle().purge_url(format!("http://{}/", server.addr)).await.unwrap();
        stop.release();
        let answer = asked.await.unwrap();
        assert_eq!(answer.status, 503, "by a part of the key: {keyed}");
    }
}

#[actix_web::test]
async fn nobody_gets_somebody_elses_page_because_their_tags_are_the_same() {
    for (field, one, other, directives, policy) in [
        ("cookie", "sid=a", "sid=b", "max-age=60", Policy::new()),
        ("cookie", "sid=a", "sid=b", "max-age=60", Policy::rfc9111()),
        ("authorization", "Bearer a", "Bearer b", "public, max-age=60", Policy::new()),
        ("authorization", "Bearer a", "Bearer b", "public, max-age=60", Policy::rfc9111()),
        ("x-api-key", "a", "b", "max-age=60", Policy::new()),
        ("x-api-key", "a", "b", "max-age=60", Policy::rfc9111()),
        ("accept-language", "de", "fr", "max-age=60", Policy::new()),
    ] {
        let (builder, clock) = builder();
        let cache = builder.policy(policy).build().unwrap();
        let site = site(&cache, move |request, _| {
            let who = request.headers().get(field).map_or("", |line| line.to_str().unwrap());
            let mut response = tagged(request, "\"1\"", format!("for {who}"));
            response.headers_mut().insert("vary".parse().unwrap(), field.parse().unwrap());
            response
                .headers_mut()
                .insert("cache-control".parse().unwrap(), directives.parse().unwrap());
            response
        });
        let get = |value: &'static str| {
            let client = site.client.clone();
            async move { client.get_with("/", &[(field, value)]).await }
        };
        assert!(get(one).await.is_stored(), "{field}");
        assert_eq!(get(other).await.text(), format!("for {other}"), "{field}");
        clock.advance(secs(70));
        assert_eq!(get(other).await.text(), format!("for {other}"), "{field}, stale");
        assert_eq!(get(one).await.text(), format!("for {one}"), "{field}, stale");
    }
}

#[actix_web::test]
async fn a_coding_is_for_those_who_accept_it_although_its_tag_is_that_of_the_page() {
    for policy in [Policy::new(), Policy::rfc9111()] {
        let (builder, _clock) = builder();
        let cache = builder.policy(policy).build().unwrap();
        let server = serve(1, move || {
            let page = |request: HttpRequest| async move {
                let mut response = tagged(&request, "\"1\"", "page ".repeat(1000));
                response
                    .headers_mut()
                    .insert("cache-control".parse().unwrap(), "max-age=60".parse().unwrap());
                response
            };
            App::new().wrap(Compress::default()).wrap(cache.clone()).default_service(web::to(page))
        });
        let client = Client::new(server.addr, Protocol::Http1);
        let coded = client.get_with("/", &[("accept-encoding", "gzip")]).await;
        assert_eq!(coded.field("content-encoding").as_deref(), Some("gzip"));
        let plain = client.get("/").await;
        assert_eq!(plain.field("content-encoding"), None);
        assert!(plain.text().starts_with("page "));
    }
}

#[actix_web::test]
async fn a_head_that_names_nothing_of_what_is_stored_does_not_keep_it_alive() {
    for (case, status, etag, policy) in [
        ("tagged", 200, Some("\"1\""), Policy::new()),
        ("without tag", 200, None, Policy::new().stale_if_error(secs(3600))),
        ("not found", 404, Some("\"1\""), Policy::new().status_ttl(404, secs(60))),
    ] {
        let (builder, clock) = builder();
        let cache = builder.policy(policy).build().unwrap();
        let site = site(&cache, move |request, run| {
            if request.method() == Method::HEAD {
                return HttpResponse::Ok().finish();
            }
            let mut response = HttpResponse::build(StatusCode::from_u16(status).unwrap());
            if let Some(etag) = etag {
                response.insert_header(("etag", etag));
            }
            response.body(format!("run {run}"))
        });
        assert!(site.client.get("/").await.is_stored(), "{case}");
        clock.advance(secs(70));
        site.client.head("/").await;
        let next = site.client.get("/").await;
        assert_eq!((next.is_hit(), next.text()), (false, "run 3"), "{case}");
    }
}

#[actix_web::test]
async fn a_store_that_does_not_forget_does_not_hold_up_a_head() {
    let store = Watched::new();
    let clock = actix_web_cache::ManualClock::at(START);
    let cache = Cache::builder(store.clone()).clock(clock.clock()).build().unwrap();
    let site = site(&cache, |request, run| {
        let tag = if request.method() == Method::HEAD { "\"2\"" } else { "\"1\"" };
        HttpResponse::Ok().insert_header(("etag", tag)).body(format!("run {run}"))
    });
    assert!(site.client.get("/").await.is_stored());
    store.stored().await;
    clock.advance(secs(70));
    let stop = store.stop_at("removing");
    let answer = tokio::time::timeout(secs(20), site.client.head("/")).await;
    assert_eq!(answer.expect("an answer").status, 200);
    stop.reached().await;
}

#[actix_web::test]
async fn of_a_body_that_nobody_reads_one_copy_at_a_time_is_made() {
    let store = store();
    let (coordinator, cache) = (store.coordinator().clone(), Cache::new(store));
    let (feeds, mut made) = feeds();
    let server = serve(1, move || {
        let (cache, feeds) = (cache.clone(), feeds.clone());
        App::new().wrap(cache).default_service(web::to(move || {
            let mut response = feeds.response(None);
            response.headers_mut().insert("etag".parse().unwrap(), "\"1\"".parse().unwrap());
            async move { response }
        }))
    });
    let client = Client::new(server.addr, Protocol::Http1);
    let get = || client.get_with("/", &[("if-none-match", "\"1\"")]);
    assert_eq!(get().await.status, 304);
    let first = made.recv().await.unwrap();
    assert_eq!(get().await.status, 304);
    let second = made.recv().await.unwrap();
    tokio::time::timeout(secs(20), second.closed()).await.expect("the second body is dropped");
    assert!(first.send("page").await);
    drop(first);
    settled(&coordinator).await;
    assert!(client.get("/").await.is_hit());
}

/// Keeps a handle on the request while those further in have it.
async fn hold(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let held = request.request().clone();
    let answer = next.call(request).await;
    drop(held);
    answer
}

#[actix_web::test]
async fn a_request_that_a_middleware_around_the_resource_holds_is_answered_all_the_same() {
    for (case, policy) in [
        ("validated", Policy::new()),
        ("refreshed", Policy::new().stale_while_revalidate(secs(3600))),
    ] {
        let (builder, clock) = builder();
        let cache = builder.policy(policy).build().unwrap();
        let server = serve(1, move || {
            let page =
                |request: HttpRequest| async move { tagged(&request, "\"1\"", "page".to_owned()) };
            let resource = web::resource("/").wrap(cache.clone()).wrap(from_fn(hold));
            App::new().service(resource.route(web::get().to(page)))
        });
        let client = Client::new(server.addr, Protocol::Http1);
        let conditional =
            [("if-none-match", "\"2\""), ("range", "bytes=0-1"), ("authorization", "x")];
        for (fields, stored) in
            [(&conditional[..1], "new"), (&[][..], "stored"), (&conditional[..1], "stored")]
        {
            let answer = client.send_body(hyper::Method::GET, "/", fields, "").await;
            assert_eq!(answer.expect("an answer").text(), "page", "{case}, {stored}, {fields:?}");
        }
        for fields in [&[][..], &conditional[..1], &conditional[2..]] {
            clock.advance(secs(70));
            let answer = client.send_body(hyper::Method::GET, "/", fields, "").await;
            assert_eq!(answer.expect("an answer").text(), "page", "{case}, stale, {fields:?}");
        }
    }
}

#[actix_web::test]
async fn a_cache_further_in_answers_the_clients_conditions_and_no_others() {
    let (outer, clock) = cache();
    let inner = outer.with_policy(Policy::new());
    let server = serve(1, move || {
        let page = |name: &'static str| {
            web::to(move |request: HttpRequest| async move {
                tagged(&request, "\"1\"", name.to_owned())
            })
        };
        App::new()
            .wrap(outer.clone())
            .service(
                web::resource("/")
                    .guard(guard::Header("x-inner", "1"))
                    .wrap(inner.clone())
                    .route(page("inner")),
            )
            .service(web::resource("/").route(page("outer")))
    });
    let client = Client::new(server.addr, Protocol::Http1);
    assert!(client.get("/").await.is_stored());
    clock.advance(secs(70));
    let answer = client.get_with("/", &[("x-inner", "1")]).await;
    assert_eq!((answer.status.as_u16(), answer.text()), (200, "inner"));
}

#[actix_web::test]
async fn cache_status_is_a_list_of_structured_fields_even_where_nobody_was_asked() {
    let (builder, _clock) = builder();
    let cache = builder.policy(Policy::new().honor_request_directives()).build().unwrap();
    let site = site(&cache, |_, _| HttpResponse::Ok().body("page"));
    let answer = site.client.get_with("/", &[("cache-control", "only-if-cached")]).await;
    assert_eq!(answer.status, 504);
    let status = answer.field("cache-status");
    assert_eq!(status.as_deref(), Some("actix-web-cache; detail=only-if-cached"));
}

#[actix_web::test]
async fn a_304_that_is_old_itself_says_so_to_clients() {
    let (cache, clock) = cache();
    let site = site(&cache, |request, _| {
        let mut response = tagged(request, "\"1\"", "page".to_owned());
        response
            .headers_mut()
            .insert("cache-control".parse().unwrap(), "max-age=60".parse().unwrap());
        if response.status() == StatusCode::NOT_MODIFIED {
            response.headers_mut().insert("age".parse().unwrap(), "50".parse().unwrap());
        }
        response
    });
    site.client.get("/").await;
    clock.advance(secs(70));
    for (status, age) in [("fwd=stale; fwd-status=304; stored", "50"), ("hit; ttl=10", "50")] {
        let answer = site.client.get("/").await;
        assert_eq!(answer.cache_status(), status);
        assert_eq!(answer.field("age").as_deref(), Some(age), "{status}");
    }
}

struct Language(String);

#[actix_web::test]
async fn what_middlewares_further_out_found_of_a_request_counts_for_its_refresh() {
    let (builder, clock) = builder();
    let policy = Policy::new().stale_while_revalidate(secs(3600));
    let cache = builder.policy(policy).build().unwrap();
    let runs = Counter::default();
    let counter = runs.clone();
    let server = serve(1, move || {
        let counter = counter.clone();
        let page = move |request: HttpRequest| {
            let run = counter.count();
            let body = match request.extensions().get::<Language>() {
                Some(Language(language)) => format!("{language} {run}"),
                None => format!("en {run}"),
            };
            let response = HttpResponse::Ok().insert_header(("vary", "accept-language")).body(body);
            async move { response }
        };
        App::new()
            .wrap(cache.clone())
            .wrap_fn(|request, service| {
                if let Some(line) = request.headers().get("accept-language") {
                    let language = line.to_str().unwrap().to_owned();
                    request.extensions_mut().insert(Language(language));
                }
                actix_web::dev::Service::call(service, request)
            })
            .default_service(web::to(page))
    });
    let client = Client::new(server.addr, Protocol::Http1);
    let get = || client.get_with("/", &[("accept-language", "de")]);
    assert_eq!(get().await.text(), "de 1");
    clock.advance(secs(70));
    assert_eq!(get().await.text(), "de 1");
    eventually("the handler ran", || runs.get() == 2).await;
    let wait = async {
        loop {
            let answer = get().await;
            if answer.text() != "de 1" {
                return answer;
            }
        }
    };
    let answer = tokio::time::timeout(secs(20), wait).await.expect("a refresh");
    assert!(answer.text().starts_with("de "), "{}", answer.text());
}
