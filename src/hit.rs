//! Answers from the store.

use std::time::Duration;

use actix_web::{
    HttpResponse,
    http::{
        StatusCode,
        header::{AGE, EXPIRES, HeaderMap, HeaderName, HeaderValue},
    },
};
use httpdate::fmt_http_date;

use crate::{
    body::CacheBody,
    outcome::Outcome,
    semantics::{
        directive_list::DirectiveList,
        fields::date_field,
        validation::{belongs_in_not_modified, not_modified},
    },
    shared::{Field, Settings},
    stored::StoredResponse,
    time::Now,
};

pub(crate) const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
pub(crate) const X_CACHE: HeaderName = HeaderName::from_static("x-cache");

/// The answer to a request that `stored` may answer: itself, or 304 if the client has it.
pub(crate) fn answer<B>(
    request: &HeaderMap,
    stored: &StoredResponse,
    age: Duration,
    ttl: Duration,
    now: Now,
) -> HttpResponse<CacheBody<B>> {
    let condensed = not_modified(request, stored);
    let (status, body) = if condensed {
        (StatusCode::NOT_MODIFIED, CacheBody::none())
    } else if stored.status == StatusCode::NO_CONTENT {
        (stored.status, CacheBody::none())
    } else {
        (stored.status, CacheBody::whole(stored.body.clone()))
    };
    let mut response = HttpResponse::with_body(status, body);
    let fields = response.headers_mut();
    fields.reserve(stored.fields.len() + 3);
    for (name, value) in &stored.fields {
        if !condensed || belongs_in_not_modified(name) {
            fields.append(name.clone(), value.clone());
        }
    }
    if let Some(limit) = stored.client_ttl {
        shorten(fields, age, ttl.min(limit), now);
    }
    // Section 5.1: whole seconds.
    fields.insert(AGE, HeaderValue::from(age.as_secs()));
    response
}

/// Tells clients to keep a response for no longer than `left` from now on.
pub(crate) fn shorten(fields: &mut HeaderMap, age: Duration, left: Duration, now: Now) {
    let mut directives = DirectiveList::of(fields);
    directives.limit("max-age", age.saturating_add(left));
    directives.write(fields);
    let end = now.system_time() + left;
    let earlier = date_field(fields, &EXPIRES).is_some_and(|expires| expires <= end);
    if !earlier && let Ok(expires) = HeaderValue::try_from(fmt_http_date(end)) {
        fields.insert(EXPIRES, expires);
    }
}

/// Writes what became of the request into the answer.
pub(crate) fn report(fields: &mut HeaderMap, outcome: &Outcome, settings: &Settings) {
    if settings.x_cache == Field::Written {
        if outcome.is_hit() {
            fields.insert(X_CACHE, HeaderValue::from_static("hit"));
        } else if outcome.is_stored() {
            fields.insert(X_CACHE, HeaderValue::from_static("miss"));
        }
    }
    if settings.cache_status == Field::Written {
        // RFC 9211 section 2: after those of caches closer to the origin.
        if let Ok(value) = HeaderValue::try_from(format!("actix-web-cache; {outcome}")) {
            fields.append(CACHE_STATUS, value);
        }
    }
}
