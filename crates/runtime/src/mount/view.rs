//! The container's own cgroups, mounted read-only where programs look for them.
//!
//! Binding the group's directories is as good as mounting the hierarchies anew (inside the cgroup namespace both show
//! the same) and needs a third of the calls.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{Mode, mkdirat, symlinkat};
use tare_sys::mount::{Attributes, Change, attach};

use crate::error::{Call, Result};
use crate::mount::options::Datum;
use crate::mount::source;

/// One hierarchy as the container sees it.
#[derive(Debug)]
pub(crate) struct Hierarchy {
    /// Name of its directory: `memory`, `cpu,cpuacct`, `systemd`, `unified`; empty if it is the whole tree (v2).
    pub(crate) name: String,
    /// The container's own group in it, as the host shows it.
    pub(crate) group: PathBuf,
}

/// A prepared view, and what has to be put into it once it is attached.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) top: OwnedFd,
    inner: Vec<(String, OwnedFd)>,
}

// === impl View ===

impl View {
    /// Prepares the view of these hierarchies.
    pub(crate) fn prepare(hierarchies: &[Hierarchy], attributes: Attributes) -> Result<Self> {
        if let [whole] = hierarchies
            && whole.name.is_empty()
        {
            let top = source::bind(&whole.group, false)?;
            source::change(top.as_fd(), Change { set: attributes, ..Change::default() })?;
            return Ok(Self { top, inner: Vec::new() });
        }
        let mode = Datum { key: "mode".to_owned(), value: Some("755".to_owned()) };
        // What is put into it comes before it is made read-only.
        let now = if hierarchies.is_empty() { attributes } else { attributes.without(Attributes::RDONLY) };
        let top = source::new("tmpfs", Some("tmpfs"), &[mode], now)?;
        let mut inner = Vec::with_capacity(hierarchies.len());
        for hierarchy in hierarchies {
            inner.push((hierarchy.name.clone(), source::bind(&hierarchy.group, false)?));
        }
        Ok(Self { top, inner })
    }

    /// Puts the hierarchies into the view, which is attached by now, and makes all of it read-only if asked.
    pub(crate) fn fill(&self, attributes: Attributes) -> Result<()> {
        if self.inner.is_empty() {
            return Ok(());
        }
        for (name, mount) in &self.inner {
            mkdirat(&self.top, name.as_str(), Mode::from_raw_mode(0o755))
                .call(|| format!("mkdirat(cgroup view, {name:?})"))?;
            put(mount.as_fd(), self.top.as_fd(), name)?;
            // `cpu,cpuacct` is also known by each of the two names.
            for alias in name.split(',').filter(|_| name.contains(',')) {
                symlinkat(name.as_str(), &self.top, alias)
                    .call(|| format!("symlinkat({name:?}, cgroup view, {alias:?})"))?;
            }
        }
        let change = Change { set: attributes, recursive: true, ..Change::default() };
        source::change(self.top.as_fd(), change)
    }
}

fn put(mount: BorrowedFd<'_>, top: BorrowedFd<'_>, name: &str) -> Result<()> {
    attach(mount, top, name).call(|| format!("move_mount(mount, cgroup view, {name:?})"))
}
