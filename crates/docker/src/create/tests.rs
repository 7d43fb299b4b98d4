//! Requests and what they mean.

use proptest::prelude::*;
use serde_json::json;
use tare_model::ErrorKind;
use tare_model::container::{
    HostOrPrivate, IpcMode, LabelChoice, LabelParts, LogDriver, MountConfig, MountSource, NamespaceMode,
    NetworkMode, Profile, Relabel, SeccompChoice,
};

use super::*;

fn parse(body: Value) -> Result<ContainerConfig> {
    let Value::Object(mut body) = body else { panic!("a body is an object") };
    body.entry("Image").or_insert(json!("nginx"));
    config(body)
}

fn host(host: Value) -> Result<ContainerConfig> {
    parse(json!({ "HostConfig": host }))
}

/// Each of these is refused, with a message that has this in it.
fn refused(cases: &[(Value, &str)]) {
    for (body, part) in cases {
        let e = host(body.clone()).expect_err(part);
        assert!(e.message().contains(part), "{body}: {e}");
    }
}

#[test]
fn what_the_stock_client_sends_for_a_plain_run_is_the_default() {
    // docker 28 run nginx, as captured.
    let text = r#"{
        "Hostname": "", "Domainname": "", "User": "", "AttachStdin": false, "AttachStdout": true, "AttachStderr": true,
        "Tty": false, "OpenStdin": false, "StdinOnce": false, "Env": null, "Cmd": null, "Image": "nginx",
        "Volumes": {}, "WorkingDir": "", "Entrypoint": null, "OnBuild": null, "Labels": {},
        "HostConfig": {
            "Binds": null, "ContainerIDFile": "", "LogConfig": {"Type": "", "Config": {}}, "NetworkMode": "default",
            "PortBindings": {}, "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0}, "AutoRemove": false,
            "VolumeDriver": "", "VolumesFrom": null, "ConsoleSize": [24, 80], "CapAdd": null, "CapDrop": null,
            "CgroupnsMode": "", "Dns": [], "DnsOptions": [], "DnsSearch": [], "ExtraHosts": null, "GroupAdd": null,
            "IpcMode": "", "Cgroup": "", "Links": null, "OomScoreAdj": 0, "PidMode": "", "Privileged": false,
            "PublishAllPorts": false, "ReadonlyRootfs": false, "SecurityOpt": null, "UTSMode": "", "UsernsMode": "",
            "ShmSize": 0, "Isolation": "", "CpuShares": 0, "Memory": 0, "NanoCpus": 0, "CgroupParent": "",
            "BlkioWeight": 0, "BlkioWeightDevice": [], "BlkioDeviceReadBps": [], "BlkioDeviceWriteBps": [],
            "BlkioDeviceReadIOps": [], "BlkioDeviceWriteIOps": [], "CpuPeriod": 0, "CpuQuota": 0,
            "CpuRealtimePeriod": 0, "CpuRealtimeRuntime": 0, "CpusetCpus": "", "CpusetMems": "", "Devices": [],
            "DeviceCgroupRules": null, "DeviceRequests": null, "MemoryReservation": 0, "MemorySwap": 0,
            "MemorySwappiness": -1, "OomKillDisable": false, "PidsLimit": 0, "Ulimits": [], "CpuCount": 0,
            "CpuPercent": 0, "IOMaximumIOps": 0, "IOMaximumBandwidth": 0, "MaskedPaths": null, "ReadonlyPaths": null
        },
        "NetworkingConfig": {"EndpointsConfig": {"default": {"IPAMConfig": null, "Links": null, "Aliases": null,
            "MacAddress": "", "DriverOpts": null, "GwPriority": 0, "NetworkID": "", "EndpointID": ""}}}
    }"#;
    let body = serde_json::from_str(text).expect("JSON");
    let mut config = parse(body).expect("accepted");
    config.face.clear();
    let mut expected =
        ContainerConfig { image: ImageSource::Image { name: "nginx".into() }, ..Default::default() };
    expected.process.attach.stdout = true;
    expected.process.attach.stderr = true;
    expected.process.console_size = Some((24, 80));
    assert_eq!(config, expected);
}

