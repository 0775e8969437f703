//! All parsers of the crate, as functions of bytes.
//!
//! The target `fields` runs all of them. `linear` counts the instructions of each one.

use std::time::Duration;

use actix_web::{
    http::{
        Method, StatusCode,
        header::{
            ACCEPT, ACCEPT_ENCODING, ACCEPT_LANGUAGE, AGE, AUTHORIZATION, CACHE_CONTROL,
            CONNECTION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, COOKIE, DATE, ETAG, EXPIRES,
            FORWARDED, HOST, HeaderMap, HeaderName, HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH,
            IF_RANGE, LAST_MODIFIED, LOCATION, PRAGMA, RANGE, RETRY_AFTER, VARY, X_FORWARDED_HOST,
        },
    },
    test::TestRequest,
};

use super::input::NOW;
use crate::{
    entry::url::{UrlTarget, normalize_path, normalized_hosts},
    policy::{self, request_url::target_urls},
    semantics::{
        cache_control::{RequestDirectives, ResponseDirectives},
        client_lifetime::limit_stated_lifetimes,
        compression::{CodingSupport, InnerCompression},
        connection::ConnectionFields,
        content_security_policy::{fits_one_content, names_nonce},
        cookies::CookieRules,
        dates::http_date,
        directive_list::DirectiveList,
        fields::{EntityTag, delta_seconds, field_name, has_open_quote, list_members, split},
        freshness,
        invalidation::{InvalidationChoices, invalidated, represents_target},
        no_vary_search::NoVarySearch,
        range::requested_ranges,
        replayed_fields::count_down_retry_after,
        tags::{CACHE_GROUPS, groups, listed_tags},
        targeted::Governing,
        validation::{Validators, not_modified},
        vary::{Codings, Comparison, Languages, Vary, add_to_vary, selecting_value},
    },
};

/// A parser that accepts any bytes.
pub(super) type Parser = fn(&[u8]);

/// The parsers, each with its name.
pub(super) const PARSERS: &[(&str, Parser)] = &[
    ("lists", lists),
    ("numbers and dates", numbers_and_dates),
    ("entity tags", |value| {
        let _ = EntityTag::parse(value);
    }),
    ("Cache-Control of responses", response_directives),
    ("Cache-Control of requests", request_directives),
    ("changes of Cache-Control", changed_directives),
    ("targeted fields", targeted),
    ("lifetimes", lifetimes),
    ("cookies", cookies),
    ("No-Vary-Search", no_vary_search),
    ("Vary", vary),
    ("Accept", |value| selecting(&ACCEPT, value)),
    ("Accept-Encoding", |value| selecting(&ACCEPT_ENCODING, value)),
    ("Accept-Language", |value| selecting(&ACCEPT_LANGUAGE, value)),
    ("Authorization", |value| selecting(&AUTHORIZATION, value)),
    ("conditions", conditions),
    ("Range", range),
    ("Location", location),
    ("tags", tags),
    ("groups", |value| drop(groups(&lines(&CACHE_GROUPS, value), &CACHE_GROUPS))),
    ("Connection", connection),
    ("Content-Security-Policy", content_security_policy),
    ("Content-Type and Retry-After", other_response_fields),
    ("Forwarded", forwarded),
    ("Host", host),
    ("paths", |value| drop(normalize_path(&String::from_utf8_lossy(value)))),
    ("queries", |value| policy::fuzzing::normalize_queries(&String::from_utf8_lossy(value))),
    ("path patterns", |value| policy::fuzzing::check_pattern(&text(b"/", value))),
    ("expressions", |value| policy::fuzzing::check_pattern(&expression(value))),
    ("tag templates", |value| policy::fuzzing::parse_tag_template(&String::from_utf8_lossy(value))),
    #[cfg(feature = "redis")]
    ("names of selecting fields", crate::store::redis::fuzzing::decode_selecting_fields),
    #[cfg(feature = "redis")]
    ("Redis URLs", |value| {
        crate::store::redis::fuzzing::parse_url(&String::from_utf8_lossy(value));
    }),
];

/// Returns a field with one line for each line of the text. Lines that are not valid field values
/// are left out.
pub(super) fn lines(name: &HeaderName, text: &[u8]) -> HeaderMap {
    let mut fields = HeaderMap::new();
    for line in text.split(|&byte| byte == b'\n') {
        if let Ok(value) = HeaderValue::from_bytes(line) {
            fields.append(name.clone(), value);
        }
    }
    fields
}

fn text(prefix: &[u8], value: &[u8]) -> String {
    String::from_utf8_lossy(&[prefix, value].concat()).into_owned()
}

fn expression(value: &[u8]) -> String {
    text(b"/{a:", value) + "}"
}

fn lists(value: &[u8]) {
    for separator in *b",; " {
        split(value, separator).for_each(drop);
    }
    let _ = (has_open_quote(value), list_members(value).filter_map(field_name).count());
}

fn numbers_and_dates(value: &[u8]) {
    let _ = (delta_seconds(value), http_date(value));
}

fn response_directives(value: &[u8]) {
    let _ = ResponseDirectives::of(&lines(&CACHE_CONTROL, value));
    let _ = freshness::explicit_lifetime(
        &Governing::of(&lines(&PRAGMA, value), &[]),
        &lines(&PRAGMA, value),
        NOW,
    );
}

fn request_directives(value: &[u8]) {
    let _ = RequestDirectives::of(&lines(&CACHE_CONTROL, value));
}

