//! Limits: Docker's checks with Docker's words, and their OCI form.

use oci_spec::runtime::{
    LinuxBlockIo, LinuxBlockIoBuilder, LinuxCpuBuilder, LinuxDeviceCgroup, LinuxDeviceCgroupBuilder,
    LinuxDeviceType, LinuxMemoryBuilder, LinuxPidsBuilder, LinuxResources, LinuxResourcesBuilder,
    LinuxThrottleDevice, LinuxThrottleDeviceBuilder, LinuxWeightDevice, LinuxWeightDeviceBuilder,
    PosixRlimit, PosixRlimitBuilder, PosixRlimitType,
};
use tare_model::container::{ContainerConfig, DeviceRate, DeviceWeight, Resources, Ulimit};
use tare_model::{Error, Result};

use super::defaults;
use super::host::HostFacts;
use super::plan::built;

/// Checks limits and fills in what follows from others; what cannot be kept on this machine becomes a warning.
///
/// # Errors
/// `InvalidInput` in Docker's words.
pub(crate) fn check(resources: &mut Resources, host: &HostFacts) -> Result<Vec<String>> {
    if let Some(rootless) = &host.rootless {
        rootless.check_limits(resources)?;
    }
    let mut warnings = Vec::new();
    check_memory(resources, host, &mut warnings)?;
    check_cpu(resources, host, &mut warnings)?;
    check_cpuset("cpus", "CPUs", &resources.cpuset_cpus, &host.cpu_list)?;
    check_cpuset("mems", "memory nodes", &resources.cpuset_mems, &host.mem_list)?;
    if resources.blkio_weight.is_some_and(|w| w != 0 && !(10..=1000).contains(&w)) {
        return Err(Error::invalid("Range of blkio weight is from 10 to 1000"));
    }
    if resources.kernel_memory.take().is_some_and(|limit| limit != 0) {
        warnings.push("Linux no longer has a limit on kernel memory; it is ignored".into());
    }
    resources.device_rules.iter().try_for_each(|rule| device_rule(rule).map(drop))?;
    if !(-1000..=1000).contains(&resources.oom_score_adj) {
        let value = resources.oom_score_adj;
        return Err(Error::invalid(format!(
            "Invalid value {value}, range for oom score adj is [-1000, 1000]"
        )));
    }
    let parent = &resources.cgroup_parent;
    if parent.split('/').any(|part| part == "..") || parent.chars().any(char::is_control) {
        return Err(Error::invalid(format!("invalid cgroup parent {parent:?}: want a path without \"..\"")));
    }
    Ok(warnings)
}

fn check_memory(r: &mut Resources, host: &HostFacts, warnings: &mut Vec<String>) -> Result<()> {
    let invalid = |text: &str| Err(Error::invalid(text));
    let positive = |value: Option<u64>| value.filter(|v| *v > 0);
    (r.memory, r.memory_reservation) = (positive(r.memory), positive(r.memory_reservation));
    r.memory_swap = r.memory_swap.filter(|v| *v != 0);
    if r.memory.is_some_and(|m| m < defaults::MEMORY_MIN) {
        return invalid("Minimum memory limit allowed is 6MB");
    }
    match (r.memory, r.memory_swap) {
        (None, Some(1..)) => {
            return invalid("You should always set the Memory limit when using Memoryswap limit, see usage");
        }
        (Some(memory), Some(swap @ 1..)) if swap.unsigned_abs() < memory => {
            return invalid("Minimum memoryswap limit should be larger than memory limit, see usage");
        }
        (_, Some(swap)) if swap < -1 => {
            return invalid("invalid memory-swap: want bytes, or -1 for unlimited");
        }
        // Docker's rule: as much swap again as memory.
        (Some(memory), None) if host.swap_limit => {
            r.memory_swap = i64::try_from(memory.saturating_mul(2)).ok()
        }
        _ => {}
    }
    let limited = r.memory.is_some() && r.memory_swap != Some(-1);
    if limited && !host.swap_limit && r.memory_swap.take().is_some() {
        warnings.push(
            "Your kernel does not support swap limit capabilities or the cgroup is not mounted. Memory limited \
             without swap."
                .into(),
        );
    }
    if r.memory_swappiness.is_some_and(|s| s > 100) {
        let value = r.memory_swappiness.unwrap_or_default();
        return Err(Error::invalid(format!(
            "Invalid value: {value}, valid memory swappiness range is 0-100"
        )));
    }
    if r.memory_reservation.is_some_and(|m| m < defaults::MEMORY_MIN) {
        return invalid("Minimum memory reservation allowed is 6MB");
    }
    if matches!((r.memory, r.memory_reservation), (Some(limit), Some(soft)) if limit < soft) {
        return invalid("Minimum memory limit can not be less than memory reservation limit, see usage");
    }
    if r.oom_kill_disable && r.memory.is_none() {
        warnings.push(
            "OOM killer is disabled for the container, but no memory limit is set, this can result in the system \
             running out of resources."
                .into(),
        );
    }
    Ok(())
}

