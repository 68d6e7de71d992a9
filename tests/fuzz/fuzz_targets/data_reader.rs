//! See waxwing_fuzz_targets::data_reader.
#![no_main]

libfuzzer_sys::fuzz_target!(init: waxwing_fuzz_targets::write_seeds("data_reader"), |input: &[u8]| waxwing_fuzz_targets::data_reader(input));
