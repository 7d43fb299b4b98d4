//! The tree of bridges that is a network.
//!
//! How many ports each has is only remembered as an upper bound, full at first: a container's port disappears with its
//! namespace, without a word. When all seem full they are counted, and if they are, the tree grows.

use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;
use tare_model::error::{Error, ErrorKind, Result};
use tare_model::network::Network;
use tare_sys::netlink::Socket;
use tare_sys::netlink::address::{self, Address};
use tare_sys::netlink::link::{self, Change, Kind, Link, NewLink, Port, Which};

use super::refusal::{Refused, but, gather};
use super::{mark, settle, sysctl};

/// Names have room for two digits of a leaf's number.
const MOST_LEAVES: usize = 256;

/// How many ports of containers a bridge has at most.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) root: usize,
    pub(crate) leaf: usize,
}

/// A network's bridges in the kernel.
#[derive(Debug)]
pub struct Bridge {
    /// Index of the root, which has the gateway's addresses.
    pub index: u32,
    limits: Limits,
    /// The root and its leaves. Never held over a system call.
    segments: Mutex<Vec<Segment>>,
    /// Held by the one that looks for room when none is known: what it finds or makes is for all who wait meanwhile.
    search: Mutex<()>,
}

/// One of the bridges.
#[derive(Clone, Copy, Debug)]
struct Segment {
    index: u32,
    /// Which leaf it is.
    leaf: Option<usize>,
    /// Containers' ports: at most this many.
    ports: usize,
}

// === impl Limits ===

impl Default for Limits {
    fn default() -> Self {
        // 1023 is the kernel's number; the root keeps 63 for uplinks, a leaf one.
        Self { root: 960, leaf: 1022 }
    }
}

// === impl Bridge ===

impl Bridge {
    pub(super) fn ensure(host: &mut Socket, network: &Network, limits: Limits) -> Result<Self> {
        let was_there = find(host, &network.bridge())?.is_some();
        let root = root(host, network)?;
        let bridge = Self {
            index: root.index,
            limits,
            segments: Mutex::new(vec![Segment { index: root.index, leaf: None, ports: limits.root }]),
            search: Mutex::default(),
        };
        // A new root has no leaves; what is left of a former one's is taken when it grows. Of the others any may be gone.
        for number in (0..MOST_LEAVES).filter(|_| was_there) {
            let Some(leaf) = find(host, &mark::leaf(network, number).bridge)? else { continue };
            // Somebody else's is passed by, as when the tree grew.
            if !mark::is_ours(&leaf, network, Some(number)) {
                continue;
            }
            // It may have been made by half, or be one that could not be joined.
            match connect(host, network, number, root.index) {
                Err(error) if error.kind() == ErrorKind::Conflict => continue,
                joined => joined?,
            }
            bridge.segments().push(Segment { index: leaf.index, leaf: Some(number), ports: limits.leaf });
        }
        Ok(bridge)
    }

    /// A bridge with room for one more port, which is counted as taken.
    pub(super) fn seat(&self, host: &mut Socket, network: &Network) -> Result<u32> {
        if let Some(index) = self.free_seat() {
            return Ok(index);
        }
        let _one = self.search.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(index) = self.free_seat() {
            return Ok(index);
        }
        self.count(host)?;
        loop {
            if let Some(index) = self.free_seat() {
                return Ok(index);
            }
            // Others may take all seats of a new leaf before this one looks: then there is one more, until there may be none.
            self.grow(host, network)?;
        }
    }

    /// The kernel says that a bridge has no port left.
    pub(super) fn is_full(&self, index: u32) {
        if let Some(segment) = self.segments().iter_mut().find(|segment| segment.index == index) {
            segment.ports = usize::MAX;
        }
    }

    fn segments(&self) -> MutexGuard<'_, Vec<Segment>> {
        // Nothing that could fail is done with it.
        self.segments.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn limit(&self, index: u32) -> usize {
        if index == self.index { self.limits.root } else { self.limits.leaf }
    }

    fn free_seat(&self) -> Option<u32> {
        let mut segments = self.segments();
        let segment = segments.iter_mut().find(|segment| segment.ports < self.limit(segment.index))?;
        segment.ports += 1;
        Some(segment.index)
    }

