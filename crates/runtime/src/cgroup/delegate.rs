//! What of the v2 tree is ours: where an ordinary user, or a service with `Delegate=yes`, may make groups.
//!
//! ```text
//!   user.slice ─ user-1000.slice ─ user@1000.service ─ app.slice ─ tared.service    our own group is the last;
//!                                  └── ours from here on ──────────────────────┘    groups may be made from the first of these
//! ```
//!
//! A group is ours if we may write its directory, its `cgroup.procs` and its `cgroup.subtree_control`: the three things
//! that are handed over on delegation (cgroups(7)). Its limits are not, with `nsdelegate` not even for root in a namespace.

use rustix::fs::{Access, AtFlags, accessat};

use super::controller::Controller;
use super::error::Result;
use super::layout::{Hierarchy, Layout};

/// A part of the v2 tree that was handed to us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delegated {
    /// The group, absolute below the hierarchy's mount point: `/` is the whole tree.
    pub path: String,
    /// The controllers that its children can have.
    pub controllers: Vec<Controller>,
}

impl Layout {
    /// The outermost group that is ours, seen from our own upwards. `None`: there is no v2 hierarchy, or we may make
    /// groups nowhere above or in our own.
    ///
    /// # Errors
    /// The list of controllers cannot be read.
    pub fn delegated(&self) -> Result<Option<Delegated>> {
        let Some(at) = self.v2() else { return Ok(None) };
        let hierarchy = &self.hierarchies[at];
        let own = hierarchy.own.trim_matches('/');
        let above = own.match_indices('/').map(|(at, _)| &own[..at]);
        let line = std::iter::once(".").chain(above).chain((!own.is_empty()).then_some(own));
        // From our own group upwards as long as each is ours.
        let groups: Vec<&str> = line.collect();
        let ours = groups.into_iter().rev().take_while(|group| is_ours(hierarchy, group)).last();
        let Some(group) = ours else { return Ok(None) };
        let words = hierarchy.read_if_there(&format!("{group}/cgroup.controllers"))?.unwrap_or_default();
        let controllers = words.split_whitespace().filter_map(Controller::from_v2).collect();
        let path = if group == "." { "/".to_owned() } else { format!("/{group}") };
        Ok(Some(Delegated { path, controllers }))
    }

    /// Whether the kernel keeps a container in its own cgroup namespace from its own limits even where it may write
    /// (the mount option `nsdelegate`).
    pub fn protects_limits(&self) -> bool {
        self.nsdelegate
    }
}

fn is_ours(hierarchy: &Hierarchy, group: &str) -> bool {
    let may_write = |name: &str| {
        accessat(hierarchy.root(), format!("{group}/{name}"), Access::WRITE_OK, AtFlags::EACCESS).is_ok()
    };
    may_write(".") && may_write("cgroup.procs") && may_write("cgroup.subtree_control")
}
