//! The writer for v1 hierarchies: OCI's figures mostly as they are.

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources};

use super::controller::Controller;
use super::error::Result;
use super::plan::{Planner, invalid, list_of_numbers};

/// Plans the writes of one controller.
pub(crate) fn plan(
    controller: Controller,
    resources: &LinuxResources,
    planner: &mut Planner<'_>,
) -> Result<()> {
    match controller {
        Controller::Cpu => resources.cpu().as_ref().map_or(Ok(()), |asked| cpu(asked, planner)),
        Controller::Cpuset => resources.cpu().as_ref().map_or(Ok(()), |asked| cpuset(asked, planner)),
        Controller::Memory => resources.memory().as_ref().map_or(Ok(()), |asked| memory(asked, planner)),
        Controller::Io => resources.block_io().as_ref().map_or(Ok(()), |asked| block_io(asked, planner)),
        Controller::Pids => pids(resources, planner),
        Controller::Hugetlb => hugetlb(resources, planner),
        Controller::NetCls | Controller::NetPrio => network(controller, resources, planner),
        Controller::Rdma => rdma(resources, planner),
        Controller::Cpuacct | Controller::Devices | Controller::Freezer => Ok(()),
    }
}

/// Most shares the kernel keeps; it would silently cut what is above.
pub(crate) const MOST_SHARES: u64 = 262_144;

fn cpu(asked: &LinuxCpu, planner: &mut Planner<'_>) -> Result<()> {
    let to = Controller::Cpu;
    if let Some(shares) = asked.shares().filter(|shares| *shares != 0) {
        if !(2..=MOST_SHARES).contains(&shares) {
            return invalid("CPU shares", format!("{shares} is not between 2 and {MOST_SHARES}"));
        }
        planner.write(to, "CPU shares", "cpu.shares", shares)?;
    }
    if let Some(period) = asked.period().filter(|period| *period != 0) {
        planner.write(to, "CPU period", "cpu.cfs_period_us", period)?;
    }
    if let Some(quota) = asked.quota().filter(|quota| *quota != 0) {
        planner.write(to, "CPU quota", "cpu.cfs_quota_us", quota.max(-1))?;
    }
    if let Some(burst) = asked.burst() {
        planner.write(to, "CPU burst", "cpu.cfs_burst_us", burst)?;
    }
    if let Some(idle) = asked.idle() {
        planner.write(to, "CPU idle", "cpu.idle", idle)?;
    }
    if let Some(period) = asked.realtime_period().filter(|period| *period != 0) {
        planner.write(to, "CPU real-time period", "cpu.rt_period_us", period)?;
    }
    if let Some(runtime) = asked.realtime_runtime().filter(|runtime| *runtime != 0) {
        planner.write(to, "CPU real-time runtime", "cpu.rt_runtime_us", runtime)?;
    }
    Ok(())
}

/// The same in both versions.
pub(crate) fn cpuset(asked: &LinuxCpu, planner: &mut Planner<'_>) -> Result<()> {
    if let Some(cpus) = list_of_numbers("CPUs to run on", asked.cpus().as_ref())? {
        planner.write(Controller::Cpuset, "CPUs to run on", "cpuset.cpus", cpus)?;
    }
    if let Some(mems) = list_of_numbers("memory nodes", asked.mems().as_ref())? {
        planner.write(Controller::Cpuset, "memory nodes", "cpuset.mems", mems)?;
    }
    Ok(())
}

fn memory(asked: &LinuxMemory, planner: &mut Planner<'_>) -> Result<()> {
    let to = Controller::Memory;
    let limit = asked.limit().filter(|limit| *limit != 0);
    if let Some(limit) = limit {
        super::convert::swap_alone(Some(limit), asked.swap())
            .or_else(|why| invalid("memory and swap limit", why))?;
        planner.write(to, "memory limit", "memory.limit_in_bytes", limit.max(-1))?;
    }
    match asked.swap().filter(|total| *total != 0) {
        Some(total) => planner.write(to, "memory and swap limit", "memory.memsw.limit_in_bytes", total)?,
        None if limit == Some(-1) => {
            planner.write(to, "memory and swap limit", "memory.memsw.limit_in_bytes", -1)?;
            planner.if_there_is_such_a_file();
        }
        None => {}
    }
    if let Some(low) = asked.reservation().filter(|low| *low != 0) {
        planner.write(to, "memory reservation", "memory.soft_limit_in_bytes", low)?;
    }
    if let Some(swappiness) = asked.swappiness() {
        if swappiness > 100 {
            return invalid("memory swappiness", format!("{swappiness} is not between 0 and 100"));
        }
        planner.write(to, "memory swappiness", "memory.swappiness", swappiness)?;
    }
    if asked.disable_oom_killer() == Some(true) {
        planner.write(to, "disabling the OOM killer", "memory.oom_control", 1)?;
    }
    if asked.kernel().is_some_and(|limit| limit != 0) {
        planner.note("kernel memory limit: the kernel no longer has one; ignored");
    }
    if let Some(tcp) = asked.kernel_tcp().filter(|limit| *limit != 0) {
        planner.write(to, "kernel TCP memory limit", "memory.kmem.tcp.limit_in_bytes", tcp)?;
    }
    Ok(())
}

