//! Which namespaces a container gets: its own, the host's, or another container's by path.

use std::path::PathBuf;

use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceBuilder, LinuxNamespaceType as Kind};
use tare_model::container::{HostOrPrivate, IpcMode, NamespaceMode, Namespaces, NetworkMode};
use tare_model::{Error, Result};

use super::input::ResolvedNamespaces;
use super::plan::built;
use crate::api::view::UserNamespace;

/// The list of the specification: an entry without path is a new namespace, no entry is the host's.
pub(crate) fn namespaces(
    asked: &Namespaces,
    resolved: &ResolvedNamespaces,
    user: &UserNamespace,
) -> Result<Vec<LinuxNamespace>> {
    let mut list = vec![namespace(Kind::Mount, None)?];
    match user {
        UserNamespace::Host { .. } => {}
        UserNamespace::Own { shared, .. } | UserNamespace::Engine { shared, .. } if shared.is_empty() => {
            list.push(namespace(Kind::User, None)?);
        }
        UserNamespace::Own { shared, .. } | UserNamespace::Engine { shared, .. } => {
            list.push(namespace(Kind::User, Some(lent(&resolved.user, "the user namespace", shared)?))?);
        }
    }
    match &asked.network {
        NetworkMode::Host => {}
        NetworkMode::Container { container } => {
            list.push(namespace(Kind::Network, Some(lent(&resolved.network, "network", container)?))?);
        }
        _ => list.push(namespace(Kind::Network, None)?),
    }
    match &asked.pid {
        NamespaceMode::Private => list.push(namespace(Kind::Pid, None)?),
        NamespaceMode::Host => {}
        NamespaceMode::Container { container } => {
            list.push(namespace(Kind::Pid, Some(lent(&resolved.pid, "pid", container)?))?);
        }
    }
    match &asked.ipc {
        IpcMode::Private | IpcMode::Shareable | IpcMode::None => list.push(namespace(Kind::Ipc, None)?),
        IpcMode::Host => {}
        IpcMode::Container { container } => {
            list.push(namespace(Kind::Ipc, Some(lent(&resolved.ipc, "ipc", container)?))?);
        }
    }
    if asked.uts == HostOrPrivate::Private {
        list.push(namespace(Kind::Uts, None)?);
    }
    if asked.cgroup == HostOrPrivate::Private {
        list.push(namespace(Kind::Cgroup, None)?);
    }
    Ok(list)
}

/// It has a network namespace of its own.
pub(crate) fn own_network(asked: &Namespaces) -> bool {
    !matches!(asked.network, NetworkMode::Host | NetworkMode::Container { .. })
}

/// It has an IPC namespace of its own.
pub(crate) fn own_ipc(asked: &Namespaces) -> bool {
    matches!(asked.ipc, IpcMode::Private | IpcMode::Shareable | IpcMode::None)
}

fn lent(path: &Option<PathBuf>, what: &str, container: &str) -> Result<PathBuf> {
    path.clone().ok_or_else(|| {
        Error::conflict(format!("cannot join {what} of container {container}: it is not running"))
    })
}

fn namespace(kind: Kind, path: Option<PathBuf>) -> Result<LinuxNamespace> {
    let namespace = LinuxNamespaceBuilder::default().typ(kind);
    built(match path {
        Some(path) => namespace.path(path).build(),
        None => namespace.build(),
    })
}
