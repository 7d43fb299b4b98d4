//! What subnets are chosen from where none is asked for.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use tare_model::error::{Error, Result};

use crate::span;

/// Bits of the subnet of a link in IPv6 (RFC 4291 §2.5.4).
const LINK_IPV6: u8 = 64;

/// A range of addresses that is cut into subnets of one size; Docker's `default-address-pools`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Base {
    /// All of it.
    pub net: IpNet,
    /// Bits of the prefix of each subnet.
    pub size: u8,
}

/// The bases, in the order in which they are used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bases(Vec<Base>);

// === impl Bases ===

impl Bases {
    /// Docker's for IPv4, and after them 10.0.0.0/8 in 65,536 subnets of 254 addresses; 65,536 subnets of the /48 that
    /// [RFC 4193](https://www.rfc-editor.org/rfc/rfc4193) gives to whoever drew `ula` at random, for IPv6.
    pub fn standard(ula: [u8; 5]) -> Self {
        let v4 = |a, b, bits| IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(a, b, 0, 0), bits));
        let mut bases: Vec<Base> = (17..32).map(|b| Base { net: v4(172, b, 16), size: 16 }).collect();
        bases.push(Base { net: v4(192, 168, 16), size: 20 });
        bases.push(Base { net: v4(10, 0, 8), size: 24 });
        bases.push(Self::local(ula));
        Self(bases)
    }

    /// Those of a configuration; of IPv6 the standard one where it has none.
    ///
    /// # Errors
    /// `InvalidInput` if a base has host bits, cannot be cut into that size, has loopback or multicast addresses, or overlaps
    /// with another, or if there is none of IPv4.
    pub fn configured(bases: Vec<Base>, ula: [u8; 5]) -> Result<Self> {
        for (place, base) in bases.iter().enumerate() {
            base.check()?;
            if let Some(other) = bases[..place].iter().find(|other| span::overlap(other.net, base.net)) {
                let message = format!("default address pool {} overlaps with {}", base.net, other.net);
                return Err(Error::invalid(message));
            }
        }
        let has = |ipv4| bases.iter().any(|base| base.net.addr().is_ipv4() == ipv4);
        if !has(true) {
            return Err(Error::invalid(
                "default address pools: none is of IPv4: add one, 172.17.0.0/16 size 24",
            ));
        }
        let local = (!has(false)).then(|| Self::local(ula));
        Ok(Self(bases.into_iter().chain(local).collect()))
    }

    fn local(ula: [u8; 5]) -> Base {
        let [a, b, c, d, e] = ula.map(u16::from);
        let start = Ipv6Addr::new(0xfd00 | a, b << 8 | c, d << 8 | e, 0, 0, 0, 0, 0);
        Base { net: IpNet::V6(Ipv6Net::new_assert(start, 48)), size: LINK_IPV6 }
    }

    /// The lowest free subnet of the family of `like`, whose address is unspecified, and of its length unless that is 0.
    pub(super) fn next(&self, like: IpNet, taken: &[(&str, IpNet)], routes: &[IpNet]) -> Result<IpNet> {
        let real = routes.iter().copied().filter(|route| route.prefix_len() != 0);
        let all = taken.iter().map(|(_, net)| *net).chain(real);
        let mut held: Vec<(u128, u128)> =
            all.filter(|net| span::same_family(*net, like)).map(span::ends).collect();
        held.sort_unstable();
        let size = Some(like.prefix_len()).filter(|bits| *bits != 0);
        let bases = self.0.iter().filter(|base| span::same_family(base.net, like));
        bases.map(|base| Base { size: size.unwrap_or(base.size), ..*base }).find_map(|base| base.free(&held)).ok_or_else(
            || {
                let family = span::family(like.addr());
                let of_size = size.map_or(String::new(), |bits| format!(" of /{bits}"));
                Error::conflict(format!(
                    "all predefined address pools have been fully subnetted: no {family} subnet{of_size} is clear of \
                     the {} networks and {} routes: give one with --subnet, remove networks, or configure more pools",
                    taken.len(),
                    routes.len()
                ))
            },
        )
    }
}

// === impl Base ===

impl Base {
    fn check(&self) -> Result<()> {
        let Self { net, size } = *self;
        let refuse = |why: String| {
            Err(Error::invalid(format!("invalid default address pool {net} size {size}: {why}")))
        };
        if net != net.trunc() {
            return refuse(format!("the base should be {}", net.trunc()));
        }
        // Room for a gateway and a container.
        let most = span::width(net.addr()) - 2;
        if size < net.prefix_len() || size > most {
            return refuse(format!("want a size of {} to {most}", net.prefix_len()));
        }
        if net.addr().is_loopback() || net.addr().is_multicast() || net.addr().is_unspecified() {
            return refuse("networks cannot have such addresses".to_owned());
        }
        Ok(())
    }

    /// Its lowest subnet that is clear of `held`, which is sorted.
    fn free(&self, held: &[(u128, u128)]) -> Option<IpNet> {
        if self.size < self.net.prefix_len() {
            return None;
        }
        let like: IpAddr = self.net.addr();
        let (start, end) = span::ends(self.net);
        let last = 1_u128.checked_shl(u32::from(span::width(like) - self.size))?.checked_sub(1)?;
        let mut candidate = start;
        for (from, to) in held {
            if *from > candidate.checked_add(last)? {
                break;
            }
            if *to >= candidate {
                // The next multiple of the size behind it.
                candidate = (*to | last).checked_add(1)?;
            }
        }
        (candidate <= end).then(|| span::subnet(candidate, self.size, like)).flatten()
    }
}
