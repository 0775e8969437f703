//! Stores of any kind: the conformance suite, the record format, memory use, and failures.

mod codec;
mod conformance;
mod failing;
mod memory;
