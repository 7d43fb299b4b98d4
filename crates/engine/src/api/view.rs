//! What a container is, at one instant: immutable, shared, complete enough for every face.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use tare_model::container::ContainerConfig;
use tare_model::{ContainerId, ContainerName, Digest, ExitRecord, Signal, Status, VolumeId};

use super::network::NetworkingView;

/// Everything about one container. Cheap to clone.
#[derive(Clone, Debug, PartialEq)]
pub struct ContainerView {
    /// Its id.
    pub id: ContainerId,
    /// Its name.
    pub name: ContainerName,
    /// When it was created, nanoseconds since the epoch.
    pub created: u64,
    /// What does not change after `create`.
    pub fixed: Arc<Fixed>,
    /// What does.
    pub state: StateView,
    /// Ids of its execs that have not ended.
    pub execs: Vec<tare_model::ExecId>,
    /// Its networks and ports.
    pub networking: Arc<NetworkingView>,
}

/// The part of a view that `create` decided.
#[derive(Clone, Debug, PartialEq)]
pub struct Fixed {
    /// As asked for.
    pub config: ContainerConfig,
    /// Merged with the image's defaults.
    pub process: MergedProcess,
    /// The image's id; absent for a plain directory and the built-in images.
    pub image_id: Option<Digest>,
    /// The image as a listing names it: as the user wrote it.
    pub image_name: String,
    /// Host name as seen inside.
    pub hostname: String,
    /// What is mounted, besides the kernel's file systems.
    pub mounts: Vec<MountView>,
    /// Where its files are.
    pub paths: Paths,
    /// The warnings `create` gave.
    pub warnings: Vec<String>,
    /// Whose ids it has.
    pub user_namespace: UserNamespace,
    /// Its SELinux labels, if it has any.
    pub labels: Option<Labels>,
}

/// SELinux labels.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Labels {
    /// Of its processes.
    pub process: String,
    /// Of its files.
    pub files: String,
}

/// Whose user and group ids a container has.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum UserNamespace {
    /// Ids that no other container has, but for those that share its user namespace.
    Own {
        /// Which.
        ids: UserIds,
        /// Why it shares those of another container; empty if it does not.
        shared: String,
    },
    /// The engine's own ids, one to one: it is an ordinary user's and has no others to give.
    Engine {
        /// Of users.
        users: Vec<tare_model::IdRange>,
        /// Of groups.
        groups: Vec<tare_model::IdRange>,
        /// As for [`UserNamespace::Own`].
        shared: String,
    },
    /// The host's own.
    Host {
        /// Why, in the words of the command line.
        reason: String,
    },
}

/// Ids of the host that are a container's: 0 to 65,535 inside are the first of the range, others follow one by one.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct UserIds {
    /// All of them.
    pub range: tare_model::IdRange,
    /// Ids of users above 65,535 inside, ascending.
    pub uids: Vec<u32>,
    /// Ids of groups above 65,535 inside, ascending.
    pub gids: Vec<u32>,
}

// === impl UserNamespace ===

impl UserNamespace {
    /// Its ids, if nobody else has them.
    pub fn ids(&self) -> Option<&UserIds> {
        match self {
            Self::Own { ids, .. } => Some(ids),
            Self::Engine { .. } | Self::Host { .. } => None,
        }
    }
}

impl UserNamespace {
    /// Whether it is the engine's and the host's.
    pub fn is_host(&self) -> bool {
        matches!(self, Self::Host { .. })
    }
}

impl Default for UserNamespace {
    /// Of containers that were created before there were any.
    fn default() -> Self {
        Self::Host { reason: "created by a version without user namespaces".into() }
    }
}

