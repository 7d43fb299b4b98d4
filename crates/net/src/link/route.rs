//! Routes: where containers send what is for elsewhere, and where the host sends things already.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use rustix::io::Errno;
use tare_model::error::Result;
use tare_sys::netlink::route::{self, Route};
use tare_sys::netlink::rule::{self, Rule};
use tare_sys::netlink::{Request, Socket, address, link};

use super::refusal::{Refused, but};

/// A way out of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// Index of the interface.
    pub link: u32,
    /// The next hop; absent where everything is said to be on the link (ipvlan `l3`).
    pub gateway: Option<IpAddr>,
}

/// A network that a container is on, as far as routes are concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place<'a> {
    /// Index of the interface.
    pub link: u32,
    /// The container's addresses there.
    pub addresses: Vec<IpAddr>,
    /// The next hops, at most one of a family.
    pub gateways: &'a [IpAddr],
}

/// What lies nearer than a default route is looked for first. The number is nobody else's, and smaller than the main table's.
const NEAR: u32 = 29_792;
/// Then what an address of ours sends.
const OWN: u32 = NEAR + 1;
/// The table of an interface is its index and this.
const TABLES: u32 = 10_000;

// === impl Place ===

impl Place<'_> {
    fn gateway(&self, ipv4: bool) -> Option<IpAddr> {
        self.gateways.iter().copied().find(|gateway| gateway.is_ipv4() == ipv4)
    }

    fn is_of(&self, ipv4: bool) -> bool {
        self.addresses.iter().any(|address| address.is_ipv4() == ipv4)
    }
}

/// The route to everything of a family, by a link.
pub(super) fn default(ipv4: bool, gateway: Option<IpAddr>, link: u32) -> Route {
    let everything =
        if ipv4 { IpAddr::from(Ipv4Addr::UNSPECIFIED) } else { IpAddr::from(Ipv6Addr::UNSPECIFIED) };
    Route { network: everything, prefix: 0, gateway, link: Some(link), metric: None }
}

/// Indexes of interfaces, in the order of their names.
///
/// # Errors
/// `NotFound` if there is no such interface; `System` with the kernel's refusal.
pub fn indexes<'a>(inside: &mut Socket, names: impl IntoIterator<Item = &'a str>) -> Result<Vec<u32>> {
    let index = |name| Ok(link::find(inside, name).refused(|| format!("RTM_GETLINK({name})"))?.index);
    names.into_iter().map(index).collect()
}

/// Sets the default routes of a container, each family's at one instant: connections go on, by the new way if they went by
/// the old one. A family without a way has no default route any more; links that the container made itself keep theirs if
/// they have a metric of their own.
///
/// # Errors
/// `System` with the kernel's refusal.
pub fn set_default(inside: &mut Socket, ipv4: Option<Way>, ipv6: Option<Way>) -> Result<()> {
    let mut requests: Vec<Request> = Vec::new();
    for (is_ipv4, way) in [(true, ipv4), (false, ipv6)] {
        match way {
            Some(Way { link, gateway }) => requests.push(default(is_ipv4, gateway, link).replacement()),
            None => drop_default(inside, is_ipv4)?,
        }
    }
    inside.all(requests).refused(|| "RTM_NEWROUTE(default)")
}

/// What an address of a container on several networks sends leaves by the gateway of its network, whichever one has the
/// default route: connections to it, and those that it began before another network came, go on. Nearer routes, and what has
/// no address yet, are as before. On a kernel with a single table of routes nothing changes.
///
/// # Errors
/// `System` with the kernel's refusal.
pub fn lead_each(inside: &mut Socket, places: &[Place<'_>]) -> Result<()> {
    let known = match rule::list(inside) {
        Err(error) if error.errno() == Errno::OPNOTSUPP => return Ok(()),
        known => known.refused(|| "RTM_GETRULE")?,
    };
    let (mut requests, mut wanted) = (Vec::new(), BTreeSet::new());
    for ipv4 in [true, false] {
        let has_tables = known.iter().any(|rule| rule.ipv4 == ipv4);
        if !has_tables || places.iter().filter(|place| place.is_of(ipv4)).count() < 2 {
            continue;
        }
        wanted.insert(Rule { priority: NEAR, ipv4, source: None, table: rule::MAIN, passed_by: Some(0) });
        for place in places {
            let Some(gateway) = place.gateway(ipv4) else { continue };
            let table = TABLES.saturating_add(place.link);
            requests.push(default(ipv4, Some(gateway), place.link).replacement_in(table));
            let from =
                |source: &IpAddr| Rule { priority: OWN, ipv4, source: Some(*source), table, passed_by: None };
            wanted.extend(place.addresses.iter().filter(|address| address.is_ipv4() == ipv4).map(from));
        }
    }
    let old: BTreeSet<Rule> = known.into_iter().filter(|rule| [NEAR, OWN].contains(&rule.priority)).collect();
    requests.extend(wanted.difference(&old).map(Rule::addition));
    requests.extend(old.difference(&wanted).map(Rule::deletion));
    inside.all(requests).refused(|| "RTM_NEWROUTE, RTM_NEWRULE and RTM_DELRULE of its networks")
}

fn drop_default(inside: &mut Socket, ipv4: bool) -> Result<()> {
    let routes = route::list(inside).refused(|| "RTM_GETROUTE")?;
    let usual = |route: &&Route| route.metric.is_none_or(|metric| metric == IPV6_METRIC);
    for route in routes.iter().filter(usual).filter(|r| r.prefix == 0 && r.network.is_ipv4() == ipv4) {
        but(route::delete(inside, route), &[Errno::SRCH]).refused(|| "RTM_DELROUTE(default)")?;
    }
    Ok(())
}

/// What the kernel gives routes of IPv6 that are added without a metric.
const IPV6_METRIC: u32 = 1024;

/// The subnets that the host sends somewhere, by a route of any table or an address of a link of its own; for
/// [`crate::pool::Surroundings`].
///
/// # Errors
/// `System` with the kernel's refusal.
pub fn destinations(host: &mut Socket) -> Result<Vec<IpNet>> {
    let routes = route::list_all(host).refused(|| "RTM_GETROUTE")?;
    let addresses = address::list(host).refused(|| "RTM_GETADDR")?;
    let routes = routes.iter().map(|route| (route.network, route.prefix));
    let all = routes.chain(addresses.iter().map(|address| (address.ip, address.prefix)));
    let nets = all.filter_map(|(ip, prefix)| IpNet::new(ip, prefix).ok()).map(|net| net.trunc());
    // Every link has these; no network could ever be there.
    let everywhere = |net: &IpNet| {
        let ip = net.addr();
        ip.is_multicast() || ip.is_loopback() || matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local())
    };
    Ok(nets.filter(|net| !everywhere(net)).collect::<BTreeSet<_>>().into_iter().collect())
}
