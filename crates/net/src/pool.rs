//! Subnets of networks: chosen where none is asked for, checked where one is. Pure.
//!
//! ```text
//!   NetworkConfig ── check ──▶ refused, with all that is wrong in it
//!        │
//!        ├─ subnets asked for ── overlap with another network? ──▶ refused
//!        └─ none asked for    ── bases: the lowest that is clear of networks and of the host's routes
//!                                   │
//!                                   ▼
//!                            Pools, IPv4 first
//! ```
//!
//! A subnet that the user asks for may lie over a route of the host, as Docker has it: machines use that on purpose (a VPN
//! that is replaced, a lab in a corner of 10/8). [`shadowed`] tells which, for a warning. One that is chosen never does.

mod bases;
mod check;

use std::net::IpAddr;

use ipnet::IpNet;
use tare_model::error::{Error, ErrorKind, Result};
use tare_model::network::{Driver, GatewayMode, NetworkConfig, ParentMode, Pool, PoolConfig};

pub use bases::{Base, Bases};
pub use check::name;

use crate::span;

/// What a new network has to live with.
#[derive(Clone, Copy, Debug)]
pub struct Surroundings<'a> {
    /// What subnets are chosen from.
    pub bases: &'a Bases,
    /// The subnets of the other networks, with their names.
    pub networks: &'a [(&'a str, IpNet)],
    /// The destinations of the host's routes; default routes may be among them.
    pub routes: &'a [IpNet],
}

/// The pools of a new network, IPv4 first. None for drivers that have no addresses of their own.
///
/// # Errors
/// `InvalidInput` with a line for each thing that is wrong in `config`; `Forbidden` if a subnet that was asked for overlaps
/// with another network, if a gateway or auxiliary address cannot be given, or if the driver takes one subnet of a family
/// and got several; `Conflict` if all bases are used up. Texts are Docker's where it has one.
pub fn choose(config: &NetworkConfig, around: &Surroundings<'_>) -> Result<Vec<Pool>> {
    check::config(config)?;
    if matches!(config.driver, Driver::Host | Driver::None) {
        return Ok(Vec::new());
    }
    let mut taken: Vec<(&str, IpNet)> = around.networks.to_vec();
    let mut pools = Vec::new();
    for (enabled, unspecified) in [(config.ipv4, check::ANY_IPV4), (config.ipv6, check::ANY_IPV6)] {
        if !enabled {
            continue;
        }
        for asked in wanted(config, unspecified) {
            let pool = pool(config, &asked, &taken, around)?;
            taken.push((&config.name, pool.subnet));
            pools.push(pool);
        }
    }
    Ok(pools)
}

/// The routes of the host that pools asked for by the user lie over; what they reached is not reached by containers (nor by
/// the host, where the subnet is the smaller) any more.
pub fn shadowed(pools: &[Pool], routes: &[IpNet]) -> Vec<(IpNet, IpNet)> {
    let chosen = pools.iter().filter(|pool| pool.chosen).map(|pool| pool.subnet);
    let over = |subnet: IpNet| {
        let real = routes.iter().filter(|route| route.prefix_len() != 0);
        real.filter(move |route| span::overlap(subnet, **route)).map(move |route| (subnet, *route))
    };
    chosen.flat_map(over).collect()
}

/// What is asked for of one family; if nothing is, any subnet of it.
fn wanted(config: &NetworkConfig, unspecified: IpAddr) -> Vec<PoolConfig> {
    let of_family = |pool: &&PoolConfig| check::family_of(pool).is_ipv4() == unspecified.is_ipv4();
    let asked: Vec<PoolConfig> = config.pools.iter().filter(of_family).cloned().collect();
    if !asked.is_empty() {
        return asked;
    }
    let subnet = span::subnet(0, 0, unspecified);
    vec![PoolConfig { subnet, range: None, gateway: None, auxiliary: std::collections::BTreeMap::new() }]
}

fn pool(
    config: &NetworkConfig,
    asked: &PoolConfig,
    taken: &[(&str, IpNet)],
    around: &Surroundings<'_>,
) -> Result<Pool> {
    let subnet = asked.subnet.unwrap_or(check::any(check::ANY_IPV4));
    let chosen = !subnet.addr().is_unspecified();
    let subnet =
        if chosen { free_of(subnet, taken)? } else { around.bases.next(subnet, taken, around.routes)? };
    let range = asked.range.unwrap_or(subnet);
    let mut auxiliary = asked.auxiliary.clone();
    let gateway = if has_gateway(config, subnet) {
        Some(asked.gateway.map_or_else(|| first_free(subnet, range, &auxiliary), Ok)?)
    } else {
        // Nobody has it, but whoever named it means it to be kept free.
        auxiliary.extend(asked.gateway.map(|ip| ("gateway".to_owned(), ip)));
        None
    };
    check::reserved(subnet, gateway, &auxiliary)?;
    Ok(Pool { subnet, range, gateway, auxiliary, chosen })
}

/// Somebody on the network, or beyond its parent link, is the way out.
fn has_gateway(config: &NetworkConfig, subnet: IpNet) -> bool {
    let bridge = &config.bridge;
    let mode = if subnet.addr().is_ipv4() { bridge.gateway_ipv4 } else { bridge.gateway_ipv6 };
    match config.driver {
        Driver::Bridge => mode != GatewayMode::Isolated,
        Driver::Macvlan => !config.internal,
        Driver::Ipvlan => !config.internal && !matches!(config.parent.mode, ParentMode::L3 | ParentMode::L3s),
        Driver::Host | Driver::None => false,
    }
}

/// The lowest address of the range that can be a gateway.
fn first_free(
    subnet: IpNet,
    range: IpNet,
    auxiliary: &std::collections::BTreeMap<String, IpAddr>,
) -> Result<IpAddr> {
    let ((first, last), (from, to)) = (span::usable(subnet), span::ends(range));
    let held: std::collections::BTreeSet<u128> = auxiliary.values().map(|ip| span::number(*ip)).collect();
    // More are never held than there are auxiliary addresses, so that the search ends soon.
    (first.max(from)..=last.min(to))
        .find(|number| !held.contains(number))
        .map(|number| span::address(number, subnet.addr()))
        .ok_or_else(|| {
            Error::new(
                ErrorKind::Forbidden,
                format!("failed to allocate gateway: no address of {range} is free: choose a wider ip-range"),
            )
        })
}

fn free_of(subnet: IpNet, taken: &[(&str, IpNet)]) -> Result<IpNet> {
    match taken.iter().find(|(_, other)| span::overlap(subnet, *other)) {
        None => Ok(subnet),
        Some((name, other)) => Err(Error::new(
            ErrorKind::Forbidden,
            format!(
                "invalid pool request: Pool overlaps with other one on this address space: {subnet} with \
                 {other} of network {name}"
            ),
        )),
    }
}

#[cfg(test)]
mod tests;
