//! A process by descriptor: opened, signalled, waited for, told apart from whoever has its number next.
//!
//! The descriptor is a pidfd or, where pidfd_open(2) is missing, the directory `/proc/PID`, which stays the one of that
//! process just so: once the process is gone, nothing in it can be read any more, whoever has the number then. A pidfd that
//! came from `CLONE_PIDFD` (any kernel since 5.2, and no filter refuses that) becomes readable at the end; a directory
//! tells nothing, see [`tells_end`].
//!
//! Where pidfd_send_signal(2) or waiting by pidfd is missing, the number is looked up and used at once. The number of an
//! own child cannot be given away before its status was taken, so there is no gap; with others there is one of an
//! instant between the look and the call.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, fstatfs, openat};
use rustix::io::{Errno, Result};
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, WaitIdStatus, pidfd_open, waitid};

use crate::newer::Newer;
use crate::{last_errno, signal};

/// `PROC_SUPER_MAGIC`.
pub(crate) const PROC_MAGIC: u64 = 0x9fa0;

/// Opens the process that has the number `pid` now.
///
/// # Errors
/// `SRCH` if there is none.
pub fn open(pid: i32) -> Result<OwnedFd> {
    let pid = Pid::from_raw(pid).ok_or(Errno::SRCH)?;
    if Newer::PidfdOpen.is_there() { pidfd_open(pid, PidfdFlags::empty()) } else { entry_of(pid) }
}

/// Whether the descriptor becomes readable when the process ends.
pub fn tells_end(process: BorrowedFd<'_>) -> bool {
    !is_entry(process)
}

/// Sends a signal, a real-time one too. See
/// [pidfd_send_signal(2)](https://man7.org/linux/man-pages/man2/pidfd_send_signal.2.html).
///
/// # Errors
/// `SRCH` when it has ended and its status was taken.
pub fn send_signal(process: BorrowedFd<'_>, number: i32) -> Result<()> {
    if !Newer::PidfdSendSignal.is_there() {
        return signal::kill(self::number(process)?, number);
    }
    let info = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: a null `info` asks for the one that kill(2) would send; no other pointer is passed.
    let answer = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, process.as_raw_fd(), number, info, 0) };
    if answer < 0 { Err(last_errno()) } else { Ok(()) }
}

/// Waits for a child as waitid(2) does; `None` if `NOHANG` was asked for and it has not changed.
///
/// # Errors
/// `CHILD` if it is no child, or its status was taken.
pub fn wait(process: BorrowedFd<'_>, options: WaitIdOptions) -> Result<Option<WaitIdStatus>> {
    match waitid(WaitId::PidFd(process), options) {
        // Before 5.4 there was no waiting by descriptor, and there is none by a directory.
        Err(Errno::INVAL | Errno::BADF) => {
            let pid = number(process).map_err(|_| Errno::CHILD)?;
            waitid(WaitId::Pid(Pid::from_raw(pid).ok_or(Errno::CHILD)?), options)
        }
        answer => answer,
    }
}

/// Its number in the pid namespace of `/proc`.
///
/// # Errors
/// `SRCH` when it is gone.
pub fn number(process: BorrowedFd<'_>) -> Result<i32> {
    let text = if is_entry(process) {
        let stat = openat(process, "stat", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        read(stat.map_err(|_| Errno::SRCH)?)?
    } else {
        let info = format!("/proc/self/fdinfo/{}", process.as_raw_fd());
        let text = read(openat(CWD, info, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)?;
        let number = text.lines().find_map(|line| line.strip_prefix("Pid:"));
        number.ok_or(Errno::BADF)?.trim().to_owned()
    };
    // A pidfd shows -1 for a process that is gone, 0 for one that this /proc does not show.
    let number = text.split(' ').next().and_then(|text| text.parse().ok());
    number.filter(|number| *number > 0).ok_or(Errno::SRCH)
}

/// The directory of the process in `/proc`.
pub(crate) fn entry(process: BorrowedFd<'_>) -> Result<OwnedFd> {
    if is_entry(process) {
        return rustix::io::fcntl_dupfd_cloexec(process, 0);
    }
    let before = number(process)?;
    let entry = entry_of(Pid::from_raw(before).ok_or(Errno::SRCH)?)?;
    // Still the same process, so it was when the directory was opened.
    if number(process)? == before { Ok(entry) } else { Err(Errno::SRCH) }
}

fn entry_of(pid: Pid) -> Result<OwnedFd> {
    let path = format!("/proc/{}", pid.as_raw_nonzero());
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let entry = openat(CWD, path, flags, Mode::empty())
        .map_err(|errno| if errno == Errno::NOENT { Errno::SRCH } else { errno })?;
    if u64::try_from(fstatfs(&entry)?.f_type) == Ok(PROC_MAGIC) { Ok(entry) } else { Err(Errno::NOSYS) }
}

fn is_entry(process: BorrowedFd<'_>) -> bool {
    fstat(process).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}

fn read(file: OwnedFd) -> Result<String> {
    let mut text = [0_u8; 512];
    let length = rustix::io::read(&file, &mut text)?;
    Ok(String::from_utf8_lossy(&text[..length]).into_owned())
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Child, Command};

    use super::*;

    fn sleeper() -> (Child, i32) {
        let child = Command::new("sleep").arg("1000").spawn().unwrap();
        let pid = child.id().cast_signed();
        (child, pid)
    }

    #[test]
    fn a_process_is_ended_by_its_descriptor_with_any_signal() {
        for number in [15, 40] {
            let (mut child, pid) = sleeper();
            let process = open(pid).unwrap();
            send_signal(process.as_fd(), number).unwrap();
            assert_eq!(child.wait().unwrap().signal(), Some(number));
            assert_eq!(send_signal(process.as_fd(), number), Err(Errno::SRCH));
        }
    }

    #[test]
    fn number_and_directory_are_those_of_the_process_while_it_is_there() {
        let (mut child, pid) = sleeper();
        let process = open(pid).unwrap();
        let entry = entry(process.as_fd()).unwrap();
        for descriptor in [process.as_fd(), entry.as_fd()] {
            assert_eq!(number(descriptor), Ok(pid));
        }
        assert!(tells_end(process.as_fd()) && !tells_end(entry.as_fd()));
        child.kill().unwrap();
        // Not taken yet: the number is still its own.
        let ended = wait(entry.as_fd(), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT).unwrap();
        assert_eq!(ended.and_then(|status| status.terminating_signal()), Some(9));
        assert_eq!(number(process.as_fd()), Ok(pid));
        child.wait().unwrap();
        for descriptor in [process.as_fd(), entry.as_fd()] {
            assert_eq!(number(descriptor), Err(Errno::SRCH));
            assert_eq!(wait(descriptor, WaitIdOptions::EXITED).map(|_| ()), Err(Errno::CHILD));
        }
    }
}
