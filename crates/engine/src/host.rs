//! The machine: facts for plans and for `info`, read once from /proc and /sys.

use std::fs;
use std::path::Path;

use tare_model::capability::CapSet;

use tare_shim::rootless;

use crate::selinux;
use crate::spec::HostFacts;
use crate::spec::rootless::Rootless;

/// What `info` and `stats` need besides.
#[derive(Clone, Debug, Default)]
pub(crate) struct Machine {
    /// Kernel release.
    pub(crate) kernel: String,
    /// Bytes of memory.
    pub(crate) memory: u64,
    /// The distribution's name and version.
    pub(crate) os: (String, String),
    /// `1` or `2`.
    pub(crate) cgroup_version: &'static str,
}

/// Reads what plans depend on.
pub(crate) fn facts() -> HostFacts {
    let cpu_list = line("/sys/devices/system/cpu/online").unwrap_or_else(|| "0".into());
    HostFacts {
        cpus: std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(1)),
        cpu_list,
        mem_list: line("/sys/devices/system/node/online").unwrap_or_else(|| "0".into()),
        swap_limit: swap_limit(),
        thermal_throttle: thermal_throttle(),
        capabilities: bounding_set().unwrap_or(CapSet::EMPTY),
        nofile_hard: nofile_hard(),
        hostname: line("/proc/sys/kernel/hostname").unwrap_or_else(|| "localhost".into()),
        apparmor: line("/sys/module/apparmor/parameters/enabled").is_some_and(|word| word == "Y"),
        selinux: selinux::machine(),
        kernel: kernel_version(&line("/proc/sys/kernel/osrelease").unwrap_or_default()),
        rootless: rootless::is_inside().then(own_world),
    }
}

/// Major and minor number of a release like `6.1.0-18-amd64`; unreadable ones are older than everything.
fn kernel_version(release: &str) -> (u32, u32) {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// What an ordinary user's engine has.
fn own_world() -> Rootless {
    let (users, groups) = rootless::own_ids().unwrap_or_default();
    let cgroup = rootless::delegated_group().map(|path| path.to_string_lossy().into_owned());
    let list = cgroup.as_ref().and_then(|path| line(&format!("/sys/fs/cgroup{path}/cgroup.controllers")));
    let controllers = list.iter().flat_map(|list| list.split(' ')).map(str::to_owned).collect();
    let oom_score = line("/proc/self/oom_score_adj").and_then(|score| score.parse().ok()).unwrap_or(0);
    Rootless { users, groups, cgroup, controllers, oom_score }
}

/// Reads what `info` tells.
pub(crate) fn machine() -> Machine {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let value = |key: &str| {
        let found = release.lines().find_map(|l| l.strip_prefix(key)).unwrap_or_default();
        found.trim_matches('"').to_owned()
    };
    Machine {
        kernel: line("/proc/sys/kernel/osrelease").unwrap_or_default(),
        memory: meminfo_total(&fs::read_to_string("/proc/meminfo").unwrap_or_default()),
        os: (value("PRETTY_NAME="), value("VERSION_ID=")),
        cgroup_version: if on_v2() { "2" } else { "1" },
    }
}

/// CPU time of the whole machine, nanoseconds; /proc counts in hundredths of a second.
pub(crate) fn system_cpu() -> u64 {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    cpu_time(stat.lines().next().unwrap_or_default())
}

fn cpu_time(first_line: &str) -> u64 {
    // user, nice, system, idle, iowait, irq, softirq; guest time is part of user time already.
    let ticks = first_line.split_whitespace().skip(1).take(7).filter_map(|n| n.parse::<u64>().ok());
    ticks.sum::<u64>().saturating_mul(10_000_000)
}

fn meminfo_total(text: &str) -> u64 {
    let kib = text.lines().find_map(|l| l.strip_prefix("MemTotal:")).unwrap_or_default();
    kib.trim().trim_end_matches(" kB").parse::<u64>().map_or(0, |n| n * 1024)
}

fn line(path: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    Some(text.trim().to_owned()).filter(|t| !t.is_empty())
}

fn on_v2() -> bool {
    line("/sys/fs/cgroup/cgroup.controllers").is_some_and(|c| c.split(' ').any(|c| c == "memory"))
}

fn swap_limit() -> bool {
    on_v2() || Path::new("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes").exists()
}

fn thermal_throttle() -> Vec<String> {
    let cpus = fs::read_dir("/sys/devices/system/cpu").into_iter().flatten().flatten();
    let mut paths: Vec<String> = cpus
        .map(|cpu| cpu.path().join("thermal_throttle"))
        .filter(|path| path.is_dir())
        .map(|path| path.to_string_lossy().into_owned())
        .collect();
    paths.sort();
    paths
}

fn bounding_set() -> Option<CapSet> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let mask = status.lines().find_map(|l| l.strip_prefix("CapBnd:"))?;
    u64::from_str_radix(mask.trim(), 16).ok().map(CapSet::from_bits)
}

fn nofile_hard() -> u64 {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.maximum.unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_processors_memory_and_a_kernel() {
        let (facts, machine) = (facts(), machine());
        assert!(facts.cpus > 0 && facts.nofile_hard > 0 && !facts.hostname.is_empty());
        assert!(machine.memory > 1 << 20 && !machine.kernel.is_empty());
        assert!(system_cpu() > 0);
    }

    #[test]
    fn figures_of_proc_are_read_in_their_units() {
        assert_eq!(cpu_time("cpu  1 2 3 4 5 6 7 100 200 300"), 28 * 10_000_000);
        assert_eq!(meminfo_total("MemFree: 1 kB\nMemTotal:       2048 kB\n"), 2048 * 1024);
        assert_eq!(meminfo_total("nonsense"), 0);
    }
}
