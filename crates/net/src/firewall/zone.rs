//! firewalld rejects what is forwarded from a link that no zone lets through: bridges are put into one that does.
//!
//! It is told so by D-Bus, as `firewall-cmd --zone=trusted --add-interface=br-…` does, and only where its table is in this
//! network namespace. A bridge that somebody has put into a zone stays there. What is forwarded *to* containers our own table
//! decides, and about published ports the zone by which a packet came.

//! firewalld may take its time, or never answer: a thread asks, whoever makes a network waits for it a moment only, and what
//! was not done is tried again until it is. The thread is there while there is something to be said.
//!
//! ```text
//!   tell ──▶ wishes ──▶ ask ─┬─ done ──▶ the thread ends, unless there are newer wishes
//!                            └─ failed ─▶ known by `why_not`; after a pause, or with newer wishes, once more
//! ```

use std::collections::BTreeSet;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tare_model::error::{Error, Result};
use tare_sys::dbus::{Connection, Kind, Message};

/// The table of a firewalld that runs.
pub(super) const TABLE: &str = "firewalld";
/// The zone of firewalld's own in which everything is accepted.
const ZONE: &str = "trusted";
/// A reload takes seconds, and questions wait for its end.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long who makes a network waits for firewalld, which usually takes milliseconds.
const MOMENT: Duration = Duration::from_millis(500);
/// Pauses between attempts grow from the one to the other.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(60)];
const NAME: &str = "org.fedoraproject.FirewallD1";
const OBJECT: &str = "/org/fedoraproject/FirewallD1";
const ZONES: &str = "org.fedoraproject.FirewallD1.zone";

/// What firewalld is told.
#[derive(Debug)]
pub(super) struct Zones {
    bus: PathBuf,
    desk: Arc<Desk>,
}

/// Where wishes are left for the thread that asks.
#[derive(Debug, Default)]
struct Desk {
    wishes: Mutex<Wishes>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Wishes {
    /// Bridges that are to be let out.
    out: BTreeSet<String>,
    /// Bridges that have ended.
    gone: BTreeSet<String>,
    /// How often something was wished, and up to where that was tried.
    number: u64,
    tried: u64,
    /// Why the last attempt failed.
    failed: Option<Error>,
    /// Somebody has waited in vain since the last answer: nobody does again.
    is_late: bool,
    is_asked: bool,
    is_over: bool,
}

// === impl Zones ===

impl Zones {
    /// By that bus.
    pub(super) fn new(bus: PathBuf) -> Self {
        Self { bus, desk: Arc::default() }
    }

    /// These are all bridges with a way out, and those have ended. Waits for a moment.
    pub(super) fn tell(&self, out: BTreeSet<String>, gone: impl IntoIterator<Item = String>) {
        let mut wishes = self.desk.lock();
        wishes.gone.extend(gone);
        wishes.gone.retain(|bridge| !out.contains(bridge));
        wishes.out = out;
        wishes.number += 1;
        if !std::mem::replace(&mut wishes.is_asked, true) {
            let (desk, bus) = (Arc::clone(&self.desk), self.bus.clone());
            let thread = std::thread::Builder::new().name("zones".into());
            if let Err(error) = thread.spawn(move || desk.serve(&bus)) {
                wishes.is_asked = false;
                wishes.failed = Some(Error::system(format!("firewalld: start a thread to ask it: {error}")));
                return;
            }
        }
        self.desk.changed.notify_all();
        let number = wishes.number;
        if !wishes.is_late {
            let waits = |wishes: &mut Wishes| wishes.tried < number;
            let waited = self.desk.changed.wait_timeout_while(wishes, MOMENT, waits);
            let (mut wishes, outcome) = waited.unwrap_or_else(PoisonError::into_inner);
            wishes.is_late = outcome.timed_out();
        }
    }

    /// There is no firewalld, or it cannot be seen whether there is.
    pub(super) fn leave(&self, why: Option<Error>) {
        let mut wishes = self.desk.lock();
        *wishes =
            Wishes { failed: why, is_asked: wishes.is_asked, number: wishes.number + 1, ..Wishes::default() };
        self.desk.changed.notify_all();
    }

