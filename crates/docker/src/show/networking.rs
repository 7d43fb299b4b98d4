//! Networks and ports of a container, in its inspection and in the list of containers.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde_json::{Map, Value, json};
use tare_docker_api::Version;
use tare_engine::{ContainerView, EndpointView};
use tare_model::container::NetworkMode;
use tare_model::network::{Endpoint, EndpointConfig, PortBinding, Protocol, Published};

use super::object;
use crate::create::endpoint::Place;
use crate::create::ports;

/// The word of `HostConfig.NetworkMode`.
pub(crate) fn mode_word(mode: &NetworkMode) -> String {
    match mode {
        NetworkMode::Default => "default".to_owned(),
        NetworkMode::Bridge => "bridge".to_owned(),
        NetworkMode::None => "none".to_owned(),
        NetworkMode::Host => "host".to_owned(),
        NetworkMode::Container { container } => format!("container:{container}"),
        NetworkMode::Network { network } => network.clone(),
    }
}

/// A container's ports: number and protocol.
type Port = (u16, Protocol);

/// The networks that it is on, or will be on when it starts.
fn endpoints(view: &ContainerView) -> BTreeMap<&str, EndpointView> {
    let engine = &view.networking.endpoints;
    if !engine.is_empty() {
        return engine.iter().map(|(name, endpoint)| (name.as_str(), endpoint.clone())).collect();
    }
    let asked = &view.fixed.config.networking.endpoints;
    let mut found: BTreeMap<&str, EndpointView> = asked
        .iter()
        .map(|(name, config)| (name.as_str(), EndpointView { config: config.clone(), ..Default::default() }))
        .collect();
    match &view.fixed.config.namespaces.network {
        NetworkMode::Default | NetworkMode::Bridge => drop(found.entry("bridge").or_default()),
        NetworkMode::None => drop(found.entry("none").or_default()),
        NetworkMode::Host => drop(found.entry("host").or_default()),
        NetworkMode::Network { network } => drop(found.entry(network).or_default()),
        NetworkMode::Container { .. } => {}
    }
    found
}

/// `Networks`.
pub(crate) fn networks(view: &ContainerView, version: Version) -> Value {
    let shown =
        endpoints(view).into_iter().map(|(name, e)| (name.to_owned(), endpoint(view, name, &e, version)));
    Value::Object(shown.collect())
}

/// Whether it is on the network with this name, id or beginning of an id.
pub(crate) fn is_on(view: &ContainerView, key: &str) -> bool {
    let by_id = |e: &EndpointView| {
        !key.is_empty() && e.network.as_ref().is_some_and(|id| id.as_str().starts_with(key))
    };
    endpoints(view).iter().any(|(name, endpoint)| *name == key || by_id(endpoint))
}

fn endpoint(view: &ContainerView, name: &str, endpoint: &EndpointView, version: Version) -> Value {
    let config = &endpoint.config;
    let list = |list: &[String]| if list.is_empty() { Value::Null } else { json!(list) };
    let named = Place::of(name) == Place::Own;
    let mut aliases = config.aliases.clone();
    // Before there was a field for them, the names that the daemon gives stood here.
    if named && version < Version::new(45) {
        aliases.push(view.id.short().to_owned());
    }
    let mut shown = addresses(endpoint.live.as_ref(), config);
    let mut set = |name: &str, value: Value| drop(shown.insert(name.to_owned(), value));
    set("IPAMConfig", ipam_config(config));
    set("Links", list(&config.links));
    set("Aliases", list(&aliases));
    set("DriverOpts", if config.raw_options.is_empty() { Value::Null } else { json!(config.raw_options) });
    let id = endpoint.live.as_ref().map(|live| &live.network).or(endpoint.network.as_ref());
    set("NetworkID", json!(id.map(ToString::to_string).unwrap_or_default()));
    if version >= Version::new(48) {
        set("GwPriority", json!(config.gateway_priority));
    }
    if version >= Version::new(44) {
        set("DNSNames", if named { json!(dns_names(view, config)) } else { Value::Null });
    }
    Value::Object(shown)
}

