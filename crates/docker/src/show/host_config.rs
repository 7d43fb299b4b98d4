//! `HostConfig` as inspection shows it: Docker's zero values under what the client sent.

use serde_json::{Map, Value, json};
use tare_engine::{MASKED_PATHS, READONLY_PATHS};
use tare_model::container::{ContainerConfig, LogDriver, NetworkMode};

use super::networking;
use crate::create::FACE;

const NULLS: &[&str] = &[
    "Binds",
    "CapAdd",
    "CapDrop",
    "DeviceCgroupRules",
    "DeviceRequests",
    "ExtraHosts",
    "GroupAdd",
    "Links",
    "MemorySwappiness",
    "OomKillDisable",
    "PidsLimit",
    "SecurityOpt",
    "VolumesFrom",
];

const LISTS: &[&str] = &[
    "BlkioDeviceReadBps",
    "BlkioDeviceReadIOps",
    "BlkioDeviceWriteBps",
    "BlkioDeviceWriteIOps",
    "BlkioWeightDevice",
    "Devices",
    "Dns",
    "DnsOptions",
    "DnsSearch",
    "Ulimits",
];

const NUMBERS: &[&str] = &[
    "BlkioWeight",
    "CpuCount",
    "CpuPercent",
    "CpuPeriod",
    "CpuQuota",
    "CpuRealtimePeriod",
    "CpuRealtimeRuntime",
    "CpuShares",
    "IOMaximumBandwidth",
    "IOMaximumIOps",
    "Memory",
    "MemoryReservation",
    "MemorySwap",
    "NanoCpus",
    "OomScoreAdj",
];

const FLAGS: &[&str] = &["AutoRemove", "Privileged", "PublishAllPorts", "ReadonlyRootfs"];

const TEXTS: &[&str] = &[
    "Cgroup",
    "CgroupParent",
    "ContainerIDFile",
    "CpusetCpus",
    "CpusetMems",
    "Isolation",
    "PidMode",
    "UTSMode",
    "UsernsMode",
    "VolumeDriver",
];

/// What this face remembered of the create request, by part: `HostConfig` or `Config`.
pub(super) fn remembered<'a>(config: &'a ContainerConfig, part: &str) -> Option<&'a Map<String, Value>> {
    config.face.get(FACE)?.get(part)?.as_object()
}

pub(super) fn host_config(config: &ContainerConfig) -> Value {
    let mut shown = defaults();
    let mut set = |name: &str, value: Value| shown.insert(name.to_owned(), value);
    if config.security.privileged {
        set("MaskedPaths", Value::Null);
        set("ReadonlyPaths", Value::Null);
    }
    for (name, value) in remembered(config, "HostConfig").into_iter().flatten() {
        set(name, value.clone());
    }
    // Of the host's network they were discarded, and are shown as they were asked for.
    if !config.networking.ports.is_empty() || config.namespaces.network != NetworkMode::Host {
        set("PortBindings", networking::port_map(&config.networking.ports));
    }
    let driver = match config.log.driver {
        LogDriver::Local => "local",
        LogDriver::JsonFile => "json-file",
        LogDriver::None => "none",
    };
    set("LogConfig", json!({ "Type": driver, "Config": config.log.raw_options }));
    set("Runtime", json!("tare"));
    Value::Object(shown)
}

/// What Docker shows where nothing was asked for.
fn defaults() -> Map<String, Value> {
    let mut shown = Map::new();
    for (zero, names) in [
        (Value::Null, NULLS),
        (json!([]), LISTS),
        (json!(0), NUMBERS),
        (json!(false), FLAGS),
        (json!(""), TEXTS),
    ] {
        shown.extend(names.iter().map(|name| ((*name).to_owned(), zero.clone())));
    }
    let others = [
        ("CgroupnsMode", json!("private")),
        ("ConsoleSize", json!([0, 0])),
        ("IpcMode", json!("private")),
        ("MaskedPaths", json!(MASKED_PATHS)),
        ("NetworkMode", json!("default")),
        ("PortBindings", json!({})),
        ("ReadonlyPaths", json!(READONLY_PATHS)),
        ("RestartPolicy", json!({ "Name": "no", "MaximumRetryCount": 0 })),
        ("ShmSize", json!(64 << 20)),
    ];
    shown.extend(others.map(|(name, value)| (name.to_owned(), value)));
    shown
}
