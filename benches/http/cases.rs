//! The servers that the bench compares, and the requests that they receive.

use crate::support::browser_request;

/// A server, and the requests that it receives.
#[derive(Clone, Copy)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) description: &'static str,
    pub(crate) urls: Urls,
    /// A header field that the requests have besides the fields of a browser.
    pub(crate) field: Option<&'static str>,
    /// The parts that the head of a response has, in lower case.
    pub(crate) answer: &'static [&'static str],
}

/// The URLs of the requests to a server.
#[derive(Clone, Copy)]
pub(crate) enum Urls {
    /// All requests have one URL.
    One,
    /// The requests have 10,000 URLs, whose frequencies follow the law of Zipf.
    Zipf,
    /// Each request has a new URL.
    Distinct,
    /// Eight successive requests have one URL, which no earlier request has.
    Groups,
}

/// A pair of servers, and the highest accepted ratios of the costs of a request.
pub(crate) struct Bound {
    pub(crate) name: &'static str,
    pub(crate) base: &'static str,
    /// The highest accepted ratio of the CPU times.
    pub(crate) cpu: f64,
    /// The highest accepted ratio of the instructions, if instructions are counted.
    pub(crate) instructions: Option<f64>,
}

const HIT: &[&str] = &["200 ok", "; hit; ttl=8"];
const MISS: &[&str] = &["200 ok", "; fwd=uri-miss; stored"];

const ALL: [Case; 32] = [
    case("bare", "a handler, 2 KiB"),
    case("limit", "a handler that sends the header fields of a hit, 2 KiB"),
    case("limit-13", "a handler that sends the header fields of a hit, 13 bytes"),
    case("floor", "a middleware that only reads a map, 2 KiB"),
    case("floor-13", "a middleware that only reads a map, 13 bytes"),
    case("hit", "a hit, 2 KiB").with_answer(HIT),
    case("hit-13", "a hit, 13 bytes").with_answer(HIT),
    case("hit-rules", "a hit under the last of 50 rules, 2 KiB").with_answer(HIT),
    case("coded", "a hit with a copy in br, 2 KiB").with_answer(&[
        "200 ok",
        "; hit; ttl=8",
        "content-encoding: br",
    ]),
    case("uncoded", "a hit under the same policy whose body has no smaller copy, 2 KiB")
        .with_answer(HIT),
    case("limit-keys", "a handler that sends the header fields of a hit, 10,000 URLs, 2 KiB")
        .with_urls(Urls::Zipf),
    case("floor-keys", "a middleware that only reads a map, 10,000 URLs, 2 KiB")
        .with_urls(Urls::Zipf),
    case("hit-keys", "hits on 10,000 URLs, 2 KiB").with_urls(Urls::Zipf).with_answer(HIT),
    case("not-modified", "a 304 from the store")
        .with_field("If-None-Match: \"0123456789abcdef\"")
        .with_answer(&["304 not modified", "; hit; ttl=8"]),
    case("range", "a range of 1 KiB from the store")
        .with_field("Range: bytes=512-1535")
        .with_answer(&["206 partial content", "; hit; ttl=8", "content-length: 1024"]),
    case("refresh", "a stale hit with a refresh in the background, 2 KiB")
        .with_answer(&["200 ok", "; hit; ttl=-"]),
    case("bypass", "a bypassed request, 2 KiB")
        .with_answer(&["200 ok", "; fwd=bypass; detail=rule"]),
    case("fill-floor", "a middleware that only inserts a copy into a full map, 2 KiB")
        .with_urls(Urls::Distinct)
        .with_answer(MISS),
    case("miss", "a miss that is stored, 2 KiB").with_urls(Urls::Distinct).with_answer(MISS),
    case("bare-streamed", "a handler that streams 2 KiB in four chunks"),
    case("miss-streamed", "a miss whose body is streamed and stored, 2 KiB in four chunks")
        .with_urls(Urls::Distinct)
        .with_answer(MISS),
    case("bare-groups", "a handler that waits for 1 ms, 2 KiB"),
    case("collapsed", "eight requests at once for a page that is not stored, 2 KiB")
        .with_urls(Urls::Groups),
    case("get", "a handler that gets 2 KiB from Redis"),
    case("redis", "a hit in Redis, 2 KiB").with_answer(HIT),
    case("tiered", "a hit in memory in front of Redis, 2 KiB").with_answer(HIT),
    case("bare-1m", "a handler, 1 MiB"),
    case("hit-1m", "a hit, 1 MiB").with_answer(HIT),
    case("bare-streamed-1m", "a handler that streams 1 MiB in chunks of 16 KiB"),
    case("miss-streamed-1m", "a miss whose body is streamed and stored, 1 MiB")
        .with_urls(Urls::Distinct)
        .with_answer(MISS),
    case("bare-16m", "a handler, 16 MiB"),
    case("hit-16m", "a hit, 16 MiB").with_answer(HIT),
];

