//! What may be stored (section 3), and for how long.

use std::time::Duration;

use actix_web::http::{
    StatusCode,
    header::{COOKIE, HeaderMap, HeaderName, PRAGMA},
};

use super::{
    cache_control::{Extent, ResponseDirectives},
    fields::{lines, list},
    freshness::{explicit, heuristic, initial_age},
    requester::Requester,
    staleness::{self, Windows},
    targeted::Governing,
    validation::has_validator,
    vary::Vary,
};
use crate::{
    clock::Timestamp,
    entry::lifetime::{Lifetime, LifetimeSource},
    entry::limits::{MAX_LIFETIME, may_have_status},
    entry::tag::TagId,
    outcome::NotStored,
};

/// A request and the head of its response.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Exchange<'a> {
    /// The request says `no-store`.
    pub(crate) request_no_store: bool,
    pub(crate) requester: Requester,
    pub(crate) requested: Timestamp,
    pub(crate) status: StatusCode,
    pub(crate) response: &'a HeaderMap,
    pub(crate) responded: Timestamp,
}

/// What the application says of storing a response.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StorageTerms<'a> {
    /// A lifetime that goes before what the response says: the application's insistence.
    pub(crate) first: Option<(Duration, LifetimeSource)>,
    /// A lifetime where the response says nothing.
    pub(crate) fallback: Option<Duration>,
    /// What holds for all responses.
    pub(crate) choices: &'a PolicyChoices,
}

/// What a policy makes of the choices that the standard leaves to a cache.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct PolicyChoices {
    pub(crate) any_status: AnyStatus,
    pub(crate) heuristics: Heuristics,
    pub(crate) set_cookie: SetCookie,
    pub(crate) qualified: Qualified,
    /// Targeted fields that are meant for this cache (RFC 9213), in order.
    pub(crate) targets: Vec<HeaderName>,
    /// How long what can be validated is kept beyond its freshness lifetime.
    pub(crate) retention: Duration,
    pub(crate) windows: Windows,
}

/// Whether a lifetime is guessed where none is stated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Heuristics {
    #[default]
    Off,
    /// By `Last-Modified` (section 4.2.2).
    On,
}

/// What becomes of responses that set cookies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum SetCookie {
    #[default]
    Refused,
    /// Stored, and the cookie replayed to everybody (section 7.3 allows it).
    Stored,
}

/// What the qualified forms `private="field"` and `no-cache="field"` do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum Qualified {
    /// The same as the unqualified: what a handler meant by it is too often the whole.
    #[default]
    AsWhole,
    /// The fields they name are not stored; the rest is.
    ByField,
}

/// For which status codes a stated lifetime counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum AnyStatus {
    /// Those that are usually meant for more than one request.
    #[default]
    Usual,
    /// Every final one (section 3).
    Final,
}

impl AnyStatus {
    /// Whether a lifetime that a response with this status states is followed.
    pub(crate) fn counts(self, status: StatusCode) -> bool {
        self == Self::Final || usually_shared(status)
    }
}

/// The decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StorageDecision {
    Store(StoragePlan),
    Skip(NotStored),
}

/// How a response is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoragePlan {
    pub(crate) lifetime: Lifetime,
    /// The freshness lifetime that the response states, whether it was followed or not.
    pub(crate) stated: Option<Duration>,
    /// The fields its `Vary` names.
    pub(crate) nominated: Vec<HeaderName>,
    /// It was storable only because the request had no cookies.
    pub(crate) needs_no_cookie: bool,
    /// Fields that must not be stored with it.
    pub(crate) withheld: Vec<HeaderName>,
    /// What it can be invalidated by, beside what its key implies.
    pub(crate) tags: Vec<TagId>,
}

/// Decides whether and for how long a response is stored.
pub(crate) fn decide(exchange: &Exchange<'_>, terms: &StorageTerms<'_>) -> StorageDecision {
    plan(exchange, terms).map_or_else(StorageDecision::Skip, StorageDecision::Store)
}

