//! What is asked of systemd's manager.

use std::path::PathBuf;

use tare_sys::userns::{Extent, is_initial, own_users};

use super::super::error::{Error, Result};
use super::bus::{Bus, Refusal};
use super::name::ScopeName;
use super::wire::{Value, Writer};

/// One of systemd's managers: the system's, or a user's. Connected to for each operation and not longer: whoever holds
/// this forks.
#[derive(Clone, Debug)]
pub struct Systemd {
    /// Sockets, tried in order, with whether others are on them as well.
    sockets: Vec<(PathBuf, bool)>,
    /// Where a scope is put that names no slice.
    slice: &'static str,
    is_system: bool,
}

impl Systemd {
    /// The system's manager, by its own socket or by the bus.
    pub fn system() -> Self {
        let sockets = vec![
            (PathBuf::from("/run/systemd/private"), false),
            (PathBuf::from("/run/dbus/system_bus_socket"), true),
        ];
        Self { sockets, slice: "system.slice", is_system: true }
    }

    /// The manager of the calling user, for those who are not root; `runtime_dir` is `XDG_RUNTIME_DIR`.
    pub fn user(runtime_dir: Option<PathBuf>) -> Self {
        let uid = outer_uid();
        let run = runtime_dir.unwrap_or_else(|| PathBuf::from(format!("/run/user/{uid}")));
        let sockets = vec![(run.join("systemd/private"), false), (run.join("bus"), true)];
        Self { sockets, slice: "user.slice", is_system: false }
    }

    /// A manager at another socket, such as a test's.
    pub fn at(socket: PathBuf, is_shared: bool) -> Self {
        Self { sockets: vec![(socket, is_shared)], slice: "system.slice", is_system: true }
    }

    /// Whether it is that of a user, whose groups are not all of ours.
    pub(super) fn is_users(&self) -> bool {
        !self.is_system
    }

    /// Where the scope's groups are, below each mount point: as the manager says, or as it would if the scope is gone.
    ///
    /// # Errors
    /// A user's manager does not answer, so that nobody can say.
    pub(super) fn path_of(&self, name: &ScopeName) -> Result<String> {
        let mut bus = match self.connect() {
            Err(_) if self.is_system => return Ok(name.path(self.slice)),
            connected => connected?,
        };
        match control_group(&mut bus, name.unit()) {
            Ok(path) if !path.is_empty() => Ok(path),
            _ if self.is_system => Ok(name.path(self.slice)),
            _ => own_group(&mut bus).map(|above| above + &name.path(self.slice)),
        }
    }

    /// Starts a scope around a process and waits until it is there. Gives the path of its groups.
    pub(super) fn start(&self, name: &ScopeName, pid: i32, properties: &[(String, Value)]) -> Result<String> {
        let unit = name.unit();
        let call = format!("StartTransientUnit({unit})");
        let mut all = vec![
            ("Description".to_owned(), Value::Text(format!("tare container {unit}"))),
            ("Slice".to_owned(), Value::Text(name.slice(self.slice).to_owned())),
            ("Delegate".to_owned(), Value::Flag(true)),
            ("DefaultDependencies".to_owned(), Value::Flag(false)),
            ("PIDs".to_owned(), Value::Numbers(vec![pid.cast_unsigned()])),
        ];
        all.extend_from_slice(properties);
        let mut bus = self.connect()?;
        let mut started = start(&mut bus, unit, &all);
        if started.as_ref().is_err_and(Refusal::is_unit_exists) {
            // The remains of one that failed keep its name.
            let _ = bus.call("ResetFailedUnit", "s", |body| body.string(unit));
            started = start(&mut bus, unit, &all);
        }
        let result = started.and_then(|job| bus.wait_for(&job)).map_err(|refusal| refusal.of(&call))?;
        if result != "done" {
            let _ = bus.call("ResetFailedUnit", "s", |body| body.string(unit));
            return Err(Error::Systemd { call, said: format!("the job ended with {result:?}") });
        }
        control_group(&mut bus, unit)
    }

