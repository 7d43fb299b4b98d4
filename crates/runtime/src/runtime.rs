//! The runtime itself: what is shared by the containers it starts.

pub mod container;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use oci_spec::runtime::LinuxResources;
use tare_model::sandbox::{Launched, Running, Sandbox, SandboxSpec, Seccomp, Stdio};
use tare_model::{ContainerId, ErrorKind, Result as ModelResult};

use crate::cgroup::{Cgroup, Driver, Layout};
use crate::channel::Until;
use crate::error::{Context, Error, Result};
use crate::hooks::Subject;
use crate::launch::{self, Joins, Resources};
use crate::mount::later::Later;
use crate::mount::view::Hierarchy;
use crate::plan::{Hook, Manner, Plan, Step, What};
use crate::seccomp::listener::{self, Agent};
use crate::seccomp::{Builtin, Program, ThirtyTwoBit};
use crate::{label, net_devices, rdt, seccomp, terminal_size};
use tare_model::capability::CapSet;

use container::Container;

/// Starts containers. Cheap to copy; everything it knows is found once.
#[derive(Clone)]
pub struct Runtime {
    shared: Rc<Shared>,
}

/// What the caller decides once.
#[derive(Clone, Debug)]
pub struct Options {
    /// Processes die with the one that started them.
    pub die_with_parent: bool,
    /// The executable that serves as init, for kernels that cannot bind the running one.
    pub init: Option<PathBuf>,
    /// Who makes the control groups, and how `linux.cgroupsPath` names them.
    pub cgroups: Driver,
    /// Layers with mapped ids go into an overlay without being attached anywhere. Kernels before 6.15 refuse that, which
    /// is noticed; switched off it is not tried.
    pub detached_layers: bool,
}

/// What may differ from container to container, beside its specification.
#[derive(Debug, Default)]
pub struct Extra<'a> {
    /// The first process waits for a byte on this pipe before it executes its program.
    pub gate: Option<BorrowedFd<'a>>,
    /// Behind it somebody sets up the network, see [`tare_model::sandbox::NetworkReady`].
    pub door: Option<BorrowedFd<'a>>,
    /// How many descriptors after the three streams the program inherits.
    pub preserved: u32,
    /// The first process keeps the caller's session keyring.
    pub keep_keyring: bool,
    /// Whose hooks are run, and what they are told; a specification with hooks needs it.
    pub subject: Option<Subject<'a>>,
}

struct Shared {
    options: Options,
    layout: Arc<Layout>,
}

// === impl Options ===

impl Default for Options {
    fn default() -> Self {
        Self { die_with_parent: true, init: None, cgroups: Driver::Cgroupfs, detached_layers: true }
    }
}

// === impl Runtime ===

impl Runtime {
    /// Looks at the machine.
    ///
    /// # Errors
    /// There are no cgroups, or /proc cannot be read.
    pub fn new(options: Options) -> ModelResult<Self> {
        let layout = Layout::detect();
        // An ordinary user's engine may have to do without groups anyway.
        let layout =
            if tare_sys::userns::is_initial() { layout? } else { layout.unwrap_or_else(|_| Layout::none()) };
        let layout = Arc::new(layout);
        Ok(Self { shared: Rc::new(Shared { options, layout }) })
    }

    /// Compiles what nearly every container needs, so that a copy of this process has it ready.
    pub fn warm_up(&self) {
        seccomp::warm_up();
    }

    /// Launches with extras; [`Sandbox::launch`] is this without.
    ///
    /// # Errors
    /// As [`Sandbox::launch`].
    pub fn launch_with(
        &self,
        spec: &SandboxSpec,
        stdio: Stdio,
        extra: &Extra<'_>,
    ) -> ModelResult<(Container, Launched)> {
        Ok(self.start(spec, stdio, extra)?)
    }

    /// A handle on a container that another process launched.
    ///
    /// # Errors
    /// It is not running any more.
    pub fn open(&self, spec: SandboxSpec, pid: i32, pidfd: OwnedFd) -> ModelResult<Container> {
        self.handle(spec, pid, Some(pidfd))
    }

    /// A handle on what may be left of a container whose first process has ended: its processes, its cgroups.
    ///
    /// # Errors
    /// The path of its cgroups is none.
    pub fn revisit(&self, spec: SandboxSpec) -> ModelResult<Container> {
        self.handle(spec, 0, None)
    }

    /// Whether there is no group under a `cgroupsPath` yet, of whomever.
    pub fn is_free(&self, cgroups_path: &Path) -> bool {
        // A name that cannot be opened is refused where it is to be made.
        self.options().cgroups.open(self.layout(), cgroups_path).map_or(true, |group| !group.exists())
    }

