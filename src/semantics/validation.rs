//! Conditional requests (RFC 9111 section 4.3). The cache evaluates the conditions in requests of
//! clients. The cache also writes conditions of its own into a request, so that the handler
//! validates stored responses.

use std::{sync::Arc, time::SystemTime};

use actix_web::http::{
    StatusCode,
    header::{
        AGE, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, DATE,
        ETAG, EXPIRES, HeaderMap, HeaderName, HeaderValue, IF_MATCH, IF_MODIFIED_SINCE,
        IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, LAST_MODIFIED, RANGE,
    },
};

use super::{
    content_security_policy::{POLICY_FIELDS, fits_one_content},
    dates::{date_field, http_date},
    fields::{EntityTag, field_lines, list_members, trim},
};
use crate::entry::response::StoredResponse;

/// The largest number of entity tags in a validation request.
const MAX_OFFERED: usize = 8;

/// The conditions (and `Range`) that the cache removes from a request to the handler and evaluates
/// itself.
pub(crate) const CONDITIONS: [HeaderName; 4] = [IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_RANGE, RANGE];

/// The validators of a response, `ETag` and `Last-Modified`: they tell its representation from
/// other representations of the resource. `Date` is included, because it shows whether
/// `Last-Modified` is a strong validator.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Validators<'a> {
    /// The value of `ETag` as the handler sent it, even if it is not a valid entity tag.
    pub(crate) tag: Option<&'a [u8]>,
    /// `Last-Modified`.
    pub(crate) modified: Option<SystemTime>,
    /// `Date`.
    pub(crate) date: Option<SystemTime>,
}

impl<'a> Validators<'a> {
    /// Reads the validators of a response.
    pub(crate) fn of(fields: &'a HeaderMap) -> Self {
        Self {
            tag: field_lines(fields, &ETAG).next().map(trim),
            modified: date_field(fields, &LAST_MODIFIED),
            date: date_field(fields, &DATE),
        }
    }

    /// Reads the validators of a response that the conditions of a request are compared with. The dates
    /// are read only if the request has a condition that needs them.
    pub(crate) fn for_request(request: &HeaderMap, fields: &'a HeaderMap) -> Self {
        let needs_dates = request.contains_key(IF_RANGE)
            || (request.contains_key(IF_MODIFIED_SINCE) && !request.contains_key(IF_NONE_MATCH));
        if needs_dates {
            return Self::of(fields);
        }
        Self { tag: field_lines(fields, &ETAG).next().map(trim), ..Self::default() }
    }

    /// Reads the validators of a stored response that its handler knows: an `ETag` that the cache made
    /// is none of them.
    pub(crate) fn of_stored(stored: &'a StoredResponse) -> Self {
        let first = |name: &HeaderName| stored.lines(name).next().map(HeaderValue::as_bytes);
        Self {
            tag: stored.etag_of_handler().map(|tag| trim(tag.as_bytes())),
            modified: first(&LAST_MODIFIED).and_then(http_date),
            date: first(&DATE).and_then(http_date),
        }
    }

    fn strong_tag(&self) -> Option<&'a [u8]> {
        self.tag.filter(|tag| EntityTag::parse(tag).is_some_and(EntityTag::is_strong))
    }
}

/// Returns whether a response has a validator (`ETag` or `Last-Modified`), by which the handler can
/// validate the stored response (section 4.3.1).
pub(crate) fn has_validator(response: &HeaderMap) -> bool {
    response.contains_key(ETAG) || date_field(response, &LAST_MODIFIED).is_some()
}

/// Returns whether a request has a condition that only the handler can evaluate.
///
/// These conditions are `If-Match` and `If-Unmodified-Since`, which do not apply to a cache
/// (section 4.3.2).
pub(crate) fn has_handler_only_condition(request: &HeaderMap) -> bool {
    request.contains_key(IF_MATCH) || request.contains_key(IF_UNMODIFIED_SINCE)
}

