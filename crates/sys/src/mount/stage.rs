//! Mounts without the calls that leave them unattached: kept on a tmpfs until they are moved to their place.
//!
//! ```text
//!   begin      host's tree ─┬─ …
//!                           └─ /proc/driver: stage ─┬─ proc      paths to descriptors, wherever the root is
//!                                                   └─ 0, 1, …   what was prepared
//!   enter      the stage becomes the root, the host's tree is dropped; the process's root is the container's, on the stage
//!   (attach)   from the stage to below the container's root, by MS_MOVE
//!   leave      the container's root becomes the root, the stage is dropped
//! ```
//!
//! A descriptor of such a mount's root stands for it, as one of open_tree(2) would, so who uses this module's parent sees
//! no difference. All of it happens in a mount namespace of the process's own, which it announces by [`begin`]: before
//! that, and in any other process, the answer is `ENOSYS`.
//!
//! The stage covers a directory of the host's procfs that everybody has and nobody binds; it cannot be bound itself. Every
//! path to a descriptor goes through the stage's own procfs: what the container has as `/proc` is nobody's to trust.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::{CWD, FileType, Mode, OFlags, StatVfsMountFlags, fstat, fstatvfs, mkdirat, mknodat, openat};
use rustix::io::{Errno, Result};
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_bind_recursive, mount_change,
    mount_move, mount_remount, unmount,
};
use rustix::process::{chdir, chroot, fchdir, pivot_root};

use super::{Attributes, Change, Propagation};
use crate::lookup::{self, Within};

/// What the stage covers.
const PLACE: &str = "/proc/driver";

/// A parameter of a file system: its name, and its value if it has one.
pub type Parameter<'a> = (&'a str, Option<&'a str>);

enum State {
    /// Mounts of this process may be seen by others.
    Shared,
    /// It has a mount namespace of its own.
    Private,
    /// There is a stage.
    Built(Stage),
}

struct Stage {
    top: OwnedFd,
    next: usize,
}

/// A mount namespace is of the process, so this is too.
static STATE: Mutex<State> = Mutex::new(State::Shared);

/// The calling process is in a mount namespace of its own, from which nothing travels to others.
pub fn begin() {
    *state() = State::Private;
}

