//! From Docker's request for a network to a [`NetworkConfig`]: pure, no engine in sight.
//!
//! `ipam` reads the subnets, `options` what stands in `Options`.

mod ipam;
mod options;

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use tare_docker_api::Version;
use tare_docker_api::models::NetworkCreateRequest;
use tare_model::network::{Driver, NetworkConfig};
use tare_model::{Error, ErrorKind, Result};

use crate::spelling::{spell, spell_within};

const FIELDS: &[&str] = &[
    "Attachable",
    "CheckDuplicate", // names are unique; every value means the same
    "ConfigFrom",
    "ConfigOnly",
    "Driver",
    "EnableIPv4",
    "EnableIPv6",
    "IPAM",
    "Ingress",
    "Internal",
    "Labels",
    "Name",
    "Options",
    "Scope",
];

const NESTED: &[(&str, &[&str])] = &[
    ("IPAM", &["Driver", "Config", "Options"]),
    ("IPAM.Config.[]", &["Subnet", "IPRange", "Gateway", "AuxiliaryAddresses"]),
    ("ConfigFrom", &["Network"]),
];

/// Names that no network can be given.
const RESERVED: [&str; 4] = ["bridge", "default", "host", "none"];

/// What a client asks for, and what it is to be told.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) config: NetworkConfig,
    pub(crate) warnings: Vec<String>,
}

/// Parses and translates the body of a create request.
///
/// # Errors
/// Names the field that is wrong (`InvalidInput`) or not supported (`Unsupported`); `Forbidden` for a name that is taken
/// for ever; `NotFound` for a driver that nobody has.
pub(crate) fn config(mut body: Map<String, Value>, version: Version) -> Result<Asked> {
    spell(&mut body, FIELDS.iter().copied());
    spell_within(&mut body, NESTED);
    body.entry("Name").or_insert_with(|| Value::String(String::new()));
    // Clients send the reference whether it names a network or not.
    body.retain(|_, value| !value.is_null());
    let asked: NetworkCreateRequest = serde_json::from_value(Value::Object(body))
        .map_err(|e| Error::invalid(format!("invalid JSON: {e}")))?;
    refuse(&asked)?;
    let driver = driver(asked.driver.as_deref().unwrap_or(""))?;
    let options: BTreeMap<String, String> = asked.options.unwrap_or_default().into_iter().collect();
    let read = options::options(driver, &options)?;
    // Before 1.48 a network without IPv4 could not be asked for.
    let ipv4 = if version < Version::new(48) { None } else { asked.enable_ipv4 };
    let ipv4 = ipv4.or(read.ipv4).unwrap_or(true);
    // Every network has both families unless one is declined; a link of the host's has the routers of its own.
    let ipv6 = asked.enable_ipv6.or(read.ipv6);
    let ipam = asked.ipam.unwrap_or_default();
    let pools = ipam::pools(&ipam, ipv4, ipv6)?;
    let ipv6 = ipv6.unwrap_or(driver == Driver::Bridge || pools.iter().any(ipam::is_ipv6));
    if !ipv4 && !ipv6 {
        return Err(Error::invalid("IPv4 or IPv6 must be enabled"));
    }
    let internal = asked.internal.unwrap_or_default();
    options::isolated(&read.bridge, internal)?;
    let unknown =
        |name| format!("the {} driver knows no option {name:?}: it is shown, no more", driver.name());
    let warnings = read.unknown.iter().map(unknown).collect();
    let config = NetworkConfig {
        name: name(asked.name)?,
        driver,
        ipv4,
        ipv6,
        pools,
        internal,
        attachable: asked.attachable.unwrap_or_default(),
        bridge: read.bridge,
        parent: read.parent,
        labels: asked.labels.unwrap_or_default().into_iter().collect(),
        raw_options: options,
        raw_ipam_options: ipam.options.unwrap_or_default().into_iter().collect(),
    };
    Ok(Asked { config, warnings })
}

/// What belongs to clusters.
fn refuse(asked: &NetworkCreateRequest) -> Result<()> {
    let no = |field: &str, why: &str| Err(Error::unsupported(format!("{field}: {why}")));
    let from = asked.config_from.as_ref().and_then(|c| c.network.as_deref()).unwrap_or("");
    match asked.scope.as_deref().unwrap_or("") {
        "" | "local" => {}
        scope => return no(&format!("Scope = {scope:?}"), "clusters (swarm) are not part of this engine"),
    }
    if asked.ingress.unwrap_or_default() {
        return no("Ingress", "clusters (swarm) are not part of this engine");
    }
    if asked.config_only.unwrap_or_default() {
        return no(
            "ConfigOnly",
            "networks that are a configuration only are not supported; give it to each network",
        );
    }
    if !from.is_empty() {
        return no(&format!("ConfigFrom = {from:?}"), "give the network its configuration itself");
    }
    Ok(())
}

/// What can be a part of a path, a line of a table and a name in DNS.
fn name(name: String) -> Result<String> {
    let wrong = |why: &str| Err(Error::invalid(format!("invalid network name {name:?}: {why}")));
    if name.trim().is_empty() {
        return Err(Error::invalid("invalid name: name is empty"));
    }
    if RESERVED.contains(&name.as_str()) {
        let why = format!("operation is not permitted on predefined {name} network");
        return Err(Error::new(ErrorKind::Forbidden, why));
    }
    if name.starts_with("container:") {
        return wrong("it would mean the network of a container");
    }
    if name.bytes().any(|b| b <= b' ' || b == 0x7f || b == b'/') {
        return wrong("want no blanks and no slash");
    }
    if name.len() > 255 {
        return wrong("it is longer than 255 bytes");
    }
    Ok(name)
}

fn driver(word: &str) -> Result<Driver> {
    match word {
        "" | "default" | "bridge" => Ok(Driver::Bridge),
        "macvlan" => Ok(Driver::Macvlan),
        "ipvlan" => Ok(Driver::Ipvlan),
        "host" | "null" => {
            Err(Error::new(ErrorKind::Forbidden, format!("only one instance of {word:?} network is allowed")))
        }
        "overlay" => {
            Err(Error::unsupported("Driver = \"overlay\": clusters (swarm) are not part of this engine"))
        }
        other => Err(Error::not_found(format!(
            "could not find plugin {other} in v1 plugin registry: plugin not found (drivers here: bridge, macvlan, ipvlan)"
        ))),
    }
}

#[cfg(test)]
mod tests;
