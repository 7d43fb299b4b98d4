//! What the firewall is to enforce: bridges, who may send from their ports, published ports.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use tare_model::network::{GatewayMode, Mac, Network, Published};

/// A bridge network as the firewall sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bridge {
    /// Name of the link.
    pub name: String,
    /// What the names begin with of further bridges, which carry its frames and nothing else.
    pub carriers: String,
    /// Its subnets.
    pub subnets: Vec<Subnet>,
    /// Nothing goes out of it or comes in.
    pub internal: bool,
    /// Its containers reach one another.
    pub icc: bool,
    /// Its containers may send from any address.
    pub spoofing: bool,
}

/// A subnet of a bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subnet {
    /// The subnet.
    pub net: IpNet,
    /// How packets leave it and come in.
    pub mode: GatewayMode,
    /// The address that what leaves is seen with, of the same family; absent: that of the link by which it leaves.
    pub source: Option<IpAddr>,
}

/// A container's link on a bridge, and what may be sent from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// Index of the host's end.
    pub link: u32,
    /// Name of the bridge.
    pub bridge: String,
    /// The only hardware address that it sends from.
    pub mac: Mac,
    /// The only addresses that it sends from; with one of IPv6 also the link-local one that follows from `mac`.
    pub addresses: Vec<IpAddr>,
}

/// Everything that the firewall is to enforce.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ruleset {
    /// By name.
    pub(super) bridges: BTreeMap<String, Bridge>,
    /// By link.
    pub(super) admitted: BTreeMap<u32, Admitted>,
    /// All of them.
    pub(super) published: BTreeSet<Published>,
}

// === impl Bridge ===

impl Bridge {
    /// Of a network that is made of one.
    pub fn of(network: &Network) -> Self {
        let options = &network.config.bridge;
        let subnet = |net: IpNet| match net {
            IpNet::V4(_) => {
                Subnet { net, mode: options.gateway_ipv4, source: options.host_ipv4.map(IpAddr::V4) }
            }
            IpNet::V6(_) => {
                Subnet { net, mode: options.gateway_ipv6, source: options.host_ipv6.map(IpAddr::V6) }
            }
        };
        Self {
            name: network.bridge(),
            carriers: crate::link::mark::leaves(network),
            subnets: network.pools.iter().map(|pool| subnet(pool.subnet)).collect(),
            internal: network.config.internal,
            icc: options.icc,
            spoofing: options.spoofing,
        }
    }

    /// Host addresses are put in place of its containers'.
    pub(super) fn translates(&self, mode: GatewayMode) -> bool {
        !self.internal && matches!(mode, GatewayMode::Nat | GatewayMode::NatUnprotected)
    }
}

// === impl Ruleset ===

impl Ruleset {
    /// Of these.
    pub fn new(
        bridges: impl IntoIterator<Item = Bridge>,
        admitted: impl IntoIterator<Item = Admitted>,
        published: impl IntoIterator<Item = Published>,
    ) -> Self {
        Self {
            bridges: bridges.into_iter().map(|bridge| (bridge.name.clone(), bridge)).collect(),
            admitted: admitted.into_iter().map(|one| (one.link, one)).collect(),
            published: published.into_iter().collect(),
        }
    }

    /// There is a network whose containers do not reach one another.
    pub(super) fn keeps_apart(&self) -> bool {
        self.bridges.values().any(|bridge| !bridge.icc)
    }

    /// The bridge and the subnet that an address lies in.
    pub(super) fn subnet_of(&self, address: IpAddr) -> Option<(&Bridge, &Subnet)> {
        let all = self.bridges.values().flat_map(|bridge| bridge.subnets.iter().map(move |s| (bridge, s)));
        all.into_iter().find(|(_, subnet)| subnet.net.contains(&address))
    }
}
