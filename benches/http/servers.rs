//! The servers of the bench.

use std::{convert::Infallible, env, io, time::Duration};

use actix_web::{
    App, HttpResponse, Route,
    body::SizedStream,
    http::header::{
        AGE, CACHE_CONTROL, CONTENT_TYPE, DATE, ETAG, EXPIRES, HeaderName, HeaderValue,
    },
    rt::time::sleep,
    web,
};
use actix_web_cache::{
    Cache, CacheBuilder, Compression, MemoryStore, Policy, RedisStore, Rule, TieredStore,
};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use redis::{AsyncCommands as _, Client, aio::MultiplexedConnection};
use tokio::sync::OnceCell;

use crate::{
    fill_floor::FillFloor,
    floor::{Floor, Page},
    support,
};

/// The environment variable with the number of workers of a server.
pub(crate) const WORKERS: &str = "BENCH_WORKERS";

/// The environment variable with the Redis URL of a server.
pub(crate) const REDIS: &str = "BENCH_REDIS_URL";

pub(crate) const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// A lifetime longer than the bench runs, so that no stored response becomes stale.
const DAY: Duration = Duration::from_secs(86_400);

/// Runs the server with this name until the process ends.
pub(crate) fn serve(name: &str) -> io::Result<()> {
    let workers = env::var(WORKERS).ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let length = match name.rsplit_once('-') {
        Some((_, "13")) => 13,
        Some((_, "1m")) => 1024 * 1024,
        Some((_, "16m")) => 16 * 1024 * 1024,
        _ => 2048,
    };
    let body = match name {
        "coded" => generated(2 * length, |byte| b"0123456789abcdef"[usize::from(byte >> 4)]),
        "uncoded" => generated(length, |byte| byte),
        _ => Bytes::from(vec![b'x'; length]),
    };
    let kind = name.split_once('-').map_or(name, |(kind, _)| kind);
    let page = Handler::of(name);
    match kind {
        "bare" => support::serve(workers, move || App::new().route(PATH, page.route(&body))),
        "limit" => {
            support::serve(workers, move || App::new().route(PATH, with_fields_of_a_hit(&body)))
        }
        "floor" => {
            let floor = Floor::new(Page { fields: stored_fields(), body: body.clone() });
            support::serve(workers, move || {
                App::new().wrap(floor.clone()).route(PATH, page.route(&body))
            })
        }
        "fill" => {
            let floor = FillFloor::new(64 * 1024 * 1024);
            support::serve(workers, move || {
                App::new().wrap(floor.clone()).route(PATH, page.route(&body))
            })
        }
        "get" => {
            let url = redis_url()?;
            support::serve(workers, move || {
                let connection = WorkerConnection { redis: OnceCell::new(), url: url.clone() };
                App::new()
                    .app_data(web::Data::new(connection))
                    .route(PATH, web::get().to(get_from_redis))
            })
        }
        _ => {
            let cache = builder(name)?.build().expect("a cache");
            support::serve(workers, move || {
                App::new().wrap(cache.clone()).route(PATH, page.route(&body))
            })
        }
    }
}

/// Returns a body of this length: bytes in an order that looks random, from a linear congruential
/// generator, each changed by `change`. No copy of such bytes is smaller, and copies of hexadecimal
/// digits have half of the length.
fn generated(length: usize, change: impl Fn(u8) -> u8) -> Bytes {
    let mut state = 1_u64;
    let byte = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        change((state >> 56) as u8)
    };
    (0..length).map(byte).collect()
}

const PATH: &str = "/page/{n}";

/// Returns the builder of the cache of a server.
fn builder(name: &str) -> io::Result<CacheBuilder> {
    let policy = Policy::new().default_ttl(DAY).max_body_size(16 * 1024 * 1024);
    let memory = || MemoryStore::new(if name == "hit-16m" { 256 } else { 64 } * 1024 * 1024);
    Ok(match name {
        "bypass" => Cache::builder(memory()).rule(Rule::any().bypass()),
        "hit-rules" => Cache::builder(memory()).rules(rules()),
        "coded" | "uncoded" => Cache::builder(memory()).policy(policy.compress(Compression::new())),
        // Otherwise, a client that accepts codings gets the whole page.
        "range" => Cache::builder(memory()).policy(policy.no_compress_outside()),
        "refresh" => Cache::builder(memory()).policy(policy.stale_while_revalidate(DAY)),
        "redis" => Cache::builder(redis_store(name)?).policy(policy),
        "tiered" => Cache::builder(TieredStore::new(redis_store(name)?)).policy(policy),
        _ => Cache::builder(memory()).policy(policy),
    })
}

