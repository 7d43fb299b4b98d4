//! A control connection: requests come in one at a time, replies and events go out in order.
//!
//! Nothing piles up: as long as something waits to be sent, no request is taken. Events come from what was asked for (an
//! exec, a watch) or happen once; only a container that runs out of memory again and again could tell without end, and is
//! told of once until everything was taken.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::epoll::EventFlags;
use rustix::net::SocketType;
use serde::Deserialize;
use tare_model::{Error, Result};

use super::poll::{Poller, Registration, Token};
use crate::protocol::{self, Answer, Event, FdRole, Message, Request, VERSION};
use crate::wire::{Incoming, Outgoing};

/// See the head of this file.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) id: u32,
    /// It wants to know when the log grows.
    pub(super) watching: bool,
    socket: OwnedFd,
    queue: VecDeque<Outgoing>,
    /// [`Event::Oom`] is or was among what waits.
    oom_told: bool,
    closed: bool,
    registration: Registration,
}

/// Descriptors that came with a request.
#[derive(Debug, Default)]
pub(super) struct Given {
    /// Sockets of attachments.
    pub(super) streams: Vec<OwnedFd>,
    /// The end of the door that is the container's.
    pub(super) network: Option<OwnedFd>,
    /// What is to outlive the daemon.
    pub(super) kept: Option<OwnedFd>,
}

/// What every request has, in every version.
#[derive(Deserialize)]
struct Head {
    version: u32,
    id: u64,
}

// === impl Connection ===

impl Connection {
    /// Greets the peer at the other end of `socket`.
    pub(super) fn new(id: u32, socket: OwnedFd, shim_pid: i32) -> Self {
        let (queue, registration) = (VecDeque::new(), Registration::default());
        let mut connection =
            Self { id, watching: false, socket, queue, oom_told: false, closed: false, registration };
        connection.post(&Message::Hello { version: VERSION, shim_pid });
        connection
    }

    pub(super) fn tell(&mut self, event: &Event) {
        let oom = *event == Event::Oom;
        if oom && self.oom_told {
            return;
        }
        self.post(&Message::Event(event.clone()));
        self.oom_told |= oom && !self.queue.is_empty();
    }

    pub(super) fn answer(&mut self, id: u64, result: Result<(Answer, Vec<OwnedFd>)>) {
        let (result, fds) = match result {
            Ok((answer, fds)) => (Ok(answer), fds),
            Err(error) => (Err(error), Vec::new()),
        };
        self.post_with(&Message::Reply { id, result }, fds);
    }

    /// The next request with its descriptors; refuses by itself what cannot be understood.
    pub(super) fn receive(&mut self) -> Option<(Request, Given)> {
        if self.closed || !self.queue.is_empty() {
            return None;
        }
        match Incoming::receive(self.socket.as_fd()) {
            Ok(Some(packet)) => self.understand(packet),
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => None,
            Ok(None) | Err(_) => {
                self.closed = true;
                None
            }
        }
    }

    fn understand(&mut self, packet: Incoming) -> Option<(Request, Given)> {
        let Ok(head) = packet.parse::<Head>() else {
            // Whom an answer would be for is not known: this peer does not speak the protocol.
            self.closed = true;
            return None;
        };
        let understood = protocol::check_version(head.version).and_then(|()| {
            let request = packet.parse::<Request>().map_err(|e| Error::unsupported(e.message()))?;
            let given = Given::sort(&request, packet.fds)?;
            Ok((request, given))
        });
        match understood {
            Ok(understood) => Some(understood),
            Err(e) => {
                self.answer(head.id, Err(e));
                None
            }
        }
    }

    /// Sends what waits.
    pub(super) fn flush(&mut self) {
        while let Some(packet) = self.queue.front() {
            match packet.send(self.socket.as_fd()) {
                Ok(()) => drop(self.queue.pop_front()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => {
                    self.closed = true;
                    return;
                }
            }
        }
        self.oom_told = false;
    }

    /// Whether everything was sent.
    pub(super) fn is_flushed(&self) -> bool {
        self.queue.is_empty()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    pub(super) fn register(&mut self, poller: &Poller) -> io::Result<()> {
        let wanted = if self.queue.is_empty() { EventFlags::IN } else { EventFlags::OUT };
        poller.set(&self.socket, Token::Control(self.id), &mut self.registration, Some(wanted))
    }

    fn post(&mut self, message: &Message) {
        self.post_with(message, Vec::new());
    }

    fn post_with(&mut self, message: &Message, fds: Vec<OwnedFd>) {
        let packet = Outgoing::new(message, fds).or_else(|e| match message {
            // Too long, or no memfd to be had: then say that.
            Message::Reply { id, .. } => {
                Outgoing::new(&Message::Reply { id: *id, result: Err(e) }, Vec::new())
            }
            _ => Err(e),
        });
        match packet {
            Ok(packet) => self.queue.push_back(packet),
            // A reply or an event would be missing; the peer must not wait for it.
            Err(_) => self.closed = true,
        }
        self.flush();
    }
}

// === impl Given ===

impl Given {
    /// Each by its role.
    fn sort(request: &Request, fds: Vec<OwnedFd>) -> Result<Self> {
        let wrong = |what: String| Error::invalid(format!("request {}: {what}", request.id));
        if request.fds.len() != fds.len() {
            let what = format!("{} descriptors with the roles {:?}", fds.len(), request.fds);
            return Err(wrong(format!("{what}; want as many")));
        }
        let mut given = Self::default();
        for (role, fd) in request.fds.iter().zip(fds) {
            let kind = rustix::net::sockopt::socket_type(&fd);
            match (role, kind) {
                (FdRole::Stream, Ok(SocketType::STREAM)) => given.streams.push(fd),
                (FdRole::Network, Ok(SocketType::SEQPACKET)) if given.network.is_none() => {
                    given.network = Some(fd);
                }
                (FdRole::Keep, Ok(_)) if given.kept.is_none() => given.kept = Some(fd),
                _ => return Err(wrong(format!("a descriptor that came along is no {role:?}"))),
            }
        }
        Ok(given)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn news_of_memory_do_not_pile_up_for_a_daemon_that_is_stopped() {
        let (daemon, ours) = crate::wire::pair().expect("pair");
        rustix::net::sockopt::set_socket_send_buffer_size(&ours, 4096).expect("sets");
        let mut connection = Connection::new(1, ours, 7);
        for _ in 0..1_000 {
            connection.tell(&Event::Oom);
        }
        assert_eq!(connection.queue.len(), 1);
        let heard = |connection: &mut Connection| {
            let mut heard = 0;
            while let Ok(Some(packet)) = Incoming::receive(daemon.as_fd()) {
                heard += u32::from(packet.parse::<Message>() == Ok(Message::Event(Event::Oom)));
                connection.flush();
            }
            heard
        };
        assert!(heard(&mut connection) > 0 && connection.is_flushed());
        connection.tell(&Event::Oom);
        assert_eq!(heard(&mut connection), 1, "what happens later is told again");
    }
}
