//! All kinds of responses and clients for some seconds, with purges: afterwards nothing is left
//! open.
//!
//! `MIXED_LOAD_SECONDS` sets the duration, 10 seconds by default.

use std::{
    io::Write as _,
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    thread,
    time::Duration,
};

use actix_web::{App, Error, HttpRequest, HttpResponse, body::SizedStream, web};
use actix_web_cache::{Cache, Policy, store::Store as _};
use bytes::Bytes;
use futures_util::stream;
use http_body_util::BodyExt as _;
use hyper::Method;
use tokio::task::yield_now;

use crate::support::{Client, Counter, Protocol, fills_ended, secs, serve, store, wait_until};

/// Counts running handlers and open bodies.
struct Alive(Arc<AtomicI64>);

impl Alive {
    fn new(count: &Arc<AtomicI64>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(count))
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

const CHUNK: usize = 10_000;
const CHUNKS: usize = 5;

async fn handler(request: HttpRequest, alive: web::Data<Arc<AtomicI64>>) -> HttpResponse {
    let running = Alive::new(&alive);
    yield_now().await;
    let kind = request.path().split('/').nth(1).unwrap_or_default().to_owned();
    let failing_body = kind == "failing_body";
    let chunks = stream::unfold((0, running), move |(n, running)| async move {
        yield_now().await;
        assert!(n < 2 || !failing_body, "the body fails on purpose");
        (n < CHUNKS).then(|| (Ok::<_, Error>(Bytes::from(vec![b'x'; CHUNK])), (n + 1, running)))
    });
    let chunks = Box::pin(chunks);
    let length = (CHUNK * CHUNKS) as u64;
    match &*kind {
        "buffered" => HttpResponse::Ok().body(vec![b'x'; CHUNK * CHUNKS]),
        "declared" | "failing_body" => HttpResponse::Ok().body(SizedStream::new(length, chunks)),
        "private" => {
            HttpResponse::Ok().insert_header(("cache-control", "private")).streaming(chunks)
        }
        "error" => HttpResponse::ServiceUnavailable().body("out of order"),
        _ => HttpResponse::Ok().streaming(chunks),
    }
}

/// Sends requests of all kinds, one after another, and abandons some of them.
async fn send_requests(
    addr: std::net::SocketAddr,
    seed: usize,
    stop: Arc<AtomicBool>,
    complete: Counter,
) {
    const KINDS: [&str; 6] =
        ["buffered", "declared", "undeclared", "private", "error", "failing_body"];
    let mut n = seed;
    while !stop.load(Ordering::SeqCst) {
        // A linear congruential generator: the clients must not be in step.
        n = n.wrapping_mul(6_364_136_223).wrapping_add(1_442_695_040) % 1_000_003;
        let (kind, path) =
            (KINDS[n % KINDS.len()], format!("/{}/{}", KINDS[n % KINDS.len()], n % 7));
        if n.is_multiple_of(11) {
            // The client disconnects before the response.
            if let Ok(mut wire) = TcpStream::connect(addr) {
                let _ =
                    wire.write_all(format!("GET {path} HTTP/1.1\r\nHost: t\r\n\r\n").as_bytes());
            }
            yield_now().await;
            continue;
        }
        let protocol = if n.is_multiple_of(2) { Protocol::Http1 } else { Protocol::Http2 };
        let client = Client::new(addr, protocol);
        let fields = if n.is_multiple_of(5) {
            &[("cookie", "sid=1"), ("host", "t")][..]
        } else {
            &[("host", "t")]
        };
        let Ok(answer) = client.start(Method::GET, &path, fields, "").await else { continue };
        let status = answer.status();
        let mut body = answer.into_body();
        if n.is_multiple_of(3) {
            // The client disconnects after the first chunk.
            drop(body.frame().await);
            continue;
        }
        match body.collect().await {
            Ok(body) if status == 200 => {
                assert_eq!(body.to_bytes().len(), CHUNK * CHUNKS, "{path}");
                assert_ne!(kind, "failing_body", "an incomplete body must not look complete");
                complete.count();
            }
            Ok(_) => assert_eq!(status, 503, "{path}"),
            Err(_) => assert_eq!(kind, "failing_body", "{path}"),
        }
    }
}

#[actix_web::test]
async fn mixed_load_leaves_no_fill_flight_or_handler() {
    let seconds = std::env::var("MIXED_LOAD_SECONDS").ok();
    let seconds = seconds.map_or(10, |seconds| seconds.parse().unwrap());
    let (store, alive) = (store(), Arc::new(AtomicI64::new(0)));
    let policy = Policy::new()
        .default_ttl(Duration::from_millis(200))
        .stale_while_revalidate(Duration::from_millis(200));
    let cache = Cache::builder(store.clone()).policy(policy).build().unwrap();
    let handle = cache.handle();
    let data = web::Data::new(Arc::clone(&alive));
    let server = serve(4, move || {
        let app = App::new().app_data(data.clone()).wrap(cache.clone());
        app.default_service(web::to(handler))
    });
    let (stop, complete) = (Arc::new(AtomicBool::new(false)), Counter::default());
    let clients: Vec<_> = (0..32)
        .map(|seed| {
            tokio::task::spawn_local(send_requests(
                server.addr,
                seed,
                Arc::clone(&stop),
                complete.clone(),
            ))
        })
        .collect();
    let purges = {
        let stop = Arc::clone(&stop);
        let handle = handle.clone();
        tokio::task::spawn_local(async move {
            let mut n = 0;
            while !stop.load(Ordering::SeqCst) {
                n += 1;
                handle.purge_url(format!("http://t/declared/{}", n % 7)).await.unwrap();
                yield_now().await;
            }
        })
    };
    // The load runs for a fixed time.
    let timer = thread::spawn({
        let stop = Arc::clone(&stop);
        move || {
            thread::sleep(secs(seconds));
            stop.store(true, Ordering::SeqCst);
        }
    });
    for client in clients {
        client.await.unwrap();
    }
    purges.await.unwrap();
    timer.join().unwrap();
    assert!(complete.get() > 100, "{} complete responses", complete.get());
    let coordinator = store.coordinator();
    fills_ended(coordinator).await;
    wait_until("no flight and no refresh is open", || {
        coordinator.open_flights() == 0 && coordinator.open_refreshes() == 0
    })
    .await;
    // A handler whose client left ends when actix-web writes to the closed connection.
    wait_until("no handler and no body is alive", || alive.load(Ordering::SeqCst) == 0).await;
}
