//! Responses in content codings (`Policy::compress`): copies of stored responses, and responses that
//! are coded while they are sent.

mod codings;
mod downloads;
mod entity_tags;
mod handler_codings;
mod negotiation;
mod other_layers;
mod requests_at_once;
mod size_limit;
mod stores;
mod streamed;
mod streamed_bodies;
mod streamed_layers;
mod streamed_tags;

use std::{
    io::Write as _,
    process::{Command, Stdio},
    sync::Arc,
    thread,
};

use actix_web::{App, HttpResponse, web};
use actix_web_cache::{
    Cache, CacheBuilder, Compression, ManualClock, MemoryStore, Policy,
    store::{
        CacheKey, CodedCopy, Coordinator, Fill, Lookup, Put, Selector, Store, StoreError,
        StoredResponse, UrlKey,
    },
};
use tokio::{sync::Semaphore, task::yield_now, time::timeout};

use crate::support::{Answer, Client, Counter, Protocol, Server, builder, secs, serve, store};

/// The codings of the cache, in the order in which it prefers them.
pub(crate) const CODINGS: [&str; 3] = ["br", "zstd", "gzip"];

/// The entity tag of [`page`].
pub(crate) const ETAG: &str = "\"page-1\"";

/// A page of 51 KB, as applications send them.
pub(crate) fn page() -> String {
    let row = |n: usize| {
        format!("<tr class=\"row\"><td>{n}</td><td>item {}</td></tr>\n", n * 7919 % 10_007)
    };
    let rows: String = (0..1060).map(row).collect();
    format!("<!doctype html><title>Items</title><table>\n{rows}</table>\n")
}

/// A builder of a cache that makes copies, and its clock. No middleware outside of the cache
/// compresses.
pub(crate) fn compressing() -> (CacheBuilder, ManualClock) {
    let (builder, clock) = builder();
    (builder.policy(policy()), clock)
}

pub(crate) fn policy() -> Policy {
    Policy::new().default_ttl(secs(60)).compress(Compression::new()).no_compress_outside()
}

/// A server with [`page`] at each path.
pub(crate) struct Site {
    pub(crate) server: Server,
    pub(crate) client: Client,
    /// The number of handler calls.
    pub(crate) runs: Counter,
}

impl Site {
    pub(crate) fn new(cache: &Cache) -> Self {
        Self::with(cache, 1, Protocol::Http1)
    }

    pub(crate) fn with(cache: &Cache, workers: usize, protocol: Protocol) -> Self {
        let runs = Counter::default();
        let (cache, counter) = (cache.clone(), runs.clone());
        let server = serve(workers, move || {
            let counter = counter.clone();
            let handler = move || {
                counter.count();
                let mut response = HttpResponse::Ok();
                response.content_type("text/html; charset=utf-8").insert_header(("etag", ETAG));
                let response = response.body(page());
                async move { response }
            };
            App::new().wrap(cache.clone()).default_service(web::to(handler))
        });
        let client = Client::new(server.addr, protocol);
        Self { server, client, runs }
    }

    pub(crate) async fn get(&self, path: &str, accepted: &str) -> Answer {
        self.client.get_with(path, &[("accept-encoding", accepted)]).await
    }

    /// Repeats the request until the response is a copy in the coding.
    pub(crate) async fn get_coded(&self, path: &str, coding: &str) -> Answer {
        get_coded(&self.client, path, coding).await
    }
}

/// Repeats a request until the response is a copy in the coding. The copy is made in the background.
pub(crate) async fn get_coded(client: &Client, path: &str, coding: &str) -> Answer {
    let request = async || client.get_with(path, &[("accept-encoding", coding)]).await;
    let copy = until(request, is_copy).await;
    assert_eq!(copy.field("content-encoding").as_deref(), Some(coding));
    copy
}

/// Returns whether a response is a copy that the cache has made. Its entity tag names the coding.
pub(crate) fn is_copy(answer: &Answer) -> bool {
    let coding = answer.field("content-encoding").unwrap_or_default();
    answer.field("etag").is_some_and(|tag| tag.contains(&format!("~{coding}-")))
}

/// Asserts that a response was coded while it was sent, and returns its decoded body.
pub(crate) fn streamed(answer: &Answer, coding: &str, case: &str) -> Vec<u8> {
    assert_eq!(answer.field("content-encoding").as_deref(), Some(coding), "{case}");
    for name in ["content-length", "accept-ranges"] {
        assert_eq!(answer.field(name), None, "{name}: {case}");
    }
    let vary = answer.field("vary").unwrap_or_default();
    assert_eq!(vary.matches("accept-encoding").count(), 1, "{vary}: {case}");
    assert!(answer.field("etag").is_none_or(|tag| tag.starts_with("W/")), "{case}");
    decoded(coding, &answer.body)
}

/// Bytes that look random, from a linear congruential generator.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let byte = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    };
    (0..length).map(byte).collect()
}

/// Repeats a request until its response is wanted, for twenty seconds at most.
pub(crate) async fn until(
    request: impl AsyncFn() -> Answer,
    is_wanted: impl Fn(&Answer) -> bool,
) -> Answer {
    let wanted = async {
        loop {
            let answer = request().await;
            if is_wanted(&answer) {
                return answer;
            }
            yield_now().await;
        }
    };
    timeout(secs(20), wanted).await.expect("no wanted response within twenty seconds")
}

/// Decodes a body by the command line tool of its coding.
pub(crate) fn decoded(coding: &str, body: &[u8]) -> Vec<u8> {
    let program = if coding == "br" { "brotli" } else { coding };
    let mut command = Command::new(program);
    command.args(["-d", "-c"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{program}: {error}"));
    let (mut stdin, body) = (child.stdin.take().unwrap(), body.to_vec());
    let writer = thread::spawn(move || stdin.write_all(&body));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success(), "{program} refuses the body");
    output.stdout
}

/// A memory store that counts the coded copies that it receives, and can keep them waiting.
#[derive(Clone)]
pub(crate) struct CountingStore {
    pub(crate) inner: MemoryStore,
    pub(crate) copies: Counter,
    /// Copies are added while a permit is free.
    pub(crate) hold_copies: Arc<Semaphore>,
}

impl Default for CountingStore {
    fn default() -> Self {
        Self {
            inner: store(),
            copies: Counter::default(),
            hold_copies: Arc::new(Semaphore::new(1)),
        }
    }
}

impl Store for CountingStore {
    fn coordinator(&self) -> &Coordinator {
        self.inner.coordinator()
    }

    async fn lookup(&self, key: &CacheKey, selector: &Selector<'_>) -> Result<Lookup, StoreError> {
        self.inner.lookup(key, selector).await
    }

    async fn put(
        &self,
        key: &CacheKey,
        response: Arc<StoredResponse>,
        fill: &Fill,
    ) -> Result<Put, StoreError> {
        self.inner.put(key, response, fill).await
    }

    async fn remove(&self, key: &CacheKey) -> Result<usize, StoreError> {
        self.inner.remove(key).await
    }

    async fn remove_url(&self, url: UrlKey<'_>) -> Result<usize, StoreError> {
        self.inner.remove_url(url).await
    }

    fn supports_coded_copies(&self) -> bool {
        true
    }

    async fn put_coded_copy(
        &self,
        key: &CacheKey,
        response: &StoredResponse,
        copy: CodedCopy,
    ) -> Result<(), StoreError> {
        self.copies.count();
        let _permit = self.hold_copies.acquire().await;
        self.inner.put_coded_copy(key, response, copy).await
    }
}
