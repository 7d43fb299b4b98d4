//! Detached mounts: new file systems and copies of existing trees, not yet visible anywhere.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, XattrFlags, fsetxattr, fstat, openat};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string,
    fsmount, fsopen,
};
use tare_sys::lookup::{self, Edge, Within};
use tare_sys::mount::{Attributes, Change, can_detach, copy_tree, mount_setattr, stage};
use tare_sys::process::{Namespaces, setns};

use crate::error::{Call, Context, Error, Result};
use crate::mount::options::Datum;

/// The path of "this descriptor itself".
pub(crate) const ITSELF: &CStr = c"";

/// SELinux's options of a mount, and its attribute of a file.
pub(crate) const CONTEXT: &str = "context";
const LABEL: &str = "security.selinux";

/// The parameter that gives all files of a file system a label.
pub(crate) fn context(label: &str) -> Datum {
    Datum { key: CONTEXT.to_owned(), value: Some(label.to_owned()) }
}

/// A new instance of file system `kind`.
pub(crate) fn new(
    kind: &str,
    source: Option<&str>,
    data: &[Datum],
    attributes: Attributes,
) -> Result<OwnedFd> {
    // An IPC namespace has one, made with it: a mount shows that and can change none of its options.
    if let ("mqueue", Some(at)) = (kind, data.iter().position(|datum| datum.key == CONTEXT)) {
        let mount = unlabelled(kind, source, &[&data[..at], &data[at + 1..]].concat(), attributes)?;
        return label(mount.as_fd(), data[at].value.as_deref().unwrap_or_default()).map(|()| mount);
    }
    unlabelled(kind, source, data, attributes)
}

/// Gives the root of a file system a label.
fn label(mount: BorrowedFd<'_>, label: &str) -> Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = openat(mount, c".", flags, Mode::empty()).call(|| "openat(mount, \".\", O_DIRECTORY)")?;
    fsetxattr(&root, LABEL, label.as_bytes(), XattrFlags::empty())
        .call(|| format!("fsetxattr(mount, {LABEL:?}, {label:?})"))
}

fn unlabelled(kind: &str, source: Option<&str>, data: &[Datum], attributes: Attributes) -> Result<OwnedFd> {
    if !can_detach() {
        let parameters: Vec<stage::Parameter<'_>> =
            data.iter().map(|datum| (datum.key.as_str(), datum.value.as_deref())).collect();
        return stage::file_system(kind, source, &parameters, attributes).call(|| {
            format!("mount({source:?}, stage, {kind:?}, {:#x}, {parameters:?})", attributes.bits())
        });
    }
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
    copy_tree(CWD, path, recursive).call(|| {
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
    if !can_detach() {
        let text =
            "a mount of another container takes open_tree(2) (Linux 5.2), which is missing or forbidden here";
        return Err(Error::unsupported(text));
    }
    let namespace = |name: &str| {
        rustix::fs::open(name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .call(|| format!("open({name:?})"))
    };
    let (home, away) = (namespace("/proc/self/ns/mnt")?, namespace(&format!("/proc/{pid}/ns/mnt"))?);
    let directory = rustix::fs::open(".", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .call(|| "open(\".\", O_PATH)")?;
    setns(away.as_fd(), Namespaces::MOUNT).call(|| format!("setns(mount namespace of {pid})"))?;
    let anywhere = Within { edge: Edge::Open, links: false, mounts: true };
    let found = lookup::open(CWD, inside, OFlags::PATH, anywhere)
        .call(|| format!("openat2({inside:?}, O_PATH, RESOLVE_NO_SYMLINKS)"))
        .and_then(|file| clone_of(file.as_fd(), recursive));
    setns(home.as_fd(), Namespaces::MOUNT).call(|| "setns(own mount namespace)")?;
    rustix::process::fchdir(&directory).call(|| "fchdir(own working directory)")?;
    found
}

/// A copy of the mount that `file` is on, with `file` as its root.
pub(crate) fn clone_of(file: BorrowedFd<'_>, recursive: bool) -> Result<OwnedFd> {
    copy_tree(file, Path::new(""), recursive).call(|| "open_tree(fd, \"\", OPEN_TREE_CLONE)")
}

/// The mount of a file that the parent has found, which is in its mount namespace; a copy needs one of the own, which is
/// found by path. It must be the same file.
pub(crate) fn bind_same(file: BorrowedFd<'_>) -> Result<OwnedFd> {
    use std::os::unix::ffi::OsStrExt;
    let link = tare_sys::dir::proc_path(file);
    let path = rustix::fs::readlink(&link, Vec::new()).call(|| format!("readlink({link:?})"))?;
    let path = Path::new(std::ffi::OsStr::from_bytes(path.as_bytes())).to_owned();
    let mount = bind(&path, false)?;
    let (ours, theirs) = (fstat(&mount).call(|| "fstat(mount)")?, fstat(file).call(|| "fstat(file)")?);
    if (ours.st_dev, ours.st_ino) == (theirs.st_dev, theirs.st_ino) {
        return Ok(mount);
    }
    Err(Error::forbidden(format!("{path:?} is another file by now")))
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
