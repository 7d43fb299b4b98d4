//! The user namespace that this process is in, and those above another.
//!
//! See [user_namespaces(7)](https://man7.org/linux/man-pages/man7/user_namespaces.7.html) and
//! [ioctl_ns(2)](https://man7.org/linux/man-pages/man2/ioctl_ns.2.html).

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::sync::OnceLock;

use rustix::io::Result;

use crate::last_errno;

/// The inode of the user namespace that the kernel starts with (`USER_NS_INIT_INO`); no other has it.
const INITIAL: u64 = 0xefff_fffd;

/// Neighbouring ids: what they are in a user namespace, and what in the one above it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The first one inside.
    pub inside: u32,
    /// The first one outside.
    pub outside: u32,
    /// How many.
    pub count: u32,
}

/// Whether this process is in the user namespace that the kernel started with: root there is root of the machine, root of
/// any other is not. Asked once; whoever enters another namespace later was in the first all the same.
pub fn is_initial() -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    // Where there is no /proc or no user namespaces, there is only one.
    *ANSWER.get_or_init(|| fs::metadata("/proc/self/ns/user").map_or(true, |data| data.ino() == INITIAL))
}

/// The users that exist in this process's user namespace.
///
/// # Errors
/// `/proc/self/uid_map` cannot be read.
pub fn own_users() -> io::Result<Vec<Extent>> {
    Ok(extents(&fs::read_to_string("/proc/self/uid_map")?))
}

/// The groups that exist in this process's user namespace.
///
/// # Errors
/// `/proc/self/gid_map` cannot be read.
pub fn own_groups() -> io::Result<Vec<Extent>> {
    Ok(extents(&fs::read_to_string("/proc/self/gid_map")?))
}

/// What the kernel shows in a `uid_map` or `gid_map`: lines of three numbers.
pub fn extents(map: &str) -> Vec<Extent> {
    let line = |line: &str| {
        let mut numbers = line.split_whitespace().map(|number| number.parse().ok());
        let mut next = || numbers.next()?;
        Some(Extent { inside: next()?, outside: next()?, count: next()? })
    };
    map.lines().filter_map(line).collect()
}

/// The user namespace above the one that `userns` means.
///
/// # Errors
/// `EPERM` if it is neither the caller's nor below it.
pub fn parent(userns: BorrowedFd<'_>) -> Result<OwnedFd> {
    // Request 2 of the namespace type 0xb7, which takes and gives nothing but the descriptor.
    const NS_GET_PARENT: libc::c_ulong = 0xb702;
    // SAFETY: takes no pointer.
    let fd = unsafe { libc::ioctl(userns.as_raw_fd(), NS_GET_PARENT as _, 0) };
    if fd < 0 {
        return Err(last_errno());
    }
    // SAFETY: the kernel has just made it, and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_of_the_kernel_is_read() {
        let map = "         0       1000          1\n         1     100000      65536\n";
        let want = [(0, 1000, 1), (1, 100_000, 65_536)].map(|(inside, outside, count)| Extent {
            inside,
            outside,
            count,
        });
        assert_eq!(extents(map), want);
        assert_eq!(extents("0 0 4294967295\nx\n1 2\n").len(), 1);
    }

    #[test]
    fn whoever_has_all_ids_is_in_the_initial_namespace() {
        let all = own_users().unwrap() == extents("0 0 4294967295");
        assert_eq!(is_initial(), all);
        assert_eq!(own_users().unwrap().is_empty(), own_groups().unwrap().is_empty());
    }
}
