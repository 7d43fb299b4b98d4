//! Addresses as numbers: both families in one arithmetic.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// The number of an address in its family.
pub(crate) fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u128::from(u32::from(ip)),
        IpAddr::V6(ip) => u128::from(ip),
    }
}

/// The address of that number, of the family of `like`. Numbers beyond IPv4 are cut to it.
pub(crate) fn address(number: u128, like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => Ipv4Addr::from(number as u32).into(),
        IpAddr::V6(_) => Ipv6Addr::from(number).into(),
    }
}

/// The first and the last address of a subnet.
pub(crate) fn ends(net: IpNet) -> (u128, u128) {
    (number(net.network()), number(net.broadcast()))
}

/// Both are of one family.
pub(crate) fn same_family(a: IpNet, b: IpNet) -> bool {
    a.addr().is_ipv4() == b.addr().is_ipv4()
}

/// They have an address in common.
pub(crate) fn overlap(a: IpNet, b: IpNet) -> bool {
    a.contains(&b.network()) || b.contains(&a.network())
}

/// The subnet of `bits` that begins at that number, of the family of `like`; none if there is no such length.
pub(crate) fn subnet(start: u128, bits: u8, like: IpAddr) -> Option<IpNet> {
    match address(start, like) {
        IpAddr::V4(ip) => Ipv4Net::new(ip, bits).ok().map(IpNet::V4),
        IpAddr::V6(ip) => Ipv6Net::new(ip, bits).ok().map(IpNet::V6),
    }
}

/// Bits of a family's addresses.
pub(crate) fn width(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { 32 } else { 128 }
}

/// The family, as people call it.
pub(crate) fn family(ip: IpAddr) -> &'static str {
    if ip.is_ipv4() { "IPv4" } else { "IPv6" }
}

/// The first and the last address that may be given to somebody: IPv4 keeps the subnet's own and the broadcast address,
/// IPv6 the routers' anycast address ([RFC 4291 §2.6.1](https://www.rfc-editor.org/rfc/rfc4291#section-2.6.1)); in subnets
/// of one or two addresses all are usable ([RFC 3021](https://www.rfc-editor.org/rfc/rfc3021),
/// [RFC 6164](https://www.rfc-editor.org/rfc/rfc6164)).
pub(crate) fn usable(net: IpNet) -> (u128, u128) {
    let (first, last) = ends(net);
    match net {
        _ if last - first < 2 => (first, last),
        IpNet::V4(_) => (first + 1, last - 1),
        IpNet::V6(_) => (first + 1, last),
    }
}
