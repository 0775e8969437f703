//! Field values that end in a number of seconds. Each hit has two of them, in `Age` and in
//! `Cache-Status`, and successive hits mostly have equal ones.

use std::cell::RefCell;

use actix_web::http::header::HeaderValue;

use crate::semantics::fields::number_after;

/// The number of values that a thread keeps of each kind.
const KEPT: usize = 64;

thread_local! {
    static AGES: Recent = const { Recent::new("") };
    static HITS: Recent = const { Recent::new("actix-web-cache; hit; ttl=") };
}

/// The values of a kind that a thread made last. A copy of a value costs less than a new one, which
/// needs an allocation.
struct Recent {
    /// The text before the number.
    text: &'static str,
    values: RefCell<[Option<(u64, HeaderValue)>; KEPT]>,
}

impl Recent {
    const fn new(text: &'static str) -> Self {
        Self { text, values: RefCell::new([const { None }; KEPT]) }
    }

    fn get(&self, number: u64) -> Option<HeaderValue> {
        let mut values = self.values.borrow_mut();
        let place = values.get_mut(number as usize % KEPT)?;
        match place {
            Some((kept, value)) if *kept == number => Some(value.clone()),
            _ => {
                let value = number_after(self.text, number)?;
                *place = Some((number, value.clone()));
                Some(value)
            }
        }
    }
}

/// Returns the value of `Age`, in seconds (RFC 9111 section 5.1).
pub(crate) fn age_value(seconds: u64) -> Option<HeaderValue> {
    AGES.with(|recent| recent.get(seconds))
}

/// Returns the value of `Cache-Status` of a hit that stays fresh for this number of seconds (RFC 9211
/// section 2.3).
pub(crate) fn hit_status_value(ttl: u64) -> Option<HeaderValue> {
    HITS.with(|recent| recent.get(ttl))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn value_has_its_number_although_others_share_its_place() {
        let places = KEPT as u64;
        for number in [0, 7, places, 7 + places, 7, 0, u64::MAX, 7, u64::MAX] {
            assert_eq!(age_value(number).unwrap(), number.to_string().as_str());
            let status = format!("actix-web-cache; hit; ttl={number}");
            assert_eq!(hit_status_value(number).unwrap(), status.as_str());
        }
    }
}
