//! What the crate logs, told apart by the thread that logs it.

use std::{
    cell::RefCell,
    sync::{Arc, Mutex, Once},
};

use log::{Level, LevelFilter, Log, Metadata, Record};

thread_local! {
    static HERE: RefCell<Option<Lines>> = const { RefCell::new(None) };
}

/// The lines of the threads that were told to write them here.
///
/// A process has one logger and the tests run side by side, so a test lets the worker of its own
/// server, which is a thread, call [`capture`](Self::capture): the application's factory does.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lines(Arc<Mutex<Vec<(Level, String)>>>);

impl Lines {
    /// From now on what this thread logs, and no other's, comes here.
    pub(crate) fn capture(&self) {
        static INSTALLED: Once = Once::new();
        INSTALLED.call_once(|| {
            log::set_logger(&ByThread).unwrap();
            log::set_max_level(LevelFilter::Trace);
        });
        HERE.set(Some(self.clone()));
    }

    /// What came since the last call, up to a level.
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
            if let Some(Lines(lines)) = here {
                lines.lock().unwrap().push((record.level(), record.args().to_string()));
            }
        });
    }

    fn flush(&self) {}
}
