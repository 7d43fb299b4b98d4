//! v1 cpusets start empty, and nobody can join an empty one: a new group must be given CPUs and memory nodes first.
//!
//! A group whose parent has `cgroup.clone_children` gets its parent's when it is made. So the parents that we make are
//! filled once and marked so; a container's own group then costs one look.

use super::controller::{Controller, Version};
use super::error::Result;
use super::layout::{Hierarchy, Layout};
use super::path::GroupPath;

const FILES: [&str; 2] = ["cpuset.cpus", "cpuset.mems"];

/// Fills a group above a container's if it is empty, and has it fill its children.
pub(super) fn prepare_parent(layout: &Layout, hierarchy: &Hierarchy, group: &str) -> Result<()> {
    if !concerns(hierarchy) {
        return Ok(());
    }
    fill(layout, hierarchy, group)?;
    hierarchy.write_at(&format!("{group}/cgroup.clone_children"), "1", layout.write_flags)
}

/// Fills a container's group, and whatever above it somebody else left empty.
pub(super) fn inherit(layout: &Layout, hierarchy: &Hierarchy, path: &GroupPath) -> Result<()> {
    if !concerns(hierarchy) || is_filled(hierarchy, path.as_str())? {
        return Ok(());
    }
    path.ancestors().try_for_each(|above| fill(layout, hierarchy, above))?;
    fill(layout, hierarchy, path.as_str())
}

fn concerns(hierarchy: &Hierarchy) -> bool {
    hierarchy.version == Version::V1 && hierarchy.controllers.contains(&Controller::Cpuset)
}

fn is_filled(hierarchy: &Hierarchy, group: &str) -> Result<bool> {
    for file in FILES {
        let content = hierarchy.read_if_there(&format!("{group}/{file}"))?;
        if content.is_none_or(|content| content.trim().is_empty()) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Copies what is empty from the group above.
fn fill(layout: &Layout, hierarchy: &Hierarchy, group: &str) -> Result<()> {
    let parent = group.rsplit_once('/').map_or(".", |(parent, _)| parent);
    for file in FILES {
        let own = format!("{group}/{file}");
        if hierarchy.read_if_there(&own)?.is_none_or(|content| content.trim().is_empty()) {
            let above = hierarchy.read_at(&format!("{parent}/{file}"))?;
            hierarchy.write_at(&own, above.trim(), layout.write_flags)?;
        }
    }
    Ok(())
}
