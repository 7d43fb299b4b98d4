//! The kernel's networks: links, the firewall and names, put together.
//!
//! Sockets of the host's namespace are taken from a small pool for the time of a call: two containers that start wait for
//! the kernel's lock, not for each other's conversation with it.

mod guard;
mod hold;
mod inside;

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use ipnet::IpNet;
use tare_model::fault::Impairment;
use tare_model::network::{Driver, Network, Protocol, Published};
use tare_model::sandbox::{NetworkReady, NetworkSockets};
use tare_model::{Error, NetworkId, Result};
use tare_net::dns::{self, Directory, Dns};
use tare_net::fault::{self, Cuts};
use tare_net::firewall::{Bridge, Ruleset};
use tare_net::link::{self, Attach, Doomed, Way};
use tare_net::shape::{Shaped, Shaper};
use tare_sys::netlink::{self, Socket};

use super::Resolver;
use super::fabric::{Cut, Fabric, Join};
use super::faults;
use guard::Guard;
pub(super) use hold::{ephemeral_ports, hold};
use inside::{addresses, dup, ends_of, indexes, inside, parameters, places, port_of, settings};

/// Sockets of the host's namespace that are kept when nobody uses them.
const SOCKETS: usize = 8;

/// See the head of this file.
pub(crate) struct Host {
    sockets: Mutex<Vec<Socket>>,
    links: Mutex<HashMap<NetworkId, Arc<link::Fabric>>>,
    /// The host's ends of containers' interfaces, by the endpoint.
    ends: Mutex<HashMap<String, u32>>,
    shaper: Shaper,
    /// Opened by the first use.
    cuts: Mutex<Option<Cuts>>,
    firewall: OnceLock<Guard>,
    opening: Mutex<()>,
    table: String,
    /// Programs of this namespace reach ports on `::1` by the firewall.
    loopback: bool,
    /// It was said that they do not.
    unled: AtomicBool,
    directory: Arc<Directory>,
    names: Dns,
}

// === impl Host ===

impl Host {
    /// Of the calling thread's network namespace; nothing is changed before it is needed. `table` names the firewall's tables;
    /// without `loopback` somebody else takes what comes to ports on `::1`.
    ///
    /// # Errors
    /// Outside of a tokio runtime.
    pub(crate) fn open(table: String, loopback: bool) -> Result<Self> {
        let directory = Arc::new(Directory::default());
        let names = Dns::open(Arc::clone(&directory), dns::Limits::default())?;
        Ok(Self {
            sockets: Mutex::default(),
            links: Mutex::default(),
            ends: Mutex::default(),
            shaper: Shaper::default(),
            cuts: Mutex::default(),
            firewall: OnceLock::new(),
            opening: Mutex::default(),
            table,
            loopback,
            unled: AtomicBool::new(false),
            directory,
            names,
        })
    }

    /// Answers programs of the host that ask for containers' names there.
    ///
    /// # Errors
    /// An address that cannot be had.
    pub(crate) fn serve_host(&self, at: SocketAddr) -> Result<()> {
        self.names.serve_host(at)
    }

    fn with_socket<T>(&self, work: impl FnOnce(&mut Socket) -> Result<T>) -> Result<T> {
        let idle = lock(&self.sockets).pop();
        let mut socket = match idle {
            Some(socket) => socket,
            None => Socket::open(netlink::Protocol::Route)
                .map_err(|e| Error::system(format!("socket(AF_NETLINK, NETLINK_ROUTE): {e}")))?,
        };
        let result = work(&mut socket);
        let mut sockets = lock(&self.sockets);
        // After an error there may be answers on it that nobody has read.
        if result.is_ok() && sockets.len() < SOCKETS {
            sockets.push(socket);
        }
        result
    }

    fn fabric_of(&self, network: &Network) -> Result<Arc<link::Fabric>> {
        let known = lock(&self.links).get(&network.id).cloned();
        known.map_or_else(|| self.make_links(network), Ok)
    }

