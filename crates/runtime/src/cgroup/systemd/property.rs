//! Limits in systemd's words, so that it does not undo them. Pure. What it has no words for is written into files alone.

use oci_spec::runtime::{LinuxCpu, LinuxMemory, LinuxResources};

use super::super::controller::Version;
use super::super::convert::{cpu_weight, io_weight, swap_alone};
use super::super::devices::{Kind, Rules};
use super::super::parse::list;
use super::wire::Value;

/// Properties of a unit, in the order in which they are sent.
pub(super) type Properties = Vec<(String, Value)>;

/// systemd's word for "no limit".
const NONE: u64 = u64::MAX;

/// The usual period of a quota in microseconds.
const PERIOD: u64 = 100_000;

/// A quota is kept in steps of 10 ms a second.
const STEP: u64 = 10_000;

/// What a new scope is told beside the limits: to count, and which devices.
pub(super) fn of_new(version: Version, rules: &Rules) -> Properties {
    let io = match version {
        Version::V1 => "BlockIOAccounting",
        Version::V2 => "IOAccounting",
    };
    let counted = ["CPUAccounting", "MemoryAccounting", io, "TasksAccounting"];
    let mut all: Properties = counted.iter().map(|name| ((*name).to_owned(), Value::Flag(true))).collect();
    all.extend(of_devices(rules));
    all
}

/// The limits that `resources` names.
pub(super) fn of(resources: &LinuxResources, version: Version, quota_in_force: Option<i64>) -> Properties {
    let mut all = Properties::new();
    if let Some(asked) = resources.cpu() {
        cpu(asked, version, quota_in_force, &mut all);
    }
    if let Some(asked) = resources.memory() {
        memory(asked, version, &mut all);
    }
    if let Some(limit) = resources.pids().as_ref().map(|pids| pids.limit()).filter(|limit| *limit != 0) {
        number(&mut all, "TasksMax", or_none(limit));
    }
    let weight = resources.block_io().as_ref().and_then(|io| io.weight()).filter(|weight| *weight != 0);
    if let Some(weight) = weight.map(u64::from) {
        match version {
            Version::V1 => number(&mut all, "BlockIOWeight", weight),
            Version::V2 => number(&mut all, "IOWeight", io_weight(weight)),
        }
    }
    unified(resources, &mut all);
    all
}

fn cpu(asked: &LinuxCpu, version: Version, quota_in_force: Option<i64>, all: &mut Properties) {
    if let Some(shares) = asked.shares().filter(|shares| *shares != 0) {
        match version {
            Version::V1 => number(all, "CPUShares", shares),
            Version::V2 => number(all, "CPUWeight", cpu_weight(shares)),
        }
    }
    let period = asked.period().filter(|period| *period != 0);
    if let Some(period) = period {
        number(all, "CPUQuotaPeriodUSec", period);
    }
    let quota = asked.quota().filter(|quota| *quota != 0);
    if let Some(quota) = quota.or(quota_in_force.filter(|_| period.is_some())) {
        number(all, "CPUQuotaPerSecUSec", a_second(quota, period.unwrap_or(PERIOD)));
    }
    if version == Version::V2 {
        let sets = [("AllowedCPUs", asked.cpus()), ("AllowedMemoryNodes", asked.mems())];
        for (name, set) in sets {
            if let Some(set) = set.as_deref().and_then(list).filter(|set| !set.is_empty()) {
                all.push((name.to_owned(), Value::Bytes(mask(&set))));
            }
        }
    }
}

/// A quota for each second, rounded up to what systemd keeps.
fn a_second(quota: i64, period: u64) -> u64 {
    let Ok(quota) = u64::try_from(quota) else { return NONE };
    let exact = u128::from(quota) * 1_000_000 / u128::from(period.max(1));
    u64::try_from(exact).unwrap_or(NONE - STEP).next_multiple_of(STEP)
}

/// A bit for each number, from the lowest on.
fn mask(numbers: &[u16]) -> Vec<u8> {
    let highest = numbers.iter().copied().max().unwrap_or_default();
    let mut mask = vec![0u8; usize::from(highest) / 8 + 1];
    numbers.iter().for_each(|number| mask[usize::from(*number) / 8] |= 1 << (number % 8));
    mask
}

fn memory(asked: &LinuxMemory, version: Version, all: &mut Properties) {
    let set = |value: Option<i64>| value.filter(|value| *value != 0);
    let limit = set(asked.limit());
    if let Some(limit) = limit {
        let name = if version == Version::V1 { "MemoryLimit" } else { "MemoryMax" };
        number(all, name, or_none(limit));
    }
    if version == Version::V1 {
        return; // it has no words for the rest there
    }
    if let Ok(Some(swap)) = swap_alone(limit, asked.swap()) {
        number(all, "MemorySwapMax", or_none(swap));
    }
    if let Some(low) = set(asked.reservation()) {
        number(all, "MemoryLow", or_none(low));
    }
}

/// The files that a document names itself and that systemd would write as well.
fn unified(resources: &LinuxResources, all: &mut Properties) {
    const NAMES: [(&str, &str); 7] = [
        ("memory.min", "MemoryMin"),
        ("memory.low", "MemoryLow"),
        ("memory.high", "MemoryHigh"),
        ("memory.max", "MemoryMax"),
        ("memory.swap.max", "MemorySwapMax"),
        ("pids.max", "TasksMax"),
        ("cpu.weight", "CPUWeight"),
    ];
    for (file, name) in NAMES {
        let value = resources.unified().as_ref().and_then(|files| files.get(file)).map(|value| value.trim());
        let figure = value.and_then(|value| if value == "max" { Some(NONE) } else { value.parse().ok() });
        if let Some(figure) = figure {
            all.retain(|(known, _)| known != name);
            number(all, name, figure);
        }
    }
}

