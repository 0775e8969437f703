//! Decides whether a response is stored (RFC 9111 section 3), and for how long.

use std::time::Duration;

use actix_web::http::{
    StatusCode,
    header::{COOKIE, HeaderMap, HeaderName, HeaderValue, PRAGMA},
};
use smallvec::SmallVec;

use super::{
    cache_control::{DirectiveScope, ResponseDirectives},
    connection::ConnectionFields,
    content_security_policy::names_nonce,
    fields::{field_lines, list_members},
    freshness::{explicit_lifetime, heuristic_lifetime, initial_age},
    present_fields::PresentFields,
    replayed_fields::FieldPatterns,
    requester::{Requester, Sharing},
    staleness::{Windows, response_staleness},
    status::{is_heuristically_cacheable, is_understood, is_usually_shared},
    targeted::{Governing, Source},
    validation::has_validator,
    vary::Vary,
};
use crate::{
    clock::Timestamp,
    entry::{
        lifetime::{Lifetime, LifetimeSource},
        limits::{MAX_LIFETIME, may_have_status},
        tag::TagId,
    },
    outcome::NotStored,
};

/// A request and the head of its response.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Exchange<'a> {
    /// Whether the request has `no-store`.
    pub(crate) request_no_store: bool,
    /// The credentials of the request.
    pub(crate) requester: Requester,
    /// The clients that may share the stored response.
    pub(crate) sharing: &'a Sharing,
    /// The time at which the request was sent to the handler.
    pub(crate) requested: Timestamp,
    /// The status code of the response.
    pub(crate) status: StatusCode,
    /// The header fields of the response.
    pub(crate) response: &'a HeaderMap,
    /// The directives in `Cache-Control` as the handler sent it. `None` if no middleware added
    /// permissions (directives such as `public` or `max-age`) to this field.
    pub(crate) handler_directives: Option<&'a ResponseDirectives>,
    /// The time at which the head of the response was received from the handler.
    pub(crate) responded: Timestamp,
}

/// Terms are the conditions under which the policy stores one response: the freshness lifetimes
/// that the policy or the handler sets for the response, and the choices of the policy.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StorageTerms<'a> {
    /// A freshness lifetime that takes precedence over the one that the response states, and its
    /// source: the policy or the handler.
    pub(crate) first: Option<(Duration, LifetimeSource)>,
    /// The freshness lifetime that the policy gives to a response that states none.
    pub(crate) fallback: Option<Duration>,
    /// The choices of the policy, which apply to all responses.
    pub(crate) choices: &'a PolicyChoices,
}

/// A policy's decisions on the options that RFC 9111 leaves to a cache.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct PolicyChoices {
    /// The status codes of responses whose explicit freshness the cache obeys.
    pub(crate) any_status: AnyStatus,
    /// Whether heuristic freshness is used.
    pub(crate) heuristics: Heuristics,
    /// Whether responses with `Set-Cookie` are stored.
    pub(crate) set_cookie: SetCookie,
    /// The effect of the qualified forms `private="field"` and `no-cache="field"`.
    pub(crate) qualified: Qualified,
    /// Whether fields about one request are stored.
    pub(crate) one_request_fields: OneRequestFields,
    /// The fields that are never stored: those about one request, and those that the application
    /// leaves out.
    pub(crate) left_out: FieldPatterns,
    /// The targeted fields that this cache obeys (RFC 9213), the most important first.
    pub(crate) targets: Vec<HeaderName>,
    /// The time for which a response with a validator is kept after its freshness lifetime.
    pub(crate) retention: Duration,
    /// The windows for stale responses that state no window.
    pub(crate) windows: Windows,
}

impl PolicyChoices {
    /// Returns the effect that a field has on the storing of its response. The fill of a response
    /// and the lookup of a stored response both ask this function, so a response with a field that
    /// is never stored is not used either, even if another program wrote it into the store.
    pub(crate) fn effect_of(&self, name: &HeaderName) -> FieldEffect {
        if matches!(name.as_str(), "set-cookie" | "set-cookie2") {
            // Section 7.3 permits a cache to store `Set-Cookie`, but cookies are usually meant for
            // one client.
            match self.set_cookie {
                SetCookie::Refused => return FieldEffect::Refused,
                SetCookie::Stored => {}
            }
        }
        if self.left_out.contains(name) { FieldEffect::Withheld } else { FieldEffect::Stored }
    }
}

/// The effect of a field on the storing of its response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FieldEffect {
    /// The field is stored with the response.
    Stored,
    /// The response is stored without the field.
    Withheld,
    /// The response is not stored.
    Refused,
}

