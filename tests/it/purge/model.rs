//! Property test: after any sequence of requests, changes, purges, failures and evictions, the
//! cache answers like a small model.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use actix_web::{App, HttpRequest, HttpResponse, rt::System, web};
use actix_web_cache::{
    Cache, CacheHandle, ManualClock, Policy, PurgeTarget, ResponseOptions, store::Store as _,
};
use proptest::{collection::vec, prelude::*};

use crate::support::{
    Client, HookedStore, Protocol, START, Server, StoreCall, StoreFault, random_cases, secs, serve,
    wait_until,
};

/// The number of sequences of requests, changes and purges.
const SEQUENCES: u32 = 48;

const PATHS: [&str; 4] = ["/a/0", "/a/1", "/b/0", "/b/1"];
const LANGS: [&str; 2] = ["de", "fr"];
const HOST: &str = "shop.example";

/// The freshness lifetime, in seconds.
const TTL: u64 = 60;

/// The `stale-while-revalidate` window, in seconds.
const WINDOW: u64 = 30;

/// A purge target, by the indices of paths and languages.
#[derive(Debug, Clone, Copy)]
enum Target {
    Url(usize),
    UrlAnywhere(usize),
    Variant(usize, usize),
    /// The tag of all paths that end in this number.
    Tag(usize),
    /// The tags of the first paths of both directories.
    Tags,
    /// The cache group of a directory.
    Group(usize),
    Prefix(usize),
    All,
}

impl Target {
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

    fn to_purge_target(self) -> PurgeTarget {
        let name = |directory| if directory == 0 { "a" } else { "b" };
        let target = match self {
            Self::UrlAnywhere(page) => return PurgeTarget::url(PATHS[page]).on_any_host(),
            Self::Url(page) => PurgeTarget::url(PATHS[page]),
            Self::Variant(page, lang) => {
                PurgeTarget::url(PATHS[page]).variant([("x-lang", LANGS[lang])])
            }
            Self::Tag(number) => PurgeTarget::tag(format!("number {number}")),
            Self::Tags => PurgeTarget::tags(["/a/0", "/b/0"]),
            Self::Group(directory) => PurgeTarget::group(name(directory)),
            Self::Prefix(directory) => PurgeTarget::prefix(format!("/{}", name(directory))),
            Self::All => PurgeTarget::all(),
        };
        target.on_host(HOST)
    }
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Get(usize, usize),
    Change(usize),
    Purge(Target),
    Expire(Target),
    Advance(u64),
    Break(bool),
    Evict,
}

fn target() -> impl Strategy<Value = Target> {
    prop_oneof![
        (0..4usize).prop_map(Target::Url),
        (0..4usize).prop_map(Target::UrlAnywhere),
        (0..4usize, 0..2usize).prop_map(|(page, lang)| Target::Variant(page, lang)),
        (0..2usize).prop_map(Target::Tag),
        Just(Target::Tags),
        (0..2usize).prop_map(Target::Group),
        (0..2usize).prop_map(Target::Prefix),
        Just(Target::All),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (0..4usize, 0..2usize).prop_map(|(page, lang)| Step::Get(page, lang)),
        3 => (0..4usize).prop_map(Step::Change),
        4 => target().prop_map(Step::Purge),
        3 => target().prop_map(Step::Expire),
        3 => (1..50u64).prop_map(Step::Advance),
        1 => any::<bool>().prop_map(Step::Break),
        1 => Just(Step::Evict),
    ]
}

/// How a request was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Hit,
    Stale,
    Validated,
    Handler,
}

/// The entry of one path and language.
#[derive(Debug, Clone, Copy)]
struct Entry {
    version: usize,
    stored_at: u64,
    expired: Option<u64>,
}

/// The expected behavior of the cache.
#[derive(Debug, Default)]
struct Model {
    now: u64,
    broken: bool,
    versions: [usize; 4],
    entries: [[Option<Entry>; 2]; 4],
}

impl Model {
    /// Returns the outcome and the version of the response.
    fn get(&mut self, page: usize, lang: usize) -> (Outcome, usize) {
        let current = self.versions[page];
        if self.broken {
            return (Outcome::Handler, current);
        }
        let new_entry = Some(Entry { version: current, stored_at: self.now, expired: None });
        let Some(entry) = self.entries[page][lang] else {
            self.entries[page][lang] = new_entry;
            return (Outcome::Handler, current);
        };
        let fresh = entry.expired.map_or(TTL, |expired| TTL.min(expired - entry.stored_at));
        let age = self.now - entry.stored_at;
        if age < fresh {
            return (Outcome::Hit, entry.version);
        }
        self.entries[page][lang] = new_entry;
        if age - fresh < WINDOW {
            (Outcome::Stale, entry.version)
        } else if entry.version == current {
            (Outcome::Validated, current)
        } else {
            (Outcome::Handler, current)
        }
    }

