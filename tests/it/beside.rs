//! The cache beside actix's own middlewares, further in and further out than they are.

use std::sync::{Arc, Mutex};

use actix_web::{
    App, HttpResponse,
    dev::ServiceResponse,
    http::{StatusCode, header},
    middleware::{
        Compress, Condition, DefaultHeaders, ErrorHandlerResponse, ErrorHandlers, Logger,
        NormalizePath,
    },
    web,
};
use actix_web_cache::Cache;

use crate::support::{
    Answer, Client, Counter, Protocol, SETUPS, Wire, cache, is_alone, secs, serve, store,
    stored_alone,
};

/// A page long enough to be worth encoding.
async fn page() -> HttpResponse {
    HttpResponse::Ok().content_type("text/plain").body("a page ".repeat(200))
}

const GZIP: &[(&str, &str)] = &[("accept-encoding", "gzip")];
const PLAIN: &[(&str, &str)] = &[];

/// Whether a page came in the coding that was asked for.
fn is_page(answer: &Answer, gzip: bool) -> bool {
    let length = 7 * 200_u32;
    match answer.field("content-encoding").as_deref() {
        // The last four bytes tell the decoded length (RFC 1952 section 2.3.1).
        Some("gzip") => {
            gzip && answer.body.starts_with(&[0x1f, 0x8b])
                && answer.body.ends_with(&length.to_le_bytes())
        }
        None => !gzip && answer.text() == "a page ".repeat(200),
        Some(_) => false,
    }
}

#[actix_web::test]
async fn inside_of_compress_one_stored_page_serves_every_coding() {
    for (protocol, workers) in SETUPS {
        let (cache, _) = cache();
        let server = serve(workers, move || {
            App::new().route("/", web::get().to(page)).wrap(cache.clone()).wrap(Compress::default())
        });
        let client = Client::new(server.addr, protocol);
        for (round, fields) in [GZIP, PLAIN, GZIP, PLAIN].into_iter().enumerate() {
            let answer = client.get_with("/", fields).await;
            assert_eq!(answer.is_hit(), round > 0, "{round} by {protocol:?}");
            assert!(is_page(&answer, fields == GZIP), "{round} by {protocol:?}");
            let varies = answer.field("vary").is_some_and(|vary| vary.contains("accept-encoding"));
            assert_eq!(varies, fields == GZIP, "{round} by {protocol:?}");
        }
    }
}

#[actix_web::test]
async fn outside_of_compress_nobody_gets_a_coding_unasked() {
    for (protocol, workers) in SETUPS {
        let (cache, clock) = cache();
        let server = serve(workers, move || {
            App::new().route("/", web::get().to(page)).wrap(Compress::default()).wrap(cache.clone())
        });
        let client = Client::new(server.addr, protocol);
        for (round, (fields, status)) in [
            (GZIP, "fwd=uri-miss; stored"),
            (PLAIN, "fwd=vary-miss; stored"),
            (GZIP, "hit; ttl=60"),
            (PLAIN, "hit; ttl=60"),
        ]
        .into_iter()
        .enumerate()
        {
            let answer = client.get_with("/", fields).await;
            assert_eq!(answer.cache_status(), status, "{round} by {protocol:?}");
            assert!(is_page(&answer, fields == GZIP), "{round} by {protocol:?}");
        }
        // A page that was not encoded has no Vary: it serves all, until one that has comes.
        clock.advance(secs(61));
        assert!(is_page(&client.get_with("/", PLAIN).await, false));
        let all = client.get_with("/", GZIP).await;
        assert!(is_page(&all, !all.is_hit()), "by {protocol:?}");
        assert!(is_page(&client.get_with("/", PLAIN).await, false));
    }
}

/// Warnings logged in this process.
struct Warnings(Mutex<Vec<String>>);

impl log::Log for Warnings {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() == log::Level::Warn
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) && record.target().starts_with("actix_web_cache") {
            self.0.lock().unwrap().push(record.args().to_string());
        }
    }

    fn flush(&self) {}
}

#[actix_web::test]
async fn an_encoded_page_without_vary_is_warned_of_once() {
    static WARNINGS: Warnings = Warnings(Mutex::new(Vec::new()));
    if !is_alone("beside::an_encoded_page_without_vary_is_warned_of_once") {
        return;
    }
    log::set_logger(&WARNINGS).unwrap();
    log::set_max_level(log::LevelFilter::Trace);
    let (cache, _) = cache();
    let server = serve(1, move || {
        let encoded = || {
            let mut response = HttpResponse::Ok();
            response.insert_header((header::CONTENT_ENCODING, "br"));
            response
        };
        App::new()
            .route("/silent", web::get().to(move || async move { encoded().body("br") }))
            .route(
                "/varies",
                web::get().to(move || async move {
                    encoded().insert_header((header::VARY, "Accept-Encoding")).body("br")
                }),
            )
            .wrap(cache.clone())
    });
    let client = Client::new(server.addr, Protocol::Http1);
    for (path, warned) in [("/varies", 0), ("/silent", 1), ("/silent?2", 1)] {
        assert!(client.get(path).await.is_stored(), "{path}");
        let warnings = WARNINGS.0.lock().unwrap();
        assert_eq!(warnings.len(), warned, "{path}: {warnings:?}");
        assert!(
            warnings.iter().all(|text| text.contains("Content-Encoding") && text.contains("Vary"))
        );
    }
}

