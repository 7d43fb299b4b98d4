//! The writer for v1 hierarchies: OCI's figures mostly as they are, and the rules that hold in both versions.

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources};

use super::controller::Controller;
use super::convert::{or_max, swap_alone};
use super::error::Result;
use super::figure::{self, Figure};
use super::plan::{Planner, invalid, list_of_numbers};

/// Plans the writes of one controller.
pub(crate) fn plan(
    controller: Controller,
    resources: &LinuxResources,
    planner: &mut Planner<'_>,
) -> Result<()> {
    match controller {
        Controller::Cpu => resources.cpu().as_ref().map_or(Ok(()), |asked| cpu(asked, planner)),
        Controller::Memory => resources.memory().as_ref().map_or(Ok(()), |asked| memory(asked, planner)),
        Controller::Io => resources.block_io().as_ref().map_or(Ok(()), |asked| block_io(asked, planner)),
        Controller::NetCls => network_class(resources, planner),
        Controller::NetPrio => network_priorities(resources, planner),
        Controller::Hugetlb => hugetlb(resources, planner, |limit| limit.max(-1).to_string()),
        other => common(other, resources, planner),
    }
}

/// What is said in the same words in both versions.
pub(super) fn common(
    controller: Controller,
    resources: &LinuxResources,
    planner: &mut Planner<'_>,
) -> Result<()> {
    match controller {
        Controller::Cpuset => resources.cpu().as_ref().map_or(Ok(()), |asked| cpuset(asked, planner)),
        Controller::Pids => pids(resources, planner),
        Controller::Rdma => rdma(resources, planner),
        _ => Ok(()),
    }
}

/// Most shares the kernel keeps; it would silently cut what is above.
const MOST_SHARES: u64 = 262_144;

/// Shares that are set, checked. A group that is idle has none: the kernel refuses to set them, so they are left out.
pub(super) fn shares(asked: &LinuxCpu, planner: &mut Planner<'_>) -> Result<Option<u64>> {
    let Some(shares) = set(asked.shares()) else { return Ok(None) };
    if !(2..=MOST_SHARES).contains(&shares) {
        let why = format!("{shares} is not between 2 and {MOST_SHARES}");
        return invalid(figure::CPU_SHARES.name(""), why);
    }
    if asked.idle() == Some(1) {
        planner.note("CPU shares: a container that only gets idle time has none; ignored");
        return Ok(None);
    }
    Ok(Some(shares))
}

/// Burst and idleness, with the same figures in both versions; a kernel that has neither does neither.
pub(super) fn burst_and_idle(asked: &LinuxCpu, planner: &mut Planner<'_>) -> Result<()> {
    for (figure, value) in [
        (&figure::CPU_BURST, asked.burst().map(i128::from)),
        (&figure::CPU_IDLE, asked.idle().map(i128::from)),
    ] {
        let Some(value) = value else { continue };
        planner.set(figure, value)?;
        if value == 0 {
            planner.if_there_is_such_a_file();
        }
    }
    Ok(())
}

fn cpu(asked: &LinuxCpu, planner: &mut Planner<'_>) -> Result<()> {
    if let Some(shares) = shares(asked, planner)? {
        planner.set(&figure::CPU_SHARES, shares)?;
    }
    if let Some(period) = set(asked.period()) {
        planner.set(&figure::CPU_PERIOD, period)?;
    }
    if let Some(quota) = set(asked.quota()) {
        planner.set(&figure::CPU_QUOTA, quota.max(-1))?;
    }
    burst_and_idle(asked, planner)?;
    real_time(asked, planner)
}

/// Real-time limits; v2 has none.
pub(super) fn real_time(asked: &LinuxCpu, planner: &mut Planner<'_>) -> Result<()> {
    if let Some(period) = set(asked.realtime_period()) {
        planner.set(&figure::CPU_RT_PERIOD, period)?;
    }
    if let Some(runtime) = set(asked.realtime_runtime()) {
        planner.set(&figure::CPU_RT_RUNTIME, runtime)?;
    }
    Ok(())
}

