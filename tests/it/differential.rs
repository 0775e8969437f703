//! A second opinion: what we answer from the store without asking the handler, the crate
//! http-cache-semantics must call usable too, and for no shorter time.
//!
//! Where it is stricter for a reason that we do not share, [`DIFFERENCES`] says so: each tells it
//! the exchange in other words, and nothing else about it is excused.

mod cases;

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use actix_web::{
    App, Error, HttpRequest, HttpResponse,
    body::MessageBody,
    dev::{Service, ServiceResponse},
    http::{Method, StatusCode},
    rt::System,
    test::{TestRequest, call_service, init_service},
    web,
};
use actix_web_cache::{Cache, ManualClock, Outcome, Policy};
use http_cache_semantics::{BeforeRequest, CacheOptions, CachePolicy};
use hyper::http;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};

use self::cases::{Case, Format, Message, Preset, Text, case};
use crate::support::{START, secs, store};

/// Exchanges that are tried; more with `PROPTEST_CASES`.
const CASES: u32 = 4000;

struct Difference {
    why: &'static str,
    /// Puts it as both understand it.
    told: fn(&mut Case),
}

const DIFFERENCES: &[Difference] = &[
    Difference {
        why: "a field that is targeted at this cache goes before Cache-Control and Expires (RFC \
              9213 section 2.2)",
        told: |case| {
            let fields = &mut case.response.fields;
            let at = fields.iter().position(|(name, _)| *name == "cdn-cache-control");
            if let Some(at) = at.filter(|_| case.preset == Preset::Rfc9111) {
                let (_, targeted) = fields.remove(at);
                fields.retain(|(name, _)| *name != "expires");
                let list = targeted.at(START);
                case.response.directives = list.split(", ").map(str::to_owned).collect();
            }
        },
    },
    Difference {
        why: "names of directives have no case (RFC 9111 section 5.2)",
        told: |case| case.each_directive(|directive| *directive = directive.to_ascii_lowercase()),
    },
    Difference {
        why: "of what is said twice the first counts, of lifetimes the shortest (RFC 9111 section \
              4.2.1)",
        told: |case| case.response.say_once(),
    },
    Difference {
        why: "commas within quoted strings separate nothing (RFC 9110 section 5.6.1)",
        told: |case| case.response.directives.retain(|directive| !directive.starts_with("ext=\"")),
    },
    Difference {
        why: "qualified no-cache and private are about fields, where that is honoured (RFC 9111 \
              sections 5.2.2.4 and 5.2.2.7)",
        told: |case| {
            let qualified =
                |text: &String| text.starts_with("no-cache=\"") || text.starts_with("private=\"");
            if case.preset == Preset::Rfc9111 {
                case.response.directives.retain(|directive| !qualified(directive));
            }
        },
    },
    Difference {
        why: "must-understand outweighs no-store where the status code is known (RFC 9111 section \
              5.2.2.3)",
        told: |case| {
            if case.response.says("must-understand") && case.status != 599 {
                case.response.directives.retain(|directive| directive != "no-store");
            }
        },
    },
    Difference {
        why: "any final status code may be stored, where its response states a lifetime or is \
              public (RFC 9111 section 3)",
        told: |case| {
            let stated =
                ["max-age", "s-maxage", "public"].iter().any(|name| case.response.says(name))
                    || case.response.fields.iter().any(|(name, _)| *name == "expires");
            let hidden = case.response.says("must-understand") && case.status == 599;
            if stated && !hidden && ![206, 304].contains(&case.status) {
                case.status = 200;
            }
        },
    },
    Difference {
        why: "a cookie may be replayed, where the application says so (RFC 9111 section 7.3)",
        told: |case| {
            if case.preset == Preset::Rfc9111 {
                case.response.remove("set-cookie");
            }
        },
    },
    Difference {
        why: "proxy-revalidate is about what is stale, as must-revalidate is (RFC 9111 section \
              5.2.2.8)",
        told: |case| {
            for directive in &mut case.response.directives {
                if directive == "proxy-revalidate" {
                    "must-revalidate".clone_into(directive);
                }
            }
        },
    },
    Difference {
        why: "Pragma is not defined for responses, and yields to Expires (RFC 9111 section 5.4)",
        told: |case| {
            if case.response.fields.iter().any(|(name, _)| *name == "expires") {
                case.response.remove("pragma");
            }
        },
    },
    Difference {
        why: "a client's Pragma is deprecated (RFC 9111 section 5.4)",
        told: |case| case.second.remove("pragma"),
    },
    Difference {
        why: "a client's directives are advice, not followed unless the application wants it (RFC \
              9111 section 5.2.1)",
        told: |case| {
            if case.preset == Preset::Explicit {
                case.second.directives.clear();
            }
        },
    },
    Difference {
        why: "selecting fields match if only white space and line breaks differ (RFC 9111 section \
              4.1), and language tags have no case (RFC 5646 section 2.1.1)",
        told: |case| {
            let folded = case.preset == Preset::Rfc9111;
            for message in [&mut case.first, &mut case.second] {
                message.join("cookie", ";", "; ", str::to_owned);
                message.join("accept", ",", ", ", str::to_owned);
                message.join("accept-language", ",", ", ", |text| {
                    if folded { text.to_ascii_lowercase() } else { text.to_owned() }
                });
            }
        },
    },
    Difference {
        why: "dates may stand in any of three formats (RFC 9110 section 5.6.7)",
        told: |case| {
            for (_, value) in &mut case.response.fields {
                if let Text::Date(_, format) = value {
                    *format = Format::Imf;
                }
            }
        },
    },
    Difference {
        why: "what is too large to represent is 2^31 seconds (RFC 9111 section 1.2.2)",
        told: |case| {
            case.each_directive(|text| *text = text.replace("99999999999999999999", "2147483648"));
        },
    },
    Difference {
        why: "max-stale may be met exactly (RFC 9111 section 5.2.1.2)",
        told: |case| {
            for directive in &mut case.second.directives {
                if let Some(most) = directive.strip_prefix("max-stale=")
                    && let Ok(most) = most.parse::<u64>()
                {
                    *directive = format!("max-stale={}", most + 1);
                }
            }
        },
    },
    Difference {
        why: "stale-while-revalidate allows what max-stale would (RFC 5861 section 3)",
        told: |case| {
            let min_fresh = case.second.seconds("min-fresh").is_some();
            let must = case.response.says("must-revalidate") || min_fresh;
            let window = case.response.seconds("stale-while-revalidate");
            let Some(window) = window.filter(|_| !must) else { return };
            let asked = case.second.seconds("max-stale");
            if asked.is_some() || !case.second.says("max-stale") {
                let directives = &mut case.second.directives;
                directives.retain(|directive| !directive.starts_with("max-stale="));
                directives.push(format!("max-stale={}", window.max(asked.unwrap_or(0))));
            }
        },
    },
    Difference {
        why: "the answer to GET answers HEAD (RFC 9110 section 9.3.2)",
        told: |case| case.head = false,
    },
];

