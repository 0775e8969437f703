//! Response fields that are correct only for one client, or only at one moment. The cache must not
//! send such a field unchanged to later clients.

use std::time::Duration;

use actix_web::http::header::{
    AGE, CACHE_CONTROL, CONTENT_TYPE, DATE, ETAG, EXPIRES, HeaderMap, HeaderName, HeaderValue,
    LAST_MODIFIED, LOCATION, RETRY_AFTER, VARY, WWW_AUTHENTICATE,
};

use super::fields::delta_seconds;

/// The names of the fields that are about one request, as patterns for [`FieldPatterns`]. Another
/// client that got such a field would be misled, but misses nothing without it:
///
/// * the number of requests that one client may still send. `RateLimit-Policy` is not in the list,
///   because it holds for all clients,
/// * the id of a request or of a trace, by which people search in logs,
/// * the time that one call of the handler took.
pub(crate) const ONE_REQUEST_FIELDS: [&str; 21] = [
    "ratelimit",
    "ratelimit-limit",
    "ratelimit-re*",
    "ratelimit-used",
    "x-ratelimit-*",
    "x-rate-limit-*",
    "request-id",
    "x-request-id",
    "x-correlation-id",
    "x-trace-id",
    "traceparent",
    "tracestate",
    "traceresponse",
    "x-b3-*",
    "x-amzn-trace-id",
    "x-amzn-requestid",
    "x-amz-request-id",
    "x-cloud-trace-context",
    "server-timing",
    "x-response-time",
    "x-runtime",
];

/// Some field names and beginnings of field names. To look for a name among them is cheap, because
/// the first two bytes of most names suffice to see that they are not there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct FieldPatterns {
    /// A set of the first two bytes of the names. Different bytes can have equal places in the set.
    starts: u128,
    names: Vec<Box<str>>,
    prefixes: Vec<Box<str>>,
}

impl FieldPatterns {
    /// Makes the set of these names in lower case. A trailing `*` matches any suffix.
    pub(crate) fn new<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Self {
        let mut found = Self::default();
        for pattern in patterns {
            match pattern.strip_suffix('*') {
                None => {
                    found.starts |= start(pattern.as_bytes());
                    found.names.push(pattern.into());
                }
                Some(prefix) => {
                    // A shorter prefix says nothing about the second byte of a name.
                    let is_short = prefix.len() < 2;
                    found.starts |= if is_short { u128::MAX } else { start(prefix.as_bytes()) };
                    found.prefixes.push(prefix.into());
                }
            }
        }
        found
    }

    /// Returns whether one of the names or beginnings matches this field.
    pub(crate) fn contains(&self, name: &HeaderName) -> bool {
        let name = name.as_str();
        self.starts & start(name.as_bytes()) != 0
            && (self.names.iter().any(|found| **found == *name)
                || self.prefixes.iter().any(|prefix| name.starts_with(&**prefix)))
    }
}

/// Returns the place of a name's first two bytes in a set.
fn start(name: &[u8]) -> u128 {
    let first = name.first().copied().unwrap_or_default();
    let second = name.get(1).copied().unwrap_or_default();
    // Letters differ in the lowest five bits.
    1 << ((u32::from(first) * 29 + u32::from(second)) % u128::BITS)
}

/// Fields without which a response would mean something else, so that they must not be left out:
/// they say what the content is, where it is, or how it may be stored and validated. All other
/// fields whose names begin with `content-` are essential, too.
pub(crate) const ESSENTIAL_FIELDS: [HeaderName; 10] = [
    AGE,
    CACHE_CONTROL,
    CONTENT_TYPE,
    DATE,
    ETAG,
    EXPIRES,
    LAST_MODIFIED,
    LOCATION,
    VARY,
    WWW_AUTHENTICATE,
];

/// Reduces `Retry-After` by the time for which the response has been stored. A date in the field
/// stays, because it names a point in time.
pub(crate) fn count_down_retry_after(fields: &mut HeaderMap, stored_for: Duration) {
    let Some(value) = fields.get(RETRY_AFTER) else { return };
    let Some(delay) = delta_seconds(value.as_bytes()) else { return };
    let left = delay.saturating_sub(stored_for).as_secs();
    fields.insert(RETRY_AFTER, HeaderValue::from(left));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_about_one_request_are_found() {
        let fields = FieldPatterns::new(ONE_REQUEST_FIELDS);
        for (name, want) in [
            ("ratelimit", true),
            ("ratelimit-limit", true),
            ("ratelimit-remaining", true),
            ("ratelimit-reset", true),
            ("x-ratelimit-limit", true),
            ("x-ratelimit-reset-after", true),
            ("x-rate-limit-remaining", true),
            ("x-request-id", true),
            ("x-b3-traceid", true),
            ("traceparent", true),
            ("server-timing", true),
            ("ratelimit-policy", false),
            ("x-ratelimited", false),
            ("x-rate", false),
            ("retry-after", false),
            ("x-request-ids", false),
            ("server", false),
            ("referrer-policy", false),
            ("content-type", false),
        ] {
            assert_eq!(fields.contains(&HeaderName::from_static(name)), want, "{name}");
        }
        assert!(!ESSENTIAL_FIELDS.iter().any(|name| fields.contains(name)));
    }

    #[test]
    fn patterns_match_names_and_beginnings() {
        for (patterns, name, want) in [
            (&[][..], "a", false),
            (&["a"], "a", true),
            (&["a"], "ab", false),
            (&["ab"], "a", false),
            (&["a*"], "a", true),
            (&["a*"], "az", true),
            (&["a*"], "ba", false),
            (&["ab*"], "ab", true),
            (&["ab*"], "abc", true),
            (&["ab*"], "a", false),
            (&["*"], "anything", true),
            (&["x-a", "x-b*"], "x-b", true),
            (&["x-a", "x-b*"], "x-a", true),
            (&["x-a", "x-b*"], "x-c", false),
        ] {
            let found = FieldPatterns::new(patterns.iter().copied());
            assert_eq!(found.contains(&HeaderName::from_static(name)), want, "{patterns:?} {name}");
        }
    }

    #[test]
    fn retry_after_counts_down_to_zero() {
        for (value, second, want) in [
            ("30", 0, "30"),
            ("30", 25, "5"),
            ("30", 99, "0"),
            ("soon", 5, "soon"),
            ("Sun, 06 Nov 1994 08:49:37 GMT", 5, "Sun, 06 Nov 1994 08:49:37 GMT"),
        ] {
            let mut fields = HeaderMap::new();
            fields.insert(RETRY_AFTER, HeaderValue::from_static(value));
            count_down_retry_after(&mut fields, Duration::from_secs(second));
            assert_eq!(fields.get(RETRY_AFTER).unwrap(), want);
        }
        let mut none = HeaderMap::new();
        count_down_retry_after(&mut none, Duration::ZERO);
        assert!(none.is_empty());
    }
}
