//! Property test: no stored response leaves the cache after its freshness lifetime without a
//! statement in `Cache-Status`, and none leaves that forbids its stale use.
//!
//! The test computes ages, lifetimes and windows itself.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::SystemTime,
};

use actix_web::{
    App, HttpRequest, HttpResponse,
    http::{StatusCode, header::HeaderMap},
    rt::System,
    test::{TestRequest, call_service, init_service},
    web,
};
use actix_web_cache::{Cache, ManualClock, MemoryStore, Policy};
use proptest::{
    collection::vec,
    option,
    prelude::*,
    sample::{select, subsequence},
};

use crate::support::{
    BodyKind, ENTITY_TAG, Meaning, RandomReply, START, Tally, Value, directive, random_cases, secs,
};

/// The number of sequences of requests.
const SEQUENCES: u32 = 2000;

/// A policy, and the requests for one page.
#[derive(Debug, Clone)]
struct Case {
    honors_directives: bool,
    while_revalidate: u64,
    if_error: u64,
    default_ttl: u64,
    has_refresh_ahead: bool,
    steps: Vec<Step>,
}

/// A request, the response of the handler in case that it is called, and the seconds until the next
/// step.
#[derive(Debug, Clone)]
struct Step {
    directives: Vec<RequestDirective>,
    reply: Reply,
    expires_before: bool,
    elapsed: u64,
}

/// A directive of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RequestDirective {
    NoCache,
    OnlyIfCached,
    MaxAge(u64),
    MinFresh(u64),
    MaxStale(Option<u64>),
}

/// A response of the handler.
#[derive(Debug, Clone)]
struct Reply {
    fails: bool,
    directives: Vec<Meaning>,
    /// `Expires`, in seconds after the response.
    expires: Option<i64>,
    date: Option<i64>,
    age: Option<u64>,
    has_tag: bool,
    /// Whether the handler answers its own entity tag with 304.
    validates: bool,
}

/// A response that the handler sent, with the times that its age counts from.
#[derive(Debug, Clone)]
struct Run {
    step: usize,
    reply: Reply,
    received: u64,
}

impl Reply {
    fn seconds(&self, of: impl Fn(&Meaning) -> Option<u64>) -> Option<u64> {
        self.directives.iter().filter_map(of).min()
    }

    fn has(&self, meaning: Meaning) -> bool {
        self.directives.contains(&meaning)
    }

    /// Whether the response must not be served stale, whatever its windows are.
    fn forbids_stale(&self) -> bool {
        self.has(Meaning::MustRevalidate)
            || self.has(Meaning::ProxyRevalidate)
            || self.has(Meaning::NoCache)
    }

    /// The freshness lifetime (RFC 9111 section 4.2.1).
    fn lifetime(&self, case: &Case) -> u64 {
        let s_maxage = self.seconds(|one| match one {
            Meaning::SMaxAge(seconds) => Some(*seconds),
            _ => None,
        });
        let max_age = self.seconds(|one| match one {
            Meaning::MaxAge(seconds) => Some(*seconds),
            _ => None,
        });
        let expires = self.expires.map(|expires| {
            u64::try_from(expires - self.date.unwrap_or_default()).unwrap_or_default()
        });
        s_maxage.or(max_age).or(expires).unwrap_or(case.default_ttl)
    }

    /// The age on receipt (RFC 9111 section 4.2.3).
    fn initial_age(&self) -> u64 {
        let apparent = self.date.map_or(0, |date| u64::try_from(-date).unwrap_or_default());
        apparent.max(self.age.unwrap_or_default())
    }

    /// The window for stale responses: the stated one, or the policy's `default`.
    fn window(&self, default: u64, of: impl Fn(&Meaning) -> Option<u64>) -> u64 {
        let is_strict = self.directives.iter().any(|one| matches!(one, Meaning::SMaxAge(_)));
        if self.forbids_stale() {
            return 0;
        }
        self.seconds(of).unwrap_or(if is_strict { 0 } else { default })
    }

