//! Whole plans against golden documents, and plans of hostile images against those of harmless ones.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use tare_model::container::{IpcMode, NamespaceMode, NetworkMode, ProcessConfig};
use tare_model::sandbox::{Rootfs, Seccomp};
use tare_model::{ContainerId, ImageConfig, ImageDocument};

use super::super::input::{DeviceNode, GeneratedFiles, ResolvedMount, ResolvedNamespaces, ResolvedSource};
use super::*;
use crate::api::view::{Labels, UserIds, UserNamespace};

struct Case {
    config: ContainerConfig,
    image: ImageConfig,
    mounts: Vec<ResolvedMount>,
    devices: Vec<DeviceNode>,
    namespaces: ResolvedNamespaces,
    user_namespace: UserNamespace,
    labels: Option<Labels>,
}

/// Ids for a container's user namespace.
fn own() -> UserNamespace {
    let range = tare_model::IdRange { first: 0x7000_0000, count: 0x10000 };
    UserNamespace::Own { ids: UserIds { range, uids: vec![], gids: vec![] }, shared: String::new() }
}

fn case() -> Case {
    let cmd = Some(vec!["true".to_owned()]);
    Case {
        config: ContainerConfig {
            process: ProcessConfig { cmd, ..Default::default() },
            ..Default::default()
        },
        image: ImageConfig::default(),
        mounts: vec![],
        devices: vec![],
        namespaces: ResolvedNamespaces::default(),
        user_namespace: own(),
        labels: None,
    }
}

impl Case {
    fn plan(&self) -> SandboxSpec {
        let host = HostFacts::default();
        let mut config = self.config.clone();
        check(&mut config, &host).expect("valid");
        let id = ContainerId::from_bytes([0xc0; 32]);
        let process = merge::merge(&config, &self.image).expect("merges");
        let input = Input {
            id: &id,
            hostname: &merge::hostname(&config, &id, &host).expect("valid"),
            process: &process,
            config: &config,
            rootfs: Rootfs::Directory { path: "/r".into() },
            mounts: &self.mounts,
            devices: &self.devices,
            namespaces: self.namespaces.clone(),
            user_namespace: &self.user_namespace,
            labels: self.labels.as_ref(),
            files: GeneratedFiles {
                resolv_conf: "/run/r".into(),
                hosts: "/run/h".into(),
                hostname: "/run/n".into(),
            },
            block_device: |path| Err(tare_model::Error::invalid(path.to_owned())),
            cgroup_parent: "/tare-0",
            host: &host,
        };
        plan(&input).expect("plans")
    }

    fn json(&self) -> Value {
        sorted(serde_json::to_value(self.plan()).expect("serializes"))
    }
}

/// Capability sets have no order; the golden documents have them sorted.
fn sorted(mut spec: Value) -> Value {
    let caps = &mut spec["oci"]["process"]["capabilities"];
    for set in caps.as_object_mut().into_iter().flat_map(|o| o.values_mut()).filter_map(Value::as_array_mut) {
        set.sort_by_key(|v| v.to_string());
    }
    spec
}

fn destinations(spec: &Value) -> Vec<&str> {
    spec["oci"]["mounts"].as_array().into_iter().flatten().filter_map(|m| m["destination"].as_str()).collect()
}

fn mount<'a>(spec: &'a Value, destination: &str) -> &'a Value {
    let mounts = spec["oci"]["mounts"].as_array().expect("a list");
    mounts.iter().find(|m| m["destination"] == destination).unwrap_or(&Value::Null)
}

fn kinds(spec: &Value) -> BTreeSet<&str> {
    spec["oci"]["linux"]["namespaces"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|n| n["type"].as_str())
        .collect()
}

#[test]
fn the_default_container_is_the_golden_one() {
    let golden: Value = serde_json::from_str(include_str!("golden/default.json")).expect("golden document");
    let got = case().json();
    assert_eq!(got, golden, "\n{}", serde_json::to_string_pretty(&got).expect("serializes"));
}

#[test]
fn a_privileged_container_is_the_golden_one() {
    let mut case = case();
    case.config.security.privileged = true;
    case.user_namespace = UserNamespace::Host { reason: "--privileged".into() };
    let golden: Value =
        serde_json::from_str(include_str!("golden/privileged.json")).expect("golden document");
    let got = case.json();
    assert_eq!(got, golden, "\n{}", serde_json::to_string_pretty(&got).expect("serializes"));
}

