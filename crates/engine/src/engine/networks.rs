//! Networks: made, removed, and containers put on them.

use std::collections::BTreeMap;

use tare_model::container::NetworkMode;
use tare_model::network::{Driver, Endpoint, EndpointConfig, Network, NetworkConfig, Published};
use tare_model::shaping::Reshaping;
use tare_model::{ErrorKind, Result};
use tokio::sync::oneshot;

use super::Engine;
use crate::api::event::Action;
use crate::api::network::{CreatedNetwork, Member, NetworkView, PortChange};
use crate::api::options::ListFilter;
use crate::api::view::ContainerView;
use crate::lifecycle::handle::Verb;
use crate::lifecycle::networking::NetworkChange;

// === impl Engine ===

impl Engine {
    /// All networks, by name.
    pub fn networks(&self) -> Vec<NetworkView> {
        self.core.networks.list()
    }

    /// One by name, id, or unique prefix of an id.
    ///
    /// # Errors
    /// `NotFound` ("network x not found"), `InvalidInput` for a prefix of several ids.
    pub fn network(&self, key: &str) -> Result<NetworkView> {
        let mut view = self.core.networks.get(key)?;
        let bare = match view.network.config.driver {
            Driver::Host => NetworkMode::Host,
            Driver::None => NetworkMode::None,
            _ => return Ok(view),
        };
        // Who is there has nothing there that would have to be remembered.
        let all = self.list(&ListFilter::default())?.into_iter();
        let on = all.filter(|one| one.fixed.config.namespaces.network == bare);
        let network = view.network.id.clone();
        let member = |one: ContainerView| Member {
            container: one.id,
            name: one.name,
            endpoint: Endpoint {
                network: network.clone(),
                id: String::new(),
                interface: String::new(),
                mac: None,
                addresses: Vec::new(),
                gateways: Vec::new(),
            },
        };
        let on: Vec<Member> = on.map(member).collect();
        view.containers.extend(on);
        Ok(view)
    }

    /// Makes a network; durable when it returns.
    ///
    /// # Errors
    /// `Conflict` for a name in use ("network with name x already exists"), `Forbidden` for a predefined one, `InvalidInput`
    /// naming the setting.
    pub async fn network_create(&self, config: NetworkConfig) -> Result<CreatedNetwork> {
        let (name, driver) = (config.name.clone(), config.driver.name());
        let made = self.core.networks.create(config).await?;
        self.tell_network(Action::NetworkCreate, made.id.as_str(), &name, driver);
        Ok(made)
    }

    /// Changes the rate that all containers of a network divide: in force and durable when it returns.
    ///
    /// # Errors
    /// `NotFound`; `InvalidInput` for a rate out of range; `Unsupported` for another driver than `bridge` and for what the
    /// kernel lacks, naming it. Nothing has changed then.
    pub async fn network_update(&self, key: &str, change: Reshaping) -> Result<()> {
        let Network { id, config, .. } = &*self.core.networks.rerate(key, change).await?;
        self.tell_network(Action::NetworkUpdate, id.as_str(), &config.name, config.driver.name());
        Ok(())
    }

    /// Removes a network.
    ///
    /// # Errors
    /// `NotFound`; `Forbidden` for a predefined one ("x is a pre-defined network and cannot be removed") and for one that
    /// running containers are on ("error while removing network: network x has active endpoints (name:\"web\" id:\"0123456789ab\")").
    pub async fn network_remove(&self, key: &str) -> Result<()> {
        let Network { id, config, .. } = &*self.core.networks.remove(key).await?;
        self.tell_network(Action::NetworkDestroy, id.as_str(), &config.name, config.driver.name());
        Ok(())
    }

    /// Puts a container on a network: at once if it runs, else at its next start.
    ///
    /// # Errors
    /// `NotFound` for either; `Forbidden` when it is there already ("endpoint with name web already exists in network x")
    /// and where its own network is none that can be added to; `InvalidInput` for an address outside the subnets, `Conflict`
    /// for one that is taken.
    pub async fn network_connect(
        &self,
        network: &str,
        container: &str,
        config: EndpointConfig,
    ) -> Result<()> {
        self.network(network)?;
        let change = NetworkChange::Connect(network.to_owned(), Box::new(config));
        self.change_networks(container, change).await.map(drop)
    }

    /// Takes a container off a network. With `force` the container need not be there any more.
    ///
    /// # Errors
    /// `NotFound` for either; `Forbidden` when it is not on it ("container x is not connected to network y").
    pub async fn network_disconnect(&self, network: &str, container: &str, force: bool) -> Result<()> {
        self.network(network)?;
        let change = NetworkChange::Disconnect(network.to_owned(), force);
        match self.change_networks(container, change).await {
            Err(e) if force && e.kind() == ErrorKind::NotFound => Ok(()),
            changed => changed.map(drop),
        }
    }

    /// Publishes ports of a container and takes others back, in force and durable when it returns. Returns what is published
    /// then; empty if it does not run.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` for a port of the host's that is taken, naming the holder; `InvalidInput` for one to be taken
    /// back that is not published, and for a container that shares another's network or the host's.
    pub async fn change_ports(&self, container: &str, change: PortChange) -> Result<Vec<Published>> {
        self.change_networks(container, NetworkChange::Ports(change)).await
    }

    pub(super) async fn change_networks(
        &self,
        container: &str,
        change: NetworkChange,
    ) -> Result<Vec<Published>> {
        let (sender, published) = oneshot::channel();
        self.tell(container, Verb::Networks(change, sender)).await?;
        Ok(published.await.unwrap_or_default())
    }

    fn tell_network(&self, action: Action, id: &str, name: &str, driver: &str) {
        let attributes = [("name", name), ("type", driver)];
        let attributes: BTreeMap<String, String> =
            attributes.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        self.core.events.emit(action, id, attributes);
    }
}
