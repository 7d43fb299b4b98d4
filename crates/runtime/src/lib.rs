//! OCI runtime core: plan, then apply: namespaces, cgroups, mounts, seccomp, capabilities.
