//! Readiness (sd_notify(3)) passed on: the program in the container tells us, we tell whoever started us.
//!
//! ```text
//!   program ── READY=1 ─▶ ROOT/ID/notify/notify.sock ── MAINPID=… READY=1 ─▶ $NOTIFY_SOCKET
//! ```
//!
//! The host's own socket is not shown to the container, which could say anything there: that we stop, or which process
//! is to be watched.

use std::ffi::{OsStr, OsString};
use std::fs::{self, Permissions};
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use serde_json::json;
use tare_model::sandbox::SandboxSpec;
use tare_model::{Error, Result};

use crate::socket;
use crate::state::{Directory, failed};

/// Where the container finds our socket.
const INSIDE: &str = "/run/notify";
const NAME: &str = "notify.sock";
/// Longest message that is read; more of it is not looked at.
const LONGEST: usize = 4096;

/// Our socket, and whose it is on behalf of.
pub(crate) struct Notify {
    own: UnixDatagram,
    host: OsString,
}

/// Where whoever started us wants to be told.
fn asked() -> Option<OsString> {
    std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty())
}

/// Gives the container a place to tell it, if somebody wants to know.
pub(crate) fn add(spec: &mut SandboxSpec, directory: &Directory) -> Result<()> {
    if asked().is_none() {
        return Ok(());
    }
    let source = std::path::absolute(directory.notify());
    let source = source.map_err(|error| failed("find", &directory.notify(), &error))?;
    let mount = json!({
        "destination": INSIDE, "type": "bind", "source": source, "options": ["bind", "nosuid", "noexec", "nodev", "ro"],
    });
    let mount = serde_json::from_value(mount).map_err(|error| Error::system(error.to_string()))?;
    let mut mounts = spec.oci.mounts().clone().unwrap_or_default();
    mounts.push(mount);
    spec.oci.set_mounts(Some(mounts));
    if let Some(process) = spec.oci.process_mut() {
        let mut env = process.env().clone().unwrap_or_default();
        env.retain(|entry| !entry.starts_with("NOTIFY_SOCKET="));
        env.push(format!("NOTIFY_SOCKET={INSIDE}/{NAME}"));
        process.set_env(Some(env));
    }
    Ok(())
}

/// Makes the directory that is bound into the container, if somebody wants to know.
pub(crate) fn make_place(directory: &Directory) -> Result<()> {
    if asked().is_none() {
        return Ok(());
    }
    let place = directory.notify();
    // Whoever the program is may go in.
    fs::create_dir(&place)
        .and_then(|()| fs::set_permissions(&place, Permissions::from_mode(0o755)))
        .map_err(|error| failed("mkdir", &place, &error))
}

// === impl Notify ===

impl Notify {
    /// Listens for a container that was made with a place to tell it, if somebody wants to know.
    pub(crate) fn listen(directory: &Directory) -> Result<Option<Self>> {
        let Some(host) = asked().filter(|_| directory.notify().is_dir()) else { return Ok(None) };
        let path = directory.notify().join(NAME);
        let own = UnixDatagram::bind(&path).map_err(|error| failed("bind", &path, &error))?;
        fs::set_permissions(&path, Permissions::from_mode(0o777))
            .and_then(|()| own.set_nonblocking(true))
            .map_err(|error| failed("chmod", &path, &error))?;
        Ok(Some(Self { own, host }))
    }

    /// Passes on what is there; whether it was that the program is ready. `main` is the process to be watched, if it is
    /// not ours.
    pub(crate) fn pass_on(&self, main: Option<i32>) -> Result<bool> {
        let mut bytes = [0_u8; LONGEST];
        let length = match self.own.recv(&mut bytes) {
            Ok(length) => length,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(Error::system(format!("recv from the container: {error}"))),
        };
        let Some(ready) = readiness(&bytes[..length]) else { return Ok(false) };
        let main = main.map(|pid| format!("MAINPID={pid}\n")).unwrap_or_default();
        let socket = self.connect()?;
        let sent = socket.send(format!("{main}{ready}\n").as_bytes());
        sent.map_err(|error| failed("send to", Path::new(&self.host), &error))?;
        if !main.is_empty() {
            wait_until_read(&socket);
        }
        Ok(true)
    }

