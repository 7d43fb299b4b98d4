//! Golden documents, and a container to show.

use std::sync::Arc;

use serde_json::json;
use tare_docker_api::Version;
use tare_engine::{
    ContainerView, Fixed, MergedProcess, MountKind, MountView, Paths, StateView, StatsSample, UserIds,
    UserNamespace,
};
use tare_model::container::ContainerConfig;
use tare_model::sandbox::{BlockIo, CpuStats, InterfaceStats, MemoryStats, PidsStats, Stats};
use tare_model::{ContainerId, Digest, IdRange, Status, VolumeId};

use super::*;
use crate::create;

/// 14 November 2023, 22:13:20.
pub(crate) const THEN: u64 = 1_700_000_000_000_000_000;

/// The container `web` as this create request would make it.
pub(crate) fn view(body: Value) -> ContainerView {
    let Value::Object(body) = body else { panic!("a body is an object") };
    let config: ContainerConfig = create::config(body).expect("a valid body");
    let process = MergedProcess {
        entrypoint: config.process.entrypoint.clone().unwrap_or_default(),
        cmd: config.process.cmd.clone().unwrap_or_default(),
        env: config.process.env.clone(),
        labels: config.labels.clone(),
        working_dir: "/".to_owned(),
        ..Default::default()
    };
    let fixed = Fixed {
        process,
        image_id: Some(Digest::from_bytes([1; 32])),
        image_name: "nginx".to_owned(),
        hostname: "abababababab".to_owned(),
        mounts: vec![MountView {
            kind: MountKind::Volume,
            volume: Some(VolumeId::from_bytes([2; 32])),
            source: "/v/2".into(),
            destination: "/data".to_owned(),
            mode: String::new(),
            writable: true,
            propagation: String::new(),
        }],
        paths: Paths {
            log: "/s/log".into(),
            lowers: vec!["/l/2".into(), "/l/1".into()],
            upper: Some("/u".into()),
            work: Some("/w".into()),
            ..Default::default()
        },
        warnings: Vec::new(),
        user_namespace: UserNamespace::Own {
            ids: UserIds {
                range: IdRange { first: 7 << 16, count: 2 << 16 },
                uids: vec![100_000],
                gids: vec![],
            },
            shared: String::new(),
        },
        labels: None,
        config,
    };
    ContainerView {
        id: ContainerId::from_bytes([0xab; 32]),
        name: "web".parse().expect("a name"),
        created: THEN,
        fixed: Arc::new(fixed),
        state: StateView::default(),
        execs: Vec::new(),
        networking: Arc::default(),
    }
}

fn host_config(body: Value) -> Value {
    container::inspect(&view(body), Version::MAX)["HostConfig"].clone()
}

#[test]
fn inspection_has_dockers_shape() {
    let mut view = view(json!({"Image": "nginx", "Cmd": ["nginx", "-g", "x y"], "Tty": true}));
    view.state = StateView {
        status: Status::Running,
        pid: Some(42),
        started: Some(THEN + 120_000_000),
        ..Default::default()
    };
    let shown = container::inspect(&view, Version::MAX);
    assert_eq!(shown["Id"], json!("ab".repeat(32)));
    assert_eq!(shown["Name"], json!("/web"));
    assert_eq!(shown["Created"], json!("2023-11-14T22:13:20Z"));
    assert_eq!((&shown["Path"], &shown["Args"]), (&json!("nginx"), &json!(["-g", "x y"])));
    assert_eq!(
        shown["State"],
        json!({
            "Status": "running", "Running": true, "Paused": false, "Restarting": false, "OOMKilled": false,
            "Dead": false, "Pid": 42, "ExitCode": 0, "Error": "", "StartedAt": "2023-11-14T22:13:20.12Z",
            "FinishedAt": "0001-01-01T00:00:00Z",
        })
    );
    assert_eq!(
        shown["Mounts"],
        json!([{"Type": "volume", "Name": "02".repeat(32), "Source": "/v/2", "Destination": "/data",
            "Driver": "local", "Mode": "", "RW": true, "Propagation": ""}])
    );
    assert_eq!(shown["GraphDriver"]["Data"]["LowerDir"], json!("/l/2:/l/1"));
    assert_eq!(shown["Image"], json!(format!("sha256:{}", "01".repeat(32))));
    assert_eq!(shown["ExecIDs"], Value::Null);
    assert_eq!((&shown["Config"]["Tty"], &shown["Config"]["Entrypoint"]), (&json!(true), &Value::Null));
    assert_eq!(shown["NetworkSettings"]["Ports"], json!({}));
    let ids = json!({"Mode": "private", "Reason": "", "FirstId": 7 << 16, "Count": 2 << 16, "LargeUserIds": [100_000]});
    assert_eq!(shown["Tare"], json!({"UserNamespace": ids}));
    assert_eq!(shown["HostConfig"]["UsernsMode"], json!(""));
}

