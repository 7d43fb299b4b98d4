//! The monitor of one container: one thread, one loop over what may happen.
//!
//! ```text
//!              Start succeeded               first process ended                 all peers have everything
//!     Fresh ───────────────────▶ Running ────────────────────────────▶ Exited ──────────────────────────▶ (end)
//!       │                          ▲ │ signal, pause, exec, attach, …     snapshot only
//!       │ Start failed, or         └─┘
//!       │ the daemon left before it
//!       └──▶ (end)
//! ```
//!
//! At the transition to *Exited*, in this order: exit record written; cgroups destroyed, with every process in them;
//! execs that were running reported; output drained into log and peers; peers that have everything closed; `shim.sock`
//! removed; [`Event::Exited`] told. What a slow peer lacks is kept for it as long as it is connected. Of the container only
//! its snapshot is left then: a descriptor that stays ready, as that of an ended process does, would keep the loop busy.
//!
//! A turn of the loop: registrations follow the state (`register`), then events change the state. Nothing in a turn waits
//! for anybody; only the calls of [`Sandbox`] take the time they take.

mod calls;
mod connection;
mod container;
mod end;
mod peer;
mod poll;
mod start;
mod streams;

use std::io;
use std::os::fd::OwnedFd;

use rustix::event::Timespec;
use rustix::event::epoll::EventFlags;
use tare_model::sandbox::Sandbox;
use tare_model::{Error, Result};

use crate::protocol::{Event, Snapshot};
use connection::Connection;
use container::Container;
use poll::{Poller, Token};
use streams::{CHUNK, Streams};

/// See the head of this file.
pub struct Supervisor<'a> {
    sandbox: &'a dyn Sandbox,
    poller: Poller,
    connections: Vec<Connection>,
    state: State,
    /// Streams of processes that have ended, with peers that are behind.
    ended: Vec<Streams>,
    /// For connections and processes; never used again.
    next_id: u32,
    /// What is read is here until it is written. Only the part that was ever used takes memory.
    buffer: Vec<u8>,
    /// Memory is held that only a launch needed.
    unsettled: bool,
}

// There is one state, in one place: boxing the large one would gain nothing.
#[allow(clippy::large_enum_variant)]
enum State {
    Fresh,
    Failed,
    Running(Container),
    Exited(Box<Snapshot>),
}

/// How long nothing has to happen before memory is given back.
const QUIET: Timespec = Timespec { tv_sec: 0, tv_nsec: 500_000_000 };
/// How many control connections there may be at once.
const CONNECTIONS_MAX: usize = 16;

// === impl Supervisor ===

impl<'a> Supervisor<'a> {
    /// A monitor that is asked over the socket `control`.
    ///
    /// # Errors
    /// No epoll instance could be made.
    pub fn new(control: OwnedFd, sandbox: &'a dyn Sandbox) -> Result<Self> {
        let poller = Poller::new().map_err(|e| Error::system(format!("epoll_create1: {e}")))?;
        let (connections, ended, buffer) = (Vec::new(), Vec::new(), Vec::with_capacity(CHUNK));
        let mut new = Self {
            sandbox,
            poller,
            connections,
            state: State::Fresh,
            ended,
            next_id: 0,
            buffer,
            unsettled: false,
        };
        new.connect(control);
        Ok(new)
    }

    /// Runs until the container has ended and everybody has what is theirs.
    ///
    /// # Errors
    /// The loop itself failed (no memory for epoll). The container does not outlive its monitor.
    pub fn run(mut self) -> Result<()> {
        while !self.is_done() {
            self.turn().map_err(|e| Error::system(format!("epoll: {e}")))?;
        }
        self.refuse_the_rest();
        Ok(())
    }

    /// Answers what was asked too late.
    fn refuse_the_rest(&mut self) {
        for connection in &mut self.connections {
            while let Some((request, _)) = connection.receive() {
                connection.answer(request.id, Err(calls::ended()));
            }
        }
    }

    /// Gives back what launching took. Not at once: a container that ends soon need not wait for it.
    fn settle(&mut self) {
        self.unsettled = false;
        if let State::Running(container) = &mut self.state {
            container.running.settle();
        }
        tare_sys::memory::give_back();
    }