    fn fields(&self, now: SystemTime) -> HeaderMap {
        let directives = self.directives.iter().copied().map(directive).collect();
        let mut reply = RandomReply { body: BodyKind::Whole, ..RandomReply::plain(directives) };
        reply.fields.extend(self.expires.map(|offset| ("expires", Value::Date(offset))));
        reply.fields.extend(self.date.map(|offset| ("date", Value::Date(offset))));
        reply.fields.extend(self.has_tag.then_some(("etag", Value::Plain(ENTITY_TAG))));
        let mut fields = reply.header_map("", now);
        if let Some(age) = self.age {
            fields.insert("age".parse().unwrap(), age.into());
        }
        fields
    }
}

impl RequestDirective {
    fn text(self) -> String {
        match self {
            Self::NoCache => "no-cache".to_owned(),
            Self::OnlyIfCached => "only-if-cached".to_owned(),
            Self::MaxAge(seconds) => format!("max-age={seconds}"),
            Self::MinFresh(seconds) => format!("min-fresh={seconds}"),
            Self::MaxStale(None) => "max-stale".to_owned(),
            Self::MaxStale(Some(seconds)) => format!("max-stale={seconds}"),
        }
    }
}

/// The response to one request: the number of the handler call that made its fields, and the fields
/// that the cache wrote.
#[derive(Debug)]
struct Answer {
    run: Option<usize>,
    age: Option<u64>,
    status: String,
}

/// Checks the answer to the request of a step at the time `now`. `expired` has the number of
/// handler calls and the time at each soft purge.
fn check(
    case: &Case,
    number: usize,
    runs: &[Run],
    expired: &[(usize, u64)],
    now: u64,
    answer: &Answer,
    tally: &Tally,
) -> Result<(), String> {
    let Some(index) = answer.run else { return Ok(()) };
    let run = &runs[index];
    let status = answer.status.as_str();
    if run.step == number {
        let is_validated = status.contains("fwd-status=304");
        tally.add(if is_validated { "validated" } else { "new" });
        let says_so = status.starts_with("fwd=");
        return says_so.then_some(()).ok_or_else(|| "no fwd for a new response".to_owned());
    }
    let reply = &run.reply;
    let age_at = |time: u64| reply.initial_age() + (time - run.received);
    let age = age_at(now);
    let expiries = expired.iter().filter(|(runs, _)| index < *runs).map(|(_, time)| age_at(*time));
    let lifetime = expiries.fold(reply.lifetime(case), u64::min);
    if answer.age != Some(age) {
        return Err(format!("Age is not {age}"));
    }
    if reply.has(Meaning::NoCache) {
        return Err("a response with no-cache was not validated".to_owned());
    }
    let over = age.saturating_sub(lifetime);
    if status.ends_with("detail=stale-if-error") {
        tally.add("stale on error");
        let failed = runs.iter().any(|run| run.step == number && run.reply.fails);
        let window = reply.window(case.if_error, |one| match one {
            Meaning::StaleIfError(seconds) => Some(*seconds),
            _ => None,
        });
        return (failed && over < window)
            .then_some(())
            .ok_or_else(|| format!("stale for {over} s, the window for errors is {window} s"));
    }
    let honored: &[RequestDirective] =
        if case.honors_directives { &case.steps[number].directives } else { &[] };
    for directive in honored {
        let is_obeyed = match *directive {
            RequestDirective::NoCache => false,
            RequestDirective::MaxAge(limit) => age <= limit,
            RequestDirective::MinFresh(least) => lifetime >= age + least,
            RequestDirective::OnlyIfCached | RequestDirective::MaxStale(_) => true,
        };
        if !is_obeyed {
            return Err(format!("the request has {directive:?}"));
        }
    }
    if age < lifetime {
        tally.add("fresh");
        let says_so = status == format!("hit; ttl={}", lifetime - age);
        return says_so.then_some(()).ok_or_else(|| format!("fresh for {} s", lifetime - age));
    }
    tally.add("stale");
    if status != format!("hit; ttl=-{over}") {
        return Err(format!("stale for {over} s, which Cache-Status does not say"));
    }
    let window = reply.window(case.while_revalidate, |one| match one {
        Meaning::StaleWhileRevalidate(seconds) => Some(*seconds),
        _ => None,
    });
    let is_strict = reply.directives.iter().any(|one| matches!(one, Meaning::SMaxAge(_)));
    let accepted = honored.iter().any(|directive| match directive {
        RequestDirective::MaxStale(limit) => limit.is_none_or(|limit| over <= limit),
        _ => false,
    });
    let may_be_stale = over < window || (accepted && !is_strict && !reply.forbids_stale());
    may_be_stale
        .then_some(())
        .ok_or_else(|| format!("stale for {over} s, the window is {window} s"))
}

