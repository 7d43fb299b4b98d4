//! The runtime judged by somebody else: the validation programs of opencontainers/runtime-tools, on `tare-oci` and on a
//! reference side by side, written to `docs/conformance.md`.
//!
//! Each program makes containers with the runtime that `RUNTIME` names and speaks TAP. It passes if it exits with 0 and
//! no line says `not ok`. What fails is known by name: [`KNOWN`] says why, by sentence of the specification or by
//! what the machine lacks; a failure that is not known, or where the reference passes, fails the task.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::{Args, Subcommand};

use crate::shell::{self, Done};

/// Which version of the suite is built, as a Go module.
const SUITE: &str = "github.com/opencontainers/runtime-tools";
const VERSION: &str = "v0.9.1-0.20251114084447-edf4cb3d2116";
/// Files of the suite that are no validation program.
const HELPERS: [&str; 3] = ["runtimetest", "oci-runtime-tool", "rootfs-amd64.tar.gz"];
/// Seconds one program may take.
const LIMIT: &str = "120";

/// What is judged.
#[derive(Subcommand)]
pub(crate) enum Options {
    /// `tare-oci`, by the validation programs of runtime-tools (needs root)
    Runtime(Runtime),
}

/// How the runtime is judged.
#[derive(Args)]
pub(crate) struct Runtime {
    /// Directory with the validation programs; built with Go under target/peers if not given
    #[arg(long, value_name = "DIR")]
    suite: Option<PathBuf>,
    /// A runtime to compare with; without one only known failures are accepted
    #[arg(long, value_name = "PROGRAM")]
    reference: Option<PathBuf>,
    /// The runtime under test; tare-oci of the debug profile if not given
    #[arg(long, value_name = "PROGRAM")]
    runtime: Option<PathBuf>,
}

/// Why a program may fail: its name, and the reason as it stands in the document.
const KNOWN: &[(&str, &str)] = &[
    (
        "delete",
        "it wants `delete` of a `created` container refused, runtime.md: \"Attempting to delete a container that is not stopped MUST … generate an error\"; this runtime removes one, as runc does and containerd relies on (delete.go, second case)",
    ),
    ("delete_resources", "as linux_cgroups_pids"),
    (
        "hooks_stdin",
        "it wants the status `created` told to prestart hooks, and poststart hooks of a program that has ended by then; runtime.md: \"`creating`: the container is being created (step 2 in the lifecycle)\"",
    ),
    (
        "killsig",
        "it signals at once after `start`, and its shell may not have set the trap yet; a first process of a pid namespace ignores signals that it does not handle, pid_namespaces(7) (killsig.go, PreDelete): a race that either runtime may win",
    ),
    ("linux_cgroups_blkio", "it reads files of the CFQ scheduler, which Linux 5.0 removed"),
    (
        "linux_cgroups_devices",
        "it wants its own rule as the first of `devices.list`; config-linux.md: \"The runtime MUST apply entries in the listed order\", and the kernel lists the default devices that config-linux.md demands as well",
    ),
    ("linux_cgroups_hugetlb", "kernel: no hugetlb controller of cgroup v1 here"),
    (
        "linux_cgroups_memory",
        "kernel: limits on kernel memory were removed in Linux 6.1; config-linux.md: \"kernel (int64, OPTIONAL, NOT RECOMMENDED)\"",
    ),
    ("linux_cgroups_network", "kernel: no net_cls and net_prio controllers here"),
    (
        "linux_cgroups_pids",
        "it compares the addresses of two numbers and not the numbers (the line shows them)",
    ),
    ("linux_cgroups_relative_blkio", "as linux_cgroups_blkio"),
    ("linux_cgroups_relative_devices", "as linux_cgroups_devices"),
    ("linux_cgroups_relative_hugetlb", "as linux_cgroups_hugetlb"),
    ("linux_cgroups_relative_memory", "as linux_cgroups_memory"),
    ("linux_cgroups_relative_network", "as linux_cgroups_network"),
    ("linux_cgroups_relative_pids", "as linux_cgroups_pids"),
    ("linux_mount_label", "kernel: no SELinux here"),
    ("linux_process_apparmor_profile", "kernel: no AppArmor here"),
    (
        "misc_props",
        "its bundles lack the program that they are to run; runtime.md: \"If the runtime is unable to create the environment specified in the config.json, it MUST generate an error\"",
    ),
    (
        "pidfile",
        "it kills a container whose program, `true`, has mostly ended by then, a race that either runtime may win; runtime.md: \"Attempting to send a signal to a container that is neither created nor running MUST … generate an error\" (pidfile.go, PreDelete)",
    ),
    ("process_capabilities", "kernel: this machine withholds CAP_SYS_RESOURCE, which it wants in every set"),
    (
        "process_rlimits",
        "Go's runtime in the program raises its soft limit on open files before the program looks at it",
    ),
    (
        "start",
        "it wants `start` to succeed on a container without `process`; runtime.md: \"This operation MUST generate an error if `process` was not set\" (start.go, last case)",
    ),
];

