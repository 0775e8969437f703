//! Streamed bodies are forwarded chunk by chunk, and stored when they are complete and within the
//! size limit.

use std::{
    future::{poll_fn, ready},
    io,
    pin::pin,
};

use actix_web::{
    App, HttpRequest, HttpResponse,
    body::{BodyStream, MessageBody as _, SizedStream},
    test::{TestRequest, call_service, init_service},
    web,
};
use actix_web_cache::{Cache, Policy, store::Store as _};
use bytes::Bytes;
use futures_util::stream;
use http_body_util::BodyExt as _;
use hyper::Method;

use crate::support::{
    Client, SETUPS, Wire, builder, cache, fills_ended, manual_bodies, serve, store,
};

/// The number at the end of a path.
fn number(request: &HttpRequest) -> usize {
    request.path().rsplit('/').next().unwrap().parse().unwrap()
}

#[actix_web::test]
async fn first_chunk_reaches_the_client_before_the_last_is_produced() {
    let (one, two) = ("one ".repeat(100), "two".repeat(200));
    for (protocol, workers) in SETUPS {
        // Within and over the size limit, with a declared and an unknown length.
        for (length, limit, stored) in [
            (Some(1000), 1000, true),
            (None, 1000, true),
            (Some(1000), 999, false),
            (None, 999, false),
        ] {
            let case = format!("{length:?} bytes of at most {limit} by {protocol:?}");
            let (builder, _) = builder();
            let cache = builder.policy(Policy::new().max_body_size(limit)).build().unwrap();
            let (handlers, mut bodies) = manual_bodies();
            let server = serve(workers, move || {
                let bodies = handlers.clone();
                App::new()
                    .wrap(cache.clone())
                    .default_service(web::to(move || ready(bodies.response(length))))
            });
            let client = Client::new(server.addr, protocol);
            let start = || client.start(Method::GET, "/", &[], "");
            let (response, sender) = tokio::join!(start(), bodies.recv());
            let (mut body, sender) = (response.unwrap().into_body(), sender.unwrap());
            assert!(sender.send(one.clone()).await, "{case}");
            let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
            assert_eq!(first, one, "{case}");
            assert!(sender.finish(two.clone()).await, "{case}");
            assert_eq!(body.collect().await.unwrap().to_bytes(), two, "{case}");
            // Either the store or a second run of the handler answers.
            let hit = tokio::select! {
                answer = client.get("/") => Some(answer),
                _ = bodies.recv() => None,
            };
            assert_eq!(hit.is_some(), stored, "{case}");
            assert!(
                hit.is_none_or(|hit| hit.is_hit() && hit.body == [&*one, &*two].concat()),
                "{case}"
            );
        }
    }
}

#[actix_web::test]
async fn body_is_stored_up_to_the_size_limit_and_always_delivered() {
    const LIMIT: usize = 1000;
    for (protocol, workers) in SETUPS {
        let store = store();
        let cache = Cache::builder(store.clone());
        let cache = cache.policy(Policy::new().max_body_size(LIMIT)).build().unwrap();
        let server = serve(workers, move || {
            App::new().wrap(cache.clone()).default_service(web::to(|request: HttpRequest| {
                let length = number(&request);
                let body = Bytes::from(vec![b'x'; length]);
                // No piece exceeds the size limit by itself.
                let pieces: Vec<_> = body.chunks(300).map(|piece| body.slice_ref(piece)).collect();
                let pieces = stream::iter(pieces.into_iter().map(Ok::<_, io::Error>));
                ready(match request.path().split('/').nth(1).unwrap() {
                    "sized" => HttpResponse::Ok().body(body),
                    "declared" => HttpResponse::Ok().body(SizedStream::new(length as u64, pieces)),
                    "in-head" => {
                        let body = BodyStream::new(pieces);
                        HttpResponse::Ok().no_chunking(length as u64).body(body)
                    }
                    _ => HttpResponse::Ok().streaming(pieces),
                })
            }))
        });
        let client = Client::new(server.addr, protocol);
        for kind in ["sized", "declared", "in-head", "undeclared"] {
            for length in [0, 1, LIMIT - 1, LIMIT, LIMIT + 1, 10 * LIMIT] {
                let path = format!("/{kind}/{length}");
                for round in 0..2 {
                    let answer = client.get(&path).await;
                    let case = format!("{path}, round {round}, by {protocol:?}");
                    assert_eq!(answer.body.len(), length, "{case}");
                    assert_eq!(answer.is_hit(), round == 1 && length <= LIMIT, "{case}");
                    if length > LIMIT && kind != "undeclared" {
                        assert_eq!(
                            answer.cache_status(),
                            "fwd=uri-miss; detail=too-large",
                            "{case}"
                        );
                    }
                }
            }
        }
        fills_ended(store.coordinator()).await;
    }
}

