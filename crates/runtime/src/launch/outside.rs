//! What the parent does for a child that has no rights over the host: the interpreter of [`Plan::outside`].
//!
//! ```text
//!   parent                                   child, in a user namespace of its own
//!     │ its ids                                │ guard, cgroups
//!     │ ── Mapped ───────────────────────────▶ │ becomes root
//!     │ root, bind mounts, devices             │ its own file systems     (at the same time)
//!     │ ── Pieces ───────────────────────────▶ │ enters the root …
//! ```
//!
//! With a document of somebody else's the devices come in the order of the list:
//!
//! ```text
//!     │ root, bind mounts                      │ its own file systems before /dev
//!     │ ◀───────────────────────────── Turn ── │
//!     │ devices                                │
//!     │ ── Pieces ───────────────────────────▶ │
//!     │ bind mounts                            │ its own file systems after /dev
//!     │ ── Pieces ───────────────────────────▶ │ enters the root …
//! ```

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use tare_sys::mount::{Attributes, Change};
use tare_sys::process::{Namespaces, setns};
use tare_sys::userns::is_initial;

use crate::channel::Launch;
use crate::error::{Call, Context, Error, Result};
use crate::mount::idmap::{self, Mapping, Piece};
use crate::mount::mask::Covers;
use crate::mount::{rootfs, source};
use crate::plan::{IdMaps, Plan, Source, Step, What};
use crate::{device, kernel};

use super::{Resources, userns};

/// The parent, working for the child `pid`.
struct Outside<'a> {
    plan: &'a Plan,
    given: &'a Resources<'a>,
    pid: i32,
    userns: Option<OwnedFd>,
    launch: &'a Launch,
}

/// Does everything there is to do outside, and hands over what came of it.
pub(crate) fn serve(plan: &Plan, given: &Resources<'_>, pid: i32, launch: &Launch) -> Result<()> {
    if let Some(ids) = &plan.namespaces.ids
        && plan.namespaces.new.contains(Namespaces::USER)
    {
        userns::write_ids(pid, ids).context(|| "user namespace")?;
        launch.mapped()?;
    }
    let mounts = |step: &Step| matches!(step, Step::AssembleRoot { .. } | Step::Prepare(_));
    let mapping = plan.namespaces.has_own(Namespaces::USER) && plan.outside.iter().any(mounts);
    let userns = mapping.then(|| given.user_namespace(pid)).transpose()?;
    Outside { plan, given, pid, userns, launch }.all(&plan.outside)
}

// === impl Outside ===

