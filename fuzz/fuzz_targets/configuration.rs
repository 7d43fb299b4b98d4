//! `config.json`, planned.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tare_runtime::fuzzing::configuration(bytes));
