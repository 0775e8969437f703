//! The target `fields`: no field makes a parser panic, and the parsers agree about the field. Each
//! line of the input is a line of the field.

use std::time::Duration;

use actix_web::http::{
    Method, StatusCode,
    header::{
        ACCEPT, ACCEPT_ENCODING, ACCEPT_LANGUAGE, AUTHORIZATION, CACHE_CONTROL, COOKIE, ETAG,
        HeaderMap, HeaderName, HeaderValue, IF_NONE_MATCH, RANGE, VARY,
    },
};

use super::parsers::{PARSERS, lines, normalizing};
use crate::semantics::{
    cache_control::ResponseDirectives,
    cookies::CookieRules,
    dates::http_date,
    directive_list::DirectiveList,
    fields::{EntityTag, delta_seconds, field_lines, has_open_quote, list_members, split, trim},
    range::{RangeSelection, requested_ranges},
    validation::{Validators, not_modified},
    vary::{Comparison, Vary, add_to_vary, selecting_value},
};

/// Runs the target.
///
/// # Panics
///
/// Panics if a parser returns more data than the field contains, if an edit of a field changes the
/// meaning of the field, or if a plain refusal such as `no-store` is overlooked.
pub fn run(value: &[u8]) {
    for (_, parser) in PARSERS {
        parser(value);
    }
    check_lists(value);
    check_numbers_and_dates(value);
    check_refusals(value);
    check_edits(value);
    check_vary(value);
    check_selecting_values(value);
    check_entity_tags(value);
    check_ranges(value);
}

/// Each list member is trimmed and not empty, and the pieces of a line are the whole line.
fn check_lists(value: &[u8]) {
    for separator in *b",; " {
        let pieces: usize = split(value, separator).map(|piece| piece.len() + 1).sum();
        assert!(pieces <= value.len() + 1);
    }
    for member in list_members(value) {
        assert!(!member.is_empty() && member == trim(member));
        // A member of several words is itself a line without a separator.
        assert!(list_members(member).eq([member]), "a member is split again");
    }
}

fn check_numbers_and_dates(value: &[u8]) {
    if let Some(delta) = delta_seconds(value) {
        assert!(delta <= Duration::from_secs(1 << 31) && value.iter().all(u8::is_ascii_digit));
    }
    if let Some(date) = http_date(value) {
        let written = httpdate::fmt_http_date(date);
        assert_eq!(http_date(written.as_bytes()), Some(date), "{written}");
    }
}

/// A refusal in a line without quoted strings counts, whatever surrounds it.
fn check_refusals(value: &[u8]) {
    let fields = lines(&CACHE_CONTROL, value);
    let directives = ResponseDirectives::of(&fields);
    for line in field_lines(&fields, &CACHE_CONTROL).filter(|line| !line.contains(&b'"')) {
        let words = line.split(|byte| b",; \t".contains(byte));
        let has = |name: &str| words.clone().any(|word| word.eq_ignore_ascii_case(name.as_bytes()));
        assert!(!has("no-store") || directives.no_store);
        assert!(!(has("private") || has("no-cache")) || directives.refuses_sharing());
    }
    if !field_lines(&fields, &CACHE_CONTROL).any(has_open_quote) {
        let joined = joined(&fields, &CACHE_CONTROL);
        assert_eq!(ResponseDirectives::of(&joined), directives, "lines and members differ");
    }
}

/// Returns the field with all its lines joined to one.
fn joined(fields: &HeaderMap, name: &HeaderName) -> HeaderMap {
    let line = field_lines(fields, name).collect::<Vec<_>>().join(&b", "[..]);
    lines(name, &line)
}

/// An edit of `Cache-Control` changes only the directive that it is about.
fn check_edits(value: &[u8]) {
    let mut fields = lines(&CACHE_CONTROL, value);
    let before = ResponseDirectives::of(&fields);
    let list = DirectiveList::of(&fields);
    list.write(&mut fields);
    assert_eq!(ResponseDirectives::of(&fields), before, "writing changes the directives");
    let mut list = list;
    list.limit("max-age", Duration::from_secs(60));
    list.write(&mut fields);
    let after = ResponseDirectives::of(&fields);
    assert!(after.max_age.is_some_and(|age| age <= Duration::from_secs(60)) || after.no_store);
    assert_eq!(
        ResponseDirectives { max_age: None, ..after },
        ResponseDirectives { max_age: None, ..before },
        "a limit of max-age changes other directives"
    );
}

/// Additions to `Vary` keep its other members.
fn check_vary(value: &[u8]) {
    let mut fields = lines(&VARY, value);
    let before = Vary::of(&fields);
    add_to_vary(&mut fields, &[COOKIE]);
    match (before, Vary::of(&fields)) {
        (Vary::NeverMatches, after) => assert_eq!(after, Vary::NeverMatches),
        (Vary::Fields(names), Vary::Fields(after)) => {
            assert!(names.iter().chain([&COOKIE]).all(|name| after.contains(name)));
        }
        (Vary::Fields(names), Vary::NeverMatches) => assert_eq!(names.len(), 16),
    }
}

/// Normalizing the value of a selecting field again does not change it, and each cookie counts.
fn check_selecting_values(value: &[u8]) {
    for name in [ACCEPT, ACCEPT_ENCODING, ACCEPT_LANGUAGE, AUTHORIZATION] {
        let request = lines(&name, value);
        for comparison in [&Comparison::default(), &normalizing()] {
            // An open quote would hide the commas between the lines.
            if field_lines(&request, &name).any(has_open_quote) {
                continue;
            }
            let Some(compared) = selecting_value(&request, &name, comparison) else { continue };
            let Ok(value) = HeaderValue::from_bytes(&compared) else { continue };
            let mut again = HeaderMap::new();
            again.insert(name.clone(), value);
            let again = selecting_value(&again, &name, comparison);
            assert_eq!(again.as_deref(), Some(&*compared), "{name}");
        }
    }
    let request = lines(&COOKIE, value);
    let all = CookieRules::default();
    if !request.is_empty() && !all.has_identifying_cookie(&request) {
        let blank = |line: &[u8]| line.iter().all(|byte| b"; \t".contains(byte));
        assert!(field_lines(&request, &COOKIE).all(blank), "a cookie is overlooked");
    }
    let none = CookieRules { ignored: vec!["*".to_owned()], keyed: Vec::new() };
    assert!(!none.has_identifying_cookie(&request));
}

fn check_entity_tags(value: &[u8]) {
    let request = lines(&IF_NONE_MATCH, value);
    for member in field_lines(&request, &IF_NONE_MATCH).flat_map(list_members) {
        let Some(tag) = EntityTag::parse(member) else { continue };
        assert!(tag.weak_eq(tag));
        let mut stored = HeaderMap::new();
        stored.insert(ETAG, HeaderValue::from_bytes(member).unwrap());
        let validators = Validators::of(&stored);
        assert!(not_modified(&request, StatusCode::OK, validators), "a listed tag matches");
    }
}

/// The parts of a response are within its body, and never more bytes than the body has.
fn check_ranges(value: &[u8]) {
    let request = lines(&RANGE, value);
    for length in [0, 1, 1000, u64::MAX] {
        let selection = requested_ranges(&Method::GET, &request, Validators::default(), length);
        let RangeSelection::Parts(parts) = selection else { continue };
        assert!(!parts.is_empty() && parts.len() <= 32);
        assert!(parts.iter().all(|part| part.start < part.end && part.end <= length));
        let sent: u64 = parts.iter().map(|part| part.end - part.start).sum();
        assert!(sent <= length, "{sent} bytes of {length}");
    }
}
