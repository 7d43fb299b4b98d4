//! The engine and its machine: `info`, `version`, `stats`, `top`.

use std::path::PathBuf;

use tare_model::sandbox::Stats;

/// The engine and the machine it runs on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Info {
    /// Stable name of this instance: a hash of its root directory.
    pub id: String,
    /// Containers by state.
    pub running: usize,
    /// Frozen ones.
    pub paused: usize,
    /// All others.
    pub stopped: usize,
    /// Images.
    pub images: usize,
    /// Root directory.
    pub root: PathBuf,
    /// Host name.
    pub hostname: String,
    /// Kernel release.
    pub kernel: String,
    /// The distribution's name.
    pub operating_system: String,
    /// Its version.
    pub os_version: String,
    /// CPU, as the kernel names it: `x86_64`.
    pub architecture: String,
    /// CPUs.
    pub cpus: usize,
    /// Bytes of memory.
    pub memory: u64,
    /// `1` or `2` (a hybrid set-up with controllers on v1 is `1`).
    pub cgroup_version: &'static str,
    /// Security options in force, Docker's words.
    pub security_options: Vec<String>,
    /// What this machine cannot do, one sentence each.
    pub warnings: Vec<String>,
}

/// The engine's version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// tare's.
    pub version: &'static str,
    /// Kernel release.
    pub kernel: String,
    /// CPU, as Go names it: `amd64`.
    pub architecture: &'static str,
}

/// What a container uses at one instant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatsSample {
    /// Nanoseconds since the epoch.
    pub time: u64,
    /// The container; empty figures if it does not run.
    pub stats: Stats,
    /// CPU time of the whole machine, nanoseconds.
    pub system_cpu: u64,
    /// CPUs of the machine.
    pub online_cpus: u32,
    /// The machine's memory: what "no limit" means.
    pub system_memory: u64,
    /// It was running.
    pub running: bool,
}

/// Processes of a container as `ps` would show them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Top {
    /// Column heads.
    pub titles: Vec<String>,
    /// One row per process.
    pub rows: Vec<Vec<String>>,
}
