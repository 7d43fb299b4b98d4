//! Which networks there are and who has what on them: in memory alone, every question answered at once.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use tare_model::fault::{Fault, Peer};
use tare_model::network::{Driver, Endpoint, EndpointConfig, Network, Pool, Published};
use tare_model::shaping::Shaping;
use tare_model::{ContainerId, ContainerName, Error, NetworkId, Result};
use tare_net::addresses::{Addresses, Family, mac_of};

use super::fabric::{Cut, Fabric, Join};
use super::ports::{Ports, Target, Unavailable, bindings};
use super::{Attached, Attachment, Party, forbidden, plan};
use crate::api::network::{Member, NetworkView, PoolUsage};
use crate::work;

/// See the head of this file.
pub(super) struct Table {
    networks: HashMap<NetworkId, Entry>,
    names: BTreeMap<String, NetworkId>,
    pub(super) ports: Ports,
    /// Faults of running containers that have any.
    faults: BTreeMap<ContainerId, Vec<Fault>>,
}

/// One network.
pub(super) struct Entry {
    pub(super) network: Arc<Network>,
    /// The kernel has it.
    pub(super) is_made: bool,
    /// It is being removed.
    is_going: bool,
    addresses: Addresses,
    members: BTreeMap<ContainerId, Seat>,
}

/// A container on a network.
struct Seat {
    name: ContainerName,
    endpoint: Endpoint,
    shaping: Shaping,
}

// === impl Table ===

impl Table {
    pub(super) fn new(networks: Vec<Network>) -> Self {
        let mut table = Self {
            networks: HashMap::new(),
            names: BTreeMap::new(),
            ports: Ports::default(),
            faults: BTreeMap::new(),
        };
        for network in networks {
            let name = network.config.name.clone();
            if let Err(e) = table.insert(Arc::new(network)) {
                tracing::error!("network {name}: {e}");
            }
        }
        table
    }

    pub(super) fn insert(&mut self, network: Arc<Network>) -> Result<()> {
        let name = network.config.name.clone();
        if self.names.contains_key(&name) {
            return Err(Error::conflict(format!("network with name {name} already exists")));
        }
        self.names.insert(name, network.id.clone());
        let entry = Entry {
            is_made: false,
            is_going: false,
            addresses: Addresses::new(&network),
            members: BTreeMap::new(),
            network: Arc::clone(&network),
        };
        self.networks.insert(network.id.clone(), entry);
        Ok(())
    }

    /// Forgets a network without a trace in the database.
    pub(super) fn hide(&mut self, name: &str) {
        if let Some(id) = self.names.remove(name) {
            self.networks.remove(&id);
        }
    }

    pub(super) fn remove(&mut self, id: &NetworkId) {
        if let Some(entry) = self.networks.remove(id) {
            self.names.remove(&entry.network.config.name);
        }
    }

    pub(super) fn made(&mut self, id: &NetworkId) {
        if let Some(entry) = self.networks.get_mut(id) {
            entry.is_made = true;
        }
    }

    pub(super) fn get(&self, id: &NetworkId) -> Option<&Entry> {
        self.networks.get(id)
    }

    pub(super) fn all(&self) -> Vec<Arc<Network>> {
        self.networks.values().map(|entry| Arc::clone(&entry.network)).collect()
    }

    /// Subnets that are taken, with the names of their networks.
    pub(super) fn subnets(&self) -> Vec<(String, IpNet)> {
        let of = |entry: &Entry| {
            let name = entry.network.config.name.clone();
            entry.network.pools.iter().map(move |pool| (name.clone(), pool.subnet)).collect::<Vec<_>>()
        };
        self.networks.values().flat_map(of).collect()
    }

    /// By name, id, or unique prefix of an id.
    pub(super) fn find(&self, key: &str) -> Result<&Entry> {
        if let Some(entry) = self.names.get(key).and_then(|id| self.networks.get(id)) {
            return Ok(entry);
        }
        let mut found = self
            .networks
            .values()
            .filter(|entry| !key.is_empty() && entry.network.id.as_str().starts_with(key));
        let first = found.next().ok_or_else(|| Error::not_found(format!("network {key} not found")))?;
        if found.next().is_some() {
            return Err(Error::invalid(format!("network {key} is ambiguous: several ids begin with it")));
        }
        Ok(first)
    }

