//! A stored response and the hits after it.

use actix_web::{App, HttpResponse, body::SizedStream, web};
use bytes::Bytes;
use futures_util::stream;

use crate::support::{Client, Counter, SETUPS, cache, secs, serve};

#[actix_web::test]
async fn stored_response_is_a_hit_until_its_freshness_lifetime_ends() {
    for (protocol, workers) in SETUPS {
        let (cache, clock) = cache();
        let runs = Counter::default();
        let counter = runs.clone();
        let server = serve(workers, move || {
            let runs = counter.clone();
            App::new().wrap(cache.clone()).route(
                "/",
                web::get().to(move || {
                    let run = runs.count();
                    async move { HttpResponse::Ok().body(format!("run {run}")) }
                }),
            )
        });
        let client = Client::new(server.addr, protocol);
        let miss = client.get("/").await;
        assert_eq!(miss.cache_status(), "fwd=uri-miss; stored");
        assert_eq!(miss.field("age"), None);
        clock.advance(secs(7));
        let hit = client.get("/").await;
        assert_eq!(hit.cache_status(), "hit; ttl=53");
        assert_eq!(hit.field("age").as_deref(), Some("7"));
        assert_eq!((hit.status, &hit.body), (miss.status, &miss.body));
        assert_eq!(miss.field("cache-control").as_deref(), Some("max-age=60"));
        for field in ["cache-control", "expires", "date", "content-length", "content-type", "vary"]
        {
            assert_eq!(hit.field(field), miss.field(field), "{field} by {protocol:?}");
        }
        clock.advance(secs(53));
        assert_eq!(client.get("/").await.cache_status(), "fwd=stale; stored");
        assert_eq!(runs.get(), 2);
    }
}

#[actix_web::test]
async fn stream_with_declared_length_zero_is_stored_without_being_polled() {
    for (protocol, workers) in SETUPS {
        let (cache, _) = cache();
        let server = serve(workers, move || {
            let empty = || async {
                let none = stream::pending::<Result<Bytes, actix_web::Error>>();
                HttpResponse::Ok().body(SizedStream::new(0, none))
            };
            App::new().wrap(cache.clone()).route("/", web::get().to(empty))
        });
        let client = Client::new(server.addr, protocol);
        for want in ["fwd=uri-miss; stored", "hit; ttl=60"] {
            let answer = client.get("/").await;
            assert_eq!(answer.cache_status(), want, "{protocol:?}");
            assert_eq!(answer.field("content-length").as_deref(), Some("0"), "{protocol:?}");
        }
    }
}
