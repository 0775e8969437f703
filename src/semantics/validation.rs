//! Preconditions: those of clients, answered from what is stored (section 4.3.2), and those by
//! which what is stored is validated with the handler (sections 4.3.1, 4.3.3 to 4.3.5).

use std::{sync::Arc, time::SystemTime};

use actix_web::http::{
    StatusCode,
    header::{
        AGE, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, DATE,
        ETAG, EXPIRES, HeaderMap, HeaderName, HeaderValue, IF_MATCH, IF_MODIFIED_SINCE,
        IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, LAST_MODIFIED, RANGE,
    },
};

use super::fields::{EntityTag, date_field, http_date, lines, list, trim};
use crate::entry::response::StoredResponse;

/// Entity tags offered to the handler at most, the selected response's included.
const MAX_OFFERED: usize = 8;

/// The conditions of clients that a cache judges in the handler's place, and what hangs on them.
pub(crate) const CONDITIONS: [HeaderName; 4] = [IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_RANGE, RANGE];

/// What tells a representation from others of its resource.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Validators<'a> {
    /// `ETag`, as it stands.
    pub(crate) tag: Option<&'a [u8]>,
    pub(crate) modified: Option<SystemTime>,
    pub(crate) date: Option<SystemTime>,
}

impl<'a> Validators<'a> {
    pub(crate) fn of(fields: &'a HeaderMap) -> Self {
        Self {
            tag: lines(fields, &ETAG).next().map(trim),
            modified: date_field(fields, &LAST_MODIFIED),
            date: date_field(fields, &DATE),
        }
    }

    pub(crate) fn of_stored(stored: &'a StoredResponse) -> Self {
        let first = |name: &HeaderName| stored.lines(name).next().map(HeaderValue::as_bytes);
        Self {
            tag: first(&ETAG).map(trim),
            modified: first(&LAST_MODIFIED).and_then(http_date),
            date: first(&DATE).and_then(http_date),
        }
    }

    fn strong_tag(&self) -> Option<&'a [u8]> {
        self.tag.filter(|tag| EntityTag::parse(tag).is_some_and(EntityTag::is_strong))
    }
}

/// Whether the handler could be asked if a response still holds (section 4.3.1).
pub(crate) fn has_validator(response: &HeaderMap) -> bool {
    response.contains_key(ETAG) || date_field(response, &LAST_MODIFIED).is_some()
}

/// Whether only the handler can judge a request's conditions: section 4.3.2 calls `If-Match` and
/// `If-Unmodified-Since` not applicable to a cache.
pub(crate) fn has_handler_only_condition(request: &HeaderMap) -> bool {
    request.contains_key(IF_MATCH) || request.contains_key(IF_UNMODIFIED_SINCE)
}

/// Whether the client has the representation already, so that 304 is its answer.
pub(crate) fn not_modified(
    request: &HeaderMap,
    status: StatusCode,
    validators: Validators<'_>,
) -> bool {
    // RFC 9110 section 13.2.1: where the answer would be anything but 200, conditions do not count.
    if status != StatusCode::OK {
        return false;
    }
    // RFC 9110 section 13.1.3: If-None-Match, where present, counts alone.
    if request.contains_key(IF_NONE_MATCH) {
        return none_match_fails(request, validators.tag);
    }
    modified_since_fails(request, validators)
}

/// RFC 9110 section 13.1.2: `*`, or one of the tags by weak comparison. Tags that are equal to the
/// letter are the same although their form is not valid.
fn none_match_fails(request: &HeaderMap, tag: Option<&[u8]>) -> bool {
    let parsed = tag.and_then(EntityTag::parse);
    lines(request, &IF_NONE_MATCH).flat_map(list).any(|member| {
        let weakly = |tag| EntityTag::parse(member).is_some_and(|other| other.weak_eq(tag));
        member == b"*" || Some(member) == tag || parsed.is_some_and(weakly)
    })
}

/// RFC 9110 section 13.1.3, by `Last-Modified`, or by `Date` where that is missing (section
/// 4.3.2).
fn modified_since_fails(request: &HeaderMap, validators: Validators<'_>) -> bool {
    let Some(since) = date_field(request, &IF_MODIFIED_SINCE) else { return false };
    validators.modified.or(validators.date).is_some_and(|modified| modified <= since)
}

