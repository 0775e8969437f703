//! Policies, rules and options in a file, so that operations can change them without a build
//! (feature `serde`).
//!
//! The names in a file are those of the setters. A name that does not exist is an error, and so is a
//! value without an effect: a mistake in a file must not go unnoticed.

mod compression;
pub(crate) mod file;
mod options;
pub(crate) mod policy_changes;
mod query;
mod rule;
mod values;

#[cfg(test)]
mod tests;
