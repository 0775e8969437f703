//! The request that the cache hands to the handler, when middleware holds it, when another cache is
//! further in, and in a background refresh.

use actix_web::{App, HttpMessage, HttpRequest, HttpResponse, guard, middleware::from_fn, web};
use actix_web_cache::{Policy, Rule};

use crate::support::{
    Client, Counter, Protocol, builder, cache, hold, secs, serve, wait_until, with_entity_tag,
};

/// actix-web cannot modify a request while a clone of it exists. The client must get a complete
/// response all the same.
#[actix_web::test]
async fn request_held_by_outer_middleware_is_answered() {
    for (case, policy) in [
        ("revalidated", Policy::new()),
        ("refreshed", Policy::new().stale_while_revalidate(secs(3600))),
    ] {
        let (builder, clock) = builder();
        let cache = builder.policy(policy).build().unwrap();
        let server = serve(1, move || {
            let page = |request: HttpRequest| async move {
                with_entity_tag(&request, "\"1\"", "page".to_owned())
            };
            let resource = web::resource("/").wrap(cache.clone()).wrap(from_fn(hold));
            App::new().service(resource.route(web::get().to(page)))
        });
        let client = Client::new(server.addr, Protocol::Http1);
        let conditional =
            [("if-none-match", "\"2\""), ("range", "bytes=0-1"), ("authorization", "x")];
        for (fields, state) in
            [(&conditional[..1], "miss"), (&[][..], "hit"), (&conditional[..1], "hit")]
        {
            let answer = client.send_body(hyper::Method::GET, "/", fields, "").await;
            assert_eq!(
                answer.expect("a complete response").text(),
                "page",
                "{case}, {state}, {fields:?}"
            );
        }
        for fields in [&[][..], &conditional[..1], &conditional[2..]] {
            clock.advance(secs(70));
            let answer = client.send_body(hyper::Method::GET, "/", fields, "").await;
            assert_eq!(
                answer.expect("a complete response").text(),
                "page",
                "{case}, stale, {fields:?}"
            );
        }
    }
}

/// An application without routes calls its default service without a change of the request. A default
/// service may also have a cache of its own.
#[actix_web::test]
async fn held_request_to_a_default_service_is_answered() {
    async fn page(request: HttpRequest) -> HttpResponse {
        with_entity_tag(&request, "\"1\"", "page".to_owned())
    }
    let ((around_app, clock), (around_service, _)) = (cache(), cache());
    let bypassed = builder().0.rule(Rule::prefix("/").bypass()).build().unwrap();
    let apps = [serve(1, move || {
        App::new().default_service(web::to(page)).wrap(around_app.clone()).wrap(from_fn(hold))
    })];
    let services = [around_service, bypassed].map(|cache| {
        serve(1, move || {
            let service = web::route().to(page).wrap(cache.clone()).wrap(from_fn(hold));
            App::new().default_service(service)
        })
    });
    for server in apps.iter().chain(&services) {
        let client = Client::new(server.addr, Protocol::Http1);
        for fields in [&[][..], &[("if-none-match", "\"2\"")], &[("range", "bytes=0-1")]] {
            for path in ["/", "/other", "/other"] {
                let answer = client.send_body(hyper::Method::GET, path, fields, "").await;
                let answer = answer.expect("a complete response");
                assert!(["page", "pa"].contains(&answer.text()), "{answer:?}");
            }
            clock.advance(secs(70));
        }
    }
}

/// The cache cannot ask the handler again, so the client gets what it would get without a cache.
#[actix_web::test]
async fn unasked_304_to_a_held_request_is_passed_on() {
    let (cache, _) = cache();
    let runs = Counter::default();
    let counter = runs.clone();
    let server = serve(1, move || {
        let runs = counter.clone();
        let page = move || {
            runs.count();
            async { HttpResponse::NotModified().finish() }
        };
        let resource = web::resource("/").wrap(cache.clone()).wrap(from_fn(hold));
        App::new().service(resource.route(web::get().to(page)))
    });
    let client = Client::new(server.addr, Protocol::Http1);
    let answer = client.get("/").await;
    assert_eq!((answer.status.as_u16(), runs.get()), (304, 1), "{answer:?}");
}

/// The outer cache adds `If-None-Match` for its own entry. The inner cache must not answer it with
/// a 304 for another response.
#[actix_web::test]
async fn inner_cache_does_not_see_conditions_of_outer_cache() {
    let (outer, clock) = cache();
    let inner = outer.with_policy(Policy::new());
    let server = serve(1, move || {
        let page = |name: &'static str| {
            web::to(move |request: HttpRequest| async move {
                with_entity_tag(&request, "\"1\"", name.to_owned())
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

/// The language of a request, as outer middleware found it.
struct Language(String);

/// A refresh does not run the outer middleware again, so it needs the extensions of the client's
/// request.
#[actix_web::test]
async fn refresh_keeps_request_extensions_of_outer_middleware() {
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
    wait_until("the handler ran", || runs.get() == 2).await;
    let refreshed = async {
        loop {
            let answer = get().await;
            if answer.text() != "de 1" {
                return answer;
            }
        }
    };
    let answer = tokio::time::timeout(secs(20), refreshed).await.expect("a refresh within 20 s");
    assert!(answer.text().starts_with("de "), "{}", answer.text());
}
