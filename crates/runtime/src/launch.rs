//! The parent's half of starting a process: what the child cannot do for itself, the fork, and waiting for the outcome.
//!
//! ```text
//!   open joined namespaces ─▶ (setns pid) ─▶ clone3 ─▶ (setns back) ─▶ wait on the channel ─▶ Launched
//!                                              │                              │ failed
//!                                              └─ child runs the plan         └─▶ child reaped, error
//! ```

pub(crate) mod apply;
pub(crate) mod become_program;

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{PidfdFlags, WaitId, WaitIdOptions, getpid, pidfd_open, waitid};
use tare_model::sandbox::{Launched, Stdio, WindowSize};
use tare_sys::process::{Forked, Namespaces, fork, setns};

use crate::cgroup::Entry;
use crate::channel::{self, Until};
use crate::error::{Call, Context, Error, Result};
use crate::mount::source;
use crate::mount::view::Hierarchy;
use crate::plan::{Layout, Plan, Step};
use crate::seccomp::Program;

use become_program::Streams;

/// What the parent gives the child beside the plan.
pub(crate) struct Resources<'a> {
    /// The way into the cgroups.
    pub(crate) entry: &'a Entry,
    /// Namespaces to join, in order; the pid one is joined by the parent.
    pub(crate) joins: Joins<'a>,
    /// The system call filter.
    pub(crate) filter: Option<&'a Program>,
    /// The container's groups, for its own view of them.
    pub(crate) cgroup_view: &'a [Hierarchy],
    /// A detached mount of the init program.
    pub(crate) init: Option<BorrowedFd<'a>>,
    /// A pipe on which somebody says go on.
    pub(crate) gate: Option<BorrowedFd<'a>>,
    /// It dies with its monitor.
    pub(crate) die_with_parent: bool,
    /// Of the terminal, if the plan makes one.
    pub(crate) terminal_size: WindowSize,
    /// How many descriptors after the three streams the program inherits.
    pub(crate) preserved: u32,
}

/// Namespaces that exist already.
pub(crate) enum Joins<'a> {
    /// Each by a file.
    Files(Vec<(Namespaces, OwnedFd)>),
    /// Those of a running process.
    Process {
        /// It.
        pidfd: BorrowedFd<'a>,
        /// Which.
        kinds: Namespaces,
    },
}

// === impl Resources ===

impl Resources<'_> {
    /// Enters the cgroups.
    pub(crate) fn join_cgroups(&self) -> Result<()> {
        self.entry.enter().or_else(|(at, errno)| Err(errno).call(|| format!("write(tasks file {at}, \"0\")")))
    }

    /// Enters the namespaces, but for the pid one, in which the child was made.
    pub(crate) fn join_namespaces(&self) -> Result<()> {
        match &self.joins {
            Joins::Files(files) => {
                for (kind, file) in files.iter().filter(|(kind, _)| *kind != Namespaces::PID) {
                    setns(file.as_fd(), *kind).call(|| format!("setns(fd, {kind:?})"))?;
                }
                Ok(())
            }
            Joins::Process { pidfd, kinds } => {
                let kinds = kinds.without(Namespaces::PID);
                setns(*pidfd, kinds).call(|| format!("setns(pidfd, {kinds:?})"))
            }
        }
    }

    /// The mount of the init program, which the parent made.
    pub(crate) fn init_program(&self) -> Result<OwnedFd> {
        let mount = self.init.ok_or_else(|| Error::invalid("plan: init without a program"))?;
        rustix::io::fcntl_dupfd_cloexec(mount, 3).call(|| "fcntl(F_DUPFD_CLOEXEC)")
    }

    /// Waits for somebody to write to the gate.
    pub(crate) fn wait_at_gate(&self) -> Result<()> {
        let Some(gate) = self.gate else { return Ok(()) };
        let mut byte = [0];
        rustix::io::retry_on_intr(|| rustix::io::read(gate, &mut byte)).call(|| "read(gate)").map(drop)
    }

    /// Everything above that is a descriptor.
    pub(crate) fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        let mut all: Vec<BorrowedFd<'_>> = self.entry.tasks().iter().map(AsFd::as_fd).collect();
        all.extend(self.gate);
        all.extend(self.init);
        match &self.joins {
            Joins::Files(files) => all.extend(files.iter().map(|(_, file)| file.as_fd())),
            Joins::Process { pidfd, .. } => all.push(*pidfd),
        }
        all
    }

    /// What pid namespace the child is to be made in, if not in a new one or ours.
    fn pid_namespace(&self) -> Option<BorrowedFd<'_>> {
        match &self.joins {
            Joins::Files(files) => {
                files.iter().find(|(kind, _)| *kind == Namespaces::PID).map(|(_, file)| file.as_fd())
            }
            Joins::Process { pidfd, kinds } => kinds.contains(Namespaces::PID).then_some(*pidfd),
        }
    }
}

