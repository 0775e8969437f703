//! Whatever is done in whatever order, the cache answers as a model of a few lines says.

use std::{
    env, fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use actix_web::{App, HttpRequest, HttpResponse, web};
use actix_web_cache::{
    Cache, CacheHandle, ManualClock, Policy, PurgeTarget, ResponseOptions,
    store::{
        CacheKey, Coordinator, Fill, Invalidation, Lookup, Put, Selector, Store, StoreError,
        StoredResponse,
    },
};
use proptest::prelude::*;

use crate::support::{Client, Protocol, START, Server, Spy, eventually, secs, serve};

const PATHS: [&str; 4] = ["/a/0", "/a/1", "/b/0", "/b/1"];
const LANGS: [&str; 2] = ["de", "fr"];
const HOST: &str = "shop.example";

/// Lifetime, and how long what is stale answers while it is refreshed.
const TTL: u64 = 60;
const WINDOW: u64 = 30;

/// Which pages, by which way of naming them.
#[derive(Debug, Clone, Copy)]
enum What {
    Url(usize),
    UrlAnywhere(usize),
    Variant(usize, usize),
    /// All pages that end in this number.
    Tag(usize),
    /// The first pages of both directories, together.
    Tags,
    /// All pages that begin by this letter.
    Group(usize),
    Prefix(usize),
    All,
}

impl What {
    fn reaches(self, page: usize, lang: usize) -> bool {
        match self {
            Self::Url(purged) | Self::UrlAnywhere(purged) => page == purged,
            Self::Variant(purged, of) => page == purged && lang == of,
            Self::Tag(number) => page % 2 == number,
            Self::Tags => page.is_multiple_of(2),
            Self::Group(directory) | Self::Prefix(directory) => page / 2 == directory,
            Self::All => true,
        }
    }

    fn pages(self) -> PurgeTarget {
        let letter = |directory| if directory == 0 { "a" } else { "b" };
        let pages = match self {
            Self::UrlAnywhere(page) => return PurgeTarget::url(PATHS[page]).on_any_host(),
            Self::Url(page) => PurgeTarget::url(PATHS[page]),
            Self::Variant(page, lang) => {
                PurgeTarget::url(PATHS[page]).variant([("x-lang", LANGS[lang])])
            }
            Self::Tag(number) => PurgeTarget::tag(format!("number {number}")),
            Self::Tags => PurgeTarget::tags(["/a/0", "/b/0"]),
            Self::Group(directory) => PurgeTarget::group(letter(directory)),
            Self::Prefix(directory) => PurgeTarget::prefix(format!("/{}", letter(directory))),
            Self::All => PurgeTarget::all(),
        };
        pages.on_host(HOST)
    }
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Get(usize, usize),
    Change(usize),
    Purge(What),
    Expire(What),
    Pass(u64),
    Break(bool),
    Evict,
}

fn what() -> impl Strategy<Value = What> {
    prop_oneof![
        (0..4usize).prop_map(What::Url),
        (0..4usize).prop_map(What::UrlAnywhere),
        (0..4usize, 0..2usize).prop_map(|(page, lang)| What::Variant(page, lang)),
        (0..2usize).prop_map(What::Tag),
        Just(What::Tags),
        (0..2usize).prop_map(What::Group),
        (0..2usize).prop_map(What::Prefix),
        Just(What::All),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (0..4usize, 0..2usize).prop_map(|(page, lang)| Step::Get(page, lang)),
        3 => (0..4usize).prop_map(Step::Change),
        4 => what().prop_map(Step::Purge),
        3 => what().prop_map(Step::Expire),
        3 => (1..50u64).prop_map(Step::Pass),
        1 => any::<bool>().prop_map(Step::Break),
        1 => Just(Step::Evict),
    ]
}

/// How a request was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Hit,
    Stale,
    Validated,
    Handler,
}

/// What may be stored of a page in one language.
#[derive(Debug, Clone, Copy)]
struct Entry {
    version: usize,
    made: u64,
    expired: Option<u64>,
}

