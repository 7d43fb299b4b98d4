//! `--ulimit`, `--device`, `--device-cgroup-rule`, `--blkio-weight-device`, `--device-read-bps` and its like, `--restart`,
//! `--sysctl`; and the limits that can be changed later.

use super::{Parsed, size};
use crate::flags::Given;
use tare_docker_api::extension::NetworkLimits;
use tare_docker_api::models::{
    DeviceMapping, HostConfig, ResourcesBlkioWeightDevice, ResourcesUlimits, RestartPolicy,
    RestartPolicyNameEnum, ThrottleDevice,
};
use tare_docker_api::ulimit::is_known;
use tare_model::shaping::Reshaping;

/// `name=soft[:hard]`; -1 is no limit.
pub(crate) fn ulimit(text: &str) -> Parsed<ResourcesUlimits> {
    let bad = || format!("invalid ulimit argument: {text}");
    let (name, limits) = text.split_once('=').ok_or_else(bad)?;
    if !is_known(name) {
        return Err(format!("invalid ulimit type: {name}"));
    }
    let values: Vec<i64> =
        limits.split(':').map(|v| v.parse::<i64>().map_err(|_| bad())).collect::<Parsed<_>>()?;
    let (soft, hard) = match values[..] {
        [both] => (both, both),
        [soft, hard] => (soft, hard),
        _ => return Err(format!("too many limit values - {limits}, can only have up to two, `soft[:hard]`")),
    };
    if soft < -1 || hard < -1 {
        return Err(bad());
    }
    if hard != -1 && (soft > hard || soft == -1) {
        return Err(format!("ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}"));
    }
    Ok(ResourcesUlimits { name: Some(name.to_owned()), soft: Some(soft), hard: Some(hard) })
}

/// The check of `--ulimit`.
pub(crate) fn check_ulimit(text: &str) -> Parsed<()> {
    ulimit(text).map(drop)
}

/// `/dev/host[:/dev/inside][:rwm]`.
pub(crate) fn device(text: &str) -> Parsed<DeviceMapping> {
    let bad = |why: &str| format!("invalid device specification: {text}: {why}");
    let parts: Vec<&str> = text.split(':').collect();
    let (host, inside, access) = match parts[..] {
        [host] => (host, host, "rwm"),
        [host, access] if is_access(access) => (host, host, access),
        [host, inside] => (host, inside, "rwm"),
        [host, inside, access] => (host, inside, access),
        _ => return Err(bad("want /dev/HOST[:/dev/INSIDE][:rwm]")),
    };
    if !host.starts_with('/') || !inside.starts_with('/') {
        return Err(bad("paths must be absolute"));
    }
    if !is_access(access) {
        return Err(bad(&format!("{access:?} is not made of r, w and m")));
    }
    Ok(DeviceMapping {
        path_on_host: Some(host.to_owned()),
        path_in_container: Some(inside.to_owned()),
        cgroup_permissions: Some(access.to_owned()),
    })
}

/// The check of `--device`.
pub(crate) fn check_device(text: &str) -> Parsed<()> {
    device(text).map(drop)
}

/// The check of `--device-cgroup-rule`: `c 42:* rwm`.
pub(crate) fn check_device_rule(text: &str) -> Parsed<()> {
    let number = |text: &str| text == "*" || text.parse::<u32>().is_ok();
    let words: Vec<&str> = text.split(' ').collect();
    let is_rule = match words[..] {
        [kind, numbers, access] => {
            let numbers = numbers.split_once(':').is_some_and(|(a, b)| number(a) && number(b));
            matches!(kind, "a" | "b" | "c") && numbers && is_access(access)
        }
        _ => false,
    };
    if is_rule { Ok(()) } else { Err(format!("invalid device cgroup format '{text}'")) }
}

/// A weight of `--blkio-weight`.
pub(crate) fn blkio_weight(weight: i64) -> Parsed<u16> {
    u16::try_from(weight).map_err(|_| format!("--blkio-weight {weight}: want 10 to 1000, or 0"))
}

/// `/dev/NAME:N`.
fn of_device(text: &str) -> Parsed<(&str, &str)> {
    let bad = || format!("bad format: {text}");
    let (path, value) = text.rsplit_once(':').filter(|(path, _)| !path.is_empty()).ok_or_else(bad)?;
    if path.starts_with("/dev/") {
        Ok((path, value))
    } else {
        Err(format!("bad format for device path: {text}"))
    }
}

/// `/dev/NAME:WEIGHT`, 10 to 1000.
pub(crate) fn device_weight(text: &str) -> Parsed<ResourcesBlkioWeightDevice> {
    let (path, weight) = of_device(text)?;
    match weight.parse::<usize>() {
        Ok(weight @ (0 | 10..=1000)) => {
            Ok(ResourcesBlkioWeightDevice { path: Some(path.to_owned()), weight: Some(weight) })
        }
        _ => Err(format!("invalid weight for device: {text}")),
    }
}

/// The check of `--blkio-weight-device`.
pub(crate) fn check_device_weight(text: &str) -> Parsed<()> {
    device_weight(text).map(drop)
}

/// `/dev/NAME:BYTES`, a size such as `1mb`.
pub(crate) fn device_bytes(text: &str) -> Parsed<ThrottleDevice> {
    let (path, rate) = of_device(text)?;
    let rate = super::size::bytes(rate).map_err(|_| {
        format!("invalid rate for device: {text}. The correct format is <device-path>:<number>[<unit>]. Number must be a positive integer. Unit is optional and can be kb, mb, or gb")
    })?;
    Ok(ThrottleDevice { path: Some(path.to_owned()), rate: Some(rate) })
}

