use actix_web::http::header::HeaderValue;

use super::*;
use crate::entry::{fixtures::stored, response::copy_fields};

const EARLY: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
const LATE: &str = "Mon, 07 Nov 1994 08:49:37 GMT";

fn with(fields: &[(HeaderName, &str)]) -> StoredResponse {
    let fields: Vec<_> = fields
        .iter()
        .map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap()))
        .collect();
    let fields: Vec<_> = fields.iter().map(|(name, value)| (name, value)).collect();
    let fields = copy_fields(&fields);
    StoredResponse { fields, ..stored(0, &[]) }
}

fn request(fields: &[(HeaderName, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in fields {
        map.append(name.clone(), HeaderValue::from_str(value).unwrap());
    }
    map
}

#[test]
fn client_with_the_stored_response_gets_a_304() {
    let tagged = with(&[(ETAG, "\"a\""), (LAST_MODIFIED, EARLY)]);
    let weak = with(&[(ETAG, "W/\"a\"")]);
    let dated = with(&[(LAST_MODIFIED, LATE)]);
    let plain = with(&[]);
    let sent = with(&[(DATE, EARLY)]);
    let inm = |value| request(&[(IF_NONE_MATCH, value)]);
    let ims = |value| request(&[(IF_MODIFIED_SINCE, value)]);
    for (case, request, stored, want) in [
        ("no condition", request(&[]), &tagged, false),
        ("same tag", inm("\"a\""), &tagged, true),
        ("weak form of the tag", inm("W/\"a\""), &tagged, true),
        ("strong form of a weak tag", inm("\"a\""), &weak, true),
        ("other tag", inm("\"b\""), &tagged, false),
        ("list of tags", inm("\"x,y\", \"b\" , \"a\""), &tagged, true),
        (
            "two lines of tags",
            request(&[(IF_NONE_MATCH, "\"b\""), (IF_NONE_MATCH, "\"a\"")]),
            &tagged,
            true,
        ),
        ("any tag", inm("*"), &tagged, true),
        ("any tag, no tag stored", inm("*"), &plain, true),
        ("tag, no tag stored", inm("\"a\""), &plain, false),
        ("tag without quotes", inm("a"), &tagged, false),
        ("equal invalid tags", inm("w\\\"a\""), &with(&[(ETAG, "w\\\"a\"")]), true),
        ("same date", ims(LATE), &dated, true),
        ("earlier date", ims(EARLY), &dated, false),
        ("later date", ims(LATE), &tagged, true),
        ("invalid date", ims("yesterday"), &tagged, false),
        ("no Last-Modified stored", ims(LATE), &plain, false),
        ("only Date stored", ims(LATE), &sent, true),
        (
            "two dates",
            request(&[(IF_MODIFIED_SINCE, LATE), (IF_MODIFIED_SINCE, LATE)]),
            &tagged,
            false,
        ),
        ("tag with white space", inm("\"a\" "), &with(&[(ETAG, " \"a\"")]), true),
        (
            "other tag, same date",
            request(&[(IF_NONE_MATCH, "\"b\""), (IF_MODIFIED_SINCE, LATE)]),
            &tagged,
            false,
        ),
    ] {
        let validators = Validators::of_stored(stored);
        assert_eq!(not_modified(&request, StatusCode::OK, validators), want, "{case}");
        // The result is the same before the response is stored.
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
    let stored = with(&[(ETAG, "\"a\"")]);
    let request = request(&[(IF_NONE_MATCH, "\"a\"")]);
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
    let many = request(&[(IF_NONE_MATCH, &"\"x\",".repeat(10_000))]);
    let stored = with(&[(ETAG, "\"a\"")]);
    assert!(!not_modified(&many, StatusCode::OK, Validators::of_stored(&stored)));
}

#[test]
fn if_match_and_if_unmodified_since_are_left_to_the_handler() {
    assert!(has_handler_only_condition(&request(&[(IF_MATCH, "*")])));
    assert!(has_handler_only_condition(&request(&[(IF_UNMODIFIED_SINCE, LATE)])));
    assert!(!has_handler_only_condition(&request(&[
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
        assert_eq!(has_validator(&request(&fields)), want, "{fields:?}");
    }
}

fn shared(fields: &[(HeaderName, &str)]) -> Arc<StoredResponse> {
    Arc::new(with(fields))
}

#[test]
fn validation_request_has_stored_validators_and_none_of_the_client() {
    let selected = shared(&[(ETAG, "W/\"a\""), (LAST_MODIFIED, EARLY)]);
    let others = [
        shared(&[(ETAG, "\"b\"")]),
        shared(&[(ETAG, "W/\"c\"")]),
        shared(&[]),
        shared(&[(ETAG, "\"b\"")]),
    ];
    let validation = |selected: Option<&Arc<StoredResponse>>, others: &[Arc<StoredResponse>]| {
        let mut fields = request(&[
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
    assert_eq!(validation(Some(&shared(&[])), &[]), (None, None));
    assert_eq!(validation(Some(&shared(&[(LAST_MODIFIED, "odd")])), &[]), (None, None));
    let many: Vec<_> = (0..20).map(|n| shared(&[(ETAG, &format!("\"{n}\""))])).collect();
    let (tags, _) = validation(None, &many);
    assert_eq!(tags.unwrap().matches(',').count() + 1, MAX_OFFERED);
}

#[test]
fn not_modified_response_validates_the_response_with_its_validator() {
    let a = shared(&[(ETAG, "\"a\""), (LAST_MODIFIED, EARLY)]);
    let weak = shared(&[(ETAG, "W/\"w\"")]);
    let b = shared(&[(ETAG, "\"b\"")]);
    let dated = shared(&[(LAST_MODIFIED, EARLY)]);
    let odd = shared(&[(ETAG, "odd")]);
    let none: &[Arc<StoredResponse>] = &[];
    let b_too = std::slice::from_ref(&b);
    for (case, response, selected, others, want) in [
        ("tag of the selected response", vec![(ETAG, "\"a\"")], Some(&a), none, Some(&a)),
        ("unknown strong tag", vec![(ETAG, "\"x\"")], Some(&a), none, None),
        ("tag of another variant", vec![(ETAG, "\"b\"")], Some(&a), b_too, Some(&b)),
        ("tag of another variant, none selected", vec![(ETAG, "\"b\"")], None, b_too, Some(&b)),
        ("weak tag", vec![(ETAG, "W/\"w\"")], Some(&weak), none, Some(&weak)),
        ("weak form of a strong tag", vec![(ETAG, "W/\"a\"")], Some(&a), none, Some(&a)),
        ("strong form of a weak tag", vec![(ETAG, "\"w\"")], Some(&weak), none, None),
        ("unknown weak tag", vec![(ETAG, "W/\"x\"")], Some(&weak), none, None),
        ("equal invalid tags", vec![(ETAG, "odd")], Some(&odd), none, Some(&odd)),
        ("same date", vec![(LAST_MODIFIED, EARLY)], Some(&dated), none, Some(&dated)),
        ("other date", vec![(LAST_MODIFIED, LATE)], Some(&dated), none, None),
        ("no validator, one candidate", vec![], Some(&a), none, Some(&a)),
        ("no validator, two candidates", vec![], Some(&a), b_too, None),
        ("no validator, one candidate, none selected", vec![], None, b_too, Some(&b)),
    ] {
        let got = find_validated(&request(&response), selected, others);
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
    let stored = with(&[
        (ETAG, "\"a\""),
        (CONTENT_TYPE, "text/plain"),
        (CONTENT_ENCODING, "gzip"),
        (DATE, EARLY),
        (name("x-kept"), "1"),
        (name("x-lines"), "1"),
        (name("x-lines"), "2"),
    ]);
    let response = request(&[
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
    let aged = updated_fields(&with(&[(AGE, "9")]), &request(&[(DATE, LATE)]));
    assert!(!aged.contains_key(AGE), "only the new response has an age");
    assert_eq!(aged.get(DATE).unwrap(), LATE);
    let untagged = updated_fields(&with(&[]), &response);
    assert_eq!(untagged.get(ETAG).unwrap(), "W/\"a\"", "the new response adds a validator");
}

#[test]
fn update_starts_from_the_fields_that_the_handler_sent() {
    let mut stored = with(&[(CACHE_CONTROL, "max-age=60"), (EXPIRES, LATE), (ETAG, "\"a\"")]);
    let sent = HeaderValue::from_static("public");
    stored.original_fields = Some(copy_fields(&[(&CACHE_CONTROL, &sent)]));
    let fields = updated_fields(&stored, &request(&[]));
    assert_eq!(fields.get(CACHE_CONTROL).unwrap(), "public");
    assert!(!fields.contains_key(EXPIRES) && fields.contains_key(ETAG));
}

#[test]
fn head_response_validates_the_response_with_its_validators_and_length() {
    let tagged = with(&[(ETAG, "\"a\""), (LAST_MODIFIED, EARLY)]);
    let one = with(&[(ETAG, "\"a\"")]);
    let other = with(&[(LAST_MODIFIED, EARLY)]);
    let plain = with(&[]);
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
        assert_eq!(compare_head(&request(&response), stored), want, "{case}");
    }
}
