//! What the fuzz targets call: built by cargo-fuzz alone.

use std::time::Duration;

use actix_web::http::{
    Method, StatusCode,
    header::{
        CACHE_CONTROL, COOKIE, ETAG, HeaderMap, HeaderName, HeaderValue, IF_MODIFIED_SINCE,
        IF_NONE_MATCH, IF_RANGE, LAST_MODIFIED, LOCATION, RANGE, VARY,
    },
};

use crate::{
    clock::Timestamp,
    entry::codec::fuzzing,
    entry::key::CacheKey,
    entry::url::UrlTarget,
    policy::{CompiledPolicy, MatchedRules, Policy, Unmatched},
    semantics::cache_control::{RequestDirectives, ResponseDirectives},
    semantics::cookies::CookieRules,
    semantics::directive_list::DirectiveList,
    semantics::fields::{EntityTag, delta_seconds, http_date, list, split, trim},
    semantics::freshness,
    semantics::invalidation::invalidated,
    semantics::range::{Slice, slice},
    semantics::requester::Requester,
    semantics::storing::{Exchange, StorageDecision, decide},
    semantics::targeted::Governing,
    semantics::validation::{Validators, not_modified},
    semantics::vary::{Codings, Comparison, Languages, Vary, selecting_value},
};

const NOW: Timestamp =
    Timestamp::new(Duration::from_secs(1_700_000_000), Duration::from_secs(1000));

/// Reads a value as every field that is read here.
///
/// # Panics
///
/// If more is found in it than there is.
pub fn read_as_every_field(value: &[u8]) {
    for separator in *b",; " {
        let pieces: usize = split(value, separator).map(|piece| piece.len() + 1).sum();
        assert!(pieces <= value.len() + 1);
    }
    for member in list(value) {
        assert!(!member.is_empty() && member == trim(member));
    }
    let _ = (delta_seconds(value), http_date(value), EntityTag::parse(value));
    let Ok(field) = HeaderValue::from_bytes(value) else { return };
    let with = |name: HeaderName| {
        let mut fields = HeaderMap::new();
        fields.append(name.clone(), field.clone());
        fields.append(name, field.clone());
        fields
    };
    let control = with(CACHE_CONTROL);
    let _ = (ResponseDirectives::of(&control), RequestDirectives::of(&control));
    let mut edited = DirectiveList::of(&control);
    edited.limit("max-age", Duration::from_secs(60));
    edited.write(&mut control.clone());
    let target = HeaderName::from_static("cdn-cache-control");
    let _ = Governing::of(&with(target.clone()), &[target]);
    for name in [
        actix_web::http::header::AGE,
        actix_web::http::header::DATE,
        actix_web::http::header::EXPIRES,
        LAST_MODIFIED,
    ] {
        let fields = with(name);
        let _ = freshness::explicit(&Governing::of(&fields, &[]), &fields, NOW);
        let _ = (freshness::heuristic(&fields, NOW), freshness::initial_age(&fields, NOW, NOW));
    }
    read_cookies(&with(COOKIE));
    read_selection(&with);
    read_conditions(&field);
    let own = UrlTarget { host: "a".to_owned(), path: "/".to_owned(), query: None };
    let all = invalidated(&[own], StatusCode::CREATED, &with(LOCATION));
    assert!(all.len() <= 2);
}

fn read_cookies(request: &HeaderMap) {
    for ignored in [vec![], vec!["a".to_owned(), "_*".to_owned()]] {
        let rules = CookieRules { ignored, keyed: vec!["b".to_owned()] };
        let _ = (rules.personal(request), rules.counting(request));
    }
    let _ = CookieRules::part(request, "a");
}

fn read_selection(with: &impl Fn(HeaderName) -> HeaderMap) {
    if let Vary::Fields(names) = Vary::of(&with(VARY)) {
        assert!(names.len() <= 16);
    }
    let offered = || vec!["de".to_owned(), "gzip".to_owned(), "identity".to_owned()];
    let normal = Comparison {
        languages: Languages::Best(offered()),
        codings: Codings::Offered(offered()),
        ..Comparison::default()
    };
    use actix_web::http::header::{ACCEPT, ACCEPT_ENCODING, ACCEPT_LANGUAGE, AUTHORIZATION};
    for name in [ACCEPT, ACCEPT_ENCODING, ACCEPT_LANGUAGE, AUTHORIZATION, COOKIE] {
        let request = with(name.clone());
        for comparison in [&Comparison::default(), &normal] {
            assert!(selecting_value(&request, &name, comparison).is_some() || name == COOKIE);
        }
    }
}

fn read_conditions(field: &HeaderValue) {
    let mut stored = HeaderMap::new();
    stored.insert(ETAG, field.clone());
    stored.insert(LAST_MODIFIED, field.clone());
    let validators = Validators::of(&stored);
    for name in [IF_NONE_MATCH, IF_MODIFIED_SINCE] {
        let mut request = HeaderMap::new();
        request.insert(name, field.clone());
        let _ = not_modified(&request, StatusCode::OK, validators);
    }
    let mut request = HeaderMap::new();
    request.insert(RANGE, field.clone());
    for condition in [None, Some(field)] {
        if let Some(condition) = condition {
            request.insert(IF_RANGE, condition.clone());
        }
        for length in [0, 1, 1000, u64::MAX] {
            if let Slice::Parts(parts) = slice(&Method::GET, &request, validators, length) {
                assert!(!parts.is_empty() && parts.len() <= 32);
                assert!(parts.iter().all(|part| part.start < part.end && part.end <= length));
            }
        }
    }
}

/// Reads bytes as a record: as they are, and as what stands in one that is whole.
///
/// # Panics
///
/// If what is read is nothing that is ever stored, or would not be written in the same bytes.
pub fn read_as_record(bytes: &[u8]) {
    let key = CacheKey::new("n", "http", "h", "/", None);
    let _ = fuzzing::read(bytes, &key, NOW);
    let _ = fuzzing::read(&fuzzing::forge(bytes, &key), &key, NOW);
}

/// Whether the default policy stores the response of this exchange.
#[must_use]
pub fn is_stored_by_default(
    request: &[(&'static str, Vec<u8>)],
    status: u16,
    response: &[(&'static str, Vec<u8>)],
) -> bool {
    let fields = |lines: &[(&'static str, Vec<u8>)]| {
        let mut fields = HeaderMap::new();
        for (name, value) in lines {
            if let Ok(value) = HeaderValue::from_bytes(value) {
                fields.append(HeaderName::from_static(name), value);
            }
        }
        fields
    };
    let (request, response) = (fields(request), fields(response));
    let checked = CompiledPolicy::new(Policy::new(), Vec::new(), Unmatched::Policy, "fuzz");
    let (Ok(checked), Ok(status)) = (checked, StatusCode::from_u16(status)) else { return false };
    let Ok(terms) = checked.terms(&MatchedRules::default(), status, None) else { return false };
    let exchange = Exchange {
        request_no_store: RequestDirectives::of(&request).no_store,
        requester: Requester::of(&request, &checked.personal),
        requested: NOW,
        status,
        response: &response,
        responded: NOW,
    };
    matches!(decide(&exchange, &terms), StorageDecision::Store(_))
}
