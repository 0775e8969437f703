//! Reads the policy, the requesters, the requests and the responses of a run from its input.

use std::{rc::Rc, time::Duration};

use actix_web::http::{
    Method, StatusCode,
    header::{
        AGE, CACHE_CONTROL, DATE, ETAG, EXPIRES, HeaderMap, HeaderName, HeaderValue, LAST_MODIFIED,
        PRAGMA, SET_COOKIE, VARY,
    },
};
use bytes::Bytes;

use crate::{Policy, QueryKey, Rule, fuzzing::input::Input};

/// The field by which the handler numbers its responses.
pub(super) const SERIAL: HeaderName = HeaderName::from_static("x-serial");

/// The request field that names the requester. It is not a credential.
pub(super) const REQUESTER: HeaderName = HeaderName::from_static("x-requester");

/// All that does not change during a run.
#[derive(Debug)]
pub(super) struct Setup {
    pub(super) policy: Policy,
    pub(super) rules: Vec<Rule>,
    pub(super) settings: Settings,
    pub(super) requesters: [Requester; 2],
    pub(super) answers: Rc<[Answer]>,
    /// How often the handler lets other tasks run before it answers.
    pub(super) yields: usize,
}

/// The options of the policy and the rules that decide which responses requesters may share.
#[derive(Debug, Clone)]
pub(super) struct Settings(Vec<Opt>);

/// An option that decides which responses requesters may share, and with which fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opt {
    /// `private="x-own"` applies only to the field that it names.
    QualifiedDirectives,
    /// `CDN-Cache-Control` replaces `Cache-Control`.
    Targeted,
    ReplaySetCookie,
    ShareDespiteCookies,
    /// Values of `Accept-Language` that differ may select the same variant.
    Languages,
    /// Values of `Accept-Encoding` that differ may select the same variant.
    Codings,
    /// Responses are stored with the fields that tell rate limits.
    RateLimits,
    /// The cookie `_ga` is ignored.
    IgnoreAnalytics,
    /// The cookie `theme` is part of the key.
    KeyTheme,
    KeyAuthorization,
    KeyTenant,
    /// `X-Session` is a credential.
    Sessions,
    IgnoreApiKeys,
    /// Only the parameter `q` is part of the key.
    KeyQ,
    /// A rule overrides the lifetimes of responses.
    OverrideTtl,
    RemoveTags,
}

/// The options of [`Policy::rfc9111`].
const RFC9111: [Opt; 6] = [
    Opt::QualifiedDirectives,
    Opt::Targeted,
    Opt::ReplaySetCookie,
    Opt::ShareDespiteCookies,
    Opt::Languages,
    Opt::RateLimits,
];

impl Setup {
    pub(super) fn read(input: &mut Input<'_>) -> Self {
        let (mut policy, options) = match input.flag() {
            false => (Policy::new(), Vec::new()),
            true => (Policy::rfc9111(), RFC9111.to_vec()),
        };
        let mut settings = Settings(options);
        for _ in 0..input.below(6) {
            policy = settings.add(policy, input);
        }
        let any = Rule::any();
        let rules = [
            any.clone().with(|policy| policy.default_ttl(secs(60))),
            any.clone().with(|policy| policy.override_ttl(secs(60))),
            any.clone().with(|policy| {
                policy.status_ttl(404, secs(10)).status_ttl(403, secs(10)).status_ttl(503, secs(10))
            }),
            Rule::prefix("/b").bypass(),
            Rule::pattern("/{id}").with(|policy| policy.tag("{id}")),
            any.with(|policy| policy.client_ttl(secs(5))),
        ];
        let rules = match input.below(rules.len() + 1) {
            0 => Vec::new(),
            chosen => {
                if chosen == 2 {
                    settings.0.push(Opt::OverrideTtl);
                }
                vec![rules[chosen - 1].clone()]
            }
        };
        let requesters = ["alice", "bob"].map(|name| Requester::read(name, input));
        let answers = (0..=input.below(3)).map(|_| Answer::read(input)).collect();
        Self { policy, rules, settings, requesters, answers, yields: input.below(4) }
    }
}