/// Whether a response without explicit freshness gets a heuristic lifetime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Heuristics {
    /// A response without explicit freshness gets no heuristic lifetime.
    #[default]
    Off,
    /// A response without explicit freshness gets a lifetime derived from `Last-Modified` (section
    /// 4.2.2).
    On,
}

/// Whether responses that set cookies are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum SetCookie {
    /// Responses with `Set-Cookie` are not stored.
    #[default]
    Refused,
    /// Responses with `Set-Cookie` are stored, and all clients get the cookie (section 7.3 permits
    /// it).
    Stored,
}

/// Whether fields about one request, such as a rate limit or the id of the request, are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum OneRequestFields {
    /// The response is stored without these fields. Only the client whose request went to the
    /// handler gets them.
    #[default]
    Withheld,
    /// The fields are stored like other fields (section 3.1).
    Stored,
}

/// The effect of the qualified forms `private="field"` and `no-cache="field"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum Qualified {
    /// The qualified forms have the effect of `private` and `no-cache`, because handlers often send
    /// a qualified form but mean the whole response.
    #[default]
    AsUnqualified,
    /// The response is stored without the fields that the qualified forms name.
    ByField,
}

/// The status codes of responses whose explicit freshness the cache obeys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum AnyStatus {
    /// The status codes for which [`is_usually_shared`] returns true. Examples of other status
    /// codes are 403 and 500.
    #[default]
    Usual,
    /// All final status codes (section 3).
    Final,
}

impl AnyStatus {
    /// Returns whether the cache obeys the explicit freshness of responses with this status code.
    pub(crate) fn counts(self, status: StatusCode) -> bool {
        self == Self::Final || is_usually_shared(status)
    }
}

/// Whether a response is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StorageDecision {
    /// The response is stored as the plan describes.
    Store(Box<StoragePlan>),
    /// The response is not stored, for this reason.
    Skip(NotStored),
}

/// The properties of a response that will be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoragePlan {
    /// The freshness lifetime of the response, and the rules for its use once it is stale.
    pub(crate) lifetime: Lifetime,
    /// The freshness lifetime that the response states, even if `lifetime` has another source.
    pub(crate) stated: Option<Duration>,
    /// The fields that `Vary` names.
    pub(crate) nominated: Vec<HeaderName>,
    /// Whether the response could not be stored if its request had cookies that identify a client.
    pub(crate) needs_no_cookie: bool,
    /// Whether the handler permits sharing by `public` or `s-maxage`. The stored response then
    /// answers requests with credentials, even if its lifetime is not explicit.
    pub(crate) permits_sharing: bool,
    /// Whether the response is for clients as it is, or `private`.
    pub(crate) downstream: Downstream,
    /// Fields of the response that must not be stored.
    pub(crate) withheld: Vec<HeaderName>,
    /// The kinds of fields that the response had at the decision, before the cache adds its own.
    pub(crate) present: PresentFields,
    /// The total length of the names and values of all lines of the header.
    pub(crate) head_length: usize,
    /// The tags (surrogate keys) by which the stored response can be invalidated. Tags that the
    /// cache can compute from the cache key, such as the tag of its URL, are not included.
    pub(crate) tags: Vec<TagId>,
    /// The response fields that list the tags for a CDN.
    pub(crate) emitted_tags: Vec<(HeaderName, HeaderValue)>,
}

/// Whether clients and the caches between get a response as the handler sent it, or as `private`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Downstream {
    /// `Cache-Control` says what the handler stated.
    AsStated,
    /// `Cache-Control` has `private`, because this cache shares the response only with some
    /// clients, which other caches cannot tell from others.
    Private,
}

/// Decides whether a response is stored, and for how long.
pub(crate) fn decide(exchange: &Exchange<'_>, terms: &StorageTerms<'_>) -> StorageDecision {
    plan(exchange, terms).map_or_else(StorageDecision::Skip, StorageDecision::Store)
}