fn block_io(asked: &LinuxBlockIo, planner: &mut Planner<'_>) -> Result<()> {
    let to = Controller::Io;
    if let Some(weight) = weight("block I/O weight", asked.weight())? {
        let choices = [("blkio.weight", weight), ("blkio.bfq.weight", weight)];
        planner.write_one_of(to, "block I/O weight", strings(&choices))?;
    }
    if let Some(weight) = weight("block I/O leaf weight", asked.leaf_weight())? {
        planner.write(to, "block I/O leaf weight", "blkio.leaf_weight", weight)?;
    }
    for device in asked.weight_device().iter().flatten() {
        let number = format!("{}:{}", device.major(), device.minor());
        let what = format!("block I/O weight of device {number}");
        if let Some(weight) = weight(&what, device.weight())? {
            let value = format!("{number} {weight}");
            let choices = [("blkio.weight_device", value.clone()), ("blkio.bfq.weight_device", value)];
            planner.write_one_of(to, &what, strings(&choices))?;
        }
        if let Some(weight) = weight(&what, device.leaf_weight())? {
            planner.write(to, &what, "blkio.leaf_weight_device", format!("{number} {weight}"))?;
        }
    }
    for (devices, file) in [
        (asked.throttle_read_bps_device(), "blkio.throttle.read_bps_device"),
        (asked.throttle_write_bps_device(), "blkio.throttle.write_bps_device"),
        (asked.throttle_read_iops_device(), "blkio.throttle.read_iops_device"),
        (asked.throttle_write_iops_device(), "blkio.throttle.write_iops_device"),
    ] {
        for device in devices.iter().flatten() {
            let number = format!("{}:{}", device.major(), device.minor());
            let what = format!("block I/O rate of device {number}");
            planner.write(to, &what, file, format!("{number} {}", device.rate()))?;
        }
    }
    Ok(())
}

/// A weight that is set, checked.
pub(crate) fn weight(what: &str, weight: Option<u16>) -> Result<Option<u64>> {
    match weight {
        None | Some(0) => Ok(None),
        Some(weight @ 10..=1000) => Ok(Some(u64::from(weight))),
        Some(weight) => invalid(what, format!("{weight} is not between 10 and 1000")),
    }
}

/// File names and values as the plan keeps them.
pub(crate) fn strings<V: ToString>(choices: &[(&str, V)]) -> Vec<(String, String)> {
    choices.iter().map(|(file, value)| ((*file).to_owned(), value.to_string())).collect()
}

/// The same file with the same words in both versions; 0 is unset, as runc and Docker have it.
pub(crate) fn pids(resources: &LinuxResources, planner: &mut Planner<'_>) -> Result<()> {
    match resources.pids().as_ref().map(|pids| pids.limit()) {
        None | Some(0) => Ok(()),
        Some(limit) => {
            planner.write(Controller::Pids, "limit on processes", "pids.max", super::convert::or_max(limit))
        }
    }
}

fn hugetlb(resources: &LinuxResources, planner: &mut Planner<'_>) -> Result<()> {
    for page in resources.hugepage_limits().iter().flatten() {
        let (what, size) = huge_page(page.page_size())?;
        let file = format!("hugetlb.{size}.limit_in_bytes");
        planner.write(Controller::Hugetlb, &what, &file, page.limit())?;
        let file = format!("hugetlb.{size}.rsvd.limit_in_bytes");
        planner.write(Controller::Hugetlb, &what, &file, page.limit())?;
        planner.if_there_is_such_a_file();
    }
    Ok(())
}

/// Checks a page size (`2MB`), since it becomes part of a file name.
pub(crate) fn huge_page(size: &str) -> Result<(String, &str)> {
    let what = format!("limit on huge pages of {size:?}");
    let digits = size.trim_end_matches("KB").trim_end_matches("MB").trim_end_matches("GB");
    if digits.is_empty()
        || digits.len() + 2 != size.len()
        || !digits.bytes().all(|byte| byte.is_ascii_digit())
    {
        return invalid(&what, "a page size is written like 2MB");
    }
    Ok((what, size))
}

fn network(controller: Controller, resources: &LinuxResources, planner: &mut Planner<'_>) -> Result<()> {
    let Some(asked) = resources.network() else { return Ok(()) };
    if controller == Controller::NetCls {
        return match asked.class_id().filter(|class| *class != 0) {
            Some(class) => planner.write(controller, "network class", "net_cls.classid", class),
            None => Ok(()),
        };
    }
    for priority in asked.priorities().iter().flatten() {
        let (name, number) = (priority.name(), priority.priority());
        let what = format!("network priority of interface {name:?}");
        if name.is_empty() || name.contains(char::is_whitespace) {
            return invalid(&what, "this is no name of an interface");
        }
        planner.write(controller, &what, "net_prio.ifpriomap", format!("{name} {number}"))?;
    }
    Ok(())
}

/// The same in both versions.
pub(crate) fn rdma(resources: &LinuxResources, planner: &mut Planner<'_>) -> Result<()> {
    let mut devices: Vec<_> = resources.rdma().iter().flatten().collect();
    devices.sort_unstable_by_key(|(name, _)| *name);
    for (name, limits) in devices {
        let what = format!("limit on RDMA device {name:?}");
        if name.is_empty() || name.contains(char::is_whitespace) {
            return invalid(&what, "this is no name of a device");
        }
        let mut value = name.clone();
        for (key, limit) in [("hca_handle", limits.hca_handles()), ("hca_object", limits.hca_objects())] {
            if let Some(limit) = limit {
                value.push_str(&format!(" {key}={limit}"));
            }
        }
        planner.write(Controller::Rdma, &what, "rdma.max", value)?;
    }
    Ok(())
}
