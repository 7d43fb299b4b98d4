//! Which namespaces are the container's own.

use tare_docker_api::models::{HostConfig, HostConfigCgroupnsModeEnum as CgroupnsMode};
use tare_model::container::{HostOrPrivate, IpcMode, NamespaceMode, Namespaces, NetworkMode};
use tare_model::{Error, Result};

pub(super) fn namespaces(host: &HostConfig) -> Result<Namespaces> {
    Ok(Namespaces {
        network: network(host.network_mode.as_deref().unwrap_or(""))?,
        pid: pid(host.pid_mode.as_deref().unwrap_or(""))?,
        ipc: ipc(host.ipc_mode.as_deref().unwrap_or(""))?,
        uts: uts(host.uts_mode.as_deref().unwrap_or(""))?,
        cgroup: match host.cgroupns_mode {
            Some(CgroupnsMode::HOST) => HostOrPrivate::Host,
            None | Some(CgroupnsMode::PRIVATE | CgroupnsMode::EMPTY) => HostOrPrivate::Private,
        },
        user: user(host.userns_mode.as_deref().unwrap_or(""))?,
    })
}

fn network(mode: &str) -> Result<NetworkMode> {
    match mode {
        "" | "default" => Ok(NetworkMode::Default),
        "bridge" => Ok(NetworkMode::Bridge),
        "none" => Ok(NetworkMode::None),
        "host" => Ok(NetworkMode::Host),
        other => Err(Error::unsupported(format!(
            "HostConfig.NetworkMode = {other:?}: networks are not supported yet; use \"none\" or \"host\""
        ))),
    }
}

fn pid(mode: &str) -> Result<NamespaceMode> {
    match (mode, other_container(mode)) {
        ("" | "private", _) => Ok(NamespaceMode::Private),
        ("host", _) => Ok(NamespaceMode::Host),
        (_, Some(container)) => Ok(NamespaceMode::Container { container }),
        _ => Err(Error::invalid(format!("invalid PID mode: {mode} (HostConfig.PidMode)"))),
    }
}

fn ipc(mode: &str) -> Result<IpcMode> {
    match (mode, other_container(mode)) {
        ("" | "private", _) => Ok(IpcMode::Private),
        ("shareable", _) => Ok(IpcMode::Shareable),
        ("none", _) => Ok(IpcMode::None),
        ("host", _) => Ok(IpcMode::Host),
        (_, Some(container)) => Ok(IpcMode::Container { container }),
        _ => Err(Error::invalid(format!("invalid IPC mode: {mode} (HostConfig.IpcMode)"))),
    }
}

fn uts(mode: &str) -> Result<HostOrPrivate> {
    match mode {
        "" | "private" => Ok(HostOrPrivate::Private),
        "host" => Ok(HostOrPrivate::Host),
        _ => Err(Error::invalid(format!("invalid UTS mode: {mode} (HostConfig.UTSMode)"))),
    }
}

fn user(mode: &str) -> Result<HostOrPrivate> {
    match mode {
        "" => Ok(HostOrPrivate::Private),
        "host" => Ok(HostOrPrivate::Host),
        _ => Err(Error::invalid(format!("invalid USER mode: {mode} (HostConfig.UsernsMode)"))),
    }
}

/// `container:NAME`.
fn other_container(mode: &str) -> Option<String> {
    mode.strip_prefix("container:").filter(|name| !name.is_empty()).map(str::to_owned)
}