fn cpuset(asked: &LinuxCpu, planner: &mut Planner<'_>) -> Result<()> {
    for (figure, list) in [(&figure::CPUS, asked.cpus()), (&figure::MEMS, asked.mems())] {
        if let Some(list) = list_of_numbers(&figure.name(""), list.as_ref())? {
            planner.set(figure, list)?;
        }
    }
    Ok(())
}

/// Checks what memory and both together may be, given what is in force; gives v2's share of swap.
pub(super) fn swap(asked: &LinuxMemory, planner: &Planner<'_>) -> Result<Option<i64>> {
    let limit = set(asked.limit());
    let in_force = planner.current.memory.and_then(|limit| i64::try_from(limit).ok());
    // Taking the limit away takes swap's along; one that merely stays does not.
    let limit = if set(asked.swap()).is_some() { limit.or(in_force) } else { limit };
    swap_alone(limit, asked.swap()).or_else(|why| invalid(figure::SWAP.name(""), why))
}

fn memory(asked: &LinuxMemory, planner: &mut Planner<'_>) -> Result<()> {
    swap(asked, planner)?;
    let (limit, both) = (set(asked.limit()), set(asked.swap()));
    // Both together is never less than memory alone, so a raised limit may need the other raised as well.
    if let (Some(limit @ 1..), None, Some(most)) = (limit, both, planner.current.memory_and_swap)
        && limit.unsigned_abs() > most
    {
        let why =
            format!("{limit} is more than memory and swap together may be, {most}; set memory.swap too");
        return invalid(figure::MEMORY.name(""), why);
    }
    if let Some(limit) = limit {
        planner.set(&figure::MEMORY, limit.max(-1))?;
    }
    match both {
        Some(both) => planner.set(&figure::SWAP, both)?,
        None if limit == Some(-1) => {
            planner.set(&figure::SWAP, -1)?;
            planner.if_there_is_such_a_file();
        }
        None => {}
    }
    if let Some(low) = set(asked.reservation()) {
        planner.set(&figure::RESERVATION, low.max(-1))?;
    }
    if asked.use_hierarchy() == Some(true) {
        planner.set(&figure::TREE, 1)?;
        planner.if_there_is_such_a_file();
    }
    more_memory(asked, planner)
}

/// What only v1 has, and the kernel memory limit, which no kernel has any more.
pub(super) fn more_memory(asked: &LinuxMemory, planner: &mut Planner<'_>) -> Result<()> {
    if asked.use_hierarchy() == Some(false) {
        planner.set(&figure::TREE, 0)?;
    }
    if let Some(swappiness) = asked.swappiness() {
        if swappiness > 100 {
            let why = format!("{swappiness} is not between 0 and 100");
            return invalid(figure::SWAPPINESS.name(""), why);
        }
        planner.set(&figure::SWAPPINESS, swappiness)?;
    }
    // Nothing has to be written for a killer that is on, unless it was off.
    let is_meant = |disable: &bool| *disable || planner.can_be_taken_back(&figure::NO_OOM_KILL);
    if let Some(disable) = asked.disable_oom_killer().filter(is_meant) {
        planner.set(&figure::NO_OOM_KILL, u8::from(disable))?;
    }
    if set(asked.kernel()).is_some() {
        planner.note("kernel memory limit: the kernel no longer has one; ignored");
    }
    if let Some(tcp) = set(asked.kernel_tcp()) {
        planner.set(&figure::KERNEL_TCP, tcp)?;
    }
    Ok(())
}

fn block_io(asked: &LinuxBlockIo, planner: &mut Planner<'_>) -> Result<()> {
    if let Some(weight) = weight(&figure::IO_WEIGHT, "", asked.weight())? {
        planner.set(&figure::IO_WEIGHT, weight)?;
    }
    if let Some(weight) = weight(&figure::IO_LEAF, "", asked.leaf_weight())? {
        planner.set(&figure::IO_LEAF, weight)?;
    }
    for device in asked.weight_device().iter().flatten() {
        let number = format!("{}:{}", device.major(), device.minor());
        for (figure, asked) in
            [(&figure::IO_DEVICE_WEIGHT, device.weight()), (&figure::IO_DEVICE_LEAF, device.leaf_weight())]
        {
            if let Some(weight) = weight(figure, &number, asked)? {
                planner.set_of(figure, &number, format!("{number} {weight}"))?;
            }
        }
    }
    for rate in figure::RATES {
        for device in (rate.devices)(asked).iter().flatten() {
            let number = format!("{}:{}", device.major(), device.minor());
            planner.set_of(&rate.figure, &number, format!("{number} {}", device.rate()))?;
        }
    }
    Ok(())
}

