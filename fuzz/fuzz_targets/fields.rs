//! No field value makes a parser panic, or return more than the value contains.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|value: &[u8]| actix_web_cache::fuzzing::parse_field_value(value));
