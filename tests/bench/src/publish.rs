//! The files in `docs/`: data of several peers side by side in `bench.json`, page and picture made from them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::Done;
use crate::report::{self, Result, Row};
use crate::svg;

/// Adds a result to `bench.json` in `docs` and makes page and picture anew. Rows that were not measured this time stay unless
/// `is_whole`.
pub(crate) fn write(docs: &Path, mut result: Result, is_whole: bool) -> Done {
    let path = docs.join("bench.json");
    let mut all: BTreeMap<String, Result> = match fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|e| format!("cannot read bench.json: {e}"))?,
        Err(_) => BTreeMap::new(),
    };
    if let Some(before) = all.remove(&result.key).filter(|_| !is_whole) {
        result.rows = merged(before.rows, result.rows);
    }
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

/// New rows in the places of those of the same name, others behind.
fn merged(before: Vec<Row>, mut new: Vec<Row>) -> Vec<Row> {
    let mut all: Vec<Row> = Vec::new();
    for row in before {
        let fresh = new.iter().position(|other| other.what == row.what);
        all.push(fresh.map_or(row, |at| new.remove(at)));
    }
    all.extend(new);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_were_measured_again_keep_their_places() {
        let row = |what: &str, unit: &str| Row::new(what, unit, None, None, None);
        let all = merged(vec![row("a", "old"), row("b", "old")], vec![row("c", "new"), row("b", "new")]);
        let told: Vec<_> = all.iter().map(|row| (row.what.as_str(), row.unit.as_str())).collect();
        assert_eq!(told, [("a", "old"), ("b", "new"), ("c", "new")]);
    }
}
