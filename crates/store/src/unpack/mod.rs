//! Unpacking a layer: from an archive to a directory that overlayfs takes as it is.
//!
//! Removed files become character devices 0:0 and directories that hide what is below them get
//! `trusted.overlay.opaque` (in a user namespace, which may not write that, `user.overlay.opaque`), so no translation is
//! left for mount time. A layer's directory depends on its archive
//! alone, never on the layers below.
//!
//! The archive is hostile. Every name is refused or lies below the layer's root ([`names`]), every step towards it is
//! one component of an open directory and no symlink is followed ([`tree`]), and no attribute is taken that overlayfs
//! would believe ([`xattr`]). What an entry replaces is moved aside, not walked.

mod names;
mod tree;
mod xattr;

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags, chmodat, fchmod, fchown, fsetxattr,
    futimens, makedev,
};
use rustix::io::Errno;
use tare_model::Result;
use tare_sys::dir::{CallError, CallResult, Dir};
use tare_sys::userns;

use crate::error::{SystemContext, corrupt, from_read};
use crate::tape::{Entry, Kind, Tape};
use names::{Place, components, place};
use tree::{Tree, show};

pub(crate) use xattr::is_kept as is_kept_xattr;

/// overlayfs's mark of a directory that hides what is below it.
pub(crate) fn opaque_xattr() -> &'static str {
    if userns::is_initial() { "trusted.overlay.opaque" } else { "user.overlay.opaque" }
}

const CHUNK: usize = 256 << 10;

/// What was unpacked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Unpacked {
    /// Bytes of all files.
    pub(crate) size: u64,
    /// Entries of the archive.
    pub(crate) entries: u64,
}

struct Unpacker<'a> {
    tree: Tree,
    /// Where replaced entries go.
    aside: &'a Dir,
    moved: u64,
    chunk: Vec<u8>,
    done: Unpacked,
}

/// Unpacks all of `tape` into the empty directory `root`; `aside`, on the same file system, takes what later entries
/// replace.
///
/// # Errors
/// `Corrupt` for a hostile or damaged archive, `System` for what the kernel refused. `root` is then to be discarded.
pub(crate) fn unpack<R: Read>(tape: &mut Tape<R>, root: &Dir, aside: &Dir) -> Result<Unpacked> {
    let tree = Tree::new(root.try_clone().while_(|| "unpack")?)?;
    let mut unpacker = Unpacker { tree, aside, moved: 0, chunk: vec![0; CHUNK], done: Unpacked::default() };
    while let Some(entry) = tape.next_entry()? {
        unpacker.entry(&entry, tape)?;
        unpacker.done.entries += 1;
    }
    unpacker.tree.finish()?;
    Ok(unpacker.done)
}

// === impl Unpacker ===