/// Programs whose outcome is a race: that the reference won it this time says nothing.
const RACES: [&str; 2] = ["killsig", "pidfile"];

/// What one program said of one runtime.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    Passes,
    /// With the first line that says why.
    Fails(String),
}

/// Runs what was asked for.
pub(crate) fn run(options: &Options) -> Done {
    let Options::Runtime(options) = options;
    shell::need_root("conformance runtime")?;
    let suite = match &options.suite {
        Some(suite) => {
            fs::canonicalize(suite).map_err(|e| format!("cannot find {}: {e}", suite.display()))?
        }
        None => build()?,
    };
    let ours = match &options.runtime {
        Some(runtime) => runtime.clone(),
        None => {
            shell::run(&mut shell::cargo(&["build", "-p", "tare-oci"]))?;
            shell::programs("debug")?.join("tare-oci")
        }
    };
    let judged = judge(&suite, &ours)?;
    let reference = options.reference.as_deref().map(|program| judge(&suite, program)).transpose()?;
    let path = shell::top().join("docs/conformance.md");
    let text = document(&judged, reference.as_ref());
    fs::write(&path, text).map_err(|e| format!("cannot write {}: {e}", path.display()))?;
    sum_up(&judged, reference.as_ref())
}

/// Builds the suite as Go modules under `target/peers`; what is there already is kept.
fn build() -> Done<PathBuf> {
    let peers = shell::top().join("target/peers");
    let (module, suite) = (peers.join("runtime-tools"), peers.join("validation"));
    if suite.join("runtimetest").is_file() {
        return Ok(suite);
    }
    for dir in [&module, &suite] {
        fs::create_dir_all(dir).map_err(|e| format!("cannot make {}: {e}", dir.display()))?;
    }
    let go = |words: &[&str]| {
        let mut command = Command::new("go");
        command.args(words).current_dir(&module).env("CGO_ENABLED", "0");
        command
    };
    if !module.join("go.mod").is_file() {
        shell::run(&mut go(&["mod", "init", "tare.invalid/peers"]))?;
    }
    shell::run(&mut go(&["get", &format!("{SUITE}@{VERSION}")]))?;
    let (cmd, all) = (format!("{SUITE}/cmd/..."), format!("{SUITE}/validation/..."));
    let out = format!("{}/", suite.display());
    for packages in [&cmd, &all] {
        // The helper runs inside the containers, so it must need nothing from there.
        shell::run(&mut go(&["build", "-mod=mod", "-tags", "netgo osusergo", "-o", &out, packages]))?;
    }
    let place = shell::output(&mut go(&["list", "-mod=mod", "-m", "-f", "{{.Dir}}", SUITE]))?;
    let rootfs = Path::new(place.trim()).join("rootfs-amd64.tar.gz");
    fs::copy(&rootfs, suite.join("rootfs-amd64.tar.gz"))
        .map_err(|e| format!("cannot copy {}: {e}", rootfs.display()))?;
    Ok(suite)
}

/// Runs every program of the suite on `runtime`.
fn judge(suite: &Path, runtime: &Path) -> Done<BTreeMap<String, Verdict>> {
    let listed = fs::read_dir(suite).map_err(|e| format!("cannot list {}: {e}", suite.display()))?;
    let mut names: Vec<String> =
        listed.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.retain(|name| !HELPERS.contains(&name.as_str()));
    names.sort();
    let mut judged = BTreeMap::new();
    for name in names {
        let verdict = one(suite, &name, runtime)?;
        println!("{} {name}", if verdict == Verdict::Passes { "pass" } else { "FAIL" });
        judged.insert(name, verdict);
    }
    sweep();
    Ok(judged)
}

/// Takes away the groups above those of the suite's containers, which no runtime knows to be nobody's; below the root of
/// each hierarchy, or below our own group, where some runtimes put relative paths.
fn sweep() {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = own.lines().filter_map(|line| line.splitn(3, ':').nth(2)).map(|path| path.trim_matches('/'));
    let bases: Vec<&str> = std::iter::once("").chain(own).collect();
    for hierarchy in fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
        for base in &bases {
            for group in ["testdir/cgrouptest", "testdir", "cgrouptest"] {
                // Only empty ones can go.
                let _ = fs::remove_dir(hierarchy.path().join(base).join(group));
            }
        }
    }
}

