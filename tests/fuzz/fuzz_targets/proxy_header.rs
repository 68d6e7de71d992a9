//! See waxwing_fuzz_targets::proxy_header.
#![no_main]

libfuzzer_sys::fuzz_target!(init: waxwing_fuzz_targets::write_seeds("proxy_header"), |input: &[u8]| waxwing_fuzz_targets::proxy_header(input));
