//! JSON documents of archives: bounded, and read in one way only.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use tare_model::Result;

use crate::error::corrupt;

/// Parses a document that must be an object and must not be two kinds of document at once: a manifest that is also an
/// index would be run as one image and scanned as another.
pub(super) fn object(bytes: &[u8], name: &str) -> Result<Map<String, Value>> {
    let object: Map<String, Value> = parse(bytes, name)?;
    let index = object.contains_key("manifests");
    let manifest = ["layers", "config", "fsLayers"].iter().any(|key| object.contains_key(*key));
    if index && manifest {
        return Err(corrupt(format!("{name:?} is manifest and index at once: readers disagree which")));
    }
    Ok(object)
}

/// Parses a document.
pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8], name: &str) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|e| corrupt(format!("{name:?} in the archive cannot be read: {e}")))
}

/// Turns an object into a type.
pub(super) fn read<T: DeserializeOwned>(object: Map<String, Value>, name: &str) -> Result<T> {
    let value = Value::Object(object);
    serde_json::from_value(value).map_err(|e| corrupt(format!("{name:?} in the archive cannot be read: {e}")))
}
