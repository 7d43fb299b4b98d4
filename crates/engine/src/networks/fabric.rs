//! What the engine needs of the kernel's networks, as a contract: the real one is `host`, tests bring their own.
//!
//! Calls may block for as long as the kernel takes, which is on its network lock: they are made on threads that may.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use ipnet::IpNet;
use tare_model::fault::Impairment;
use tare_model::network::{Endpoint, Mac, Network, Protocol, Published};
use tare_model::sandbox::{NetworkReady, NetworkSockets};
use tare_model::shaping::Shaping;
use tare_model::{ContainerId, Result};

use super::Resolver;

/// A container on a network, with what is decided about it.
#[derive(Clone, Debug)]
pub(crate) struct Join {
    /// Which container.
    pub(crate) container: ContainerId,
    /// Which network.
    pub(crate) network: Arc<Network>,
    /// What it gets there.
    pub(crate) endpoint: Endpoint,
    /// The default routes, of IPv4 and of IPv6, go here.
    pub(crate) default_routes: (bool, bool),
    /// What it is called there, its name first.
    pub(crate) names: Vec<String>,
    /// Names for it alone, and whom they stand for.
    pub(crate) links: Vec<(String, String)>,
    /// Parameters of the interface: path below /proc/sys, and value.
    pub(crate) sysctls: BTreeMap<String, String>,
    /// How fast it may be there.
    pub(crate) shaping: Shaping,
}

/// A place where frames are dropped.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Cut {
    /// The endpoint, by its id.
    pub(crate) endpoint: String,
    /// Whose frames do not get there; absent: nobody's, and none come from there.
    pub(crate) from: Option<Mac>,
}

/// See the head of this file.
pub(crate) trait Fabric: Send + Sync + 'static {
    /// Destinations of the host's routes, the default ones not among them.
    fn routes(&self) -> Result<Vec<IpNet>>;

    /// Makes what a network is made of, as far as it is not there.
    fn ensure(&self, network: &Network) -> Result<()>;

    /// Takes a network away that nobody is on.
    fn remove(&self, network: &Network) -> Result<()>;

    /// Puts a container on networks, through the sockets that it made.
    fn attach(&self, joins: &[Join], sockets: &NetworkSockets) -> Result<NetworkReady>;

    /// Answers the questions of a container about names from now on, or answers them otherwise: these are all its networks.
    fn serve_names(&self, joins: &[Join], resolver: &Resolver, sockets: &NetworkSockets) -> Result<()>;

    /// Limits of running containers on these networks are these from now on.
    fn shape(&self, joins: &[Join]) -> Result<()>;

    /// Packets to the interface of a running container, and those from it, suffer this from now on, and nothing else.
    fn impair(&self, join: &Join, suffered: &[Impairment; 2], sockets: &NetworkSockets) -> Result<()>;

    /// Frames get nowhere in these places, and everywhere else.
    fn part(&self, cuts: &[Cut]) -> Result<()>;

    /// Takes a running container off a network.
    fn detach(&self, join: &Join, sockets: &NetworkSockets) -> Result<()>;

    /// The default routes of a running container go by these joins from now on.
    fn route(&self, joins: &[Join], sockets: &NetworkSockets) -> Result<()>;

    /// A container has other names.
    fn rename(&self, joins: &[Join]);

    /// Forgets a container whose network namespace is gone.
    fn forget(&self, joins: &[Join]) -> Result<()>;

    /// The last of them: their addresses may be given to others after this. Takes its time.
    fn forget_connections(&self, joins: &[Join]) -> Result<()>;

    /// Leads ports of the host to containers on a network. With each comes what [`Fabric::hold`] gave for it.
    fn publish(&self, published: &[Published], held: Vec<Option<OwnedFd>>) -> Result<()>;

    /// Leads them nowhere again.
    fn unpublish(&self, published: &[Published]) -> Result<()>;

    /// What isolates containers is out of others' reach as long as a copy of this is open: each monitor gets one, so that it
    /// is when we are dead. None if nothing isolates yet.
    fn to_be_kept(&self) -> Option<OwnedFd>;

    /// After a restart, before anything else: these networks, containers and ports are there, and nothing else is. With each port
    /// comes what [`Fabric::hold`] gave for it. `kept` is what a monitor has kept.
    fn restore(
        &self,
        networks: &[Arc<Network>],
        joins: &[Join],
        published: (&[Published], Vec<Option<OwnedFd>>),
        kept: Option<OwnedFd>,
    ) -> Result<()>;

    /// Holds a port of the host, so that nobody else takes it, until the descriptor is closed. None: it is held already, until
    /// it is unpublished.
    fn hold(&self, protocol: Protocol, address: SocketAddr) -> std::io::Result<Option<OwnedFd>>;

    /// Who has a port that could not be held. Reads all of /proc.
    fn holder(&self, protocol: Protocol, address: SocketAddr) -> String {
        super::holder::of(protocol, address)
    }

    /// The ports that are given where none is asked for, first and last.
    fn ephemeral_ports(&self) -> (u16, u16);

    /// Takes away everything that is nobody's: called when nothing runs and the engine ends.
    fn retire(&self, networks: &[Arc<Network>]);
}