/// The check of `--device-read-bps` and `--device-write-bps`.
pub(crate) fn check_device_bytes(text: &str) -> Parsed<()> {
    device_bytes(text).map(drop)
}

/// `/dev/NAME:OPERATIONS`.
pub(crate) fn device_operations(text: &str) -> Parsed<ThrottleDevice> {
    let (path, rate) = of_device(text)?;
    let rate = rate.parse::<u32>().map_err(|_| {
        format!("invalid rate for device: {text}. The correct format is <device-path>:<number>. Number must be a positive integer")
    })?;
    Ok(ThrottleDevice { path: Some(path.to_owned()), rate: Some(i64::from(rate)) })
}

/// The check of `--device-read-iops` and `--device-write-iops`.
pub(crate) fn check_device_operations(text: &str) -> Parsed<()> {
    device_operations(text).map(drop)
}

fn is_access(text: &str) -> bool {
    let once = |c: char| text.matches(c).count() <= 1;
    !text.is_empty() && text.chars().all(|c| "rwm".contains(c)) && "rwm".chars().all(once)
}

/// `no`, `always`, `unless-stopped`, `on-failure[:N]`.
pub(crate) fn restart(text: &str) -> Parsed<RestartPolicy> {
    let (name, count) = match text.split_once(':') {
        Some((name, count)) => (name, Some(count)),
        None => (text, None),
    };
    let name = match name {
        "no" | "" => RestartPolicyNameEnum::NO,
        "always" => RestartPolicyNameEnum::ALWAYS,
        "unless-stopped" => RestartPolicyNameEnum::UNLESS_STOPPED,
        "on-failure" => RestartPolicyNameEnum::ON_FAILURE,
        _ => {
            return Err(format!(
                "invalid restart policy: unknown policy '{text}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
            ));
        }
    };
    let count = match count {
        None => 0,
        Some(_) if name != RestartPolicyNameEnum::ON_FAILURE => {
            return Err(
                "invalid restart policy: maximum retry count can only be used with 'on-failure'".to_owned()
            );
        }
        Some(count) => match count.parse::<u32>() {
            Ok(count) => i64::from(count),
            Err(_) => {
                return Err(
                    "invalid restart policy format: maximum retry count must be an integer".to_owned()
                );
            }
        },
    };
    Ok(RestartPolicy { name: Some(name), maximum_retry_count: Some(count) })
}

/// `--restart`, if it is given.
pub(crate) fn restart_policy(given: &Given) -> Parsed<Option<RestartPolicy>> {
    given.one("restart").map(restart).transpose()
}

/// The limits that can be changed while a container runs (`LIMITS` of the flags).
pub(crate) fn limits(given: &Given) -> Parsed<HostConfig> {
    let bytes = |flag: &str| given.one(flag).map(size::bytes).transpose();
    Ok(HostConfig {
        blkio_weight: given.number("blkio-weight").map(blkio_weight).transpose()?,
        cpu_period: given.number("cpu-period"),
        cpu_quota: given.number("cpu-quota"),
        cpu_realtime_period: given.number("cpu-rt-period"),
        cpu_realtime_runtime: given.number("cpu-rt-runtime"),
        cpu_shares: given.number("cpu-shares"),
        nano_cpus: given.one("cpus").map(size::nano_cpus).transpose()?,
        cpuset_cpus: given.some("cpuset-cpus"),
        cpuset_mems: given.some("cpuset-mems"),
        memory: bytes("memory")?,
        memory_reservation: bytes("memory-reservation")?,
        memory_swap: given.one("memory-swap").map(size::bytes_or_unlimited).transpose()?,
        pids_limit: given.number("pids-limit"),
        ..HostConfig::default()
    })
}

/// `--network-rate` and `--network-share`; absent if neither is given.
pub(crate) fn network_limits(given: &Given) -> Parsed<Option<NetworkLimits>> {
    let rate = given.one("network-rate").map(network_rate).transpose()?;
    let share = given.number("network-share");
    if rate.is_none() && share.is_none() {
        return Ok(None);
    }
    let Reshaping { inward, outward, burst, .. } = rate.unwrap_or_default();
    let bad = |_| "--network-share: want 1 to 10000".to_owned();
    let share = share.map(u32::try_from).transpose().map_err(bad)?;
    Ok(Some(NetworkLimits { in_rate: inward, out_rate: outward, burst, share }))
}

/// One `--network-rate`, or `--rate` of a network.
pub(crate) fn network_rate(text: &str) -> Parsed<Reshaping> {
    text.parse().map_err(|e: tare_model::Error| e.to_string())
}

/// The check of `--network-rate`.
pub(crate) fn check_network_rate(text: &str) -> Parsed<()> {
    network_rate(text).map(drop)
}

/// The check of `--restart`.
pub(crate) fn check_restart(text: &str) -> Parsed<()> {
    restart(text).map(drop)
}

/// The check of `--sysctl`: a name and a value, of a kind that belongs to a namespace.
pub(crate) fn check_sysctl(text: &str) -> Parsed<()> {
    const NAMESPACED: &[&str] = &[
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
    ];
    let allowed = text.split_once('=').is_some_and(|(name, _)| {
        NAMESPACED.contains(&name) || name.starts_with("net.") || name.starts_with("fs.mqueue.")
    });
    if allowed { Ok(()) } else { Err(format!("sysctl '{text}' is not allowed")) }
}
