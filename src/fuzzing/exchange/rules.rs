//! The rules of RFC 9111 and of the policy for one reply, stated in another way than in the crate.
//!
//! The rules are necessary conditions: a cache may share fewer responses.

use std::collections::BTreeSet;

use actix_web::http::{
    Method, StatusCode,
    header::{AGE, CONTENT_RANGE, ETAG, HeaderMap, HeaderName, LAST_MODIFIED},
};

use super::{
    drawn::{Answer, Opt, REQUESTER, Requester, SERIAL, Settings, Setup, Step},
    messages::{Made, Reply},
};

/// Checks the reply that a requester got. `made` are all responses of the handler until then, and
/// `before` is the number of those that it made before the step.
///
/// # Panics
///
/// Panics if the cache should not have sent the reply.
pub(super) fn check(
    setup: &Setup,
    step: &Step,
    requester: &Requester,
    reply: &Reply,
    made: &[Made],
    before: usize,
    now: u64,
) {
    let Some(serial) = number(&reply.fields, &SERIAL) else { return };
    let serial = serial as usize;
    let served = &made[serial];
    let case = || {
        format!(
            "{requester:?} got {serial}: {reply:?}\nfor {step:?}\nof {served:?}\nunder {:?} {:?}",
            setup.settings, setup.rules
        )
    };
    check_body(step, served, reply, &case);
    let is_own = |made: &Made| text(&made.request, &REQUESTER) == [requester.name];
    if serial >= before && is_own(served) {
        return;
    }
    // The handler may have validated the response for this requester.
    let is_validated =
        made[before..].iter().any(|made| made.validates == Some(serial) && is_own(made));
    let is_answered = made[before..].iter().any(|made| made.is_head && is_own(made));
    if is_answered || (is_validated && reply.status == StatusCode::NOT_MODIFIED) {
        return;
    }
    let sent = request(step, requester);
    assert!(step.method != Method::POST, "a POST is answered from the store: {}", case());
    if let Some(refusal) = unstorable(&setup.settings, served) {
        panic!("reused despite {refusal}: {}", case());
    }
    // The handler may have validated the response for other requests (RFC 9111 section 4.3.1).
    // These requests select the response, too.
    let validations = made.iter().filter(|made| made.validates == Some(serial));
    let mut selected_by = [served].into_iter().chain(validations);
    let difference = |made| difference(&setup.settings, made, step.uri, &sent);
    assert!(
        selected_by.any(|made| difference(made).is_none()),
        "reused despite another {:?}: {}",
        difference(served),
        case()
    );
    assert!(
        is_validated || answers(&setup.settings, served, &sent),
        "reused for a request with credentials: {}",
        case()
    );
    let shown = check_fields(&setup.settings, served, reply, is_validated);
    assert_eq!(shown, BTreeSet::new(), "fields changed: {}", case());
    let age = number(&reply.fields, &AGE);
    assert!(
        made.iter().any(|made| made.is_head || made.validates == Some(serial))
            || age.is_some_and(|age| age >= now - served.at),
        "the age at {now}: {}",
        case()
    );
}

/// The fields of the request of a requester.
fn request(step: &Step, requester: &Requester) -> HeaderMap {
    let mut fields = HeaderMap::new();
    for (name, value) in step.fields(requester) {
        fields.append(name, value);
    }
    fields
}

fn number(fields: &HeaderMap, name: &HeaderName) -> Option<u64> {
    fields.get(name)?.to_str().ok()?.parse().ok()
}

fn text<'a>(fields: &'a HeaderMap, name: &HeaderName) -> Vec<&'a str> {
    fields.get_all(name).map(|value| value.to_str().unwrap()).collect()
}

