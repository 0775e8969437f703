//! The cache together with actix-web's own middleware, on either side of it.

use std::sync::{Arc, Mutex};

use actix_web::{
    App, HttpResponse,
    dev::ServiceResponse,
    http::{StatusCode, header},
    middleware::{
        Condition, DefaultHeaders, ErrorHandlerResponse, ErrorHandlers, Logger, NormalizePath,
    },
    web,
};
use actix_web_cache::Cache;

use crate::support::{
    Answer, Client, Counter, Protocol, SETUPS, Wire, cache, hit_without_handler, serve, store,
};

async fn page() -> &'static str {
    "page"
}

fn is_page(answer: &Answer) -> bool {
    answer.field("content-encoding").is_none() && answer.text() == "page"
}

#[actix_web::test]
async fn logger_inside_sees_misses_and_logger_outside_sees_all() {
    for (protocol, workers) in SETUPS {
        let (cache, _) = cache();
        let (inside, outside) = (SeenResponses::default(), SeenResponses::default());
        let (inner, outer) = (inside.clone(), outside.clone());
        let server = serve(workers, move || {
            let logger = |seen: SeenResponses| {
                let note = move |response: &ServiceResponse| seen.note(response);
                Logger::new("%s %{seen}xo").custom_response_replace("seen", note)
            };
            App::new()
                .route("/", web::get().to(page))
                .wrap(logger(inner.clone()))
                .wrap(cache.clone())
                .wrap(logger(outer.clone()))
        });
        let client = Client::new(server.addr, protocol);
        for _ in 0..3 {
            assert!(is_page(&client.get("/").await), "{protocol:?}");
        }
        assert_eq!(inside.all(), ["200 no status"], "{protocol:?}");
        assert_eq!(
            outside.all(),
            [
                "200 actix-web-cache; fwd=uri-miss; stored",
                "200 actix-web-cache; hit; ttl=60",
                "200 actix-web-cache; hit; ttl=60"
            ],
            "{protocol:?}"
        );
    }
}

/// The responses that a logger saw.
#[derive(Clone, Default)]
struct SeenResponses(Arc<Mutex<Vec<String>>>);

impl SeenResponses {
    fn note(&self, response: &ServiceResponse) -> String {
        let status = response.headers().get("cache-status");
        let status = status.map_or("no status", |status| status.to_str().unwrap());
        self.0.lock().unwrap().push(format!("{} {status}", response.status().as_u16()));
        String::new()
    }

    fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

#[actix_web::test]
async fn default_headers_are_stored_only_when_set_inside_cache() {
    let store = store();
    let cache = Cache::new(store.clone());
    let server = serve(1, move || {
        App::new()
            .route("/", web::get().to(page))
            .wrap(DefaultHeaders::new().add(("x-inside", "1")))
            .wrap(cache.clone())
            .wrap(DefaultHeaders::new().add(("x-outside", "1")).add(("age", "99")))
    });
    let mut wire = Wire::open(server.addr);
    for is_hit in [false, true, true] {
        let message = wire.get("/", "");
        assert_eq!(message.is_hit(), is_hit);
        assert_eq!(message.line("x-inside"), Some("1"));
        assert_eq!(message.line("x-outside"), Some("1"));
        // A default does not replace the field of the cache.
        assert_eq!(message.line("age"), Some(if is_hit { "0" } else { "99" }));
    }
    let stored = hit_without_handler(store);
    assert_eq!((stored.line("x-inside"), stored.line("x-outside")), (Some("1"), None));
}

#[actix_web::test]
async fn normalize_path_outside_cache_merges_entries() {
    // Responses to rewritten paths are not stored.
    for (inside, want_runs) in [(true, 1), (false, 5)] {
        let (cache, _) = cache();
        let runs = Counter::default();
        let counter = runs.clone();
        let server = serve(1, move || {
            let runs = counter.clone();
            let handler = web::get().to(move || {
                runs.count();
                page()
            });
            // One of the two conditions is false.
            App::new()
                .route("/a/b", handler)
                .wrap(Condition::new(!inside, NormalizePath::trim()))
                .wrap(cache.clone())
                .wrap(Condition::new(inside, NormalizePath::trim()))
        });
        let client = Client::new(server.addr, Protocol::Http1);
        for _ in 0..2 {
            for path in ["/a/b", "/a//b", "/a/b/"] {
                assert!(is_page(&client.get(path).await), "{path}, inside: {inside}");
            }
        }
        assert_eq!(runs.get(), want_runs, "inside: {inside}");
    }
}

#[actix_web::test]
async fn error_handlers_run_on_hits_only_outside_cache() {
    for (protocol, workers) in SETUPS {
        let (cache, _) = cache();
        let (inside, outside) = (Counter::default(), Counter::default());
        let (inner, outer) = (inside.clone(), outside.clone());
        let server = serve(workers, move || {
            let missing = || async {
                HttpResponse::NotFound()
                    .insert_header((header::CACHE_CONTROL, "max-age=60"))
                    .body("missing")
            };
            App::new()
                .route("/", web::get().to(missing))
                .wrap(on_404("x-inside", inner.clone()))
                .wrap(cache.clone())
                .wrap(on_404("x-outside", outer.clone()))
        });
        let client = Client::new(server.addr, protocol);
        for round in 1..=3 {
            let answer = client.get("/").await;
            assert_eq!((answer.status.as_u16(), answer.text()), (404, "missing"));
            assert_eq!(answer.is_hit(), round > 1, "{protocol:?}");
            assert_eq!(answer.field("x-inside").as_deref(), Some("1"), "{protocol:?}");
            assert_eq!(answer.field("x-outside"), Some(round.to_string()), "{protocol:?}");
        }
        assert_eq!((inside.get(), outside.get()), (1, 3), "{protocol:?}");
    }
}

/// Writes the number of its runs into every 404.
fn on_404<B: 'static>(name: &'static str, runs: Counter) -> ErrorHandlers<B> {
    ErrorHandlers::new().handler(StatusCode::NOT_FOUND, move |mut response: ServiceResponse<B>| {
        let run = header::HeaderValue::from(runs.count());
        response.headers_mut().insert(header::HeaderName::from_static(name), run);
        Ok(ErrorHandlerResponse::Response(response.map_into_left_body()))
    })
}

#[actix_web::test]
async fn condition_enables_or_disables_the_cache() {
    for (protocol, workers) in SETUPS {
        for enabled in [true, false] {
            let (cache, _) = cache();
            let server = serve(workers, move || {
                App::new()
                    .route("/", web::get().to(page))
                    .wrap(Condition::new(enabled, cache.clone()))
            });
            let client = Client::new(server.addr, protocol);
            for is_hit in [false, enabled] {
                let answer = client.get("/").await;
                assert!(is_page(&answer));
                assert_eq!(answer.is_hit(), is_hit, "{enabled} by {protocol:?}");
                assert_eq!(answer.field("cache-status").is_some(), enabled, "{protocol:?}");
            }
        }
    }
}
