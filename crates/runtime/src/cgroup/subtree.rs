//! v2 gives a group only the controllers that every group above it has switched on for its children.
//!
//! What was delegated to us bounds what we can switch on: above a delegated group the switches are not ours, and in it
//! there are the controllers that somebody let through. A limit that needs another is refused by name; a controller that
//! would only have counted is done without.
//!
//! A group with processes of its own can have no children with controllers (the root of the tree excepted, and the
//! root of a cgroup namespace not). If those are us, as in a service's delegated group, we step aside into a group
//! [`ASIDE`] below it.

use std::collections::BTreeSet;

use rustix::io::Errno;

use super::controller::{Controller, Version};
use super::error::{Error, Result};
use super::layout::{Hierarchy, Layout};
use super::path::GroupPath;
use super::plan::Plan;

const SWITCHES: &str = "cgroup.subtree_control";

/// Where the engine's own process goes when it stands in the way.
pub(super) const ASIDE: &str = "tare-aside";

/// The controllers of one container's group.
struct Needs<'a> {
    /// A limit of the plan is theirs: without them it cannot be.
    limits: BTreeSet<&'a str>,
    /// They count, and limits can be changed later: with them it is better.
    all: BTreeSet<&'a str>,
}

/// Switches on what a container's group needs, from the root down.
///
/// Beside v1 hierarchies that is only what a limit was asked for; on a v2 machine everything there is.
pub(super) fn enable(layout: &Layout, hierarchy: &Hierarchy, path: &GroupPath, plan: &Plan) -> Result<()> {
    if hierarchy.version != Version::V2 {
        return Ok(());
    }
    let is_limit =
        |controller: &&Controller| plan.writes.iter().any(|write| write.controller == **controller);
    let names = |keep: &dyn Fn(&&Controller) -> bool| {
        hierarchy.controllers.iter().filter(keep).filter_map(|controller| controller.name_v2()).collect()
    };
    let limits: BTreeSet<&str> = names(&is_limit);
    let all = if layout.mode() == super::Mode::Unified { names(&|_| true) } else { limits.clone() };
    let needs = Needs { limits, all };
    if needs.all.is_empty() {
        return Ok(());
    }
    // The nearest one is on only if all above are.
    let parents: Vec<&str> = std::iter::once(".").chain(path.ancestors()).collect();
    if parents.last().is_some_and(|nearest| {
        missing(hierarchy, nearest, &needs.all).is_ok_and(|missing| missing.is_empty())
    }) {
        return Ok(());
    }
    parents.into_iter().try_for_each(|parent| switch_on(layout, hierarchy, parent, &needs))
}

/// Waits until the files of controllers are there that somebody else is just switching on: the kernel shows them as on
/// before it makes the files, and makes them under a lock that each write takes.
pub(super) fn await_switches(layout: &Layout, hierarchy: &Hierarchy, path: &GroupPath) {
    let parent = path.ancestors().last().unwrap_or(".");
    let on = hierarchy.read_if_there(&format!("{parent}/{SWITCHES}")).ok().flatten().unwrap_or_default();
    let on: BTreeSet<&str> = on.split_whitespace().collect();
    // What cannot be written, because it was not delegated to us, nobody but its owner switches.
    let _ = write(layout, hierarchy, parent, &on);
}

fn missing<'a>(hierarchy: &Hierarchy, group: &str, needed: &BTreeSet<&'a str>) -> Result<BTreeSet<&'a str>> {
    let content = hierarchy.read_if_there(&format!("{group}/{SWITCHES}"))?.unwrap_or_default();
    let on: BTreeSet<&str> = content.split_whitespace().collect();
    Ok(needed.iter().copied().filter(|name| !on.contains(name)).collect())
}

fn switch_on(layout: &Layout, hierarchy: &Hierarchy, group: &str, needs: &Needs<'_>) -> Result<()> {
    let mut missing = missing(hierarchy, group, &needs.all)?;
    // In a delegated tree only some come through from above.
    if let Some(offered) = hierarchy.read_if_there(&format!("{group}/cgroup.controllers"))? {
        let offered: BTreeSet<&str> = offered.split_whitespace().collect();
        let kept_back: Vec<&str> = missing
            .iter()
            .copied()
            .filter(|name| needs.limits.contains(name) && !offered.contains(name))
            .collect();
        if !kept_back.is_empty() {
            let place = hierarchy.shown(&format!("{group}/cgroup.controllers"));
            return Err(not_ours(
                &kept_back,
                format!("{place} does not have it: it was not delegated to us"),
            ));
        }
        missing.retain(|name| offered.contains(name));
    }
    if missing.is_empty() {
        return Ok(());
    }
    match write(layout, hierarchy, group, &missing) {
        Err(error) if error.errno() == Some(Errno::BUSY) => {
            make_room(layout, hierarchy, group, std::process::id().cast_signed())?;
            write(layout, hierarchy, group, &missing)
                .or_else(|error| refused(hierarchy, group, &missing, needs, error))
        }
        other => other.or_else(|error| refused(hierarchy, group, &missing, needs, error)),
    }
}

fn write(layout: &Layout, hierarchy: &Hierarchy, group: &str, missing: &BTreeSet<&str>) -> Result<()> {
    let value = missing.iter().map(|name| format!("+{name}")).collect::<Vec<_>>().join(" ");
    hierarchy.write_at(&format!("{group}/{SWITCHES}"), &value, layout.write_flags)
}

/// What a refusal to switch on means: nothing if no limit needs it, else a reason in words.
fn refused(
    hierarchy: &Hierarchy,
    group: &str,
    missing: &BTreeSet<&str>,
    needs: &Needs<'_>,
    error: Error,
) -> Result<()> {
    let wanted: Vec<&str> = missing.iter().copied().filter(|name| needs.limits.contains(name)).collect();
    let why = match error.errno() {
        Some(Errno::ACCESS | Errno::PERM | Errno::ROFS) => format!("{error}: it was not delegated to us"),
        Some(Errno::BUSY) => {
            let pids = super::processes::of_group(hierarchy, group).unwrap_or_default();
            let who = pids.first().map_or_else(String::new, |pid| format!(", process {pid} for one"));
            format!("{error}: the group has processes of its own{who}; choose a parent group without any")
        }
        Some(Errno::OPNOTSUPP) => {
            let kind = hierarchy.read_if_there(&format!("{group}/cgroup.type"))?.unwrap_or_default();
            format!("{error}: the group is {}; choose a parent group that is not threaded", kind.trim())
        }
        _ => return Err(error),
    };
    if wanted.is_empty() { Ok(()) } else { Err(not_ours(&wanted, why)) }
}

fn not_ours(controllers: &[&str], why: String) -> Error {
    let plural = if controllers.len() == 1 { "controller" } else { "controllers" };
    Error::Unsupported { what: format!("limits of the {} {plural}", controllers.join(" and ")), why }
}

/// Moves a process that is in this very group to one below it. Those of others stay where they are.
pub(super) fn make_room(layout: &Layout, hierarchy: &Hierarchy, group: &str, pid: i32) -> Result<()> {
    if !super::processes::of_group(hierarchy, group)?.contains(&pid) {
        return Ok(());
    }
    let aside = format!("{group}/{ASIDE}");
    match hierarchy.mkdir_at(&aside) {
        Err(error) if error.errno() == Some(Errno::EXIST) => {}
        other => other?,
    }
    hierarchy.write_at(&format!("{aside}/cgroup.procs"), &pid.to_string(), layout.write_flags)
}