/// A detached mount of the init program: of this very executable, or of the file the caller named.
///
/// Made by the parent, because a mount can only be copied in the mount namespace that it is in.
pub(crate) fn mount_init(named: Option<&Path>) -> Result<OwnedFd> {
    match (source::bind(Path::new("/proc/self/exe"), false), named) {
        // Before 6.15 a file on a detached mount could not be copied; then its path has to do.
        (Err(error), Some(path)) if error.errno() == Some(Errno::INVAL) => source::bind(path, false),
        (other, _) => other,
    }
    .context(|| "the program for --init")
}

/// Opens the namespaces that are joined by path. Parameters of one that turns out to be the host's are refused.
pub(crate) fn open_joined(layout: &Layout, steps: &[Step]) -> Result<Vec<(Namespaces, OwnedFd)>> {
    let mut opened = Vec::new();
    for join in &layout.join {
        let what = || format!("namespace {}", join.path.display());
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let file = rustix::fs::openat(CWD, &join.path, flags, Mode::empty())
            .call(|| format!("open({:?})", join.path))
            .context(what)?;
        let sysctl = steps.iter().find_map(|step| match step {
            Step::Sysctl(sysctl) if sysctl.namespace == join.kind => Some(sysctl),
            _ => None,
        });
        if let Some(sysctl) = sysctl.filter(|_| is_ours(&file, join.kind)) {
            let text =
                format!("linux.sysctl: {} would change the host's, whose namespace is joined", sysctl.path);
            return Err(Error::forbidden(text));
        }
        opened.push((join.kind, file));
    }
    Ok(opened)
}

/// Whether a namespace file means the one this process is in.
fn is_ours(file: &OwnedFd, kind: Namespaces) -> bool {
    let name = if kind == Namespaces::NET {
        "net"
    } else if kind == Namespaces::IPC {
        "ipc"
    } else {
        "uts"
    };
    let ours = std::fs::metadata(format!("/proc/self/ns/{name}"));
    let theirs = file.try_clone().map(File::from).and_then(|file| file.metadata());
    match (ours, theirs) {
        (Ok(ours), Ok(theirs)) => (ours.dev(), ours.ino()) == (theirs.dev(), theirs.ino()),
        // What cannot be compared is not trusted.
        _ => true,
    }
}

/// Starts the process of `plan`.
pub(crate) fn launch(plan: &Plan, given: &Resources<'_>, stdio: Stdio, until: Until) -> Result<Launched> {
    let streams = match stdio {
        Stdio::Pipes { stdin, stdout, stderr } => Streams::Three([stdin, stdout, stderr]),
        Stdio::Terminal { .. } => Streams::Pending,
    };
    let (ours, report) = channel::pair()?;
    let forked = fork_into(plan, given)?;
    let Forked::Parent { pid, pidfd } = forked else {
        // Nothing of the parent's may run in the child: no destructor, no return.
        let Err(error) = apply::run(plan, given, &report, streams);
        report.failed(error);
        tare_sys::process::exit_now(1);
    };
    drop((report, streams));
    match ours.wait(until) {
        Ok(started) => Ok(Launched { pid: pid.as_raw_nonzero().get(), pidfd, terminal: started.terminal }),
        Err(error) => {
            reap(&pidfd);
            Err(error)
        }
    }
}

fn fork_into(plan: &Plan, given: &Resources<'_>) -> Result<Forked> {
    let flags = plan.namespaces.new;
    let call = || format!("clone3({flags:?}|CLONE_PIDFD)");
    let Some(target) = given.pid_namespace() else {
        return fork(flags, given.entry.clone_into()).call(call);
    };
    let home = pidfd_open(getpid(), PidfdFlags::empty()).call(|| "pidfd_open(getpid())")?;
    setns(target, Namespaces::PID).call(|| "setns(pid namespace)")?;
    let forked = fork(flags, given.entry.clone_into()).call(call);
    if !matches!(forked, Ok(Forked::Child)) {
        setns(home.as_fd(), Namespaces::PID).call(|| "setns(own pid namespace)")?;
    }
    forked
}

/// Ends a child that failed, and takes its status so that no zombie stays.
fn reap(pidfd: &OwnedFd) {
    let _ = tare_sys::child::pidfd_send_signal(pidfd.as_fd(), 9);
    let _ = rustix::io::retry_on_intr(|| waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED));
}
