//! What this runtime can do, as the specification wants it told: what the program knows, whatever the machine has.

use serde_json::{Value, json};
use tare_model::Result;
use tare_model::capability::CapSet;

use super::print;
use crate::spec::VERSION;

pub(crate) fn features() -> Result<u8> {
    let text = serde_json::to_string_pretty(&document()).unwrap_or_default();
    print(&format!("{text}\n"))
}

fn document() -> Value {
    json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": VERSION,
        "hooks": ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"],
        "mountOptions": tare_runtime::mount::options::words(),
        "linux": linux(),
        "annotations": {
            "dev.tare.version": env!("CARGO_PKG_VERSION"),
            "org.opencontainers.runc.checkpoint.enabled": "false",
        },
        "potentiallyUnsafeConfigAnnotations": [],
    })
}

fn linux() -> Value {
    json!({
        "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"],
        "capabilities": CapSet::ALL.iter().map(|capability| format!("CAP_{}", capability.name())).collect::<Vec<_>>(),
        "cgroup": {"v1": true, "v2": true, "systemd": true, "systemdUser": true, "rdma": true},
        "seccomp": seccomp(),
        "apparmor": {"enabled": true},
        "selinux": {"enabled": true},
        "intelRdt": {"enabled": true, "schemata": true, "monitoring": true},
        "memoryPolicy": {
            "modes": [
                "MPOL_DEFAULT", "MPOL_BIND", "MPOL_INTERLEAVE", "MPOL_WEIGHTED_INTERLEAVE", "MPOL_PREFERRED",
                "MPOL_PREFERRED_MANY", "MPOL_LOCAL",
            ],
            "flags": ["MPOL_F_NUMA_BALANCING", "MPOL_F_RELATIVE_NODES", "MPOL_F_STATIC_NODES"],
        },
        "mountExtensions": {"idmap": {"enabled": true}},
        "netDevices": {"enabled": true},
    })
}

/// All actions; [`tare_runtime::seccomp`] has the tables of the rest.
const ACTIONS: [&str; 9] = [
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_LOG",
    "SCMP_ACT_NOTIFY",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_TRAP",
];

const OPERATORS: [&str; 7] = [
    "SCMP_CMP_EQ",
    "SCMP_CMP_GE",
    "SCMP_CMP_GT",
    "SCMP_CMP_LE",
    "SCMP_CMP_LT",
    "SCMP_CMP_MASKED_EQ",
    "SCMP_CMP_NE",
];

fn seccomp() -> Value {
    let flags = tare_runtime::seccomp::known_flags();
    let names = |all: bool| -> Vec<&str> {
        flags.iter().filter(|(_, supported)| all || *supported).map(|(name, _)| *name).collect()
    };
    json!({
        "enabled": true,
        "actions": ACTIONS,
        "operators": OPERATORS,
        "archs": tare_runtime::seccomp::known_architectures(),
        "knownFlags": names(true),
        "supportedFlags": names(false),
    })
}

#[cfg(test)]
mod tests {
    use oci_spec::runtime::{LinuxNamespaceType, LinuxSeccomp};
    use tare_runtime::mount::options::Options;

    use super::*;

    fn words(pointer: &str) -> Vec<String> {
        serde_json::from_value(document().pointer(pointer).unwrap().clone()).unwrap()
    }

    #[test]
    fn every_mount_option_that_is_claimed_is_understood() {
        let all = words("/mountOptions");
        for known in ["bind", "idmap", "ridmap", "tmpcopyup", "rro", "rslave", "noatime", "rnosymfollow"] {
            assert!(all.iter().any(|word| word == known), "{known} is not claimed");
        }
        for word in all {
            let read = Options::parse(std::slice::from_ref(&word));
            let plain = read.unwrap_or_else(|error| panic!("{word}: {error}"));
            let for_every_file_system = ["dirsync", "lazytime", "mand", "sync"];
            assert_eq!(plain.data.is_empty(), !for_every_file_system.contains(&word.as_str()), "{word}");
        }
    }

    /// A filter with whatever of it is claimed.
    fn filter(action: &str, operator: &str, architecture: &str) -> Value {
        json!({
            "defaultAction": "SCMP_ACT_ALLOW", "architectures": [architecture], "flags": words("/linux/seccomp/supportedFlags"),
            "listenerPath": "/nobody",
            "syscalls": [{"names": ["ptrace"], "action": action, "args": [{"index": 0, "value": 1, "op": operator}]}],
        })
    }

    #[test]
    fn every_word_of_filters_that_is_claimed_becomes_a_program() {
        for action in words("/linux/seccomp/actions") {
            for operator in words("/linux/seccomp/operators") {
                for architecture in words("/linux/seccomp/archs") {
                    let document = filter(&action, &operator, &architecture);
                    let read: LinuxSeccomp = serde_json::from_value(document.clone()).unwrap();
                    let made = tare_runtime::seccomp::compiled(&read);
                    assert!(made.is_ok(), "{document}: {:?}", made.err());
                }
            }
        }
        for flag in words("/linux/seccomp/knownFlags") {
            let flag: Result<oci_spec::runtime::LinuxSeccompFilterFlag, _> =
                serde_json::from_value(json!(flag));
            assert!(flag.is_ok());
        }
    }

    #[test]
    fn every_namespace_that_is_claimed_is_one() {
        let named = words("/linux/namespaces");
        assert_eq!(named.len(), 8);
        for name in named {
            assert!(serde_json::from_value::<LinuxNamespaceType>(json!(name)).is_ok(), "{name}");
        }
    }

    #[test]
    fn the_document_is_one_of_the_specifications() {
        let read: oci_spec::runtime::Features = serde_json::from_value(document()).unwrap();
        assert_eq!(read.oci_version_min(), "1.0.0");
        assert_eq!(read.hooks().as_ref().map(Vec::len), Some(6));
        assert!(document()["linux"]["capabilities"].as_array().unwrap().len() >= 41);
    }
}
