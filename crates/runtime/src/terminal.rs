//! A pseudo terminal from the container's own devpts.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Gid, OFlags, Uid, fchown, fstat, fstatfs, major, minor};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use tare_model::sandbox::WindowSize;

use crate::error::{Call, Error, Result};
use crate::mount::attach::{self, Rules};
use crate::mount::{resolve, source};

/// `DEVPTS_SUPER_MAGIC`.
const DEVPTS_MAGIC: u64 = 0x1cd1;

/// Both ends.
pub(crate) struct Terminal {
    pub(crate) master: OwnedFd,
    pub(crate) slave: OwnedFd,
}

/// Makes a terminal of this size that belongs to `uid`.
pub(crate) fn make(root: BorrowedFd<'_>, size: WindowSize, uid: u32) -> Result<Terminal> {
    let flags = OFlags::RDWR | OFlags::NOCTTY;
    let path = "/dev/pts/ptmx";
    // First as a place only: whatever the image put here is not opened before it is known to be a multiplexer.
    let place = resolve::open_without_links(root, path, OFlags::PATH);
    let place = place.call(|| format!("openat2(root, {path:?}, O_PATH, RESOLVE_NO_SYMLINKS)"))?;
    require_multiplexer(place.as_fd())?;
    let master = resolve::open_without_links(root, path, flags)
        .call(|| format!("openat2(root, {path:?}, O_RDWR|O_NOCTTY)"))?;
    require_multiplexer(master.as_fd())?;
    unlockpt(&master).call(|| "ioctl(ptmx, TIOCSPTLCK, 0)")?;
    let slave = ioctl_tiocgptpeer(&master, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)
        .call(|| "ioctl(ptmx, TIOCGPTPEER)")?;
    if (size.rows, size.columns) != (0, 0) {
        let size = Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&master, size).call(|| "ioctl(ptmx, TIOCSWINSZ)")?;
    }
    if uid != 0 {
        fchown(&slave, Some(Uid::from_raw(uid)), None::<Gid>).call(|| format!("fchown(pty, {uid}, -1)"))?;
    }
    Ok(Terminal { master, slave })
}

fn require_multiplexer(file: BorrowedFd<'_>) -> Result<()> {
    let magic = fstatfs(file).call(|| "fstatfs(ptmx)")?.f_type;
    let device = fstat(file).call(|| "fstat(ptmx)")?.st_rdev;
    if u64::try_from(magic).ok() == Some(DEVPTS_MAGIC) && (major(device), minor(device)) == (5, 2) {
        return Ok(());
    }
    Err(Error::forbidden("/dev/pts of the container is no devpts; a terminal needs one mounted there"))
}

/// Puts the terminal on /dev/console.
pub(crate) fn bind_console(root: BorrowedFd<'_>, terminal: &Terminal) -> Result<()> {
    let mount = source::clone_of(terminal.slave.as_fd(), false)?;
    let rules = Rules { no_links: true, ..Rules::default() };
    attach::attach(mount.as_fd(), root, "/dev/console", "/dev/console", rules)
}