/// The process with every default resolved.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct MergedProcess {
    /// Program and first arguments.
    pub entrypoint: Vec<String>,
    /// Further arguments, or the whole command without an entrypoint.
    pub cmd: Vec<String>,
    /// `NAME=value`: the engine's defaults, the image's, the user's.
    pub env: Vec<String>,
    /// Working directory.
    pub working_dir: String,
    /// `user[:group]`; empty is root.
    pub user: String,
    /// The image's labels under the user's; informative only.
    pub labels: BTreeMap<String, String>,
    /// The signal `stop` sends.
    pub stop_signal: Option<Signal>,
    /// Ports, documented by the image or the user.
    pub exposed_ports: Vec<String>,
    /// Paths that got an anonymous volume.
    pub volumes: Vec<String>,
    /// The image is one of 32-bit programs, which this machine runs beside its own.
    #[serde(default)]
    pub thirty_two_bit: bool,
}

/// What changes in a container's life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateView {
    /// The state.
    pub status: Status,
    /// The first process in the host's namespace, while it lives.
    pub pid: Option<i32>,
    /// The process that monitors it.
    pub shim_pid: Option<i32>,
    /// How the last run ended.
    pub exit: Option<ExitRecord>,
    /// What a failed start would have exited with: 127, 126, 128.
    pub start_failure: Option<i32>,
    /// Why it could not be started, or what was wrong at its end.
    pub error: String,
    /// Start of the present or last run, nanoseconds since the epoch.
    pub started: Option<u64>,
    /// End of the last run.
    pub finished: Option<u64>,
    /// How often it was started.
    pub starts: u64,
}

/// A mount of a container.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct MountView {
    /// What is mounted.
    pub kind: MountKind,
    /// Name of the volume, for one.
    pub volume: Option<VolumeId>,
    /// Path on the host; empty for a tmpfs.
    pub source: PathBuf,
    /// Path in the container.
    pub destination: String,
    /// Docker's mode word: `ro`, `z`, empty.
    pub mode: String,
    /// It can be written.
    pub writable: bool,
    /// `rprivate`, …; empty for volumes and tmpfs.
    pub propagation: String,
}

/// Kinds of mounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MountKind {
    /// A path of the host.
    Bind,
    /// An anonymous volume.
    Volume,
    /// Memory.
    Tmpfs,
}

/// Where a container's files are on the host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Paths {
    /// Logs and everything else that is durable.
    pub state_dir: PathBuf,
    /// Sockets, records, generated files: gone after a reboot.
    pub run_dir: PathBuf,
    /// The current log file; empty where nothing is kept.
    pub log: PathBuf,
    /// `/etc/resolv.conf`.
    pub resolv_conf: PathBuf,
    /// `/etc/hosts`.
    pub hosts: PathBuf,
    /// `/etc/hostname`.
    pub hostname: PathBuf,
    /// Read-only directories of the root file system, topmost first.
    pub lowers: Vec<PathBuf>,
    /// The writable layer.
    pub upper: Option<PathBuf>,
    /// Overlayfs's scratch directory.
    pub work: Option<PathBuf>,
}

// === impl StateView ===

impl Default for StateView {
    fn default() -> Self {
        Self {
            status: Status::Created,
            pid: None,
            shim_pid: None,
            exit: None,
            start_failure: None,
            error: String::new(),
            started: None,
            finished: None,
            starts: 0,
        }
    }
}

impl StateView {
    /// The code that listings show: that of the last run or of the last failed start, 0 before.
    pub fn exit_code(&self) -> i32 {
        match (self.start_failure, &self.exit) {
            (Some(code), _) => code,
            (None, Some(record)) => record.exit.code(),
            (None, None) => 0,
        }
    }

    /// The last run ended with a kill for lack of memory.
    pub fn oom_killed(&self) -> bool {
        self.exit.as_ref().is_some_and(|record| record.oom_killed)
    }
}

// === impl MergedProcess ===

impl MergedProcess {
    /// The command line: entrypoint, then arguments.
    pub fn args(&self) -> Vec<String> {
        self.entrypoint.iter().chain(&self.cmd).cloned().collect()
    }
}
