//! From a `Start` to a container that runs.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use tare_model::sandbox::{Launched, NetworkSockets, Running, Sandbox, Stdio};
use tare_model::{ContainerId, Error, Result};

use super::connection::Given;
use super::container::{Container, ContainerLog, Door, Process, SOCKET};
use super::now;
use super::poll::Registration;
use super::streams::{NoLog, Streams, Wanted};
use crate::protocol::{StartRequest, Started};
use crate::{logs, record, wire};

/// What a launch gives.
struct Begun {
    running: Box<dyn Running>,
    init: Process,
    log: ContainerLog,
    network: Option<NetworkSockets>,
}

/// Launches a container, whose first process has the id `id` in the loop.
pub(super) fn start(
    sandbox: &dyn Sandbox,
    id: u32,
    request: StartRequest,
    Given { streams: peers, network, kept }: Given,
) -> Result<Container> {
    let name = request.spec.id.clone();
    if peers.len() != request.attach.len() {
        let counts = format!("{} attachments, {} sockets", request.attach.len(), peers.len());
        return Err(Error::invalid(format!("start of container {name}: {counts}")));
    }
    let door = open_door(&name, &request.run_dir)?;
    let shim_pid = std::process::id().cast_signed();
    let mut record = record::Writer::create(&door.directory, shim_pid)?;
    match launch(sandbox, id, &request, peers, network) {
        Ok(Begun { running, init, log, network }) => {
            let started = Started { pid: init.pid, shim_pid, started_at: now() };
            let container = Container {
                id: name,
                started,
                running,
                init,
                execs: Vec::new(),
                ended_execs: std::collections::VecDeque::new(),
                paused: false,
                oom_killed: false,
                record,
                log,
                no_log: NoLog,
                network,
                kept,
                door,
                oom: Registration::default(),
                terminal: request.stdio.terminal.is_some(),
            };
            note_start(container)
        }
        Err(error) => {
            // The caller gets the error; the record is for a daemon that did not live to see it.
            let _ = record.write(record::State::Failed { error: error.clone() });
            let mut door = door;
            door.shut();
            Err(error)
        }
    }
}

/// Records that the container runs. Without a record it must not: a later daemon would take it for one that never ran.
fn note_start(mut container: Container) -> Result<Container> {
    let Started { pid, started_at, .. } = container.started;
    match container.record.write(record::State::Running { pid, started_at }) {
        Ok(()) => Ok(container),
        Err(error) => {
            container.door.shut();
            let destroyed = container.running.destroy().map_err(|e| e.context("and then"));
            Err(destroyed.err().map_or(error.clone(), |e| e.context(&error)))
        }
    }
}

fn launch(
    sandbox: &dyn Sandbox,
    id: u32,
    request: &StartRequest,
    peers: Vec<OwnedFd>,
    door: Option<OwnedFd>,
) -> Result<Begun> {
    let writer = logs::Writer::open(&request.log, now())?;
    let (mut streams, stdio) = match request.stdio.terminal {
        Some(size) => Streams::terminal(id, size),
        None => {
            let wanted = Wanted { stdin: request.stdio.open_stdin, stdout: true, stderr: true };
            pipes(id, wanted, request.stdio.stdin_once)?
        }
    };
    for (wants, socket) in request.attach.iter().zip(peers) {
        streams.attach(socket, *wants, request.stdio.terminal.is_none());
    }
    let (mut running, mut launched) = sandbox.launch(&request.spec, stdio, door)?;
    let network = launched.network.take();
    match process(streams, launched) {
        Ok(init) => Ok(Begun { running, init, log: ContainerLog { writer, grew: false }, network }),
        Err(e) => {
            let _ = running.destroy();
            Err(e)
        }
    }
}

/// Pipes for a process.
pub(super) fn pipes(id: u32, wanted: Wanted, stdin_once: bool) -> Result<(Streams, Stdio)> {
    Streams::pipes(id, wanted, stdin_once)
        .map_err(|e| Error::system(format!("make the standard streams: {e}")))
}

/// Brings a process that was launched and its streams together.
pub(super) fn process(mut streams: Streams, launched: Launched) -> Result<Process> {
    if let Some(master) = launched.terminal
        && let Err(e) = streams.set_terminal(master)
    {
        // Nobody would watch over it. It may have ended by itself.
        let _ = tare_sys::pidfd::send_signal(launched.pidfd.as_fd(), tare_model::Signal::KILL.number());
        return Err(Error::system(format!("dup of the terminal's descriptor: {e}")));
    }
    Ok(Process { pid: launched.pid, pidfd: launched.pidfd, streams, ending: Registration::default() })
}

fn open_door(container: &ContainerId, run_dir: &Path) -> Result<Door> {
    let open = || -> io::Result<Door> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let directory = rustix::fs::open(run_dir, flags, Mode::empty())?;
        let listener = listen(&directory)?;
        Ok(Door { directory, listener: Some(listener), registration: Registration::default() })
    };
    open().map_err(|e| {
        let what = format!("{}/{SOCKET}", run_dir.display());
        Error::system(format!("start of container {container}: listen on {what}: {e}"))
    })
}

fn listen(directory: &OwnedFd) -> io::Result<OwnedFd> {
    match rustix::fs::unlinkat(directory, SOCKET, AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => {}
        Err(e) => return Err(e.into()),
    }
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    let address = SocketAddrUnix::new(wire::path_below(directory, SOCKET.as_ref()))?;
    rustix::net::bind(&socket, &address)?;
    rustix::fs::chmodat(directory, SOCKET, Mode::from_raw_mode(0o600), AtFlags::empty())?;
    rustix::net::listen(&socket, 8)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use rustix::process::{Pid, PidfdFlags, pidfd_open};
    use tare_model::sandbox::WindowSize;

    use super::*;

    #[test]
    fn a_process_whose_terminal_cannot_be_watched_does_not_run_on() {
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().expect("spawns");
        let pid = Pid::from_child(&child);
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).expect("opens");
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let no_terminal = rustix::fs::open("/dev/null", flags, Mode::empty()).expect("opens");
        let launched =
            Launched { pid: pid.as_raw_nonzero().get(), pidfd, terminal: Some(no_terminal), network: None };
        let (streams, _) = Streams::terminal(1, WindowSize { rows: 1, columns: 1 });
        assert!(process(streams, launched).is_err());
        assert_eq!(child.wait().expect("ends").signal(), Some(9));
    }
}
