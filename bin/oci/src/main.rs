//! `tare-oci`: the OCI runtime command line.

fn main() {}
