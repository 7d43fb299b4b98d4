//! What is refused before the kernel hears of it.

use std::net::{Ipv4Addr, Ipv6Addr};

use tare_model::error::{Error, Result};
use tare_model::network::{Protocol, Published};

use super::element::{Place, of_published};
use super::{Bridge, Ruleset, Subnet, loopback};

pub(super) fn check_bridge(bridge: &Bridge) -> Result<()> {
    let name = &bridge.name;
    let odd = |byte: u8| byte == b'/' || byte.is_ascii_whitespace() || byte == 0;
    if name.is_empty() || name.len() > 15 || name == "." || name == ".." || name.bytes().any(odd) {
        return Err(Error::invalid(format!(
            "invalid bridge name {name:?}: want 1 to 15 bytes without / and spaces"
        )));
    }
    let wrong =
        |subnet: &&Subnet| subnet.source.is_some_and(|ip| ip.is_ipv4() != subnet.net.addr().is_ipv4());
    match bridge.subnets.iter().find(wrong) {
        Some(subnet) => Err(Error::invalid(format!(
            "bridge {name}: subnet {} cannot leave by an address of the other family",
            subnet.net
        ))),
        None => Ok(()),
    }
}

pub(super) fn check_published(rules: &Ruleset, port: &Published) -> Result<()> {
    let Published { host, host_port, protocol, address, .. } = port;
    if host.is_ipv4() != address.is_ipv4() {
        return Err(Error::invalid(format!(
            "port {host}:{host_port}/{protocol} cannot lead to {address}: the host's and the container's address are of one family"
        )));
    }
    if loopback::is_loopback(port) && *protocol == Protocol::Sctp {
        return Err(Error::unsupported(format!(
            "port [::1]:{host_port}/sctp: from ::1 only TCP and UDP are led; publish on 127.0.0.1 or on another address"
        )));
    }
    if rules.subnet_of(*address).is_none() {
        return Err(Error::invalid(format!(
            "port {host}:{host_port}/{protocol} leads to {address}, which is on no bridge network"
        )));
    }
    // On ::1 they are one.
    let hosts = if loopback::is_meant(port) {
        vec![Ipv6Addr::UNSPECIFIED.into(), Ipv6Addr::LOCALHOST.into()]
    } else {
        vec![*host]
    };
    for host in hosts {
        let first = Published { host, address: Ipv4Addr::UNSPECIFIED.into(), port: 0, ..port.clone() };
        let same = |other: &&Published| other.host == host && same_host_port(port, other);
        let mut same_port = rules.published.range(first..).take_while(same);
        if let Some(other) = same_port.find(|other| *other != port && clash(rules, port, other)) {
            return Err(taken(port, other));
        }
    }
    Ok(())
}

/// Both are the same port of the host, and not only in name.
pub(super) fn clash(rules: &Ruleset, one: &Published, other: &Published) -> bool {
    let translated = |port| of_published(rules, port).is_some_and(|member| member.place == Place::Nat);
    same_host_port(one, other) && translated(one) && translated(other)
}

fn same_host_port(one: &Published, other: &Published) -> bool {
    let same_host = one.host == other.host || loopback::is_meant(one) && loopback::is_meant(other);
    same_host && (one.host_port, one.protocol) == (other.host_port, other.protocol)
}

pub(super) fn taken(port: &Published, other: &Published) -> Error {
    let Published { host, host_port, protocol, .. } = port;
    Error::conflict(format!(
        "port {host}:{host_port}/{protocol} is published already, to {}:{}",
        other.address, other.port
    ))
}
