//! Records of runs.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tare_shim::fuzzing::record(bytes));
