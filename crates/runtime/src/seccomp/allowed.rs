//! The table of the filters: which calls are allowed, by subject, and which come with a capability; then what Docker's and
//! the strict filter leave out of it.
//!
//! A name that an architecture lacks is passed over there. What is *not* here is refused; the last comment says why for
//! each group of it.

use tare_model::capability::Capability as Cap;

/// Allowed in every container, by subject.
pub(super) const ALWAYS: &[&[&str]] = &[
    FILES, MORE_FILES, ATTRIBUTES, DIRECTORIES, STATUS, PIPES_AND_POLLING, MEMORY, PROCESSES, IDENTITY, LIMITS, SIGNALS, TIME, TIMERS,
    SOCKETS, IPC, ASYNC_IO, SANDBOXING, MACHINE, TRACING, OLD_FORMS, ARM, RISCV,
];

/// Old i386 forms that Docker's list has forgotten.
pub(super) const NOT_DOCKER: &[&str] = &["nice", "sigaction", "signal", "sigpending", "sigsuspend"];

/// What the strict filter refuses beyond the default one.
pub(super) const NOT_STRICT: &[&str] = &[
    // Into other processes: debuggers, and whoever has taken over one process of several.
    "process_mrelease", "process_vm_readv", "process_vm_writev", "ptrace",
    // Pages of files moved by reference: what Dirty Pipe and Copy Fail wrote with. Programs copy instead.
    "splice", "tee", "vmsplice",
    // Files by handle, watches on whole mounts: nothing without a capability that strict containers lack.
    "fanotify_mark", "name_to_handle_at",
    // Message queues of the kernel: services have sockets.
    "mq_getsetattr", "mq_notify", "mq_open", "mq_timedreceive", "mq_timedreceive_time64", "mq_timedsend",
    "mq_timedsend_time64", "mq_unlink",
    // The machine's clock, which a container could only read.
    "adjtimex", "clock_adjtime", "clock_adjtime64",
    // Memory that even the kernel cannot look into, and oddities that nothing but Wine and old emulators use.
    "memfd_secret", "modify_ldt", "remap_file_pages",
    // Never implemented.
    "epoll_ctl_old", "epoll_wait_old",
    // With rules of their own, on their arguments.
    "ioctl", "mknod", "mknodat",
];

/// Allowed with any one of the capabilities: the kernel asks for the capability itself, the filter only shuts the door
/// earlier for containers that lack it.
pub(super) const BY_CAPABILITY: &[(&[Cap], &[&str])] = &[
    (&[Cap::DAC_READ_SEARCH], &["name_to_handle_at", "open_by_handle_at"]),
    (&[Cap::MKNOD], &["mknod", "mknodat"]),
    (
        &[Cap::SYS_ADMIN],
        &[
            "bpf", "clone", "clone3", "fanotify_init", "fanotify_mark", "fsconfig", "fsmount", "fsopen", "fspick", "lookup_dcookie",
            "mount", "mount_setattr", "move_mount", "open_tree", "open_tree_attr", "perf_event_open", "quotactl",
            "quotactl_fd", "setdomainname", "sethostname", "setns", "syslog", "umount", "umount2", "unshare",
        ],
    ),
    (&[Cap::SYS_BOOT], &["reboot"]),
    (&[Cap::SYS_CHROOT], &["chroot"]),
    (&[Cap::SYS_MODULE], &["delete_module", "finit_module", "init_module"]),
    (&[Cap::SYS_PACCT], &["acct"]),
    (
        &[Cap::SYS_PTRACE],
        &["kcmp", "pidfd_getfd", "process_madvise", "process_vm_readv", "process_vm_writev", "ptrace"],
    ),
    (&[Cap::SYS_RAWIO], &["ioperm", "iopl"]),
    (
        &[Cap::SYS_TIME],
        &[
            "adjtimex", "clock_adjtime", "clock_adjtime64", "clock_settime", "clock_settime64", "settimeofday",
            "stime",
        ],
    ),
    (&[Cap::SYS_TTY_CONFIG], &["vhangup"]),
    (&[Cap::SYS_NICE], &["get_mempolicy", "mbind", "set_mempolicy", "set_mempolicy_home_node"]),
    (&[Cap::SYSLOG], &["syslog"]),
    (&[Cap::BPF], &["bpf"]),
    (&[Cap::PERFMON], &["perf_event_open"]),
];

/// i386's way to every socket call at once; its arguments are behind a pointer.
pub(super) const PACKED_SOCKETS: &[&str] = &["socketcall"];


