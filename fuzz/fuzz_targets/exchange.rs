//! See `src/fuzzing/exchange/mod.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| actix_web_cache::fuzzing::exchange::run(input));