#[test]
fn the_process_is_taken_over() {
    let config = parse(json!({
        "Cmd": "date", "Entrypoint": ["/entry"], "Env": ["A=1", "B"], "User": "1000:5", "WorkingDir": "/srv",
        "Tty": true, "OpenStdin": true, "StdinOnce": true, "StopSignal": "SIGQUIT", "StopTimeout": 3,
        "Hostname": "h", "Domainname": "d", "Labels": {"k": "v"}, "ExposedPorts": {"80/tcp": null, "53/udp": {}},
        "Volumes": {"/data/": {}},
    }))
    .expect("accepted");
    assert_eq!(config.process.cmd.as_deref(), Some(&["date".to_owned()][..]));
    assert_eq!(config.process.entrypoint.as_deref(), Some(&["/entry".to_owned()][..]));
    assert_eq!((config.process.user.as_str(), config.process.working_dir.as_str()), ("1000:5", "/srv"));
    assert_eq!((config.stop_signal.map(i32::from), config.stop_timeout), (Some(3), Some(3)));
    assert!(config.exposed_ports.iter().eq(["53/udp", "80/tcp"]));
    assert!(config.volumes.contains("/data"));
    assert!(config.process.tty && config.process.open_stdin && config.process.stdin_once);
}

#[test]
fn an_empty_entrypoint_is_the_images_and_an_empty_word_is_none() {
    let entrypoint = |v: Value| parse(json!({ "Entrypoint": v })).map(|c| c.process.entrypoint);
    assert_eq!(entrypoint(json!([])), Ok(None));
    assert_eq!(entrypoint(json!(null)), Ok(None));
    assert_eq!(entrypoint(json!([""])), Ok(Some(vec![])));
    assert_eq!(entrypoint(json!("")), Ok(Some(vec![])));
}

#[test]
fn the_root_file_system_is_an_image_or_a_directory() {
    let directory =
        |v: Value| config(json!({ "Tare": v }).as_object().cloned().expect("an object")).map(|c| c.image);
    assert_eq!(
        directory(json!({"Rootfs": {"Path": "/srv/../root/", "Writable": true}})),
        Ok(ImageSource::Directory { path: "/root".into(), writable: true })
    );
    assert!(directory(json!({"Rootfs": {"Path": "srv"}})).is_err());
    assert!(
        directory(json!({"Rootfs": {"Path": "/srv", "Typo": 1}}))
            .expect_err("strict")
            .message()
            .contains("Typo")
    );
    assert!(directory(json!(null)).expect_err("nothing to run").message().contains("Image"));
    assert!(
        parse(json!({"Tare": {"Rootfs": {"Path": "/srv"}}}))
            .expect_err("both")
            .message()
            .contains("conflicting")
    );
}

#[test]
fn binds_are_parsed_as_docker_does() {
    let bind = |text: &str| mounts::bind(text);
    let MountConfig { target, source, readonly, create_source } =
        bind("/srv/./a:/data//b/:ro,rslave,z").expect("valid");
    assert_eq!((target.as_str(), readonly, create_source), ("/data/b", true, true));
    let expected = MountSource::Bind {
        path: "/srv/a".into(),
        propagation: "rslave".into(),
        recursive: true,
        readonly_non_recursive: false,
        relabel: Relabel::Shared,
    };
    assert_eq!(source, expected);
    let anonymous = bind("/data").expect("valid");
    assert_eq!(anonymous.source, MountSource::Volume { id: None, no_copy: false });
    for bad in [
        "",
        "a:b",
        "/a:b",
        "/a:/",
        "/a:/b:rx",
        "/a:/b:ro,rw",
        "/a:/b:shared,private",
        ":/b",
        "/a:/b:ro:x",
        "/a:/..",
    ] {
        assert!(bind(bad).is_err(), "{bad}");
    }
    let named = bind("data:/data").expect_err("named volumes come later");
    assert_eq!(named.kind(), ErrorKind::Unsupported);
    assert!(named.message().contains("HostConfig.Binds"), "{named}");
}