/// The whole of what a cache is to do.
#[derive(Debug, Default)]
struct Model {
    now: u64,
    broken: bool,
    versions: [usize; 4],
    entries: [[Option<Entry>; 2]; 4],
}

impl Model {
    /// What is answered, and how.
    fn get(&mut self, page: usize, lang: usize) -> (Way, usize) {
        let current = self.versions[page];
        if self.broken {
            return (Way::Handler, current);
        }
        let anew = Some(Entry { version: current, made: self.now, expired: None });
        let Some(entry) = self.entries[page][lang] else {
            self.entries[page][lang] = anew;
            return (Way::Handler, current);
        };
        let fresh = entry.expired.map_or(TTL, |expired| TTL.min(expired - entry.made));
        let age = self.now - entry.made;
        if age < fresh {
            return (Way::Hit, entry.version);
        }
        self.entries[page][lang] = anew;
        if age - fresh < WINDOW {
            (Way::Stale, entry.version)
        } else if entry.version == current {
            (Way::Validated, current)
        } else {
            (Way::Handler, current)
        }
    }

    fn reached(&mut self, what: What) -> impl Iterator<Item = &mut Option<Entry>> {
        let all = self.entries.iter_mut().enumerate();
        all.flat_map(|(page, langs)| {
            langs.iter_mut().enumerate().map(move |(lang, entry)| (page, lang, entry))
        })
        .filter(move |(page, lang, _)| what.reaches(*page, *lang))
        .map(|(_, _, entry)| entry)
    }

    fn purge(&mut self, what: What) {
        self.reached(what).for_each(|entry| *entry = None);
    }

    fn expire(&mut self, what: What) {
        let now = self.now;
        for entry in self.reached(what).flatten() {
            entry.expired = entry.expired.or(Some(now));
        }
    }
}

/// The real thing.
struct Real {
    server: Server,
    client: Client,
    handle: CacheHandle,
    clock: ManualClock,
    store: Forgetful,
    versions: Arc<[AtomicUsize; 4]>,
}

impl Real {
    fn new(parts: bool) -> Self {
        let (store, clock) = (Forgetful::new(), ManualClock::at(START));
        let policy = Policy::new().stale_while_revalidate(secs(WINDOW));
        let policy = if parts { policy.key_header("x-lang") } else { policy };
        let builder = Cache::builder(store.clone()).clock(clock.clock()).policy(policy);
        let cache = builder.build().unwrap();
        let versions: Arc<[AtomicUsize; 4]> = Arc::default();
        let (app, handlers) = (cache.clone(), Arc::clone(&versions));
        let server = serve(1, move || {
            let versions = Arc::clone(&handlers);
            let page = move |request: HttpRequest| {
                let answer = answer(&request, &versions);
                async move { answer }
            };
            App::new().wrap(app.clone()).default_service(web::to(page))
        });
        let client = Client::new(server.addr, Protocol::Http1);
        Self { server, client, handle: cache.handle(), clock, store, versions }
    }

    async fn get(&self, page: usize, lang: usize) -> (Way, usize) {
        let fields = [("host", HOST), ("x-lang", LANGS[lang])];
        let answer = self.client.get_with(PATHS[page], &fields).await;
        let coordinator = self.store.coordinator().clone();
        let quiet = || coordinator.open_refreshes() == 0 && coordinator.open_fills() == 0;
        eventually("what is done in the background is done", quiet).await;
        let (name, version) = answer.text().rsplit_once(' ').unwrap();
        assert_eq!(name, format!("{} {}", PATHS[page], LANGS[lang]), "another page");
        let status = answer.cache_status();
        let way = if status.starts_with("hit; ttl=-") || status == "hit; ttl=0; stale" {
            Way::Stale
        } else if status.starts_with("hit") {
            Way::Hit
        } else if status.contains("fwd-status=304") {
            Way::Validated
        } else {
            Way::Handler
        };
        (way, version.parse().unwrap())
    }
}

impl fmt::Debug for Real {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Real({})", self.server.addr)
    }
}

