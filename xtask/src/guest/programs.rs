//! The disk at `/guest`: our programs in `bin`, an image in `images`, test programs in `tests`, what the kit needs in
//! `debs`, and whatever else was asked for in `files`. Made for each run, as the programs change.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;
use tare_kit::{Image, debs};

use super::{cache, disk};
use crate::shell::{self, Done};

/// What cargo built for tests of one crate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TestProgram {
    /// Name of the crate's test target: `tare_runtime` for the unit tests of that library, `containers` for a file.
    pub(super) target: String,
    pub(super) path: PathBuf,
}

/// Makes the disk under `scratch`.
pub(super) fn disk(scratch: &Path, tests: &[TestProgram], files: &[PathBuf]) -> Done<PathBuf> {
    let tree = scratch.join("guest");
    for dir in ["bin", "debs/busybox/root/bin", "files", "images", "tests"] {
        cache::make_dir(&tree.join(dir))?;
    }
    let built = shell::programs("debug")?;
    for program in ["tare", "tared", "tare-shim", "tare-oci"] {
        place(&built.join(program), &tree.join("bin").join(program))?;
    }
    for test in tests {
        place(&test.path, &tree.join("tests").join(&test.target))?;
    }
    // The kit finds its package finished, and asks no network for it.
    place(&debs::busybox(), &tree.join("debs/busybox/root/bin/busybox"))?;
    cache::write(&tree.join("debs/busybox/made"), "")?;
    cache::write(&tree.join("images/busybox.tar"), Image::busybox("busybox:latest").docker_archive())?;
    for file in files {
        shell::quiet(Command::new("cp").args(["-a", "-t"]).arg(tree.join("files")).arg(file))?;
    }
    let image = scratch.join("programs.img");
    disk::image(&tree, &image, 0)?;
    fs::remove_dir_all(&tree).map_err(|e| format!("cannot remove {}: {e}", tree.display()))?;
    Ok(image)
}

/// A link where it can be one, else a copy.
fn place(from: &Path, to: &Path) -> Done {
    let placed = fs::hard_link(from, to).or_else(|_| fs::copy(from, to).map(drop));
    placed.map_err(|e| format!("cannot copy {} to {}: {e}", from.display(), to.display()))
}

/// A line of cargo's.
#[derive(Deserialize)]
struct Message {
    reason: String,
    executable: Option<PathBuf>,
    target: Option<Target>,
    profile: Option<Profile>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

#[derive(Deserialize)]
struct Profile {
    test: bool,
}

/// Builds the tests of these crates.
pub(super) fn tests(crates: &[&str]) -> Done<Vec<TestProgram>> {
    let mut args = vec!["test", "--no-run", "--message-format=json-render-diagnostics"];
    args.extend(crates.iter().flat_map(|name| ["-p", name]));
    Ok(test_programs(&shell::output(&mut shell::cargo(&args))?))
}

fn test_programs(messages: &str) -> Vec<TestProgram> {
    let read = messages.lines().filter_map(|line| serde_json::from_str::<Message>(line).ok());
    let built =
        read.filter(|m| m.reason == "compiler-artifact" && m.profile.as_ref().is_some_and(|p| p.test));
    built.filter_map(|m| Some(TestProgram { target: m.target?.name, path: m.executable? })).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_test_programs_are_taken_from_what_cargo_says() {
        let messages = r#"
            {"reason":"compiler-artifact","target":{"name":"x"},"profile":{"test":true},"executable":"/t/x-1"}
            {"reason":"compiler-artifact","target":{"name":"x"},"profile":{"test":false},"executable":"/t/x"}
            {"reason":"compiler-artifact","target":{"name":"y"},"profile":{"test":true},"executable":null}
            {"reason":"build-finished","success":true}
        "#;
        assert_eq!(test_programs(messages), [TestProgram { target: "x".into(), path: "/t/x-1".into() }]);
    }
}
