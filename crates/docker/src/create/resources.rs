//! Limits, devices and resource limits of processes, with Docker's rules on what goes together.

use tare_docker_api::models::{
    DeviceMapping, HostConfig, ResourcesBlkioWeightDevice, ResourcesUlimits, ThrottleDevice,
};
use tare_docker_api::ulimit::is_known;
use tare_model::container::{DeviceConfig, DeviceRate, DeviceWeight, Resources, Ulimit};
use tare_model::{Error, Result};

use super::text::{absolute, natural, within};

/// Docker's minimum: with less, nothing starts.
const MEMORY_MIN: u64 = 6 << 20;

pub(super) fn resources(host: &HostConfig) -> Result<Resources> {
    let resources = Resources {
        memory: natural("HostConfig.Memory", host.memory)?,
        memory_reservation: natural("HostConfig.MemoryReservation", host.memory_reservation)?,
        memory_swap: host.memory_swap.filter(|n| *n != 0),
        memory_swappiness: swappiness(host.memory_swappiness)?,
        oom_kill_disable: host.oom_kill_disable.unwrap_or_default(),
        nano_cpus: natural("HostConfig.NanoCpus", host.nano_cpus)?,
        cpu_shares: natural("HostConfig.CpuShares", host.cpu_shares)?,
        cpu_period: natural("HostConfig.CpuPeriod", host.cpu_period)?,
        cpu_quota: host.cpu_quota.filter(|n| *n != 0),
        cpuset_cpus: cpuset("HostConfig.CpusetCpus", host.cpuset_cpus.as_deref())?,
        cpuset_mems: cpuset("HostConfig.CpusetMems", host.cpuset_mems.as_deref())?,
        pids_limit: host.pids_limit.filter(|n| *n != 0).map(|n| n.max(-1)),
        blkio_weight: blkio_weight("HostConfig.BlkioWeight", host.blkio_weight)?,
        blkio_weight_device: weights(host.blkio_weight_device.as_deref())?,
        device_read_bps: rates("BlkioDeviceReadBps", host.blkio_device_read_bps.as_deref())?,
        device_write_bps: rates("BlkioDeviceWriteBps", host.blkio_device_write_bps.as_deref())?,
        device_read_iops: rates("BlkioDeviceReadIOps", host.blkio_device_read_iops.as_deref())?,
        device_write_iops: rates("BlkioDeviceWriteIOps", host.blkio_device_write_iops.as_deref())?,
        cpu_rt_period: natural("HostConfig.CpuRealtimePeriod", host.cpu_realtime_period)?,
        cpu_rt_runtime: host.cpu_realtime_runtime.filter(|n| *n != 0),
        kernel_memory: None, // the generated models no longer have it, see `super::config`
        device_rules: device_rules(host.device_cgroup_rules.as_deref())?,
        cgroup_parent: host.cgroup_parent.clone().unwrap_or_default(),
        oom_score_adj: oom_score_adj(host.oom_score_adj.unwrap_or_default())?,
    };
    check_memory(&resources)?;
    check_cpu(&resources)?;
    Ok(resources)
}

fn check_memory(r: &Resources) -> Result<()> {
    let memory = r.memory.unwrap_or(0);
    if (1..MEMORY_MIN).contains(&memory) {
        return Err(Error::invalid("Minimum memory limit allowed is 6MB (HostConfig.Memory)"));
    }
    match r.memory_swap {
        Some(swap) if swap < -1 => {
            Err(Error::invalid(format!("HostConfig.MemorySwap = {swap} is out of range")))
        }
        Some(swap) if swap > 0 && memory == 0 => Err(Error::invalid(
            "You should always set the Memory limit when using Memoryswap limit, see usage",
        )),
        Some(swap) if swap > 0 && swap.unsigned_abs() < memory => {
            Err(Error::invalid("Minimum memoryswap limit should be larger than memory limit, see usage"))
        }
        _ if memory > 0 && r.memory_reservation.is_some_and(|soft| soft > memory) => Err(Error::invalid(
            "Minimum memory limit can not be less than memory reservation limit, see usage",
        )),
        _ => Ok(()),
    }
}

fn check_cpu(r: &Resources) -> Result<()> {
    let conflict =
        |other| Error::invalid(format!("Conflicting options: Nano CPUs and CPU {other} cannot both be set"));
    if r.nano_cpus.is_some() && r.cpu_period.is_some() {
        return Err(conflict("Period"));
    }
    if r.nano_cpus.is_some() && r.cpu_quota.is_some() {
        return Err(conflict("Quota"));
    }
    if r.cpu_period.is_some_and(|p| !(1_000..=1_000_000).contains(&p)) {
        return Err(Error::invalid(
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)",
        ));
    }
    if let (Some(runtime), Some(period)) = (r.cpu_rt_runtime, r.cpu_rt_period)
        && runtime > 0
        && runtime.unsigned_abs() > period
    {
        return Err(Error::invalid("cpu real-time runtime cannot be higher than cpu real-time period"));
    }
    if r.cpu_quota.is_some_and(|q| (1..1_000).contains(&q)) {
        return Err(Error::invalid("CPU cfs quota can not be less than 1ms (i.e. 1000)"));
    }
    Ok(())
}

/// Clients send -1 for "not set".
fn swappiness(value: Option<i64>) -> Result<Option<u64>> {
    match value {
        None | Some(-1) => Ok(None),
        Some(n @ 0..=100) => within("HostConfig.MemorySwappiness", n).map(Some),
        Some(n) => Err(Error::invalid(format!("Invalid value: {n}, valid memory swappiness range is 0-100"))),
    }
}