    fn handle(&self, spec: SandboxSpec, pid: i32, pidfd: Option<OwnedFd>) -> ModelResult<Container> {
        let cgroup = match cgroups_path(&spec) {
            Some(path) => self.options().cgroups.open(self.layout(), path)?,
            None => Cgroup::none(&LinuxResources::default())?,
        };
        let filter = self.filter(&spec)?;
        let runtime = self.clone();
        let later = Later::default();
        Ok(Container { runtime, spec, pid, pidfd, cgroup, filter, oom: None, oom_kills: 0, later })
    }

    pub(crate) fn options(&self) -> &Options {
        &self.shared.options
    }

    fn layout(&self) -> &Arc<Layout> {
        &self.shared.layout
    }

    fn start(&self, spec: &SandboxSpec, stdio: Stdio, extra: &Extra<'_>) -> Result<(Container, Launched)> {
        // Plan everything that can be refused before anything is made.
        let manner = Manner {
            terminal: matches!(stdio, Stdio::Terminal { .. }),
            die_with_parent: self.options().die_with_parent,
            gate: extra.gate.is_some(),
            join_cgroups: true,
            keep_keyring: extra.keep_keyring,
            door: extra.door.is_some(),
        };
        let plan = Plan::container(spec, manner)?;
        let rdt = spec.oci.linux().as_ref().is_some_and(|linux| linux.intel_rdt().is_some());
        if (plan.hooks.want_launch() || rdt) && extra.subject.is_none() {
            return Err(Error::invalid(
                "hooks and linux.intelRdt need an id and a bundle, which the caller did not give",
            ));
        }
        label::require_modules(&plan)?;
        rdt::require(&spec.oci)?;
        launch::userns::require_mapping(&plan)?;
        let filter = self.filter(spec)?;
        let listened = listener::Subject {
            id: spec.id.as_str(),
            oci: &spec.oci,
            bundle: extra.subject.map_or(Path::new(""), |subject| subject.bundle),
            first: None,
        };
        let agent = Agent::of(filter.as_deref(), listened)?;
        let joins = launch::open_joined(&plan.namespaces, &plan.steps)?;
        let none = LinuxResources::default();
        let resources =
            spec.oci.linux().as_ref().and_then(|linux| linux.resources().as_ref()).unwrap_or(&none);
        let mut cgroup = match cgroups_path(spec) {
            Some(path) => self.options().cgroups.create(self.layout(), path, resources)?,
            None => Cgroup::none(resources)?,
        };
        let filter_and_agent = (filter.as_deref(), agent.as_ref());
        let meet = |pid| meet(spec, &plan, extra.subject, pid);
        let later = Later::default();
        let launched = self.start_in(&plan, &cgroup, filter_and_agent, joins, stdio, (extra, &meet, &later));
        let (oom, launched) = launched.inspect_err(|_| {
            // The error at hand says more than that its remains could not be removed either.
            let _ = cgroup.kill_all();
            let _ = cgroup.destroy();
        })?;
        cgroup.settle();
        let pidfd =
            launched.pidfd.try_clone().map_err(|error| Error::new(ErrorKind::System, error.to_string()))?;
        let runtime = self.clone();
        let (pid, pidfd) = (launched.pid, Some(pidfd));
        let container =
            Container { runtime, spec: spec.clone(), pid, pidfd, cgroup, filter, oom, oom_kills: 0, later };
        Ok((container, launched))
    }