/// The body is the one that the handler made, or a part of it.
fn check_body(step: &Step, served: &Made, reply: &Reply, case: &impl Fn() -> String) {
    let body = reply.body.as_ref().unwrap_or_else(|()| panic!("the body fails: {}", case()));
    let is_empty = step.method == Method::HEAD || reply.status == StatusCode::NOT_MODIFIED;
    if is_empty || reply.status == StatusCode::RANGE_NOT_SATISFIABLE {
        return;
    }
    let is_part =
        reply.status == StatusCode::PARTIAL_CONTENT && served.status != StatusCode::PARTIAL_CONTENT;
    if !is_part {
        assert_eq!((reply.status, body), (served.status, &served.body), "{}", case());
        return;
    }
    let Some(range) = reply.fields.get(CONTENT_RANGE) else { return };
    let range = range.to_str().unwrap().trim_start_matches("bytes ");
    let (range, length) = range.split_once('/').unwrap();
    let (first, last) = range.split_once('-').unwrap();
    let [first, last, length] = [first, last, length].map(|number| number.parse().unwrap());
    assert_eq!((&body[..], served.body.len()), (&served.body[first..=last], length), "{}", case());
}

/// The directives that govern a response, as far as they decide whether it is shared.
#[derive(Default)]
struct Directives {
    has_no_store: bool,
    must_understand: bool,
    is_private: bool,
    has_no_cache: bool,
    has_lifetime: bool,
    is_shared: bool,
    must_revalidate: bool,
    /// Fields that a qualified form names.
    withheld: Vec<&'static str>,
}

impl Directives {
    fn of(settings: &Settings, answer: &Answer) -> Self {
        let mut found = Self::default();
        match answer.targeted.filter(|_| settings.has(Opt::Targeted)) {
            None | Some("(") => {
                answer.directives.iter().for_each(|directive| found.add(settings, directive));
                found.has_lifetime |= answer.line("expires").is_some();
            }
            Some(targeted) => {
                let members = ["max-age=60", "no-store", "private", "public", "s-maxage=60"];
                let members = members.into_iter().chain(["must-revalidate", "no-cache"]);
                members
                    .filter(|member| targeted.contains(member))
                    .for_each(|member| found.add(settings, member));
            }
        }
        found
    }

    fn add(&mut self, settings: &Settings, directive: &str) {
        match directive {
            "max-age=60" | "max-age=0" | "max-age=x" | "s-maxage=0" => self.has_lifetime = true,
            "s-maxage=60" => {
                self.has_lifetime = true;
                self.is_shared = true;
            }
            "public" | "PUBLIC" => self.is_shared = true,
            "must-revalidate" => self.must_revalidate = true,
            "must-understand" => self.must_understand = true,
            "private" | "max-age=60; private" => self.is_private = true,
            "no-cache" => self.has_no_cache = true,
            "private=\"x-own\"" if settings.has(Opt::QualifiedDirectives) => {
                self.withheld.push("x-own")
            }
            "private=\"x-own\"" => self.is_private = true,
            "no-cache=\"set-cookie, x-own\"" if settings.has(Opt::QualifiedDirectives) => {
                self.withheld.extend(["set-cookie", "x-own"]);
            }
            "no-cache=\"set-cookie, x-own\"" => self.has_no_cache = true,
            // An open quote may hide any directive.
            "no-store" | "ext=\"a" => self.has_no_store = true,
            _ => {}
        }
    }
}

/// Returns the reason why a response must not be stored.
fn unstorable(settings: &Settings, made: &Made) -> Option<&'static str> {
    let answer = &made.answer;
    let directives = Directives::of(settings, answer);
    let has_open_quote = answer.directives.contains(&"ext=\"a");
    let is_explicit = directives.has_lifetime || directives.has_no_cache;
    let directives_of_request = text(&made.request, &HeaderName::from_static("cache-control"));
    let identity = Identity::of(settings, &made.request);
    let varies_by_cookie = answer.vary.to_ascii_lowercase().contains("cookie");
    let overrides = overrides(settings, made);
    let explicit = is_explicit && !overrides;
    let is_withheld = |name: &str| directives.withheld.contains(&name);
    let ignores_no_store = directives.must_understand && !has_open_quote;
    let lacks = |is_carried: bool, is_permitted: bool| is_carried && !is_permitted;
    let reasons = [
        (made.status.as_u16() < 200, "a status"),
        (matches!(made.status.as_u16(), 206 | 304), "a partial status"),
        (directives_of_request.contains(&"no-store"), "no-store in the request"),
        (directives.has_no_store && !ignores_no_store, "no-store"),
        (directives.is_private, "private"),
        (
            answer.line("set-cookie").is_some()
                && !settings.has(Opt::ReplaySetCookie)
                && !is_withheld("set-cookie"),
            "Set-Cookie",
        ),
        (["*", "not a name"].contains(&answer.vary), "Vary"),
        (answer.lines_of("connection").any(|value| value == "cache-control"), "Connection"),
        (answer.line("pragma").is_some() && !is_explicit && !overrides, "Pragma"),
        (answer.line("content-security-policy").is_some() && !is_explicit, "a nonce"),
        (
            lacks(
                identity.has_authorization,
                directives.is_shared || (directives.must_revalidate && explicit),
            ),
            "Authorization",
        ),
        (lacks(identity.has_cookies, directives.is_shared || varies_by_cookie), "a cookie"),
        (lacks(identity.has_credentials, directives.is_shared || explicit), "credentials"),
    ];
    reasons.into_iter().find(|(applies, _)| *applies).map(|(_, reason)| reason)
}

