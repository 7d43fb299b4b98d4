//! Networks of a container: its network mode, its endpoints, its ports, and what does not go together.

use std::collections::BTreeMap;
use std::net::IpAddr;

use tare_docker_api::Version;
use tare_docker_api::extension::NetworkLimits;
use tare_docker_api::models::{ContainerCreateBody, HostConfig, NetworkingConfig};
use tare_model::container::{NetworkMode, Networking};
use tare_model::network::{EndpointConfig, Mac};
use tare_model::shaping::Reshaping;
use tare_model::{Error, Result};

use super::endpoint::{self, Place};
use super::{namespaces, ports};

/// The network settings of a request.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) mode: NetworkMode,
    pub(super) networking: Networking,
    /// What is accepted and has no effect, or not the one that it seems to have.
    pub(super) warnings: Vec<String>,
}

/// Reads them all.
pub(super) fn networking(
    body: &mut ContainerCreateBody,
    host: &HostConfig,
    mac: &str,
    version: Version,
) -> Result<Asked> {
    let mut mode = namespaces::network(host.network_mode.as_deref().unwrap_or(""))?;
    if body.network_disabled.unwrap_or_default() {
        mode = disabled(mode)?;
    }
    conflicts(body, host, &mode)?;
    let mut warnings = Vec::new();
    let mut networking = Networking {
        endpoints: endpoints(body.networking_config.take(), &mode, version)?,
        ports: ports::bindings(host.port_bindings.clone().unwrap_or_default())?,
        publish_all: host.publish_all_ports.unwrap_or_default(),
        ..Networking::default()
    };
    container_mac(&mut networking, &mode, mac, version, &mut warnings)?;
    links(&mut networking, &mode, host.links.as_deref().unwrap_or_default())?;
    if let (NetworkMode::Host | NetworkMode::None, false) = (&mode, networking.ports.is_empty()) {
        networking.ports.clear();
        let word = if mode == NetworkMode::Host { "host" } else { "none" };
        warnings.push(format!("Published ports are discarded when using {word} network mode"));
    }
    let mode = main_network(mode, &networking);
    // Clients name the network of the mode once more, which says nothing new.
    if let Some(key) = key_of(&mode)
        && networking.endpoints.get(key) == Some(&EndpointConfig::default())
    {
        networking.endpoints.remove(key);
    }
    Ok(Asked { mode, networking, warnings })
}

/// `Tare.Network`.
pub(super) fn reshaping(limits: NetworkLimits) -> Reshaping {
    let NetworkLimits { in_rate, out_rate, burst, share } = limits;
    Reshaping { inward: in_rate, outward: out_rate, burst, share }
}

/// `NetworkDisabled`: loopback only.
fn disabled(mode: NetworkMode) -> Result<NetworkMode> {
    match mode {
        NetworkMode::Default | NetworkMode::Bridge | NetworkMode::None => Ok(NetworkMode::None),
        _ => Err(Error::invalid("conflicting options: NetworkDisabled and HostConfig.NetworkMode")),
    }
}

/// Whether it is on networks that others can join.
fn on_networks(mode: &NetworkMode) -> bool {
    matches!(mode, NetworkMode::Default | NetworkMode::Bridge | NetworkMode::Network { .. })
}

/// The key of a mode's endpoint; absent for one without.
fn key_of(mode: &NetworkMode) -> Option<&str> {
    match mode {
        NetworkMode::Default | NetworkMode::Bridge => Some("bridge"),
        NetworkMode::Network { network } => Some(network),
        NetworkMode::None | NetworkMode::Host | NetworkMode::Container { .. } => None,
    }
}

