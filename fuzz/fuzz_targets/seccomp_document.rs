//! The `linux.seccomp` section of a configuration.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tare_runtime::fuzzing::filter_document(bytes));
