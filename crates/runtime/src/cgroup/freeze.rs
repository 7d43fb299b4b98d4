//! Freezing: every process of a container stands still, and those who wait know that all do.
//!
//! ```text
//!   v2:  write 1 ─▶ freezing ─▶ "frozen 1" in cgroup.events (told by poll)
//!   v1:  write FROZEN ─▶ FREEZING ─▶ FROZEN     the kernel looks again only when asked: write and read until it says FROZEN
//! ```
//!
//! A v1 group may hang in FREEZING while a process is in an uninterruptible call or is just being born. Thawing for a
//! moment lets it come to a place where it can be frozen; on giving up the container is thawed, never left half frozen.

use super::Cgroup;
use super::error::{Error, Result};
use super::layout::Hierarchy;
use super::wait::{Deadline, wait_for_event};

/// How long we try.
const PATIENCE: u64 = 10;

/// How long those who are to be killed are held still first; without it they can only outrun us for a while.
const HOLD: u64 = 1;

/// After so many looks at a v1 group that hangs in FREEZING it is thawed for a moment.
const LOOKS: u32 = 50;

impl Cgroup {
    /// Freezes every process; returns when all are frozen.
    ///
    /// # Errors
    /// A call failed, or some process could not be frozen in time; the container runs on.
    pub fn freeze(&self) -> Result<()> {
        let deadline = Deadline::after(PATIENCE);
        let frozen = match (self.unified(), self.members_freezer()) {
            (Some(hierarchy), _) => self.freeze_v2(hierarchy, &deadline),
            (None, Some(hierarchy)) => self.freeze_v1(hierarchy, &deadline),
            (None, None) => return Err(self.cannot()),
        };
        frozen.inspect_err(|_| {
            let _ = self.thaw(); // the first error says what is wrong
        })
    }

    /// Lets every process run on.
    ///
    /// # Errors
    /// A call failed.
    pub fn thaw(&self) -> Result<()> {
        match (self.unified(), self.members_freezer()) {
            (Some(hierarchy), _) => self.put(hierarchy, "cgroup.freeze", "0"),
            (None, Some(hierarchy)) => self.put(hierarchy, "freezer.state", "THAWED"),
            (None, None) => Err(self.cannot()),
        }
    }

    /// Whether every process is frozen.
    ///
    /// # Errors
    /// A call failed.
    pub fn is_frozen(&self) -> Result<bool> {
        match (self.unified(), self.members_freezer()) {
            (Some(hierarchy), _) => {
                let events = hierarchy.read_at(&self.path.join("cgroup.events"))?;
                Ok(super::parse::keyed(&events, "frozen") == Some(1))
            }
            (None, Some(hierarchy)) => Ok(self.state_v1(hierarchy)? == "FROZEN"),
            (None, None) => Ok(false),
        }
    }

    /// Has everybody stand still if that is soon done, so that nobody is born while the others are killed.
    pub(super) fn hold(&self) {
        let soon = Deadline::after(HOLD);
        let _ = match (self.unified(), self.members_freezer()) {
            (Some(hierarchy), _) => self.freeze_v2(hierarchy, &soon),
            (None, Some(hierarchy)) => self.freeze_v1(hierarchy, &soon),
            (None, None) => Ok(()),
        };
    }

    /// The end of [`Self::hold`], whether or not it held: half frozen, nobody could die.
    pub(super) fn let_go(&self) {
        if self.unified().is_some() || self.members_freezer().is_some() {
            let _ = self.thaw(); // a group that is gone has nobody in it
        }
    }

    fn freeze_v2(&self, hierarchy: &Hierarchy, deadline: &Deadline) -> Result<()> {
        self.put(hierarchy, "cgroup.freeze", "1")?;
        match wait_for_event(hierarchy, self.path.as_str(), "frozen", 1, deadline)? {
            true => Ok(()),
            false => Err(self.too_late()),
        }
    }

    /// Freezes through the v1 freezer.
    fn freeze_v1(&self, hierarchy: &Hierarchy, deadline: &Deadline) -> Result<()> {
        for look in 1.. {
            self.put(hierarchy, "freezer.state", "FROZEN")?;
            if self.state_v1(hierarchy)? == "FROZEN" {
                return Ok(());
            }
            if look % LOOKS == 0 {
                self.put(hierarchy, "freezer.state", "THAWED")?;
            }
            if !deadline.pause() {
                break;
            }
        }
        Err(self.too_late())
    }

    fn state_v1(&self, hierarchy: &Hierarchy) -> Result<String> {
        Ok(hierarchy.read_at(&self.path.join("freezer.state"))?.trim().to_owned())
    }

    fn put(&self, hierarchy: &Hierarchy, file: &str, value: &str) -> Result<()> {
        hierarchy.write_at(&self.path.join(file), value, self.layout.write_flags)
    }

    fn cannot(&self) -> Error {
        Error::Unsupported {
            what: format!("freezing {}", self.path),
            why: "it has no group in a freezer or cgroup v2 hierarchy".to_owned(),
        }
    }

    fn too_late(&self) -> Error {
        Error::TimedOut { path: self.path.to_string(), what: "freezing every process", seconds: PATIENCE }
    }
}