#[test]
fn mounts_of_all_kinds_are_taken_over() {
    let mounts = host(json!({"Mounts": [
        {"Type": "bind", "Source": "/srv", "Target": "/a", "ReadOnly": true,
            "BindOptions": {"Propagation": "shared", "NonRecursive": true, "ReadOnlyNonRecursive": true}},
        {"Type": "volume", "Target": "/b", "VolumeOptions": {"NoCopy": true}},
        {"Type": "tmpfs", "Target": "/c", "TmpfsOptions": {"SizeBytes": 4096, "Mode": 448, "Options": [["noexec"], ["uid", "5"]]}},
    ]}))
    .expect("accepted")
    .mounts;
    let bind = MountSource::Bind {
        path: "/srv".into(),
        propagation: "shared".into(),
        recursive: false,
        readonly_non_recursive: true,
        relabel: Relabel::No,
    };
    let tmpfs = MountSource::Tmpfs {
        size: Some(4096),
        mode: Some(0o700),
        options: vec!["noexec".into(), "uid=5".into()],
    };
    assert_eq!(
        mounts[0],
        MountConfig { target: "/a".into(), source: bind, readonly: true, create_source: false }
    );
    assert_eq!(mounts[1].source, MountSource::Volume { id: None, no_copy: true });
    assert_eq!(mounts[2].source, tmpfs);
}

#[test]
fn mounts_that_cannot_be_are_refused_by_name() {
    refused(&[
        (
            json!({"Mounts": [{"Type": "volume", "Source": "data", "Target": "/d"}]}),
            "HostConfig.Mounts[0].Source",
        ),
        (json!({"Mounts": [{"Type": "image", "Source": "x", "Target": "/d"}]}), "HostConfig.Mounts[0].Type"),
        (json!({"Mounts": [{"Target": "/d"}]}), "HostConfig.Mounts[0].Type"),
        (
            json!({"Mounts": [{"Type": "bind", "Source": "rel", "Target": "/d"}]}),
            "HostConfig.Mounts[0].Source",
        ),
        (
            json!({"Mounts": [{"Type": "tmpfs", "Source": "x", "Target": "/d"}]}),
            "HostConfig.Mounts[0].Source",
        ),
        (json!({"Mounts": [{"Type": "tmpfs", "Target": "/d", "BindOptions": {}}]}), "BindOptions"),
        (
            json!({"Mounts": [{"Type": "volume", "Target": "/d", "VolumeOptions": {"Subpath": "x"}}]}),
            "Subpath",
        ),
        (
            json!({"Binds": ["/a:/d"], "Mounts": [{"Type": "tmpfs", "Target": "/d/"}]}),
            "Duplicate mount point: /d",
        ),
        (json!({"Tmpfs": {"/d": "speed=9"}}), "speed=9"),
        (json!({"Tmpfs": {"/d": "mode=9"}}), "mode"),
    ]);
}

#[test]
fn a_tmpfs_takes_size_mode_and_flags() {
    let mount = mounts::tmpfs_option("/run", "size=64k,mode=1770,ro,noexec,uid=5").expect("valid");
    let options = vec!["noexec".to_owned(), "uid=5".to_owned()];
    assert_eq!(mount.source, MountSource::Tmpfs { size: Some(65536), mode: Some(0o1770), options });
    assert!(mount.readonly);
}

#[test]
fn security_options_are_read_in_both_spellings() {
    let security = |v: Value| host(json!({ "SecurityOpt": v })).map(|c| c.security);
    assert!(security(json!(["no-new-privileges"])).expect("valid").no_new_privileges);
    assert!(security(json!(["no-new-privileges:true"])).expect("valid").no_new_privileges);
    assert!(!security(json!(["no-new-privileges=false"])).expect("valid").no_new_privileges);
    assert_eq!(security(json!(["seccomp=unconfined"])).expect("valid").seccomp, SeccompChoice::Unconfined);
    assert_eq!(security(json!(["seccomp:unconfined"])).expect("valid").seccomp, SeccompChoice::Unconfined);
    let json = r#"{"defaultAction":"SCMP_ACT_ALLOW"}"#;
    let profile = SeccompChoice::Profile { json: json.into() };
    assert_eq!(security(json!([format!("seccomp={json}")])).expect("valid").seccomp, profile);
    assert!(security(json!(["systempaths=unconfined"])).expect("valid").unmasked_paths);
    let named = security(json!(["apparmor=docker-default"])).expect("valid");
    assert_eq!(named.apparmor.as_deref(), Some("docker-default"));
    let harmless = security(json!(["apparmor=unconfined", "label=disable"])).expect("valid");
    assert_eq!(harmless.raw_options, ["apparmor=unconfined", "label=disable"]);
    assert_eq!((harmless.apparmor, harmless.label), (None, LabelChoice::Disabled));
}

