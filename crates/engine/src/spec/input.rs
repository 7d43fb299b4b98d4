//! Everything a plan is made of, resolved: paths exist, names have become ids, nothing is left to look up.

use std::path::PathBuf;

use tare_model::ContainerId;
use tare_model::container::ContainerConfig;
use tare_model::sandbox::Rootfs;

use super::host::HostFacts;
use crate::api::view::{Labels, MergedProcess, UserNamespace};

/// One container about to be started.
#[derive(Clone, Debug)]
pub(crate) struct Input<'a> {
    /// The container.
    pub(crate) id: &'a ContainerId,
    /// As asked for.
    pub(crate) config: &'a ContainerConfig,
    /// Merged with the image.
    pub(crate) process: &'a MergedProcess,
    /// Host name inside.
    pub(crate) hostname: &'a str,
    /// Root file system.
    pub(crate) rootfs: Rootfs,
    /// User mounts and volumes.
    pub(crate) mounts: &'a [ResolvedMount],
    /// Devices besides the default ones.
    pub(crate) devices: &'a [DeviceNode],
    /// Finds the block devices that limits name.
    pub(crate) block_device: super::limits::Lookup,
    /// Namespaces lent by others.
    pub(crate) namespaces: ResolvedNamespaces,
    /// Whose ids it has.
    pub(crate) user_namespace: &'a UserNamespace,
    /// SELinux labels.
    pub(crate) labels: Option<&'a Labels>,
    /// Files made by the engine.
    pub(crate) files: GeneratedFiles,
    /// Parent of the container's cgroup when the user names none: absolute.
    pub(crate) cgroup_parent: &'a str,
    /// The machine.
    pub(crate) host: &'a HostFacts,
}

/// A mount whose source is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ResolvedMount {
    /// Clean absolute path in the container.
    pub(crate) target: String,
    /// What is mounted.
    pub(crate) source: ResolvedSource,
    /// Read-only.
    pub(crate) readonly: bool,
}

/// What a mount shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ResolvedSource {
    /// A path of the host.
    Bind {
        /// Absolute.
        path: PathBuf,
        /// `rprivate`, ….
        propagation: String,
        /// With submounts.
        recursive: bool,
        /// Submounts stay writable.
        readonly_non_recursive: bool,
    },
    /// Memory, with complete mount options.
    Tmpfs {
        /// Options.
        options: Vec<String>,
    },
}

/// A device node to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DeviceNode {
    /// Path in the container.
    pub(crate) path: String,
    /// A block device (else a character device).
    pub(crate) block: bool,
    /// Major number.
    pub(crate) major: i64,
    /// Minor number.
    pub(crate) minor: i64,
    /// Permission bits.
    pub(crate) mode: u32,
    /// Owner.
    pub(crate) uid: u32,
    /// Group.
    pub(crate) gid: u32,
    /// Any of `rwm`.
    pub(crate) access: String,
}

/// Namespaces of other containers, as paths.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ResolvedNamespaces {
    /// For `--pid container:X`.
    pub(crate) pid: Option<PathBuf>,
    /// For `--network container:X`.
    pub(crate) network: Option<PathBuf>,
    /// For `--ipc container:X`.
    pub(crate) ipc: Option<PathBuf>,
    /// X's /dev/shm.
    pub(crate) shm: Option<PathBuf>,
    /// X's user namespace, if it is not the host's.
    pub(crate) user: Option<PathBuf>,
}

/// Files that the engine writes and binds in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct GeneratedFiles {
    /// `/etc/resolv.conf`.
    pub(crate) resolv_conf: PathBuf,
    /// `/etc/hosts`.
    pub(crate) hosts: PathBuf,
    /// `/etc/hostname`.
    pub(crate) hostname: PathBuf,
}
