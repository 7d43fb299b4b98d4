//! Networks: which there are, who is on them, and what of that the kernel has to be told.
//!
//! ```text
//!   create ──▶ kept in the database ──▶ first use: bridge, rules (ensure)
//!
//!   start:  take    addresses, ports            in memory; all or nothing
//!           note    RUN/containers/ID/network   what a daemon that comes back has to know
//!           launch ─┬─ sockets come through the door ─▶ attach, publish ─▶ ready
//!                   └─ or the start fails
//!   end:    unpublish, forget ─▶ give back      an address is free only when no rule means it any more
//! ```
//!
//! What is decided is decided in [`Table`], behind a lock that is never held while the kernel or the disk is waited for.
//! What is done is done by a [`Fabric`], on threads that may block.

mod connect;
pub(crate) mod door;
pub(crate) mod fabric;
pub(crate) mod faults;
mod holder;
pub(crate) mod host;
pub(crate) mod plan;
mod ports;
mod rate;
pub(crate) mod resolver;
mod table;
pub(crate) mod user;

pub(crate) use connect::means as connect_means;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use tare_model::container::ContainerConfig;
use tare_model::fault::Fault;
use tare_model::network::{Driver, Endpoint, Network, NetworkConfig, Pool, PortBinding, Published};
use tare_model::sandbox::{NetworkReady, NetworkSockets};
use tare_model::shaping::Shaping;
use tare_model::{ContainerId, Error, ErrorKind, NetworkId, Result};
use tare_net::pool::{self, Bases, Surroundings};
use tare_store::Store;
use tokio::sync::{Notify, oneshot};

use crate::api::network::{CreatedNetwork, NetworkView, PREDEFINED};
use crate::clock;
use crate::spec::files::ResolvConf;
use crate::work;
use door::Door;
use fabric::{Fabric, Join};
use table::Table;

/// What a running container has of networks; kept in its run directory, where it ends with the machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Attached {
    /// In the order of interfaces.
    pub(crate) joins: Vec<Attachment>,
    /// Ports that are led to it.
    pub(crate) published: Vec<Published>,
    /// Its questions about names are answered here, and so.
    #[serde(default)]
    pub(crate) resolver: Option<Resolver>,
    /// What goes wrong on purpose.
    #[serde(default)]
    pub(crate) faults: Vec<Fault>,
    /// What the host's resolv.conf said when its networks were chosen: who needs it once more need not read it again.
    #[serde(skip)]
    pub(crate) host: Option<ResolvConf>,
}

/// How questions about names that are not ours are answered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Resolver {
    /// Who is asked, from the host's network.
    pub(crate) upstream: Vec<SocketAddr>,
    /// Search domains.
    pub(crate) search: Vec<String>,
    /// Options of resolv.conf(5).
    pub(crate) options: Vec<String>,
}

/// One network of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Attachment {
    /// Names for it there, beside those that every container has.
    pub(crate) aliases: Vec<String>,
    /// `container:alias`: names for it alone.
    pub(crate) links: Vec<String>,
    /// Parameters of the interface: path below /proc/sys, and value.
    #[serde(default)]
    pub(crate) sysctls: BTreeMap<String, String>,
    /// What it has there.
    pub(crate) endpoint: Endpoint,
    /// How fast it may be there.
    #[serde(default)]
    pub(crate) shaping: Shaping,
    /// Where default routes are considered.
    pub(crate) priority: i64,
    /// The default routes, of IPv4 and of IPv6, go here.
    pub(crate) default_routes: (bool, bool),
}

/// A container, as far as networks are concerned.
#[derive(Clone, Copy)]
pub(crate) struct Party<'a> {
    /// It.
    pub(crate) id: &'a ContainerId,
    /// Its name.
    pub(crate) name: &'a str,
    /// What it asked for.
    pub(crate) config: &'a ContainerConfig,
    /// Ports that its image or it exposes, `80/tcp`.
    pub(crate) exposed: &'a [String],
}

/// Where an engine's networks are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// The default network's bridge; none: there is no default network.
    pub(crate) bridge: Option<String>,
    /// Drawn at random, once for this engine: what IPv6 subnets are made of.
    pub(crate) ula: [u8; 5],
}

