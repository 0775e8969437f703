//! Servers whose responses name the handler call that made them, and the exchange of requests and
//! responses with them.

use std::{
    convert::Infallible,
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use actix_web::{
    App, Error, HttpRequest, HttpResponse,
    body::{MessageBody, SizedStream, to_bytes},
    dev::{Service, ServiceFactory, ServiceRequest, ServiceResponse},
    http::{Method, StatusCode},
    test::{TestRequest, call_service, init_service},
    web,
};
use actix_web_cache::{
    Cache, CacheOptions, ManualClock, MemoryStore, Mode, SetCacheControl, TieredStore, store::Store,
};
use bytes::Bytes;
use futures_util::{
    future::join_all,
    stream::{self, Stream},
};
use http_body_util::BodyExt as _;
use tokio::task::yield_now;

use super::{
    cases::{Case, Opt, Request, Setting, Step},
    oracle::Run,
};
use crate::support::{
    BodyKind, Client, Counter, ENTITY_TAG, Protocol, RandomReply, START, Server,
    SimulatedProcesses, Value, secs, serve, wait_until,
};

/// The number of marks in a body.
const MARKS: usize = 5;

/// The length of a mark.
const MARK: usize = 6;

/// The handler and its history, which all servers of a case share.
#[derive(Clone)]
pub(super) struct Site(Arc<State>);

struct State {
    clock: ManualClock,
    replies: Vec<RandomReply>,
    requests: Mutex<Vec<Request>>,
    runs: Mutex<Vec<Run>>,
    /// The number of requests that have reached a server.
    entered: Counter,
    /// The number of requests that were sent.
    sent: AtomicUsize,
}

/// A response as its client got it.
pub(super) struct Delivered {
    pub(super) status: u16,
    pub(super) fields: Vec<(String, Vec<u8>)>,
    pub(super) body: Vec<u8>,
}

/// The middlewares of one server.
#[derive(Clone)]
pub(super) struct Layers {
    inner: Cache,
    outer: Cache,
    added: SetCacheControl,
}

/// The kind of store of a case without Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StoreKind {
    /// One memory store for all servers, as in one process.
    Memory,
    /// A store that answers later, as one for several processes does.
    Processes,
    /// Memory in front of such a store.
    Tiered,
}

impl Site {
    pub(super) fn new(replies: &[RandomReply]) -> Self {
        Self(Arc::new(State {
            clock: ManualClock::at(START),
            replies: replies.to_vec(),
            requests: Mutex::default(),
            runs: Mutex::default(),
            entered: Counter::default(),
            sent: AtomicUsize::new(0),
        }))
    }

    pub(super) fn runs(&self) -> Vec<Run> {
        self.0.runs.lock().unwrap().clone()
    }

    /// Records a request and returns its number.
    fn add(&self, request: &Request) -> usize {
        let mut requests = self.0.requests.lock().unwrap();
        requests.push(request.clone());
        requests.len() - 1
    }

    /// Records a call of the handler. Returns the mark of the call, its response and status code.
    fn begin(&self, request: &HttpRequest) -> (String, RandomReply, u16) {
        let id = request.headers().get("x-id").unwrap().to_str().unwrap();
        let id: usize = id.parse().unwrap();
        let sent = self.0.requests.lock().unwrap()[id].clone();
        let mut runs = self.0.runs.lock().unwrap();
        let reply = self.0.replies[runs.len() % self.0.replies.len()].clone();
        let mut conditions = request.headers().get_all("if-none-match");
        let is_known = conditions.any(|line| line.to_str().unwrap().contains(ENTITY_TAG));
        let has_tag = reply.fields.iter().any(|(name, value)| {
            *name == "etag" && matches!(value, Value::Plain(tag) if tag.ends_with(ENTITY_TAG))
        });
        let is_valid = is_known && has_tag && reply.validates;
        let status = if is_valid { 304 } else { reply.status };
        let mark = format!("@{:04}@", runs.len());
        runs.push(Run { request: sent, id, reply: reply.clone(), status });
        (mark, reply, status)
    }

