//! From Docker's create request to a [`ContainerConfig`]: pure, no engine in sight.
//!
//! Read `fields` first: the table of every field and what becomes of it. What the table accepts, the other files turn
//! into the model's types, each its part: `process`, `resources`, `security`, `namespaces`, `networking` (with `endpoint`
//! and `ports`), `mounts`, `log`.

pub(crate) mod endpoint;
mod fields;
mod log;
mod mounts;
mod namespaces;
mod networking;
pub(crate) mod ports;
mod process;
mod resources;
mod security;
mod text;
pub(crate) mod update;

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use tare_docker_api::Version;
use tare_docker_api::extension::{self, CreateExtension};
use tare_docker_api::models::{ContainerCreateBody, HostConfig};
use tare_model::container::{ContainerConfig, DnsConfig, ImageSource};
use tare_model::{Error, Result, Signal};

pub(crate) use process::{console_size, environment};

/// Name of what this face keeps in [`ContainerConfig::face`].
pub(crate) const FACE: &str = "docker";

/// What a create request asks for.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) config: ContainerConfig,
    /// What this face takes and does otherwise than it may seem, one sentence each.
    pub(crate) warnings: Vec<String>,
}

/// Parses and translates the body of a create request.
///
/// # Errors
/// Names the field that is wrong (`InvalidInput`) or not supported (`Unsupported`).
pub(crate) fn request(mut body: Map<String, Value>, version: Version) -> Result<Asked> {
    fields::check(&mut body)?;
    process::normalise(&mut body);
    let extension = body.remove(extension::FIELD).filter(|v| !v.is_null());
    let extension: CreateExtension = match extension {
        Some(value) => serde_json::from_value(value)
            .map_err(|e| Error::invalid(format!("invalid {}: {e}", extension::FIELD)))?,
        None => CreateExtension::default(),
    };
    let face = remembered(&body);
    let kernel_memory =
        body.get("HostConfig").and_then(|host| host.get("KernelMemory")).and_then(Value::as_u64);
    // The generated models have no place for it: the newest API has none.
    let mac = body.get("MacAddress").and_then(Value::as_str).unwrap_or("").to_owned();
    let typed = serde_json::from_value::<ContainerCreateBody>(Value::Object(body));
    let body = typed.map_err(|e| Error::invalid(format!("invalid JSON: {e}")))?;
    let mut asked = translate(body, extension, &mac, version)?;
    asked.config.resources.kernel_memory = kernel_memory.filter(|limit| *limit != 0);
    asked.config.face.insert(FACE.to_owned(), face);
    Ok(asked)
}

/// As the newest version of the API reads it.
#[cfg(test)]
pub(crate) fn config(body: Map<String, Value>) -> Result<ContainerConfig> {
    request(body, Version::MAX).map(|asked| asked.config)
}

fn translate(
    mut body: ContainerCreateBody,
    extension: CreateExtension,
    mac: &str,
    version: Version,
) -> Result<Asked> {
    let host = body.host_config.take().unwrap_or_default();
    let mut networks = networking::networking(&mut body, &host, mac, version)?;
    let limits = extension.network.unwrap_or_default();
    networks.networking.shaping.change(&networking::reshaping(limits))?;
    let config = ContainerConfig {
        image: image(body.image.take().unwrap_or_default(), extension)?,
        process: process::process(&mut body, &host)?,
        hostname: text::host_name("Hostname", body.hostname.take())?,
        domainname: text::host_name("Domainname", body.domainname.take())?,
        labels: map(body.labels.take()),
        annotations: map(host.annotations.clone()),
        stop_signal: stop_signal(body.stop_signal.as_deref())?,
        stop_timeout: body.stop_timeout.map(|t| text::within("StopTimeout", t)).transpose()?,
        // No other is accepted.
        no_healthcheck: body.healthcheck.take().and_then(|check| check.test).is_some_and(|t| !t.is_empty()),
        volumes: mounts::volumes(body.volumes.take().unwrap_or_default())?,
        exposed_ports: ports::exposed(body.exposed_ports.take().unwrap_or_default())?,
        resources: resources::resources(&host)?,
        security: security::security(&host)?,
        networking: networks.networking,
        namespaces: namespaces::namespaces(&host, networks.mode)?,
        mounts: mounts::mounts(&host)?,
        devices: resources::devices(&host)?,
        ulimits: resources::ulimits(&host)?,
        sysctls: map(host.sysctls.clone()),
        shm_size: resources::shm_size(&host)?,
        readonly_rootfs: host.readonly_rootfs.unwrap_or_default(),
        group_add: host.group_add.clone().unwrap_or_default(),
        init: host.init.unwrap_or_default(),
        auto_remove: host.auto_remove.unwrap_or_default(),
        log: log::log(host.log_config.clone())?,
        extra_hosts: networking::extra_hosts(host.extra_hosts.clone().unwrap_or_default())?,
        dns: dns(&host),
        face: BTreeMap::new(),
    };
    Ok(Asked { config, warnings: networks.warnings })
}

fn image(name: String, extension: CreateExtension) -> Result<ImageSource> {
    match (name.is_empty(), extension.rootfs) {
        (false, None) => Ok(ImageSource::Image { name }),
        (true, None) => {
            Err(Error::invalid("Image is empty: name an image, or a directory in Tare.Rootfs.Path"))
        }
        (false, Some(_)) => {
            Err(Error::invalid("conflicting options: Image and Tare.Rootfs cannot both be set"))
        }
        (true, Some(directory)) => {
            let path = text::absolute("Tare.Rootfs.Path", &directory.path)?;
            Ok(ImageSource::Directory { path, writable: directory.writable })
        }
    }
}

fn stop_signal(text: Option<&str>) -> Result<Option<Signal>> {
    match text.unwrap_or("") {
        "" => Ok(None),
        text => text.parse().map(Some),
    }
}

fn dns(host: &HostConfig) -> DnsConfig {
    DnsConfig {
        servers: host.dns.clone().unwrap_or_default(),
        search: host.dns_search.clone().unwrap_or_default(),
        options: host.dns_options.clone().unwrap_or_default(),
    }
}

fn map(map: Option<std::collections::HashMap<String, String>>) -> BTreeMap<String, String> {
    map.unwrap_or_default().into_iter().collect()
}

/// What inspection gives back as it was sent: `HostConfig` without the zero values that clients fill it with, and the
/// top-level remarks that the model has no place for.
fn remembered(body: &Map<String, Value>) -> Value {
    let kept = |object: &Map<String, Value>| -> Map<String, Value> {
        let set = object.iter().filter(|(_, v)| !fields::is_zero(v));
        set.map(|(k, v)| (k.clone(), v.clone())).collect()
    };
    let mut host = body.get("HostConfig").and_then(Value::as_object).map(kept).unwrap_or_default();
    // An empty list means something here: nothing is masked.
    for name in ["MaskedPaths", "ReadonlyPaths"] {
        if let Some(list @ Value::Array(_)) = body.get("HostConfig").and_then(|h| h.get(name)) {
            host.insert(name.to_owned(), list.clone());
        }
    }
    // A stop signal is given back in the words it was asked for (`INT`, not `SIGINT`).
    let remarks = ["OnBuild", "Shell", "Healthcheck", "StopSignal", "MacAddress", "NetworkDisabled"];
    let mut config = kept(body);
    config.retain(|name, _| remarks.contains(&name.as_str()));
    serde_json::json!({ "HostConfig": host, "Config": config })
}

#[cfg(test)]
mod tests;