/// The fields a 304 carries: what RFC 9110 section 15.4.5 asks for. Of the rest, metadata of a
/// body the client has, only what could guide its updating is meant to be sent.
pub(crate) fn belongs_in_not_modified(name: &HeaderName) -> bool {
    use actix_web::http::header::CONTENT_LANGUAGE;
    ![CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE]
        .contains(name)
}

/// Takes the client's conditions out of a request whose answer is to be complete; they are applied
/// to that answer.
pub(crate) fn remove_conditions(request: &mut HeaderMap) {
    for name in CONDITIONS {
        request.remove(name);
    }
}

/// The conditions that ask whether what is stored still holds (section 4.3.1).
#[derive(Debug, Clone, Default)]
pub(crate) struct ValidationConditions {
    tags: Option<HeaderValue>,
    modified: Option<HeaderValue>,
}

impl ValidationConditions {
    /// The validators of the response that a request selects, and the strong entity tags of the
    /// resource's other variants.
    pub(crate) fn of(selected: Option<&StoredResponse>, others: &[Arc<StoredResponse>]) -> Self {
        let own = selected.map(Validators::of_stored).unwrap_or_default();
        let mut tags: Vec<&[u8]> = own.tag.into_iter().collect();
        for other in others {
            if let Some(tag) = Validators::of_stored(other).strong_tag()
                && tags.len() < MAX_OFFERED
                && !tags.contains(&tag)
            {
                tags.push(tag);
            }
        }
        let joined = (!tags.is_empty()).then(|| tags.join(&b", "[..]));
        let modified = selected.and_then(|stored| stored.lines(&LAST_MODIFIED).next());
        Self {
            tags: joined.and_then(|tags| HeaderValue::from_bytes(&tags).ok()),
            modified: modified.filter(|_| own.modified.is_some()).cloned(),
        }
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.tags.is_none() && self.modified.is_none()
    }

    /// Makes a request conditional, in place of whatever conditions it has.
    pub(crate) fn write(self, request: &mut HeaderMap) {
        remove_conditions(request);
        if let Some(tags) = self.tags {
            request.insert(IF_NONE_MATCH, tags);
        }
        if let Some(modified) = self.modified {
            request.insert(IF_MODIFIED_SINCE, modified);
        }
    }
}

/// Which stored response a 304 speaks of (section 4.3.4).
pub(crate) fn find_validated(
    not_modified: &HeaderMap,
    selected: Option<&Arc<StoredResponse>>,
    others: &[Arc<StoredResponse>],
) -> Option<Arc<StoredResponse>> {
    let new = Validators::of(not_modified);
    let candidates = || selected.into_iter().chain(others);
    let found = if let Some(tag) = new.strong_tag() {
        candidates().find(|stored| Validators::of_stored(stored).strong_tag() == Some(tag))
    } else if let Some(tag) = new.tag {
        // A weak one, or one that only looks like a tag: the most recent that matches.
        let same = |stored: &&Arc<StoredResponse>| {
            Validators::of_stored(stored).tag.is_some_and(|old| same_tag(old, tag))
        };
        candidates().find(same)
    } else if let Some(modified) = new.modified {
        selected.filter(|stored| Validators::of_stored(stored).modified == Some(modified))
    } else {
        // No validator at all: it can only be about what was asked about, if that is one.
        match (selected, others) {
            (Some(only), []) | (None, [only]) => Some(only),
            _ => None,
        }
    };
    found.cloned()
}

fn same_tag(one: &[u8], other: &[u8]) -> bool {
    let weakly = || Some(EntityTag::parse(one)?.weak_eq(EntityTag::parse(other)?));
    one == other || weakly().unwrap_or(false)
}

/// The fields of a stored response after an answer without content said that it still holds
/// (section 3.2): those of the answer replace the stored ones, but for what the stored bytes
/// depend on. `Age` and `Date` are only the answer's.
pub(crate) fn updated(stored: &StoredResponse, answer: &HeaderMap) -> HeaderMap {
    // A tag that is only weaker or stronger than the stored one does not replace it.
    let has_tag = stored.lines(&ETAG).next().is_some();
    let depended = |name: &HeaderName| {
        [CONTENT_LENGTH, CONTENT_ENCODING, CONTENT_RANGE].contains(name)
            || (*name == ETAG && has_tag)
    };
    let mut fields = HeaderMap::new();
    for (name, value) in stored.as_handler_sent() {
        let renewed = answer.contains_key(name) && !depended(name);
        if !renewed && ![AGE, DATE].contains(name) {
            fields.append(name.clone(), value.clone());
        }
    }
    for (name, value) in answer.iter().filter(|(name, _)| !depended(name)) {
        fields.append(name.clone(), value.clone());
    }
    fields
}

