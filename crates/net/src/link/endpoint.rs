//! The interface of a container on a network: made, and taken away while the container goes on.
//!
//! ```text
//!   host:    make the pair, its peer in the container ─▶ which index has it? ─▶ port of the bridge, up
//!   inside:  up, addresses, default routes
//!   host:    does the port forward?
//! ```

use std::os::fd::AsFd;

use rustix::io::Errno;
use tare_model::error::{Error, Result};
use tare_model::id::ContainerId;
use tare_model::network::{Endpoint, Network, ParentMode};
use tare_sys::netlink::link::{self, Change, Kind, NewLink, Port, Which};
use tare_sys::netlink::{Request, Socket, address::Address};

use super::bridge::Bridge;
use super::refusal::{Refused, but};
use super::{Fabric, mark, parent, route, settle};

/// The group of links that are being deleted, whichever engine's: "tare" as a number, which nobody else would choose.
const DOOMED: u32 = u32::from_be_bytes(*b"tare") & i32::MAX.cast_unsigned();

/// As many requests as have their refusals in a socket's buffer.
const AT_ONCE: usize = 64;

/// What is to be attached to what.
#[derive(Clone, Copy, Debug)]
pub struct Attach<'a> {
    /// The network.
    pub network: &'a Network,
    /// As [`super::ensure`] gave it.
    pub fabric: &'a Fabric,
    /// Whose interface it is.
    pub container: &'a ContainerId,
    /// The interface.
    pub endpoint: &'a Endpoint,
    /// It is the container's way out of IPv4.
    pub default_ipv4: bool,
    /// It is the container's way out of IPv6.
    pub default_ipv6: bool,
}

/// An interface that was taken from a container, and is still to be deleted.
#[must_use = "the link is there until `delete`"]
#[derive(Debug)]
pub struct Doomed {
    index: u32,
}

/// Gives a container an interface on a network. What was made is undone if something is refused. `admit` is told the index of
/// a bridge's port before anything passes by it: a container that runs already may send at once.
///
/// Returns the index of the host's end, which is a port of a bridge; none for interfaces that have no such end, and on
/// networks that need no interface.
///
/// # Errors
/// `Conflict` if the container has an interface of that name, or the network has no room left; `Unsupported` if the kernel lacks
/// the kind of link; `InvalidInput` if a MAC is given where the parent's is shared; `System` with the kernel's refusal; what
/// `admit` refuses.
pub fn attach(
    host: &mut Socket,
    inside: &mut Socket,
    what: &Attach<'_>,
    admit: impl FnOnce(u32) -> Result<()>,
) -> Result<Option<u32>> {
    let made = match what.fabric {
        Fabric::Bridge(bridge) => pair(host, inside, what, bridge, admit)?,
        Fabric::Parent(parent) => on_parent(host, inside, what, *parent)?,
        Fabric::Nothing => return Ok(None),
    };
    let outcome = configure(inside, what, made.inside).and_then(|()| carries(host, inside, what, &made));
    if let Err(error) = outcome {
        // Either end takes the other along; the first error is the one to tell.
        let _ = link::delete(inside, made.inside);
        return Err(error);
    }
    Ok(made.host)
}

/// Packets pass in both directions: the ends of a pair carry them, so does the root, which its first port wakes up, and the
/// addresses receive.
fn carries(host: &mut Socket, inside: &mut Socket, what: &Attach<'_>, made: &Made) -> Result<()> {
    // A parent may have no carrier for as long as nobody plugs a cable in.
    if let (Some(port), Fabric::Bridge(bridge)) = (made.host, what.fabric) {
        settle::carries(host, port)?;
        settle::carries(host, bridge.index)?;
        settle::carries(inside, made.inside)?;
    }
    what.endpoint.addresses.iter().try_for_each(|net| settle::receives(inside, net.addr()))
}

