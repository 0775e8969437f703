//! Shortens lifetimes by a part that depends on the cache key, so that responses that were stored at
//! the same time do not become stale at the same time.

use std::time::Duration;

use super::{compiled::CompiledPolicy, error::ConfigError};
use crate::entry::{key::CacheKey, tag::TagId};

/// The largest jitter, in percent of a lifetime.
const MAX_PERCENT: u8 = 50;

/// The number of steps in which a lifetime is divided.
const STEPS: u32 = 1 << 16;

/// Checks the percentage of a jitter.
pub(super) fn check_jitter(percent: Option<u8>) -> Result<(), ConfigError> {
    match percent {
        Some(percent) if percent == 0 || percent > MAX_PERCENT => {
            Err(ConfigError::InvalidJitter(percent))
        }
        _ => Ok(()),
    }
}

impl CompiledPolicy {
    /// Returns a lifetime that the response does not state itself, shortened by the jitter of the
    /// policy for this key.
    pub(crate) fn jittered(&self, ttl: Duration, key: &CacheKey) -> Duration {
        match self.policy.jitter {
            Some(percent) => shortened(ttl, percent, key),
            None => ttl,
        }
    }
}

/// Returns a lifetime that is shortened by up to `percent`. All processes shorten the lifetimes of a
/// key by the same part, so that they agree whether a response in a common store is fresh.
fn shortened(ttl: Duration, percent: u8, key: &CacheKey) -> Duration {
    // The last bytes of the tag of a key are a digest of the key, with a fixed algorithm.
    let [.., high, low] = TagId::key(key).to_bytes();
    let steps = u32::from(u16::from_be_bytes([high, low])) * u32::from(percent) / 100;
    // A step is rounded down, so the product is at most half of the lifetime.
    ttl.saturating_sub(ttl / STEPS * steps)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(path: &str) -> CacheKey {
        CacheKey::new("", "http", "h", path, None)
    }

    #[test]
    fn lifetime_is_shortened_by_the_same_part_in_every_build() {
        let cases = [("/", 10, 0), ("/", 10, 600), ("/", 50, 600), ("/a", 10, 600), ("/a", 1, 600)];
        let got = cases.map(|(path, percent, seconds)| {
            shortened(Duration::from_secs(seconds), percent, &key(path)).as_millis()
        });
        assert_eq!(got, [0, 575_555, 477_740, 598_837, 599_890]);
        let longest = shortened(Duration::MAX, 50, &key("/"));
        assert!(longest > Duration::MAX / 2 && longest < Duration::MAX);
    }

    /// A flat distribution has about as many lifetimes in each tenth of the range.
    #[test]
    fn lifetimes_of_pages_spread_evenly_over_the_range() {
        let mut tenths = [0; 10];
        for n in 0..10_000 {
            let ttl = shortened(Duration::from_secs(1000), 20, &key(&format!("/pages/{n}")));
            let shortened_by = 1000.0 - ttl.as_secs_f64();
            tenths[(shortened_by / 20.0) as usize] += 1;
        }
        assert!(tenths.iter().all(|count| (850..1150).contains(count)), "{tenths:?}");
    }

    proptest! {
        #[test]
        fn lifetime_is_never_longer_and_never_too_short(
            path in "/[a-z]{0,8}",
            percent in 1..=MAX_PERCENT,
            millis in any::<u64>(),
        ) {
            let ttl = Duration::from_millis(millis);
            let got = shortened(ttl, percent, &key(&path));
            prop_assert!(got <= ttl);
            prop_assert!(got >= ttl / 100 * (100 - u32::from(percent)));
        }
    }
}
