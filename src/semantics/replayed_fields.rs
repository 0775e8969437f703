//! Response fields that are correct only for one client, or only at one moment. The cache must not
//! send such a field unchanged to later clients.

use std::time::Duration;

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};

use super::fields::delta_seconds;

/// Returns whether a field tells one client how many requests it may still send, such as
/// `RateLimit` or `X-RateLimit-Remaining`. If another client got the field, that client would slow
/// down although its own limit is not reached.
pub(crate) fn is_rate_limit(name: &HeaderName) -> bool {
    let name = name.as_str();
    ["ratelimit", "x-ratelimit-", "x-rate-limit-"].iter().any(|prefix| name.starts_with(prefix))
        && name != "ratelimit-policy"
}

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
    fn fields_of_rate_limits_are_about_one_requester() {
        for (name, want) in [
            ("ratelimit", true),
            ("ratelimit-remaining", true),
            ("ratelimit-reset", true),
            ("x-ratelimit-limit", true),
            ("x-ratelimit-reset-after", true),
            ("x-rate-limit-remaining", true),
            ("ratelimit-policy", false),
            ("x-ratelimited", false),
            ("x-rate", false),
            ("retry-after", false),
        ] {
            assert_eq!(is_rate_limit(&HeaderName::from_static(name)), want, "{name}");
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
