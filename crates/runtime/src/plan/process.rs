//! The process itself: what it runs, as whom, and with which rights.

use std::ffi::CString;

use oci_spec::runtime::{Capabilities as OciCapabilities, PosixRlimit, PosixRlimitType, Spec};
use rustix::process::{Resource, Rlimit};
use tare_model::capability::CapSet;
use tare_model::sandbox::{ExecSpec, INIT_PATH, Identity, SandboxSpec};

use super::{User, c_string};
use crate::error::{Error, Result};

/// What is executed.
#[derive(Clone, Debug, PartialEq)]
pub struct Process {
    /// The program's name; a path if it has a slash, else searched in `PATH`.
    pub program: String,
    /// Arguments, the program's own name first.
    pub args: Vec<CString>,
    /// `NAME=value`.
    pub env: Vec<CString>,
    /// Working directory.
    pub cwd: String,
    /// Make it if it is missing.
    pub create_cwd: bool,
    /// Ids, or how to find them.
    pub who: Who,
    /// File mode creation mask.
    pub umask: u32,
    /// The five sets.
    pub capabilities: Capabilities,
    /// Set-user-id programs gain nothing.
    pub no_new_privileges: bool,
    /// Resource limits.
    pub limits: Vec<(Resource, Rlimit)>,
    /// OOM score adjustment.
    pub oom_score: Option<i32>,
}

/// Whose process it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// These ids.
    Ids(User),
    /// Names of the container's own files.
    Named(Identity),
}

/// Capability sets as masks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// What can ever be gained.
    pub bounding: u64,
    /// What counts now.
    pub effective: u64,
    /// What may be made effective.
    pub permitted: u64,
    /// What files may pass on; empty unless the specification says otherwise.
    pub inheritable: u64,
    /// What survives a change of program.
    pub ambient: u64,
}

// === impl Process ===

impl Process {
    /// The first process.
    pub(crate) fn of(spec: &SandboxSpec) -> Result<Self> {
        let process = oci_process(&spec.oci)?;
        let args = process.args().as_deref().unwrap_or_default();
        let env = process.env().as_deref().unwrap_or_default();
        let cwd = process.cwd().to_str().unwrap_or_default();
        let who = match &spec.identity {
            Some(identity) => Who::Named(identity.clone()),
            None => Who::Ids(ids(process.user())),
        };
        let mut planned = Self {
            program: program(args)?,
            args: strings(args, "process.args")?,
            env: environment(env)?,
            cwd: working_directory(cwd)?,
            create_cwd: spec.create_cwd,
            who,
            umask: process.user().umask().unwrap_or(0o022),
            capabilities: Capabilities::of(process)?,
            no_new_privileges: process.no_new_privileges().unwrap_or(false),
            limits: Vec::new(),
            oom_score: process.oom_score_adj(),
        };
        planned.limits = limits(process.rlimits().as_deref().unwrap_or_default())?;
        Ok(planned)
    }

    /// No program at all.
    pub(crate) fn none() -> Self {
        Self {
            program: String::new(),
            args: Vec::new(),
            env: Vec::new(),
            cwd: "/".to_owned(),
            create_cwd: false,
            who: Who::Ids(User::default()),
            umask: 0o022,
            capabilities: Capabilities::default(),
            no_new_privileges: true,
            limits: Vec::new(),
            oom_score: None,
        }
    }

    /// A further process: as the first, except for what `exec` says.
    pub(crate) fn exec(container: &SandboxSpec, exec: &ExecSpec) -> Result<Self> {
        let mut planned = Self::of(container)?;
        planned.program = program(&exec.args)?;
        planned.args = strings(&exec.args, "args")?;
        planned.env = environment(&exec.env)?;
        planned.create_cwd = false;
        if let Some(cwd) = &exec.cwd {
            planned.cwd = working_directory(cwd)?;
        }
        if let Some(identity) = &exec.identity {
            planned.who = Who::Named(identity.clone());
        }
        if exec.privileged {
            planned.capabilities = Capabilities::all();
        }
        Ok(planned)
    }

    /// Puts `--init`'s program before the one that was asked for.
    pub(crate) fn run_under_init(&mut self) {
        self.program = INIT_PATH.to_owned();
        self.args.splice(0..0, [c"docker-init".to_owned(), c"--".to_owned()]);
    }

    /// The value of a variable of its environment.
    pub(crate) fn variable(&self, name: &str) -> Option<&str> {
        self.env
            .iter()
            .filter_map(|entry| entry.to_str().ok())
            .find_map(|entry| entry.split_once('=').filter(|(key, _)| *key == name).map(|(_, value)| value))
    }
}

// === impl Capabilities ===

