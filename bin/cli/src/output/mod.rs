//! What is printed: tables with Docker's columns, human sizes and times, `--format`, and JSON laid out anew.

pub(crate) mod format;
pub(crate) mod human;
pub(crate) mod json;
pub(crate) mod ports;
pub(crate) mod table;

#[cfg(test)]
mod tests;