    /// Counts the ports that are there.
    fn count(&self, host: &mut Socket) -> Result<()> {
        let indexes: Vec<u32> = self.segments().iter().map(|segment| segment.index).collect();
        for index in indexes {
            let ports = link::ports(host, index).refused(|| format!("RTM_GETLINK(ports of {index})"))?;
            // Uplinks are not containers': `tu…` at the root, `td…` at a leaf.
            let found = ports.iter().filter(|port| !mark::is_uplink(&port.name)).count();
            if let Some(segment) = self.segments().iter_mut().find(|segment| segment.index == index) {
                segment.ports = found;
            }
        }
        Ok(())
    }

    /// Makes one more leaf, past names that others have.
    fn grow(&self, host: &mut Socket, network: &Network) -> Result<()> {
        let known: Vec<usize> = self.segments().iter().filter_map(|segment| segment.leaf).collect();
        for number in (0..MOST_LEAVES).filter(|number| !known.contains(number)) {
            match leaf(host, network, number, self.index) {
                Ok(index) => {
                    self.segments().push(Segment { index, leaf: Some(number), ports: 0 });
                    return Ok(());
                }
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::conflict("all its bridges are full"))
    }
}

/// Makes a leaf and joins it to the root; gives its index. None of its three names may be somebody else's.
fn leaf(host: &mut Socket, network: &Network, number: usize, root: u32) -> Result<u32> {
    let leaf = make(host, network, &mark::leaf(network, number).bridge, Some(number))?;
    // If not, it stays until the network is removed.
    connect(host, network, number, root)?;
    Ok(leaf.index)
}

/// Removes all bridges of a network.
pub(super) fn remove(host: &mut Socket, network: &Network) -> Result<()> {
    let mut outcomes = Vec::new();
    for number in 0..MOST_LEAVES {
        let leaf = mark::leaf(network, number);
        match find(host, &leaf.bridge) {
            Ok(Some(link)) if mark::is_ours(&link, network, Some(number)) => {
                let uplink = match uplink(host, network, &leaf) {
                    Ok(Some([up, _])) => delete(host, &up),
                    Err(error) if error.kind() != ErrorKind::Conflict => Err(error),
                    Ok(None) | Err(_) => Ok(()),
                };
                outcomes.extend([uplink, delete(host, &link)]);
            }
            // There may be more behind one that was somebody else's and has gone.
            Ok(_) => {}
            Err(error) => outcomes.push(Err(error)),
        }
    }
    match find(host, &network.bridge()) {
        Ok(Some(link)) if mark::is_ours(&link, network, None) => outcomes.push(delete(host, &link)),
        Ok(_) => {}
        Err(error) => outcomes.push(Err(error)),
    }
    gather(outcomes)
}

fn delete(host: &mut Socket, link: &Link) -> Result<()> {
    but(link::delete(host, link.index), &[Errno::NODEV]).refused(|| format!("RTM_DELLINK({})", link.name))
}

/// The bridge with the gateway's addresses.
fn root(host: &mut Socket, network: &Network) -> Result<Link> {
    let name = network.bridge();
    let link = make(host, network, &name, None)?;
    for pool in &network.pools {
        let Some(gateway) = pool.gateway else { continue };
        let address = Address { link: link.index, ip: gateway, prefix: pool.subnet.prefix_len() };
        but(address::add(host, &address), &[Errno::EXIST])
            .refused(|| format!("RTM_NEWADDR({gateway}/{} on {name})", address.prefix))?;
        settle::receives(host, gateway)?;
    }
    Ok(link)
}

/// A bridge of ours of that name, up; it may be there.
fn make(host: &mut Socket, network: &Network, name: &str, leaf: Option<usize>) -> Result<Link> {
    let mtu = network.config.bridge.mtu;
    let new =
        NewLink { mac: Some(mark::mac(network, leaf).0), mtu, ..NewLink::new(name, Some(Kind::Bridge)) };
    but(link::create(host, &new), &[Errno::EXIST]).refused(|| format!("RTM_NEWLINK(bridge {name})"))?;
    let link = link::find(host, name).refused(|| format!("RTM_GETLINK({name})"))?;
    own(&link, network, leaf)?;
    // Before it is up: until then it hears nobody.
    // Where the host has no IPv6 address on the network it must have no link-local one either: containers would reach it by that.
    let ipv6 = network.pools.iter().any(|pool| pool.gateway.is_some_and(|ip| ip.is_ipv6()));
    sysctl::quiet(name, ipv6 && leaf.is_none())?;
    let alias = mark::alias(network);
    let change = Change {
        up: Some(true),
        mac: Some(mark::mac(network, leaf).0),
        mtu: mtu.filter(|mtu| *mtu != link.mtu),
        alias: Some(&alias),
        // A leaf would answer for the gateway, with a MAC that leads past what the firewall knows of the root.
        no_arp: leaf.is_some(),
        ..Change::default()
    };
    link::change(host, link.index, &change).refused(|| format!("RTM_SETLINK({name})"))?;
    Ok(link)
}

/// Joins a leaf to the root by a pair, of which parts may be there.
fn connect(host: &mut Socket, network: &Network, number: usize, root: u32) -> Result<()> {
    let names = mark::leaf(network, number);
    let leaf = link::find(host, &names.bridge).refused(|| format!("RTM_GETLINK({})", names.bridge))?.index;
    let mtu = network.config.bridge.mtu;
    let peer = NewLink { mtu, queues: Some(1), ..NewLink::new(&names.at_leaf, None) };
    let kind = Some(Kind::Veth { peer: Box::new(peer) });
    let new = NewLink { mtu, queues: Some(1), ..NewLink::new(&names.at_root, kind) };
    but(link::create(host, &new), &[Errno::EXIST])
        .refused(|| format!("RTM_NEWLINK(veth {})", names.at_root))?;
    let alias = mark::alias(network);
    let gone = || Error::not_found(format!("RTM_GETLINK({}): it is gone again", names.at_root));
    let ends = uplink(host, network, &names)?.ok_or_else(gone)?;
    let quiet = Change { alias: Some(&alias), no_ipv6_address: true, ..Change::default() };
    let up = Change { up: Some(true), ..Change::default() };
    let mut requests = Vec::new();
    let closed = Change { group: Some(mark::CLOSED), ..Change::default() };
    requests.push(closed.request(Which::Index(leaf)));
    for (name, master, isolated) in
        [(&names.at_root, root, !network.config.bridge.icc), (&names.at_leaf, leaf, false)]
    {
        let which = Which::Name(name);
        let port = Some(Port { isolated, hairpin: false, plain_groups: true });
        requests.push(Change { master: Some(master), ..quiet }.request(which));
        requests.extend([Change { port, ..Change::default() }.request(which), up.request(which)]);
    }
    host.all(requests)
        .refused(|| format!("RTM_SETLINK({}, {}, {})", names.bridge, names.at_root, names.at_leaf))?;
    ends.iter().try_for_each(|end| settle::carries(host, end.index))
}

/// The pair that joins a leaf to the root, if it is there.
fn uplink(host: &mut Socket, network: &Network, names: &mark::Leaf) -> Result<Option<[Link; 2]>> {
    let alias = mark::alias(network);
    // One without an alias was made just now, or by a daemon that died at that instant; none of ours is without its other end.
    let is_ours = |end: &Link| end.kind == "veth" && (end.alias.is_empty() || end.alias == alias);
    match (find(host, &names.at_root)?, find(host, &names.at_leaf)?) {
        (None, None) => Ok(None),
        (Some(up), Some(down)) if is_ours(&up) && is_ours(&down) => Ok(Some([up, down])),
        (Some(up), Some(_)) if !is_ours(&up) => Err(foreign(&up)),
        (_, Some(end)) | (Some(end), None) => Err(foreign(&end)),
    }
}

fn own(link: &Link, network: &Network, leaf: Option<usize>) -> Result<()> {
    if mark::is_ours(link, network, leaf) {
        return Ok(());
    }
    Err(foreign(link))
}

fn foreign(link: &Link) -> Error {
    let what = if link.kind.is_empty() { "link" } else { &link.kind };
    Error::conflict(format!(
        "a {what} named {} exists and is not this network's: rename or delete it, or choose another name with \
         -o com.docker.network.bridge.name=NAME",
        link.name
    ))
}

pub(super) fn find(host: &mut Socket, name: &str) -> Result<Option<Link>> {
    match link::find(host, name) {
        Ok(link) => Ok(Some(link)),
        Err(error) if error.errno() == Errno::NODEV => Ok(None),
        error => error.map(Some).refused(|| format!("RTM_GETLINK({name})")),
    }
}
