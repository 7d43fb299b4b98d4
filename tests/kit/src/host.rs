//! What a container must not change of the machine, looked at before and after.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::Engine;
use crate::canary::{Canary, hex};
use crate::cmd::{Cmd, Running};
use crate::engine::program;

/// The machine as it was: a canary tree, the engine's programs, the host's mounts, kernel settings, devices and links,
/// and a process that must live.
pub struct Host {
    canary: Canary,
    victim: Running,
    before: BTreeMap<String, String>,
}

/// Programs of the engine.
const PROGRAMS: [&str; 4] = ["tare", "tare-oci", "tare-shim", "tared"];

/// Kernel settings that past escapes have changed, and their neighbours.
const SETTINGS: [&str; 15] = [
    "fs/binfmt_misc/status",
    "fs/suid_dumpable",
    "kernel/core_pattern",
    "kernel/core_uses_pid",
    "kernel/domainname",
    "kernel/hostname",
    "kernel/hotplug",
    "kernel/modprobe",
    "kernel/panic",
    "kernel/pid_max",
    "kernel/printk",
    "kernel/sysrq",
    "net/ipv4/ip_forward",
    "vm/overcommit_memory",
    "vm/swappiness",
];

impl Host {
    /// Looks at the machine; the canary is made in the engine's scratch directory.
    pub fn new(engine: &Engine) -> Host {
        let canary = Canary::new(&engine.dir().join("canary"));
        let victim = Cmd::new("sleep").args(["1000"]).spawn();
        let before = look(victim.pid());
        Host { canary, victim, before }
    }

    /// The tree that nothing may touch.
    pub fn canary(&self) -> &Canary {
        &self.canary
    }

    /// A process of the host's that nothing may touch.
    pub fn victim(&self) -> u32 {
        self.victim.pid()
    }

    /// Differences between then and now, in words.
    pub fn changes(&self) -> Vec<String> {
        let now = look(self.victim.pid());
        let keys: std::collections::BTreeSet<_> = self.before.keys().chain(now.keys()).collect();
        let changed = keys.into_iter().filter(|key| self.before.get(*key) != now.get(*key));
        changed.map(|key| format!("{key}: {:?} became {:?}", self.before.get(key), now.get(key))).collect()
    }

    /// Fails the test if anything of the machine has changed.
    #[track_caller]
    pub fn assert_unchanged(&self) {
        let changes = self.changes();
        assert!(changes.is_empty(), "the host was changed:\n{}", changes.join("\n"));
        self.canary.assert_untouched();
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_raw(self.victim.pid().cast_signed());
        if let Some(pid) = pid.filter(|_| self.victim.is_running()) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
}

fn look(victim: u32) -> BTreeMap<String, String> {
    let mut seen = BTreeMap::new();
    for name in PROGRAMS {
        let bytes = fs::read(program(name)).unwrap_or_default();
        seen.insert(format!("program {name}"), hex(&Sha256::digest(bytes)));
    }
    for name in SETTINGS {
        let path = Path::new("/proc/sys").join(name);
        seen.insert(path.display().to_string(), fs::read_to_string(&path).unwrap_or_default());
    }
    for path in release_agents() {
        seen.insert(path.display().to_string(), fs::read_to_string(&path).unwrap_or_default());
    }
    for (what, path) in [("devices", "/dev"), ("links", "/sys/class/net"), ("modules", "/sys/module")] {
        seen.insert(what.into(), names(Path::new(path)).join(" "));
    }
    seen.insert("mounts".into(), mounts());
    seen.insert("swaps".into(), fs::read_to_string("/proc/swaps").unwrap_or_default());
    for (what, file) in [("stat", "stat"), ("score", "oom_score_adj"), ("limits", "limits")] {
        let text = fs::read_to_string(format!("/proc/{victim}/{file}")).unwrap_or_else(|e| e.to_string());
        // Of the statistics only the name and the state: the rest counts time.
        let kept = if file == "stat" { text.split(' ').skip(1).take(2).collect::<String>() } else { text };
        seen.insert(format!("process {what}"), kept);
    }
    seen
}

fn release_agents() -> Vec<PathBuf> {
    let hierarchies = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten();
    hierarchies.map(|entry| entry.path().join("release_agent")).filter(|path| path.exists()).collect()
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    // Pairs of links that other tests make come and go.
    names.retain(|name| !name.starts_with("veth") && !name.starts_with("loop"));
    names
}

/// The host's mount table without what other engines beside this one put into their own directories.
fn mounts() -> String {
    let table = fs::read_to_string("/proc/1/mountinfo").unwrap_or_default();
    let point = |line: &str| line.split(' ').nth(4).unwrap_or_default().to_owned();
    let mut lines: Vec<String> = table
        .lines()
        .filter(|line| !point(line).contains("/tare"))
        .map(|line| line.split(' ').skip(3).collect::<Vec<_>>().join(" "))
        .collect();
    lines.sort();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_finds_settings_mounts_and_the_process() {
        let mut victim = Cmd::new("sleep").args(["1000"]).spawn();
        let seen = look(victim.pid());
        assert!(seen["/proc/sys/kernel/core_pattern"].len() > 1 && seen["mounts"].contains(" / "));
        assert!(victim.is_running() && seen["process stat"].starts_with("(sleep)"));
        victim.signal(rustix::process::Signal::KILL);
        victim.wait();
    }
}
