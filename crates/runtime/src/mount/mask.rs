//! Paths that the program must not see, or must not write.
//!
//! What covers them comes from a private, read-only tmpfs: a null device of our own making and an empty directory. The
//! container's `/dev/null` is not used, it may be anything (CVE-2025-31133). For a container in a user namespace, which
//! can make no device, its parent makes the tmpfs. Before Linux 6.15 only what is attached can be copied: there the tmpfs lies
//! on top of the root for a moment, where no path from the root leads.
//!
//! Who shares the root with somebody may see `/proc` change places with a link or another directory between the moment it is
//! mounted and this one (CVE-2023-28642). So what is below a file system of the kernel's is looked up on that very mount as
//! well ([`Anchor`]).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, Stat, fstat, makedev, mkdirat, mknodat, openat};
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{chdir, fchdir};
use tare_sys::mount::{Attributes, Change};
use tare_sys::userns::is_initial;

use crate::error::{Call, Context, Error, Result};
use crate::mount::options::Datum;
use crate::mount::{resolve, source};

/// A file system of the kernel's and the place in the container that it was put in.
#[derive(Debug)]
pub(crate) struct Anchor {
    pub(crate) destination: String,
    pub(crate) mount: OwnedFd,
    /// Something lies on top of it: its name is meant to lead there.
    pub(crate) covered: bool,
}

// === impl Anchor ===

impl Anchor {
    /// The place on this mount that a destination means, if it is one below it.
    pub(crate) fn below(&self, destination: &str) -> Option<String> {
        let (own, mut rest) = (parts(&self.destination), parts(destination));
        let is_below = !self.covered && rest.len() > own.len() && rest.starts_with(&own);
        (is_below && !rest.contains(&"..")).then(|| format!("/{}", rest.split_off(own.len()).join("/")))
    }

    /// Something was put at this destination.
    pub(crate) fn lies_under(&mut self, destination: &str) {
        self.covered |= parts(&self.destination).starts_with(&parts(destination));
    }
}

fn parts(path: &str) -> Vec<&str> {
    path.split('/').filter(|part| !matches!(*part, "" | ".")).collect()
}

/// The two things that cover others.
pub(crate) struct Covers {
    tmpfs: OwnedFd,
    null: OwnedFd,
    empty: OwnedFd,
}

// === impl Covers ===

impl Covers {
    /// Makes the tmpfs that they are in, with this label of SELinux's.
    pub(crate) fn make(label: Option<&str>) -> Result<OwnedFd> {
        let attributes = Attributes::NOSUID.with(Attributes::NOEXEC);
        let label: Vec<Datum> = label.map(source::context).into_iter().collect();
        let tmpfs = source::new("tmpfs", None, &label, attributes)?;
        let (name, mode) = ("null", Mode::from_raw_mode(0o666));
        match mknodat(&tmpfs, name, FileType::CharacterDevice, mode, makedev(1, 3)) {
            // No device can be made in a user namespace; a file without content and name hides as well.
            Err(Errno::PERM) if !is_initial() => {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                openat(&tmpfs, name, flags, Mode::from_raw_mode(0o444))
                    .call(|| "openat(private tmpfs, \"null\", O_CREAT)")?;
            }
            made => made.call(|| "mknodat(private tmpfs, \"null\", S_IFCHR, 1:3)")?,
        }
        mkdirat(&tmpfs, "empty", Mode::from_raw_mode(0o555)).call(|| "mkdirat(private tmpfs, \"empty\")")?;
        let read_only = Change { set: Attributes::RDONLY, ..Change::default() };
        source::change(tmpfs.as_fd(), read_only)?;
        Ok(tmpfs)
    }

    fn in_tmpfs(tmpfs: OwnedFd) -> Result<Self> {
        let open = |name: &str, flags: OFlags| {
            openat(&tmpfs, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC | flags, Mode::empty())
                .call(|| format!("openat(private tmpfs, {name:?}, O_PATH)"))
        };
        let (null, empty) = (open("null", OFlags::empty())?, open("empty", OFlags::DIRECTORY)?);
        let stat = fstat(&null).call(|| "fstat(null)")?;
        let is_null = match FileType::from_raw_mode(stat.st_mode) {
            FileType::CharacterDevice => stat.st_rdev == makedev(1, 3),
            FileType::RegularFile => stat.st_size == 0 && !is_initial(),
            _ => false,
        };
        if !is_null {
            return Err(Error::forbidden("the null device just made is not character device 1:3"));
        }
        Ok(Self { tmpfs, null, empty })
    }

