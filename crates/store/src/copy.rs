//! Copying a directory out of stacked layers, with owners, modes, attributes and times.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, Stat, Timespec, Timestamps, Uid, XattrFlags, chmodat, fchmod, fchown,
    fgetxattr, flistxattr, fsetxattr, futimens,
};
use tare_model::Result;
use tare_sys::dir::Dir;

use crate::error::SystemContext;
use crate::merged::{Found, MergedDir};
use crate::unpack::is_kept_xattr;

/// A directory being copied.
struct Level {
    from: MergedDir,
    to: Dir,
    names: std::vec::IntoIter<OsString>,
}

/// Copies the content and attributes of `from` to the empty directory `to`. Returns whether there was any content.
pub(crate) fn copy_tree(from: MergedDir, to: Dir) -> Result<bool> {
    let first = Level::new(from, to)?;
    let any = !first.names.as_slice().is_empty();
    let mut levels = vec![first];
    while let Some(level) = levels.last_mut() {
        let Some(name) = level.names.next() else {
            // Last, because what was copied into it has moved its times.
            if let Some(done) = levels.pop() {
                let stat = done.from.top().stat_self().while_(|| "copy")?;
                attributes(done.from.top().as_fd(), done.to.as_fd(), &stat)?;
            }
            continue;
        };
        match level.from.entry(&name)? {
            Some(Found::Directory(from)) => {
                level.to.make_dir(&name, 0o700).while_(|| "copy")?;
                let to = level.to.open_dir(&name).while_(|| "copy")?;
                levels.push(Level::new(from, to)?);
            }
            Some(Found::Other { dir, stat }) => copy_entry(&dir, &level.to, &name, &stat)?,
            // A name that a whiteout hides.
            None => {}
        }
    }
    Ok(any)
}

// === impl Level ===

impl Level {
    fn new(from: MergedDir, to: Dir) -> Result<Self> {
        Ok(Self { names: from.names()?.into_iter(), from, to })
    }
}

fn copy_entry(from: &Dir, to: &Dir, name: &OsStr, stat: &Stat) -> Result<()> {
    let kind = FileType::from_raw_mode(stat.st_mode);
    match kind {
        FileType::RegularFile => {
            let source = from.open_file(name).while_(|| "copy")?;
            let mut target = to.create_file(name, 0o600).while_(|| "copy")?;
            std::io::copy(&mut &source, &mut target).while_(|| format!("copy {name:?}"))?;
            return attributes(source.as_fd(), target.as_fd(), stat);
        }
        FileType::Symlink => {
            let target = from.read_link(name).while_(|| "copy")?;
            to.symlink(&target, name).while_(|| "copy")?;
            to.chown(name, stat.st_uid, stat.st_gid).while_(|| "copy")?;
        }
        FileType::Fifo | FileType::CharacterDevice | FileType::BlockDevice | FileType::Socket => {
            to.make_node(name, kind, 0o600, stat.st_rdev).while_(|| "copy")?;
            to.chown(name, stat.st_uid, stat.st_gid).while_(|| "copy")?;
            // Made just now in a directory nobody else can enter: the name cannot lead elsewhere.
            chmodat(to.as_fd(), name, Mode::from_raw_mode(stat.st_mode & 0o7777), AtFlags::empty())
                .while_(|| "copy")?;
        }
        FileType::Directory | FileType::Unknown => return Ok(()),
    }
    to.set_times(name, mtime(stat)).while_(|| "copy")
}

fn attributes(from: BorrowedFd<'_>, to: BorrowedFd<'_>, stat: &Stat) -> Result<()> {
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    fchown(to, Some(uid), Some(gid)).while_(|| "copy: fchown")?;
    fchmod(to, Mode::from_raw_mode(stat.st_mode & 0o7777)).while_(|| "copy: fchmod")?;
    let mut names = vec![0u8; 64 << 10];
    let n = flistxattr(from, &mut names).while_(|| "copy: flistxattr")?;
    for name in names[..n].split(|b| *b == 0).filter(|name| is_kept_xattr(name)) {
        let mut value = vec![0u8; 64 << 10];
        let n = fgetxattr(from, name, &mut value).while_(|| "copy: fgetxattr")?;
        fsetxattr(to, name, &value[..n], XattrFlags::empty()).while_(|| "copy: fsetxattr")?;
    }
    let times = Timestamps { last_access: mtime(stat), last_modification: mtime(stat) };
    futimens(to, &times).while_(|| "copy: futimens")
}

fn mtime(stat: &Stat) -> Timespec {
    Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec as _ }
}
