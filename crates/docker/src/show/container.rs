//! `GET /containers/{id}/json`.

use std::collections::HashMap;
use std::path::Path;

use serde_json::{Value, json};
use tare_docker_api::extension::{self, InspectExtension, NetworkLimits, RootfsDirectory};
use tare_docker_api::models::{
    ContainerConfig as WireConfig, ContainerInspectResponse, DriverData, HealthConfig, MountPoint,
};
use tare_docker_api::{Version, stamp};
use tare_engine::{ContainerView, Fixed, MountKind, MountView, UserNamespace};
use tare_model::container::ImageSource;
use tare_model::shaping::Shaping;

use super::{fault, host_config, networking, object, state};

/// The whole document.
pub(crate) fn inspect(view: &ContainerView, version: Version) -> Value {
    let fixed = &view.fixed;
    let mut args = fixed.process.args().into_iter();
    let document = ContainerInspectResponse {
        id: Some(view.id.to_string()),
        created: Some(stamp::rfc3339(view.created)),
        path: Some(args.next().unwrap_or_default()),
        args: Some(args.collect()),
        state: Some(state::state(&view.state)),
        image: Some(fixed.image_id.as_ref().map(ToString::to_string).unwrap_or_default()),
        resolv_conf_path: Some(path(&fixed.paths.resolv_conf)),
        hostname_path: Some(path(&fixed.paths.hostname)),
        hosts_path: Some(path(&fixed.paths.hosts)),
        log_path: Some(path(&fixed.paths.log)),
        name: Some(format!("/{}", view.name)),
        restart_count: Some(0),
        driver: Some("overlay2".to_owned()),
        platform: Some("linux".to_owned()),
        mount_label: Some(fixed.labels.as_ref().map(|labels| labels.files.clone()).unwrap_or_default()),
        process_label: Some(fixed.labels.as_ref().map(|labels| labels.process.clone()).unwrap_or_default()),
        app_armor_profile: Some(fixed.config.security.apparmor.clone().unwrap_or_default()),
        graph_driver: Some(graph_driver(fixed)),
        mounts: Some(fixed.mounts.iter().map(mount_point).collect()),
        ..Default::default()
    };
    let mut shown = object(&document);
    let execs: Vec<String> = view.execs.iter().map(ToString::to_string).collect();
    shown.insert("ExecIDs".to_owned(), if execs.is_empty() { Value::Null } else { json!(execs) });
    let mut host = host_config::host_config(&fixed.config);
    if let Some(links) = networking::links(view) {
        host["Links"] = links;
    }
    if matches!(fixed.user_namespace, UserNamespace::Host { .. }) {
        host["UsernsMode"] = json!("host");
    }
    shown.insert("HostConfig".to_owned(), host);
    shown.insert("Config".to_owned(), config(fixed, version));
    shown.insert("NetworkSettings".to_owned(), networking::settings(view, version));
    shown.insert(extension::FIELD.to_owned(), json!(ours(view)));
    Value::Object(shown)
}

/// What Docker has no field for.
fn ours(view: &ContainerView) -> InspectExtension {
    let fixed = &view.fixed;
    let rootfs = match &fixed.config.image {
        ImageSource::Directory { path, writable } => {
            Some(RootfsDirectory { path: path.clone(), writable: *writable })
        }
        ImageSource::Image { .. } => None,
    };
    let user_namespace = match &fixed.user_namespace {
        UserNamespace::Host { reason } => {
            extension::UserNamespace { mode: "host".into(), reason: reason.clone(), ..Default::default() }
        }
        UserNamespace::Own { ids, shared } => extension::UserNamespace {
            mode: if shared.is_empty() { "private" } else { "container" }.into(),
            reason: shared.clone(),
            first_id: ids.range.first,
            count: ids.range.count,
            large_user_ids: ids.uids.clone(),
            large_group_ids: ids.gids.clone(),
        },
        UserNamespace::Engine { users, shared, .. } => extension::UserNamespace {
            mode: if shared.is_empty() { "private" } else { "container" }.into(),
            reason: shared.clone(),
            count: users.iter().map(|range| range.count).sum(),
            ..Default::default()
        },
    };
    let Shaping { rates, share } = fixed.config.networking.shaping;
    let limits = NetworkLimits { in_rate: rates.inward, out_rate: rates.outward, burst: rates.burst, share };
    let network = (limits != NetworkLimits::default()).then_some(limits);
    let faults = view.networking.faults.iter().map(fault::alone).collect();
    InspectExtension { rootfs, network, user_namespace, faults }
}

