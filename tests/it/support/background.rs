//! Tasks that make progress while the threads of the test are blocked.

use std::future::Future;

use tokio::runtime::{Builder, Runtime};

/// A runtime with a thread of its own. Dropping it ends the tasks.
pub(crate) struct BackgroundRuntime(Option<Runtime>);

impl BackgroundRuntime {
    pub(crate) fn run(work: impl Future<Output = ()> + Send + 'static) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.spawn(work);
        Self(Some(runtime))
    }
}

impl Drop for BackgroundRuntime {
    fn drop(&mut self) {
        // An asynchronous test must not block on the end of a runtime.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