#[test]
fn parts_of_selinux_labels_are_named_and_the_last_of_each_counts() {
    let options = ["label=type:x_t", "label:level:s0:c1,c2", "label=type:y_t", "label=filetype:z_t"];
    let parts = LabelParts {
        domain: "y_t".into(),
        level: "s0:c1,c2".into(),
        file_type: "z_t".into(),
        ..LabelParts::default()
    };
    let security = host(json!({ "SecurityOpt": options })).expect("valid").security;
    assert_eq!(security.label, LabelChoice::Changed(parts));
    assert_eq!(security.raw_options, options);
}

#[test]
fn a_profile_is_named() {
    for (name, wanted) in
        [("default", Profile::Default), ("strict", Profile::Strict), ("docker", Profile::Docker)]
    {
        for sign in ["=", ":"] {
            let option = format!("profile{sign}{name}");
            let security = host(json!({ "SecurityOpt": [option] })).expect("valid").security;
            assert_eq!(security.profile, wanted, "{option}");
            assert_eq!(security.raw_options, [option]);
        }
    }
}

#[test]
fn security_options_without_effect_are_refused() {
    refused(&[
        (json!({"SecurityOpt": ["apparmor="]}), "apparmor"),
        (json!({"SecurityOpt": ["apparmor=a\nb"]}), "apparmor"),
        (json!({"SecurityOpt": ["label=type"]}), "label=type"),
        (json!({"SecurityOpt": ["label=type:a:b"]}), "label=type:a:b"),
        (json!({"SecurityOpt": ["label=level:s0 c1"]}), "label=level"),
        (json!({"SecurityOpt": ["label=nested"]}), "label=nested"),
        (json!({"SecurityOpt": ["label=type:x_t", "label=disable"]}), "label=disable"),
        (json!({"SecurityOpt": ["label=disable", "label=type:x_t"]}), "label=disable"),
        (json!({"SecurityOpt": ["seccomp=/etc/profile.json"]}), "seccomp"),
        (json!({"SecurityOpt": ["seccomp={"]}), "seccomp"),
        (json!({"SecurityOpt": ["no-new-privileges=maybe"]}), "no-new-privileges"),
        (json!({"SecurityOpt": ["profile=lax"]}), "profile=lax"),
        (json!({"SecurityOpt": ["profile"]}), "profile="),
        (json!({"SecurityOpt": ["profile=strict", "profile=docker"]}), "several profiles"),
        (json!({"SecurityOpt": ["profile=strict", "no-new-privileges:false"]}), "no-new-privileges=false"),
        (json!({"SecurityOpt": ["profile=strict"], "Privileged": true}), "Privileged"),
        (json!({"SecurityOpt": ["profile=strict", "systempaths=unconfined"]}), "systempaths"),
        (json!({"SecurityOpt": ["shields=up"]}), "shields=up"),
        (json!({"SecurityOpt": [""]}), "SecurityOpt"),
        (json!({"MaskedPaths": ["/proc/kcore"]}), "MaskedPaths"),
        (json!({"ReadonlyPaths": []}), "ReadonlyPaths"),
        (json!({"CapAdd": ["NET_ADMIM"]}), "NET_ADMIM"),
    ]);
}

#[test]
fn empty_path_lists_unmask_and_capabilities_become_canonical() {
    let security = host(json!({"MaskedPaths": [], "ReadonlyPaths": [], "CapAdd": ["net_admin", "all"], "CapDrop": ["CAP_CHOWN"]}))
        .expect("accepted")
        .security;
    assert!(security.unmasked_paths);
    assert_eq!(security.cap_add, ["CAP_NET_ADMIN", "ALL"]);
    assert_eq!(security.cap_drop, ["CAP_CHOWN"]);
}

#[test]
fn namespaces_are_private_unless_asked_otherwise() {
    let spaces = |v: Value| host(v).map(|c| c.namespaces);
    let all = spaces(
        json!({"NetworkMode": "host", "PidMode": "container:db", "IpcMode": "shareable", "UTSMode": "host",
        "CgroupnsMode": "host"}),
    )
    .expect("accepted");
    assert_eq!(all.network, NetworkMode::Host);
    assert_eq!(all.pid, NamespaceMode::Container { container: "db".into() });
    assert_eq!(
        (all.ipc, all.uts, all.cgroup),
        (IpcMode::Shareable, HostOrPrivate::Host, HostOrPrivate::Host)
    );
    assert_eq!(spaces(json!({})), Ok(tare_model::container::Namespaces::default()));
    assert_eq!(spaces(json!({"NetworkMode": "none"})).map(|n| n.network), Ok(NetworkMode::None));
    refused(&[
        (json!({"NetworkMode": "container:"}), "HostConfig.NetworkMode"),
        (json!({"PidMode": "container:"}), "PID mode"),
        (json!({"IpcMode": "public"}), "IPC mode"),
        (json!({"UTSMode": "x"}), "UTS mode"),
        (json!({"CgroupnsMode": "x"}), "x"),
    ]);
}

