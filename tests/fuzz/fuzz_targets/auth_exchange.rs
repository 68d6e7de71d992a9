//! See waxwing_fuzz_targets::auth_exchange.
#![no_main]

libfuzzer_sys::fuzz_target!(init: waxwing_fuzz_targets::write_seeds("auth_exchange"), |input: &[u8]| waxwing_fuzz_targets::auth_exchange(input));
