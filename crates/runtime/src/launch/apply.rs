//! Runs a plan in the process that will become the program. The only loop in which things happen.
//!
//! There is no undo here: everything a step makes belongs to this process or its namespaces, and is gone with them when
//! it exits. What outlives it (the cgroups) is made and unmade by [`crate::launch`].

use std::collections::VecDeque;
use std::convert::Infallible;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use tare_sys::mount::{Change, Propagation, can_detach, stage};
use tare_sys::process::{self, Forked, Namespaces};
use tare_sys::userns::is_initial;

use crate::channel::Report;
use crate::error::{Call, Context, Error, Result};
use crate::identity::User;
use crate::mount::idmap::Piece;
use crate::mount::mask::{self, Anchor, Covers};
use crate::mount::view::View;
use crate::mount::{attach, rootfs, source};
use crate::plan::{Expected, IdMaps, Place, Plan, Source, Step, What, Who};
use crate::{attributes, device, door, identity, kernel, label, program, terminal};

use super::Resources;
use super::become_program::{self, Streams};

/// The process while it is being set up.
pub(crate) struct Child<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) given: &'a Resources<'a>,
    pub(crate) report: &'a Report,
    pub(crate) streams: Streams,
    prepared: VecDeque<Prepared>,
    /// A procfs of this pid namespace that nobody can have tampered with.
    proc: Option<OwnedFd>,
    /// Parameters of its network, opened while nothing covers them.
    parameters: Option<OwnedFd>,
    /// The root: before [`Step::EnterRoot`] detached, afterwards `/`.
    root: Option<OwnedFd>,
    /// Mounts that go below the root before anything else.
    root_pieces: Vec<Piece>,
    /// The root's propagation, if it has to wait.
    root_propagation: Option<Propagation>,
    /// File systems of the kernel's that are in their places.
    anchors: Vec<Anchor>,
    /// What covers masked paths, if the parent has made it.
    covers: Option<OwnedFd>,
    /// What the parent makes, in order.
    expected: Vec<Expected>,
    pub(crate) user: User,
    pub(crate) program: CString,
}

/// A source that waits for its place.
enum Prepared {
    /// Still to be received.
    Nothing,
    Mount(Vec<Piece>),
    Cgroups(View, tare_sys::mount::Attributes),
}

/// Runs the plan; returns only if a step failed.
pub(crate) fn run(
    plan: &Plan,
    given: &Resources<'_>,
    report: &Report,
    streams: Streams,
) -> Result<Infallible> {
    let mut child = Child {
        plan,
        given,
        report,
        streams,
        prepared: VecDeque::new(),
        proc: None,
        parameters: None,
        root: None,
        root_pieces: Vec::new(),
        root_propagation: None,
        anchors: Vec::new(),
        covers: None,
        expected: Vec::new(),
        user: User::default(),
        program: CString::default(),
    };
    for step in &plan.steps {
        child.apply(step)?;
    }
    become_program::become_program(child)
}

// === impl Child ===