fn path(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// `Config`: the process with every default resolved, and what has no effect here but was asked for.
fn config(fixed: &Fixed, version: Version) -> Value {
    let (asked, process) = (&fixed.config, &fixed.process);
    let list = |list: &[String]| Some(list.to_vec()).filter(|l| !l.is_empty());
    let document = WireConfig {
        hostname: Some(fixed.hostname.clone()),
        domainname: Some(asked.domainname.clone()),
        user: Some(process.user.clone()),
        attach_stdin: Some(asked.process.attach.stdin),
        attach_stdout: Some(asked.process.attach.stdout),
        attach_stderr: Some(asked.process.attach.stderr),
        exposed_ports: list(&process.exposed_ports),
        tty: Some(asked.process.tty),
        open_stdin: Some(asked.process.open_stdin),
        stdin_once: Some(asked.process.stdin_once),
        env: Some(process.env.clone()),
        image: Some(fixed.image_name.clone()),
        working_dir: Some(process.working_dir.clone()),
        labels: Some(process.labels.clone().into_iter().collect()),
        stop_signal: process.stop_signal.map(|s| s.to_string()),
        stop_timeout: asked.stop_timeout.map(i64::from),
        healthcheck: asked
            .no_healthcheck
            .then(|| HealthConfig { test: Some(vec!["NONE".to_owned()]), ..Default::default() }),
        ..Default::default()
    };
    let mut shown = object(&document);
    let volumes: HashMap<&String, Value> = process.volumes.iter().map(|v| (v, json!({}))).collect();
    shown.insert("Volumes".to_owned(), if volumes.is_empty() { Value::Null } else { json!(volumes) });
    shown.insert("Cmd".to_owned(), json!(list(&process.cmd)));
    shown.insert("Entrypoint".to_owned(), json!(list(&process.entrypoint)));
    shown.insert("OnBuild".to_owned(), Value::Null);
    for (name, value) in host_config::remembered(asked, "Config").into_iter().flatten() {
        shown.insert(name.clone(), value.clone());
    }
    if version >= Version::new(52) {
        shown.remove("MacAddress");
    }
    Value::Object(shown)
}

/// Where the layers are. There is no merged directory on the host: the union exists in the container only.
fn graph_driver(fixed: &Fixed) -> DriverData {
    let paths = &fixed.paths;
    let lowers: Vec<String> = paths.lowers.iter().map(|p| path(p)).collect();
    let mut data = HashMap::new();
    if !lowers.is_empty() {
        data.insert("LowerDir".to_owned(), lowers.join(":"));
    }
    for (name, dir) in [("UpperDir", &paths.upper), ("WorkDir", &paths.work)] {
        if let Some(dir) = dir {
            data.insert(name.to_owned(), path(dir));
        }
    }
    DriverData { name: "overlay2".to_owned(), data }
}

/// One entry of `Mounts`.
pub(super) fn mount_point(mount: &MountView) -> MountPoint {
    let (typ, driver) = match mount.kind {
        MountKind::Bind => ("bind", None),
        MountKind::Volume => ("volume", Some("local".to_owned())),
        MountKind::Tmpfs => ("tmpfs", None),
    };
    MountPoint {
        typ: Some(typ.to_owned()),
        name: mount.volume.as_ref().map(ToString::to_string),
        source: Some(path(&mount.source)),
        destination: Some(mount.destination.clone()),
        driver,
        mode: Some(mount.mode.clone()),
        rw: Some(mount.writable),
        propagation: Some(mount.propagation.clone()),
    }
}