const FILES: &[&str] = &[
    "_llseek", "close", "close_range", "copy_file_range", "creat", "dup", "dup2", "dup3", "fadvise64",
    "fadvise64_64", "fallocate", "fcntl", "fcntl64", "fdatasync", "flock", "fsync", "ftruncate", "ftruncate64",
    "ioctl", "lseek", "open", "openat", "openat2", "pread64", "preadv", "preadv2", "pwrite64", "pwritev", "pwritev2",
    "read", "readahead", "readv", "sendfile", "sendfile64", "splice", "sync", "sync_file_range", "syncfs", "tee",
    "truncate", "truncate64", "vmsplice", "write", "writev",
];

const MORE_FILES: &[&str] = &[
    "chmod", "chown", "chown32", "fchmod", "fchmodat", "fchmodat2", "fchown", "fchown32", "fchownat", "futimesat",
    "lchown", "lchown32", "link", "linkat", "mknod", "mknodat", "readlink", "readlinkat", "rename", "renameat",
    "renameat2", "symlink", "symlinkat", "umask", "unlink", "unlinkat", "utime", "utimensat", "utimensat_time64",
    "utimes",
];

const ATTRIBUTES: &[&str] = &[
    "fgetxattr", "flistxattr", "fremovexattr", "fsetxattr", "getxattr", "getxattrat", "lgetxattr", "listxattr",
    "listxattrat", "llistxattr", "lremovexattr", "lsetxattr", "removexattr", "removexattrat", "setxattr",
    "setxattrat",
];

/// `name_to_handle_at` tells nothing without `open_by_handle_at`, which needs a capability.
const DIRECTORIES: &[&str] = &[
    "chdir", "fanotify_mark", "fchdir", "getcwd", "getdents", "getdents64", "inotify_add_watch", "inotify_init",
    "inotify_init1", "inotify_rm_watch", "mkdir", "mkdirat", "name_to_handle_at", "rmdir",
];

const STATUS: &[&str] = &[
    "access", "faccessat", "faccessat2", "fstat", "fstat64", "fstatat64", "fstatfs", "fstatfs64", "listmount",
    "lstat", "lstat64", "newfstatat", "stat", "stat64", "statfs", "statfs64", "statmount", "statx",
];

const PIPES_AND_POLLING: &[&str] = &[
    "_newselect", "epoll_create", "epoll_create1", "epoll_ctl", "epoll_ctl_old", "epoll_pwait", "epoll_pwait2",
    "epoll_wait", "epoll_wait_old", "eventfd", "eventfd2", "pipe", "pipe2", "poll", "ppoll", "ppoll_time64",
    "pselect6", "pselect6_time64", "select",
];

const MEMORY: &[&str] = &[
    "brk", "cachestat", "madvise", "map_shadow_stack", "membarrier", "memfd_create", "memfd_secret", "mincore",
    "mlock", "mlock2", "mlockall", "mmap", "mmap2", "mprotect", "mremap", "mseal", "msync", "munlock", "munlockall",
    "munmap", "pkey_alloc", "pkey_free", "pkey_mprotect", "process_mrelease", "remap_file_pages",
];

/// `clone` and `clone3` have rules of their own: no namespaces without SYS_ADMIN.
const PROCESSES: &[&str] = &[
    "arch_prctl", "execve", "execveat", "exit", "exit_group", "fork", "futex", "futex_requeue", "futex_time64",
    "futex_wait", "futex_waitv", "futex_wake", "get_robust_list", "get_thread_area", "getpgid", "getpgrp", "getpid",
    "getppid", "getsid", "gettid", "modify_ldt", "pidfd_open", "prctl", "restart_syscall", "rseq",
    "sched_get_priority_max", "sched_get_priority_min", "sched_getaffinity", "sched_getattr", "sched_getparam",
    "sched_getscheduler", "sched_rr_get_interval", "sched_rr_get_interval_time64", "sched_setaffinity",
    "sched_setattr", "sched_setparam", "sched_setscheduler", "sched_yield", "set_robust_list", "set_thread_area",
    "set_tid_address", "setpgid", "setsid", "vfork", "wait4", "waitid", "waitpid",
];

const IDENTITY: &[&str] = &[
    "capget", "capset", "getegid", "getegid32", "geteuid", "geteuid32", "getgid", "getgid32", "getgroups",
    "getgroups32", "getresgid", "getresgid32", "getresuid", "getresuid32", "getuid", "getuid32", "setfsgid",
    "setfsgid32", "setfsuid", "setfsuid32", "setgid", "setgid32", "setgroups", "setgroups32", "setregid",
    "setregid32", "setresgid", "setresgid32", "setresuid", "setresuid32", "setreuid", "setreuid32", "setuid",
    "setuid32",
];

