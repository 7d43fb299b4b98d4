//! Paths that the program must not see, or must not write.
//!
//! What covers them comes from a private, read-only tmpfs that is attached nowhere: a null device of our own making and
//! an empty directory. The container's `/dev/null` is not used, it may be anything (CVE-2025-31133).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, fstat, makedev, mkdirat, mknodat, openat};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, move_mount};
use tare_sys::mount::{Attributes, Change};

use crate::error::{Call, Error, Result};
use crate::mount::{resolve, source};

/// The two things that cover others.
pub(crate) struct Covers {
    /// Closing it would dissolve the mount, and what is no mount cannot be copied.
    _tmpfs: OwnedFd,
    null: OwnedFd,
    empty: OwnedFd,
}

// === impl Covers ===

impl Covers {
    /// Makes them.
    pub(crate) fn new() -> Result<Self> {
        let attributes = Attributes::NOSUID.with(Attributes::NOEXEC);
        let tmpfs = source::new("tmpfs", None, &[], attributes)?;
        let null = makedev(1, 3);
        mknodat(&tmpfs, "null", FileType::CharacterDevice, Mode::from_raw_mode(0o666), null)
            .call(|| "mknodat(private tmpfs, \"null\", S_IFCHR, 1:3)")?;
        mkdirat(&tmpfs, "empty", Mode::from_raw_mode(0o555)).call(|| "mkdirat(private tmpfs, \"empty\")")?;
        let read_only = Change { set: Attributes::RDONLY, ..Change::default() };
        source::change(tmpfs.as_fd(), read_only)?;
        let open = |name: &str, flags: OFlags| {
            openat(&tmpfs, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC | flags, Mode::empty())
                .call(|| format!("openat(private tmpfs, {name:?}, O_PATH)"))
        };
        let (null_file, empty) = (open("null", OFlags::empty())?, open("empty", OFlags::DIRECTORY)?);
        Self { null: null_file, empty, _tmpfs: tmpfs }.verified(null)
    }

    fn verified(self, null: u64) -> Result<Self> {
        let stat = fstat(&self.null).call(|| "fstat(null)")?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == null {
            return Ok(self);
        }
        Err(Error::forbidden("the null device just made is not character device 1:3"))
    }

    /// Covers `path` if it exists.
    pub(crate) fn cover(&self, root: BorrowedFd<'_>, path: &str) -> Result<()> {
        let Some(place) = existing(root, path)? else { return Ok(()) };
        let cover = if resolve::is_directory(place.as_fd())? { &self.empty } else { &self.null };
        put(source::clone_of(cover.as_fd(), false)?.as_fd(), place.as_fd(), path)
    }
}

/// Makes `path`, and every mount below it, read-only if it exists.
pub(crate) fn read_only(root: BorrowedFd<'_>, path: &str) -> Result<()> {
    let Some(place) = existing(root, path)? else { return Ok(()) };
    let copy = source::clone_of(place.as_fd(), true)?;
    let change = Change { set: Attributes::RDONLY, recursive: true, ..Change::default() };
    source::change(copy.as_fd(), change)?;
    put(copy.as_fd(), place.as_fd(), path)
}

fn existing(root: BorrowedFd<'_>, path: &str) -> Result<Option<OwnedFd>> {
    match resolve::open(root, path, OFlags::PATH) {
        Ok(place) => Ok(Some(place)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(errno) => Err(errno).call(|| format!("openat2(root, {path:?}, O_PATH)")),
    }
}

fn put(mount: BorrowedFd<'_>, place: BorrowedFd<'_>, path: &str) -> Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount, "", place, "", flags).call(|| format!("move_mount(mount, {path:?})"))
}
