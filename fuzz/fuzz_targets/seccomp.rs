//! A compiled system call filter against the meaning of its profile.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tare_runtime::fuzzing::filter(bytes));