/// Both moments that count.
#[derive(Debug, Clone, Copy)]
struct Times {
    start: u64,
    responded: SystemTime,
    asked: SystemTime,
}

/// How long the other would still call the response fresh, if it may answer the second request.
fn second_opinion(case: &Case, times: Times) -> Option<Duration> {
    let request = |message: &Message, method| {
        let mut request = http::Request::builder().method(method).uri("/");
        for (name, value) in message.lines(times.start) {
            request = request.header(name, value);
        }
        request.body(()).unwrap()
    };
    let mut response = http::Response::builder().status(case.status);
    for (name, value) in case.response.lines(times.start) {
        response = response.header(name, value);
    }
    let heuristic = if case.preset == Preset::Rfc9111 { 0.1 } else { 0.0 };
    let options =
        CacheOptions { shared: true, cache_heuristic: heuristic, ..CacheOptions::default() };
    let first = request(&case.first, http::Method::GET);
    let policy =
        CachePolicy::new_options(&first, &response.body(()).unwrap(), times.responded, options);
    let method = if case.head { http::Method::HEAD } else { http::Method::GET };
    let usable = policy.before_request(&request(&case.second, method), times.asked);
    matches!(usable, BeforeRequest::Fresh(_)).then(|| policy.time_to_live(times.asked))
}

/// The same once all differences but one are told away.
fn opinion_without(case: &Case, times: Times, kept: Option<usize>) -> Option<Duration> {
    let mut told = case.clone();
    for (index, difference) in DIFFERENCES.iter().enumerate() {
        if Some(index) != kept {
            (difference.told)(&mut told);
        }
    }
    second_opinion(&told, times)
}

/// An application that answers each path as it is told, and how its cache reports.
struct Site {
    clock: ManualClock,
    cases: RefCell<Vec<Case>>,
    start: Cell<u64>,
    outcomes: Arc<Mutex<Vec<Outcome>>>,
}

impl Site {
    fn new() -> Rc<Self> {
        let clock = ManualClock::at(START);
        Rc::new(Self {
            clock,
            cases: RefCell::default(),
            start: Cell::new(START),
            outcomes: Arc::default(),
        })
    }

