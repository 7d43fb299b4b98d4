//! What every container gets: lists and constants, each Docker's unless a comment says otherwise.

/// Search path of programs when neither image nor user sets one.
pub(crate) const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Bytes of /dev/shm.
pub(crate) const SHM_SIZE: u64 = 64 << 20;

/// Processes and threads. Docker has no limit, so a fork bomb in any container takes the machine; this is far above what
/// services use, and `--pids-limit -1` is the way out.
pub(crate) const PIDS_LIMIT: i64 = 4096;

/// Smallest memory limit that a container can start with.
pub(crate) const MEMORY_MIN: u64 = 6 << 20;

/// CFS period that `--cpus` is a share of, microseconds.
pub(crate) const CPU_PERIOD: u64 = 100_000;

/// Open files, as services under systemd get: a soft limit that select(2) can live with.
pub(crate) const NOFILE_SOFT: u64 = 1024;
/// The most that a process may raise it to, if the engine's own limit allows.
pub(crate) const NOFILE_HARD: u64 = 524_288;

/// Hidden behind something empty, in every container that is not privileged.
pub const MASKED_PATHS: &[&str] = &[
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// Visible, not writable, in every container that is not privileged.
pub const READONLY_PATHS: &[&str] =
    &["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Mounts of the kernel's file systems: destination, type, source, options. `/dev/shm` is sized per container.
pub(crate) const MOUNTS: &[(&str, &str, &str, &[&str])] = &[
    ("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
    ("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
    (
        "/dev/pts",
        "devpts",
        "devpts",
        &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
    ),
    ("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
    ("/sys/fs/cgroup", "cgroup", "cgroup", &["ro", "nosuid", "noexec", "nodev"]),
    ("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
];

/// Devices that can be used: major, minor (absent: all), access. Nodes of any device may be made (`m`) but not opened.
/// Docker also lets /dev/net/tun be opened; here it takes `--device`.
pub(crate) const DEVICE_RULES: &[(char, Option<i64>, Option<i64>, &str)] = &[
    ('c', None, None, "m"),
    ('b', None, None, "m"),
    ('c', Some(1), Some(3), "rwm"), // null
    ('c', Some(1), Some(5), "rwm"), // zero
    ('c', Some(1), Some(7), "rwm"), // full
    ('c', Some(1), Some(8), "rwm"), // random
    ('c', Some(1), Some(9), "rwm"), // urandom
    ('c', Some(5), Some(0), "rwm"), // tty
    ('c', Some(5), Some(1), "rwm"), // console
    ('c', Some(5), Some(2), "rwm"), // ptmx
    ('c', Some(136), None, "rwm"),  // pseudo terminals
];

/// Sysctls of a network namespace of its own: services may bind low ports and ping without capabilities, and forward, as on
/// hosts of Docker. The kernel would take the host's value, which is 2 while the host forwards for containers only: programs
/// that look for 1 would not find it.
pub(crate) const NETWORK_SYSCTLS: &[(&str, &str)] =
    &[("net.ipv4.ip_unprivileged_port_start", "0"), ("net.ipv4.ip_forward", "1")];
/// Groups that may ping without a capability: all that the container has.
pub(crate) const PING_GROUPS: &str = "net.ipv4.ping_group_range";

/// Addresses every hosts file has.
pub(crate) const HOSTS: &[(&str, &str)] = &[
    ("127.0.0.1", "localhost"),
    ("::1", "localhost ip6-localhost ip6-loopback"),
    ("fe00::", "ip6-localnet"),
    ("ff00::", "ip6-mcastprefix"),
    ("ff02::1", "ip6-allnodes"),
    ("ff02::2", "ip6-allrouters"),
];