#[test]
fn an_empty_host_config_shows_dockers_zero_values() {
    let shown = host_config(json!({"Image": "nginx"}));
    assert_eq!(shown["Binds"], Value::Null);
    assert_eq!(shown["PortBindings"], json!({}));
    assert_eq!(shown["RestartPolicy"], json!({"Name": "no", "MaximumRetryCount": 0}));
    assert_eq!(shown["LogConfig"], json!({"Type": "local", "Config": {}}));
    assert_eq!((&shown["ShmSize"], &shown["IpcMode"]), (&json!(67_108_864), &json!("private")));
    assert_eq!(shown["MaskedPaths"], json!(tare_engine::MASKED_PATHS), "what the engine masks");
    assert_eq!(shown["ReadonlyPaths"], json!(tare_engine::READONLY_PATHS));
    assert!(tare_engine::MASKED_PATHS.contains(&"/proc/timer_stats"));
}

#[test]
fn inspection_gives_back_what_was_asked_for() {
    let asked = json!({
        "Binds": ["/srv:/data:ro"], "NetworkMode": "host", "Memory": 67_108_864, "CapAdd": ["NET_ADMIN"],
        "SecurityOpt": ["no-new-privileges"], "Tmpfs": {"/run": "size=64k"}, "ContainerIDFile": "/tmp/cid",
        "MaskedPaths": [], "ReadonlyPaths": [], "Mounts": [{"Type": "tmpfs", "Target": "/t"}],
        "LogConfig": {"Type": "json-file", "Config": {"max-size": "1m"}},
    });
    let shown = host_config(json!({"Image": "nginx", "HostConfig": asked.clone()}));
    for (name, value) in asked.as_object().expect("an object") {
        assert_eq!(&shown[name], value, "{name}");
    }
    let again = view(json!({"Image": "nginx", "HostConfig": shown.as_object().map(|o| {
        o.iter().filter(|(k, _)| *k != "ConsoleSize").map(|(k, v)| (k.clone(), v.clone())).collect::<Map<_, _>>()
    })}));
    let first = view(json!({"Image": "nginx", "HostConfig": asked}));
    let without_echo = |v: &ContainerView| {
        let mut config = v.fixed.config.clone();
        config.face.clear();
        config
    };
    let mut expected = without_echo(&first);
    expected.shm_size = Some(64 << 20); // what was the default is now said
    assert_eq!(without_echo(&again), expected, "what inspection shows can be sent again");
}

#[test]
fn privileged_containers_mask_nothing() {
    let shown = host_config(json!({"Image": "nginx", "HostConfig": {"Privileged": true}}));
    assert_eq!((&shown["MaskedPaths"], &shown["ReadonlyPaths"]), (&Value::Null, &Value::Null));
}

#[test]
fn a_directory_is_shown_in_the_extension() {
    let shown = container::inspect(&view(json!({"Tare": {"Rootfs": {"Path": "/srv/root"}}})), Version::MAX);
    assert_eq!(shown["Tare"]["Rootfs"], json!({"Path": "/srv/root", "Writable": false}));
}