impl Child<'_> {
    fn apply(&mut self, step: &Step) -> Result<()> {
        match step {
            Step::Guard => {
                let given = self.given;
                let needed = self.needed(given.descriptors());
                become_program::guard(given.die_with_parent, given.preserved, &needed)
            }
            Step::EnterProcesses => self.enter_processes(),
            Step::JoinCgroups => self.given.join_cgroups(),
            Step::JoinNamespaces => self.join_namespaces(),
            Step::EnterUser => self.enter_user(),
            Step::AwaitIds => self.report.await_ids(),
            Step::BecomeRoot => become_program::become_root(self.given.die_with_parent),
            Step::NewCgroupNamespace => {
                process::unshare(Namespaces::CGROUP).call(|| "unshare(CLONE_NEWCGROUP)")
            }
            Step::NewSession => rustix::process::setsid().call(|| "setsid()").map(drop),
            Step::KeyLabel(label) => label::of_keys(label),
            Step::NewKeyring => kernel::new_keyring(),
            Step::Hostname(name) => {
                rustix::system::sethostname(name.as_bytes()).call(|| format!("sethostname({name:?})"))
            }
            Step::Domainname(name) => {
                rustix::system::setdomainname(name.as_bytes()).call(|| format!("setdomainname({name:?})"))
            }
            Step::Loopback => tare_sys::loopback::up().call(|| "ioctl(SIOCSIFFLAGS, \"lo\", IFF_UP)"),
            Step::NetworkSockets => {
                let sockets = door::open_sockets()?;
                door::show(self.given.door()?, &sockets)?;
                self.report.network(&sockets)
            }
            Step::AwaitNetwork => {
                let none =
                    || Error::invalid("plan: a network is awaited, and its parameters were not opened");
                let parameters = self.parameters.as_ref().ok_or_else(none)?;
                door::await_network(self.given.door()?, parameters.as_fd())
            }
            Step::OomScore(score) => kernel::own_oom_score(*score),
            Step::Limit(resource, limit) => rustix::process::setrlimit(*resource, *limit)
                .call(|| format!("setrlimit({resource:?}, {:?}, {:?})", limit.current, limit.maximum)),
            Step::Attribute(attribute) => attributes::give(attribute),
            Step::Meet => self.report.meet(),
            Step::CreateHooks => self.run_create_hooks(),
            Step::Label(label) => label::ask(label),
            // The listener is handed over before: waiting is then the last but one thing.
            Step::Gate if self.given.listener.is_some() => Ok(()),
            Step::Gate => {
                self.report.ready()?;
                self.given.wait_at_gate()
            }
            Step::NoProgram => Err(Error::invalid("process: missing, there is nothing to start")),
            Step::Become => Ok(()),
            _ => self.apply_to_files(step),
        }
    }

    fn apply_to_files(&mut self, step: &Step) -> Result<()> {
        match step {
            Step::Propagate(propagation) => {
                rootfs::set_propagation(*propagation)?;
                stage::begin();
                Ok(())
            }
            Step::AssembleRoot { rootfs, .. } => {
                let label = self.plan.mount_label.as_deref();
                self.root = Some(rootfs::assemble(rootfs, label).context(|| "root file system")?);
                Ok(())
            }
            Step::Expect(expected) => {
                if matches!(expected, Expected::Source { .. }) {
                    self.prepared.push_back(Prepared::Nothing);
                }
                self.expected.push(expected.clone());
                Ok(())
            }
            Step::Receive => self.receive(),
            Step::Turn => self.report.turn(),
            Step::Prepare(source) => {
                let prepared = self.prepare(source).context(|| format!("mount {}", source.destination))?;
                self.prepared.push_back(prepared);
                Ok(())
            }
            Step::Sysctl(sysctl) => kernel::sysctl(self.proc()?, sysctl),
            Step::NetworkParameters => {
                self.parameters = Some(kernel::network_parameters(self.proc()?)?);
                Ok(())
            }
            Step::PlaceRoot(path) => {
                rootfs::place(self.root()?, path)?;
                self.attach_root_pieces()
            }
            Step::EnterRoot => {
                rootfs::enter(self.root()?)?;
                self.open_root()?;
                self.attach_root_pieces()
            }
            Step::ChangeRoot => {
                rootfs::change(self.root()?)?;
                self.open_root()
            }
            Step::Attach(place) => self.attach(place).context(|| format!("mount {}", place.destination)),
            Step::Mask(paths) => {
                let make = || Covers::make(self.plan.mount_label.as_deref());
                let covers = self.covers.take().map_or_else(make, Ok)?;
                mask::mask(self.root()?, &self.anchors, paths, covers)
            }
            Step::ReadOnly(path) => mask::read_only(self.root()?, &self.anchors, path)
                .context(|| format!("make {path} read-only")),
            // What others see of it cannot be the root that the stage is left for.
            Step::RootPropagation(propagation) if stage::is_built() => {
                self.root_propagation = Some(*propagation);
                Ok(())
            }
            Step::RootPropagation(propagation) => source::change(
                self.root()?,
                Change { propagation: Some(*propagation), recursive: true, ..Change::default() },
            ),
            Step::RootReadOnly => {
                let set = tare_sys::mount::Attributes::RDONLY;
                source::change(self.root()?, Change { set, ..Change::default() })
            }
            Step::LockMounts => {
                super::userns::lock_mounts(self.report)?;
                self.open_root()
            }
            _ => self.apply_to_process(step),
        }
    }

    fn apply_to_process(&mut self, step: &Step) -> Result<()> {
        match step {
            Step::Device(node) => {
                device::make(self.root()?, node).context(|| format!("device {}", node.path))
            }
            Step::DeviceLink { name, target } => device::link(self.root()?, name, target),
            Step::FindUser => self.find_user(),
            Step::Terminal { console } => {
                let made = terminal::make(self.root()?, self.given.terminal_size, self.user.uid)?;
                if *console {
                    terminal::bind_console(self.root()?, &made).context(|| "mount /dev/console")?;
                }
                self.report.terminal(made.master.as_fd())?;
                self.streams = Streams::Terminal(made.slave);
                Ok(())
            }
            Step::WorkingDirectory => {
                self.leave_stage()?;
                let process = &self.plan.process;
                program::enter_directory(self.root()?, &process.cwd, process.create_cwd)
            }
            Step::FindProgram => {
                self.program = program::find(&self.plan.process)?;
                Ok(())
            }
            // Every other step was taken care of above; a new kind that was forgotten must not pass silently.
            other => Err(Error::unsupported(format!("step {other:?} has no interpreter"))),
        }
    }

    fn attach_root_pieces(&mut self) -> Result<()> {
        let pieces = std::mem::take(&mut self.root_pieces);
        attach::attach_below(self.root()?, &pieces).context(|| "root file system")
    }

    /// Descriptors that later steps use.
    fn needed<'a>(&'a self, mut needed: Vec<BorrowedFd<'a>>) -> Vec<BorrowedFd<'a>> {
        needed.push(self.report.as_fd());
        match &self.streams {
            Streams::Three(three) => needed.extend(three.iter().map(AsFd::as_fd)),
            Streams::Terminal(slave) => needed.push(slave.as_fd()),
            Streams::Pending => {}
        }
        needed
    }

    fn run_create_hooks(&self) -> Result<()> {
        let subject = self.given.subject.ok_or_else(|| Error::invalid("plan: hooks without a subject"))?;
        let pid = rustix::process::getpid().as_raw_nonzero().get();
        subject
            .run_sealed(&self.plan.hooks.create_container, "creating", pid, &|| Ok(()))
            .context(|| "createContainer")
    }

    fn join_namespaces(&mut self) -> Result<()> {
        self.given.join_namespaces()?;
        if let Some(root) = &self.given.root {
            rootfs::change(root.as_fd())?;
        }
        self.open_root()
    }

    fn open_root(&mut self) -> Result<()> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::openat(CWD, "/", flags, Mode::empty()).call(|| "open(\"/\", O_PATH)")?;
        self.root = Some(root);
        Ok(())
    }

    pub(crate) fn root(&self) -> Result<BorrowedFd<'_>> {
        self.root
            .as_ref()
            .map(AsFd::as_fd)
            .ok_or_else(|| Error::invalid("plan: the root is used before it is there"))
    }

    /// The first proc mount of the container serves; a container without one gets one for this moment.
    fn proc(&mut self) -> Result<BorrowedFd<'_>> {
        if self.proc.is_none() {
            let none = tare_sys::mount::Attributes::NONE;
            self.proc = Some(source::new("proc", None, &[], none)?);
        }
        self.proc.as_ref().map(AsFd::as_fd).ok_or_else(|| Error::invalid("plan: no proc"))
    }

    fn prepare(&mut self, source: &Source) -> Result<Prepared> {
        let mount = match &source.what {
            What::New { kind, source: from, data } => {
                let made = source::new(kind, from.as_deref(), data, source.attributes);
                self.explained(kind, made)?
            }
            What::Bind { path, recursive, .. } => source::bind(path, *recursive)?,
            What::Init if can_detach() => self.given.init_program()?,
            What::Init => source::bind_same(self.given.init_program()?.as_fd())?,
            What::Cgroup => {
                let view = View::prepare(self.given.cgroup_view, source.attributes)?;
                return Ok(Prepared::Cgroups(view, source.attributes));
            }
            What::Devices { .. } | What::Node(_) => {
                return Err(Error::invalid("plan: the parent makes device nodes for a user namespace"));
            }
        };
        for change in &source.changes {
            source::change(mount.as_fd(), *change)?;
        }
        if self.proc.is_none() && matches!(&source.what, What::New { kind, .. } if kind == "proc") {
            self.proc = Some(rustix::io::fcntl_dupfd_cloexec(&mount, 3).call(|| "fcntl(F_DUPFD_CLOEXEC)")?);
        }
        Ok(Prepared::Mount(vec![Piece::whole(mount)]))
    }

    /// The kernel refuses a user namespace what would uncover something that is covered on the host, without a word of why.
    fn explained(&self, kind: &str, made: Result<OwnedFd>) -> Result<OwnedFd> {
        match made {
            Err(error)
                if self.given.ids.is_some()
                    && error.errno() == Some(Errno::PERM)
                    && matches!(kind, "proc" | "sysfs") =>
            {
                Err(error).context(|| {
                    // An ordinary user's engine has no other.
                    let way =
                        if is_initial() { "only --userns=host helps" } else { "they have to be uncovered" };
                    format!("{kind} in a user namespace (if parts of the host's are covered, {way})")
                })
            }
            other => other,
        }
    }

    /// Everything is mounted by now; where that took a stage it goes.
    fn leave_stage(&mut self) -> Result<()> {
        if !stage::is_built() {
            return Ok(());
        }
        stage::leave().call(|| "pivot_root(\".\", \".\") from the stage")?;
        self.root_propagation.take().map_or(Ok(()), rootfs::set_propagation)
    }

    /// Takes over what the parent has made, each thing to where it is expected.
    fn receive(&mut self) -> Result<()> {
        let expected = std::mem::take(&mut self.expected);
        let made = self.report.take_pieces(expected.len())?;
        let mut slots = self.prepared.iter_mut().filter(|prepared| matches!(prepared, Prepared::Nothing));
        for (expected, mut pieces) in expected.into_iter().zip(made) {
            match expected {
                Expected::Root => {
                    self.root = Some(pieces.remove(0).mount);
                    self.root_pieces = pieces;
                }
                Expected::Covers => self.covers = pieces.pop().map(|piece| piece.mount),
                Expected::Source { proc, .. } => {
                    if proc && self.proc.is_none() {
                        let copy = rustix::io::fcntl_dupfd_cloexec(&pieces[0].mount, 3);
                        self.proc = Some(copy.call(|| "fcntl(F_DUPFD_CLOEXEC)")?);
                    }
                    let slot =
                        slots.next().ok_or_else(|| Error::invalid("plan: a source without a place"))?;
                    *slot = Prepared::Mount(pieces);
                }
            }
        }
        Ok(())
    }

    /// Another process goes on inside; this one, which was never there, ends. The cgroups were joined by now, so that the
    /// files to do it with are not there any more when somebody inside can look (CVE-2016-9962).
    fn enter_processes(&self) -> Result<()> {
        let given = self.given;
        given.join_processes()?;
        let needed = self.needed(given.other_descriptors());
        become_program::guard(given.die_with_parent, given.preserved, &needed)?;
        self.go_on(Namespaces::NONE)?;
        // The other process has inherited neither.
        become_program::guard(given.die_with_parent, given.preserved, &needed)
    }

    /// Into a user namespace that exists, and into new ones that it owns. Where that takes a new pid namespace, another
    /// process goes on from here and this one ends.
    fn enter_user(&self) -> Result<()> {
        let new = self.plan.namespaces.new;
        self.given.join_user()?;
        if !new.contains(Namespaces::PID) {
            return process::unshare(new).call(|| format!("unshare({new:?})"));
        }
        self.go_on(new)
    }

    /// Returns in a sibling of this process.
    fn go_on(&self, new: Namespaces) -> Result<()> {
        match process::fork_sibling(new).call(|| format!("clone3({new:?}|CLONE_PARENT)"))? {
            Forked::Child => self.report.await_go_on(),
            Forked::Parent { pid, pidfd } => {
                self.report.sibling(pid.as_raw_nonzero().get(), pidfd.as_fd())?;
                process::exit_now(0)
            }
        }
    }

    fn attach(&mut self, place: &Place) -> Result<()> {
        let next = self.prepared.pop_front();
        match next.ok_or_else(|| Error::invalid("plan: a place without a source"))? {
            Prepared::Nothing => Err(Error::invalid("plan: a place before its source was received")),
            Prepared::Mount(pieces) => {
                let mut pieces = pieces.into_iter();
                let first = pieces.next().ok_or_else(|| Error::invalid("plan: a source of no mounts"))?;
                self.attach_one(first.mount.as_fd(), place)?;
                attach::attach_below(first.mount.as_fd(), pieces.as_slice())?;
                self.anchors.iter_mut().for_each(|anchor| anchor.lies_under(&place.destination));
                if place.rules.no_links {
                    let destination = place.destination.clone();
                    self.anchors.push(Anchor { destination, mount: first.mount, covered: false });
                }
                Ok(())
            }
            Prepared::Cgroups(view, attributes) => {
                self.attach_one(view.top.as_fd(), place)?;
                self.anchors.iter_mut().for_each(|anchor| anchor.lies_under(&place.destination));
                view.fill(attributes)
            }
        }
    }

    /// What goes below a file system of the kernel's goes onto that very mount, whatever has its name by now.
    fn attach_one(&self, mount: BorrowedFd<'_>, place: &Place) -> Result<()> {
        let below = |anchor: &'_ Anchor| anchor.below(&place.destination);
        let on = self.anchors.iter().rev().find_map(|anchor| Some((anchor.mount.as_fd(), below(anchor)?)));
        let (root, path) = match &on {
            Some((anchor, path)) => (*anchor, path.as_str()),
            None => (self.root()?, place.destination.as_str()),
        };
        attach::attach(mount, root, path, &place.destination, place.rules)
    }

    /// A user by number gets the home that the container's files tell, as other runtimes give it; files that cannot be
    /// read tell none.
    fn with_home(&self, mut user: User) -> User {
        if user.home.is_none() && self.plan.process.variable("HOME").is_none() {
            let passwd = self.root().and_then(|root| identity::files::read(root, "/etc/passwd"));
            user.home = Some(identity::home_of(user.uid, &passwd.unwrap_or_default()));
        }
        user
    }

    fn find_user(&mut self) -> Result<()> {
        self.user = match &self.plan.process.who {
            Who::Ids(user) => self.with_home(user.clone()),
            Who::Named(asked) => {
                let passwd = identity::files::read(self.root()?, "/etc/passwd")?;
                let group = identity::files::read(self.root()?, "/etc/group")?;
                identity::resolve(asked, &passwd, &group)?
            }
        };
        match &self.given.ids {
            Some(ids) => require_mapped(&self.user, ids),
            None => Ok(()),
        }
    }
}

/// The kernel would only say that an argument is invalid.
fn require_mapped(user: &User, ids: &IdMaps) -> Result<()> {
    let user_id = Some(user.uid).filter(|uid| ids.uid(*uid).is_none()).map(|uid| ("user", uid));
    let mut groups = user.groups.iter().chain([&user.gid]);
    let group_id = groups.find(|gid| ids.gid(**gid).is_none()).map(|gid| ("group", *gid));
    match user_id.or(group_id) {
        None => Ok(()),
        Some((what, id)) => Err(Error::invalid(format!(
            "{what} {id}: the container's user namespace does not have this id; name it by number when the container is \
             created, or use --userns=host"
        ))),
    }
}
