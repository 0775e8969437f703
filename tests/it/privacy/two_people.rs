//! A property test: under the settings for pages of people, nobody gets the page of somebody else.
//!
//! The body of each response names the person for whom the handler made it. The cases are random
//! sequences of concurrent requests of two people and a visitor, for each kind of credential, setting
//! and store.

use std::{
    cell::Cell,
    sync::{Arc, Mutex},
};

use actix_web::{
    App, HttpRequest, HttpResponse,
    dev::Service,
    http::{StatusCode, header::HeaderMap},
    rt::System,
    test::{TestRequest, call_service, init_service, read_body},
    web,
};
use actix_web_cache::{
    Cache, ManualClock, MemoryStore, Policy, RedisStore, TieredStore, store::Store,
};
use futures_util::future::join_all;
use proptest::{collection::vec, prelude::*, sample::select};
use tokio::task::yield_now;

use crate::support::{Counter, RedisServer, START, SimulatedProcesses, Tally, random_cases, secs};

const CASES: u32 = 3000;
const REDIS_CASES: u32 = 150;

/// The credentials by which the application knows its people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Credential {
    SessionCookie,
    Authorization,
    ApiKey,
}

/// The setting of the policy for the pages of people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Setting {
    Default,
    PerUser,
    ShareAuthorized,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Person {
    Alice,
    Bob,
    Visitor,
}

/// Requests that are sent at once, and the time until the next ones.
#[derive(Debug, Clone)]
struct Step {
    people: Vec<Person>,
    /// Whether the handler fails in this step.
    fails: bool,
    elapsed: u64,
}

#[derive(Debug, Clone)]
struct Case {
    credential: Credential,
    setting: Setting,
    /// `Cache-Control` of the pages; empty for none.
    cache_control: &'static str,
    /// Whether the pages have an entity tag, which is the same for all people.
    has_tag: bool,
    is_streamed: bool,
    steps: Vec<Step>,
}

fn cases() -> BoxedStrategy<Case> {
    let credential =
        select(vec![Credential::SessionCookie, Credential::Authorization, Credential::ApiKey]);
    let setting = select(vec![Setting::Default, Setting::PerUser, Setting::ShareAuthorized]);
    let person = select(vec![Person::Alice, Person::Bob, Person::Visitor]);
    let step = (vec(person, 1..5), prop::bool::weighted(0.2), select(vec![0, 5, 30, 70, 150]))
        .prop_map(|(people, fails, elapsed)| Step { people, fails, elapsed });
    let cache_control = select(vec!["", "private", "private, max-age=60", "private, no-cache"]);
    let response = (cache_control, any::<bool>(), any::<bool>());
    (credential, setting, response, vec(step, 2..6))
        .prop_map(|(credential, setting, (cache_control, has_tag, is_streamed), steps)| Case {
            credential,
            setting,
            cache_control,
            has_tag,
            is_streamed,
            steps,
        })
        .boxed()
}

impl Credential {
    /// The request field of a person.
    fn field(self, person: Person) -> Option<(&'static str, &'static str)> {
        let is_alice = match person {
            Person::Alice => true,
            Person::Bob => false,
            Person::Visitor => return None,
        };
        Some(match (self, is_alice) {
            (Self::SessionCookie, true) => ("cookie", "sid=alice"),
            (Self::SessionCookie, false) => ("cookie", "sid=bob"),
            (Self::Authorization, true) => ("authorization", "Bearer alice"),
            (Self::Authorization, false) => ("authorization", "Bearer bob"),
            (Self::ApiKey, true) => ("x-api-key", "alice"),
            (Self::ApiKey, false) => ("x-api-key", "bob"),
        })
    }
}

/// The person whose credentials a request carries.
fn person_of(fields: &HeaderMap) -> &'static str {
    let all = ["cookie", "authorization", "x-api-key"];
    let text = |name: &str| fields.get(name).map_or("", |value| value.to_str().unwrap());
    let names = |person: &str| all.iter().any(|name| text(name).ends_with(person));
    match (names("alice"), names("bob")) {
        (true, _) => "alice",
        (_, true) => "bob",
        _ => "visitor",
    }
}

impl Setting {
    fn policy(self) -> Policy {
        let policy = Policy::new()
            .default_ttl(secs(60))
            .stale_while_revalidate(secs(60))
            .stale_if_error(secs(600));
        match self {
            Self::Default => policy,
            Self::PerUser => policy.per_user(|request| {
                let person = person_of(request.headers());
                (person != "visitor").then(|| person.to_owned())
            }),
            Self::ShareAuthorized => policy.credentials(["Cookie"]).share_authorized(),
        }
    }

    /// The word in the body of a response for a person.
    fn body_for(self, person: &str) -> &str {
        // The handler answers all clients that pass the check alike.
        if self == Self::ShareAuthorized && person != "visitor" { "member" } else { person }
    }
}

/// The handler calls of a case.
#[derive(Debug, Clone, Default)]
struct Calls {
    fails: Arc<Mutex<bool>>,
    sent: Counter,
    entered: Counter,
}

async fn respond(case: Case, calls: Calls, request: HttpRequest) -> HttpResponse {
    // Requests that arrive in the meantime wait for this response where they may.
    while calls.entered.get() < calls.sent.get() {
        yield_now().await;
    }
    yield_now().await;
    if *calls.fails.lock().unwrap() {
        return HttpResponse::ServiceUnavailable().body("failed");
    }
    let mut response = HttpResponse::Ok();
    if !case.cache_control.is_empty() && case.setting != Setting::ShareAuthorized {
        response.insert_header(("cache-control", case.cache_control));
    }
    if case.has_tag {
        response.insert_header(("etag", "\"page\""));
    }
    let known = request.headers().get("if-none-match");
    if case.has_tag && known.is_some_and(|known| known == "\"page\"") {
        return response.status(StatusCode::NOT_MODIFIED).finish();
    }
    let text = case.setting.body_for(person_of(request.headers())).to_owned();
    if case.is_streamed {
        let parts = ["<", &text, ">"].map(|part| Ok::<_, actix_web::Error>(part.to_owned().into()));
        return response.streaming(futures_util::stream::iter(parts));
    }
    response.body(format!("<{text}>"))
}

