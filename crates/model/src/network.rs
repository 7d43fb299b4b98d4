//! Networks: what one is asked to be, what it is, and how containers are on it.
//!
//! ```text
//!   NetworkConfig ── create ──▶ Network (its pools are chosen)
//!                                 ▲
//!   EndpointConfig ── start ──▶ Endpoint (addresses and MAC are given; freed at the end)
//!   PortBinding    ── start ──▶ Published (host ports are given)
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::id::NetworkId;
use crate::shaping::Rates;

/// What a network is asked to be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkConfig {
    /// Unique.
    pub name: String,
    /// What it is made of.
    pub driver: Driver,
    /// It has IPv4.
    pub ipv4: bool,
    /// It has IPv6.
    pub ipv6: bool,
    /// Subnets asked for, at most one of each family for most uses; absent families get one of the engine's pools.
    pub pools: Vec<PoolConfig>,
    /// No way out of it and none in, but between its containers and the host.
    pub internal: bool,
    /// Containers of services and others alike may be on it (kept for tools; every network is).
    pub attachable: bool,
    /// Options of the bridge driver.
    pub bridge: BridgeOptions,
    /// Options of the macvlan and ipvlan drivers.
    pub parent: ParentOptions,
    /// Never interpreted.
    pub labels: BTreeMap<String, String>,
    /// Driver options as the user gave them, for inspection.
    pub raw_options: BTreeMap<String, String>,
    /// Address management options as the user gave them, for inspection.
    pub raw_ipam_options: BTreeMap<String, String>,
}

/// What a network is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Driver {
    /// A bridge of the host's, with addresses of its own.
    #[default]
    Bridge,
    /// The host's own network.
    Host,
    /// Loopback only; Docker calls it `null`.
    None,
    /// Interfaces with MACs of their own on a link of the host's.
    Macvlan,
    /// Interfaces that share the MAC of a link of the host's.
    Ipvlan,
}

/// A subnet as asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolConfig {
    /// The subnet; absent: one of the engine's pools, of IPv4. With an unspecified address (`0.0.0.0/28`, `::/96`) it is one of
    /// the engine's, of that length.
    pub subnet: Option<IpNet>,
    /// Part of the subnet out of which addresses are given; absent: all of it.
    #[serde(default)]
    pub range: Option<IpNet>,
    /// The bridge's own address; absent: the first of the range.
    #[serde(default)]
    pub gateway: Option<IpAddr>,
    /// Addresses that are never given to a container, by the name of what has them.
    #[serde(default)]
    pub auxiliary: BTreeMap<String, IpAddr>,
}

/// A subnet of a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// The subnet.
    pub subnet: IpNet,
    /// Out of which addresses are given.
    pub range: IpNet,
    /// The way out; none on an isolated network, and on one whose parent link has none.
    pub gateway: Option<IpAddr>,
    /// Addresses that are never given to a container, by the name of what has them.
    #[serde(default)]
    pub auxiliary: BTreeMap<String, IpAddr>,
    /// The user chose the subnet.
    #[serde(default)]
    pub chosen: bool,
}

/// A network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Its id.
    pub id: NetworkId,
    /// As asked for.
    pub config: NetworkConfig,
    /// Its subnets, IPv4 first.
    pub pools: Vec<Pool>,
    /// Nanoseconds since the epoch.
    pub created: u64,
}

