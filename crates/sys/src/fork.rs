//! Copies of a process with one thread, and its replacement by its own, unwritable program.

use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::CWD;
use rustix::io::{Errno, Result};
use rustix::mount::OpenTreeFlags;

/// Which side of [`fork`] this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fork {
    /// The caller; this is the child's process id.
    Parent(i32),
    /// The new process.
    Child,
}

/// Makes a copy of this process, which must have one thread. See [fork(2)](https://man7.org/linux/man-pages/man2/fork.2.html).
///
/// # Errors
/// `DEADLK` if there are more threads; otherwise the kernel's refusal (no memory, too many processes).
pub fn fork() -> Result<Fork> {
    if !is_single_threaded() {
        return Err(Errno::DEADLK);
    }
    // SAFETY: this is the only thread, so no lock is held by one that the child does not have.
    match unsafe { libc::fork() } {
        0 => Ok(Fork::Child),
        pid if pid > 0 => Ok(Fork::Parent(pid)),
        _ => Err(last_errno()),
    }
}

/// Makes `file` standard input, output and error, those that are asked for.
///
/// # Errors
/// None that the kernel is known to give for open descriptors.
pub fn redirect(file: BorrowedFd<'_>, [stdin, stdout, stderr]: [bool; 3]) -> Result<()> {
    for (number, wanted) in [(0, stdin), (1, stdout), (2, stderr)] {
        // SAFETY: the three standard descriptors are owned by nobody in particular and never closed; what they refer to
        // may be replaced.
        if wanted && unsafe { libc::dup2(file.as_raw_fd(), number) } < 0 {
            return Err(last_errno());
        }
    }
    Ok(())
}

/// Whether the calling thread is the only one of its process.
fn is_single_threaded() -> bool {
    // The kernel refuses this to a thread that has siblings and does nothing for one that has none.
    // SAFETY: takes no pointer and changes nothing.
    unsafe { libc::syscall(libc::SYS_unshare, libc::CLONE_THREAD) == 0 }
}

/// Executes the running program again, with `args`, from a read-only clone of its mount that is attached nowhere: whoever
/// opens `/proc/PID/exe` of this process or its children cannot write to the file, even with every capability.
/// Returns only on failure.
pub fn reexecute_read_only(args: &[CString]) -> Errno {
    let program = match read_only_clone(c"/proc/self/exe") {
        Ok(program) => program,
        Err(e) => return e,
    };
    let args: Vec<*const libc::c_char> =
        args.iter().map(|arg| arg.as_ptr()).chain([std::ptr::null()]).collect();
    let env = [std::ptr::null::<libc::c_char>()];
    // SAFETY: both lists end with null and point to strings that live over the call; the empty path means the file itself.
    unsafe {
        let (argv, envp) = (args.as_ptr(), env.as_ptr());
        libc::syscall(libc::SYS_execveat, program.as_raw_fd(), c"".as_ptr(), argv, envp, libc::AT_EMPTY_PATH);
    }
    last_errno()
}

fn read_only_clone(path: &CStr) -> Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let clone = rustix::mount::open_tree(CWD, path, flags)?;
    set_read_only(rustix::fd::AsFd::as_fd(&clone))?;
    Ok(clone)
}

fn set_read_only(mount: BorrowedFd<'_>) -> Result<()> {
    let attributes =
        libc::mount_attr { attr_set: libc::MOUNT_ATTR_RDONLY, attr_clr: 0, propagation: 0, userns_fd: 0 };
    // SAFETY: path and attributes live over the call, and the size is that of the attributes.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            std::ptr::from_ref(&attributes),
            std::mem::size_of::<libc::mount_attr>(),
        )
    };
    if answer < 0 { Err(last_errno()) } else { Ok(()) }
}

fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_with_threads_is_not_forked() {
        let (stop, wait) = std::sync::mpsc::channel::<()>();
        let other = std::thread::spawn(move || wait.recv());
        assert_eq!(fork(), Err(Errno::DEADLK));
        drop(stop);
        assert!(other.join().is_ok());
    }

    #[test]
    fn a_read_only_clone_cannot_be_written_through() {
        let file = tempfile::NamedTempFile::new().expect("temporary file");
        let path = CString::new(file.path().as_os_str().as_encoded_bytes()).expect("no NUL");
        let clone = match read_only_clone(&path) {
            Err(Errno::PERM) => return, // Without privilege there is nothing to test.
            clone => clone.expect("clones"),
        };
        let through = format!("/proc/self/fd/{}", clone.as_raw_fd());
        let error = std::fs::OpenOptions::new().write(true).open(through).expect_err("read-only");
        assert_eq!(error.raw_os_error(), Some(libc::EROFS));
        assert!(std::fs::OpenOptions::new().write(true).open(file.path()).is_ok());
    }
}
