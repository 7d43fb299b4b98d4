//! What is read off a join, and the sockets by which the inside of a container is reached.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

use ipnet::IpNet;
use tare_model::network::Driver;
use tare_model::sandbox::NetworkSockets;
use tare_model::{Error, Result};
use tare_net::dns;
use tare_net::link::{self, Place};
use tare_sys::netlink::{self, Socket};

use super::super::{Resolver, plan};
use super::Join;

/// The host's ends of interfaces that are there, by the endpoint.
pub(super) fn ends_of(host: &mut Socket, joins: &[Join]) -> Result<HashMap<String, u32>> {
    let refused = |e| Error::system(format!("RTM_GETLINK(dump): {e}"));
    let seen: HashMap<String, u32> = netlink::link::names(host).map_err(refused)?.into_iter().collect();
    let mut ends = HashMap::new();
    for join in joins.iter().filter(|join| join.network.config.driver == Driver::Bridge) {
        let name = link::host_name(&join.endpoint.id);
        // One that was not seen may have been passed by while containers end around it.
        let index = seen.get(&name).copied().or_else(|| Some(netlink::link::find(host, &name).ok()?.index));
        ends.extend(index.map(|index| (join.endpoint.id.clone(), index)));
    }
    Ok(ends)
}

pub(super) fn inside(sockets: &NetworkSockets) -> Result<Socket> {
    dup(&sockets.route).map(Socket::adopt)
}

pub(super) fn dup(socket: &OwnedFd) -> Result<OwnedFd> {
    socket.try_clone().map_err(|e| Error::system(format!("dup of a network socket: {e}")))
}

/// Of their interfaces.
pub(super) fn indexes(joins: &[Join], inside: &mut Socket) -> Result<Vec<u32>> {
    link::indexes(inside, joins.iter().map(|join| join.endpoint.interface.as_str()))
}

/// Joins, with the indexes of their interfaces.
pub(super) fn places<'a>(joins: &'a [Join], links: &[u32]) -> Vec<Place<'a>> {
    let place = |(join, link): (&'a Join, &u32)| Place {
        link: *link,
        addresses: addresses(join),
        gateways: &join.endpoint.gateways,
    };
    joins.iter().zip(links).map(place).collect()
}

pub(super) fn addresses(join: &Join) -> Vec<IpAddr> {
    join.endpoint.addresses.iter().map(IpNet::addr).collect()
}

/// Parameters of an interface: without an address of IPv6 there is none of it on the link.
pub(super) fn parameters(join: &Join) -> Vec<(String, String)> {
    let interface = &join.endpoint.interface;
    let mut all: Vec<_> = join.sysctls.clone().into_iter().collect();
    let has_ipv6 = join.endpoint.addresses.iter().any(|address| address.addr().is_ipv6());
    if !has_ipv6 && std::path::Path::new("/proc/sys/net/ipv6").exists() {
        all.push((format!("net/ipv6/conf/{interface}/disable_ipv6"), "1".to_owned()));
    }
    all
}

/// What a container may ask: names of its networks, but of the default one, which has none unless it was asked for links.
pub(super) fn settings(joins: &[Join], resolver: &Resolver) -> dns::Settings {
    let named =
        joins.iter().filter(|join| join.network.config.name != plan::DEFAULT || !join.links.is_empty());
    let networks = named.map(|join| dns::Attachment {
        network: join.network.id.clone(),
        links: join.links.iter().cloned().collect(),
    });
    dns::Settings {
        networks: networks.collect(),
        upstream: resolver.upstream.clone(),
        search: resolver.search.clone(),
        options: resolver.options.clone(),
    }
}

pub(super) fn port_of(socket: &OwnedFd) -> Result<u16> {
    let name = rustix::net::getsockname(socket).and_then(SocketAddr::try_from);
    let address = name.map_err(|e| Error::system(format!("getsockname(resolver): {e}")))?;
    Ok(address.port())
}
