//! Requests for one page in every order that can be thought of, given up at every moment: polled by
//! hand, in one thread, so that a seed tells what happens.

use std::{
    cell::Cell,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    rc::Rc,
    sync::Arc,
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
    Cache, CacheBody, MemoryStore, Policy,
    store::{
        CacheKey, Coordinator, Fill, Invalidation, Lookup, Put, Selector, Store, StoreError,
        StoredResponse,
    },
};
use bytes::Bytes;
use futures_util::stream;
use tokio::task::yield_now;

use crate::support::{settled, store};

/// How the handler answers.
const KINDS: [&str; 4] = ["/whole", "/declared", "/undeclared", "/private"];

/// A store that has to be waited for some times at each call, and may hang in one of them for ever.
#[derive(Clone)]
struct Slow {
    store: MemoryStore,
    /// The call that hangs, counted from 0.
    hangs: usize,
    calls: Arc<std::sync::atomic::AtomicUsize>,
}

impl Slow {
    fn new(hangs: usize) -> Self {
        Self { store: store(), hangs, calls: Arc::default() }
    }

    async fn wait(&self) {
        let call = self.calls.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        for _ in 0..2 {
            yield_now().await;
        }
        if call == self.hangs {
            std::future::pending::<()>().await;
        }
    }
}

impl Store for Slow {
    fn coordinator(&self) -> &Coordinator {
        self.store.coordinator()
    }

    async fn lookup(&self, key: &CacheKey, selector: &Selector<'_>) -> Result<Lookup, StoreError> {
        self.wait().await;
        self.store.lookup(key, selector).await
    }

    async fn put(
        &self,
        key: &CacheKey,
        response: Arc<StoredResponse>,
        fill: &Fill,
    ) -> Result<Put, StoreError> {
        self.wait().await;
        let put = self.store.put(key, response, fill).await;
        yield_now().await;
        put
    }

    async fn remove(&self, key: &CacheKey) -> Result<usize, StoreError> {
        self.wait().await;
        self.store.remove(key).await
    }

    async fn invalidate(&self, what: &Invalidation) -> Result<(), StoreError> {
        self.store.invalidate(what).await
    }
}

/// How many handlers run, and how many have.
#[derive(Clone, Default)]
struct Runs {
    now: Rc<Cell<usize>>,
    most: Rc<Cell<usize>>,
    all: Rc<Cell<usize>>,
}

struct Running(Runs);

impl Runs {
    fn begin(&self) -> Running {
        self.all.set(self.all.get() + 1);
        self.now.set(self.now.get() + 1);
        self.most.set(self.most.get().max(self.now.get()));
        Running(self.clone())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.now.set(self.0.now.get() - 1);
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
        "/whole" => HttpResponse::Ok().body("chunk".repeat(4)),
        "/declared" => HttpResponse::Ok().body(SizedStream::new(20, Box::pin(chunks))),
        "/undeclared" => HttpResponse::Ok().streaming(Box::pin(chunks)),
        _ => HttpResponse::Ok()
            .insert_header(("cache-control", "private"))
            .streaming(Box::pin(chunks)),
    }
}

type Asked = Pin<Box<dyn Future<Output = Bytes>>>;

/// A request, up to the last byte of its answer.
fn ask<S>(app: &Rc<S>, path: &str) -> Asked
where
    S: Service<Request, Response = ServiceResponse<CacheBody<BoxBody>>, Error = Error> + 'static,
{
    let app = Rc::clone(app);
    let request = TestRequest::get().uri(path).insert_header(("host", "t")).to_request();
    Box::pin(async move {
        let answer = app.call(request).await.expect("an answer");
        let mut body = pin!(answer.into_body());
        let mut all = Vec::new();
        while let Some(chunk) = poll_fn(|cx| body.as_mut().poll_next(cx)).await {
            all.extend_from_slice(&chunk.expect("it does not break off"));
        }
        all.into()
    })
}

async fn app(
    store: Slow,
    runs: Runs,
) -> Rc<impl Service<Request, Response = ServiceResponse<CacheBody<BoxBody>>, Error = Error>> {
    // Longer than anything here takes.
    let policy = Policy::new().wait_limit(Duration::from_secs(60));
    let cache = Cache::builder(store).policy(policy).build().unwrap();
    let app =
        App::new().app_data(web::Data::new(runs)).default_service(web::to(handler)).wrap(cache);
    Rc::new(init_service(app).await)
}

