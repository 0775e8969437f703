//! Log messages of the crate, by the thread that logs them.

use std::{
    cell::RefCell,
    sync::{Arc, Mutex, Once},
};

use log::{Level, LevelFilter, Log, Metadata, Record};

thread_local! {
    static HERE: RefCell<Option<CapturedLog>> = const { RefCell::new(None) };
}

/// The log messages of the threads that called [`capture`](Self::capture).
///
/// A process has one logger, and its tests run in parallel. Therefore a test calls `capture` in the
/// application factory of its server, which runs in the worker thread.
#[derive(Debug, Clone, Default)]
pub(crate) struct CapturedLog(Arc<Mutex<Vec<(Level, String)>>>);

impl CapturedLog {
    /// Captures the messages that this thread logs from now on.
    pub(crate) fn capture(&self) {
        static INSTALLED: Once = Once::new();
        INSTALLED.call_once(|| {
            log::set_logger(&ByThread).unwrap();
            log::set_max_level(LevelFilter::Trace);
        });
        HERE.set(Some(self.clone()));
    }

    /// Takes the messages since the last call, up to a level.
    pub(crate) fn take(&self, up_to: Level) -> Vec<String> {
        let lines = std::mem::take(&mut *self.0.lock().unwrap());
        lines.into_iter().filter(|(level, _)| *level <= up_to).map(|(_, line)| line).collect()
    }
}

struct ByThread;

impl Log for ByThread {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("actix_web_cache") && HERE.with_borrow(Option::is_some)
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        HERE.with_borrow(|here| {
            if let Some(CapturedLog(lines)) = here {
                lines.lock().unwrap().push((record.level(), record.args().to_string()));
            }
        });
    }

    fn flush(&self) {}
}
