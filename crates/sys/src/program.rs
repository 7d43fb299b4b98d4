//! The running program as a file that nobody can write to.
//!
//! A process that enters a container shows, through `/proc/PID/exe`, the file that it runs. Executed from what is given
//! here, that cannot be opened for writing: a read-only copy of its mount that is attached nowhere or, where the kernel
//! makes none, a copy in memory, sealed. The copy costs the memory, so it is the second choice.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    CWD, MemfdFlags, Mode, OFlags, SealFlags, StatVfsMountFlags, fcntl_add_seals, fcntl_get_seals, fstatvfs,
    memfd_create, openat, sendfile,
};
use rustix::io::Errno;

use crate::dir::{CallContext, CallResult};
use crate::mount::{self, Attributes, Change, mount_setattr};

/// The file at `path` (`/proc/self/exe`), to be executed by [`crate::process::fexecve`].
///
/// # Errors
/// The kernel's refusal.
pub fn unwritable(path: &CStr) -> CallResult<OwnedFd> {
    if mount::can_detach() { read_only_copy(path) } else { sealed_copy(path) }
}

/// Whether the file that `file` means is one of those.
///
/// # Errors
/// The kernel's refusal.
pub fn is_unwritable(file: BorrowedFd<'_>) -> CallResult<bool> {
    let flags = fstatvfs(file).call(|| "fstatvfs(program)".to_owned())?.f_flag;
    // A file that takes no seals answers so.
    let sealed = fcntl_get_seals(file).is_ok_and(|seals| seals.contains(SealFlags::WRITE));
    Ok(sealed || flags.contains(StatVfsMountFlags::RDONLY))
}

fn read_only_copy(path: &CStr) -> CallResult<OwnedFd> {
    let shown = path.to_string_lossy().into_owned();
    let name = std::path::Path::new(&shown);
    let copy =
        mount::copy_tree(CWD, name, false).call(|| format!("open_tree({shown:?}, OPEN_TREE_CLONE)"))?;
    let read_only = Change { set: Attributes::RDONLY, ..Change::default() };
    mount_setattr(copy.as_fd(), c"", read_only)
        .call(|| "mount_setattr(mount, MOUNT_ATTR_RDONLY)".to_owned())?;
    Ok(copy)
}

fn sealed_copy(path: &CStr) -> CallResult<OwnedFd> {
    let from = openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .call(|| format!("open({path:?}, O_RDONLY)"))?;
    let copy = memfd_create("program", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)
        .call(|| "memfd_create(MFD_ALLOW_SEALING)".to_owned())?;
    loop {
        match sendfile(&copy, &from, None, 1 << 30) {
            Ok(0) => break,
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno).call(|| "sendfile(memfd, program)".to_owned()),
        }
    }
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    fcntl_add_seals(&copy, seals).call(|| "fcntl(memfd, F_ADD_SEALS)".to_owned())?;
    Ok(copy)
}

#[cfg(test)]
mod tests {
    use std::ffi::CString;
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn neither_copy_can_be_written_through() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "program").unwrap();
        let path = CString::new(file.path().as_os_str().as_encoded_bytes()).unwrap();
        for (copy, want) in [(read_only_copy(&path), Errno::ROFS), (sealed_copy(&path), Errno::PERM)] {
            let copy = match copy {
                Err(error) if error.errno() == Errno::PERM => continue, // Without privilege there is no mount.
                copy => copy.unwrap(),
            };
            let through = format!("/proc/self/fd/{}", copy.as_raw_fd());
            let readable = openat(CWD, &through, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).unwrap();
            assert!(is_unwritable(readable.as_fd()).unwrap());
            assert_eq!(std::fs::read(&through).unwrap(), b"program");
            let written = std::fs::OpenOptions::new().write(true).open(&through);
            let written = written.and_then(|mut open| std::io::Write::write_all(&mut open, b"x"));
            assert_eq!(written.unwrap_err().raw_os_error(), Some(want.raw_os_error()));
        }
        let plain = std::fs::File::open(file.path()).unwrap();
        assert!(!is_unwritable(plain.as_fd()).unwrap());
    }
}