    /// Why bridges may not be let out; none if they are.
    pub(super) fn why_not(&self) -> Option<String> {
        let wishes = self.desk.lock();
        let waits = (wishes.tried < wishes.number && wishes.is_asked).then(|| {
            format!("firewalld: no answer within {} ms; it is told as soon as it answers", MOMENT.as_millis())
        });
        wishes.failed.as_ref().map(ToString::to_string).or(waits)
    }
}

impl Drop for Zones {
    fn drop(&mut self) {
        self.desk.lock().is_over = true;
        self.desk.changed.notify_all();
    }
}

// === impl Desk ===

impl Desk {
    fn lock(&self) -> MutexGuard<'_, Wishes> {
        self.wishes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks until there is nothing left to be asked.
    fn serve(&self, bus: &Path) {
        let [mut pause, longest] = PAUSES;
        let mut wishes = self.lock();
        while !wishes.is_over {
            let (number, out, gone) = (wishes.number, wishes.out.clone(), wishes.gone.clone());
            drop(wishes);
            let done = forget(bus, &gone).and(let_out(bus, &out));
            wishes = self.lock();
            wishes.tried = number;
            self.changed.notify_all();
            if done.is_ok() {
                wishes.gone.retain(|bridge| !gone.contains(bridge));
                (wishes.is_late, pause) = (false, PAUSES[0]);
            }
            wishes.failed = done.err();
            let is_new = |wishes: &mut Wishes| wishes.number == number && !wishes.is_over;
            if wishes.failed.is_some() {
                wishes.is_late = true;
                let waited = self.changed.wait_timeout_while(wishes, pause, is_new);
                wishes = waited.unwrap_or_else(PoisonError::into_inner).0;
                pause = longest.min(pause * 2);
            } else if wishes.number == number {
                break;
            }
        }
        wishes.is_asked = false;
    }
}

/// Puts those of the bridges into the zone that are in none.
fn let_out(bus: &Path, bridges: &BTreeSet<String>) -> Result<()> {
    if bridges.is_empty() {
        return Ok(());
    }
    let mut connection = connect(bus)?;
    for bridge in bridges {
        if call(&mut connection, "getZoneOfInterface", &[bridge])?.is_empty() {
            call(&mut connection, "addInterface", &[ZONE, bridge])?;
        }
    }
    Ok(())
}

/// Takes bridges that have ended out of the zone.
fn forget(bus: &Path, bridges: &BTreeSet<String>) -> Result<()> {
    if bridges.is_empty() {
        return Ok(());
    }
    let mut connection = connect(bus)?;
    for bridge in bridges {
        if call(&mut connection, "getZoneOfInterface", &[bridge])? == ZONE {
            call(&mut connection, "removeInterface", &[ZONE, bridge])?;
        }
    }
    Ok(())
}

fn connect(bus: &Path) -> Result<Connection> {
    let failed = |what: &str, error: &dyn std::fmt::Display| {
        Error::system(format!("firewalld: {what} {}: {error}", bus.display()))
    };
    let stream = UnixStream::connect(bus).map_err(|error| failed("connect to", &error))?;
    let uid = rustix::process::geteuid().as_raw();
    let mut connection =
        Connection::introduce(stream, uid, PATIENCE).map_err(|error| failed("authenticate at", &error))?;
    let hello = Message {
        path: "/org/freedesktop/DBus".into(),
        interface: "org.freedesktop.DBus".into(),
        destination: "org.freedesktop.DBus".into(),
        ..Message::new(Kind::Call, "Hello")
    };
    ask(&mut connection, hello).map(|_| connection)
}

/// Calls a method of firewalld's zones that takes strings and gives one.
fn call(connection: &mut Connection, method: &str, arguments: &[&str]) -> Result<String> {
    let call = Message {
        path: OBJECT.into(),
        interface: ZONES.into(),
        destination: NAME.into(),
        ..Message::new(Kind::Call, method)
    };
    let call = call.with(&"s".repeat(arguments.len()), |body| {
        arguments.iter().for_each(|argument| body.string(argument));
    });
    ask(connection, call)
}

fn ask(connection: &mut Connection, call: Message) -> Result<String> {
    let method = call.member.clone();
    let failed = |said: String| Error::system(format!("firewalld: {method}: {said}"));
    let answer = connection.ask(call, PATIENCE, drop).map_err(|error| {
        failed(match error.kind() {
            io::ErrorKind::TimedOut => format!("no answer within {} s", PATIENCE.as_secs()),
            _ => error.to_string(),
        })
    })?;
    let said = answer.reader().string().map_err(|_| failed("an answer that is no string".into()))?;
    if answer.kind == Kind::Return { Ok(said) } else { Err(failed(format!("{said} ({})", answer.member))) }
}
