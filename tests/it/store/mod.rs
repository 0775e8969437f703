//! Stores: the conformance suite, the record format, and stores that fail.

mod codec;
mod conformance;
mod failing;
mod memory;
