//! Paths inside a container's root, resolved by the kernel and never by us.
//!
//! Every lookup is `openat2` from a descriptor of the root with `RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS`: `..` and
//! absolute symbolic links end at that root, and `/proc/*/fd` links lead nowhere ([`tare_sys::lookup`] does the same on
//! kernels without it). What comes back is an `O_PATH` descriptor; nobody uses the path a second time.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, fstat, mkdirat, mknodat, readlinkat};
use rustix::io::Errno;
use tare_sys::lookup::{self, Within};

use crate::error::{Call, Error, Result};

/// What is expected, or made, at the end of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Directory,
    File,
}

/// Symbolic links that may lead to a place that has still to be made; the kernel's own limit for one lookup.
const MOST_LINKS: usize = 40;
/// Lookups that raced with a rename are tried again; a hostile renamer shall not hold us for long.
const MOST_RETRIES: usize = 64;

/// Opens what is at `path` below `root`, following links inside the root only.
pub(crate) fn open(root: BorrowedFd<'_>, path: &str, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    open_with(root, path, flags, Within::ROOT)
}

/// As [`open`], but a symbolic link anywhere in `path` is an error (`LOOP`).
pub(crate) fn open_without_links(
    root: BorrowedFd<'_>,
    path: &str,
    flags: OFlags,
) -> rustix::io::Result<OwnedFd> {
    open_with(root, path, flags, Within::ROOT.without_links())
}

/// Opens what is at `path` below `top`, across mounts and without symbolic links.
pub(crate) fn open_beneath(top: BorrowedFd<'_>, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    open_with(top, path, flags, Within::BENEATH)
}

/// As [`open_without_links`], and the file must be on the very mount that `root` is.
pub(crate) fn open_on_mount(root: BorrowedFd<'_>, path: &str, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    open_with(root, path, flags, Within::BENEATH.on_one_mount())
}

fn open_with(
    root: BorrowedFd<'_>,
    path: impl AsRef<Path>,
    flags: OFlags,
    within: Within,
) -> rustix::io::Result<OwnedFd> {
    let path = Some(path.as_ref()).filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new("."));
    for _ in 0..MOST_RETRIES {
        match lookup::open(root, path, flags, within) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            answer => return answer,
        }
    }
    Err(Errno::AGAIN)
}

/// Opens what is at `path` below `root` as a place to mount on; makes it, and directories on the way, if missing.
/// `links` says whether symbolic links are followed (inside the root).
pub(crate) fn ensure(root: BorrowedFd<'_>, path: &str, kind: Kind, links: bool) -> Result<OwnedFd> {
    let find = if links { open } else { open_without_links };
    match find(root, path, OFlags::PATH) {
        Ok(found) => return Ok(found),
        Err(Errno::NOENT) => {}
        Err(errno) => return Err(errno).call(|| format!("openat2(root, {path:?}, O_PATH)")),
    }
    make(root, path, kind, links)?;
    find(root, path, OFlags::PATH).call(|| format!("openat2(root, {path:?}, O_PATH)"))
}

/// Makes `path` component by component; each parent is looked up anew from the root, each child made by descriptor.
fn make(root: BorrowedFd<'_>, path: &str, kind: Kind, links: bool) -> Result<()> {
    let mut parts = components(path);
    let mut followed = 0;
    let mut depth = 0;
    while depth < parts.len() {
        let prefix = parts[..=depth].join("/");
        match open(root, &prefix, OFlags::PATH) {
            Ok(_) => depth += 1,
            Err(Errno::NOENT) => {
                let last = depth + 1 == parts.len();
                let (parent, name) = (parts[..depth].join("/"), parts[depth].clone());
                let parent_fd = open(root, &parent, OFlags::PATH | OFlags::DIRECTORY)
                    .call(|| format!("openat2(root, {parent:?}, O_PATH|O_DIRECTORY)"))?;
                let made = if last { kind } else { Kind::Directory };
                match make_one(parent_fd.as_fd(), &name, made)? {
                    Made::New => depth += 1,
                    Made::Link(target) if links && followed < MOST_LINKS => {
                        followed += 1;
                        parts = substitute(&parts, depth, &target);
                        depth = 0;
                    }
                    Made::Link(_) => {
                        return Err(Errno::LOOP).call(|| format!("mkdirat(root, {prefix:?})"));
                    }
                }
            }
            Err(errno) => return Err(errno).call(|| format!("openat2(root, {prefix:?}, O_PATH)")),
        }
    }
    Ok(())
}

/// What was found in the way.
enum Made {
    New,
    Link(String),
}