fn plan(exchange: &Exchange<'_>, terms: &StorageTerms<'_>) -> Result<Box<StoragePlan>, NotStored> {
    let choices = terms.choices;
    let Head { present, effects, length: head_length } = Head::of(exchange.response, choices);
    let mut governing = if present.has(PresentFields::CACHE_CONTROL) || !choices.targets.is_empty()
    {
        Governing::of(exchange.response, &choices.targets)
    } else {
        Governing::default()
    };
    if choices.qualified == Qualified::AsUnqualified {
        for scope in [&mut governing.directives.private, &mut governing.directives.no_cache] {
            if *scope != DirectiveScope::Absent {
                *scope = DirectiveScope::Response;
            }
        }
    }
    // This cache gives the response only to the person for whom the handler made it (section
    // 5.2.2.7).
    if matches!(exchange.sharing, Sharing::User(_)) {
        governing.directives.private = DirectiveScope::Absent;
    }
    let directives = &governing.directives;
    let mut withheld = directives.private.fields().to_vec();
    withheld.extend_from_slice(directives.no_cache.fields());
    check_message(exchange, directives, present)?;
    withhold_fields(effects, &mut withheld)?;
    let nominated = nominated(exchange.response, present)?;
    let stated = stated_lifetime(exchange, &governing, present);
    let mut lifetime = lifetime(exchange, directives, stated, present, terms)?;
    let own = handler_directives(exchange, &governing);
    let is_planned = stated.is_some() && states_lifetime(own, present);
    let has_policy = present.has(PresentFields::SECURITY_POLICY);
    if has_policy && names_nonce(exchange.response) && !is_planned {
        return Err(NotStored::Nonce);
    }
    if lifetime.source == LifetimeSource::Explicit && !states_lifetime(own, present) {
        lifetime.source = LifetimeSource::Middleware;
    }
    check_requester(exchange.requester, own, &nominated, lifetime.source)?;
    let permits_sharing = own.allows_sharing();
    let downstream = match exchange.sharing {
        Sharing::Everybody => Downstream::AsStated,
        Sharing::Authorized if permits_authorized(own, lifetime.source) => Downstream::AsStated,
        Sharing::Authorized | Sharing::User(_) => Downstream::Private,
    };
    let needs_no_cookie = !nominated.contains(&COOKIE) && !permits_sharing;
    let (tags, emitted_tags) = (Vec::new(), Vec::new());
    Ok(Box::new(StoragePlan {
        lifetime,
        stated,
        nominated,
        needs_no_cookie,
        permits_sharing,
        downstream,
        withheld,
        present,
        head_length,
        tags,
        emitted_tags,
    }))
}

/// Returns the directives that the handler sent, without permissions that a middleware added. Only
/// the handler can permit the cache to store responses to requests with credentials. If a targeted
/// field replaces `Cache-Control`, its directives are those of the handler, because the middlewares
/// of this crate do not change targeted fields.
fn handler_directives<'a>(
    exchange: &Exchange<'a>,
    governing: &'a Governing,
) -> &'a ResponseDirectives {
    match governing.source {
        Source::CacheControl => exchange.handler_directives.unwrap_or(&governing.directives),
        Source::Targeted => &governing.directives,
    }
}

/// Returns whether the handler stated the freshness lifetime of its response: its directives,
/// `own`, have a lifetime or `no-cache`, or the response has `Expires`.
fn states_lifetime(own: &ResponseDirectives, present: PresentFields) -> bool {
    own.s_maxage.is_some()
        || own.max_age.is_some()
        || own.no_cache == DirectiveScope::Response
        || present.has(PresentFields::EXPIRES)
}

/// The properties of a response's fields that decide whether it is stored, read in one pass.
struct Head {
    /// The kinds of fields that the response has.
    present: PresentFields,
    /// The fields that are not stored, or that permit no storing, with their effect.
    effects: SmallVec<[(HeaderName, FieldEffect); 2]>,
    /// The total length of the names and values of all lines.
    length: usize,
}

impl Head {
    fn of(response: &HeaderMap, choices: &PolicyChoices) -> Self {
        let (mut present, mut length) = (PresentFields::default(), 0);
        let mut effects = SmallVec::new();
        for (name, value) in response {
            present.add(name);
            length += name.as_str().len() + value.len();
            let effect = choices.effect_of(name);
            if effect != FieldEffect::Stored {
                effects.push((name.clone(), effect));
            }
        }
        Self { present, effects, length }
    }
}

/// Returns the fields that `Vary` names.
fn nominated(response: &HeaderMap, present: PresentFields) -> Result<Vec<HeaderName>, NotStored> {
    if !present.has(PresentFields::VARY) {
        return Ok(Vec::new());
    }
    match Vary::of(response) {
        Vary::Fields(nominated) => Ok(nominated),
        Vary::NeverMatches => Err(NotStored::Vary),
    }
}

/// Returns the freshness lifetime that a response states.
fn stated_lifetime(
    exchange: &Exchange<'_>,
    governing: &Governing,
    present: PresentFields,
) -> Option<Duration> {
    let ResponseDirectives { s_maxage, max_age, .. } = governing.directives;
    let may_state = s_maxage.or(max_age).is_some() || present.has(PresentFields::EXPIRES);
    let stated = || explicit_lifetime(governing, exchange.response, exchange.responded);
    may_state.then(stated).flatten()
}

