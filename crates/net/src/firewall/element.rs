//! What each bridge, link and published port adds to the sets.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;
use tare_model::network::{GatewayMode, Mac, Published};
use tare_sys::nftables::{Change, Data, Element};

use super::rule::{IPV4, IPV6};
use super::rules::{Admitted, Bridge, Ruleset, Subnet};

/// Which table a change is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    /// The table of packets: what is dropped.
    Filter,
    /// The table of packets: what is rewritten.
    Nat,
    /// The table of frames.
    Frames,
    /// The table of what comes to the host by IPv4: what goes round once more.
    Input4,
    /// The same of IPv6.
    Input6,
}

/// A change and its place.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Step {
    pub(super) place: Place,
    pub(super) change: Change,
}

/// An element, of which set, and where that is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) place: Place,
    pub(super) set: &'static str,
    pub(super) element: Element,
}

/// Those of everything.
pub(super) fn of_ruleset(rules: &Ruleset) -> Vec<Member> {
    let bridges = rules.bridges.values().flat_map(of_bridge);
    let links = rules.admitted.values().flat_map(|one| of_admitted(rules, one));
    let ports = rules.published.iter().filter_map(|one| of_published(rules, one));
    let mut members: Vec<Member> = bridges.chain(links).chain(ports).collect();
    // Elements of one set go in few messages.
    members.sort_by_key(|member| (member.place, member.set));
    members
}

/// Additions of them.
pub(super) fn add(members: Vec<Member>) -> Vec<Step> {
    steps(members, |set, elements| Change::AddElements { set, elements })
}

/// Deletions of them.
pub(super) fn delete(members: Vec<Member>) -> Vec<Step> {
    steps(members, |set, elements| Change::DeleteElements { set, elements })
}