/// A weight that is set, checked.
pub(super) fn weight(figure: &Figure, of: &str, weight: Option<u16>) -> Result<Option<u64>> {
    match weight {
        None | Some(0) => Ok(None),
        Some(weight @ 10..=1000) => Ok(Some(u64::from(weight))),
        Some(weight) => invalid(figure.name(of), format!("{weight} is not between 10 and 1000")),
    }
}

/// 0 is unset, as runc and Docker have it.
fn pids(resources: &LinuxResources, planner: &mut Planner<'_>) -> Result<()> {
    match resources.pids().as_ref().map(|pids| pids.limit()) {
        None | Some(0) => Ok(()),
        Some(limit) => planner.set(&figure::PROCESSES, or_max(limit)),
    }
}

/// Limits on pages in use, and on reserved ones where the kernel counts those.
pub(super) fn hugetlb(
    resources: &LinuxResources,
    planner: &mut Planner<'_>,
    words: fn(i64) -> String,
) -> Result<()> {
    for page in resources.hugepage_limits().iter().flatten() {
        let size = huge_page(page.page_size())?;
        planner.set_of(&figure::HUGE, size, words(page.limit()))?;
        planner.set_of(&figure::HUGE_RESERVED, size, words(page.limit()))?;
        planner.if_there_is_such_a_file();
    }
    Ok(())
}

/// Checks a page size (`2MB`), since it becomes part of a file name.
fn huge_page(size: &str) -> Result<&str> {
    let digits = size.trim_end_matches("KB").trim_end_matches("MB").trim_end_matches("GB");
    let is_size = !digits.is_empty()
        && digits.len() + 2 == size.len()
        && digits.bytes().all(|byte| byte.is_ascii_digit());
    if is_size {
        return Ok(size);
    }
    invalid(figure::HUGE.name(&format!("{size:?}")), "a page size is written like 2MB")
}

fn network_class(resources: &LinuxResources, planner: &mut Planner<'_>) -> Result<()> {
    let class = resources.network().as_ref().and_then(|network| set(network.class_id()));
    class.map_or(Ok(()), |class| planner.set(&figure::CLASS, class))
}

fn network_priorities(resources: &LinuxResources, planner: &mut Planner<'_>) -> Result<()> {
    let Some(asked) = resources.network() else { return Ok(()) };
    for priority in asked.priorities().iter().flatten() {
        let (name, number) = (named(&figure::PRIORITY, priority.name())?, priority.priority());
        planner.set_of(&figure::PRIORITY, name, format!("{name} {number}"))?;
    }
    Ok(())
}

/// A name that stands in a line of several words.
fn named<'a>(figure: &Figure, name: &'a str) -> Result<&'a str> {
    if name.is_empty() || name.contains(char::is_whitespace) || name.contains(char::is_control) {
        return invalid(figure.name(&format!("{name:?}")), "this is no name");
    }
    Ok(name)
}

fn rdma(resources: &LinuxResources, planner: &mut Planner<'_>) -> Result<()> {
    let mut devices: Vec<_> = resources.rdma().iter().flatten().collect();
    devices.sort_unstable_by_key(|(name, _)| *name);
    for (name, limits) in devices {
        let name = named(&figure::RDMA, name)?;
        let limits = [("hca_handle", limits.hca_handles()), ("hca_object", limits.hca_objects())];
        let words: Vec<String> =
            limits.iter().filter_map(|(key, limit)| Some(format!("{key}={}", (*limit)?))).collect();
        if !words.is_empty() {
            planner.set_of(&figure::RDMA, name, format!("{name} {}", words.join(" ")))?;
        }
    }
    Ok(())
}

/// 0 is how many writers of documents say "not set".
pub(super) fn set<T: PartialEq + Default>(value: Option<T>) -> Option<T> {
    value.filter(|value| *value != T::default())
}
