//! A comparison of an application with a cache and the same application without it, over random
//! requests.
//!
//! The handler is a function of what the cache key and `Vary` cover, and of a state that only POST
//! changes. Status code, body and fields of all responses must then be equal, except the fields by
//! which a cache describes its own work.

mod cases;
mod pages;

use std::{collections::BTreeMap, fmt, rc::Rc};

use actix_web::{
    App, Error, HttpRequest,
    body::{MessageBody, to_bytes},
    dev::{Service, ServiceResponse},
    http::Method,
    rt::System,
    test::{TestRequest, call_service, init_service},
    web,
};
use actix_web_cache::{Cache, CacheBuilder, ManualClock, MemoryStore};
use futures_util::future::join_all;
use proptest::test_runner::TestCaseError;

use self::{
    cases::{Case, Condition, IfRange, Opt, Request, Step, Url, case},
    pages::Pages,
};
use crate::support::{START, SimulatedProcesses, Tally, random_cases, secs};

/// The number of sequences of requests; each has more than 35 requests.
const SEQUENCES: u32 = 520;

/// The fields that describe the work of the cache or the framing of the message, and those that the
/// cache may change. Directives and `Vary` are compared apart.
const OWN_FIELDS: [&str; 8] = [
    "age",
    "cache-control",
    "cache-status",
    "content-length",
    "date",
    "expires",
    "vary",
    "x-cache",
];

/// A response, with its fields by name.
#[derive(Clone, PartialEq, Eq)]
struct Answer {
    status: u16,
    fields: BTreeMap<String, Vec<String>>,
    body: String,
}

impl Answer {
    fn field(&self, name: &str) -> String {
        self.fields.get(name).map_or_else(String::new, |lines| lines.join(", "))
    }

    /// Whether `Cache-Status` contains a text.
    fn has_status(&self, text: &str) -> bool {
        self.field("cache-status").contains(text)
    }

    fn is_hit(&self) -> bool {
        self.has_status("; hit")
    }

    /// The members of a field without numbers, in lower case and sorted.
    fn members(&self, name: &str) -> Vec<String> {
        let all = self.field(name);
        let members = all.split(", ").map(str::to_ascii_lowercase);
        let is_lifetime =
            |member: &String| member.starts_with("max-age=") || member.starts_with("s-maxage=");
        let mut members: Vec<_> =
            members.filter(|member| !member.is_empty() && !is_lifetime(member)).collect();
        members.sort();
        members
    }

    /// The fields that the cache must not change.
    fn handler_fields(&self) -> BTreeMap<&str, &Vec<String>> {
        let fields = self.fields.iter().map(|(name, lines)| (name.as_str(), lines));
        fields.filter(|(name, _)| !OWN_FIELDS.contains(name)).collect()
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "status {}", self.status)?;
        self.fields.iter().try_for_each(|(name, lines)| writeln!(f, "{name}: {lines:?}"))?;
        writeln!(f, "{}", self.body)
    }
}

/// Sends a request.
async fn send<B: MessageBody>(
    app: &impl Service<actix_http::Request, Response = ServiceResponse<B>, Error = Error>,
    method: &Method,
    url: &Url,
    fields: &[(&str, String)],
) -> Answer {
    let path = if url.is_encoded { format!("/%3{}", url.page) } else { format!("/{}", url.page) };
    let uri = if url.query.is_empty() { path } else { format!("{path}?{}", url.query) };
    let request =
        TestRequest::with_uri(&uri).method(method.clone()).insert_header(("host", url.host));
    let request = fields
        .iter()
        .fold(request, |request, (name, value)| request.append_header((*name, value.as_str())));
    let response = call_service(app, request.to_request()).await;
    let mut sent: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in response.headers() {
        sent.entry(name.to_string()).or_default().push(value.to_str().unwrap().to_owned());
    }
    let status = response.status().as_u16();
    let body = to_bytes(response.into_body()).await.ok().expect("a complete body");
    let body = if *method == Method::HEAD { "" } else { std::str::from_utf8(&body).unwrap() };
    Answer { status, fields: sent, body: body.to_owned() }
}

/// Compares the answers with and without the cache.
fn compare(case: &Case, page: usize, with: &Answer, without: &Answer) -> Result<(), String> {
    let status = with.field("cache-status");
    if with.status != without.status {
        return Err("the status codes differ".to_owned());
    }
    if with.body != without.body {
        return Err("the bodies differ".to_owned());
    }
    let mut fields = with.handler_fields();
    // The cache makes a tag for a response without a validator.
    if !["etag", "last-modified"].iter().any(|name| without.fields.contains_key(*name)) {
        fields.remove("etag");
    }
    if fields != without.handler_fields() {
        return Err("the fields differ".to_owned());
    }
    if with.members("cache-control") != without.members("cache-control") {
        return Err("the directives differ".to_owned());
    }
    let is_exact = case.pages[page].states_lifetime()
        && !case.has(Opt::ClientTtl)
        && [200, 301].contains(&with.status)
        && (status.contains("hit; ttl=") && !status.contains("ttl=-") && !status.contains("ttl=0"));
    if is_exact && with.field("cache-control") != without.field("cache-control") {
        return Err("the lifetimes differ".to_owned());
    }
    let vary = with.members("vary");
    if !without.members("vary").iter().all(|name| vary.contains(name)) {
        return Err("a member of Vary is missing".to_owned());
    }
    Ok(())
}