fn changed_directives(value: &[u8]) {
    let mut fields = lines(&CACHE_CONTROL, value);
    let mut directives = DirectiveList::of(&fields);
    directives.limit("max-age", Duration::from_secs(60));
    directives.remove("s-maxage");
    directives.set("public", None);
    directives.write(&mut fields);
    limit_stated_lifetimes(&mut fields, Duration::ZERO, Duration::from_secs(60), NOW);
}

fn targeted(value: &[u8]) {
    let name = HeaderName::from_static("cdn-cache-control");
    let _ = Governing::of(&lines(&name, value), &[name]);
}

fn lifetimes(value: &[u8]) {
    for name in [AGE, DATE, EXPIRES, LAST_MODIFIED] {
        let fields = lines(&name, value);
        let _ = freshness::explicit_lifetime(&Governing::of(&fields, &[]), &fields, NOW);
        let _ = freshness::heuristic_lifetime(&fields, NOW);
        let _ = freshness::initial_age(&fields, NOW, NOW);
    }
}

fn cookies(value: &[u8]) {
    let request = lines(&COOKIE, value);
    for ignored in [vec![], vec!["a".to_owned(), "_*".to_owned()]] {
        let rules = CookieRules { ignored, keyed: vec!["b".to_owned()] };
        let _ = (rules.has_identifying_cookie(&request), rules.selecting_value(&request));
    }
    let _ = CookieRules::part(&request, "a");
}

fn vary(value: &[u8]) {
    let mut fields = lines(&VARY, value);
    if let Vary::Fields(names) = Vary::of(&fields) {
        assert!(names.len() <= 16);
    }
    add_to_vary(&mut fields, &[COOKIE]);
}

/// Returns a comparison that normalizes `Accept-Language` and `Accept-Encoding`.
pub(super) fn normalizing() -> Comparison {
    let offered = || ["de", "en-GB", "gzip", "identity"].map(str::to_owned).to_vec();
    Comparison {
        languages: Languages::Best(offered()),
        codings: Codings::Offered(offered()),
        ..Comparison::default()
    }
}

fn selecting(name: &HeaderName, value: &[u8]) {
    let request = lines(name, value);
    let folding = Comparison { languages: Languages::CaseFolded, ..Comparison::default() };
    for comparison in [&Comparison::default(), &folding, &normalizing()] {
        let value = selecting_value(&request, name, comparison);
        assert_eq!(value.is_some(), request.contains_key(name));
    }
    let _ = CodingSupport::of(&request);
}

fn conditions(value: &[u8]) {
    let first = lines(&ETAG, value).get(ETAG).cloned();
    let mut stored = HeaderMap::new();
    if let Some(first) = first {
        stored.insert(ETAG, first.clone());
        stored.insert(LAST_MODIFIED, first);
    }
    for name in [IF_NONE_MATCH, IF_MODIFIED_SINCE] {
        let request = lines(&name, value);
        let _ = not_modified(&request, StatusCode::OK, Validators::of(&stored));
    }
}

fn range(value: &[u8]) {
    let prefixed = text(b"bytes=", value).into_bytes();
    for value in [value, &prefixed] {
        let mut request = lines(&RANGE, value);
        let _ = requested_ranges(&Method::GET, &request, Validators::default(), 1000);
        if let Some(line) = lines(&IF_RANGE, value).get(IF_RANGE) {
            request.insert(IF_RANGE, line.clone());
        }
        let _ = requested_ranges(&Method::GET, &request, Validators::default(), 1000);
    }
}

fn location(value: &[u8]) {
    let target = [UrlTarget { host: "a".to_owned(), path: "/".to_owned(), query: None }];
    let response = lines(&LOCATION, value);
    let choices = InvalidationChoices::default();
    let urls = invalidated(&target, StatusCode::CREATED, &response, choices);
    assert!(urls.iter().all(|url| url.host == "a"), "a URL of another host is invalidated");
    let _ = represents_target(&target, &response);
}

fn tags(value: &[u8]) {
    for name in ["cache-tag", "surrogate-key"].map(HeaderName::from_static) {
        listed_tags(&lines(&name, value), &name).for_each(drop);
    }
}

fn no_vary_search(value: &[u8]) {
    let query = String::from_utf8_lossy(value);
    for value in [value, b"params=(\"a\" \"b\"), key-order"] {
        let name = HeaderName::from_static("no-vary-search");
        if let Some(variance) = NoVarySearch::of(&lines(&name, value)) {
            let _ = (variance.encode(), variance.normalize(Some(&query)));
        }
    }
}

fn connection(value: &[u8]) {
    let named = ConnectionFields::of(&lines(&CONNECTION, value));
    let _ = (named.name_essential_field(), named.may_be_stored(&ETAG));
}

fn content_security_policy(value: &[u8]) {
    let response = lines(&CONTENT_SECURITY_POLICY, value);
    let _ = (names_nonce(&response), fits_one_content(value));
}

fn other_response_fields(value: &[u8]) {
    let response = lines(&CONTENT_TYPE, value);
    let _ = InnerCompression::Possible.audience(CodingSupport::Unsupported, &response);
    count_down_retry_after(&mut lines(&RETRY_AFTER, value), Duration::from_secs(5));
}

fn forwarded(value: &[u8]) {
    let mut request = TestRequest::default();
    for name in [FORWARDED, X_FORWARDED_HOST] {
        for (name, value) in &lines(&name, value) {
            request = request.append_header((name.clone(), value.clone()));
        }
    }
    policy::fuzzing::check_forwarded(&request.to_srv_request());
}

fn host(value: &[u8]) {
    let _ = normalized_hosts(&String::from_utf8_lossy(value));
    let mut request = TestRequest::default();
    for (name, value) in &lines(&HOST, value) {
        request = request.append_header((name.clone(), value.clone()));
    }
    let _ = target_urls(&request.to_srv_request());
}