    /// Waits until the program is ready, or has ended.
    pub(crate) fn wait(&self, main: i32, ended: BorrowedFd<'_>) -> Result<()> {
        loop {
            let mut fds =
                [PollFd::new(&self.own, PollFlags::IN), PollFd::from_borrowed_fd(ended, PollFlags::IN)];
            match poll(&mut fds, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(Error::system(format!("poll: {error}"))),
            }
            // One that was ready and ended at once was ready.
            if self.pass_on(Some(main))? || !fds[1].revents().is_empty() {
                return Ok(());
            }
        }
    }

    fn connect(&self) -> Result<UnixDatagram> {
        let connected = address(&self.host).and_then(|address| {
            let socket = UnixDatagram::unbound()?;
            socket.connect_addr(&address)?;
            Ok(socket)
        });
        connected.map_err(|error| failed("connect to NOTIFY_SOCKET", Path::new(&self.host), &error))
    }
}

impl AsFd for Notify {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.own.as_fd()
    }
}

/// A path, or a name with `@` before it.
fn address(name: &OsStr) -> std::io::Result<SocketAddr> {
    match name.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(name),
    }
}

/// The line that says so.
fn readiness(message: &[u8]) -> Option<&str> {
    let line = message.split(|byte| *byte == b'\n').find(|line| line.starts_with(b"READY="))?;
    std::str::from_utf8(line).ok()
}

/// The manager looks up who told it: we stay until it has read (`BARRIER=1`), which older ones never say.
fn wait_until_read(socket: &UnixDatagram) {
    let Ok((mut reader, writer)) = std::io::pipe() else { return };
    if socket::send_on(socket.as_fd(), "BARRIER=1", writer.as_fd()).is_err() {
        return;
    }
    drop(writer);
    let patience = rustix::fs::Timespec { tv_sec: 5, tv_nsec: 0 };
    if matches!(poll(&mut [PollFd::new(&reader, PollFlags::IN)], Some(&patience)), Ok(1)) {
        let _ = reader.read(&mut [0]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_readiness_is_passed_on() {
        assert_eq!(readiness(b"STATUS=a\nREADY=1\nMAINPID=1"), Some("READY=1"));
        for message in [&b"MAINPID=1\nSTOPPING=1"[..], b"", b"XREADY=1", b"READY=\xff"] {
            assert_eq!(readiness(message), None, "{message:?}");
        }
    }

    #[test]
    fn a_name_is_a_path_or_abstract() {
        assert!(address(OsStr::new("/run/x")).unwrap().as_pathname().is_some());
        assert_eq!(address(OsStr::new("@x")).unwrap().as_abstract_name(), Some(&b"x"[..]));
    }

    #[test]
    fn the_process_to_watch_is_told_with_readiness() {
        let dir = tempfile::tempdir().unwrap();
        let (host, own) = (dir.path().join("host"), dir.path().join("own"));
        let manager = UnixDatagram::bind(&host).unwrap();
        let notify = Notify { own: UnixDatagram::bind(&own).unwrap(), host: host.into() };
        notify.own.set_nonblocking(true).unwrap();
        let program = UnixDatagram::unbound().unwrap();
        let read = || {
            let mut bytes = [0; 100];
            let length = manager.recv(&mut bytes).unwrap();
            String::from_utf8(bytes[..length].to_vec()).unwrap()
        };
        assert!(!notify.pass_on(None).unwrap(), "there is nothing");
        program.send_to(b"STATUS=x\nMAINPID=1", &own).unwrap();
        assert!(!notify.pass_on(None).unwrap());
        program.send_to(b"READY=1", &own).unwrap();
        assert!(notify.pass_on(None).unwrap());
        assert_eq!(read(), "READY=1\n");
        program.send_to(b"READY=1", &own).unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| notify.pass_on(Some(77)).unwrap());
            assert_eq!(read(), "MAINPID=77\nREADY=1\n");
            assert_eq!(read(), "BARRIER=1", "whose descriptor goes with the message");
            assert!(waiting.join().unwrap());
        });
    }
}