#[test]
fn the_reason_for_the_hosts_user_namespace_is_shown() {
    let mut view = view(json!({"Image": "nginx"}));
    let mut fixed = (*view.fixed).clone();
    fixed.user_namespace = UserNamespace::Host { reason: "--privileged".into() };
    view.fixed = Arc::new(fixed);
    let shown = container::inspect(&view, Version::MAX);
    assert_eq!(shown["HostConfig"]["UsernsMode"], json!("host"));
    let host = json!({"Mode": "host", "Reason": "--privileged", "FirstId": 0, "Count": 0});
    assert_eq!(shown["Tare"], json!({"UserNamespace": host}));
}

#[test]
fn a_row_of_the_list_has_dockers_shape() {
    let mut view = view(json!({"Image": "nginx", "Cmd": ["sh", "-c", "a b"], "Labels": {"k": "v"},
        "HostConfig": {"NetworkMode": "host"}}));
    view.state = StateView { status: Status::Paused, started: Some(THEN), ..Default::default() };
    let row = summary::summary(
        &view,
        THEN + 3_000_000_000,
        Some(summary::Sizes { writable: 5, total: 7 }),
        Version::MAX,
    );
    assert_eq!(row["Names"], json!(["/web"]));
    assert_eq!((&row["Command"], &row["Created"]), (&json!("sh -c 'a b'"), &json!(1_700_000_000)));
    assert_eq!((&row["State"], &row["Status"]), (&json!("paused"), &json!("Up 3 seconds (Paused)")));
    assert_eq!((&row["Ports"], &row["Labels"]), (&json!([]), &json!({"k": "v"})));
    assert_eq!(row["HostConfig"], json!({"NetworkMode": "host"}));
    assert!(row["NetworkSettings"]["Networks"]["host"].is_object());
    assert_eq!((&row["SizeRw"], &row["SizeRootFs"]), (&json!(5), &json!(7)));
}

fn sample() -> StatsSample {
    let cpu = CpuStats { usage: 1000, user: 600, system: 400, per_cpu: vec![700, 300], ..Default::default() };
    let memory = MemoryStats {
        usage: 4096,
        detail: [("inactive_file".to_owned(), 1024)].into(),
        ..Default::default()
    };
    let io = BlockIo { major: 8, minor: 0, operation: "read".into(), bytes: 512 };
    StatsSample {
        time: THEN,
        stats: Stats {
            cpu: Some(cpu),
            memory: Some(memory),
            pids: Some(PidsStats { current: 3, limit: None }),
            block_io: vec![io],
            networks: [("eth0".to_owned(), InterfaceStats { rx_bytes: 9, ..Default::default() })].into(),
        },
        system_cpu: 50_000,
        online_cpus: 2,
        system_memory: 8 << 30,
        running: true,
    }
}

#[test]
fn stats_carry_the_sample_before() {
    let view = view(json!({"Image": "nginx"}));
    let mut later = sample();
    later.time += 1_000_000_000;
    let shown = stats::document(&view, &later, Some(&sample()));
    assert_eq!((&shown["name"], &shown["num_procs"]), (&json!("/web"), &json!(0)));
    assert_eq!(shown["preread"], json!("2023-11-14T22:13:20Z"));
    assert_eq!(shown["cpu_stats"]["cpu_usage"]["percpu_usage"], json!([700, 300]));
    assert_eq!(shown["precpu_stats"]["system_cpu_usage"], json!(50_000));
    assert_eq!(shown["memory_stats"]["limit"], json!(8u64 << 30));
    assert_eq!(shown["memory_stats"]["stats"]["inactive_file"], json!(1024));
    assert_eq!(shown["pids_stats"]["current"], json!(3));
    assert_eq!(
        shown["blkio_stats"]["io_service_bytes_recursive"],
        json!([{"major": 8, "minor": 0, "op": "read", "value": 512}])
    );
    assert_eq!(shown["networks"]["eth0"]["rx_bytes"], json!(9));
}

#[test]
fn a_container_that_does_not_run_uses_nothing() {
    let shown = stats::document(&view(json!({"Image": "nginx"})), &StatsSample::default(), None);
    assert_eq!(shown["read"], json!("0001-01-01T00:00:00Z"));
    assert_eq!((&shown["memory_stats"], &shown["pids_stats"]), (&json!({}), &json!({})));
    assert_eq!(shown["cpu_stats"]["cpu_usage"]["total_usage"], json!(0));
}
