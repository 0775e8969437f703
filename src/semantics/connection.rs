//! Finds the fields that concern only one connection (RFC 9110 section 7.6.1). A cache does not
//! store these fields.

use actix_web::http::header::{
    AGE, CACHE_CONTROL, CONNECTION, ETAG, EXPIRES, HeaderMap, HeaderName, SET_COOKIE, VARY,
};
use smallvec::SmallVec;

use super::fields::{field_lines, list_members};
use crate::entry::limits::may_have_field;

/// The fields that a message's `Connection` field names.
pub(crate) struct ConnectionFields(SmallVec<[HeaderName; 2]>);

impl ConnectionFields {
    /// Reads all lines of `Connection`. A member that is not a field name is ignored.
    pub(crate) fn of(fields: &HeaderMap) -> Self {
        // Few responses have the field.
        if !fields.contains_key(CONNECTION) {
            return Self(SmallVec::new());
        }
        let members = field_lines(fields, &CONNECTION).flat_map(list_members);
        Self(members.filter_map(|member| HeaderName::from_bytes(member).ok()).collect())
    }

    /// Returns whether a field of the message may be stored (RFC 9111 section 3.1). A field may not
    /// be stored if `Connection` names it, or if it is [never stored](may_have_field), such as
    /// `Age`.
    pub(crate) fn may_be_stored(&self, name: &HeaderName) -> bool {
        may_have_field(name) && !self.0.contains(name)
    }

    /// Returns whether `Connection` names a field that says how the response may be stored, or what
    /// its content is. The response would mean something else without this field.
    pub(crate) fn name_essential_field(&self) -> bool {
        self.0.iter().any(|name| {
            [CACHE_CONTROL, VARY, EXPIRES, AGE, ETAG, SET_COOKIE].contains(name)
                || name.as_str().starts_with("content-")
        })
    }
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::{ACCEPT, CONTENT_TYPE, HeaderValue, UPGRADE};

    use super::*;

    #[test]
    fn fields_named_by_connection_are_not_stored() {
        let other = HeaderName::from_static("x-a");
        for (lines, name, want) in [
            (&[][..], &other, true),
            (&["close"], &other, true),
            (&["X-A"], &other, false),
            (&["close, x-b, x-a"], &other, false),
            (&["close", "x-a"], &other, false),
            (&["x a, x-a"], &other, false),
            (&["x-ab"], &other, true),
            (&["x-a"], &CONTENT_TYPE, true),
            (&["accept"], &ACCEPT, false),
            (&[], &CONNECTION, false),
            (&[], &UPGRADE, false),
            (&[], &AGE, false),
        ] {
            let mut fields = HeaderMap::new();
            for line in lines {
                fields.append(CONNECTION, HeaderValue::from_static(line));
            }
            let got = ConnectionFields::of(&fields).may_be_stored(name);
            assert_eq!(got, want, "{name} with Connection: {lines:?}");
        }
    }

    #[test]
    fn fields_that_a_stored_response_needs_are_essential() {
        for (value, want) in [
            ("close", false),
            ("x-a, keep-alive", false),
            ("date", false),
            ("Cache-Control", true),
            ("close, vary", true),
            ("expires", true),
            ("age", true),
            ("etag", true),
            ("set-cookie", true),
            ("content-encoding", true),
            ("x-content-type", false),
        ] {
            let mut fields = HeaderMap::new();
            fields.insert(CONNECTION, HeaderValue::from_static(value));
            assert_eq!(ConnectionFields::of(&fields).name_essential_field(), want, "{value}");
        }
    }
}
