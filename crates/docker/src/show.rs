//! From the engine's nouns to Docker's documents: pure, one file for each document.
//!
//! Documents are the generated models wherever these have the field; what only older API versions have is added by
//! hand, and the version decides.

pub(crate) mod container;
pub(crate) mod event;
pub(crate) mod fault;
mod host_config;
pub(crate) mod image;
pub(crate) mod network;
pub(crate) mod networking;
mod state;
pub(crate) mod stats;
pub(crate) mod summary;
pub(crate) mod system;
pub(crate) mod volume;

use serde::Serialize;
use serde_json::{Map, Value};

/// A document as an object that more fields can be put into. Documents are structures, so there is always one.
fn object(document: &impl Serialize) -> Map<String, Value> {
    match serde_json::to_value(document) {
        Ok(Value::Object(object)) => object,
        _ => Map::new(),
    }
}

#[cfg(test)]
pub(crate) mod tests;
