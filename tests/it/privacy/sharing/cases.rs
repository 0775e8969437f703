//! Random applications and requests: policies, nested caches, responses, and requests of two
//! persons with different credentials.

use actix_web_cache::{Policy, QueryKey, Rule};
use proptest::{
    collection::vec,
    option,
    prelude::{BoxedStrategy, Just, Strategy, prop_oneof},
    sample::{select, subsequence},
};

use crate::support::{RandomReply, random_reply, secs};

/// An application with its responses, and the requests that it gets.
#[derive(Debug, Clone)]
pub(super) struct Case {
    pub(super) setting: Setting,
    /// The policy of a further cache around the cache, if there is one.
    pub(super) outer: Option<Setting>,
    /// The responses of the handler, in this order, and from the first one again.
    pub(super) replies: Vec<RandomReply>,
    pub(super) steps: Vec<Step>,
}

/// Requests that are sent at once, and the seconds until the next step.
#[derive(Debug, Clone)]
pub(super) struct Step {
    pub(super) requests: Vec<Request>,
    pub(super) elapsed: u64,
}

/// A request.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) method: &'static str,
    pub(super) host: &'static str,
    pub(super) target: &'static str,
    pub(super) fields: Vec<(&'static str, String)>,
    /// The server that gets the request. All servers have one store.
    pub(super) server: usize,
    /// Whether the client leaves after the head of the response.
    pub(super) leaves: bool,
}

impl Request {
    pub(super) fn get(fields: Vec<(&'static str, String)>) -> Self {
        Self { method: "GET", host: "a", target: "/p", fields, server: 0, leaves: false }
    }

    /// The lines of a field.
    pub(super) fn lines(&self, name: &str) -> Vec<&str> {
        let lines = self.fields.iter().filter(|(found, _)| *found == name);
        lines.map(|(_, value)| value.as_str()).collect()
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.fields.iter().any(|(found, _)| *found == name)
    }
}

/// The configuration of a cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Setting {
    pub(super) preset: Preset,
    pub(super) options: Vec<Opt>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Preset {
    New,
    Rfc9111,
}

/// An option of the policy, a rule, or a middleware inside the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opt {
    CredentialsOption,
    CredentialsWhen,
    DefaultTtl,
    ErrorTtl,
    ExplicitOnly,
    RequestDirectives,
    Heuristics,
    WhileRevalidate,
    IfError,
    RefreshAhead,
    RemoveTargeted,
    ClientTtl,
    Languages,
    Codings,
    Tags,
    NoCompress,
    SmallBodies,
    StatusTtl,
    OverrideTtl,
    BypassQ,
    XCache,
    /// `SetCacheControl` inside the cache adds `public` and lifetimes.
    AddedPermission,
    // Options that make something part of the key.
    KeyTheme,
    KeyAuthorization,
    KeyApiKey,
    KeyCookie,
    KeyTenant,
    KeyWith,
    // Options that loosen the rules of sharing.
    IgnoreQuery,
    IgnoreAnalytics,
    IgnoreCredentials,
    Targeted,
    QualifiedDirectives,
    ReplaySetCookie,
    ShareDespiteCookies,
}

/// The options that make nothing shareable that is not shareable by default.
const STRICT: [Opt; 28] = [
    Opt::CredentialsOption,
    Opt::CredentialsWhen,
    Opt::DefaultTtl,
    Opt::ErrorTtl,
    Opt::ExplicitOnly,
    Opt::RequestDirectives,
    Opt::Heuristics,
    Opt::WhileRevalidate,
    Opt::IfError,
    Opt::RefreshAhead,
    Opt::RemoveTargeted,
    Opt::ClientTtl,
    Opt::Languages,
    Opt::Codings,
    Opt::Tags,
    Opt::NoCompress,
    Opt::SmallBodies,
    // The first rule that matches applies.
    Opt::BypassQ,
    Opt::OverrideTtl,
    Opt::StatusTtl,
    Opt::XCache,
    Opt::AddedPermission,
    Opt::KeyTheme,
    Opt::KeyAuthorization,
    Opt::KeyApiKey,
    Opt::KeyCookie,
    Opt::KeyTenant,
    Opt::KeyWith,
];

/// The options that loosen the rules of sharing.
const LOOSENING: [Opt; 7] = [
    Opt::IgnoreQuery,
    Opt::IgnoreAnalytics,
    Opt::IgnoreCredentials,
    Opt::Targeted,
    Opt::QualifiedDirectives,
    Opt::ReplaySetCookie,
    Opt::ShareDespiteCookies,
];

