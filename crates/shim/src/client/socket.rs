//! A control socket in the event loop of the daemon.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream as StdStream;

use tare_model::{Error, Result};
use tokio::io::Interest;
use tokio::net::UnixStream;

use crate::wire::{Incoming, Outgoing};

/// A connected socket; packets go out and come in whole.
#[derive(Debug)]
pub(super) struct Socket {
    /// Only its readiness is used: the socket is `SOCK_SEQPACKET`, and every byte goes through [`crate::wire`].
    inner: UnixStream,
}

// === impl Socket ===

impl Socket {
    pub(super) fn new(fd: OwnedFd) -> Result<Self> {
        let register = || UnixStream::from_std(StdStream::from(fd));
        let inner = register().map_err(|e| Error::system(format!("epoll_ctl(control socket): {e}")))?;
        Ok(Self { inner })
    }

    /// Sends a packet, waiting for room.
    pub(super) async fn send(&self, packet: &Outgoing) -> io::Result<()> {
        self.inner.async_io(Interest::WRITABLE, || packet.send(self.inner.as_fd())).await
    }

    /// Waits for a packet; `None` when the peer has closed.
    pub(super) async fn receive(&self) -> io::Result<Option<Incoming>> {
        self.inner.async_io(Interest::READABLE, || Incoming::receive(self.inner.as_fd())).await
    }
}