/// Returns whether the conditions of a request show that the client already has the representation,
/// so that the client gets a 304.
pub(crate) fn not_modified(
    request: &HeaderMap,
    status: StatusCode,
    validators: Validators<'_>,
) -> bool {
    // RFC 9110 section 13.2.1: conditions only apply if the response without them would be
    // successful. A 304 can only replace a 200.
    if status != StatusCode::OK {
        return false;
    }
    // RFC 9110 section 13.1.3: `If-None-Match` overrides `If-Modified-Since`.
    if request.contains_key(IF_NONE_MATCH) {
        return is_none_match_false(request, validators.tag);
    }
    is_modified_since_false(request, validators)
}

/// Returns whether `If-None-Match` is false (RFC 9110 section 13.1.2): its value is `*`, or one of
/// its entity tags matches `tag` by weak comparison. An invalid entity tag matches only if its
/// bytes equal those of `tag`.
fn is_none_match_false(request: &HeaderMap, tag: Option<&[u8]>) -> bool {
    let parsed = tag.and_then(EntityTag::parse);
    field_lines(request, &IF_NONE_MATCH).flat_map(list_members).any(|member| {
        let matches = |tag| EntityTag::parse(member).is_some_and(|other| other.weak_eq(tag));
        member == b"*" || Some(member) == tag || parsed.is_some_and(matches)
    })
}

/// Returns whether `If-Modified-Since` is false (RFC 9110 section 13.1.3). For a response without
/// `Last-Modified`, `Date` is compared (section 4.3.2).
fn is_modified_since_false(request: &HeaderMap, validators: Validators<'_>) -> bool {
    let Some(since) = date_field(request, &IF_MODIFIED_SINCE) else { return false };
    validators.modified.or(validators.date).is_some_and(|modified| modified <= since)
}

/// Returns whether a field of a stored response is sent in a 304 response (RFC 9110 section
/// 15.4.5). Fields that describe the content are not sent, because the client already has the
/// content and these fields.
pub(crate) fn belongs_in_not_modified(name: &HeaderName) -> bool {
    use actix_web::http::header::CONTENT_LANGUAGE;
    ![CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE]
        .contains(name)
}

/// Removes the client's conditions and `Range` from a request, so that the handler returns a
/// complete response.
///
/// The cache then evaluates the removed conditions and `Range` against this response.
pub(crate) fn remove_conditions(request: &mut HeaderMap) {
    for name in CONDITIONS {
        request.remove(name);
    }
}

/// The conditions that the cache sends to the handler in a validation request (section 4.3.1).
#[derive(Debug, Clone, Default)]
pub(crate) struct ValidationConditions {
    /// The value of `If-None-Match`.
    tags: Option<HeaderValue>,
    /// The value of `If-Modified-Since`.
    modified: Option<HeaderValue>,
}

impl ValidationConditions {
    /// Creates conditions from the validators of the selected stored response, and from the strong
    /// entity tags of the other variants of its resource.
    pub(crate) fn of(selected: Option<&StoredResponse>, others: &[Arc<StoredResponse>]) -> Self {
        let validators = selected.map(Validators::of_stored).unwrap_or_default();
        let mut tags: Vec<&[u8]> = validators.tag.into_iter().collect();
        for other in others {
            if let Some(tag) = Validators::of_stored(other).strong_tag()
                && tags.len() < MAX_OFFERED
                && !tags.contains(&tag)
            {
                tags.push(tag);
            }
        }
        let list = (!tags.is_empty()).then(|| tags.join(&b", "[..]));
        let modified = selected.and_then(|stored| stored.lines(&LAST_MODIFIED).next());
        Self {
            tags: list.and_then(|list| HeaderValue::from_bytes(&list).ok()),
            modified: modified.filter(|_| validators.modified.is_some()).cloned(),
        }
    }

    /// Returns whether there are no conditions, because no stored response has a usable validator.
    pub(crate) const fn is_empty(&self) -> bool {
        self.tags.is_none() && self.modified.is_none()
    }

    /// Writes the conditions into a request, in place of the request's own conditions and `Range`.
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

/// Returns the stored response that a 304 response of the handler validates (section 4.3.4); `None`
/// if the 304 validates none. `selected` and `others` are the stored responses from whose
/// validators the cache made the conditions of its request.
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
        // A weak or invalid entity tag validates the most recent stored response that matches it.
        let matches = |stored: &&Arc<StoredResponse>| {
            Validators::of_stored(stored).tag.is_some_and(|old| tags_match(old, tag))
        };
        candidates().find(matches)
    } else if let Some(modified) = new.modified {
        selected.filter(|stored| Validators::of_stored(stored).modified == Some(modified))
    } else {
        // A 304 without a validator validates the stored response only if there is exactly one.
        match (selected, others) {
            (Some(only), []) | (None, [only]) => Some(only),
            _ => None,
        }
    };
    found.cloned()
}