/// One more poll.
async fn step(asked: &mut Asked) -> Poll<Bytes> {
    poll_fn(|cx| Poll::Ready(asked.as_mut().poll(cx))).await
}

async fn nothing_is_left(coordinator: &Coordinator, case: &str) {
    settled(coordinator).await;
    assert_eq!((coordinator.open_flights(), coordinator.open_refreshes()), (0, 0), "{case}");
}

#[actix_web::test]
async fn whoever_gives_up_after_however_many_steps_the_others_have_the_whole_page() {
    for kind in KINDS {
        for victim in 0..3 {
            let mut steps = 0;
            loop {
                let case = format!("{kind}: the {victim}th leaves after {steps} steps");
                let (store, runs) = (Slow::new(usize::MAX), Runs::default());
                let app = app(store.clone(), runs.clone()).await;
                let mut asked: Vec<_> = (0..3).map(|_| Some(ask(&app, kind))).collect();
                let (mut polls, mut left) = (0, false);
                while asked.iter().any(Option::is_some) {
                    for (n, place) in asked.iter_mut().enumerate() {
                        if n == victim && polls == steps && place.take().is_some() {
                            left = true;
                        }
                        let Some(future) = place else { continue };
                        polls += usize::from(n == victim);
                        if let Poll::Ready(body) = step(future).await {
                            assert_eq!(body, "chunk".repeat(4), "{case}");
                            *place = None;
                        }
                    }
                    yield_now().await;
                }
                nothing_is_left(store.coordinator(), &case).await;
                if kind != "/private" {
                    assert_eq!(runs.most.get(), 1, "{case}: one at a time");
                    assert!(runs.all.get() <= 2, "{case}: {} runs", runs.all.get());
                }
                if !left {
                    break;
                }
                steps += 1;
            }
            assert!(steps > 3, "{kind}: it was given up at {steps} moments only");
        }
    }
}

#[actix_web::test]
async fn whichever_call_of_the_store_hangs_everybody_is_answered() {
    for kind in KINDS {
        // Three look up, each perhaps once more, and one writes.
        for hangs in 0..6 {
            let case = format!("{kind}: call {hangs} hangs");
            let (store, runs) = (Slow::new(hangs), Runs::default());
            let app = app(store.clone(), runs.clone()).await;
            let asked = (0..3).map(|_| ask(&app, kind));
            let asked = futures_util::future::join_all(asked);
            let bodies = tokio::time::timeout(Duration::from_secs(20), asked).await;
            for body in bodies.unwrap_or_else(|_| panic!("{case}: somebody waits for ever")) {
                assert_eq!(body, "chunk".repeat(4), "{case}");
            }
            nothing_is_left(store.coordinator(), &case).await;
        }
    }
}

/// Numbers that look random, and are the same for the same seed.
struct Dice(u64);

impl Dice {
    fn throw(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % sides as u64).unwrap()
    }
}

#[actix_web::test]
async fn in_whatever_order_things_happen_nobody_is_left_behind() {
    for seed in 1..=400_u64 {
        let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let (store, runs) = (Slow::new(usize::MAX), Runs::default());
        let app = app(store.clone(), runs.clone()).await;
        let handle = Cache::new(store.clone()).handle();
        let kind = KINDS[dice.throw(KINDS.len())];
        let case = format!("seed {seed}: {kind}");
        let (mut asked, mut to_come): (Vec<Asked>, _) = (Vec::new(), 8);
        let mut steps = 0;
        while to_come > 0 || !asked.is_empty() {
            steps += 1;
            assert!(steps < 100_000, "{case}: it never ends");
            match dice.throw(20) {
                0..=2 if to_come > 0 => {
                    to_come -= 1;
                    asked.push(ask(&app, kind));
                }
                3 if !asked.is_empty() && dice.throw(4) == 0 => {
                    drop(asked.swap_remove(dice.throw(asked.len())));
                }
                4 if dice.throw(10) == 0 => {
                    handle.purge_url(format!("http://t{kind}")).await.unwrap();
                }
                5..=9 => yield_now().await,
                _ if !asked.is_empty() => {
                    let n = dice.throw(asked.len());
                    if let Poll::Ready(body) = step(&mut asked[n]).await {
                        assert_eq!(body, "chunk".repeat(4), "{case}");
                        drop(asked.swap_remove(n));
                    }
                }
                _ => yield_now().await,
            }
        }
        nothing_is_left(store.coordinator(), &case).await;
    }
}