/// Options of the bridge driver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BridgeOptions {
    /// The link's name (`com.docker.network.bridge.name`); absent: `br-` and the first twelve digits of the network's id.
    pub name: Option<String>,
    /// Containers reach one another (`com.docker.network.bridge.enable_icc`).
    pub icc: bool,
    /// How IPv4 leaves (`com.docker.network.bridge.gateway_mode_ipv4`; `enable_ip_masquerade=false` is [`GatewayMode::Routed`]
    /// but with ports that are not published left open as Docker has it).
    pub gateway_ipv4: GatewayMode,
    /// How IPv6 leaves.
    pub gateway_ipv6: GatewayMode,
    /// Where ports without an address are published (`com.docker.network.bridge.host_binding_ipv4`).
    pub host_binding: Option<IpAddr>,
    /// Source address of what leaves IPv4 masqueraded (`com.docker.network.host_ipv4`).
    pub host_ipv4: Option<Ipv4Addr>,
    /// The same for IPv6 (`com.docker.network.host_ipv6`).
    pub host_ipv6: Option<Ipv6Addr>,
    /// Bytes of the largest packet (`com.docker.network.driver.mtu`); absent: the kernel's 1500.
    pub mtu: Option<u32>,
    /// Prefix of the interface's name in containers (`com.docker.network.container_iface_prefix`); absent: `eth`.
    pub interface_prefix: Option<String>,
    /// Containers may send from MACs and addresses that were not given to them (`tare.network.spoofing`).
    pub spoofing: bool,
    /// What all containers together may receive and send (`tare.network.rate`): they have it in proportion to their shares.
    pub rates: Rates,
}

/// How packets leave a bridge network and come in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GatewayMode {
    /// With the host's address; in by published ports only.
    #[default]
    Nat,
    /// With their own address; in by published ports, of which the host's numbers play no part.
    Routed,
    /// With the host's address; in by published ports, and straight to every port.
    NatUnprotected,
    /// The bridge has no address, and nothing leaves (internal networks only).
    Isolated,
}

/// Options of the macvlan and ipvlan drivers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ParentOptions {
    /// The host's link, `eth0`, or a VLAN of it, `eth0.20`, which is made if it is missing.
    pub link: Option<String>,
    /// How interfaces on one link see each other.
    pub mode: ParentMode,
}

/// How interfaces on one link see each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ParentMode {
    /// macvlan: directly; ipvlan: `l2`.
    #[default]
    Default,
    /// macvlan: by way of a switch that sends back.
    Vepa,
    /// macvlan: one interface has the link for itself.
    Passthru,
    /// macvlan, ipvlan: not at all.
    Private,
    /// ipvlan: routed, without ARP.
    L3,
    /// ipvlan: routed, and seen by the host's firewall.
    L3s,
}

/// How a container is to be on a network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EndpointConfig {
    /// Address asked for; absent: one is given at each start.
    pub ipv4: Option<Ipv4Addr>,
    /// The same for IPv6.
    pub ipv6: Option<Ipv6Addr>,
    /// Further addresses, of the link only.
    pub link_local: Vec<IpAddr>,
    /// MAC asked for; absent: one is made of the address.
    pub mac: Option<Mac>,
    /// Further names on this network.
    pub aliases: Vec<String>,
    /// `container:alias`: names for this container alone.
    pub links: Vec<String>,
    /// The default route goes to the network where this is highest; among equals by name.
    pub gateway_priority: i64,
    /// Name of the interface; absent: the next free `ethN`.
    pub interface: Option<String>,
    /// Settings of the interface (`com.docker.network.endpoint.sysctls`), with `IFNAME` in place of its name.
    pub sysctls: Vec<String>,
    /// Driver options as the user gave them, for inspection.
    pub raw_options: BTreeMap<String, String>,
}

/// A running container on a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Of the network.
    pub network: NetworkId,
    /// Its own id, for tools that show one: 64 hexadecimal digits drawn at each start. The host's end of its pair is named by it.
    pub id: String,
    /// Name of the interface in the container.
    pub interface: String,
    /// Its MAC; absent for ipvlan and macvlan's passthru, which have the parent's.
    pub mac: Option<Mac>,
    /// With the prefix lengths of their subnets, IPv4 first.
    pub addresses: Vec<IpNet>,
    /// The gateways of those subnets.
    pub gateways: Vec<IpAddr>,
}

/// A port of a container that is to be reached by a port of the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortBinding {
    /// In the container.
    pub port: u16,
    /// Of both.
    pub protocol: Protocol,
    /// Address of the host; absent: all.
    pub host: Option<IpAddr>,
    /// The first and last of the host's ports, of which one free is taken; 0 and 0: any free one.
    pub host_ports: (u16, u16),
}

