//! Making a container's groups, and setting in them what was planned.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::controller::{Controller, Version};
use super::devices::Rules;
use super::error::{Error, Result};
use super::layout::{Hierarchy, Layout};
use super::path::GroupPath;
use super::plan::{Plan, Write};
use super::{Cgroup, cpuset, device_program, devices, remove, subtree};

/// How often a group is tried again whose parents somebody else removes, for being empty, as often as they are made.
const TRIES: u32 = 10_000;

impl Cgroup {
    pub(super) fn make(&self, plan: &Plan, rules: &Rules) -> Result<()> {
        let mut made = Vec::new();
        let done = self.make_groups(plan, &mut made).and_then(|()| {
            self.offers(&plan.writes)?;
            self.write_all(&plan.writes)?;
            self.set_devices(rules)
        });
        done.map_err(|first| {
            let mut errors = vec![first];
            errors.extend(self.unmake(made));
            Error::collect(errors).err().unwrap_or(Error::Several(Vec::new()))
        })
    }

    /// Removes what a failed `create` made, the innermost first. Groups above ours may be others' as well by now.
    pub(super) fn unmake(&self, made: Vec<(usize, String)>) -> Vec<Error> {
        let remove = |(at, path): (usize, String)| {
            let hierarchy = &self.layout.hierarchies[at];
            let removed = match path == self.path.as_str() {
                true => remove::one(hierarchy, &path),
                false => remove::if_empty(hierarchy, &path),
            };
            removed.err()
        };
        made.into_iter().rev().filter_map(remove).collect()
    }

    pub(super) fn make_groups(&self, plan: &Plan, made: &mut Vec<(usize, String)>) -> Result<()> {
        self.members.iter().try_for_each(|at| make_group(&self.layout, *at, &self.path, plan, made))
    }

    /// Makes the groups that systemd did not, in hierarchies that it does not know, and switches on what it did not.
    pub(super) fn complete_groups(&self, plan: &Plan) -> Result<()> {
        for at in &self.members {
            let hierarchy = &self.layout.hierarchies[*at];
            if !hierarchy.exists_at(self.path.as_str()) {
                make_group(&self.layout, *at, &self.path, plan, &mut Vec::new())?;
            }
            cpuset::inherit(&self.layout, hierarchy, &self.path)?;
            subtree::enable(&self.layout, hierarchy, &self.path, plan)?;
        }
        Ok(())
    }

    /// Refuses a limit for which the kernel has no file, before any is written.
    pub(super) fn offers(&self, writes: &[Write]) -> Result<()> {
        if self.layout.makes_files() {
            return Ok(());
        }
        let lacks = |write: &&Write| {
            let there = |hierarchy: &Hierarchy| {
                write.choices.iter().any(|(file, _)| hierarchy.exists_at(&self.path.join(file)))
            };
            !write.optional && self.with(write.controller).is_some_and(|hierarchy| !there(hierarchy))
        };
        if !writes.iter().any(|write| lacks(&write)) {
            return Ok(());
        }
        if let Some(unified) = self.unified() {
            subtree::await_switches(&self.layout, unified, &self.path);
        }
        writes.iter().find(lacks).map_or(Ok(()), |write| Err(no_file(write)))
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
                    first.get_or_insert((write.what.clone(), error));
                    true
                }
            });
            match first {
                None => return Ok(()),
                Some((what, error)) if left.len() == before => return Err(error.about(&what)),
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
        if write.optional { Ok(()) } else { Err(no_file(write)) }
    }

    /// Refuses device rules that the version here cannot keep.
    pub(super) fn can_keep(&self, rules: &Rules) -> Result<()> {
        if self.with(Controller::Devices).is_some() {
            return rules.lines().map(drop);
        }
        if self.unified().is_some() {
            return Ok(());
        }
        let why = "neither the devices controller nor a cgroup v2 hierarchy is mounted here".to_owned();
        Err(Error::Unsupported { what: "device rules (devices)".to_owned(), why })
    }

    pub(super) fn set_devices(&self, rules: &Rules) -> Result<()> {
        if let Some(hierarchy) = self.with(Controller::Devices) {
            let now = hierarchy.read_if_there(&self.path.join("devices.list"))?.unwrap_or_default();
            return self.write_device_lines(hierarchy, &devices::steps(&now, &rules.lines()?));
        }
        let Some(hierarchy) = self.unified() else { return self.can_keep(rules) };
        // Only root of the machine may attach a program, and only under it can there be device nodes to forbid.
        if !tare_sys::userns::is_initial() {
            return Ok(());
        }
        let group = hierarchy.open_at(self.path.as_str(), OFlags::RDONLY | OFlags::DIRECTORY)?;
        match replace_device_program(group.as_fd(), rules) {
            // An ordinary user, whose containers are in user namespaces too.
            Err(Errno::PERM) if !rustix::process::geteuid().is_root() => Ok(()),
            done => done.map_err(|source| Error::Call {
                call: format!("attach a device program to {}", hierarchy.shown(self.path.as_str())),
                source,
            }),
        }
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
}

fn no_file(write: &Write) -> Error {
    let files: Vec<&str> = write.choices.iter().map(|(file, _)| file.as_str()).collect();
    let why = format!("this kernel offers no {}", files.join(" or "));
    Error::Unsupported { what: write.what.clone(), why }
}

/// The hierarchies in which this container gets a group.
pub(super) fn members(layout: &Layout, plan: &Plan) -> Vec<usize> {
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
pub(super) fn make_group(
    layout: &Layout,
    at: usize,
    path: &GroupPath,
    plan: &Plan,
    made: &mut Vec<(usize, String)>,
) -> Result<()> {
    let hierarchy = &layout.hierarchies[at];
    let mut tries = 0;
    loop {
        let is_gone = |error: &Error| error.errno() == Some(Errno::NOENT);
        match hierarchy.mkdir_at(path.as_str()) {
            Err(error) if error.errno() == Some(Errno::EXIST) => replace_leftover(hierarchy, path)?,
            Err(error) if is_gone(&error) && tries < TRIES => {
                tries += 1;
                match make_parents(layout, at, path, made) {
                    Err(error) if is_gone(&error) => {} // and again
                    other => other?,
                }
                continue;
            }
            other => other?,
        }
        break;
    }
    made.push((at, path.as_str().to_owned()));
    cpuset::inherit(layout, hierarchy, path)?;
    subtree::enable(layout, hierarchy, path, plan)
}

fn make_parents(layout: &Layout, at: usize, path: &GroupPath, made: &mut Vec<(usize, String)>) -> Result<()> {
    let hierarchy = &layout.hierarchies[at];
    for above in path.ancestors() {
        match hierarchy.mkdir_at(above) {
            Ok(()) => made.push((at, above.to_owned())),
            Err(error) if error.errno() == Some(Errno::EXIST) => {}
            Err(error) => return Err(error),
        }
        cpuset::prepare_parent(layout, hierarchy, above)?;
    }
    Ok(())
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
