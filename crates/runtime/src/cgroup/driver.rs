//! Who makes a container's groups.

use std::path::Path;
use std::sync::Arc;

use oci_spec::runtime::LinuxResources;

use super::error::{Error, Result};
use super::systemd::{ScopeName, Systemd};
use super::{Cgroup, Layout};

/// Who makes a container's groups, and how a document names them.
#[derive(Clone, Debug, Default)]
pub enum Driver {
    /// We do; `/parent/name`.
    #[default]
    Cgroupfs,
    /// systemd, as a transient scope; `slice:prefix:name`.
    Systemd(Systemd),
}

impl Driver {
    /// Makes the groups of a document's `cgroupsPath` and sets the limits.
    ///
    /// # Errors
    /// The path is none of this driver's; else as [`Cgroup::create`] and [`Cgroup::create_scope`].
    pub fn create(&self, layout: &Arc<Layout>, path: &Path, resources: &LinuxResources) -> Result<Cgroup> {
        match self {
            Self::Cgroupfs => Cgroup::create(layout, path, resources),
            Self::Systemd(systemd) => Cgroup::create_scope(layout, &scope(path)?, systemd, resources),
        }
    }

    /// The groups that are there under a document's `cgroupsPath`.
    ///
    /// # Errors
    /// As [`Cgroup::open`] and [`Cgroup::open_scope`].
    pub fn open(&self, layout: &Arc<Layout>, path: &Path) -> Result<Cgroup> {
        match self {
            Self::Cgroupfs => Cgroup::open(layout, path),
            Self::Systemd(systemd) => Cgroup::open_scope(layout, &scope(path)?, systemd),
        }
    }
}

fn scope(path: &Path) -> Result<ScopeName> {
    let text = path.to_str().ok_or_else(|| Error::Path {
        path: path.display().to_string(),
        why: "it has characters that no group name may have",
    })?;
    ScopeName::parse(text)
}