    fn turn(&mut self) -> io::Result<()> {
        self.register()?;
        let mut events = self.poller.wait(self.unsettled.then_some(&QUIET))?;
        if events.is_empty() && self.unsettled {
            self.settle();
            // At once, so that nothing but waiting brings pages back.
            events = self.poller.wait(None)?;
        }
        for (token, flags) in events {
            self.on_event(token, flags);
        }
        self.connections.retain(|connection| !connection.is_closed());
        Ok(())
    }

    fn is_done(&self) -> bool {
        let told = self.connections.iter().all(Connection::is_flushed);
        match self.state {
            State::Fresh => self.connections.is_empty(),
            State::Running(_) => false,
            State::Failed => told,
            State::Exited(_) => told && self.ended.is_empty(),
        }
    }

    fn register(&mut self) -> io::Result<()> {
        self.connections.retain_mut(|connection| connection.register(&self.poller).is_ok());
        if let State::Running(container) = &mut self.state {
            container.register(&self.poller)?;
        }
        for streams in &mut self.ended {
            streams.register(&self.poller)?;
        }
        Ok(())
    }

    fn on_event(&mut self, token: Token, flags: EventFlags) {
        match token {
            Token::Control(id) => self.on_connection(id),
            Token::Listener => self.on_listener(),
            Token::Oom => self.on_oom(),
            Token::Exit(id) => self.on_exit(id),
            Token::Output(id, which) => self.on_output(id, which),
            Token::Input(id) => {
                if let Some(streams) = self.streams(id) {
                    streams.on_input();
                }
            }
            Token::Peer(id, number) => self.on_peer(id, number, flags),
        }
    }

    fn on_connection(&mut self, id: u32) {
        let Some(connection) = self.connections.iter_mut().find(|c| c.id == id) else { return };
        connection.flush();
        let Some((request, given)) = connection.receive() else { return };
        let result = self.call(id, request.call, given);
        if let Some(connection) = self.connections.iter_mut().find(|c| c.id == id) {
            connection.answer(request.id, result);
        }
    }

    fn on_listener(&mut self) {
        let State::Running(container) = &self.state else { return };
        if let Some(socket) = container.accept()
            && self.connections.len() < CONNECTIONS_MAX
        {
            self.connect(socket);
        }
    }

    fn on_oom(&mut self) {
        let State::Running(container) = &mut self.state else { return };
        if container.look_for_oom() {
            self.tell(&Event::Oom);
        }
    }

    fn on_output(&mut self, id: u32, which: u32) {
        let State::Running(container) = &mut self.state else { return };
        if let Some((streams, log)) = container.streams_and_log(id) {
            streams.on_output(which, &mut self.buffer, log);
            self.log_grew();
        }
    }

    fn on_peer(&mut self, id: u32, number: u32, flags: EventFlags) {
        let mut buffer = std::mem::take(&mut self.buffer);
        if let Some(streams) = self.streams(id) {
            streams.on_peer(number, flags, &mut buffer);
        }
        self.buffer = buffer;
        self.ended.retain_mut(|streams| !streams.release());
    }

    /// Streams of a process, of one that has ended too.
    fn streams(&mut self, id: u32) -> Option<&mut Streams> {
        if let State::Running(container) = &mut self.state
            && let Some((streams, _)) = container.streams_and_log(id)
        {
            return Some(streams);
        }
        self.ended.iter_mut().find(|streams| streams.id() == id)
    }

    fn connect(&mut self, socket: OwnedFd) {
        let id = self.fresh_id();
        self.connections.push(Connection::new(id, socket, std::process::id().cast_signed()));
    }

    fn fresh_id(&mut self) -> u32 {
        self.next_id += 1;
        self.next_id
    }

    fn tell(&mut self, event: &Event) {
        self.connections.iter_mut().for_each(|connection| connection.tell(event));
    }

    /// Tells those who watch, once.
    fn log_grew(&mut self) {
        let State::Running(container) = &mut self.state else { return };
        if container.take_log_grew() {
            for connection in self.connections.iter_mut().filter(|connection| connection.watching) {
                connection.watching = false;
                connection.tell(&Event::LogGrew);
            }
        }
    }
}

/// Nanoseconds since the epoch.
fn now() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
}
