//! Field values that are made of a number, such as a date, and that many responses in turn have.

use std::cell::RefCell;

use actix_web::http::header::HeaderValue;

/// The number of values that a thread keeps of each kind. A prime number, so that a time and the end of
/// a usual lifetime, such as a day, rarely share a place.
const KEPT: usize = 61;

/// The values of a kind that a thread made last. A copy of a value costs less than a new one, which
/// needs an allocation.
pub(crate) struct RecentValues(RefCell<[Option<(u64, HeaderValue)>; KEPT]>);

impl RecentValues {
    pub(crate) const fn new() -> Self {
        Self(RefCell::new([const { None }; KEPT]))
    }

    /// Returns the value of a number: a copy of the kept one, or the one that `make` returns.
    pub(crate) fn get_or_make(
        &self,
        number: u64,
        make: impl FnOnce(u64) -> Option<HeaderValue>,
    ) -> Option<HeaderValue> {
        let mut values = self.0.borrow_mut();
        let place = values.get_mut(number as usize % KEPT)?;
        match place {
            Some((kept, value)) if *kept == number => Some(value.clone()),
            _ => {
                let value = make(number)?;
                *place = Some((number, value.clone()));
                Some(value)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn value_has_its_number_although_others_share_its_place() {
        let recent = RecentValues::new();
        let places = KEPT as u64;
        for number in [0, 7, places, 7 + places, 7, 0, u64::MAX, 7, u64::MAX] {
            let value = recent.get_or_make(number, |number| Some(HeaderValue::from(number)));
            assert_eq!(value, Some(HeaderValue::from(number)));
        }
        assert_eq!(recent.get_or_make(7, |_| None), Some(HeaderValue::from(7)), "it is kept");
        assert_eq!(recent.get_or_make(8, |_| None), None);
    }

    #[test]
    fn time_and_end_of_a_usual_lifetime_have_different_places() {
        for minutes in [1, 2, 5, 10, 15, 30, 60, 120, 360, 720, 24 * 60, 7 * 24 * 60, 365 * 24 * 60]
        {
            let recent = RecentValues::new();
            let numbers = [1_700_000_000, 1_700_000_000 + 60 * minutes];
            for number in numbers {
                assert!(recent.get_or_make(number, |n| Some(HeaderValue::from(n))).is_some());
            }
            let kept = numbers.map(|number| recent.get_or_make(number, |_| None));
            assert!(kept.iter().all(Option::is_some), "{minutes} minutes");
        }
    }
}