/// Compares two entity tags weakly. Invalid entity tags match only if their bytes are equal.
fn tags_match(one: &[u8], other: &[u8]) -> bool {
    let weak_eq = || Some(EntityTag::parse(one)?.weak_eq(EntityTag::parse(other)?));
    one == other || weak_eq().unwrap_or(false)
}

/// Returns the fields that a stored response has after a new response without content, such as a
/// 304, validated it (section 3.2).
///
/// The fields of the new response replace the stored ones, except fields that describe the stored
/// content. A `Content-Security-Policy` with nonces or hashes is such a field: the new policy would
/// block the scripts of the stored content. `Age` and `Date` of the stored response are always
/// removed, because they do not apply after the validation.
pub(crate) fn updated_fields(stored: &StoredResponse, new: &HeaderMap) -> HeaderMap {
    // The stored entity tag stays, because the new one may differ in strength.
    let has_tag = stored.etag_of_handler().is_some();
    let keeps_policy = POLICY_FIELDS.map(|name| {
        let stored_lines = stored.lines(&name).map(HeaderValue::as_bytes);
        stored_lines.chain(field_lines(new, &name)).any(fits_one_content)
    });
    let describes_content = |name: &HeaderName| {
        [CONTENT_LENGTH, CONTENT_ENCODING, CONTENT_RANGE].contains(name)
            || (*name == ETAG && has_tag)
            || POLICY_FIELDS.iter().zip(keeps_policy).any(|(field, keeps)| keeps && field == name)
    };
    let mut fields = HeaderMap::new();
    for (name, value) in stored.as_handler_sent() {
        let is_replaced = new.contains_key(name) && !describes_content(name);
        if !is_replaced && ![AGE, DATE].contains(name) {
            fields.append(name.clone(), value.clone());
        }
    }
    for (name, value) in new.iter().filter(|(name, _)| !describes_content(name)) {
        fields.append(name.clone(), value.clone());
    }
    fields
}

/// The conclusion from a 200 response to HEAD about the stored response for the same request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HeadVerdict {
    /// The stored response is still valid.
    Holds,
    /// The stored response is not valid any more.
    Outdated,
    /// The HEAD response neither confirms nor refutes the stored response, because its fields do
    /// not identify the representation.
    Nothing,
}

/// Compares a 200 response to HEAD with a stored response (section 4.3.5).
///
/// The stored response is outdated if a validator or the length in the HEAD response differs. If
/// the stored response has validators and the HEAD response has none, the verdict is
/// [`HeadVerdict::Nothing`]. The section permits a cache to confirm the stored response in this
/// case, but handlers for HEAD often send few fields. A stored response without validators is
/// confirmed only if the HEAD response has `Cache-Control` or `Expires`.
pub(crate) fn compare_head(head: &HeaderMap, stored: &StoredResponse) -> HeadVerdict {
    let (new, old) = (Validators::of(head), Validators::of_stored(stored));
    let length = field_lines(head, &CONTENT_LENGTH).next();
    let agrees = stored.status == StatusCode::OK
        && new.tag.is_none_or(|tag| old.tag == Some(tag))
        && new.modified.is_none_or(|modified| old.modified == Some(modified))
        && length.is_none_or(|length| length == stored.body.len().to_string().as_bytes());
    let identifies = if old.tag.is_some() || old.modified.is_some() {
        new.tag.is_some() || new.modified.is_some()
    } else {
        head.contains_key(CACHE_CONTROL) || head.contains_key(EXPIRES)
    };
    match (agrees, identifies) {
        (false, _) => HeadVerdict::Outdated,
        (true, true) => HeadVerdict::Holds,
        (true, false) => HeadVerdict::Nothing,
    }
}

#[cfg(test)]
mod tests;
