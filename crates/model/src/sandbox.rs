//! The contract between the monitor (shim) and what isolates (runtime, later microVM).
//!
//! # Tutorial
//!
//! The engine plans: it turns a [`crate::container::ContainerConfig`] into a [`SandboxSpec`], which is an OCI
//! specification plus the few things OCI leaves to the caller (how the root file system is assembled, names of users
//! that only the image can resolve). The spec travels to the shim, which calls [`Sandbox::launch`] and gets a
//! [`Running`] container. From then on every operation on the container goes through that value, in the shim's one
//! thread. When the first process has ended (the pidfd says so), the shim calls [`Running::destroy`].
//!
//! ```text
//!            launch                 first process ends            destroy
//!  SandboxSpec ─────▶ Running ─────────────────────────▶ (dead) ──────────▶ nothing left
//!                │  exec, signal, pause, resume, stats, processes, update
//!                └─▶ Err: nothing was left behind
//! ```
//!
//! Nothing in this contract knows about logs, attach or the daemon: that is the shim's.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use oci_spec::runtime::{LinuxResources, Spec};
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::id::ContainerId;
use crate::signal::Signal;

/// Everything needed to launch one container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SandboxSpec {
    /// The container.
    pub id: ContainerId,
    /// The OCI specification: namespaces, mounts, devices, limits, capabilities, process. `root.path` is not used;
    /// `linux.cgroupsPath` is absolute below each hierarchy's mount point. `process.user` is overridden by `identity`
    /// where that is given. `linux.seccomp` is used only with [`Seccomp::Spec`].
    pub oci: Spec,
    /// How the root file system is assembled, inside the container's own mount namespace.
    pub rootfs: Rootfs,
    /// A user to be looked up in the container's own `/etc/passwd` and `/etc/group`.
    pub identity: Option<Identity>,
    /// Which system call filter applies.
    pub seccomp: Seccomp,
    /// Run [`INIT_PATH`] as process 1, which reaps and forwards signals.
    pub init: bool,
    /// Create the working directory, below the root and without following symlinks out of it, if it is missing.
    pub create_cwd: bool,
    /// Whose ids files on disk have, if the container has a user namespace.
    #[serde(default)]
    pub disk_ids: DiskIds,
}

/// Whose ids files on disk have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DiskIds {
    /// The host's, as OCI has it: somebody has given the root file system to the ids of the user namespace.
    #[default]
    Host,
    /// The container's: what root inside writes belongs to root on disk. The root is mapped; bind mounts are as far as
    /// their options say so (`idmap`, `ridmap`), but for file systems that the kernel alone fills, such as /proc.
    Mapped,
}

/// Where the init of `--init` containers is mounted, read-only.
pub const INIT_PATH: &str = "/sbin/docker-init";

/// How the root file system is assembled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Rootfs {
    /// A union of read-only layers under a private writable one.
    Overlay {
        /// Read-only directories, topmost first. Mounts below them do not show.
        lowers: Vec<PathBuf>,
        /// The private layer.
        upper: PathBuf,
        /// Overlayfs's scratch directory, on the same file system as `upper`.
        work: PathBuf,
        /// Nobody will want the upper layer after a crash: never wait for it to reach the disk. Otherwise the end of
        /// the container waits until the whole file system that holds `upper` is synchronized.
        #[serde(default)]
        volatile: bool,
    },
    /// Several unions and files put together: what becomes of a directory with mounts below it where it cannot be a layer,
    /// as in a user namespace.
    Parts {
        /// The union that is the root.
        base: Union,
        /// What is mounted on it, parents first.
        parts: Vec<Part>,
        /// As for [`Rootfs::Overlay`].
        volatile: bool,
    },
    /// A directory used as it is.
    Directory {
        /// Absolute path.
        path: PathBuf,
    },
}

/// A read-only layer under a private one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Union {
    /// The read-only directory.
    pub lower: PathBuf,
    /// The private layer.
    pub upper: PathBuf,
    /// Overlayfs's scratch directory, beside `upper`.
    pub work: PathBuf,
}

/// A part of a root file system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Part {
    /// A directory, with a private layer.
    Layer {
        /// Where it goes, below the root.
        place: PathBuf,
        /// It.
        union: Union,
    },
    /// A file of the host, read-only.
    File {
        /// Where it goes, below the root.
        place: PathBuf,
        /// The file.
        path: PathBuf,
    },
}

/// A user and groups by the names the container's own files give them.
///
/// Forms: `""`, `user`, `uid`, `user:group`, `uid:gid` and mixtures; a number is always a number, never looked up as a
/// name. Unknown names are an error; `HOME` is set from the entry unless the environment has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// `user[:group]`; empty is `0:0`.
    pub user: String,
    /// Further groups, names or numbers.
    pub groups: Vec<String>,
}

