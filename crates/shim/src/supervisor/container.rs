//! A container that runs: its processes, its log, its record, and the door for later daemons.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;

use rustix::event::epoll::EventFlags;
use rustix::fs::AtFlags;
use rustix::net::SocketFlags;
use tare_model::sandbox::{NetworkSockets, Running, Stats};
use tare_model::{ContainerId, Error, ExecId, Result};

use super::now;
use super::poll::{Poller, Registration, Token};
use super::streams::{Log, NoLog, Streams};
use crate::protocol::{ENDED_EXECS, ExecExit, RunningExec, Snapshot, Started};
use crate::{logs, record};

/// Name of the control socket in the container's run directory.
pub(super) const SOCKET: &str = "shim.sock";

/// See the head of this file.
pub(super) struct Container {
    pub(super) id: ContainerId,
    pub(super) started: Started,
    pub(super) running: Box<dyn Running>,
    pub(super) init: Process,
    pub(super) execs: Vec<Exec>,
    pub(super) ended_execs: VecDeque<ExecExit>,
    pub(super) paused: bool,
    pub(super) oom_killed: bool,
    pub(super) record: record::Writer,
    pub(super) log: ContainerLog,
    pub(super) no_log: NoLog,
    /// Kept for every daemon that comes.
    pub(super) network: Option<NetworkSockets>,
    /// The daemon's, for the next one.
    pub(super) kept: Option<OwnedFd>,
    pub(super) door: Door,
    pub(super) oom: Registration,
    pub(super) terminal: bool,
}

/// A process and its streams.
pub(super) struct Process {
    pub(super) pid: i32,
    pub(super) pidfd: OwnedFd,
    pub(super) streams: Streams,
    pub(super) ending: Registration,
}

/// A further process.
pub(super) struct Exec {
    pub(super) exec: ExecId,
    pub(super) process: Process,
}

/// The log, and whether it has grown.
pub(super) struct ContainerLog {
    pub(super) writer: logs::Writer,
    pub(super) grew: bool,
}

/// Where a daemon that comes back knocks.
pub(super) struct Door {
    pub(super) directory: OwnedFd,
    pub(super) listener: Option<OwnedFd>,
    pub(super) registration: Registration,
}

impl Log for ContainerLog {
    fn append(&mut self, stream: logs::Stream, bytes: &[u8]) {
        self.writer.append(stream, now(), bytes);
        self.grew = true;
    }
}

// === impl Container ===

impl Container {
    /// Streams of a process that runs, and where its output is kept.
    pub(super) fn streams_and_log(&mut self, id: u32) -> Option<(&mut Streams, &mut dyn Log)> {
        if self.init.streams.id() == id {
            return Some((&mut self.init.streams, &mut self.log));
        }
        let exec = self.execs.iter_mut().find(|exec| exec.process.streams.id() == id)?;
        Some((&mut exec.process.streams, &mut self.no_log))
    }

    pub(super) fn exec_mut(&mut self, exec: &ExecId) -> Result<&mut Process> {
        let found = self.execs.iter_mut().find(|running| running.exec == *exec);
        found.map(|running| &mut running.process).ok_or_else(|| {
            let ended = self.ended_execs.iter().any(|ended| ended.exec == *exec);
            let error = if ended { Error::conflict } else { Error::not_found };
            error(format!("exec {exec} is not running in container {}", self.id))
        })
    }

    pub(super) fn stats(&self) -> Result<Stats> {
        self.running.stats()
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        let running = |exec: &Exec| RunningExec { exec: exec.exec.clone(), pid: exec.process.pid };
        Snapshot {
            container: self.id.clone(),
            started: self.started,
            paused: self.paused,
            oom_killed: self.oom_killed,
            exited: None,
            execs: self.execs.iter().map(running).collect(),
            ended_execs: self.ended_execs.iter().cloned().collect(),
            log_dropped: self.log.writer.dropped(),
        }
    }

    pub(super) fn remember(&mut self, exit: ExecExit) {
        if self.ended_execs.len() == ENDED_EXECS {
            self.ended_execs.pop_front();
        }
        self.ended_execs.push_back(exit);
    }

    /// Whether the kernel has killed for lack of memory since this was asked last.
    pub(super) fn look_for_oom(&mut self) -> bool {
        let killed = self.running.oom_killed();
        self.oom_killed |= killed;
        killed
    }

    pub(super) fn take_log_grew(&mut self) -> bool {
        std::mem::take(&mut self.log.grew)
    }

    /// A connection from a process of our own user.
    pub(super) fn accept(&self) -> Option<OwnedFd> {
        let listener = self.door.listener.as_ref()?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::accept_with(listener, flags).ok()?;
        let peer = rustix::net::sockopt::socket_peercred(&socket).ok()?;
        (peer.uid == rustix::process::geteuid()).then_some(socket)
    }

    pub(super) fn register(&mut self, poller: &Poller) -> io::Result<()> {
        if let Some(listener) = &self.door.listener {
            poller.set(listener, Token::Listener, &mut self.door.registration, Some(EventFlags::IN))?;
        }
        if let Some(oom) = self.running.oom_fd() {
            // An eventfd is readable when the kernel counted; a cgroup's events file has news to be told by PRI.
            let flags = EventFlags::IN | EventFlags::PRI;
            poller.set(oom, Token::Oom, &mut self.oom, Some(flags))?;
        }
        let execs = self.execs.iter_mut().map(|exec| &mut exec.process);
        for process in std::iter::once(&mut self.init).chain(execs) {
            let token = Token::Exit(process.streams.id());
            poller.set(&process.pidfd, token, &mut process.ending, Some(EventFlags::IN))?;
            process.streams.register(poller)?;
        }
        Ok(())
    }
}

// === impl Door ===

impl Door {
    /// Lets nobody in any more and leaves the name to a later monitor.
    pub(super) fn shut(&mut self) {
        if self.listener.take().is_some() {
            // It may have been removed with its directory.
            let _ = rustix::fs::unlinkat(&self.directory, SOCKET, AtFlags::empty());
        }
    }
}
