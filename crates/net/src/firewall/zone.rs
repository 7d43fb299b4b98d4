//! firewalld rejects what is forwarded from a link that no zone lets through: bridges are put into one that does.
//!
//! It is told so by D-Bus, as `firewall-cmd --zone=trusted --add-interface=br-…` does, and only where its table is in this
//! network namespace. A bridge that somebody has put into a zone stays there. What is forwarded *to* containers our own table
//! decides, and about published ports the zone by which a packet came.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use tare_model::error::{Error, Result};
use tare_sys::dbus::{Connection, Kind, Message};

/// The table of a firewalld that runs.
pub(super) const TABLE: &str = "firewalld";
/// The zone of firewalld's own in which everything is accepted.
const ZONE: &str = "trusted";
/// A reload takes seconds, and questions wait for its end.
const PATIENCE: Duration = Duration::from_secs(10);
const NAME: &str = "org.fedoraproject.FirewallD1";
const OBJECT: &str = "/org/fedoraproject/FirewallD1";
const ZONES: &str = "org.fedoraproject.FirewallD1.zone";

/// Puts those of the bridges into the zone that are in none.
pub(super) fn let_out(bus: &Path, bridges: &[String]) -> Result<()> {
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

/// Takes bridges that end out of the zone.
pub(super) fn forget(bus: &Path, bridges: &[String]) -> Result<()> {
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