    /// Answers a request once all requests of its step have arrived.
    async fn respond(&self, request: HttpRequest, options: CacheOptions) -> HttpResponse {
        let (mark, reply, status) = self.begin(&request);
        // Requests that arrive in the meantime wait for this response where they may.
        yield_now().await;
        let all_sent = || self.0.entered.get() >= self.0.sent.load(Ordering::SeqCst);
        if !all_sent() {
            wait_until("all requests have arrived", all_sent).await;
        }
        if let Some(ttl) = reply.ttl {
            options.ttl(secs(ttl));
        }
        if reply.refuses {
            options.no_store("by the test");
        }
        let status = StatusCode::from_u16(status).unwrap();
        let now = self.0.clock.now().system_time();
        let mut response = match reply.body {
            _ if [204, 304].contains(&status.as_u16()) => HttpResponse::new(status),
            BodyKind::Whole => HttpResponse::build(status).body(mark.repeat(MARKS)),
            BodyKind::Chunks => {
                let body = SizedStream::new((MARKS * MARK) as u64, Box::pin(chunks(&mark)));
                HttpResponse::build(status).body(body)
            }
            BodyKind::Stream => HttpResponse::build(status).streaming(Box::pin(chunks(&mark))),
        };
        for (name, value) in &reply.header_map(&mark, now) {
            response.headers_mut().append(name.clone(), value.clone());
        }
        let mark = mark.parse().unwrap();
        response.headers_mut().insert("x-run".parse().unwrap(), mark);
        response
    }
}

/// The body as a stream, which is not ready between two chunks.
fn chunks(mark: &str) -> impl Stream<Item = Result<Bytes, Infallible>> + use<> {
    let chunk = Bytes::from(mark.to_owned());
    stream::unfold(0, move |sent| {
        let chunk = chunk.clone();
        async move {
            yield_now().await;
            (sent < MARKS).then_some((Ok(chunk), sent + 1))
        }
    })
}

impl Layers {
    /// Makes the caches of a case over a store. The stored responses of cases with different names
    /// are separate.
    pub(super) fn new(case: &Case, site: &Site, store: impl Store + Clone, name: &str) -> Self {
        let cache = |setting: &Setting, mode| {
            let builder = Cache::builder(store.clone()).clock(site.0.clock.clock()).mode(mode);
            let builder = builder.namespace(name).policy(setting.policy()).rules(setting.rules());
            let builder = if setting.has(Opt::XCache) { builder.x_cache() } else { builder };
            builder.lookup_timeout(secs(5)).store_timeout(secs(5)).build().unwrap()
        };
        let outer = match &case.outer {
            Some(setting) => cache(setting, Mode::On),
            None => cache(&case.setting, Mode::Off),
        };
        let mut added = SetCacheControl::new();
        if case.setting.has(Opt::AddedPermission) {
            added = added.public().max_age(secs(60)).s_maxage(secs(60));
        }
        Self { inner: cache(&case.setting, Mode::On), outer, added }
    }

    /// The caches of two servers.
    pub(super) fn pair(case: &Case, site: &Site, kind: StoreKind) -> [Self; 2] {
        let processes = SimulatedProcesses::default();
        match kind {
            StoreKind::Memory => {
                let layers = Self::new(case, site, MemoryStore::new(1 << 20), "case");
                [layers.clone(), layers]
            }
            StoreKind::Processes => {
                [0; 2].map(|_| Self::new(case, site, processes.store(), "case"))
            }
            StoreKind::Tiered => {
                [0; 2].map(|_| Self::new(case, site, TieredStore::new(processes.store()), "case"))
            }
        }
    }

    async fn idle(&self) {
        self.inner.idle().await;
        self.outer.idle().await;
    }
}

/// The application of one server.
fn app(
    layers: &Layers,
    site: &Site,
) -> App<
    impl ServiceFactory<
        ServiceRequest,
        Config = (),
        Response = ServiceResponse<impl MessageBody + use<>>,
        Error = Error,
        InitError = (),
    > + use<>,
> {
    let Layers { inner, outer, added } = layers.clone();
    let (handler, entered) = (site.clone(), site.0.entered.clone());
    let handler = web::to(move |request: HttpRequest, options: CacheOptions| {
        let site = handler.clone();
        async move { site.respond(request, options).await }
    });
    App::new()
        .service(web::scope("").default_service(handler).wrap(added).wrap(inner))
        .wrap(outer)
        .wrap_fn(move |request, inner| {
            entered.count();
            inner.call(request)
        })
}