/// The styles in which all responses of a case state their lifetime. With one style, a 304 replaces
/// every statement of the stored response.
#[derive(Debug, Clone, Copy)]
enum Style {
    Directives,
    Expires,
    None,
}

fn reply(style: Style) -> BoxedStrategy<Reply> {
    let seconds = || select(vec![0_u64, 1, 5, 10, 30, 60]);
    let lifetimes = (option::of(seconds()), option::weighted(0.3, seconds()));
    let lifetimes = lifetimes.prop_map(move |(max_age, s_maxage)| match style {
        Style::Directives if s_maxage.is_none() => vec![Meaning::MaxAge(max_age.unwrap_or(10))],
        Style::Directives => {
            let max_age = max_age.map(Meaning::MaxAge);
            max_age.into_iter().chain(s_maxage.map(Meaning::SMaxAge)).collect()
        }
        Style::Expires | Style::None => vec![],
    });
    let strict = vec![Meaning::MustRevalidate, Meaning::ProxyRevalidate, Meaning::NoCache];
    let strict = option::weighted(0.25, select(strict));
    let windows = (option::weighted(0.3, seconds()), option::weighted(0.3, seconds()));
    let directives = (lifetimes, strict, windows).prop_map(|(lifetimes, strict, windows)| {
        let windows = windows
            .0
            .map(Meaning::StaleWhileRevalidate)
            .into_iter()
            .chain(windows.1.map(Meaning::StaleIfError));
        // A 304 thus always replaces the stored directives.
        [Meaning::Other].into_iter().chain(lifetimes).chain(strict).chain(windows).collect()
    });
    let expires =
        (-20..60_i64).prop_map(move |offset| matches!(style, Style::Expires).then_some(offset));
    let dates =
        (option::weighted(0.3, -40..1_i64), option::weighted(0.3, select(vec![0_u64, 5, 40])));
    let rest = (proptest::bool::weighted(0.2), any::<bool>(), any::<bool>());
    (directives, expires, dates, rest)
        .prop_map(|(directives, expires, (date, age), (fails, has_tag, validates))| Reply {
            fails,
            directives,
            expires,
            date,
            age,
            has_tag,
            validates,
        })
        .boxed()
}

fn case() -> BoxedStrategy<Case> {
    let all_directives = vec![
        RequestDirective::NoCache,
        RequestDirective::OnlyIfCached,
        RequestDirective::MaxAge(0),
        RequestDirective::MaxAge(7),
        RequestDirective::MinFresh(5),
        RequestDirective::MaxStale(None),
        RequestDirective::MaxStale(Some(0)),
        RequestDirective::MaxStale(Some(12)),
    ];
    let styles = prop_oneof![
        4 => Just(Style::Directives),
        1 => select(vec![Style::Expires, Style::None]),
    ];
    let window = || select(vec![0_u64, 0, 20]);
    let policy = (any::<bool>(), window(), window(), select(vec![60_u64, 5]), any::<bool>());
    (policy, styles)
        .prop_flat_map(move |(policy, style)| {
            let directives = prop_oneof![
                1 => Just(Vec::new()),
                1 => subsequence(all_directives.clone(), 1..=2),
            ];
            let elapsed = select(vec![0_u64, 1, 4, 5, 6, 10, 20, 60]);
            let expires = proptest::bool::weighted(0.1);
            let step = (directives, reply(style), expires, elapsed).prop_map(
                |(directives, reply, expires_before, elapsed)| Step {
                    directives,
                    reply,
                    expires_before,
                    elapsed,
                },
            );
            let (honors_directives, while_revalidate, if_error, default_ttl, has_refresh_ahead) =
                policy;
            vec(step, 2..9).prop_map(move |steps| Case {
                honors_directives,
                while_revalidate,
                if_error,
                default_ttl,
                has_refresh_ahead,
                steps,
            })
        })
        .boxed()
}