impl Setting {
    pub(super) const fn new(options: Vec<Opt>) -> Self {
        Self { preset: Preset::New, options }
    }

    pub(super) fn has(&self, option: Opt) -> bool {
        let of_preset = matches!(
            option,
            Opt::Targeted
                | Opt::QualifiedDirectives
                | Opt::ReplaySetCookie
                | Opt::ShareDespiteCookies
                | Opt::RequestDirectives
        );
        self.options.contains(&option) || (self.preset == Preset::Rfc9111 && of_preset)
    }

    pub(super) fn policy(&self) -> Policy {
        let preset = match self.preset {
            Preset::New => Policy::new(),
            Preset::Rfc9111 => Policy::rfc9111(),
        };
        self.options.iter().fold(preset, |policy, option| match option {
            Opt::CredentialsOption => policy.credentials(["X-Session"]),
            Opt::CredentialsWhen => {
                policy.credentials_when(|request| request.headers().contains_key("x-vip"))
            }
            Opt::DefaultTtl => policy.default_ttl(secs(5)),
            Opt::ErrorTtl => policy.status_ttl(404, secs(60)).status_ttl(500, secs(60)),
            Opt::ExplicitOnly => policy.explicit_only(),
            Opt::RequestDirectives => policy.honor_request_directives(),
            Opt::Heuristics => policy.heuristic_freshness(),
            Opt::WhileRevalidate => policy.stale_while_revalidate(secs(600)),
            Opt::IfError => policy.stale_if_error(secs(600)),
            Opt::RefreshAhead => policy.refresh_ahead(50),
            Opt::RemoveTargeted => policy.remove_targeted_fields(),
            Opt::ClientTtl => policy.client_ttl(secs(3)),
            Opt::Languages => policy.vary_languages(["en", "de"]),
            Opt::Codings => policy.vary_codings(["gzip"]),
            Opt::Tags => policy.tag("page").tag_fields(["Cache-Tag"]).remove_tag_fields(),
            Opt::NoCompress => policy.no_compress_outside(),
            Opt::SmallBodies => policy.max_body_size(400),
            Opt::KeyTheme => policy.vary_cookie("theme"),
            Opt::KeyAuthorization => policy.key_header("Authorization"),
            Opt::KeyApiKey => policy.key_header("X-Api-Key"),
            Opt::KeyCookie => policy.key_header("Cookie"),
            Opt::KeyTenant => policy.key_header("X-Tenant"),
            Opt::KeyWith => policy.key_with("user", |request| {
                let field = request.headers().get("x-user")?;
                field.to_str().ok().map(str::to_owned)
            }),
            Opt::IgnoreQuery => policy.query(QueryKey::only(["y"])),
            Opt::IgnoreAnalytics => policy.ignore_cookies(["_ga*"]),
            Opt::IgnoreCredentials => policy.ignore_credentials(["X-User"]),
            Opt::Targeted => policy.targeted_fields(["CDN-Cache-Control"]),
            Opt::QualifiedDirectives => policy.honor_qualified_directives(),
            Opt::ReplaySetCookie => policy.replay_set_cookie(),
            Opt::ShareDespiteCookies => policy.share_despite_cookies(),
            Opt::StatusTtl => policy.status_ttl(200, secs(60)).status_ttl(404, secs(60)),
            Opt::OverrideTtl | Opt::BypassQ | Opt::XCache | Opt::AddedPermission => policy,
        })
    }

    pub(super) fn rules(&self) -> Vec<Rule> {
        let rules = self.options.iter().filter_map(|option| match option {
            Opt::OverrideTtl => Some(Rule::any().with(|policy| policy.override_ttl(secs(60)))),
            Opt::BypassQ => Some(Rule::path("/q").bypass()),
            _ => None,
        });
        rules.collect()
    }
}

fn setting() -> BoxedStrategy<Setting> {
    let loosening = prop_oneof![
        2 => Just(Vec::new()),
        1 => subsequence(LOOSENING.to_vec(), 0..=2),
    ];
    let preset = prop_oneof![3 => Just(Preset::New), 1 => Just(Preset::Rfc9111)];
    (
        preset,
        prop_oneof![1 => Just(Vec::new()), 2 => subsequence(STRICT.to_vec(), 1..=4)],
        loosening,
    )
        .prop_map(|(preset, strict, loosening)| Setting {
            preset,
            options: [strict, loosening].concat(),
        })
        .boxed()
}

