//! Finds in one pass which kinds of fields a response has. Most responses have few of the fields that
//! matter to a cache, so that the cache need not look for each one.

use actix_web::http::header::{
    AGE, CACHE_CONTROL, CONNECTION, CONTENT_ENCODING, CONTENT_SECURITY_POLICY,
    CONTENT_SECURITY_POLICY_REPORT_ONLY, DATE, ETAG, EXPIRES, HeaderName, LAST_MODIFIED, PRAGMA,
    VARY,
};

use super::{no_vary_search::NO_VARY_SEARCH, targeted::is_targeted};
use crate::entry::limits::may_have_field;

/// A set of kinds of response fields: those that a response has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct PresentFields(u16);

impl PresentFields {
    pub(crate) const CACHE_CONTROL: Self = Self(1);
    pub(crate) const EXPIRES: Self = Self(1 << 1);
    pub(crate) const PRAGMA: Self = Self(1 << 2);
    /// `Age` and `Date`, from which the age of a response is computed.
    pub(crate) const AGE_OR_DATE: Self = Self(Self::AGE.0 | Self::DATE.0);
    const AGE: Self = Self(1 << 3);
    pub(crate) const DATE: Self = Self(1 << 4);
    pub(crate) const CONNECTION: Self = Self(1 << 5);
    pub(crate) const VARY: Self = Self(1 << 6);
    /// `Content-Security-Policy`, also the form that only reports.
    pub(crate) const SECURITY_POLICY: Self = Self(1 << 7);
    pub(crate) const CONTENT_ENCODING: Self = Self(1 << 8);
    pub(crate) const NO_VARY_SEARCH: Self = Self(1 << 9);
    pub(crate) const ETAG: Self = Self(1 << 10);
    pub(crate) const LAST_MODIFIED: Self = Self(1 << 11);
    /// Fields that replace `Cache-Control` for the caches that they address (RFC 9213).
    pub(crate) const TARGETED: Self = Self(1 << 12);
    /// Fields that are never stored ([`may_have_field`]).
    pub(crate) const NEVER_STORED: Self =
        Self(Self::AGE.0 | Self::CONNECTION.0 | Self::OTHER_NEVER_STORED.0);
    const OTHER_NEVER_STORED: Self = Self(1 << 13);
    /// The fields that the cache may change for clients
    /// ([`ANNOTATED_FIELDS`](crate::entry::response::ANNOTATED_FIELDS)), and targeted fields.
    pub(crate) const ANNOTATED: Self =
        Self(Self::CACHE_CONTROL.0 | Self::EXPIRES.0 | Self::VARY.0 | Self::TARGETED.0);

    /// Adds the kind of a field.
    #[inline]
    pub(crate) fn add(&mut self, name: &HeaderName) {
        let kind = match *name {
            CACHE_CONTROL => Self::CACHE_CONTROL,
            EXPIRES => Self::EXPIRES,
            PRAGMA => Self::PRAGMA,
            AGE => Self::AGE,
            DATE => Self::DATE,
            CONNECTION => Self::CONNECTION,
            VARY => Self::VARY,
            CONTENT_SECURITY_POLICY | CONTENT_SECURITY_POLICY_REPORT_ONLY => Self::SECURITY_POLICY,
            CONTENT_ENCODING => Self::CONTENT_ENCODING,
            ETAG => Self::ETAG,
            LAST_MODIFIED => Self::LAST_MODIFIED,
            _ if is_targeted(name) => Self::TARGETED,
            _ if *name == NO_VARY_SEARCH => Self::NO_VARY_SEARCH,
            _ if !may_have_field(name) => Self::OTHER_NEVER_STORED,
            _ => return,
        };
        self.0 |= kind.0;
    }

    /// Returns whether the response has a field of one of these kinds.
    pub(crate) const fn has(self, kinds: Self) -> bool {
        self.0 & kinds.0 != 0
    }
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::{HeaderMap, HeaderValue};

    use super::*;
    use crate::entry::response::ANNOTATED_FIELDS;

    impl PresentFields {
        /// Returns the kinds of fields that a response has.
        pub(crate) fn of(response: &HeaderMap) -> Self {
            let mut present = Self::default();
            response.keys().for_each(|name| present.add(name));
            present
        }
    }

    #[test]
    fn each_kind_is_found_by_its_names_alone() {
        let kinds = [
            (PresentFields::CACHE_CONTROL, &["cache-control"][..]),
            (PresentFields::EXPIRES, &["expires"]),
            (PresentFields::PRAGMA, &["pragma"]),
            (PresentFields::AGE_OR_DATE, &["age", "date"]),
            (PresentFields::DATE, &["date"]),
            (PresentFields::CONNECTION, &["connection"]),
            (PresentFields::VARY, &["vary"]),
            (
                PresentFields::SECURITY_POLICY,
                &["content-security-policy", "content-security-policy-report-only"],
            ),
            (PresentFields::CONTENT_ENCODING, &["content-encoding"]),
            (
                PresentFields::NEVER_STORED,
                &[
                    "age",
                    "authentication-info",
                    "connection",
                    "content-length",
                    "keep-alive",
                    "proxy-connection",
                    "te",
                    "trailer",
                    "transfer-encoding",
                    "upgrade",
                ],
            ),
            (PresentFields::NO_VARY_SEARCH, &["no-vary-search"]),
            (PresentFields::ETAG, &["etag"]),
            (PresentFields::LAST_MODIFIED, &["last-modified"]),
            (
                PresentFields::TARGETED,
                &["cdn-cache-control", "own-cache-control", "surrogate-control"],
            ),
        ];
        let names = kinds.iter().flat_map(|(_, names)| *names).copied();
        for name in names.chain(["content-type", "set-cookie", "x-a"]) {
            let mut response = HeaderMap::new();
            for name in ["server", name] {
                response.append(HeaderName::from_static(name), HeaderValue::from_static("a"));
            }
            let present = PresentFields::of(&response);
            let is_annotated = ANNOTATED_FIELDS.contains(&HeaderName::from_static(name))
                || present.has(PresentFields::TARGETED);
            assert_eq!(present.has(PresentFields::ANNOTATED), is_annotated, "{name}");
            let is_never_stored = !may_have_field(&HeaderName::from_static(name));
            assert_eq!(present.has(PresentFields::NEVER_STORED), is_never_stored, "{name}");
            for (kind, of_kind) in kinds {
                assert_eq!(present.has(kind), of_kind.contains(&name), "{name} {kind:?}");
            }
        }
        assert_eq!(PresentFields::of(&HeaderMap::new()), PresentFields::default());
    }
}
