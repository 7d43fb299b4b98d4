//! What an engine could leave on a machine, and whether it did.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::wait;

/// How long processes of a stopped engine may take to go.
const GOING: Duration = Duration::from_secs(5);

/// The traces by which an engine is told from everything else on the machine.
#[derive(Debug, Default, Clone)]
pub struct Traces {
    /// The directory under which all its state lies.
    pub place: PathBuf,
    /// Names of its cgroups (the first part of a path that is its own).
    pub cgroups: BTreeSet<String>,
    /// Ids of its containers.
    pub ids: BTreeSet<String>,
}

impl Traces {
    /// The traces of the engine that lives at `place`.
    pub fn new(place: &Path) -> Traces {
        Traces { place: place.to_path_buf(), ..Traces::default() }
    }

    /// Looks at the daemon's children and the engine's processes and remembers their cgroups.
    pub fn follow(&mut self, daemon: Option<u32>) {
        for words in daemon.into_iter().flat_map(children).map(arguments) {
            // The nursery is told the name of its group, which ends in the instance's mark, as the containers' does.
            for mark in words.iter().filter_map(|w| w.strip_prefix("tare-shims-")) {
                self.cgroups.extend([format!("tare-shims-{mark}"), format!("tare-{mark}")]);
            }
        }
        for pid in self.processes() {
            let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
            for path in groups.lines().filter_map(|line| line.splitn(3, ':').nth(2)) {
                self.cgroups
                    .extend(path.split('/').filter(|part| part.starts_with("tare")).map(String::from));
            }
        }
    }

    /// Processes of the engine: those that name its place in their arguments or have a mount of it.
    pub fn processes(&self) -> Vec<u32> {
        let all = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = all.filter_map(|e| e.file_name().to_string_lossy().parse().ok());
        pids.filter(|pid| *pid != std::process::id() && self.owns(*pid)).collect()
    }

    fn owns(&self, pid: u32) -> bool {
        let place = self.place.to_string_lossy();
        let names = |file: &str| {
            let bytes = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
            String::from_utf8_lossy(&bytes).contains(place.as_ref())
        };
        let told = || arguments(pid).iter().any(|word| self.cgroups.contains(word));
        names("cmdline") || names("mountinfo") || told() || self.is_in_our_cgroup(pid)
    }

    fn is_in_our_cgroup(&self, pid: u32) -> bool {
        let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        groups.split(['/', '\n']).any(|part| self.cgroups.contains(part) || self.ids.contains(part))
    }

    /// Everything of a stopped engine that is still there, as sentences. Processes are given a moment to go.
    pub fn left(&self) -> Vec<String> {
        wait::until(GOING, || (self.processes().is_empty() && self.cgroups_left().is_empty()).then_some(()));
        let mut left = Vec::new();
        for pid in self.processes() {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            left.push(format!("process {pid}: {}", String::from_utf8_lossy(&line).replace('\0', " ")));
        }
        left.extend(self.cgroups_left());
        left.extend(self.mounts());
        left.extend(self.links());
        left.extend(self.directories());
        left
    }

    fn mounts(&self) -> Vec<String> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let place = self.place.to_string_lossy();
        mounts.lines().filter(|l| l.contains(place.as_ref())).map(|l| format!("mount: {l}")).collect()
    }

    fn cgroups_left(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut open = vec![PathBuf::from("/sys/fs/cgroup")];
        while let Some(dir) = open.pop() {
            for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
                if !entry.file_type().is_ok_and(|t| t.is_dir()) {
                    continue;
                }
                let name = entry.file_name().to_string_lossy().into_owned();
                if self.cgroups.contains(&name) || self.ids.contains(&name) {
                    found.push(format!("cgroup: {}", entry.path().display()));
                }
                open.push(entry.path());
            }
        }
        found
    }

    /// Network interfaces named after one of the containers.
    fn links(&self) -> Vec<String> {
        let names = fs::read_dir("/sys/class/net").into_iter().flatten().flatten();
        let names = names.map(|e| e.file_name().to_string_lossy().into_owned());
        let ours = |name: &String| self.ids.iter().any(|id| name.contains(&id[..7.min(id.len())]));
        names.filter(ours).map(|name| format!("link: {name}")).collect()
    }

    /// Files and directories named after a container, in the state of the engine.
    fn directories(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut open = vec![self.place.clone()];
        while let Some(dir) = open.pop() {
            for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                // What was removed may still wait in the trash for its turn.
                if name == "trash" {
                    continue;
                }
                if self.ids.iter().any(|id| name.contains(id.as_str())) {
                    found.push(format!("directory: {}", entry.path().display()));
                } else if entry.file_type().is_ok_and(|t| t.is_dir()) {
                    open.push(entry.path());
                }
            }
        }
        found
    }
}

/// A process's direct children.
fn children(pid: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = tasks.map(|t| fs::read_to_string(t.path().join("children")).unwrap_or_default());
    let lists: Vec<_> = lists.collect();
    lists.iter().flat_map(|l| l.split_whitespace()).filter_map(|p| p.parse().ok()).collect()
}

/// A process's arguments.
fn arguments(pid: u32) -> Vec<String> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    bytes.split(|b| *b == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_names_the_place_is_found_and_reported() {
        let dir = tempfile::tempdir().unwrap();
        let traces = Traces::new(dir.path());
        assert_eq!(traces.left(), Vec::<String>::new());
        let mut child = std::process::Command::new("sleep")
            .args(["60"])
            .current_dir(dir.path())
            .arg0(dir.path())
            .spawn()
            .unwrap();
        let found = wait::until(GOING, || traces.processes().contains(&child.id()).then_some(()));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(found, Some(()));
    }

    use std::os::unix::process::CommandExt;
}
