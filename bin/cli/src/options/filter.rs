//! `--filter name=value`, as the API takes it.

use super::Parsed;
use std::collections::BTreeMap;

/// The check of `--filter`.
pub(crate) fn check(text: &str) -> Parsed<()> {
    if text.is_empty() || text.contains('=') {
        Ok(())
    } else {
        Err("bad format of filter (expected name=value)".to_owned())
    }
}

/// The `filters` query parameter for these flags; nothing for none.
pub(crate) fn query(filters: &[&str]) -> Option<String> {
    let mut map: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for (name, value) in filters.iter().filter_map(|f| f.split_once('=')) {
        map.entry(name.trim().to_lowercase()).or_default().push(value.trim());
    }
    if map.is_empty() { None } else { serde_json::to_string(&map).ok() }
}
