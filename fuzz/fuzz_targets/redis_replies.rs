//! See `src/fuzzing/redis_replies.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| actix_web_cache::fuzzing::redis_replies::run(input));
