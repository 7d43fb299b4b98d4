//! What the numbers were measured on; nothing that names the machine.

use std::fs;

/// Processor, cores, memory and kernel as one line.
pub(crate) fn describe() -> String {
    let model = field("/proc/cpuinfo", "model name").unwrap_or_else(|| std::env::consts::ARCH.into());
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let memory = field("/proc/meminfo", "MemTotal").and_then(|m| m.split(' ').next()?.parse::<f64>().ok());
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let groups = if fs::exists("/sys/fs/cgroup/cgroup.controllers").unwrap_or(false) { "v2" } else { "v1" };
    format!(
        "{model}, {cores} cores, {:.0} GB, Linux {}, cgroup {groups}",
        memory.unwrap_or(0.0) / 1e6,
        kernel.trim().split('-').next().unwrap_or("?")
    )
}

/// The value behind `name :` in a file of such lines.
fn field(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find(|l| l.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_string())
}

/// Bytes that programs could still have, as the kernel estimates them.
pub(crate) fn available() -> f64 {
    let kib = field("/proc/meminfo", "MemAvailable").and_then(|m| m.split(' ').next()?.parse::<f64>().ok());
    kib.unwrap_or(0.0) * 1024.0
}

/// A process's proportional share of memory, in bytes.
pub(crate) fn share(pid: i64) -> Option<f64> {
    let kib = field(&format!("/proc/{pid}/smaps_rollup"), "Pss:")?;
    Some(kib.split(' ').next()?.parse::<f64>().ok()? * 1024.0)
}

/// A process's parent.
pub(crate) fn parent(pid: i64) -> Option<i64> {
    field(&format!("/proc/{pid}/status"), "PPid")?.parse().ok()
}