#[test]
fn limits_are_taken_over() {
    let config = host(json!({
        "Memory": 64 << 20, "MemorySwap": -1, "MemoryReservation": 32 << 20, "MemorySwappiness": 0, "NanoCpus": 1_500_000_000,
        "CpuShares": 512, "CpusetCpus": "0-1,3", "PidsLimit": -1, "BlkioWeight": 500, "OomScoreAdj": -500, "ShmSize": 1024,
        "CgroupParent": "/x", "Ulimits": [{"Name": "nofile", "Soft": 10, "Hard": -1}],
        "Devices": [{"PathOnHost": "/dev/fuse"}, {"PathOnHost": "/dev/null", "PathInContainer": "/dev/n", "CgroupPermissions": "rw"}],
        "Sysctls": {"net.core.somaxconn": "5"},
    }))
    .expect("accepted");
    let r = &config.resources;
    assert_eq!((r.memory, r.memory_swap, r.memory_reservation), (Some(64 << 20), Some(-1), Some(32 << 20)));
    assert_eq!((r.memory_swappiness, r.nano_cpus, r.cpu_shares), (Some(0), Some(1_500_000_000), Some(512)));
    assert_eq!((r.pids_limit, r.blkio_weight, r.oom_score_adj), (Some(-1), Some(500), -500));
    assert_eq!(
        (r.cpuset_cpus.as_str(), r.cgroup_parent.as_str(), config.shm_size),
        ("0-1,3", "/x", Some(1024))
    );
    assert_eq!((config.ulimits[0].soft, config.ulimits[0].hard), (10, -1));
    assert_eq!(config.devices[0].container_path, "/dev/fuse");
    assert_eq!(
        (config.devices[0].permissions.as_str(), config.devices[1].permissions.as_str()),
        ("rwm", "rw")
    );
}

#[test]
fn limits_of_single_devices_are_taken_over() {
    let config = host(json!({
        "BlkioWeightDevice": [{"Path": "/dev/vda", "Weight": 50}],
        "BlkioDeviceReadBps": [{"Path": "/dev/vda", "Rate": 1}], "BlkioDeviceWriteBps": [{"Path": "/dev/vda", "Rate": 2}],
        "BlkioDeviceReadIOps": [{"Path": "/dev/vda", "Rate": 3}], "BlkioDeviceWriteIOps": [{"Path": "/dev/vdb", "Rate": 4}],
        "CpuRealtimePeriod": 1000, "CpuRealtimeRuntime": 500, "KernelMemory": 4096, "DeviceCgroupRules": ["c 42:* rwm"],
    }))
    .expect("accepted");
    let r = &config.resources;
    assert_eq!((r.blkio_weight_device[0].path.as_str(), r.blkio_weight_device[0].weight), ("/dev/vda", 50));
    let rates = [&r.device_read_bps, &r.device_write_bps, &r.device_read_iops, &r.device_write_iops];
    assert_eq!(rates.map(|rates| rates[0].rate), [1, 2, 3, 4]);
    assert_eq!((r.cpu_rt_period, r.cpu_rt_runtime, r.kernel_memory), (Some(1000), Some(500), Some(4096)));
    assert_eq!(r.device_rules, ["c 42:* rwm"]);
}

