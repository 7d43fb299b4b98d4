//! The root directory: what lies where, who may enter, and the lock that keeps a second engine out.
//!
//! ```text
//! ROOT/                 0700: setuid files of images are out of reach for the host's users
//!   lock                held (flock) while an engine runs; holds its process id
//!   meta.redb           the database
//!   layers/HEX/diff     unpacked layers, named by the SHA-256 of their archive; read-only once in the database
//!   containers/ID/      upper and work of a container
//!   volumes/ID/_data    anonymous volumes
//!   empty/              the layer of images that have none
//!   places/             the layer below all others of an image: places for what every container has mounted
//!   tmp/                layers being unpacked; emptied at open
//!   trash/              what a worker is removing
//! ```
//!
//! `docs/store.md` has the commit protocol.

use std::ffi::OsString;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use rustix::io::Errno;
use tare_model::{Error, ErrorKind, Result};
use tare_sys::dir::Dir;

use crate::error::SystemContext;

/// The directories of an engine's root, open.
#[derive(Debug)]
pub(crate) struct Layout {
    /// Canonical path of the root.
    pub(crate) path: PathBuf,
    pub(crate) root: Dir,
    pub(crate) layers: Dir,
    pub(crate) containers: Dir,
    pub(crate) volumes: Dir,
    pub(crate) tmp: Dir,
    pub(crate) trash: Dir,
    /// Released by closing.
    _lock: std::fs::File,
}

/// A fresh name that nobody can guess, for `tmp` and `trash`.
pub(crate) fn unique_name() -> Result<String> {
    let mut bytes = [0u8; 12];
    crate::random(&mut bytes)?;
    Ok(bytes.iter().map(|b| format!("{b:02x}")).collect())
}

// === impl Layout ===