/// The names that others on the network find it by.
fn dns_names(view: &ContainerView, config: &EndpointConfig) -> Vec<String> {
    let own = [view.name.as_str()];
    let given = config.aliases.iter().map(String::as_str);
    let mut seen = BTreeSet::new();
    let all = own.into_iter().chain(given).chain([view.id.short(), view.fixed.hostname.as_str()]);
    all.filter(|name| !name.is_empty() && seen.insert(*name)).map(str::to_owned).collect()
}

fn ipam_config(config: &EndpointConfig) -> Value {
    let mut shown = Map::new();
    let four = config.ipv4.map(|a| a.to_string());
    let six = config.ipv6.map(|a| a.to_string());
    for (name, address) in [("IPv4Address", four), ("IPv6Address", six)] {
        if let Some(address) = address {
            shown.insert(name.to_owned(), json!(address));
        }
    }
    if !config.link_local.is_empty() {
        shown.insert("LinkLocalIPs".to_owned(), json!(config.link_local));
    }
    if shown.is_empty() { Value::Null } else { Value::Object(shown) }
}

/// What the engine gave; for one that does not run, nothing but the MAC that was asked for.
fn addresses(live: Option<&Endpoint>, config: &EndpointConfig) -> Map<String, Value> {
    let net = |ipv6: bool| live?.addresses.iter().find(|a| a.addr().is_ipv6() == ipv6);
    let gateway = |ipv6: bool| live?.gateways.iter().find(|a| a.is_ipv6() == ipv6);
    let text = |address: Option<String>| address.unwrap_or_default();
    object(&json!({
        "EndpointID": live.map(|e| e.id.as_str()).unwrap_or_default(),
        "Gateway": text(gateway(false).map(ToString::to_string)),
        "IPAddress": text(net(false).map(|a| a.addr().to_string())),
        "IPPrefixLen": net(false).map_or(0, |a| a.prefix_len()),
        "IPv6Gateway": text(gateway(true).map(ToString::to_string)),
        "GlobalIPv6Address": text(net(true).map(|a| a.addr().to_string())),
        "GlobalIPv6PrefixLen": net(true).map_or(0, |a| a.prefix_len()),
        "MacAddress": text(live.and_then(|e| e.mac).or(config.mac).map(|m| m.to_string())),
    }))
}

/// `NetworkSettings` of an inspected container.
pub(crate) fn settings(view: &ContainerView, version: Version) -> Value {
    let mut shown = Map::new();
    if version < Version::new(52) {
        // The same once more, for the default network alone.
        let usual = endpoints(view).remove("bridge").unwrap_or_default();
        shown.extend(addresses(usual.live.as_ref(), &EndpointConfig::default()));
        shown.extend(object(&json!({
            "Bridge": "", "HairpinMode": false, "LinkLocalIPv6Address": "", "LinkLocalIPv6PrefixLen": 0,
            "SecondaryIPAddresses": null, "SecondaryIPv6Addresses": null,
        })));
    }
    let sandbox = view.networking.sandbox.as_ref();
    shown.extend(object(&json!({
        "SandboxID": sandbox.map(|_| view.id.to_string()).unwrap_or_default(),
        "SandboxKey": sandbox.map(|path| path.to_string_lossy().into_owned()).unwrap_or_default(),
        "Ports": live_ports(view),
    })));
    shown.insert("Networks".to_owned(), networks(view, version));
    Value::Object(shown)
}