impl Unpacker<'_> {
    fn entry<R: Read>(&mut self, entry: &Entry, tape: &mut Tape<R>) -> Result<()> {
        match place(&entry.path)? {
            Place::Root => self.root(entry),
            Place::At { parents, name } => {
                self.tree.enter(&parents)?;
                self.at(entry, &parents, name, tape)
            }
            Place::Whiteout { parents, name } => self.whiteout(&parents, name),
            Place::Opaque { directory } => set_opaque(self.tree.enter(&directory)?),
            Place::Skip => Ok(()),
        }
    }

    /// The root is always there, and only a directory may describe it: anything else would replace it.
    fn root(&mut self, entry: &Entry) -> Result<()> {
        if entry.kind != Kind::Directory {
            return Err(corrupt(format!("the layer's root directory comes as a {:?}", entry.kind)));
        }
        set_attributes(self.tree.enter(&[])?.as_fd(), entry)?;
        self.tree.set_mtime(mtime(entry));
        Ok(())
    }

    fn at<R: Read>(
        &mut self,
        entry: &Entry,
        parents: &[&OsStr],
        name: &OsStr,
        tape: &mut Tape<R>,
    ) -> Result<()> {
        let what = || format!("unpack {}", show(&[parents, &[name]].concat()));
        match entry.kind {
            Kind::Directory => self.directory(entry, parents, name),
            Kind::File => {
                let file = self.place(name, |dir| dir.create_file(name, 0o600)).while_(what)?;
                self.fill(&file, entry.size, tape).map_err(|e| e.context(what()))?;
                set_attributes(file.as_fd(), entry).map_err(|e| e.context(what()))?;
                let times = Timestamps { last_access: mtime(entry), last_modification: mtime(entry) };
                futimens(&file, &times).while_(what)
            }
            Kind::Symlink => {
                if entry.link.is_empty() || entry.link.contains(&0) {
                    return Err(corrupt("a symlink without a target").context(what()));
                }
                self.place(name, |dir| dir.symlink(OsStr::from_bytes(&entry.link), name)).while_(what)?;
                let dir = self.tree.current();
                dir.chown(name, entry.uid, entry.gid).while_(what)?;
                dir.set_times(name, mtime(entry)).while_(what)
            }
            Kind::HardLink => self.hard_link(entry, name).map_err(|e| e.context(what())),
            Kind::CharDevice => {
                self.node(entry, name, FileType::CharacterDevice).map_err(|e| e.context(what()))
            }
            Kind::BlockDevice => self.node(entry, name, FileType::BlockDevice).map_err(|e| e.context(what())),
            Kind::Fifo => self.node(entry, name, FileType::Fifo).map_err(|e| e.context(what())),
        }
    }

    /// A directory that is there already keeps its content; anything else makes way.
    fn directory(&mut self, entry: &Entry, parents: &[&OsStr], name: &OsStr) -> Result<()> {
        let what = || format!("unpack {}", show(&[parents, &[name]].concat()));
        let there = match self.tree.current().make_dir(name, 0o700) {
            Err(e) if e.errno() == Errno::EXIST => self.tree.current().stat(name).while_(what)?,
            other => other.map(|()| None).while_(what)?,
        };
        if let Some(stat) = there
            && FileType::from_raw_mode(stat.st_mode) != FileType::Directory
        {
            self.move_aside(name).while_(what)?;
            self.tree.current().make_dir(name, 0o700).while_(what)?;
            if is_whiteout(&stat) {
                // The archive took the lower directory away before it made this one.
                set_opaque(&self.tree.current().open_dir(name).while_(what)?)?;
            }
        }
        let path = [parents, &[name]].concat();
        set_attributes(self.tree.enter(&path)?.as_fd(), entry).map_err(|e| e.context(what()))?;
        self.tree.set_mtime(mtime(entry));
        Ok(())
    }

    /// The target is an entry of this layer, named from its root (with a slash or without), never an entry of the host.
    fn hard_link(&mut self, entry: &Entry, name: &OsStr) -> Result<()> {
        let target = String::from_utf8_lossy(&entry.link).into_owned();
        let missing =
            || corrupt(format!("hard link to {target:?}, which is no file of this layer before it"));
        let mut parents = components(&entry.link)?;
        let Some(old) = parents.pop() else {
            return Err(missing());
        };
        let from = self.tree.find(&parents)?.ok_or_else(missing)?;
        let stat = from.stat(old).while_(|| "hard link")?.ok_or_else(missing)?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory || is_whiteout(&stat) {
            return Err(missing());
        }
        // A link to itself changes nothing, and making way for it would lose the file.
        let here = self.tree.current().stat(name).while_(|| "hard link")?;
        if here.is_some_and(|here| (here.st_dev, here.st_ino) == (stat.st_dev, stat.st_ino)) {
            return Ok(());
        }
        self.place(name, |dir| dir.link(&from, old, name)).while_(|| "hard link")
    }

    fn node(&mut self, entry: &Entry, name: &OsStr, kind: FileType) -> Result<()> {
        let (major, minor) = entry.device;
        if kind == FileType::CharacterDevice && (major, minor) == (0, 0) {
            return Err(corrupt(
                "character device 0:0 is how overlayfs marks a removed file; an archive may not have it",
            ));
        }
        // More does not fit the kernel's device number, and would be cut to another one.
        let device = match (u32::try_from(major), u32::try_from(minor)) {
            (Ok(major @ 0..=0xfff), Ok(minor @ 0..=0xf_ffff)) => makedev(major, minor),
            _ => return Err(corrupt(format!("device {major}:{minor} cannot exist"))),
        };
        match self.place(name, |dir| dir.make_node(name, kind, 0o600, device)) {
            // No engine may make devices in a user namespace, nor could a container there open them. As Docker does.
            Err(e) if e.errno() == Errno::PERM && kind != FileType::Fifo && !userns::is_initial() => {
                return Ok(());
            }
            made => made.while_(|| "make node")?,
        }
        let dir = self.tree.current();
        dir.chown(name, entry.uid, entry.gid).while_(|| "chown")?;
        // The node was made just now, in a directory that only the engine can enter: the name cannot lead elsewhere.
        chmodat(dir.as_fd(), name, Mode::from_raw_mode(entry.mode), AtFlags::empty())
            .while_(|| "fchmodat")?;
        dir.set_times(name, mtime(entry)).while_(|| "utimensat")
    }

    /// A whiteout says what lower layers lose; what this layer has under the name stays.
    fn whiteout(&mut self, parents: &[&OsStr], name: &OsStr) -> Result<()> {
        let dir = self.tree.enter(parents)?;
        let what = || format!("mark {} as removed", show(&[parents, &[name]].concat()));
        match dir.make_node(name, FileType::CharacterDevice, 0, makedev(0, 0)) {
            Err(e) if e.errno() == Errno::EXIST => match dir.open_dir(name) {
                Ok(there) => set_opaque(&there),
                // A file hides the lower one anyway.
                Err(_) => Ok(()),
            },
            done => done.while_(what),
        }
    }

    /// Runs `make`; if something is in the way, moves it aside and runs it again.
    fn place<T>(&mut self, name: &OsStr, make: impl Fn(&Dir) -> CallResult<T>) -> CallResult<T> {
        match make(self.tree.current()) {
            Err(e) if e.errno() == Errno::EXIST => {
                self.move_aside(name)?;
                make(self.tree.current())
            }
            done => done,
        }
    }

    fn move_aside(&mut self, name: &OsStr) -> Result<(), CallError> {
        self.moved += 1;
        self.tree.current().rename(name, self.aside, format!("replaced-{}", self.moved), false)
    }

    fn fill<R: Read>(&mut self, mut file: &File, size: u64, tape: &mut Tape<R>) -> Result<()> {
        let mut left = size;
        while left > 0 {
            let want = self.chunk.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let n = tape.read(&mut self.chunk[..want]).map_err(|e| from_read(e, "read"))?;
            file.write_all(&self.chunk[..n]).while_(|| format!("write {n} bytes"))?;
            left -= n as u64;
        }
        self.done.size += size;
        Ok(())
    }
}

