//! The files in `docs/`: data of several peers side by side in `bench.json`, page and picture made from them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::Done;
use crate::report::{self, Result};
use crate::svg;

/// Adds a result to `bench.json` in `docs` and makes page and picture anew.
pub(crate) fn write(docs: &Path, result: Result) -> Done {
    let path = docs.join("bench.json");
    let mut all: BTreeMap<String, Result> = match fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|e| format!("cannot read bench.json: {e}"))?,
        Err(_) => BTreeMap::new(),
    };
    all.insert(result.key.clone(), result);
    let data = serde_json::to_string_pretty(&all).map_err(|e| format!("cannot write bench.json: {e}"))?;
    let results: Vec<&Result> = all.values().collect();
    let page = report::page(&results);
    println!("\n{page}");
    let files = [("bench.json", data + "\n"), ("bench.md", page), ("bench.svg", svg::picture(&results))];
    for (name, text) in files {
        fs::write(docs.join(name), text).map_err(|e| format!("cannot write {name}: {e}"))?;
    }
    Ok(())
}
