//! Layers, into a directory of their own. Needs root.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(scratch) = tempfile::tempdir() {
        tare_store::fuzzing::unpack(scratch.path(), bytes);
    }
});