/// A new instance of a file system.
///
/// # Errors
/// The kernel's; `EINVAL` for a value that one string cannot hold, which has commas.
pub fn file_system(
    kind: &str,
    source: Option<&str>,
    parameters: &[Parameter<'_>],
    attributes: Attributes,
) -> Result<OwnedFd> {
    let (flags, data) = in_one_string(parameters)?;
    let data = std::ffi::CString::new(data).map_err(|_| Errno::INVAL)?;
    // Read-only is this mount, not the file system, which others may have mounted as well.
    let read_only = Attributes::RDONLY;
    let flags = flags | flags_of(attributes.without(read_only));
    with(|stage| {
        let slot = stage.slot(FileType::Directory)?;
        // Not from the stage as root: parameters may be paths of the host.
        stage.inside(|| mount(source.unwrap_or(kind), slot.as_str(), kind, flags, Some(data.as_c_str())))?;
        let made = stage.open(&slot)?;
        if attributes.contains(read_only) {
            let change = Change { set: read_only, ..Change::default() };
            stage.inside(|| change_one(made.as_fd(), change))?;
        }
        Ok(made)
    })
}

pub(super) fn copy_tree(dir: BorrowedFd<'_>, path: &Path, recursive: bool) -> Result<OwnedFd> {
    let source = open(dir, path, OFlags::empty())?;
    let kind = FileType::from_raw_mode(fstat(&source)?.st_mode);
    with(|stage| {
        let slot = stage.slot(kind)?;
        let from = named(source.as_fd());
        stage.inside(|| {
            if recursive { mount_bind_recursive(&from, &slot) } else { mount_bind(&from, &slot) }
        })?;
        stage.open(&slot)
    })
}

pub(super) fn attach(what: BorrowedFd<'_>, dir: BorrowedFd<'_>, name: &str) -> Result<()> {
    let place = open(dir, Path::new(name), OFlags::NOFOLLOW)?;
    with(|stage| stage.inside(|| mount_move(named(what), named(place.as_fd()))))
}

pub(super) fn change(dir: BorrowedFd<'_>, path: &CStr, change: Change) -> Result<()> {
    let path = path.to_str().map_err(|_| Errno::INVAL)?;
    if path == "/" {
        return match change {
            Change {
                propagation: Some(propagation), set: Attributes::NONE, clear: Attributes::NONE, ..
            } => mount_change("/", propagation_flags(propagation, change.recursive)),
            _ => Err(Errno::INVAL),
        };
    }
    let target = open(dir, Path::new(path), OFlags::NOFOLLOW)?;
    with(|stage| {
        if let Some(propagation) = change.propagation {
            let flags = propagation_flags(propagation, change.recursive);
            stage.inside(|| mount_change(named(target.as_fd()), flags))?;
        }
        if change.set.is_empty() && change.clear.is_empty() {
            return Ok(());
        }
        stage.inside(|| change_one(target.as_fd(), change))?;
        if !change.recursive {
            return Ok(());
        }
        stage
            .as_root(|| below(target.as_fd())?.iter().try_for_each(|mount| change_one(mount.as_fd(), change)))
    })
}

/// Makes `root`, which is on the stage or attached, the process's root, and drops the host's tree.
///
/// # Errors
/// The kernel's.
pub fn enter(root: BorrowedFd<'_>) -> Result<()> {
    with(|stage| {
        fchdir(&stage.top)?;
        // The old root ends up above the new one at the same place, and is taken off there.
        pivot_root(".", ".")?;
        unmount(".", UnmountFlags::DETACH)?;
        fchdir(root)?;
        chroot(".")?;
        chdir("/")
    })
}

/// Drops the stage, if there is one, with what is left on it. The process's root becomes the root of its mount namespace.
///
/// # Errors
/// The kernel's.
pub fn leave() -> Result<()> {
    let mut state = state();
    let State::Built(stage) = &*state else { return Ok(()) };
    let here = open(CWD, Path::new("."), OFlags::DIRECTORY)?;
    let root = open(CWD, Path::new("/"), OFlags::DIRECTORY)?;
    fchdir(&stage.top)?;
    chroot(".")?;
    fchdir(&root)?;
    pivot_root(".", ".")?;
    unmount(".", UnmountFlags::DETACH)?;
    fchdir(&here)?;
    *state = State::Private;
    Ok(())
}

/// Whether mounts are kept on a stage.
pub fn is_built() -> bool {
    matches!(*state(), State::Built(_))
}

// === impl Stage ===

impl Stage {
    fn build() -> Result<Self> {
        // Nothing that is mounted below may travel to the host.
        mount_change("/proc", MountPropagationFlags::PRIVATE)?;
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        mount("stage", PLACE, "tmpfs", flags, Some(c"mode=700"))?;
        mount_change(PLACE, MountPropagationFlags::UNBINDABLE)?;
        let top = open(CWD, Path::new(PLACE), OFlags::DIRECTORY)?;
        let stage = Self { top, next: 0 };
        mkdirat(&stage.top, "proc", Mode::RWXU)?;
        stage.inside(|| mount("proc", "proc", "proc", flags, None::<&CStr>))?;
        Ok(stage)
    }

    /// A place for a mount of this kind.
    fn slot(&mut self, kind: FileType) -> Result<String> {
        let name = self.next.to_string();
        self.next += 1;
        match kind {
            FileType::Directory => mkdirat(&self.top, &name, Mode::RWXU)?,
            _ => mknodat(&self.top, &name, FileType::RegularFile, Mode::RUSR, 0)?,
        }
        Ok(name)
    }

    fn open(&self, name: &str) -> Result<OwnedFd> {
        open(self.top.as_fd(), Path::new(name), OFlags::NOFOLLOW)
    }

    /// Does `act` with the stage as working directory.
    fn inside<T>(&self, act: impl FnOnce() -> Result<T>) -> Result<T> {
        let here = open(CWD, Path::new("."), OFlags::DIRECTORY)?;
        fchdir(&self.top)?;
        let done = act();
        fchdir(&here)?;
        done
    }

    /// Does `act` with the stage as root as well, which mounts are shown from.
    fn as_root<T>(&self, act: impl FnOnce() -> Result<T>) -> Result<T> {
        let root = open(CWD, Path::new("/"), OFlags::DIRECTORY)?;
        self.inside(|| {
            chroot(".")?;
            let done = act();
            fchdir(&root)?;
            chroot(".")?;
            done
        })
    }
}

fn state() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn with<T>(act: impl FnOnce(&mut Stage) -> Result<T>) -> Result<T> {
    let mut state = state();
    if matches!(*state, State::Private) {
        *state = State::Built(Stage::build()?);
    }
    match &mut *state {
        State::Built(stage) => act(stage),
        _ => Err(Errno::NOSYS),
    }
}

/// A place, not what is there; an empty path means `dir` itself.
fn open(dir: BorrowedFd<'_>, path: &Path, more: OFlags) -> Result<OwnedFd> {
    if path.as_os_str().is_empty() {
        return rustix::io::fcntl_dupfd_cloexec(dir, 3);
    }
    openat(dir, path, OFlags::PATH | OFlags::CLOEXEC | more, Mode::empty())
}

/// The path from the stage that means this descriptor.
fn named(file: BorrowedFd<'_>) -> String {
    format!("proc/self/fd/{}", file.as_raw_fd())
}

/// The mounts below the one that `top` is the root of, as far as they can be reached: what another hides is left out.
/// The stage is root.
fn below(top: BorrowedFd<'_>) -> Result<Vec<OwnedFd>> {
    let table = read(&openat(CWD, "proc/self/mountinfo", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)?;
    let mut ids = vec![lookup::mount_id(top)?];
    let mut found = Vec::new();
    let entries: Vec<Entry> = table.split(|byte| *byte == b'\n').filter_map(Entry::parse).collect();
    let root = open(CWD, Path::new("/"), OFlags::DIRECTORY)?;
    while let Some(parent) = ids.pop() {
        for entry in entries.iter().filter(|entry| entry.parent == parent) {
            ids.push(entry.id);
            let place = entry.place.strip_prefix("/").unwrap_or(&entry.place);
            let place = if place.as_os_str().is_empty() { Path::new(".") } else { place };
            let opened = lookup::open(root.as_fd(), place, OFlags::PATH, Within::BENEATH);
            if let Ok(opened) = opened
                && lookup::mount_id(opened.as_fd())? == entry.id
            {
                found.push(opened);
            }
        }
    }
    Ok(found)
}

/// A line of mountinfo.
struct Entry {
    id: u64,
    parent: u64,
    place: std::path::PathBuf,
}

impl Entry {
    fn parse(line: &[u8]) -> Option<Self> {
        let fields: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
        let number = |at: usize| std::str::from_utf8(fields.get(at)?).ok()?.parse().ok();
        let place = std::os::unix::ffi::OsStringExt::from_vec(super::unescape(fields.get(4)?));
        let place: std::ffi::OsString = place;
        Some(Self { id: number(0)?, parent: number(1)?, place: place.into() })
    }
}

fn read(file: &OwnedFd) -> Result<Vec<u8>> {
    let mut all = Vec::new();
    let mut part = [0_u8; 4096];
    loop {
        match rustix::io::retry_on_intr(|| rustix::io::read(file, &mut part))? {
            0 => return Ok(all),
            length => all.extend_from_slice(&part[..length]),
        }
    }
}

/// The stage is the working directory. Attributes that are not changed stay: the call sets them all.
fn change_one(mount: BorrowedFd<'_>, change: Change) -> Result<()> {
    let now = of_file_system(fstatvfs(mount)?.f_flag);
    let next = now.without(change.clear).with(change.set);
    mount_remount(named(mount), flags_of(next) | MountFlags::BIND, c"")
}

/// The attributes that statvfs(2) shows.
fn of_file_system(shown: StatVfsMountFlags) -> Attributes {
    let pairs = [
        (StatVfsMountFlags::RDONLY, Attributes::RDONLY),
        (StatVfsMountFlags::NOSUID, Attributes::NOSUID),
        (StatVfsMountFlags::NODEV, Attributes::NODEV),
        (StatVfsMountFlags::NOEXEC, Attributes::NOEXEC),
        (StatVfsMountFlags::NODIRATIME, Attributes::NODIRATIME),
        (lookup::NOSYMFOLLOW, Attributes::NOSYMFOLLOW),
    ];
    let set = pairs.into_iter().filter(|(flag, _)| shown.contains(*flag));
    let attributes = set.fold(Attributes::NONE, |all, (_, attribute)| all.with(attribute));
    if shown.contains(StatVfsMountFlags::NOATIME) {
        attributes.with(Attributes::NOATIME)
    } else if shown.contains(StatVfsMountFlags::RELATIME) {
        attributes
    } else {
        attributes.with(Attributes::STRICTATIME)
    }
}

/// The same as flags of mount(2).
fn flags_of(attributes: Attributes) -> MountFlags {
    const NOSYMFOLLOW: MountFlags = MountFlags::from_bits_retain(256);
    let pairs = [
        (Attributes::RDONLY, MountFlags::RDONLY),
        (Attributes::NOSUID, MountFlags::NOSUID),
        (Attributes::NODEV, MountFlags::NODEV),
        (Attributes::NOEXEC, MountFlags::NOEXEC),
        (Attributes::NODIRATIME, MountFlags::NODIRATIME),
        (Attributes::NOSYMFOLLOW, NOSYMFOLLOW),
    ];
    let set = pairs.into_iter().filter(|(attribute, _)| attributes.contains(*attribute));
    let flags = set.fold(MountFlags::empty(), |all, (_, flag)| all | flag);
    if attributes.contains(Attributes::NOATIME) {
        flags | MountFlags::NOATIME
    } else if attributes.contains(Attributes::STRICTATIME) {
        flags | MountFlags::STRICTATIME
    } else {
        flags | MountFlags::RELATIME
    }
}

fn propagation_flags(propagation: Propagation, recursive: bool) -> MountPropagationFlags {
    let kind = match propagation {
        Propagation::Private => MountPropagationFlags::PRIVATE,
        Propagation::Slave => MountPropagationFlags::DOWNSTREAM,
        Propagation::Shared => MountPropagationFlags::SHARED,
        Propagation::Unbindable => MountPropagationFlags::UNBINDABLE,
    };
    if recursive { kind | MountPropagationFlags::REC } else { kind }
}

/// Parameters as mount(2) takes them: some are flags, the others one string.
fn in_one_string(parameters: &[Parameter<'_>]) -> Result<(MountFlags, String)> {
    let mut flags = MountFlags::empty();
    let mut words = Vec::new();
    for (key, value) in parameters {
        match (*key, *value) {
            ("ro", None) => flags |= MountFlags::RDONLY,
            ("rw" | "async" | "nolazytime" | "nomand", None) => {}
            ("sync", None) => flags |= MountFlags::SYNCHRONOUS,
            ("dirsync", None) => flags |= MountFlags::DIRSYNC,
            ("lazytime", None) => flags |= MountFlags::LAZYTIME,
            ("mand", None) => flags |= MountFlags::PERMIT_MANDATORY_FILE_LOCKING,
            // What goes to a security module may be quoted, and only that.
            (key, Some(value)) if key.ends_with("context") && !value.contains('"') => {
                words.push(format!("{key}=\"{value}\""));
            }
            (_, Some(value)) if value.contains(',') => return Err(Errno::INVAL),
            (key, Some(value)) => words.push(format!("{key}={value}")),
            (key, None) => words.push(key.to_owned()),
        }
    }
    Ok((flags, words.join(",")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_shares_its_mounts_builds_no_stage() {
        let error = copy_tree(CWD, Path::new("/"), false).unwrap_err();
        assert_eq!(error, Errno::NOSYS);
        assert_eq!(leave(), Ok(()));
    }

    #[test]
    fn parameters_are_flags_or_words_of_one_string() {
        let given = [("mode", Some("755")), ("ro", None), ("newinstance", None), ("sync", None)];
        let (flags, data) = in_one_string(&given).unwrap();
        assert_eq!(
            (flags, data.as_str()),
            (MountFlags::RDONLY | MountFlags::SYNCHRONOUS, "mode=755,newinstance")
        );
        let (_, data) = in_one_string(&[("context", Some("a,b")), ("size", Some("1"))]).unwrap();
        assert_eq!(data, "context=\"a,b\",size=1");
        assert_eq!(in_one_string(&[("size", Some("a,b"))]), Err(Errno::INVAL));
        assert_eq!(in_one_string(&[("context", Some("a\",b"))]), Err(Errno::INVAL));
    }

    #[test]
    fn attributes_come_back_from_the_flags_that_are_shown() {
        for attributes in [
            Attributes::NONE,
            Attributes::RDONLY.with(Attributes::NOATIME),
            Attributes::NOSUID.with(Attributes::NODEV).with(Attributes::STRICTATIME),
            Attributes::NOEXEC.with(Attributes::NODIRATIME),
        ] {
            let flags = flags_of(attributes);
            let mut shown = StatVfsMountFlags::from_bits_retain(u64::from(flags.bits()) & 0xc0f);
            if flags.contains(MountFlags::RELATIME) {
                shown |= StatVfsMountFlags::RELATIME;
            }
            assert_eq!(of_file_system(shown), attributes);
        }
    }

    #[test]
    fn lines_of_the_table_are_read() {
        let line = b"23 22 0:7 / /srv/b\\040c rw unbindable - tmpfs none rw";
        let entry = Entry::parse(line).unwrap();
        assert_eq!((entry.id, entry.parent, entry.place.as_path()), (23, 22, Path::new("/srv/b c")));
        assert!(Entry::parse(b"x y").is_none());
    }
}
