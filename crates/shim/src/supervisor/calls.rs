//! What a shim does when it is asked.

use std::os::fd::{AsFd, OwnedFd};

use tare_model::sandbox::WindowSize;
use tare_model::{Error, ExecId, Result, Signal};

use super::connection::Given;
use super::container::{Container, Exec};
use super::start::{pipes, process, start};
use super::streams::Streams;
use super::{State, Supervisor};
use crate::protocol::{Answer, Call, ExecRequest, StartRequest, Streams as Wants};

// === impl Supervisor ===

impl Supervisor<'_> {
    /// Does what was asked over the connection `from`.
    pub(super) fn call(&mut self, from: u32, call: Call, given: Given) -> Result<(Answer, Vec<OwnedFd>)> {
        let none = |answer| (answer, Vec::new());
        match call {
            Call::Start(request) => self.start(*request, given).map(none),
            Call::Network => self.network(),
            Call::Keep => self.keep(given.kept).map(none),
            Call::Kept => self.kept(),
            call => self.answer(from, call, given.streams).map(none),
        }
    }

    fn answer(&mut self, from: u32, call: Call, mut streams: Vec<OwnedFd>) -> Result<Answer> {
        match call {
            Call::Snapshot => return self.snapshot(),
            Call::WatchLog => return self.watch_log(from),
            Call::Exec(request) => return self.exec(*request, streams),
            _ => {}
        }
        let container = self.running()?;
        match call {
            Call::Signal { signal, exec } => container.signal(signal, exec.as_ref())?,
            Call::Pause => container.pause()?,
            Call::Resume => container.resume()?,
            Call::Resize { size, exec } => container.resize(size, exec.as_ref())?,
            Call::Attach { streams: wants } => container.attach(wants, streams.pop())?,
            Call::Stats => return container.stats().map(|stats| Answer::Stats(Box::new(stats))),
            Call::Update(resources) => return container.running.update(&resources).map(Answer::Updated),
            Call::Processes => return container.running.processes().map(Answer::Processes),
            Call::Start(_)
            | Call::Network
            | Call::Keep
            | Call::Kept
            | Call::Snapshot
            | Call::WatchLog
            | Call::Exec(_) => {}
        }
        Ok(Answer::Done)
    }

    fn start(&mut self, request: StartRequest, given: Given) -> Result<Answer> {
        if !matches!(self.state, State::Fresh) {
            return Err(Error::conflict("this monitor has been asked to start a container before"));
        }
        // Whatever happens, there is no second attempt.
        self.state = State::Failed;
        let id = self.fresh_id();
        let container = start(self.sandbox, id, request, given)?;
        let started = container.started;
        (self.state, self.unsettled) = (State::Running(container), true);
        Ok(Answer::Started(started))
    }

    fn snapshot(&self) -> Result<Answer> {
        match &self.state {
            State::Running(container) => Ok(Answer::Snapshot(Box::new(container.snapshot()))),
            State::Exited(snapshot) => Ok(Answer::Snapshot(snapshot.clone())),
            State::Fresh | State::Failed => Err(nothing_runs()),
        }
    }

    /// Copies of the sockets; the container's own stay here.
    fn network(&mut self) -> Result<(Answer, Vec<OwnedFd>)> {
        let sockets = self.running()?.network.as_ref().ok_or_else(|| {
            Error::not_found("the container has no network namespace that was set up from outside")
        })?;
        let copies: std::io::Result<Vec<OwnedFd>> =
            sockets.descriptors().iter().map(|fd| fd.try_clone_to_owned()).collect();
        let copies = copies.map_err(|e| Error::system(format!("dup of a network socket: {e}")))?;
        Ok((Answer::Done, copies))
    }

    fn keep(&mut self, given: Option<OwnedFd>) -> Result<Answer> {
        let given = given.ok_or_else(|| Error::invalid("keep: nothing to be kept came along"))?;
        self.running()?.kept = Some(given);
        Ok(Answer::Done)
    }

    fn kept(&mut self) -> Result<(Answer, Vec<OwnedFd>)> {
        let nothing = || Error::not_found("nothing was given to this monitor to be kept");
        let kept = self.running()?.kept.as_ref().ok_or_else(nothing)?;
        let copy = kept.try_clone().map_err(|e| Error::system(format!("dup of what is kept: {e}")))?;
        Ok((Answer::Done, vec![copy]))
    }

    fn watch_log(&mut self, from: u32) -> Result<Answer> {
        self.running()?;
        if let Some(connection) = self.connections.iter_mut().find(|connection| connection.id == from) {
            connection.watching = true;
        }
        Ok(Answer::Done)
    }

    fn exec(&mut self, request: ExecRequest, mut peers: Vec<OwnedFd>) -> Result<Answer> {
        let id = self.fresh_id();
        let container = self.running()?;
        container.may_exec(&request.exec)?;
        let wants = if peers.is_empty() { Wants::default() } else { request.streams };
        let (mut streams, stdio) = match request.terminal {
            Some(size) => Streams::terminal(id, size),
            None => pipes(id, wants, true)?,
        };
        if let Some(peer) = peers.pop() {
            streams.attach(peer, wants, request.terminal.is_none());
        }
        let launched = container.running.exec(&request.spec, stdio)?;
        let pid = launched.pid;
        let process = process(streams, launched)?;
        container.execs.push(Exec { exec: request.exec, process });
        self.unsettled = true;
        Ok(Answer::ExecStarted { pid })
    }

    fn running(&mut self) -> Result<&mut Container> {
        match &mut self.state {
            State::Running(container) => Ok(container),
            State::Exited(_) => Err(ended()),
            State::Fresh | State::Failed => Err(nothing_runs()),
        }
    }
}