impl Settings {
    pub(super) fn has(&self, option: Opt) -> bool {
        self.0.contains(&option)
    }

    /// Adds an option to the policy. The inputs in the corpus depend on the numbers of the options.
    fn add(&mut self, policy: Policy, input: &mut Input<'_>) -> Policy {
        let (option, policy) = match input.below(28) {
            0 => (None, policy.explicit_only()),
            1 => (None, policy.honor_request_directives()),
            2 => (None, policy.heuristic_freshness()),
            3 => (None, policy.stale_while_revalidate(secs(30))),
            4 => (None, policy.stale_if_error(secs(60))),
            5 => (None, policy.keep_stale(Duration::ZERO)),
            6 => (Some(Opt::QualifiedDirectives), policy.honor_qualified_directives()),
            7 => (Some(Opt::Targeted), policy.targeted_fields(["CDN-Cache-Control"])),
            8 => (Some(Opt::ReplaySetCookie), policy.replay_set_cookie()),
            9 => (Some(Opt::ShareDespiteCookies), policy.share_despite_cookies()),
            10 => (Some(Opt::Languages), policy.fold_language_case()),
            11 => (Some(Opt::Languages), policy.vary_languages(["de", "en"])),
            12 => (Some(Opt::Codings), policy.vary_codings(["gzip"])),
            13 => (Some(Opt::IgnoreAnalytics), policy.ignore_cookies(["_ga"])),
            14 => (Some(Opt::KeyTheme), policy.vary_cookie("theme")),
            15 => (Some(Opt::Sessions), policy.credentials(["x-session"])),
            16 => (Some(Opt::IgnoreApiKeys), policy.ignore_credentials(["x-api-key"])),
            17 => (Some(Opt::KeyAuthorization), policy.key_header("authorization")),
            18 => (Some(Opt::KeyTenant), policy.key_header("x-tenant")),
            19 => (None, policy.default_ttl(*input.choose(&[secs(0), secs(300)]))),
            20 => (None, policy.status_ttl(503, secs(10)).status_ttl(204, secs(10))),
            21 => (Some(Opt::KeyQ), policy.query(QueryKey::only(["q"]).then_sorted())),
            22 => (None, policy.client_ttl(secs(5))),
            23 => (None, policy.refresh_ahead(50)),
            24 => (None, policy.remove_targeted_fields()),
            25 => (None, policy.no_compress_outside()),
            26 => (Some(Opt::RemoveTags), policy.tag_fields(["cache-tag"]).remove_tag_fields()),
            _ => (None, policy.max_body_size(16)),
        };
        self.0.extend(option);
        policy
    }
}

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A requester, with the fields that it sends in each request.
#[derive(Debug, Clone)]
pub(super) struct Requester {
    pub(super) name: &'static str,
    fields: Vec<(&'static str, String)>,
}

/// Fields whose values end with the name of the requester.
const CREDENTIALS: [(&str, &str); 7] = [
    ("authorization", "Bearer "),
    ("cookie", "sid="),
    ("cookie", "_ga="),
    ("cookie", "theme="),
    ("x-api-key", "key-"),
    ("x-session", "session-"),
    ("x-tenant", "t-"),
];

const PREFERENCES: [(&str, &str); 10] = [
    ("accept-language", "de"),
    ("accept-language", "DE"),
    ("accept-language", "en, de;q=0.5"),
    ("accept-encoding", "gzip"),
    ("accept-encoding", "br, identity;q=0"),
    ("accept", "a ,b"),
    ("accept", "a,b"),
    ("accept", "b"),
    ("x-forwarded-host", "h"),
    ("forwarded", "host=h;proto=https"),
];

impl Requester {
    fn read(name: &'static str, input: &mut Input<'_>) -> Self {
        let mut fields = Vec::new();
        for _ in 0..input.below(4) {
            let (field, start) = *input.choose(&CREDENTIALS);
            let end = *input.choose(&[name, "x"]);
            fields.push((field, format!("{start}{end}")));
        }
        for _ in 0..input.below(3) {
            let (field, value) = *input.choose(&PREFERENCES);
            fields.push((field, value.to_owned()));
        }
        Self { name, fields }
    }
}

/// A request of one requester or of both at once.
#[derive(Debug)]
pub(super) struct Step {
    /// The time since the request before it.
    pub(super) pause: Duration,
    /// The number of the requester; 2 stands for both.
    pub(super) requester: usize,
    pub(super) method: Method,
    pub(super) uri: &'static str,
    extra: Vec<(&'static str, &'static str)>,
}

const EXTRA: [(&str, &str); 18] = [
    ("cache-control", "no-store"),
    ("cache-control", "no-cache"),
    ("cache-control", "max-age=0"),
    ("cache-control", "max-age=10, max-stale=20"),
    ("cache-control", "max-stale"),
    ("cache-control", "min-fresh=30"),
    ("cache-control", "only-if-cached"),
    ("if-none-match", "\"0\""),
    ("if-none-match", "W/\"1\", \"2\""),
    ("if-none-match", "*"),
    ("if-modified-since", "Tue, 14 Nov 2023 22:13:20 GMT"),
    ("if-match", "\"0\""),
    ("range", "bytes=0-1"),
    ("range", "bytes=-3"),
    ("range", "bytes=1-2, 30-40"),
    ("range", "bytes=999-"),
    ("if-range", "\"0\""),
    ("pragma", "no-cache"),
];

impl Step {
    pub(super) fn read(input: &mut Input<'_>) -> Self {
        let pause = *input.choose(&[0, 0, 0, 1, 9, 31, 61, 4000, 100_000]);
        let requester = input.below(3);
        let methods = [Method::GET, Method::GET, Method::GET, Method::HEAD, Method::POST];
        let method = input.choose(&methods).clone();
        let uri = *input.choose(&["/a", "/a", "/b", "/a?q=1", "/a?z=2&q=1", "/%61"]);
        let extra = (0..input.below(3)).map(|_| *input.choose(&EXTRA)).collect();
        Self { pause: secs(pause), requester, method, uri, extra }
    }

