//! What a container is asked to be: the durable configuration behind `create`, parsed once at the edge.
//!
//! Faces (Docker API, later CRI) translate their wire types into these; the engine derives the OCI specification from
//! them. Nothing in here comes from an image: image bytes and image configuration are written by an attacker, and only
//! the fields the Docker image format defines (command, environment, user, volumes, …) are merged, by the engine.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::network::{EndpointConfig, PortBinding};
use crate::shaping::Shaping;
use crate::signal::Signal;

/// Everything `create` was asked for. Absent options mean "the image's, or the engine's default".
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerConfig {
    /// The image as the user wrote it (a reference, an id, `host`, `host:full`), or a plain directory.
    pub image: ImageSource,
    /// What to execute, and how.
    pub process: ProcessConfig,
    /// UTS host name; empty means the first twelve digits of the id.
    pub hostname: String,
    /// UTS domain name (NIS), empty for none.
    pub domainname: String,
    /// Labels; never interpreted by the engine.
    pub labels: BTreeMap<String, String>,
    /// Annotations, passed through to the OCI specification and never interpreted.
    pub annotations: BTreeMap<String, String>,
    /// The signal `stop` sends; absent: the image's, then SIGTERM.
    pub stop_signal: Option<Signal>,
    /// Seconds `stop` waits before SIGKILL; absent: 10.
    pub stop_timeout: Option<i32>,
    /// The image's health check is not wanted.
    pub no_healthcheck: bool,
    /// Container paths that get an anonymous volume (besides the image's `VOLUME`s).
    pub volumes: BTreeSet<String>,
    /// Ports the image documents, `80/tcp`; informative.
    pub exposed_ports: BTreeSet<String>,
    /// Limits.
    pub resources: Resources,
    /// What confines the processes.
    pub security: Security,
    /// Which namespaces are private.
    pub namespaces: Namespaces,
    /// Networks and ports.
    pub networking: Networking,
    /// Bind mounts and tmpfs, in the order given.
    pub mounts: Vec<MountConfig>,
    /// Device nodes of the host to make visible.
    pub devices: Vec<DeviceConfig>,
    /// Resource limits of the first process, by name without `RLIMIT_`, lower case: `nofile`.
    pub ulimits: Vec<Ulimit>,
    /// Kernel parameters of the container's own namespaces.
    pub sysctls: BTreeMap<String, String>,
    /// Size of `/dev/shm` in bytes; absent: 64 MiB.
    pub shm_size: Option<u64>,
    /// Mount the root file system read-only.
    pub readonly_rootfs: bool,
    /// Additional groups, names or numbers, resolved in the container.
    pub group_add: Vec<String>,
    /// Run an init that reaps and forwards signals as process 1.
    pub init: bool,
    /// Remove the container, and its anonymous volumes, when it exits.
    pub auto_remove: bool,
    /// Where output goes.
    pub log: LogConfig,
    /// Added lines of `/etc/hosts`, `name:address`.
    pub extra_hosts: Vec<String>,
    /// Name servers, search domains and options for `/etc/resolv.conf`; empty: the host's.
    pub dns: DnsConfig,
    /// Other settings a face must give back unchanged (it owns their meaning), by its own name.
    pub face: BTreeMap<String, serde_json::Value>,
}

/// Where the root file system comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum ImageSource {
    /// An image by reference or id, or the built-in `host` and `host:full`.
    Image {
        /// As the user wrote it.
        name: String,
    },
    /// A directory of the host: read-only under a private upper layer, or written directly.
    Directory {
        /// Absolute path.
        path: String,
        /// Write to the directory itself.
        writable: bool,
    },
}

