//! Paths looked up below a directory that they cannot lead out of.
//!
//! By openat2(2); where that is missing, component by component:
//!
//! ```text
//!   path ─▶ components ─▶ next ─┬─ name: O_PATH|O_NOFOLLOW below the top of the stack
//!                    ▲          │     ├─ symbolic link ─▶ its components go before the others (40 times)
//!                    │          │     └─ anything else ─▶ pushed on the stack
//!                    │          ├─ `..`: the top is taken off the stack, the root stays
//!                    └──────────┴─ none left: what is on top, opened as was asked for
//! ```
//!
//! The stack holds the directories that were passed, by descriptor. `..` goes back to the one that we came through, not to
//! where the kernel finds the directory now; so a directory that is moved away meanwhile leads nowhere but to
//! itself. What is reached was found by name in a directory that was itself found so, back to the root: the same that
//! openat2(2) promises, which answers `EAGAIN` where it cannot tell.
//!
//! Answers differ in one: `fs.protected_symlinks` is not applied. Where links lead stays below the root anyway.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, ResolveFlags, StatVfsMountFlags, StatxFlags, fstat, fstatfs, fstatvfs,
    openat, openat2, readlinkat, statx,
};
use rustix::io::{Errno, Result};

use crate::newer::Newer;
use crate::pidfd::PROC_MAGIC;

/// Where a path may lead. Links of `/proc` that lead to open files and other roots are always refused (`LOOP`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Within {
    /// What is at the directory's edge.
    pub edge: Edge,
    /// Symbolic links are followed; else each is refused (`LOOP`).
    pub links: bool,
    /// Other mounts are entered; else each is refused (`XDEV`).
    pub mounts: bool,
}

/// What an absolute path, an absolute link and `..` mean at the directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edge {
    /// The directory is the root: they stay at it.
    Root,
    /// They are refused (`XDEV`).
    Wall,
    /// Nothing: an absolute path begins at the process's root.
    Open,
}

/// Symbolic links followed in one lookup; the kernel's own limit.
const MOST_LINKS: usize = 40;
/// Longest path, as the kernel's.
const LONGEST: usize = 4095;
/// `ST_NOSYMFOLLOW`, which has no name in libraries.
pub(crate) const NOSYMFOLLOW: StatVfsMountFlags = StatVfsMountFlags::from_bits_retain(0x2000);
/// The inode of procfs's own root, the only directory with links of its own that have no size.
const PROC_ROOT: u64 = 1;

/// Opens what is at `path` below `directory`. The descriptor is close-on-exec; nothing is made.
///
/// # Errors
/// As openat2(2); `AGAIN` if something was renamed meanwhile, and the lookup may be tried again.
pub fn open(directory: BorrowedFd<'_>, path: &Path, flags: OFlags, within: Within) -> Result<OwnedFd> {
    if flags.intersects(OFlags::CREATE | OFlags::TMPFILE.difference(OFlags::DIRECTORY)) {
        return Err(Errno::INVAL);
    }
    let flags = flags | OFlags::CLOEXEC;
    if Newer::Openat2.is_there() {
        return openat2(directory, path, flags, Mode::empty(), within.flags());
    }
    walk(directory, path, flags, within)
}

/// Which mount a file is on.
///
/// # Errors
/// `NOSYS` from kernels before 5.8.
pub(crate) fn mount_id(file: BorrowedFd<'_>) -> Result<u64> {
    let known = statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)?;
    if known.stx_mask & StatxFlags::MNT_ID.bits() == 0 { Err(Errno::NOSYS) } else { Ok(known.stx_mnt_id) }
}

// === impl Within ===

impl Within {
    /// As if `directory` were the root.
    pub const ROOT: Self = Self { edge: Edge::Root, links: true, mounts: true };
    /// Strictly below, without symbolic links.
    pub const BENEATH: Self = Self { edge: Edge::Wall, links: false, mounts: true };

