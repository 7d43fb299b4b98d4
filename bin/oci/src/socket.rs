//! Descriptors sent to whoever listens on a socket that the command line names.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
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
    let fds = [descriptor.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&fds));
    let text = [IoSlice::new(name.as_bytes())];
    sendmsg(socket, &text, &mut control, SendFlags::NOSIGNAL)
        .map_err(|error| Error::system(format!("sendmsg({name:?}, SCM_RIGHTS): {error}")))
        .map(drop)
}