    fn make_links(&self, network: &Network) -> Result<Arc<link::Fabric>> {
        let made = named(network, self.with_socket(|host| link::ensure(host, network)))?;
        let made = Arc::new(made);
        lock(&self.links).insert(network.id.clone(), Arc::clone(&made));
        let subnets = network.pools.iter().map(|pool| pool.subnet).collect();
        self.directory.add_network(&network.id, &network.config.name, network.config.internal, subnets);
        Ok(made)
    }

    fn attach_one(&self, join: &Join, inside: &mut Socket) -> Result<()> {
        let fabric = self.fabric_of(&join.network)?;
        let what = Attach {
            network: &join.network,
            fabric: &fabric,
            container: &join.container,
            endpoint: &join.endpoint,
            default_ipv4: join.default_routes.0,
            default_ipv6: join.default_routes.1,
        };
        tare_net::shape::check(&join.network, &join.shaping)?;
        let admit = |end| self.admit(join, end);
        let attached =
            named(&join.network, self.with_socket(|host| link::attach(host, inside, &what, admit)));
        let shaped = attached.and_then(|_| {
            // Without its limits it is not to be there; the first error is the one to tell.
            let undo = |_: &Error| {
                let doomed = link::detach(inside, &join.endpoint);
                let _ = doomed.map(|doomed| doomed.map(|link| link.delete(inside)));
            };
            self.shape_one(join).inspect_err(undo)
        });
        shaped.inspect_err(|_| {
            let _ = self.dismiss(std::slice::from_ref(join));
        })
    }

    fn shape_one(&self, join: &Join) -> Result<()> {
        match self.shaped(join) {
            Some(shaped) => named(&join.network, self.with_socket(|host| self.shaper.shape(host, &shaped))),
            // Without a host's end there is nothing that could be limited; it was refused before.
            None => tare_net::shape::check(&join.network, &join.shaping),
        }
    }

    fn shaped<'a>(&self, join: &'a Join) -> Option<Shaped<'a>> {
        let end = *lock(&self.ends).get(&join.endpoint.id)?;
        Some(Shaped { network: &join.network, endpoint: &join.endpoint.id, end, shaping: &join.shaping })
    }

    /// Classes of containers that are gone, or leave.
    fn unshape(&self, joins: &[Join]) -> Result<()> {
        let leave =
            |join: &Join| self.with_socket(|host| self.shaper.leave(host, &join.network, &join.endpoint.id));
        joins.iter().map(leave).fold(Ok(()), Result::and)
    }

    fn restore_shapes(&self, networks: &[Arc<Network>], joins: &[Join]) -> Result<()> {
        for network in networks.iter().filter(|network| network.config.driver == Driver::Bridge) {
            let on = joins.iter().filter(|join| join.network.id == network.id);
            let all: Vec<Shaped<'_>> = on.filter_map(|join| self.shaped(join)).collect();
            named(network, self.with_socket(|host| self.shaper.restore(host, network, &all)))?;
        }
        Ok(())
    }

    fn join_names(&self, joins: &[Join]) {
        for join in joins {
            let member = dns::Member { names: join.names.clone(), addresses: addresses(join) };
            self.directory.join(&join.network.id, &join.container, member);
        }
    }

    fn parted(&self, cuts: BTreeSet<fault::Cut>) -> Result<()> {
        let mut known = lock(&self.cuts);
        if known.is_none() {
            *known = Some(Cuts::open(&self.table)?);
        }
        known.as_mut().map_or(Ok(()), |known| known.set(cuts))
    }

    fn forget_ends(&self, joins: &[Join]) -> Vec<u32> {
        let mut ends = lock(&self.ends);
        joins.iter().filter_map(|join| ends.remove(&join.endpoint.id)).collect()
    }
}

impl Fabric for Host {
    fn routes(&self) -> Result<Vec<IpNet>> {
        self.with_socket(link::destinations)
    }

