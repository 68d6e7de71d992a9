//! See waxwing_fuzz_targets::server_session.
#![no_main]

libfuzzer_sys::fuzz_target!(init: waxwing_fuzz_targets::write_seeds("server_session"), |input: &[u8]| waxwing_fuzz_targets::server_session(input));
