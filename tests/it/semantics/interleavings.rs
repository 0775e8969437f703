//! Concurrent requests for one URL in many interleavings, canceled at every step. The test polls
//! them by hand in one thread, so that a seed determines the order.

use std::{
    cell::Cell,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    rc::Rc,
    task::Poll,
    time::Duration,
};

use actix_http::Request;
use actix_web::{
    App, Error, HttpRequest, HttpResponse,
    body::{BoxBody, MessageBody, SizedStream},
    dev::{Service, ServiceResponse},
    test::{TestRequest, init_service},
    web,
};
use actix_web_cache::{
    Cache, CacheBody, Policy,
    store::{Coordinator, Store as _},
};
use bytes::Bytes;
use futures_util::stream;
use tokio::task::yield_now;

use crate::support::{HookedStore, fills_ended};

/// The paths of the handler's responses, which differ in how their bodies are sent.
const PATHS: [&str; 4] = ["/full", "/declared", "/undeclared", "/private"];

/// The handler runs: at present, at most at once, and in total.
#[derive(Clone, Default)]
struct Runs {
    running: Rc<Cell<usize>>,
    most_at_once: Rc<Cell<usize>>,
    total: Rc<Cell<usize>>,
}

struct Running(Runs);

impl Runs {
    fn begin(&self) -> Running {
        self.total.set(self.total.get() + 1);
        self.running.set(self.running.get() + 1);
        self.most_at_once.set(self.most_at_once.get().max(self.running.get()));
        Running(self.clone())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.set(self.0.running.get() - 1);
    }
}

async fn handler(request: HttpRequest, runs: web::Data<Runs>) -> HttpResponse {
    let running = runs.begin();
    for _ in 0..3 {
        yield_now().await;
    }
    drop(running);
    let chunks = stream::unfold(0, |n| async move {
        yield_now().await;
        (n < 4).then(|| (Ok::<_, Error>(Bytes::from_static(b"chunk")), n + 1))
    });
    match request.path() {
        "/full" => HttpResponse::Ok().body("chunk".repeat(4)),
        "/declared" => HttpResponse::Ok().body(SizedStream::new(20, Box::pin(chunks))),
        "/undeclared" => HttpResponse::Ok().streaming(Box::pin(chunks)),
        _ => HttpResponse::Ok()
            .insert_header(("cache-control", "private"))
            .streaming(Box::pin(chunks)),
    }
}

type PendingResponse = Pin<Box<dyn Future<Output = Bytes>>>;

/// Sends a request, and returns a future that ends with the last byte of the response body.
fn request<S>(app: &Rc<S>, path: &str) -> PendingResponse
where
    S: Service<Request, Response = ServiceResponse<CacheBody<BoxBody>>, Error = Error> + 'static,
{
    let app = Rc::clone(app);
    let test_request = TestRequest::get().uri(path).insert_header(("host", "t")).to_request();
    Box::pin(async move {
        let answer = app.call(test_request).await.expect("a response");
        let mut body = pin!(answer.into_body());
        let mut bytes = Vec::new();
        while let Some(chunk) = poll_fn(|cx| body.as_mut().poll_next(cx)).await {
            bytes.extend_from_slice(&chunk.expect("the body ends without an error"));
        }
        bytes.into()
    })
}

async fn app(
    store: HookedStore,
    runs: Runs,
) -> Rc<impl Service<Request, Response = ServiceResponse<CacheBody<BoxBody>>, Error = Error>> {
    // Longer than any request of these tests takes.
    let policy = Policy::new().wait_limit(Duration::from_secs(60));
    let cache = Cache::builder(store).policy(policy).build().unwrap();
    let app =
        App::new().app_data(web::Data::new(runs)).default_service(web::to(handler)).wrap(cache);
    Rc::new(init_service(app).await)
}

/// Polls the future once.
async fn poll_once(pending: &mut PendingResponse) -> Poll<Bytes> {
    poll_fn(|cx| Poll::Ready(pending.as_mut().poll(cx))).await
}

async fn assert_nothing_is_pending(coordinator: &Coordinator, case: &str) {
    fills_ended(coordinator).await;
    assert_eq!((coordinator.open_flights(), coordinator.open_refreshes()), (0, 0), "{case}");
}