fn check_cpu(r: &mut Resources, host: &HostFacts, warnings: &mut Vec<String>) -> Result<()> {
    let invalid = |text: &str| Err(Error::invalid(text));
    let positive = |value: Option<u64>| value.filter(|v| *v > 0);
    (r.nano_cpus, r.cpu_period, r.cpu_shares) =
        (positive(r.nano_cpus), positive(r.cpu_period), positive(r.cpu_shares));
    r.cpu_quota = r.cpu_quota.filter(|q| *q != 0);
    if let Some(nano) = r.nano_cpus {
        if r.cpu_period.is_some() {
            return invalid("Conflicting options: Nano CPUs and CPU Period cannot both be set");
        }
        if r.cpu_quota.is_some() {
            return invalid("Conflicting options: Nano CPUs and CPU Quota cannot both be set");
        }
        if nano < 10_000_000 || nano > u64::from(host.cpus) * 1_000_000_000 {
            return Err(Error::invalid(format!(
                "range of CPUs is from 0.01 to {0}.00, as there are only {0} CPUs available",
                host.cpus
            )));
        }
    }
    if r.cpu_period.is_some_and(|p| !(1_000..=1_000_000).contains(&p)) {
        return invalid(
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)",
        );
    }
    if r.cpu_quota.is_some_and(|q| (1..1_000).contains(&q)) {
        return invalid("CPU cfs quota can not be less than 1ms (i.e. 1000)");
    }
    if let Some(shares) = r.cpu_shares
        && !(2..=262_144).contains(&shares)
    {
        let kept = shares.clamp(2, 262_144);
        warnings.push(format!("cpu-shares {shares} is outside 2 to 262144; {kept} is used"));
        r.cpu_shares = Some(kept);
    }
    Ok(())
}

fn check_cpuset(what: &str, plural: &str, wanted: &str, available: &str) -> Result<()> {
    if wanted.is_empty() {
        return Ok(());
    }
    let bad = || Error::invalid(format!("Invalid value {wanted} for cpuset {what}"));
    let wants = ranges(wanted).ok_or_else(bad)?;
    let has = ranges(available).unwrap_or_default();
    let inside =
        |(low, high): &(u32, u32)| (*low..=*high).all(|n| has.iter().any(|(l, h)| (l..=h).contains(&&n)));
    if !wants.iter().all(inside) {
        return Err(Error::invalid(format!(
            "Requested {plural} are not available - requested {wanted}, available: {available}"
        )));
    }
    Ok(())
}

/// `0-2,4` as ranges; numbers above 8191 are none (the kernel's limit).
fn ranges(list: &str) -> Option<Vec<(u32, u32)>> {
    let number = |text: &str| text.trim().parse::<u32>().ok().filter(|n| *n < 8192);
    let range = |part: &str| match part.split_once('-') {
        Some((low, high)) => Some((number(low)?, number(high)?)).filter(|(low, high)| low <= high),
        None => number(part).map(|n| (n, n)),
    };
    list.split(',').map(range).collect()
}