    fn cover(&self, place: BorrowedFd<'_>, path: &str) -> Result<()> {
        let cover = if resolve::is_directory(place)? { &self.empty } else { &self.null };
        put(source::clone_of(cover.as_fd(), false)?.as_fd(), place, path)
    }

    fn attach(&self, root: BorrowedFd<'_>) -> Result<()> {
        put(self.tmpfs.as_fd(), root, "/")
    }

    fn detach(self) -> Result<()> {
        fchdir(&self.tmpfs).call(|| "fchdir(private tmpfs)")?;
        unmount(".", UnmountFlags::DETACH).call(|| "umount2(\".\", MNT_DETACH)")?;
        chdir("/").call(|| "chdir(\"/\")")
    }
}

/// Covers those of `paths` that exist, with what is in `tmpfs`.
pub(crate) fn mask(root: BorrowedFd<'_>, anchors: &[Anchor], paths: &[String], tmpfs: OwnedFd) -> Result<()> {
    let covers = Covers::in_tmpfs(tmpfs)?;
    // Looked up while nothing lies on the root that `..` could lead into.
    let mut places = Vec::with_capacity(paths.len());
    for path in paths {
        let found = existing(root, anchors, path).context(|| format!("mask {path}"))?;
        places.extend(found.into_iter().map(|place| (place, path)));
    }
    let mut is_attached = false;
    for (place, path) in &places {
        let covered = match covers.cover(place.as_fd(), path) {
            Err(error) if !is_attached && error.errno() == Some(Errno::INVAL) => {
                covers.attach(root)?;
                is_attached = true;
                covers.cover(place.as_fd(), path)
            }
            covered => covered,
        };
        covered.context(|| format!("mask {path}"))?;
    }
    if is_attached { covers.detach() } else { Ok(()) }
}

/// Makes `path`, and every mount below it, read-only if it exists.
pub(crate) fn read_only(root: BorrowedFd<'_>, anchors: &[Anchor], path: &str) -> Result<()> {
    for place in existing(root, anchors, path)? {
        let copy = source::clone_of(place.as_fd(), true)?;
        let change = Change { set: Attributes::RDONLY, recursive: true, ..Change::default() };
        source::change(copy.as_fd(), change)?;
        put(copy.as_fd(), place.as_fd(), path)?;
    }
    Ok(())
}

/// What `path` means: below an anchor, and by its name from the root if that is something else.
fn existing(root: BorrowedFd<'_>, anchors: &[Anchor], path: &str) -> Result<Vec<OwnedFd>> {
    let mut found = Vec::with_capacity(1);
    for Anchor { destination, mount, .. } in anchors {
        if let Some(below) = path.strip_prefix(destination.as_str()).filter(|rest| rest.starts_with('/')) {
            found.extend(look(mount.as_fd(), below)?);
        }
    }
    if let Some(named) = look(root, path)? {
        let same = |a: &Stat, b: &Stat| (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino);
        let stat = |file: &OwnedFd| fstat(file).call(|| format!("fstat({path:?})"));
        let seen = stat(&named)?;
        let known = found.iter().map(stat).collect::<Result<Vec<Stat>>>()?;
        if !known.iter().any(|known| same(known, &seen)) {
            found.push(named);
        }
    }
    Ok(found)
}

fn look(root: BorrowedFd<'_>, path: &str) -> Result<Option<OwnedFd>> {
    match resolve::open(root, path, OFlags::PATH) {
        Ok(place) => Ok(Some(place)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(errno) => Err(errno).call(|| format!("openat2(root, {path:?}, O_PATH)")),
    }
}

fn put(mount: BorrowedFd<'_>, place: BorrowedFd<'_>, path: &str) -> Result<()> {
    tare_sys::mount::attach(mount, place, "").call(|| format!("move_mount(mount, {path:?})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_below_an_anchor_is_told_by_name_unless_something_covers_it() {
        let mount = std::fs::File::open("/").unwrap().into();
        let mut anchor = Anchor { destination: "/sys".into(), mount, covered: false };
        for (destination, below) in [
            ("/sys/fs/cgroup", Some("/fs/cgroup")),
            ("//sys/./fs/", Some("/fs")),
            ("/sys", None),
            ("/system", None),
            ("/proc/sys", None),
            ("/sys/../etc", None),
        ] {
            assert_eq!(anchor.below(destination).as_deref(), below, "{destination}");
        }
        anchor.lies_under("/sys/fs");
        assert!(anchor.below("/sys/fs/cgroup").is_some(), "that lies on it");
        anchor.lies_under("/sys/");
        assert_eq!(anchor.below("/sys/fs/cgroup"), None);
    }
}
