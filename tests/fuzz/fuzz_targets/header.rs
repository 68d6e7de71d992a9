//! See waxwing_fuzz_targets::header.
#![no_main]

libfuzzer_sys::fuzz_target!(init: waxwing_fuzz_targets::write_seeds("header"), |input: &[u8]| waxwing_fuzz_targets::header(input));
