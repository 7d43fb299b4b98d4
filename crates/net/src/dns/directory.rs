//! Names and addresses of containers, by network. The engine writes, every question reads; nobody waits while they do.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use ipnet::IpNet;
use tare_model::id::{ContainerId, NetworkId};

/// All networks.
#[derive(Debug, Default)]
pub struct Directory {
    zones: RwLock<HashMap<NetworkId, Arc<Zone>>>,
}

/// A network: its own properties, which never change, and who is on it.
#[derive(Debug)]
pub struct Zone {
    /// Its name in lower case.
    name: String,
    internal: bool,
    subnets: Vec<IpNet>,
    table: RwLock<Table>,
    turns: AtomicU32,
}

/// A container on a network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// What it is called there: first its name, which reverse records give; then its short id, aliases, names of services.
    /// A name that several members have stands for all their addresses. The host name that it gave itself is left out:
    /// with it anybody could take a neighbour's place.
    pub names: Vec<String>,
    /// Its addresses there.
    pub addresses: Vec<IpAddr>,
}

#[derive(Debug, Default)]
struct Table {
    members: HashMap<ContainerId, Arc<Member>>,
    names: HashMap<Box<str>, Vec<Arc<Member>>>,
    addresses: HashMap<IpAddr, Arc<Member>>,
}

// === impl Directory ===

impl Directory {
    /// A network, with nobody on it; if it is known already, nothing changes.
    pub fn add_network(&self, id: &NetworkId, name: &str, internal: bool, subnets: Vec<IpNet>) {
        let zone = || Arc::new(Zone::new(name, internal, subnets));
        write(&self.zones).entry(id.clone()).or_insert_with(zone);
    }

    /// Forgets a network and who was on it; containers that are served still see it until their settings change.
    pub fn remove_network(&self, id: &NetworkId) {
        write(&self.zones).remove(id);
    }

    /// A container comes to a network, or its names and addresses there are others now. False: no such network.
    pub fn join(&self, network: &NetworkId, container: &ContainerId, member: Member) -> bool {
        self.zone(network).is_some_and(|zone| {
            zone.put(container, member);
            true
        })
    }

    /// A container leaves a network; whether it was there.
    pub fn leave(&self, network: &NetworkId, container: &ContainerId) -> bool {
        self.zone(network).is_some_and(|zone| write(&zone.table).remove(container))
    }

    pub(super) fn zones(&self) -> Vec<Arc<Zone>> {
        read(&self.zones).values().cloned().collect()
    }

    pub(super) fn zone(&self, id: &NetworkId) -> Option<Arc<Zone>> {
        read(&self.zones).get(id).cloned()
    }
}

// === impl Zone ===

impl Zone {
    fn new(name: &str, internal: bool, subnets: Vec<IpNet>) -> Self {
        let name = name.to_ascii_lowercase();
        Self { name, internal, subnets, table: RwLock::default(), turns: AtomicU32::new(0) }
    }

    pub(super) fn internal(&self) -> bool {
        self.internal
    }

    pub(super) fn contains(&self, address: IpAddr) -> bool {
        self.subnets.iter().any(|subnet| subnet.contains(&address))
    }

    /// Adds to `found` the addresses of a name in lower case, with or without the network's behind it; whether it is one.
    pub(super) fn find(&self, name: &str, found: &mut Vec<IpAddr>) -> bool {
        // Not locked while it is locked again: a writer may wait in between.
        let whole = read(&self.table).find(name, found);
        whole || self.find_below(name, found)
    }

    /// Adds to `found` the addresses of a name in lower case with the network's behind it; whether it is one.
    pub(super) fn find_below(&self, name: &str, found: &mut Vec<IpAddr>) -> bool {
        let bare = name.strip_suffix(self.name.as_str()).and_then(|name| name.strip_suffix('.'));
        bare.is_some_and(|bare| read(&self.table).find(bare, found))
    }

    /// Adds to `found` the addresses of the container that has this name, in lower case, as its own; whether there is one.
    pub(super) fn find_called(&self, name: &str, found: &mut Vec<IpAddr>) -> bool {
        let table = read(&self.table);
        let called = |member: &&Arc<Member>| member.names.first().is_some_and(|own| own == name);
        let member = table.names.get(name).and_then(|members| members.iter().find(called));
        found.extend(member.iter().flat_map(|member| &member.addresses));
        member.is_some()
    }

    /// The name of whoever has an address, with the network's behind it.
    pub(super) fn reverse(&self, address: IpAddr) -> Option<String> {
        let table = read(&self.table);
        let name = table.addresses.get(&address)?.names.first()?;
        Some(format!("{name}.{}", self.name))
    }

    /// Where a list of addresses is to begin this time.
    ///
    /// Not one further each time: a client that asks for A and AAAA in turn would get the same one for ever. Multiples of
    /// the golden ratio fall evenly, and so do every second of them.
    pub(super) fn turn(&self, length: usize) -> usize {
        let turn = self.turns.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9);
        (turn >> 8) as usize % length.max(1)
    }

    fn put(&self, container: &ContainerId, mut member: Member) {
        member.names.iter_mut().for_each(|name| name.make_ascii_lowercase());
        let mut table = write(&self.table);
        table.remove(container);
        table.insert(container, Arc::new(member));
    }
}

// === impl Table ===

impl Table {
    fn find(&self, name: &str, found: &mut Vec<IpAddr>) -> bool {
        let members = self.names.get(name);
        found.extend(members.into_iter().flatten().flat_map(|member| &member.addresses));
        members.is_some()
    }

    fn insert(&mut self, container: &ContainerId, member: Arc<Member>) {
        for name in &member.names {
            let known = self.names.entry(name.as_str().into()).or_default();
            if !known.iter().any(|other| Arc::ptr_eq(other, &member)) {
                known.push(member.clone());
            }
        }
        self.addresses.extend(member.addresses.iter().map(|address| (*address, member.clone())));
        self.members.insert(container.clone(), member);
    }

    fn remove(&mut self, container: &ContainerId) -> bool {
        let Some(member) = self.members.remove(container) else { return false };
        for name in &member.names {
            if let Some(known) = self.names.get_mut(name.as_str()) {
                known.retain(|other| !Arc::ptr_eq(other, &member));
                if known.is_empty() {
                    self.names.remove(name.as_str());
                }
            }
        }
        for address in &member.addresses {
            // It may have gone to another container already.
            if self.addresses.get(address).is_some_and(|owner| Arc::ptr_eq(owner, &member)) {
                self.addresses.remove(address);
            }
        }
        true
    }
}

// A panic while the lock was held left at worst a name too many or too few; answering goes on.

fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}
