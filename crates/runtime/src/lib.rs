//! OCI runtime core: plan, then apply: namespaces, cgroups, mounts, seccomp, capabilities.

pub mod cgroup;
pub mod seccomp;
