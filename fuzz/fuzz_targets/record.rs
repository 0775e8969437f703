//! No bytes make the record decoder panic, or are decoded to a response that is never stored.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| actix_web_cache::fuzzing::decode_record(bytes));
