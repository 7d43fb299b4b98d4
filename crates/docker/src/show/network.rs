//! `GET /networks` and `GET /networks/{id}`.

use serde_json::{Map, Value, json};
use tare_docker_api::{Version, stamp};
use tare_engine::{Member, NetworkView, PREDEFINED};
use tare_model::network::{Driver, Pool};

/// One of those that are always there.
pub(crate) fn is_predefined(view: &NetworkView) -> bool {
    PREDEFINED.contains(&view.network.config.name.as_str())
}

/// A row of the list.
pub(crate) fn summary(view: &NetworkView, version: Version) -> Value {
    let mut shown = common(view, version);
    if version < Version::new(52) {
        // The list never had them, only their field.
        shown.insert("Containers".to_owned(), json!({}));
    }
    Value::Object(shown)
}

/// The whole document.
pub(crate) fn inspect(view: &NetworkView, version: Version) -> Value {
    let mut shown = common(view, version);
    let containers: Map<String, Value> =
        view.containers.iter().map(|m| (m.container.to_string(), member(m))).collect();
    shown.insert("Containers".to_owned(), Value::Object(containers));
    if version >= Version::new(52) {
        shown.insert("Status".to_owned(), status(view));
    }
    Value::Object(shown)
}

fn common(view: &NetworkView, version: Version) -> Map<String, Value> {
    let (network, config) = (&view.network, &view.network.config);
    let mut shown = Map::new();
    let mut set = |name: &str, value: Value| drop(shown.insert(name.to_owned(), value));
    set("Name", json!(config.name));
    set("Id", json!(network.id));
    set("Created", json!(stamp::rfc3339(network.created)));
    set("Scope", json!("local"));
    set("Driver", json!(config.driver.name()));
    if version >= Version::new(48) {
        set("EnableIPv4", json!(config.ipv4));
    }
    set("EnableIPv6", json!(config.ipv6));
    set("IPAM", ipam(view));
    set("Internal", json!(config.internal));
    set("Attachable", json!(config.attachable));
    set("Ingress", json!(false));
    set("ConfigFrom", json!({ "Network": "" }));
    set("ConfigOnly", json!(false));
    set("Options", json!(config.raw_options));
    set("Labels", json!(config.labels));
    shown
}

fn ipam(view: &NetworkView) -> Value {
    let given = &view.network.config.raw_ipam_options;
    let options = if given.is_empty() && is_predefined(view) { Value::Null } else { json!(given) };
    let pools: Vec<Value> = view.network.pools.iter().map(pool).collect();
    // Go's `null` list: these drivers have no addresses to give.
    let bare = matches!(view.network.config.driver, Driver::Host | Driver::None);
    let pools = if bare && pools.is_empty() { Value::Null } else { json!(pools) };
    json!({ "Driver": "default", "Options": options, "Config": pools })
}

fn pool(pool: &Pool) -> Value {
    let mut shown = Map::new();
    shown.insert("Subnet".to_owned(), json!(pool.subnet.to_string()));
    if pool.range != pool.subnet {
        shown.insert("IPRange".to_owned(), json!(pool.range.to_string()));
    }
    if let Some(gateway) = pool.gateway {
        shown.insert("Gateway".to_owned(), json!(gateway.to_string()));
    }
    if !pool.auxiliary.is_empty() {
        shown.insert("AuxiliaryAddresses".to_owned(), json!(pool.auxiliary));
    }
    Value::Object(shown)
}

fn member(member: &Member) -> Value {
    let endpoint = &member.endpoint;
    let address = |ipv6: bool| {
        let found = endpoint.addresses.iter().find(|a| a.addr().is_ipv6() == ipv6);
        found.map(ToString::to_string).unwrap_or_default()
    };
    json!({
        "Name": member.name.as_str(),
        "EndpointID": endpoint.id,
        "MacAddress": endpoint.mac.map(|m| m.to_string()).unwrap_or_default(),
        "IPv4Address": address(false),
        "IPv6Address": address(true),
    })
}

fn status(view: &NetworkView) -> Value {
    let pools = view.network.pools.iter().zip(&view.usage);
    let subnets: Map<String, Value> = pools
        .map(|(pool, usage)| {
            let counts = json!({ "IPsInUse": usage.in_use, "DynamicIPsAvailable": usage.available });
            (pool.subnet.to_string(), counts)
        })
        .collect();
    json!({ "IPAM": { "Subnets": subnets } })
}
