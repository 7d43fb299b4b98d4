//! The one table of controllers: what the kernel calls each in either version, and when a container needs it. The limits
//! that each has are the table of `figure`.

/// A kernel controller (or, in v1, an accounting hierarchy) that we know how to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Controller {
    /// CPU time: shares, quota.
    Cpu,
    /// CPU accounting; part of `cpu` in v2.
    Cpuacct,
    /// Which CPUs and memory nodes.
    Cpuset,
    /// Memory.
    Memory,
    /// Device nodes; a BPF program in v2.
    Devices,
    /// Freezing; built into v2.
    Freezer,
    /// Block I/O.
    Io,
    /// Number of processes.
    Pids,
    /// Huge pages.
    Hugetlb,
    /// Class of network packets; v1 only.
    NetCls,
    /// Priority of network packets; v1 only.
    NetPrio,
    /// RDMA resources.
    Rdma,
    /// Scalar resources that drivers count; set by file name only.
    Misc,
    /// Device memory likewise; v2 only.
    Dmem,
    /// v2's groups themselves, which need no controller: bounds on what may be made below.
    Core,
}

/// Which of the two kernel interfaces a hierarchy speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// One hierarchy for each controller.
    V1,
    /// The unified hierarchy.
    V2,
}

/// One line of the table.
struct Row {
    controller: Controller,
    /// Name in v1 mount options and in our messages.
    v1: &'static str,
    /// Name in `cgroup.controllers`; absent where v2 has it without a controller, or not at all.
    v2: Option<&'static str>,
    /// Whether every container gets a group in its v1 hierarchy, or only one that asks for a limit there. A group costs
    /// about 0.07 ms (made, joined, removed), cpuset's twice that.
    always: bool,
}

#[rustfmt::skip] // a table
const TABLE: &[Row] = &[
    Row { controller: Controller::Cpu,     v1: "cpu",      v2: Some("cpu"),     always: true },
    Row { controller: Controller::Cpuacct, v1: "cpuacct",  v2: None,            always: true },
    Row { controller: Controller::Cpuset,  v1: "cpuset",   v2: Some("cpuset"),  always: false },
    Row { controller: Controller::Memory,  v1: "memory",   v2: Some("memory"),  always: true },
    Row { controller: Controller::Devices, v1: "devices",  v2: None,            always: true },
    Row { controller: Controller::Freezer, v1: "freezer",  v2: None,            always: false },
    Row { controller: Controller::Io,      v1: "blkio",    v2: Some("io"),      always: true },
    Row { controller: Controller::Pids,    v1: "pids",     v2: Some("pids"),    always: true },
    Row { controller: Controller::Hugetlb, v1: "hugetlb",  v2: Some("hugetlb"), always: false },
    Row { controller: Controller::NetCls,  v1: "net_cls",  v2: None,            always: false },
    Row { controller: Controller::NetPrio, v1: "net_prio", v2: None,            always: false },
    Row { controller: Controller::Rdma,    v1: "rdma",     v2: Some("rdma"),    always: false },
    Row { controller: Controller::Misc,    v1: "misc",     v2: Some("misc"),    always: false },
    Row { controller: Controller::Dmem,    v1: "dmem",     v2: Some("dmem"),    always: false },
    Row { controller: Controller::Core,    v1: "cgroup",   v2: None,            always: false },
];

impl Controller {
    /// Every controller of the table.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        TABLE.iter().map(|row| row.controller)
    }

    /// The kernel's name in v1; also what our messages say.
    pub fn name(self) -> &'static str {
        TABLE.iter().find(|row| row.controller == self).map_or("?", |row| row.v1)
    }

    /// The kernel's name in v2, where there is such a controller.
    pub(crate) fn name_v2(self) -> Option<&'static str> {
        TABLE.iter().find(|row| row.controller == self).and_then(|row| row.v2)
    }

    /// By a v1 mount option.
    pub(crate) fn from_v1(name: &str) -> Option<Self> {
        TABLE.iter().find(|row| row.v1 == name).map(|row| row.controller)
    }

    /// By a word of `cgroup.controllers`.
    pub(crate) fn from_v2(name: &str) -> Option<Self> {
        TABLE.iter().find(|row| row.v2 == Some(name)).map(|row| row.controller)
    }

    /// Whether every container has a group in this controller's v1 hierarchy.
    pub(crate) fn is_for_every_container(self) -> bool {
        TABLE.iter().any(|row| row.controller == self && row.always)
    }
}
