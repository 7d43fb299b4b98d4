//! Addresses of one network: who may have which. Pure, and in memory: after a restart every endpoint that is still there
//! is told again with [`Addresses::reserve`].
//!
//! An address that was given back is given again last: neighbours, name caches and the kernel's record of connections may
//! still mean its former owner. So giving goes on behind the last one given, and begins anew at the end of the range.
//!
//! What is held is kept as spans of neighbouring addresses: the next free one is behind the span that the last given
//! one lies in, in a /64 as fast as in a /24.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use tare_model::error::{Error, ErrorKind, Result};
use tare_model::network::{Mac, Network, Pool};

use crate::span;

/// A family of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// The addresses of one network.
#[derive(Clone, Debug)]
pub struct Addresses {
    network: String,
    pools: Vec<Held>,
}

/// One subnet of it.
#[derive(Clone, Debug)]
struct Held {
    subnet: IpNet,
    /// Out of which is given; empty if the last is before the first.
    range: (u128, u128),
    /// The last one given.
    last: Option<u128>,
    /// The gateway and the auxiliary ones.
    fixed: Vec<u128>,
    spans: Spans,
}

/// Numbers that are held: the last of each span by its first. Spans neither touch nor overlap.
#[derive(Clone, Debug, Default)]
struct Spans(BTreeMap<u128, u128>);

// === impl Family ===

impl Family {
    /// Of an address.
    pub fn of(ip: IpAddr) -> Self {
        if ip.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

// === impl Addresses ===

impl Addresses {
    /// Of a network, with nobody on it yet.
    pub fn new(network: &Network) -> Self {
        let pools = network.pools.iter().map(Held::new).collect();
        Self { network: network.config.name.clone(), pools }
    }

    /// Gives an address of that family, with the length of its subnet's prefix: the lowest free one behind that which was
    /// given last. None if the network has no such family.
    ///
    /// # Errors
    /// `Conflict` if all are held.
    pub fn take(&mut self, family: Family) -> Result<Option<IpNet>> {
        let mut of_family =
            self.pools.iter_mut().filter(|pool| Family::of(pool.subnet.addr()) == family).peekable();
        if of_family.peek().is_none() {
            return Ok(None);
        }
        match of_family.find_map(Held::take) {
            Some(address) => Ok(Some(address)),
            None => Err(Error::conflict(format!(
                "no available {family:?} addresses on network {}: its ip-range is used up: remove containers from it, or make a \
                 network with a larger subnet",
                self.network
            ))),
        }
    }

    /// Holds the address that somebody asks for, anywhere in the subnet, with the length of its prefix.
    ///
    /// # Errors
    /// `InvalidInput` if no subnet of the network contains it; `Forbidden` if it is held, or nobody can have it.
    pub fn reserve(&mut self, ip: IpAddr) -> Result<IpNet> {
        let network = &self.network;
        let pool = self.pools.iter_mut().find(|pool| pool.subnet.contains(&ip)).ok_or_else(|| {
            Error::invalid(format!(
                "invalid endpoint settings: no configured subnet of network {network} contains IP address {ip}"
            ))
        })?;
        pool.reserve(ip).map_err(|why| {
            let message = format!("Address already in use: {ip} on network {network}: {why}");
            Error::new(ErrorKind::Forbidden, message)
        })
    }

    /// How full a subnet of the network is: addresses that nobody else can have, IPv4's network and broadcast among them,
    /// and those that can still be given. More than fit are `u64::MAX`; a subnet of another network has none of either.
    pub fn usage(&self, subnet: IpNet) -> (u64, u64) {
        self.pools.iter().find(|pool| pool.subnet == subnet).map_or((0, 0), Held::usage)
    }

    /// Takes an address back. False if nobody had it: the network's own are never given back.
    pub fn free(&mut self, ip: IpAddr) -> bool {
        let mut pools = self.pools.iter_mut();
        pools.find(|pool| pool.subnet.contains(&ip)).is_some_and(|pool| pool.free(span::number(ip)))
    }
}

// === impl Held ===

impl Held {
    fn new(pool: &Pool) -> Self {
        let ((first, last), (from, to)) = (span::usable(pool.subnet), span::ends(pool.range));
        let fixed: Vec<u128> =
            pool.gateway.iter().chain(pool.auxiliary.values()).map(|ip| span::number(*ip)).collect();
        let mut spans = Spans::default();
        for number in &fixed {
            spans.add(*number);
        }
        Self { subnet: pool.subnet, range: (first.max(from), last.min(to)), last: None, fixed, spans }
    }

    fn take(&mut self) -> Option<IpNet> {
        let (first, last) = self.range;
        let behind = self.last.filter(|given| *given < last).map_or(first, |given| given + 1);
        let free = |from: u128| self.spans.next_free(from).filter(|number| *number <= last);
        let number = free(behind).or_else(|| free(first))?;
        self.spans.add(number);
        self.last = Some(number);
        self.with_prefix(number)
    }

    fn reserve(&mut self, ip: IpAddr) -> Result<IpNet, &'static str> {
        let number = span::number(ip);
        let (first, last) = span::usable(self.subnet);
        if !(first..=last).contains(&number) {
            return Err("it is the subnet's network or broadcast address");
        }
        if self.fixed.contains(&number) {
            return Err("it is the gateway or an auxiliary address");
        }
        if !self.spans.add(number) {
            return Err("another container has it");
        }
        self.with_prefix(number).ok_or("it has no subnet")
    }

    fn free(&mut self, number: u128) -> bool {
        !self.fixed.contains(&number) && self.spans.remove(number)
    }

    fn usage(&self) -> (u64, u64) {
        let ((first, last), (from, to)) = (span::usable(self.subnet), span::ends(self.subnet));
        let nobodys = (first - from) + (to - last);
        let (start, end) = self.range;
        let within = self.spans.count(start, end);
        let left = (end.saturating_add(1)).saturating_sub(start).saturating_sub(within);
        let fits = |number: u128| u64::try_from(number).unwrap_or(u64::MAX);
        (fits(self.spans.count(first, last) + nobodys), fits(left))
    }

    fn with_prefix(&self, number: u128) -> Option<IpNet> {
        span::subnet(number, self.subnet.prefix_len(), self.subnet.addr())
    }
}

// === impl Spans ===

impl Spans {
    /// The span that a number lies in.
    fn around(&self, number: u128) -> Option<(u128, u128)> {
        let (first, last) = self.0.range(..=number).next_back()?;
        (number <= *last).then_some((*first, *last))
    }