pub(crate) const BOUNDS: [Bound; 22] = [
    bound("floor", "limit", 1.1, None),
    bound("hit", "limit", 1.2, Some(1.03)),
    bound("hit-13", "limit-13", 1.2, Some(1.03)),
    bound("hit", "floor", 1.25, None),
    bound("hit-rules", "hit", 1.1, Some(1.05)),
    bound("coded", "uncoded", 1.2, Some(1.03)),
    bound("hit-keys", "limit-keys", 1.45, None),
    bound("hit-keys", "floor-keys", 1.35, None),
    bound("not-modified", "hit-13", 1.2, Some(1.15)),
    bound("range", "limit", 1.4, Some(1.3)),
    bound("refresh", "bare", 1.8, None),
    bound("bypass", "bare", 1.15, Some(1.09)),
    bound("miss", "bare", 2.9, Some(2.4)),
    bound("fill-floor", "bare", 2.3, None),
    bound("miss", "fill-floor", 1.5, Some(1.5)),
    bound("miss-streamed", "bare-streamed", 3.4, Some(2.6)),
    bound("collapsed", "bare-groups", 2.0, None),
    bound("redis", "get", 1.25, None),
    bound("tiered", "limit", 1.2, Some(1.05)),
    bound("hit-1m", "bare-1m", 1.05, None),
    bound("miss-streamed-1m", "bare-streamed-1m", 2.0, None),
    bound("hit-16m", "bare-16m", 1.05, None),
];

const fn case(name: &'static str, description: &'static str) -> Case {
    Case { name, description, urls: Urls::One, field: None, answer: &["200 ok"] }
}

const fn bound(
    name: &'static str,
    base: &'static str,
    cpu: f64,
    instructions: Option<f64>,
) -> Bound {
    Bound { name, base, cpu, instructions }
}

/// Returns the cases whose names are in `names`, a list with commas, or all cases.
pub(crate) fn cases(names: Option<&str>) -> Vec<Case> {
    let is_wanted =
        |case: &Case| names.is_none_or(|names| names.split(',').any(|n| n == case.name));
    ALL.into_iter().filter(is_wanted).collect()
}

impl Case {
    const fn with_urls(self, urls: Urls) -> Self {
        Self { urls, ..self }
    }

    const fn with_field(self, field: &'static str) -> Self {
        Self { field: Some(field), ..self }
    }

    const fn with_answer(self, answer: &'static [&'static str]) -> Self {
        Self { answer, ..self }
    }

    /// Checks that the server answers as the case says, so that the bench measures no other kind of
    /// request.
    ///
    /// # Panics
    ///
    /// If a part is missing in the head.
    pub(crate) fn check(&self, head: &[u8]) {
        let head = String::from_utf8_lossy(head).to_lowercase();
        for part in self.answer {
            assert!(head.contains(part), "{}: {part:?} is missing in\n{head}", self.name);
        }
    }

    /// Returns whether the server needs Redis.
    pub(crate) fn needs_redis(&self) -> bool {
        ["get", "redis", "tiered"].contains(&self.name)
    }

    /// Returns the number of connections over which instructions are counted.
    pub(crate) const fn connections(&self) -> usize {
        if matches!(self.urls, Urls::Groups) { 8 } else { 1 }
    }

    /// Returns whether the instructions of the server are counted. Those of large bodies depend on
    /// the number of writes to the socket, and most of the few requests for many URLs are misses.
    pub(crate) fn is_counted(&self) -> bool {
        !self.name.ends_with('m') && !self.name.ends_with("-keys")
    }

    /// Returns the number of URLs whose responses are stored before the bench measures hits.
    pub(crate) const fn stored_urls(&self) -> u64 {
        match self.urls {
            Urls::One => 1,
            Urls::Zipf => ZIPF_URLS,
            Urls::Distinct | Urls::Groups => 0,
        }
    }

    /// Returns the lines of a request that stores a response before the bench measures. Successive
    /// numbers have different URLs, if the requests of the case have.
    pub(crate) fn first_request(&self, n: u64) -> String {
        browser_request(&format!("/page/{}", n % self.stored_urls() + 1), None)
    }

    /// Returns the lines of the request with the number `n`.
    pub(crate) fn request(&self, n: u64) -> String {
        let page = match self.urls {
            Urls::One => 1,
            Urls::Zipf => zipf(n),
            Urls::Distinct => n,
            Urls::Groups => n / 8,
        };
        browser_request(&format!("/page/{page}"), self.field)
    }
}

/// The number of URLs of [`Urls::Zipf`].
const ZIPF_URLS: u64 = 10_000;

/// Returns a number from 1 to [`ZIPF_URLS`]. The frequency of a number is inversely proportional to it.
fn zipf(n: u64) -> u64 {
    // The multiplication by the golden ratio spreads successive numbers over the whole range.
    let spread = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 11;
    let uniform = spread as f64 / (1_u64 << 53) as f64;
    (ZIPF_URLS as f64).powf(uniform) as u64
}