    pub(super) fn views(&self) -> Vec<NetworkView> {
        self.names.values().filter_map(|id| self.networks.get(id)).map(Entry::view).collect()
    }

    pub(super) fn view(&self, key: &str) -> Result<NetworkView> {
        self.find(key).map(Entry::view)
    }

    /// Nobody may join a network any more, which is to be removed.
    pub(super) fn retire(&mut self, key: &str) -> Result<Arc<Network>> {
        let id = self.find(key)?.network.id.clone();
        let entry =
            self.networks.get_mut(&id).ok_or_else(|| Error::not_found(format!("network {key} not found")))?;
        let name = &entry.network.config.name;
        if crate::api::network::PREDEFINED.contains(&name.as_str()) {
            return Err(forbidden(format!("{name} is a pre-defined network and cannot be removed")));
        }
        if !entry.members.is_empty() {
            let member =
                |(id, seat): (&ContainerId, &Seat)| format!("name:\"{}\" id:\"{}\"", seat.name, id.short());
            let members: Vec<String> = entry.members.iter().map(member).collect();
            return Err(forbidden(format!(
                "error while removing network: network {name} has active endpoints ({})",
                members.join(", ")
            )));
        }
        if std::mem::replace(&mut entry.is_going, true) {
            return Err(Error::conflict(format!("network {name} is being removed")));
        }
        Ok(Arc::clone(&entry.network))
    }

    /// It could not be removed.
    pub(super) fn revive(&mut self, id: &NetworkId) {
        if let Some(entry) = self.networks.get_mut(id) {
            entry.is_going = false;
        }
    }

    /// Addresses and ports of a container: all, or none.
    pub(super) fn take(
        &mut self,
        party: Party<'_>,
        asked: &[(String, EndpointConfig)],
        fabric: &dyn Fabric,
    ) -> std::result::Result<Attached, Unavailable> {
        let mut attached = Attached::default();
        let taken =
            self.take_addresses(party, asked, &mut attached).map_err(Unavailable::from).and_then(|()| {
                let bindings = bindings(party)?;
                let published = self.publish(party, &bindings, &attached, fabric)?;
                attached.published = published;
                Ok(())
            });
        match taken {
            Ok(()) => Ok(attached),
            Err(e) => {
                self.give_back(party.id, &attached);
                Err(e)
            }
        }
    }

    fn take_addresses(
        &mut self,
        party: Party<'_>,
        asked: &[(String, EndpointConfig)],
        attached: &mut Attached,
    ) -> Result<()> {
        let networks: Result<Vec<Arc<Network>>> =
            asked.iter().map(|(key, _)| self.find(key).map(|entry| Arc::clone(&entry.network))).collect();
        let networks = networks?;
        let on: Vec<_> =
            networks.iter().map(AsRef::as_ref).zip(asked.iter().map(|(_, config)| config)).collect();
        let interfaces = plan::interfaces(&on, &[])?;
        for ((network, config), interface) in on.into_iter().zip(interfaces) {
            let attachment = self.join(party, &network.id, config, interface)?;
            attached.joins.push(attachment);
        }
        self.choose_routes(attached);
        Ok(())
    }

