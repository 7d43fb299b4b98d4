//! Processes: made in new namespaces and with a pidfd, moved between namespaces, replaced by a program.
//!
//! A process is made by [`fork`], which refuses to run in a program with several threads: only then may the child
//! allocate and run ordinary code. Everything else here acts on the calling thread.
//!
//! Where clone3(2) is missing, clone(2) makes the child; it knows no cgroup, so the child moves itself before `fork` returns
//! in it. Namespaces of a process are joined by its pidfd or, where that cannot be, by its files in `/proc`.
//! See [clone(2)](https://man7.org/linux/man-pages/man2/clone.2.html) and
//! [namespaces(7)](https://man7.org/linux/man-pages/man7/namespaces.7.html).

use std::ffi::{CStr, CString};
use std::ops::BitOr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use rustix::fs::{Mode, OFlags, openat};
use rustix::io::{Errno, Result};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, WaitIdOptions};

use crate::newer::Newer;
use crate::{last_errno, pidfd};

/// Not in `libc` with the right width.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// A set of kinds of namespace; combine with `|`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Namespaces(u32);

/// Which side of [`fork`] this is.
#[derive(Debug)]
pub enum Forked {
    /// The caller.
    Parent {
        /// The child's id in the caller's pid namespace.
        pid: Pid,
        /// Becomes readable when the child ends.
        pidfd: OwnedFd,
    },
    /// The new process.
    Child,
}

// === impl Namespaces ===

impl Namespaces {
    /// None.
    pub const NONE: Self = Self(0);
    /// Mounts.
    pub const MOUNT: Self = Self(libc::CLONE_NEWNS as u32);
    /// Process ids.
    pub const PID: Self = Self(libc::CLONE_NEWPID as u32);
    /// Network.
    pub const NET: Self = Self(libc::CLONE_NEWNET as u32);
    /// System V IPC and POSIX message queues.
    pub const IPC: Self = Self(libc::CLONE_NEWIPC as u32);
    /// Host and domain name.
    pub const UTS: Self = Self(libc::CLONE_NEWUTS as u32);
    /// The view of the cgroup tree.
    pub const CGROUP: Self = Self(libc::CLONE_NEWCGROUP as u32);
    /// User and group ids, capabilities.
    pub const USER: Self = Self(libc::CLONE_NEWUSER as u32);
    /// Offsets of the monotonic and the boot-time clock.
    pub const TIME: Self = Self(0x80);