    /// The same without symbolic links.
    #[must_use]
    pub const fn without_links(self) -> Self {
        Self { links: false, ..self }
    }

    /// The same without other mounts.
    #[must_use]
    pub const fn on_one_mount(self) -> Self {
        Self { mounts: false, ..self }
    }

    fn flags(self) -> ResolveFlags {
        let edge = match self.edge {
            Edge::Root => ResolveFlags::IN_ROOT,
            Edge::Wall => ResolveFlags::BENEATH,
            Edge::Open => ResolveFlags::empty(),
        };
        let links = if self.links { ResolveFlags::empty() } else { ResolveFlags::NO_SYMLINKS };
        let mounts = if self.mounts { ResolveFlags::empty() } else { ResolveFlags::NO_XDEV };
        edge | links | mounts | ResolveFlags::NO_MAGICLINKS
    }
}

/// A lookup under way.
struct Walk {
    within: Within,
    /// The directory, and what was passed since; never empty.
    passed: Vec<OwnedFd>,
    /// The component that led to the top, if it is a name below the one before.
    last: Option<OsString>,
    rest: VecDeque<OsString>,
    links: usize,
    /// The mount that must not be left.
    mount: Option<u64>,
}

/// As [`open`], without openat2(2).
fn walk(directory: BorrowedFd<'_>, path: &Path, flags: OFlags, within: Within) -> Result<OwnedFd> {
    let bytes = path.as_os_str().as_bytes();
    match bytes.len() {
        0 => return Err(Errno::NOENT),
        1..=LONGEST => {}
        _ => return Err(Errno::NAMETOOLONG),
    }
    let start = match (bytes.starts_with(b"/"), within.edge) {
        (true, Edge::Wall) => return Err(Errno::XDEV),
        (true, Edge::Open) => look(directory, OsStr::new("/"), OFlags::DIRECTORY)?,
        _ => look(directory, OsStr::new("."), OFlags::DIRECTORY)?,
    };
    let mount = if within.mounts { None } else { Some(mount_id(start.as_fd())?) };
    let mut walk = Walk { within, passed: vec![start], last: None, rest: components(bytes), links: 0, mount };
    while let Some(next) = walk.rest.pop_front() {
        match next.as_bytes() {
            b"." => walk.stay()?,
            b".." => walk.back()?,
            _ => {
                if let Some(link) = walk.forth(next, flags)? {
                    return Ok(link);
                }
            }
        }
    }
    walk.open(flags)
}

// === impl Walk ===

