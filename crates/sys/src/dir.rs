//! Directories as descriptors: every operation names one entry of one open directory, and no symlink is followed.
//!
//! A path is looked up by the kernel at each use, and whoever can write along it decides where it leads. Here a name is
//! a single component: it has no slash, and is neither empty nor `.` nor `..`, or the call fails with `EINVAL` before it
//! reaches the kernel. What is opened by a [`Dir`] is therefore always an entry of it, even where openat2(2) and its
//! `RESOLVE_BENEATH` are missing or blocked.
//!
//! An error says which call failed on what, as strace(1) would: `mkdirat("layers", "usr"): File exists`.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{self, AtFlags, FileType, Gid, Mode, OFlags, RenameFlags, Stat, Timespec, Timestamps, Uid};
use rustix::io::Errno;

/// A system call that failed, with its arguments.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{call}: {}", std::io::Error::from(*.errno))]
pub struct CallError {
    call: String,
    errno: Errno,
}

/// `Result` of one system call.
pub type CallResult<T> = Result<T, CallError>;

/// An open directory.
pub struct Dir {
    fd: OwnedFd,
}

/// Adds the call and its arguments to a bare error number.
pub trait CallContext<T> {
    /// `call` is only made when there is an error.
    fn call(self, call: impl FnOnce() -> String) -> CallResult<T>;
}

// === impl CallError ===

impl CallError {
    /// The kernel's error number.
    pub fn errno(&self) -> Errno {
        self.errno
    }

    /// The call with its arguments.
    pub fn failed_call(&self) -> &str {
        &self.call
    }
}

impl<T> CallContext<T> for rustix::io::Result<T> {
    fn call(self, call: impl FnOnce() -> String) -> CallResult<T> {
        self.map_err(|errno| CallError { call: call(), errno })
    }
}

// === impl Dir ===

impl Dir {
    /// Opens a directory by path, following symlinks: for paths that the administrator gave.
    ///
    /// # Errors
    /// openat(2).
    pub fn open_trusted_path(path: &Path) -> CallResult<Self> {
        let fd = fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .call(|| format!("open({path:?}, O_DIRECTORY)"))?;
        Ok(Self { fd })
    }

    /// Takes a descriptor that is a directory.
    pub fn from_fd(fd: OwnedFd) -> Self {
        Self { fd }
    }

