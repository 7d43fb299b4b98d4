//! Which namespaces are made, which are joined, which stay the host's.

use std::path::PathBuf;

use oci_spec::runtime::{LinuxNamespaceType, Spec};
use tare_sys::process::Namespaces;

use super::IdMaps;
use crate::error::{Error, Result};

/// Namespaces of one container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// Made together with the process (never the cgroup one).
    pub new: Namespaces,
    /// Whether a cgroup namespace is made, after the cgroups were entered.
    pub new_cgroup: bool,
    /// Whether a time namespace is made, by the launching process just before the child, whose clocks it then rules.
    pub new_time: bool,
    /// Joined by path.
    pub join: Vec<Join>,
    /// All that are not simply the host's.
    pub listed: Namespaces,
    /// The pid namespace is joined by the child, for another that goes on in its place.
    pub enters_late: bool,
    /// The ids of the user namespace, if one is made.
    pub ids: Option<IdMaps>,
}

/// A namespace that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Join {
    /// Its kind.
    pub kind: Namespaces,
    /// A file such as `/proc/7/ns/net`.
    pub path: PathBuf,
}

// === impl Layout ===

impl Layout {
    /// What `linux.namespaces` asks for.
    pub(crate) fn of(spec: &Spec) -> Result<Self> {
        let mut layout = Self::default();
        let asked = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_deref()).unwrap_or_default();
        for namespace in asked {
            let kind = kind(namespace.typ())?;
            if layout.listed.contains(kind) {
                return Err(Error::invalid(format!(
                    "linux.namespaces: {:?} is there twice",
                    namespace.typ()
                )));
            }
            layout.listed = layout.listed | kind;
            match namespace.path() {
                Some(path) if path.is_absolute() => layout.join.push(Join { kind, path: path.clone() }),
                Some(path) => {
                    return Err(Error::invalid(format!("linux.namespaces: path {path:?} is not absolute")));
                }
                None if kind == Namespaces::CGROUP => layout.new_cgroup = true,
                None if kind == Namespaces::TIME => layout.new_time = true,
                None => layout.new = layout.new | kind,
            }
        }
        if layout.has_own(Namespaces::USER) && !layout.has_new_mounts() {
            let text = "linux.namespaces: mount: a container in a user namespace needs a new mount namespace, which that \
                        one owns (joining one, or the host's, is not supported)";
            return Err(Error::unsupported(text));
        }
        layout.ids = layout.new_ids(spec)?;
        Ok(layout)
    }

    fn new_ids(&self, spec: &Spec) -> Result<Option<IdMaps>> {
        let linux = spec.linux().as_ref();
        let uids = linux.and_then(|linux| linux.uid_mappings().as_ref()).filter(|list| !list.is_empty());
        let gids = linux.and_then(|linux| linux.gid_mappings().as_ref()).filter(|list| !list.is_empty());
        if self.new.contains(Namespaces::USER) {
            let ids = IdMaps::of(uids, gids, "linux.")?;
            ids.root()?;
            return Ok(Some(ids));
        }
        // One that is joined has its ids already; what a specification says of them is for its reader.
        if (uids.is_some() || gids.is_some()) && !self.has_own(Namespaces::USER) {
            let text = "linux.uidMappings, linux.gidMappings: there is no user namespace in linux.namespaces";
            return Err(Error::invalid(text));
        }
        Ok(None)
    }

    /// For a further process: everything the container does not share with the host is joined.
    pub(crate) fn joining(spec: &Spec) -> Result<Self> {
        let Self { listed, ids, .. } = Self::of(spec)?;
        Ok(Self { listed, ids, ..Self::default() })
    }

    /// Whether the container's differs from the host's by specification (a joined path may still turn out to be it).
    pub fn has_own(&self, kind: Namespaces) -> bool {
        self.listed.contains(kind)
    }

    /// A child has to make another that goes on in its place: a pid namespace is joined late, or a new one takes one to live in it, and is to belong
    /// to a user namespace that exists.
    pub fn forks_again(&self) -> bool {
        self.enters_late || self.joined(Namespaces::USER).is_some() && self.new.contains(Namespaces::PID)
    }

    /// Whether mounts made for the container are nobody else's; if not, nothing may be attached where others would see it.
    pub fn has_new_mounts(&self) -> bool {
        self.new.contains(Namespaces::MOUNT)
    }

    /// The path by which a kind is joined.
    pub fn joined(&self, kind: Namespaces) -> Option<&Join> {
        self.join.iter().find(|join| join.kind == kind)
    }
}

fn kind(asked: LinuxNamespaceType) -> Result<Namespaces> {
    Ok(match asked {
        LinuxNamespaceType::Mount => Namespaces::MOUNT,
        LinuxNamespaceType::Pid => Namespaces::PID,
        LinuxNamespaceType::Network => Namespaces::NET,
        LinuxNamespaceType::Ipc => Namespaces::IPC,
        LinuxNamespaceType::Uts => Namespaces::UTS,
        LinuxNamespaceType::Cgroup => Namespaces::CGROUP,
        LinuxNamespaceType::User => Namespaces::USER,
        LinuxNamespaceType::Time => Namespaces::TIME,
    })
}
