//! The networks there are: `none` and `host`. Until there are more, `default` and `bridge` mean `none`.

use serde_json::{Map, Value, json};
use tare_docker_api::Version;
use tare_docker_api::models::{Ipam, NetworkInspect};
use tare_model::container::NetworkMode;
use tare_model::{Error, Result};

use super::object;

/// A network that is always there: name (and driver), id.
type Builtin = (&'static str, &'static str);

const NONE: Builtin = ("none", "6e6f6e65a7a7b5d0c1a94f5c2e0b8d3746f1c9e28a5b70d4e3f2161908a7c5b4");
const HOST: Builtin = ("host", "686f7374c48e1f0a9b6d5273e4f8170a2c3b5d9e6f7081a2b3c4d5e6f7a8b9c0");

/// The word of `HostConfig.NetworkMode`.
pub(super) fn mode_word(mode: &NetworkMode) -> String {
    match mode {
        NetworkMode::Default => "default".to_owned(),
        NetworkMode::Bridge => "bridge".to_owned(),
        NetworkMode::None => "none".to_owned(),
        NetworkMode::Host => "host".to_owned(),
        NetworkMode::Container { container } => format!("container:{container}"),
        NetworkMode::Network { network } => network.clone(),
    }
}

fn network_of(mode: &NetworkMode) -> Builtin {
    match mode {
        NetworkMode::Host => HOST,
        _ => NONE,
    }
}

/// `Networks`: the one the container is on, without an address.
pub(super) fn endpoints(mode: &NetworkMode) -> Value {
    let (name, id) = network_of(mode);
    let endpoint = json!({
        "Aliases": null, "DNSNames": null, "DriverOpts": null, "EndpointID": "", "Gateway": "",
        "GlobalIPv6Address": "", "GlobalIPv6PrefixLen": 0, "GwPriority": 0, "IPAMConfig": null, "IPAddress": "",
        "IPPrefixLen": 0, "IPv6Gateway": "", "Links": null, "MacAddress": "", "NetworkID": id,
    });
    json!({ name: endpoint })
}

/// `NetworkSettings` of an inspected container.
pub(super) fn settings(mode: &NetworkMode, version: Version) -> Value {
    let mut shown = Map::new();
    if version < Version::new(52) {
        let legacy = json!({
            "Bridge": "", "EndpointID": "", "Gateway": "", "GlobalIPv6Address": "", "GlobalIPv6PrefixLen": 0,
            "HairpinMode": false, "IPAddress": "", "IPPrefixLen": 0, "IPv6Gateway": "", "LinkLocalIPv6Address": "",
            "LinkLocalIPv6PrefixLen": 0, "MacAddress": "", "SecondaryIPAddresses": null,
            "SecondaryIPv6Addresses": null,
        });
        shown.extend(object(&legacy));
    }
    shown.extend(object(&json!({ "SandboxID": "", "SandboxKey": "", "Ports": {} })));
    shown.insert("Networks".to_owned(), endpoints(mode));
    Value::Object(shown)
}

/// `GET /networks`.
pub(crate) fn list() -> Vec<NetworkInspect> {
    vec![document(HOST), document(NONE)]
}

/// `GET /networks/{id}`.
///
/// # Errors
/// No such network.
pub(crate) fn find(key: &str) -> Result<NetworkInspect> {
    let named = |(name, id): &&Builtin| *name == key || (key.len() >= 2 && id.starts_with(key));
    let found = [HOST, NONE];
    match found.iter().find(named) {
        Some(network) => Ok(document(*network)),
        None => Err(Error::not_found(format!("network {key} not found"))),
    }
}

fn document((name, id): Builtin) -> NetworkInspect {
    // Go's `null` driver is the one that does nothing.
    let driver = if name == "none" { "null" } else { name };
    NetworkInspect {
        name: Some(name.to_owned()),
        id: Some(id.to_owned()),
        created: Some(tare_docker_api::stamp::NEVER.to_owned()),
        scope: Some("local".to_owned()),
        driver: Some(driver.to_owned()),
        enable_ipv4: Some(true),
        enable_ipv6: Some(false),
        ipam: Some(Ipam { driver: Some("default".to_owned()), config: Some(Vec::new()), options: None }),
        internal: Some(false),
        attachable: Some(false),
        ingress: Some(false),
        config_only: Some(false),
        options: Some(Default::default()),
        labels: Some(Default::default()),
        containers: Some(Default::default()),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_networks_are_found_by_name_and_id() {
        assert_eq!(find("host").map(|n| n.id), Ok(Some(HOST.1.to_owned())));
        assert_eq!(find(&NONE.1[..12]).map(|n| n.driver), Ok(Some("null".to_owned())));
        assert!(find("bridge").is_err() && find("").is_err());
        assert!([NONE, HOST].iter().all(|(_, id)| id.len() == 64));
    }

    #[test]
    fn the_old_settings_are_for_old_clients() {
        let has = |minor| settings(&NetworkMode::None, Version::new(minor)).get("IPAddress").is_some();
        assert!(has(51) && !has(52));
    }

    #[test]
    fn the_default_network_is_shown_as_what_it_is() {
        assert!(endpoints(&NetworkMode::Default).get("none").is_some());
        assert!(endpoints(&NetworkMode::Host).get("host").is_some());
    }
}
