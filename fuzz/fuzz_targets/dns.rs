//! A question of a container, and an upstream server's answer to it.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tare_net::dns::fuzzing::question_and_answer(bytes));
