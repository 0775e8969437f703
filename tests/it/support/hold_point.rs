//! Holding tasks at a point of their work.

use std::{sync::Arc, time::Duration};

use tokio::{sync::Semaphore, time::timeout};

/// A point at which tasks wait until the test releases them.
#[derive(Debug, Clone)]
pub(crate) struct HoldPoint(Arc<Permits>);

#[derive(Debug)]
struct Permits {
    /// A permit for each task that has reached the point.
    arrivals: Semaphore,
    /// A permit for each task that may continue.
    releases: Semaphore,
}

impl HoldPoint {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Permits { arrivals: Semaphore::new(0), releases: Semaphore::new(0) }))
    }

    /// Waits until the test calls [`release`](Self::release).
    pub(crate) async fn wait(&self) {
        self.0.arrivals.add_permits(1);
        self.0.releases.acquire().await.unwrap().forget();
    }

    /// Waits until a task has reached this point. Each call waits for a further task.
    pub(crate) async fn reached(&self) {
        let arrival = timeout(Duration::from_secs(20), self.0.arrivals.acquire()).await;
        arrival.expect("no task reached the hold point within 20 s").unwrap().forget();
    }

    /// Lets one task continue.
    pub(crate) fn release(&self) {
        self.0.releases.add_permits(1);
    }
}
