//! The application that clients attack.

use std::{
    convert::Infallible,
    io,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use actix_web::{
    App, HttpRequest, HttpResponse, HttpResponseBuilder, HttpServer, body::SizedStream, web,
};
use actix_web_cache::{Cache, MemoryStore, Policy, RedisStore};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use socket2::{Domain, Socket, Type};
use tokio::time::sleep;

use crate::{
    setup::{REDIS_URL, STORE},
    support,
};

const MIB: usize = 1024 * 1024;

/// The length of the pages that honest clients request. A page is fresh for a second.
const PAGE_LENGTH: usize = 100_000;

/// Serves the application with a cache over a memory store, or over Redis if the environment names a
/// URL.
pub(crate) fn serve_cached() -> io::Result<()> {
    let policy = Policy::new().max_body_size(7 * MIB);
    let cache = std::env::var(REDIS_URL)
        .map_or_else(
            |_| Cache::builder(MemoryStore::new(STORE)),
            |url| Cache::builder(RedisStore::new(url.as_str(), "hostile").expect("a store")),
        )
        // The machine may be busy with the attack.
        .lookup_timeout(Duration::from_secs(5))
        .store_timeout(Duration::from_secs(5))
        .policy(policy)
        .build()
        .expect("a cache");
    support::serve(2, move || App::new().wrap(cache.clone()).configure(routes))
}

/// Serves the application without a cache.
pub(crate) fn serve_uncached() -> io::Result<()> {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    // Bounds the bodies that the operating system keeps for a proxy that does not read.
    listener.set_send_buffer_size(128 * 1024)?;
    listener.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    listener.listen(1024)?;
    actix_web::rt::System::new().block_on(async move {
        let server = HttpServer::new(|| App::new().configure(routes)).workers(1);
        let server = server.listen(listener.into())?;
        println!("{}", server.addrs().first().expect("an address"));
        server.run().await
    })
}

fn routes(config: &mut web::ServiceConfig) {
    config
        .route("/page/{n}", web::get().to(page))
        .route("/known/{n}", web::get().to(async || sized(1, MIB)))
        .route("/large/{n}", web::get().to(async || sized(600, MIB)))
        .route("/stored", web::get().to(async || sized(600, 2 * MIB)))
        .route("/chunked/{n}", web::get().to(async || fresh_for(1).streaming(pieces(8 * MIB))))
        .route("/vary", web::get().to(vary))
        .route("/slow/{n}", web::get().to(slow))
        .route("/post/{n}", web::post().to(async || "done"))
        .route("/group/{n}", web::post().to(invalidate_group));
}

fn fresh_for(seconds: u32) -> HttpResponseBuilder {
    let mut response = HttpResponse::Ok();
    response.insert_header(("cache-control", format!("max-age={seconds}")));
    response
}

async fn page(request: HttpRequest) -> HttpResponse {
    if request.headers().contains_key("x-bad") {
        return HttpResponse::BadRequest().finish();
    }
    sized(1, PAGE_LENGTH)
}

/// A response that varies on the fields that the request names.
async fn vary(request: HttpRequest) -> HttpResponse {
    let mut response = fresh_for(600);
    if let Some(names) = request.headers().get("x-names") {
        response.insert_header(("vary", names.clone()));
    }
    response.body("page")
}

/// A body that ends long after the attack. Its client may have it already.
async fn slow() -> HttpResponse {
    let pieces = stream::unfold(0, async |n| {
        sleep(Duration::from_millis(100)).await;
        (n < 600).then_some((Ok::<_, Infallible>(Bytes::from_static(b"x")), n + 1))
    });
    fresh_for(1).insert_header(("etag", "\"1\"")).streaming(Box::pin(pieces))
}

async fn invalidate_group(n: web::Path<u64>) -> HttpResponse {
    let group = ("cache-group-invalidation", format!("\"{n}\""));
    HttpResponse::Ok().insert_header(group).finish()
}

fn sized(seconds: u32, length: usize) -> HttpResponse {
    fresh_for(seconds).body(SizedStream::new(length as u64, pieces(length)))
}

/// Makes the chunks of a body one by one, as a handler does that reads them from a file.
fn pieces(length: usize) -> impl stream::Stream<Item = Result<Bytes, Infallible>> + 'static {
    const PIECE: usize = 16 * 1024;
    let starts = stream::iter((0..length).step_by(PIECE));
    starts.map(move |at| Ok(Bytes::from(vec![b'x'; PIECE.min(length - at)])))
}