/// The process to execute.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProcessConfig {
    /// Absent: the image's; present and empty: none.
    pub entrypoint: Option<Vec<String>>,
    /// Absent: the image's (unless `entrypoint` is given).
    pub cmd: Option<Vec<String>>,
    /// `NAME=value`, later ones win; merged over the image's. `NAME` alone removes it.
    pub env: Vec<String>,
    /// Absolute working directory; empty: the image's, then `/`.
    pub working_dir: String,
    /// `user`, `uid`, `user:group`, … resolved in the container; empty: the image's.
    pub user: String,
    /// Give the process a terminal.
    pub tty: bool,
    /// Initial terminal size: rows and columns.
    pub console_size: Option<(u16, u16)>,
    /// Keep standard input open.
    pub open_stdin: bool,
    /// Close standard input once the first attached client is gone.
    pub stdin_once: bool,
    /// Which streams the creating client said it would attach (informative).
    pub attach: AttachedStreams,
}

/// A choice of standard streams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachedStreams {
    /// Standard input.
    pub stdin: bool,
    /// Standard output.
    pub stdout: bool,
    /// Standard error.
    pub stderr: bool,
}

/// Limits; absent means unlimited or the kernel's default. Units are bytes unless a field says otherwise.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// Memory limit.
    pub memory: Option<u64>,
    /// Soft memory limit.
    pub memory_reservation: Option<u64>,
    /// Memory plus swap; -1 unlimited.
    pub memory_swap: Option<i64>,
    /// Tendency to swap, 0 to 100.
    pub memory_swappiness: Option<u64>,
    /// Do not kill on memory exhaustion (cgroup v1 only).
    pub oom_kill_disable: bool,
    /// CPUs in billionths: 1.5 CPUs are 1_500_000_000.
    pub nano_cpus: Option<u64>,
    /// Relative weight, 2 to 262144, default 1024.
    pub cpu_shares: Option<u64>,
    /// CFS period in microseconds.
    pub cpu_period: Option<u64>,
    /// CFS quota in microseconds per period; -1 unlimited.
    pub cpu_quota: Option<i64>,
    /// CPUs to run on, `0-2,4`.
    pub cpuset_cpus: String,
    /// Memory nodes to allocate from.
    pub cpuset_mems: String,
    /// Processes and threads; absent: the engine's default; -1: unlimited.
    pub pids_limit: Option<i64>,
    /// Relative block I/O weight, 10 to 1000.
    pub blkio_weight: Option<u16>,
    /// Relative block I/O weight of single devices.
    pub blkio_weight_device: Vec<DeviceWeight>,
    /// Most bytes a second read from single devices.
    pub device_read_bps: Vec<DeviceRate>,
    /// Most bytes a second written to single devices.
    pub device_write_bps: Vec<DeviceRate>,
    /// Most reads a second from single devices.
    pub device_read_iops: Vec<DeviceRate>,
    /// Most writes a second to single devices.
    pub device_write_iops: Vec<DeviceRate>,
    /// Real-time period in microseconds (cgroup v1 only).
    pub cpu_rt_period: Option<u64>,
    /// Real-time runtime in microseconds per period (cgroup v1 only).
    pub cpu_rt_runtime: Option<i64>,
    /// Asked for by old clients; Linux has no such limit any more.
    pub kernel_memory: Option<u64>,
    /// Rules about devices beside those that are named, as `c 42:* rwm`.
    pub device_rules: Vec<String>,
    /// Parent cgroup; empty: the engine's.
    pub cgroup_parent: String,
    /// `oom_score_adj` of the first process, -1000 to 1000.
    pub oom_score_adj: i32,
}

/// A block device's share of its time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceWeight {
    /// The device's path on the host.
    pub path: String,
    /// 10 to 1000.
    pub weight: u16,
}

/// How much of a block device may be used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRate {
    /// The device's path on the host.
    pub path: String,
    /// Each second; 0: unlimited.
    pub rate: u64,
}

