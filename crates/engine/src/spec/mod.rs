//! From configuration to specification: pure functions, tested by comparing documents.
//!
//! ```text
//!   ImageConfig ─┐ merge      ┌─ limits, security, sysctl (checks) ─┐
//!   ContainerConfig ─▶ MergedProcess, hostname ─▶ Input ─────────▶ plan ─▶ SandboxSpec
//!   HostFacts, paths, resolved mounts, devices and namespaces ──────┘
//! ```
//!
//! Invariants: nothing here does I/O; nothing of an image reaches a field other than those of [`merge`], so no image
//! can choose a security setting; everything Docker checks is checked here, with Docker's words where people know them.

pub(crate) mod defaults;
pub(crate) mod devices;
pub(crate) mod files;
pub(crate) mod host;
pub(crate) mod input;
pub(crate) mod limits;
pub(crate) mod merge;
pub(crate) mod mounts;
pub(crate) mod namespaces;
pub(crate) mod plan;
pub(crate) mod rootless;
pub(crate) mod seccomp;
pub(crate) mod security;
pub(crate) mod selinux;
pub(crate) mod sysctl;
pub(crate) mod tmpfs;
pub(crate) mod userns;

pub(crate) use host::HostFacts;
pub(crate) use input::{
    DeviceNode, GeneratedFiles, Input, ResolvedMount, ResolvedNamespaces, ResolvedSource,
};
pub(crate) use plan::plan;
