//! One container's groups: made in every hierarchy that matters, limited, joined, changed, removed.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use oci_spec::runtime::LinuxResources;
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::controller::{Controller, Version};
use super::devices::Rules;
use super::error::{Error, Result};
use super::layout::{Hierarchy, Layout};
use super::path::GroupPath;
use super::plan::{Current, Plan, Write, device_rules, plan};
use super::{cpuset, device_program, remove, subtree};

/// The groups of one container, one in each hierarchy that matters to it. Dropping it leaves them.
#[derive(Debug)]
pub struct Cgroup {
    pub(super) layout: Arc<Layout>,
    pub(super) path: GroupPath,
    /// The hierarchies that have a group of ours, by index.
    pub(super) members: Vec<usize>,
    notes: Vec<String>,
}

/// The descriptors by which a process comes into the groups.
#[derive(Debug)]
pub struct Entry {
    /// v1: files the still single-threaded child writes `0` to ([`Entry::enter`]) before it unshares its cgroup
    /// namespace.
    tasks: Vec<OwnedFd>,
    /// v2: the directory to clone into.
    unified: Option<OwnedFd>,
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
        group.make(&plan, &rules)?;
        Ok(group)
    }

    /// The groups of a plan, before they are made.
    pub(super) fn unmade(layout: &Arc<Layout>, path: GroupPath, plan: &Plan) -> Self {
        Self { layout: Arc::clone(layout), path, members: members(layout, plan), notes: plan.notes.clone() }
    }

    /// The groups that are there under this name.
    ///
    /// # Errors
    /// The path is none.
    pub fn open(layout: &Arc<Layout>, path: impl AsRef<Path>) -> Result<Self> {
        let path = GroupPath::parse(path)?;
        let there = |at: &usize| layout.hierarchies[*at].exists_at(path.as_str());
        let members = (0..layout.hierarchies.len()).filter(there).collect();
        Ok(Self { layout: Arc::clone(layout), path, members, notes: Vec::new() })
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

    /// Opens what a new process needs to come in.
    ///
    /// # Errors
    /// The groups are gone, or a call failed.
    pub fn entry(&self) -> Result<Entry> {
        let mut entry = Entry { tasks: Vec::new(), unified: None };
        for hierarchy in self.hierarchies() {
            match hierarchy.version {
                Version::V1 => {
                    entry.tasks.push(hierarchy.open_at(&self.path.join("tasks"), self.layout.write_flags)?);
                }
                Version::V2 => {
                    let flags = OFlags::PATH | OFlags::DIRECTORY;
                    entry.unified = Some(hierarchy.open_at(self.path.as_str(), flags)?);
                }
            }
        }
        Ok(entry)
    }

    /// Moves a process that is already running into the groups. Costs a grace period of the kernel's for each
    /// hierarchy: for adopting others, never on the way of a start.
    ///
    /// # Errors
    /// A call failed; the process may be in some of the groups.
    pub fn adopt(&self, pid: i32) -> Result<()> {
        self.hierarchies().try_for_each(|hierarchy| self.move_into(hierarchy, pid))
    }

    /// Changes limits; what `resources` does not name stays as it is.
    ///
    /// # Errors
    /// A limit that cannot be enforced or is refused by the kernel. Limits written before it stay.
    pub fn update(&mut self, resources: &LinuxResources) -> Result<()> {
        let current = Current { cpu_quota: self.cpu_quota()? };
        let plan = plan(resources, self.layout.as_ref(), &current)?;
        self.refuse_less_than_used(resources)?;
        let missing = members(&self.layout, &plan).into_iter().filter(|at| !self.members.contains(at));
        for at in missing.collect::<Vec<_>>() {
            self.extend_to(at, &plan)?;
        }
        self.write_all(&plan.writes)?;
        if !device_rules(resources).is_empty() {
            self.set_devices(&Rules::read(device_rules(resources))?)?;
        }
        self.notes.extend(plan.notes);
        Ok(())
    }

    /// Removes the groups, those below first. Whatever still lives in them must have been killed; this waits for it to be
    /// gone. Groups that are gone already are no error.
    ///
    /// # Errors
    /// Everything that could not be removed; the rest was.
    pub fn destroy(&self) -> Result<()> {
        let errors =
            self.hierarchies().filter_map(|hierarchy| remove::tree(hierarchy, self.path.as_str()).err());
        Error::collect(errors.collect())
    }

    pub(super) fn hierarchies(&self) -> impl Iterator<Item = &Hierarchy> {
        self.members.iter().map(|at| &self.layout.hierarchies[*at])
    }

    /// The hierarchy with our group in it that has this controller.
    pub(super) fn with(&self, controller: Controller) -> Option<&Hierarchy> {
        let at = self.layout.holding(controller).filter(|at| self.members.contains(at))?;
        Some(&self.layout.hierarchies[at])
    }

    /// The v2 hierarchy with our group in it.
    pub(super) fn unified(&self) -> Option<&Hierarchy> {
        self.hierarchies().find(|hierarchy| hierarchy.version == Version::V2)
    }

    // === making ===

    fn make(&self, plan: &Plan, rules: &Rules) -> Result<()> {
        let mut made = Vec::new();
        let done = self.make_groups(plan, &mut made).and_then(|()| {
            self.write_all(&plan.writes)?;
            self.set_devices(rules)
        });
        done.map_err(|first| {
            let mut errors = vec![first];
            for (at, path) in made.into_iter().rev() {
                errors.extend(remove::one(&self.layout.hierarchies[at], &path).err());
            }
            Error::collect(errors).err().unwrap_or(Error::Several(Vec::new()))
        })
    }

    pub(super) fn make_groups(&self, plan: &Plan, made: &mut Vec<(usize, String)>) -> Result<()> {
        for at in &self.members {
            make_group(&self.layout, *at, &self.path, plan, made)?;
        }
        Ok(())
    }

    /// Writes everything. What is refused is tried again after the rest has changed, see [`super::plan`].
    pub(super) fn write_all(&self, writes: &[Write]) -> Result<()> {
        let mut left: Vec<&Write> = writes.iter().collect();
        loop {
            let before = left.len();
            let mut first = None;
            left.retain(|write| match self.write_one(write) {
                Ok(()) => false,
                Err(error) => {
                    first.get_or_insert(error);
                    true
                }
            });
            match first {
                None => return Ok(()),
                Some(error) if left.len() == before => return Err(error),
                Some(_) => {}
            }
        }
    }

    fn write_one(&self, write: &Write) -> Result<()> {
        let hierarchy = self.with(write.controller).ok_or_else(|| Error::Unsupported {
            what: write.what.clone(),
            why: format!("the container has no group for the {} controller", write.controller.name()),
        })?;
        for (file, value) in &write.choices {
            match hierarchy.write_at(&self.path.join(file), value, self.layout.write_flags) {
                Err(error) if error.errno() == Some(Errno::NOENT) => {}
                other => return other,
            }
        }
        if write.optional {
            return Ok(());
        }
        let files: Vec<&str> = write.choices.iter().map(|(file, _)| file.as_str()).collect();
        let why = format!("this kernel offers no {}", files.join(" or "));
        Err(Error::Unsupported { what: write.what.clone(), why })
    }

    fn set_devices(&self, rules: &Rules) -> Result<()> {
        if let Some(hierarchy) = self.with(Controller::Devices) {
            return self.write_device_lines(hierarchy, &rules.lines()?);
        }
        let Some(hierarchy) = self.unified() else {
            let why = "neither the devices controller nor a cgroup v2 hierarchy is mounted here".to_owned();
            return Err(Error::Unsupported { what: "device rules".to_owned(), why });
        };
        let group = hierarchy.open_at(self.path.as_str(), OFlags::RDONLY | OFlags::DIRECTORY)?;
        replace_device_program(group.as_fd(), rules).map_err(|source| Error::Call {
            call: format!("attach a device program to {}", hierarchy.shown(self.path.as_str())),
            source,
        })
    }

    /// One rule for each write, as the kernel wants it; neighbours share an open file.
    fn write_device_lines(&self, hierarchy: &Hierarchy, lines: &[(&str, String)]) -> Result<()> {
        for run in lines.chunk_by(|one, next| one.0 == next.0) {
            let path = self.path.join(run[0].0);
            let file = hierarchy.open_at(&path, self.layout.write_flags)?;
            for (_, line) in run {
                hierarchy.put(&file, &path, line)?;
            }
        }
        Ok(())
    }

    // === changing ===

    /// The quota half of v2's `cpu.max`.
    fn cpu_quota(&self) -> Result<Option<String>> {
        match self.with(Controller::Cpu).filter(|hierarchy| hierarchy.version == Version::V2) {
            Some(hierarchy) => {
                let content = hierarchy.read_if_there(&self.path.join("cpu.max"))?;
                Ok(content.and_then(|content| content.split_whitespace().next().map(str::to_owned)))
            }
            None => Ok(None),
        }
    }

    /// A memory limit below what is used now would kill; whoever says so is spared that.
    fn refuse_less_than_used(&self, resources: &LinuxResources) -> Result<()> {
        let Some(memory) = resources.memory().filter(|memory| memory.check_before_update() == Some(true))
        else {
            return Ok(());
        };
        let limit = memory.limit().and_then(|limit| u64::try_from(limit).ok()).filter(|limit| *limit != 0);
        let (Some(limit), Some(used)) = (limit, self.memory_used()?) else { return Ok(()) };
        if limit < used {
            let why = format!("{limit} is less than the {used} bytes in use, and checkBeforeUpdate was set");
            return Err(Error::Invalid { what: "memory limit".to_owned(), why });
        }
        Ok(())
    }

    /// Gives a running container a group in one more hierarchy and moves its processes there.
    fn extend_to(&mut self, at: usize, plan: &Plan) -> Result<()> {
        let mut made = Vec::new();
        make_group(&self.layout, at, &self.path, plan, &mut made)?;
        let hierarchy = &self.layout.hierarchies[at];
        // Processes that are born meanwhile are born outside: go round until nobody was.
        for _ in 0..100 {
            let inside = super::processes::of_tree(hierarchy, self.path.as_str())?;
            let outside: Vec<i32> = self.pids()?.into_iter().filter(|pid| !inside.contains(pid)).collect();
            if outside.is_empty() {
                self.members.push(at);
                return Ok(());
            }
            for pid in outside {
                match self.move_into(hierarchy, pid) {
                    Err(error) if error.errno() != Some(Errno::SRCH) => return Err(error),
                    _ => {}
                }
            }
        }
        let path = hierarchy.shown(self.path.as_str());
        Err(Error::TimedOut { path, what: "moving every process of a container that forks fast", seconds: 0 })
    }

    fn move_into(&self, hierarchy: &Hierarchy, pid: i32) -> Result<()> {
        hierarchy.write_at(&self.path.join("cgroup.procs"), &pid.to_string(), self.layout.write_flags)
    }
}

