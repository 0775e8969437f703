//! Waiting for a condition that another task, thread or process brings about.

use std::{thread, time::Duration};

use tokio::time::Instant;

/// The longest wait. It is long because the machine may be busy with other tests.
const LIMIT: Duration = Duration::from_secs(20);

/// The time between two checks of a condition.
const INTERVAL: Duration = Duration::from_millis(1);

/// Waits until a condition holds. Panics with `condition`, its description, if it does not in time.
///
/// Sleeps between the checks, so that other tasks and threads get the cores.
pub(crate) async fn wait_until(condition: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert_in_time(condition, started);
        tokio::time::sleep(INTERVAL).await;
    }
}

/// Like [`wait_until`], but blocks the thread: for tests without a runtime.
pub(crate) fn block_until(condition: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert_in_time(condition, started);
        thread::sleep(INTERVAL);
    }
}

fn assert_in_time(condition: &str, started: Instant) {
    assert!(started.elapsed() < LIMIT, "not true within {LIMIT:?}: {condition}");
}