    /// Puts a container on one network.
    pub(super) fn join(
        &mut self,
        party: Party<'_>,
        network: &NetworkId,
        config: &EndpointConfig,
        interface: String,
    ) -> Result<Attachment> {
        let entry = self.networks.get_mut(network).ok_or_else(|| Error::not_found("network not found"))?;
        plan::endpoint(&entry.network, config)?;
        let name = &entry.network.config.name;
        if entry.is_going {
            return Err(Error::conflict(format!("network {name} is being removed")));
        }
        if matches!(entry.network.config.driver, Driver::Host | Driver::None) {
            return Err(forbidden(format!(
                "container {} cannot be connected to network {name} beside others: create it with --network {name}",
                party.name
            )));
        }
        if entry.members.contains_key(party.id) {
            let already = format!("endpoint with name {} already exists in network {name}", party.name);
            return Err(forbidden(already));
        }
        let sysctls = plan::sysctls(&config.sysctls, &interface)?;
        let endpoint = entry.give(config, interface)?;
        let container: ContainerName = party.name.parse()?;
        let shaping = party.config.networking.shaping;
        let seat = Seat { name: container, endpoint: endpoint.clone(), shaping };
        entry.members.insert(party.id.clone(), seat);
        Ok(Attachment {
            aliases: config.aliases.clone(),
            links: config.links.clone(),
            sysctls,
            endpoint,
            shaping,
            priority: config.gateway_priority,
            default_routes: (false, false),
        })
    }

    /// Decides anew by which network a container leaves.
    pub(super) fn choose_routes(&self, attached: &mut Attached) {
        let networks: Vec<(Arc<Network>, i64)> = attached
            .joins
            .iter()
            .filter_map(|join| Some((Arc::clone(&self.get(&join.endpoint.network)?.network), join.priority)))
            .collect();
        let on: Vec<(&Network, i64)> =
            networks.iter().map(|(network, priority)| (network.as_ref(), *priority)).collect();
        let (ipv4, ipv6) = plan::default_routes(&on);
        for (at, join) in attached.joins.iter_mut().enumerate() {
            join.default_routes = (ipv4 == Some(at), ipv6 == Some(at));
        }
    }

    /// Takes ports of the host for bindings of a container.
    pub(super) fn publish(
        &mut self,
        party: Party<'_>,
        bindings: &[tare_model::network::PortBinding],
        attached: &Attached,
        fabric: &dyn Fabric,
    ) -> std::result::Result<Vec<Published>, Unavailable> {
        if bindings.is_empty() {
            return Ok(Vec::new());
        }
        let (addresses, host) = self.led_to(attached);
        let target = Target { id: party.id, name: party.name, addresses: &addresses, host };
        self.ports.take(bindings, &target, fabric)
    }

    /// The same ports, led to where a container is reached now; without those of a family in which it is not.
    pub(super) fn led_anew(&self, ports: &[Published], attached: &Attached) -> Vec<Published> {
        let (addresses, _) = self.led_to(attached);
        let anew = |one: &Published| {
            let address = addresses.iter().find(|address| address.is_ipv4() == one.address.is_ipv4())?;
            Some(Published { address: *address, ..one.clone() })
        };
        ports.iter().filter_map(anew).collect()
    }

    /// A container's address in each family that ports lead to, and where on the host they are if nothing is said.
    fn led_to(&self, attached: &Attached) -> (Vec<IpAddr>, Option<IpAddr>) {
        let (mut addresses, mut host): (Vec<IpAddr>, _) = (Vec::new(), None);
        for join in &attached.joins {
            let Some(entry) = self.networks.get(&join.endpoint.network) else { continue };
            if entry.network.config.driver != Driver::Bridge {
                continue;
            }
            let leads = |address: &IpAddr| {
                if address.is_ipv4() { join.default_routes.0 } else { join.default_routes.1 }
            };
            addresses.extend(join.endpoint.addresses.iter().map(IpNet::addr).filter(leads));
            host = host.or(entry.network.config.bridge.host_binding);
        }
        (addresses, host)
    }

    pub(super) fn give_back(&mut self, id: &ContainerId, attached: &Attached) {
        self.ports.give_back(&attached.published);
        attached.joins.iter().for_each(|join| self.free(id, join));
    }

    /// A network is this from now on.
    pub(super) fn replace(&mut self, network: Arc<Network>) {
        if let Some(entry) = self.networks.get_mut(&network.id) {
            entry.network = network;
        }
    }