/// What cannot be had together, in Docker's words.
fn conflicts(body: &ContainerCreateBody, host: &HostConfig, mode: &NetworkMode) -> Result<()> {
    let some = |list: &Option<Vec<String>>| list.as_ref().is_some_and(|l| !l.is_empty());
    let refuse = |what: &str| Err(Error::invalid(format!("conflicting options: {what}")));
    let published = host.port_bindings.as_ref().is_some_and(|map| !map.is_empty());
    match mode {
        NetworkMode::Host if some(&host.links) => {
            refuse("host type networking can't be used with links. This would result in undefined behavior")
        }
        NetworkMode::Container { .. } => {
            if body.hostname.as_ref().is_some_and(|name| !name.is_empty()) {
                return refuse("hostname and the network mode");
            }
            if some(&host.links) {
                return refuse(
                    "container type network can't be used with links. This would result in undefined behavior",
                );
            }
            if some(&host.dns) || some(&host.dns_search) || some(&host.dns_options) {
                return refuse("dns and the network mode");
            }
            if some(&host.extra_hosts) {
                return refuse("custom host-to-IP mapping and the network mode");
            }
            if published || host.publish_all_ports.unwrap_or_default() {
                return refuse("port publishing and the container type network mode");
            }
            if some(&body.exposed_ports) {
                return refuse("port exposing and the container type network mode");
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// `NetworkingConfig.EndpointsConfig`.
fn endpoints(
    asked: Option<NetworkingConfig>,
    mode: &NetworkMode,
    version: Version,
) -> Result<BTreeMap<String, EndpointConfig>> {
    let asked = asked.and_then(|n| n.endpoints_config).unwrap_or_default();
    if asked.len() > 1 && version < Version::new(44) {
        let mut names: Vec<&str> = asked.keys().map(String::as_str).collect();
        names.sort_unstable();
        return Err(Error::invalid(format!(
            "Container cannot be created with multiple network endpoints: {}",
            names.join(", ")
        )));
    }
    let mut endpoints = BTreeMap::new();
    for (name, settings) in asked {
        let name = if name == "default" { "bridge".to_owned() } else { name };
        let place =
            if matches!(mode, NetworkMode::Container { .. }) { Place::Shared } else { Place::of(&name) };
        let config = endpoint::endpoint(settings, place, version)?;
        // Clients name the network of the mode once more; where it is none that is joined, that says nothing new.
        let own = match mode {
            NetworkMode::None => name == "none",
            NetworkMode::Host => name == "host",
            NetworkMode::Container { container } => name.strip_prefix("container:") == Some(container),
            _ => false,
        };
        if !on_networks(mode) || matches!(name.as_str(), "none" | "host") {
            if !own || config != EndpointConfig::default() {
                return Err(not_on_others(mode, &name));
            }
            continue;
        }
        endpoints.insert(name, config);
    }
    Ok(endpoints)
}

fn not_on_others(mode: &NetworkMode, name: &str) -> Error {
    let why = match (mode, name) {
        (NetworkMode::None, _) | (_, "none") => {
            "container cannot be connected to multiple networks with one of the networks in private (none) mode"
        }
        (NetworkMode::Container { .. }, _) => {
            "container sharing network namespace with another container or host cannot be connected to any other network"
        }
        _ => "container cannot be disconnected from host network or connected to host network",
    };
    Error::invalid(format!("{why} (NetworkingConfig.EndpointsConfig.{name})"))
}

/// The container-wide MAC address, which clients of old versions send: it is that of the mode's network.
fn container_mac(
    networking: &mut Networking,
    mode: &NetworkMode,
    mac: &str,
    version: Version,
    warnings: &mut Vec<String>,
) -> Result<()> {
    let old = version < Version::new(44);
    if old {
        // That API had no such field, and its clients send none on purpose.
        networking.endpoints.values_mut().for_each(|endpoint| endpoint.mac = None);
    }
    if mac.is_empty() {
        return Ok(());
    }
    let mac: Mac = mac.parse()?;
    let Some(key) = key_of(mode) else {
        return Err(Error::invalid("conflicting options: mac-address and the network mode"));
    };
    let endpoint = networking.endpoints.entry(key.to_owned()).or_default();
    if endpoint.mac.is_some_and(|own| own != mac) {
        return Err(Error::invalid(
            "the container-wide MAC address must match the endpoint-specific MAC address for the main network, or be \
             left empty",
        ));
    }
    endpoint.mac = Some(mac);
    if !old {
        warnings.push(
            "The container-wide MacAddress field is now deprecated. It should be specified in EndpointsConfig instead."
                .to_owned(),
        );
    }
    Ok(())
}

/// `HostConfig.Links`: on the network of the mode.
fn links(networking: &mut Networking, mode: &NetworkMode, links: &[String]) -> Result<()> {
    if links.is_empty() {
        return Ok(());
    }
    let Some(key) = key_of(mode) else {
        return Err(Error::invalid("conflicting options: links and the network mode (HostConfig.Links)"));
    };
    let endpoint = networking.endpoints.entry(key.to_owned()).or_default();
    for link in links {
        let link = endpoint::link(link)?;
        // Docker's client sends them here and in the endpoint.
        if !endpoint.links.contains(&link) {
            endpoint.links.push(link);
        }
    }
    Ok(())
}

/// Who names endpoints and leaves the mode as it is wants these networks and not the default one too.
fn main_network(mode: NetworkMode, networking: &Networking) -> NetworkMode {
    let usual = matches!(mode, NetworkMode::Default | NetworkMode::Bridge);
    match networking.endpoints.keys().next() {
        Some(first) if usual && !networking.endpoints.contains_key("bridge") => {
            NetworkMode::Network { network: first.clone() }
        }
        _ => mode,
    }
}

/// `HostConfig.ExtraHosts`: `name:address`, where the address may be `host-gateway`.
pub(super) fn extra_hosts(entries: Vec<String>) -> Result<Vec<String>> {
    let one = |entry: String| {
        let bad = || Error::invalid(format!("bad format for add-host: {entry:?} (HostConfig.ExtraHosts)"));
        // The first of the two that stands there: an IPv6 address has colons of its own.
        let at = entry.find(['=', ':']).ok_or_else(bad)?;
        let (name, address) = (&entry[..at], &entry[at + 1..]);
        if name.is_empty() || name.bytes().any(|b| b.is_ascii_whitespace() || b.is_ascii_control()) {
            return Err(bad());
        }
        let plain = address.strip_prefix('[').and_then(|a| a.strip_suffix(']')).unwrap_or(address);
        // A zone (`fe80::1%eth0`) is part of an address that a resolver takes.
        let bare = plain.split_once('%').map_or(plain, |(address, _)| address);
        if plain != "host-gateway" && bare.parse::<IpAddr>().is_err() {
            return Err(Error::invalid(format!("invalid IP address in add-host: {address:?}")));
        }
        Ok(format!("{name}:{plain}"))
    };
    entries.into_iter().map(one).collect()
}

#[cfg(test)]
mod tests;
