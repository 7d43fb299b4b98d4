//! The numbered files of one container's log, and their rotation.
//!
//! `PREFIX.1`, `PREFIX.2`, …: the highest number is the one written to. Rotation deletes the oldest and makes the next;
//! nothing is ever renamed, so a reader that holds file n knows that it is complete as soon as a later one exists.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

/// A directory of log files.
#[derive(Debug)]
pub(super) struct Files {
    directory: OwnedFd,
    prefix: &'static str,
}

/// A place in a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    pub(super) number: u64,
    pub(super) offset: u64,
}

// === impl Files ===

impl Files {
    pub(super) fn open(directory: &Path, prefix: &'static str) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self { directory: rustix::fs::open(directory, flags, Mode::empty())?, prefix })
    }

    pub(super) fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { directory: self.directory.try_clone()?, prefix: self.prefix })
    }

    /// Numbers of the files that are there, lowest first.
    pub(super) fn numbers(&self) -> io::Result<Vec<u64>> {
        let mut numbers = Vec::new();
        for entry in Dir::read_from(&self.directory)? {
            let entry = entry?;
            let name = entry.file_name().to_str().unwrap_or_default();
            let number = name.strip_prefix(self.prefix).and_then(|rest| rest.strip_prefix('.'));
            let number = number.and_then(|n| n.parse::<u64>().ok());
            // The last number there is would leave none for the next file; none is ever made by rotation.
            numbers.extend(number.filter(|n| *n < u64::MAX && self.name(*n) == name));
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Where writing goes on at this moment.
    pub(super) fn end(&self) -> io::Result<Position> {
        loop {
            let Some(number) = self.numbers()?.last().copied() else {
                return Ok(Position { number: 1, offset: 0 });
            };
            // One that is gone already has a later one behind it.
            if let Some(file) = self.reader(number)? {
                return Ok(Position { number, offset: file.metadata()?.len() });
            }
        }
    }

    /// Opens number `n` for reading; `None` if it is not there.
    pub(super) fn reader(&self, n: u64) -> io::Result<Option<File>> {
        match self.open_regular(n, OFlags::RDONLY) {
            Ok(file) => Ok(Some(file)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Opens number `n` for appending, and makes it.
    pub(super) fn writer(&self, n: u64) -> io::Result<File> {
        self.open_regular(n, OFlags::RDWR | OFlags::APPEND | OFlags::CREATE)
    }

    /// Whether number `n` is there.
    pub(super) fn exists(&self, n: u64) -> bool {
        rustix::fs::statat(&self.directory, self.name(n), AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }

    /// Deletes every file up to and including number `last`. One that cannot be deleted is only too old, not wrong.
    pub(super) fn delete_up_to(&self, last: u64) {
        for n in self.numbers().unwrap_or_default().into_iter().filter(|n| *n <= last) {
            let _ = rustix::fs::unlinkat(&self.directory, self.name(n), AtFlags::empty());
        }
    }

    /// A log file is a regular file of ours; a link or a device in its place is refused.
    fn open_regular(&self, n: u64, flags: OFlags) -> io::Result<File> {
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let fd = rustix::fs::openat(&self.directory, self.name(n), flags, Mode::from_raw_mode(0o640))?;
        let stat = rustix::fs::fstat(&fd)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(Errno::INVAL.into());
        }
        Ok(File::from(fd))
    }

    fn name(&self, n: u64) -> String {
        format!("{}.{n}", self.prefix)
    }
}
