//! See `src/fuzzing/key.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| actix_web_cache::fuzzing::key::run(input));
