//! The kernel's networks: links, the firewall and names, put together.
//!
//! Sockets of the host's namespace are taken from a small pool for the time of a call: two containers that start wait for
//! the kernel's lock, not for each other's conversation with it.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use ipnet::IpNet;
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, sockopt};
use tare_model::fault::Impairment;
use tare_model::network::{Driver, Network, Protocol, Published};
use tare_model::sandbox::{NetworkReady, NetworkSockets};
use tare_model::{Error, NetworkId, Result};
use tare_net::dns::{self, Directory, Dns};
use tare_net::fault::{self, Cuts};
use tare_net::firewall::{Admitted, Bridge, Firewall, Forwarding, Repair, Ruleset, Settings, Watch};
use tare_net::link::{self, Attach, Doomed, Place, Way};
use tare_net::shape::{Shaped, Shaper};
use tare_sys::netlink::{self, Socket};

use super::Resolver;
use super::fabric::{Cut, Fabric, Join};
use super::faults;

/// Sockets of the host's namespace that are kept when nobody uses them.
const SOCKETS: usize = 8;

/// The system's D-Bus.
const BUS: &str = "/run/dbus/system_bus_socket";

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

/// The firewall, open.
struct Guard {
    firewall: Arc<Firewall>,
    /// What is given to those who outlive us.
    keep: OwnedFd,
    _watch: Watch,
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

    /// The firewall, which is opened and watched from its first use on, with what it is to enforce then.
    fn firewall(&self, first: impl FnOnce() -> Ruleset) -> Result<&Arc<Firewall>> {
        if let Some(guard) = self.firewall.get() {
            return Ok(&guard.firewall);
        }
        let _one = lock(&self.opening);
        if self.firewall.get().is_none() {
            self.enforce(Firewall::open(self.settings(), None)?, first())?;
        }
        self.opened().ok_or_else(|| Error::system("the firewall is not open"))
    }

    fn opened(&self) -> Option<&Arc<Firewall>> {
        self.firewall.get().map(|guard| &guard.firewall)
    }

    fn settings(&self) -> Settings {
        let (table, loopback) = (self.table.clone(), self.loopback);
        Settings { table, forwarding: Forwarding::Ours, loopback, bus: BUS.into() }
    }

    /// Loads the firewall and watches over it from now on.
    fn enforce(&self, firewall: Firewall, first: Ruleset) -> Result<()> {
        let firewall = Arc::new(firewall);
        firewall.load(first)?;
        if let Some(why) = firewall.unheard() {
            tracing::warn!("rules of the host's on input do not decide about published ports: {why}");
        }
        if let Some(why) = firewall.detour() {
            tracing::info!("rules that name the link do not see first packets to published ports: {why}");
        }
        self.tell_unled(&firewall);
        let report = |repair: Repair| match repair {
            Repair::Done(after) => tracing::warn!(
                "somebody changed this engine's firewall tables; they are as before after {after:?}"
            ),
            Repair::Failed(e) => tracing::error!("this engine's firewall tables cannot be restored: {e}"),
        };
        let _watch = Watch::start(Arc::clone(&firewall), report)?;
        let keep = firewall.keep()?;
        // Nobody else sets it: the first use is under a lock, and a restart is over before it.
        let _ = self.firewall.set(Guard { firewall, keep, _watch });
        Ok(())
    }

    fn tell_unled(&self, firewall: &Firewall) {
        if let Some(why) = firewall.unled()
            && !self.unled.swap(true, Ordering::Relaxed)
        {
            tracing::warn!("published ports are not reached by [::1] on this host, only by 127.0.0.1: {why}");
        }
    }

    /// The firewall of the engine before us, if it left one or one `is_needed`.
    fn take_over(&self, rules: Ruleset, is_needed: bool, kept: Option<OwnedFd>) -> Result<()> {
        let firewall = Firewall::open(self.settings(), kept)?;
        if !is_needed && !firewall.is_loaded()? {
            return Ok(());
        }
        self.enforce(firewall, rules)
    }

    fn fabric_of(&self, network: &Network) -> Result<Arc<link::Fabric>> {
        let known = lock(&self.links).get(&network.id).cloned();
        known.map_or_else(|| self.make_links(network), Ok)
    }

