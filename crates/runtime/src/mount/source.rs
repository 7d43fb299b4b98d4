//! Detached mounts: new file systems and copies of existing trees, not yet visible anywhere.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen, open_tree,
};
use tare_sys::mount::{Attributes, Change, mount_setattr};
use tare_sys::process::{Namespaces, setns};

use crate::error::{Call, Context, Error, Result};
use crate::mount::options::Datum;

/// The path of "this descriptor itself".
pub(crate) const ITSELF: &CStr = c"";

/// A new instance of file system `kind`.
pub(crate) fn new(
    kind: &str,
    source: Option<&str>,
    data: &[Datum],
    attributes: Attributes,
) -> Result<OwnedFd> {
    let fs = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC).call(|| format!("fsopen({kind:?})"))?;
    if let Some(source) = source {
        set(fs.as_fd(), "source", Some(source))?;
    }
    for Datum { key, value } in data {
        set(fs.as_fd(), key, value.as_deref())?;
    }
    create(fs.as_fd(), kind, attributes)
}

/// Makes the file system that was described on `fs`, and a mount of it.
pub(crate) fn create(fs: BorrowedFd<'_>, kind: &str, attributes: Attributes) -> Result<OwnedFd> {
    fsconfig_create(fs).call(|| format!("fsconfig({kind}, FSCONFIG_CMD_CREATE){}", complaint(fs)))?;
    let bits = u32::try_from(attributes.bits())
        .map_err(|_| Error::invalid("mount attributes that this version does not know"))?;
    fsmount(fs, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::from_bits_retain(bits))
        .call(|| format!("fsmount({kind}, {bits:#x})"))
}

/// Gives the file system a parameter.
pub(crate) fn set(fs: BorrowedFd<'_>, key: &str, value: Option<&str>) -> Result<()> {
    match value {
        Some(value) => fsconfig_set_string(fs, key, value)
            .call(|| format!("fsconfig(FSCONFIG_SET_STRING, {key:?}, {value:?}){}", complaint(fs))),
        None => fsconfig_set_flag(fs, key)
            .call(|| format!("fsconfig(FSCONFIG_SET_FLAG, {key:?}){}", complaint(fs))),
    }
}

/// What the kernel has to say about the last failure, if it said something.
fn complaint(fs: BorrowedFd<'_>) -> String {
    let mut said = String::new();
    let mut line = [0_u8; 512];
    while let Ok(length @ 1..) = rustix::io::read(fs, &mut line) {
        said = format!(" ({})", String::from_utf8_lossy(&line[..length]).trim_end());
    }
    said
}

/// A copy of the mount tree at `path` of the host, with or without what is mounted below. `/proc/PID/root/PATH` is the
/// tree at `/PATH` in the mount namespace of that process.
pub(crate) fn bind(path: &Path, recursive: bool) -> Result<OwnedFd> {
    if let Some((pid, inside)) = of_another(path) {
        return bind_of_another(pid, inside, recursive).context(|| format!("{path:?}"));
    }
    clone_tree(CWD, path, recursive).call(|| {
        let flag = if recursive { "|AT_RECURSIVE" } else { "" };
        format!("open_tree({path:?}, OPEN_TREE_CLONE{flag})")
    })
}

/// Process and path inside, if `path` looks through a process's root.
fn of_another(path: &Path) -> Option<(u32, &Path)> {
    let (pid, inside) = path.to_str()?.strip_prefix("/proc/")?.split_once("/root/")?;
    Some((pid.parse().ok()?, Path::new(inside)))
}

/// A mount can only be copied in the mount namespace it is in: goes there, copies, comes back. The root is that of the own
/// namespace afterwards. Links that the other container may have put are not followed.
fn bind_of_another(pid: u32, inside: &Path, recursive: bool) -> Result<OwnedFd> {
    let namespace = |name: &str| {
        rustix::fs::open(name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .call(|| format!("open({name:?})"))
    };
    let (home, away) = (namespace("/proc/self/ns/mnt")?, namespace(&format!("/proc/{pid}/ns/mnt"))?);
    let directory = rustix::fs::open(".", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .call(|| "open(\".\", O_PATH)")?;
    setns(away.as_fd(), Namespaces::MOUNT).call(|| format!("setns(mount namespace of {pid})"))?;
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let found = openat2(CWD, inside, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS)
        .call(|| format!("openat2({inside:?}, O_PATH, RESOLVE_NO_SYMLINKS)"))
        .and_then(|file| clone_of(file.as_fd(), recursive));
    setns(home.as_fd(), Namespaces::MOUNT).call(|| "setns(own mount namespace)")?;
    rustix::process::fchdir(&directory).call(|| "fchdir(own working directory)")?;
    found
}

/// A copy of the mount that `file` is on, with `file` as its root.
pub(crate) fn clone_of(file: BorrowedFd<'_>, recursive: bool) -> Result<OwnedFd> {
    clone_tree(file, Path::new(""), recursive).call(|| "open_tree(fd, \"\", OPEN_TREE_CLONE)")
}

fn clone_tree(dir: BorrowedFd<'_>, path: &Path, recursive: bool) -> rustix::io::Result<OwnedFd> {
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

/// Changes attributes of a mount by its descriptor.
pub(crate) fn change(mount: BorrowedFd<'_>, change: Change) -> Result<()> {
    mount_setattr(mount, ITSELF, change).call(|| {
        format!(
            "mount_setattr(mount, set {:#x}, clear {:#x}, {:?}{})",
            change.set.bits(),
            change.clear.bits(),
            change.propagation,
            if change.recursive { ", AT_RECURSIVE" } else { "" },
        )
    })
}
