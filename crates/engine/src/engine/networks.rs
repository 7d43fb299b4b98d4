//! Networks: made, removed, and containers put on them.

use tare_model::network::{EndpointConfig, NetworkConfig, Published};
use tare_model::{Error, Result};

use super::Engine;
use crate::api::network::{CreatedNetwork, NetworkView, PortChange};

// === impl Engine ===

impl Engine {
    /// All networks, by name.
    pub fn networks(&self) -> Vec<NetworkView> {
        Vec::new()
    }

    /// One by name, id, or unique prefix of an id.
    ///
    /// # Errors
    /// `NotFound` ("network x not found"), `InvalidInput` for a prefix of several ids.
    pub fn network(&self, key: &str) -> Result<NetworkView> {
        Err(Error::not_found(format!("network {key} not found")))
    }

    /// Makes a network; durable when it returns.
    ///
    /// # Errors
    /// `Conflict` for a name in use ("network with name x already exists"), `Forbidden` for a predefined one, `InvalidInput`
    /// naming the setting.
    pub async fn network_create(&self, config: NetworkConfig) -> Result<CreatedNetwork> {
        Err(not_yet(&format!("create network {}", config.name)))
    }

    /// Removes a network.
    ///
    /// # Errors
    /// `NotFound`; `Forbidden` for a predefined one ("x is a pre-defined network and cannot be removed") and for one that
    /// running containers are on ("error while removing network: network x has active endpoints (name:\"web\" id:\"0123456789ab\")").
    pub async fn network_remove(&self, key: &str) -> Result<()> {
        Err(not_yet(&format!("remove network {key}")))
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
        let _ = config;
        Err(not_yet(&format!("connect {container} to network {network}")))
    }

    /// Takes a container off a network. With `force` the container need not be there any more.
    ///
    /// # Errors
    /// `NotFound` for either; `Forbidden` when it is not on it ("container x is not connected to network y").
    pub async fn network_disconnect(&self, network: &str, container: &str, force: bool) -> Result<()> {
        let _ = force;
        Err(not_yet(&format!("disconnect {container} from network {network}")))
    }

    /// Publishes ports of a container and takes others back, in force and durable when it returns. Returns what is published
    /// then; empty if it does not run.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` for a port of the host's that is taken, naming the holder; `InvalidInput` for one to be taken
    /// back that is not published, and for a container that shares another's network or the host's.
    pub async fn change_ports(&self, container: &str, change: PortChange) -> Result<Vec<Published>> {
        let _ = change;
        Err(not_yet(&format!("change ports of {container}")))
    }
}

fn not_yet(what: &str) -> Error {
    Error::unsupported(format!("{what}: networks are not supported yet"))
}
