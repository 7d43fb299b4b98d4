//! The writer for the v2 hierarchy: OCI's figures in v2's words.

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources};

use super::controller::Controller;
use super::convert::{cpu_weight, io_weight, or_max, swap_alone};
use super::error::Result;
use super::plan::{Planner, invalid};
use super::v1;

/// Plans the writes of one controller.
pub(crate) fn plan(
    controller: Controller,
    resources: &LinuxResources,
    planner: &mut Planner<'_>,
) -> Result<()> {
    match controller {
        Controller::Cpu => resources.cpu().as_ref().map_or(Ok(()), |asked| cpu(asked, planner)),
        Controller::Cpuset => resources.cpu().as_ref().map_or(Ok(()), |asked| v1::cpuset(asked, planner)),
        Controller::Memory => resources.memory().as_ref().map_or(Ok(()), |asked| memory(asked, planner)),
        Controller::Io => resources.block_io().as_ref().map_or(Ok(()), |asked| block_io(asked, planner)),
        Controller::Pids => v1::pids(resources, planner),
        Controller::Hugetlb => hugetlb(resources, planner),
        Controller::Rdma => v1::rdma(resources, planner),
        Controller::NetCls
        | Controller::NetPrio
        | Controller::Cpuacct
        | Controller::Devices
        | Controller::Freezer => Ok(()),
    }
}

fn cpu(asked: &LinuxCpu, planner: &mut Planner<'_>) -> Result<()> {
    let to = Controller::Cpu;
    if let Some(shares) = asked.shares().filter(|shares| *shares != 0) {
        if !(2..=v1::MOST_SHARES).contains(&shares) {
            return invalid("CPU shares", format!("{shares} is not between 2 and {}", v1::MOST_SHARES));
        }
        // A group that is idle has no weight; the kernel refuses to set one, and runc leaves it out likewise.
        if asked.idle() != Some(1) {
            planner.write(to, "CPU shares", "cpu.weight", cpu_weight(shares))?;
        }
    }
    let in_force = || planner.current.cpu_quota.clone().unwrap_or_else(|| "max".to_owned());
    let quota = asked.quota().filter(|us| *us != 0).map(or_max);
    let maximum = match (quota, asked.period().filter(|us| *us != 0)) {
        (Some(quota), Some(period)) => Some(format!("{quota} {period}")),
        (Some(quota), None) => Some(quota), // the kernel keeps the period
        (None, Some(period)) => Some(format!("{} {period}", in_force())),
        (None, None) => None,
    };
    if let Some(maximum) = maximum {
        planner.write(to, "CPU quota", "cpu.max", maximum)?;
    }
    if let Some(burst) = asked.burst() {
        planner.write(to, "CPU burst", "cpu.max.burst", burst)?;
    }
    if let Some(idle) = asked.idle() {
        planner.write(to, "CPU idle", "cpu.idle", idle)?;
    }
    if asked.realtime_runtime().is_some_and(|us| us != 0) || asked.realtime_period().is_some_and(|us| us != 0)
    {
        return planner.not_in_v2("CPU real-time limit");
    }
    Ok(())
}

fn memory(asked: &LinuxMemory, planner: &mut Planner<'_>) -> Result<()> {
    let to = Controller::Memory;
    let limit = asked.limit().filter(|limit| *limit != 0);
    let swap = swap_alone(limit, asked.swap()).or_else(|why| invalid("memory and swap limit", why))?;
    if let Some(swap) = swap {
        planner.write(to, "memory and swap limit", "memory.swap.max", or_max(swap))?;
        // Without swap accounting there is no such file; nothing swaps beyond it then either.
        if swap <= 0 {
            planner.if_there_is_such_a_file();
        }
    }
    if let Some(limit) = limit {
        planner.write(to, "memory limit", "memory.max", or_max(limit))?;
    }
    if let Some(low) = asked.reservation().filter(|low| *low != 0) {
        planner.write(to, "memory reservation", "memory.low", or_max(low))?;
    }
    if asked.swappiness().is_some() {
        return planner.not_in_v2("memory swappiness");
    }
    if asked.disable_oom_killer() == Some(true) {
        return planner.not_in_v2("disabling the OOM killer");
    }
    if asked.kernel().is_some_and(|limit| limit != 0) {
        planner.note("kernel memory limit: the kernel no longer has one; ignored");
    }
    if asked.kernel_tcp().is_some_and(|limit| limit != 0) {
        return planner.not_in_v2("kernel TCP memory limit");
    }
    Ok(())
}

fn block_io(asked: &LinuxBlockIo, planner: &mut Planner<'_>) -> Result<()> {
    let to = Controller::Io;
    if let Some(weight) = v1::weight("block I/O weight", asked.weight())? {
        let choices = [("io.bfq.weight", weight), ("io.weight", io_weight(weight))];
        planner.write_one_of(to, "block I/O weight", v1::strings(&choices))?;
    }
    let leaf = asked.leaf_weight().is_some_and(|weight| weight != 0);
    if leaf {
        return planner.not_in_v2("block I/O leaf weight");
    }
    for device in asked.weight_device().iter().flatten() {
        let number = format!("{}:{}", device.major(), device.minor());
        let what = format!("block I/O weight of device {number}");
        if let Some(weight) = v1::weight(&what, device.weight())? {
            let choices = [
                ("io.bfq.weight", format!("{number} {weight}")),
                ("io.weight", format!("{number} {}", io_weight(weight))),
            ];
            planner.write_one_of(to, &what, v1::strings(&choices))?;
        }
        if device.leaf_weight().is_some_and(|weight| weight != 0) {
            return planner.not_in_v2(&format!("block I/O leaf weight of device {number}"));
        }
    }
    for (devices, key) in [
        (asked.throttle_read_bps_device(), "rbps"),
        (asked.throttle_write_bps_device(), "wbps"),
        (asked.throttle_read_iops_device(), "riops"),
        (asked.throttle_write_iops_device(), "wiops"),
    ] {
        for device in devices.iter().flatten() {
            let number = format!("{}:{}", device.major(), device.minor());
            // 0 takes the limit away in v1, and would forbid everything here.
            let rate = if device.rate() == 0 { "max".to_owned() } else { device.rate().to_string() };
            let what = format!("block I/O rate of device {number}");
            planner.write(to, &what, "io.max", format!("{number} {key}={rate}"))?;
        }
    }
    Ok(())
}

fn hugetlb(resources: &LinuxResources, planner: &mut Planner<'_>) -> Result<()> {
    for page in resources.hugepage_limits().iter().flatten() {
        let (what, size) = v1::huge_page(page.page_size())?;
        let limit = or_max(page.limit());
        planner.write(Controller::Hugetlb, &what, &format!("hugetlb.{size}.max"), &limit)?;
        planner.write(Controller::Hugetlb, &what, &format!("hugetlb.{size}.rsvd.max"), &limit)?;
        planner.if_there_is_such_a_file();
    }
    Ok(())
}