    fn make_links(&self, network: &Network) -> Result<Arc<link::Fabric>> {
        let made = Arc::new(self.with_socket(|host| link::ensure(host, network))?);
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
        let context = |e: Error| e.context(format!("network {}", join.network.config.name));
        tare_net::shape::check(&join.network, &join.shaping)?;
        let admit = |end| self.admit(join, end);
        let attached = self.with_socket(|host| link::attach(host, inside, &what, admit));
        let shaped = attached.and_then(|_| {
            // Without its limits it is not to be there; the first error is the one to tell.
            let undo = |_: &Error| {
                let doomed = link::detach(inside, &join.endpoint);
                let _ = doomed.map(|doomed| doomed.map(|link| link.delete(inside)));
            };
            self.shape_one(join).inspect_err(undo)
        });
        shaped.map_err(|error| {
            let _ = self.dismiss(std::slice::from_ref(join));
            context(error)
        })
    }

    /// What may be sent by the host's end of a new interface.
    fn admit(&self, join: &Join, end: u32) -> Result<()> {
        lock(&self.ends).insert(join.endpoint.id.clone(), end);
        self.firewall(Ruleset::default)?.admit(&self.admitted(std::slice::from_ref(join)), &[])
    }

    /// The contrary, of interfaces that are gone.
    fn dismiss(&self, joins: &[Join]) -> Result<()> {
        let ends = self.forget_ends(joins);
        match self.opened() {
            Some(firewall) if !ends.is_empty() => firewall.dismiss(&ends, &[]),
            _ => Ok(()),
        }
    }

    fn shape_one(&self, join: &Join) -> Result<()> {
        match self.shaped(join) {
            Some(shaped) => self.with_socket(|host| self.shaper.shape(host, &shaped)),
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
            self.with_socket(|host| self.shaper.restore(host, network, &all))?;
        }
        Ok(())
    }

    /// What may be sent from the links of these joins.
    fn admitted(&self, joins: &[Join]) -> Vec<Admitted> {
        let ends = lock(&self.ends);
        let admit = |join: &Join| {
            Some(Admitted {
                link: *ends.get(&join.endpoint.id)?,
                bridge: join.network.bridge(),
                mac: join.endpoint.mac?,
                addresses: addresses(join),
            })
        };
        joins.iter().filter(|join| join.network.config.driver == Driver::Bridge).filter_map(admit).collect()
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
        firewall.add_network(Bridge::of(network))?;
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
        self.with_socket(|host| link::remove(host, network)).and(rules).and(shapes)
    }

