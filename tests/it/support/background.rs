//! What goes on beside a test whatever the test's own threads do.

use std::future::Future;

use tokio::runtime::{Builder, Runtime};

/// A runtime in a thread of its own, until it is dropped.
pub(crate) struct Background(Option<Runtime>);

impl Background {
    pub(crate) fn run(work: impl Future<Output = ()> + Send + 'static) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.spawn(work);
        Self(Some(runtime))
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // Also where a test is asynchronous and may not wait.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
