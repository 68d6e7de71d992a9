//! See waxwing_fuzz_targets::reply_reader.
#![no_main]

libfuzzer_sys::fuzz_target!(init: waxwing_fuzz_targets::write_seeds("reply_reader"), |input: &[u8]| waxwing_fuzz_targets::reply_reader(input));