    /// A running container has other limits.
    pub(super) fn reshape(&mut self, id: &ContainerId, shaping: Shaping) {
        for seat in self.networks.values_mut().filter_map(|entry| entry.members.get_mut(id)) {
            seat.shaping = shaping;
        }
    }

    /// All who are on a network, as far as limits are concerned.
    pub(super) fn shaped(&self, network: &NetworkId) -> Vec<Join> {
        let Some(entry) = self.networks.get(network) else { return Vec::new() };
        let join = |(id, seat): (&ContainerId, &Seat)| Join {
            container: id.clone(),
            network: Arc::clone(&entry.network),
            endpoint: seat.endpoint.clone(),
            default_routes: (false, false),
            names: Vec::new(),
            links: Vec::new(),
            sysctls: BTreeMap::new(),
            shaping: seat.shaping,
        };
        entry.members.iter().map(join).collect()
    }

    /// These are the faults of a running container.
    pub(super) fn set_faults(&mut self, id: &ContainerId, faults: &[Fault]) {
        match faults {
            [] => drop(self.faults.remove(id)),
            faults => drop(self.faults.insert(id.clone(), faults.to_vec())),
        }
    }

    /// Some container is cut off from something.
    pub(super) fn is_anybody_apart(&self) -> bool {
        self.faults.values().flatten().any(|fault| !fault.partition.is_empty())
    }

    /// Where frames are to be dropped, for all faults of all containers.
    pub(super) fn cuts(&self) -> Vec<Cut> {
        let mut cuts = Vec::new();
        for (id, faults) in &self.faults {
            for fault in faults {
                let networks = self.networks.values().filter(|entry| fault.is_on(&entry.network.id));
                for (entry, own) in networks.filter_map(|entry| Some((entry, entry.endpoint(id)?))) {
                    let cut = |peer: &Peer| entry.cut(own, peer);
                    cuts.extend(fault.partition.iter().flat_map(cut));
                }
            }
        }
        cuts.sort_unstable();
        cuts.dedup();
        cuts
    }

    /// It has ended. Its addresses are not free yet.
    pub(super) fn leave(&mut self, id: &ContainerId, attached: &Attached) {
        self.faults.remove(id);
        for join in &attached.joins {
            if let Some(entry) = self.networks.get_mut(&join.endpoint.network) {
                entry.members.remove(id);
            }
        }
    }

    /// It is off a network, and its addresses may be given to others.
    pub(super) fn free(&mut self, id: &ContainerId, join: &Attachment) {
        let Some(entry) = self.networks.get_mut(&join.endpoint.network) else { return };
        // It may be there again, by another start.
        if entry.members.get(id).is_some_and(|seat| seat.endpoint.id == join.endpoint.id) {
            entry.members.remove(id);
        }
        for address in &join.endpoint.addresses {
            entry.addresses.free(address.addr());
        }
    }

    /// A container that runs already.
    pub(super) fn adopt(&mut self, id: &ContainerId, name: &str, attached: &Attached, fabric: &dyn Fabric) {
        for join in &attached.joins {
            let endpoint = &join.endpoint;
            let Some(entry) = self.networks.get_mut(&endpoint.network) else {
                tracing::error!(
                    container = id.as_str(),
                    "is on network {}, which is not known",
                    endpoint.network
                );
                continue;
            };
            for address in &endpoint.addresses {
                if let Err(e) = entry.addresses.reserve(address.addr()) {
                    tracing::error!(container = id.as_str(), "hold its address: {e}");
                }
            }
            if let Ok(name) = name.parse() {
                let seat = Seat { name, endpoint: endpoint.clone(), shaping: join.shaping };
                entry.members.insert(id.clone(), seat);
            }
        }
        self.ports.adopt(&attached.published, id, name, fabric);
        self.set_faults(id, &attached.faults);
    }

    pub(super) fn rename(&mut self, id: &ContainerId, name: &str) {
        let Ok(parsed) = name.parse::<ContainerName>() else { return };
        let members = self.networks.values_mut().filter_map(|entry| entry.members.get_mut(id));
        members.for_each(|seat| parsed.clone_into(&mut seat.name));
        self.ports.rename(id, name);
    }

