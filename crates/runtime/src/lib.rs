//! OCI runtime core: plan, then apply: namespaces, cgroups, mounts, seccomp, capabilities.

#![allow(dead_code)] // the half that applies plans follows

pub mod cgroup;
pub mod error;
pub mod identity;
pub mod mount;
pub mod plan;
pub mod seccomp;

pub use error::{Error, Result};
