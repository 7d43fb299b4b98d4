//! One container's groups: made in every hierarchy that matters, limited, joined, changed, removed.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use oci_spec::runtime::LinuxResources;
use rustix::io::Errno;

use super::controller::{Controller, Version};
use super::devices::Rules;
use super::error::{Error, Result};
use super::layout::{Hierarchy, Layout};
use super::make::members;
use super::path::GroupPath;
use super::plan::{Current, Plan, device_rules, plan};
use super::remove;
use super::systemd::{Scope, Systemd};

/// The groups of one container, one in each hierarchy that matters to it. Dropping it leaves them.
#[derive(Debug)]
pub struct Cgroup {
    pub(super) layout: Arc<Layout>,
    pub(super) path: GroupPath,
    /// The hierarchies that have a group of ours, by index.
    pub(super) members: Vec<usize>,
    pub(super) notes: Vec<String>,
    /// Where systemd made the groups.
    pub(super) scope: Option<Scope>,
}

/// The descriptors by which a process comes into the groups.
#[derive(Debug, Default)]
pub struct Entry {
    /// v1: files the still single-threaded child writes `0` to ([`Entry::enter`]) before it unshares its cgroup
    /// namespace.
    pub(super) tasks: Vec<OwnedFd>,
    /// v2: the directory to clone into.
    pub(super) unified: Option<OwnedFd>,
    /// Who can move a process in where we may not clone into it.
    pub(super) mover: Option<Mover>,
}

/// A user's systemd, asked to move a process of the user's into a scope of its.
#[derive(Debug)]
pub struct Mover {
    pub(super) systemd: Systemd,
    pub(super) unit: String,
}

impl Cgroup {
    /// Makes the groups and sets the limits, before anybody is in them.
    ///
    /// Devices not named in `resources` are refused, apart from the usual ones.
    ///
    /// # Errors
    /// A limit that this machine cannot enforce, refused by name before anything is made; a group of this name with
    /// processes in it; a call that failed. Whatever was made is removed again.
    pub fn create(layout: &Arc<Layout>, path: impl AsRef<Path>, resources: &LinuxResources) -> Result<Self> {
        let path = GroupPath::parse(path)?;
        let plan = plan(resources, layout.as_ref(), &Current::default())?;
        let rules = Rules::read(device_rules(resources))?;
        let group = Self::unmade(layout, path, &plan);
        group.can_keep(&rules)?;
        group.make(&plan, &rules)?;
        Ok(group)
    }

    /// The groups of a plan, before they are made.
    pub(super) fn unmade(layout: &Arc<Layout>, path: GroupPath, plan: &Plan) -> Self {
        Self {
            layout: Arc::clone(layout),
            path,
            members: members(layout, plan),
            notes: plan.notes.clone(),
            scope: None,
        }
    }

    /// The groups that are there under this name.
    ///
    /// # Errors
    /// The path is none.
    pub fn open(layout: &Arc<Layout>, path: impl AsRef<Path>) -> Result<Self> {
        let path = GroupPath::parse(path)?;
        let there = |at: &usize| layout.hierarchies[*at].exists_at(path.as_str());
        let members = (0..layout.hierarchies.len()).filter(there).collect();
        Ok(Self { layout: Arc::clone(layout), path, members, notes: Vec::new(), scope: None })
    }

    /// Whether there is any group of this name.
    pub fn exists(&self) -> bool {
        self.hierarchies().any(|hierarchy| hierarchy.exists_at(self.path.as_str()))
    }

    /// The path below each hierarchy's mount point.
    pub fn path(&self) -> &GroupPath {
        &self.path
    }

    /// What was asked for without effect, for people.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Moves a process that is already running into the groups. Costs a grace period of the kernel's for each
    /// hierarchy: for adopting others, never on the way of a start.
    ///
    /// # Errors
    /// A call failed; the process may be in some of the groups.
    pub fn adopt(&self, pid: i32) -> Result<()> {
        // Into a group of a user's systemd we may move nobody ourselves who comes from outside its tree.
        if let Some(scope) = &self.scope {
            scope.attach(pid)?;
        }
        self.hierarchies().try_for_each(|hierarchy| self.move_into(hierarchy, pid))
    }

    /// Removes the groups, those below first. Whatever still lives in them must have been killed; this waits for it to be
    /// gone. Groups that are gone already are no error.
    ///
    /// # Errors
    /// Everything that could not be removed; the rest was.
    pub fn destroy(&self) -> Result<()> {
        let mut errors: Vec<Error> = self.scope.iter().filter_map(|scope| scope.stop().err()).collect();
        errors.extend(
            self.hierarchies().filter_map(|hierarchy| remove::tree(hierarchy, self.path.as_str()).err()),
        );
        Error::collect(errors)
    }

    pub(super) fn hierarchies(&self) -> impl Iterator<Item = &Hierarchy> {
        self.members.iter().map(|at| &self.layout.hierarchies[*at])
    }

    /// The hierarchy with our group in it that has this controller.
    pub(super) fn with(&self, controller: Controller) -> Option<&Hierarchy> {
        if controller == Controller::Core {
            return self.unified();
        }
        let at = self.layout.holding(controller).filter(|at| self.members.contains(at))?;
        Some(&self.layout.hierarchies[at])
    }

    /// The v2 hierarchy with our group in it.
    pub(super) fn unified(&self) -> Option<&Hierarchy> {
        self.hierarchies().find(|hierarchy| hierarchy.version == Version::V2)
    }

    pub(super) fn move_into(&self, hierarchy: &Hierarchy, pid: i32) -> Result<()> {
        hierarchy.write_at(&self.path.join("cgroup.procs"), &pid.to_string(), self.layout.write_flags)
    }
}

// === impl Mover ===

impl Mover {
    /// Moves a process in.
    ///
    /// # Errors
    /// systemd's refusal, or there is none.
    pub fn attach(&self, pid: i32) -> Result<()> {
        self.systemd.attach(&self.unit, pid)
    }
}

// === impl Entry ===

impl Entry {
    /// Who can move a process in that comes from outside the tree of the user's systemd, as from a session: the kernel
    /// wants a right over the group above both, which is root's.
    pub fn mover(&self) -> Option<&Mover> {
        self.mover.as_ref()
    }

    /// For `clone3(CLONE_INTO_CGROUP)`: on v2 and hybrid machines. Where the kernel cannot clone into a group, use
    /// [`Cgroup::adopt`] from the parent.
    pub fn clone_into(&self) -> Option<BorrowedFd<'_>> {
        self.unified.as_ref().map(AsFd::as_fd)
    }

    /// The v1 `tasks` files.
    pub fn tasks(&self) -> &[OwnedFd] {
        &self.tasks
    }

    /// Moves the calling process into the v1 groups. It must have one thread; allocates nothing, so that it may be called
    /// between `fork` and `execve`.
    ///
    /// # Errors
    /// The kernel's, with the index of the file in [`Entry::tasks`].
    pub fn enter(&self) -> std::result::Result<(), (usize, Errno)> {
        self.tasks.iter().enumerate().try_for_each(|(at, file)| match rustix::io::write(file, b"0") {
            Ok(_) => Ok(()),
            Err(error) => Err((at, error)),
        })
    }
}
