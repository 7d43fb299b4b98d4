//! From OCI resources to the list of writes that make them true. Pure: what is available goes in, writes come out.
//!
//! A controller that is missing is no matter until a limit of its is asked for; then the limit is refused by name.
//! Writes of one plan may depend on one another's order in ways that depend on what is in force (memory before
//! memory+swap when lowering, after it when raising; period and quota likewise). The plan does not care: whoever
//! applies it tries what was refused again after the rest.

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxResources};

use super::controller::{Controller, Version};
use super::error::{Error, Result};
use super::figure::Figure;
use super::{v1, v2};

/// One figure to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// Whose hierarchy it goes to.
    pub controller: Controller,
    /// What it is, in people's words, for messages.
    pub what: String,
    /// File and value; of several the first file that exists is written (kernels name some differently).
    pub choices: Vec<(String, String)>,
    /// If no such file exists, do nothing.
    pub optional: bool,
}

/// What must be written, and what there is to say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// In the order in which to try.
    pub writes: Vec<Write>,
    /// What was asked for and has no effect, for people.
    pub notes: Vec<String>,
}

/// Which controllers there are, and how each is spoken to.
pub trait Available {
    /// The version of a controller; `None`: it is not there.
    fn version_of(&self, controller: Controller) -> Option<Version>;
}

impl Available for super::Layout {
    fn version_of(&self, controller: Controller) -> Option<Version> {
        Self::version_of(self, controller)
    }
}

/// What is in force now, where a write needs to repeat it or is judged by it. A new group has nothing in force.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Current {
    /// The quota half of v2's `cpu.max`.
    pub cpu_quota: Option<String>,
    /// The memory limit in bytes.
    pub memory: Option<u64>,
    /// v1: the limit on memory and swap together, in bytes.
    pub memory_and_swap: Option<u64>,
    /// Whether this is about a group that was limited before.
    pub is_update: bool,
}

/// Plans everything but devices (see `devices`).
///
/// # Errors
/// A limit that cannot be enforced here, or that contradicts itself; nothing was written.
pub fn plan(resources: &LinuxResources, available: &dyn Available, current: &Current) -> Result<Plan> {
    let mut planner = Planner { available, current, plan: Plan::default() };
    for controller in Controller::all() {
        match available.version_of(controller) {
            Some(Version::V2) => v2::plan(controller, resources, &mut planner)?,
            // A controller that is missing is planned as v1: each limit of its then finds it missing.
            Some(Version::V1) | None => v1::plan(controller, resources, &mut planner)?,
        }
    }
    planner.unified(resources)?;
    Ok(planner.plan)
}

/// The device rules asked for; the default ones come from `devices`.
pub(crate) fn device_rules(resources: &LinuxResources) -> &[LinuxDeviceCgroup] {
    resources.devices().as_deref().unwrap_or_default()
}

/// Collects writes.
pub(crate) struct Planner<'a> {
    available: &'a dyn Available,
    pub(crate) current: &'a Current,
    plan: Plan,
}

