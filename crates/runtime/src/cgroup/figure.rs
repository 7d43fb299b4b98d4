//! The one table of limits: for each, the field of the document, what people call it, and its file in either version.
//!
//! The writers (`v1`, `v2`) convert values and nothing else. A limit without a file in a version is one that version
//! does not have, and whoever asks for it there is told so by name.

use oci_spec::runtime::{LinuxBlockIo, LinuxThrottleDevice};

use super::controller::{Controller, Version};

/// One line of the table.
#[derive(Debug)]
pub(crate) struct Figure {
    /// Whose hierarchy it goes to.
    pub(crate) controller: Controller,
    /// What people call it.
    words: &'static str,
    /// Where it stands in the document, below `linux.resources`.
    field: &'static str,
    /// Names in v1; the first that exists is written. `{}` is a part that the document names.
    v1: &'static [&'static str],
    /// Names in v2 likewise.
    v2: &'static [&'static str],
}

impl Figure {
    /// Its files in a version; none: that version does not have it.
    pub(crate) fn files(&self, version: Version) -> &'static [&'static str] {
        match version {
            Version::V1 => self.v1,
            Version::V2 => self.v2,
        }
    }

    /// Its name for messages: what people call it, of which thing, and the field that asked for it.
    pub(crate) fn name(&self, of: &str) -> String {
        let Self { words, field, .. } = self;
        if of.is_empty() { format!("{words} ({field})") } else { format!("{words} {of} ({field})") }
    }
}

macro_rules! table {
    ($($name:ident: $controller:ident, $words:literal, $field:literal, $v1:expr, $v2:expr;)*) => {
        $(pub(crate) const $name: Figure = Figure {
            controller: Controller::$controller, words: $words, field: $field, v1: &$v1, v2: &$v2,
        };)*
        /// Every line.
        #[cfg(test)]
        pub(crate) const ALL: &[Figure] = &[$($name),*];
    };
}