/// Returns whether a rule overrides the lifetime of a response.
fn overrides(settings: &Settings, made: &Made) -> bool {
    settings.has(Opt::OverrideTtl) && matches!(made.status.as_u16(), 200 | 203 | 301 | 308)
}

/// The credentials of a request.
struct Identity {
    has_authorization: bool,
    has_cookies: bool,
    has_credentials: bool,
}

impl Identity {
    fn of(settings: &Settings, request: &HeaderMap) -> Self {
        let has = |name: &'static str| request.contains_key(name);
        let is_exempt = |cookie: &str| {
            (settings.has(Opt::IgnoreAnalytics) && cookie.starts_with("_ga="))
                || (settings.has(Opt::KeyTheme) && cookie.starts_with("theme="))
        };
        let cookies = text(request, &HeaderName::from_static("cookie"));
        Self {
            has_authorization: has("authorization") && !settings.has(Opt::KeyAuthorization),
            has_cookies: cookies.iter().any(|cookie| !is_exempt(cookie))
                && !settings.has(Opt::ShareDespiteCookies),
            has_credentials: (has("x-api-key") && !settings.has(Opt::IgnoreApiKeys))
                || (has("x-session") && settings.has(Opt::Sessions)),
        }
    }
}

/// Returns whether a response may answer a request with these credentials.
fn answers(settings: &Settings, made: &Made, request: &HeaderMap) -> bool {
    let answer = &made.answer;
    let directives = Directives::of(settings, answer);
    let identity = Identity::of(settings, request);
    let varies_by_cookie = answer.vary.to_ascii_lowercase().contains("cookie");
    let is_explicit = directives.has_lifetime || directives.has_no_cache;
    directives.is_shared
        || (is_explicit && !overrides(settings, made))
        || !(identity.has_authorization
            || identity.has_credentials
            || (identity.has_cookies && !varies_by_cookie))
}

/// Returns a part of the request by which it has another key or variant than the request for which
/// the response was made.
fn difference(
    settings: &Settings,
    made: &Made,
    uri: &str,
    request: &HeaderMap,
) -> Option<&'static str> {
    let url = |uri: &str| {
        let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
        let query = if settings.has(Opt::KeyQ) && query.contains("q=1") { "q=1" } else { query };
        (path.replace("%61", "a"), query.to_owned())
    };
    if url(&made.uri) != url(uri) {
        return Some("URL");
    }
    let theme = |request: &HeaderMap| {
        let cookies = text(request, &HeaderName::from_static("cookie"));
        let themes = cookies.into_iter().filter(|cookie| cookie.starts_with("theme="));
        themes.map(str::to_owned).collect::<Vec<_>>()
    };
    if settings.has(Opt::KeyTheme) && theme(&made.request) != theme(request) {
        return Some("theme");
    }
    let keyed = [
        ("authorization", settings.has(Opt::KeyAuthorization)),
        ("x-tenant", settings.has(Opt::KeyTenant)),
        ("x-forwarded-host", true),
        ("forwarded", true),
    ];
    let keyed = keyed.into_iter().filter(|(_, is_keyed)| *is_keyed).map(|(name, _)| name);
    let vary = made.answer.vary.to_ascii_lowercase();
    let named =
        ["accept-language", "accept-encoding", "authorization", "accept", "x-tenant", "cookie"];
    let named = named.into_iter().filter(|name| vary.split(", ").any(|member| member == *name));
    let skipped = |name: &&str| {
        (*name == "accept-language" && settings.has(Opt::Languages))
            || (*name == "accept-encoding" && settings.has(Opt::Codings))
    };
    let value = |name: &'static str, request: &HeaderMap| {
        let mut lines = text(request, &HeaderName::from_static(name));
        if name == "cookie" && settings.has(Opt::IgnoreAnalytics) {
            lines.retain(|line| !line.starts_with("_ga="));
        }
        let value = lines.join(",").replace(' ', "");
        (lines.len().min(1), value)
    };
    let mut names = keyed.chain(named.filter(|name| !skipped(name)));
    names.find(|name| value(name, &made.request) != value(name, request))
}

