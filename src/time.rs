//! A point in time as both clocks saw it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// One reading of the wall clock and of the monotonic clock.
///
/// Wall time is what HTTP dates speak of; monotonic time is what a wall clock that is set back
/// cannot shorten. Both are durations since an origin: 1970 for the wall clock, an arbitrary
/// moment of this process for the monotonic one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    wall: Duration,
    monotonic: Duration,
}

impl Now {
    /// A reading: `wall` since 1970, `monotonic` since this process's origin.
    #[must_use]
    pub const fn new(wall: Duration, monotonic: Duration) -> Self {
        Self { wall, monotonic }
    }

    /// Wall time since 1970-01-01T00:00:00Z.
    #[must_use]
    pub const fn wall(self) -> Duration {
        self.wall
    }

    /// Time since this process's origin, by the monotonic clock.
    #[must_use]
    pub const fn monotonic(self) -> Duration {
        self.monotonic
    }

    /// Wall time as the standard library's type, for formatting dates.
    #[must_use]
    pub fn system_time(self) -> SystemTime {
        UNIX_EPOCH + self.wall
    }

    /// The time that passed since `earlier`: the longer of what the two clocks say, never less
    /// than nothing. A wall clock set back, or a monotonic clock that slept with the machine,
    /// can therefore not make something old look young.
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

    const fn at(wall: u64, monotonic: u64) -> Now {
        Now::new(Duration::from_secs(wall), Duration::from_secs(monotonic))
    }

    #[test]
    fn elapsed_time_is_the_longer_of_both_clocks() {
        for (case, later, earlier, want) in [
            ("both agree", at(110, 20), at(100, 10), 10),
            ("wall clock set back an hour", at(100, 3620), at(3700, 20), 3600),
            ("machine slept, monotonic clock stood", at(4000, 20), at(400, 20), 3600),
            ("wall clock set forward", at(9000, 21), at(100, 20), 8900),
            ("both earlier", at(1, 1), at(2, 2), 0),
        ] {
            assert_eq!(later.since(earlier), Duration::from_secs(want), "{case}");
        }
    }
}
