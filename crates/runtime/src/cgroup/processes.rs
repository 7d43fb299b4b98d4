//! Who is in the groups: listing, and ending, every process.

use std::os::fd::{AsFd, OwnedFd};

use rustix::event::PollFlags;
use rustix::io::Errno;
use tare_sys::pidfd;

use super::Cgroup;
use super::controller::{Controller, Version};
use super::error::{Error, Result};
use super::layout::Hierarchy;
use super::wait::{Deadline, wait_for_event};

/// How long processes that were killed may take to be gone; a dying process may have gigabytes to give back.
const PATIENCE: u64 = 30;
/// `SIGKILL`.
const KILL: i32 = 9;

impl Cgroup {
    /// The ids of every process in the groups and those below them.
    ///
    /// # Errors
    /// A call failed. Groups that are gone have no processes.
    pub fn pids(&self) -> Result<Vec<i32>> {
        match self.watched() {
            Some(hierarchy) => of_tree(hierarchy, self.path.as_str()),
            None => Ok(Vec::new()),
        }
    }

    /// Kills every process and returns when all are gone. New ones cannot escape it. Frozen containers die too.
    ///
    /// # Errors
    /// A call failed, or somebody did not die in time (a process stuck in the kernel).
    pub fn kill_all(&self) -> Result<()> {
        let deadline = Deadline::after(PATIENCE);
        if let Some(hierarchy) = self.unified() {
            match hierarchy.write_at(&self.path.join("cgroup.kill"), "1", self.layout.write_flags) {
                Ok(()) => self.wait_until_empty(hierarchy, &deadline)?,
                // Gone, from before 5.14, or a threaded group: the way below finds out which.
                Err(error) if is_gone(&error) || error.errno() == Some(Errno::OPNOTSUPP) => {}
                Err(error) => return Err(error),
            }
        }
        self.kill_listed(&deadline)
    }

    /// Waits for the v2 group and those below it to have no process.
    fn wait_until_empty(&self, hierarchy: &Hierarchy, deadline: &Deadline) -> Result<()> {
        match wait_for_event(hierarchy, self.path.as_str(), "populated", 0, deadline) {
            Ok(true) => Ok(()),
            Ok(false) => Err(self.not_gone()),
            Err(error) if is_gone(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Kills who is listed, again and again until nobody is. Where nothing can freeze them some may be born meanwhile;
    /// but each round ends the parents.
    pub(super) fn kill_listed(&self, deadline: &Deadline) -> Result<()> {
        loop {
            let listed = self.everyone()?;
            if listed.is_empty() {
                return Ok(());
            }
            self.hold();
            // A number may have become somebody else's since it was listed. The descriptor is of one process; if its
            // number is still listed after that, the process is ours, or dead.
            let open: Vec<(i32, OwnedFd)> =
                listed.iter().filter_map(|pid| Some((*pid, open(*pid)?))).collect();
            let still = self.everyone()?;
            let ours = open.into_iter().filter(|(pid, _)| still.contains(pid));
            let dying: Vec<OwnedFd> = ours.map(|(_, process)| process).collect();
            for process in &dying {
                let _ = pidfd::send_signal(process.as_fd(), KILL); // gone already is as good
            }
            self.let_go();
            // Some are listed, but past the point where they can be named.
            if !wait_for_exits(&dying, deadline) || (dying.is_empty() && !deadline.pause()) {
                return Err(self.not_gone());
            }
        }
    }

    fn not_gone(&self) -> Error {
        Error::TimedOut {
            path: self.path.to_string(),
            what: "the end of all its processes",
            seconds: PATIENCE,
        }
    }

    /// Who is in any of the groups: a process that was moved by somebody may be missing in one.
    fn everyone(&self) -> Result<Vec<i32>> {
        let mut pids = Vec::new();
        for hierarchy in self.hierarchies() {
            pids.extend(of_tree(hierarchy, self.path.as_str())?);
        }
        pids.sort_unstable();
        pids.dedup();
        Ok(pids)
    }

    /// The hierarchy that is asked for processes: every container's process is in each of our groups.
    fn watched(&self) -> Option<&Hierarchy> {
        self.unified()
            .or_else(|| self.with(Controller::Pids))
            .or_else(|| self.members_freezer())
            .or_else(|| self.hierarchies().next())
    }

    /// The v1 freezer with our group in it.
    pub(super) fn members_freezer(&self) -> Option<&Hierarchy> {
        self.with(Controller::Freezer).filter(|hierarchy| hierarchy.version == Version::V1)
    }
}

/// Every process of a group and those below it.
pub(super) fn of_tree(hierarchy: &Hierarchy, group: &str) -> Result<Vec<i32>> {
    let mut pids = Vec::new();
    let mut groups = vec![group.to_owned()];
    while let Some(group) = groups.pop() {
        match hierarchy.read_at(&format!("{group}/cgroup.procs")) {
            Ok(content) => pids.extend(content.lines().filter_map(|line| line.parse::<i32>().ok())),
            Err(error) if is_gone(&error) => continue,
            Err(error) => return Err(error),
        }
        match hierarchy.children_at(&group) {
            Ok(children) => groups.extend(children),
            Err(error) if is_gone(&error) => {}
            Err(error) => return Err(error),
        }
    }
    pids.sort_unstable();
    pids.dedup();
    // A process of another pid namespace has no number in ours.
    pids.retain(|pid| *pid > 0);
    Ok(pids)
}

/// The processes of this very group.
pub(super) fn of_group(hierarchy: &Hierarchy, group: &str) -> Result<Vec<i32>> {
    let content = hierarchy.read_if_there(&format!("{group}/cgroup.procs"))?.unwrap_or_default();
    Ok(content.lines().filter_map(|line| line.parse().ok()).collect())
}

pub(super) fn is_gone(error: &Error) -> bool {
    matches!(error.errno(), Some(Errno::NOENT | Errno::NODEV))
}

fn open(pid: i32) -> Option<OwnedFd> {
    pidfd::open(pid).ok()
}

/// Waits for the end of these processes; false when the time is up. Where a descriptor does not tell that end it is a pause,
/// after which somebody may still be there.
fn wait_for_exits(processes: &[OwnedFd], deadline: &Deadline) -> bool {
    let (telling, silent): (Vec<_>, Vec<_>) =
        processes.iter().partition(|process| pidfd::tells_end(process.as_fd()));
    telling.iter().all(|process| deadline.ready(process, PollFlags::IN))
        && (silent.is_empty() || deadline.pause())
}
