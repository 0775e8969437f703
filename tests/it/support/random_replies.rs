//! Random responses of handlers, made of the fields and directives that decide about caching.

use std::time::{Duration, SystemTime};

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use proptest::{
    collection::vec,
    option,
    prelude::{BoxedStrategy, Just, Strategy, any, prop_oneof},
    sample::select,
};

/// The effect of a directive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meaning {
    NoStore,
    Private,
    NoCache,
    /// `private="field"`.
    PrivateField(&'static str),
    /// `no-cache="field"`.
    NoCacheField(&'static str),
    Public,
    MaxAge(u64),
    SMaxAge(u64),
    MustRevalidate,
    ProxyRevalidate,
    MustUnderstand,
    StaleWhileRevalidate(u64),
    StaleIfError(u64),
    /// An unknown or malformed directive.
    Other,
}

/// A directive of `Cache-Control` with one of its spellings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Directive {
    pub(crate) text: String,
    pub(crate) meaning: Meaning,
}

/// The value of a response field.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    Plain(&'static str),
    /// Any visible bytes, also outside of ASCII.
    Bytes(Vec<u8>),
    /// A text in front of the mark of the handler call.
    Marked(&'static str),
    /// A date this many seconds after the response.
    Date(i64),
}

/// The way in which a handler sends its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyKind {
    /// The whole body at once.
    Whole,
    /// Chunks, with a declared length.
    Chunks,
    /// Chunks, without a declared length.
    Stream,
}

/// A response of a handler, without its body.
#[derive(Debug, Clone)]
pub(crate) struct RandomReply {
    pub(crate) status: u16,
    pub(crate) directives: Vec<Directive>,
    /// The text between directives. Without it, each directive has a line of its own.
    pub(crate) separator: Option<&'static str>,
    /// The directives in `CDN-Cache-Control`.
    pub(crate) targeted: Vec<Directive>,
    pub(crate) fields: Vec<(&'static str, Value)>,
    pub(crate) body: BodyKind,
    /// Whether the handler answers a condition that its entity tag fulfills with 304.
    pub(crate) validates: bool,
    /// The lifetime that the handler sets by `CacheOptions`, in seconds.
    pub(crate) ttl: Option<u64>,
    /// Whether the handler forbids storing by `CacheOptions`.
    pub(crate) refuses: bool,
}

/// The entity tag of all random responses that have one.
pub(crate) const ENTITY_TAG: &str = "\"v1\"";

impl RandomReply {
    /// A response with status 200 and these directives.
    pub(crate) fn plain(directives: Vec<Directive>) -> Self {
        Self {
            status: 200,
            directives,
            separator: Some(", "),
            targeted: Vec::new(),
            fields: Vec::new(),
            body: BodyKind::Whole,
            validates: false,
            ttl: None,
            refuses: false,
        }
    }

    /// The header fields. `mark` names the handler call.
    pub(crate) fn header_map(&self, mark: &str, now: SystemTime) -> HeaderMap {
        let mut fields = HeaderMap::new();
        let mut append = |name: &'static str, value: &[u8]| {
            let value = HeaderValue::from_bytes(value).unwrap();
            fields.append(HeaderName::from_static(name), value);
        };
        let texts: Vec<_> =
            self.directives.iter().map(|directive| directive.text.as_str()).collect();
        match self.separator {
            Some(_) if texts.is_empty() => {}
            Some(separator) => append("cache-control", texts.join(separator).as_bytes()),
            None => texts.iter().for_each(|text| append("cache-control", text.as_bytes())),
        }
        if !self.targeted.is_empty() {
            let texts: Vec<_> = self.targeted.iter().map(|one| one.text.as_str()).collect();
            append("cdn-cache-control", texts.join(", ").as_bytes());
        }
        for (name, value) in &self.fields {
            match value {
                Value::Plain(text) => append(name, text.as_bytes()),
                Value::Bytes(bytes) => append(name, bytes),
                Value::Marked(text) => append(name, format!("{text}{mark}").as_bytes()),
                Value::Date(offset) => append(name, http_date(now, *offset).as_bytes()),
            }
        }
        fields
    }

    /// Whether the response has a field.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.fields.iter().any(|(found, _)| *found == name)
    }

    /// The members of all lines of a field with plain values, in lower case.
    pub(crate) fn members(&self, name: &str) -> Vec<String> {
        let lines = self.fields.iter().filter(|(found, _)| *found == name);
        let texts = lines.filter_map(|(_, value)| match value {
            Value::Plain(text) => Some(*text),
            Value::Bytes(_) | Value::Marked(_) | Value::Date(_) => None,
        });
        texts
            .flat_map(|text| text.split(','))
            .map(|member| member.trim().to_ascii_lowercase())
            .filter(|member| !member.is_empty())
            .collect()
    }
}

/// A date as HTTP writes it, some seconds after `now`.
pub(crate) fn http_date(now: SystemTime, offset: i64) -> String {
    let seconds = Duration::from_secs(offset.unsigned_abs());
    httpdate::fmt_http_date(if offset < 0 { now - seconds } else { now + seconds })
}

