//! `tmpcopyup`: a new tmpfs starts with what the directory that it will cover holds.
//!
//! By descriptor and without following links, from the container's own tree into a mount that is attached nowhere.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Uid, chmodat, chownat, mkdirat, mknodat, openat,
    readlinkat, sendfile, statat, symlinkat,
};

use crate::error::{Call, Context, Result};
use crate::mount::resolve;

/// Copies everything in the directory `from` into the directory `to`, and the permission bits of `from` itself.
pub(crate) fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<()> {
    let from = resolve::open(from, ".", OFlags::RDONLY | OFlags::DIRECTORY)
        .call(|| "openat2(covered directory, O_RDONLY)")?;
    directory(&from, to).context(|| "tmpcopyup")
}

fn directory(from: &OwnedFd, to: BorrowedFd<'_>) -> Result<()> {
    let entries = Dir::read_from(from).call(|| "open(\".\", O_DIRECTORY)")?;
    for entry in entries {
        let entry = entry.call(|| "getdents64(directory)")?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            one(from, name, to).context(|| format!("{name:?}"))?;
        }
    }
    Ok(())
}

fn one(from: &OwnedFd, name: &CStr, to: BorrowedFd<'_>) -> Result<()> {
    let stat = statat(from, name, AtFlags::SYMLINK_NOFOLLOW).call(|| format!("fstatat(fd, {name:?})"))?;
    let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
    let kind = FileType::from_raw_mode(stat.st_mode);
    match kind {
        FileType::Directory => {
            mkdirat(to, name, Mode::RWXU).call(|| format!("mkdirat(tmpfs, {name:?})"))?;
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let open = |dir: BorrowedFd<'_>| openat(dir, name, flags, Mode::empty());
            let below = open(from.as_fd()).call(|| format!("openat(fd, {name:?})"))?;
            let copy = open(to).call(|| format!("openat(tmpfs, {name:?})"))?;
            directory(&below, copy.as_fd())?;
        }
        FileType::RegularFile => contents(from, name, to)?,
        FileType::Symlink => {
            let target = readlinkat(from, name, Vec::new()).call(|| format!("readlinkat(fd, {name:?})"))?;
            symlinkat(target.as_c_str(), to, name)
                .call(|| format!("symlinkat({target:?}, tmpfs, {name:?})"))?;
        }
        _ => mknodat(to, name, kind, mode, stat.st_rdev).call(|| format!("mknodat(tmpfs, {name:?})"))?,
    }
    own(to, name, &stat)?;
    if kind != FileType::Symlink {
        chmodat(to, name, mode, AtFlags::empty()).call(|| format!("fchmodat(tmpfs, {name:?})"))?;
    }
    Ok(())
}

fn contents(from: &OwnedFd, name: &CStr, to: BorrowedFd<'_>) -> Result<()> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let source = openat(from, name, flags, Mode::empty()).call(|| format!("openat(fd, {name:?})"))?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let copy = openat(to, name, flags, Mode::RUSR | Mode::WUSR)
        .call(|| format!("openat(tmpfs, {name:?}, O_CREAT)"))?;
    while sendfile(&copy, &source, None, 1 << 20).call(|| format!("sendfile(tmpfs {name:?})"))? > 0 {}
    Ok(())
}

fn own(to: BorrowedFd<'_>, name: &CStr, stat: &Stat) -> Result<()> {
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    chownat(to, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
        .call(|| format!("fchownat(tmpfs, {name:?}, {}, {})", stat.st_uid, stat.st_gid))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_tree_arrives_with_its_bits_and_its_links_unfollowed() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir(from.path().join("d")).unwrap();
        fs::write(from.path().join("d/f"), "text").unwrap();
        fs::set_permissions(from.path().join("d/f"), fs::Permissions::from_mode(0o4751)).unwrap();
        fs::set_permissions(from.path().join("d"), fs::Permissions::from_mode(0o2700)).unwrap();
        symlink("/etc/passwd", from.path().join("link")).unwrap();
        let open = |path: &std::path::Path| fs::File::open(path).unwrap();
        copy(open(from.path()).as_fd(), open(to.path()).as_fd()).unwrap();
        assert_eq!(fs::read_to_string(to.path().join("d/f")).unwrap(), "text");
        let bits = |name: &str| fs::metadata(to.path().join(name)).unwrap().permissions().mode() & 0o7777;
        assert_eq!((bits("d/f"), bits("d")), (0o4751, 0o2700));
        assert_eq!(fs::read_link(to.path().join("link")).unwrap().to_str(), Some("/etc/passwd"));
    }
}
