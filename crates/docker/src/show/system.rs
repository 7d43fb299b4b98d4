//! `version`, `info` and `system/df`.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Value, json};
use tare_docker_api::models::{
    LocalNodeState, PluginsInfo, RegistryServiceConfig, Runtime, SwarmInfo, SystemInfo,
    SystemInfoCgroupDriverEnum, SystemInfoCgroupVersionEnum, SystemVersion, SystemVersionComponents,
    SystemVersionPlatform,
};
use tare_docker_api::{Version, stamp};
use tare_engine::{ContainerView, Info};
use tare_model::Image;

use super::{image, object, summary, volume};

/// `GET /version`.
pub(crate) fn version(engine: &tare_engine::Version) -> Value {
    let details = [
        ("ApiVersion", Version::MAX.to_string()),
        ("MinAPIVersion", Version::MIN.to_string()),
        ("Os", "linux".to_owned()),
        ("Arch", engine.architecture.to_owned()),
        ("KernelVersion", engine.kernel.clone()),
    ];
    let component = SystemVersionComponents {
        name: "Engine".to_owned(),
        version: engine.version.to_owned(),
        details: Some(details.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect()),
    };
    let document = SystemVersion {
        platform: Some(SystemVersionPlatform { name: "tare".to_owned() }),
        components: Some(vec![component]),
        version: Some(engine.version.to_owned()),
        api_version: Some(Version::MAX.to_string()),
        min_api_version: Some(Version::MIN.to_string()),
        git_commit: Some(String::new()),
        go_version: Some(String::new()),
        os: Some("linux".to_owned()),
        arch: Some(engine.architecture.to_owned()),
        kernel_version: Some(engine.kernel.clone()),
        experimental: Some(false),
        build_time: Some(String::new()),
    };
    Value::Object(object(&document))
}

/// `GET /info`.
pub(crate) fn info(info: &Info, engine: &tare_engine::Version, now: u64, version: Version) -> Value {
    let count = |n: usize| i64::try_from(n).ok();
    let document = SystemInfo {
        id: Some(info.id.clone()),
        containers: count(info.running + info.paused + info.stopped),
        containers_running: count(info.running),
        containers_paused: count(info.paused),
        containers_stopped: count(info.stopped),
        images: count(info.images),
        driver: Some("overlay2".to_owned()),
        driver_status: Some(vec![vec![
            "Backing".to_owned(),
            "overlayfs in the container's mount namespace".to_owned(),
        ]]),
        docker_root_dir: Some(info.root.to_string_lossy().into_owned()),
        plugins: Some(plugins()),
        system_time: Some(stamp::rfc3339(now)),
        logging_driver: Some("local".to_owned()),
        cgroup_driver: Some(SystemInfoCgroupDriverEnum::CGROUPFS),
        cgroup_version: Some(match info.cgroup_version {
            "2" => SystemInfoCgroupVersionEnum::_2,
            _ => SystemInfoCgroupVersionEnum::_1,
        }),
        kernel_version: Some(info.kernel.clone()),
        operating_system: Some(info.operating_system.clone()),
        os_version: Some(info.os_version.clone()),
        os_type: Some("linux".to_owned()),
        architecture: Some(info.architecture.clone()),
        ncpu: count(info.cpus),
        mem_total: i64::try_from(info.memory).ok(),
        index_server_address: Some("https://index.docker.io/v1/".to_owned()),
        registry_config: Some(RegistryServiceConfig {
            insecure_registry_cidrs: Some(Vec::new()),
            index_configs: Some(HashMap::new()),
            mirrors: Some(Vec::new()),
        }),
        name: Some(info.hostname.clone()),
        labels: Some(Vec::new()),
        server_version: Some(engine.version.to_owned()),
        runtimes: Some(
            [("tare".to_owned(), Runtime { path: Some("tare-shim".to_owned()), ..Default::default() })]
                .into(),
        ),
        default_runtime: Some("tare".to_owned()),
        swarm: Some(SwarmInfo { local_node_state: Some(LocalNodeState::INACTIVE), ..Default::default() }),
        // Containers always outlive the daemon.
        live_restore_enabled: Some(true),
        security_options: Some(info.security_options.clone()),
        warnings: Some(info.warnings.clone()),
        ..flags()
    };
    let mut shown = object(&document);
    // The client reads these whether they are there or not.
    for name in ["ContainerdCommit", "RuncCommit", "InitCommit"] {
        shown.insert(name.to_owned(), json!({ "ID": "", "Expected": "" }));
    }
    if version < Version::new(50) {
        shown.insert("BridgeNfIptables".to_owned(), json!(false));
        shown.insert("BridgeNfIp6tables".to_owned(), json!(false));
    }
    Value::Object(shown)
}

fn flags() -> SystemInfo {
    SystemInfo {
        memory_limit: Some(true),
        swap_limit: Some(true),
        cpu_cfs_period: Some(true),
        cpu_cfs_quota: Some(true),
        cpu_shares: Some(true),
        cpu_set: Some(true),
        pids_limit: Some(true),
        oom_kill_disable: Some(true),
        ipv4_forwarding: Some(true),
        debug: Some(false),
        nfd: Some(0),
        n_goroutines: Some(0),
        n_events_listener: Some(0),
        http_proxy: Some(String::new()),
        https_proxy: Some(String::new()),
        no_proxy: Some(String::new()),
        experimental_build: Some(false),
        init_binary: Some("tare-shim".to_owned()),
        product_license: Some(String::new()),
        ..Default::default()
    }
}

fn plugins() -> PluginsInfo {
    let words = |w: &[&str]| Some(w.iter().map(|s| (*s).to_owned()).collect());
    PluginsInfo {
        volume: words(&["local"]),
        network: words(&["bridge", "host", "ipvlan", "macvlan", "null"]),
        authorization: None,
        log: words(&["json-file", "local", "none"]),
    }
}

/// `GET /system/df`: what images occupy; containers' own layers are told by `ps --size`.
pub(crate) fn disk_usage(
    images: &[Arc<Image>],
    containers: &[ContainerView],
    now: u64,
    version: Version,
) -> Value {
    let total: u64 = images.iter().map(|i| i.record.size).sum();
    let used = |i: &Image| containers.iter().filter(|c| c.fixed.image_id.as_ref() == Some(i.id())).count();
    let image_rows: Vec<Value> =
        images.iter().map(|i| image::summary(i, i64::try_from(used(i)).unwrap_or(-1), version)).collect();
    let free: u64 = images.iter().filter(|i| used(i) == 0).map(|i| i.record.size).sum();
    let container_rows: Vec<Value> =
        containers.iter().map(|c| summary::summary(c, now, None, version)).collect();
    let volumes = volume::volumes(containers);
    if version < Version::new(52) {
        return json!({ "LayersSize": total, "Images": image_rows, "Containers": container_rows, "Volumes": volumes,
            "BuildCache": [] });
    }
    let live = containers.iter().filter(|c| c.state.status.is_live()).count();
    let usage = |active: usize, rows: usize, size: u64, reclaimable: u64| json!({ "ActiveCount": active, "TotalCount": rows, "TotalSize": size, "Reclaimable": reclaimable });
    json!({
        "ImageUsage": usage(images.iter().filter(|i| used(i) > 0).count(), images.len(), total, free),
        "ContainerUsage": usage(live, containers.len(), 0, 0),
        "VolumeUsage": usage(volumes.len(), volumes.len(), 0, 0),
        "BuildCacheUsage": usage(0, 0, 0, 0),
    })
}