pub(crate) fn directive(meaning: Meaning) -> Directive {
    let text = match meaning {
        Meaning::NoStore => "no-store".to_owned(),
        Meaning::Private => "private".to_owned(),
        Meaning::NoCache => "no-cache".to_owned(),
        Meaning::PrivateField(name) => format!("private=\"{name}\""),
        Meaning::NoCacheField(name) => format!("no-cache=\"{name}\""),
        Meaning::Public => "public".to_owned(),
        Meaning::MaxAge(seconds) => format!("max-age={seconds}"),
        Meaning::SMaxAge(seconds) => format!("s-maxage={seconds}"),
        Meaning::MustRevalidate => "must-revalidate".to_owned(),
        Meaning::ProxyRevalidate => "proxy-revalidate".to_owned(),
        Meaning::MustUnderstand => "must-understand".to_owned(),
        Meaning::StaleWhileRevalidate(seconds) => format!("stale-while-revalidate={seconds}"),
        Meaning::StaleIfError(seconds) => format!("stale-if-error={seconds}"),
        Meaning::Other => "ext".to_owned(),
    };
    Directive { text, meaning }
}

/// A directive in its usual spelling.
fn usual() -> BoxedStrategy<Directive> {
    let seconds = || select(vec![0_u64, 1, 10, 60, 600]);
    let flags = vec![
        Meaning::Public,
        Meaning::MustRevalidate,
        Meaning::ProxyRevalidate,
        Meaning::MustUnderstand,
        Meaning::Other,
    ];
    let refusals = vec![Meaning::NoStore, Meaning::Private, Meaning::NoCache];
    let qualified = vec![Meaning::PrivateField("x-a"), Meaning::NoCacheField("x-a")];
    prop_oneof![
        8 => seconds().prop_map(Meaning::MaxAge),
        3 => seconds().prop_map(Meaning::SMaxAge),
        1 => seconds().prop_map(Meaning::StaleWhileRevalidate),
        1 => seconds().prop_map(Meaning::StaleIfError),
        6 => select(flags),
        3 => select(refusals),
        1 => select(qualified),
    ]
    .prop_map(directive)
    .boxed()
}

/// A directive in an unusual spelling, or a malformed one.
fn unusual() -> BoxedStrategy<Directive> {
    select(vec![
        ("PRIVATE", Meaning::Private),
        ("Private", Meaning::Private),
        ("private=", Meaning::Private),
        ("private=\"\"", Meaning::Private),
        ("private; max-age=60", Meaning::Private),
        ("max-age=60; private", Meaning::Private),
        ("x private", Meaning::Private),
        ("No-Store", Meaning::NoStore),
        ("no-store=1", Meaning::NoStore),
        ("no-store;public", Meaning::NoStore),
        ("\tno-store ", Meaning::NoStore),
        ("No-Cache", Meaning::NoCache),
        ("PUBLIC", Meaning::Public),
        ("Max-Age=60", Meaning::MaxAge(60)),
        ("max-age=\"60\"", Meaning::MaxAge(60)),
        ("max-age=x", Meaning::MaxAge(0)),
        ("max-age", Meaning::MaxAge(0)),
        ("max-age=-1", Meaning::MaxAge(0)),
        ("max-age = 60", Meaning::MaxAge(0)),
        ("s-maxage=x", Meaning::SMaxAge(0)),
        ("max-age=99999999999999999999", Meaning::MaxAge(1 << 31)),
        ("ext=\"a, private, b\"", Meaning::Other),
        ("ext=\"public\"", Meaning::Other),
        ("", Meaning::Other),
        ("=", Meaning::Other),
        ("a=b=c", Meaning::Other),
    ])
    .prop_map(|(text, meaning)| Directive { text: text.to_owned(), meaning })
    .boxed()
}

fn directives() -> BoxedStrategy<Vec<Directive>> {
    let simple = vec![
        vec![],
        vec![Meaning::MaxAge(60)],
        vec![Meaning::MaxAge(60), Meaning::Public],
        vec![Meaning::SMaxAge(60)],
        vec![Meaning::MaxAge(1), Meaning::StaleWhileRevalidate(600)],
        vec![Meaning::MaxAge(60), Meaning::MustRevalidate],
    ];
    let simple = select(simple).prop_map(|list| list.into_iter().map(directive).collect());
    prop_oneof![
        1 => simple,
        1 => vec(prop_oneof![5 => usual(), 1 => unusual()], 0..4),
    ]
    .boxed()
}

/// At most `most` elements, and none in half of the cases.
fn at_most<T: Clone + std::fmt::Debug + 'static>(
    elements: impl Strategy<Value = T> + 'static,
    most: usize,
) -> BoxedStrategy<Vec<T>> {
    prop_oneof![1 => Just(Vec::new()), 1 => vec(elements, 1..=most)].boxed()
}

fn plain(name: &'static str, values: &[&'static str]) -> BoxedStrategy<(&'static str, Value)> {
    select(values.to_vec()).prop_map(move |text| (name, Value::Plain(text))).boxed()
}

