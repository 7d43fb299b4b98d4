//! System-call filters: one instruction of classic BPF, and the call that loads a program of them.
//!
//! A filter cannot be taken off again and is inherited by every child; loading needs `no_new_privs` or
//! `CAP_SYS_ADMIN` in the thread's user namespace. Programs are made elsewhere.
//! See [seccomp(2)](https://man7.org/linux/man-pages/man2/seccomp.2.html).

use std::ops::BitOr;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use rustix::io::{Errno, Result};

/// One instruction, laid out as the kernel's `struct sock_filter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    /// Operation, size and mode.
    pub code: u16,
    /// How many instructions to skip if the condition holds.
    pub jt: u8,
    /// How many to skip if not.
    pub jf: u8,
    /// Constant operand.
    pub k: u32,
}

/// Longest program the kernel takes.
pub const MAX_INSTRUCTIONS: usize = 4096;

/// How a filter is loaded; combine with `|`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(u32);

impl Flags {
    /// None of them.
    pub const NONE: Self = Self(0);
    /// The filter applies to every thread of the process.
    pub const TSYNC: Self = Self(libc::SECCOMP_FILTER_FLAG_TSYNC as u32);
    /// Whatever is refused is logged, if the administrator's `actions_logged` says so.
    pub const LOG: Self = Self(libc::SECCOMP_FILTER_FLAG_LOG as u32);
    /// Speculative store bypass stays allowed (it costs speed to forbid).
    pub const SPEC_ALLOW: Self = Self(libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW as u32);
    /// A descriptor is returned, on which calls with the notify action wait for a decision.
    pub const NEW_LISTENER: Self = Self(libc::SECCOMP_FILTER_FLAG_NEW_LISTENER as u32);
    /// A thread that cannot take the filter is an error `ESRCH`, not a thread id. Needed for TSYNC with a listener.
    pub const TSYNC_ESRCH: Self = Self(libc::SECCOMP_FILTER_FLAG_TSYNC_ESRCH as u32);
    /// Once a notification was received only fatal signals interrupt the waiting call.
    pub const WAIT_KILLABLE_RECV: Self = Self(1 << 5);

    /// Whether all of `other` is in it.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// These but for `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

impl BitOr for Flags {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Loads a filter into the calling thread (all threads with [`Flags::TSYNC`]); with [`Flags::NEW_LISTENER`] gives the
/// descriptor, which is close-on-exec.
///
/// # Errors
/// `EACCES` without `no_new_privs` and capability, `EINVAL` for a program or flag the kernel does not take, `ESRCH` if
/// another thread's filters forbid the synchronisation.
pub fn load(program: &[Instruction], flags: Flags) -> Result<Option<OwnedFd>> {
    let len = u16::try_from(program.len()).map_err(|_| Errno::INVAL)?;
    let header = libc::sock_fprog { len, filter: program.as_ptr().cast::<libc::sock_filter>().cast_mut() };
    // SAFETY: `header` points to `len` instructions that live over the call; the kernel copies them and writes nothing.
    // `Instruction` has the layout of `sock_filter` (same fields, `repr(C)`).
    let answer = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags.0, std::ptr::from_ref(&header))
    };
    if answer < 0 {
        return Err(last_errno());
    }
    if flags.contains(Flags::NEW_LISTENER) {
        let raw = RawFd::try_from(answer).map_err(|_| Errno::OVERFLOW)?;
        // SAFETY: with NEW_LISTENER a non-negative answer is a new descriptor that nobody else owns.
        return Ok(Some(unsafe { OwnedFd::from_raw_fd(raw) }));
    }
    // With TSYNC alone the kernel answers with the id of a thread that could not follow.
    if answer > 0 { Err(Errno::SRCH) } else { Ok(None) }
}

/// Whether the kernel knows these flags; asked by a call that cannot succeed, so nothing is loaded.
pub fn supports(flags: Flags) -> bool {
    let nothing = std::ptr::null::<libc::sock_fprog>();
    // SAFETY: the null program is refused (EFAULT) after the flags were checked (EINVAL); no memory is touched.
    let answer = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags.0, nothing) };
    answer < 0 && last_errno() == Errno::FAULT
}

fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RETURN: u16 = 0x06;
    const ALLOW: u32 = 0x7fff_0000;

    #[test]
    fn the_kernel_tells_which_flags_it_knows() {
        assert!(supports(Flags::LOG | Flags::SPEC_ALLOW));
        assert!(!supports(Flags(1 << 30)), "a flag from the future");
    }

    #[test]
    fn a_malformed_program_is_refused_and_nothing_is_loaded() {
        let falls_off_the_end = [Instruction { code: 0x20, jt: 0, jf: 0, k: 0 }];
        assert_eq!(load(&falls_off_the_end, Flags::NONE).err(), Some(Errno::INVAL));
        assert_eq!(load(&[], Flags::NONE).err(), Some(Errno::INVAL));
    }

    #[test]
    fn a_filter_that_allows_everything_loads_into_one_thread() {
        let done = std::thread::spawn(|| {
            let program = [Instruction { code: RETURN, jt: 0, jf: 0, k: ALLOW }];
            load(&program, Flags::SPEC_ALLOW).map(|listener| listener.is_none())
        });
        assert_eq!(done.join().ok(), Some(Ok(true)));
    }

    #[test]
    fn a_listener_is_returned_when_asked_for() {
        let done = std::thread::spawn(|| {
            let program = [Instruction { code: RETURN, jt: 0, jf: 0, k: ALLOW }];
            load(&program, Flags::NEW_LISTENER).map(|listener| listener.is_some())
        });
        assert_eq!(done.join().ok(), Some(Ok(true)));
    }
}
