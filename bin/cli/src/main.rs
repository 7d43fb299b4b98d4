//! `tare`: the command line.

fn main() {}
