//! Which namespaces are the container's own.

use tare_docker_api::models::{HostConfig, HostConfigCgroupnsModeEnum as CgroupnsMode};
use tare_model::container::{HostOrPrivate, IpcMode, NamespaceMode, Namespaces, NetworkMode};
use tare_model::{Error, Result};

/// `network` is what became of the network mode, beside the endpoints.
pub(super) fn namespaces(host: &HostConfig, network: NetworkMode) -> Result<Namespaces> {
    Ok(Namespaces {
        network,
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

/// `HostConfig.NetworkMode`.
pub(super) fn network(mode: &str) -> Result<NetworkMode> {
    match (mode, other_container(mode)) {
        ("" | "default", _) => Ok(NetworkMode::Default),
        ("bridge", _) => Ok(NetworkMode::Bridge),
        ("none", _) => Ok(NetworkMode::None),
        ("host", _) => Ok(NetworkMode::Host),
        (_, Some(container)) => Ok(NetworkMode::Container { container }),
        ("container" | "container:", None) => {
            Err(Error::invalid("invalid container format container:<name|id> (HostConfig.NetworkMode)"))
        }
        (network, None) => Ok(NetworkMode::Network { network: network.to_owned() }),
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
