//! Property tests: no request gets any part of a response that was made for another request, unless
//! the rules of HTTP and the options of the policy allow it.
//!
//! Each response names its handler call in its body and in its fields. The cases are random
//! requests, responses, policies, stores and nested caches.

mod cases;
mod loosening;
mod oracle;
mod site;

use std::cell::Cell;

use actix_web::rt::System;
use actix_web_cache::{RedisStore, TieredStore};
use proptest::{prelude::*, sample::select};

use self::{
    cases::{Case, Opt, Setting, Step, case},
    loosening::{Loosening, loosenings},
    oracle::refusal,
    site::{Delivered, Layers, Site, StoreKind, exchange, exchange_over_sockets},
};
use crate::support::{
    BodyKind, Meaning, Protocol, RandomReply, RedisServer, Tally, Value, passed_field,
    random_cases, secs,
};

/// The number of cases without sockets.
const CASES: u32 = 3000;

/// The number of cases over sockets.
const SOCKET_CASES: u32 = 200;

/// The number of cases over Redis.
const REDIS_CASES: u32 = 100;

/// The number of exchanges that share a response only by one option or one statement.
const LOOSENED_CASES: u32 = 1000;

/// Checks all responses of a case, and counts them. A shared response has a part that was made for
/// another request. A refused response is one that only its own request may get.
fn check(
    case: &Case,
    site: &Site,
    delivered: &[Delivered],
    tally: &Tally,
) -> Result<(), TestCaseError> {
    let runs = site.runs();
    let requests = case.steps.iter().flat_map(|step| &step.requests);
    for (id, (request, answer)) in requests.zip(delivered).enumerate() {
        let of_body = answer.body_runs();
        prop_assert!(
            of_body.iter().all(|run| *run == of_body[0]),
            "request {id} got a body of several responses: {answer:?}"
        );
        let mut is_shared = false;
        let parts = answer.field_runs().into_iter().chain(of_body.iter().map(|run| ("body", *run)));
        for (part, number) in parts {
            let run = &runs[number];
            if run.id == id {
                continue;
            }
            is_shared = true;
            if let Some(reason) = refusal(run, request, &runs, &case.setting) {
                return Err(TestCaseError::fail(format!(
                    "request {id} got {part} of the response to request {}, although {reason}:\n\
                     {answer:?}\nof {run:?}",
                    run.id,
                )));
            }
            prop_assert!(
                !is_withheld(run, part, &case.setting),
                "request {id} got the field {part} of the response to request {}:\n{answer:?}",
                run.id
            );
        }
        let own = runs.iter().find(|run| run.id == id);
        let status = answer.field("cache-status");
        if is_shared {
            let owner = of_body.first().map(|run| &runs[*run].request);
            let is_personal =
                owner.is_some_and(|owner| owner.has("authorization") || owner.has("cookie"));
            tally.add("shared");
            tally.add_if(status.contains("collapsed"), "shared by collapsing");
            tally.add_if(is_personal, "shared of a request with credentials");
            tally.add_if(answer.status == 206, "shared as a range");
        } else if own.is_some_and(|run| refusal(run, request, &runs, &case.setting).is_some()) {
            tally.add("refused");
        }
        tally.add_if(status.contains("fwd-status=304"), "validated");
    }
    Ok(())
}

/// Whether later clients get a response without this field.
fn is_withheld(run: &oracle::Run, field: &str, setting: &Setting) -> bool {
    let by_connection = run.reply.members("connection").iter().any(|name| name == field);
    // The handler validates each use of a response with `no-cache`, including the fields that a
    // qualified `no-cache` names.
    let is_always_validated = run.has(setting, Meaning::NoCache);
    let by_directive = setting.has(Opt::QualifiedDirectives)
        && run.directives(setting).iter().any(|directive| match directive.meaning {
            Meaning::PrivateField(name) => name == field,
            Meaning::NoCacheField(name) => name == field && !is_always_validated,
            _ => false,
        });
    (by_connection || by_directive) && !run.is_update()
}

fn store_kind() -> BoxedStrategy<StoreKind> {
    select(vec![StoreKind::Memory, StoreKind::Memory, StoreKind::Processes, StoreKind::Tiered])
        .boxed()
}

#[test]
fn personal_response_reaches_no_other_request() {
    let (system, tally) = (System::new(), Tally::default());
    random_cases(CASES, &(case(), store_kind()), |(case, kind)| {
        let site = Site::new(&case.replies);
        let layers = Layers::pair(&case, &site, kind);
        let delivered = system.block_on(exchange(&case, &site, &layers));
        check(&case, &site, &delivered, &tally)
    });
    let kinds = [
        "shared",
        "shared by collapsing",
        "shared of a request with credentials",
        "shared as a range",
        "validated",
        "refused",
    ];
    tally.assert_each_above(20, &kinds);
}

