//! What outlives the daemon in the hands of others: descriptors on their way through a socket that nobody reads.
//!
//! Monitors of containers keep one descriptor, and what that holds may change afterwards:
//!
//! ```text
//!   what monitors keep ─▶ [ the tables' owner, the ends of a second socket ]     sent once, and never read but by peeking
//!                                               │
//!                                               └▶ [ hooks and maps of `::1` ]   sent anew whenever they change
//! ```
//!
//! With the last copy of the outer socket all of it is closed. A daemon that dies between reading and sending what is in
//! the second loses that alone, and the next makes it anew.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use tare_model::error::{Error, Result};

/// Descriptors in one message, at most.
const MOST: usize = 8;

#[derive(Debug)]
pub(super) struct Keep {
    /// What others keep.
    outer: OwnedFd,
    /// What changes is read here, and written there.
    inner: (OwnedFd, OwnedFd),
}

// === impl Keep ===

impl Keep {
    /// Holds the tables' owner from now on.
    pub(super) fn new(owner: BorrowedFd<'_>) -> Result<Self> {
        let pair = || {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
                .map_err(|error| failed("socketpair(AF_UNIX, SOCK_SEQPACKET)", error))
        };
        let (outer, feed) = pair()?;
        let inner = pair()?;
        send(&feed, &[owner, inner.0.as_fd(), inner.1.as_fd()])?;
        Ok(Self { outer, inner })
    }

    /// One that somebody has kept, and the tables' owner in it.
    pub(super) fn adopt(outer: OwnedFd) -> Result<(Self, OwnedFd)> {
        let fds = receive(&outer, RecvFlags::PEEK)?;
        let [owner, read, write] = <[OwnedFd; 3]>::try_from(fds).map_err(|fds| {
            Error::system(format!("what a monitor has kept has {} parts, not 3", fds.len()))
        })?;
        Ok((Self { outer, inner: (read, write) }, owner))
    }

    /// A copy, to be kept.
    pub(super) fn share(&self) -> Result<OwnedFd> {
        fcntl_dupfd_cloexec(&self.outer, 0).map_err(|error| failed("fcntl(F_DUPFD_CLOEXEC)", error))
    }

    /// What was put last; it is held by the caller alone from then on.
    pub(super) fn take(&self) -> Result<Vec<OwnedFd>> {
        let mut last = Vec::new();
        loop {
            let fds = receive(&self.inner.0, RecvFlags::empty())?;
            if fds.is_empty() {
                return Ok(last);
            }
            last = fds;
        }
    }

    /// Holds these, at least one, instead of what was put before.
    pub(super) fn put(&self, fds: &[BorrowedFd<'_>]) -> Result<()> {
        let _former = self.take()?;
        send(&self.inner.1, fds)
    }
}

fn send(to: &OwnedFd, fds: &[BorrowedFd<'_>]) -> Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(Error::system(format!("{} descriptors are too many to be kept", fds.len())));
    }
    sendmsg(to, &[IoSlice::new(&[0])], &mut control, SendFlags::NOSIGNAL)
        .map(drop)
        .map_err(|error| failed("sendmsg(SCM_RIGHTS)", error))
}

/// Descriptors of the next message; none if there is none.
fn receive(from: &OwnedFd, flags: RecvFlags) -> Result<Vec<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let flags = flags | RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    match recvmsg(from, &mut [IoSliceMut::new(&mut byte)], &mut control, flags) {
        Ok(_) | Err(Errno::AGAIN) => {}
        Err(error) => return Err(failed("recvmsg(SCM_RIGHTS)", error)),
    }
    let rights = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(fds) => Some(fds),
        _ => None,
    });
    Ok(rights.flatten().collect())
}

fn failed(call: &str, error: Errno) -> Error {
    Error::system(format!("what is kept of the firewall while no daemon runs: {call}: {error}"))
}