/// What becomes of a limit that is not named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Absent {
    /// It gets the engine's default, for a new container.
    IsUsual,
    /// It stays as it is.
    Stays,
}

/// Finds a block device's numbers by its path on the host.
pub(crate) type Lookup = fn(&str) -> Result<(i64, i64)>;

/// The OCI form of checked limits, without the device rules.
pub(crate) fn resources(r: &Resources, absent: Absent, lookup: Lookup) -> Result<LinuxResources> {
    let mut all = LinuxResourcesBuilder::default().memory(memory(r)?).cpu(cpu(r)?);
    let usual = (absent == Absent::IsUsual).then_some(defaults::PIDS_LIMIT);
    if let Some(pids) = r.pids_limit.filter(|n| *n != 0).or(usual) {
        all = all.pids(built(LinuxPidsBuilder::default().limit(pids.max(-1)).build())?);
    }
    if let Some(limits) = block_io(r, lookup)? {
        all = all.block_io(limits);
    }
    built(all.build())
}

fn block_io(r: &Resources, lookup: Lookup) -> Result<Option<LinuxBlockIo>> {
    let mut limits = LinuxBlockIoBuilder::default();
    let weight = r.blkio_weight.filter(|w| *w != 0);
    if let Some(weight) = weight {
        limits = limits.weight(weight);
    }
    let mut limits = built(limits.build())?;
    let some = |list: Vec<LinuxThrottleDevice>| (!list.is_empty()).then_some(list);
    let weights =
        r.blkio_weight_device.iter().map(|limit| weight_device(limit, lookup)).collect::<Result<Vec<_>>>()?;
    limits.set_weight_device((!weights.is_empty()).then_some(weights));
    limits.set_throttle_read_bps_device(some(rates(&r.device_read_bps, lookup)?));
    limits.set_throttle_write_bps_device(some(rates(&r.device_write_bps, lookup)?));
    limits.set_throttle_read_iops_device(some(rates(&r.device_read_iops, lookup)?));
    limits.set_throttle_write_iops_device(some(rates(&r.device_write_iops, lookup)?));
    Ok((limits != LinuxBlockIo::default()).then_some(limits))
}

fn weight_device(limit: &DeviceWeight, lookup: Lookup) -> Result<LinuxWeightDevice> {
    let (major, minor) = lookup(&limit.path)?;
    built(LinuxWeightDeviceBuilder::default().major(major).minor(minor).weight(limit.weight).build())
}

fn rates(limits: &[DeviceRate], lookup: Lookup) -> Result<Vec<LinuxThrottleDevice>> {
    let one = |limit: &DeviceRate| {
        let (major, minor) = lookup(&limit.path)?;
        built(LinuxThrottleDeviceBuilder::default().major(major).minor(minor).rate(limit.rate).build())
    };
    limits.iter().map(one).collect()
}

/// The rules that stand beside those of named devices.
pub(crate) fn device_rules(r: &Resources) -> Result<Vec<LinuxDeviceCgroup>> {
    r.device_rules.iter().map(|rule| device_rule(rule)).collect()
}

/// `c 42:* rwm`.
fn device_rule(text: &str) -> Result<LinuxDeviceCgroup> {
    let bad =
        || Error::invalid(format!("invalid device cgroup rule format: '{text}' (want like 'c 42:* rwm')"));
    let words: Vec<&str> = text.split(' ').collect();
    let [kind, numbers, access] = words[..] else { return Err(bad()) };
    let (major, minor) = numbers.split_once(':').ok_or_else(bad)?;
    let number = |text: &str| match text {
        "*" => Ok(None),
        text => text.parse::<u32>().map(|number| Some(i64::from(number))).map_err(|_| bad()),
    };
    let kind = match kind {
        "a" => LinuxDeviceType::A,
        "b" => LinuxDeviceType::B,
        "c" => LinuxDeviceType::C,
        _ => return Err(bad()),
    };
    if access.is_empty() || !access.chars().all(|letter| "rwm".contains(letter)) {
        return Err(bad());
    }
    let mut rule = built(LinuxDeviceCgroupBuilder::default().allow(true).access(access).build())?;
    rule.set_typ(Some(kind));
    rule.set_major(number(major)?);
    rule.set_minor(number(minor)?);
    Ok(rule)
}

