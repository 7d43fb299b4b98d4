//! Edges between crates: DESIGN §2's table as data, and `cargo metadata` held against it.

use std::path::PathBuf;

use serde::Deserialize;

use crate::shell::Done;

/// One crate and the crates of the house it may import. Rows are in the order of DESIGN: imports point up.
struct Row {
    crate_name: &'static str,
    may_import: &'static [&'static str],
}

const fn row(crate_name: &'static str, may_import: &'static [&'static str]) -> Row {
    Row { crate_name, may_import }
}

/// The house. A crate that is not here yet gets its row with its first commit.
const TABLE: &[Row] = &[
    // ground
    row("tare-sys", &[]),
    row("tare-model", &[]),
    row("tare-docker-api", &["tare-model"]),
    // rooms
    row("tare-runtime", &["tare-sys", "tare-model"]),
    row("tare-net", &["tare-sys", "tare-model"]),
    row("tare-store", &["tare-sys", "tare-model"]),
    // services
    row("tare-shim", &["tare-sys", "tare-model"]),
    // house
    row("tare-engine", &["tare-sys", "tare-model", "tare-net", "tare-store", "tare-shim"]),
    // doors
    row("tare-docker", &["tare-model", "tare-docker-api", "tare-engine"]),
    row("tare-cli", &["tare-model", "tare-docker-api"]),
    row("tare-shim-bin", &["tare-model", "tare-runtime", "tare-shim"]),
    row("tare-oci", &["tare-model", "tare-runtime"]),
    row("tare-daemon", &["tare-model", "tare-engine", "tare-docker"]),
    // tests and tools: they meet the programs from outside
    row("tare-kit", &[]),
    row("tare-e2e", &["tare-kit"]),
    row("tare-crash", &["tare-kit"]),
    row("tare-bench", &["tare-kit", "tare-sys"]),
    row("tare-profiles", &["tare-kit"]),
    row("xtask", &["tare-kit"]),
];

/// A crate of the workspace as `cargo metadata` shows it.
pub(super) struct Member {
    pub(super) name: String,
    /// The crate's main source file: `lib.rs`, or `main.rs` of a program.
    pub(super) root: PathBuf,
    imports: Vec<Import>,
}

#[derive(Deserialize)]
struct Import {
    name: String,
    /// Only crates of the house are named by path.
    path: Option<String>,
    /// `dev`, `build` or nothing.
    kind: Option<String>,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    dependencies: Vec<Import>,
    targets: Vec<Target>,
}

#[derive(Deserialize)]
struct Target {
    kind: Vec<String>,
    src_path: PathBuf,
}

/// Reads the members from `cargo metadata --no-deps`.
pub(super) fn members(metadata: &str) -> Done<Vec<Member>> {
    let metadata: Metadata =
        serde_json::from_str(metadata).map_err(|e| format!("cannot read `cargo metadata`: {e}"))?;
    metadata.packages.into_iter().map(member).collect()
}

fn member(package: Package) -> Done<Member> {
    let of_kind = |kind: &str| package.targets.iter().find(|t| t.kind.iter().any(|k| k == kind));
    let root = of_kind("lib").or_else(|| of_kind("bin"));
    let root = root.ok_or_else(|| format!("{}: neither library nor program", package.name))?.src_path.clone();
    Ok(Member { name: package.name, root, imports: package.dependencies })
}

/// Every edge that the table does not have, as a sentence.
pub(super) fn faults(members: &[Member]) -> Vec<String> {
    let mut faults = Vec::new();
    for member in members {
        let Some(row) = TABLE.iter().find(|row| row.crate_name == member.name) else {
            faults.push(format!("crate {} has no row in the table (xtask/src/edges/table.rs)", member.name));
            continue;
        };
        for import in member.imports.iter().filter(|i| i.path.is_some()) {
            if !allowed(row, import) {
                faults.push(format!(
                    "{} imports {}; DESIGN lets it import only: {}",
                    member.name,
                    import.name,
                    if row.may_import.is_empty() { "nothing".into() } else { row.may_import.join(", ") }
                ));
            }
        }
    }
    faults
}

/// Tests of any crate may stand on the kit.
fn allowed(row: &Row, import: &Import) -> bool {
    row.may_import.contains(&import.name.as_str())
        || (import.kind.as_deref() == Some("dev") && import.name == "tare-kit")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(name: &str, dependency: &str, kind: &str) -> String {
        format!(
            r#"{{"packages":[{{"name":"{name}","dependencies":[{{"name":"{dependency}","path":"/x","kind":{kind}}},
               {{"name":"serde","path":null,"kind":null}}],"targets":[{{"kind":["lib"],"src_path":"/x/src/lib.rs"}}]}}]}}"#
        )
    }

    fn faults_of(name: &str, dependency: &str, kind: &str) -> Vec<String> {
        faults(&members(&metadata(name, dependency, kind)).unwrap())
    }

    #[test]
    fn an_import_to_the_left_is_allowed() {
        assert_eq!(faults_of("tare-runtime", "tare-sys", "null"), Vec::<String>::new());
    }

    #[test]
    fn an_import_to_the_right_is_named() {
        let faults = faults_of("tare-store", "tare-engine", "null");
        assert_eq!(
            faults,
            ["tare-store imports tare-engine; DESIGN lets it import only: tare-sys, tare-model"]
        );
    }

    #[test]
    fn a_dev_dependency_is_an_edge_too_except_on_the_kit() {
        assert_eq!(faults_of("tare-sys", "tare-kit", "\"dev\""), Vec::<String>::new());
        assert_eq!(faults_of("tare-sys", "tare-kit", "null").len(), 1);
        assert_eq!(faults_of("tare-sys", "tare-model", "\"dev\"").len(), 1);
    }

    #[test]
    fn a_crate_without_a_row_is_a_fault() {
        assert!(faults_of("tare-novelty", "tare-sys", "null")[0].contains("no row"));
    }

    #[test]
    fn every_row_imports_only_rows_above_it() {
        for (i, row) in TABLE.iter().enumerate() {
            for import in row.may_import {
                let above = TABLE[..i].iter().any(|r| r.crate_name == *import);
                assert!(above, "{} may import {import}, which stands below it", row.crate_name);
            }
        }
    }
}