    /// Another descriptor of the same directory.
    ///
    /// # Errors
    /// fcntl(2).
    pub fn try_clone(&self) -> CallResult<Self> {
        let fd = self.fd.try_clone().map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO));
        Ok(Self { fd: fd.call(|| "fcntl(F_DUPFD_CLOEXEC)".to_owned())? })
    }

    /// Opens the directory `name`; a symlink is refused with `ENOTDIR`.
    ///
    /// # Errors
    /// openat(2).
    pub fn open_dir(&self, name: impl AsRef<OsStr>) -> CallResult<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(Self { fd: self.open(name.as_ref(), flags, Mode::empty())? })
    }

    /// Makes the directory `name` if there is none, and opens it.
    ///
    /// # Errors
    /// mkdirat(2) and openat(2).
    pub fn ensure_dir(&self, name: impl AsRef<OsStr>, mode: u32) -> CallResult<Self> {
        let name = name.as_ref();
        match self.mkdir(name, mode) {
            // Nothing to describe, which would cost a look at where this directory is.
            Ok(()) | Err(Errno::EXIST) => self.open_dir(name),
            failed => failed.call(|| self.describe("mkdirat", name)).and_then(|()| self.open_dir(name)),
        }
    }

    /// Makes the directory `name`.
    ///
    /// # Errors
    /// mkdirat(2).
    pub fn make_dir(&self, name: impl AsRef<OsStr>, mode: u32) -> CallResult<()> {
        let name = name.as_ref();
        self.mkdir(name, mode).call(|| self.describe("mkdirat", name))
    }

    fn mkdir(&self, name: &OsStr, mode: u32) -> rustix::io::Result<()> {
        component(name).and_then(|n| fs::mkdirat(&self.fd, n, Mode::from_raw_mode(mode)))
    }

    /// Makes the regular file `name`, which must not exist, and opens it for writing.
    ///
    /// # Errors
    /// openat(2).
    pub fn create_file(&self, name: impl AsRef<OsStr>, mode: u32) -> CallResult<File> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(self.open(name.as_ref(), flags, Mode::from_raw_mode(mode))?.into())
    }

    /// Opens the regular file `name` for reading; anything else is refused with `EINVAL`, without waiting (a FIFO) or
    /// touching a device.
    ///
    /// # Errors
    /// openat(2), fstat(2).
    pub fn open_file(&self, name: impl AsRef<OsStr>) -> CallResult<File> {
        let name = name.as_ref();
        // The type is looked at before the file is opened for real: opening a device may already act.
        let found = self.open(name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
        let stat = fs::fstat(&found).call(|| self.describe("fstat", name))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(Errno::INVAL).call(|| self.describe("open_file (not a regular file)", name));
        }
        let path = proc_path(found.as_fd());
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        Ok(fs::open(path, flags, Mode::empty()).call(|| self.describe("openat", name))?.into())
    }

    /// Opens the entry `name` with the flags given, to which `O_NOFOLLOW` belongs unless the caller knows why not.
    ///
    /// # Errors
    /// openat(2).
    pub fn open(&self, name: &OsStr, flags: OFlags, mode: Mode) -> CallResult<OwnedFd> {
        let opened = component(name).and_then(|n| fs::openat(&self.fd, n, flags, mode));
        opened.call(|| self.describe("openat", name))
    }

    /// What is known of the entry `name`; `None` if there is none.
    ///
    /// # Errors
    /// fstatat(2).
    pub fn stat(&self, name: impl AsRef<OsStr>) -> CallResult<Option<Stat>> {
        let name = name.as_ref();
        match component(name).and_then(|n| fs::statat(&self.fd, n, AtFlags::SYMLINK_NOFOLLOW)) {
            Err(Errno::NOENT) => Ok(None),
            other => other.map(Some).call(|| self.describe("fstatat", name)),
        }
    }

    /// What is known of the directory itself.
    ///
    /// # Errors
    /// fstat(2).
    pub fn stat_self(&self) -> CallResult<Stat> {
        fs::fstat(&self.fd).call(|| self.describe("fstat", OsStr::new("")))
    }

    /// Makes the symlink `name`.
    ///
    /// # Errors
    /// symlinkat(2).
    pub fn symlink(&self, target: &OsStr, name: impl AsRef<OsStr>) -> CallResult<()> {
        let name = name.as_ref();
        component(name)
            .and_then(|n| fs::symlinkat(target, &self.fd, n))
            .call(|| format!("{} to {target:?}", self.describe("symlinkat", name)))
    }

    /// Where the symlink `name` leads.
    ///
    /// # Errors
    /// readlinkat(2).
    pub fn read_link(&self, name: impl AsRef<OsStr>) -> CallResult<OsString> {
        let name = name.as_ref();
        let target = component(name).and_then(|n| fs::readlinkat(&self.fd, n, Vec::new()));
        Ok(OsStr::from_bytes(target.call(|| self.describe("readlinkat", name))?.as_bytes()).to_owned())
    }

    /// Makes `name` another name of the entry `old` of `from`; a symlink is linked, not what it leads to.
    ///
    /// # Errors
    /// linkat(2).
    pub fn link(&self, from: &Dir, old: &OsStr, name: impl AsRef<OsStr>) -> CallResult<()> {
        let name = name.as_ref();
        component(old)
            .and_then(|old| fs::linkat(&from.fd, old, &self.fd, component(name)?, AtFlags::empty()))
            .call(|| format!("{} to {old:?}", self.describe("linkat", name)))
    }

    /// Makes the device, FIFO or socket `name`.
    ///
    /// # Errors
    /// mknodat(2).
    pub fn make_node(
        &self,
        name: impl AsRef<OsStr>,
        kind: FileType,
        mode: u32,
        device: u64,
    ) -> CallResult<()> {
        let name = name.as_ref();
        component(name)
            .and_then(|n| fs::mknodat(&self.fd, n, kind, Mode::from_raw_mode(mode), device))
            .call(|| self.describe("mknodat", name))
    }

    /// Removes the entry `name`, which is not a directory.
    ///
    /// # Errors
    /// unlinkat(2).
    pub fn unlink(&self, name: impl AsRef<OsStr>) -> CallResult<()> {
        let name = name.as_ref();
        let done = component(name).and_then(|n| fs::unlinkat(&self.fd, n, AtFlags::empty()));
        done.call(|| self.describe("unlinkat", name))
    }

    /// Removes the empty directory `name`.
    ///
    /// # Errors
    /// unlinkat(2).
    pub fn remove_dir(&self, name: impl AsRef<OsStr>) -> CallResult<()> {
        let name = name.as_ref();
        let done = component(name).and_then(|n| fs::unlinkat(&self.fd, n, AtFlags::REMOVEDIR));
        done.call(|| self.describe("unlinkat(AT_REMOVEDIR)", name))
    }

    /// Moves the entry `name` to `to` as `new`, which is replaced if it is there and `replace` is set.
    ///
    /// # Errors
    /// renameat2(2).
    pub fn rename(
        &self,
        name: impl AsRef<OsStr>,
        to: &Dir,
        new: impl AsRef<OsStr>,
        replace: bool,
    ) -> CallResult<()> {
        let (name, new) = (name.as_ref(), new.as_ref());
        let flags = if replace { RenameFlags::empty() } else { RenameFlags::NOREPLACE };
        component(name)
            .and_then(|n| fs::renameat_with(&self.fd, n, &to.fd, component(new)?, flags))
            .call(|| format!("{} to {:?}", self.describe("renameat2", name), to.shown().join(new)))
    }

    /// Sets owner and group of the entry `name` itself, symlink or not.
    ///
    /// # Errors
    /// fchownat(2).
    pub fn chown(&self, name: impl AsRef<OsStr>, uid: u32, gid: u32) -> CallResult<()> {
        let name = name.as_ref();
        let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        component(name)
            .and_then(|n| fs::chownat(&self.fd, n, uid, gid, AtFlags::SYMLINK_NOFOLLOW))
            .call(|| self.describe("fchownat", name))
    }

    /// Sets access and modification time of the entry `name` itself, symlink or not.
    ///
    /// # Errors
    /// utimensat(2).
    pub fn set_times(&self, name: impl AsRef<OsStr>, mtime: Timespec) -> CallResult<()> {
        let name = name.as_ref();
        let times = Timestamps { last_access: mtime, last_modification: mtime };
        component(name)
            .and_then(|n| fs::utimensat(&self.fd, n, &times, AtFlags::SYMLINK_NOFOLLOW))
            .call(|| self.describe("utimensat", name))
    }

    /// Names and types of its entries, without `.` and `..`, in no order.
    ///
    /// # Errors
    /// openat(2); getdents64(2) while iterating.
    pub fn entries(&self) -> CallResult<impl Iterator<Item = CallResult<(OsString, FileType)>> + use<>> {
        let dir = fs::Dir::read_from(&self.fd).call(|| self.describe("openat", OsStr::new(".")))?;
        Ok(dir.filter_map(|entry| match entry.call(|| "getdents64".to_owned()) {
            Ok(e) if matches!(e.file_name().to_bytes(), b"." | b"..") => None,
            Ok(e) => Some(Ok((OsStr::from_bytes(e.file_name().to_bytes()).to_owned(), e.file_type()))),
            Err(e) => Some(Err(e)),
        }))
    }

    /// Writes the directory's own entries to disk.
    ///
    /// # Errors
    /// fsync(2).
    pub fn sync(&self) -> CallResult<()> {
        fs::fsync(&self.fd).call(|| self.describe("fsync", OsStr::new("")))
    }

    /// Writes everything of its file system to disk.
    ///
    /// # Errors
    /// syncfs(2).
    pub fn sync_file_system(&self) -> CallResult<()> {
        fs::syncfs(&self.fd).call(|| self.describe("syncfs", OsStr::new("")))
    }

    /// Where the directory is now, for messages.
    pub fn shown(&self) -> PathBuf {
        std::fs::read_link(proc_path(self.fd.as_fd())).unwrap_or_else(|_| PathBuf::from("?"))
    }

    fn describe(&self, call: &str, name: &OsStr) -> String {
        format!("{call}({:?}, {name:?})", self.shown())
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl fmt::Debug for Dir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Dir({:?})", self.shown())
    }
}