fn answer(request: &HttpRequest, versions: &[AtomicUsize; 4]) -> HttpResponse {
    let page = PATHS.iter().position(|path| *path == request.path()).unwrap();
    let lang = request.headers().get("x-lang").unwrap().to_str().unwrap();
    let version = versions[page].load(Ordering::SeqCst);
    let tag = format!("\"{version}\"");
    let known = request.headers().get("if-none-match").is_some_and(|known| *known == *tag);
    let mut response = if known { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    let tags = ResponseOptions::new().tag(format!("number {}", page % 2)).tag(PATHS[page]);
    response.extensions_mut().insert(tags);
    let group = if page < 2 { "\"a\"" } else { "\"b\"" };
    response.insert_header(("cache-groups", group));
    response.insert_header(("vary", "x-lang")).insert_header(("etag", tag));
    response.body(if known { String::new() } else { format!("{} {lang} {version}", PATHS[page]) })
}

async fn run(parts: bool, steps: Vec<Step>) {
    let (real, mut model) = (Real::new(parts), Model::default());
    for (number, step) in steps.iter().enumerate() {
        match *step {
            Step::Get(page, lang) => {
                let got = real.get(page, lang).await;
                let want = model.get(page, lang);
                assert_eq!(got, want, "step {number} of {steps:?}");
            }
            Step::Change(page) => {
                real.versions[page].fetch_add(1, Ordering::SeqCst);
                model.versions[page] += 1;
            }
            Step::Purge(what) => {
                let purged = real.handle.purge(what.pages()).await;
                assert_eq!(purged.is_err(), model.broken, "step {number} of {steps:?}");
                // Of what failed nothing is known; this store does nothing then.
                if !model.broken {
                    model.purge(what);
                }
            }
            Step::Expire(what) => {
                let expired = real.handle.expire(what.pages()).await;
                assert_eq!(expired.is_err(), model.broken, "step {number} of {steps:?}");
                if !model.broken {
                    model.expire(what);
                }
            }
            Step::Pass(seconds) => {
                real.clock.advance(secs(seconds));
                model.now += seconds;
            }
            Step::Break(broken) => {
                real.store.store.set_broken(broken);
                model.broken = broken;
            }
            Step::Evict if !model.broken => {
                real.store.evict().await;
                model.entries = Default::default();
            }
            Step::Evict => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: env::var("PROPTEST_CASES").map_or(48, |cases| cases.parse().unwrap()),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_cache_answers_as_the_model_does(
        parts in any::<bool>(),
        steps in proptest::collection::vec(step(), 1..60),
    ) {
        actix_web::rt::System::new().block_on(run(parts, steps));
    }
}

/// A store that fails when it is told to, and forgets all it has.
#[derive(Debug, Clone)]
struct Forgetful {
    store: Spy,
    seen: Arc<std::sync::Mutex<Vec<CacheKey>>>,
}

impl Forgetful {
    fn new() -> Self {
        Self { store: Spy::new(), seen: Arc::default() }
    }

    async fn evict(&self) {
        let seen = std::mem::take(&mut *self.seen.lock().unwrap());
        for key in seen {
            self.store.remove(&key).await.unwrap();
        }
    }
}

impl Store for Forgetful {
    fn coordinator(&self) -> &Coordinator {
        self.store.coordinator()
    }

    async fn lookup(&self, key: &CacheKey, selector: &Selector<'_>) -> Result<Lookup, StoreError> {
        self.store.lookup(key, selector).await
    }

    async fn put(
        &self,
        key: &CacheKey,
        response: Arc<StoredResponse>,
        fill: &Fill,
    ) -> Result<Put, StoreError> {
        self.seen.lock().unwrap().push(key.clone());
        self.store.put(key, response, fill).await
    }

    async fn remove(&self, key: &CacheKey) -> Result<usize, StoreError> {
        self.store.remove(key).await
    }

    async fn invalidate(&self, what: &Invalidation) -> Result<(), StoreError> {
        self.store.invalidate(what).await
    }
}
