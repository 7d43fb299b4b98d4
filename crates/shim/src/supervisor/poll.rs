//! What the loop waits for.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;

/// Whom an event is for. Ids are never used again, so an event for someone who is gone finds nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// A later daemon connects.
    Listener,
    /// The kernel may have killed for lack of memory.
    Oom,
    /// A control connection, by its id.
    Control(u32),
    /// The end of the process with this id.
    Exit(u32),
    /// Output of a process, by stream.
    Output(u32, u32),
    /// Room in the standard input of a process.
    Input(u32),
    /// An attached peer of a process, by its own number.
    Peer(u32, u32),
}

/// What is registered for one descriptor at the moment.
#[derive(Debug, Default)]
pub(super) struct Registration(Option<EventFlags>);

/// An epoll instance.
pub(super) struct Poller {
    epoll: OwnedFd,
    events: Vec<Event>,
}

// === impl Token ===

const OWNER_BITS: u32 = 32;
const NUMBER_BITS: u32 = 24;

impl Token {
    fn encode(self) -> u64 {
        let (kind, owner, number) = match self {
            Self::Listener => (0, 0, 0),
            Self::Oom => (1, 0, 0),
            Self::Control(id) => (2, id, 0),
            Self::Exit(id) => (3, id, 0),
            Self::Output(id, stream) => (4, id, stream),
            Self::Input(id) => (5, id, 0),
            Self::Peer(id, number) => (6, id, number),
        };
        let number = u64::from(number) & ((1 << NUMBER_BITS) - 1);
        kind << (OWNER_BITS + NUMBER_BITS) | number << OWNER_BITS | u64::from(owner)
    }

    fn decode(bits: u64) -> Option<Self> {
        let owner = bits as u32;
        let number = (bits >> OWNER_BITS) as u32 & ((1 << NUMBER_BITS) - 1);
        Some(match bits >> (OWNER_BITS + NUMBER_BITS) {
            0 => Self::Listener,
            1 => Self::Oom,
            2 => Self::Control(owner),
            3 => Self::Exit(owner),
            4 => Self::Output(owner, number),
            5 => Self::Input(owner),
            6 => Self::Peer(owner, number),
            _ => return None,
        })
    }
}

// === impl Poller ===

impl Poller {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { epoll: epoll::create(CreateFlags::CLOEXEC)?, events: Vec::new() })
    }

    /// Waits for events of `fd` as `wanted` says. `None` is nothing at all: with empty flags the kernel would still tell,
    /// again and again, that the other side has gone.
    pub(super) fn set(
        &self,
        fd: impl AsFd,
        token: Token,
        registration: &mut Registration,
        wanted: Option<EventFlags>,
    ) -> io::Result<()> {
        if registration.0 == wanted {
            return Ok(());
        }
        let data = EventData::new_u64(token.encode());
        match (registration.0, wanted) {
            (None, Some(flags)) => epoll::add(&self.epoll, fd, data, flags)?,
            (Some(_), Some(flags)) => epoll::modify(&self.epoll, fd, data, flags)?,
            (Some(_), None) => epoll::delete(&self.epoll, fd)?,
            (None, None) => {}
        }
        registration.0 = wanted;
        Ok(())
    }

    /// Waits, and gives what has happened; nothing if that was nothing within `limit`.
    pub(super) fn wait(&mut self, limit: Option<&Timespec>) -> io::Result<Vec<(Token, EventFlags)>> {
        self.events.clear();
        self.events.reserve(16);
        match epoll::wait(&self.epoll, spare_capacity(&mut self.events), limit) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
        let decode = |event: &Event| Some((Token::decode(event.data.u64())?, event.flags));
        Ok(self.events.iter().filter_map(decode).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_token_comes_back_as_it_went_out() {
        let ids = [0, 1, u32::MAX];
        let all = ids.into_iter().flat_map(|id| {
            [
                Token::Control(id),
                Token::Exit(id),
                Token::Output(id, 1),
                Token::Input(id),
                Token::Peer(id, 70_000),
            ]
        });
        for token in all.chain([Token::Listener, Token::Oom]) {
            assert_eq!(Token::decode(token.encode()), Some(token));
        }
    }
}
