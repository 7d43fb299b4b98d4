//! Executes the program again where nobody can write to it.
//!
//! Root in a container that shares the host's ids could otherwise open `/proc/PID/exe` of a monitor and, once nobody
//! executes it any more, write to the file on the host. From a read-only clone of the mount, attached nowhere, it cannot.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::OpenTreeFlags;
use tare_model::Error;
use tare_sys::mount::{Attributes, Change, mount_setattr};
use tare_sys::process::fexecve;

/// Executes the running program with `args` from a read-only clone of its mount. Returns only on failure.
pub(super) fn execute_again(args: &[&str]) -> Error {
    let Ok(args) = args.iter().map(|arg| CString::new(*arg)).collect::<Result<Vec<CString>, _>>() else {
        return Error::invalid(format!("nursery: an argument of {args:?} has a NUL byte"));
    };
    let (call, cause) = match read_only_clone(c"/proc/self/exe") {
        Ok(program) => ("execveat", fexecve(program.as_fd(), &args, &[])),
        Err(refusal) => refusal,
    };
    Error::system(format!(
        "nursery: execute /proc/self/exe from a read-only clone of its mount: {call}: {cause}; this needs root and Linux 5.12"
    ))
}

fn read_only_clone(path: &CStr) -> Result<OwnedFd, (&'static str, Errno)> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let clone = rustix::mount::open_tree(CWD, path, flags).map_err(|e| ("open_tree", e))?;
    let read_only = Change { set: Attributes::RDONLY, ..Change::default() };
    mount_setattr(clone.as_fd(), c"", read_only).map_err(|e| ("mount_setattr", e))?;
    Ok(clone)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn a_read_only_clone_cannot_be_written_through() {
        let file = tempfile::NamedTempFile::new().expect("temporary file");
        let path = CString::new(file.path().as_os_str().as_encoded_bytes()).expect("no NUL");
        let clone = match read_only_clone(&path) {
            Err((_, Errno::PERM)) => return, // Without privilege there is nothing to test.
            clone => clone.expect("clones"),
        };
        let through = format!("/proc/self/fd/{}", clone.as_raw_fd());
        let error = std::fs::OpenOptions::new().write(true).open(through).expect_err("read-only");
        assert_eq!(error.raw_os_error(), Some(Errno::ROFS.raw_os_error()));
        assert!(std::fs::OpenOptions::new().write(true).open(file.path()).is_ok());
    }
}