fn memory(r: &Resources) -> Result<oci_spec::runtime::LinuxMemory> {
    let mut memory = LinuxMemoryBuilder::default();
    if let Some(limit) = r.memory.and_then(|m| i64::try_from(m).ok()) {
        memory = memory.limit(limit);
    }
    if let Some(soft) = r.memory_reservation.and_then(|m| i64::try_from(m).ok()) {
        memory = memory.reservation(soft);
    }
    if let Some(swap) = r.memory_swap {
        memory = memory.swap(swap);
    }
    if let Some(swappiness) = r.memory_swappiness {
        memory = memory.swappiness(swappiness);
    }
    if r.oom_kill_disable {
        memory = memory.disable_oom_killer(true);
    }
    built(memory.build())
}

fn cpu(r: &Resources) -> Result<oci_spec::runtime::LinuxCpu> {
    let mut cpu = LinuxCpuBuilder::default();
    if let Some(shares) = r.cpu_shares {
        cpu = cpu.shares(shares);
    }
    let of_nano =
        r.nano_cpus.map(|nano| (defaults::CPU_PERIOD, (nano * defaults::CPU_PERIOD / 1_000_000_000) as i64));
    if let Some(period) = of_nano.map(|(period, _)| period).or(r.cpu_period) {
        cpu = cpu.period(period);
    }
    if let Some(quota) = of_nano.map(|(_, quota)| quota).or(r.cpu_quota) {
        cpu = cpu.quota(quota);
    }
    if let Some(period) = r.cpu_rt_period {
        cpu = cpu.realtime_period(period);
    }
    if let Some(runtime) = r.cpu_rt_runtime {
        cpu = cpu.realtime_runtime(runtime);
    }
    if !r.cpuset_cpus.is_empty() {
        cpu = cpu.cpus(r.cpuset_cpus.clone());
    }
    if !r.cpuset_mems.is_empty() {
        cpu = cpu.mems(r.cpuset_mems.clone());
    }
    built(cpu.build())
}

/// The limits of the first process: the user's over the default for open files.
///
/// # Errors
/// `InvalidInput` for an unknown name or a soft limit above the hard one.
pub(crate) fn rlimits(config: &ContainerConfig, host: &HostFacts) -> Result<Vec<PosixRlimit>> {
    let mut limits = config.ulimits.iter().map(rlimit).collect::<Result<Vec<_>>>()?;
    if !limits.iter().any(|l| l.typ() == PosixRlimitType::RlimitNofile) {
        let hard = defaults::NOFILE_HARD.min(host.nofile_hard);
        let limit = PosixRlimitBuilder::default()
            .typ(PosixRlimitType::RlimitNofile)
            .soft(defaults::NOFILE_SOFT.min(hard))
            .hard(hard);
        limits.push(built(limit.build())?);
    }
    Ok(limits)
}