    fn ensure(&self, network: &Network) -> Result<()> {
        self.make_links(network)?;
        if network.config.driver != Driver::Bridge {
            return Ok(());
        }
        let firewall = self.firewall(Ruleset::default)?;
        named(network, firewall.add_network(Bridge::of(network)))?;
        if let Some(why) = firewall.confined() {
            let (bridge, name) = (network.bridge(), &network.config.name);
            tracing::warn!(
                "containers of network {name} may not reach the outside: {why}; firewall-cmd --zone=trusted --add-interface={bridge}"
            );
        }
        Ok(())
    }

    fn remove(&self, network: &Network) -> Result<()> {
        let rules = match self.opened() {
            Some(firewall) if network.config.driver == Driver::Bridge => {
                firewall.remove_network(&network.bridge())
            }
            _ => Ok(()),
        };
        lock(&self.links).remove(&network.id);
        self.directory.remove_network(&network.id);
        let shapes = self.with_socket(|host| self.shaper.remove(host, network));
        named(network, self.with_socket(|host| link::remove(host, network)).and(rules).and(shapes))
    }

    fn attach(&self, joins: &[Join], sockets: &NetworkSockets) -> Result<NetworkReady> {
        let mut inside = inside(sockets)?;
        for join in joins {
            self.attach_one(join, &mut inside)?;
        }
        if joins.len() > 1 {
            let links = indexes(joins, &mut inside)?;
            link::lead_each(&mut inside, &places(joins, &links))?;
        }
        self.join_names(joins);
        Ok(NetworkReady { sysctls: joins.iter().flat_map(parameters).collect() })
    }

    fn serve_names(&self, joins: &[Join], resolver: &Resolver, sockets: &NetworkSockets) -> Result<()> {
        let Some(first) = joins.first() else { return Ok(()) };
        let (udp, tcp) = (port_of(&sockets.dns_udp)?, port_of(&sockets.dns_tcp)?);
        let settings = settings(joins, resolver);
        self.names.serve(&first.container, dup(&sockets.dns_udp)?, dup(&sockets.dns_tcp)?, &settings)?;
        dns::redirect(dup(&sockets.netfilter)?, udp, tcp).map(drop)
    }

    fn shape(&self, joins: &[Join]) -> Result<()> {
        joins.iter().try_for_each(|join| self.shape_one(join))
    }

    fn impair(&self, join: &Join, [to, from]: &[Impairment; 2], sockets: &NetworkSockets) -> Result<()> {
        let end = lock(&self.ends).get(&join.endpoint.id).copied();
        let Some(end) = end else { return Err(faults::unreachable(join.network.config.driver)) };
        self.with_socket(|host| fault::impair(host, end, to))?;
        let mut inside = inside(sockets)?;
        let index = fault::index(&mut inside, &join.endpoint.interface)?;
        fault::impair(&mut inside, index, from)
    }

    fn part(&self, cuts: &[Cut]) -> Result<()> {
        let ends = lock(&self.ends).clone();
        let cuts = cuts
            .iter()
            .filter_map(|cut| Some(fault::Cut { link: *ends.get(&cut.endpoint)?, from: cut.from }));
        self.parted(cuts.collect())
    }

    fn detach(&self, join: &Join, sockets: &NetworkSockets) -> Result<()> {
        let mut inside = inside(sockets)?;
        let doomed: Option<Doomed> = link::detach(&mut inside, &join.endpoint)?;
        // It is off from here on: nothing that fails afterwards brings it back.
        self.directory.leave(&join.network.id, &join.container);
        let ends = self.forget_ends(std::slice::from_ref(join));
        let deleted = doomed.map_or(Ok(()), |doomed| doomed.delete(&mut inside));
        let dismissed = match self.opened() {
            Some(firewall) => firewall.dismiss(&ends, &[]).and_then(|()| firewall.forget(&addresses(join))),
            None => Ok(()),
        };
        let unshaped = self.unshape(std::slice::from_ref(join));
        for e in [deleted, dismissed, unshaped].into_iter().filter_map(Result::err) {
            tracing::error!(container = join.container.as_str(), "after it was taken off a network: {e}");
        }
        Ok(())
    }

