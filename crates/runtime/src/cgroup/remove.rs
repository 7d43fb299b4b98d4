//! Removing groups: children first, waiting for the last process to be past the point where it counts.

use rustix::io::Errno;

use super::controller::Version;
use super::error::{Error, Result};
use super::layout::Hierarchy;
use super::processes;
use super::wait::{Deadline, wait_for_event};

/// How long a group may stay busy after everybody in it was killed.
const PATIENCE: u64 = 10;

/// How often a group with somebody alive in it is looked at again: a thread that has ended may be counted for a moment
/// longer than its end can be seen, under the name of a process that lives.
const LOOKS: u32 = 12;

/// Removes a group and all below it; one that is not there is removed already.
pub(super) fn tree(hierarchy: &Hierarchy, group: &str) -> Result<()> {
    // Nearly always there are no children and it works at once.
    match hierarchy.rmdir_at(group) {
        Err(error) if matches!(error.errno(), Some(Errno::BUSY | Errno::NOTEMPTY)) => {}
        Err(error) if error.errno() == Some(Errno::NOENT) => return Ok(()),
        other => return other,
    }
    let mut errors = Vec::new();
    match hierarchy.children_at(group) {
        Ok(children) => errors.extend(children.iter().filter_map(|child| tree(hierarchy, child).err())),
        Err(error) if error.errno() == Some(Errno::NOENT) => return Ok(()),
        Err(error) => errors.push(error),
    }
    errors.extend(one(hierarchy, group).err());
    Error::collect(errors)
}

/// Removes a group that may be others' as well: only if nothing is in it or below it.
pub(super) fn if_empty(hierarchy: &Hierarchy, group: &str) -> Result<()> {
    match hierarchy.rmdir_at(group) {
        Err(error) if matches!(error.errno(), Some(Errno::BUSY | Errno::NOENT | Errno::NOTEMPTY)) => Ok(()),
        other => other,
    }
}

/// Removes one group without children; waits while it is busy with processes that are on their way out.
pub(super) fn one(hierarchy: &Hierarchy, group: &str) -> Result<()> {
    let deadline = Deadline::after(PATIENCE);
    let mut looks = 0;
    loop {
        let error = match hierarchy.rmdir_at(group) {
            Err(error) if error.errno() == Some(Errno::NOENT) => return Ok(()),
            Err(error) if error.errno() == Some(Errno::BUSY) => error,
            other => return other,
        };
        if let Some(pid) = alive(hierarchy, group) {
            looks += 1;
            if looks >= LOOKS || !deadline.pause() {
                return Err(Error::InUse { path: hierarchy.shown(group), pid });
            }
            continue;
        }
        if !wait_until_empty(hierarchy, group, &deadline) {
            return Err(error);
        }
    }
}

/// A process in the group that is not about to be gone.
fn alive(hierarchy: &Hierarchy, group: &str) -> Option<i32> {
    let pids = processes::of_tree(hierarchy, group).unwrap_or_default();
    pids.into_iter().find(|pid| !is_dying(*pid))
}

/// Zombies and processes on their way out count until the kernel is done with them.
fn is_dying(pid: i32) -> bool {
    const EXITING: u64 = 0x4; // PF_EXITING
    let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return true };
    let Some((_, rest)) = status.rsplit_once(") ") else { return true };
    let mut fields = rest.split(' ');
    let state = fields.next().unwrap_or_default();
    let flags = fields.nth(5).and_then(|flags| flags.parse::<u64>().ok()).unwrap_or_default();
    matches!(state, "Z" | "X") || flags & EXITING != 0
}

/// Waits for a change that may make the group empty. False when the time is up.
fn wait_until_empty(hierarchy: &Hierarchy, group: &str, deadline: &Deadline) -> bool {
    let is_told = hierarchy.version == Version::V2;
    match is_told.then(|| wait_for_event(hierarchy, group, "populated", 0, deadline)) {
        Some(Ok(false)) => false,
        // Empty, and still busy for a moment; or v1, which tells nobody.
        _ => deadline.pause(),
    }
}