impl Capabilities {
    fn of(process: &oci_spec::runtime::Process) -> Result<Self> {
        let Some(asked) = process.capabilities() else { return Ok(Self::default()) };
        Ok(Self {
            bounding: mask(asked.bounding())?,
            effective: mask(asked.effective())?,
            permitted: mask(asked.permitted())?,
            inheritable: mask(asked.inheritable())?,
            ambient: mask(asked.ambient())?,
        })
    }

    /// Everything, with nothing inheritable.
    pub(crate) fn all() -> Self {
        let all = CapSet::ALL.bits();
        Self { bounding: all, effective: all, permitted: all, inheritable: 0, ambient: 0 }
    }
}

fn mask(set: &Option<OciCapabilities>) -> Result<u64> {
    let set = set.as_ref().map(CapSet::from_oci).transpose();
    let set = set.map_err(|error| Error::invalid(format!("process.capabilities: {error}")))?;
    Ok(set.unwrap_or_default().bits())
}

fn oci_process(spec: &Spec) -> Result<&oci_spec::runtime::Process> {
    spec.process().as_ref().ok_or_else(|| Error::invalid("process: missing"))
}

fn program(args: &[String]) -> Result<String> {
    match args.first() {
        Some(program) if !program.is_empty() => Ok(program.clone()),
        Some(_) => Err(Error::new(
            tare_model::ErrorKind::CommandNotFound,
            "exec: \"\": executable file not found in $PATH",
        )),
        None => Err(Error::invalid("process.args: there is no program to run")),
    }
}

fn strings(list: &[String], what: &str) -> Result<Vec<CString>> {
    list.iter().map(|text| c_string(text, what)).collect()
}

fn environment(list: &[String]) -> Result<Vec<CString>> {
    for entry in list {
        if entry.split_once('=').is_none_or(|(name, _)| name.is_empty()) {
            return Err(Error::invalid(format!("process.env: {entry:?} is not NAME=value")));
        }
    }
    strings(list, "process.env")
}

/// Absolute, and not by way of descriptors of the runtime's (CVE-2024-21626); links to them are caught by the kernel.
fn working_directory(cwd: &str) -> Result<String> {
    let cwd = if cwd.is_empty() { "/" } else { cwd };
    if !cwd.starts_with('/') || cwd.contains('\0') {
        return Err(Error::invalid(format!("process.cwd: {cwd:?} is not an absolute path")));
    }
    Ok(cwd.to_owned())
}

fn ids(user: &oci_spec::runtime::User) -> User {
    let groups = user.additional_gids().clone().unwrap_or_default();
    User { uid: user.uid(), gid: user.gid(), groups, home: None }
}

fn limits(asked: &[PosixRlimit]) -> Result<Vec<(Resource, Rlimit)>> {
    let mut planned: Vec<(Resource, Rlimit)> = Vec::new();
    for limit in asked {
        let resource = resource(limit.typ())?;
        if planned.iter().any(|(other, _)| *other == resource) {
            return Err(Error::invalid(format!("process.rlimits: {} is there twice", limit.typ())));
        }
        if limit.soft() > limit.hard() {
            let text = format!(
                "process.rlimits: {}: soft {} is above hard {}",
                limit.typ(),
                limit.soft(),
                limit.hard()
            );
            return Err(Error::invalid(text));
        }
        // The highest number stands for "unlimited".
        let bound = |value: u64| (value != u64::MAX).then_some(value);
        planned.push((resource, Rlimit { current: bound(limit.soft()), maximum: bound(limit.hard()) }));
    }
    Ok(planned)
}

fn resource(kind: PosixRlimitType) -> Result<Resource> {
    Ok(match kind {
        PosixRlimitType::RlimitCpu => Resource::Cpu,
        PosixRlimitType::RlimitFsize => Resource::Fsize,
        PosixRlimitType::RlimitData => Resource::Data,
        PosixRlimitType::RlimitStack => Resource::Stack,
        PosixRlimitType::RlimitCore => Resource::Core,
        PosixRlimitType::RlimitRss => Resource::Rss,
        PosixRlimitType::RlimitNproc => Resource::Nproc,
        PosixRlimitType::RlimitNofile => Resource::Nofile,
        PosixRlimitType::RlimitMemlock => Resource::Memlock,
        PosixRlimitType::RlimitAs => Resource::As,
        PosixRlimitType::RlimitLocks => Resource::Locks,
        PosixRlimitType::RlimitSigpending => Resource::Sigpending,
        PosixRlimitType::RlimitMsgqueue => Resource::Msgqueue,
        PosixRlimitType::RlimitNice => Resource::Nice,
        PosixRlimitType::RlimitRtprio => Resource::Rtprio,
        PosixRlimitType::RlimitRttime => Resource::Rttime,
    })
}