/// Which system call filter applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Seccomp {
    /// The built-in allow-list for the process's capabilities.
    Default,
    /// The same, with the calls of 32-bit programs.
    DefaultThirtyTwoBit,
    /// A shorter allow-list.
    Strict,
    /// Docker's allow-list.
    Docker,
    /// None.
    Unconfined,
    /// The profile in `oci.linux.seccomp`.
    Spec,
}

/// Standard streams of a process to be started.
#[derive(Debug)]
pub enum Stdio {
    /// Three descriptors, which the process gets as 0, 1, 2.
    Pipes {
        /// Standard input.
        stdin: OwnedFd,
        /// Standard output.
        stdout: OwnedFd,
        /// Standard error.
        stderr: OwnedFd,
    },
    /// A pseudo terminal of the container's own devpts; its other end comes back in [`Launched::terminal`].
    Terminal {
        /// Initial size.
        size: WindowSize,
    },
}

/// Size of a terminal in characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowSize {
    /// Lines.
    pub rows: u16,
    /// Columns.
    pub columns: u16,
}

/// A further process in a running container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecSpec {
    /// Program and arguments.
    pub args: Vec<String>,
    /// `NAME=value`, complete (the engine merges).
    pub env: Vec<String>,
    /// Absolute working directory; absent: the container's.
    pub cwd: Option<String>,
    /// Absent: the container's user.
    pub identity: Option<Identity>,
    /// All capabilities and no system call filter.
    pub privileged: bool,
}

/// Sockets of a container's own network namespace, made there by its first process: through them its network can be set up,
/// and questions about names answered, by somebody who never enters the namespace.
#[derive(Debug)]
pub struct NetworkSockets {
    /// `NETLINK_ROUTE`: its links, addresses and routes.
    pub route: OwnedFd,
    /// `NETLINK_NETFILTER`: its own rules.
    pub netfilter: OwnedFd,
    /// UDP, bound to some port of [`RESOLVER`].
    pub dns_udp: OwnedFd,
    /// TCP, listening at some port of [`RESOLVER`].
    pub dns_tcp: OwnedFd,
}

/// Where the resolver of a container is asked.
pub const RESOLVER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);

/// Who sets up the network of a container says this at the door once it is there, or an error.
///
/// The door is a `SOCK_SEQPACKET` socket of which the first process has the one end. It sends one packet with the
/// descriptors of [`NetworkSockets`], in the order of the fields, goes on with what does not need a network, and last of
/// all waits for one packet with the JSON of a [`Result`] of this.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkReady {
    /// Kernel parameters of interfaces, which only a process inside can set: path below /proc/sys, and value.
    #[serde(default)]
    pub sysctls: BTreeMap<String, String>,
}

/// A process that was started.
#[derive(Debug)]
pub struct Launched {
    /// Its id in the host's namespace.
    pub pid: i32,
    /// Becomes readable when it ends.
    pub pidfd: OwnedFd,
    /// The master end, if a terminal was asked for.
    pub terminal: Option<OwnedFd>,
    /// What was sent through the door, if there is one.
    pub network: Option<NetworkSockets>,
}

/// Starts containers.
pub trait Sandbox {
    /// Sets everything up and executes the program. When this returns, the program's `execve` has succeeded. Of a container
    /// with a network namespace of its own somebody may wait behind a `door` to set it up, see [`NetworkReady`].
    ///
    /// # Errors
    /// Names the step that failed; nothing is left behind. [`crate::ErrorKind::CommandNotFound`] and
    /// [`crate::ErrorKind::CommandNotExecutable`] when the program cannot be executed.
    fn launch(
        &self,
        spec: &SandboxSpec,
        stdio: Stdio,
        door: Option<OwnedFd>,
    ) -> Result<(Box<dyn Running>, Launched)>;

    /// Ends whatever is left of a container whose monitor is gone, and removes its cgroups. Idempotent.
    ///
    /// # Errors
    /// What could not be removed; everything else was.
    fn cleanup(&self, id: &ContainerId, cgroups_path: &str) -> Result<()>;
}

/// A container with live processes. Used by one thread.
pub trait Running {
    /// Starts a further process. When this returns, its `execve` has succeeded.
    ///
    /// # Errors
    /// As [`Sandbox::launch`].
    fn exec(&mut self, spec: &ExecSpec, stdio: Stdio) -> Result<Launched>;

    /// Sends a signal to the first process.
    ///
    /// # Errors
    /// The kernel's refusal; a process that has ended already is `Conflict`.
    fn signal(&self, signal: Signal) -> Result<()>;

