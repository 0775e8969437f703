//! Servers in processes of their own, and clients that load them: what the benches share.

#![allow(dead_code, reason = "each bench uses its part")]

mod load;
mod server;

#[allow(unused_imports, reason = "each bench uses its part")]
pub(crate) use self::{
    load::Load,
    server::{Server, serve, serve_if_asked},
};

/// The middle one of the values.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The value that follows `name` among the arguments, or `default`.
pub(crate) fn argument(name: &str, default: usize) -> usize {
    let mut arguments = std::env::args().skip_while(|argument| argument != name);
    arguments.nth(1).and_then(|value| value.parse().ok()).unwrap_or(default)
}
