//! The parent's half of starting a process: what the child cannot do for itself, the fork, and waiting for the outcome.
//!
//! ```text
//!   open joined namespaces ─▶ (setns) ─▶ clone3 ─▶ (setns back) ─▶ (outside) ─▶ wait on the channel ─▶ Launched
//!                                          │                           │                │ failed
//!                                          └─ child runs the plan ◀────┘                └─▶ child reaped, error
//! ```
//!
//! In brackets: joining a pid namespace and, with a user namespace, any other; and [`outside`], what the parent does for a
//! child that has no rights over the host.

pub(crate) mod apply;
pub(crate) mod become_program;
mod clock;
pub(crate) mod outside;
pub(crate) mod userns;

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::WaitIdOptions;
use tare_model::sandbox::{Launched, Stdio, WindowSize};
use tare_sys::mount::can_detach;
use tare_sys::pidfd;
use tare_sys::process::{self, Forked, Namespaces, exit_now, fork, fork_sibling, setns};
use tare_sys::userns::is_initial;

use crate::attributes;
use crate::cgroup::{Entry, Mover};
use crate::channel::{self, Launch, Report, Service, Sibling, Until};
use crate::error::{Call, Context, Error, Result};
use crate::hooks::Subject;
use crate::mount::later::Later;
use crate::mount::source;
use crate::mount::view::Hierarchy;
use crate::plan::{IdMaps, Layout, Plan, Step};
use crate::seccomp::Program;
use crate::seccomp::listener::Agent;

use become_program::Streams;

/// What the parent gives the child beside the plan.
pub(crate) struct Resources<'a> {
    /// The way into the cgroups.
    pub(crate) entry: &'a Entry,
    /// Namespaces to join, in order; the pid one is joined by the parent.
    pub(crate) joins: Joins<'a>,
    /// The system call filter.
    pub(crate) filter: Option<&'a Program>,
    /// Who gets the filter's listener, if it has one.
    pub(crate) listener: Option<&'a Agent<'a>>,
    /// The container's groups, for its own view of them.
    pub(crate) cgroup_view: &'a [Hierarchy],
    /// A detached mount of the init program.
    pub(crate) init: Option<BorrowedFd<'a>>,
    /// Behind it the network is set up.
    pub(crate) door: Option<BorrowedFd<'a>>,
    /// A pipe on which somebody says go on.
    pub(crate) gate: Option<BorrowedFd<'a>>,
    /// It dies with its monitor.
    pub(crate) die_with_parent: bool,
    /// Of the terminal, if the plan makes one.
    pub(crate) terminal_size: WindowSize,
    /// How many descriptors after the three streams the program inherits.
    pub(crate) preserved: u32,
    /// The ids of the container's user namespace, if it has one.
    pub(crate) ids: Option<IdMaps>,
    /// Detached mounts are tried as layers of an overlay.
    pub(crate) detached_layers: bool,
    /// What is dropped when nobody waits.
    pub(crate) later: &'a Later,
    /// The root of the container that is joined, if its mount namespace has another.
    pub(crate) root: Option<OwnedFd>,
    /// What hooks are told.
    pub(crate) subject: Option<Subject<'a>>,
    /// What the parent does when the child waits for it, given the child's id.
    pub(crate) meet: &'a dyn Fn(i32) -> Result<()>,
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
                process::join(*pidfd, kinds).call(|| format!("setns(pidfd, {kinds:?})"))
            }
        }
    }

    /// Joins the pid namespace for the next child.
    pub(crate) fn join_processes(&self) -> Result<()> {
        let Joins::Process { pidfd, .. } = &self.joins else {
            return Err(Error::invalid("plan: a process joins, and there is none to join"));
        };
        process::join(*pidfd, Namespaces::PID).call(|| "setns(pidfd, CLONE_NEWPID)")
    }

    /// Enters the user namespace that is joined.
    pub(crate) fn join_user(&self) -> Result<()> {
        let user = self.joined_user().ok_or_else(|| Error::invalid("plan: no user namespace to join"))?;
        setns(user, Namespaces::USER).call(|| "setns(user namespace)")
    }

    /// The user namespace of the child `pid`: the one that it joins, be it there yet or not, or the one it was made in.
    fn user_namespace(&self, pid: i32) -> Result<OwnedFd> {
        match self.joined_user() {
            Some(joined) => joined.try_clone_to_owned().map_err(|e| Error::invalid(format!("dup: {e}"))),
            None => userns::open(pid),
        }
    }

    fn joined_user(&self) -> Option<BorrowedFd<'_>> {
        let Joins::Files(files) = &self.joins else { return None };
        files.iter().find(|(kind, _)| *kind == Namespaces::USER).map(|(_, file)| file.as_fd())
    }

    /// The mount of the init program, which the parent made.
    pub(crate) fn init_program(&self) -> Result<OwnedFd> {
        let mount = self.init.ok_or_else(|| Error::invalid("plan: init without a program"))?;
        rustix::io::fcntl_dupfd_cloexec(mount, 3).call(|| "fcntl(F_DUPFD_CLOEXEC)")
    }

    /// The door, which a plan that uses it has.
    pub(crate) fn door(&self) -> Result<BorrowedFd<'_>> {
        self.door.ok_or_else(|| Error::invalid("plan: a network to wait for, and no door"))
    }

    /// Waits for somebody to write to the gate.
    pub(crate) fn wait_at_gate(&self) -> Result<()> {
        let Some(gate) = self.gate else { return Ok(()) };
        let mut byte = [0];
        rustix::io::retry_on_intr(|| rustix::io::read(gate, &mut byte)).call(|| "read(gate)").map(drop)
    }

    /// Whoever opened the gate hears why the program was not executed; the launching process may be gone by then.
    fn tell_gate(&self, error: &Error) {
        if let Some(gate) = self.gate {
            let _ = rustix::io::write(gate, error.to_string().as_bytes());
        }
    }

    /// Everything above that is a descriptor.
    pub(crate) fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        let mut all = self.other_descriptors();
        all.extend(self.entry.tasks().iter().map(AsFd::as_fd));
        all
    }

    /// The same without the way into the cgroups.
    pub(crate) fn other_descriptors(&self) -> Vec<BorrowedFd<'_>> {
        let mut all = Vec::new();
        all.extend(self.gate);
        all.extend(self.door);
        all.extend(self.init);
        all.extend(self.root.as_ref().map(AsFd::as_fd));
        match &self.joins {
            Joins::Files(files) => all.extend(files.iter().map(|(_, file)| file.as_fd())),
            Joins::Process { pidfd, .. } => all.push(*pidfd),
        }
        all
    }

    /// A pid namespace is among those.
    fn joins_pid(&self, plan: &Plan) -> bool {
        let user = plan.namespaces.has_own(Namespaces::USER);
        self.joined_around_fork(user).iter().any(|(kind, _)| *kind == Namespaces::PID)
    }

    /// Namespaces that the parent joins for the time of the fork: the pid namespace, which only a child can be made in;
    /// with a user namespace any, because they need not belong to it.
    fn joined_around_fork(&self, user: bool) -> Vec<(Namespaces, BorrowedFd<'_>)> {
        match &self.joins {
            Joins::Files(files) => {
                let around = |kind| kind == Namespaces::PID || (user && kind != Namespaces::USER);
                let files = files.iter().filter(|(kind, _)| around(*kind));
                files.map(|(kind, file)| (*kind, file.as_fd())).collect()
            }
            Joins::Process { pidfd, kinds } => {
                kinds.contains(Namespaces::PID).then_some((Namespaces::PID, *pidfd)).into_iter().collect()
            }
        }
    }
}

