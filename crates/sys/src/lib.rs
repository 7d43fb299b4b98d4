//! The kernel, typed: the only room with unsafe code. File descriptors, processes, mounts, netlink, BPF; no policy.

pub mod bpf;
pub mod capability;
pub mod child;
pub mod dbus;
pub mod dir;
pub mod fd;
pub mod ids;
pub mod lookup;
pub mod loopback;
pub mod memory;
pub mod mount;
pub mod netlink;
mod newer;
pub mod nftables;
pub mod pidfd;
pub mod probe;
pub mod process;
pub mod program;
pub mod scheduling;
pub mod seccomp;
pub mod signal;
pub mod userns;
pub mod words;

/// Why the last call through `libc` failed.
fn last_errno() -> rustix::io::Errno {
    rustix::io::Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(rustix::io::Errno::IO)
}