fn make_one(parent: BorrowedFd<'_>, name: &str, kind: Kind) -> Result<Made> {
    let made = match kind {
        Kind::Directory => mkdirat(parent, name, Mode::from_raw_mode(0o755)),
        Kind::File => mknodat(parent, name, FileType::RegularFile, Mode::from_raw_mode(0o644), 0),
    };
    match made {
        Ok(()) => Ok(Made::New),
        // It was not there for a lookup that follows links: it is a link to nowhere (or somebody was faster).
        Err(Errno::EXIST) => match readlinkat(parent, name, Vec::new()) {
            Ok(target) => match target.into_string() {
                Ok(target) => Ok(Made::Link(target)),
                Err(_) => Err(Error::invalid(format!("symbolic link {name:?} is not UTF-8"))),
            },
            Err(Errno::INVAL) => Ok(Made::New),
            Err(errno) => Err(errno).call(|| format!("readlinkat(fd, {name:?})")),
        },
        Err(errno) => Err(errno).call(|| match kind {
            Kind::Directory => format!("mkdirat(fd, {name:?}, 0755)"),
            Kind::File => format!("mknodat(fd, {name:?}, S_IFREG|0644)"),
        }),
    }
}

/// `parts` with the component at `depth`, a symbolic link, replaced by what it points to.
fn substitute(parts: &[String], depth: usize, target: &str) -> Vec<String> {
    let kept: &[String] = if target.starts_with('/') { &[] } else { &parts[..depth] };
    kept.iter().cloned().chain(components(target)).chain(parts[depth + 1..].iter().cloned()).collect()
}

fn components(path: &str) -> Vec<String> {
    path.split('/').filter(|part| !part.is_empty() && *part != ".").map(str::to_owned).collect()
}

/// Whether `fd` is a directory.
pub(crate) fn is_directory(fd: BorrowedFd<'_>) -> Result<bool> {
    let stat = fstat(fd).call(|| "fstat(fd)")?;
    Ok(FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn root() -> (tempfile::TempDir, OwnedFd) {
        let dir = tempfile::tempdir().unwrap();
        let fd =
            rustix::fs::open(dir.path(), OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        (dir, fd.unwrap())
    }

    fn ensured(dir: &Path, fd: &OwnedFd, path: &str, kind: Kind) -> Result<()> {
        let found = ensure(fd.as_fd(), path, kind, true)?;
        let same = |a: rustix::fs::Stat, b: rustix::fs::Stat| (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino);
        let real = rustix::fs::stat(dir).unwrap();
        assert!(same(fstat(&found).unwrap(), real), "{path} must be {}", dir.display());
        Ok(())
    }

    #[test]
    fn missing_directories_are_made_below_the_root() {
        let (dir, fd) = root();
        ensured(&dir.path().join("a"), &fd, "/a", Kind::Directory).unwrap();
        ensured(&dir.path().join("a/b/c"), &fd, "a//b/./c", Kind::Directory).unwrap();
        ensured(&dir.path().join("a/b/f"), &fd, "/a/b/f", Kind::File).unwrap();
        assert!(dir.path().join("a/b/f").is_file());
    }

    #[test]
    fn links_and_dot_dot_end_at_the_root() {
        let (dir, fd) = root();
        let canary = tempfile::tempdir().unwrap();
        symlink(canary.path(), dir.path().join("out")).unwrap();
        ensure(fd.as_fd(), "/out/new", Kind::Directory, true).unwrap();
        ensure(fd.as_fd(), "/../../up", Kind::Directory, true).unwrap();
        assert!(dir.path().join("up").is_dir());
        assert_eq!(std::fs::read_dir(canary.path()).unwrap().count(), 0, "nothing outside");
        assert!(dir.path().join(canary.path().strip_prefix("/").unwrap()).join("new").is_dir());
    }

    #[test]
    fn a_link_to_nowhere_is_followed_inside_the_root() {
        let (dir, fd) = root();
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        symlink("../run/resolve/stub.conf", dir.path().join("etc/resolv.conf")).unwrap();
        ensured(&dir.path().join("run/resolve/stub.conf"), &fd, "/etc/resolv.conf", Kind::File).unwrap();
    }

    #[test]
    fn a_loop_of_links_is_an_error() {
        let (dir, fd) = root();
        symlink("b", dir.path().join("a")).unwrap();
        symlink("a", dir.path().join("b")).unwrap();
        assert_eq!(ensure(fd.as_fd(), "/a/x", Kind::Directory, true).unwrap_err().errno(), Some(Errno::LOOP));
    }

    #[test]
    fn without_links_a_link_is_an_error_and_nothing_is_made() {
        let (dir, fd) = root();
        symlink("elsewhere", dir.path().join("proc")).unwrap();
        let error = ensure(fd.as_fd(), "/proc", Kind::Directory, false).unwrap_err();
        assert_eq!(error.errno(), Some(Errno::LOOP));
        assert!(!dir.path().join("elsewhere").exists());
    }

    #[test]
    fn a_file_in_the_way_is_an_error() {
        let (dir, fd) = root();
        std::fs::write(dir.path().join("f"), "").unwrap();
        assert_eq!(
            ensure(fd.as_fd(), "/f/x", Kind::Directory, true).unwrap_err().errno(),
            Some(Errno::NOTDIR)
        );
    }
}