impl Planner<'_> {
    /// Asks for a limit.
    pub(crate) fn set(&mut self, figure: &Figure, value: impl ToString) -> Result<()> {
        self.set_of(figure, "", value)
    }

    /// Asks for a limit that is there once for each of several things.
    pub(crate) fn set_of(&mut self, figure: &Figure, of: &str, value: impl ToString) -> Result<()> {
        self.set_one_of(figure, of, &[value.to_string()])
    }

    /// Asks for a limit whose files want different words, in the order of the table; the last are for the rest.
    pub(crate) fn set_one_of(&mut self, figure: &Figure, of: &str, values: &[String]) -> Result<()> {
        let what = figure.name(of);
        let Some(version) = self.available.version_of(figure.controller) else {
            let why = format!("the {} controller is not mounted here", figure.controller.name());
            return Err(Error::Unsupported { what, why });
        };
        let files = figure.files(version);
        if files.is_empty() {
            let why = format!("cgroup v2 has no such control; v1 has it as {}", figure.files(Version::V1)[0]);
            return Err(Error::Unsupported { what, why });
        }
        let value = |at: usize| values.get(at).or(values.last()).cloned().unwrap_or_default();
        let choices =
            files.iter().enumerate().map(|(at, file)| (file.replace("{}", of), value(at))).collect();
        self.plan.writes.push(Write { controller: figure.controller, what, choices, optional: false });
        Ok(())
    }

    /// Whether something may be in force that the opposite value has to take back.
    pub(crate) fn can_be_taken_back(&self, figure: &Figure) -> bool {
        let version = self.available.version_of(figure.controller);
        self.current.is_update && version.is_some_and(|version| !figure.files(version).is_empty())
    }

    /// Lets the latest write pass if its file does not exist.
    pub(crate) fn if_there_is_such_a_file(&mut self) {
        if let Some(write) = self.plan.writes.last_mut() {
            write.optional = true;
        }
    }

    /// Says something to people.
    pub(crate) fn note(&mut self, note: &str) {
        self.plan.notes.push(note.to_owned());
    }

    /// The files of v2 that the document names itself; a value of several lines is as many writes.
    fn unified(&mut self, resources: &LinuxResources) -> Result<()> {
        let mut files: Vec<(&String, &String)> = resources.unified().iter().flatten().collect();
        files.sort_unstable();
        for (file, value) in files {
            let what = format!("unified resource {file:?} (unified)");
            let controller = self.owner(file, &what)?;
            for line in value.lines().chain(value.is_empty().then_some("")) {
                let choices = vec![(file.clone(), line.to_owned())];
                self.plan.writes.push(Write { controller, what: what.clone(), choices, optional: false });
            }
        }
        Ok(())
    }

    /// Whose a file of v2 is. Those of the group itself (`cgroup.*`) are left to us but for its bounds.
    fn owner(&self, file: &str, what: &str) -> Result<Controller> {
        const BOUNDS: [&str; 3] = ["cgroup.max.depth", "cgroup.max.descendants", "cgroup.pressure"];
        let Some((prefix, _)) = file.split_once('.').filter(|_| !file.contains(['/', '\0'])) else {
            return invalid(what, "it is no file name of a controller");
        };
        let unsupported = |why| Err(Error::Unsupported { what: what.to_owned(), why });
        if prefix == "cgroup" {
            return match self.available.version_of(Controller::Core) {
                Some(Version::V2) if BOUNDS.contains(&file) => Ok(Controller::Core),
                Some(Version::V2) => invalid(what, "this file is the runtime's own"),
                _ => unsupported("there is no cgroup v2 hierarchy here".to_owned()),
            };
        }
        let found = Controller::from_v2(prefix)
            .filter(|controller| self.available.version_of(*controller) == Some(Version::V2));
        found.map_or_else(
            || unsupported(format!("there is no {prefix} controller in a cgroup v2 hierarchy here")),
            Ok,
        )
    }
}

/// Refuses a value by name.
pub(crate) fn invalid<T>(what: impl Into<String>, why: impl Into<String>) -> Result<T> {
    Err(Error::Invalid { what: what.into(), why: why.into() })
}

/// Lists of CPUs or nodes: digits, ranges and commas, of a sane length; the kernel checks the rest.
pub(crate) fn list_of_numbers<'a>(what: &str, list: Option<&'a String>) -> Result<Option<&'a str>> {
    let Some(list) = list.map(|list| list.trim()).filter(|list| !list.is_empty()) else { return Ok(None) };
    let sane = list.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'-' | b','));
    if !sane || list.len() >= 4096 {
        let start: String = list.chars().take(80).collect();
        return invalid(what, format!("{start:?} is no list such as 0-3,7"));
    }
    Ok(Some(list))
}
