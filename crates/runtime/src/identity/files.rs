//! Reading the container's `passwd` and `group`, which may be anything: a pipe, a device, a link, ten gigabytes.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, OFlags, fstat};
use rustix::io::Errno;

use crate::error::{Call, Error, Result};
use crate::mount::resolve;

/// Longest file that is read.
const LONGEST: usize = 10 << 20;

/// The text of a file below `root`; empty if there is none.
pub(crate) fn read(root: BorrowedFd<'_>, path: &str) -> Result<String> {
    // First without opening it for real: opening a device can do things, opening a pipe can wait for ever.
    let place = match resolve::open(root, path, OFlags::PATH) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(String::new()),
        other => other.call(|| format!("openat2(root, {path:?}, O_PATH)"))?,
    };
    require_small_regular_file(place.as_fd(), path)?;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = resolve::open(root, path, flags).call(|| format!("openat2(root, {path:?}, O_RDONLY)"))?;
    // And again: a volume shared with another container may have changed meanwhile.
    require_small_regular_file(file.as_fd(), path)?;
    text(&file, path)
}

fn require_small_regular_file(file: BorrowedFd<'_>, path: &str) -> Result<()> {
    let stat = fstat(file).call(|| format!("fstat({path:?})"))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Error::forbidden(format!("{path} of the container is not a regular file")));
    }
    if usize::try_from(stat.st_size).map_or(true, |size| size > LONGEST) {
        return Err(too_long(path));
    }
    Ok(())
}

fn text(file: &OwnedFd, path: &str) -> Result<String> {
    let mut bytes = Vec::new();
    let mut chunk = [0_u8; 16 << 10];
    loop {
        let got = rustix::io::retry_on_intr(|| rustix::io::read(file, &mut chunk))
            .call(|| format!("read({path:?})"))?;
        if got == 0 {
            // Names that are not UTF-8 match nothing that can be asked for.
            return Ok(String::from_utf8_lossy(&bytes).into_owned());
        }
        bytes.extend_from_slice(&chunk[..got]);
        if bytes.len() > LONGEST {
            return Err(too_long(path));
        }
    }
}

fn too_long(path: &str) -> Error {
    Error::forbidden(format!("{path} of the container is longer than {} MiB", LONGEST >> 20))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use rustix::fs::Mode;

    use super::*;

    fn root() -> (tempfile::TempDir, OwnedFd) {
        let dir = tempfile::tempdir().unwrap();
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(dir.path(), flags, Mode::empty()).unwrap();
        (dir, fd)
    }

    #[test]
    fn a_missing_file_is_empty() {
        let (_dir, fd) = root();
        assert_eq!(read(fd.as_fd(), "etc/passwd"), Ok(String::new()));
    }

    #[test]
    fn a_link_is_followed_inside_the_root_only() {
        let (dir, fd) = root();
        let canary = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(canary.path(), "root:x:0:0::/:/\n").unwrap();
        symlink(canary.path(), dir.path().join("passwd")).unwrap();
        assert_eq!(read(fd.as_fd(), "passwd"), Ok(String::new()), "the host's file is not there");
        std::fs::write(dir.path().join("real"), "text").unwrap();
        symlink("/real", dir.path().join("group")).unwrap();
        assert_eq!(read(fd.as_fd(), "group").unwrap(), "text");
    }

    #[test]
    fn pipes_directories_and_devices_are_refused_at_once() {
        let (dir, fd) = root();
        let fifo = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, dir.path().join("fifo"), fifo, Mode::RUSR, 0).unwrap();
        std::fs::create_dir(dir.path().join("dir")).unwrap();
        let zero = rustix::fs::makedev(1, 5);
        let device = rustix::fs::FileType::CharacterDevice;
        rustix::fs::mknodat(rustix::fs::CWD, dir.path().join("zero"), device, Mode::RUSR, zero).unwrap();
        for path in ["fifo", "dir", "zero"] {
            assert_eq!(
                read(fd.as_fd(), path).unwrap_err().kind(),
                tare_model::ErrorKind::Forbidden,
                "{path}"
            );
        }
    }

    #[test]
    fn a_huge_sparse_file_is_refused_unread() {
        let (dir, fd) = root();
        std::fs::File::create(dir.path().join("passwd")).unwrap().set_len(10 << 30).unwrap();
        assert!(read(fd.as_fd(), "passwd").unwrap_err().to_string().contains("longer than 10 MiB"));
    }
}
