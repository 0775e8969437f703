use actix_web::http::header::HeaderValue;

use super::*;
use crate::entry::{fixtures::stored, response_copy::copy_fields};

const EARLY: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
const LATE: &str = "Mon, 07 Nov 1994 08:49:37 GMT";

fn stored_with(fields: &[(HeaderName, &str)]) -> StoredResponse {
    let fields: Vec<_> = fields
        .iter()
        .map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap()))
        .collect();
    let fields = copy_fields(fields.iter().map(|(name, value)| (name, value)));
    StoredResponse { fields: fields.into(), ..stored(0, &[]) }
}

fn header_map(fields: &[(HeaderName, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in fields {
        map.append(name.clone(), HeaderValue::from_str(value).unwrap());
    }
    map
}

#[test]
fn client_with_the_stored_response_gets_a_304() {
    let tagged = stored_with(&[(ETAG, "\"a\""), (LAST_MODIFIED, EARLY)]);
    let weak = stored_with(&[(ETAG, "W/\"a\"")]);
    let dated = stored_with(&[(LAST_MODIFIED, LATE)]);
    let plain = stored_with(&[]);
    let sent = stored_with(&[(DATE, EARLY)]);
    let none_match = |value| header_map(&[(IF_NONE_MATCH, value)]);
    let modified_since = |value| header_map(&[(IF_MODIFIED_SINCE, value)]);
    for (case, request, stored, want) in [
        ("no condition", header_map(&[]), &tagged, false),
        ("same tag", none_match("\"a\""), &tagged, true),
        ("weak form of the tag", none_match("W/\"a\""), &tagged, true),
        ("strong form of a weak tag", none_match("\"a\""), &weak, true),
        ("other tag", none_match("\"b\""), &tagged, false),
        ("list of tags", none_match("\"x,y\", \"b\" , \"a\""), &tagged, true),
        (
            "two lines of tags",
            header_map(&[(IF_NONE_MATCH, "\"b\""), (IF_NONE_MATCH, "\"a\"")]),
            &tagged,
            true,
        ),
        ("any tag", none_match("*"), &tagged, true),
        ("any tag, no tag stored", none_match("*"), &plain, true),
        ("tag, no tag stored", none_match("\"a\""), &plain, false),
        ("tag without quotes", none_match("a"), &tagged, false),
        ("equal invalid tags", none_match("w\\\"a\""), &stored_with(&[(ETAG, "w\\\"a\"")]), true),
        ("same date", modified_since(LATE), &dated, true),
        ("earlier date", modified_since(EARLY), &dated, false),
        ("later date", modified_since(LATE), &tagged, true),
        ("invalid date", modified_since("yesterday"), &tagged, false),
        ("no Last-Modified stored", modified_since(LATE), &plain, false),
        ("only Date stored", modified_since(LATE), &sent, true),
        (
            "two dates",
            header_map(&[(IF_MODIFIED_SINCE, LATE), (IF_MODIFIED_SINCE, LATE)]),
            &tagged,
            false,
        ),
        ("tag with white space", none_match("\"a\" "), &stored_with(&[(ETAG, " \"a\"")]), true),
        (
            "other tag, same date",
            header_map(&[(IF_NONE_MATCH, "\"b\""), (IF_MODIFIED_SINCE, LATE)]),
            &tagged,
            false,
        ),
    ] {
        let validators = Validators::of_stored(stored);
        assert_eq!(not_modified(&request, StatusCode::OK, validators), want, "{case}");
        // The conditions have equal results for the stored response and for the response before it
        // was stored.
        let mut fields = HeaderMap::new();
        for (name, value) in &stored.fields {
            fields.append(name.clone(), value.clone());
        }
        let validators = Validators::of(&fields);
        assert_eq!(not_modified(&request, StatusCode::OK, validators), want, "{case}");
    }
}

#[test]
fn conditions_are_ignored_unless_the_status_is_200() {
    let stored = stored_with(&[(ETAG, "\"a\"")]);
    let request = header_map(&[(IF_NONE_MATCH, "\"a\"")]);
    let validators = Validators::of_stored(&stored);
    for status in [204, 301, 404] {
        let status = StatusCode::from_u16(status).unwrap();
        assert!(!not_modified(&request, status, validators), "{status}");
    }
}

#[test]
fn not_modified_response_has_no_fields_about_the_content() {
    for (name, want) in [
        ("cache-control", true),
        ("content-location", true),
        ("date", true),
        ("etag", true),
        ("expires", true),
        ("vary", true),
        ("last-modified", true),
        ("set-cookie", true),
        ("content-encoding", false),
        ("content-language", false),
        ("content-length", false),
        ("content-range", false),
        ("content-type", false),
    ] {
        assert_eq!(belongs_in_not_modified(&HeaderName::from_static(name)), want, "{name}");
    }
}

#[test]
fn ten_thousand_tags_are_read() {
    let many = header_map(&[(IF_NONE_MATCH, &"\"x\",".repeat(10_000))]);
    let stored = stored_with(&[(ETAG, "\"a\"")]);
    assert!(!not_modified(&many, StatusCode::OK, Validators::of_stored(&stored)));
}

#[test]
fn if_match_and_if_unmodified_since_are_left_to_the_handler() {
    assert!(has_handler_only_condition(&header_map(&[(IF_MATCH, "*")])));
    assert!(has_handler_only_condition(&header_map(&[(IF_UNMODIFIED_SINCE, LATE)])));
    assert!(!has_handler_only_condition(&header_map(&[
        (IF_NONE_MATCH, "*"),
        (IF_MODIFIED_SINCE, LATE)
    ])));
}

#[test]
fn response_with_a_valid_validator_can_be_validated() {
    for (fields, want) in [
        (vec![], false),
        (vec![(ETAG, "\"a\"")], true),
        (vec![(ETAG, "odd")], true),
        (vec![(LAST_MODIFIED, EARLY)], true),
        (vec![(LAST_MODIFIED, "then")], false),
    ] {
        assert_eq!(has_validator(&header_map(&fields)), want, "{fields:?}");
    }
}

fn shared_with(fields: &[(HeaderName, &str)]) -> Arc<StoredResponse> {
    Arc::new(stored_with(fields))
}

#[test]
fn validation_request_has_stored_validators_and_none_of_the_client() {
    let selected = shared_with(&[(ETAG, "W/\"a\""), (LAST_MODIFIED, EARLY)]);
    let others = [
        shared_with(&[(ETAG, "\"b\"")]),
        shared_with(&[(ETAG, "W/\"c\"")]),
        shared_with(&[]),
        shared_with(&[(ETAG, "\"b\"")]),
    ];
    let validation = |selected: Option<&Arc<StoredResponse>>, others: &[Arc<StoredResponse>]| {
        let mut fields = header_map(&[
            (IF_NONE_MATCH, "\"client\""),
            (IF_MODIFIED_SINCE, LATE),
            (RANGE, "bytes=0-1"),
            (IF_RANGE, "\"client\""),
        ]);
        let conditions = ValidationConditions::of(selected.map(|stored| &**stored), others);
        let is_empty = conditions.is_empty();
        conditions.write(&mut fields);
        assert_eq!(fields.is_empty(), is_empty, "no field of the client is left");
        let text = |name| fields.get(name).map(|value| value.to_str().unwrap().to_owned());
        (text(IF_NONE_MATCH), text(IF_MODIFIED_SINCE))
    };
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(validation(Some(&selected), &[]), (some("W/\"a\""), some(EARLY)));
    assert_eq!(validation(Some(&selected), &others), (some("W/\"a\", \"b\""), some(EARLY)));
    assert_eq!(
        validation(None, &others),
        (some("\"b\""), None),
        "weak tags of other variants are not sent"
    );
    assert_eq!(validation(Some(&shared_with(&[])), &[]), (None, None));
    assert_eq!(validation(Some(&shared_with(&[(LAST_MODIFIED, "odd")])), &[]), (None, None));
    let many: Vec<_> = (0..20).map(|n| shared_with(&[(ETAG, &format!("\"{n}\""))])).collect();
    let (tags, _) = validation(None, &many);
    assert_eq!(tags.unwrap().matches(',').count() + 1, MAX_OFFERED);
}

#[test]
fn not_modified_response_validates_the_response_with_its_validator() {
    let a = shared_with(&[(ETAG, "\"a\""), (LAST_MODIFIED, EARLY)]);
    let weak = shared_with(&[(ETAG, "W/\"w\"")]);
    let b = shared_with(&[(ETAG, "\"b\"")]);
    let dated = shared_with(&[(LAST_MODIFIED, EARLY)]);
    let odd = shared_with(&[(ETAG, "odd")]);
    let none: &[Arc<StoredResponse>] = &[];
    let with_b = std::slice::from_ref(&b);
    for (case, response, selected, others, want) in [
        ("tag of the selected response", vec![(ETAG, "\"a\"")], Some(&a), none, Some(&a)),
        ("unknown strong tag", vec![(ETAG, "\"x\"")], Some(&a), none, None),
        ("tag of another variant", vec![(ETAG, "\"b\"")], Some(&a), with_b, Some(&b)),
        ("tag of another variant, none selected", vec![(ETAG, "\"b\"")], None, with_b, Some(&b)),
        ("weak tag", vec![(ETAG, "W/\"w\"")], Some(&weak), none, Some(&weak)),
        ("weak form of a strong tag", vec![(ETAG, "W/\"a\"")], Some(&a), none, Some(&a)),
        ("strong form of a weak tag", vec![(ETAG, "\"w\"")], Some(&weak), none, None),
        ("unknown weak tag", vec![(ETAG, "W/\"x\"")], Some(&weak), none, None),
        ("equal invalid tags", vec![(ETAG, "odd")], Some(&odd), none, Some(&odd)),
        ("same date", vec![(LAST_MODIFIED, EARLY)], Some(&dated), none, Some(&dated)),
        ("other date", vec![(LAST_MODIFIED, LATE)], Some(&dated), none, None),
        ("no validator, one candidate", vec![], Some(&a), none, Some(&a)),
        ("no validator, two candidates", vec![], Some(&a), with_b, None),
        ("no validator, one candidate, none selected", vec![], None, with_b, Some(&b)),
    ] {
        let got = find_validated(&header_map(&response), selected, others);
        let same = match (&got, want) {
            (Some(got), Some(want)) => Arc::ptr_eq(got, want),
            (None, None) => true,
            _ => false,
        };
        assert!(same, "{case}: {got:?}");
    }
}

#[test]
fn update_keeps_the_fields_that_describe_the_content() {
    let name = HeaderName::from_static;
    let stored = stored_with(&[
        (ETAG, "\"a\""),
        (CONTENT_TYPE, "text/plain"),
        (CONTENT_ENCODING, "gzip"),
        (DATE, EARLY),
        (name("x-kept"), "1"),
        (name("x-lines"), "1"),
        (name("x-lines"), "2"),
    ]);
    let response = header_map(&[
        (ETAG, "W/\"a\""),
        (CONTENT_TYPE, "text/html"),
        (CONTENT_ENCODING, "br"),
        (CONTENT_LENGTH, "9"),
        (name("x-lines"), "3"),
        (name("x-new"), "4"),
    ]);
    let fields = updated_fields(&stored, &response);
    let text = |name: &HeaderName| {
        let all: Vec<_> = fields.get_all(name).map(|value| value.to_str().unwrap()).collect();
        all.join("|")
    };
    for (field, want) in [
        (ETAG, "\"a\""),
        (CONTENT_TYPE, "text/html"),
        (CONTENT_ENCODING, "gzip"),
        (CONTENT_LENGTH, ""),
        (DATE, ""),
        (name("x-kept"), "1"),
        (name("x-lines"), "3"),
        (name("x-new"), "4"),
    ] {
        assert_eq!(text(&field), want, "{field}");
    }
    assert!(!fields.contains_key(AGE));
    let aged = updated_fields(&stored_with(&[(AGE, "9")]), &header_map(&[(DATE, LATE)]));
    assert!(!aged.contains_key(AGE), "only the new response has an age");
    assert_eq!(aged.get(DATE).unwrap(), LATE);
    let untagged = updated_fields(&stored_with(&[]), &response);
    assert_eq!(untagged.get(ETAG).unwrap(), "W/\"a\"", "the new response adds a validator");
}

/// A new content security policy with another nonce would block all scripts of the stored content.
#[test]
fn update_keeps_a_policy_with_nonces_or_hashes() {
    use actix_web::http::header::{
        CONTENT_SECURITY_POLICY as CSP, CONTENT_SECURITY_POLICY_REPORT_ONLY as REPORT_ONLY,
    };
    let (old, new) = ("script-src 'nonce-old'", "script-src 'nonce-new'");
    let (hash, plain) = ("script-src 'sha256-abc='", "default-src 'self'");
    for (stored, sent, want) in [
        (Some(old), Some(new), Some(old)),
        (Some(hash), Some(plain), Some(hash)),
        (Some(plain), Some(new), Some(plain)),
        (None, Some(new), None),
        (Some(old), None, Some(old)),
        (Some(plain), Some("default-src 'none'"), Some("default-src 'none'")),
    ] {
        for name in [CSP, REPORT_ONLY] {
            let field = |value: Option<&'static str>| value.map(|value| (name.clone(), value));
            let stored = stored_with(field(stored).as_slice());
            let fields = updated_fields(&stored, &header_map(field(sent).as_slice()));
            let got = fields.get(&name).map(|value| value.to_str().unwrap());
            assert_eq!(got, want, "{name}: {sent:?}");
        }
    }
    let stored = stored_with(&[(CSP, plain), (REPORT_ONLY, old)]);
    let fields = updated_fields(&stored, &header_map(&[(CSP, "default-src 'none'")]));
    assert_eq!(fields.get(CSP).unwrap(), "default-src 'none'", "each field for itself");
}

#[test]
fn update_starts_from_the_fields_that_the_handler_sent() {
    let mut stored =
        stored_with(&[(CACHE_CONTROL, "max-age=60"), (EXPIRES, LATE), (ETAG, "\"a\"")]);
    let sent = HeaderValue::from_static("public");
    stored.original_fields = Some(copy_fields([(&CACHE_CONTROL, &sent)].into_iter()));
    let fields = updated_fields(&stored, &header_map(&[]));
    assert_eq!(fields.get(CACHE_CONTROL).unwrap(), "public");
    assert!(!fields.contains_key(EXPIRES) && fields.contains_key(ETAG));
}

#[test]
fn head_response_validates_the_response_with_its_validators_and_length() {
    let tagged = stored_with(&[(ETAG, "\"a\""), (LAST_MODIFIED, EARLY)]);
    let one = stored_with(&[(ETAG, "\"a\"")]);
    let other = stored_with(&[(LAST_MODIFIED, EARLY)]);
    let plain = stored_with(&[]);
    let missing = StoredResponse { status: StatusCode::NOT_FOUND, ..tagged.clone() };
    let lifetime = (CACHE_CONTROL, "max-age=1");
    for (case, response, stored, want) in [
        (
            "same tag and date",
            vec![(ETAG, "\"a\""), (LAST_MODIFIED, EARLY)],
            &tagged,
            HeadVerdict::Holds,
        ),
        ("same tag, no date", vec![(ETAG, "\"a\"")], &tagged, HeadVerdict::Holds),
        ("other tag", vec![(ETAG, "\"b\"")], &tagged, HeadVerdict::Outdated),
        ("weak form of the tag", vec![(ETAG, "W/\"a\"")], &tagged, HeadVerdict::Outdated),
        (
            "other date",
            vec![(ETAG, "\"a\""), (LAST_MODIFIED, LATE)],
            &tagged,
            HeadVerdict::Outdated,
        ),
        ("neither tag nor date", vec![lifetime.clone()], &tagged, HeadVerdict::Nothing),
        ("no tag", vec![lifetime.clone()], &one, HeadVerdict::Nothing),
        ("no date", vec![lifetime.clone()], &other, HeadVerdict::Nothing),
        ("only the same length", vec![(CONTENT_LENGTH, "4")], &tagged, HeadVerdict::Nothing),
        ("other length", vec![(CONTENT_LENGTH, "5")], &tagged, HeadVerdict::Outdated),
        ("no validators stored", vec![], &plain, HeadVerdict::Nothing),
        ("no validators stored, a lifetime", vec![lifetime], &plain, HeadVerdict::Holds),
        ("tag, none stored", vec![(ETAG, "\"a\"")], &plain, HeadVerdict::Outdated),
        ("404 stored", vec![(ETAG, "\"a\"")], &missing, HeadVerdict::Outdated),
    ] {
        assert_eq!(compare_head(&header_map(&response), stored), want, "{case}");
    }
}