#[test]
fn personal_response_reaches_no_other_request_over_sockets() {
    let (system, tally) = (System::new(), Tally::default());
    let protocols = select(vec![Protocol::Http1, Protocol::Http2]);
    random_cases(SOCKET_CASES, &(case(), store_kind(), protocols), |(case, kind, protocol)| {
        let site = Site::new(&case.replies);
        let layers = Layers::pair(&case, &site, kind);
        let delivered = system.block_on(exchange_over_sockets(&case, &site, &layers, protocol));
        check(&case, &site, &delivered, &tally)
    });
    tally.assert_each_above(20, &["shared", "refused"]);
}

#[test]
fn personal_response_in_redis_reaches_no_other_request() {
    let (system, tally, redis) = (System::new(), Tally::default(), RedisServer::start());
    let stores = system.block_on(async {
        [0; 2].map(|_| {
            let limit = secs(5);
            let builder = RedisStore::builder(redis.url(), "sharing");
            builder.lookup_timeout(limit).write_timeout(limit).build().unwrap()
        })
    });
    let tiered = system.block_on(async { stores.clone().map(TieredStore::new) });
    let number = Cell::new(0);
    random_cases(REDIS_CASES, &(case(), any::<bool>()), |(case, is_tiered)| {
        number.set(number.get() + 1);
        let name = format!("case-{}", number.get());
        let site = Site::new(&case.replies);
        let layers = [0, 1].map(|n: usize| {
            if is_tiered {
                Layers::new(&case, &site, tiered[n].clone(), &name)
            } else {
                Layers::new(&case, &site, stores[n].clone(), &name)
            }
        });
        let delivered = system.block_on(exchange(&case, &site, &layers));
        check(&case, &site, &delivered, &tally)
    });
    tally.assert_each_above(20, &["shared", "refused"]);
}

/// An exchange of [`loosenings`], with properties that must not matter.
#[derive(Debug, Clone)]
struct LoosenedCase {
    loosening: Loosening,
    is_concurrent: bool,
    status: u16,
    body: BodyKind,
    elapsed: u64,
    servers: [usize; 2],
    passed: Vec<(&'static str, Value)>,
    kind: StoreKind,
}

fn loosened_case() -> BoxedStrategy<LoosenedCase> {
    let bodies = select(vec![BodyKind::Whole, BodyKind::Chunks, BodyKind::Stream]);
    let passed = proptest::collection::vec(passed_field(), 0..3);
    let moment = (any::<bool>(), 0..50_u64, [0..2_usize, 0..2_usize], store_kind());
    let response = (select(vec![200, 203, 301, 308]), bodies, passed);
    (select(loosenings()), moment, response)
        .prop_map(|(loosening, moment, response)| {
            let (is_concurrent, elapsed, servers, kind) = moment;
            let (status, body, passed) = response;
            LoosenedCase { loosening, is_concurrent, status, body, elapsed, servers, passed, kind }
        })
        .boxed()
}

impl LoosenedCase {
    fn case(&self, setting: &Setting, reply: &RandomReply) -> Case {
        let [first, second] = [&self.loosening.first, &self.loosening.second];
        let [mut first, mut second] = [first.clone(), second.clone()];
        [first.server, second.server] = self.servers;
        let fields = [reply.fields.clone(), self.passed.clone()].concat();
        let (status, body) = (self.status, self.body);
        let reply = RandomReply { status, body, fields, ..reply.clone() };
        let steps = if self.is_concurrent {
            vec![Step { requests: vec![first, second], elapsed: 0 }]
        } else {
            let one = |request| Step { requests: vec![request], elapsed: self.elapsed };
            vec![one(first), one(second)]
        };
        Case { setting: setting.clone(), outer: None, replies: vec![reply], steps }
    }
}

#[test]
fn option_or_statement_of_the_response_makes_it_shareable() {
    let system = System::new();
    random_cases(LOOSENED_CASES, &loosened_case(), |loosened| {
        let Loosening { loose, strict, .. } = &loosened.loosening;
        for ((setting, reply), is_shared) in [(loose, true), (strict, false)] {
            let case = loosened.case(setting, reply);
            let site = Site::new(&case.replies);
            let layers = Layers::pair(&case, &site, loosened.kind);
            let delivered = system.block_on(exchange(&case, &site, &layers));
            check(&case, &site, &delivered, &Tally::default())?;
            let runs = site.runs();
            let is_other = |run: &usize| runs[*run].id == 0;
            let got = !delivered[1].body_runs().is_empty()
                && delivered[1].body_runs().iter().all(is_other);
            prop_assert_eq!(got, is_shared, "{:?}: {:?}", setting, delivered[1]);
        }
        Ok(())
    });
}