#[actix_web::test]
async fn body_is_stored_when_its_client_has_the_last_chunk() {
    for (protocol, workers) in SETUPS {
        let (cache, _) = cache();
        let server = serve(workers, move || {
            App::new().wrap(cache.clone()).default_service(web::to(|request: HttpRequest| {
                let pieces =
                    (0..number(&request)).map(|_| Ok::<_, io::Error>(Bytes::from("piece")));
                let length = 5 * number(&request) as u64;
                ready(if request.path().starts_with("/declared") {
                    HttpResponse::Ok().body(SizedStream::new(length, stream::iter(pieces)))
                } else {
                    HttpResponse::Ok().streaming(stream::iter(pieces))
                })
            }))
        });
        let (client, other) =
            (Client::new(server.addr, protocol), Client::new(server.addr, protocol));
        for pieces in 1..40 {
            for kind in ["declared", "undeclared"] {
                let path = format!("/{kind}/{pieces}");
                let miss = client.get(&path).await;
                let hit = other.get(&path).await;
                assert!(hit.is_hit(), "{path} by {protocol:?}");
                assert_eq!(hit.text(), "piece".repeat(pieces), "{path} by {protocol:?}");
                assert_eq!(hit.body, miss.body, "{path} by {protocol:?}");
            }
        }
    }
}

/// Servers stop polling a body at its declared length, so it must be stored by then. A client
/// cannot see when the server polls; this test polls in place of the server.
#[actix_web::test]
async fn body_with_declared_length_is_stored_before_its_last_chunk_is_returned() {
    let (cache, _) = cache();
    let (handlers, mut bodies) = manual_bodies();
    let app =
        App::new().wrap(cache).default_service(web::to(move || ready(handlers.response(Some(7)))));
    let app = init_service(app).await;
    let request = || TestRequest::get().insert_header(("host", "t")).to_request();
    let miss = call_service(&app, request()).await;
    let sender = bodies.recv().await.unwrap();
    let mut body = pin!(miss.into_body());
    let status = async || {
        let next = call_service(&app, request()).await;
        next.headers().get("cache-status").unwrap().to_str().unwrap().to_owned()
    };
    assert!(sender.send("one ").await);
    assert_eq!(poll_fn(|cx| body.as_mut().poll_next(cx)).await.unwrap().unwrap(), "one ");
    assert_eq!(status().await, "actix-web-cache; fwd=uri-miss; collapsed");
    assert!(sender.send("two").await);
    drop(sender);
    assert_eq!(poll_fn(|cx| body.as_mut().poll_next(cx)).await.unwrap().unwrap(), "two");
    assert_eq!(status().await, "actix-web-cache; hit; ttl=60");
}

#[actix_web::test]
async fn response_with_head_over_the_size_limit_is_delivered_but_not_stored() {
    let (builder, _) = builder();
    let cache = builder.policy(Policy::new().max_body_size(100_000)).build().unwrap();
    let server = serve(1, move || {
        App::new().wrap(cache.clone()).default_service(web::to(|request: HttpRequest| {
            let mut response = HttpResponse::Ok();
            for _ in 0..number(&request) {
                response.append_header(("link", "x".repeat(10_000)));
            }
            ready(response.body("page"))
        }))
    });
    let mut wire = Wire::open(server.addr);
    for (lines, hits) in [(9, [false, true]), (10, [false, false]), (200, [false, false])] {
        for hits in hits {
            let message = wire.get(&format!("/{lines}"), "");
            assert_eq!((message.is_hit(), message.text()), (hits, "page"), "{lines} lines");
            assert_eq!(message.lines("link").len(), lines);
        }
    }
}
