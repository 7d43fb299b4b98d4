//! From OCI resources to the list of writes that make them true. Pure: what is available goes in, writes come out.
//!
//! A controller that is missing is no matter until a limit of its is asked for; then the limit is refused by name.
//! Writes of one plan may depend on one another's order in ways that depend on what is in force (memory before
//! memory+swap when lowering, after it when raising; period and quota likewise). The plan does not care: whoever
//! applies it tries what was refused again after the rest.

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxResources};

use super::controller::{Controller, Version};
use super::error::{Error, Result};
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

/// What is in force now, where a write needs to repeat it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Current {
    /// The quota half of v2's `cpu.max`; absent in a new group.
    pub cpu_quota: Option<String>,
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
    /// Asks for a write to one file.
    pub(crate) fn write(
        &mut self,
        controller: Controller,
        what: &str,
        file: &str,
        value: impl ToString,
    ) -> Result<()> {
        self.write_one_of(controller, what, vec![(file.to_owned(), value.to_string())])
    }

    /// Asks for a write to the first of these files that exists.
    pub(crate) fn write_one_of(
        &mut self,
        controller: Controller,
        what: &str,
        choices: Vec<(String, String)>,
    ) -> Result<()> {
        if self.available.version_of(controller).is_none() {
            return Err(Error::Unsupported {
                what: what.to_owned(),
                why: format!("the {} controller is not mounted here", controller.name()),
            });
        }
        self.plan.writes.push(Write { controller, what: what.to_owned(), choices, optional: false });
        Ok(())
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

    /// Refuses something that v2 has no means for.
    pub(crate) fn not_in_v2(&self, what: &str) -> Result<()> {
        Err(Error::Unsupported { what: what.to_owned(), why: "cgroup v2 has no such control".to_owned() })
    }

    /// The files of v2 that the document names itself.
    fn unified(&mut self, resources: &LinuxResources) -> Result<()> {
        let mut files: Vec<(&String, &String)> = resources.unified().iter().flatten().collect();
        files.sort_unstable();
        for (file, value) in files {
            let what = format!("unified resource {file:?}");
            let Some((prefix, _)) = file.split_once('.').filter(|_| !file.contains('/')) else {
                return Err(Error::Invalid { what, why: "it is no file name of a controller".to_owned() });
            };
            let controller = Controller::from_v2(prefix)
                .filter(|controller| self.available.version_of(*controller) == Some(Version::V2));
            let Some(controller) = controller else {
                let why = format!("there is no {prefix} controller in a cgroup v2 hierarchy here");
                return Err(Error::Unsupported { what, why });
            };
            self.write(controller, &what, file, value)?;
        }
        Ok(())
    }
}

/// Refuses a value by name.
pub(crate) fn invalid<T>(what: &str, why: impl Into<String>) -> Result<T> {
    Err(Error::Invalid { what: what.to_owned(), why: why.into() })
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
