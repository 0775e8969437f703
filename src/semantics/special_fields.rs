//! Finds in one pass which special fields a request may have. Most requests have none of them, so
//! that the cache need not look for each one.

use actix_web::http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, COOKIE, FORWARDED, HeaderMap,
    HeaderName, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_UNMODIFIED_SINCE, RANGE,
    TRANSFER_ENCODING, UPGRADE,
};

use super::requester::FieldNames;

/// A set of kinds of request fields. The set of a request contains each kind that the request has.
/// It may contain others, so a field that matters is then read from the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SpecialFields(u8);

impl SpecialFields {
    /// All kinds: the set of a request that was not examined.
    pub(crate) const ALL: Self = Self(u8::MAX);
    /// Fields by which a request may bypass the cache: `Upgrade`, a `Connection` other than
    /// `keep-alive`, `Content-Length`, `Transfer-Encoding`, `If-Match` and `If-Unmodified-Since`.
    pub(crate) const BYPASSING: Self = Self(1);
    /// `If-None-Match` and `If-Modified-Since`.
    pub(crate) const CONDITIONS: Self = Self(1 << 1);
    /// `Range`.
    pub(crate) const RANGE: Self = Self(1 << 2);
    /// `Cache-Control`.
    pub(crate) const DIRECTIVES: Self = Self(1 << 3);
    /// Fields that may carry credentials.
    pub(crate) const CREDENTIALS: Self = Self(1 << 4);
    /// `Forwarded`, and the fields whose names begin with `x-forwarded-`.
    pub(crate) const FORWARDED: Self = Self(1 << 5);

    /// Returns the kinds of fields that a request has. `credentials` are the names of fields that
    /// carry credentials besides `Authorization` and `Cookie`.
    pub(crate) fn of(request: &HeaderMap, credentials: &FieldNames) -> Self {
        let mut found = 0;
        for name in request.keys().filter(|name| !credentials.exclude_as_usual(name)) {
            let text = name.as_str();
            found |= Self::kind(request, name, text).0;
            if credentials.may_contain(text) && credentials.contains(name) {
                found |= Self::CREDENTIALS.0;
            }
        }
        Self(found)
    }

    /// Returns the kind of a field of a request, if it is special under each policy. `text` is the text
    /// of the name.
    #[inline]
    fn kind(request: &HeaderMap, name: &HeaderName, text: &str) -> Self {
        match *name {
            CONNECTION if is_keep_alive(request) => Self(0),
            CONNECTION | UPGRADE | CONTENT_LENGTH | TRANSFER_ENCODING | IF_MATCH
            | IF_UNMODIFIED_SINCE => Self::BYPASSING,
            IF_NONE_MATCH | IF_MODIFIED_SINCE => Self::CONDITIONS,
            RANGE => Self::RANGE,
            CACHE_CONTROL => Self::DIRECTIVES,
            AUTHORIZATION | COOKIE => Self::CREDENTIALS,
            FORWARDED => Self::FORWARDED,
            _ if text.starts_with("x-forwarded-") => Self::FORWARDED,
            _ => Self(0),
        }
    }

    /// Returns whether the set has one of these kinds.
    pub(crate) const fn has(self, kinds: Self) -> bool {
        self.0 & kinds.0 != 0
    }

    /// Returns whether the request may have a condition or a range that a cache evaluates.
    pub(crate) const fn may_change_reply(self) -> bool {
        self.has(Self(Self::CONDITIONS.0 | Self::RANGE.0))
    }
}

/// Returns whether `Connection` has one line, with the text that most browsers send.
fn is_keep_alive(request: &HeaderMap) -> bool {
    let mut lines = request.get_all(CONNECTION);
    lines.next().is_some_and(|line| line == "keep-alive") && lines.next().is_none()
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::{HeaderValue, USER_AGENT};

    use super::*;

    #[test]
    fn special_fields_of_a_request_are_found() {
        let credentials = FieldNames::new(vec![HeaderName::from_static("x-api-key")]);
        let none = SpecialFields(0);
        for (name, value, want) in [
            ("accept", "*/*", none),
            ("host", "a", none),
            ("x-other", "a", none),
            ("connection", "keep-alive", none),
            ("connection", "Keep-Alive", SpecialFields::BYPASSING),
            ("connection", "keep-alive, upgrade", SpecialFields::BYPASSING),
            ("upgrade", "h2c", SpecialFields::BYPASSING),
            ("content-length", "0", SpecialFields::BYPASSING),
            ("transfer-encoding", "chunked", SpecialFields::BYPASSING),
            ("if-match", "*", SpecialFields::BYPASSING),
            ("if-unmodified-since", "x", SpecialFields::BYPASSING),
            ("if-none-match", "*", SpecialFields::CONDITIONS),
            ("if-modified-since", "x", SpecialFields::CONDITIONS),
            ("range", "bytes=0-", SpecialFields::RANGE),
            ("cache-control", "no-cache", SpecialFields::DIRECTIVES),
            ("authorization", "a", SpecialFields::CREDENTIALS),
            ("cookie", "a=1", SpecialFields::CREDENTIALS),
            ("x-api-key", "a", SpecialFields::CREDENTIALS),
            ("forwarded", "host=a", SpecialFields::FORWARDED),
            ("x-forwarded-host", "a", SpecialFields::FORWARDED),
            ("x-forwarded-proto", "a", SpecialFields::FORWARDED),
        ] {
            let mut request = HeaderMap::new();
            request.append(HeaderName::from_static(name), HeaderValue::from_static(value));
            assert_eq!(SpecialFields::of(&request, &credentials), want, "{name}: {value}");
            let changes = ["if-none-match", "if-modified-since", "range"].contains(&name);
            assert_eq!(want.may_change_reply(), changes, "{name}");
        }
    }

    #[test]
    fn usual_field_is_special_if_it_carries_credentials() {
        let mut request = HeaderMap::new();
        request.append(USER_AGENT, HeaderValue::from_static("a"));
        for (credentials, want) in [
            (vec![USER_AGENT], SpecialFields::CREDENTIALS),
            (vec![HeaderName::from_static("x-api-key")], SpecialFields(0)),
        ] {
            assert_eq!(SpecialFields::of(&request, &FieldNames::new(credentials)), want);
        }
    }

    #[test]
    fn second_line_of_connection_is_seen() {
        let mut request = HeaderMap::new();
        for option in ["keep-alive", "upgrade"] {
            request.append(CONNECTION, HeaderValue::from_static(option));
        }
        let found = SpecialFields::of(&request, &FieldNames::default());
        assert_eq!(found, SpecialFields::BYPASSING);
    }
}