#[test]
fn an_image_cannot_choose_a_security_setting() {
    let hostile = r#"{
      "os": "linux", "architecture": "amd64",
      "annotations": {"io.podman.annotations.checkpoint": "/x", "run.oci.handler": "evil"},
      "HostConfig": {"Privileged": true, "CapAdd": ["ALL"], "SecurityOpt": ["seccomp=unconfined"], "PidMode": "host"},
      "config": {
        "Privileged": true, "CapAdd": ["ALL"], "SecurityOpt": ["seccomp=unconfined"], "NetworkMode": "host",
        "Annotations": {"org.systemd.property.ExecStart": "/x"}, "Hostname": "evil", "Binds": ["/:/host"],
        "Labels": {"io.podman.annotations.privileged": "TRUE", "run.oci.keep_original_groups": "1",
                   "tare.privileged": "true", "containerd.io/restart.loguri": "binary:///x"},
        "Env": ["LISTEN_FDS=3"]}
    }"#;
    let mut with = case();
    with.image = ImageDocument::parse(hostile.as_bytes()).expect("a valid document").config;
    let mut got = with.json();
    let env = got["oci"]["process"]["env"].as_array_mut().expect("a list");
    env.retain(|e| e != "LISTEN_FDS=3");
    assert_eq!(got, case().json());
}

#[test]
fn a_profile_reaches_the_plan() {
    let mut case = case();
    case.config.security.profile = tare_model::container::Profile::Strict;
    let spec = case.plan();
    assert_eq!(spec.seccomp, Seccomp::Strict);
    let process = spec.oci.process().as_ref().expect("a process");
    assert_eq!(process.no_new_privileges(), Some(true));
    let bounding = process.capabilities().as_ref().and_then(|caps| caps.bounding().clone());
    assert_eq!(bounding.map(|set| set.len()), Some(9));
}

#[test]
fn every_namespace_is_private_by_default() {
    let all = BTreeSet::from(["mount", "network", "pid", "ipc", "uts", "cgroup", "user"]);
    assert_eq!(kinds(&case().json()), all);
}

#[test]
fn namespaces_of_the_host_are_left_out() {
    let mut case = case();
    case.config.namespaces.network = NetworkMode::Host;
    case.config.namespaces.pid = NamespaceMode::Host;
    case.config.namespaces.ipc = IpcMode::Host;
    case.user_namespace = UserNamespace::Host { reason: "--network=host".into() };
    let spec = case.json();
    assert_eq!(kinds(&spec), BTreeSet::from(["mount", "uts", "cgroup"]));
    assert_eq!(mount(&spec, "/dev/shm")["source"], "/dev/shm");
    assert_eq!(spec["oci"]["linux"]["sysctl"], serde_json::json!({}));
    assert_eq!(spec["oci"]["hostname"], "machine");
}

#[test]
fn namespaces_of_another_container_are_joined_by_path() {
    let mut case = case();
    case.config.namespaces.pid = NamespaceMode::Container { container: "web".into() };
    case.namespaces.pid = Some("/proc/7/ns/pid".into());
    let spec = case.json();
    let list = spec["oci"]["linux"]["namespaces"].as_array().expect("a list");
    assert!(list.iter().any(|n| n["type"] == "pid" && n["path"] == "/proc/7/ns/pid"));
}

#[test]
fn a_users_mount_replaces_the_engines() {
    let mut case = case();
    let bind = |target: &str| ResolvedMount {
        target: target.into(),
        source: ResolvedSource::Bind {
            path: "/src".into(),
            propagation: String::new(),
            recursive: true,
            readonly_non_recursive: false,
        },
        readonly: true,
    };
    case.mounts = vec![bind("/etc/hosts"), bind("/dev/shm"), bind("/a/b/c"), bind("/a")];
    let spec = case.json();
    assert_eq!(mount(&spec, "/etc/hosts")["source"], "/src");
    let options = serde_json::json!(["rbind", "rprivate", "ridmap", "ro", "rro"]);
    assert_eq!(mount(&spec, "/etc/hosts")["options"], options);
    let order = destinations(&spec);
    assert_eq!(order.iter().filter(|d| **d == "/dev/shm").count(), 1);
    let at = |d: &str| order.iter().position(|x| *x == d).expect(d);
    assert!(at("/a") < at("/a/b/c") && at("/dev") < at("/dev/shm"));
    case.mounts = vec![bind("/dev")];
    assert!(!destinations(&case.json()).iter().any(|d| d.starts_with("/dev/")));
}

#[test]
fn a_read_only_root_has_read_only_files_and_a_writable_dev() {
    let mut case = case();
    case.config.readonly_rootfs = true;
    let spec = case.json();
    assert_eq!(spec["oci"]["root"]["readonly"], true);
    let options = |path: &str| mount(&spec, path)["options"].to_string();
    assert!(options("/etc/hosts").contains("\"ro\""));
    assert!(!options("/dev").contains("\"ro\"") && !options("/dev/shm").contains("\"ro\""));
}

