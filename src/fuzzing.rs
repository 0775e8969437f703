//! Entry points for the fuzz targets. Only cargo-fuzz compiles this module.

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
    entry::{codec::fuzzing, key::CacheKey, url::UrlTarget},
    policy::{
        compiled::{CompiledPolicy, Unmatched},
        matched::MatchedRules,
        settings::Policy,
    },
    semantics::{
        cache_control::{RequestDirectives, ResponseDirectives},
        cookies::CookieRules,
        dates::http_date,
        directive_list::DirectiveList,
        fields::{EntityTag, delta_seconds, list_members, split, trim},
        freshness,
        invalidation::invalidated,
        range::{RangeSelection, requested_ranges},
        requester::Requester,
        storing::{Exchange, StorageDecision, decide},
        targeted::Governing,
        validation::{Validators, not_modified},
        vary::{Codings, Comparison, Languages, Vary, selecting_value},
    },
};

const NOW: Timestamp =
    Timestamp::new(Duration::from_secs(1_700_000_000), Duration::from_secs(1000));

/// Parses a field value with each parser for header fields in the crate.
///
/// # Panics
///
/// Panics if a parser returns more data than the value contains.
pub fn parse_field_value(value: &[u8]) {
    for separator in *b",; " {
        let pieces: usize = split(value, separator).map(|piece| piece.len() + 1).sum();
        assert!(pieces <= value.len() + 1);
    }
    for member in list_members(value) {
        assert!(!member.is_empty() && member == trim(member));
    }
    let _ = (delta_seconds(value), http_date(value), EntityTag::parse(value));
    let Ok(field) = HeaderValue::from_bytes(value) else { return };
    let two_lines = |name: HeaderName| {
        let mut fields = HeaderMap::new();
        fields.append(name.clone(), field.clone());
        fields.append(name, field.clone());
        fields
    };
    let control = two_lines(CACHE_CONTROL);
    let _ = (ResponseDirectives::of(&control), RequestDirectives::of(&control));
    let mut directives = DirectiveList::of(&control);
    directives.limit("max-age", Duration::from_secs(60));
    directives.write(&mut control.clone());
    let target = HeaderName::from_static("cdn-cache-control");
    let _ = Governing::of(&two_lines(target.clone()), &[target]);
    for name in [
        actix_web::http::header::AGE,
        actix_web::http::header::DATE,
        actix_web::http::header::EXPIRES,
        LAST_MODIFIED,
    ] {
        let fields = two_lines(name);
        let _ = freshness::explicit_lifetime(&Governing::of(&fields, &[]), &fields, NOW);
        let _ = (
            freshness::heuristic_lifetime(&fields, NOW),
            freshness::initial_age(&fields, NOW, NOW),
        );
    }
    parse_cookies(&two_lines(COOKIE));
    parse_selecting_fields(&two_lines);
    evaluate_conditions(&field);
    let target = UrlTarget { host: "a".to_owned(), path: "/".to_owned(), query: None };
    let urls = invalidated(&[target], StatusCode::CREATED, &two_lines(LOCATION));
    assert!(urls.len() <= 2);
}

fn parse_cookies(request: &HeaderMap) {
    for ignored in [vec![], vec!["a".to_owned(), "_*".to_owned()]] {
        let rules = CookieRules { ignored, keyed: vec!["b".to_owned()] };
        let _ = (rules.has_identifying_cookie(request), rules.selecting_value(request));
    }
    let _ = CookieRules::part(request, "a");
}

fn parse_selecting_fields(two_lines: &impl Fn(HeaderName) -> HeaderMap) {
    if let Vary::Fields(names) = Vary::of(&two_lines(VARY)) {
        assert!(names.len() <= 16);
    }
    let offered = || vec!["de".to_owned(), "gzip".to_owned(), "identity".to_owned()];
    let normalizing = Comparison {
        languages: Languages::Best(offered()),
        codings: Codings::Offered(offered()),
        ..Comparison::default()
    };
    use actix_web::http::header::{ACCEPT, ACCEPT_ENCODING, ACCEPT_LANGUAGE, AUTHORIZATION};
    for name in [ACCEPT, ACCEPT_ENCODING, ACCEPT_LANGUAGE, AUTHORIZATION, COOKIE] {
        let request = two_lines(name.clone());
        for comparison in [&Comparison::default(), &normalizing] {
            assert!(selecting_value(&request, &name, comparison).is_some() || name == COOKIE);
        }
    }
}

fn evaluate_conditions(field: &HeaderValue) {
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
            if let RangeSelection::Parts(parts) =
                requested_ranges(&Method::GET, &request, validators, length)
            {
                assert!(!parts.is_empty() && parts.len() <= 32);
                assert!(parts.iter().all(|part| part.start < part.end && part.end <= length));
            }
        }
    }
}

/// Decodes bytes as a record, which is a stored response as bytes. Then puts the bytes into a
/// record with a valid checksum, and decodes that record.
///
/// # Panics
///
/// Panics if the decoded response is one that the cache never stores, or if encoding it again gives
/// other bytes.
pub fn decode_record(bytes: &[u8]) {
    let key = CacheKey::new("n", "http", "h", "/", None);
    let _ = fuzzing::read(bytes, &key, NOW);
    let _ = fuzzing::read(&fuzzing::forge(bytes, &key), &key, NOW);
}

/// Returns whether the default policy stores the response to a request.
///
/// Fields with a value that HTTP does not allow are left out of the request and of the response.
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
    let policy = CompiledPolicy::new(Policy::new(), Vec::new(), Unmatched::Policy, "fuzz");
    let (Ok(policy), Ok(status)) = (policy, StatusCode::from_u16(status)) else { return false };
    let Ok(terms) = policy.terms(&MatchedRules::default(), status, None) else { return false };
    let exchange = Exchange {
        request_no_store: RequestDirectives::of(&request).no_store,
        requester: Requester::carried(&request, &policy.identity).under(&policy.identity),
        requested: NOW,
        status,
        response: &response,
        handler_directives: None,
        responded: NOW,
    };
    matches!(decide(&exchange, &terms), StorageDecision::Store(_))
}
