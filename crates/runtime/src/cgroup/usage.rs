//! All that the kernel counts for a container, under the names that `runc events --stats` made common. [`super::stats`]
//! is the short form for the engine.
//!
//! A figure that a version of cgroups does not have is 0 or absent, as there. `rdma` is ours: runc reads it and tells
//! nobody.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Cgroup;
use super::controller::{Controller, Version};
use super::error::Result;
use super::layout::Hierarchy;
use super::parse::{DeviceFigure, Pressure, figures, io_v1, io_v2, keyed, list, pairs, pressure, rdma};

/// Everything.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Usage {
    /// CPU time.
    pub cpu: Cpu,
    /// Where it may run.
    pub cpuset: CpuSet,
    /// Memory.
    pub memory: Memory,
    /// Processes.
    pub pids: Pids,
    /// Block I/O.
    pub blkio: BlockIo,
    /// Huge pages, by size.
    pub hugetlb: BTreeMap<String, Huge>,
    /// RDMA resources in use, by device.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub rdma: BTreeMap<String, BTreeMap<String, u64>>,
}

/// CPU time in nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Cpu {
    /// How much.
    pub usage: CpuUsage,
    /// What the quota did.
    pub throttling: Throttling,
    /// How long was waited for a CPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Pressure>,
}

/// CPU time in nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CpuUsage {
    /// All.
    pub total: u64,
    /// On each CPU (v1).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu: Vec<u64>,
    /// In the kernel on each CPU (v1).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu_kernel: Vec<u64>,
    /// In user mode on each CPU (v1).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu_user: Vec<u64>,
    /// In the kernel.
    pub kernel: u64,
    /// In user mode.
    pub user: u64,
}

/// What the quota did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Throttling {
    /// Periods in which it applied.
    pub periods: u64,
    /// Periods in which it was exhausted.
    pub throttled_periods: u64,
    /// Nanoseconds waited because of it.
    pub throttled_time: u64,
}

/// Where it may run, and v1's switches.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the kernel's own names of its files, see cpuset(7)")]
pub struct CpuSet {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cpus: Vec<u16>,
    pub cpu_exclusive: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mems: Vec<u16>,
    pub mem_hardwall: u64,
    pub mem_exclusive: u64,
    pub memory_migrate: u64,
    pub memory_spread_page: u64,
    pub memory_spread_slab: u64,
    pub memory_pressure: u64,
    pub sched_load_balance: u64,
    pub sched_relax_domain_level: i64,
}

/// One kind of memory in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Charge {
    /// Most there may be; none is the largest number.
    pub limit: u64,
    /// Now.
    pub usage: u64,
    /// Most there ever was.
    pub max: u64,
    /// How often the limit was hit.
    pub failcnt: u64,
}

/// Memory.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Memory {
    /// Page cache.
    pub cache: u64,
    /// All but swap.
    pub usage: Charge,
    /// Memory and swap together.
    pub swap: Charge,
    /// The kernel's (v1).
    pub kernel: Charge,
    /// The kernel's for TCP (v1).
    #[serde(rename = "kernelTCP")]
    pub kernel_tcp: Charge,
    /// `memory.stat`.
    pub raw: BTreeMap<String, u64>,
    /// How long was waited for memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Pressure>,
}

/// Processes and threads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Pids {
    /// Now.
    pub current: u64,
    /// Most there may be; 0: no limit.
    pub limit: u64,
}

/// Block I/O, by device and operation.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct BlockIo {
    /// Bytes moved.
    #[serde(rename = "ioServiceBytesRecursive", skip_serializing_if = "Vec::is_empty")]
    pub bytes: Vec<DeviceFigure>,
    /// Requests served.
    #[serde(rename = "ioServicedRecursive", skip_serializing_if = "Vec::is_empty")]
    pub served: Vec<DeviceFigure>,
    /// Requests that wait now (v1).
    #[serde(rename = "ioQueueRecursive", skip_serializing_if = "Vec::is_empty")]
    pub queued: Vec<DeviceFigure>,
    /// Nanoseconds of service (v1).
    #[serde(rename = "ioServiceTimeRecursive", skip_serializing_if = "Vec::is_empty")]
    pub service_time: Vec<DeviceFigure>,
    /// Nanoseconds of waiting (v1).
    #[serde(rename = "ioWaitTimeRecursive", skip_serializing_if = "Vec::is_empty")]
    pub wait_time: Vec<DeviceFigure>,
    /// Requests merged into others (v1).
    #[serde(rename = "ioMergedRecursive", skip_serializing_if = "Vec::is_empty")]
    pub merged: Vec<DeviceFigure>,
    /// Milliseconds of the device (v1).
    #[serde(rename = "ioTimeRecursive", skip_serializing_if = "Vec::is_empty")]
    pub time: Vec<DeviceFigure>,
    /// Sectors moved (v1).
    #[serde(rename = "sectorsRecursive", skip_serializing_if = "Vec::is_empty")]
    pub sectors: Vec<DeviceFigure>,
    /// How long was waited for a device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Pressure>,
}

