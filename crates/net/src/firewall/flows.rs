//! Connections that began under rules which hold no longer.

use std::collections::BTreeSet;
use std::net::IpAddr;

use rustix::io::Errno;
use tare_model::error::{Error, Result};
use tare_model::network::{Protocol, Published};
use tare_sys::netlink::conntrack::{Connection, Which, count, forget, list};
use tare_sys::netlink::{self, Socket};

/// Up to so many addresses the kernel looks for each, where there are many connections: each time it looks through its whole
/// table, which is as large as the machine's memory allows, and takes milliseconds of a processor. Otherwise it tells
/// everything once.
const FEW: usize = 4;
/// So many connections take longer to tell than to be looked through a few times.
const MANY: u32 = 20_000;

/// Forgets connections of addresses that nobody has any longer, before somebody else gets them.
pub(super) fn of_addresses(socket: &mut Socket, addresses: &[IpAddr]) -> Result<()> {
    let gone: BTreeSet<_> = addresses.iter().copied().collect();
    let connections = count(socket).map_err(|error| refused("count connections", error))?;
    if connections == 0 || gone.is_empty() {
        return Ok(());
    }
    if connections >= MANY && gone.len() <= FEW {
        let which = |address: &IpAddr| [Which::From(*address), Which::AnsweredBy(*address)];
        return gone.iter().flat_map(which).try_for_each(|which| all(socket, which, |_| true));
    }
    all(socket, Which::Any, |found| {
        gone.contains(&found.original.source) || gone.contains(&found.reply.source)
    })
}

/// Forgets datagrams to ports that are published only now: as long as they come in they would go on to the host.
pub(super) fn of_new_ports(socket: &mut Socket, ports: &[Published]) -> Result<()> {
    let udp: Vec<_> = ports.iter().filter(|port| port.protocol == Protocol::Udp).collect();
    let stale = |found: &Connection| {
        udp.iter().any(|port| {
            (found.original.protocol, found.original.port) == (port.protocol.number(), port.host_port)
                && (port.host.is_unspecified() || port.host == found.original.destination)
                && found.reply.source != port.address
        })
    };
    for ipv6 in [false, true].into_iter().filter(|six| udp.iter().any(|port| port.host.is_ipv6() == *six)) {
        all(socket, Which::All { ipv6 }, stale)?;
    }
    Ok(())
}

fn all(socket: &mut Socket, which: Which, is: impl Fn(&Connection) -> bool) -> Result<()> {
    let found = list(socket, which).map_err(|error| refused("list connections", error))?;
    for connection in found.iter().filter(|one| is(one)) {
        match forget(socket, connection) {
            Err(error) if error.errno() != Errno::NOENT => return Err(refused("delete a connection", error)),
            _ => {}
        }
    }
    Ok(())
}

fn refused(what: &str, error: netlink::Error) -> Error {
    Error::system(format!("connection tracking: {what}: {error}"))
}
