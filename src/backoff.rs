//! Exponential back-off: the time to wait before the next attempt grows with each failed attempt.

use std::time::Duration;

/// The delays before successive attempts. Each delay is longer than the one before, up to a
/// maximum.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Backoff {
    first: Duration,
    longest: Duration,
    factor: f64,
    attempts: u32,
}

impl Backoff {
    /// Makes delays that begin with `first`. Each further delay is `factor` times as long, up to
    /// `longest`.
    pub(crate) const fn new(first: Duration, longest: Duration, factor: f64) -> Self {
        Self { first, longest, factor, attempts: 0 }
    }

    /// Returns how long to wait before the next attempt, without jitter. `earlier_delays` is the
    /// number of delays so far: 0 before the first delay.
    pub(crate) fn delay(&self, earlier_delays: u32) -> Duration {
        // The exponent is limited to 64, so that the power stays finite. By then, the delay has
        // reached `longest`.
        let growth = self.factor.powi(i32::try_from(earlier_delays.min(64)).unwrap_or(64));
        let seconds = self.first.as_secs_f64() * growth;
        Duration::try_from_secs_f64(seconds).unwrap_or(self.longest).min(self.longest)
    }

    /// Returns the next delay, with jitter: a random time between half of the delay and the full
    /// delay. The jitter spreads the attempts of processes whose attempts failed at the same time.
    pub(crate) fn next_delay(&mut self) -> Duration {
        let delay = self.delay(self.attempts);
        self.attempts = self.attempts.saturating_add(1);
        delay.mul_f64(0.5 + fastrand::f64() / 2.0)
    }

    /// Begins again with the first delay.
    #[cfg_attr(
        not(any(feature = "redis", test)),
        expect(dead_code, reason = "only a Redis store resets it")
    )]
    pub(crate) const fn reset(&mut self) {
        self.attempts = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn delay_grows_by_the_factor_up_to_the_longest() {
        let backoff = Backoff::new(MS(50), MS(1000), 2.0);
        let delays = [0, 1, 2, 3, 4, 5, 6, u32::MAX].map(|attempts| backoff.delay(attempts));
        assert_eq!(delays, [50, 100, 200, 400, 800, 1000, 1000, 1000].map(MS));
    }

    #[test]
    fn next_delays_are_jittered_between_half_and_all_of_the_delay() {
        let delays = || {
            let mut backoff = Backoff::new(MS(5), MS(50), 1.5);
            (0..100).map(|_| backoff.next_delay()).collect::<Vec<_>>()
        };
        let plain = Backoff::new(MS(5), MS(50), 1.5);
        let (one, other) = (delays(), delays());
        assert_ne!(one, other);
        for (attempts, delay) in (0..).zip(&one) {
            let whole = plain.delay(attempts);
            assert!(*delay >= whole / 2 && *delay <= whole, "{attempts}: {delay:?} of {whole:?}");
        }
    }

    #[test]
    fn reset_backoff_starts_from_the_first_delay() {
        let mut backoff = Backoff::new(MS(10), MS(1000), 10.0);
        for _ in 0..3 {
            backoff.next_delay();
        }
        backoff.reset();
        assert!(backoff.next_delay() <= MS(10));
    }
}