#[actix_web::test]
async fn request_canceled_at_any_step_leaves_the_others_a_complete_body() {
    for path in PATHS {
        for canceled in 0..3 {
            let mut steps = 0;
            loop {
                let case = format!("{path}: request {canceled} is canceled after {steps} polls");
                let (store, runs) = (HookedStore::slow(), Runs::default());
                let app = app(store.clone(), runs.clone()).await;
                let mut pending: Vec<_> = (0..3).map(|_| Some(request(&app, path))).collect();
                let (mut polls, mut was_canceled) = (0, false);
                while pending.iter().any(Option::is_some) {
                    for (n, slot) in pending.iter_mut().enumerate() {
                        if n == canceled && polls == steps && slot.take().is_some() {
                            was_canceled = true;
                        }
                        let Some(future) = slot else { continue };
                        polls += usize::from(n == canceled);
                        if let Poll::Ready(body) = poll_once(future).await {
                            assert_eq!(body, "chunk".repeat(4), "{case}");
                            *slot = None;
                        }
                    }
                    yield_now().await;
                }
                assert_nothing_is_pending(store.coordinator(), &case).await;
                if path != "/private" {
                    assert_eq!(runs.most_at_once.get(), 1, "{case}: one handler run at a time");
                    assert!(runs.total.get() <= 2, "{case}: {} runs", runs.total.get());
                }
                if !was_canceled {
                    break;
                }
                steps += 1;
            }
            assert!(steps > 3, "{path}: the request was canceled at only {steps} steps");
        }
    }
}

#[actix_web::test]
async fn every_request_completes_when_any_store_call_hangs() {
    for path in PATHS {
        // Three requests look up, each at most twice, and the leader writes.
        for hanging_call in 0..6 {
            let case = format!("{path}: store call {hanging_call} hangs");
            let (store, runs) =
                (HookedStore::slow_with_hanging_call(hanging_call), Runs::default());
            let app = app(store.clone(), runs.clone()).await;
            let requests = (0..3).map(|_| request(&app, path));
            let responses = futures_util::future::join_all(requests);
            let bodies = tokio::time::timeout(Duration::from_secs(20), responses).await;
            for body in bodies.unwrap_or_else(|_| panic!("{case}: a request never completes")) {
                assert_eq!(body, "chunk".repeat(4), "{case}");
            }
            assert_nothing_is_pending(store.coordinator(), &case).await;
        }
    }
}

/// A pseudo-random number generator (xorshift), determined by its seed.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit as u64).unwrap()
    }
}

#[actix_web::test]
async fn every_request_completes_in_random_interleavings() {
    for seed in 1..=400_u64 {
        let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let (store, runs) = (HookedStore::slow(), Runs::default());
        let app = app(store.clone(), runs.clone()).await;
        let handle = Cache::new(store.clone()).handle();
        let path = PATHS[random.below(PATHS.len())];
        let case = format!("seed {seed}: {path}");
        let (mut pending, mut unsent): (Vec<PendingResponse>, _) = (Vec::new(), 8);
        let mut steps = 0;
        while unsent > 0 || !pending.is_empty() {
            steps += 1;
            assert!(steps < 100_000, "{case}: the requests never end");
            match random.below(20) {
                0..=2 if unsent > 0 => {
                    unsent -= 1;
                    pending.push(request(&app, path));
                }
                3 if !pending.is_empty() && random.below(4) == 0 => {
                    drop(pending.swap_remove(random.below(pending.len())));
                }
                4 if random.below(10) == 0 => {
                    handle.purge_url(format!("http://t{path}")).await.unwrap();
                }
                5..=9 => yield_now().await,
                _ if !pending.is_empty() => {
                    let n = random.below(pending.len());
                    if let Poll::Ready(body) = poll_once(&mut pending[n]).await {
                        assert_eq!(body, "chunk".repeat(4), "{case}");
                        drop(pending.swap_remove(n));
                    }
                }
                _ => yield_now().await,
            }
        }
        assert_nothing_is_pending(store.coordinator(), &case).await;
    }
}
