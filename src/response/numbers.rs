//! Field values that end in a number of seconds. Each hit has two of them, in `Age` and in
//! `Cache-Status`, and successive hits mostly have equal ones.

use actix_web::http::header::HeaderValue;

use crate::semantics::{fields::number_after, recent_values::RecentValues};

thread_local! {
    static AGES: RecentValues = const { RecentValues::new() };
    static HITS: RecentValues = const { RecentValues::new() };
}

/// Returns the value of `Age`, in seconds (RFC 9111 section 5.1).
pub(crate) fn age_value(seconds: u64) -> Option<HeaderValue> {
    AGES.with(|recent| recent.get_or_make(seconds, |seconds| number_after("", seconds)))
}

/// Returns the value of `Cache-Status` of a hit that stays fresh for this number of seconds (RFC 9211
/// section 2.3).
pub(crate) fn hit_status_value(ttl: u64) -> Option<HeaderValue> {
    let make = |ttl| number_after("actix-web-cache; hit; ttl=", ttl);
    HITS.with(|recent| recent.get_or_make(ttl, make))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_their_numbers() {
        for number in [0, 7, 71, 7, u64::MAX] {
            assert_eq!(age_value(number).unwrap(), number.to_string().as_str());
            let status = format!("actix-web-cache; hit; ttl={number}");
            assert_eq!(hit_status_value(number).unwrap(), status.as_str());
        }
    }
}