    fn attach(&self, joins: &[Join], sockets: &NetworkSockets) -> Result<NetworkReady> {
        let mut inside = inside(sockets)?;
        for join in joins {
            self.attach_one(join, &mut inside)?;
        }
        if joins.len() > 1 {
            link::lead_each(&mut inside, &places(joins))?;
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
        joins.iter().try_for_each(|join| {
            self.shape_one(join).map_err(|e| e.context(format!("network {}", join.network.config.name)))
        })
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
        let way = |ipv4: bool| {
            let leads = |join: &&Join| if ipv4 { join.default_routes.0 } else { join.default_routes.1 };
            joins.iter().find(leads).map(|join| Way {
                interface: &join.endpoint.interface,
                gateway: join.endpoint.gateways.iter().copied().find(|gateway| gateway.is_ipv4() == ipv4),
            })
        };
        link::set_default(&mut inside, way(true), way(false))?;
        link::lead_each(&mut inside, &places(joins))
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

/// See [`Fabric::hold`]; of the calling thread's network namespace.
pub(super) fn hold(protocol: Protocol, address: SocketAddr) -> io::Result<OwnedFd> {
    match bind(protocol, address, false) {
        // Connections of a program that has ended may linger: where one can listen, nobody else does.
        Err(e) if e.kind() == io::ErrorKind::AddrInUse && protocol == Protocol::Tcp => {
            let socket = bind(protocol, address, true)?;
            rustix::net::listen(&socket, 1)?;
            Ok(socket)
        }
        bound => bound,
    }
}

/// See [`Fabric::ephemeral_ports`]; of the calling thread's network namespace.
pub(super) fn ephemeral_ports() -> (u16, u16) {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut numbers = text.split_whitespace().filter_map(|number| number.parse().ok());
    numbers.next().zip(numbers.next()).filter(|(first, last)| first <= last).unwrap_or((32_768, 60_999))
}

/// Bound and nothing else: who connects past our rules is refused.
fn bind(protocol: Protocol, address: SocketAddr, reuse: bool) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let (kind, number) = match protocol {
        Protocol::Tcp => (SocketType::STREAM, Some(ipproto::TCP)),
        Protocol::Udp => (SocketType::DGRAM, Some(ipproto::UDP)),
        Protocol::Sctp => (SocketType::STREAM, Some(ipproto::SCTP)),
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, kind, flags, number)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    sockopt::set_socket_reuseaddr(&socket, reuse)?;
    rustix::net::bind(&socket, &address)?;
    Ok(socket)
}

/// The host's ends of interfaces that are there, by the endpoint.
fn ends_of(host: &mut Socket, joins: &[Join]) -> Result<HashMap<String, u32>> {
    let refused = |e| Error::system(format!("RTM_GETLINK(dump): {e}"));
    let seen: HashMap<String, u32> = netlink::link::names(host).map_err(refused)?.into_iter().collect();
    let mut ends = HashMap::new();
    for join in joins.iter().filter(|join| join.network.config.driver == Driver::Bridge) {
        let name = link::host_name(&join.endpoint.id);
        // One that was not seen may have been passed by while containers end around it.
        let index = seen.get(&name).copied().or_else(|| Some(netlink::link::find(host, &name).ok()?.index));
        ends.extend(index.map(|index| (join.endpoint.id.clone(), index)));
    }
    Ok(ends)
}

fn inside(sockets: &NetworkSockets) -> Result<Socket> {
    dup(&sockets.route).map(Socket::adopt)
}

fn dup(socket: &OwnedFd) -> Result<OwnedFd> {
    socket.try_clone().map_err(|e| Error::system(format!("dup of a network socket: {e}")))
}

fn places(joins: &[Join]) -> Vec<Place<'_>> {
    let mut all = Vec::with_capacity(joins.len());
    for join in joins {
        let Join { endpoint, .. } = join;
        let (interface, gateways) = (endpoint.interface.as_str(), endpoint.gateways.as_slice());
        all.push(Place { interface, addresses: addresses(join), gateways });
    }
    all
}

fn addresses(join: &Join) -> Vec<IpAddr> {
    join.endpoint.addresses.iter().map(IpNet::addr).collect()
}

/// Parameters of an interface: without an address of IPv6 there is none of it on the link.
fn parameters(join: &Join) -> Vec<(String, String)> {
    let interface = &join.endpoint.interface;
    let mut all: Vec<_> = join.sysctls.clone().into_iter().collect();
    let has_ipv6 = join.endpoint.addresses.iter().any(|address| address.addr().is_ipv6());
    if !has_ipv6 && std::path::Path::new("/proc/sys/net/ipv6").exists() {
        all.push((format!("net/ipv6/conf/{interface}/disable_ipv6"), "1".to_owned()));
    }
    all
}

/// What a container may ask: names of its networks, but of the default one, which has none.
fn settings(joins: &[Join], resolver: &Resolver) -> dns::Settings {
    let named = joins.iter().filter(|join| join.network.config.name != super::plan::DEFAULT);
    let networks = named.map(|join| dns::Attachment {
        network: join.network.id.clone(),
        links: join.links.iter().cloned().collect(),
    });
    dns::Settings {
        networks: networks.collect(),
        upstream: resolver.upstream.clone(),
        search: resolver.search.clone(),
        options: resolver.options.clone(),
    }
}

fn port_of(socket: &OwnedFd) -> Result<u16> {
    let name = rustix::net::getsockname(socket).and_then(SocketAddr::try_from);
    let address = name.map_err(|e| Error::system(format!("getsockname(resolver): {e}")))?;
    Ok(address.port())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