/// The name of a kind of answers, and whether an answer is of this kind.
type Kind = (&'static str, fn(&Method, &Answer) -> bool);

/// The kinds of answers that the cases must reach.
const KINDS: [Kind; 9] = [
    ("hits", |_, answer| answer.is_hit()),
    ("stale hits", |_, answer| answer.has_status("ttl=-")),
    ("collapsed", |_, answer| answer.has_status("collapsed")),
    ("validated", |_, answer| answer.has_status("fwd-status=304")),
    ("hits for HEAD", |method, answer| answer.is_hit() && *method == Method::HEAD),
    ("hits with a range", |_, answer| answer.is_hit() && answer.status == 206),
    ("hits with 304", |_, answer| answer.is_hit() && answer.status == 304),
    ("hits with 416", |_, answer| answer.is_hit() && answer.status == 416),
    ("POST", |method, _| *method == Method::POST),
];

/// The fields of a request. `current` is the complete page as it is at this time.
fn fields(request: &Request, current: &Answer) -> Vec<(&'static str, String)> {
    let mut fields: Vec<_> =
        request.fields.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    let (tag, modified) = (current.field("etag"), current.field("last-modified"));
    let known = |text: &String| (!text.is_empty()).then(|| text.clone());
    let old = "Sun, 06 Nov 1994 08:49:37 GMT".to_owned();
    let condition = match request.condition {
        Condition::None => None,
        Condition::KnownTag => known(&tag).map(|tag| ("if-none-match", format!("\"old\", {tag}"))),
        Condition::OtherTag => Some(("if-none-match", "\"old\"".to_owned())),
        Condition::AnyTag => Some(("if-none-match", "*".to_owned())),
        // A response without Last-Modified is compared by its Date, which only the cache adds.
        Condition::KnownDate => known(&modified).map(|date| ("if-modified-since", date)),
        Condition::OtherDate => known(&modified).map(|_| ("if-modified-since", old)),
        Condition::MatchTag => known(&tag).map(|tag| ("if-match", tag)),
        Condition::MatchOtherTag => Some(("if-match", "\"old\"".to_owned())),
    };
    fields.extend(condition);
    if let Some((range, if_range)) = request.range {
        fields.push(("range", range.to_owned()));
        let condition = match if_range {
            IfRange::None => None,
            IfRange::Known => known(&tag),
            IfRange::Other => Some("\"old\"".to_owned()),
        };
        fields.extend(condition.map(|tag| ("if-range", tag)));
    }
    fields
}

/// Sends the requests of a case to the application with and without the cache.
async fn exchange(
    case: &Case,
    builder: CacheBuilder,
    clock: &ManualClock,
    tally: &Tally,
) -> Result<(), String> {
    let builder = builder.clock(clock.clock()).policy(case.policy());
    let builder = if case.has(Opt::XCache) { builder.x_cache() } else { builder };
    let cache = builder.build().unwrap();
    let pages = || {
        let pages = Pages::new(case);
        web::resource("/{page}").to(move |request: HttpRequest| {
            let pages = Rc::clone(&pages);
            async move { pages.respond(request).await }
        })
    };
    let without = init_service(App::new().service(pages())).await;
    let with = init_service(App::new().service(pages()).wrap(cache)).await;
    for (number, step) in case.steps.iter().enumerate() {
        let requests = match step {
            Step::Post { url, status, also } => {
                let mut fields = vec![("x-status", status.to_string())];
                fields.extend(also.map(|page| ("x-also", page.to_string())));
                vec![(Method::POST, url, fields)]
            }
            Step::Ask { requests, .. } => {
                let requests = requests.iter().map(async |request| {
                    let plain: Vec<_> = request
                        .fields
                        .iter()
                        .map(|(name, value)| (*name, (*value).to_owned()))
                        .collect();
                    let current = send(&without, &Method::GET, &request.url, &plain).await;
                    let method = if request.is_head { Method::HEAD } else { Method::GET };
                    (method, &request.url, fields(request, &current))
                });
                join_all(requests).await
            }
        };
        let answers = requests.iter().map(|(method, url, fields)| send(&with, method, url, fields));
        let answers = join_all(answers).await;
        for ((method, url, fields), answer) in requests.iter().zip(answers) {
            let mut plain = send(&without, method, url, fields).await;
            // A server may ignore Range (RFC 9110 section 14.2). The cache does if it called the
            // handler without Range, to store the response, and then does not store it.
            if answer.status == 200 && [206, 416].contains(&plain.status) {
                let mut fields = fields.clone();
                fields.retain(|(name, _)| !["range", "if-range"].contains(name));
                plain = send(&without, method, url, &fields).await;
            }
            tally.add("answers");
            KINDS.iter().for_each(|(kind, applies)| tally.add_if(applies(method, &answer), kind));
            compare(case, url.page, &answer, &plain).map_err(|difference| {
                format!(
                    "step {number}: {difference}\n{method} {url:?} {fields:?}\nwith the cache: \
                     {answer:?}\nwithout it: {plain:?}"
                )
            })?;
        }
        if let Step::Ask { elapsed, .. } = step {
            clock.advance(secs(*elapsed));
        }
    }
    Ok(())
}

#[test]
fn responses_are_equal_with_and_without_the_cache() {
    let (system, tally) = (System::new(), Tally::default());
    let cases = random_cases(SEQUENCES, &case(), |case| {
        let clock = ManualClock::at(START);
        let builder = if case.has_slow_store {
            Cache::builder(SimulatedProcesses::default().store())
        } else {
            Cache::builder(MemoryStore::new(1 << 20))
        };
        let equal = system.block_on(exchange(&case, builder, &clock, &tally));
        equal.map_err(TestCaseError::fail)
    });
    tally.assert_each_above(20, &KINDS.map(|(kind, _)| kind));
    assert!(tally.get("answers") > 28 * cases as usize, "too few requests: {tally:?}");
}