/// What confines the processes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Security {
    /// All capabilities and devices, no seccomp, nothing masked or read-only.
    pub privileged: bool,
    /// Capabilities to add to the default set, `ALL` or canonical `CAP_*` names.
    pub cap_add: Vec<String>,
    /// Capabilities to take away, `ALL` or canonical `CAP_*` names.
    pub cap_drop: Vec<String>,
    /// What the container starts from, before the options above and below change it.
    pub profile: Profile,
    /// System call filter.
    pub seccomp: SeccompChoice,
    /// Set `no_new_privs`.
    pub no_new_privileges: bool,
    /// The AppArmor profile that confines the processes (`apparmor=NAME`); none: whatever confines the monitor.
    pub apparmor: Option<String>,
    /// SELinux labels of processes and files (`label=…`).
    pub label: LabelChoice,
    /// Nothing masked or read-only below /proc and /sys (`systempaths=unconfined`).
    pub unmasked_paths: bool,
    /// As given by the user, for inspection.
    pub raw_options: Vec<String>,
}

/// Which SELinux labels a container has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum LabelChoice {
    /// The machine's own for containers, where its policy knows any.
    #[default]
    Default,
    /// None (`label=disable`).
    Disabled,
    /// The machine's own for containers, with these parts in place of theirs.
    Changed(LabelParts),
}

/// Parts of SELinux labels; an empty one is the machine's own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LabelParts {
    /// SELinux's user, of processes and files.
    pub user: String,
    /// The role of processes.
    pub role: String,
    /// The type (domain) of processes.
    pub domain: String,
    /// Sensitivity and categories, of processes and files.
    pub level: String,
    /// The type of files.
    pub file_type: String,
}

/// A set of defaults: capabilities, system call filter, `no_new_privs` (`profile=NAME`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Profile {
    /// Docker's fourteen capabilities and a filter that is stricter than Docker's where images do not notice.
    #[default]
    Default,
    /// Nine capabilities, `no_new_privs`, a shorter list of system calls.
    Strict,
    /// Docker's fourteen capabilities and Docker's filter.
    Docker,
}

/// Which system call filter applies.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum SeccompChoice {
    /// The built-in allow-list of the [`Profile`].
    #[default]
    Default,
    /// No filter.
    Unconfined,
    /// A profile in Docker's JSON form.
    Profile {
        /// The JSON text.
        json: String,
    },
}

/// Which namespaces are the container's own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Namespaces {
    /// Network, as asked for.
    pub network: NetworkMode,
    /// Processes.
    pub pid: NamespaceMode,
    /// System V IPC, POSIX queues and /dev/shm.
    pub ipc: IpcMode,
    /// Host name.
    pub uts: HostOrPrivate,
    /// Cgroup view.
    pub cgroup: HostOrPrivate,
    /// User and group ids. The container's own, unless something else that is asked for needs the host's.
    pub user: HostOrPrivate,
}

/// Network of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum NetworkMode {
    /// The engine's default network. Until there are networks: loopback only, and `run` says so.
    #[default]
    Default,
    /// Docker's name for the default network.
    Bridge,
    /// Loopback only.
    None,
    /// The host's.
    Host,
    /// That of another container.
    Container {
        /// Name or id.
        container: String,
    },
    /// A network by name or id.
    Network {
        /// Name or id.
        network: String,
    },
}

/// Networks and ports of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Networking {
    /// How it is to be on each network, by name or id as the user wrote it; the network of [`NetworkMode`] need not be among
    /// them.
    pub endpoints: BTreeMap<String, EndpointConfig>,
    /// Ports to publish.
    pub ports: Vec<PortBinding>,
    /// Publish every exposed port as well, on any free one of the host's.
    pub publish_all: bool,
    /// How fast it may be on each of its networks.
    pub shaping: Shaping,
}

/// A namespace that another container may lend.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum NamespaceMode {
    /// The container's own.
    #[default]
    Private,
    /// The host's.
    Host,
    /// That of another running container.
    Container {
        /// Name or id.
        container: String,
    },
}

/// IPC namespace and /dev/shm.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum IpcMode {
    /// Own namespace, not to be shared.
    #[default]
    Private,
    /// Own namespace that others may join.
    Shareable,
    /// Own namespace without /dev/shm.
    None,
    /// The host's.
    Host,
    /// That of another running container.
    Container {
        /// Name or id.
        container: String,
    },
}

