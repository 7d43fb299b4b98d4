//! A group's files: short, read and written whole, relative to the hierarchy's descriptor.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags, mkdirat, openat, statat, unlinkat};
use rustix::io::{Errno, read, retry_on_intr, write};

use super::error::{Error, Result};
use super::layout::Hierarchy;

impl Hierarchy {
    /// Where a relative path is, for messages.
    pub(super) fn shown(&self, relative: &str) -> String {
        self.mount.join(relative).display().to_string()
    }

    /// Opens a file or group.
    pub(super) fn open_at(&self, relative: &str, flags: OFlags) -> Result<OwnedFd> {
        openat(self.root(), relative, flags | OFlags::CLOEXEC, Mode::from_raw_mode(0o644))
            .map_err(|source| Error::Call { call: format!("open {}", self.shown(relative)), source })
    }

    /// Writes a value in one call, as the kernel wants it.
    pub(super) fn write_at(&self, relative: &str, value: &str, flags: OFlags) -> Result<()> {
        let file = openat(self.root(), relative, flags, Mode::from_raw_mode(0o644))
            .map_err(|source| self.not_written(relative, value, source))?;
        self.put(&file, relative, value)
    }

    /// Writes a value to an open file in one call.
    pub(super) fn put(&self, file: impl AsFd, relative: &str, value: &str) -> Result<()> {
        match retry_on_intr(|| write(&file, value.as_bytes())) {
            Ok(written) if written == value.len() => Ok(()),
            Ok(_) => Err(self.not_written(relative, value, Errno::IO)),
            Err(source) => Err(self.not_written(relative, value, source)),
        }
    }

    fn not_written(&self, relative: &str, value: &str, source: Errno) -> Error {
        Error::Call { call: format!("write {value:?} to {}", self.shown(relative)), source }
    }

    /// Reads a whole file.
    pub(super) fn read_at(&self, relative: &str) -> Result<String> {
        let failed = |source| Error::Call { call: format!("read {}", self.shown(relative)), source };
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let file = openat(self.root(), relative, flags, Mode::empty()).map_err(failed)?;
        let mut content = Vec::new();
        let mut buffer = [0u8; 4096];
        loop {
            match retry_on_intr(|| read(&file, &mut buffer)).map_err(failed)? {
                0 => return Ok(String::from_utf8_lossy(&content).into_owned()),
                count => content.extend_from_slice(&buffer[..count]),
            }
        }
    }

    /// As [`Self::read_at`]; a file that does not exist is `None`.
    pub(super) fn read_if_there(&self, relative: &str) -> Result<Option<String>> {
        match self.read_at(relative) {
            Ok(content) => Ok(Some(content)),
            Err(error) if error.errno() == Some(Errno::NOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes a group.
    pub(super) fn mkdir_at(&self, relative: &str) -> Result<()> {
        mkdirat(self.root(), relative, Mode::from_raw_mode(0o755))
            .map_err(|source| Error::Call { call: format!("mkdir {}", self.shown(relative)), source })
    }

    /// Removes an empty group.
    pub(super) fn rmdir_at(&self, relative: &str) -> Result<()> {
        unlinkat(self.root(), relative, AtFlags::REMOVEDIR)
            .map_err(|source| Error::Call { call: format!("rmdir {}", self.shown(relative)), source })
    }

    /// Whether there is such a group or file.
    pub(super) fn exists_at(&self, relative: &str) -> bool {
        statat(self.root(), relative, AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }

    /// The groups right below one.
    pub(super) fn children_at(&self, relative: &str) -> Result<Vec<String>> {
        let failed =
            |source| Error::Call { call: format!("read directory {}", self.shown(relative)), source };
        // A group's link count is two and one for each child: the usual group has none and is not read.
        let status = statat(self.root(), relative, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
        if status.st_nlink == 2 {
            return Ok(Vec::new());
        }
        let all = self.entries_at(relative)?.into_iter();
        Ok(all.filter(|(_, is_group)| *is_group).map(|(name, _)| format!("{relative}/{name}")).collect())
    }

    /// The names of a group's files.
    pub(super) fn names_at(&self, relative: &str) -> Result<Vec<String>> {
        let all = self.entries_at(relative)?.into_iter();
        Ok(all.filter(|(_, is_group)| !is_group).map(|(name, _)| name).collect())
    }

    /// What is in a group: names, and whether each is a group.
    fn entries_at(&self, relative: &str) -> Result<Vec<(String, bool)>> {
        let failed =
            |source| Error::Call { call: format!("read directory {}", self.shown(relative)), source };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = openat(self.root(), relative, flags, Mode::empty()).map_err(failed)?;
        let mut entries = Vec::new();
        for entry in rustix::fs::Dir::read_from(&directory).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name != "." && name != ".." {
                entries.push((name, entry.file_type() == rustix::fs::FileType::Directory));
            }
        }
        Ok(entries)
    }
}

/// A number that a file holds.
pub(super) fn number(path: &str, content: &str) -> Result<u64> {
    content.trim().parse().map_err(|_| Error::Unreadable {
        path: path.to_owned(),
        content: content.chars().take(80).collect(),
        wanted: "a number",
    })
}
