//! Tasks of this checkout: demo, test, bench, edges, tidy.

fn main() {}
