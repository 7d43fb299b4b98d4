//! `tared`: the engine and its faces in one process.

fn main() {}
