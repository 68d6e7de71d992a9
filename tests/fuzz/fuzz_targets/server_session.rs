//! See waxwing_fuzz_targets::server_session.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| waxwing_fuzz_targets::server_session(input));
