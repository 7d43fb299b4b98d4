//! What a daemon asks of the keeper: one packet of JSON each way on a connection of its own (`SOCK_SEQPACKET`); the socket of
//! a port that is published goes along as a descriptor.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, bind, listen, recv, recvmsg,
    sendmsg, socket_with,
};
use serde::{Deserialize, Serialize};
use tare_model::network::Published;
use tare_model::{Error, Result};

/// The longest answer: some thousands of ports.
const LONGEST: usize = 1 << 20;

/// A request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Call {
    /// Forward what comes to the socket that comes along, which is bound to the host's port.
    Publish(Published),
    /// No more, and give the port back. Connections end.
    Unpublish(Published),
    /// Say what is forwarded.
    List,
    /// End, and everything with you.
    End,
}

/// To all of them; empty but for [`Call::List`].
pub(super) type Answer = Result<Vec<Published>>;

/// Connects to the keeper.
pub(super) fn connect(path: &Path) -> io::Result<OwnedFd> {
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket)
}

/// The keeper's end.
pub(super) fn listener(path: &Path) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => bind(&socket, &SocketAddrUnix::new(path)?)?,
    }
    listen(&socket, 128)?;
    Ok(socket)
}

/// Asks, and waits for the answer.
pub(super) fn call(path: &Path, call: &Call, socket: Option<BorrowedFd<'_>>) -> Answer {
    let failed = |what: &str, e: io::Error| {
        Error::system(format!("{what}({}, the keeper of the network): {e}", path.display()))
    };
    let keeper = connect(path).map_err(|e| failed("connect", e))?;
    let text = serde_json::to_vec(call).map_err(|e| Error::system(format!("write a call as JSON: {e}")))?;
    let sockets: Vec<BorrowedFd<'_>> = socket.into_iter().collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !sockets.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(&sockets));
    }
    sendmsg(&keeper, &[IoSlice::new(&text)], &mut control, SendFlags::NOSIGNAL)
        .map_err(|e| failed("sendmsg", e.into()))?;
    let mut answer = vec![0; LONGEST];
    let (length, _) =
        recv(&keeper, answer.as_mut_slice(), RecvFlags::empty()).map_err(|e| failed("recv", e.into()))?;
    serde_json::from_slice(answer.get(..length).unwrap_or_default())
        .unwrap_or_else(|_| Err(Error::system("the keeper of the network ended without an answer")))
}

/// The keeper's side of [`call`]; `None` at the end of the connection.
pub(super) fn receive(connection: BorrowedFd<'_>) -> io::Result<Option<(Call, Option<OwnedFd>)>> {
    let mut text = [0; 4096];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(
        connection.as_fd(),
        &mut [IoSliceMut::new(&mut text)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT,
    )?;
    let mut socket = None;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(mut sockets) = message {
            socket = sockets.next();
        }
    }
    if received.bytes == 0 {
        return Ok(None);
    }
    let call = serde_json::from_slice(text.get(..received.bytes).unwrap_or_default())?;
    Ok(Some((call, socket)))
}