/// All networks of an engine.
pub(crate) struct Networks {
    store: Arc<Store>,
    fabric: Option<Arc<dyn Fabric>>,
    bases: Bases,
    table: Mutex<Table>,
    /// The kernel was told to cut somebody off.
    parting: Mutex<bool>,
    /// Networks are made one after another, so that no two choose the same subnet.
    making: tokio::sync::Mutex<()>,
    /// Containers that are gone and whose addresses are not free yet.
    gone: Mutex<Gone>,
    /// Told when one of them has nothing left.
    freed: Notify,
    /// Told when somebody waits for that.
    wanted: Notify,
}

/// How long the addresses of those who are gone wait for those of others: to look for their connections takes a processor
/// milliseconds, for one as for a hundred.
const LULL: Duration = Duration::from_millis(500);

#[derive(Default)]
struct Gone {
    /// Who ended and has something yet, in this order.
    under_way: BTreeMap<u64, ContainerId>,
    next: u64,
    waiting: Vec<(u64, ContainerId, Attached)>,
    is_served: bool,
}

// === impl Gone ===

impl Gone {
    fn begin(&mut self, id: &ContainerId) -> u64 {
        let ticket = self.next;
        self.next += 1;
        self.under_way.insert(ticket, id.clone());
        ticket
    }
}

// === impl Networks ===

impl Networks {
    /// Reads which networks there are, and makes the default one if it is not there. Without a fabric there is none.
    ///
    /// # Errors
    /// `System` if the database cannot be read or written; what the default network's subnets were refused for.
    pub(crate) fn open(
        store: Arc<Store>,
        fabric: Option<Arc<dyn Fabric>>,
        settings: &Settings,
    ) -> Result<Self> {
        let (kept, damage) = store.networks()?;
        damage.iter().for_each(|damage| tracing::error!("{damage}"));
        let networks = Self {
            store,
            fabric,
            bases: Bases::standard(settings.ula),
            table: Mutex::new(Table::new(kept)),
            parting: Mutex::default(),
            making: tokio::sync::Mutex::new(()),
            gone: Mutex::default(),
            freed: Notify::new(),
            wanted: Notify::new(),
        };
        networks.open_bare()?;
        networks.open_default(settings)?;
        Ok(networks)
    }

    /// Networks that are nothing but their names, for those who look for them.
    fn open_bare(&self) -> Result<()> {
        for (name, driver) in [("host", Driver::Host), ("none", Driver::None)] {
            if self.lock().find(name).is_err() {
                let config =
                    NetworkConfig { name: name.into(), driver, ipv4: true, ..NetworkConfig::default() };
                self.keep(config, Vec::new())?;
            }
        }
        Ok(())
    }

    fn open_default(&self, settings: &Settings) -> Result<()> {
        let Some(bridge) = settings.bridge.as_ref().filter(|_| self.fabric.is_some()) else {
            self.lock().hide(plan::DEFAULT);
            return Ok(());
        };
        if self.lock().find(plan::DEFAULT).is_ok() {
            return Ok(());
        }
        let mut config =
            NetworkConfig { name: plan::DEFAULT.into(), ipv4: true, ipv6: true, ..NetworkConfig::default() };
        config.bridge.name = Some(bridge.clone());
        self.add(config).map(drop)
    }

    /// Whether containers can be on the default network.
    pub(crate) fn has_default(&self) -> bool {
        self.lock().find(plan::DEFAULT).is_ok()
    }

    /// All networks, by name.
    pub(crate) fn list(&self) -> Vec<NetworkView> {
        self.lock().views()
    }

    /// Name and id of one, by either.
    pub(crate) fn name_and_id(&self, key: &str) -> Result<(String, NetworkId)> {
        let table = self.lock();
        let network = &table.find(key)?.network;
        Ok((network.config.name.clone(), network.id.clone()))
    }

    /// What a network is made of.
    pub(crate) fn driver(&self, id: &NetworkId) -> Option<Driver> {
        self.lock().get(id).map(|entry| entry.network.config.driver)
    }

    /// One by name, id, or unique prefix of an id.
    pub(crate) fn get(&self, key: &str) -> Result<NetworkView> {
        self.lock().view(key)
    }