/// Checks whether request, status code and directives permit storing.
fn check_message(
    exchange: &Exchange<'_>,
    directives: &ResponseDirectives,
    present: PresentFields,
) -> Result<(), NotStored> {
    // Section 5.2.1.5: `no-store` in the request.
    if exchange.request_no_store {
        return Err(NotStored::RequestNoStore);
    }
    // Section 3: the status code must be final. 206 and 304 are never stored.
    if !may_have_status(exchange.status.as_u16()) {
        return Err(NotStored::Status);
    }
    // Section 5.2.2.3: a response with `must-understand` is stored only if the cache implements the
    // caching requirements of its status code.
    if directives.must_understand && !is_understood(exchange.status) {
        return Err(NotStored::Status);
    }
    // Sections 5.2.2.5 and 5.2.2.3: `must-understand` overrides `no-store`.
    if directives.no_store && !directives.must_understand {
        return Err(NotStored::NoStore);
    }
    // Section 3.1: the fields that `Connection` names are not stored.
    if present.has(PresentFields::CONNECTION)
        && ConnectionFields::of(exchange.response).name_essential_field()
    {
        return Err(NotStored::Connection);
    }
    // Section 5.2.2.7: `private`.
    if directives.private == DirectiveScope::Response {
        return Err(NotStored::Private);
    }
    // Section 5.2.2.4: a response with `no-cache` must be validated before each reuse. A response
    // without a validator cannot be validated.
    if directives.no_cache == DirectiveScope::Response
        && !is_validatable(exchange.response, present)
    {
        return Err(NotStored::NoCache);
    }
    Ok(())
}

/// Returns whether the handler can validate the stored response by a validator of the response.
fn is_validatable(response: &HeaderMap, present: PresentFields) -> bool {
    present.has(PresentFields::ETAG)
        || (present.has(PresentFields::LAST_MODIFIED) && has_validator(response))
}

/// Adds the fields that are not stored under the policy. Refuses the response if a field permits no
/// storing, unless that field is withheld already.
fn withhold_fields(
    effects: impl IntoIterator<Item = (HeaderName, FieldEffect)>,
    withheld: &mut Vec<HeaderName>,
) -> Result<(), NotStored> {
    for (name, effect) in effects {
        match effect {
            FieldEffect::Stored => {}
            FieldEffect::Withheld => withheld.push(name),
            FieldEffect::Refused if withheld.contains(&name) => {}
            FieldEffect::Refused => return Err(NotStored::SetCookie),
        }
    }
    Ok(())
}

/// Returns the lifetime of a response, or the reason why the response cannot be reused.
///
/// `stated` is the freshness lifetime that the response states.
fn lifetime(
    exchange: &Exchange<'_>,
    directives: &ResponseDirectives,
    stated: Option<Duration>,
    present: PresentFields,
    terms: &StorageTerms<'_>,
) -> Result<Lifetime, NotStored> {
    let choices = terms.choices;
    let (freshness, source) = freshness(exchange, directives, stated, present, terms)?;
    // Section 1.2.2: longer lifetimes count as `MAX_LIFETIME`, so that the end of a lifetime is a
    // valid date.
    let freshness = freshness.min(MAX_LIFETIME);
    let initial_age = if present.has(PresentFields::AGE_OR_DATE) {
        initial_age(exchange.response, exchange.requested, exchange.responded)
    } else {
        Duration::ZERO
    };
    let staleness = response_staleness(directives);
    let for_validation = is_validatable(exchange.response, present).then_some(choices.retention);
    let retention = choices.windows.longest(&staleness).max(for_validation.unwrap_or_default());
    let retention = retention.min(MAX_LIFETIME);
    if initial_age < freshness.saturating_add(retention) {
        let response_time = exchange.responded;
        Ok(Lifetime { response_time, initial_age, freshness, source, staleness, retention })
    } else if freshness.is_zero() {
        Err(NotStored::NoLifetime)
    } else {
        Err(NotStored::Stale)
    }
}

