//! The door: how somebody outside sets up the network of a container that is being started, while it is being started.
//!
//! ```text
//!   child                                   behind the door            parent
//!     │ makes sockets in its namespace          │                         │
//!     │ descriptors ──────────────────────────▶ │ ── the same ──────────▶ │ keeps them
//!     │ root file system, mounts, …             │ links, addresses, …     │
//!     │ waits ◀───────────── ready, or an error │                         │
//!     │ parameters of interfaces, execve        │                         │
//! ```
//!
//! See [`tare_model::sandbox::NetworkReady`].

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
    bind, listen, recv, sendmsg, socket_with,
};
use tare_model::sandbox::{NetworkReady, NetworkSockets, RESOLVER};
use tare_sys::netlink::{Protocol, Socket};

use crate::error::{Call, Error, Result};
use crate::kernel;

/// Longest answer.
const LONGEST: usize = 64 << 10;
/// Connections to the resolver that wait to be accepted.
const BACKLOG: i32 = 64;

/// Makes the sockets in the network namespace of this process, of which the loopback is up.
pub(crate) fn open_sockets() -> Result<NetworkSockets> {
    let netlink = |protocol| -> Result<OwnedFd> {
        let socket = Socket::open(protocol).call(|| format!("socket(AF_NETLINK, SOCK_RAW, {protocol:?})"))?;
        Ok(socket.into_fd())
    };
    let dns_tcp = resolver(SocketType::STREAM)?;
    listen(&dns_tcp, BACKLOG).call(|| "listen(resolver)")?;
    Ok(NetworkSockets {
        route: netlink(Protocol::Route)?,
        netfilter: netlink(Protocol::Netfilter)?,
        dns_udp: resolver(SocketType::DGRAM)?,
        dns_tcp,
    })
}

/// At some port of the resolver's address: its own, 53, is left to whatever the container runs.
fn resolver(kind: SocketType) -> Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket =
        socket_with(AddressFamily::INET, kind, flags, None).call(|| format!("socket(AF_INET, {kind:?})"))?;
    let address: Ipv4Addr = RESOLVER;
    bind(&socket, &SocketAddrV4::new(address, 0)).call(|| format!("bind({address}:0)"))?;
    Ok(socket)
}

/// Hands the sockets to whoever is behind the door.
pub(crate) fn show(door: BorrowedFd<'_>, sockets: &NetworkSockets) -> Result<()> {
    let descriptors = sockets.descriptors();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&descriptors));
    let word = [IoSlice::new(b"N")];
    rustix::io::retry_on_intr(|| sendmsg(door, &word, &mut control, SendFlags::NOSIGNAL))
        .call(|| "sendmsg(network door)")
        .map(drop)
}

/// Waits until the network is there, and does what only a process inside can: sets `parameters`.
pub(crate) fn await_network(door: BorrowedFd<'_>, parameters: BorrowedFd<'_>) -> Result<()> {
    let mut answer = vec![0; LONGEST];
    let (_, length) = rustix::io::retry_on_intr(|| recv(door, &mut answer[..], RecvFlags::TRUNC))
        .call(|| "recv(network door)")?;
    if length == 0 {
        return Err(Error::new(
            tare_model::ErrorKind::Unavailable,
            "whoever was to set up the network of the container has gone away; start it again",
        ));
    }
    let odd = || Error::invalid(format!("network door: {length} bytes are no answer"));
    let answer = answer.get(..length).ok_or_else(odd)?;
    let ready: tare_model::Result<NetworkReady> = serde_json::from_slice(answer).map_err(|_| odd())?;
    for (path, value) in ready?.sysctls {
        let none = || Error::forbidden(format!("network door: {path} is no parameter of a network"));
        let below = path.strip_prefix("net/").filter(|below| !below.split('/').any(|part| part == ".."));
        kernel::network_parameter(parameters, below.ok_or_else(none)?, &value)?;
    }
    Ok(())
}