/// Takes an interface from a running container: when this returns, nothing passes by it and its name is free. The slow rest is
/// [`Doomed::delete`]. None if the container has no such interface.
///
/// # Errors
/// `System` with the kernel's refusal.
pub fn detach(inside: &mut Socket, endpoint: &Endpoint) -> Result<Option<Doomed>> {
    let name = &endpoint.interface;
    let index = match link::find(inside, name) {
        Err(error) if error.errno() == Errno::NODEV => return Ok(None),
        link => link.refused(|| format!("RTM_GETLINK({name})"))?.index,
    };
    let away = mark::host_name(&endpoint.id);
    // One after the other: before Linux 6.2 a link that is up keeps its name.
    let down = Change { up: Some(false), ..Change::default() };
    let named = Change { name: Some(&away), ..Change::default() };
    let which = Which::Index(index);
    inside
        .all(vec![down.request(which), named.request(which)])
        .refused(|| format!("RTM_SETLINK({name}, down, named {away})"))?;
    Ok(Some(Doomed { index }))
}

/// Takes from the host what is left there of endpoints whose containers are gone. A network namespace goes when its last
/// process and its last connection do, which may be minutes later: until then its addresses would still be answered for.
///
/// Waits for the kernel, 20 ms and more, but once for all of them: off the path of anybody who waits.
///
/// # Errors
/// `System` with the kernel's refusal; that they are gone already is none.
pub fn sweep<'a>(host: &mut Socket, endpoints: impl IntoIterator<Item = &'a Endpoint>) -> Result<()> {
    let names: Vec<_> = endpoints.into_iter().map(|endpoint| mark::host_name(&endpoint.id)).collect();
    let doomed = Change { group: Some(DOOMED), ..Change::default() };
    for some in names.chunks(AT_ONCE) {
        let mut left = some;
        // The first refusal is told only, and the most likely one is no matter.
        while let Err((place, error)) =
            host.all(left.iter().map(|name| doomed.request(Which::Name(name))).collect())
        {
            but(Err(error), &[Errno::NODEV])
                .refused(|| "RTM_SETLINK(group) of what is left of containers")?;
            left = left.get(place + 1..).unwrap_or_default();
        }
    }
    let deleted = but(link::delete_group(host, DOOMED), &[Errno::NODEV]);
    deleted.refused(|| format!("RTM_DELLINK(group {DOOMED:#x})"))
}

// === impl Doomed ===

impl Doomed {
    /// Deletes the interface, and the host's end with it. Waits for the kernel, 20 ms and more: off the path of anybody who
    /// waits.
    ///
    /// # Errors
    /// `System` with the kernel's refusal; that it is gone already is none.
    pub fn delete(self, inside: &mut Socket) -> Result<()> {
        let gone = but(link::delete(inside, self.index), &[Errno::NODEV]);
        gone.refused(|| format!("RTM_DELLINK({})", self.index))
    }
}

/// Indexes of an interface and of the host's end.
struct Made {
    host: Option<u32>,
    inside: u32,
}

fn pair(
    host: &mut Socket,
    inside: &mut Socket,
    what: &Attach<'_>,
    bridge: &Bridge,
    admit: impl FnOnce(u32) -> Result<()>,
) -> Result<Made> {
    let namespace = inside.namespace().refused(|| "ioctl(SIOCGSKNS)")?;
    let (name, interface) = (mark::host_name(&what.endpoint.id), &what.endpoint.interface);
    let mtu = what.network.config.bridge.mtu;
    // One queue: without a queueing discipline on it there is nothing to wait in.
    let end = |name| NewLink { mtu, queues: Some(1), ..NewLink::new(name, None) };
    let peer = NewLink {
        namespace: Some(namespace.as_fd()),
        mac: what.endpoint.mac.map(|mac| mac.0),
        ..end(interface)
    };
    let new = NewLink { kind: Some(Kind::Veth { peer: Box::new(peer) }), ..end(&name) };
    enslaved(host, what, bridge, new)?;
    let link = link::find(host, &name).refused(|| format!("RTM_GETLINK({name})"))?;
    let alias = format!("tare container {} {interface}", what.container.short());
    // A container that asks for a port of its own by way of the host is answered through the port that it asked by.
    let port = Port { isolated: !what.network.config.bridge.icc, hairpin: true, plain_groups: true };
    let which = Which::Index(link.index);
    let change = Change { alias: Some(&alias), port: Some(port), no_ipv6_address: true, ..Change::default() };
    let up = Change { up: Some(true), ..Change::default() };
    let inner = link.lower.ok_or_else(|| Error::system(format!("RTM_GETLINK({name}): it has no other end")));
    let outcome = admit(link.index).and_then(|()| {
        host.all(vec![change.request(which), up.request(which)])
            .refused(|| format!("RTM_SETLINK({name}, port of a bridge, up)"))
    });
    match outcome.and(inner) {
        Ok(inner) => Ok(Made { host: Some(link.index), inside: inner }),
        Err(error) => {
            let _ = link::delete(host, link.index);
            Err(error)
        }
    }
}

