//! A container's groups where systemd makes them.

use std::sync::Arc;

use oci_spec::runtime::LinuxResources;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, set_parent_process_death_signal, waitpid};
use tare_sys::process::{Forked, Namespaces, exit_now, fork};

use super::super::controller::{Controller, Version};
use super::super::devices::Rules;
use super::super::error::{Error, Result};
use super::super::group::Mover;
use super::super::plan::{Current, Plan, device_rules, plan};
use super::super::{Cgroup, GroupPath, Layout};
use super::property::{self, Properties};
use super::{ScopeName, Systemd};

/// A process that does nothing but be in the scope until somebody else is. Dropping it ends it.
#[derive(Debug)]
pub struct Anchor(Pid);

/// The scope behind a container's groups.
#[derive(Debug)]
pub(in super::super) struct Scope {
    systemd: Systemd,
    unit: String,
    anchor: Option<Anchor>,
}

// === impl Anchor ===

impl Anchor {
    /// Starts one. It dies with the caller.
    ///
    /// # Errors
    /// This program has several threads, or the kernel makes no more processes.
    pub fn start() -> Result<Self> {
        let call = |source| Error::Call { call: "fork an anchor for the scope".to_owned(), source };
        match fork(Namespaces::NONE, None).map_err(call)? {
            Forked::Parent { pid, .. } => Ok(Self(pid)),
            Forked::Child => {
                let _ = set_parent_process_death_signal(Some(Signal::KILL)); // else it waits for its end by hand
                tare_sys::process::default_signals();
                loop {
                    let nothing: &mut [rustix::event::PollFd<'_>] = &mut [];
                    if rustix::event::poll(nothing, None).is_err_and(|error| error != rustix::io::Errno::INTR)
                    {
                        exit_now(1);
                    }
                }
            }
        }
    }

    /// A child of ours that serves as one.
    #[cfg(test)]
    pub(crate) fn of(pid: i32) -> Self {
        Self(Pid::from_raw(pid).unwrap())
    }

    fn pid(&self) -> i32 {
        self.0.as_raw_nonzero().get()
    }
}

impl Drop for Anchor {
    fn drop(&mut self) {
        let _ = kill_process(self.0, Signal::KILL); // a child of ours: the number is its own until we wait
        while matches!(waitpid(Some(self.0), WaitOptions::empty()), Err(rustix::io::Errno::INTR)) {}
    }
}

// === impl Cgroup ===

impl Cgroup {
    /// Has systemd make the groups, and sets the limits, before the container's first process is in them. After that one
    /// was started call [`Cgroup::settle`].
    ///
    /// # Errors
    /// A limit that cannot be enforced, refused before anything is made; systemd's refusal; a call that failed. What was
    /// made is removed again.
    pub fn create_scope(
        layout: &Arc<Layout>,
        name: &ScopeName,
        systemd: &Systemd,
        resources: &LinuxResources,
    ) -> Result<Self> {
        Self::in_scope(layout, name, systemd, resources, Anchor::start)
    }

    pub(super) fn in_scope(
        layout: &Arc<Layout>,
        name: &ScopeName,
        systemd: &Systemd,
        resources: &LinuxResources,
        anchor: impl FnOnce() -> Result<Anchor>,
    ) -> Result<Self> {
        let plan = plan(resources, layout.as_ref(), &Current::default())?;
        let rules = Rules::read(device_rules(resources))?;
        // Where it will be is not known yet, but what it will be able to do is.
        Self::unmade(layout, GroupPath::parse("/unmade")?, &plan).can_keep(&rules)?;
        let version = spoken(layout);
        let mut properties = property::of_new(version, &rules);
        properties.extend(property::of(resources, version, None));
        let anchor = anchor()?;
        let path = GroupPath::parse(systemd.start(name, anchor.pid(), &properties)?)?;
        let mut group = Self::unmade(layout, path, &plan);
        let (systemd, unit) = (systemd.clone(), name.unit().to_owned());
        group.scope = Some(Scope { systemd, unit, anchor: Some(anchor) });
        match group.limit_in_scope(&plan, &rules) {
            Ok(()) => Ok(group),
            Err(first) => {
                group.settle();
                let mut errors = vec![first];
                errors.extend(group.kill_all().and_then(|()| group.destroy()).err());
                Err(Error::collect(errors).err().unwrap_or(Error::Several(Vec::new())))
            }
        }
    }

    fn limit_in_scope(&self, plan: &Plan, rules: &Rules) -> Result<()> {
        self.complete_groups(plan)?;
        self.offers(&plan.writes)?;
        self.write_all(&plan.writes)?;
        self.set_devices(rules)
    }

    /// The groups of a scope, which may be gone.
    ///
    /// # Errors
    /// A user's systemd does not answer.
    pub fn open_scope(layout: &Arc<Layout>, name: &ScopeName, systemd: &Systemd) -> Result<Self> {
        let mut group = Self::open(layout, systemd.path_of(name)?)?;
        let (systemd, unit) = (systemd.clone(), name.unit().to_owned());
        group.scope = Some(Scope { systemd, unit, anchor: None });
        Ok(group)
    }

    /// Lets the scope live by the container alone.
    pub fn settle(&mut self) {
        if let Some(scope) = &mut self.scope {
            scope.anchor = None;
        }
    }

    /// Tells systemd of changed limits, before they are written.
    pub(in super::super) fn tell(&self, resources: &LinuxResources, rules: Option<&Rules>) -> Result<()> {
        let Some(scope) = &self.scope else { return Ok(()) };
        let quota = self.cpu_quota()?.and_then(|quota| quota.parse().ok());
        let mut properties: Properties = property::of(resources, spoken(&self.layout), quota);
        properties.extend(rules.into_iter().flat_map(property::of_devices));
        if properties.is_empty() { Ok(()) } else { scope.systemd.set(&scope.unit, &properties) }
    }
}

// === impl Scope ===

impl Scope {
    /// Has systemd move a process in.
    pub(in super::super) fn attach(&self, pid: i32) -> Result<()> {
        self.systemd.attach(&self.unit, pid)
    }

    /// Who moves processes in where the kernel lets only systemd do so.
    pub(in super::super) fn mover(&self) -> Option<Mover> {
        let mover = || Mover { systemd: self.systemd.clone(), unit: self.unit.clone() };
        self.systemd.is_users().then(mover)
    }

    /// The end of it.
    pub(in super::super) fn stop(&self) -> Result<()> {
        self.systemd.stop(&self.unit)
    }
}

/// In which version's words systemd is spoken to: those of the tree that has the controllers.
fn spoken(layout: &Layout) -> Version {
    layout.version_of(Controller::Memory).unwrap_or(Version::V2)
}
