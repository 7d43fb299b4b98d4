//! Device nodes, made by descriptor of their directory inside the container's root.

use std::os::fd::BorrowedFd;

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Uid, chownat, makedev, mknodat, readlinkat, statat, symlinkat,
    unlinkat,
};
use rustix::io::Errno;

use crate::error::{Call, Error, Result};
use crate::mount::resolve::{self, Kind};
use crate::plan::{Device, DeviceKind};

/// Makes a node, and directories on the way to it. One that is there already must be the same device.
pub(crate) fn make(root: BorrowedFd<'_>, device: &Device) -> Result<()> {
    let (parent, name) = device.path.rsplit_once('/').unwrap_or(("", &device.path));
    let parent = resolve::ensure(root, parent, Kind::Directory, true)?;
    let kind = match device.kind {
        DeviceKind::Character => FileType::CharacterDevice,
        DeviceKind::Block => FileType::BlockDevice,
        DeviceKind::Pipe => FileType::Fifo,
    };
    let number = makedev(device.major, device.minor);
    match mknodat(&parent, name, kind, Mode::from_raw_mode(device.mode), number) {
        Err(Errno::EXIST) => {
            let there =
                statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW).call(|| format!("fstatat(fd, {name:?})"))?;
            if FileType::from_raw_mode(there.st_mode) != kind || there.st_rdev != number {
                return Err(Error::forbidden("the image has something else in the place of this device"));
            }
        }
        other => other.call(|| {
            format!("mknodat(fd, {name:?}, {:o}, {}:{})", device.mode, device.major, device.minor)
        })?,
    }
    if (device.uid, device.gid) == (0, 0) {
        return Ok(());
    }
    let owner = (Some(Uid::from_raw(device.uid)), Some(Gid::from_raw(device.gid)));
    chownat(&parent, name, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW)
        .call(|| format!("fchownat(fd, {name:?}, {}, {})", device.uid, device.gid))
}

/// Makes a link in /dev. What the image has there stays, but for `ptmx`, which must lead to the container's own devpts.
pub(crate) fn link(root: BorrowedFd<'_>, name: &str, target: &str) -> Result<()> {
    let dev = resolve::open(root, "/dev", OFlags::PATH | OFlags::DIRECTORY)
        .call(|| "openat2(root, \"/dev\", O_PATH|O_DIRECTORY)")?;
    let call = || format!("symlinkat({target:?}, /dev, {name:?})");
    match symlinkat(target, &dev, name) {
        Err(Errno::EXIST) if name == "ptmx" => {
            if readlinkat(&dev, name, Vec::new()).is_ok_and(|there| there.as_bytes() == target.as_bytes()) {
                return Ok(());
            }
            unlinkat(&dev, name, AtFlags::empty()).call(|| format!("unlinkat(/dev, {name:?})"))?;
            symlinkat(target, &dev, name).call(call)
        }
        Err(Errno::EXIST) => Ok(()),
        other => other.call(call),
    }
}
