//! File descriptors by number: standard streams put in place, everything else closed at the next `execve`.
//!
//! See [close_range(2)](https://man7.org/linux/man-pages/man2/close_range.2.html). Without it descriptors are dealt with one
//! by one: those that the kernel lists or, where no procfs is in sight (a container's root may show anything as
//! `/proc`), every number that one can have.

use std::ops::RangeInclusive;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::fs::{CWD, Mode, OFlags, fstatfs, openat};
use rustix::io::{Errno, Result};

use crate::last_errno;
use crate::newer::Newer;
use crate::pidfd::PROC_MAGIC;

/// The kernel's highest number of a descriptor, unless somebody raised `fs.nr_open`.
const HIGHEST: u32 = (1 << 20) - 1;

/// Marks every descriptor from `first` on to be closed by `execve`.
///
/// # Errors
/// The kernel's refusal.
pub fn close_on_exec_from(first: u32) -> Result<()> {
    if Newer::CloseRange.is_there() {
        // SAFETY: marks descriptors only; nothing that is open is closed now.
        let answer = unsafe {
            libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC)
        };
        match if answer < 0 { Err(last_errno()) } else { Ok(()) } {
            Err(Errno::INVAL) => {} // the flag came with 5.11
            answer => return answer,
        }
    }
    for_each_open(first..=HIGHEST, mark)
}

/// Closes every descriptor from `first` on that is not in `keep`, whoever owns it.
///
/// For a process that will only execute a program or exit: values that own a closed descriptor must neither be used nor
/// dropped any more.
///
/// # Errors
/// The kernel's refusal.
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
    if !Newer::CloseRange.is_there() {
        return for_each_open(first..=last.min(HIGHEST), close);
    }
    // SAFETY: as documented above, no owner of one of these descriptors acts any more.
    if unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) } < 0 {
        Err(last_errno())
    } else {
        Ok(())
    }
}

fn close(number: RawFd) -> Result<()> {
    // SAFETY: as in `close_range`.
    if unsafe { libc::close(number) } < 0 && last_errno() != Errno::BADF { Err(last_errno()) } else { Ok(()) }
}

fn mark(number: RawFd) -> Result<()> {
    // SAFETY: takes no pointer; nothing is closed now.
    let answer = unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
    if answer < 0 && last_errno() != Errno::BADF { Err(last_errno()) } else { Ok(()) }
}

/// Does `act` to every open descriptor in the range; numbers that are not open may be among them.
fn for_each_open(range: RangeInclusive<u32>, mut act: impl FnMut(RawFd) -> Result<()>) -> Result<()> {
    let mut act = |number: u32| act(RawFd::try_from(number).map_err(|_| Errno::OVERFLOW)?);
    match listed() {
        // The list was read to its end before the first is closed, which may be the one of the list itself.
        Ok(list) => list.into_iter().filter(|number| range.contains(number)).try_for_each(&mut act),
        Err(_) => range.into_iter().try_for_each(&mut act),
    }
}

/// The numbers of this process's descriptors, if a procfs shows them.
fn listed() -> Result<Vec<u32>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = openat(CWD, "/proc/self/fd", flags, Mode::empty())?;
    if u64::try_from(fstatfs(directory.as_fd())?.f_type) != Ok(PROC_MAGIC) {
        return Err(Errno::NOSYS);
    }
    let mut numbers = Vec::new();
    for entry in rustix::fs::Dir::new(directory)? {
        numbers.extend(entry?.file_name().to_str().ok().and_then(|name| name.parse::<u32>().ok()));
    }
    Ok(numbers)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_descriptors_has_what_is_open() {
        let file = tempfile::tempfile().unwrap();
        let number = file.as_raw_fd().cast_unsigned();
        assert!(listed().unwrap().contains(&number));
    }

    #[test]
    fn one_by_one_a_descriptor_is_marked_and_what_is_not_open_is_no_error() {
        let file = tempfile::tempfile().unwrap();
        rustix::io::fcntl_setfd(&file, rustix::io::FdFlags::empty()).unwrap();
        mark(file.as_raw_fd()).unwrap();
        assert_eq!(rustix::io::fcntl_getfd(&file).unwrap(), rustix::io::FdFlags::CLOEXEC);
        assert_eq!(mark(RawFd::MAX), Ok(()));
        assert_eq!(close(RawFd::MAX), Ok(()));
        let mut seen = Vec::new();
        for_each_open(0..=2, |number| {
            seen.push(number);
            Ok(())
        })
        .unwrap();
        assert!(seen.contains(&1) && seen.iter().all(|number| *number <= 2), "{seen:?}");
    }
}
