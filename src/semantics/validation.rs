//! Preconditions of a request, answered from a stored response (section 4.3.2).

use actix_web::http::{
    StatusCode,
    header::{DATE, ETAG, HeaderMap, HeaderName, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED},
};

use super::fields::{EntityTag, date_field, http_date, lines, list};
use crate::stored::StoredResponse;

/// Whether the client has what is stored, so that 304 is its answer.
pub(crate) fn not_modified(request: &HeaderMap, stored: &StoredResponse) -> bool {
    // RFC 9110 section 13.2.1: where the answer would be anything but 200, conditions do not count.
    if stored.status() != StatusCode::OK {
        return false;
    }
    // RFC 9110 section 13.1.3: If-None-Match, where present, counts alone.
    if request.contains_key(IF_NONE_MATCH) {
        return none_match_fails(request, stored);
    }
    modified_since_fails(request, stored)
}

/// RFC 9110 section 13.1.2: `*`, or one of the tags by weak comparison.
fn none_match_fails(request: &HeaderMap, stored: &StoredResponse) -> bool {
    let tag = stored.lines(&ETAG).next().and_then(|value| EntityTag::parse(value.as_bytes()));
    lines(request, &IF_NONE_MATCH).flat_map(list).any(|member| {
        member == b"*"
            || tag.is_some_and(|tag| {
                EntityTag::parse(member).is_some_and(|candidate| candidate.weak_eq(tag))
            })
    })
}

/// RFC 9110 section 13.1.3, by `Last-Modified`, or by `Date` where that is missing (section
/// 4.3.2).
fn modified_since_fails(request: &HeaderMap, stored: &StoredResponse) -> bool {
    let Some(since) = date_field(request, &IF_MODIFIED_SINCE) else { return false };
    let date =
        |name: &HeaderName| stored.lines(name).next().and_then(|value| http_date(value.as_bytes()));
    date(&LAST_MODIFIED).or_else(|| date(&DATE)).is_some_and(|modified| modified <= since)
}

/// The fields a 304 carries: what RFC 9110 section 15.4.5 asks for. Of the rest, metadata of a
/// body the client has, only what could guide its updating is meant to be sent.
pub(crate) fn belongs_in_not_modified(name: &HeaderName) -> bool {
    use actix_web::http::header::{
        CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE,
    };
    ![CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE]
        .contains(name)
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;
    use crate::stored::{copy_fields, tests::stored};

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
    fn the_client_that_has_what_is_stored_gets_a_304() {
        let tagged = with(&[(ETAG, "\"a\""), (LAST_MODIFIED, EARLY)]);
        let weak = with(&[(ETAG, "W/\"a\"")]);
        let dated = with(&[(LAST_MODIFIED, LATE)]);
        let plain = with(&[]);
        let sent = with(&[(DATE, EARLY)]);
        let inm = |value| request(&[(IF_NONE_MATCH, value)]);
        let ims = |value| request(&[(IF_MODIFIED_SINCE, value)]);
        for (case, request, stored, want) in [
            ("no condition", request(&[]), &tagged, false),
            ("the tag", inm("\"a\""), &tagged, true),
            ("the tag, weak", inm("W/\"a\""), &tagged, true),
            ("the tag, weak here", inm("\"a\""), &weak, true),
            ("another tag", inm("\"b\""), &tagged, false),
            ("a list", inm("\"x,y\", \"b\" , \"a\""), &tagged, true),
            (
                "two lines",
                request(&[(IF_NONE_MATCH, "\"b\""), (IF_NONE_MATCH, "\"a\"")]),
                &tagged,
                true,
            ),
            ("any tag", inm("*"), &tagged, true),
            ("any tag, none stored", inm("*"), &plain, true),
            ("a tag, none stored", inm("\"a\""), &plain, false),
            ("not quoted", inm("a"), &tagged, false),
            ("date as late", ims(LATE), &dated, true),
            ("date earlier", ims(EARLY), &dated, false),
            ("date later", ims(LATE), &tagged, true),
            ("no date", ims("yesterday"), &tagged, false),
            ("no date stored", ims(LATE), &plain, false),
            ("only Date stored", ims(LATE), &sent, true),
            (
                "another tag outweighs the date",
                request(&[(IF_NONE_MATCH, "\"b\""), (IF_MODIFIED_SINCE, LATE)]),
                &tagged,
                false,
            ),
        ] {
            assert_eq!(not_modified(&request, stored), want, "{case}");
        }
    }

    #[test]
    fn conditions_count_only_where_the_answer_is_200() {
        let mut stored = with(&[(ETAG, "\"a\"")]);
        stored.status = StatusCode::NOT_FOUND;
        assert!(!not_modified(&request(&[(IF_NONE_MATCH, "\"a\"")]), &stored));
    }

    #[test]
    fn ten_thousand_tags_are_read_in_one_pass() {
        let many = "\"x\",".repeat(10_000);
        assert!(!not_modified(&request(&[(IF_NONE_MATCH, &many)]), &with(&[(ETAG, "\"a\"")])));
    }
}