    /// Gives back what only the launch needed and takes time to give back. To be called once nobody waits; not calling it is
    /// no more than a delay.
    fn settle(&mut self) {}

    /// Freezes every process; returns when all are frozen.
    ///
    /// # Errors
    /// The kernel's refusal; the container runs on.
    fn pause(&mut self) -> Result<()>;

    /// Thaws it.
    ///
    /// # Errors
    /// The kernel's refusal.
    fn resume(&mut self) -> Result<()>;

    /// Changes its limits; what `resources` does not name stays as it is. Gives what was asked for without effect, for
    /// people.
    ///
    /// # Errors
    /// A limit that cannot be enforced here, by name, and nothing was changed; the kernel's refusal.
    fn update(&mut self, resources: &LinuxResources) -> Result<Vec<String>>;

    /// What it uses now.
    ///
    /// # Errors
    /// Only if no figure at all could be read; a missing controller leaves its figures absent.
    fn stats(&self) -> Result<Stats>;

    /// Ids of its processes in the host's namespace.
    ///
    /// # Errors
    /// The kernel's refusal.
    fn processes(&self) -> Result<Vec<i32>>;

    /// A descriptor that becomes readable when the kernel may have killed for lack of memory, if there is one.
    fn oom_fd(&self) -> Option<BorrowedFd<'_>>;

    /// Whether the kernel has killed a process of it for lack of memory; also resets [`Running::oom_fd`].
    fn oom_killed(&mut self) -> bool;

    /// Kills what is left and removes its cgroups.
    ///
    /// # Errors
    /// Everything that could not be removed, in one message.
    fn destroy(&mut self) -> Result<()>;
}

/// What a container uses, as its cgroups tell. Absent: the controller is not there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Stats {
    /// CPU.
    pub cpu: Option<CpuStats>,
    /// Memory.
    pub memory: Option<MemoryStats>,
    /// Processes and threads now, and their limit.
    pub pids: Option<PidsStats>,
    /// Block I/O, one entry per device and operation.
    pub block_io: Vec<BlockIo>,
    /// Network interfaces.
    pub networks: BTreeMap<String, InterfaceStats>,
}

/// CPU time in nanoseconds since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CpuStats {
    /// All time.
    pub usage: u64,
    /// In user mode.
    pub user: u64,
    /// In the kernel.
    pub system: u64,
    /// By CPU (cgroup v1 only).
    pub per_cpu: Vec<u64>,
    /// Periods in which the quota applied.
    pub periods: u64,
    /// Periods in which it was exhausted.
    pub throttled_periods: u64,
    /// Time waited because of it.
    pub throttled_time: u64,
}

/// Memory in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MemoryStats {
    /// Charged now, page cache included.
    pub usage: u64,
    /// The most there ever was (0 where the kernel does not tell).
    pub max_usage: u64,
    /// Limit; absent: none.
    pub limit: Option<u64>,
    /// How often the limit was hit.
    pub failures: u64,
    /// `memory.stat`, as the kernel names the figures.
    pub detail: BTreeMap<String, u64>,
}

/// Processes and threads.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PidsStats {
    /// Now.
    pub current: u64,
    /// Limit; absent: none.
    pub limit: Option<u64>,
}

/// Bytes moved by one device in one direction.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BlockIo {
    /// Device number.
    pub major: u64,
    /// Device number.
    pub minor: u64,
    /// `read` or `write`.
    pub operation: String,
    /// Bytes.
    pub bytes: u64,
}

/// One network interface, as /proc/PID/net/dev counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct InterfaceStats {
    /// Received bytes.
    pub rx_bytes: u64,
    /// Received packets.
    pub rx_packets: u64,
    /// Receive errors.
    pub rx_errors: u64,
    /// Dropped on receipt.
    pub rx_dropped: u64,
    /// Sent bytes.
    pub tx_bytes: u64,
    /// Sent packets.
    pub tx_packets: u64,
    /// Send errors.
    pub tx_errors: u64,
    /// Dropped on sending.
    pub tx_dropped: u64,
}

impl NetworkSockets {
    /// Those that came in the order of the fields, if they are as many.
    pub fn from_descriptors(descriptors: Vec<OwnedFd>) -> Option<Self> {
        let [route, netfilter, dns_udp, dns_tcp] = <[OwnedFd; 4]>::try_from(descriptors).ok()?;
        Some(Self { route, netfilter, dns_udp, dns_tcp })
    }

    /// In the order of the fields.
    pub fn descriptors(&self) -> [BorrowedFd<'_>; 4] {
        [&self.route, &self.netfilter, &self.dns_udp, &self.dns_tcp].map(AsFd::as_fd)
    }
}
