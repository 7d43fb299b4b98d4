//! The kernel, typed: the only room with unsafe code. File descriptors, processes, mounts, netlink, BPF; no policy.

pub mod bpf;
pub mod capability;
pub mod child;
pub mod dir;
pub mod fork;
pub mod probe;
pub mod seccomp;
