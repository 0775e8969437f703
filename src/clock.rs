//! The only room that reads the clock.

use std::{
    fmt,
    sync::LazyLock,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use crate::time::Now;

/// Where a cache takes the time from: the machine's clocks, or a clock moved by hand in tests.
#[derive(Clone)]
pub struct Clock(Source);

#[derive(Clone)]
enum Source {
    System,
    #[cfg(feature = "test-util")]
    Manual(ManualClock),
}

impl Clock {
    /// The machine's clocks.
    #[must_use]
    pub const fn system() -> Self {
        Self(Source::System)
    }

    /// Reads the time.
    #[must_use]
    pub fn now(&self) -> Now {
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

#[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
fn system_now() -> Now {
    static ORIGIN: LazyLock<Instant> = LazyLock::new(Instant::now);
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Now::new(wall, ORIGIN.elapsed())
}

/// A clock that stands still until it is moved, for tests.
///
/// Clones share one time.
#[cfg(feature = "test-util")]
#[cfg_attr(docsrs, doc(cfg(feature = "test-util")))]
#[derive(Debug, Clone)]
pub struct ManualClock(std::sync::Arc<std::sync::Mutex<Now>>);

#[cfg(feature = "test-util")]
impl ManualClock {
    /// A clock that stands at `wall` seconds since 1970.
    #[must_use]
    pub fn at(wall: u64) -> Self {
        let now = Now::new(Duration::from_secs(wall), Duration::from_secs(1_000));
        Self(std::sync::Arc::new(std::sync::Mutex::new(now)))
    }

    /// Moves both clocks forward.
    pub fn advance(&self, by: Duration) {
        self.change(|now| Now::new(now.wall() + by, now.monotonic() + by));
    }

    /// Sets the wall clock alone, as an administrator or NTP would.
    pub fn set_wall(&self, wall: u64) {
        self.change(|now| Now::new(Duration::from_secs(wall), now.monotonic()));
    }

    /// This clock, as a cache takes it.
    #[must_use]
    pub fn clock(&self) -> Clock {
        Clock(Source::Manual(self.clone()))
    }

    /// The time it shows.
    #[must_use]
    pub fn now(&self) -> Now {
        *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn change(&self, f: impl FnOnce(Now) -> Now) {
        let mut now = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *now = f(*now);
    }
}