fn steps(members: Vec<Member>, change: impl Fn(String, Vec<Element>) -> Change) -> Vec<Step> {
    let mut groups: Vec<(Place, &'static str, Vec<Element>)> = Vec::new();
    let judged: Vec<_> = members.iter().filter_map(judged).collect();
    for Member { place, set, element } in members.into_iter().chain(judged) {
        match groups.last_mut() {
            Some((at, last, elements)) if (*at, *last) == (place, set) => elements.push(element),
            _ => groups.push((place, set, vec![element])),
        }
    }
    let step = |(place, set, elements): (_, &str, _)| Step { place, change: change(set.into(), elements) };
    groups.into_iter().map(step).collect()
}

/// What the table of input has for a port of the host: the key without what it becomes.
fn judged(member: &Member) -> Option<Member> {
    let place = match member.set {
        "ports4" | "host_ports4" => Place::Input4,
        "ports6" | "host_ports6" => Place::Input6,
        _ => return None,
    };
    Some(Member { place, set: member.set, element: Element::key(member.element.key.clone()) })
}

/// Those of a bridge.
pub(super) fn of_bridge(bridge: &Bridge) -> Vec<Member> {
    let link = name(&bridge.name);
    let mut members = vec![filter("bridges", link)];
    if bridge.internal {
        members.push(filter("internal", link));
    }
    if bridge.icc {
        members.push(filter("within", [link, link].concat()));
    }
    members.extend(of_carriers(&bridge.carriers));
    members.extend(bridge.subnets.iter().flat_map(|subnet| of_subnet(bridge, subnet)));
    members
}

/// All names that begin so: the first of them, and the first one after them.
fn of_carriers(prefix: &str) -> [Member; 2] {
    let first = name(prefix);
    let mut after = first;
    if let Some(last) = prefix.len().checked_sub(1).and_then(|last| after.get_mut(last)) {
        // A digit of an id: there is a next one to each.
        *last += 1;
    }
    [(first, false), (after, true)].map(|(key, interval_end)| Member {
        place: Place::Filter,
        set: "carriers",
        element: Element { key: key.into(), data: None, interval_end },
    })
}

fn of_subnet(bridge: &Bridge, subnet: &Subnet) -> Vec<Member> {
    let family = match subnet.net {
        IpNet::V4(_) => IPV4,
        IpNet::V6(_) => IPV6,
    };
    let of_family = |set| filter(set, [&name(&bridge.name)[..], &[family, 0, 0, 0]].concat());
    let ranges =
        |place, four, six| of_range(place, if family == IPV4 { four } else { six }, subnet.net, None);
    let mut members = Vec::new();
    match subnet.mode {
        GatewayMode::Nat if !bridge.internal => members.extend(ranges(Place::Filter, "shut4", "shut6")),
        GatewayMode::NatUnprotected => members.push(of_family("unprotected")),
        GatewayMode::Routed => members.push(of_family("routed")),
        GatewayMode::Nat | GatewayMode::Isolated => {}
    }
    if bridge.translates(subnet.mode) {
        members.extend(ranges(Place::Nat, "nat4", "nat6"));
        if let Some(source) = subnet.source {
            let set = if family == IPV4 { "source4" } else { "source6" };
            members.extend(of_range(Place::Nat, set, subnet.net, Some(octets(source))));
        }
    }
    members
}

/// The first of a range, and the first one after it.
fn of_range(place: Place, set: &'static str, net: IpNet, data: Option<Vec<u8>>) -> Vec<Member> {
    let first = octets(net.network());
    let after = match net.broadcast() {
        IpAddr::V4(last) => u32::from(last).checked_add(1).map(|next| next.to_be_bytes().to_vec()),
        IpAddr::V6(last) => u128::from(last).checked_add(1).map(|next| next.to_be_bytes().to_vec()),
    };
    let first = Element { key: first, data: data.map(Data::value), interval_end: false };
    let after = after.map(|key| Element { key, data: None, interval_end: true });
    std::iter::once(first).chain(after).map(|element| Member { place, set, element }).collect()
}

/// Those of a container's link.
pub(super) fn of_admitted(rules: &Ruleset, one: &Admitted) -> Vec<Member> {
    let link = one.link.to_ne_bytes();
    let frames = |set, key: Vec<u8>| Member { place: Place::Frames, set, element: Element::key(key) };
    let bridge = rules.bridges.get(&one.bridge);
    let mut members = Vec::new();
    if bridge.is_some_and(|bridge| !bridge.icc) {
        members.push(frames("apart", link.to_vec()));
    }
    if bridge.is_some_and(|bridge| bridge.spoofing) {
        return members;
    }
    members.push(frames("links", link.to_vec()));
    let sender = |address: IpAddr| {
        let set = if address.is_ipv4() { "senders4" } else { "senders6" };
        frames(set, [&link[..], &one.mac.0, &[0; 2], &octets(address)].concat())
    };
    let owner = |address: &IpAddr| {
        let set = if address.is_ipv4() { "owners4" } else { "owners6" };
        frames(set, [&link[..], &octets(*address)].concat())
    };
    let mut addresses = one.addresses.clone();
    let has_ipv6 = addresses.iter().any(IpAddr::is_ipv6);
    addresses.extend(has_ipv6.then(|| IpAddr::V6(link_local(one.mac))));
    addresses.sort_unstable();
    addresses.dedup();
    members.extend(addresses.iter().map(owner));
    // As nobody it may only ask whether an address is taken; the rules see to that.
    addresses.extend(has_ipv6.then_some(IpAddr::V6(Ipv6Addr::UNSPECIFIED)));
    members.extend(addresses.into_iter().map(sender));
    members
}

/// That of a published port; none if its address is of no bridge of ours.
pub(super) fn of_published(rules: &Ruleset, one: &Published) -> Option<Member> {
    let (bridge, subnet) = rules.subnet_of(one.address)?;
    let four = one.address.is_ipv4();
    let protocol = [one.protocol.number(), 0, 0, 0];
    let padded = |port: u16| [&port.to_be_bytes()[..], &[0; 2]].concat();
    if !bridge.translates(subnet.mode) {
        let set = if four { "open4" } else { "open6" };
        return Some(filter(set, [octets(one.address), protocol.into(), padded(one.port)].concat()));
    }
    let (set, host) = match (one.host.is_unspecified(), four) {
        (true, true) => ("ports4", Vec::new()),
        (true, false) => ("ports6", Vec::new()),
        (false, true) => ("host_ports4", octets(one.host)),
        (false, false) => ("host_ports6", octets(one.host)),
    };
    let key = [host, protocol.into(), padded(one.host_port)].concat();
    let data = Data::value([octets(one.address), padded(one.port)].concat());
    Some(Member { place: Place::Nat, set, element: Element::map(key, data) })
}

fn filter(set: &'static str, key: impl Into<Vec<u8>>) -> Member {
    Member { place: Place::Filter, set, element: Element::key(key) }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

/// The name of a link as the kernel has it.
pub(super) fn name(link: &str) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes.iter_mut().zip(link.bytes()).for_each(|(to, from)| *to = from);
    bytes
}

/// The address that the kernel gives to a link of that MAC (RFC 4291, appendix A).
pub(super) fn link_local(Mac([a, b, c, d, e, f]): Mac) -> Ipv6Addr {
    Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f])
}