/// Request fields that identify a person. The person ends each value.
const CREDENTIALS: [(&str, &str); 13] = [
    ("authorization", "Bearer "),
    ("cookie", "sid="),
    ("cookie", "_ga="),
    ("cookie", "theme="),
    ("x-api-key", "key-"),
    ("x-session", "session-"),
    ("x-user", ""),
    ("x-vip", ""),
    ("proxy-authorization", "Basic "),
    ("x-forwarded-user", ""),
    ("remote-user", ""),
    ("cf-access-jwt-assertion", "e"),
    ("x-ssl-client-cert", "CN="),
];

/// The fields of one person: some credentials, each of this person or of a group of both.
fn credentials(person: &'static str) -> BoxedStrategy<Vec<(&'static str, String)>> {
    let sent = prop_oneof![
        1 => Just(Vec::new()),
        1 => subsequence(CREDENTIALS.to_vec(), 1..=2),
    ];
    (sent, prop_oneof![4 => Just(person), 1 => Just("group")])
        .prop_map(|(sent, name)| {
            sent.into_iter().map(|(field, text)| (field, format!("{text}{name}"))).collect()
        })
        .boxed()
}

/// A request field that selects, conditions or directs.
fn other_field() -> BoxedStrategy<(&'static str, String)> {
    let one = |name: &'static str, values: &[&'static str]| {
        select(values.to_vec()).prop_map(move |value| (name, value.to_owned()))
    };
    let bytes = vec(0x21_u8..0x7f, 0..4);
    prop_oneof![
        2 => one("accept", &["a", "b"]),
        2 => one("accept-language", &["de", "en", "*"]),
        1 => one("accept-encoding", &["gzip", "identity", "br;q=0"]),
        2 => one("x-tenant", &["1", "2"]),
        1 => one("x-b", &["1", "2"]),
        2 => one("cache-control", &["no-store", "no-cache", "max-age=0", "max-stale"]),
        1 => one("cache-control", &["only-if-cached", "min-fresh=5", "max-stale=9, x", "No-Store"]),
        2 => one("if-none-match", &["\"v1\"", "W/\"v1\"", "*", "\"v2\", \"v1\"", "v1"]),
        1 => one("if-modified-since", &["Sun, 06 Nov 2033 08:49:37 GMT", "x"]),
        1 => one("if-match", &["*", "\"v1\""]),
        2 => one("range", &["bytes=0-5", "bytes=6-17", "bytes=-12", "bytes=0-5,12-17"]),
        1 => one("range", &["bytes=999-", "bytes=x", "lines=1-2"]),
        1 => one("if-range", &["\"v1\"", "\"v2\""]),
        1 => one("x-forwarded-host", &["a", "evil"]),
        1 => one("connection", &["x-a", "authorization", "upgrade"]),
        1 => bytes.prop_map(|bytes| ("x-random", String::from_utf8(bytes).unwrap())),
    ]
    .boxed()
}

fn request() -> BoxedStrategy<Request> {
    let methods = prop_oneof![24 => Just("GET"), 4 => Just("HEAD"), 1 => Just("POST")];
    let hosts = prop_oneof![15 => Just("a"), 1 => Just("b")];
    let targets = prop_oneof![8 => Just("/p"), 1 => select(vec!["/p?x=1", "/p?x=2", "/q"])];
    let persons = prop_oneof![credentials("alice"), credentials("bob")];
    let others = prop_oneof![3 => Just(Vec::new()), 2 => vec(other_field(), 1..3)];
    let leaves = proptest::bool::weighted(0.05);
    (methods, hosts, targets, persons, others, 0..2_usize, leaves)
        .prop_map(|(method, host, target, credentials, others, server, leaves)| {
            let mut fields = credentials;
            for (name, value) in others {
                // A field that is no list has one line.
                if !fields.iter().any(|(found, _)| *found == name) {
                    fields.push((name, value));
                }
            }
            Request { method, host, target, fields, server, leaves }
        })
        .boxed()
}

fn step() -> BoxedStrategy<Step> {
    let elapsed = prop_oneof![4 => Just(0), 1 => select(vec![1_u64, 10, 61, 700])];
    let requests = prop_oneof![1 => vec(request(), 1), 2 => vec(request(), 2..=3)];
    (requests, elapsed).prop_map(|(requests, elapsed)| Step { requests, elapsed }).boxed()
}

pub(super) fn case() -> BoxedStrategy<Case> {
    let outer = option::weighted(0.25, setting());
    (setting(), outer, vec(random_reply(), 1..3), vec(step(), 2..6))
        .prop_map(|(setting, outer, replies, steps)| Case { setting, outer, replies, steps })
        .boxed()
}
