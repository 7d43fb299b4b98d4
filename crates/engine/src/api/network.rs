//! Networks as faces see them, and how containers are on them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use tare_model::fault::{Direction, Fault, Impairment};
use tare_model::network::{Endpoint, EndpointConfig, Network, PortBinding, Published};
use tare_model::{ContainerId, ContainerName, NetworkId};

/// Networks that are always there and cannot be removed, nor have their names taken.
pub const PREDEFINED: [&str; 3] = ["bridge", "host", "none"];

/// A network, at one instant.
#[derive(Clone, Debug, PartialEq)]
pub struct NetworkView {
    /// What it is.
    pub network: Network,
    /// Running containers on it, by container id.
    pub containers: Vec<Member>,
    /// How full its subnets are, in the order of [`Network::pools`].
    pub usage: Vec<PoolUsage>,
}

/// A running container on a network.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    /// Which.
    pub container: ContainerId,
    /// Its name now.
    pub name: ContainerName,
    /// What it has there.
    pub endpoint: Endpoint,
}

/// How full a subnet is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolUsage {
    /// Addresses that are taken: those of containers, the gateway's, auxiliary ones, and IPv4's network and broadcast.
    pub in_use: u64,
    /// Addresses that can still be given; more than fit are `u64::MAX`.
    pub available: u64,
}

/// What `network_create` made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreatedNetwork {
    /// The network.
    pub id: NetworkId,
    /// What was asked for and is not quite what happens, one sentence each.
    pub warnings: Vec<String>,
}

/// Networks and ports of one container, at one instant.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NetworkingView {
    /// How it is on each of its networks, by the network's name.
    pub endpoints: BTreeMap<String, EndpointView>,
    /// Ports that are published now, in the order of the type; of no stopped container.
    pub published: Vec<Published>,
    /// The network namespace, as a path that can be entered, while it runs.
    pub sandbox: Option<PathBuf>,
    /// What goes wrong on purpose, in the order in which it began.
    pub faults: Vec<Fault>,
}

/// A container on one network.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EndpointView {
    /// The network, once it is known: before the first start it need not be there.
    pub network: Option<NetworkId>,
    /// As asked for.
    pub config: EndpointConfig,
    /// What it has while it runs.
    pub live: Option<Endpoint>,
}

/// Ports to publish and to take back, in one step: either all of it happens or nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortChange {
    /// To be published.
    pub add: Vec<PortBinding>,
    /// To be taken back. An entry with host ports 0 and 0 means every binding of that port and protocol; without a host
    /// address, of every address. One that matches nothing is an error.
    pub remove: Vec<PortBinding>,
}

/// A fault of a container's networks that is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FaultRequest {
    /// On which network, by name or id; absent: on all that the container is on.
    pub network: Option<String>,
    /// Which way packets are impaired.
    pub direction: Direction,
    /// How.
    pub impairment: Impairment,
    /// Containers and networks with which nothing is exchanged: `web`, `container:web`, `network:front`.
    pub partition: Vec<String>,
    /// Nanoseconds after which it ends by itself.
    pub lasts: Option<u64>,
}

/// A fault, and whose it is.
#[derive(Clone, Debug, PartialEq)]
pub struct FaultView {
    /// The container.
    pub container: ContainerId,
    /// Its name.
    pub name: ContainerName,
    /// The fault.
    pub fault: Fault,
    /// Name of the network that it is on, if on one alone.
    pub network: Option<String>,
}
