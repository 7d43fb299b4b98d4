//! Which of the kernel's newer calls can be used here, found by calling them.
//!
//! A version says nothing: distributions carry calls back, and the filter of an outer container answers `ENOSYS`, or
//! `EPERM` if it was written before the call was. So each is made once with arguments that cannot succeed; any other
//! answer than those two comes from the call itself. `docs/kernels.md` says what is used instead.

use std::sync::atomic::{AtomicU8, Ordering};

use rustix::io::Errno;

use crate::last_errno;

/// A call that some kernels and filters do not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Newer {
    /// openat2(2), 5.6.
    Openat2,
    /// clone3(2), 5.3; into a cgroup 5.7.
    Clone3,
    /// pidfd_open(2), 5.3.
    PidfdOpen,
    /// pidfd_send_signal(2), 5.1.
    PidfdSendSignal,
    /// close_range(2), 5.9.
    CloseRange,
    /// open_tree(2), move_mount(2), fsopen(2) and their kin, 5.2.
    MountApi,
    /// mount_setattr(2), 5.12.
    MountSetattr,
}

const UNKNOWN: u8 = 0;
const THERE: u8 = 1;
const ABSENT: u8 = 2;

static FOUND: [AtomicU8; 7] = [const { AtomicU8::new(UNKNOWN) }; 7];

// === impl Newer ===

impl Newer {
    /// Whether the call can be used; asked of the kernel once in a process and its children.
    pub(crate) fn is_there(self) -> bool {
        let found = &FOUND[self as usize];
        match found.load(Ordering::Relaxed) {
            UNKNOWN => {
                let there = self.try_in_vain();
                found.store(if there { THERE } else { ABSENT }, Ordering::Relaxed);
                there
            }
            known => known == THERE,
        }
    }

    fn try_in_vain(self) -> bool {
        let none = std::ptr::null::<u8>();
        let every_flag = libc::c_uint::MAX;
        // SAFETY: every call is refused for its size, flags or numbers before a pointer is looked at; all are null.
        let answer = unsafe {
            match self {
                Self::Openat2 => libc::syscall(libc::SYS_openat2, -1, none, none, 0_usize),
                Self::Clone3 => libc::syscall(libc::SYS_clone3, none, 0_usize),
                Self::PidfdOpen => libc::syscall(libc::SYS_pidfd_open, -1, every_flag),
                Self::PidfdSendSignal => libc::syscall(libc::SYS_pidfd_send_signal, -1, 0, none, every_flag),
                Self::CloseRange => libc::syscall(libc::SYS_close_range, 1_u32, 0_u32, every_flag),
                Self::MountApi => libc::syscall(libc::SYS_open_tree, -1, none, every_flag),
                Self::MountSetattr => {
                    libc::syscall(libc::SYS_mount_setattr, -1, none, every_flag, none, 0_usize)
                }
            }
        };
        answer >= 0 || !matches!(last_errno(), Errno::NOSYS | Errno::PERM)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_kernel_of_today_has_is_found() {
        for call in
            [Newer::Openat2, Newer::Clone3, Newer::PidfdOpen, Newer::PidfdSendSignal, Newer::CloseRange]
        {
            assert!(call.is_there() && call.is_there(), "{call:?}");
        }
        assert!(Newer::MountApi.is_there() && Newer::MountSetattr.is_there());
    }
}
