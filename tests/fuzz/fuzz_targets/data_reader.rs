//! See waxwing_fuzz_targets::data_reader.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| waxwing_fuzz_targets::data_reader(input));
