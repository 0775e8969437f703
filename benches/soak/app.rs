//! The application under load.

use std::{
    convert::Infallible,
    env, io,
    net::{Ipv4Addr, TcpListener},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use actix_web::{
    App, HttpRequest, HttpResponse, HttpServer,
    body::SizedStream,
    http::header::{AUTHORIZATION, COOKIE, ETAG, HeaderMap, IF_NONE_MATCH},
    rt::System,
    web,
};
use actix_web_cache::{
    Cache, CacheBuilder, CacheHandle, MemoryStore, Policy, PurgeError, RedisStore, TieredStore,
};
use bytes::Bytes;
use futures_util::{Stream, stream};
use tokio::{net::TcpSocket, time::sleep};

use crate::page::{ANONYMOUS, Kind, Page};

/// The environment variables with the kind of the store and with its Redis URL.
pub(crate) const STORE: &str = "BENCH_STORE";
pub(crate) const REDIS_URL: &str = "BENCH_REDIS_URL";

pub(crate) const STORES: [&str; 3] = ["redis", "tiered", "memory"];

/// The limit of the memory store in bytes. The pages of the load soon fill it.
const STORE_BYTES: usize = 32 * 1024 * 1024;

/// The send buffers of connections in bytes.
const SEND_BUFFER: u32 = 128 * 1024;

/// The length of a piece of a body in bytes.
const PIECE: usize = 16 * 1024;

/// The response field that lists the tags of a page.
const TAGS: &str = "x-tags";

/// The request field that names the URL or the tag to purge.
pub(crate) const TARGET: &str = "x-target";

/// The number of handler calls that have begun.
static CALLS: AtomicU64 = AtomicU64::new(0);

pub(crate) fn serve() -> io::Result<()> {
    let policy = Policy::new()
        .default_ttl(Duration::from_secs(2))
        .stale_while_revalidate(Duration::from_secs(1))
        .keep_stale(Duration::from_secs(10))
        .tag_fields([TAGS]);
    let cache = builder()?.policy(policy).build().map_err(io::Error::other)?;
    System::new().block_on(async move {
        let app = move || {
            App::new()
                .wrap(cache.clone())
                .route("/purge/{scope}", web::post().to(purge))
                .default_service(web::get().to(page))
        };
        let server = HttpServer::new(app).workers(2).tcp_nodelay(true).listen(listen()?)?;
        println!("{}", server.addrs().first().expect("an address"));
        server.run().await
    })
}

/// Listens on a free port. The send buffers are small: otherwise, the operating system would take
/// the longest body at once, and the server would not notice that its client is slow.
fn listen() -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
    socket.listen(1024)?.into_std()
}

fn builder() -> io::Result<CacheBuilder> {
    let store = env::var(STORE).map_err(io::Error::other)?;
    if store == "memory" {
        return Ok(Cache::builder(MemoryStore::new(STORE_BYTES)));
    }
    let url = env::var(REDIS_URL).map_err(io::Error::other)?;
    let redis = RedisStore::new(url, "soak").map_err(io::Error::other)?;
    if store == "redis" {
        return Ok(Cache::builder(redis));
    }
    let tiered = TieredStore::builder(redis).near_bytes(STORE_BYTES).build();
    Ok(Cache::builder(tiered.map_err(io::Error::other)?))
}

async fn page(request: HttpRequest) -> HttpResponse {
    let call = CALLS.fetch_add(1, Ordering::SeqCst) + 1;
    let path = request.uri().path_and_query().map_or("", |path| path.as_str());
    let Some(page) = Page::parse(path) else { return HttpResponse::NotFound().finish() };
    sleep(Duration::from_millis(call % 4)).await;
    let mut response = HttpResponse::Ok();
    response.insert_header((TAGS, page.tag()));
    let user = if page.kind == Kind::Personal { user(request.headers()) } else { ANONYMOUS };
    if page.kind == Kind::Lasting
        && let Some(tag) = request.headers().get(IF_NONE_MATCH)
    {
        return HttpResponse::NotModified().insert_header((ETAG, tag)).finish();
    }
    if page.kind != Kind::Personal {
        response.insert_header((ETAG, format!("\"{call}\"")));
    }
    let body = Bytes::from(page.body(call, user));
    let length = body.len() as u64;
    match page.kind {
        Kind::Whole | Kind::Lasting | Kind::Personal => response.body(body),
        Kind::Pieces => response.body(SizedStream::new(length, Box::pin(pieces(body)))),
        Kind::Chunked => response.streaming(Box::pin(pieces(body))),
    }
}

/// Returns the user that the credentials of a request name.
fn user(fields: &HeaderMap) -> &str {
    let text = |name, prefix| fields.get(name)?.to_str().ok()?.strip_prefix(prefix);
    text(COOKIE, "user=").or_else(|| text(AUTHORIZATION, "Bearer ")).unwrap_or(ANONYMOUS)
}

/// Makes the pieces of a body one by one. Some pieces take a millisecond.
fn pieces(body: Bytes) -> impl Stream<Item = Result<Bytes, Infallible>> {
    stream::unfold((body, 0), async |(mut body, n)| {
        if body.is_empty() {
            return None;
        }
        if n % 16 == 1 {
            sleep(Duration::from_millis(1)).await;
        }
        let piece = body.split_to(PIECE.min(body.len()));
        Some((Ok(piece), (body, n + 1)))
    })
}

/// Purges a target. Returns the number of handler calls that had begun before the purge.
async fn purge(
    request: HttpRequest,
    scope: web::Path<String>,
    cache: CacheHandle,
) -> Result<String, PurgeError> {
    let target = request.headers().get(TARGET).and_then(|target| target.to_str().ok());
    let target = target.unwrap_or_default();
    let before = CALLS.load(Ordering::SeqCst);
    match scope.as_str() {
        "url" => cache.purge_url(target).await?,
        "tag" => cache.purge_tag(target).await?,
        _ => cache.purge_all().await?,
    };
    Ok(before.to_string())
}