    fn start_in(
        &self,
        plan: &Plan,
        cgroup: &Cgroup,
        (filter, listener): (Option<&Program>, Option<&Agent<'_>>),
        joins: Vec<(tare_sys::process::Namespaces, OwnedFd)>,
        stdio: Stdio,
        (extra, meet, later): (&Extra<'_>, &dyn Fn(i32) -> Result<()>, &Later),
    ) -> Result<(Option<crate::cgroup::OomWatch>, Launched)> {
        let entry = cgroup.entry()?;
        let view = if needs(plan, &What::Cgroup) { view(cgroup) } else { Vec::new() };
        let named = self.options().init.as_deref();
        let init = needs(plan, &What::Init).then(|| launch::mount_init(named)).transpose()?;
        let oom = cgroup.oom_watch()?;
        let joined = joins.iter().find(|(kind, _)| *kind == tare_sys::process::Namespaces::USER);
        let ids = match joined {
            Some((_, file)) => Some(launch::userns::ids_of_file(file.as_fd())?),
            None => plan.namespaces.ids.clone(),
        };
        let given = Resources {
            entry: &entry,
            joins: Joins::Files(joins),
            filter,
            listener,
            cgroup_view: &view,
            init: init.as_ref().map(AsFd::as_fd),
            door: extra.door,
            gate: extra.gate.as_ref().map(AsFd::as_fd),
            die_with_parent: self.options().die_with_parent,
            terminal_size: terminal_size(&stdio),
            preserved: extra.preserved,
            ids,
            detached_layers: self.options().detached_layers,
            later,
            root: None,
            subject: extra.subject,
            meet,
        };
        let until = if extra.gate.is_some() { Until::Ready } else { Until::Executed };
        Ok((oom, launch::launch(plan, &given, stdio, until)?))
    }

    fn filter(&self, spec: &SandboxSpec) -> Result<Option<Arc<Program>>> {
        let builtin = |kind, thirty_two| {
            let program = seccomp::builtin_program(kind, bounding(spec), thirty_two);
            Ok(Some(program))
        };
        match spec.seccomp {
            Seccomp::Unconfined => Ok(None),
            Seccomp::Default => builtin(Builtin::Default, ThirtyTwoBit::Refused),
            Seccomp::DefaultThirtyTwoBit => builtin(Builtin::Default, ThirtyTwoBit::Allowed),
            Seccomp::Strict => builtin(Builtin::Strict, ThirtyTwoBit::Refused),
            Seccomp::Docker => builtin(Builtin::Docker, ThirtyTwoBit::Allowed),
            Seccomp::Spec => {
                let asked = spec.oci.linux().as_ref().and_then(|linux| linux.seccomp().as_ref());
                let Some(asked) = asked else { return Ok(None) };
                let program = seccomp::compiled(asked).map_err(|error| Error::invalid(error.to_string()))?;
                Ok(Some(program))
            }
        }
    }
}

impl Sandbox for Runtime {
    fn launch(
        &self,
        spec: &SandboxSpec,
        stdio: Stdio,
        door: Option<OwnedFd>,
    ) -> ModelResult<(Box<dyn Running>, Launched)> {
        let extra = Extra { door: door.as_ref().map(AsFd::as_fd), ..Extra::default() };
        let (container, launched) = self.start(spec, stdio, &extra)?;
        Ok((Box::new(container), launched))
    }

    fn cleanup(&self, id: &ContainerId, cgroups_path: &str) -> ModelResult<()> {
        if cgroups_path.is_empty() {
            return Ok(());
        }
        let cgroup = self.options().cgroups.open(self.layout(), std::path::Path::new(cgroups_path))?;
        let killed = cgroup.kill_all().map_err(Error::from);
        let removed = cgroup.destroy().map_err(Error::from);
        Ok(killed.and(removed).context(|| format!("clean up container {}", id.short()))?)
    }
}

/// The launching process's part while the child of this id waits, its namespaces made and its root not yet entered.
fn meet(spec: &SandboxSpec, plan: &Plan, subject: Option<Subject<'_>>, pid: i32) -> Result<()> {
    net_devices::move_all(&plan.net_devices, pid)?;
    let Some(subject) = subject else { return Ok(()) };
    rdt::enter(&spec.oci, subject.id, pid)?;
    let run = |hooks: &[Hook]| subject.run_sealed(hooks, "creating", pid, &|| Ok(()));
    run(&plan.hooks.prestart).context(|| "prestart")?;
    run(&plan.hooks.create_runtime).context(|| "createRuntime")
}

fn bounding(spec: &SandboxSpec) -> CapSet {
    let capabilities = spec.oci.process().as_ref().and_then(|process| process.capabilities().as_ref());
    let set = capabilities.and_then(|capabilities| capabilities.bounding().as_ref());
    set.and_then(|set| CapSet::from_oci(set).ok()).unwrap_or_default()
}

/// Where its groups are; without a path it has none, and no limits.
fn cgroups_path(spec: &SandboxSpec) -> Option<&std::path::Path> {
    spec.oci.linux().as_ref().and_then(|linux| linux.cgroups_path().as_deref())
}

fn needs(plan: &Plan, what: &What) -> bool {
    plan.steps.iter().any(|step| matches!(step, Step::Prepare(source) if source.what == *what))
}

fn view(cgroup: &Cgroup) -> Vec<Hierarchy> {
    cgroup.directories().into_iter().map(|(name, group)| Hierarchy { name, group }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_that_is_there_is_not_free_whosever_it_is() {
        let runtime = Runtime::new(Options::default()).unwrap();
        let path = format!("/tare-test-free-{}", std::process::id());
        assert!(runtime.is_free(Path::new(&path)));
        let group = Cgroup::create(runtime.layout(), &path, &LinuxResources::default()).unwrap();
        assert!(!runtime.is_free(Path::new(&path)));
        group.destroy().unwrap();
        assert!(runtime.is_free(Path::new(&path)));
    }
}
