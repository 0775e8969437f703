//! Servers in child processes, and load generators.

#![allow(dead_code, reason = "each bench uses some of the helpers")]

mod load;
mod redis;
mod server;

#[allow(unused_imports, reason = "each bench uses some of the helpers")]
pub(crate) use self::{
    load::{Connection, Load, browser_request},
    redis::Redis,
    server::{Server, requested_server, serve},
};

/// Returns the median of the values.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Returns the text that follows `name` among the program's arguments.
pub(crate) fn text_argument(name: &str) -> Option<String> {
    std::env::args().skip_while(|argument| argument != name).nth(1)
}

/// Returns the number that follows `name` among the program's arguments, or `default`.
pub(crate) fn argument(name: &str, default: usize) -> usize {
    let mut arguments = std::env::args().skip_while(|argument| argument != name);
    arguments.nth(1).and_then(|value| value.parse().ok()).unwrap_or(default)
}