/// Huge pages of one size, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Huge {
    /// Now.
    pub usage: u64,
    /// Most there ever was (v1).
    pub max: u64,
    /// How often the limit was hit.
    pub failcnt: u64,
}

/// A group in one hierarchy, whose files are read; those that are missing are empty.
struct Files<'a> {
    group: &'a Cgroup,
    hierarchy: &'a Hierarchy,
}

// === impl Files ===

impl Files<'_> {
    fn text(&self, file: &str) -> Result<String> {
        match self.hierarchy.read_if_there(&self.group.path.join(file)) {
            // Some files are there and not supported: pressure where it was switched off at boot.
            Err(error) if error.errno() == Some(rustix::io::Errno::OPNOTSUPP) => Ok(String::new()),
            other => Ok(other?.unwrap_or_default()),
        }
    }

    /// A file of one number; `max` is the largest.
    fn number(&self, file: &str) -> Result<u64> {
        match self.text(file)?.trim() {
            "" => Ok(0),
            "max" => Ok(u64::MAX),
            text => super::file::number(&self.hierarchy.shown(&self.group.path.join(file)), text),
        }
    }

    fn is_v2(&self) -> bool {
        self.hierarchy.version == Version::V2
    }

    /// v1's four files of one kind of memory.
    fn charge(&self, kind: &str) -> Result<Charge> {
        Ok(Charge {
            limit: self.number(&format!("{kind}.limit_in_bytes"))?,
            usage: self.number(&format!("{kind}.usage_in_bytes"))?,
            max: self.number(&format!("{kind}.max_usage_in_bytes"))?,
            failcnt: self.number(&format!("{kind}.failcnt"))?,
        })
    }

    /// v1's figures of one kind of I/O: kernels and schedulers differ in which of these they fill.
    fn io(&self, what: &str) -> Result<Vec<DeviceFigure>> {
        for prefix in ["blkio.bfq", "blkio", "blkio.throttle"] {
            let found = io_v1(&self.text(&format!("{prefix}.{what}_recursive"))?);
            if !found.is_empty() {
                return Ok(found);
            }
        }
        Ok(Vec::new())
    }
}

// === impl Cgroup ===

impl Cgroup {
    /// Reads everything.
    ///
    /// # Errors
    /// A file that is there could not be read or makes no sense.
    pub fn usage(&self) -> Result<Usage> {
        Ok(Usage {
            cpu: self.cpu_usage()?,
            cpuset: self.cpuset_usage()?,
            memory: self.memory_usage()?,
            pids: self.pids_usage()?,
            blkio: self.io_usage()?,
            hugetlb: self.huge_usage()?,
            rdma: self
                .files(Controller::Rdma)
                .map_or(Ok(String::new()), |files| files.text("rdma.current"))
                .map(|content| rdma(&content))?,
        })
    }

