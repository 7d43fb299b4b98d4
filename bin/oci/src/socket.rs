//! Descriptors sent to whoever listens on a socket that the command line names.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tare_model::{Error, Result};

use crate::state::failed;

/// Connects to the listener, before anything is made.
pub(crate) fn connect(path: &Path) -> Result<UnixStream> {
    UnixStream::connect(path).map_err(|error| failed("connect to socket", path, &error))
}

/// Sends a descriptor, with a name as runc's listeners expect one.
pub(crate) fn send(socket: &UnixStream, name: &str, descriptor: &OwnedFd) -> Result<()> {
    send_on(socket.as_fd(), name, descriptor.as_fd())
}

/// Sends a message with a descriptor on any kind of socket.
pub(crate) fn send_on(socket: BorrowedFd<'_>, text: &str, descriptor: BorrowedFd<'_>) -> Result<()> {
    let fds = [descriptor];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&fds));
    let message = [IoSlice::new(text.as_bytes())];
    sendmsg(socket, &message, &mut control, SendFlags::NOSIGNAL)
        .map_err(|error| Error::system(format!("sendmsg({text:?}, SCM_RIGHTS): {error}")))
        .map(drop)
}