#[test]
fn limits_that_contradict_are_refused() {
    refused(&[
        (json!({"Memory": 1 << 20}), "6MB"),
        (json!({"Memory": -1}), "HostConfig.Memory"),
        (json!({"MemorySwap": 64 << 20}), "Memory limit"),
        (json!({"Memory": 64 << 20, "MemorySwap": 32 << 20}), "memoryswap"),
        (json!({"Memory": 64 << 20, "MemoryReservation": 128 << 20}), "reservation"),
        (json!({"MemorySwappiness": 101}), "swappiness"),
        (json!({"NanoCpus": 1, "CpuPeriod": 1000}), "Nano CPUs"),
        (json!({"NanoCpus": 1, "CpuQuota": 1000}), "Nano CPUs"),
        (json!({"CpuPeriod": 5}), "period"),
        (json!({"CpuQuota": 5}), "quota"),
        (json!({"CpusetCpus": "0-"}), "HostConfig.CpusetCpus"),
        (json!({"BlkioWeight": 5}), "blkio"),
        (json!({"BlkioWeightDevice": [{"Path": "/dev/vda", "Weight": 5}]}), "BlkioWeightDevice"),
        (json!({"BlkioWeightDevice": [{"Path": "vda", "Weight": 50}]}), "BlkioWeightDevice"),
        (json!({"BlkioDeviceReadBps": [{"Path": "vda", "Rate": 50}]}), "BlkioDeviceReadBps"),
        (json!({"BlkioDeviceWriteIOps": [{"Path": "/dev/vda", "Rate": -1}]}), "BlkioDeviceWriteIOps"),
        (json!({"CpuRealtimeRuntime": 2000, "CpuRealtimePeriod": 1000}), "real-time runtime"),
        (json!({"DeviceCgroupRules": ["c 42:* rx"]}), "c 42:* rx"),
        (json!({"DeviceCgroupRules": ["c 42 rwm"]}), "c 42 rwm"),
        (json!({"OomScoreAdj": 1001}), "oom score"),
        (json!({"ShmSize": -1}), "HostConfig.ShmSize"),
        (json!({"Ulimits": [{"Name": "files", "Soft": 1, "Hard": 1}]}), "files"),
        (json!({"Ulimits": [{"Name": "nofile", "Soft": 2, "Hard": 1}]}), "nofile"),
        (json!({"Ulimits": [{"Name": "nofile", "Soft": -1, "Hard": 1}]}), "nofile"),
        (json!({"Devices": [{"PathOnHost": "/dev/fuse", "CgroupPermissions": "rx"}]}), "rx"),
        (json!({"Devices": [{"PathOnHost": "vendor.com/gpu=0"}]}), "vendor.com/gpu=0"),
    ]);
}

#[test]
fn log_drivers_and_their_options_are_known_by_name() {
    let log = |v: Value| host(json!({ "LogConfig": v })).map(|c| c.log);
    let rotated =
        log(json!({"Type": "json-file", "Config": {"max-size": "10m", "max-file": "3"}})).expect("valid");
    assert_eq!(
        (rotated.driver, rotated.max_size, rotated.max_files),
        (LogDriver::JsonFile, Some(10 << 20), Some(3))
    );
    assert_eq!(log(json!({"Type": "local", "Config": {"max-size": "-1"}})).map(|l| l.max_size), Ok(Some(0)));
    assert_eq!(log(json!({"Type": "none", "Config": null})).map(|l| l.driver), Ok(LogDriver::None));
    refused(&[
        (json!({"LogConfig": {"Type": "syslog"}}), "HostConfig.LogConfig.Type"),
        (json!({"LogConfig": {"Config": {"labels": "a"}}}), "labels"),
        (json!({"LogConfig": {"Type": "none", "Config": {"max-size": "1m"}}}), "max-size"),
        (json!({"LogConfig": {"Config": {"max-file": "0"}}}), "max-file"),
        (json!({"LogConfig": {"Config": {"max-size": "big"}}}), "max-size"),
    ]);
}

#[test]
fn other_wrong_values_are_refused() {
    for (body, part) in [
        (json!({"Env": ["=x"]}), "Env"),
        (json!({"Env": ["A=\u{0}"]}), "Env"),
        (json!({"WorkingDir": "srv"}), "WorkingDir"),
        (json!({"Hostname": "a\nb"}), "Hostname"),
        (json!({"StopSignal": "SIGNOPE"}), "SIGNOPE"),
        (json!({"StopTimeout": 99_999_999_999i64}), "StopTimeout"),
        (json!({"ExposedPorts": {"http": {}}}), "ExposedPorts"),
        (json!({"Volumes": {"data": {}}}), "Volumes"),
        (json!({"Volumes": {"/": {}}}), "Volumes"),
        (json!({"Cmd": [1]}), "invalid JSON"),
        (json!({"HostConfig": {"ConsoleSize": [1]}}), "ConsoleSize"),
    ] {
        let e = parse(body).expect_err(part);
        assert!(e.message().contains(part), "{e}");
        assert_eq!(e.kind(), ErrorKind::InvalidInput, "{e}");
    }
}