/// Makes the pair with the host's end on a bridge that has room.
fn enslaved(host: &mut Socket, what: &Attach<'_>, bridge: &Bridge, new: NewLink<'_>) -> Result<()> {
    loop {
        let master = bridge.seat(host, what.network)?;
        let made = link::create(host, &NewLink { master: Some(master), ..new.clone() });
        match made {
            // Others took ports that were not counted; each round fills a bridge, so that there is an end.
            Err(error) if error.errno() == Errno::XFULL => bridge.is_full(master),
            made => {
                let interface = &what.endpoint.interface;
                return made.refused(|| {
                    format!("RTM_NEWLINK(veth {}, peer {interface} in the container)", new.name)
                });
            }
        }
    }
}

fn on_parent(host: &mut Socket, inside: &mut Socket, what: &Attach<'_>, parent: u32) -> Result<Made> {
    let (config, endpoint) = (&what.network.config, what.endpoint);
    let namespace = inside.namespace().refused(|| "ioctl(SIOCGSKNS)")?;
    let kind = parent::kind(what.network, parent);
    let shared = matches!(kind, Some(Kind::Ipvlan { .. })) || config.parent.mode == ParentMode::Passthru;
    if let Some(mac) = endpoint.mac.filter(|_| shared) {
        return Err(Error::invalid(format!(
            "containers have the MAC of the parent link, so that {mac} cannot be given: leave --mac-address out"
        )));
    }
    let new = NewLink {
        namespace: Some(namespace.as_fd()),
        mac: endpoint.mac.map(|mac| mac.0),
        mtu: config.bridge.mtu,
        ..NewLink::new(&endpoint.interface, kind)
    };
    let made = parent::unsupported(link::create(host, &new), config.driver.name())?;
    let (driver, interface) = (config.driver.name(), &endpoint.interface);
    made.refused(|| format!("RTM_NEWLINK({driver} {interface} in the container, on link {parent})"))?;
    let link = link::find(inside, interface).refused(|| format!("RTM_GETLINK({interface})"))?;
    Ok(Made { host: None, inside: link.index })
}

/// What an interface needs inside of the container, in one packet.
fn configure(inside: &mut Socket, what: &Attach<'_>, index: u32) -> Result<()> {
    let endpoint = what.endpoint;
    let which = Which::Index(index);
    let mut requests = Vec::with_capacity(6);
    if !what.network.config.ipv6 {
        requests.push(Change { no_ipv6_address: true, ..Change::default() }.request(which));
    }
    requests.push(Change { up: Some(true), ..Change::default() }.request(which));
    let address = |net: &ipnet::IpNet| Address { link: index, ip: net.addr(), prefix: net.prefix_len() };
    requests.extend(endpoint.addresses.iter().map(|net| address(net).addition()));
    requests.extend(defaults(what, index));
    inside.all(requests).refused(|| format!("set up of {} in the container", endpoint.interface))
}

fn defaults(what: &Attach<'_>, index: u32) -> Vec<Request> {
    let on_link = matches!(what.network.config.parent.mode, ParentMode::L3 | ParentMode::L3s);
    let mut requests = Vec::new();
    for (wanted, ipv4) in [(what.default_ipv4, true), (what.default_ipv6, false)] {
        let has_family = what.endpoint.addresses.iter().any(|net| net.addr().is_ipv4() == ipv4);
        let gateway = what.endpoint.gateways.iter().copied().find(|ip| ip.is_ipv4() == ipv4);
        if wanted && has_family && (gateway.is_some() || on_link) {
            requests.push(route::default(ipv4, gateway, index).replacement());
        }
    }
    requests
}