    /// Makes a network; durable, and there, when it returns.
    pub(crate) async fn create(self: &Arc<Self>, config: NetworkConfig) -> Result<CreatedNetwork> {
        pool::name(&config.name)?;
        if PREDEFINED.contains(&config.name.as_str()) {
            return Err(forbidden(format!(
                "operation is not permitted on predefined {} network",
                config.name
            )));
        }
        if matches!(config.driver, Driver::Host | Driver::None) {
            return Err(forbidden(format!(
                "only one instance of \"{}\" network is allowed",
                config.driver.name()
            )));
        }
        let _one = self.making.lock().await;
        let this = Arc::clone(self);
        work::blocking(move || {
            let network = this.add(config)?;
            if let Err(e) = this.fabric()?.ensure(&network) {
                this.lock().remove(&network.id);
                this.store.forget_network(&network.id)?;
                return Err(e.context(format!("network {}", network.config.name)));
            }
            let shadowed = pool::shadowed(&network.pools, &this.fabric()?.routes()?);
            let warning = |(ours, route): (IpNet, IpNet)| {
                format!("subnet {ours} hides the host's route to {route} from containers")
            };
            let warnings = shadowed.into_iter().filter(|(_, route)| !is_of(&network, *route)).map(warning);
            Ok(CreatedNetwork { id: network.id.clone(), warnings: warnings.collect() })
        })
        .await
    }

    /// Chooses the pools of a network and keeps it.
    fn add(&self, config: NetworkConfig) -> Result<Arc<Network>> {
        let routes = self.fabric()?.routes()?;
        let taken = self.lock().subnets();
        let others: Vec<(&str, IpNet)> = taken.iter().map(|(name, net)| (name.as_str(), *net)).collect();
        let around = Surroundings { bases: &self.bases, networks: &others, routes: &routes };
        let pools = pool::choose(&config, &around)?;
        self.keep(config, pools)
    }

    fn keep(&self, config: NetworkConfig, pools: Vec<Pool>) -> Result<Arc<Network>> {
        let id = NetworkId::from_bytes(work::random()?);
        let network = Arc::new(Network { id, config, pools, created: clock::now() });
        self.lock().insert(Arc::clone(&network))?;
        if let Err(e) = self.store.keep_network(&network) {
            self.lock().remove(&network.id);
            return Err(e);
        }
        Ok(network)
    }

    /// Removes a network that nobody is on. Gives what it was.
    pub(crate) async fn remove(self: &Arc<Self>, key: &str) -> Result<Arc<Network>> {
        self.settled().await;
        // Not while its record is changed: it would be written again.
        let _one = self.making.lock().await;
        let network = self.lock().retire(key)?;
        let (this, gone) = (Arc::clone(self), Arc::clone(&network));
        let removed = work::blocking(move || {
            this.fabric()?.remove(&gone)?;
            this.store.forget_network(&gone.id)
        })
        .await;
        match removed {
            Ok(()) => self.lock().remove(&network.id),
            Err(_) => self.lock().revive(&network.id),
        }
        removed.map(|()| network)
    }

    /// Checks at the creation of a container that its networks are there.
    pub(crate) fn check(&self, config: &ContainerConfig) -> Result<()> {
        let table = self.lock();
        let has_default = table.find(plan::DEFAULT).is_ok();
        let mut on = Vec::new();
        for (key, endpoint) in plan::memberships(config)? {
            if key != plan::DEFAULT || has_default {
                let network = Arc::clone(&table.find(&key)?.network);
                plan::endpoint(&network, &endpoint)?;
                on.push(network);
            } else if config.networking.publish_all || !config.networking.ports.is_empty() {
                return Err(Error::invalid(
                    "cannot publish ports (PortBindings): this engine has no default network; name one with --network",
                ));
            }
        }
        let on: Vec<&Network> = on.iter().map(AsRef::as_ref).collect();
        plan::shaping(&config.networking.shaping, &on)
    }

    /// These are the limits of a running container on its networks from now on.
    ///
    /// # Errors
    /// What the kernel refused; some may hold then.
    pub(crate) async fn reshape(
        self: &Arc<Self>,
        id: &ContainerId,
        before: &Attached,
        shaping: Shaping,
    ) -> Result<Attached> {
        // Not while a network's own rate is changed: each would tell the kernel what the other one's was.
        let _one = self.making.lock().await;
        let mut after = before.clone();
        after.joins.iter_mut().for_each(|join| join.shaping = shaping);
        let (this, joins) = (Arc::clone(self), self.joins(id, &after));
        work::blocking(move || this.fabric()?.shape(&joins)).await?;
        self.lock().reshape(id, shaping);
        Ok(after)
    }

    /// Takes addresses and ports for a start, as soon as what those had who ended before is free; `None` for a container that
    /// is on no network.
    ///
    /// # Errors
    /// As [`Networks::take`].
    pub(crate) async fn take_when_free(&self, party: Party<'_>) -> Result<Option<Attached>> {
        self.ended(party.id).await;
        self.patiently(|| self.take(party)).await
    }