impl Walk {
    fn top(&self) -> BorrowedFd<'_> {
        self.passed[self.passed.len() - 1].as_fd()
    }

    /// Asks whether the top is a directory that may be searched, as every component does.
    fn stay(&mut self) -> Result<()> {
        self.last = None;
        look(self.top(), OsStr::new("."), OFlags::DIRECTORY).map(drop)
    }

    fn back(&mut self) -> Result<()> {
        self.stay()?;
        if self.passed.len() > 1 {
            self.passed.pop();
            return Ok(());
        }
        match self.within.edge {
            Edge::Root => Ok(()),
            Edge::Wall => Err(Errno::XDEV),
            Edge::Open => {
                let above = look(self.top(), OsStr::new(".."), OFlags::DIRECTORY)?;
                self.require_mount(above.as_fd())?;
                self.passed = vec![above];
                Ok(())
            }
        }
    }

    /// One name on. A link at the very end that is not to be followed is the answer.
    fn forth(&mut self, name: OsString, flags: OFlags) -> Result<Option<OwnedFd>> {
        let found = look(self.top(), &name, OFlags::empty())?;
        self.require_mount(found.as_fd())?;
        let stat = fstat(&found)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
            self.passed.push(found);
            self.last = Some(name);
            return Ok(None);
        }
        if self.rest.is_empty() && flags.contains(OFlags::NOFOLLOW) {
            return match flags {
                flags if flags.contains(OFlags::DIRECTORY) => Err(Errno::NOTDIR),
                flags if flags.contains(OFlags::PATH) => Ok(Some(found)),
                _ => Err(Errno::LOOP),
            };
        }
        let target = self.follow(found.as_fd(), &stat)?;
        if target.starts_with(b"/") {
            match self.within.edge {
                Edge::Root => self.passed.truncate(1),
                Edge::Wall => return Err(Errno::XDEV),
                Edge::Open => self.passed = vec![look(self.top(), OsStr::new("/"), OFlags::DIRECTORY)?],
            }
            self.require_mount(self.top())?;
        }
        self.last = None;
        for component in components(&target).into_iter().rev() {
            self.rest.push_front(component);
        }
        Ok(None)
    }

    /// Where a link leads, if it may be followed.
    fn follow(&mut self, link: BorrowedFd<'_>, stat: &rustix::fs::Stat) -> Result<Vec<u8>> {
        if !self.within.links || self.links == MOST_LINKS {
            return Err(Errno::LOOP);
        }
        self.links += 1;
        if fstatvfs(link)?.f_flag.contains(NOSYMFOLLOW) {
            return Err(Errno::LOOP);
        }
        let target = readlinkat(link, "", Vec::new())?.into_bytes();
        if u64::try_from(fstatfs(link)?.f_type) == Ok(PROC_MAGIC) && self.is_magic(stat, target.len())? {
            return Err(Errno::LOOP);
        }
        Ok(target)
    }

    /// Links of procfs that are text, such as `/proc/mounts`, have the length of their text and every permission; so
    /// have `self` and `thread-self` in its root, but for the length.
    fn is_magic(&self, link: &rustix::fs::Stat, length: usize) -> Result<bool> {
        if link.st_mode & 0o777 != 0o777 {
            return Ok(true);
        }
        let of_its_size = usize::try_from(link.st_size) == Ok(length);
        Ok(!of_its_size && fstat(self.top())?.st_ino != PROC_ROOT)
    }

    fn require_mount(&self, file: BorrowedFd<'_>) -> Result<()> {
        match self.mount {
            Some(mount) if mount_id(file)? != mount => Err(Errno::XDEV),
            _ => Ok(()),
        }
    }

    /// Opens what was reached.
    fn open(mut self, flags: OFlags) -> Result<OwnedFd> {
        let Some(found) = self.passed.pop() else { return Err(Errno::NOENT) };
        if flags.contains(OFlags::PATH) {
            let stat = fstat(&found)?;
            let directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
            return if flags.contains(OFlags::DIRECTORY) && !directory {
                Err(Errno::NOTDIR)
            } else {
                Ok(found)
            };
        }
        let opened = match (self.last.take(), self.passed.last()) {
            // The name may mean something else by now, which is found where it belongs just as well; but for a link.
            (Some(name), Some(parent)) => openat(parent, &name, flags | OFlags::NOFOLLOW, Mode::empty())
                .map_err(|errno| if errno == Errno::LOOP { Errno::AGAIN } else { errno })?,
            _ => openat(&found, ".", flags, Mode::empty())?,
        };
        self.require_mount(opened.as_fd())?;
        Ok(opened)
    }
}

fn look(directory: BorrowedFd<'_>, name: &OsStr, more: OFlags) -> Result<OwnedFd> {
    openat(directory, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC | more, Mode::empty())
}

/// A slash at the end asks for a directory, as `.` does.
fn components(path: &[u8]) -> VecDeque<OsString> {
    let mut parts: VecDeque<OsString> = path
        .split(|byte| *byte == b'/')
        .filter(|part| !part.is_empty())
        .map(|part| OsString::from_vec(part.to_vec()))
        .collect();
    if path.ends_with(b"/") {
        parts.push_back(OsString::from("."));
    }
    parts
}

#[cfg(test)]
mod tests;