/// A port that is published.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Published {
    /// Address of the host; the unspecified one is all of its family.
    pub host: IpAddr,
    /// Port of the host.
    pub host_port: u16,
    /// Of both.
    pub protocol: Protocol,
    /// Address of the container.
    pub address: IpAddr,
    /// In the container.
    pub port: u16,
}

/// What ports belong to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// The address of an interface on its link.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mac(pub [u8; 6]);

// === impl NetworkConfig ===

impl Default for BridgeOptions {
    fn default() -> Self {
        Self {
            name: None,
            icc: true,
            gateway_ipv4: GatewayMode::Nat,
            gateway_ipv6: GatewayMode::Nat,
            host_binding: None,
            host_ipv4: None,
            host_ipv6: None,
            mtu: None,
            interface_prefix: None,
            spoofing: false,
            rates: Rates::default(),
        }
    }
}

// === impl Network ===

impl Network {
    /// Name of its bridge, if it is made of one.
    pub fn bridge(&self) -> String {
        self.config.bridge.name.clone().unwrap_or_else(|| format!("br-{}", self.id.short()))
    }

    /// Its pool that an address lies in.
    pub fn pool_of(&self, address: IpAddr) -> Option<&Pool> {
        self.pools.iter().find(|pool| pool.subnet.contains(&address))
    }
}

// === impl Protocol ===

impl Protocol {
    /// The number in IP headers.
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        })
    }
}

impl FromStr for Protocol {
    type Err = Error;
    fn from_str(s: &str) -> Result<Self, Error> {
        match s {
            "tcp" => Ok(Self::Tcp),
            "udp" => Ok(Self::Udp),
            "sctp" => Ok(Self::Sctp),
            _ => Err(Error::invalid(format!("invalid protocol {s:?}: want tcp, udp or sctp"))),
        }
    }
}

// === impl Driver ===

impl Driver {
    /// Docker's name for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bridge => "bridge",
            Self::Host => "host",
            Self::None => "null",
            Self::Macvlan => "macvlan",
            Self::Ipvlan => "ipvlan",
        }
    }
}

// === impl Mac ===

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mac({self})")
    }
}

impl FromStr for Mac {
    type Err = Error;
    fn from_str(s: &str) -> Result<Self, Error> {
        let wrong =
            || Error::invalid(format!("invalid MAC address {s:?}: want six bytes, 02:42:ac:11:00:02"));
        let mut bytes = [0; 6];
        let mut parts = s.split([':', '-']);
        for byte in &mut bytes {
            let hex = |part: &&str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit());
            let part = parts.next().filter(hex).ok_or_else(wrong)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| wrong())?;
        }
        if parts.next().is_some() || bytes[0] & 1 == 1 || bytes == [0; 6] {
            return Err(wrong());
        }
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for Mac {
    type Error = Error;
    fn try_from(s: String) -> Result<Self, Error> {
        s.parse()
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> String {
        mac.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mac_is_read_as_it_is_shown_and_groups_are_none() {
        let mac: Mac = "02:42:ac:11:00:02".parse().unwrap();
        assert_eq!(mac.to_string().parse::<Mac>().unwrap(), mac);
        assert_eq!("02-42-AC-11-00-02".parse::<Mac>().unwrap(), mac);
        for wrong in [
            "",
            "02:42:ac:11:00",
            "02:42:ac:11:00:02:03",
            "01:00:5e:00:00:01",
            "0:0:0:0:0:1",
            "+2:42:ac:11:00:02",
        ] {
            assert!(wrong.parse::<Mac>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_configuration_of_an_older_version_still_reads() {
        let config: NetworkConfig = serde_json::from_str("{}").expect("every field has a default");
        assert_eq!(config, NetworkConfig::default());
        assert!(config.bridge.icc);
    }
}