#[rustfmt::skip] // a table
table! {
    CPU_SHARES:     Cpu, "CPU shares",            "cpu.shares",          ["cpu.shares"],        ["cpu.weight"];
    CPU_PERIOD:     Cpu, "CPU period",            "cpu.period",          ["cpu.cfs_period_us"], ["cpu.max"];
    CPU_QUOTA:      Cpu, "CPU quota",             "cpu.quota",           ["cpu.cfs_quota_us"],  ["cpu.max"];
    CPU_BURST:      Cpu, "CPU burst",             "cpu.burst",           ["cpu.cfs_burst_us"],  ["cpu.max.burst"];
    CPU_IDLE:       Cpu, "CPU idle",              "cpu.idle",            ["cpu.idle"],          ["cpu.idle"];
    CPU_RT_PERIOD:  Cpu, "CPU real-time period",  "cpu.realtimePeriod",  ["cpu.rt_period_us"],  [];
    CPU_RT_RUNTIME: Cpu, "CPU real-time runtime", "cpu.realtimeRuntime", ["cpu.rt_runtime_us"], [];

    CPUS: Cpuset, "CPUs to run on", "cpu.cpus", ["cpuset.cpus"], ["cpuset.cpus"];
    MEMS: Cpuset, "memory nodes",   "cpu.mems", ["cpuset.mems"], ["cpuset.mems"];

    MEMORY:      Memory, "memory limit",            "memory.limit",            ["memory.limit_in_bytes"],          ["memory.max"];
    SWAP:        Memory, "memory and swap limit",   "memory.swap",             ["memory.memsw.limit_in_bytes"],    ["memory.swap.max"];
    RESERVATION: Memory, "memory reservation",      "memory.reservation",      ["memory.soft_limit_in_bytes"],     ["memory.low"];
    SWAPPINESS:  Memory, "memory swappiness",       "memory.swappiness",       ["memory.swappiness"],              [];
    NO_OOM_KILL: Memory, "disabling the OOM killer", "memory.disableOOMKiller", ["memory.oom_control"],            [];
    TREE:        Memory, "memory accounting of the whole tree", "memory.useHierarchy", ["memory.use_hierarchy"],   [];
    KERNEL_TCP:  Memory, "kernel TCP memory limit", "memory.kernelTCP",        ["memory.kmem.tcp.limit_in_bytes"], [];

    IO_WEIGHT:        Io, "block I/O weight",      "blockIO.weight",       ["blkio.weight", "blkio.bfq.weight"], ["io.bfq.weight", "io.weight"];
    IO_LEAF:          Io, "block I/O leaf weight", "blockIO.leafWeight",   ["blkio.leaf_weight"], [];
    IO_DEVICE_WEIGHT: Io, "block I/O weight of device", "blockIO.weightDevice", ["blkio.weight_device", "blkio.bfq.weight_device"], ["io.bfq.weight", "io.weight"];
    IO_DEVICE_LEAF:   Io, "block I/O leaf weight of device", "blockIO.weightDevice", ["blkio.leaf_weight_device"], [];
    READ_BYTES:  Io, "read rate of device",   "blockIO.throttleReadBpsDevice",   ["blkio.throttle.read_bps_device"],   ["io.max"];
    WRITE_BYTES: Io, "write rate of device",  "blockIO.throttleWriteBpsDevice",  ["blkio.throttle.write_bps_device"],  ["io.max"];
    READ_OPS:    Io, "reads a second from device", "blockIO.throttleReadIOPSDevice",  ["blkio.throttle.read_iops_device"],  ["io.max"];
    WRITE_OPS:   Io, "writes a second to device",  "blockIO.throttleWriteIOPSDevice", ["blkio.throttle.write_iops_device"], ["io.max"];

    PROCESSES: Pids, "limit on processes", "pids.limit", ["pids.max"], ["pids.max"];

    HUGE:          Hugetlb, "limit on huge pages of",          "hugepageLimits", ["hugetlb.{}.limit_in_bytes"],      ["hugetlb.{}.max"];
    HUGE_RESERVED: Hugetlb, "limit on reserved huge pages of", "hugepageLimits", ["hugetlb.{}.rsvd.limit_in_bytes"], ["hugetlb.{}.rsvd.max"];

    CLASS:    NetCls,  "network class",                 "network.classID",    ["net_cls.classid"],     [];
    PRIORITY: NetPrio, "network priority of interface", "network.priorities", ["net_prio.ifpriomap"],  [];
    RDMA:     Rdma,    "limit on RDMA device",          "rdma",               ["rdma.max"],            ["rdma.max"];
}

/// The rates of block devices: v1 has a file for each, v2 one for all with a key for each.
pub(crate) struct Rate {
    /// Its line.
    pub(crate) figure: Figure,
    /// Its key in v2's `io.max`.
    pub(crate) key: &'static str,
    /// The devices the document limits so.
    pub(crate) devices: fn(&LinuxBlockIo) -> &Option<Vec<LinuxThrottleDevice>>,
}

#[rustfmt::skip] // a table
pub(crate) const RATES: [Rate; 4] = [
    Rate { figure: READ_BYTES,  key: "rbps",  devices: LinuxBlockIo::throttle_read_bps_device },
    Rate { figure: WRITE_BYTES, key: "wbps",  devices: LinuxBlockIo::throttle_write_bps_device },
    Rate { figure: READ_OPS,    key: "riops", devices: LinuxBlockIo::throttle_read_iops_device },
    Rate { figure: WRITE_OPS,   key: "wiops", devices: LinuxBlockIo::throttle_write_iops_device },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_belongs_to_its_controller() {
        for figure in ALL {
            let (v1, v2) = (figure.controller.name(), figure.controller.name_v2().unwrap_or("none"));
            assert!(figure.v1.iter().all(|file| file.starts_with(&format!("{v1}."))), "{figure:?}");
            assert!(figure.v2.iter().all(|file| file.starts_with(&format!("{v2}."))), "{figure:?}");
        }
    }
}
