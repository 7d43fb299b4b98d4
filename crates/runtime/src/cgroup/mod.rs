//! Control groups: how much a container may use, which devices, and the handle by which all of it is frozen, counted
//! and killed.
//!
//! # Nouns
//!
//! - A **hierarchy** is a tree of groups that the kernel has mounted for some **controllers**; [`Layout`] knows those of
//!   this machine, v1, v2 or both.
//! - A [`Cgroup`] is one container's group in each hierarchy that matters, all under one path.
//! - A [`plan::Plan`] is the list of writes that makes OCI resources true. One table of controllers (`controller`), one
//!   planner, two writers (`v1`, `v2`).
//!
//! # States
//!
//! ```text
//!             create                    entry: clone_into + enter          kill_all              destroy
//!  nothing ───────────▶ limited, empty ─────────────────────────▶ lived in ────────▶ empty again ───────▶ nothing
//!      ▲  on failure │                              update, stats, pids │  ▲
//!      └─────────────┘                                     freeze ▼     │  │ thaw
//!                                                                 frozen ──┘
//! ```
//!
//! # What fails
//!
//! - A limit is asked for whose controller is not there: refused by name, nothing is made.
//! - The name is taken by a group with processes: refused, untouched. One without is a remnant and is replaced.
//! - A call fails half-way through `create`: what was made is removed.
//! - `destroy` goes on past every failure and reports all of them.
//!
//! # What it costs
//!
//! Each hierarchy costs a container about 0.07 ms to make, join and remove, so it gets groups only where they serve:
//! `cpuset` when asked for (an update adds it later), v1's `freezer` only where no v2 hierarchy is mounted (which
//! freezes and kills better even without controllers), `name=systemd` only where systemd runs. Processes come in by
//! `CLONE_INTO_CGROUP` and by writing `0` to v1 `tasks` files while they have one thread; neither waits for an RCU
//! grace period.
//!
//! # Who makes the groups
//!
//! We do ([`Cgroup::create`]), or systemd does, as a scope ([`Cgroup::create_scope`]); [`Driver`] chooses.
//!
//! Read in this order: `layout`, `controller`, `figure`, `plan`, `group`, then what you came for.

use std::path::Path;
use std::sync::Arc;

mod below;
mod controller;
mod convert;
mod cpuset;
mod delegate;
mod device_program;
mod devices;
mod driver;
mod error;
mod figure;
mod file;
mod freeze;
mod group;
mod layout;
mod make;
mod none;
mod oom;
pub mod parse;
mod path;
pub mod plan;
mod processes;
mod remove;
mod stats;
mod subtree;
pub mod systemd;
mod update;
pub mod usage;
mod v1;
mod v2;
mod view;
mod wait;

#[cfg(test)]
mod tests;

pub use below::Below;
pub use controller::{Controller, Version};
pub use delegate::Delegated;
pub use driver::Driver;
pub use error::{Error, Result};
pub use group::{Cgroup, Entry, Mover};
pub use layout::{Hierarchy, Layout, Mode};
pub(crate) use none::NO_GROUPS;
pub use oom::OomWatch;
pub use path::GroupPath;

/// Removes a group that is nobody's own, such as the engine's parent of all containers, from every hierarchy in which it
/// is empty; where something lives in it or below it, it stays.
///
/// # Errors
/// The path is none, or a call failed for another reason.
pub fn remove_if_empty(layout: &Arc<Layout>, path: impl AsRef<Path>) -> Result<()> {
    let path = GroupPath::parse(path)?;
    let removed = layout.hierarchies.iter().map(|hierarchy| remove::if_empty(hierarchy, path.as_str()));
    Error::collect(removed.filter_map(std::result::Result::err).collect())
}
