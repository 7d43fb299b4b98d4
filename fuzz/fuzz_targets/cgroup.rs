//! Files of control groups, and what a systemd says.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tare_runtime::cgroup::parse::all(bytes));
