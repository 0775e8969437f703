//! No bytes of a field make a parser panic, or find more in them than there is.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|value: &[u8]| actix_web_cache::fuzzing::read_as_every_field(value));
