//! `POST /containers/{id}/update`: new limits over those that a container has.
//!
//! The request's fields are laid over what the create request said and both are read as one, so that every rule on what
//! goes together holds for the whole. A field that is not there, or zero, changes nothing.

use serde_json::{Map, Value};
use tare_docker_api::extension::{self, UpdateExtension};
use tare_docker_api::models::HostConfig;
use tare_model::container::ContainerConfig;
use tare_model::shaping::Reshaping;
use tare_model::{Error, Result};

use super::{FACE, fields, networking, resources};

/// What an update can change.
const KNOWN: &[&str] = &[
    "BlkioDeviceReadBps",
    "BlkioDeviceReadIOps",
    "BlkioDeviceWriteBps",
    "BlkioDeviceWriteIOps",
    "BlkioWeight",
    "BlkioWeightDevice",
    "CpuPeriod",
    "CpuQuota",
    "CpuRealtimePeriod",
    "CpuRealtimeRuntime",
    "CpuShares",
    "CpusetCpus",
    "CpusetMems",
    "Memory",
    "MemoryReservation",
    "MemorySwap",
    "NanoCpus",
    "PidsLimit",
];

/// What it takes without effect: Linux has no such limit any more.
const HARMLESS: &[&str] = &["KernelMemory"];

/// A request to change limits.
#[derive(Debug)]
pub(crate) struct Update {
    docker: Map<String, Value>,
    network: Reshaping,
}

/// Reads a request.
///
/// # Errors
/// Names the field that an update cannot change.
pub(crate) fn read(mut body: Map<String, Value>) -> Result<Update> {
    let ours: UpdateExtension = match body.remove(extension::FIELD).filter(|value| !value.is_null()) {
        Some(value) => serde_json::from_value(value)
            .map_err(|e| Error::invalid(format!("invalid {}: {e}", extension::FIELD)))?,
        None => UpdateExtension::default(),
    };
    let mut asked = Map::new();
    for (name, value) in body {
        let is = |known: &&&str| known.eq_ignore_ascii_case(&name);
        if let Some(known) = KNOWN.iter().find(is) {
            if !fields::is_zero(&value) {
                asked.insert((*known).to_owned(), value);
            }
        } else if name.eq_ignore_ascii_case("RestartPolicy") {
            restart_policy(&value)?;
        } else if !HARMLESS.iter().any(|known| known.eq_ignore_ascii_case(&name)) && !fields::is_zero(&value)
        {
            refuse(&name)?;
        }
    }
    Ok(Update { docker: asked, network: networking::reshaping(ours.network.unwrap_or_default()) })
}

/// There are no restart policies yet, so there is none to change.
fn restart_policy(value: &Value) -> Result<()> {
    match value.get("Name").and_then(Value::as_str).unwrap_or("") {
        "" | "no" => Ok(()),
        name => Err(Error::unsupported(format!(
            "RestartPolicy.Name {name:?}: restart policies are not supported yet"
        ))),
    }
}

/// A field of a create request cannot be changed; one that Docker does not know is its to ignore.
fn refuse(name: &str) -> Result<()> {
    if fields::is_known(name) {
        return Err(Error::unsupported(format!("{name}: it cannot be changed by an update")));
    }
    Ok(())
}

impl Update {
    /// Lays the new limits over those of a configuration.
    ///
    /// # Errors
    /// `InvalidInput`, naming the limit.
    pub(crate) fn apply(self, config: &mut ContainerConfig) -> Result<()> {
        let known = config.face.get(FACE).and_then(|face| face.get("HostConfig")).and_then(Value::as_object);
        let mut host = known.cloned().unwrap_or_default();
        contradictions(&host, &self.docker)?;
        host.extend(self.docker);
        let typed: HostConfig = serde_json::from_value(Value::Object(host.clone()))
            .map_err(|e| Error::invalid(format!("invalid JSON: {e}")))?;
        config.resources = resources::resources(&typed)?;
        config.networking.shaping.change(&self.network)?;
        let face = config.face.entry(FACE.to_owned()).or_insert_with(|| Value::Object(Map::new()));
        if let Some(face) = face.as_object_mut() {
            face.insert("HostConfig".to_owned(), Value::Object(host));
        }
        Ok(())
    }
}