impl Layout {
    /// Opens the root at `path`, making what is missing, and takes the lock.
    ///
    /// # Errors
    /// `Conflict` if another engine holds the lock; `System` for what the kernel refuses.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let (path, root) = open_private(path)?;
        let lock = lock(&path, &root)?;
        let dir = |name: &str| {
            root.ensure_dir(name, 0o700).while_(|| format!("open engine root {}", path.display()))
        };
        dir("empty")?;
        make_places(&dir("places")?)?;
        Ok(Self {
            layers: dir("layers")?,
            containers: dir("containers")?,
            volumes: dir("volumes")?,
            tmp: dir("tmp")?,
            trash: dir("trash")?,
            root,
            path,
            _lock: lock,
        })
    }

    /// Whether any directory holds something that only the database can explain.
    pub(crate) fn has_content(&self) -> Result<bool> {
        for dir in [&self.layers, &self.containers, &self.volumes] {
            if names(dir)?.next().is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Moves `name` out of `from` into the trash; nothing to move is fine.
    pub(crate) fn discard(&self, from: &Dir, name: &str) -> Result<()> {
        match from.rename(name, &self.trash, unique_name()?, false) {
            Err(e) if e.errno() == Errno::NOENT => Ok(()),
            done => done.while_(|| format!("move {name} to the trash")),
        }
    }
}

/// Directories that something is mounted on in every container.
const MOUNTED: [&str; 3] = ["dev", "proc", "sys"];
/// Files of `/etc` that something is mounted on in every container.
const MOUNTED_FILES: [&str; 3] = ["hostname", "hosts", "resolv.conf"];

/// Made once and for all, so that a start need not make them in the container's own layer and copy `/etc` up for that. An
/// image that has them, or something else in their place, hides these.
fn make_places(places: &Dir) -> Result<()> {
    let what = || "make places for mounts";
    let directory = |name: &str| -> Result<Dir> {
        let dir = places.ensure_dir(name, 0o755).while_(what)?;
        // Whatever the umask was.
        rustix::fs::fchmod(dir.as_fd(), Mode::from_raw_mode(0o755)).while_(what)?;
        Ok(dir)
    };
    for name in MOUNTED {
        directory(name)?;
    }
    let etc = directory("etc")?;
    for name in MOUNTED_FILES {
        match etc.create_file(name, 0o644) {
            Ok(file) => rustix::fs::fchmod(&file, Mode::from_raw_mode(0o644)).while_(what)?,
            Err(e) if e.errno() == Errno::EXIST => {}
            Err(e) => return Err(e).while_(what),
        }
    }
    Ok(())
}

/// Makes (with parents) and opens a directory that only root may enter.
pub(crate) fn open_private(path: &Path) -> Result<(PathBuf, Dir)> {
    let shown = path.display();
    std::fs::create_dir_all(path).while_(|| format!("make {shown}"))?;
    let path = path.canonicalize().while_(|| format!("resolve {shown}"))?;
    let dir = Dir::open_trusted_path(&path).while_(|| format!("open {shown}"))?;
    let stat = dir.stat_self().while_(|| format!("open {shown}"))?;
    if stat.st_mode & 0o7777 != 0o700 {
        rustix::fs::fchmod(dir.as_fd(), Mode::from_raw_mode(0o700))
            .while_(|| format!("fchmod({shown}, 0700)"))?;
    }
    Ok((path, dir))
}

/// Names in a directory that are valid UTF-8 (ours all are), in no order.
pub(crate) fn names(dir: &Dir) -> Result<impl Iterator<Item = Result<String>>> {
    let entries = dir.entries().while_(|| "list a directory of the engine root")?;
    Ok(entries.filter_map(|entry| match entry.while_(|| "list a directory of the engine root") {
        Ok((name, _)) => OsString::into_string(name).ok().map(Ok),
        Err(e) => Some(Err(e)),
    }))
}

fn lock(path: &Path, root: &Dir) -> Result<std::fs::File> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd =
        root.open("lock".as_ref(), flags, Mode::from_raw_mode(0o600)).while_(|| "lock the engine root")?;
    let mut file = std::fs::File::from(fd);
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => {
            let holder = std::io::read_to_string(&file).unwrap_or_default();
            return Err(Error::new(
                ErrorKind::Conflict,
                format!(
                    "{} is in use by another engine (process {}): stop it, or give this one its own --root",
                    path.display(),
                    holder.trim()
                ),
            ));
        }
        Err(e) => return Err(e).while_(|| format!("flock({}/lock)", path.display())),
    }
    file.set_len(0).while_(|| "write lock")?;
    writeln!(file, "{}", std::process::id()).while_(|| "write lock")?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn the_root_is_closed_to_everyone_else() {
        let scratch = tempfile::tempdir().expect("scratch");
        let root = scratch.path().join("a/b");
        std::fs::create_dir_all(&root).expect("made by somebody else");
        std::fs::set_permissions(&root, PermissionsExt::from_mode(0o755)).expect("chmod");
        let layout = Layout::open(&root).expect("opens");
        assert_eq!(std::fs::metadata(&root).expect("stat").permissions().mode() & 0o7777, 0o700);
        assert_eq!(layout.path, root);
    }

    #[test]
    fn a_second_engine_on_the_same_root_is_refused_by_name() {
        let scratch = tempfile::tempdir().expect("scratch");
        let first = Layout::open(scratch.path()).expect("opens");
        let e = Layout::open(scratch.path()).expect_err("locked");
        assert_eq!(e.kind(), ErrorKind::Conflict);
        assert!(e.message().contains(&format!("process {}", std::process::id())), "{e}");
        drop(first);
        Layout::open(scratch.path()).expect("the lock goes with its holder");
    }

    #[test]
    fn the_root_may_be_reached_through_a_symlink_but_its_parts_may_not() {
        let scratch = tempfile::tempdir().expect("scratch");
        let real = scratch.path().join("real");
        let outside = scratch.path().join("outside");
        for dir in [&real, &outside] {
            std::fs::create_dir(dir).expect("directory");
        }
        symlink(&real, scratch.path().join("link")).expect("symlink");
        assert_eq!(Layout::open(&scratch.path().join("link")).expect("opens").path, real);
        std::fs::remove_dir(real.join("layers")).expect("empty");
        symlink(&outside, real.join("layers")).expect("symlink");
        assert!(Layout::open(&real).is_err(), "layers led elsewhere");
    }
}