/// Sends all requests of a case to two servers, without sockets. Returns the responses in the order
/// of the requests.
pub(super) async fn exchange(case: &Case, site: &Site, layers: &[Layers; 2]) -> Vec<Delivered> {
    let apps =
        [init_service(app(&layers[0], site)).await, init_service(app(&layers[1], site)).await];
    let send = async |request: &Request, id: usize| {
        let mut sent = TestRequest::with_uri(request.target)
            .method(Method::from_bytes(request.method.as_bytes()).unwrap())
            .insert_header(("host", request.host))
            .insert_header(("x-id", id.to_string()));
        for (name, value) in &request.fields {
            sent = sent.append_header((*name, value.as_str()));
        }
        let response = call_service(&apps[request.server], sent.to_request()).await;
        let fields = response.headers().iter();
        let fields = fields.map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()));
        let (status, fields) = (response.status().as_u16(), fields.collect());
        let body = if request.leaves {
            Vec::new()
        } else {
            to_bytes(response.into_body()).await.ok().expect("a complete body").to_vec()
        };
        Delivered { status, fields, body }
    };
    send_steps(&case.steps, site, layers, send).await
}

/// Like [`exchange`], over sockets.
pub(super) async fn exchange_over_sockets(
    case: &Case,
    site: &Site,
    layers: &[Layers; 2],
    protocol: Protocol,
) -> Vec<Delivered> {
    let servers: [Server; 2] = layers.clone().map(|layers| {
        let site = site.clone();
        serve(2, move || app(&layers, &site))
    });
    let send = async |request: &Request, id: usize| {
        let id = id.to_string();
        let own = [("host", request.host), ("x-id", id.as_str())];
        let fields = request.fields.iter().map(|(name, value)| (*name, value.as_str()));
        let fields: Vec<_> = own.into_iter().chain(fields).collect();
        let method = hyper::Method::from_bytes(request.method.as_bytes()).unwrap();
        // A connection of its own: the server closes the connection after some of these requests.
        let client = Client::new(servers[request.server].addr, protocol);
        let response = client.start(method, request.target, &fields, "").await.unwrap();
        let (head, body) = response.into_parts();
        let body = if request.leaves {
            drop(body);
            Vec::new()
        } else {
            body.collect().await.expect("a complete body").to_bytes().to_vec()
        };
        let fields = head.headers.iter();
        let fields = fields.map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()));
        let fields = fields.collect();
        Delivered { status: head.status.as_u16(), fields, body }
    };
    send_steps(&case.steps, site, layers, send).await
}

/// Sends the requests of each step at once, and waits after each step until all caches are idle.
async fn send_steps(
    steps: &[Step],
    site: &Site,
    layers: &[Layers; 2],
    send: impl AsyncFn(&Request, usize) -> Delivered,
) -> Vec<Delivered> {
    let mut delivered = Vec::new();
    for step in steps {
        site.0.sent.fetch_add(step.requests.len(), Ordering::SeqCst);
        let requests = step.requests.iter().map(|request| (request, site.add(request)));
        delivered.extend(join_all(requests.map(|(request, id)| send(request, id))).await);
        for layers in layers {
            layers.idle().await;
        }
        site.0.clock.advance(secs(step.elapsed));
    }
    delivered
}

impl Delivered {
    /// The values of all lines of a field, joined by commas.
    pub(super) fn field(&self, name: &str) -> String {
        let lines = self.fields.iter().filter(|(found, _)| found == name);
        let lines: Vec<_> = lines.map(|(_, value)| String::from_utf8_lossy(value)).collect();
        lines.join(", ")
    }

    /// The handler calls that made the body.
    pub(super) fn body_runs(&self) -> Vec<usize> {
        marks(&self.body)
    }

    /// The handler calls that made the fields, each with the name of its field.
    pub(super) fn field_runs(&self) -> Vec<(&str, usize)> {
        let marked = self.fields.iter().flat_map(|(name, value)| {
            marks(value).into_iter().map(move |run| (name.as_str(), run))
        });
        marked.collect()
    }
}

impl fmt::Debug for Delivered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "status {}", self.status)?;
        for (name, value) in &self.fields {
            writeln!(f, "{name}: {}", value.escape_ascii())?;
        }
        writeln!(f, "{}", self.body.escape_ascii())
    }
}

/// The numbers in all marks of a text.
fn marks(text: &[u8]) -> Vec<usize> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.iter().position(|&byte| byte == b'@') {
        rest = &rest[start..];
        let number = rest.get(1..MARK - 1).and_then(|digits| std::str::from_utf8(digits).ok());
        match number.and_then(|number| number.parse().ok()) {
            Some(number) => {
                found.push(number);
                rest = &rest[MARK.min(rest.len())..];
            }
            None => rest = &rest[1..],
        }
    }
    found
}