    /// Whether all of `other` is in it.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The set without those of `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

impl BitOr for Namespaces {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Makes a child in new namespaces, a copy of this process, already in the cgroup v2 directory `cgroup` if one is given.
/// The child's end is told by `SIGCHLD` and by the pidfd.
///
/// # Errors
/// `DEADLK` if this program has more than one thread; otherwise the kernel's refusal.
pub fn fork(namespaces: Namespaces, cgroup: Option<BorrowedFd<'_>>) -> Result<Forked> {
    clone(namespaces, cgroup, 0)
}

/// As [`fork`], but the child is one of the caller's parent, as if that had made it.
///
/// # Errors
/// As [`fork`]; `EINVAL` if the caller is the first process of its pid namespace.
pub fn fork_sibling(namespaces: Namespaces) -> Result<Forked> {
    clone(namespaces, None, libc::CLONE_PARENT as u64)
}

fn clone(namespaces: Namespaces, cgroup: Option<BorrowedFd<'_>>, more: u64) -> Result<Forked> {
    if !is_single_threaded() {
        return Err(Errno::DEADLK);
    }
    // A sibling's end is told as that of the caller itself.
    let exit_signal = if more == 0 { libc::SIGCHLD as u64 } else { 0 };
    match cgroup {
        _ if Newer::Clone3.is_there() => clone3(namespaces, cgroup, more, exit_signal),
        None => clone2(namespaces, more | exit_signal),
        Some(cgroup) => clone2_into(namespaces, cgroup, more | exit_signal),
    }
}

fn clone3(
    namespaces: Namespaces,
    cgroup: Option<BorrowedFd<'_>>,
    more: u64,
    exit_signal: u64,
) -> Result<Forked> {
    let mut pidfd: RawFd = -1;
    // SAFETY: all-zero is a valid value of this structure of integers.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = u64::from(namespaces.0) | libc::CLONE_PIDFD as u64 | more;
    args.pidfd = ptr::from_mut(&mut pidfd) as u64;
    args.exit_signal = exit_signal;
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: without CLONE_VM the child has its own copy of memory and, as the only thread was this one, no lock in it
    // is held by somebody who is not there. `args` and `pidfd` live over the call.
    let answer =
        unsafe { libc::syscall(libc::SYS_clone3, ptr::from_mut(&mut args), std::mem::size_of_val(&args)) };
    forked(answer, pidfd)
}

/// By the older call, which takes the exit signal among the flags.
fn clone2(namespaces: Namespaces, more: u64) -> Result<Forked> {
    let mut pidfd: RawFd = -1;
    let flags = u64::from(namespaces.0) | libc::CLONE_PIDFD as u64 | more;
    // SAFETY: as for `clone3`; with CLONE_PIDFD the third argument says where the descriptor goes.
    let answer = unsafe { libc::syscall(libc::SYS_clone, flags, 0, ptr::from_mut(&mut pidfd), 0, 0) };
    forked(answer, pidfd)
}

/// The same, and the child is in the cgroup when this returns, on either side.
fn clone2_into(namespaces: Namespaces, cgroup: BorrowedFd<'_>, more: u64) -> Result<Forked> {
    // Opened by the parent: in a user namespace of its own the child has no right to.
    let members = openat(cgroup, "cgroup.procs", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    let (told, tell) = pipe_with(PipeFlags::CLOEXEC)?;
    // A cgroup namespace has the group as its root that its maker is in.
    let late = Namespaces(namespaces.0 & Namespaces::CGROUP.0);
    match clone2(namespaces.without(late), more)? {
        Forked::Child => {
            let entered = rustix::io::write(&members, b"0").and_then(|_| match late.is_empty() {
                true => Ok(()),
                false => unshare(late),
            });
            let errno = entered.err().map_or(0, Errno::raw_os_error);
            match (rustix::io::write(&tell, &errno.to_ne_bytes()), errno) {
                (Ok(4), 0) => Ok(Forked::Child),
                // `fork` may not fail in the child: the caller would take itself for the parent.
                _ => exit_now(1),
            }
        }
        Forked::Parent { pid, pidfd: process } => {
            drop(tell);
            let mut errno = [0; 4];
            let count = rustix::io::retry_on_intr(|| rustix::io::read(&told, &mut errno))?;
            let errno = if count == 4 { i32::from_ne_bytes(errno) } else { libc::ESRCH };
            if errno == 0 {
                return Ok(Forked::Parent { pid, pidfd: process });
            }
            // How it ended is known; no zombie stays.
            let _ = pidfd::wait(process.as_fd(), WaitIdOptions::EXITED);
            Err(Errno::from_raw_os_error(errno))
        }
    }
}

fn forked(answer: libc::c_long, pidfd: RawFd) -> Result<Forked> {
    match answer {
        0 => Ok(Forked::Child),
        pid if pid > 0 => {
            let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(Errno::OVERFLOW)?;
            // SAFETY: the kernel has just put a new descriptor there, which nobody else owns.
            Ok(Forked::Parent { pid, pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) } })
        }
        _ => Err(last_errno()),
    }
}

/// Whether the calling thread is the only one of its process.
pub fn is_single_threaded() -> bool {
    // The kernel answers EINVAL to a thread that has siblings, and does nothing for one that has none.
    // SAFETY: takes no pointer and, as said, changes nothing.
    if unsafe { libc::syscall(libc::SYS_unshare, libc::CLONE_THREAD) } == 0 {
        return true;
    }
    // A filter that forbids unsharing altogether says nothing about threads.
    last_errno() != Errno::INVAL
        && std::fs::read_dir("/proc/self/task").is_ok_and(|threads| threads.count() == 1)
}

/// Moves the calling thread into new namespaces.
///
/// # Errors
/// The kernel's refusal.
pub fn unshare(namespaces: Namespaces) -> Result<()> {
    // SAFETY: only namespace bits can be in the set, so that neither memory nor descriptors become unshared.
    done(unsafe { libc::syscall(libc::SYS_unshare, u64::from(namespaces.0)) })
}

/// Moves the calling thread into the namespace that `file` (of `/proc/PID/ns`) is, which must be of this kind.
///
/// # Errors
/// The kernel's refusal; `EINVAL` if it is of another kind.
pub fn setns(file: BorrowedFd<'_>, kind: Namespaces) -> Result<()> {
    // SAFETY: takes no pointer.
    done(unsafe { libc::syscall(libc::SYS_setns, file.as_raw_fd(), u64::from(kind.0)) })
}

/// Moves the calling thread into namespaces of a process (see [`crate::pidfd`]).
///
/// # Errors
/// The kernel's refusal; `SRCH` if the process is gone. Some may have been joined by then.
pub fn join(process: BorrowedFd<'_>, kinds: Namespaces) -> Result<()> {
    match setns(process, kinds) {
        // Before 5.8 only files of namespaces were taken.
        Err(Errno::INVAL) => join_by_files(process, kinds),
        answer => answer,
    }
}

/// The names in `/proc/PID/ns`; the user namespace last, as it is left with rights over the others.
const FILES: [(Namespaces, &str); 7] = [
    (Namespaces::CGROUP, "cgroup"),
    (Namespaces::IPC, "ipc"),
    (Namespaces::UTS, "uts"),
    (Namespaces::NET, "net"),
    (Namespaces::PID, "pid"),
    (Namespaces::MOUNT, "mnt"),
    (Namespaces::USER, "user"),
];

fn join_by_files(process: BorrowedFd<'_>, kinds: Namespaces) -> Result<()> {
    let entry = pidfd::entry(process)?;
    // All are opened first: from the other mount namespace another /proc is seen.
    let mut files = Vec::new();
    for (kind, name) in FILES.into_iter().filter(|(kind, _)| kinds.contains(*kind)) {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        files.push((kind, openat(&entry, format!("ns/{name}"), flags, Mode::empty())?));
    }
    files.iter().try_for_each(|(kind, file)| setns(file.as_fd(), *kind))
}

/// The calling thread's own namespaces of these kinds, to come back to with [`setns`].
///
/// # Errors
/// `/proc` is not there.
pub fn own(kinds: Namespaces) -> Result<Vec<(Namespaces, OwnedFd)>> {
    let open = |name: &str| {
        let path = format!("/proc/thread-self/ns/{name}");
        openat(rustix::fs::CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
    };
    let wanted = FILES.into_iter().filter(|(kind, _)| kinds.contains(*kind));
    wanted.map(|(kind, name)| Ok((kind, open(name)?))).collect()
}

/// Replaces this process by the program at `path`. Returns only on failure.
pub fn execve(path: &CStr, args: &[CString], env: &[CString]) -> Errno {
    let args = pointers(args);
    let env = pointers(env);
    // SAFETY: both lists end with null and point to strings that live over the call.
    unsafe { libc::execve(path.as_ptr(), args.as_ptr(), env.as_ptr()) };
    last_errno()
}

/// As [`execve`], for the program that `file` is.
pub fn fexecve(file: BorrowedFd<'_>, args: &[CString], env: &[CString]) -> Errno {
    let args = pointers(args);
    let env = pointers(env);
    // SAFETY: as in `execve`; the empty path means `file` itself.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            file.as_raw_fd(),
            c"".as_ptr(),
            args.as_ptr(),
            env.as_ptr(),
            libc::AT_EMPTY_PATH,
        );
    }
    last_errno()
}

