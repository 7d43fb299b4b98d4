//! Putting a detached mount in its place inside the container's root.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{AtFlags, Mode, OFlags, chmodat, fstat, fstatfs};
use rustix::io::Errno;
use tare_sys::mount;

use crate::error::{Call, Context, Error, Result};
use crate::mount::copy_up;
use crate::mount::idmap::Piece;
use crate::mount::resolve::{self, Kind};

/// `PROC_SUPER_MAGIC`.
pub(crate) const PROC_MAGIC: u64 = 0x9fa0;

/// Files of /proc that may be covered, as LXCFS does: they are read by people, never trusted by us.
const COVERABLE: [&str; 9] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/slabinfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/uptime",
    "/proc/sys/kernel/ns_last_pid",
];

/// How a destination is treated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// No symbolic link on the way: for file systems whose place others trust (/proc, /sys).
    pub no_links: bool,
    /// A missing `mode=`: take over the permission bits of the directory that is covered.
    pub keep_mode: bool,
    /// What is covered is copied into it first.
    pub copy_up: bool,
}

/// Moves `mount` to `path` below `root`, which is the place that `destination` means; it is made if it is missing.
pub(crate) fn attach(
    mount: BorrowedFd<'_>,
    root: BorrowedFd<'_>,
    path: &str,
    destination: &str,
    rules: Rules,
) -> Result<()> {
    let kind = if resolve::is_directory(mount)? { Kind::Directory } else { Kind::File };
    let place = resolve::ensure(root, path, kind, !rules.no_links);
    let place = match place {
        Err(error) if error.errno() == Some(Errno::LOOP) && rules.no_links => {
            let why = "is, or is reached by, a symbolic link; this file system needs a real directory";
            return Err(Error::forbidden(format!("{destination} {why}")));
        }
        answer => answer?,
    };
    refuse_inside_proc(&place, destination)?;
    if rules.keep_mode {
        let mode = fstat(&place).call(|| "fstat(destination)")?.st_mode & 0o7777;
        chmodat(mount, ".", Mode::from_raw_mode(mode), AtFlags::empty())
            .call(|| format!("fchmodat(mount, \".\", {mode:o})"))?;
    }
    if rules.copy_up {
        copy_up::copy(place.as_fd(), mount)?;
    }
    mount::attach(mount, place.as_fd(), "").call(|| format!("move_mount(mount, {destination:?})")).context(
        || match kind {
            Kind::Directory => "the source is a directory",
            Kind::File => "the source is a file",
        },
    )
}

/// Puts the mounts that a tree was taken apart into back to their places below its first, which is attached by now. What
/// is at a place may have changed meanwhile: it must still be there, and no symbolic link is followed.
pub(crate) fn attach_below(top: BorrowedFd<'_>, pieces: &[Piece]) -> Result<()> {
    for piece in pieces {
        let shown = piece.place.display();
        let place = resolve::open_beneath(top, &piece.place, OFlags::PATH)
            .call(|| format!("openat2(mount, {shown}, O_PATH, RESOLVE_BENEATH|RESOLVE_NO_SYMLINKS)"))?;
        mount::attach(piece.mount.as_fd(), place.as_fd(), "")
            .call(|| format!("move_mount(mount, {shown})"))?;
    }
    Ok(())
}

/// A mount inside /proc could cover the files that the runtime and security modules trust (CVE-2015-3631).
fn refuse_inside_proc(place: &std::os::fd::OwnedFd, destination: &str) -> Result<()> {
    let magic = fstatfs(place).call(|| "fstatfs(destination)")?.f_type;
    if u64::try_from(magic).ok() != Some(PROC_MAGIC) || COVERABLE.contains(&destination) {
        return Ok(());
    }
    Err(Error::forbidden(format!("{destination} is inside /proc, where nothing may be mounted")))
}