#[actix_web::test]
async fn a_logger_sees_misses_and_hits_from_either_side() {
    for (protocol, workers) in SETUPS {
        let (cache, _) = cache();
        let (inside, outside) = (Seen::default(), Seen::default());
        let (within, without) = (inside.clone(), outside.clone());
        let server = serve(workers, move || {
            let logger = |seen: Seen| {
                let note = move |response: &ServiceResponse| seen.note(response);
                Logger::new("%s %{seen}xo").custom_response_replace("seen", note)
            };
            App::new()
                .route("/", web::get().to(page))
                .wrap(logger(within.clone()))
                .wrap(cache.clone())
                .wrap(logger(without.clone()))
        });
        let client = Client::new(server.addr, protocol);
        for _ in 0..3 {
            assert!(is_page(&client.get("/").await, false), "{protocol:?}");
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

/// What a logger saw of responses.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<String>>>);

impl Seen {
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
async fn default_headers_are_stored_inside_and_added_anew_outside() {
    let (store, workers) = (store(), 1);
    let cache = Cache::new(store.clone());
    let server = serve(workers, move || {
        App::new()
            .route("/", web::get().to(page))
            .wrap(DefaultHeaders::new().add(("x-inside", "1")))
            .wrap(cache.clone())
            .wrap(DefaultHeaders::new().add(("x-outside", "1")).add(("age", "99")))
    });
    let mut wire = Wire::open(server.addr);
    for hits in [false, true, true] {
        let message = wire.get("/", "");
        assert_eq!(message.is_hit(), hits);
        assert_eq!(message.line("x-inside"), Some("1"));
        assert_eq!(message.line("x-outside"), Some("1"));
        // Defaults give way to what is there.
        assert_eq!(message.line("age"), Some(if hits { "0" } else { "99" }));
    }
    let stored = stored_alone(store);
    assert_eq!((stored.line("x-inside"), stored.line("x-outside")), (Some("1"), None));
}

#[actix_web::test]
async fn normalised_paths_share_an_entry_where_the_cache_is_inside() {
    for (inside, runs_wanted) in [(true, 1), (false, 3)] {
        let (cache, _) = cache();
        let runs = Counter::default();
        let counter = runs.clone();
        let server = serve(1, move || {
            let runs = counter.clone();
            let handler = web::get().to(move || {
                runs.count();
                page()
            });
            // One of the two does nothing.
            App::new()
                .route("/a/b", handler)
                .wrap(Condition::new(!inside, NormalizePath::trim()))
                .wrap(cache.clone())
                .wrap(Condition::new(inside, NormalizePath::trim()))
        });
        let client = Client::new(server.addr, Protocol::Http1);
        for _ in 0..2 {
            for path in ["/a/b", "/a//b", "/a/b/"] {
                assert!(is_page(&client.get(path).await, false), "{path}, inside: {inside}");
            }
        }
        assert_eq!(runs.get(), runs_wanted, "inside: {inside}");
    }
}

#[actix_web::test]
async fn error_handlers_run_once_inside_and_on_every_hit_outside() {
    for (protocol, workers) in SETUPS {
        let (cache, _) = cache();
        let (inside, outside) = (Counter::default(), Counter::default());
        let (within, without) = (inside.clone(), outside.clone());
        let server = serve(workers, move || {
            let missing = || async {
                HttpResponse::NotFound()
                    .insert_header((header::CACHE_CONTROL, "max-age=60"))
                    .body("missing")
            };
            App::new()
                .route("/", web::get().to(missing))
                .wrap(on_404("x-inside", within.clone()))
                .wrap(cache.clone())
                .wrap(on_404("x-outside", without.clone()))
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

/// Writes how often it ran into every 404.
fn on_404<B: 'static>(name: &'static str, runs: Counter) -> ErrorHandlers<B> {
    ErrorHandlers::new().handler(StatusCode::NOT_FOUND, move |mut response: ServiceResponse<B>| {
        let run = header::HeaderValue::from(runs.count());
        response.headers_mut().insert(header::HeaderName::from_static(name), run);
        Ok(ErrorHandlerResponse::Response(response.map_into_left_body()))
    })
}

#[actix_web::test]
async fn a_condition_decides_whether_there_is_a_cache() {
    for (protocol, workers) in SETUPS {
        for there in [true, false] {
            let (cache, _) = cache();
            let server = serve(workers, move || {
                App::new()
                    .route("/", web::get().to(page))
                    .wrap(Condition::new(there, cache.clone()))
            });
            let client = Client::new(server.addr, protocol);
            for hits in [false, there] {
                let answer = client.get("/").await;
                assert!(is_page(&answer, false));
                assert_eq!(answer.is_hit(), hits, "{there} by {protocol:?}");
                assert_eq!(answer.field("cache-status").is_some(), there, "{protocol:?}");
            }
        }
    }
}