    /// Tries once more where somebody who has ended may have what was refused.
    async fn patiently<T>(&self, attempt: impl Fn() -> Result<T>) -> Result<T> {
        match attempt() {
            Err(e) if matches!(e.kind(), ErrorKind::Conflict | ErrorKind::Forbidden) => {
                self.settled().await;
                attempt()
            }
            done => done,
        }
    }

    /// Takes addresses and ports for a start; `None` for a container that is on no network.
    ///
    /// # Errors
    /// `NotFound` for a network; `Conflict`, `Forbidden`, `InvalidInput` for an address or a port. Nothing is taken then.
    fn take(&self, party: Party<'_>) -> Result<Option<Attached>> {
        let Some(fabric) = &self.fabric else { return Ok(None) };
        let mut asked = plan::memberships(party.config)?;
        if asked.is_empty() {
            return Ok(None);
        }
        // Read while nobody waits for the table.
        let host = ResolvConf::of_host();
        let mut table = self.lock();
        if table.find(plan::DEFAULT).is_err() {
            asked.retain(|(key, _)| key != plan::DEFAULT);
        }
        if asked.is_empty() {
            return Ok(None);
        }
        let mut attached = match table.take(party, &asked, fabric.as_ref()) {
            Ok(attached) => attached,
            Err(e) => {
                drop(table);
                return Err(e.told());
            }
        };
        attached.resolver = resolver::of(party.config, &attached, &table, &host);
        attached.host = Some(host);
        Ok(Some(attached))
    }

    /// Makes what the networks of a container are made of, as far as that has not been done.
    pub(crate) async fn ready(self: &Arc<Self>, attached: &Attached) -> Result<()> {
        let absent: Vec<Arc<Network>> = {
            let table = self.lock();
            let networks = attached.joins.iter().filter_map(|join| table.get(&join.endpoint.network));
            networks.filter(|entry| !entry.is_made).map(|entry| Arc::clone(&entry.network)).collect()
        };
        if absent.is_empty() {
            return Ok(());
        }
        let this = Arc::clone(self);
        work::blocking(move || {
            for network in absent {
                this.fabric()?
                    .ensure(&network)
                    .map_err(|e| e.context(format!("network {}", network.config.name)))?;
                this.lock().made(&network.id);
            }
            Ok(())
        })
        .await
    }

    /// Waits behind the door for the container's sockets, and sets its network up through them. Returns when that is done,
    /// or when it is clear that the container will not come.
    pub(crate) async fn serve(self: Arc<Self>, door: Door, id: ContainerId, attached: Attached) {
        let answer = match door.sockets().await {
            Ok(None) => return,
            Ok(Some(sockets)) => {
                let this = Arc::clone(&self);
                work::blocking(move || this.set_up(&id, &attached, &sockets)).await
            }
            Err(e) => Err(e),
        };
        door.answer(&answer);
    }

    fn set_up(
        &self,
        id: &ContainerId,
        attached: &Attached,
        sockets: &NetworkSockets,
    ) -> Result<NetworkReady> {
        let fabric = self.fabric()?;
        let joins = self.joins(id, attached);
        let ready = fabric.attach(&joins, sockets)?;
        self.keep_up(id, attached, &joins)?;
        self.part_if_needed()?;
        if let Some(resolver) = &attached.resolver {
            fabric.serve_names(&joins, resolver, sockets)?;
        }
        self.publish_held(&attached.published)?;
        Ok(ready)
    }

    /// The end of a container, or a start that failed. When it returns it is on no network and its ports can be had again;
    /// the rest follows.
    pub(crate) async fn give_back(self: &Arc<Self>, id: &ContainerId, attached: Attached) {
        let publishes = !attached.published.is_empty();
        let ticket = self.gone().begin(id);
        self.lock().leave(id, &attached);
        let (this, id) = (Arc::clone(self), id.clone());
        let (sender, ports_are_free) = oneshot::channel();
        tokio::task::spawn_blocking(move || this.withdraw(ticket, id, attached, sender));
        if publishes {
            // The sender is dropped as soon as they are.
            let _ = ports_are_free.await;
        }
    }

    /// Waits until nothing is left of earlier runs of a container: what is done to end one must not end the next.
    async fn ended(&self, id: &ContainerId) {
        self.until(|gone| gone.under_way.values().all(|other| other != id)).await;
    }

    /// Waits until the addresses of all who have ended by now are free.
    pub(crate) async fn settled(&self) {
        let now = self.gone().next;
        self.until(|gone| gone.under_way.first_key_value().is_none_or(|(ticket, _)| *ticket >= now)).await;
    }

