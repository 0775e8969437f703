//! Lines that handlers record for the test.

use std::sync::{Arc, Mutex};

use actix_web::HttpRequest;

/// A list of lines that threads share.
#[derive(Debug, Clone, Default)]
pub(crate) struct SharedLines(Arc<Mutex<Vec<String>>>);

impl SharedLines {
    pub(crate) fn add(&self, line: impl Into<String>) {
        self.0.lock().unwrap().push(line.into());
    }

    /// Takes the lines since the last call.
    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

/// The conditional and range fields of a request, as `name: value`.
pub(crate) fn conditions(request: &HttpRequest) -> String {
    let names = [
        "if-match",
        "if-none-match",
        "if-modified-since",
        "if-unmodified-since",
        "if-range",
        "range",
    ];
    let all = names.into_iter().flat_map(|name| {
        let lines = request.headers().get_all(name);
        lines.map(move |line| format!("{name}: {}", line.to_str().unwrap()))
    });
    all.collect::<Vec<_>>().join("; ")
}