    fn files(&self, controller: Controller) -> Option<Files<'_>> {
        self.with(controller).map(|hierarchy| Files { group: self, hierarchy })
    }

    /// What v2 tells of waiting, beside v1 as well.
    fn waited(&self, file: &str) -> Result<Option<Pressure>> {
        let Some(hierarchy) = self.unified() else { return Ok(None) };
        Ok(pressure(&Files { group: self, hierarchy }.text(file)?))
    }

    fn cpu_usage(&self) -> Result<Cpu> {
        let short = self.cpu_stats()?.unwrap_or_default();
        let mut usage = CpuUsage {
            total: short.usage,
            percpu: short.per_cpu,
            kernel: short.system,
            user: short.user,
            ..CpuUsage::default()
        };
        if let Some(files) = self.files(Controller::Cpuacct) {
            usage.percpu_kernel = figures(&files.text("cpuacct.usage_percpu_sys")?);
            usage.percpu_user = figures(&files.text("cpuacct.usage_percpu_user")?);
        }
        let throttling = Throttling {
            periods: short.periods,
            throttled_periods: short.throttled_periods,
            throttled_time: short.throttled_time,
        };
        Ok(Cpu { usage, throttling, psi: self.waited("cpu.pressure")? })
    }

    fn cpuset_usage(&self) -> Result<CpuSet> {
        let Some(files) = self.files(Controller::Cpuset) else { return Ok(CpuSet::default()) };
        let numbers = |file: &str| files.text(file).map(|text| list(&text).unwrap_or_default());
        if files.is_v2() {
            let (cpus, mems) = (numbers("cpuset.cpus.effective")?, numbers("cpuset.mems.effective")?);
            return Ok(CpuSet { cpus, mems, ..CpuSet::default() });
        }
        Ok(CpuSet {
            cpus: numbers("cpuset.cpus")?,
            cpu_exclusive: files.number("cpuset.cpu_exclusive")?,
            mems: numbers("cpuset.mems")?,
            mem_hardwall: files.number("cpuset.mem_hardwall")?,
            mem_exclusive: files.number("cpuset.mem_exclusive")?,
            memory_migrate: files.number("cpuset.memory_migrate")?,
            memory_spread_page: files.number("cpuset.memory_spread_page")?,
            memory_spread_slab: files.number("cpuset.memory_spread_slab")?,
            memory_pressure: files.number("cpuset.memory_pressure")?,
            sched_load_balance: files.number("cpuset.sched_load_balance")?,
            sched_relax_domain_level: files
                .text("cpuset.sched_relax_domain_level")?
                .trim()
                .parse()
                .unwrap_or_default(),
        })
    }

    fn memory_usage(&self) -> Result<Memory> {
        let psi = self.waited("memory.pressure")?;
        let Some(files) = self.files(Controller::Memory) else {
            return Ok(Memory { psi, ..Memory::default() });
        };
        let raw = pairs(&files.text("memory.stat")?);
        let figure = |key: &str| raw.get(key).copied().unwrap_or_default();
        if files.is_v2() {
            let usage = memory_v2(&files)?;
            let swap = swap_v2(&files, &usage)?;
            return Ok(Memory { cache: figure("file"), usage, swap, raw, psi, ..Memory::default() });
        }
        Ok(Memory {
            cache: figure("cache"),
            usage: files.charge("memory")?,
            swap: files.charge("memory.memsw")?,
            kernel: files.charge("memory.kmem")?,
            kernel_tcp: files.charge("memory.kmem.tcp")?,
            raw,
            psi,
        })
    }

    fn pids_usage(&self) -> Result<Pids> {
        let short = self.pids_stats()?;
        let limit = short.as_ref().and_then(|pids| pids.limit).unwrap_or_default();
        Ok(Pids { current: short.map(|pids| pids.current).unwrap_or_default(), limit })
    }

    fn io_usage(&self) -> Result<BlockIo> {
        let psi = self.waited("io.pressure")?;
        let Some(files) = self.files(Controller::Io) else {
            return Ok(BlockIo { psi, ..BlockIo::default() });
        };
        if files.is_v2() {
            let content = files.text("io.stat")?;
            let (bytes, served) = (io_v2(&content, moved), io_v2(&content, requested));
            return Ok(BlockIo { bytes, served, psi, ..BlockIo::default() });
        }
        Ok(BlockIo {
            bytes: files.io("io_service_bytes")?,
            served: files.io("io_serviced")?,
            queued: files.io("io_queued")?,
            service_time: files.io("io_service_time")?,
            wait_time: files.io("io_wait_time")?,
            merged: files.io("io_merged")?,
            time: files.io("time")?,
            sectors: files.io("sectors")?,
            psi,
        })
    }

    fn huge_usage(&self) -> Result<BTreeMap<String, Huge>> {
        let Some(files) = self.files(Controller::Hugetlb) else { return Ok(BTreeMap::new()) };
        let end = if files.is_v2() { "current" } else { "usage_in_bytes" };
        let mut all = BTreeMap::new();
        for file in files.hierarchy.names_at(self.path.as_str())? {
            let size =
                file.strip_prefix("hugetlb.").and_then(|rest| rest.strip_suffix(end)?.strip_suffix('.'));
            let Some(size) = size.filter(|size| !size.contains('.')) else { continue };
            let events = format!("hugetlb.{size}.events");
            let failcnt = match files.is_v2() {
                true => keyed(&files.text(&events)?, "max").unwrap_or_default(),
                false => files.number(&format!("hugetlb.{size}.failcnt"))?,
            };
            let max = files.number(&format!("hugetlb.{size}.max_usage_in_bytes"))?;
            all.insert(size.to_owned(), Huge { usage: files.number(&file)?, max, failcnt });
        }
        Ok(all)
    }
}

fn memory_v2(files: &Files<'_>) -> Result<Charge> {
    Ok(Charge {
        limit: files.number("memory.max")?,
        usage: files.number("memory.current")?,
        max: files.number("memory.peak")?,
        failcnt: keyed(&files.text("memory.events")?, "max").unwrap_or_default(),
    })
}

/// v2 counts swap alone; the common name means both together.
fn swap_v2(files: &Files<'_>, memory: &Charge) -> Result<Charge> {
    Ok(Charge {
        limit: memory.limit.saturating_add(files.number("memory.swap.max")?),
        usage: memory.usage.saturating_add(files.number("memory.swap.current")?),
        max: 0,
        failcnt: keyed(&files.text("memory.swap.events")?, "max").unwrap_or_default(),
    })
}

fn moved(key: &str) -> Option<&'static str> {
    Some(match key {
        "rbytes" => "Read",
        "wbytes" => "Write",
        "dbytes" => "Discard",
        _ => return None,
    })
}

fn requested(key: &str) -> Option<&'static str> {
    Some(match key {
        "rios" => "Read",
        "wios" => "Write",
        "dios" => "Discard",
        _ => return None,
    })
}