/// Returns the freshness lifetime of a response, and its source.
fn freshness(
    exchange: &Exchange<'_>,
    directives: &ResponseDirectives,
    stated: Option<Duration>,
    present: PresentFields,
    terms: &StorageTerms<'_>,
) -> Result<(Duration, LifetimeSource), NotStored> {
    let obeys_stated = terms.choices.any_status.counts(exchange.status);
    if let Some(first) = terms.first {
        return Ok(first);
    }
    if let Some(stated) = stated.filter(|_| obeys_stated) {
        return Ok((stated, LifetimeSource::Explicit));
    }
    // Section 5.2.2.4: a response with `no-cache` needs no lifetime, because it is validated before
    // each reuse.
    let usually_shared = is_usually_shared(exchange.status);
    if directives.no_cache == DirectiveScope::Response && usually_shared {
        return Ok((Duration::ZERO, LifetimeSource::Explicit));
    }
    match implicit_freshness(exchange, directives, terms) {
        Some(_) if present.has(PresentFields::PRAGMA) && has_pragma_no_cache(exchange.response) => {
            Err(NotStored::NoCache)
        }
        Some(implicit) => Ok(implicit),
        None if usually_shared => Err(NotStored::NoLifetime),
        None => Err(NotStored::Status),
    }
}

/// Returns the freshness lifetime of a response that states none: the heuristic lifetime if the
/// status code or `public` permits it (section 4.2.2), or else the fallback lifetime of the terms.
fn implicit_freshness(
    exchange: &Exchange<'_>,
    directives: &ResponseDirectives,
    terms: &StorageTerms<'_>,
) -> Option<(Duration, LifetimeSource)> {
    let permitted = terms.choices.heuristics == Heuristics::On
        && (directives.public || is_heuristically_cacheable(exchange.status));
    let heuristic =
        if permitted { heuristic_lifetime(exchange.response, exchange.responded) } else { None };
    let heuristic = heuristic.map(|lifetime| (lifetime, LifetimeSource::Heuristic));
    heuristic.or_else(|| terms.fallback.map(|lifetime| (lifetime, LifetimeSource::Policy)))
}

/// Returns whether a response has `Pragma: no-cache`.
///
/// Section 5.4 does not define `Pragma` for responses, so `Pragma` does not override explicit
/// freshness. A handler that sends `Pragma: no-cache` does not want the response to be stored, so
/// neither a heuristic nor a fallback lifetime applies to the response.
fn has_pragma_no_cache(response: &HeaderMap) -> bool {
    field_lines(response, &PRAGMA)
        .flat_map(list_members)
        .any(|member| member.eq_ignore_ascii_case(b"no-cache"))
}

/// Checks whether the response to a request with these credentials may be stored.
fn check_requester(
    requester: Requester,
    directives: &ResponseDirectives,
    nominated: &[HeaderName],
    source: LifetimeSource,
) -> Result<(), NotStored> {
    // Section 3.5: `Vary: Authorization` is not sufficient.
    if requester.has_authorization && !permits_authorized(directives, source) {
        return Err(NotStored::Authorization);
    }
    // Section 7.3 leaves the control of cookies to the handler. Handlers often forget to forbid
    // storing, so the response must permit sharing or name `Cookie` in `Vary`.
    let selected_by_cookie = nominated.contains(&COOKIE);
    if requester.has_cookies && !selected_by_cookie && !directives.allows_sharing() {
        return Err(NotStored::Cookie);
    }
    // Other fields with credentials, such as `X-Api-Key`, are unknown to RFC 9111. A handler
    // permits storing by explicit freshness, `public` or `s-maxage`.
    if requester.has_credentials
        && source != LifetimeSource::Explicit
        && !directives.allows_sharing()
    {
        return Err(NotStored::Credentials);
    }
    Ok(())
}

/// Returns whether the handler permits shared caches to store the response to a request with
/// `Authorization` (section 3.5).
fn permits_authorized(directives: &ResponseDirectives, source: LifetimeSource) -> bool {
    // `must-revalidate` counts only together with explicit freshness: without explicit freshness,
    // the handler did not state that the response may be shared.
    directives.allows_sharing()
        || (directives.must_revalidate && source == LifetimeSource::Explicit)
}

/// Returns whether a refusal to store a response predicts that later responses to the request will
/// not be stored either.
///
/// After a lasting refusal, later requests do not wait for each other's response (hit-for-miss).
/// The refusal of an error is not lasting if the error says nothing about the resource. After a
/// 5xx, the handler may soon succeed while many requests arrive. A 400, 401, 403 or 429 is about
/// one request: if its refusal were lasting, one client could end the collapsing of the requests of
/// all other clients.
pub(crate) fn is_lasting_refusal(reason: NotStored, status: StatusCode) -> bool {
    let is_about_request = status.is_client_error() && !is_usually_shared(status);
    !status.is_server_error()
        && !is_about_request
        && !matches!(
            reason,
            NotStored::Invalidated
                | NotStored::Busy
                | NotStored::RequestChanged
                | NotStored::NoVarySearch
        )
}

#[cfg(test)]
mod tests;