/// Runs a case over the stores of two servers, and checks each response.
async fn check(
    case: &Case,
    stores: [impl Store + Clone; 2],
    namespace: &str,
    tally: &Tally,
) -> Result<(), TestCaseError> {
    let (clock, calls) = (ManualClock::at(START), Calls::default());
    let caches = stores.map(|store| {
        let builder = Cache::builder(store).clock(clock.clock()).policy(case.setting.policy());
        let builder = builder.namespace(namespace).lookup_timeout(secs(5)).store_timeout(secs(5));
        builder.build().unwrap()
    });
    let app = |cache: &Cache| {
        let (case, handled, entered) = (case.clone(), calls.clone(), calls.entered.clone());
        let handler = web::to(move |request| respond(case.clone(), handled.clone(), request));
        App::new().default_service(handler).wrap(cache.clone()).wrap_fn(move |request, inner| {
            entered.count();
            inner.call(request)
        })
    };
    let apps = [init_service(app(&caches[0])).await, init_service(app(&caches[1])).await];
    for step in &case.steps {
        *calls.fails.lock().unwrap() = step.fails;
        let send = async |(index, person): (usize, &Person)| {
            let mut request = TestRequest::with_uri("/page").insert_header(("host", "h"));
            if let Some(field) = case.credential.field(*person) {
                request = request.insert_header(field);
            }
            let response = call_service(&apps[index % 2], request.to_request()).await;
            let status = response.status().as_u16();
            let text = |name: &str| {
                let value = response.headers().get(name);
                value.map_or(String::new(), |value| value.to_str().unwrap().to_owned())
            };
            let (outcome, cache_control) = (text("cache-status"), text("cache-control"));
            (*person, status, outcome, cache_control, read_body(response).await)
        };
        for _ in &step.people {
            calls.sent.count();
        }
        let answers = join_all(step.people.iter().enumerate().map(send)).await;
        for (person, status, outcome, cache_control, body) in answers {
            let is_visitor = person == Person::Visitor;
            let name = match person {
                Person::Alice => "alice",
                Person::Bob => "bob",
                Person::Visitor => "visitor",
            };
            let case_text = || format!("{person:?} got {body:?} ({outcome}; {cache_control})");
            if status == 503 {
                prop_assert!(step.fails, "{}", case_text());
                continue;
            }
            let own = format!("<{}>", case.setting.body_for(name));
            prop_assert_eq!(&body, &own, "{}", case_text());
            let is_from_store = !outcome.contains("; detail=") && !outcome.contains("fwd=bypass");
            if is_from_store && !is_visitor && case.setting != Setting::Default {
                prop_assert!(cache_control.contains("private"), "{}", case_text());
            }
            if is_visitor {
                continue;
            }
            let setting = case.setting;
            let is_shared = setting != Setting::Default;
            tally.add_if(is_shared && outcome.contains("; hit; ttl=6"), "hit");
            tally.add_if(is_shared && outcome.contains("hit; ttl=-"), "stale hit");
            tally.add_if(is_shared && outcome.contains("collapsed"), "collapsed");
            tally.add_if(is_shared && outcome.contains("stale-if-error"), "stale if error");
            tally.add_if(is_shared && outcome.contains("fwd-status=304"), "validated");
            tally.add_if(!is_shared && outcome.contains("detail="), "refused");
        }
        for cache in &caches {
            cache.idle().await;
        }
        clock.advance(secs(step.elapsed));
    }
    Ok(())
}

const KINDS: [&str; 6] =
    ["hit", "stale hit", "collapsed", "stale if error", "validated", "refused"];

#[test]
fn page_of_one_person_reaches_nobody_else() {
    let (system, tally) = (System::new(), Tally::default());
    let stores = select(vec!["memory", "processes", "tiered"]);
    random_cases(CASES, &(cases(), stores), |(case, store)| {
        system.block_on(async {
            let processes = SimulatedProcesses::default();
            match store {
                "memory" => {
                    let store = MemoryStore::new(1 << 20);
                    check(&case, [store.clone(), store], "t", &tally).await
                }
                "processes" => check(&case, [0; 2].map(|_| processes.store()), "t", &tally).await,
                _ => {
                    let tiered = || TieredStore::new(processes.store());
                    check(&case, [tiered(), tiered()], "t", &tally).await
                }
            }
        })
    });
    tally.assert_each_above(20, &KINDS);
}

#[test]
fn page_of_one_person_in_redis_reaches_nobody_else() {
    let (system, tally, redis) = (System::new(), Tally::default(), RedisServer::start());
    let stores = system.block_on(async {
        [0; 2].map(|_| {
            let builder = RedisStore::builder(redis.url(), "people");
            builder.lookup_timeout(secs(5)).write_timeout(secs(5)).build().unwrap()
        })
    });
    let tiered = system.block_on(async { stores.clone().map(TieredStore::new) });
    let number = Cell::new(0);
    random_cases(REDIS_CASES, &(cases(), any::<bool>()), |(case, is_tiered)| {
        number.set(number.get() + 1);
        let name = format!("case-{}", number.get());
        system.block_on(async {
            match is_tiered {
                true => check(&case, tiered.clone(), &name, &tally).await,
                false => check(&case, stores.clone(), &name, &tally).await,
            }
        })
    });
    tally.assert_each_above(3, &KINDS);
}
