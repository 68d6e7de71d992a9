//! See waxwing_fuzz_targets::command_line.
#![no_main]

libfuzzer_sys::fuzz_target!(init: waxwing_fuzz_targets::write_seeds("command_line"), |input: &[u8]| waxwing_fuzz_targets::command_line(input));