    /// Returns the fields of the request of a requester.
    pub(super) fn fields<'a>(
        &'a self,
        requester: &'a Requester,
    ) -> impl Iterator<Item = (HeaderName, HeaderValue)> + use<'a> {
        let own = requester.fields.iter().map(|(name, value)| (*name, value.as_str()));
        let own = [("host", "h")].into_iter().chain(own).chain(self.extra.iter().copied());
        let own = own.map(|(name, value)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
        });
        own.chain([(REQUESTER, HeaderValue::from_static(requester.name))])
    }
}

/// A response of the handler.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) directives: Vec<&'static str>,
    pub(super) vary: &'static str,
    /// The value of `CDN-Cache-Control`.
    pub(super) targeted: Option<&'static str>,
    lines: Vec<(HeaderName, &'static str)>,
    has_tag: Option<bool>,
    /// Whether each directive is in a line of its own.
    in_lines: bool,
    /// Whether the handler answers a matching condition with 304.
    pub(super) validates: bool,
    pub(super) is_streamed: bool,
}

const DIRECTIVES: [&str; 20] = [
    "max-age=60",
    "public",
    "s-maxage=60",
    "must-revalidate",
    "max-age=0",
    "s-maxage=0",
    "private",
    "no-store",
    "no-cache",
    "must-understand",
    "proxy-revalidate",
    "stale-while-revalidate=60",
    "stale-if-error=60",
    "private=\"x-own\"",
    "no-cache=\"set-cookie, x-own\"",
    "max-age=60; private",
    "ext=\"private, no-store\"",
    "PUBLIC",
    "max-age=x",
    "ext=\"a",
];

const VARY_VALUES: [&str; 10] = [
    "",
    "",
    "accept-language",
    "cookie",
    "authorization",
    "Accept-Encoding",
    "accept, x-tenant",
    "*",
    "not a name",
    "Cookie, accept-language",
];

const TARGETED: [&str; 7] = [
    "max-age=60",
    "no-store",
    "private, max-age=60",
    "max-age=60, public",
    "s-maxage=60, must-revalidate",
    "(",
    "no-cache",
];

