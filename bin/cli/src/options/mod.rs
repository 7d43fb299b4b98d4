//! Parsers of option values: pure functions from text to what the API wants, errors in Docker's words where it has some.

pub(crate) mod confine;
pub(crate) mod env;
pub(crate) mod filter;
pub(crate) mod ipam;
pub(crate) mod keys;
pub(crate) mod mount;
pub(crate) mod network;
pub(crate) mod port;
pub(crate) mod resource;
pub(crate) mod size;
pub(crate) mod when;

/// What a parser says of a bad value.
pub(crate) type Parsed<T> = Result<T, String>;

#[cfg(test)]
mod tests;