/// The ports of one that runs on networks of its own; those that nobody published too.
fn ports_of(view: &ContainerView) -> BTreeMap<Port, Vec<&Published>> {
    let mut found: BTreeMap<Port, Vec<&Published>> = BTreeMap::new();
    if !view.state.status.is_live() || !has_own_network(&view.fixed.config.namespaces.network) {
        return found;
    }
    for (range, protocol) in view.fixed.process.exposed_ports.iter().filter_map(|entry| ports::expand(entry))
    {
        found.extend(range.map(|port| ((port, protocol), Vec::new())));
    }
    for published in &view.networking.published {
        let list = found.entry((published.port, published.protocol)).or_default();
        // Both families of a container's addresses may be reached by one of the host's.
        if !list.iter().any(|p| (p.host, p.host_port) == (published.host, published.host_port)) {
            list.push(published);
        }
    }
    found
}

fn has_own_network(mode: &NetworkMode) -> bool {
    !matches!(mode, NetworkMode::Host | NetworkMode::None | NetworkMode::Container { .. })
}

/// `NetworkSettings.Ports`.
fn live_ports(view: &ContainerView) -> Value {
    let shown = ports_of(view).into_iter().map(|((port, protocol), list)| {
        let hosts: Vec<Value> = list.into_iter().map(host_port).collect();
        (format!("{port}/{protocol}"), if hosts.is_empty() { Value::Null } else { json!(hosts) })
    });
    Value::Object(shown.collect())
}

fn host_port(published: &Published) -> Value {
    json!({ "HostIp": published.host.to_string(), "HostPort": published.host_port.to_string() })
}

/// What is published, as a map of ports.
pub(crate) fn published_map(published: &[Published]) -> Value {
    let mut map: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for one in published {
        let list = map.entry(format!("{}/{}", one.port, one.protocol)).or_default();
        let shown = host_port(one);
        if !list.contains(&shown) {
            list.push(shown);
        }
    }
    json!(map)
}

/// `Ports` of a row of the list.
pub(crate) fn port_list(view: &ContainerView) -> Value {
    let mut rows = Vec::new();
    for ((port, protocol), list) in ports_of(view) {
        let kind = protocol.to_string();
        if list.is_empty() {
            rows.push(json!({ "PrivatePort": port, "Type": kind }));
        }
        for p in list {
            let ip = p.host.to_string();
            rows.push(json!({ "IP": ip, "PrivatePort": port, "PublicPort": p.host_port, "Type": kind }));
        }
    }
    json!(rows)
}

/// Whether one of its ports of the host's is this one: `8080`, `8080/tcp`, `8000-8010/udp`.
pub(crate) fn publishes(view: &ContainerView, wanted: &str) -> bool {
    let Some((range, protocol)) = ports::expand(wanted) else { return false };
    let running = view.state.status.is_live();
    running
        && view.networking.published.iter().any(|p| p.protocol == protocol && range.contains(&p.host_port))
}

/// `HostConfig.PortBindings`, as asked for and as changed since.
pub(crate) fn port_map(bindings: &[PortBinding]) -> Value {
    let mut map: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for binding in bindings {
        let host_port = match binding.host_ports {
            (0, 0) => String::new(),
            (first, last) if first == last => first.to_string(),
            (first, last) => format!("{first}-{last}"),
        };
        let host_ip = binding.host.as_ref().map(IpAddr::to_string).unwrap_or_default();
        let list = map.entry(format!("{}/{}", binding.port, binding.protocol)).or_default();
        list.push(json!({ "HostIp": host_ip, "HostPort": host_port }));
    }
    json!(map)
}

/// `HostConfig.Links`: `/db:/web/alias`; absent without any.
pub(crate) fn links(view: &ContainerView) -> Option<Value> {
    let config = &view.fixed.config;
    let legacy = matches!(config.namespaces.network, NetworkMode::Default | NetworkMode::Bridge);
    let links = &endpoints(view).remove("bridge").filter(|_| legacy)?.config.links;
    let shown = links.iter().filter_map(|link| {
        let (container, alias) = link.split_once(':')?;
        Some(format!("/{container}:/{}/{alias}", view.name))
    });
    let shown: Vec<String> = shown.collect();
    if shown.is_empty() { None } else { Some(json!(shown)) }
}

#[cfg(test)]
mod tests;