/// A detached mount of the init program: of this very executable, or of the file the caller named.
///
/// Made by the parent, because a mount can only be copied in the mount namespace that it is in. On a kernel that has none
/// which are detached, it is the file, of which the child finds the mount in its own namespace.
pub(crate) fn mount_init(named: Option<&Path>) -> Result<OwnedFd> {
    if !can_detach() {
        let path = named.unwrap_or(Path::new("/proc/self/exe"));
        return rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
            .call(|| format!("open({path:?}, O_PATH)"));
    }
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
    if let Some(ids) = &given.ids {
        become_program::give_to_root(&streams, ids.root()?)?;
    }
    let (ours, report) = channel::pair()?;
    let forked =
        attributes::fork_on(&plan.first_processors, || clock::fork_in(plan, || fork_into(plan, given)))?;
    let Forked::Parent { pid, pidfd } = forked else {
        // Nothing of the parent's may run in the child: no destructor, no return.
        let Err(error) =
            join_itself(plan, given, &report).and_then(|()| apply::run(plan, given, &report, streams));
        given.tell_gate(&error);
        report.failed(error);
        exit_now(1);
    };
    drop((report, streams));
    let first = Sibling { pid: pid.as_raw_nonzero().get(), pidfd };
    let again = plan.namespaces.forks_again() || (!may_return() && given.joins_pid(plan));
    let Sibling { pid, pidfd } = if again { second(&ours, first)? } else { first };
    let server = Server { given, pid, pidfd: pidfd.as_fd() };
    let wait = || match given.listener {
        Some(agent) => agent.wait(&ours, until, pid, pidfd.as_fd(), &server),
        None => ours.wait(until, &server),
    };
    let started = match outside::serve(plan, given, pid, &ours) {
        Ok(()) => wait(),
        // The child has ended, and has said why.
        Err(error) if matches!(error.errno(), Some(Errno::PIPE | Errno::CONNRESET)) => {
            ours.wait(until, &server).and(Err(error))
        }
        Err(error) => Err(error),
    };
    match started {
        Ok(started) => Ok(Launched { pid, pidfd, terminal: started.terminal, network: started.network }),
        Err(error) => {
            reap(&pidfd.as_fd());
            Err(error)
        }
    }
}

/// The parent, at the service of the child `pid`.
struct Server<'a> {
    given: &'a Resources<'a>,
    pid: i32,
    pidfd: BorrowedFd<'a>,
}

// === impl Server ===