impl Outside<'_> {
    fn all(&self, steps: &[Step]) -> Result<()> {
        // Modes of device nodes are meant as they are; the child has none of its own in its way, either.
        let before = rustix::process::umask(Mode::empty());
        let mut made = Vec::new();
        let done: Result<()> = steps.iter().try_for_each(|step| {
            match step {
                Step::Turn => self.launch.turn()?,
                Step::HandOver => self.launch.pieces(&std::mem::take(&mut made))?,
                other => made.extend(self.apply(other)?),
            }
            Ok(())
        });
        rustix::process::umask(before);
        done?;
        if made.is_empty() { Ok(()) } else { self.launch.pieces(&made) }
    }

    fn apply(&self, step: &Step) -> Result<Option<Vec<Piece>>> {
        match step {
            Step::OomScore(score) => kernel::oom_score(self.pid, *score).map(|()| None),
            Step::AllowLimit(resource, limit) => self.allow(*resource, *limit).map(|()| None),
            Step::AssembleRoot { rootfs, mapped } => {
                let label = self.label();
                let made = if *mapped {
                    let owner = self.ids()?.root()?;
                    let detached = self.given.detached_layers;
                    rootfs::assemble_mapped(rootfs, label, self.userns()?, owner, detached, self.given.later)
                } else {
                    rootfs::assemble_outside(rootfs, label)
                };
                made.context(|| "root file system").map(Some)
            }
            Step::Prepare(source) => {
                let made = self.prepare(source).context(|| format!("mount {}", source.destination))?;
                Ok(Some(made))
            }
            Step::MakeCovers => {
                let covers = Covers::make(self.label())?;
                // The child may only copy from it, and leaves the last word to us.
                let copy = rustix::io::fcntl_dupfd_cloexec(&covers, 3).call(|| "fcntl(F_DUPFD_CLOEXEC)")?;
                self.given.later.keep([copy]);
                Ok(Some(vec![Piece::whole(covers)]))
            }
            other => Err(Error::unsupported(format!("step {other:?} is not one of the parent's"))),
        }
    }

    fn prepare(&self, source: &Source) -> Result<Vec<Piece>> {
        let made = match &source.what {
            What::Bind { path, recursive, mapped: None } => {
                vec![Piece::whole(source::bind(path, *recursive)?)]
            }
            What::Bind { path, recursive, mapped: Some(mapped) } => {
                let own = mapped.ids.as_ref().map(userns::empty).transpose()?;
                let userns = match &own {
                    Some(own) => own.as_fd(),
                    None => self.userns()?,
                };
                let (lenient, deep) = (mapped.lenient, mapped.recursive);
                idmap::bind(path, *recursive, Mapping { userns, recursive: deep, lenient })?
            }
            What::Devices { data, nodes } => {
                device::file_system(data, source.attributes, nodes, self.ids()?)?
            }
            What::Node(node) => {
                vec![Piece::whole(device::alone(node, self.label(), source.attributes, self.ids()?)?)]
            }
            What::New { kind, source: from, data }
                if kind == "mqueue" && self.plan.namespaces.has_own(Namespaces::IPC) =>
            {
                let make = || source::new(kind, from.as_deref(), data, source.attributes);
                vec![Piece::whole(self.in_its_ipc(make)?)]
            }
            What::New { kind, source: from, data } => {
                let made = source::new(kind, from.as_deref(), data, source.attributes);
                vec![Piece::whole(made.or_else(|error| hosts_own(kind, source.attributes, error))?)]
            }
            What::Cgroup | What::Init => {
                return Err(Error::unsupported("this mount is not one of the parent's"));
            }
        };
        for change in &source.changes {
            // What is said of all mounts below goes for each of the pieces, the rest for the first.
            for piece in &made[..if change.recursive { made.len() } else { 1 }] {
                source::change(piece.mount.as_fd(), *change)?;
            }
        }
        Ok(made)
    }

    /// Lets the child go beyond the limit that it inherits from us.
    fn allow(&self, resource: Resource, limit: Rlimit) -> Result<()> {
        let now = getrlimit(resource);
        // No number stands for no limit.
        let above = match (limit.maximum, now.maximum) {
            (_, None) => false,
            (None, Some(_)) => true,
            (Some(wanted), Some(there)) => wanted > there,
        };
        if !above {
            return Ok(());
        }
        let allowed = Rlimit { current: now.current, maximum: limit.maximum };
        let set = prlimit(Pid::from_raw(self.pid), resource, allowed);
        let call = || format!("prlimit({}, {resource:?}, {:?})", self.pid, limit.maximum);
        if set == Err(Errno::PERM) {
            let own = now.maximum.map_or_else(|| "none".to_owned(), |most| most.to_string());
            return set.call(call).map(drop).context(|| {
                let resource = format!("{resource:?}").to_lowercase();
                format!(
                    "ulimit {resource} is above the engine's own ({own}), which takes rights over the machine"
                )
            });
        }
        set.call(call).map(drop)
    }

    /// Does something in the child's IPC namespace.
    fn in_its_ipc<T>(&self, act: impl FnOnce() -> Result<T>) -> Result<T> {
        let open = |path: &str| {
            rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
                .call(|| format!("open({path:?})"))
        };
        let (home, away) = (open("/proc/self/ns/ipc")?, open(&format!("/proc/{}/ns/ipc", self.pid))?);
        setns(away.as_fd(), Namespaces::IPC).call(|| format!("setns(IPC namespace of {})", self.pid))?;
        let done = act();
        setns(home.as_fd(), Namespaces::IPC).call(|| "setns(own IPC namespace)")?;
        done
    }

    fn label(&self) -> Option<&str> {
        self.plan.mount_label.as_deref()
    }

    fn userns(&self) -> Result<BorrowedFd<'_>> {
        self.userns.as_ref().map(AsFd::as_fd).ok_or_else(|| Error::invalid("plan: no user namespace"))
    }

    fn ids(&self) -> Result<&IdMaps> {
        self.given.ids.as_ref().ok_or_else(|| Error::invalid("plan: no ids"))
    }
}

/// Kernel file systems that show the host's own state, and where the host has them.
const HOSTS: [(&str, &str); 3] = [("sysfs", "/sys"), ("mqueue", "/dev/mqueue"), ("proc", "/proc")];

/// In a user namespace, whose root is not the machine's, one of a namespace that is the host's cannot be made anew: a copy
/// of the host's mount does. `refusal` is what came of the try.
fn hosts_own(kind: &str, attributes: Attributes, refusal: Error) -> Result<OwnedFd> {
    let place = HOSTS.iter().find(|(name, _)| *name == kind).map(|(_, place)| Path::new(place));
    let forbidden = refusal.errno() == Some(Errno::PERM) && !is_initial();
    let Some(place) = place.filter(|_| forbidden) else { return Err(refusal) };
    let mount = source::bind(place, true).context(|| {
        format!("no {kind} of the host's namespace can be made here, so that of the host is taken")
    })?;
    source::change(mount.as_fd(), Change { set: attributes, recursive: true, ..Change::default() })?;
    Ok(mount)
}
