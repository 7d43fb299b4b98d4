//! Packets on the control sockets of monitors and of the nursery.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tare_shim::fuzzing::message(bytes));
