//! Property test: a hit has the status code, the body and the fields of the miss, except the fields
//! that RFC 9111 lets a cache change.

use std::{cell::Cell, collections::BTreeMap};

use actix_web::{
    App, HttpResponse,
    http::{Method, StatusCode},
    rt::System,
    test::{TestRequest, call_service, init_service},
    web,
};
use actix_web_cache::{Cache, CacheOptions, ManualClock, MemoryStore, Policy};
use proptest::{prelude::*, sample::subsequence};

use crate::support::{Meaning, RandomReply, START, random_cases, random_reply, secs};

/// The number of responses.
const CASES: u32 = 3000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Opt {
    Rfc9111,
    ClientTtl,
    XCache,
    Languages,
    Codings,
    KeyTenant,
    KeyTheme,
    RemoveTags,
    RemoveTargeted,
    StaleWindow,
}

const OPTIONS: [Opt; 10] = [
    Opt::Rfc9111,
    Opt::ClientTtl,
    Opt::XCache,
    Opt::Languages,
    Opt::Codings,
    Opt::KeyTenant,
    Opt::KeyTheme,
    Opt::RemoveTags,
    Opt::RemoveTargeted,
    Opt::StaleWindow,
];

/// A response, and the seconds until the second request for it.
#[derive(Debug, Clone)]
struct Case {
    reply: RandomReply,
    options: Vec<Opt>,
    elapsed: u64,
    is_head: bool,
}

impl Case {
    fn has(&self, option: Opt) -> bool {
        self.options.contains(&option)
    }

    fn policy(&self) -> Policy {
        let preset = if self.has(Opt::Rfc9111) { Policy::rfc9111() } else { Policy::new() };
        self.options.iter().fold(preset, |policy, option| match option {
            Opt::ClientTtl => policy.client_ttl(secs(9)),
            Opt::Languages => policy.vary_languages(["de", "en"]),
            Opt::Codings => policy.vary_codings(["gzip"]),
            Opt::KeyTenant => policy.key_header("X-Tenant"),
            Opt::KeyTheme => policy.vary_cookie("theme"),
            Opt::RemoveTags => policy.tag_fields(["Cache-Tag"]).remove_tag_fields(),
            Opt::RemoveTargeted => {
                policy.targeted_fields(["CDN-Cache-Control"]).remove_targeted_fields()
            }
            Opt::StaleWindow => policy.stale_while_revalidate(secs(600)),
            Opt::Rfc9111 | Opt::XCache => policy,
        })
    }

    /// Whether a hit lacks this field of the miss.
    fn is_withheld(&self, name: &str) -> bool {
        let of_connection = ["connection", "keep-alive"].contains(&name)
            || self.reply.members("connection").iter().any(|member| member == name);
        let by_directive = self.has(Opt::Rfc9111) && {
            let targets = self.has(Opt::RemoveTargeted) || self.has(Opt::Rfc9111);
            let is_targeted = targets && !self.reply.targeted.is_empty();
            let governing = if is_targeted { &self.reply.targeted } else { &self.reply.directives };
            governing.iter().any(|directive| {
                matches!(
                    directive.meaning,
                    Meaning::PrivateField(field) | Meaning::NoCacheField(field) if field == name
                )
            })
        };
        of_connection
            || by_directive
            || (name == "x-ratelimit-remaining" && !self.has(Opt::Rfc9111))
    }
}

type Fields = BTreeMap<String, Vec<Vec<u8>>>;

fn text(fields: &Fields, name: &str) -> String {
    let lines = fields.get(name).map(Vec::as_slice).unwrap_or_default();
    let lines: Vec<_> = lines.iter().map(|line| String::from_utf8_lossy(line)).collect();
    lines.join(", ")
}

