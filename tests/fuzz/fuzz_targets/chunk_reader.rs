//! See waxwing_fuzz_targets::chunk_reader.
#![no_main]

libfuzzer_sys::fuzz_target!(init: waxwing_fuzz_targets::write_seeds("chunk_reader"), |input: &[u8]| waxwing_fuzz_targets::chunk_reader(input));
