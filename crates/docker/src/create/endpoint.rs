//! How a container is to be on one network: `EndpointSettings`, in create requests and in connect requests.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tare_docker_api::Version;
use tare_docker_api::models::{EndpointIpamConfig, EndpointSettings};
use tare_model::network::EndpointConfig;
use tare_model::{Error, Result};

/// Names of the fields, for their spelling.
pub(crate) const FIELDS: &[&str] = &[
    "Aliases",
    "DNSNames",
    "DriverOpts",
    "EndpointID",
    "Gateway",
    "GlobalIPv6Address",
    "GlobalIPv6PrefixLen",
    "GwPriority",
    "IPAMConfig",
    "IPAddress",
    "IPPrefixLen",
    "IPv6Gateway",
    "Links",
    "MacAddress",
    "NetworkID",
];

/// Names of the fields of `IPAMConfig`.
pub(crate) const IPAM_FIELDS: &[&str] = &["IPv4Address", "IPv6Address", "LinkLocalIPs"];

const SYSCTLS: &str = "com.docker.network.endpoint.sysctls";
const INTERFACE: &str = "com.docker.network.endpoint.ifname";

/// Longest name of an interface (`IFNAMSIZ` without its zero byte).
const INTERFACE_MAX: usize = 15;

/// What kind of network an endpoint is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// One that is always there.
    Predefined,
    /// One that a user made.
    Own,
    /// That of another container.
    Shared,
}

// === impl Place ===

impl Place {
    pub(crate) fn of(network: &str) -> Self {
        match network {
            "bridge" | "default" | "host" | "none" => Self::Predefined,
            _ => Self::Own,
        }
    }
}

/// Reads one. What the daemon itself fills in (`IPAddress`, `NetworkID`, …) is none of a request's; clients send back what
/// they were shown, so it counts for nothing, as with Docker.
pub(crate) fn endpoint(asked: EndpointSettings, place: Place, version: Version) -> Result<EndpointConfig> {
    let ipam = asked.ipam_config.unwrap_or_default();
    let driver_opts = asked.driver_opts.unwrap_or_default();
    if place == Place::Shared && asked.mac_address.as_deref().is_some_and(|mac| !mac.is_empty()) {
        return Err(Error::invalid("conflicting options: mac-address and the network mode"));
    }
    let mut config = EndpointConfig {
        aliases: aliases(asked.aliases.unwrap_or_default())?,
        links: asked.links.unwrap_or_default().iter().map(|l| link(l)).collect::<Result<_>>()?,
        gateway_priority: asked.gw_priority.unwrap_or_default(),
        sysctls: driver_opts.get(SYSCTLS).map(|text| sysctls(text)).transpose()?.unwrap_or_default(),
        interface: driver_opts.get(INTERFACE).map(|name| interface(name)).transpose()?,
        ..addresses(&ipam)?
    };
    if let Some(mac) = asked.mac_address.filter(|mac| !mac.is_empty()) {
        config.mac = Some(mac.parse().map_err(|e: Error| invalid(e.message()))?);
    }
    config.raw_options = driver_opts.into_iter().collect();
    if config.gateway_priority != 0 && version < Version::new(48) {
        config.gateway_priority = 0;
    }
    if place == Place::Predefined && (config.ipv4.is_some() || config.ipv6.is_some()) {
        return Err(invalid("user specified IP address is supported on user defined networks only"));
    }
    if place == Place::Predefined && !config.aliases.is_empty() {
        return Err(invalid(
            "network-scoped alias is supported only for containers in user defined networks",
        ));
    }
    Ok(config)
}

/// In the words around Docker's.
fn invalid(why: &str) -> Error {
    Error::invalid(format!("invalid endpoint settings:\n{why}"))
}

fn addresses(ipam: &EndpointIpamConfig) -> Result<EndpointConfig> {
    let set = |text: &Option<String>| text.clone().filter(|t| !t.is_empty());
    let four = |text: String| {
        let wrong = || invalid(&format!("invalid IPv4 address: {text}"));
        text.parse::<Ipv4Addr>().ok().filter(|a| !a.is_unspecified()).ok_or_else(wrong)
    };
    let six = |text: String| {
        let wrong = || invalid(&format!("invalid IPv6 address: {text}"));
        text.parse::<Ipv6Addr>().ok().filter(|a| !a.is_unspecified()).ok_or_else(wrong)
    };
    let local = |text: &String| {
        let wrong = || invalid(&format!("invalid link-local IP address: {text}"));
        text.parse::<IpAddr>().ok().filter(|a| !a.is_unspecified()).ok_or_else(wrong)
    };
    Ok(EndpointConfig {
        ipv4: set(&ipam.ipv4_address).map(four).transpose()?,
        ipv6: set(&ipam.ipv6_address).map(six).transpose()?,
        link_local: ipam.link_local_ips.iter().flatten().map(local).collect::<Result<_>>()?,
        ..Default::default()
    })
}

/// Names that go into DNS and `/etc/hosts`.
fn aliases(names: Vec<String>) -> Result<Vec<String>> {
    match names.iter().find(|n| n.is_empty() || n.bytes().any(|b| b <= b' ' || b == 0x7f)) {
        Some(bad) => Err(invalid(&format!("invalid alias {bad:?}: want a name without blanks"))),
        None => Ok(names),
    }
}

/// `container`, `container:alias`.
pub(crate) fn link(text: &str) -> Result<String> {
    let bad = || Error::invalid(format!("bad format for links: {text}"));
    let (container, alias) = text.split_once(':').unwrap_or((text, text));
    let container = container.trim_start_matches('/');
    // Links that inspection showed are `/db:/web/alias`.
    let alias = alias.rsplit('/').next().unwrap_or(alias);
    if container.is_empty() || alias.is_empty() || alias.contains(':') {
        return Err(bad());
    }
    Ok(format!("{container}:{alias}"))
}

/// `net.ipv4.conf.IFNAME.log_martians=1,net.ipv6…`: settings of this interface and of none besides.
fn sysctls(text: &str) -> Result<Vec<String>> {
    let one = |setting: &str| {
        let wrong =
            |why: &str| invalid(&format!("unable to set endpoint sysctl {setting:?}: {why} ({SYSCTLS})"));
        let (name, _) = setting.split_once('=').ok_or_else(|| wrong("want NAME=VALUE"))?;
        let parts: Vec<&str> = name.split('.').collect();
        match parts.as_slice() {
            ["net", "ipv4" | "ipv6" | "mpls", _, "IFNAME", _] => Ok(setting.to_owned()),
            _ => {
                Err(wrong("want net.ipv4.conf.IFNAME.SETTING, with IFNAME in place of the interface's name"))
            }
        }
    };
    text.split(',').map(str::trim).filter(|s| !s.is_empty()).map(one).collect()
}

fn interface(name: &str) -> Result<String> {
    let bad = |b: u8| b <= b' ' || b == b'/' || b == b':' || b == 0x7f;
    if name.is_empty()
        || name.len() > INTERFACE_MAX
        || matches!(name, "." | ".." | "lo")
        || name.bytes().any(bad)
    {
        return Err(invalid(&format!(
            "invalid interface name {name:?}: want 1 to {INTERFACE_MAX} characters without blanks, '/' and ':' ({INTERFACE})"
        )));
    }
    Ok(name.to_owned())
}