fn rlimit(limit: &Ulimit) -> Result<PosixRlimit> {
    let name = format!("RLIMIT_{}", limit.name.to_ascii_uppercase());
    let typ: PosixRlimitType =
        name.parse().map_err(|_| Error::invalid(format!("invalid ulimit type: {}", limit.name)))?;
    let value = |n: i64| if n < 0 { u64::MAX } else { n.unsigned_abs() };
    let (soft, hard) = (value(limit.soft), value(limit.hard));
    if soft > hard {
        return Err(Error::invalid(format!(
            "ulimit {}: soft limit must be less than or equal to hard limit: {} > {}",
            limit.name, limit.soft, limit.hard
        )));
    }
    built(PosixRlimitBuilder::default().typ(typ).soft(soft).hard(hard).build())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn checked(resources: Resources) -> Result<(Resources, Vec<String>)> {
        let mut resources = resources;
        let warnings = check(&mut resources, &HostFacts::default())?;
        Ok((resources, warnings))
    }

    fn refused(resources: Resources) -> String {
        checked(resources).expect_err("should be refused").message().to_owned()
    }

    const MIB: u64 = 1 << 20;

    #[test]
    fn memory_alone_brings_as_much_swap_again() {
        let (r, _) = checked(Resources { memory: Some(64 * MIB), ..Default::default() }).expect("valid");
        assert_eq!(r.memory_swap, Some(128 << 20));
    }

    #[test]
    fn without_swap_accounting_memory_is_limited_alone_and_said_so() {
        let host = HostFacts { swap_limit: false, ..Default::default() };
        let mut r = Resources { memory: Some(64 * MIB), memory_swap: Some(80 << 20), ..Default::default() };
        let warnings = check(&mut r, &host).expect("valid");
        assert_eq!(r.memory_swap, None);
        assert!(warnings[0].contains("does not support swap limit"), "{warnings:?}");
    }

    #[test]
    fn dockers_memory_checks() {
        let memory = |memory, swap| Resources { memory, memory_swap: swap, ..Default::default() };
        assert_eq!(refused(memory(Some(MIB), None)), "Minimum memory limit allowed is 6MB");
        assert!(refused(memory(None, Some(1 << 30))).starts_with("You should always set the Memory limit"));
        assert!(refused(memory(Some(64 * MIB), Some(1 << 20))).starts_with("Minimum memoryswap limit"));
        assert!(checked(memory(Some(64 * MIB), Some(-1))).is_ok());
        let soft =
            Resources { memory: Some(64 * MIB), memory_reservation: Some(65 * MIB), ..Default::default() };
        assert!(refused(soft).contains("can not be less than memory reservation"));
    }

    #[test]
    fn cpus_become_a_quota() {
        let (r, _) =
            checked(Resources { nano_cpus: Some(1_500_000_000), ..Default::default() }).expect("valid");
        let cpu = cpu(&r).expect("builds");
        assert_eq!((cpu.period(), cpu.quota()), (Some(100_000), Some(150_000)));
    }

    #[test]
    fn dockers_cpu_checks() {
        assert!(
            refused(Resources { nano_cpus: Some(3_000_000_000), ..Default::default() })
                .starts_with("range of CPUs")
        );
        let both = Resources { nano_cpus: Some(1_000_000_000), cpu_quota: Some(5000), ..Default::default() };
        assert!(refused(both).contains("CPU Quota"));
        assert!(refused(Resources { cpu_period: Some(10), ..Default::default() }).contains("cfs period"));
        assert!(refused(Resources { cpu_quota: Some(10), ..Default::default() }).contains("cfs quota"));
        let (r, warnings) = checked(Resources { cpu_shares: Some(1), ..Default::default() }).expect("valid");
        assert_eq!((r.cpu_shares, warnings.len()), (Some(2), 1));
    }

    #[test]
    fn cpusets_must_exist() {
        let set = |cpus: &str| Resources { cpuset_cpus: cpus.into(), ..Default::default() };
        assert!(checked(set("0-1")).is_ok());
        assert!(refused(set("0-7")).contains("requested 0-7, available: 0-1"));
        for bad in ["x", "1-0", "0-", ",", "99999999999"] {
            assert!(refused(set(bad)).contains("Invalid value"), "{bad}");
        }
    }

    #[test]
    fn device_rules_are_read_as_docker_writes_them() {
        let rules =
            |rule: &str| device_rules(&Resources { device_rules: vec![rule.into()], ..Default::default() });
        let read = rules("c 42:* rw").expect("valid");
        assert_eq!(
            (read[0].typ(), read[0].major(), read[0].minor()),
            (Some(LinuxDeviceType::C), Some(42), None)
        );
        assert_eq!((read[0].allow(), read[0].access().as_deref()), (true, Some("rw")));
        for bad in ["", "c 42:*", "x 1:1 r", "c 1 r", "c 1:y r", "c 1:1 x", "c 1:1 ", "c 1:1 r r"] {
            assert!(rules(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn limits_of_block_devices_are_by_number() {
        let lookup = |path: &str| match path {
            "/dev/vda" => Ok((254, 0)),
            other => Err(Error::invalid(format!("no {other}"))),
        };
        let rate = |path: &str| Resources {
            device_read_bps: vec![DeviceRate { path: path.into(), rate: 5 }],
            blkio_weight_device: vec![DeviceWeight { path: path.into(), weight: 50 }],
            ..Default::default()
        };
        let read = |r: &Resources| resources(r, Absent::IsUsual, lookup);
        assert!(read(&rate("/dev/x")).expect_err("unknown").message().contains("/dev/x"));
        let limits = read(&rate("/dev/vda")).expect("builds");
        let io = limits.block_io().as_ref().expect("limits");
        let device = &io.throttle_read_bps_device().as_ref().expect("rates")[0];
        assert_eq!((device.major(), device.minor(), device.rate()), (254, 0, 5));
        assert_eq!(io.weight_device().as_ref().expect("weights")[0].weight(), Some(50));
        assert!(io.throttle_write_bps_device().is_none());
        assert!(read(&Resources::default()).expect("builds").block_io().is_none());
    }

    #[test]
    fn what_is_not_named_stays_in_an_update() {
        let changed = resources(&Resources::default(), Absent::Stays, |_| Ok((0, 0))).expect("builds");
        assert!(changed.pids().is_none());
    }

    #[test]
    fn a_kernel_memory_limit_is_ignored_aloud() {
        let (r, warnings) =
            checked(Resources { kernel_memory: Some(4096), ..Default::default() }).expect("valid");
        assert_eq!((r.kernel_memory, warnings.len()), (None, 1));
    }

    #[test]
    fn a_cgroup_parent_cannot_climb() {
        for bad in ["../x", "/a/../../b", "a\nb"] {
            let r = Resources { cgroup_parent: bad.into(), ..Default::default() };
            assert!(refused(r).contains("cgroup parent"), "{bad}");
        }
    }

    #[test]
    fn processes_are_limited_unless_asked_otherwise() {
        let limit = |n| {
            let r = Resources { pids_limit: n, ..Default::default() };
            resources(&r, Absent::IsUsual, |_| Ok((0, 0))).expect("builds").pids().as_ref().map(|p| p.limit())
        };
        assert_eq!(limit(None), Some(4096));
        assert_eq!(limit(Some(10)), Some(10));
        assert_eq!(limit(Some(-1)), Some(-1));
    }

    #[test]
    fn ulimits_are_checked_and_open_files_have_a_default() {
        let config = |name: &str, soft, hard| ContainerConfig {
            ulimits: vec![Ulimit { name: name.into(), soft, hard }],
            ..Default::default()
        };
        let host = HostFacts { nofile_hard: 2000, ..Default::default() };
        let limits = rlimits(&config("core", 0, -1), &host).expect("valid");
        let seen: Vec<_> = limits.iter().map(|l| (l.typ(), l.soft(), l.hard())).collect();
        assert_eq!(
            seen,
            [(PosixRlimitType::RlimitCore, 0, u64::MAX), (PosixRlimitType::RlimitNofile, 1024, 2000)]
        );
        assert!(rlimits(&config("nofile", 2, 1), &host).is_err());
        assert!(rlimits(&config("speed", 1, 1), &host).is_err());
    }

    proptest! {
        #[test]
        fn any_cpu_list_is_judged_without_panic(list in "[0-9,-]{0,12}") {
            let _ = checked(Resources { cpuset_cpus: list, ..Default::default() });
        }

        #[test]
        fn accepted_limits_stay_accepted(memory in proptest::option::of(0u64..1 << 34), swap in proptest::option::of(-2i64..1 << 34),
                                         nano in proptest::option::of(0u64..4_000_000_000)) {
            let r = Resources { memory, memory_swap: swap, nano_cpus: nano, ..Default::default() };
            if let Ok((once, _)) = checked(r) {
                prop_assert_eq!(checked(once.clone()).unwrap().0, once);
            }
        }
    }
}
