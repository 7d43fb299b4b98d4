//! Mounts by descriptor: trees copied, moved to their place, their attributes and ids changed.
//!
//! By the calls of Linux 5.2 and mount_setattr(2), to which a mount need not be attached anywhere; without them by
//! mount(2), see [`stage`]. Ids are mapped by mount_setattr(2) alone.
//! See [mount_setattr(2)](https://man7.org/linux/man-pages/man2/mount_setattr.2.html).

pub mod stage;

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::io::{Errno, Result};
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};

use crate::last_errno;
use crate::newer::Newer;

/// Whether file systems can be mounted, and trees copied, without being attached anywhere (Linux 5.2).
pub fn can_detach() -> bool {
    Newer::MountApi.is_there() && Newer::MountSetattr.is_there()
}

/// Whether the ids of a mount can be mapped (mount_setattr(2), Linux 5.12).
pub fn can_map_ids() -> bool {
    can_detach()
}

/// A copy of the mount tree at `path` relative to `dir` (an empty one: at `dir`), with or without what is mounted below.
///
/// # Errors
/// `EINVAL` for what cannot be bound, or is in another mount namespace.
pub fn copy_tree(dir: BorrowedFd<'_>, path: &Path, recursive: bool) -> Result<OwnedFd> {
    if !can_detach() {
        return stage::copy_tree(dir, path, recursive);
    }
    let mut flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    loop {
        match open_tree(dir, path, flags) {
            Err(Errno::INTR) => {}
            answer => return answer,
        }
    }
}

/// Moves a mount to the place that `dir` is, or to the entry `name` of it.
///
/// # Errors
/// `EINVAL` for what is no mount's root; `ENOTDIR` for a file on a directory, or the other way round.
pub fn attach(mount: BorrowedFd<'_>, dir: BorrowedFd<'_>, name: &str) -> Result<()> {
    if !can_detach() {
        return stage::attach(mount, dir, name);
    }
    let mut flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    if name.is_empty() {
        flags |= MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    }
    move_mount(mount, "", dir, name, flags)
}

/// Attributes of a mount as bits, `MOUNT_ATTR_*`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes(u64);

/// How mounts and unmounts travel between copies of a mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// Not at all.
    Private,
    /// From the others to this copy only.
    Slave,
    /// Both ways.
    Shared,
    /// Not at all, and the mount cannot be bound.
    Unbindable,
}

/// What to change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Attributes to switch on.
    pub set: Attributes,
    /// Attributes to switch off.
    pub clear: Attributes,
    /// New propagation, if any.
    pub propagation: Option<Propagation>,
    /// Change every mount below as well.
    pub recursive: bool,
}

// === impl Attributes ===

impl Attributes {
    /// None.
    pub const NONE: Self = Self(0);
    /// Cannot be written.
    pub const RDONLY: Self = Self(libc::MOUNT_ATTR_RDONLY);
    /// Set-user-id bits and file capabilities have no effect.
    pub const NOSUID: Self = Self(libc::MOUNT_ATTR_NOSUID);
    /// Device nodes cannot be opened.
    pub const NODEV: Self = Self(libc::MOUNT_ATTR_NODEV);
    /// Nothing can be executed.
    pub const NOEXEC: Self = Self(libc::MOUNT_ATTR_NOEXEC);
    /// The field of access time modes; to change the mode, clear this and set one.
    pub const ATIME_FIELD: Self = Self(libc::MOUNT_ATTR__ATIME);
    /// Access times relative to modification (the kernel's default; no bit of its own).
    pub const RELATIME: Self = Self(libc::MOUNT_ATTR_RELATIME);
    /// No access times.
    pub const NOATIME: Self = Self(libc::MOUNT_ATTR_NOATIME);
    /// Exact access times.
    pub const STRICTATIME: Self = Self(libc::MOUNT_ATTR_STRICTATIME);
    /// No access times of directories.
    pub const NODIRATIME: Self = Self(libc::MOUNT_ATTR_NODIRATIME);
    /// Symbolic links are not followed.
    pub const NOSYMFOLLOW: Self = Self(libc::MOUNT_ATTR_NOSYMFOLLOW);