/// Owner first: changing it clears setuid bits and capabilities.
fn set_attributes(fd: BorrowedFd<'_>, entry: &Entry) -> Result<()> {
    let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
    fchown(fd, Some(uid), Some(gid))
        .while_(|| format!("fchown({}, {}){}", entry.uid, entry.gid, missing_ids(entry.uid, entry.gid)))?;
    fchmod(fd, Mode::from_raw_mode(entry.mode)).while_(|| format!("fchmod({:o})", entry.mode))?;
    xattr::apply(fd, &entry.xattrs)
}

/// What is wrong with an owner that an ordinary user's engine has no ids for.
fn missing_ids(uid: u32, gid: u32) -> &'static str {
    let has = |ids: std::io::Result<Vec<userns::Extent>>, id: u32| {
        ids.is_ok_and(|ids| ids.iter().any(|e| (e.inside..e.inside.saturating_add(e.count)).contains(&id)))
    };
    if userns::is_initial() || (has(userns::own_users(), uid) && has(userns::own_groups(), gid)) {
        return "";
    }
    ": this owner is beyond the range of ids that /etc/subuid and /etc/subgid give the engine's user"
}

/// Makes a directory of a layer hide what lower layers have under its name.
pub(crate) fn set_opaque(dir: &Dir) -> Result<()> {
    let name = opaque_xattr();
    fsetxattr(dir.as_fd(), name, b"y", XattrFlags::empty()).while_(|| {
        format!("fsetxattr({:?}, {name}): is the engine root on a file system with attributes?", dir.shown())
    })
}

/// Whether this is overlayfs's mark of a removed file.
pub(crate) fn is_whiteout(stat: &rustix::fs::Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == makedev(0, 0)
}

fn mtime(entry: &Entry) -> Timespec {
    Timespec { tv_sec: entry.mtime.0, tv_nsec: entry.mtime.1.into() }
}

#[cfg(test)]
pub(crate) mod tests;