/// The answer to whatever is asked after the end.
pub(super) fn ended() -> Error {
    Error::conflict("the container has ended")
}

fn nothing_runs() -> Error {
    Error::conflict("this monitor has no running container")
}

// === impl Container ===

impl Container {
    fn signal(&mut self, signal: Signal, exec: Option<&ExecId>) -> Result<()> {
        if let Some(exec) = exec {
            let process = self.exec_mut(exec)?;
            return tare_sys::pidfd::send_signal(process.pidfd.as_fd(), signal.number())
                .map_err(|e| Error::system(format!("pidfd_send_signal(exec {exec}, {signal}): {e}")));
        }
        self.running.signal(signal)?;
        // A frozen process dies when it thaws.
        if self.paused && signal == Signal::KILL {
            self.resume()?;
        }
        Ok(())
    }

    fn pause(&mut self) -> Result<()> {
        self.running.pause()?;
        self.paused = true;
        Ok(())
    }

    fn resume(&mut self) -> Result<()> {
        self.running.resume()?;
        self.paused = false;
        Ok(())
    }

    fn resize(&mut self, size: WindowSize, exec: Option<&ExecId>) -> Result<()> {
        let streams = match exec {
            Some(exec) => &self.exec_mut(exec)?.streams,
            None => &self.init.streams,
        };
        let done = streams.resize(size).ok_or_else(|| {
            let whose = exec.map_or(format!("container {}", self.id), |exec| format!("exec {exec}"));
            Error::conflict(format!("{whose} has no terminal to resize"))
        })?;
        done.map_err(|e| Error::system(format!("ioctl(TIOCSWINSZ, {}x{}): {e}", size.columns, size.rows)))
    }

    fn attach(&mut self, wants: Wants, peer: Option<OwnedFd>) -> Result<()> {
        let peer = peer.ok_or_else(|| Error::invalid("attach: no socket came along"))?;
        self.init.streams.attach(peer, wants, !self.terminal);
        Ok(())
    }

    fn may_exec(&self, exec: &ExecId) -> Result<()> {
        if self.paused {
            return Err(Error::conflict(format!("container {} is paused, unpause it before exec", self.id)));
        }
        let running = self.execs.iter().map(|running| &running.exec);
        let ended = self.ended_execs.iter().map(|ended| &ended.exec);
        if running.chain(ended).any(|known| known == exec) {
            return Err(Error::conflict(format!("exec {exec} has been started before")));
        }
        Ok(())
    }
}