    /// The lowest number not held, from there on; none behind the greatest there is.
    fn next_free(&self, from: u128) -> Option<u128> {
        match self.around(from) {
            Some((_, last)) => last.checked_add(1),
            None => Some(from),
        }
    }

    /// How many of these numbers are held.
    fn count(&self, first: u128, last: u128) -> u128 {
        let cut = |(from, to): (&u128, &u128)| (*to.min(&last) + 1).saturating_sub(*from.max(&first));
        self.0.range(..=last).map(cut).sum()
    }

    /// Holds a number; false if it was held.
    fn add(&mut self, number: u128) -> bool {
        if self.around(number).is_some() {
            return false;
        }
        let before = number.checked_sub(1).and_then(|number| self.around(number));
        let behind = number.checked_add(1).and_then(|number| self.0.remove(&number));
        self.0.insert(before.map_or(number, |(first, _)| first), behind.unwrap_or(number));
        true
    }

    /// Lets go of a number; false if it was not held.
    fn remove(&mut self, number: u128) -> bool {
        let Some((first, last)) = self.around(number) else { return false };
        self.0.remove(&first);
        if first < number {
            self.0.insert(first, number - 1);
        }
        if number < last {
            self.0.insert(number + 1, last);
        }
        true
    }
}

/// The MAC of whoever has an address: always the same for the same address, so that no neighbour keeps a wrong one when the
/// address goes from one container to the next. Locally administered, as Docker's are.
///
/// Of IPv4 it is `02:42` and the address. Of IPv6 it is `06` and 40 bits of it, which differ between any two addresses
/// of one subnet that differ in their last 40 bits only, as those that [`Addresses::take`] gives do.
pub fn mac_of(ip: IpAddr) -> Mac {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, c, d] = ip.octets();
            Mac([0x02, 0x42, a, b, c, d])
        }
        IpAddr::V6(ip) => {
            let number = u128::from(ip);
            let folded = number ^ number >> 40 ^ number >> 80 ^ number >> 120;
            let bytes = (folded as u64).to_be_bytes();
            let [_, _, _, a, b, c, d, e] = bytes;
            Mac([0x06, a, b, c, d, e])
        }
    }
}

#[cfg(test)]
mod tests;