    fn route(&self, joins: &[Join], sockets: &NetworkSockets) -> Result<()> {
        let mut inside = inside(sockets)?;
        let links = indexes(joins, &mut inside)?;
        let way = |ipv4: bool| {
            let leads = |join: &&Join| if ipv4 { join.default_routes.0 } else { join.default_routes.1 };
            let (join, link) = joins.iter().zip(&links).find(|(join, _)| leads(join))?;
            let gateway = join.endpoint.gateways.iter().copied().find(|gateway| gateway.is_ipv4() == ipv4);
            Some(Way { link: *link, gateway })
        };
        link::set_default(&mut inside, way(true), way(false))?;
        link::lead_each(&mut inside, &places(joins, &links))
    }

    fn rename(&self, joins: &[Join]) {
        self.join_names(joins);
    }

    fn forget(&self, joins: &[Join]) -> Result<()> {
        for join in joins {
            self.names.stop(&join.container);
            self.directory.leave(&join.network.id, &join.container);
        }
        self.dismiss(joins).and(self.unshape(joins))
    }

    fn forget_connections(&self, joins: &[Join]) -> Result<()> {
        let endpoints = joins.iter().map(|join| &join.endpoint);
        let swept = self.with_socket(|host| link::sweep(host, endpoints));
        let forgotten = match self.opened() {
            Some(firewall) => firewall.forget(&joins.iter().flat_map(addresses).collect::<Vec<_>>()),
            None => Ok(()),
        };
        swept.and(forgotten)
    }

    fn publish(&self, published: &[Published], _: Vec<Option<OwnedFd>>) -> Result<()> {
        let firewall = self.firewall(Ruleset::default)?;
        firewall.publish(published)?;
        self.tell_unled(firewall);
        Ok(())
    }

    fn unpublish(&self, published: &[Published]) -> Result<()> {
        self.firewall(Ruleset::default)?.unpublish(published)
    }

    fn to_be_kept(&self) -> Option<OwnedFd> {
        let copy = dup(&self.firewall.get()?.keep);
        copy.inspect_err(|e| tracing::error!("the firewall cannot be kept while no engine runs: {e}")).ok()
    }

    fn restore(
        &self,
        networks: &[Arc<Network>],
        joins: &[Join],
        (published, _): (&[Published], Vec<Option<OwnedFd>>),
        kept: Option<OwnedFd>,
    ) -> Result<()> {
        for network in networks {
            self.make_links(network)?;
        }
        let ends = self.with_socket(|host| ends_of(host, joins))?;
        lock(&self.ends).extend(ends);
        self.restore_shapes(networks, joins)?;
        self.join_names(joins);
        let bridges = networks.iter().filter(|network| network.config.driver == Driver::Bridge);
        let bridges: Vec<Bridge> = bridges.map(|network| Bridge::of(network)).collect();
        let rules = Ruleset::new(bridges, self.admitted(joins), published.iter().cloned());
        self.take_over(rules, !joins.is_empty(), kept)
    }

    fn hold(&self, protocol: Protocol, address: SocketAddr) -> io::Result<Option<OwnedFd>> {
        hold(protocol, address).map(Some)
    }

    fn ephemeral_ports(&self) -> (u16, u16) {
        ephemeral_ports()
    }

    fn retire(&self, networks: &[Arc<Network>]) {
        // Those too that an engine before us made.
        for network in networks {
            let shapes = self.with_socket(|host| self.shaper.remove(host, network));
            if let Err(e) = self.with_socket(|host| link::remove(host, network)).and(shapes) {
                tracing::error!("remove network {}: {e}", network.config.name);
            }
        }
        if lock(&self.cuts).is_some()
            && let Err(e) = self.parted(BTreeSet::new())
        {
            tracing::error!("take network faults away: {e}");
        }
        if let Some(firewall) = self.opened()
            && let Err(e) = firewall.remove()
        {
            tracing::error!("remove the firewall's tables: {e}");
        }
    }
}

/// Rooms below say what was refused, and not of which network.
fn named<T>(network: &Network, outcome: Result<T>) -> Result<T> {
    outcome.map_err(|e| e.context(format!("network {}", network.config.name)))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