    pub(super) fn joins(&self, id: &ContainerId, attached: &Attached) -> Vec<Join> {
        let join = |join: &Attachment| {
            let entry = self.get(&join.endpoint.network)?;
            let name = entry.members.get(id).map(|seat| seat.name.as_str().to_owned());
            let own = name.into_iter().chain([id.short().to_owned()]);
            let split = |link: &String| {
                let (container, alias) = link.split_once(':').unwrap_or((link, link));
                (alias.to_owned(), container.to_owned())
            };
            Some(Join {
                container: id.clone(),
                network: Arc::clone(&entry.network),
                names: own.chain(join.aliases.iter().cloned()).collect(),
                links: join.links.iter().map(split).collect(),
                sysctls: join.sysctls.clone(),
                shaping: join.shaping,
                endpoint: join.endpoint.clone(),
                default_routes: join.default_routes,
            })
        };
        attached.joins.iter().filter_map(join).collect()
    }
}

// === impl Entry ===

impl Entry {
    fn view(&self) -> NetworkView {
        let member = |(id, seat): (&ContainerId, &Seat)| Member {
            container: id.clone(),
            name: seat.name.clone(),
            endpoint: seat.endpoint.clone(),
        };
        NetworkView {
            network: Network::clone(&self.network),
            containers: self.members.iter().map(member).collect(),
            usage: self.network.pools.iter().map(|pool| self.usage(pool)).collect(),
        }
    }

    fn endpoint(&self, id: &ContainerId) -> Option<&Endpoint> {
        self.members.get(id).map(|seat| &seat.endpoint)
    }

    /// Where frames are dropped so that nothing passes here between an endpoint and a peer: each end hears nothing of the
    /// other, not even what is sent to all.
    fn cut(&self, own: &Endpoint, peer: &Peer) -> Vec<Cut> {
        match peer {
            Peer::Network { id, .. } if *id == self.network.id => {
                vec![Cut { endpoint: own.id.clone(), from: None }]
            }
            Peer::Network { .. } => Vec::new(),
            Peer::Container { id, .. } => {
                let Some(other) = self.endpoint(id) else { return Vec::new() };
                let deaf = |to: &Endpoint, from: &Endpoint| {
                    Some(Cut { endpoint: to.id.clone(), from: Some(from.mac?) })
                };
                [deaf(own, other), deaf(other, own)].into_iter().flatten().collect()
            }
        }
    }

    fn usage(&self, pool: &Pool) -> PoolUsage {
        let (in_use, available) = self.addresses.usage(pool.subnet);
        PoolUsage { in_use, available }
    }

    /// Addresses and a MAC for one more container. All, or none.
    fn give(&mut self, config: &EndpointConfig, interface: String) -> Result<Endpoint> {
        let mut addresses: Vec<IpNet> = Vec::new();
        let families =
            [(Family::V4, config.ipv4.map(IpAddr::from)), (Family::V6, config.ipv6.map(IpAddr::from))];
        for (family, asked) in families {
            let given = match asked {
                Some(ip) => self.addresses.reserve(ip).map(Some),
                None => self.addresses.take(family),
            };
            match given {
                Ok(given) => addresses.extend(given),
                Err(e) => {
                    for address in &addresses {
                        self.addresses.free(address.addr());
                    }
                    return Err(e);
                }
            }
        }
        let has_mac = self.network.config.driver != Driver::Ipvlan;
        let mac = config.mac.or_else(|| addresses.first().map(|address| mac_of(address.addr())));
        let gateway = |address: &IpNet| self.network.pool_of(address.addr())?.gateway;
        let gateways = addresses.iter().filter_map(gateway).collect();
        let id = work::random().map(|bytes| NetworkId::from_bytes(bytes).as_str().to_owned())?;
        Ok(Endpoint {
            network: self.network.id.clone(),
            id,
            interface,
            mac: mac.filter(|_| has_mac),
            addresses,
            gateways,
        })
    }
}