/// The path that means this descriptor, for calls that take no descriptor. It follows a magic link, so it leads
/// exactly to the open file and never anywhere that a name could be made to point to.
pub fn proc_path(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// The name, if it is a single component.
fn component(name: &OsStr) -> rustix::io::Result<&OsStr> {
    match name.as_bytes() {
        b"" | b"." | b".." => Err(Errno::INVAL),
        bytes if bytes.contains(&b'/') => Err(Errno::INVAL),
        _ => Ok(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch() -> (tempfile::TempDir, Dir) {
        let scratch = tempfile::tempdir().expect("scratch directory");
        let dir = Dir::open_trusted_path(scratch.path()).expect("it opens");
        (scratch, dir)
    }

    #[test]
    fn a_name_is_one_component() {
        let (_scratch, dir) = scratch();
        for bad in ["", ".", "..", "a/b", "/etc", "a/", "../x"] {
            assert_eq!(dir.make_dir(bad, 0o755).expect_err(bad).errno(), Errno::INVAL);
            assert_eq!(dir.create_file(bad, 0o644).expect_err(bad).errno(), Errno::INVAL);
            assert!(dir.stat(bad).is_err() && dir.unlink(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_symlink_is_never_followed() {
        let (scratch, dir) = scratch();
        std::fs::create_dir(scratch.path().join("real")).expect("directory");
        std::fs::write(scratch.path().join("file"), "x").expect("file");
        dir.symlink(OsStr::new("real"), "link").expect("symlink");
        dir.symlink(OsStr::new("file"), "flink").expect("symlink");
        assert_eq!(dir.open_dir("link").expect_err("symlink").errno(), Errno::NOTDIR);
        assert!(dir.open_file("flink").is_err());
        assert_eq!(dir.create_file("flink", 0o600).expect_err("exists").errno(), Errno::EXIST);
        assert!(dir.open_dir("real").is_ok() && dir.open_file("file").is_ok());
    }

    #[test]
    fn a_fifo_is_not_waited_for() {
        let (_scratch, dir) = scratch();
        dir.make_node("fifo", FileType::Fifo, 0o600, 0).expect("fifo");
        assert_eq!(dir.open_file("fifo").expect_err("no regular file").errno(), Errno::INVAL);
    }

    #[test]
    fn errors_name_call_directory_and_entry() {
        let (scratch, dir) = scratch();
        let e = dir.open_dir("missing").expect_err("missing").to_string();
        assert!(e.contains("openat") && e.contains("missing"), "{e}");
        assert!(e.contains(&scratch.path().display().to_string()), "{e}");
    }

    #[test]
    fn entries_leave_out_the_two_dots() {
        let (_scratch, dir) = scratch();
        dir.make_dir("d", 0o755).expect("directory");
        dir.create_file("f", 0o644).expect("file");
        let mut names: Vec<_> = dir.entries().expect("lists").map(|e| e.expect("entry").0).collect();
        names.sort();
        assert_eq!(names, ["d", "f"]);
    }
}
