//! A comparison with the crate http-cache-semantics, over random exchanges.
//!
//! Every response that this cache serves from its store must be usable in http-cache-semantics too,
//! and for at least as long. [`DIFFERENCES`] lists the cases in which http-cache-semantics is
//! stricter than the RFC demands. Each difference rewrites the exchange into one on which both
//! agree; all other disagreements fail the test.

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
use proptest::test_runner::TestCaseError;

use self::cases::{Case, Format, Message, Preset, Text, case};
use crate::support::{START, random_cases_of_fixed_seed, secs, store};

/// The number of exchanges.
const CASES: u32 = 4000;

/// A case in which http-cache-semantics is stricter, and a rewrite that avoids it.
struct Difference {
    why: &'static str,
    rewrite: fn(&mut Case),
}

const DIFFERENCES: &[Difference] = &[
    Difference {
        why: "a targeted field overrides Cache-Control and Expires (RFC 9213 section 2.2)",
        rewrite: |case| {
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
        why: "directive names are case-insensitive (RFC 9111 section 5.2)",
        rewrite: |case| {
            case.each_directive(|directive| *directive = directive.to_ascii_lowercase())
        },
    },
    Difference {
        why: "the first of several equal directives counts, the shortest of several lifetimes \
              (RFC 9111 section 4.2.1)",
        rewrite: |case| case.response.remove_repeated_directives(),
    },
    Difference {
        why: "a comma in a quoted string is no separator (RFC 9110 section 5.6.1)",
        rewrite: |case| {
            case.response.directives.retain(|directive| !directive.starts_with("ext=\""))
        },
    },
    Difference {
        why: "qualified no-cache and private apply to the named fields when they are honored (RFC \
              9111 sections 5.2.2.4 and 5.2.2.7)",
        rewrite: |case| {
            let qualified =
                |text: &String| text.starts_with("no-cache=\"") || text.starts_with("private=\"");
            if case.preset == Preset::Rfc9111 {
                case.response.directives.retain(|directive| !qualified(directive));
            }
        },
    },
    Difference {
        why: "must-understand overrides no-store for a known status code (RFC 9111 section \
              5.2.2.3)",
        rewrite: |case| {
            if case.response.has_directive("must-understand") && case.status != 599 {
                case.response.directives.retain(|directive| directive != "no-store");
            }
        },
    },
    Difference {
        why: "a response with any final status code may be stored if it has an explicit lifetime \
              or is public (RFC 9111 section 3)",
        rewrite: |case| {
            let explicit = ["max-age", "s-maxage", "public"]
                .iter()
                .any(|name| case.response.has_directive(name))
                || case.response.fields.iter().any(|(name, _)| *name == "expires");
            let not_understood =
                case.response.has_directive("must-understand") && case.status == 599;
            if explicit && !not_understood && ![206, 304].contains(&case.status) {
                case.status = 200;
            }
        },
    },
    Difference {
        why: "a response with Set-Cookie may be stored if the application allows it (RFC 9111 \
              section 7.3)",
        rewrite: |case| {
            if case.preset == Preset::Rfc9111 {
                case.response.remove("set-cookie");
            }
        },
    },
    Difference {
        why: "proxy-revalidate restricts stale responses only, as must-revalidate does (RFC 9111 \
              section 5.2.2.8)",
        rewrite: |case| {
            for directive in &mut case.response.directives {
                if directive == "proxy-revalidate" {
                    "must-revalidate".clone_into(directive);
                }
            }
        },
    },
    Difference {
        why: "Pragma is not defined for responses, and Expires takes precedence (RFC 9111 section \
              5.4)",
        rewrite: |case| {
            if case.response.fields.iter().any(|(name, _)| *name == "expires") {
                case.response.remove("pragma");
            }
        },
    },
    Difference {
        why: "Pragma in a request is deprecated and ignored (RFC 9111 section 5.4)",
        rewrite: |case| case.second.remove("pragma"),
    },
    Difference {
        why: "request directives are advice, which is ignored unless the application honors them \
              (RFC 9111 section 5.2.1)",
        rewrite: |case| {
            if case.preset == Preset::Explicit {
                case.second.directives.clear();
            }
        },
    },
    Difference {
        why: "selecting fields match if they differ in whitespace and line breaks only (RFC 9111 \
              section 4.1), and language tags are case-insensitive (RFC 5646 section 2.1.1)",
        rewrite: |case| {
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
        why: "a date may have any of three formats (RFC 9110 section 5.6.7)",
        rewrite: |case| {
            for (_, value) in &mut case.response.fields {
                if let Text::Date(_, format) = value {
                    *format = Format::Imf;
                }
            }
        },
    },
    Difference {
        why: "delta-seconds that are too large count as 2^31 (RFC 9111 section 1.2.2)",
        rewrite: |case| {
            case.each_directive(|text| *text = text.replace("99999999999999999999", "2147483648"));
        },
    },
    Difference {
        why: "a staleness equal to max-stale is allowed (RFC 9111 section 5.2.1.2)",
        rewrite: |case| {
            for directive in &mut case.second.directives {
                if let Some(limit) = directive.strip_prefix("max-stale=")
                    && let Ok(limit) = limit.parse::<u64>()
                {
                    *directive = format!("max-stale={}", limit + 1);
                }
            }
        },
    },
    Difference {
        why: "stale-while-revalidate permits a stale response without max-stale (RFC 5861 section \
              3)",
        rewrite: |case| {
            let min_fresh = case.second.seconds("min-fresh").is_some();
            let forbidden = case.response.has_directive("must-revalidate") || min_fresh;
            let window = case.response.seconds("stale-while-revalidate");
            let Some(window) = window.filter(|_| !forbidden) else { return };
            let max_stale = case.second.seconds("max-stale");
            if max_stale.is_some() || !case.second.has_directive("max-stale") {
                let directives = &mut case.second.directives;
                directives.retain(|directive| !directive.starts_with("max-stale="));
                directives.push(format!("max-stale={}", window.max(max_stale.unwrap_or(0))));
            }
        },
    },
    Difference {
        why: "a stored response to GET may answer HEAD (RFC 9110 section 9.3.2)",
        rewrite: |case| case.head = false,
    },
];

/// The moments of one exchange: its start, its response and its second request.
#[derive(Debug, Clone, Copy)]
struct Times {
    start: u64,
    responded: SystemTime,
    requested_again: SystemTime,
}

/// The remaining freshness lifetime in http-cache-semantics, or `None` if it would not serve the
/// stored response to the second request.
fn reference_lifetime(case: &Case, times: Times) -> Option<Duration> {
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
    let usable = policy.before_request(&request(&case.second, method), times.requested_again);
    matches!(usable, BeforeRequest::Fresh(_)).then(|| policy.time_to_live(times.requested_again))
}

/// The remaining freshness lifetime after all rewrites but the one with the index `skipped`.
fn reference_lifetime_with_rewrites(
    case: &Case,
    times: Times,
    skipped: Option<usize>,
) -> Option<Duration> {
    let mut rewritten = case.clone();
    for (index, difference) in DIFFERENCES.iter().enumerate() {
        if Some(index) != skipped {
            (difference.rewrite)(&mut rewritten);
        }
    }
    reference_lifetime(&rewritten, times)
}

/// An application that answers path `/n` with the response of case `n`, and the outcomes that its
/// cache reported.
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

    /// Sends both requests of a case. Returns the outcome of the second one, and the times.
    async fn exchange<B: MessageBody>(
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
        assert!(answer.into_body().try_into_bytes().is_ok(), "the body is complete");
        let responded = self.clock.now().system_time();
        self.clock.advance(secs(case.elapsed));
        let requested_again = self.clock.now().system_time();
        self.outcomes.lock().unwrap().clear();
        let method = if case.head { Method::HEAD } else { Method::GET };
        call_service(app, request(&case.second, method)).await;
        let outcome = self.outcomes.lock().unwrap()[0];
        (outcome, Times { start, responded, requested_again })
    }
}

#[test]
fn hit_is_usable_in_http_cache_semantics_too() {
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
    // A fixed seed, so that every run meets every difference.
    random_cases_of_fixed_seed(CASES, &case(), |case| {
        let app = if case.preset == Preset::Rfc9111 { &rfc9111 } else { &explicit };
        let (outcome, times) = system.block_on(site.exchange(app, &case));
        let ttl = match outcome {
            Outcome::Hit { ttl, .. } => ttl,
            Outcome::StaleHit { .. } => Duration::ZERO,
            _ => return Ok(()),
        };
        let count = if ttl.is_zero() { &stale } else { &fresh };
        count.set(count.get() + 1);
        let reference = reference_lifetime_with_rewrites(&case, times, None);
        if reference.is_none_or(|reference| ttl > reference) {
            return Err(TestCaseError::fail(format!(
                "{outcome:?}, but http-cache-semantics has the lifetime {reference:?}"
            )));
        }
        for (index, met) in met.borrow_mut().iter_mut().enumerate() {
            *met = *met
                || reference_lifetime_with_rewrites(&case, times, Some(index))
                    .is_none_or(|left| left < ttl);
        }
        Ok(())
    });
    let (fresh, stale) = (fresh.get(), stale.get());
    assert!(fresh > 400 && stale > 20, "too few hits were compared: {fresh} fresh, {stale} stale");
    for (difference, met) in DIFFERENCES.iter().zip(met.into_inner()) {
        assert!(met, "no exchange met this difference: {}", difference.why);
    }
}
