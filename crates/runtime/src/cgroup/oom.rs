//! Hearing of a process killed for lack of memory.
//!
//! [`OomWatch`] is a descriptor that becomes readable when it may have happened, and a question that is answered by the
//! kernel's own count. v1 tells through an eventfd that is registered with the group; v2 through a change of
//! `memory.events`, heard with inotify.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::OFlags;
use rustix::fs::inotify;
use rustix::io::Errno;

use super::Cgroup;
use super::controller::{Controller, Version};
use super::error::{Error, Result};
use super::layout::Hierarchy;
use super::parse::keyed;

/// Listens to one container's memory group.
#[derive(Debug)]
pub struct OomWatch {
    events: OwnedFd,
    /// `memory.oom_control` or `memory.events`, kept open: it is asked again after the group may be gone.
    count: OwnedFd,
}

impl Cgroup {
    /// Starts to listen. `None` if the container has no memory group.
    ///
    /// # Errors
    /// A call failed.
    pub fn oom_watch(&self) -> Result<Option<OomWatch>> {
        let Some(hierarchy) = self.with(Controller::Memory) else { return Ok(None) };
        let listening = match hierarchy.version {
            Version::V1 => self.listen_v1(hierarchy),
            Version::V2 => self.listen_v2(hierarchy),
        };
        match listening {
            // The controller is here and was not delegated to us.
            Err(error) if error.errno() == Some(Errno::NOENT) && self.exists() => Ok(None),
            other => other.map(Some),
        }
    }

    fn listen_v1(&self, hierarchy: &Hierarchy) -> Result<OomWatch> {
        let call = |source| Error::Call { call: "eventfd".to_owned(), source };
        let events = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(call)?;
        let count = hierarchy.open_at(&self.path.join("memory.oom_control"), OFlags::RDONLY)?;
        let request = format!("{} {}", events.as_raw_fd(), count.as_raw_fd());
        hierarchy.write_at(&self.path.join("cgroup.event_control"), &request, self.layout.write_flags)?;
        Ok(OomWatch { events, count })
    }

    fn listen_v2(&self, hierarchy: &Hierarchy) -> Result<OomWatch> {
        let file = self.path.join("memory.events");
        let count = hierarchy.open_at(&file, OFlags::RDONLY)?;
        let call = |call: &str| {
            let call = format!("{call} {}", hierarchy.shown(&file));
            move |source| Error::Call { call, source }
        };
        let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
        let events = inotify::init(flags).map_err(call("inotify for"))?;
        inotify::add_watch(&events, hierarchy.mount.join(&file), inotify::WatchFlags::MODIFY)
            .map_err(call("watch"))?;
        Ok(OomWatch { events, count })
    }
}

impl OomWatch {
    /// Takes the notification back, and gives how many processes were killed so far. A group that was removed
    /// meanwhile has no count any more: 0.
    ///
    /// # Errors
    /// A call failed.
    pub fn kills(&self) -> Result<u64> {
        let mut buffer = [0u8; 4096];
        while let Ok(1..) = rustix::io::read(&self.events, &mut buffer) {}
        match rustix::io::pread(&self.count, &mut buffer, 0) {
            Ok(count) => {
                Ok(keyed(&String::from_utf8_lossy(&buffer[..count]), "oom_kill").unwrap_or_default())
            }
            Err(Errno::NODEV) => Ok(0),
            Err(source) => Err(Error::Call { call: "read the count of OOM kills".to_owned(), source }),
        }
    }
}

impl AsFd for OomWatch {
    /// Becomes readable when a process may have been killed.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }
}