const LIMITS: &[&str] = &[
    "getpriority", "getrlimit", "getrusage", "ioprio_get", "ioprio_set", "nice", "prlimit64", "setpriority",
    "setrlimit", "ugetrlimit",
];

const SIGNALS: &[&str] = &[
    "kill", "pause", "pidfd_send_signal", "rt_sigaction", "rt_sigpending", "rt_sigprocmask", "rt_sigqueueinfo",
    "rt_sigreturn", "rt_sigsuspend", "rt_sigtimedwait", "rt_sigtimedwait_time64", "rt_tgsigqueueinfo", "sigaltstack",
    "signalfd", "signalfd4", "tgkill", "tkill",
];

/// Reading clocks; `adjtimex` and `clock_adjtime` only read without SYS_TIME, says the kernel.
const TIME: &[&str] = &[
    "adjtimex", "clock_adjtime", "clock_adjtime64", "clock_getres", "clock_getres_time64", "clock_gettime",
    "clock_gettime64", "clock_nanosleep", "clock_nanosleep_time64", "gettimeofday", "nanosleep", "time", "times",
];

const TIMERS: &[&str] = &[
    "alarm", "getitimer", "setitimer", "timer_create", "timer_delete", "timer_getoverrun", "timer_gettime",
    "timer_gettime64", "timer_settime", "timer_settime64", "timerfd_create", "timerfd_gettime", "timerfd_gettime64",
    "timerfd_settime", "timerfd_settime64",
];

/// `socket` and `socketpair` have rules of their own: families by equality.
const SOCKETS: &[&str] = &[
    "accept", "accept4", "bind", "connect", "getpeername", "getsockname", "getsockopt", "listen", "recvfrom",
    "recv", "recvmmsg", "recvmmsg_time64", "recvmsg", "send", "sendmmsg", "sendmsg", "sendto", "setsockopt", "shutdown",
];

const IPC: &[&str] = &[
    "ipc", "mq_getsetattr", "mq_notify", "mq_open", "mq_timedreceive", "mq_timedreceive_time64", "mq_timedsend",
    "mq_timedsend_time64", "mq_unlink", "msgctl", "msgget", "msgrcv", "msgsnd", "semctl", "semget", "semop",
    "semtimedop", "semtimedop_time64", "shmat", "shmctl", "shmdt", "shmget",
];

/// The old interface; io_uring is not here, see below.
const ASYNC_IO: &[&str] = &[
    "io_cancel", "io_destroy", "io_getevents", "io_pgetevents", "io_pgetevents_time64", "io_setup", "io_submit",
];

/// A container may restrict itself further.
const SANDBOXING: &[&str] =
    &["landlock_add_rule", "landlock_create_ruleset", "landlock_restrict_self", "seccomp"];

const MACHINE: &[&str] = &["getcpu", "getrandom", "sysinfo", "uname"];

/// Debuggers of one's own processes; safe since the kernel checks filters again after a tracer changed a call (4.8).
const TRACING: &[&str] = &["process_vm_readv", "process_vm_writev", "ptrace", "uretprobe"];

/// i386 only: what today's calls replaced, with the same rights.
const OLD_FORMS: &[&str] = &["sigaction", "signal", "sigpending", "sigprocmask", "sigreturn", "sigsuspend"];

/// ARM only: calls with a number of their own, and the processor's own matters that are calls there.
const ARM: &[&str] = &["arm_fadvise64_64", "breakpoint", "cacheflush", "set_tls", "sync_file_range2"];

/// RISC-V only: what instructions there are, and making new code visible.
const RISCV: &[&str] = &["riscv_flush_icache", "riscv_hwprobe"];

// Not here, and why:
// - io_uring_*: does other calls' work past every filter, and had the most exploited bugs of recent kernels.
// - add_key, keyctl, request_key: keyrings know no container.
// - userfaultfd, kcmp, pidfd_getfd, process_madvise: tools of kernel exploits or of reaching into other processes.
// - kexec_*, swapon, swapoff, reboot, *_module, acct, quotactl*, settimeofday: the machine's, not the container's.
// - mount family, pivot_root, unshare, setns, set*name: the container's walls; with SYS_ADMIN they come back.
// - mbind, migrate_pages, move_pages, *mempolicy*: placement of memory on nodes is the host's.
// - perf_event_open, bpf, lookup_dcookie, uprobe: see into the kernel.
// - file_getattr, file_setattr, lsm_*, listns, rseq_slice_yield: newer than what images need; they fall back.
// - create_module, nfsservctl, sysfs, uselib, ustat, vm86, _sysctl and other relics: code that nobody watches.