fn plan(exchange: &Exchange<'_>, terms: &StorageTerms<'_>) -> Result<StoragePlan, NotStored> {
    let choices = terms.choices;
    let mut governing = Governing::of(exchange.response, &choices.targets);
    if choices.qualified == Qualified::AsWhole {
        for extent in [&mut governing.directives.private, &mut governing.directives.no_cache] {
            if *extent != Extent::Absent {
                *extent = Extent::Whole;
            }
        }
    }
    let directives = &governing.directives;
    let withheld: Vec<_> =
        directives.private.fields().iter().chain(directives.no_cache.fields()).cloned().collect();
    refused(exchange, directives, choices, &withheld)?;
    let Vary::Fields(nominated) = Vary::of(exchange.response) else { return Err(NotStored::Vary) };
    let stated = explicit(&governing, exchange.response, exchange.responded);
    let lifetime = lifetime(exchange, directives, stated, terms)?;
    personal(exchange.requester, directives, &nominated, lifetime.source)?;
    let by_cookie = nominated.contains(&COOKIE);
    let needs_no_cookie = !by_cookie && !directives.shares_with_everybody();
    Ok(StoragePlan { lifetime, stated, nominated, needs_no_cookie, withheld, tags: Vec::new() })
}

/// What the message itself forbids.
fn refused(
    exchange: &Exchange<'_>,
    directives: &ResponseDirectives,
    choices: &PolicyChoices,
    withheld: &[HeaderName],
) -> Result<(), NotStored> {
    // Section 5.2.1.5.
    if exchange.request_no_store {
        return Err(NotStored::RequestNoStore);
    }
    // Section 3: a final status code.
    if !may_have_status(exchange.status.as_u16()) {
        return Err(NotStored::Status);
    }
    // Section 5.2.2.3: only what the cache understands; that it may then store, `no-store` or not.
    let understood = is_understood(exchange.status);
    if directives.must_understand && !understood {
        return Err(NotStored::Status);
    }
    // Section 5.2.2.5.
    if directives.no_store && !directives.must_understand {
        return Err(NotStored::NoStore);
    }
    // Section 5.2.2.7.
    if directives.private == Extent::Whole {
        return Err(NotStored::Private);
    }
    // Section 5.2.2.4: not reused without validation, so where that is impossible storing would be
    // in vain.
    if directives.no_cache == Extent::Whole && !has_validator(exchange.response) {
        return Err(NotStored::NoCache);
    }
    // Section 7.3 leaves it to the cache; a cookie is somebody's.
    let sets_cookie = ["set-cookie", "set-cookie2"].into_iter().any(|name| {
        exchange.response.contains_key(name) && !withheld.iter().any(|field| field == name)
    });
    if sets_cookie && choices.set_cookie == SetCookie::Refused {
        return Err(NotStored::SetCookie);
    }
    Ok(())
}

/// Status codes whose caching requirements are known here: those of RFC 9110 section 15.
fn is_understood(status: StatusCode) -> bool {
    matches!(
        status.as_u16(),
        200..=206 | 300..=305 | 307 | 308 | 400..=417 | 421 | 422 | 426 | 500..=505
    )
}