/// Returns the fields of a reply that differ from the fields of the handler, and that RFC 9111 and
/// the policy do not let the cache change.
fn check_fields(
    settings: &Settings,
    served: &Made,
    reply: &Reply,
    is_validated: bool,
) -> BTreeSet<String> {
    let directives = Directives::of(settings, &served.answer);
    let is_connection_field = |name: &str| {
        name == "connection" || served.answer.lines_of("connection").any(|named| named == name)
    };
    let is_free = |name: &str| {
        [
            "age",
            "date",
            "expires",
            "cache-control",
            "cdn-cache-control",
            "cache-status",
            "vary",
            "retry-after",
            "content-length",
            "content-range",
        ]
        .contains(&name)
            // Several parts have a content type of their own.
            || (name == "content-type" && reply.status != served.status)
    };
    let may_lack = |name: &str| {
        is_connection_field(name)
            || directives.withheld.contains(&name)
            || (name == "x-ratelimit-remaining" && !settings.has(Opt::RateLimits))
            || (name == "cache-tag" && settings.has(Opt::RemoveTags))
            || (name.starts_with("content-") && reply.status == StatusCode::NOT_MODIFIED)
    };
    // The cache makes a weak tag for a response that has no validator.
    let has_validator = [ETAG, LAST_MODIFIED].iter().any(|name| served.fields.contains_key(name));
    let may_gain = |name: &str| name == "etag" && !has_validator;
    let mut changed = BTreeSet::new();
    for name in served.fields.keys().chain(reply.fields.keys()) {
        let text_name = name.as_str();
        if is_free(text_name) || (may_lack(text_name) && !reply.fields.contains_key(name)) {
            continue;
        }
        if may_gain(text_name) {
            continue;
        }
        let (sent, shown) = (text(&served.fields, name), text(&reply.fields, name));
        // A middleware around the cache may encode the response, so its strong tag becomes weak.
        let is_weakened =
            text_name == "etag" && sent.iter().map(|tag| format!("W/{tag}")).eq(shown.clone());
        if sent != shown && !is_weakened {
            changed.insert(text_name.to_owned());
        }
    }
    // Fields that the handler withholds from other clients, or from further connections. A 304 of
    // the handler can contain them again.
    let mut hidden = served.fields.keys().filter(|name| {
        let is_hidden =
            directives.withheld.contains(&name.as_str()) || is_connection_field(name.as_str());
        is_hidden && !is_validated
    });
    if let Some(name) = hidden.find(|name| reply.fields.contains_key(*name)) {
        changed.insert(format!("{name} is sent"));
    }
    let line = |fields: &HeaderMap, name| text(fields, &HeaderName::from_static(name)).join(", ");
    for name in ["cache-control", "vary"] {
        let (before, after) = (line(&served.fields, name), line(&reply.fields, name));
        let is_kept = |member: &&str| {
            ["max-age", "s-maxage"].iter().any(|start| member.starts_with(start))
                || after.to_ascii_lowercase().contains(&member.to_ascii_lowercase())
        };
        if let Some(lost) = before.split(", ").find(|member| !is_kept(member)) {
            changed.insert(format!("{lost} in {name} is lost"));
        }
    }
    changed
}
