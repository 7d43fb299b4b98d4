//! Kernel parameters: only those of namespaces that are the container's own.

use std::collections::{BTreeMap, HashMap};

use tare_model::container::Namespaces;
use tare_model::{Error, Result};

use super::defaults;
use super::namespaces::{own_ipc, own_network};

const IPC_KEYS: &[&str] = &[
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
];

/// What the container's kernel parameters are: the engine's defaults under the user's. `ping_groups` may ping.
///
/// # Errors
/// `InvalidInput` for a parameter that belongs to the host, or a value that could be read as more than one.
pub(crate) fn sysctls(
    asked: &BTreeMap<String, String>,
    namespaces: &Namespaces,
    ping_groups: &str,
) -> Result<HashMap<String, String>> {
    let mut all = HashMap::new();
    if own_network(namespaces) {
        all.extend(defaults::NETWORK_SYSCTLS.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
        all.insert(defaults::PING_GROUPS.to_owned(), ping_groups.to_owned());
    }
    for (key, value) in asked {
        check(key, value, namespaces)?;
        all.insert(key.clone(), value.clone());
    }
    Ok(all)
}

fn check(key: &str, value: &str, namespaces: &Namespaces) -> Result<()> {
    let refuse = |why: &str| Err(Error::invalid(format!("sysctl '{key}' is not allowed: {why}")));
    let key_byte = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    if !key.bytes().all(key_byte) || key.split('.').any(str::is_empty) {
        return refuse("want a name of letters, digits, '.', '_' and '-'");
    }
    let value_byte =
        |b: u8| b.is_ascii_alphanumeric() || matches!(b, b' ' | b'\t' | b'.' | b',' | b':' | b'_' | b'-');
    if value.is_empty() || value.len() > 1024 || !value.bytes().all(value_byte) || value.contains("..") {
        return refuse("its value has characters that no namespaced parameter takes");
    }
    let ipc = IPC_KEYS.contains(&key) || key.starts_with("fs.mqueue.");
    match (ipc, key.starts_with("net.")) {
        (true, _) if own_ipc(namespaces) => Ok(()),
        (true, _) => refuse("the IPC namespace is not the container's own"),
        (_, true) if own_network(namespaces) => Ok(()),
        (_, true) => refuse("the network namespace is the host's"),
        _ => refuse("it belongs to the host, not to a namespace of the container"),
    }
}

#[cfg(test)]
mod tests {
    use tare_model::container::{IpcMode, NetworkMode};

    use super::*;

    fn one(key: &str, value: &str, namespaces: &Namespaces) -> Result<HashMap<String, String>> {
        sysctls(&BTreeMap::from([(key.to_owned(), value.to_owned())]), namespaces, "0 1")
    }

    #[test]
    fn an_own_network_opens_low_ports_and_ping() {
        let all = sysctls(&BTreeMap::new(), &Namespaces::default(), "0 65535").expect("valid");
        assert_eq!(all["net.ipv4.ip_unprivileged_port_start"], "0");
        assert_eq!(all["net.ipv4.ping_group_range"], "0 65535");
        assert_eq!(all["net.ipv4.ip_forward"], "1");
        let own = BTreeMap::from([("net.ipv4.ip_forward".to_owned(), "0".to_owned())]);
        assert_eq!(sysctls(&own, &Namespaces::default(), "0 1").expect("valid")["net.ipv4.ip_forward"], "0");
    }

    #[test]
    fn parameters_of_the_hosts_namespaces_are_refused() {
        let host_net = Namespaces { network: NetworkMode::Host, ..Default::default() };
        let host_ipc = Namespaces { ipc: IpcMode::Host, ..Default::default() };
        let lent_ipc = Namespaces { ipc: IpcMode::Container { container: "x".into() }, ..Default::default() };
        assert!(sysctls(&BTreeMap::new(), &host_net, "0 1").expect("valid").is_empty());
        assert!(one("net.ipv4.ip_forward", "1", &Namespaces::default()).is_ok());
        assert!(one("net.ipv4.ip_forward", "1", &host_net).is_err());
        assert!(one("kernel.shmmax", "1", &Namespaces::default()).is_ok());
        assert!(one("kernel.shmmax", "1", &host_ipc).is_err());
        assert!(one("fs.mqueue.msg_max", "1", &lent_ipc).is_err());
    }

    #[test]
    fn parameters_of_the_host_are_refused() {
        for key in [
            "kernel.core_pattern",
            "kernel/core_pattern",
            "kernel.shm_rmid_forced/../core_pattern",
            "net/../kernel.core_pattern",
            "net..x",
            "vm.swappiness",
            "kernel.hostname",
            "",
        ] {
            assert!(one(key, "1", &Namespaces::default()).is_err(), "{key}");
        }
    }

    #[test]
    fn a_value_cannot_bring_a_second_parameter() {
        for value in ["1+kernel.core_pattern=|/x", "1\nkernel.x=1", "a=b", "/x", "..", "", "1;2", "\u{e9}"] {
            assert!(one("kernel.shm_rmid_forced", value, &Namespaces::default()).is_err(), "{value:?}");
        }
    }
}
