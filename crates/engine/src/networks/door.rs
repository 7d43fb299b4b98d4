//! Our end of the door: sockets of a container's network namespace come in, the word that its network is there goes out.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream as StdStream;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, SocketFlags, SocketType,
    recvmsg, send, socketpair,
};
use tare_model::sandbox::{NetworkReady, NetworkSockets};
use tare_model::{Error, Result};
use tokio::io::Interest;
use tokio::net::UnixStream;

/// See the head of this file.
pub(crate) struct Door {
    /// Only its readiness is used: the socket is `SOCK_SEQPACKET`.
    inner: UnixStream,
}

// === impl Door ===

impl Door {
    /// Our end, and the one that the container gets.
    ///
    /// # Errors
    /// The kernel's refusal (descriptors used up).
    pub(crate) fn pair() -> Result<(Self, OwnedFd)> {
        let failed = |e: io::Error| {
            let hint = match e.raw_os_error().map(Errno::from_raw_os_error) {
                Some(Errno::MFILE) => {
                    ": tared has used up its descriptors, of which each container on a network takes three and each \
                     published port one: raise its hard limit (LimitNOFILE= of its service)"
                }
                _ => "",
            };
            Error::system(format!("socketpair(AF_UNIX, SOCK_SEQPACKET): {e}{hint}"))
        };
        let flags = SocketFlags::CLOEXEC;
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
            .map_err(|e| failed(e.into()))?;
        // Only ours: the first process of the container waits at its end.
        rustix::io::ioctl_fionbio(&ours, true).map_err(|e| failed(e.into()))?;
        let inner = UnixStream::from_std(StdStream::from(ours)).map_err(failed)?;
        Ok((Self { inner }, theirs))
    }

    /// The sockets; `None` if the container will not come, because its start has failed.
    pub(crate) async fn sockets(&self) -> Result<Option<NetworkSockets>> {
        let receive = || receive(self.inner.as_fd());
        match self.inner.async_io(Interest::READABLE, receive).await {
            Ok(None) => Ok(None),
            Ok(Some(fds)) => {
                let odd =
                    || Error::system("network door: the container sent other sockets than are known here");
                NetworkSockets::from_descriptors(fds).ok_or_else(odd).map(Some)
            }
            Err(e) if e.kind() == io::ErrorKind::ConnectionReset => Ok(None),
            Err(e) => Err(Error::system(format!("recvmsg(network door): {e}"))),
        }
    }

    /// Says that the network is there, or why not. A container that has ended meanwhile need not hear it.
    pub(crate) fn answer(&self, answer: &Result<NetworkReady>) {
        let Ok(text) = serde_json::to_vec(answer) else { return };
        if let Err(e) = send(self.inner.as_fd(), &text, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
            tracing::debug!("send(network door): {e}");
        }
    }
}

fn receive(door: BorrowedFd<'_>) -> io::Result<Option<Vec<OwnedFd>>> {
    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [IoSliceMut::new(&mut byte)];
    let received = recvmsg(door, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            fds.extend(received);
        }
    }
    Ok((received.bytes > 0).then_some(fds))
}