    fn cache(&self, policy: Policy) -> Cache {
        let outcomes = Arc::clone(&self.outcomes);
        let observer = move |_: &_, outcome: &Outcome| outcomes.lock().unwrap().push(*outcome);
        let builder = Cache::builder(store()).clock(self.clock.clock()).policy(policy);
        builder.observer(observer).build().unwrap()
    }

    fn respond(&self, request: &HttpRequest) -> HttpResponse {
        let index: usize = request.path().trim_start_matches('/').parse().unwrap();
        let case = &self.cases.borrow()[index];
        self.clock.advance(secs(case.delay));
        let mut response = HttpResponse::build(StatusCode::from_u16(case.status).unwrap());
        for (name, value) in case.response.lines(self.start.get()) {
            response.append_header((name, value));
        }
        if [204, 304].contains(&case.status) { response.finish() } else { response.body("body") }
    }

    /// Asks twice; tells what became of the second request, and when all that was.
    async fn ask<B: MessageBody>(
        &self,
        app: &impl Service<actix_http::Request, Response = ServiceResponse<B>, Error = Error>,
        case: &Case,
    ) -> (Outcome, Times) {
        let start = self.clock.now().wall().as_secs();
        self.start.set(start);
        self.cases.borrow_mut().push(case.clone());
        let path = format!("/{}", self.cases.borrow().len() - 1);
        let request = |message: &Message, method| {
            let mut request =
                TestRequest::with_uri(&path).method(method).insert_header(("host", "t"));
            for (name, value) in message.lines(start) {
                request = request.append_header((name, value));
            }
            request.to_request()
        };
        let answer = call_service(app, request(&case.first, Method::GET)).await;
        assert!(answer.into_body().try_into_bytes().is_ok(), "the body is whole");
        let responded = self.clock.now().system_time();
        self.clock.advance(secs(case.elapsed));
        let asked = self.clock.now().system_time();
        self.outcomes.lock().unwrap().clear();
        let method = if case.head { Method::HEAD } else { Method::GET };
        call_service(app, request(&case.second, method)).await;
        let outcome = self.outcomes.lock().unwrap()[0];
        (outcome, Times { start, responded, asked })
    }
}

#[test]
fn what_is_answered_from_the_store_another_implementation_calls_usable_too() {
    let (system, site) = (System::new(), Site::new());
    let serve = |policy| {
        let site = Rc::clone(&site);
        let cache = site.cache(policy);
        let app = App::new().wrap(cache).default_service(web::to(move |request: HttpRequest| {
            let response = site.respond(&request);
            async move { response }
        }));
        system.block_on(init_service(app))
    };
    let explicit = serve(Policy::new().explicit_only());
    let rfc9111 = serve(Policy::rfc9111());
    let (fresh, stale) = (Cell::new(0), Cell::new(0));
    let met = RefCell::new(vec![false; DIFFERENCES.len()]);
    let config = Config {
        cases: Config::default().cases.max(CASES),
        failure_persistence: None,
        ..Config::default()
    };
    // The same exchanges on each run, so that what is met below is met always.
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let verdict = TestRunner::new_with_rng(config, rng).run(&case(), |case| {
        let app = if case.preset == Preset::Rfc9111 { &rfc9111 } else { &explicit };
        let (outcome, times) = system.block_on(site.ask(app, &case));
        let ttl = match outcome {
            Outcome::Hit { ttl, .. } => ttl,
            Outcome::StaleHit { .. } => Duration::ZERO,
            _ => return Ok(()),
        };
        let count = if ttl.is_zero() { &stale } else { &fresh };
        count.set(count.get() + 1);
        let theirs = opinion_without(&case, times, None);
        if theirs.is_none_or(|theirs| ttl > theirs) {
            return Err(TestCaseError::fail(format!("{outcome:?}, but theirs: {theirs:?}")));
        }
        for (index, met) in met.borrow_mut().iter_mut().enumerate() {
            *met = *met || opinion_without(&case, times, Some(index)).is_none_or(|left| left < ttl);
        }
        Ok(())
    });
    if let Err(error) = verdict {
        panic!("{error}");
    }
    let (fresh, stale) = (fresh.get(), stale.get());
    assert!(
        fresh > 400 && stale > 20,
        "hardly anything was compared: {fresh} fresh, {stale} stale"
    );
    for (difference, met) in DIFFERENCES.iter().zip(met.into_inner()) {
        assert!(met, "never met: {}", difference.why);
    }
}
