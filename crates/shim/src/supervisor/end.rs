//! Processes end: execs one by one, the container with its first process.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::WaitIdOptions;
use tare_model::{Error, Exit, ExitRecord};

use super::container::{Container, Exec};
use super::poll::Token;
use super::streams::{NoLog, Streams};
use super::{State, Supervisor, now};
use crate::protocol::{Event, ExecExit, Snapshot};
use crate::record;

/// How long to wait for the processes that were killed, all together.
const KILLED: Duration = Duration::from_secs(2);

// === impl Supervisor ===

impl Supervisor<'_> {
    /// A pidfd says that its process has ended.
    pub(super) fn on_exit(&mut self, id: u32) {
        let State::Running(container) = &mut self.state else { return };
        if container.init.streams.id() == id {
            return self.container_ended();
        }
        let Some(at) = container.execs.iter().position(|exec| exec.process.streams.id() == id) else {
            return;
        };
        let Some(exit) = wait(container.execs[at].process.pidfd.as_fd()) else { return };
        let exec = container.execs.remove(at);
        self.exec_ended(exec, exit);
    }

    fn exec_ended(&mut self, exec: Exec, exit: Exit) {
        let mut streams = exec.process.streams;
        streams.drain(&mut self.buffer, &mut NoLog);
        self.keep_behind(streams);
        let exit = ExecExit { exec: exec.exec, exit, at: now() };
        if let State::Running(container) = &mut self.state {
            container.remember(exit.clone());
        }
        self.tell(&Event::ExecExited(exit));
    }

    /// See the order at the head of `mod.rs`.
    fn container_ended(&mut self) {
        let State::Running(container) = &mut self.state else { return };
        let Some(exit) = wait(container.init.pidfd.as_fd()) else { return };
        container.look_for_oom();
        let exit = ExitRecord { exit, at: now(), oom_killed: container.oom_killed, error: None };
        let mut leftovers = Vec::new();
        leftovers.extend(container.write_exit(&exit).err());
        leftovers.extend(container.running.destroy().err());
        let limit = Instant::now() + KILLED;
        for exec in std::mem::take(&mut container.execs) {
            let exit = wait_for_killed(exec.process.pidfd.as_fd(), limit);
            self.exec_ended(exec, exit);
        }
        self.drain_container();
        leftovers.iter().for_each(|error| self.tell(&Event::Leftovers(error.clone())));
        let mut ended = None;
        if let State::Running(mut container) = std::mem::replace(&mut self.state, State::Failed) {
            container.door.shut();
            if let Some(oom) = container.running.oom_fd() {
                // Who else holds it open would keep it registered. It cannot fail for one that is.
                let _ = self.poller.set(oom, Token::Oom, &mut container.oom, None);
            }
            let snapshot = Snapshot { exited: Some(exit.clone()), ..container.snapshot() };
            self.state = State::Exited(Box::new(snapshot));
            ended = Some(container.running);
        }
        self.tell(&Event::Exited(exit));
        // Not before: what a launch has left to be dropped takes time.
        drop(ended);
    }

    fn drain_container(&mut self) {
        let State::Running(container) = &mut self.state else { return };
        let mut streams = std::mem::replace(&mut container.init.streams, Streams::none());
        streams.drain(&mut self.buffer, &mut container.log);
        container.log.writer.finish();
        self.keep_behind(streams);
        self.log_grew();
    }

    fn keep_behind(&mut self, mut streams: Streams) {
        if !streams.release() {
            self.ended.push(streams);
        }
    }
}

impl Container {
    fn write_exit(&mut self, exit: &ExitRecord) -> Result<(), Error> {
        let (pid, started_at) = (self.started.pid, self.started.started_at);
        self.record.write(record::State::Exited { pid, started_at, exit: exit.clone() })
    }
}

/// How the process ended; `None` if it has not.
fn wait(pidfd: BorrowedFd<'_>) -> Option<Exit> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    match tare_sys::pidfd::wait(pidfd, options) {
        Ok(None) => None,
        Ok(Some(status)) => Some(match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => Exit::Code(code as u8),
            (None, Some(signal)) => Exit::Signal(signal as u8),
            (None, None) => return None,
        }),
        Err(rustix::io::Errno::INTR) => None,
        // Somebody else has waited for it, which nobody may: how it ended is lost, that it ended is not.
        Err(_) => Some(Exit::Signal(9)),
    }
}

/// As [`wait`], for a process that was just killed.
fn wait_for_killed(pidfd: BorrowedFd<'_>, limit: Instant) -> Exit {
    let left = limit.saturating_duration_since(Instant::now());
    let left = Timespec::try_from(left).unwrap_or(Timespec { tv_sec: 0, tv_nsec: 0 });
    let _ = rustix::event::poll(&mut [PollFd::from_borrowed_fd(pidfd, PollFlags::IN)], Some(&left));
    wait(pidfd).unwrap_or(Exit::Signal(9))
}
