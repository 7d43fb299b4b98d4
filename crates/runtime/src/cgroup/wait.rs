//! Waiting with an end: on events where the kernel has one, else with growing pauses.

use std::cell::Cell;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::io::{Errno, pread, retry_on_intr};

use super::error::{Error, Result};
use super::layout::Hierarchy;
use super::parse::keyed;

/// When to give up.
#[derive(Debug)]
pub(super) struct Deadline {
    end: Instant,
    pause: Cell<Duration>,
}

/// The longest of the pauses.
const LONGEST: Duration = Duration::from_millis(20);

impl Deadline {
    /// So many seconds from now.
    pub(super) fn after(seconds: u64) -> Self {
        Self {
            end: Instant::now() + Duration::from_secs(seconds),
            pause: Cell::new(Duration::from_micros(50)),
        }
    }

    /// What is left; `None`: nothing.
    pub(super) fn left(&self) -> Option<Duration> {
        let left = self.end.saturating_duration_since(Instant::now());
        (!left.is_zero()).then_some(left)
    }

    /// For the few states of v1 groups that the kernel tells nobody about: each pause is twice as long as the last. False
    /// when the time is up.
    pub(super) fn pause(&self) -> bool {
        let Some(left) = self.left() else { return false };
        let pause = self.pause.get();
        self.pause.set((pause * 2).min(LONGEST));
        let nothing: &mut [PollFd<'_>] = &mut [];
        // Interrupted is as good as over: the caller looks again.
        let _ = poll(nothing, Some(&timespec(pause.min(left))));
        true
    }

    /// Waits for a descriptor. False when the time is up.
    pub(super) fn ready(&self, file: impl AsFd, events: PollFlags) -> bool {
        loop {
            let Some(left) = self.left() else { return false };
            match poll(&mut [PollFd::new(&file, events)], Some(&timespec(left))) {
                Ok(0) => return false,
                Err(Errno::INTR) => {}
                _ => return true, // ready, or cannot be waited for: the caller looks
            }
        }
    }
}

/// Waits until a key of a v2 group's `cgroup.events` has this value. `Ok(false)` when the time is up.
pub(super) fn wait_for_event(
    hierarchy: &Hierarchy,
    group: &str,
    key: &str,
    value: u64,
    deadline: &Deadline,
) -> Result<bool> {
    let path = format!("{group}/cgroup.events");
    let file = hierarchy.open_at(&path, OFlags::RDONLY)?;
    loop {
        // Reading is what arms the next notification.
        let mut buffer = [0u8; 256];
        let count = retry_on_intr(|| pread(&file, &mut buffer, 0))
            .map_err(|source| Error::Call { call: format!("read {}", hierarchy.shown(&path)), source })?;
        if keyed(&String::from_utf8_lossy(&buffer[..count]), key) == Some(value) {
            return Ok(true);
        }
        if !deadline.ready(&file, PollFlags::PRI) {
            return Ok(false);
        }
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec { tv_sec: duration.as_secs().cast_signed(), tv_nsec: duration.subsec_nanos().into() }
}
