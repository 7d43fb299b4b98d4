//! Docker Engine API: wire types, version table and the blocking client that the command line uses.

pub mod client;

pub use bollard_stubs::models;
