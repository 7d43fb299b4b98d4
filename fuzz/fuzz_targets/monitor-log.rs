//! Log files, and writing on behind them.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(scratch) = tempfile::tempdir() {
        tare_shim::fuzzing::log(scratch.path(), bytes);
    }
});