#[test]
fn an_init_is_asked_for_and_mounted_by_the_runtime() {
    let mut case = case();
    case.config.init = true;
    let spec = case.json();
    assert_eq!(spec["init"], true);
    assert_eq!(mount(&spec, "/sbin/docker-init"), &Value::Null);
}

#[test]
fn users_are_resolved_in_the_container_and_never_here() {
    let mut case = case();
    case.config.group_add = vec!["audio".into()];
    case.image.user = "www:www".into();
    let spec = case.plan();
    let identity = spec.identity.expect("always there");
    assert_eq!((identity.user.as_str(), identity.groups.as_slice()), ("www:www", &["audio".to_owned()][..]));
}

#[test]
fn an_added_device_gets_its_node_and_its_rule() {
    let mut case = case();
    case.devices = vec![DeviceNode {
        path: "/dev/fuse".into(),
        block: false,
        major: 10,
        minor: 229,
        mode: 0o666,
        uid: 0,
        gid: 0,
        access: "rw".into(),
    }];
    let spec = case.json();
    assert_eq!(spec["oci"]["linux"]["devices"][0]["path"], "/dev/fuse");
    let rules = spec["oci"]["linux"]["resources"]["devices"].as_array().expect("a list");
    let last = rules.last().expect("rules");
    assert_eq!((&last["major"], &last["minor"], &last["access"]), (&10.into(), &229.into(), &"rw".into()));
}

#[test]
fn the_cgroup_is_below_the_engines_or_the_users_parent() {
    let mut config = ContainerConfig::default();
    assert_eq!(cgroups_path(&config, "/tare-0", "id"), "/tare-0/id");
    config.resources.cgroup_parent = "jobs/batch".into();
    assert_eq!(cgroups_path(&config, "/tare-0", "id"), "/jobs/batch/id");
}

#[test]
fn an_unconfined_container_has_no_filter_and_keeps_the_rest() {
    let mut case = case();
    case.config.security.seccomp = tare_model::container::SeccompChoice::Unconfined;
    let spec = case.plan();
    assert_eq!(spec.seccomp, Seccomp::Unconfined);
    assert!(spec.oci.linux().as_ref().and_then(|l| l.masked_paths().as_ref()).is_some_and(|m| !m.is_empty()));
}

#[test]
fn annotations_are_the_users_only() {
    let mut case = case();
    case.config.annotations = BTreeMap::from([("k".to_owned(), "v".to_owned())]);
    assert_eq!(case.json()["oci"]["annotations"], serde_json::json!({"k": "v"}));
}

#[test]
fn with_the_hosts_user_namespace_no_id_is_mapped() {
    let mut case = case();
    case.user_namespace = UserNamespace::Host { reason: "--userns=host".into() };
    let spec = case.json();
    assert_eq!(spec["disk_ids"], "host");
    assert!(!kinds(&spec).contains("user"));
    assert!(spec["oci"]["linux"].get("uidMappings").is_none());
    assert_eq!(spec["oci"]["linux"]["sysctl"]["net.ipv4.ping_group_range"], "0 2147483647");
}

#[test]
fn a_shared_user_namespace_is_joined_by_path() {
    let mut case = case();
    let UserNamespace::Own { ids, .. } = own() else { panic!("its own") };
    case.user_namespace = UserNamespace::Own { ids, shared: "--ipc=container:web".into() };
    case.namespaces.user = Some("/proc/7/ns/user".into());
    let spec = case.json();
    let namespaces = spec["oci"]["linux"]["namespaces"].as_array().expect("a list");
    let user = namespaces.iter().find(|n| n["type"] == "user").expect("there is one");
    assert_eq!(user["path"], "/proc/7/ns/user");
    assert_eq!(spec["disk_ids"], "mapped");
}

#[test]
fn labels_are_of_the_process_and_of_what_is_mounted() {
    let labels = Labels { process: "u:r:t:s0:c1,c2".into(), files: "u:object_r:f:s0:c1,c2".into() };
    let plan = Case { labels: Some(labels.clone()), ..case() }.json();
    assert_eq!(plan["oci"]["process"]["selinuxLabel"], labels.process);
    assert_eq!(plan["oci"]["linux"]["mountLabel"], labels.files);
    let plan = case().json();
    assert!(plan["oci"]["process"].get("selinuxLabel").is_none());
    assert!(plan["oci"]["linux"].get("mountLabel").is_none());
}