/// Own or the host's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HostOrPrivate {
    /// The container's own.
    #[default]
    Private,
    /// The host's.
    Host,
}

/// A mount the user asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountConfig {
    /// Absolute path in the container.
    pub target: String,
    /// What is mounted there.
    pub source: MountSource,
    /// Read-only.
    pub readonly: bool,
    /// Asked for by `-v` (a missing host directory is created, as Docker does) and not by `--mount`.
    pub create_source: bool,
}

/// Which SELinux label the files of a bind mount are given; without SELinux none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Relabel {
    /// They keep theirs.
    #[default]
    No,
    /// One that every container may use (`z`).
    Shared,
    /// The container's own (`Z`).
    Private,
}

/// What a mount shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum MountSource {
    /// A file or directory of the host.
    Bind {
        /// Absolute host path.
        path: String,
        /// `private`, `rprivate`, `shared`, `rshared`, `slave`, `rslave`; empty: `rprivate`.
        propagation: String,
        /// Submounts too (the default).
        recursive: bool,
        /// With `readonly`: leave submounts writable (Docker's behaviour before 25).
        readonly_non_recursive: bool,
        /// Whose its files become, in the eyes of SELinux.
        #[serde(default)]
        relabel: Relabel,
    },
    /// Memory.
    Tmpfs {
        /// Bytes; absent: half the machine's memory, the kernel's default.
        size: Option<u64>,
        /// Octal mode; absent: 1777.
        mode: Option<u32>,
        /// Mount options besides size and mode, as Docker's `--tmpfs` takes them.
        options: Vec<String>,
    },
    /// An anonymous volume of the engine.
    Volume {
        /// Its id; absent until the engine makes it.
        id: Option<crate::id::VolumeId>,
        /// Do not copy the image's content into it.
        no_copy: bool,
    },
}

/// A device of the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceConfig {
    /// Path on the host.
    pub host_path: String,
    /// Path in the container.
    pub container_path: String,
    /// Any of `r`, `w`, `m`.
    pub permissions: String,
}

/// One resource limit (getrlimit(2)); -1 is unlimited.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ulimit {
    /// Lower case without `RLIMIT_`: `nofile`.
    pub name: String,
    /// Soft limit.
    pub soft: i64,
    /// Hard limit.
    pub hard: i64,
}

/// Where output goes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogConfig {
    /// Driver.
    pub driver: LogDriver,
    /// Rotate when a file reaches this many bytes; absent: the driver's default (20 MiB); 0: never.
    pub max_size: Option<u64>,
    /// Files kept, the current one included; absent: 5.
    pub max_files: Option<u32>,
    /// Options as the user gave them, for inspection.
    pub raw_options: BTreeMap<String, String>,
}

/// Log drivers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogDriver {
    /// Framed binary files with rotation.
    #[default]
    Local,
    /// Docker's JSON lines.
    JsonFile,
    /// Nothing is kept.
    None,
}

/// Name resolution settings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DnsConfig {
    /// Name servers.
    pub servers: Vec<String>,
    /// Search domains.
    pub search: Vec<String>,
    /// resolv.conf(5) options.
    pub options: Vec<String>,
}

impl Default for ImageSource {
    fn default() -> Self {
        Self::Image { name: String::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_survives_the_database() {
        let mut config = ContainerConfig { shm_size: Some(1), ..Default::default() };
        config.security.seccomp = SeccompChoice::Profile { json: "{}".into() };
        config.namespaces.pid = NamespaceMode::Container { container: "web".into() };
        config.mounts.push(MountConfig {
            target: "/data".into(),
            source: MountSource::Volume { id: None, no_copy: false },
            readonly: false,
            create_source: false,
        });
        let text = serde_json::to_string(&config).expect("serializes");
        assert_eq!(serde_json::from_str::<ContainerConfig>(&text).expect("parses"), config);
    }

    #[test]
    fn a_record_of_an_older_version_still_reads() {
        let config: ContainerConfig = serde_json::from_str("{}").expect("every field has a default");
        assert_eq!(config, ContainerConfig::default());
    }
}