/// Rules as an application with many sections has them. The last one applies.
fn rules() -> impl Iterator<Item = Rule> {
    let day = |policy: Policy| policy.default_ttl(DAY);
    let others = (0..49).map(move |n| match n % 3 {
        0 => Rule::path(format!("/section-{n}/about")).bypass(),
        1 => Rule::prefix(format!("/section-{n}")).with(day),
        _ => Rule::pattern(format!("/section-{n}/{{id}}/{{part}}")).with(day),
    });
    others.chain([Rule::prefix("/page").with(day)])
}

/// The way in which the handler of a server sends its body.
#[derive(Clone, Copy)]
enum Handler {
    Whole,
    /// In chunks of this length.
    Streamed(usize),
    /// After a wait, so that other requests arrive meanwhile.
    Late,
    /// With a lifetime of zero, so that each hit is stale.
    Stale,
}

impl Handler {
    /// Returns the handler of the server with this name.
    fn of(name: &str) -> Self {
        match name {
            "bare-streamed" | "miss-streamed" => Self::Streamed(512),
            "bare-streamed-1m" | "miss-streamed-1m" => Self::Streamed(16 * 1024),
            "bare-groups" | "collapsed" => Self::Late,
            "refresh" => Self::Stale,
            _ => Self::Whole,
        }
    }

    fn route(self, body: &Bytes) -> Route {
        let body = body.clone();
        web::get().to(move || {
            let body = body.clone();
            async move {
                let mut response = HttpResponse::Ok();
                response.insert_header((CONTENT_TYPE, HTML)).insert_header((ETAG, TAG));
                match self {
                    Self::Whole => response.body(body),
                    Self::Streamed(chunk) => response.body(streamed(body, chunk)),
                    Self::Stale => {
                        let stale = HeaderValue::from_static("max-age=0");
                        response.insert_header((CACHE_CONTROL, stale)).body(body)
                    }
                    Self::Late => {
                        sleep(Duration::from_millis(1)).await;
                        response.body(body)
                    }
                }
            }
        })
    }
}

/// Returns a body of known length that is streamed in chunks.
fn streamed(body: Bytes, chunk: usize) -> SizedStream<impl stream::Stream<Item = Chunk>> {
    let length = body.len();
    let starts = stream::iter((0..length).step_by(chunk));
    let chunks = starts.map(move |at| Ok(body.slice(at..length.min(at + chunk))));
    SizedStream::new(length as u64, chunks)
}

type Chunk = Result<Bytes, Infallible>;

const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
const TAG: HeaderValue = HeaderValue::from_static("\"0123456789abcdef\"");

/// Returns the header fields of the page as a cache has stored them.
fn stored_fields() -> Vec<(HeaderName, HeaderValue)> {
    let date = HeaderValue::from_static("Sun, 06 Nov 1994 08:49:37 GMT");
    [
        (CONTENT_TYPE, HTML),
        (ETAG, TAG),
        (CACHE_CONTROL, HeaderValue::from_static("max-age=60")),
        (EXPIRES, date.clone()),
        (DATE, date),
    ]
    .to_vec()
}

/// Returns the route of a plain handler that sends the header fields of a hit. The values of all
/// fields are prepared.
fn with_fields_of_a_hit(body: &Bytes) -> Route {
    let body = body.clone();
    web::get().to(move || {
        let body = body.clone();
        async move {
            let text = HeaderValue::from_static;
            HttpResponse::Ok()
                .insert_header((CONTENT_TYPE, HTML))
                .insert_header((ETAG, TAG))
                .insert_header((CACHE_CONTROL, text("max-age=60")))
                .insert_header((EXPIRES, text("Sun, 06 Nov 1994 08:49:37 GMT")))
                .insert_header((AGE, text("7")))
                .insert_header((CACHE_STATUS, text("actix-web-cache; hit; ttl=53")))
                .body(body)
        }
    })
}

fn redis_url() -> io::Result<String> {
    env::var(REDIS).map_err(io::Error::other)
}

fn redis_store(name: &str) -> io::Result<RedisStore> {
    RedisStore::new(redis_url()?, name).map_err(io::Error::other)
}

/// The connection of a worker to Redis. The first request of the worker opens the connection.
struct WorkerConnection {
    redis: OnceCell<MultiplexedConnection>,
    url: String,
}

impl WorkerConnection {
    async fn connect(&self) -> MultiplexedConnection {
        let client = Client::open(self.url.as_str()).expect("a URL");
        let mut redis = client.get_multiplexed_async_connection().await.expect("Redis");
        let () = redis.set("page", [b'x'; 2048].as_slice()).await.expect("SET");
        redis
    }
}

/// Reads the body from Redis by one GET, and sends the header fields of a hit.
async fn get_from_redis(worker: web::Data<WorkerConnection>) -> HttpResponse {
    let mut redis = worker.redis.get_or_init(|| worker.connect()).await.clone();
    let body: Bytes = redis.get("page").await.expect("GET");
    let mut response = HttpResponse::Ok();
    for field in stored_fields() {
        response.insert_header(field);
    }
    response.body(body)
}