/// The hierarchies in which this container gets a group.
fn members(layout: &Layout, plan: &Plan) -> Vec<usize> {
    let without_v2 = layout.v2().is_none();
    let is_wanted = |hierarchy: &Hierarchy| {
        let asked = |controller: &Controller| plan.writes.iter().any(|write| write.controller == *controller);
        hierarchy.version == Version::V2
            || hierarchy.name.is_some()
            || hierarchy.controllers.iter().any(|one| one.is_for_every_container() || asked(one))
            // Only where there is no v2, which freezes better.
            || (without_v2 && hierarchy.controllers.contains(&Controller::Freezer))
    };
    let all = layout.hierarchies.iter().enumerate();
    all.filter(|(_, hierarchy)| is_wanted(hierarchy)).map(|(at, _)| at).collect()
}

/// Makes one group, and the groups above it that are missing; notes what it made.
fn make_group(
    layout: &Layout,
    at: usize,
    path: &GroupPath,
    plan: &Plan,
    made: &mut Vec<(usize, String)>,
) -> Result<()> {
    let hierarchy = &layout.hierarchies[at];
    let mut tried = hierarchy.mkdir_at(path.as_str());
    if tried.as_ref().is_err_and(|error| error.errno() == Some(Errno::NOENT)) {
        for above in path.ancestors() {
            match hierarchy.mkdir_at(above) {
                Ok(()) => made.push((at, above.to_owned())),
                Err(error) if error.errno() == Some(Errno::EXIST) => {}
                Err(error) => return Err(error),
            }
            cpuset::prepare_parent(layout, hierarchy, above)?;
        }
        tried = hierarchy.mkdir_at(path.as_str());
    }
    if tried.as_ref().is_err_and(|error| error.errno() == Some(Errno::EXIST)) {
        replace_leftover(hierarchy, path)?;
        tried = Ok(());
    }
    tried?;
    made.push((at, path.as_str().to_owned()));
    cpuset::inherit(layout, hierarchy, path)?;
    subtree::enable(layout, hierarchy, path, plan)
}

/// A group of our name that nobody lives in is a remnant: its limits are not ours, so it is made anew.
fn replace_leftover(hierarchy: &Hierarchy, path: &GroupPath) -> Result<()> {
    if let Some(pid) = super::processes::of_tree(hierarchy, path.as_str())?.first() {
        return Err(Error::InUse { path: hierarchy.shown(path.as_str()), pid: *pid });
    }
    remove::tree(hierarchy, path.as_str())?;
    hierarchy.mkdir_at(path.as_str())
}

/// Attaches the program before it detaches what was there, so that there is no moment without one.
fn replace_device_program(group: BorrowedFd<'_>, rules: &Rules) -> rustix::io::Result<()> {
    let program = tare_sys::bpf::load_device_program(&device_program::compile(rules))?;
    let former = tare_sys::bpf::device_programs(group)?;
    tare_sys::bpf::attach_device_program(group, program.as_fd())?;
    former.iter().try_for_each(|old| tare_sys::bpf::detach_device_program(group, old.as_fd()))
}

// === impl Entry ===

impl Entry {
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
