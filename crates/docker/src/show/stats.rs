//! `GET /containers/{id}/stats`: figures now, and beside them those of the sample before, from which clients compute
//! percentages.

use std::collections::HashMap;

use serde_json::{Value, json};
use tare_docker_api::models::{
    ContainerBlkioStatEntry, ContainerBlkioStats, ContainerCpuStats, ContainerCpuUsage, ContainerMemoryStats,
    ContainerNetworkStats, ContainerPidsStats, ContainerStatsResponse, ContainerStorageStats,
    ContainerThrottlingData,
};
use tare_docker_api::stamp;
use tare_engine::{ContainerView, StatsSample};
use tare_model::sandbox::{InterfaceStats, MemoryStats, Stats};

use super::object;

pub(crate) fn document(view: &ContainerView, now: &StatsSample, before: Option<&StatsSample>) -> Value {
    let nothing = StatsSample::default();
    let response = ContainerStatsResponse {
        name: Some(format!("/{}", view.name)),
        id: Some(view.id.to_string()),
        read: Some(moment(now)),
        preread: Some(before.map_or_else(|| stamp::NEVER.to_owned(), moment)),
        cpu_stats: Some(cpu(now)),
        precpu_stats: Some(cpu(before.unwrap_or(&nothing))),
        memory_stats: Some(
            now.stats.memory.as_ref().map(|m| memory(m, now.system_memory)).unwrap_or_default(),
        ),
        pids_stats: Some(pids(&now.stats)),
        blkio_stats: Some(block_io(&now.stats)),
        num_procs: Some(0),
        storage_stats: Some(ContainerStorageStats::default()),
        networks: networks(&now.stats),
        os_type: Some("linux".to_owned()),
    };
    let mut shown = object(&response);
    // Go prints these lists as null where there is nothing; clients of dynamic languages index them.
    if let Some(Value::Object(block)) = shown.get_mut("blkio_stats") {
        for name in [
            "io_serviced_recursive",
            "io_queue_recursive",
            "io_service_time_recursive",
            "io_wait_time_recursive",
            "io_merged_recursive",
            "io_time_recursive",
            "sectors_recursive",
        ] {
            block.insert(name.to_owned(), json!(null));
        }
    }
    Value::Object(shown)
}

fn moment(sample: &StatsSample) -> String {
    if sample.running { stamp::rfc3339(sample.time) } else { stamp::NEVER.to_owned() }
}

fn cpu(sample: &StatsSample) -> ContainerCpuStats {
    let used = sample.stats.cpu.clone().unwrap_or_default();
    ContainerCpuStats {
        cpu_usage: Some(ContainerCpuUsage {
            total_usage: Some(used.usage),
            percpu_usage: Some(used.per_cpu).filter(|p| !p.is_empty()),
            usage_in_kernelmode: Some(used.system),
            usage_in_usermode: Some(used.user),
        }),
        system_cpu_usage: Some(sample.system_cpu).filter(|n| *n > 0),
        online_cpus: Some(sample.online_cpus).filter(|n| *n > 0),
        throttling_data: Some(ContainerThrottlingData {
            periods: Some(used.periods),
            throttled_periods: Some(used.throttled_periods),
            throttled_time: Some(used.throttled_time),
        }),
    }
}

fn memory(used: &MemoryStats, machine: u64) -> ContainerMemoryStats {
    ContainerMemoryStats {
        usage: Some(used.usage),
        max_usage: Some(used.max_usage).filter(|n| *n > 0),
        stats: Some(used.detail.clone().into_iter().collect()),
        failcnt: Some(used.failures).filter(|n| *n > 0),
        limit: Some(used.limit.unwrap_or(machine)),
        ..Default::default()
    }
}

fn pids(stats: &Stats) -> ContainerPidsStats {
    // Docker writes the largest number where there is no limit.
    let limit = |l: Option<u64>| Some(l.unwrap_or(u64::MAX));
    match &stats.pids {
        Some(p) => ContainerPidsStats { current: Some(p.current), limit: limit(p.limit) },
        None => ContainerPidsStats::default(),
    }
}

fn block_io(stats: &Stats) -> ContainerBlkioStats {
    let entry = |io: &tare_model::sandbox::BlockIo| ContainerBlkioStatEntry {
        major: Some(io.major),
        minor: Some(io.minor),
        op: Some(io.operation.clone()),
        value: Some(io.bytes),
    };
    ContainerBlkioStats {
        io_service_bytes_recursive: Some(stats.block_io.iter().map(entry).collect()),
        ..Default::default()
    }
}

fn networks(stats: &Stats) -> Option<HashMap<String, ContainerNetworkStats>> {
    let shown = |i: &InterfaceStats| ContainerNetworkStats {
        rx_bytes: Some(i.rx_bytes),
        rx_packets: Some(i.rx_packets),
        rx_errors: Some(i.rx_errors),
        rx_dropped: Some(i.rx_dropped),
        tx_bytes: Some(i.tx_bytes),
        tx_packets: Some(i.tx_packets),
        tx_errors: Some(i.tx_errors),
        tx_dropped: Some(i.tx_dropped),
        ..Default::default()
    };
    Some(stats.networks.iter().map(|(name, i)| (name.clone(), shown(i))).collect())
        .filter(|n: &HashMap<_, _>| !n.is_empty())
}