/// Docker's words for what an update cannot do without another field.
fn contradictions(known: &Map<String, Value>, asked: &Map<String, Value>) -> Result<()> {
    let number =
        |map: &Map<String, Value>, name: &str| map.get(name).and_then(Value::as_i64).filter(|n| *n != 0);
    let swap = number(asked, "MemorySwap").is_none().then(|| number(known, "MemorySwap")).flatten();
    if let (Some(memory), Some(swap @ 1..)) = (number(asked, "Memory"), swap)
        && memory > swap
    {
        return Err(Error::invalid(
            "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time",
        ));
    }
    for (one, other, words) in [
        (
            "NanoCpus",
            "CpuPeriod",
            "Conflicting options: Nano CPUs cannot be updated as CPU Period has already been set",
        ),
        (
            "NanoCpus",
            "CpuQuota",
            "Conflicting options: Nano CPUs cannot be updated as CPU Quota has already been set",
        ),
        (
            "CpuPeriod",
            "NanoCpus",
            "Conflicting options: CPU Period cannot be updated as NanoCPUs has already been set",
        ),
        (
            "CpuQuota",
            "NanoCpus",
            "Conflicting options: CPU Quota cannot be updated as NanoCPUs has already been set",
        ),
    ] {
        if number(asked, one).is_some() && number(known, other).is_some() {
            return Err(Error::invalid(words));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: Value) -> Map<String, Value> {
        value.as_object().cloned().expect("an object")
    }

    fn container(host: Value) -> ContainerConfig {
        super::super::config(object(json!({"Image": "x", "HostConfig": host}))).expect("valid")
    }

    fn updated(host: Value, update: Value) -> Result<ContainerConfig> {
        let mut config = container(host);
        read(object(update))?.apply(&mut config)?;
        Ok(config)
    }

    #[test]
    fn what_is_not_named_stays() {
        let config =
            updated(json!({"Memory": 64 << 20, "CpuShares": 512}), json!({"CpuShares": 256, "Memory": 0}))
                .expect("valid");
        assert_eq!((config.resources.memory, config.resources.cpu_shares), (Some(64 << 20), Some(256)));
        assert_eq!(config.face[FACE]["HostConfig"], json!({"Memory": 64 << 20, "CpuShares": 256}));
    }

    #[test]
    fn limits_of_networks_are_in_our_own_object() {
        let mut config = container(json!({}));
        let body = json!({"Tare": {"Network": {"InRate": 5000, "Share": 80}}});
        read(object(body)).expect("valid").apply(&mut config).expect("valid");
        let shaping = config.networking.shaping;
        assert_eq!(
            (shaping.rates.inward, shaping.rates.outward, shaping.share),
            (Some(5000), None, Some(80))
        );
        read(object(json!({"Tare": {"Network": {"InRate": 0}}})))
            .expect("valid")
            .apply(&mut config)
            .expect("valid");
        assert_eq!(
            (config.networking.shaping.rates.inward, config.networking.shaping.share),
            (None, Some(80))
        );
        assert!(read(object(json!({"Tare": {"Network": {"Weather": 1}}}))).is_err());
    }

    #[test]
    fn what_an_update_cannot_change_is_refused_by_name() {
        for (update, name) in [
            (json!({"Privileged": true}), "Privileged"),
            (json!({"MemorySwappiness": 5}), "MemorySwappiness"),
            (json!({"Devices": [{"PathOnHost": "/dev/null"}]}), "Devices"),
            (json!({"RestartPolicy": {"Name": "always"}}), "RestartPolicy"),
        ] {
            let e = read(object(update)).expect_err(name);
            assert!(e.message().contains(name), "{e}");
        }
        let nothing =
            json!({"RestartPolicy": {"Name": "no"}, "Devices": null, "KernelMemory": 5, "Weather": 1});
        assert!(read(object(nothing)).expect("valid").docker.is_empty());
    }

    #[test]
    fn limits_old_and_new_must_go_together() {
        let message = |host, update| updated(host, update).expect_err("refused").message().to_owned();
        let swap = json!({"Memory": 64 << 20, "MemorySwap": 128 << 20});
        assert!(message(swap.clone(), json!({"Memory": 256 << 20})).contains("update the memoryswap"));
        assert!(updated(swap, json!({"Memory": 256 << 20, "MemorySwap": -1})).is_ok());
        assert!(
            message(json!({"NanoCpus": 1_000_000_000}), json!({"CpuQuota": 5000}))
                .contains("CPU Quota cannot")
        );
        assert!(message(json!({}), json!({"Memory": 5})).contains("6MB"));
        assert!(message(json!({}), json!({"CpusetCpus": "x"})).contains("CpusetCpus"));
    }

    #[test]
    fn every_name_is_a_field_of_a_create_request() {
        assert!(KNOWN.iter().chain(HARMLESS).all(|name| fields::is_known(name)));
    }
}
