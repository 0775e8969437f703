//! Sources of time: the wall clock and the monotonic clock. No other module reads the system
//! clocks.

use std::{
    cell::Cell,
    fmt,
    sync::LazyLock,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// A source of time: the system clocks, or a `ManualClock` in tests.
#[derive(Clone)]
pub struct Clock(Source);

#[derive(Clone)]
enum Source {
    System,
    #[cfg(feature = "test-util")]
    Manual(ManualClock),
}

impl Clock {
    /// Makes a source of time that reads the system clocks.
    #[must_use]
    pub const fn system() -> Self {
        Self(Source::System)
    }

    /// Reads the wall clock and the monotonic clock. A change of the system's wall clock is noticed after
    /// at most 100 ms.
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

/// The time for which a thread relies on its last reading of the wall clock, and on the monotonic clock
/// for the time since then. If someone sets the wall clock, a thread notices it after this time.
const WALL_CLOCK_INTERVAL: Duration = Duration::from_millis(100);

/// Reads the clocks of the system. Each request needs the time, and to read a clock takes long, so most
/// calls read only one.
fn system_now() -> Timestamp {
    thread_local! {
        static LATEST: Cell<Option<Timestamp>> = const { Cell::new(None) };
    }
    let monotonic = monotonic_now();
    let latest = LATEST.get().and_then(|latest| latest.moved_to(monotonic));
    latest.unwrap_or_else(|| {
        let now = Timestamp::new(wall_now(), monotonic);
        LATEST.set(Some(now));
        now
    })
}

#[expect(clippy::disallowed_methods, reason = "the only place that reads the clocks")]
fn wall_now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO)
}

/// Reads only the monotonic clock of the system.
#[expect(clippy::disallowed_methods, reason = "the only place that reads the clocks")]
pub(crate) fn monotonic_now() -> Duration {
    static ORIGIN: LazyLock<Instant> = LazyLock::new(Instant::now);
    ORIGIN.elapsed()
}

/// A clock for tests. The clock stands still until the test calls [`advance`](Self::advance) or
/// [`set_wall`](Self::set_wall).
///
/// All clones of a `ManualClock` show the same time. Moving one clone moves all of them.
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

    /// Makes a [`Clock`] that reads this manual clock, for a cache that is under test.
    #[must_use]
    pub fn clock(&self) -> Clock {
        Clock(Source::Manual(self.clone()))
    }

    /// Reads the wall clock and the monotonic clock.
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
/// wall clock is set to another time. The wall clock counts the time since 1970. The monotonic
/// clock counts the time since an arbitrary moment in this process, which is called its origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timestamp {
    wall: Duration,
    monotonic: Duration,
}

impl Timestamp {
    /// Returns the timestamp of a later moment, if this reading is recent enough.
    fn moved_to(self, monotonic: Duration) -> Option<Self> {
        let since = monotonic.checked_sub(self.monotonic)?;
        let is_recent = since < WALL_CLOCK_INTERVAL;
        is_recent.then(|| Self { wall: self.wall.saturating_add(since), monotonic })
    }

    /// Makes a timestamp. `wall` is the time since 1970, and `monotonic` is the time since the
    /// origin of the monotonic clock.
    #[must_use]
    pub const fn new(wall: Duration, monotonic: Duration) -> Self {
        Self { wall, monotonic }
    }

    /// Returns the wall-clock time, as the time since 1970-01-01T00:00:00Z.
    #[must_use]
    pub const fn wall(self) -> Duration {
        self.wall
    }

    /// Returns the time since the origin of the monotonic clock.
    #[must_use]
    pub const fn monotonic(self) -> Duration {
        self.monotonic
    }

    /// Returns the wall-clock time as a [`SystemTime`], for formatting dates.
    #[must_use]
    pub fn system_time(self) -> SystemTime {
        UNIX_EPOCH + self.wall
    }

    /// Returns the time that passed from `earlier` to this timestamp. If the two clocks measured
    /// different times, the longer time is returned. The result is zero if `earlier` is later than
    /// this timestamp by both clocks.
    ///
    /// The cache computes the age of a response from this time, and must not underestimate the age.
    /// The wall clock measures too short a time if it was set back. The monotonic clock measures
    /// too short a time if it stopped while the machine slept.
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

    #[test]
    fn wall_clock_is_read_again_after_an_interval() {
        let millis = Duration::from_millis;
        let latest = Timestamp::new(millis(5_000), millis(300));
        for (monotonic, want) in
            [(300, Some(5_000)), (399, Some(5_099)), (400, None), (299, None), (9_000, None)]
        {
            let want = want.map(|wall| Timestamp::new(millis(wall), millis(monotonic)));
            assert_eq!(latest.moved_to(millis(monotonic)), want, "{monotonic}");
        }
        let (before, now, after) = (wall_now(), system_now().wall(), wall_now());
        let tolerance = Duration::from_secs(1);
        assert!(now + tolerance >= before && now <= after + tolerance);
    }

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