/// Compares the fields of a hit with those of the miss.
fn compare(case: &Case, miss: &Fields, hit: &Fields) -> Result<(), String> {
    let is_stale = text(hit, "cache-status").contains("ttl=-");
    let mut names: Vec<_> = miss.keys().chain(hit.keys()).collect();
    names.sort();
    names.dedup();
    for name in names {
        let (before, after) = (miss.get(name), hit.get(name));
        let is_equal = match name.as_str() {
            "age" | "cache-status" | "x-cache" => true,
            // The cache limits the lifetimes in these fields by its own.
            "cache-control" | "expires" | "cdn-cache-control"
                if is_stale || case.has(Opt::ClientTtl) =>
            {
                before.is_some() == after.is_some()
            }
            "retry-after" if case.reply.status != 200 => {
                before == after || text(hit, name) == (120 - case.elapsed.min(120)).to_string()
            }
            name if case.is_withheld(name) => after.is_none(),
            _ => before == after,
        };
        if !is_equal {
            return Err(format!("{name} differs:\n{}\n{}", text(miss, name), text(hit, name)));
        }
    }
    let age = text(hit, "age");
    let has_age = age.parse::<u64>().is_ok_and(|age| age >= case.elapsed);
    if has_age { Ok(()) } else { Err(format!("wrong Age: {age}")) }
}

fn case() -> BoxedStrategy<Case> {
    let elapsed = prop_oneof![1 => Just(0), 2 => 1..59_u64, 1 => 59..700_u64];
    let head = proptest::bool::weighted(0.12);
    (random_reply(), subsequence(OPTIONS.to_vec(), 0..=3), elapsed, head)
        .prop_map(|(reply, options, elapsed, is_head)| Case { reply, options, elapsed, is_head })
        .boxed()
}

/// Sends two requests for the response. Returns its status code, fields and body each time.
async fn exchange(case: &Case) -> [(StatusCode, Fields, Vec<u8>); 2] {
    let clock = ManualClock::at(START);
    let cache =
        Cache::builder(MemoryStore::new(1 << 20)).clock(clock.clock()).policy(case.policy());
    let cache = if case.has(Opt::XCache) { cache.x_cache() } else { cache };
    let (reply, handler_clock) = (case.reply.clone(), clock.clone());
    let handler = web::to(move |options: CacheOptions| {
        if let Some(ttl) = reply.ttl {
            options.ttl(secs(ttl));
        }
        let status = StatusCode::from_u16(reply.status).unwrap();
        let mut response = match reply.status {
            204 | 304 => HttpResponse::new(status),
            _ => HttpResponse::build(status).body("the body"),
        };
        let now = handler_clock.now().system_time();
        for (name, value) in &reply.header_map("mark", now) {
            response.headers_mut().append(name.clone(), value.clone());
        }
        async move { response }
    });
    let app = App::new().default_service(handler).wrap(cache.build().unwrap());
    let app = init_service(app).await;
    let send = async |method: Method| {
        let request = TestRequest::with_uri("/").method(method).insert_header(("host", "a"));
        let response = call_service(&app, request.to_request()).await;
        let mut fields = Fields::new();
        for (name, value) in response.headers() {
            fields.entry(name.to_string()).or_default().push(value.as_bytes().to_vec());
        }
        let status = response.status();
        let body = actix_web::body::to_bytes(response.into_body()).await.ok().unwrap();
        (status, fields, body.to_vec())
    };
    let miss = send(Method::GET).await;
    clock.advance(secs(case.elapsed));
    [miss, send(if case.is_head { Method::HEAD } else { Method::GET }).await]
}

#[test]
fn hit_has_the_fields_of_the_miss() {
    let (system, hits) = (System::new(), Cell::new(0));
    let cases = random_cases(CASES, &case(), |case| {
        let [miss, hit] = system.block_on(exchange(&case));
        if !text(&hit.1, "cache-status").contains("actix-web-cache; hit") {
            return Ok(());
        }
        hits.set(hits.get() + 1);
        prop_assert_eq!(miss.0, hit.0);
        prop_assert!(case.is_head || miss.2 == hit.2, "{:?} is not {:?}", miss.2, hit.2);
        compare(&case, &miss.1, &hit.1).map_err(TestCaseError::fail)
    });
    assert!(hits.get() > cases / 8, "too few hits: {hits:?} of {cases}");
}