/// One program, in a directory with what it needs and a mount namespace of its own.
fn one(suite: &Path, name: &str, runtime: &Path) -> Done<Verdict> {
    let place = std::env::temp_dir().join(format!("tare-conformance-{}", std::process::id()));
    let _ = fs::remove_dir_all(&place);
    fs::create_dir_all(&place).map_err(|e| format!("cannot make {}: {e}", place.display()))?;
    for file in ["runtimetest", "rootfs-amd64.tar.gz"] {
        fs::copy(suite.join(file), place.join(file)).map_err(|e| format!("cannot copy {file}: {e}"))?;
    }
    let program = suite.join(name);
    let before = containers(runtime);
    let ran = Command::new("timeout")
        .args([LIMIT, "unshare", "--mount", "--propagation", "private"])
        .arg(&program)
        .current_dir(&place)
        .env("RUNTIME", runtime)
        .stdin(Stdio::null())
        .output()
        .map_err(|e| format!("cannot run {}: {e}", program.display()))?;
    let _ = fs::remove_dir_all(&place);
    for id in containers(runtime).iter().filter(|id| !before.contains(id)) {
        // Some programs leave what they made when they find it wrong.
        let _ = Command::new(runtime).args(["delete", "--force", id]).output();
    }
    let said = [ran.stdout, ran.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    Ok(verdict(ran.status.success(), &said))
}

/// Ids of the containers that a runtime has.
fn containers(runtime: &Path) -> Vec<String> {
    let listed = Command::new(runtime).args(["list", "--quiet"]).stdin(Stdio::null()).output();
    let text = listed.map(|out| String::from_utf8_lossy(&out.stdout).into_owned()).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn verdict(succeeded: bool, said: &str) -> Verdict {
    let bad = said.lines().map(str::trim).find(|line| line.starts_with("not ok"));
    match bad {
        None if succeeded => Verdict::Passes,
        Some(line) => Verdict::Fails(line.to_owned()),
        None => {
            let telling =
                |line: &&str| !line.is_empty() && !line.starts_with("TAP ") && !line.starts_with("exit ");
            let line = said.lines().map(str::trim).rev().find(telling).unwrap_or("it said nothing");
            Verdict::Fails(line.to_owned())
        }
    }
}

fn known(name: &str) -> Option<&'static str> {
    KNOWN.iter().find(|(other, _)| *other == name).map(|(_, why)| *why)
}

fn document(judged: &BTreeMap<String, Verdict>, reference: Option<&BTreeMap<String, Verdict>>) -> String {
    let passed = judged.values().filter(|verdict| **verdict == Verdict::Passes).count();
    let mut text = format!(
        "# OCI conformance\n\nWritten by `cargo xtask conformance runtime`; do not edit. The {} validation programs of\n\
         [runtime-tools](https://{SUITE}) {VERSION}, each in a directory and a mount namespace of its own.\n\n\
         {passed} pass on `tare-oci`",
        judged.len()
    );
    if let Some(reference) = reference {
        let theirs = reference.values().filter(|verdict| **verdict == Verdict::Passes).count();
        let _ = write!(text, ", {theirs} on the reference (runc) on the same machine");
    }
    text.push_str(".\n\n| program | tare-oci | reference | what it says, and why that is no fault |\n|---|---|---|---|\n");
    for (name, verdict) in judged {
        let word = |verdict: Option<&Verdict>| match verdict {
            Some(Verdict::Passes) => "passes",
            Some(Verdict::Fails(_)) => "fails",
            None => "",
        };
        let why = match verdict {
            Verdict::Passes => String::new(),
            Verdict::Fails(line) => {
                let line = line.replace('|', "\\|");
                let line: String = line.chars().take(160).collect();
                format!("`{line}`: {}", known(name).unwrap_or("not explained"))
            }
        };
        let theirs = reference.and_then(|reference| reference.get(name));
        let _ = writeln!(text, "| {name} | {} | {} | {why} |", word(Some(verdict)), word(theirs));
    }
    text
}

fn sum_up(judged: &BTreeMap<String, Verdict>, reference: Option<&BTreeMap<String, Verdict>>) -> Done {
    let passes = |name: &str| reference.is_some_and(|all| all.get(name) == Some(&Verdict::Passes));
    let bad: Vec<&str> = judged
        .iter()
        .filter(|(_, verdict)| **verdict != Verdict::Passes)
        .map(|(name, _)| name.as_str())
        .filter(|name| known(name).is_none() || (passes(name) && !RACES.contains(name)))
        .collect();
    if bad.is_empty() {
        return Ok(());
    }
    Err(format!("failures that are not known, or where the reference passes: {}", bad.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_passes_only_without_any_complaint() {
        assert_eq!(verdict(true, "TAP version 13\nok 1 - a\n1..1\n"), Verdict::Passes);
        let complaint = Verdict::Fails("not ok 2 - b".to_owned());
        assert_eq!(verdict(true, "ok 1 - a\n  not ok 2 - b\n"), complaint);
        assert_eq!(
            verdict(false, "TAP version 13\nno runtime\nexit status 1\n"),
            Verdict::Fails("no runtime".into())
        );
    }

    #[test]
    fn a_failure_counts_unless_it_is_known_and_the_reference_fails_too() {
        let fails = || Verdict::Fails("not ok".into());
        let judged = BTreeMap::from([("start".to_owned(), fails()), ("pidfile".to_owned(), fails())]);
        assert!(sum_up(&judged, None).is_ok());
        let race = BTreeMap::from([("pidfile".to_owned(), Verdict::Passes)]);
        assert!(sum_up(&judged, Some(&race)).is_ok());
        let better = BTreeMap::from([("start".to_owned(), Verdict::Passes)]);
        assert!(sum_up(&judged, Some(&better)).unwrap_err().contains("start"));
        let unknown = BTreeMap::from([("state".to_owned(), fails())]);
        assert!(sum_up(&unknown, None).is_err());
    }
}