fn blkio_weight(field: &str, weight: Option<u16>) -> Result<Option<u16>> {
    match weight.unwrap_or(0) {
        0 => Ok(None),
        n @ 10..=1000 => Ok(Some(n)),
        n => Err(Error::invalid(format!("{field} = {n}: Range of blkio weight is from 10 to 1000"))),
    }
}

fn weights(asked: Option<&[ResourcesBlkioWeightDevice]>) -> Result<Vec<DeviceWeight>> {
    let field = "HostConfig.BlkioWeightDevice";
    let one = |wire: &ResourcesBlkioWeightDevice| {
        let path = absolute(field, wire.path.as_deref().unwrap_or(""))?;
        let weight = u16::try_from(wire.weight.unwrap_or(0)).unwrap_or(u16::MAX);
        let weight = blkio_weight(field, Some(weight))?;
        weight.map(|weight| DeviceWeight { path, weight }).ok_or_else(|| {
            Error::invalid(format!("{field}: a device has no Weight; the range is from 10 to 1000"))
        })
    };
    asked.unwrap_or_default().iter().map(one).collect()
}

fn rates(field: &str, asked: Option<&[ThrottleDevice]>) -> Result<Vec<DeviceRate>> {
    let field = format!("HostConfig.{field}");
    let one = |wire: &ThrottleDevice| {
        let path = absolute(&field, wire.path.as_deref().unwrap_or(""))?;
        Ok(DeviceRate { path, rate: within(&field, wire.rate.unwrap_or(0))? })
    };
    asked.unwrap_or_default().iter().map(one).collect()
}

/// `c 42:* rwm`, as the kernel's device controller of old read them.
fn device_rules(asked: Option<&[String]>) -> Result<Vec<String>> {
    let number = |text: &str| text == "*" || text.parse::<u32>().is_ok();
    let is_rule = |rule: &str| {
        let words: Vec<&str> = rule.split(' ').collect();
        let [kind, numbers, access] = words[..] else { return false };
        let known = access.chars().all(|c| matches!(c, 'r' | 'w' | 'm'));
        let numbers = numbers.split_once(':').is_some_and(|(major, minor)| number(major) && number(minor));
        matches!(kind, "a" | "b" | "c") && numbers && known && (1..=3).contains(&access.len())
    };
    let rules = asked.unwrap_or_default();
    match rules.iter().find(|rule| !is_rule(rule)) {
        Some(rule) => Err(Error::invalid(format!(
            "invalid device cgroup rule format: '{rule}' (HostConfig.DeviceCgroupRules: want like 'c 42:* rwm')"
        ))),
        None => Ok(rules.to_vec()),
    }
}

fn oom_score_adj(value: i64) -> Result<i32> {
    match i32::try_from(value) {
        Ok(n @ -1000..=1000) => Ok(n),
        _ => Err(Error::invalid(format!("Invalid value {value}, range for oom score adj is [-1000, 1000]"))),
    }
}

/// `0-2,4`.
fn cpuset(field: &str, list: Option<&str>) -> Result<String> {
    let list = list.unwrap_or("");
    let number = |n: &str| n.parse::<u32>().ok();
    let range = |r: &str| match r.split_once('-') {
        Some((low, high)) => number(low).zip(number(high)).is_some_and(|(l, h)| l <= h),
        None => number(r).is_some(),
    };
    if list.is_empty() || list.split(',').all(|r| range(r.trim())) {
        return Ok(list.to_owned());
    }
    Err(Error::invalid(format!("invalid {field} {list:?}: want numbers and ranges, like 0-2,4")))
}

pub(super) fn devices(host: &HostConfig) -> Result<Vec<DeviceConfig>> {
    host.devices.iter().flatten().map(device).collect()
}

fn device(wire: &DeviceMapping) -> Result<DeviceConfig> {
    let given = |text: &Option<String>| text.clone().filter(|t| !t.is_empty());
    let host_path = absolute("HostConfig.Devices PathOnHost", wire.path_on_host.as_deref().unwrap_or(""))?;
    let container_path = match given(&wire.path_in_container) {
        Some(path) => absolute("HostConfig.Devices PathInContainer", &path)?,
        None => host_path.clone(),
    };
    let permissions = given(&wire.cgroup_permissions).unwrap_or_else(|| "rwm".to_owned());
    let mut seen: Vec<char> = permissions.chars().collect();
    seen.sort_unstable();
    seen.dedup();
    if seen.len() != permissions.len() || !seen.iter().all(|c| matches!(c, 'r' | 'w' | 'm')) {
        return Err(Error::invalid(format!(
            "invalid device mode: {permissions} (want some of r, w, m, each once)"
        )));
    }
    Ok(DeviceConfig { host_path, container_path, permissions })
}

pub(super) fn ulimits(host: &HostConfig) -> Result<Vec<Ulimit>> {
    host.ulimits.iter().flatten().map(ulimit).collect()
}

fn ulimit(wire: &ResourcesUlimits) -> Result<Ulimit> {
    let name = wire.name.clone().unwrap_or_default();
    let (soft, hard) = (wire.soft.unwrap_or(0), wire.hard.unwrap_or(0));
    if !is_known(&name) {
        return Err(Error::invalid(format!("invalid ulimit type: {name} (HostConfig.Ulimits)")));
    }
    // -1 is "no limit", above every number.
    let order = |n: i64| if n == -1 { i64::MAX } else { n };
    if soft < -1 || hard < -1 || order(soft) > order(hard) {
        return Err(Error::invalid(format!(
            "ulimit {name}: soft limit must be less than or equal to hard limit: {soft} > {hard}"
        )));
    }
    Ok(Ulimit { name, soft, hard })
}

pub(super) fn shm_size(host: &HostConfig) -> Result<Option<u64>> {
    natural("HostConfig.ShmSize", host.shm_size)
}