impl Answer {
    fn read(input: &mut Input<'_>) -> Self {
        let statuses = [200, 200, 200, 200, 204, 206, 301, 404, 403, 500, 503];
        let status = StatusCode::from_u16(*input.choose(&statuses)).unwrap();
        let mut directives: Vec<_> = input.some(&DIRECTIVES, 4).into_iter().copied().collect();
        // A second open quote would close the first one.
        let mut open_quotes = 0;
        directives.retain(|directive| {
            open_quotes += usize::from(*directive == "ext=\"a");
            *directive != "ext=\"a" || open_quotes == 1
        });
        let vary = input.choose(&VARY_VALUES);
        let targeted = input.flag().then(|| *input.choose(&TARGETED));
        let field = HeaderName::from_static;
        let lines = [
            (EXPIRES, "Tue, 14 Nov 2023 22:14:20 GMT"),
            (EXPIRES, "0"),
            (LAST_MODIFIED, "Mon, 13 Nov 2023 22:13:20 GMT"),
            (DATE, "Tue, 14 Nov 2023 22:13:15 GMT"),
            (AGE, "5"),
            (PRAGMA, "no-cache"),
            (SET_COOKIE, "sid=new"),
            (field("content-type"), "image/png"),
            (field("content-encoding"), "gzip"),
            (field("x-ratelimit-remaining"), "5"),
            (field("retry-after"), "30"),
            (field("connection"), "x-own"),
            (field("connection"), "cache-control"),
            (field("content-security-policy"), "script-src 'nonce-a'"),
            (field("cache-tag"), "a, b"),
            (field("cache-groups"), "\"g\""),
            (field("x-own"), "1"),
            (field("link"), "</a>"),
            (field("link"), "</b>"),
            (field("content-location"), "/a"),
        ];
        let lines = input.some(&lines, 5).into_iter().cloned().collect();
        let has_tag = input.flag().then(|| input.flag());
        Self {
            status,
            directives,
            vary,
            targeted,
            lines,
            has_tag,
            in_lines: input.flag(),
            validates: input.flag(),
            is_streamed: input.flag(),
        }
    }

    /// Returns the first value of a field of this name.
    pub(super) fn line(&self, name: &str) -> Option<&'static str> {
        self.lines_of(name).next()
    }

    /// Returns the values of a field of this name. Directives, `Vary` and `ETag` are not included.
    pub(super) fn lines_of(&self, name: &str) -> impl Iterator<Item = &'static str> {
        self.lines.iter().filter(move |(found, _)| found == name).map(|(_, value)| *value)
    }

    /// Returns all fields of the response with this number.
    pub(super) fn fields(&self, serial: usize) -> HeaderMap {
        let mut fields = HeaderMap::new();
        let mut add = |name: HeaderName, value: &str| {
            fields.append(name, HeaderValue::from_str(value).unwrap());
        };
        add(SERIAL, &serial.to_string());
        if self.in_lines {
            self.directives.iter().for_each(|directive| add(CACHE_CONTROL, directive));
        } else if !self.directives.is_empty() {
            add(CACHE_CONTROL, &self.directives.join(", "));
        }
        if !self.vary.is_empty() {
            add(VARY, self.vary);
        }
        if let Some(targeted) = self.targeted {
            add(HeaderName::from_static("cdn-cache-control"), targeted);
        }
        for (name, value) in &self.lines {
            add(name.clone(), value);
        }
        match self.has_tag {
            Some(true) => add(ETAG, &format!("W/\"{serial}\"")),
            Some(false) => add(ETAG, &format!("\"{serial}\"")),
            None => {}
        }
        fields
    }

    /// Returns the body of the response with this number.
    pub(super) fn body(&self, serial: usize) -> Bytes {
        if self.status == StatusCode::NO_CONTENT {
            return Bytes::new();
        }
        let length = if self.lines.len().is_multiple_of(2) { 12 } else { 400 };
        let text = format!("<{serial}>");
        text.bytes().cycle().take(length).collect()
    }
}