fn marked(name: &'static str, texts: &[&'static str]) -> BoxedStrategy<(&'static str, Value)> {
    select(texts.to_vec()).prop_map(move |text| (name, Value::Marked(text))).boxed()
}

/// A field that decides about storing or reuse.
fn deciding_field() -> BoxedStrategy<(&'static str, Value)> {
    let names = &["accept", "Accept-Language", "accept-encoding", "x-tenant", "x-b"];
    let more =
        &["cookie", "Authorization", "accept, cookie", "x-api-key, x-b", "*", "x-b, *", "a b"];
    prop_oneof![
        3 => plain("vary", names),
        2 => plain("vary", more),
        2 => marked("set-cookie", &["sid=", "theme=dark; note="]),
        1 => marked("set-cookie2", &["sid="]),
        1 => plain("pragma", &["no-cache", "x"]),
        2 => (-100..700_i64).prop_map(|offset| ("expires", Value::Date(offset))),
        1 => plain("expires", &["0", "soon"]),
        1 => plain("connection", &["x-a", "close, X-A", "cache-control", "keep-alive"]),
        1 => plain("connection", &["set-cookie, vary"]),
        // A quoted string without its closing quote may hide directives.
        1 => plain("cache-control", &["ext=\"a, private", "max-age=\"60", "x=\""]),
        1 => plain("surrogate-control", &["no-store", "max-age=60"]),
        1 => plain("content-security-policy", &["script-src 'nonce-abc'"]),
        1 => plain("content-location", &["/p", "/p?x=1", "/q"]),
        1 => plain("location", &["/p", "/q"]),
    ]
    .boxed()
}

/// A field that a cache only passes on.
pub(crate) fn passed_field() -> BoxedStrategy<(&'static str, Value)> {
    let bytes = vec(prop_oneof![0x21_u8..0x7f, 0xa0_u8..=0xff], 0..6);
    prop_oneof![
        3 => marked("x-a", &["", "a ", "b, "]),
        1 => bytes.prop_map(|bytes| ("x-bytes", Value::Bytes(bytes))),
        1 => plain("content-type", &["text/plain", "text/html; charset=utf-8"]),
        1 => plain("content-language", &["de", "en"]),
        1 => plain("x-ratelimit-remaining", &["5"]),
        1 => plain("retry-after", &["120", "soon"]),
        1 => plain("warning", &["110 - \"stale\"", "299 - \"x\""]),
        1 => plain("keep-alive", &["timeout=5"]),
        1 => plain("link", &["</a>; rel=next", ""]),
        1 => plain("cache-tag", &["a, b"]),
        1 => plain("cache-groups", &["\"g\""]),
        1 => plain("cache-status", &["origin; hit"]),
        1 => plain("content-security-policy", &["default-src 'self'"]),
    ]
    .boxed()
}

/// The fields that a response has at most once.
fn single_fields() -> BoxedStrategy<Vec<(&'static str, Value)>> {
    let tags = plain("etag", &[ENTITY_TAG, ENTITY_TAG, "W/\"v1\"", "\"v2\"", "v1"]);
    let modified = (-3000..10_i64).prop_map(|offset| ("last-modified", Value::Date(offset)));
    let date = prop_oneof![
        4 => (-100..10_i64).prop_map(|offset| ("date", Value::Date(offset))),
        1 => plain("date", &["yesterday"]),
    ];
    let age = plain("age", &["0", "5", "59", "x", "5, 500"]);
    (
        option::weighted(0.4, tags),
        option::weighted(0.2, modified),
        option::weighted(0.15, date),
        option::weighted(0.15, age),
    )
        .prop_map(|(tag, modified, date, age)| {
            tag.into_iter().chain(modified).chain(date).chain(age).collect()
        })
        .boxed()
}

fn status() -> BoxedStrategy<u16> {
    prop_oneof![
        8 => Just(200),
        1 => select(vec![203, 204, 301, 302, 308, 404, 410, 501]),
        1 => select(vec![206, 304, 400, 401, 403, 500, 503]),
    ]
    .boxed()
}

pub(crate) fn random_reply() -> BoxedStrategy<RandomReply> {
    let separators = vec![Some(", "), Some(", "), Some(","), Some(" ,\t"), None];
    let fields = (at_most(deciding_field(), 2), at_most(passed_field(), 3), single_fields());
    let fields = fields.prop_map(|(deciding, passed, single)| [deciding, passed, single].concat());
    let bodies = select(vec![BodyKind::Whole, BodyKind::Whole, BodyKind::Chunks, BodyKind::Stream]);
    let targeted = prop_oneof![5 => Just(Vec::new()), 1 => vec(usual(), 1..3)];
    let options = (option::weighted(0.1, select(vec![0_u64, 60])), proptest::bool::weighted(0.03));
    let head = (status(), directives(), select(separators), targeted, fields);
    (head, bodies, any::<bool>(), options)
        .prop_map(
            |(
                (status, directives, separator, targeted, fields),
                body,
                validates,
                (ttl, refuses),
            )| {
                RandomReply {
                    status,
                    directives,
                    separator,
                    targeted,
                    fields,
                    body,
                    validates,
                    ttl,
                    refuses,
                }
            },
        )
        .boxed()
}
