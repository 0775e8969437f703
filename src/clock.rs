//! Sources of time: the wall clock and the monotonic clock. No other module reads the clocks of the
//! machine.

use std::{
    fmt,
    sync::LazyLock,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// A source of time: the clocks of the machine, or a `ManualClock` in tests.
#[derive(Clone)]
pub struct Clock(Source);

#[derive(Clone)]
enum Source {
    System,
    #[cfg(feature = "test-util")]
    Manual(ManualClock),
}

impl Clock {
    /// Makes a source of time that reads the clocks of the machine.
    #[must_use]
    pub const fn system() -> Self {
        Self(Source::System)
    }

    /// Reads both clocks.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Source::System => system_now(),
            #[cfg(feature = "test-util")]
            Source::Manual(clock) => clock.now(),
        }
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::system()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

#[expect(clippy::disallowed_methods, reason = "the only place that reads the clocks")]
fn system_now() -> Timestamp {
    static ORIGIN: LazyLock<Instant> = LazyLock::new(Instant::now);
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Timestamp::new(wall, ORIGIN.elapsed())
}

/// A clock for tests. The clock stands still until the test moves it.
///
/// Clones of the clock show the time of the original.
///
/// ```
/// use std::time::Duration;
/// use actix_web_cache::{Cache, ManualClock, MemoryStore};
///
/// let clock = ManualClock::at(1_700_000_000);
/// let cache = Cache::builder(MemoryStore::new(1024 * 1024)).clock(clock.clock());
/// clock.advance(Duration::from_secs(60)); // stored responses are a minute older
/// # let _ = cache;
/// ```
#[cfg(feature = "test-util")]
#[cfg_attr(docsrs, doc(cfg(feature = "test-util")))]
#[derive(Debug, Clone)]
pub struct ManualClock(std::sync::Arc<std::sync::Mutex<Timestamp>>);

#[cfg(feature = "test-util")]
impl ManualClock {
    /// Makes a clock whose wall clock shows `wall` seconds since 1970.
    #[must_use]
    pub fn at(wall: u64) -> Self {
        let now = Timestamp::new(Duration::from_secs(wall), Duration::from_secs(1_000));
        Self(std::sync::Arc::new(std::sync::Mutex::new(now)))
    }

    /// Moves the wall clock and the monotonic clock forward.
    pub fn advance(&self, by: Duration) {
        self.change(|now| Timestamp::new(now.wall() + by, now.monotonic() + by));
    }

    /// Sets the wall clock to `wall` seconds since 1970, as an administrator or NTP could. The
    /// monotonic clock does not change.
    pub fn set_wall(&self, wall: u64) {
        self.change(|now| Timestamp::new(Duration::from_secs(wall), now.monotonic()));
    }

    /// Makes a source of time that reads this clock, for a cache.
    #[must_use]
    pub fn clock(&self) -> Clock {
        Clock(Source::Manual(self.clone()))
    }

    /// Reads both clocks.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn change(&self, f: impl FnOnce(Timestamp) -> Timestamp) {
        let mut now = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *now = f(*now);
    }
}

/// A reading of the wall clock and the monotonic clock at one moment.
///
/// HTTP dates are wall-clock times. The monotonic clock measures elapsed time correctly even if the
/// wall clock is set. The reading of a clock is the time since the origin of that clock. The origin
/// of the wall clock is 1970, and the origin of the monotonic clock is an arbitrary moment of this
/// process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timestamp {
    wall: Duration,
    monotonic: Duration,
}

impl Timestamp {
    /// Makes a timestamp. `wall` is the time since 1970, and `monotonic` is the time since the
    /// origin of this process.
    #[must_use]
    pub const fn new(wall: Duration, monotonic: Duration) -> Self {
        Self { wall, monotonic }
    }

    /// The reading of the wall clock: the time since 1970-01-01T00:00:00Z.
    #[must_use]
    pub const fn wall(self) -> Duration {
        self.wall
    }

    /// The reading of the monotonic clock: the time since the origin of this process.
    #[must_use]
    pub const fn monotonic(self) -> Duration {
        self.monotonic
    }

    /// The reading of the wall clock as a [`SystemTime`], for formatting dates.
    #[must_use]
    pub fn system_time(self) -> SystemTime {
        UNIX_EPOCH + self.wall
    }

    /// The time that has passed since `earlier`, by the clock that shows the longer time. The
    /// result is zero if `earlier` is later by both clocks.
    ///
    /// The longer time is the safe one, because a response must never look younger than it is. The
    /// wall clock shows too short a time if it was set back. The monotonic clock shows too short a
    /// time if it stood still while the machine slept.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        let wall = self.wall.saturating_sub(earlier.wall);
        let monotonic = self.monotonic.saturating_sub(earlier.monotonic);
        wall.max(monotonic)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(wall: u64, monotonic: u64) -> Timestamp {
        Timestamp::new(Duration::from_secs(wall), Duration::from_secs(monotonic))
    }

    #[test]
    fn elapsed_time_is_the_longer_of_both_clocks() {
        for (case, later, earlier, want) in [
            ("both agree", at(110, 20), at(100, 10), 10),
            ("wall clock set back an hour", at(100, 3620), at(3700, 20), 3600),
            ("monotonic clock stood while the machine slept", at(4000, 20), at(400, 20), 3600),
            ("wall clock set forward", at(9000, 21), at(100, 20), 8900),
            ("both earlier", at(1, 1), at(2, 2), 0),
        ] {
            assert_eq!(later.since(earlier), Duration::from_secs(want), "{case}");
        }
    }
}
