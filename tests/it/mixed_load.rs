//! All kinds of pages and clients at once, for a while: nothing is left when they have gone.

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

use crate::support::{Client, Counter, Protocol, eventually, secs, serve, settled, store};

/// Counts what is alive: handlers that run, and bodies.
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
    let breaks = kind == "breaks";
    let chunks = stream::unfold((0, running), move |(n, running)| async move {
        yield_now().await;
        assert!(n < 2 || !breaks, "as it was told");
        (n < CHUNKS).then(|| (Ok::<_, Error>(Bytes::from(vec![b'x'; CHUNK])), (n + 1, running)))
    });
    let chunks = Box::pin(chunks);
    let length = (CHUNK * CHUNKS) as u64;
    match &*kind {
        "whole" => HttpResponse::Ok().body(vec![b'x'; CHUNK * CHUNKS]),
        "declared" | "breaks" => HttpResponse::Ok().body(SizedStream::new(length, chunks)),
        "private" => {
            HttpResponse::Ok().insert_header(("cache-control", "private")).streaming(chunks)
        }
        "fails" => HttpResponse::ServiceUnavailable().body("out of order"),
        _ => HttpResponse::Ok().streaming(chunks),
    }
}

/// One client after another, each asking for something and reading as much of it as it likes.
async fn crowd(addr: std::net::SocketAddr, seed: usize, stop: Arc<AtomicBool>, whole: Counter) {
    const KINDS: [&str; 6] = ["whole", "declared", "undeclared", "private", "fails", "breaks"];
    let mut n = seed;
    while !stop.load(Ordering::SeqCst) {
        // Any that are not in step with each other.
        n = n.wrapping_mul(6_364_136_223).wrapping_add(1_442_695_040) % 1_000_003;
        let (kind, path) =
            (KINDS[n % KINDS.len()], format!("/{}/{}", KINDS[n % KINDS.len()], n % 7));
        if n.is_multiple_of(11) {
            // Gone before there can be an answer.
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
            // Gone after a first piece.
            drop(body.frame().await);
            continue;
        }
        match body.collect().await {
            Ok(body) if status == 200 => {
                assert_eq!(body.to_bytes().len(), CHUNK * CHUNKS, "{path}");
                assert_ne!(kind, "breaks", "nobody takes it for whole");
                whole.count();
            }
            Ok(_) => assert_eq!(status, 503, "{path}"),
            Err(_) => assert_eq!(kind, "breaks", "{path}"),
        }
    }
}

#[actix_web::test]
async fn after_all_have_gone_nothing_is_left() {
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
    let (stop, whole) = (Arc::new(AtomicBool::new(false)), Counter::default());
    let crowds: Vec<_> = (0..32)
        .map(|seed| {
            tokio::task::spawn_local(crowd(server.addr, seed, Arc::clone(&stop), whole.clone()))
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
    // What is tested is a while.
    let timer = thread::spawn({
        let stop = Arc::clone(&stop);
        move || {
            thread::sleep(secs(seconds));
            stop.store(true, Ordering::SeqCst);
        }
    });
    for crowd in crowds {
        crowd.await.unwrap();
    }
    purges.await.unwrap();
    timer.join().unwrap();
    assert!(whole.get() > 100, "{} whole answers", whole.get());
    let coordinator = store.coordinator();
    settled(coordinator).await;
    eventually("nobody waits and nothing is refreshed", || {
        coordinator.open_flights() == 0 && coordinator.open_refreshes() == 0
    })
    .await;
    // Handlers whose answers nobody was there for end when actix writes to the client that left.
    eventually("no handler and no body is left", || alive.load(Ordering::SeqCst) == 0).await;
}