/// The handler's calls, and the step to which they belong.
#[derive(Default)]
struct History {
    step: Cell<usize>,
    runs: RefCell<Vec<Run>>,
}

fn respond(
    request: &HttpRequest,
    case: &Case,
    history: &History,
    clock: &ManualClock,
) -> HttpResponse {
    let number = history.step.get();
    let reply = case.steps[number].reply.clone();
    let now = clock.now();
    let mut runs = history.runs.borrow_mut();
    let run = runs.len();
    runs.push(Run { step: number, reply: reply.clone(), received: now.wall().as_secs() });
    let mut response = if reply.fails {
        HttpResponse::new(StatusCode::SERVICE_UNAVAILABLE)
    } else if reply.has_tag && reply.validates && request.headers().contains_key("if-none-match") {
        HttpResponse::new(StatusCode::NOT_MODIFIED)
    } else {
        HttpResponse::Ok().body("page")
    };
    if !reply.fails {
        for (name, value) in &reply.fields(now.system_time()) {
            response.headers_mut().append(name.clone(), value.clone());
        }
    }
    response.headers_mut().insert("x-run".parse().unwrap(), run.into());
    response
}

async fn exchange(case: &Case, tally: &Tally) -> Result<(), String> {
    let clock = ManualClock::at(START);
    let policy = Policy::new()
        .default_ttl(secs(case.default_ttl))
        .stale_while_revalidate(secs(case.while_revalidate))
        .stale_if_error(secs(case.if_error));
    let policy = if case.honors_directives { policy.honor_request_directives() } else { policy };
    let policy = if case.has_refresh_ahead { policy.refresh_ahead(50) } else { policy };
    let store = MemoryStore::new(1 << 20);
    let cache = Cache::builder(store).clock(clock.clock()).policy(policy).build().unwrap();
    let history = Rc::new(History::default());
    let of_handler = (case.clone(), Rc::clone(&history), clock.clone());
    let handler = web::to(move |request: HttpRequest| {
        let (case, history, clock) = &of_handler;
        let response = respond(&request, case, history, clock);
        async move { response }
    });
    let app = init_service(App::new().default_service(handler).wrap(cache.clone())).await;
    let mut expired = Vec::new();
    for (number, step) in case.steps.iter().enumerate() {
        let now = clock.now().wall().as_secs();
        if step.expires_before {
            cache.handle().expire_url("http://a/").await.unwrap();
            expired.push((history.runs.borrow().len(), now));
        }
        history.step.set(number);
        let request = TestRequest::with_uri("/").insert_header(("host", "a"));
        let request = step.directives.iter().fold(request, |request, directive| {
            request.append_header(("cache-control", directive.text()))
        });
        let response = call_service(&app, request.to_request()).await;
        let field = |name| response.headers().get(name).map(|value| value.to_str().unwrap());
        let number_in = |name| field(name).and_then(|text| text.parse().ok());
        let status = field("cache-status").unwrap().replace("actix-web-cache; ", "");
        let run = number_in("x-run").map(|run: u64| usize::try_from(run).unwrap());
        let answer = Answer { run, age: number_in("age"), status };
        drop(actix_web::body::to_bytes(response.into_body()).await);
        let runs = history.runs.borrow().clone();
        check(case, number, &runs, &expired, now, &answer, tally)
            .map_err(|problem| format!("step {number}: {problem}\n{answer:?}\n{runs:?}"))?;
        // A refresh in the background belongs to this step.
        cache.idle().await;
        clock.advance(secs(step.elapsed));
    }
    Ok(())
}

#[test]
fn stale_response_is_declared_and_allowed() {
    let (system, tally) = (System::new(), Tally::default());
    random_cases(SEQUENCES, &case(), |case| {
        system.block_on(exchange(&case, &tally)).map_err(TestCaseError::fail)
    });
    tally.assert_each_above(30, &["fresh", "stale", "stale on error", "validated", "new"]);
}
