//! See waxwing_fuzz_targets::command_line.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| waxwing_fuzz_targets::command_line(input));
