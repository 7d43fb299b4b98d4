//! Archives of images, into a store in a directory of its own.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(scratch) = tempfile::tempdir() {
        tare_store::fuzzing::load(scratch.path(), bytes);
    }
});