    /// The bits.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// The union.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The difference.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether all bits of `other` are in it.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

// === impl Propagation ===

impl Propagation {
    fn flag(self) -> u64 {
        match self {
            Self::Private => libc::MS_PRIVATE,
            Self::Slave => libc::MS_SLAVE,
            Self::Shared => libc::MS_SHARED,
            Self::Unbindable => libc::MS_UNBINDABLE,
        }
    }
}

/// Changes the mount at `path` relative to `dir`; an empty path means the mount that `dir` itself is on top of.
///
/// # Errors
/// `EINVAL` if `dir` and `path` are no mount's root, `EPERM` for attributes that a user namespace has locked.
pub fn mount_setattr(dir: BorrowedFd<'_>, path: &CStr, change: Change) -> Result<()> {
    if !can_detach() {
        return stage::change(dir, path, change);
    }
    let propagation = change.propagation.map_or(0, Propagation::flag);
    let attr =
        libc::mount_attr { attr_set: change.set.0, attr_clr: change.clear.0, propagation, userns_fd: 0 };
    set(dir, path, &attr, change.recursive)
}

/// Maps the ids of a detached mount, and of every mount below it if `recursive`, by the user namespace `userns`: what is 0
/// on disk shows as what that namespace has its 0 on, and what is written as that is 0 on disk.
///
/// # Errors
/// `EINVAL` if a file system cannot be mapped, or the mount is attached; `EPERM` if it is mapped already.
pub fn map_ids(mount: BorrowedFd<'_>, userns: BorrowedFd<'_>, recursive: bool) -> Result<()> {
    let userns_fd = u64::try_from(userns.as_raw_fd()).unwrap_or(u64::MAX);
    let attr = libc::mount_attr { attr_set: libc::MOUNT_ATTR_IDMAP, attr_clr: 0, propagation: 0, userns_fd };
    set(mount, c"", &attr, recursive)
}

fn set(dir: BorrowedFd<'_>, path: &CStr, attr: &libc::mount_attr, recursive: bool) -> Result<()> {
    let recursive = if recursive { libc::AT_RECURSIVE } else { 0 };
    let flags = libc::AT_EMPTY_PATH | libc::AT_SYMLINK_NOFOLLOW | recursive;
    // SAFETY: `path` and `attr` live over the call, and the size given is that of `attr`.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            dir.as_raw_fd(),
            path.as_ptr(),
            flags,
            std::ptr::from_ref(attr),
            std::mem::size_of_val(attr),
        )
    };
    if answer < 0 { Err(last_errno()) } else { Ok(()) }
}

/// A path as `/proc/PID/mountinfo` writes it: blanks, line ends and backslashes are three octal digits there. See
/// [proc_pid_mountinfo(5)](https://man7.org/linux/man-pages/man5/proc_pid_mountinfo.5.html).
pub fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, after @ ..] = rest {
        match after {
            [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..] if *first == b'\\' => {
                out.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = after;
            }
            _ => {
                out.push(*first);
                rest = after;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};

    use super::*;

    fn detached_tmpfs() -> std::os::fd::OwnedFd {
        let fs = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC).unwrap();
        fsconfig_create(fs.as_fd()).unwrap();
        fsmount(fs.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty()).unwrap()
    }

    #[test]
    fn a_detached_mount_becomes_read_only_and_writable_again() {
        let mount = detached_tmpfs();
        let make = || rustix::fs::mkdirat(&mount, "d", rustix::fs::Mode::RWXU);
        let read_only = Change { set: Attributes::RDONLY, ..Change::default() };
        mount_setattr(mount.as_fd(), c"", read_only).unwrap();
        assert_eq!(make(), Err(rustix::io::Errno::ROFS));
        let writable = Change { clear: Attributes::RDONLY, ..Change::default() };
        mount_setattr(mount.as_fd(), c"", writable).unwrap();
        assert_eq!(make(), Ok(()));
    }

    #[test]
    fn a_directory_that_is_no_mount_is_refused() {
        let mount = detached_tmpfs();
        rustix::fs::mkdirat(&mount, "d", rustix::fs::Mode::RWXU).unwrap();
        let change = Change { propagation: Some(Propagation::Private), ..Change::default() };
        assert_eq!(mount_setattr(mount.as_fd(), c"d", change), Err(rustix::io::Errno::INVAL));
    }

    #[test]
    fn sets_of_attributes_add_and_subtract() {
        let both = Attributes::RDONLY.with(Attributes::NODEV);
        assert!(both.contains(Attributes::NODEV) && !both.contains(Attributes::NOEXEC));
        assert_eq!(both.without(Attributes::NODEV), Attributes::RDONLY);
        assert!(Attributes::RELATIME.is_empty());
    }
}