    async fn until(&self, so: impl Fn(&Gone) -> bool) {
        loop {
            let freed = self.freed.notified();
            if so(&self.gone()) {
                return;
            }
            self.wanted.notify_one();
            freed.await;
        }
    }

    fn withdraw(
        self: &Arc<Self>,
        ticket: u64,
        id: ContainerId,
        attached: Attached,
        ports_are_free: oneshot::Sender<()>,
    ) {
        let Ok(fabric) = self.fabric() else { return };
        let unpublished = match attached.published.as_slice() {
            [] => Ok(()),
            published => fabric.unpublish(published),
        };
        self.lock().ports.give_back(&attached.published);
        let forgotten = fabric.forget(&self.joins(&id, &attached));
        drop(ports_are_free);
        let mended = self.part_if_needed();
        for e in [unpublished, forgotten, mended].into_iter().filter_map(Result::err) {
            tracing::error!(container = id.as_str(), "take its network away: {e}");
        }
        let is_first = {
            let mut gone = self.gone();
            gone.waiting.push((ticket, id, attached));
            !std::mem::replace(&mut gone.is_served, true)
        };
        if is_first {
            tokio::spawn(Arc::clone(self).free_soon());
        }
    }

    /// Frees the addresses of those who are gone, as soon as somebody waits for it or after a while, until nobody is left.
    async fn free_soon(self: Arc<Self>) {
        loop {
            // Either will do.
            let _ = tokio::time::timeout(LULL, self.wanted.notified()).await;
            let this = Arc::clone(&self);
            if let Ok(false) = work::blocking(move || this.free_addresses()).await {
                return;
            }
        }
    }

    /// Frees the addresses of all who are gone; false if there were none.
    fn free_addresses(&self) -> Result<bool> {
        let gone = {
            let mut gone = self.gone();
            gone.is_served = !gone.waiting.is_empty();
            std::mem::take(&mut gone.waiting)
        };
        if gone.is_empty() {
            return Ok(false);
        }
        let joins: Vec<Join> = gone.iter().flat_map(|(_, id, attached)| self.joins(id, attached)).collect();
        if let Err(e) = self.fabric()?.forget_connections(&joins) {
            tracing::error!("forget connections of containers that are gone: {e}");
        }
        {
            let mut table = self.lock();
            for (_, id, attached) in &gone {
                attached.joins.iter().for_each(|join| table.free(id, join));
            }
        }
        self.gone().under_way.retain(|ticket, _| gone.iter().all(|(done, ..)| done != ticket));
        self.freed.notify_waiters();
        Ok(true)
    }

    fn gone(&self) -> MutexGuard<'_, Gone> {
        self.gone.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// After a restart: what a container that runs has.
    pub(crate) fn adopt(&self, id: &ContainerId, name: &str, attached: &Attached) {
        if let Some(fabric) = &self.fabric {
            self.lock().adopt(id, name, attached, fabric.as_ref());
        }
    }

    /// What a monitor is given to keep for the engine after us.
    pub(crate) fn to_be_kept(&self) -> Option<OwnedFd> {
        self.fabric.as_ref()?.to_be_kept()
    }

    /// After a restart, when every container was adopted: the kernel is told what there is. `gone` are those who ended while
    /// no engine ran; their addresses and ports are free after this.
    ///
    /// # Errors
    /// The kernel's refusal of what those who run need.
    pub(crate) fn restore(
        &self,
        running: &[(ContainerId, Attached)],
        gone: &[(ContainerId, Attached)],
        kept: Option<OwnedFd>,
    ) -> Result<()> {
        let Some(fabric) = &self.fabric else { return Ok(()) };
        let joins = |of: &[(ContainerId, Attached)]| -> Vec<Join> {
            of.iter().flat_map(|(id, attached)| self.joins(id, attached)).collect()
        };
        let (joins, gone) = (joins(running), joins(gone));
        let published: Vec<Published> =
            running.iter().flat_map(|(_, attached)| attached.published.clone()).collect();
        let on: BTreeSet<&NetworkId> = joins.iter().map(|join| &join.endpoint.network).collect();
        let networks: Vec<Arc<Network>> =
            self.lock().all().into_iter().filter(|network| on.contains(&network.id)).collect();
        let held = self.lock().ports.sockets(&published);
        match fabric.restore(&networks, &joins, (&published, held), kept) {
            // Without nftables there are no networks, and nothing to restore.
            Err(e) if joins.is_empty() && e.kind() != ErrorKind::Conflict => {
                tracing::debug!("look for an earlier engine's firewall: {e}")
            }
            restored => restored?,
        }
        networks.iter().for_each(|network| self.lock().made(&network.id));
        match self.part() {
            // There is nothing to be cut; a kernel without nftables has nothing of an earlier engine's either.
            Err(e) if !self.lock().is_anybody_apart() => {
                tracing::debug!("look for an earlier engine's network faults: {e}");
            }
            parted => parted?,
        }
        if !gone.is_empty()
            && let Err(e) = fabric.forget_connections(&gone)
        {
            tracing::error!("forget connections of containers that ended while no engine ran: {e}");
        }
        Ok(())
    }

