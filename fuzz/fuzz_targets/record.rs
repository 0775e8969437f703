//! No bytes from a store make its reader panic, and none are read as what is never stored.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| actix_web_cache::fuzzing::read_as_record(bytes));