/// Has the process that `command` starts killed when the thread that starts it ends, also by SIGKILL. A program that
/// gains rights or changes its user forgets this: see
/// [PR_SET_PDEATHSIG(2const)](https://man7.org/linux/man-pages/man2/PR_SET_PDEATHSIG.2const.html).
pub fn ends_with_this_thread(command: &mut std::process::Command) -> &mut std::process::Command {
    use std::os::unix::process::CommandExt;
    let parent = rustix::process::getpid();
    let ask = move || {
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
        // One that has ended before that tells nobody.
        if rustix::process::getppid() == Some(parent) { Ok(()) } else { Err(Errno::SRCH.into()) }
    };
    // SAFETY: between fork and exec the closure makes two system calls, and neither allocates nor takes a lock.
    unsafe { command.pre_exec(ask) }
}

fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings.iter().map(|s| s.as_ptr()).chain([ptr::null()]).collect()
}

/// Ends this process at once: no destructor, no buffer, no exit handler of the program it was copied from.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: ends the process; touches nothing.
    unsafe { libc::_exit(code) }
}

/// Gives every signal its default action and unblocks all: programs expect to start so, and this one may ignore SIGPIPE.
pub fn default_signals() {
    // The kernel's own structure: action, flags, restorer, mask. libc's wrapper would refuse the two signals that it keeps
    // for itself, and they may be ignored as well.
    let default = [libc::SIG_DFL as u64, 0, 0, 0];
    for number in 1..=64 {
        // SAFETY: `default` has the size and meaning of the kernel's sigaction and lives over the call; the default action
        // runs no code of ours. SIGKILL and SIGSTOP are refused, which is harmless.
        unsafe { libc::syscall(libc::SYS_rt_sigaction, number, default.as_ptr(), 0, 8) };
    }
    // SAFETY: the set is initialized by sigemptyset before it is used.
    unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &none, ptr::null_mut());
    }
}