#[test]
fn nothing_of_one_request_is_in_the_next() {
    parse(json!({"Env": ["SECRET=1"], "Labels": {"a": "b"}})).expect("accepted");
    let next = parse(json!({})).expect("accepted");
    assert!(next.process.env.is_empty() && next.labels.is_empty());
}

proptest! {
    #[test]
    fn a_bind_is_refused_or_absolute_on_both_sides(text in "[a-z/.:,]{0,24}") {
        if let Ok(mount) = mounts::bind(&text) {
            prop_assert!(mount.target.starts_with('/') && mount.target.len() > 1);
            prop_assert!(!mount.target.split('/').any(|p| p == ".."));
            if let MountSource::Bind { path, .. } = mount.source {
                prop_assert!(path.starts_with('/') && !path.split('/').any(|p| p == ".."));
            }
        }
    }

    #[test]
    fn no_security_option_panics(text in ".{0,40}") {
        let _ = host(json!({ "SecurityOpt": [text] }));
    }

    #[test]
    fn no_tmpfs_option_panics(path in ".{0,10}", text in "[a-z=,0-9]{0,30}") {
        let _ = mounts::tmpfs_option(&path, &text);
    }

    #[test]
    fn what_was_accepted_is_accepted_again_from_its_echo(memory in 0i64..1 << 40, shares in 0i64..5000, init in any::<bool>()) {
        if let Ok(config) = host(json!({"Memory": memory, "CpuShares": shares, "Init": init})) {
            let echo = config.face[FACE]["HostConfig"].clone();
            prop_assert_eq!(host(echo).map(|mut c| { c.face.clear(); c }), Ok({ let mut c = config; c.face.clear(); c }));
        }
    }
}

#[test]
fn names_of_nested_fields_count_whatever_their_case() {
    let mounts = json!({ "mounts": [{"type": "bind", "source": "/a", "target": "/b", "readonly": true,
        "bindoptions": {"nonrecursive": true}}], "ulimits": [{"name": "nofile", "soft": 1, "hard": 2}] });
    let config = host(mounts).expect("accepted");
    assert!(config.mounts[0].readonly, "{:?}", config.mounts);
    assert!(matches!(config.mounts[0].source, MountSource::Bind { recursive: false, .. }));
    assert_eq!((config.ulimits[0].soft, config.ulimits[0].hard), (1, 2));
    refused(&[
        (json!({"RestartPolicy": {"name": "always"}}), "HostConfig.RestartPolicy.Name"),
        (json!({"LogConfig": {"type": "syslog"}}), "HostConfig.LogConfig.Type"),
        (
            json!({"Mounts": [{"Type": "volume", "Target": "/a", "volumeoptions": {"subpath": "x"}}]}),
            "Subpath",
        ),
    ]);
    let networking = json!({"NetworkingConfig": {"endpointsconfig": {"blue": {"ALIASES": ["x"]}}}});
    assert_eq!(
        parse(networking).map(|c| c.networking.endpoints["blue"].aliases.clone()),
        Ok(vec!["x".to_owned()])
    );
    let health = json!({"Healthcheck": {"test": ["CMD", "true"]}});
    assert!(parse(health).is_err_and(|e| e.message().contains("Healthcheck")));
}

#[test]
fn what_contradicts_itself_is_refused_by_name() {
    refused(&[
        (json!({"RestartPolicy": {"Name": "no", "MaximumRetryCount": 3}}), "MaximumRetryCount"),
        (json!({"RestartPolicy": {"MaximumRetryCount": 3}}), "MaximumRetryCount"),
    ]);
    let bind = |options: Value, readonly: bool| json!({"Mounts": [{"Type": "bind", "Source": "/a", "Target": "/b", "ReadOnly": readonly, "BindOptions": options}]});
    refused(&[
        (bind(json!({"ReadOnlyNonRecursive": true}), false), "ReadOnlyNonRecursive needs ReadOnly"),
        (bind(json!({"ReadOnlyForceRecursive": true}), false), "ReadOnlyForceRecursive needs ReadOnly"),
        (bind(json!({"ReadOnlyNonRecursive": true, "ReadOnlyForceRecursive": true}), true), "contradict"),
    ]);
    assert!(host(bind(json!({"ReadOnlyForceRecursive": true}), true)).is_ok());
}