    /// Tells limits that changed.
    pub(super) fn set(&self, unit: &str, properties: &[(String, Value)]) -> Result<()> {
        let set = |body: &mut Writer| {
            body.string(unit);
            body.flag(true); // until the machine restarts
            body.properties(properties);
        };
        let done = self.connect()?.call("SetUnitProperties", "sba(sv)", set);
        done.map(drop).map_err(|refusal| refusal.of(&format!("SetUnitProperties({unit})")))
    }

    /// Has systemd move a process into the scope, from where we may not.
    pub(in super::super) fn attach(&self, unit: &str, pid: i32) -> Result<()> {
        let attach = |body: &mut Writer| {
            body.string(unit);
            body.string("/");
            body.numbers(&[pid.cast_unsigned()]);
        };
        let done = self.connect()?.call("AttachProcessesToUnit", "ssau", attach);
        done.map(drop).map_err(|refusal| refusal.of(&format!("AttachProcessesToUnit({unit}, {pid})")))
    }

    /// Stops the scope, whose processes are dead, and has it forgotten. One that is gone is no error.
    pub(super) fn stop(&self, unit: &str) -> Result<()> {
        let mut bus = self.connect()?;
        let stop = |body: &mut Writer| {
            body.string(unit);
            body.string("replace");
        };
        let stopped = bus.call("StopUnit", "ss", stop).and_then(|answer| {
            let job = answer.reader().string().unwrap_or_default();
            bus.wait_for(&job)
        });
        let _ = bus.call("ResetFailedUnit", "s", |body| body.string(unit)); // it need not have failed
        match stopped {
            Err(refusal) if !refusal.is_no_such_unit() => Err(refusal.of(&format!("StopUnit({unit})"))),
            _ => Ok(()),
        }
    }

    fn connect(&self) -> Result<Bus> {
        let mut errors = Vec::new();
        for (socket, is_shared) in &self.sockets {
            match Bus::open(socket, *is_shared) {
                Ok(mut bus) => {
                    subscribe(&mut bus)?;
                    return Ok(bus);
                }
                Err(error) => errors.push(error),
            }
        }
        Err(Error::collect(errors).err().unwrap_or(Error::Several(Vec::new())))
    }
}

/// Whether the manager to ask is that of a user: for others than root, and for root of a user namespace, who is nobody
/// to the system's.
pub fn is_of_user() -> bool {
    !rustix::process::geteuid().is_root() || !is_initial()
}

/// The user that we are, as systemd knows it: where we are root of a user namespace, who made that.
pub(super) fn outer_uid() -> u32 {
    let uid = rustix::process::geteuid().as_raw();
    // Where nothing can be read, there are no such namespaces.
    let users = if is_initial() { Vec::new() } else { own_users().unwrap_or_default() };
    let holds = |users: &&Extent| users.inside <= uid && uid - users.inside < users.count;
    users.iter().find(holds).map_or(uid, |users| users.outside + (uid - users.inside))
}

fn subscribe(bus: &mut Bus) -> Result<()> {
    match bus.call("Subscribe", "", |_| {}) {
        Err(Refusal::Named(name, _)) if name.ends_with(".AlreadySubscribed") => Ok(()),
        other => other.map(drop).map_err(|refusal| refusal.of("Subscribe")),
    }
}

fn start(bus: &mut Bus, unit: &str, properties: &[(String, Value)]) -> std::result::Result<String, Refusal> {
    let answer = bus.call("StartTransientUnit", "ssa(sv)a(sa(sv))", |body| {
        body.string(unit);
        body.string("replace");
        body.properties(properties);
        body.array(8, |_| {}); // no units beside it
    })?;
    let job = answer.reader().string();
    job.map_err(|_| Refusal::Named("nonsense".to_owned(), "it named no job".to_owned()))
}

/// The group that a user's manager has for all of its own.
fn own_group(bus: &mut Bus) -> Result<String> {
    bus.property("/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager", "ControlGroup")
        .map_err(|refusal| refusal.of("look up the manager's own group"))
}

fn control_group(bus: &mut Bus, unit: &str) -> Result<String> {
    let call = format!("look up the group of {unit}");
    let answer = bus.call("GetUnit", "s", |body| body.string(unit)).map_err(|refusal| refusal.of(&call))?;
    let object = answer.reader().string().unwrap_or_default();
    bus.property(&object, "org.freedesktop.systemd1.Scope", "ControlGroup")
        .map_err(|refusal| refusal.of(&call))
}