/// Device rules. systemd only knows what is allowed beside nothing, or everything; what a rule forbids again is in the
/// group's own rules alone.
pub(super) fn of_devices(rules: &Rules) -> Properties {
    let policy = if rules.allow_all { "auto" } else { "strict" };
    let allowed = rules.rules.iter().filter(|rule| rule.allow && !rules.allow_all).filter_map(|rule| {
        let kind = if rule.kind == Kind::Block { "block" } else { "char" };
        let place = match (rule.major, rule.minor) {
            (None, None) => format!("{kind}-*"),
            (Some(major), Some(minor)) => format!("/dev/{kind}/{major}:{minor}"),
            (Some(major), None) => format!("{kind}-{major}"),
            (None, Some(_)) => return None, // nobody can say that
        };
        Some((place, rule.access.letters()))
    });
    vec![
        ("DevicePolicy".to_owned(), Value::Text(policy.to_owned())),
        ("DeviceAllow".to_owned(), Value::Pairs(allowed.collect())),
    ]
}

fn number(all: &mut Properties, name: &str, value: u64) {
    all.push((name.to_owned(), Value::Number(value)));
}

fn or_none(limit: i64) -> u64 {
    u64::try_from(limit).unwrap_or(NONE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(version: Version, json: &str) -> Vec<String> {
        let resources: LinuxResources = serde_json::from_str(json).unwrap();
        let word = |(name, value): (String, Value)| match value {
            Value::Number(NONE) => format!("{name}=infinity"),
            Value::Number(number) => format!("{name}={number}"),
            other => format!("{name}={other:?}"),
        };
        of(&resources, version, None).into_iter().map(word).collect()
    }

    #[test]
    fn limits_in_systemds_words() {
        let asked = r#"{"cpu":{"shares":1024,"quota":150000,"period":200000,"cpus":"0,9","mems":"0"},
            "memory":{"limit":1000,"swap":1500,"reservation":500},"pids":{"limit":9},"blockIO":{"weight":500}}"#;
        let v2 = [
            "CPUWeight=100",
            "CPUQuotaPeriodUSec=200000",
            "CPUQuotaPerSecUSec=750000",
            "AllowedCPUs=Bytes([1, 2])",
            "AllowedMemoryNodes=Bytes([1])",
            "MemoryMax=1000",
            "MemorySwapMax=500",
            "MemoryLow=500",
            "TasksMax=9",
            "IOWeight=4950",
        ];
        assert_eq!(words(Version::V2, asked), v2);
        let v1 = [
            "CPUShares=1024",
            "CPUQuotaPeriodUSec=200000",
            "CPUQuotaPerSecUSec=750000",
            "MemoryLimit=1000",
            "TasksMax=9",
            "BlockIOWeight=500",
        ];
        assert_eq!(words(Version::V1, asked), v1);
    }

    #[test]
    fn no_limit_is_infinity_and_nothing_is_nothing() {
        let asked = r#"{"cpu":{"quota":-1},"memory":{"limit":-1},"pids":{"limit":-1}}"#;
        let wanted = [
            "CPUQuotaPerSecUSec=infinity",
            "MemoryMax=infinity",
            "MemorySwapMax=infinity",
            "TasksMax=infinity",
        ];
        assert_eq!(words(Version::V2, asked), wanted);
        assert!(
            words(Version::V2, r#"{"cpu":{"shares":0},"memory":{"limit":0},"pids":{"limit":0}}"#).is_empty()
        );
    }

    #[test]
    fn a_quota_is_rounded_up_so_that_it_is_never_less_than_asked() {
        assert_eq!(a_second(1_001, 100_000), 20_000);
        assert_eq!(a_second(1_000, 100_000), 10_000);
        assert_eq!(a_second(i64::MAX, 1) % STEP, 0);
    }

    #[test]
    fn what_is_said_by_file_wins() {
        let asked = r#"{"memory":{"limit":1000},"unified":{"memory.max":"2000","memory.high":"max"}}"#;
        assert_eq!(words(Version::V2, asked), ["MemoryHigh=infinity", "MemoryMax=2000"]);
    }

    #[test]
    fn devices_are_closed_for_systemd_too() {
        let properties = of_devices(&Rules::read(&[]).unwrap());
        assert_eq!(properties[0].1, Value::Text("strict".to_owned()));
        let Value::Pairs(allowed) = &properties[1].1 else { panic!() };
        assert!(allowed.contains(&("/dev/char/1:3".to_owned(), "rwm".to_owned())));
        assert!(allowed.contains(&("char-136".to_owned(), "rwm".to_owned())));
        assert!(allowed.contains(&("block-*".to_owned(), "m".to_owned())));
        let all = serde_json::from_str::<Vec<_>>(r#"[{"allow":true,"access":"rwm"}]"#).unwrap();
        let properties = of_devices(&Rules::read(&all).unwrap());
        assert_eq!(properties[0].1, Value::Text("auto".to_owned()));
        assert_eq!(properties[1].1, Value::Pairs(Vec::new()));
    }
}
