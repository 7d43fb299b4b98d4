//! Ports of the host that are held.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, sockopt};
use tare_model::network::Protocol;

/// See [`super::Fabric::hold`]; of the calling thread's network namespace.
pub(in crate::networks) fn hold(protocol: Protocol, address: SocketAddr) -> io::Result<OwnedFd> {
    match bind(protocol, address, false) {
        // Connections of a program that has ended may linger: where one can listen, nobody else does.
        Err(e) if e.kind() == io::ErrorKind::AddrInUse && protocol == Protocol::Tcp => {
            let socket = bind(protocol, address, true)?;
            rustix::net::listen(&socket, 1)?;
            Ok(socket)
        }
        bound => bound,
    }
}

/// See [`super::Fabric::ephemeral_ports`]; of the calling thread's network namespace.
pub(in crate::networks) fn ephemeral_ports() -> (u16, u16) {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut numbers = text.split_whitespace().filter_map(|number| number.parse().ok());
    numbers.next().zip(numbers.next()).filter(|(first, last)| first <= last).unwrap_or((32_768, 60_999))
}

/// Bound and nothing else: who connects past our rules is refused.
fn bind(protocol: Protocol, address: SocketAddr, reuse: bool) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let (kind, number) = match protocol {
        Protocol::Tcp => (SocketType::STREAM, Some(ipproto::TCP)),
        Protocol::Udp => (SocketType::DGRAM, Some(ipproto::UDP)),
        Protocol::Sctp => (SocketType::STREAM, Some(ipproto::SCTP)),
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, kind, flags, number)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    sockopt::set_socket_reuseaddr(&socket, reuse)?;
    rustix::net::bind(&socket, &address)?;
    Ok(socket)
}
