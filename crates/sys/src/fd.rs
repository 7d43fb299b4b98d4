//! File descriptors by number: standard streams put in place, everything else closed at the next `execve`.
//!
//! See [close_range(2)](https://man7.org/linux/man-pages/man2/close_range.2.html).

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::io::{Errno, Result};

use crate::last_errno;

/// Marks every descriptor from `first` on to be closed by `execve`.
///
/// # Errors
/// The kernel's refusal (`ENOSYS` before 5.11).
pub fn close_on_exec_from(first: u32) -> Result<()> {
    // SAFETY: marks descriptors only; nothing that is open is closed now.
    let answer =
        unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if answer < 0 { Err(last_errno()) } else { Ok(()) }
}

/// Closes every descriptor from `first` on that is not in `keep`, whoever owns it.
///
/// For a process that will only execute a program or exit: values that own a closed descriptor must neither be used nor
/// dropped any more.
///
/// # Errors
/// The kernel's refusal (`ENOSYS` before 5.9).
pub fn abandon_all_but(first: u32, keep: &[BorrowedFd<'_>]) -> Result<()> {
    let mut kept: Vec<u32> = keep.iter().filter_map(|fd| u32::try_from(fd.as_raw_fd()).ok()).collect();
    kept.sort_unstable();
    let mut from = first;
    for fd in kept.into_iter().filter(|fd| *fd >= first) {
        if fd > from {
            close_range(from, fd - 1)?;
        }
        from = fd + 1;
    }
    close_range(from, libc::c_uint::MAX)
}

fn close_range(first: u32, last: u32) -> Result<()> {
    // SAFETY: as documented above, no owner of one of these descriptors acts any more.
    if unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) } < 0 {
        Err(last_errno())
    } else {
        Ok(())
    }
}

/// Makes copies of three descriptors 0, 1 and 2, which then survive `execve`. The originals stay open.
///
/// # Errors
/// `EBADF` and the like; some of the three may then be in place.
pub fn install_stdio(streams: [BorrowedFd<'_>; 3]) -> Result<()> {
    // One of the three may be 0, 1 or 2 itself: move those out of the way before they are overwritten.
    let mut moved: Vec<OwnedFd> = Vec::new();
    let mut from = [0; 3];
    for (slot, stream) in from.iter_mut().zip(streams) {
        *slot = stream.as_raw_fd();
        if *slot < 3 {
            let copy = rustix::io::fcntl_dupfd_cloexec(stream, 3)?;
            *slot = copy.as_raw_fd();
            moved.push(copy);
        }
    }
    for (target, source) in from.into_iter().enumerate() {
        let target = RawFd::try_from(target).map_err(|_| Errno::OVERFLOW)?;
        // SAFETY: 0, 1 and 2 are the standard streams, which no owned descriptor of this program stands for.
        if unsafe { libc::dup2(source, target) } < 0 {
            return Err(last_errno());
        }
    }
    Ok(())
}