    fn reached_entries(&mut self, target: Target) -> impl Iterator<Item = &mut Option<Entry>> {
        let all = self.entries.iter_mut().enumerate();
        all.flat_map(|(page, langs)| {
            langs.iter_mut().enumerate().map(move |(lang, entry)| (page, lang, entry))
        })
        .filter(move |(page, lang, _)| target.reaches(*page, *lang))
        .map(|(_, _, entry)| entry)
    }

    fn purge(&mut self, target: Target) {
        self.reached_entries(target).for_each(|entry| *entry = None);
    }

    fn expire(&mut self, target: Target) {
        let now = self.now;
        for entry in self.reached_entries(target).flatten() {
            entry.expired = entry.expired.or(Some(now));
        }
    }
}

/// The server, the cache and the store under test.
struct Subject {
    server: Server,
    client: Client,
    handle: CacheHandle,
    clock: ManualClock,
    store: HookedStore,
    versions: Arc<[AtomicUsize; 4]>,
}

impl Subject {
    fn new(key_with_parts: bool) -> Self {
        let (store, clock) = (HookedStore::new(), ManualClock::at(START));
        let policy = Policy::new().stale_while_revalidate(secs(WINDOW));
        let policy = if key_with_parts { policy.key_header("x-lang") } else { policy };
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

    async fn get(&self, page: usize, lang: usize) -> (Outcome, usize) {
        let fields = [("host", HOST), ("x-lang", LANGS[lang])];
        let answer = self.client.get_with(PATHS[page], &fields).await;
        let coordinator = self.store.coordinator().clone();
        let idle = || coordinator.open_refreshes() == 0 && coordinator.open_fills() == 0;
        wait_until("background work ends", idle).await;
        let (name, version) = answer.text().rsplit_once(' ').unwrap();
        assert_eq!(
            name,
            format!("{} {}", PATHS[page], LANGS[lang]),
            "response of another path or language"
        );
        let status = answer.cache_status();
        let outcome = if status.starts_with("hit; ttl=-") || status == "hit; ttl=0; stale" {
            Outcome::Stale
        } else if status.starts_with("hit") {
            Outcome::Hit
        } else if status.contains("fwd-status=304") {
            Outcome::Validated
        } else {
            Outcome::Handler
        };
        (outcome, version.parse().unwrap())
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Subject({})", self.server.addr)
    }
}

fn answer(request: &HttpRequest, versions: &[AtomicUsize; 4]) -> HttpResponse {
    let page = PATHS.iter().position(|path| *path == request.path()).unwrap();
    let lang = request.headers().get("x-lang").unwrap().to_str().unwrap();
    let version = versions[page].load(Ordering::SeqCst);
    let tag = format!("\"{version}\"");
    let condition = request.headers().get("if-none-match");
    let matches = condition.is_some_and(|condition| *condition == *tag);
    let mut response = if matches { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    let tags = ResponseOptions::new().tag(format!("number {}", page % 2)).tag(PATHS[page]);
    response.extensions_mut().insert(tags);
    let group = if page < 2 { "\"a\"" } else { "\"b\"" };
    response.insert_header(("cache-groups", group));
    response.insert_header(("vary", "x-lang")).insert_header(("etag", tag));
    response.body(if matches { String::new() } else { format!("{} {lang} {version}", PATHS[page]) })
}

async fn run(key_with_parts: bool, steps: Vec<Step>) {
    let (subject, mut model) = (Subject::new(key_with_parts), Model::default());
    for (number, step) in steps.iter().enumerate() {
        match *step {
            Step::Get(page, lang) => {
                let got = subject.get(page, lang).await;
                let want = model.get(page, lang);
                assert_eq!(got, want, "step {number} of {steps:?}");
            }
            Step::Change(page) => {
                subject.versions[page].fetch_add(1, Ordering::SeqCst);
                model.versions[page] += 1;
            }
            Step::Purge(target) => {
                let purged = subject.handle.purge(target.to_purge_target()).await;
                assert_eq!(purged.is_err(), model.broken, "step {number} of {steps:?}");
                // A failed purge may have any effect in general; this store does nothing.
                if !model.broken {
                    model.purge(target);
                }
            }
            Step::Expire(target) => {
                let expired = subject.handle.expire(target.to_purge_target()).await;
                assert_eq!(expired.is_err(), model.broken, "step {number} of {steps:?}");
                if !model.broken {
                    model.expire(target);
                }
            }
            Step::Advance(seconds) => {
                subject.clock.advance(secs(seconds));
                model.now += seconds;
            }
            Step::Break(broken) => {
                match broken {
                    true => subject.store.set_fault(&StoreCall::ALL, StoreFault::Error),
                    false => subject.store.recover(),
                }
                model.broken = broken;
            }
            Step::Evict if !model.broken => {
                subject.store.evict_all().await;
                model.entries = Default::default();
            }
            Step::Evict => {}
        }
    }
}

#[test]
fn cache_answers_like_the_model() {
    random_cases(SEQUENCES, &(any::<bool>(), vec(step(), 1..60)), |(key_with_parts, steps)| {
        System::new().block_on(run(key_with_parts, steps));
        Ok(())
    });
}
