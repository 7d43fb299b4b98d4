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

mod attached;
mod connect;
pub(crate) mod door;
pub(crate) mod fabric;
pub(crate) mod faults;
mod gone;
mod holder;
pub(crate) mod host;
pub(crate) mod plan;
mod ports;
mod rate;
pub(crate) mod resolver;
mod restart;
mod start;
mod table;
pub(crate) mod user;

pub(crate) use attached::{Attached, Attachment, Party, Resolver};
pub(crate) use connect::means as connect_means;
pub(crate) use ports::bindings;

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ipnet::IpNet;
use tare_model::container::ContainerConfig;
use tare_model::network::{Driver, EndpointConfig, Network, NetworkConfig, Pool};
use tare_model::shaping::Shaping;
use tare_model::{ContainerId, Error, ErrorKind, NetworkId, Result};
use tare_net::pool::{self, Bases, Surroundings};
use tare_store::Store;
use tokio::sync::Notify;

use crate::api::network::{CreatedNetwork, NetworkView, PREDEFINED};
use crate::clock;
use crate::work;
use fabric::{Fabric, Join};
use gone::Gone;
use table::Table;

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
        config.raw_options = plan::default_options(bridge);
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
                return Err(e);
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

    /// A container can be so on a network.
    ///
    /// # Errors
    /// `NotFound`; as [`plan::endpoint`].
    pub(crate) fn can_join(&self, key: &str, config: &EndpointConfig) -> Result<()> {
        plan::endpoint(&self.lock().find(key)?.network, config)
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

    /// A container has another name.
    pub(crate) fn rename(&self, id: &ContainerId, name: &str, attached: Option<&Attached>) {
        self.lock().rename(id, name);
        if let (Some(fabric), Some(attached)) = (&self.fabric, attached) {
            fabric.rename(&self.joins(id, attached));
        }
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

fn forbidden(why: impl Into<String>) -> Error {
    Error::new(ErrorKind::Forbidden, why)
}

/// A route that the network itself brought.
fn is_of(network: &Network, route: IpNet) -> bool {
    network.pools.iter().any(|pool| pool.subnet.trunc() == route.trunc())
}

#[cfg(test)]
mod tests;
