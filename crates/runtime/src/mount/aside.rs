//! Mounts that are attached for a moment where only this process sees them: in a mount namespace made for that.
//!
//! Kernels before 6.15 take detached mounts neither as layers of an overlay, nor to copy a file that is on one.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::process::fchdir;
use tare_sys::mount::{Propagation, attach};
use tare_sys::process::{Namespaces, setns, unshare};

use crate::error::{Call, Result};
use crate::mount::rootfs::set_propagation;

/// Does `act` while these lie on top of the root of a mount namespace in which nothing else happens. What comes of it has
/// to be detached, or goes with the namespace. The root is that of the own namespace afterwards.
pub(crate) fn with<T>(mounts: &[BorrowedFd<'_>], act: impl FnOnce() -> Result<T>) -> Result<T> {
    let open = |path: &str, flags: OFlags| {
        rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty()).call(|| format!("open({path:?})"))
    };
    let home = open("/proc/self/ns/mnt", OFlags::RDONLY)?;
    let directory = open(".", OFlags::PATH | OFlags::DIRECTORY)?;
    unshare(Namespaces::MOUNT).call(|| "unshare(CLONE_NEWNS)")?;
    let made = cover_root(mounts).and_then(|()| act());
    setns(home.as_fd(), Namespaces::MOUNT).call(|| "setns(own mount namespace)")?;
    fchdir(&directory).call(|| "fchdir(own working directory)")?;
    made
}

fn cover_root(mounts: &[BorrowedFd<'_>]) -> Result<()> {
    set_propagation(Propagation::Private)?;
    mounts.iter().try_for_each(|mount| attach(*mount, CWD, "/").call(|| "move_mount(mount, \"/\")"))
}