impl Service for Server<'_> {
    fn meet(&self) -> Result<()> {
        (self.given.meet)(self.pid)
    }

    fn copy_mounts(&self) -> Result<OwnedFd> {
        userns::copy_mounts(self.pidfd).context(|| "lock the mounts")
    }
}

/// Whether this process can leave the host's namespaces and come back: they belong to the first user namespace.
fn may_return() -> bool {
    is_initial()
}

/// Where the parent could not have come back, the child itself joins what is joined around the fork. For a pid namespace
/// that takes another process, in which the child goes on.
fn join_itself(plan: &Plan, given: &Resources<'_>, report: &Report) -> Result<()> {
    if may_return() {
        return Ok(());
    }
    for (kind, file) in given.joined_around_fork(plan.namespaces.has_own(Namespaces::USER)) {
        setns(file, kind).call(|| format!("setns(fd, {kind:?})"))?;
    }
    if !given.joins_pid(plan) {
        return Ok(());
    }
    match fork_sibling(Namespaces::NONE).call(|| "clone3(CLONE_PARENT)")? {
        Forked::Child => report.await_go_on(),
        Forked::Parent { pid, pidfd } => {
            report.sibling(pid.as_raw_nonzero().get(), pidfd.as_fd())?;
            exit_now(0)
        }
    }
}

/// The child that has taken over from the first, which is reaped.
fn second(ours: &Launch, first: Sibling) -> Result<Sibling> {
    let second = ours.sibling();
    reap(&first.pidfd.as_fd());
    let second = second?;
    // It waits for that, or its own words could come before those of the first.
    match ours.go_on() {
        // It has ended; the channel tells why.
        Ok(()) => Ok(second),
        Err(error) if matches!(error.errno(), Some(Errno::PIPE | Errno::CONNRESET)) => Ok(second),
        Err(error) => Err(error),
    }
}

fn fork_into(plan: &Plan, given: &Resources<'_>) -> Result<Forked> {
    // Namespaces that are to belong to a user namespace which exists are made once the child is in it.
    let user = plan.namespaces.has_own(Namespaces::USER);
    let joins_user = plan.namespaces.joined(Namespaces::USER).is_some();
    let flags = if joins_user { Namespaces::NONE } else { plan.namespaces.new };
    let around = if plan.namespaces.enters_late { Vec::new() } else { given.joined_around_fork(user) };
    let fork = || {
        let call = || format!("clone3({flags:?}|CLONE_PIDFD)");
        let forked = match (fork(flags, given.entry.clone_into()), given.entry.mover()) {
            (Err(Errno::ACCESS), Some(mover)) => fork_and_move(flags, mover),
            (forked, _) => forked.call(call),
        };
        if flags.contains(Namespaces::USER) { forked.context(|| NO_USER_NAMESPACE) } else { forked }
    };
    if around.is_empty() || !may_return() {
        return fork();
    }
    let kinds = around.iter().fold(Namespaces::NONE, |all, (kind, _)| all | *kind);
    let home = process::own(kinds).call(|| format!("open(/proc/thread-self/ns, {kinds:?})"))?;
    let mut forked = Ok(());
    for (kind, file) in around {
        forked = forked.and_then(|()| process::join(file, kind).call(|| format!("setns(fd, {kind:?})")));
    }
    let forked = forked.and_then(|()| fork());
    if !matches!(forked, Ok(Forked::Child)) {
        for (kind, file) in &home {
            setns(file.as_fd(), *kind).call(|| format!("setns(own namespace, {kind:?})"))?;
        }
    }
    forked
}

/// A child that goes on once it was moved into its group.
fn fork_and_move(flags: Namespaces, mover: &Mover) -> Result<Forked> {
    let (moved, move_it) = pipe_with(PipeFlags::CLOEXEC).call(|| "pipe2(O_CLOEXEC)")?;
    let forked = fork(flags, None).call(|| format!("clone3({flags:?}|CLONE_PIDFD)"))?;
    let Forked::Parent { pid, pidfd } = forked else {
        drop(move_it);
        if rustix::io::retry_on_intr(|| rustix::io::read(&moved, &mut [0_u8; 1])) != Ok(1) {
            exit_now(1);
        }
        return Ok(Forked::Child);
    };
    let done = mover
        .attach(pid.as_raw_nonzero().get())
        .map_err(Error::from)
        .context(|| "the container's cgroup, into which only systemd may move a process from here")
        .and_then(|()| rustix::io::write(&move_it, b"x").call(|| "write(pipe)"));
    match done {
        Ok(_) => Ok(Forked::Parent { pid, pidfd }),
        Err(error) => {
            reap(&pidfd.as_fd());
            Err(error)
        }
    }
}

/// What may be in the way of a child in a new user namespace, besides what the kernel says.
const NO_USER_NAMESPACE: &str = "make the container's user namespace (is user.max_user_namespaces large enough? --userns=host does without)";

/// Ends a child that failed, and takes its status so that no zombie stays.
fn reap(pidfd: &BorrowedFd<'_>) {
    let _ = pidfd::send_signal(*pidfd, 9);
    let _ = rustix::io::retry_on_intr(|| pidfd::wait(*pidfd, WaitIdOptions::EXITED));
}
