//! Changing the limits of a container that runs.
//!
//! What can be refused in advance is: rules that make no sense, limits below what is in use if the document asks to look
//! ([`checkBeforeUpdate`]), controls that this kernel has not. Only then the first figure is written.
//!
//! [`checkBeforeUpdate`]: https://github.com/opencontainers/runtime-spec/blob/main/config-linux.md#memory

use oci_spec::runtime::LinuxResources;
use rustix::io::Errno;

use super::controller::{Controller, Version};
use super::devices::Rules;
use super::error::{Error, Result};
use super::make::{make_group, members};
use super::plan::{Current, Plan, device_rules, plan};
use super::{Cgroup, figure, subtree};

/// How often processes that were born while others were moved are looked for.
const ROUNDS: u32 = 100;

impl Cgroup {
    /// Changes limits; what `resources` does not name stays as it is. Device rules, if there are any, replace all.
    ///
    /// # Errors
    /// A limit that cannot be enforced: nothing was changed. One that the kernel refuses when it is written: limits
    /// written before it stay.
    pub fn update(&mut self, resources: &LinuxResources) -> Result<()> {
        let plan = plan(resources, self.layout.as_ref(), &self.current()?)?;
        let rules = match device_rules(resources) {
            [] => None,
            asked => Some(Rules::read(asked)?),
        };
        rules.as_ref().map_or(Ok(()), |rules| self.can_keep(rules))?;
        self.refuse_less_than_used(resources)?;
        self.prepare(&plan)?;
        self.tell(resources, rules.as_ref())?;
        self.write_all(&plan.writes)?;
        rules.as_ref().map_or(Ok(()), |rules| self.set_devices(rules))?;
        self.notes.extend(plan.notes);
        Ok(())
    }

    /// Sees to it that every file of the plan is there, or says which is not.
    fn prepare(&mut self, plan: &Plan) -> Result<()> {
        let layout = self.layout.clone();
        for hierarchy in self.hierarchies().filter(|one| one.version == Version::V2) {
            subtree::enable(&layout, hierarchy, &self.path, plan)?;
        }
        self.offers(&plan.writes)?;
        let missing = members(&layout, plan).into_iter().filter(|at| !self.members.contains(at));
        for at in missing.collect::<Vec<_>>() {
            self.extend_to(at, plan)?;
        }
        self.offers(&plan.writes)
    }

    /// What new limits are judged by.
    fn current(&self) -> Result<Current> {
        let memory = self.with(Controller::Memory).map(|hierarchy| hierarchy.version);
        let (limit, both) = match memory {
            Some(Version::V1) => ("memory.limit_in_bytes", Some("memory.memsw.limit_in_bytes")),
            _ => ("memory.max", None),
        };
        Ok(Current {
            cpu_quota: self.cpu_quota()?,
            memory: self.limit(Controller::Memory, limit)?,
            memory_and_swap: both.map_or(Ok(None), |file| self.limit(Controller::Memory, file))?,
            is_update: true,
        })
    }

    /// The quota half of v2's `cpu.max`.
    pub(super) fn cpu_quota(&self) -> Result<Option<String>> {
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
        let Some(used) = self.memory_used()? else { return Ok(()) };
        let together = used + self.swap_used()?;
        let asked = [(figure::MEMORY, memory.limit(), used), (figure::SWAP, memory.swap(), together)];
        for (figure, limit, used) in asked {
            let limit = limit.and_then(|limit| u64::try_from(limit).ok()).filter(|limit| *limit != 0);
            if let Some(limit) = limit.filter(|limit| *limit < used) {
                let why =
                    format!("{limit} is less than the {used} bytes in use, and checkBeforeUpdate was set");
                return Err(Error::Invalid { what: figure.name(""), why });
            }
        }
        Ok(())
    }

    /// Gives a running container a group in one more hierarchy and moves its processes there.
    fn extend_to(&mut self, at: usize, plan: &Plan) -> Result<()> {
        make_group(&self.layout, at, &self.path, plan, &mut Vec::new())?;
        let hierarchy = &self.layout.hierarchies[at];
        // Processes that are born meanwhile are born outside: go round until nobody was.
        for _ in 0..ROUNDS {
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
        let place = hierarchy.shown(self.path.as_str());
        let call = format!("move every process of a container that forks fast to {place}");
        Err(Error::Call { call, source: Errno::AGAIN })
    }
}
