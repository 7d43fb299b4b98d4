//! The writer for the v2 hierarchy: OCI's figures in v2's words.

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources};

use super::controller::Controller;
use super::convert::{cpu_weight, io_weight, or_max};
use super::error::Result;
use super::figure;
use super::plan::Planner;
use super::v1::{self, set};

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
        Controller::Hugetlb => v1::hugetlb(resources, planner, or_max),
        other => v1::common(other, resources, planner),
    }
}

fn cpu(asked: &LinuxCpu, planner: &mut Planner<'_>) -> Result<()> {
    if let Some(shares) = v1::shares(asked, planner)? {
        planner.set(&figure::CPU_SHARES, cpu_weight(shares))?;
    }
    match (set(asked.quota()).map(or_max), set(asked.period())) {
        (Some(quota), Some(period)) => planner.set(&figure::CPU_QUOTA, format!("{quota} {period}"))?,
        (Some(quota), None) => planner.set(&figure::CPU_QUOTA, quota)?, // the kernel keeps the period
        (None, Some(period)) => {
            let quota = planner.current.cpu_quota.as_deref().unwrap_or("max");
            planner.set(&figure::CPU_PERIOD, format!("{quota} {period}"))?;
        }
        (None, None) => {}
    }
    v1::burst_and_idle(asked, planner)?;
    v1::real_time(asked, planner)
}

fn memory(asked: &LinuxMemory, planner: &mut Planner<'_>) -> Result<()> {
    // Swap first: a limit on memory that takes hold before there is room to swap kills.
    if let Some(swap) = v1::swap(asked, planner)? {
        planner.set(&figure::SWAP, or_max(swap))?;
        // Without swap accounting there is no such file; nothing swaps beyond it then either.
        if swap <= 0 {
            planner.if_there_is_such_a_file();
        }
    }
    if let Some(limit) = set(asked.limit()) {
        planner.set(&figure::MEMORY, or_max(limit))?;
    }
    if let Some(low) = set(asked.reservation()) {
        planner.set(&figure::RESERVATION, or_max(low))?;
    }
    v1::more_memory(asked, planner)
}

fn block_io(asked: &LinuxBlockIo, planner: &mut Planner<'_>) -> Result<()> {
    // BFQ's file keeps v1's scale.
    if let Some(weight) = v1::weight(&figure::IO_WEIGHT, "", asked.weight())? {
        planner.set_one_of(&figure::IO_WEIGHT, "", &[weight.to_string(), io_weight(weight).to_string()])?;
    }
    if let Some(weight) = v1::weight(&figure::IO_LEAF, "", asked.leaf_weight())? {
        planner.set(&figure::IO_LEAF, weight)?;
    }
    for device in asked.weight_device().iter().flatten() {
        let number = format!("{}:{}", device.major(), device.minor());
        if let Some(weight) = v1::weight(&figure::IO_DEVICE_WEIGHT, &number, device.weight())? {
            let values = [format!("{number} {weight}"), format!("{number} {}", io_weight(weight))];
            planner.set_one_of(&figure::IO_DEVICE_WEIGHT, &number, &values)?;
        }
        if let Some(weight) = v1::weight(&figure::IO_DEVICE_LEAF, &number, device.leaf_weight())? {
            planner.set_of(&figure::IO_DEVICE_LEAF, &number, weight)?;
        }
    }
    for rate in figure::RATES {
        for device in (rate.devices)(asked).iter().flatten() {
            let number = format!("{}:{}", device.major(), device.minor());
            // 0 takes the limit away in v1, and would forbid everything here.
            let words = if device.rate() == 0 { "max".to_owned() } else { device.rate().to_string() };
            planner.set_of(&rate.figure, &number, format!("{number} {}={words}", rate.key))?;
        }
    }
    Ok(())
}
