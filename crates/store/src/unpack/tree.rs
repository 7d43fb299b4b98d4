//! The directories above the place being written, open.
//!
//! Entries come in tree order, so most have their parent directory in common with the one before: the chain of open
//! directories is kept and only its end changes. Every step is one component of an open directory, and a symlink on the
//! way is refused. When a directory leaves the chain it gets back the modification time it had when it came in.

use std::ffi::{OsStr, OsString};
use std::os::fd::AsFd;

use rustix::fs::{Timespec, Timestamps, futimens};
use rustix::io::Errno;
use tare_model::Result;
use tare_sys::dir::Dir;

use crate::error::{SystemContext, corrupt};

/// A chain of open directories from the layer's root down.
pub(super) struct Tree {
    /// Never empty: the first is the root.
    levels: Vec<Level>,
}

struct Level {
    name: OsString,
    dir: Dir,
    mtime: Timespec,
    /// Something in it was made or removed, which has moved its modification time.
    touched: bool,
}

// === impl Tree ===

impl Tree {
    pub(super) fn new(root: Dir) -> Result<Self> {
        Ok(Self { levels: vec![Level::new(OsStr::new(""), root)?] })
    }

    /// Opens the directory at `path`, making what is missing, and notes that its content changes.
    pub(super) fn enter(&mut self, path: &[&OsStr]) -> Result<&Dir> {
        let known =
            self.levels[1..].iter().zip(path).take_while(|(level, name)| level.name == **name).count();
        self.leave_to(known + 1)?;
        for (depth, name) in path.iter().enumerate().skip(known) {
            let parent = &mut self.levels[depth];
            let dir = match parent.dir.open_dir(name) {
                Err(e) if e.errno() == Errno::NOENT => {
                    parent.touched = true;
                    // An archive may leave out directories; they are made as Docker makes them.
                    parent.dir.ensure_dir(name, 0o755).while_(|| "unpack")?
                }
                Err(e) if matches!(e.errno(), Errno::NOTDIR | Errno::LOOP) => {
                    return Err(corrupt(format!(
                        "an entry lies below {}, which this layer makes something other than a directory",
                        show(&path[..=depth])
                    )));
                }
                other => other.while_(|| "unpack")?,
            };
            self.levels.push(Level::new(name, dir)?);
        }
        let last = self.levels.len() - 1;
        self.levels[last].touched = true;
        Ok(&self.levels[last].dir)
    }

    /// The directory entered last.
    pub(super) fn current(&self) -> &Dir {
        // `levels` is never empty: `leave_to` keeps the first.
        &self.levels[self.levels.len() - 1].dir
    }

    /// Gives the directory entered last the modification time it is to have in the end.
    pub(super) fn set_mtime(&mut self, mtime: Timespec) {
        let last = self.levels.len() - 1;
        self.levels[last].mtime = mtime;
        self.levels[last].touched = true;
    }

    /// Opens the directory at `path` without making anything, beside the chain; `None` if it is not all directories.
    pub(super) fn find(&self, path: &[&OsStr]) -> Result<Option<Dir>> {
        let mut dir = self.levels[0].dir.try_clone().while_(|| "unpack")?;
        for name in path {
            dir = match dir.open_dir(name) {
                Err(e) if matches!(e.errno(), Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
                other => other.while_(|| "unpack")?,
            };
        }
        Ok(Some(dir))
    }

    /// Sets the remaining modification times.
    pub(super) fn finish(mut self) -> Result<()> {
        self.leave_to(0)
    }

    fn leave_to(&mut self, keep: usize) -> Result<()> {
        while self.levels.len() > keep {
            if let Some(level) = self.levels.pop()
                && level.touched
            {
                let times = Timestamps { last_access: level.mtime, last_modification: level.mtime };
                futimens(level.dir.as_fd(), &times)
                    .while_(|| format!("futimens({:?})", level.dir.shown()))?;
            }
        }
        Ok(())
    }
}

// === impl Level ===

impl Level {
    fn new(name: &OsStr, dir: Dir) -> Result<Self> {
        let stat = dir.stat_self().while_(|| "unpack")?;
        let mtime = Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec as _ };
        Ok(Self { name: name.to_owned(), dir, mtime, touched: false })
    }
}

/// A path for a message.
pub(super) fn show(path: &[&OsStr]) -> String {
    let parts: Vec<_> = path.iter().map(|part| part.to_string_lossy()).collect();
    format!("{:?}", parts.join("/"))
}
