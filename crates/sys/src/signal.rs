//! Signals taken one at a time by a program that does nothing else: blocked, then waited for.
//!
//! See [sigwaitinfo(2)](https://man7.org/linux/man-pages/man2/sigwaitinfo.2.html).

use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

use rustix::io::{Errno, Result};

use crate::last_errno;

/// `SIGCHLD`.
pub const CHILD: i32 = libc::SIGCHLD;

/// Blocks every signal that can be blocked in the calling thread.
///
/// # Errors
/// None that is known.
pub fn block_all() -> Result<()> {
    let all = all();
    // SAFETY: `all` is initialized and lives over the call.
    let answer = unsafe { libc::sigprocmask(libc::SIG_BLOCK, &all, ptr::null_mut()) };
    if answer < 0 { Err(last_errno()) } else { Ok(()) }
}

/// Waits for any blocked signal, takes it, and gives its number.
///
/// # Errors
/// `INTR` if a handler ran meanwhile.
pub fn wait_any() -> Result<i32> {
    let all = all();
    // SAFETY: `all` is initialized and lives over the call; no information beyond the number is asked for.
    let number = unsafe { libc::sigwaitinfo(&all, ptr::null_mut()) };
    if number < 0 { Err(last_errno()) } else { Ok(number) }
}

/// A descriptor from which blocked signals are taken with [`take`]; it never waits. See
/// [signalfd(2)](https://man7.org/linux/man-pages/man2/signalfd.2.html).
///
/// # Errors
/// Too many descriptors.
pub fn descriptor() -> Result<OwnedFd> {
    let all = all();
    // SAFETY: `all` is initialized and lives over the call.
    let fd = unsafe { libc::signalfd(-1, &all, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
    if fd < 0 {
        return Err(last_errno());
    }
    // SAFETY: a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The number of the next signal of a [`descriptor`], if one is there.
///
/// # Errors
/// None that is known.
pub fn take(descriptor: BorrowedFd<'_>) -> Result<Option<i32>> {
    let mut record = [0_u8; std::mem::size_of::<libc::signalfd_siginfo>()];
    match rustix::io::read(descriptor, &mut record) {
        // The number is the first field.
        Ok(_) => Ok(Some(i32::from_ne_bytes([record[0], record[1], record[2], record[3]]))),
        Err(Errno::AGAIN | Errno::INTR) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Sends a signal to a process of ours whose status nobody has taken yet.
///
/// # Errors
/// `SRCH` if there is no such process.
pub fn kill(pid: i32, number: i32) -> Result<()> {
    // SAFETY: takes no pointer.
    if unsafe { libc::kill(pid, number) } < 0 { Err(last_errno()) } else { Ok(()) }
}

fn all() -> libc::sigset_t {
    // SAFETY: the set is initialized by sigfillset before it is read.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&mut set);
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blocked_signal_waits_to_be_taken() {
        // Signals to a thread of this process, so that the other tests do not notice.
        let taken = std::thread::spawn(|| {
            block_all().unwrap();
            // SAFETY: `pthread_self` is this thread, which is alive.
            assert_eq!(unsafe { libc::pthread_kill(libc::pthread_self(), libc::SIGUSR1) }, 0);
            wait_any()
        });
        assert_eq!(taken.join().unwrap(), Ok(libc::SIGUSR1));
    }
}
