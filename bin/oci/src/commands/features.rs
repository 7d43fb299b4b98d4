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
        "mountOptions": mount_options(),
        "linux": linux(),
        "annotations": {
            "dev.tare.version": env!("CARGO_PKG_VERSION"),
            "org.opencontainers.runc.checkpoint.enabled": "false",
        },
    })
}

fn linux() -> Value {
    json!({
        "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "time", "uts"],
        "capabilities": CapSet::ALL.iter().map(|capability| format!("CAP_{}", capability.name())).collect::<Vec<_>>(),
        "cgroup": {"v1": true, "v2": true, "systemd": false, "systemdUser": false, "rdma": true},
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
        "mountExtensions": {"idmap": {"enabled": false}},
        "netDevices": {"enabled": true},
    })
}

fn seccomp() -> Value {
    let flags = ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_TSYNC"];
    json!({
        "enabled": true,
        "actions": [
            "SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD",
            "SCMP_ACT_LOG", "SCMP_ACT_TRACE", "SCMP_ACT_TRAP",
        ],
        "operators": [
            "SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_LE", "SCMP_CMP_LT", "SCMP_CMP_MASKED_EQ",
            "SCMP_CMP_NE",
        ],
        "archs": ["SCMP_ARCH_AARCH64", "SCMP_ARCH_X32", "SCMP_ARCH_X86", "SCMP_ARCH_X86_64"],
        "knownFlags": flags,
        "supportedFlags": flags,
    })
}

/// Options that say something of the mount; every other word is the file system's.
fn mount_options() -> Vec<&'static str> {
    vec![
        "async",
        "atime",
        "bind",
        "defaults",
        "dev",
        "diratime",
        "dirsync",
        "exec",
        "iversion",
        "lazytime",
        "loud",
        "mand",
        "noatime",
        "nodev",
        "nodiratime",
        "noexec",
        "noiversion",
        "nolazytime",
        "nomand",
        "norelatime",
        "nostrictatime",
        "nosuid",
        "nosymfollow",
        "private",
        "ratime",
        "rbind",
        "rdev",
        "rdiratime",
        "relatime",
        "rexec",
        "rnoatime",
        "rnodev",
        "rnodiratime",
        "rnoexec",
        "rnorelatime",
        "rnostrictatime",
        "rnosuid",
        "rnosymfollow",
        "ro",
        "rprivate",
        "rrelatime",
        "rro",
        "rrw",
        "rshared",
        "rslave",
        "rstrictatime",
        "rsuid",
        "rsymfollow",
        "runbindable",
        "rw",
        "shared",
        "silent",
        "slave",
        "strictatime",
        "suid",
        "symfollow",
        "sync",
        "tmpcopyup",
        "unbindable",
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mount_option_that_is_claimed_is_understood() {
        for word in mount_options() {
            let read = tare_runtime::mount::options::Options::parse(&[word.to_owned()]);
            let plain = read.unwrap_or_else(|error| panic!("{word}: {error}"));
            let passed_on = ["dirsync", "iversion", "lazytime", "mand", "sync"];
            assert!(plain.data.is_empty() || passed_on.contains(&word), "{word} went to the file system");
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
