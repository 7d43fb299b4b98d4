//! Children: whether the kernel reaps them, and signals to a process by its descriptor.

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::{Errno, Result};

use crate::last_errno;

/// Has the kernel reap children of this process: they leave no zombies, and cannot be waited for.
///
/// # Errors
/// None that the kernel is known to give.
pub fn ignore_children() -> Result<()> {
    set_child_action(libc::SIG_IGN)
}

/// Undoes [`ignore_children`]: children are waited for.
///
/// # Errors
/// None that the kernel is known to give.
pub fn wait_for_children() -> Result<()> {
    set_child_action(libc::SIG_DFL)
}

fn set_child_action(action: libc::sighandler_t) -> Result<()> {
    // SAFETY: both actions run no code of ours.
    let old = unsafe { libc::signal(libc::SIGCHLD, action) };
    if old == libc::SIG_ERR { Err(Errno::INVAL) } else { Ok(()) }
}

/// Sends a signal, a real-time one too, to the process that `pidfd` means. See
/// [pidfd_send_signal(2)](https://man7.org/linux/man-pages/man2/pidfd_send_signal.2.html).
///
/// # Errors
/// `SRCH` when it has ended.
pub fn pidfd_send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> Result<()> {
    let info = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: a null `info` asks for the one that kill(2) would send; no other pointer is passed.
    let answer = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, info, 0) };
    if answer < 0 { Err(last_errno()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    use rustix::process::{Pid, PidfdFlags, pidfd_open};

    use super::*;

    #[test]
    fn a_process_is_ended_by_its_descriptor_with_any_signal() {
        for signal in [15, 40] {
            let mut child = Command::new("sleep").arg("1000").spawn().expect("spawns");
            let pid = Pid::from_child(&child);
            let pidfd = pidfd_open(pid, PidfdFlags::empty()).expect("opens");
            pidfd_send_signal(pidfd.as_fd(), signal).expect("sends");
            assert_eq!(child.wait().expect("ends").signal(), Some(signal));
            assert_eq!(pidfd_send_signal(pidfd.as_fd(), signal), Err(Errno::SRCH));
        }
    }
}
