//! Detached mounts that are not needed any more. Dropping one makes the process wait for a grace period of the kernel's: that
//! is done when nobody waits for the process.

use std::cell::RefCell;
use std::os::fd::OwnedFd;

/// See the head of this file.
#[derive(Debug, Default)]
pub(crate) struct Later(RefCell<Vec<OwnedFd>>);

// === impl Later ===

impl Later {
    /// Keeps these until [`Later::drop_all`], or the end.
    pub(crate) fn keep(&self, mounts: impl IntoIterator<Item = OwnedFd>) {
        self.0.borrow_mut().extend(mounts);
    }

    /// Drops what was kept.
    pub(crate) fn drop_all(&self) {
        // Taken out first: nothing is borrowed while the kernel is waited for.
        drop(self.0.take());
    }
}
