//! Edges inside a crate: which top module names which, and whether that goes in a circle.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::cycle::{self, Graph};
use super::paths;
use crate::shell::Done;

/// One source file of a top module: how deep it lies and where it is.
struct Source {
    depth: usize,
    path: PathBuf,
}

/// A sentence if the top modules of the crate at `root` (its `lib.rs` or `main.rs`) import one another in a circle.
pub(super) fn faults(name: &str, root: &Path) -> Done<Vec<String>> {
    let dir = root.parent().ok_or_else(|| format!("{name}: no source directory"))?;
    let modules = top_modules(dir, root)?;
    let (graph, places) = graph(&modules, &read(root)?)?;
    Ok(cycle::find(&graph).map(|ring| sentence(name, &ring, &places)).into_iter().collect())
}

type Places = BTreeMap<(String, String), String>;

fn graph(modules: &BTreeMap<String, Vec<Source>>, root: &str) -> Done<(Graph, Places)> {
    let aliases: BTreeMap<_, _> = paths::reexports(root).into_iter().collect();
    let (mut graph, mut places) = (Graph::new(), Places::new());
    for (module, sources) in modules {
        let edges: &mut BTreeSet<String> = graph.entry(module.clone()).or_default();
        for source in sources {
            for mention in paths::mentions(&read(&source.path)?, source.depth) {
                let target = if modules.contains_key(&mention.name) {
                    Some(&mention.name)
                } else {
                    aliases.get(&mention.name).filter(|m| modules.contains_key(*m))
                };
                let Some(target) = target.filter(|t| *t != module) else { continue };
                edges.insert(target.clone());
                let place = format!("{}:{}", source.path.display(), mention.line);
                places.entry((module.clone(), target.clone())).or_insert(place);
            }
        }
    }
    Ok((graph, places))
}

fn sentence(name: &str, ring: &[String], places: &Places) -> String {
    let mut out = format!("{name}: modules import one another in a circle:");
    for (i, from) in ring.iter().enumerate() {
        let to = &ring[(i + 1) % ring.len()];
        let place = places.get(&(from.clone(), to.clone())).map_or("?", String::as_str);
        out.push_str(&format!("\n    {from} imports {to} at {place}"));
    }
    out
}

/// The modules right under the crate's root, each with all its files. Programs in `bin/` are crates of their own.
fn top_modules(dir: &Path, root: &Path) -> Done<BTreeMap<String, Vec<Source>>> {
    let mut modules: BTreeMap<String, Vec<Source>> = BTreeMap::new();
    for path in list(dir)? {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if path == root || matches!(stem.as_str(), "main" | "lib" | "tests" | "bin") {
            continue;
        }
        collect(&path, 1, modules.entry(stem).or_default())?;
    }
    modules.retain(|_, sources| !sources.is_empty());
    Ok(modules)
}

fn collect(path: &Path, depth: usize, out: &mut Vec<Source>) -> Done {
    if path.is_dir() {
        for child in list(path)? {
            let here = child.file_name().is_some_and(|n| n == "mod.rs");
            collect(&child, if here { depth } else { depth + 1 }, out)?;
        }
    } else if path.extension().is_some_and(|e| e == "rs") && path.file_stem().is_some_and(|s| s != "tests") {
        out.push(Source { depth, path: path.to_path_buf() });
    }
    Ok(())
}

fn list(dir: &Path) -> Done<Vec<PathBuf>> {
    let entries = fs::read_dir(dir).map_err(|e| format!("cannot list {}: {e}", dir.display()))?;
    let mut paths: Vec<_> = entries.filter_map(|e| e.ok().map(|e| e.path())).collect();
    paths.sort();
    Ok(paths)
}

fn read(path: &Path) -> Done<String> {
    fs::read_to_string(path).map_err(|e| format!("cannot read {}: {e}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crate_of(files: &[(&str, &str)]) -> (tempfile::TempDir, Vec<String>) {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let faults = faults("x", &dir.path().join("lib.rs")).unwrap();
        (dir, faults)
    }

    #[test]
    fn a_chain_is_fine() {
        let (_dir, faults) =
            crate_of(&[("lib.rs", "mod a; mod b;"), ("a.rs", "use crate::b;"), ("b.rs", "use std::fs;")]);
        assert!(faults.is_empty(), "{faults:?}");
    }

    #[test]
    fn a_cycle_through_folders_and_reexports_is_found() {
        let (_dir, faults) = crate_of(&[
            ("lib.rs", "mod a; mod b; pub use a::Thing;"),
            ("a.rs", "mod deep;"),
            ("a/deep.rs", "\n\nuse super::super::b::X;"),
            ("b/mod.rs", "use crate::Thing;"),
        ]);
        assert_eq!(faults.len(), 1);
        assert!(faults[0].contains("a imports b at") && faults[0].contains("deep.rs:3"), "{}", faults[0]);
        assert!(faults[0].contains("b imports a at"), "{}", faults[0]);
    }

    #[test]
    fn a_module_may_name_itself() {
        let (_dir, faults) = crate_of(&[("lib.rs", "mod a;"), ("a.rs", "use crate::a::b;")]);
        assert!(faults.is_empty(), "{faults:?}");
    }
}