    /// A container has another name.
    pub(crate) fn rename(&self, id: &ContainerId, name: &str, attached: Option<&Attached>) {
        self.lock().rename(id, name);
        if let (Some(fabric), Some(attached)) = (&self.fabric, attached) {
            fabric.rename(&self.joins(id, attached));
        }
    }

    /// After a restart: a container's questions are answered again.
    pub(crate) async fn serve_again(
        self: &Arc<Self>,
        id: &ContainerId,
        attached: &Attached,
        sockets: NetworkSockets,
    ) -> Result<()> {
        let (this, joins, resolver) = (Arc::clone(self), self.joins(id, attached), attached.resolver.clone());
        let Some(resolver) = resolver else { return Ok(()) };
        work::blocking(move || this.fabric()?.serve_names(&joins, &resolver, &sockets)).await
    }

    /// Nothing runs and the engine ends: nothing of ours stays in the kernel.
    pub(crate) async fn retire(self: &Arc<Self>) {
        let Some(fabric) = self.fabric.clone() else { return };
        self.settled().await;
        let networks = self.lock().all();
        // It tells by itself what it cannot do.
        let _ = work::blocking(move || {
            fabric.retire(&networks);
            Ok(())
        })
        .await;
    }

    /// Where a container on these networks reaches the host, its way out first.
    pub(crate) fn host_gateways(&self, attached: &Attached) -> Vec<IpAddr> {
        let table = self.lock();
        let on_host = |join: &&Attachment| {
            let entry = table.get(&join.endpoint.network);
            entry.is_some_and(|entry| entry.network.config.driver == Driver::Bridge)
        };
        let mut joins: Vec<&Attachment> = attached.joins.iter().filter(on_host).collect();
        let found = [true, false].map(|ipv4| {
            joins.sort_by_key(|join| if ipv4 { !join.default_routes.0 } else { !join.default_routes.1 });
            let mut gateways = joins.iter().flat_map(|join| &join.endpoint.gateways);
            gateways.find(|gateway| gateway.is_ipv4() == ipv4).copied()
        });
        found.into_iter().flatten().collect()
    }

    fn joins(&self, id: &ContainerId, attached: &Attached) -> Vec<Join> {
        self.lock().joins(id, attached)
    }

    fn fabric(&self) -> Result<&Arc<dyn Fabric>> {
        self.fabric.as_ref().ok_or_else(|| Error::unsupported(user::MISSING))
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bindings of a container: those asked for and, if all exposed ports are to be published, one for each that has none.
///
/// # Errors
/// `InvalidInput` for an exposed port that is none.
pub(crate) fn bindings(party: Party<'_>) -> Result<Vec<PortBinding>> {
    let networking = &party.config.networking;
    let mut all = networking.ports.clone();
    if networking.publish_all {
        for exposed in party.exposed {
            let wrong = || Error::invalid(format!("invalid exposed port {exposed:?}: want 80/tcp"));
            let (port, protocol) = exposed.split_once('/').unwrap_or((exposed, "tcp"));
            let protocol = protocol.parse()?;
            let (first, last) = port.split_once('-').unwrap_or((port, port));
            let range = first.parse::<u16>().ok().zip(last.parse::<u16>().ok()).ok_or_else(wrong)?;
            for port in range.0..=range.1 {
                if !all.iter().any(|binding| (binding.port, binding.protocol) == (port, protocol)) {
                    all.push(PortBinding { port, protocol, host: None, host_ports: (0, 0) });
                }
            }
        }
    }
    Ok(all)
}

fn forbidden(why: impl Into<String>) -> Error {
    Error::new(ErrorKind::Forbidden, why)
}

/// A route that the network itself brought.
fn is_of(network: &Network, route: IpNet) -> bool {
    network.pools.iter().any(|pool| pool.subnet.trunc() == route.trunc())
}

#[cfg(test)]
mod tests;
