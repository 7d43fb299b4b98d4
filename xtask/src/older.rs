//! `cargo xtask older`: suites run as if the kernel were older, part of `cargo xtask test`.
//!
//! Every call that `docs/kernels.md` lists answers `ENOSYS`, by a filter that the example `without` of `tare-sys` loads
//! before it executes the tests; cargo takes it as the runner of test programs. The daemon and the monitors that tests
//! start inherit it. Containers are in the host's user namespace there: one of their own is refused, which is tested.

use std::process::Command;

use crate::shell::{self, Done};

/// What is forced.
const CALLS: &str = "all";

/// Suites, and those of their tests that are chosen (all, if none).
const SUITES: &[(&str, &str, &[&str])] = &[
    ("tare-runtime", "containers", &[]),
    ("tare-shim-bin", "containers", &[]),
    (
        "tare-e2e",
        "e2e",
        &["run::", "exec::", "mounts::", "isolation::", "limits::", "terminal::", "lifecycle::"],
    ),
];

/// What does not hold there, as `docs/kernels.md` says.
const LEFT_OUT: &[&str] = &[
    // The program of a monitor is a sealed copy in memory, not pages of its file.
    "an_idle_monitor_is_small",
    // /dev/shm of another container is a mount of its mount namespace.
    "namespaces_of_another_container_can_be_joined",
];

/// Builds what loads the filter, and gives the commands that run the suites. The programs are built.
pub(crate) fn commands() -> Done<Vec<Command>> {
    shell::run(&mut shell::cargo(&["build", "-p", "tare-sys", "--example", "without"]))?;
    let (name, runner) = runner()?;
    let command = |(package, target, chosen): &(&str, &str, &[&str])| {
        let mut command = shell::cargo(&["test", "-p", package, "--test", target, "--no-fail-fast", "--"]);
        command.args(*chosen).args(LEFT_OUT.iter().flat_map(|test| ["--skip", test]));
        command.env(&name, &runner).env("TARE_TEST_USERNS", "host");
        command
    };
    Ok(SUITES.iter().map(command).collect())
}

/// The variable by which cargo is told of a runner, and its value.
fn runner() -> Done<(String, String)> {
    let programs = shell::programs("debug")?;
    let target = programs
        .parent()
        .and_then(|dir| dir.file_name())
        .ok_or("programs are in no directory of a target")?;
    let target = target.to_string_lossy().to_uppercase().replace('-', "_");
    let without = programs.join("examples/without");
    Ok((format!("CARGO_TARGET_{target}_RUNNER"), format!("{} {CALLS}", without.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_runner_is_named_as_cargo_reads_it() {
        let (name, value) = runner().unwrap();
        assert!(name.starts_with("CARGO_TARGET_") && name.ends_with("_RUNNER"), "{name}");
        assert!(!name.contains('-') && name.to_uppercase() == name, "{name}");
        assert!(value.ends_with("/examples/without all"), "{value}");
    }
}
