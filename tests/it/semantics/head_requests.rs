//! `HEAD` requests: a stored `GET` response answers them, and they store nothing themselves.

use actix_web::{App, HttpResponse, web};

use super::fields::fields_without_report;
use crate::support::{Client, SETUPS, cache, serve};

#[actix_web::test]
async fn head_never_stores_an_empty_body_for_a_get() {
    for (protocol, workers) in SETUPS {
        let (cache, _) = cache();
        let server = serve(workers, move || {
            App::new()
                .wrap(cache.clone())
                .default_service(web::to(|| async { HttpResponse::Ok().body("page") }))
        });
        let client = Client::new(server.addr, protocol);
        for _ in 0..2 {
            let head = client.head("/").await;
            assert_eq!(head.cache_status(), "fwd=uri-miss; detail=head", "{protocol:?}");
        }
        let get = client.get("/").await;
        assert_eq!((get.text(), get.is_stored()), ("page", true), "{protocol:?}");
        assert_eq!(client.get("/").await.text(), "page");
    }
}

#[actix_web::test]
async fn stored_get_answers_head_with_its_length_and_without_its_body() {
    for (protocol, workers) in SETUPS {
        let (cache, _) = cache();
        let server = serve(workers, move || {
            App::new()
                .wrap(cache.clone())
                .default_service(web::to(|| async { HttpResponse::Ok().body("twelve bytes") }))
        });
        let client = Client::new(server.addr, protocol);
        let get = client.get("/").await;
        let head = client.head("/").await;
        assert!(head.is_hit() && head.body.is_empty(), "{protocol:?}");
        assert_eq!(head.status, get.status);
        assert_eq!(head.field("content-length").as_deref(), Some("12"), "{protocol:?}");
        assert_eq!(fields_without_report(&head), fields_without_report(&get), "{protocol:?}");
    }
}
