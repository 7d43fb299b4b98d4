//! `tare-shim`: the nursery and the per-container monitor it forks.

fn main() {}
