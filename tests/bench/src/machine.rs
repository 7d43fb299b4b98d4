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

/// Seconds of processor time that a process has had, its own and the kernel's on its behalf.
pub(crate) fn processor_time(pid: u32) -> crate::Done<f64> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).map_err(|e| format!("cannot read {path}: {e}"))?;
    // The name, which may hold anything, ends at the last bracket.
    let fields = text.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().collect::<Vec<_>>());
    let field = |at: usize| fields.as_ref()?.get(at)?.parse::<f64>().ok();
    let ticks = field(11).zip(field(12)).ok_or_else(|| format!("{path} reads {text:?}"))?;
    Ok((ticks.0 + ticks.1) / rustix::param::clock_ticks_per_second() as f64)
}

/// Today, as year, month and day.
pub(crate) fn today() -> String {
    tare_kit::Cmd::new("date").args(["-u", "+%F"]).ok()
}