/// Joins a new, anonymous session keyring, so that keys of the caller's session are out of reach.
///
/// # Errors
/// `ENOSYS` from kernels without keyrings; `EDQUOT` if the user has too many.
pub fn new_session_keyring() -> Result<()> {
    const JOIN_SESSION_KEYRING: libc::c_long = 1;
    // SAFETY: a null name asks for an anonymous keyring; nothing is read.
    done(unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, 0, 0, 0, 0) })
}

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It exited with this code.
    Code(u8),
    /// This signal killed it.
    Signal(u8),
}

/// Takes the status of any child that has ended, with its id; `None` if there is none now.
///
/// # Errors
/// None that is known.
pub fn reap_any() -> Result<Option<(i32, Ended)>> {
    let mut status = 0;
    loop {
        // SAFETY: `status` lives over the call.
        match unsafe { libc::waitpid(-1, &mut status, libc::WNOHANG) } {
            0 => return Ok(None),
            -1 if last_errno() == Errno::CHILD => return Ok(None),
            -1 if last_errno() == Errno::INTR => {}
            -1 => return Err(last_errno()),
            pid if libc::WIFEXITED(status) => {
                return Ok(Some((pid, Ended::Code(libc::WEXITSTATUS(status) as u8))));
            }
            pid if libc::WIFSIGNALED(status) => {
                return Ok(Some((pid, Ended::Signal(libc::WTERMSIG(status) as u8))));
            }
            // Stopped or continued: not asked for, not an end.
            _ => {}
        }
    }
}

fn done(answer: libc::c_long) -> Result<()> {
    if answer < 0 { Err(last_errno()) } else { Ok(()) }
}

/// CPU time of all descendants that have ended and were waited for, each by its own parent.
///
/// # Errors
/// As [getrusage(2)](https://man7.org/linux/man-pages/man2/getrusage.2.html).
pub fn cpu_time_of_children() -> Result<std::time::Duration> {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::uninit();
    // SAFETY: the pointer is to memory of the right size, which the kernel fills.
    if unsafe { libc::getrusage(libc::RUSAGE_CHILDREN, usage.as_mut_ptr()) } != 0 {
        return Err(last_errno());
    }
    // SAFETY: the call succeeded, so that all of it was written.
    let usage = unsafe { usage.assume_init() };
    let of = |time: libc::timeval| {
        let (seconds, rest) = (u64::try_from(time.tv_sec), u64::try_from(time.tv_usec));
        std::time::Duration::from_micros(seconds.unwrap_or(0) * 1_000_000 + rest.unwrap_or(0))
    };
    Ok(of(usage.ru_utime) + of(usage.ru_stime))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_with_threads_is_not_forked() {
        // The harness runs each test on a thread beside the main one.
        let (stop, wait) = std::sync::mpsc::channel::<()>();
        let other = std::thread::spawn(move || wait.recv());
        assert!(!is_single_threaded());
        assert!(matches!(fork(Namespaces::NONE, None), Err(Errno::DEADLK)));
        drop(stop);
        assert!(other.join().is_ok());
    }

    #[test]
    fn sets_of_namespaces_add_and_subtract() {
        let both = Namespaces::PID | Namespaces::NET;
        assert!(both.contains(Namespaces::PID) && !both.contains(Namespaces::USER));
        assert_eq!(both.without(Namespaces::PID), Namespaces::NET);
        assert!(both.without(both).is_empty());
    }

    #[test]
    fn executing_what_is_not_there_returns_the_reason() {
        assert_eq!(execve(c"/no/such/program", &[], &[]), Errno::NOENT);
    }

    #[test]
    fn a_command_ends_with_the_thread_that_started_it() {
        let started =
            || ends_with_this_thread(std::process::Command::new("sleep").arg("1000")).spawn().unwrap();
        let mut child = std::thread::spawn(started).join().unwrap();
        let status = child.wait().unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(libc::SIGKILL));
    }

    #[test]
    fn work_of_children_is_counted_once_they_were_waited_for() {
        let before = cpu_time_of_children().unwrap();
        let work = "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done";
        assert!(std::process::Command::new("sh").args(["-c", work]).status().unwrap().success());
        assert!(cpu_time_of_children().unwrap() > before);
    }
}
