//! Network devices of the host that move into the container.

use oci_spec::runtime::Spec;
use tare_sys::process::Namespaces;

use super::Layout;
use crate::error::{Error, Result};

/// One device: its name on the host, and inside.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NetDevice {
    /// On the host.
    pub host: String,
    /// In the container; with `%d` a template.
    pub inside: String,
}

/// Longest name the kernel takes.
const LONGEST: usize = 15;

/// All of them, by name.
pub(crate) fn plan(spec: &Spec, namespaces: &Layout) -> Result<Vec<NetDevice>> {
    let asked = spec.linux().as_ref().and_then(|linux| linux.net_devices().as_ref());
    let mut all = Vec::new();
    for (host, device) in asked.into_iter().flatten() {
        let inside = device.name().clone().filter(|name| !name.is_empty()).unwrap_or_else(|| host.clone());
        for name in [host, &inside] {
            if !is_name(name) {
                return Err(Error::invalid(format!("linux.netDevices: {name:?} is no name of a device")));
            }
        }
        all.push(NetDevice { host: host.clone(), inside });
    }
    if !all.is_empty() && !namespaces.has_own(Namespaces::NET) {
        return Err(Error::invalid("linux.netDevices: they need a network namespace of the container's own"));
    }
    all.sort();
    Ok(all)
}

fn is_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_graphic() && !b"/:".contains(&byte);
    (1..=LONGEST).contains(&name.len()) && !matches!(name, "." | "..") && name.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(devices: &serde_json::Value, listed: Namespaces) -> Result<Vec<NetDevice>> {
        let spec = serde_json::json!({"ociVersion": "1.3.0", "linux": {"netDevices": devices}});
        plan(&serde_json::from_value(spec).unwrap(), &Layout { listed, ..Layout::default() })
    }

    #[test]
    fn a_device_keeps_its_name_or_gets_a_new_one() {
        let got = planned(&serde_json::json!({"b0": {}, "a0": {"name": "eth%d"}}), Namespaces::NET).unwrap();
        let device = |host: &str, inside: &str| NetDevice { host: host.into(), inside: inside.into() };
        assert_eq!(got, [device("a0", "eth%d"), device("b0", "b0")]);
    }

    #[test]
    fn wrong_names_and_the_hosts_namespace_are_refused() {
        for name in ["", "a/b", "a b", "..", "a-name-that-is-too-long"] {
            assert!(planned(&serde_json::json!({name: {}}), Namespaces::NET).is_err(), "{name:?}");
        }
        assert!(planned(&serde_json::json!({"a": {}}), Namespaces::NONE).is_err());
    }
}
