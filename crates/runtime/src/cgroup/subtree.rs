//! v2 gives a group only the controllers that every group above it has switched on for its children.

use std::collections::BTreeSet;

use super::controller::{Controller, Version};
use super::error::{Error, Result};
use super::layout::{Hierarchy, Layout};
use super::path::GroupPath;
use super::plan::Plan;

const SWITCHES: &str = "cgroup.subtree_control";

/// Switches on what a container's group needs, from the root down.
///
/// Beside v1 hierarchies that is only what a limit was asked for; on a v2 machine everything there is, so that
/// usage is counted and limits can be changed later.
pub(super) fn enable(layout: &Layout, hierarchy: &Hierarchy, path: &GroupPath, plan: &Plan) -> Result<()> {
    if hierarchy.version != Version::V2 {
        return Ok(());
    }
    let is_needed = |controller: &&Controller| {
        layout.mode() == super::Mode::Unified
            || plan.writes.iter().any(|write| write.controller == **controller)
    };
    let needed: BTreeSet<&str> = hierarchy
        .controllers
        .iter()
        .filter(is_needed)
        .filter_map(|controller| controller.name_v2())
        .collect();
    if needed.is_empty() {
        return Ok(());
    }
    // The nearest one is on only if all above are.
    let parents: Vec<&str> = std::iter::once(".").chain(path.ancestors()).collect();
    if parents
        .last()
        .is_some_and(|nearest| missing(hierarchy, nearest, &needed).is_ok_and(|left| left.is_empty()))
    {
        return Ok(());
    }
    parents.into_iter().try_for_each(|parent| switch_on(layout, hierarchy, parent, &needed))
}

fn missing<'a>(hierarchy: &Hierarchy, group: &str, needed: &BTreeSet<&'a str>) -> Result<BTreeSet<&'a str>> {
    let content = hierarchy.read_if_there(&format!("{group}/{SWITCHES}"))?.unwrap_or_default();
    let on: BTreeSet<&str> = content.split_whitespace().collect();
    Ok(needed.iter().copied().filter(|name| !on.contains(name)).collect())
}

fn switch_on(layout: &Layout, hierarchy: &Hierarchy, group: &str, needed: &BTreeSet<&str>) -> Result<()> {
    let missing = missing(hierarchy, group, needed)?;
    if missing.is_empty() {
        return Ok(());
    }
    let value = missing.iter().map(|name| format!("+{name}")).collect::<Vec<_>>().join(" ");
    hierarchy.write_at(&format!("{group}/{SWITCHES}"), &value, layout.write_flags).map_err(|error| {
        match error {
            // "No internal processes": only the root may have both processes and children with controllers.
            Error::Call { call, source: rustix::io::Errno::BUSY } => Error::Unsupported {
                what: format!("controllers {}", missing.into_iter().collect::<Vec<_>>().join(" ")),
                why: format!("{call}: the group has processes of its own; choose a parent group without any"),
            },
            other => other,
        }
    })
}