/// What a 200 to HEAD says of a stored response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HeadVerdict {
    /// That it still holds.
    Holds,
    /// That it does not.
    Outdated,
    /// Nothing.
    Nothing,
}

/// Whether a stored response is what GET would answer now, by the 200 to HEAD (section 4.3.5): all
/// validators that one has are the stored ones, and so is the length it states.
///
/// One that has none of the stored validators says nothing, whatever the section makes of it:
/// handlers for HEAD alone often send an empty head. Where there are none to send, it has to state
/// a lifetime.
pub(crate) fn compare_head(answer: &HeaderMap, stored: &StoredResponse) -> HeadVerdict {
    let (new, old) = (Validators::of(answer), Validators::of_stored(stored));
    let length = lines(answer, &CONTENT_LENGTH).next();
    let same = stored.status == StatusCode::OK
        && new.tag.is_none_or(|tag| old.tag == Some(tag))
        && new.modified.is_none_or(|modified| old.modified == Some(modified))
        && length.is_none_or(|length| length == stored.body.len().to_string().as_bytes());
    let identifies = if old.tag.is_some() || old.modified.is_some() {
        new.tag.is_some() || new.modified.is_some()
    } else {
        answer.contains_key(CACHE_CONTROL) || answer.contains_key(EXPIRES)
    };
    match (same, identifies) {
        (false, _) => HeadVerdict::Outdated,
        (true, true) => HeadVerdict::Holds,
        (true, false) => HeadVerdict::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;
    use crate::{entry::fixtures::stored, entry::response::copy_fields};

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
            ("alike though invalid", inm("w\\\"a\""), &with(&[(ETAG, "w\\\"a\"")]), true),
            ("date as late", ims(LATE), &dated, true),
            ("date earlier", ims(EARLY), &dated, false),
            ("date later", ims(LATE), &tagged, true),
            ("no date", ims("yesterday"), &tagged, false),
            ("no date stored", ims(LATE), &plain, false),
            ("only Date stored", ims(LATE), &sent, true),
            (
                "two dates",
                request(&[(IF_MODIFIED_SINCE, LATE), (IF_MODIFIED_SINCE, LATE)]),
                &tagged,
                false,
            ),
            ("a tag with white space", inm("\"a\" "), &with(&[(ETAG, " \"a\"")]), true),
            (
                "another tag outweighs the date",
                request(&[(IF_NONE_MATCH, "\"b\""), (IF_MODIFIED_SINCE, LATE)]),
                &tagged,
                false,
            ),
        ] {
            let validators = Validators::of_stored(stored);
            assert_eq!(not_modified(&request, StatusCode::OK, validators), want, "{case}");
            // The same fields before they are stored say the same.
            let mut fields = HeaderMap::new();
            for (name, value) in &stored.fields {
                fields.append(name.clone(), value.clone());
            }
            let validators = Validators::of(&fields);
            assert_eq!(not_modified(&request, StatusCode::OK, validators), want, "{case}");
        }
    }

    #[test]
    fn conditions_count_only_where_the_answer_is_200() {
        let stored = with(&[(ETAG, "\"a\"")]);
        let request = request(&[(IF_NONE_MATCH, "\"a\"")]);
        let validators = Validators::of_stored(&stored);
        for status in [204, 301, 404] {
            let status = StatusCode::from_u16(status).unwrap();
            assert!(!not_modified(&request, status, validators), "{status}");
        }
    }

    #[test]
    fn a_304_carries_what_rfc_9110_section_15_4_5_asks_for_and_no_metadata_of_a_body() {
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
    fn ten_thousand_tags_are_read_in_one_pass() {
        let many = request(&[(IF_NONE_MATCH, &"\"x\",".repeat(10_000))]);
        let stored = with(&[(ETAG, "\"a\"")]);
        assert!(!not_modified(&many, StatusCode::OK, Validators::of_stored(&stored)));
    }

    #[test]
    fn only_the_handler_judges_what_protects_its_state() {
        assert!(has_handler_only_condition(&request(&[(IF_MATCH, "*")])));
        assert!(has_handler_only_condition(&request(&[(IF_UNMODIFIED_SINCE, LATE)])));
        assert!(!has_handler_only_condition(&request(&[
            (IF_NONE_MATCH, "*"),
            (IF_MODIFIED_SINCE, LATE)
        ])));
    }

    #[test]
    fn what_has_a_validator_can_be_validated() {
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
    fn a_validation_offers_what_is_stored_and_nothing_of_the_clients() {
        let selected = shared(&[(ETAG, "W/\"a\""), (LAST_MODIFIED, EARLY)]);
        let others = [
            shared(&[(ETAG, "\"b\"")]),
            shared(&[(ETAG, "W/\"c\"")]),
            shared(&[]),
            shared(&[(ETAG, "\"b\"")]),
        ];
        let asked = |selected: Option<&Arc<StoredResponse>>, others: &[Arc<StoredResponse>]| {
            let mut fields = request(&[
                (IF_NONE_MATCH, "\"client\""),
                (IF_MODIFIED_SINCE, LATE),
                (RANGE, "bytes=0-1"),
                (IF_RANGE, "\"client\""),
            ]);
            let offer = ValidationConditions::of(selected.map(|stored| &**stored), others);
            let empty = offer.is_empty();
            offer.write(&mut fields);
            assert_eq!(fields.is_empty(), empty, "nothing of the client's is left");
            let text = |name| fields.get(name).map(|value| value.to_str().unwrap().to_owned());
            (text(IF_NONE_MATCH), text(IF_MODIFIED_SINCE))
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(asked(Some(&selected), &[]), (some("W/\"a\""), some(EARLY)));
        assert_eq!(asked(Some(&selected), &others), (some("W/\"a\", \"b\""), some(EARLY)));
        assert_eq!(asked(None, &others), (some("\"b\""), None), "weak tags only of the selected");
        assert_eq!(asked(Some(&shared(&[])), &[]), (None, None));
        assert_eq!(asked(Some(&shared(&[(LAST_MODIFIED, "odd")])), &[]), (None, None));
        let many: Vec<_> = (0..20).map(|n| shared(&[(ETAG, &format!("\"{n}\""))])).collect();
        let (tags, _) = asked(None, &many);
        assert_eq!(tags.unwrap().matches(',').count() + 1, MAX_OFFERED);
    }

    #[test]
    fn a_304_speaks_of_the_response_whose_validator_it_has() {
        let a = shared(&[(ETAG, "\"a\""), (LAST_MODIFIED, EARLY)]);
        let weak = shared(&[(ETAG, "W/\"w\"")]);
        let b = shared(&[(ETAG, "\"b\"")]);
        let dated = shared(&[(LAST_MODIFIED, EARLY)]);
        let odd = shared(&[(ETAG, "odd")]);
        let none: &[Arc<StoredResponse>] = &[];
        let b_too = std::slice::from_ref(&b);
        for (case, answer, selected, others, want) in [
            ("its own tag", vec![(ETAG, "\"a\"")], Some(&a), none, Some(&a)),
            ("another strong tag", vec![(ETAG, "\"x\"")], Some(&a), none, None),
            ("another variant's", vec![(ETAG, "\"b\"")], Some(&a), b_too, Some(&b)),
            ("another variant's, none selected", vec![(ETAG, "\"b\"")], None, b_too, Some(&b)),
            ("weak", vec![(ETAG, "W/\"w\"")], Some(&weak), none, Some(&weak)),
            ("weak of a strong one", vec![(ETAG, "W/\"a\"")], Some(&a), none, Some(&a)),
            ("strong of a weak one", vec![(ETAG, "\"w\"")], Some(&weak), none, None),
            ("other weak", vec![(ETAG, "W/\"x\"")], Some(&weak), none, None),
            ("alike though invalid", vec![(ETAG, "odd")], Some(&odd), none, Some(&odd)),
            ("its date", vec![(LAST_MODIFIED, EARLY)], Some(&dated), none, Some(&dated)),
            ("another date", vec![(LAST_MODIFIED, LATE)], Some(&dated), none, None),
            ("nothing, one asked about", vec![], Some(&a), none, Some(&a)),
            ("nothing, two asked about", vec![], Some(&a), b_too, None),
            ("nothing, one other asked about", vec![], None, b_too, Some(&b)),
        ] {
            let got = find_validated(&request(&answer), selected, others);
            let same = match (&got, want) {
                (Some(got), Some(want)) => Arc::ptr_eq(got, want),
                (None, None) => true,
                _ => false,
            };
            assert!(same, "{case}: {got:?}");
        }
    }

    #[test]
    fn an_update_replaces_fields_but_what_the_bytes_depend_on() {
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
        let answer = request(&[
            (ETAG, "W/\"a\""),
            (CONTENT_TYPE, "text/html"),
            (CONTENT_ENCODING, "br"),
            (CONTENT_LENGTH, "9"),
            (name("x-lines"), "3"),
            (name("x-new"), "4"),
        ]);
        let fields = updated(&stored, &answer);
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
        let aged = updated(&with(&[(AGE, "9")]), &request(&[(DATE, LATE)]));
        assert!(!aged.contains_key(AGE), "how old the answer is, only the answer says");
        assert_eq!(aged.get(DATE).unwrap(), LATE);
        let untagged = updated(&with(&[]), &answer);
        assert_eq!(untagged.get(ETAG).unwrap(), "W/\"a\"", "a validator may be learnt");
    }

    #[test]
    fn an_update_starts_from_what_the_handler_sent() {
        let mut stored = with(&[(CACHE_CONTROL, "max-age=60"), (EXPIRES, LATE), (ETAG, "\"a\"")]);
        let sent = HeaderValue::from_static("public");
        stored.original_fields = Some(copy_fields(&[(&CACHE_CONTROL, &sent)]));
        let fields = updated(&stored, &request(&[]));
        assert_eq!(fields.get(CACHE_CONTROL).unwrap(), "public");
        assert!(!fields.contains_key(EXPIRES) && fields.contains_key(ETAG));
    }

    #[test]
    fn a_200_to_head_speaks_of_what_has_its_validators_and_length() {
        let tagged = with(&[(ETAG, "\"a\""), (LAST_MODIFIED, EARLY)]);
        let one = with(&[(ETAG, "\"a\"")]);
        let other = with(&[(LAST_MODIFIED, EARLY)]);
        let plain = with(&[]);
        let missing = StoredResponse { status: StatusCode::NOT_FOUND, ..tagged.clone() };
        let lifetime = (CACHE_CONTROL, "max-age=1");
        for (case, answer, stored, want) in [
            (
                "the same",
                vec![(ETAG, "\"a\""), (LAST_MODIFIED, EARLY)],
                &tagged,
                HeadVerdict::Holds,
            ),
            ("one of two", vec![(ETAG, "\"a\"")], &tagged, HeadVerdict::Holds),
            ("another tag", vec![(ETAG, "\"b\"")], &tagged, HeadVerdict::Outdated),
            ("weaker tag", vec![(ETAG, "W/\"a\"")], &tagged, HeadVerdict::Outdated),
            (
                "another date",
                vec![(ETAG, "\"a\""), (LAST_MODIFIED, LATE)],
                &tagged,
                HeadVerdict::Outdated,
            ),
            ("no validators", vec![lifetime.clone()], &tagged, HeadVerdict::Nothing),
            ("no validators of one", vec![lifetime.clone()], &one, HeadVerdict::Nothing),
            ("no validators of another", vec![lifetime.clone()], &other, HeadVerdict::Nothing),
            ("the length alone", vec![(CONTENT_LENGTH, "4")], &tagged, HeadVerdict::Nothing),
            ("another length", vec![(CONTENT_LENGTH, "5")], &tagged, HeadVerdict::Outdated),
            ("none to send", vec![], &plain, HeadVerdict::Nothing),
            ("none to send, a lifetime", vec![lifetime], &plain, HeadVerdict::Holds),
            ("a tag, none stored", vec![(ETAG, "\"a\"")], &plain, HeadVerdict::Outdated),
            ("no longer missing", vec![(ETAG, "\"a\"")], &missing, HeadVerdict::Outdated),
        ] {
            assert_eq!(compare_head(&request(&answer), stored), want, "{case}");
        }
    }
}