fn lifetime(
    exchange: &Exchange<'_>,
    directives: &ResponseDirectives,
    stated: Option<Duration>,
    terms: &StorageTerms<'_>,
) -> Result<Lifetime, NotStored> {
    let choices = terms.choices;
    let counts = choices.any_status.counts(exchange.status);
    let (freshness, source) = if let Some(first) = terms.first {
        first
    } else if let Some(stated) = stated.filter(|_| counts) {
        (stated, LifetimeSource::Explicit)
    } else if directives.no_cache == Extent::Whole && usually_shared(exchange.status) {
        // It states that it is validated each time, which needs no lifetime.
        (Duration::ZERO, LifetimeSource::Explicit)
    } else if let Some(given) = given(exchange, directives, terms) {
        if says_pragma_no_cache(exchange.response) {
            return Err(NotStored::NoCache);
        }
        given
    } else if usually_shared(exchange.status) {
        return Err(NotStored::NoLifetime);
    } else {
        return Err(NotStored::Status);
    };
    // Section 1.2.2 takes this for forever; added to a date it still makes a date.
    let freshness = freshness.min(MAX_LIFETIME);
    let initial_age = initial_age(exchange.response, exchange.requested, exchange.responded);
    let staleness = staleness::stated(directives);
    let validated = has_validator(exchange.response).then_some(choices.retention);
    let retention = choices.windows.longest(&staleness).max(validated.unwrap_or_default());
    let retention = retention.min(MAX_LIFETIME);
    let lifetime = Lifetime {
        response_time: exchange.responded,
        initial_age,
        freshness,
        source,
        staleness,
        retention,
    };
    if initial_age < freshness.saturating_add(retention) {
        Ok(lifetime)
    } else if freshness.is_zero() {
        Err(NotStored::NoLifetime)
    } else {
        Err(NotStored::Stale)
    }
}

/// The lifetime that a response has although it states none: a guess for status codes that are
/// heuristically cacheable or with `public` (section 4.2.2), or what the policy gives it.
fn given(
    exchange: &Exchange<'_>,
    directives: &ResponseDirectives,
    terms: &StorageTerms<'_>,
) -> Option<(Duration, LifetimeSource)> {
    let allowed = terms.choices.heuristics == Heuristics::On
        && (directives.public || heuristically_cacheable(exchange.status));
    let guessed = heuristic(exchange.response, exchange.responded).filter(|_| allowed);
    let guessed = guessed.map(|lifetime| (lifetime, LifetimeSource::Heuristic));
    guessed.or_else(|| terms.fallback.map(|lifetime| (lifetime, LifetimeSource::Policy)))
}

/// Section 5.4 defines no `Pragma` for responses, so it outweighs nothing that is stated. Who sends
/// it wants no caching all the same, and has stated no lifetime.
fn says_pragma_no_cache(response: &HeaderMap) -> bool {
    lines(response, &PRAGMA).flat_map(list).any(|member| member.eq_ignore_ascii_case(b"no-cache"))
}

/// RFC 9110 section 15.1, save 206.
fn heuristically_cacheable(status: StatusCode) -> bool {
    matches!(status.as_u16(), 200 | 203 | 204 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501)
}

/// Status codes whose responses usually hold for more than one request: those that are
/// heuristically cacheable, and redirects that state a lifetime.
fn usually_shared(status: StatusCode) -> bool {
    heuristically_cacheable(status) || matches!(status.as_u16(), 302 | 307)
}

/// What the requester forbids, unless the response says that others may have it.
fn personal(
    requester: Requester,
    directives: &ResponseDirectives,
    nominated: &[HeaderName],
    source: LifetimeSource,
) -> Result<(), NotStored> {
    // Section 3.5: `Vary: Authorization` does not suffice. `must-revalidate` is about a lifetime that
    // the response states; who states none did not think of sharing.
    let shares = directives.shares_with_everybody()
        || (directives.must_revalidate && source == LifetimeSource::Explicit);
    if requester.has_authorization && !shares {
        return Err(NotStored::Authorization);
    }
    // Stricter than the RFC, which leaves cookies to the handler: handlers forget. One that says
    // `Vary: Cookie` did not.
    let by_cookie = nominated.contains(&COOKIE);
    if requester.cookies && !by_cookie && !directives.shares_with_everybody() {
        return Err(NotStored::Cookie);
    }
    // Fields only the application knows: where the response states a lifetime it thought of them.
    if requester.credentials
        && source != LifetimeSource::Explicit
        && !directives.shares_authorized()
    {
        return Err(NotStored::Credentials);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
