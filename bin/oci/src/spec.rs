//! `config.json`: read into what the runtime takes, and written to begin with.

use std::fs;
use std::path::Path;

use serde_json::json;
use tare_model::sandbox::{DiskIds, Rootfs, SandboxSpec, Seccomp};
use tare_model::{ContainerId, Error, Result};

use crate::cli::Spec as Args;
use crate::manager::Manager;
use crate::state::failed;

/// Reads the bundle of a container.
pub(crate) fn load(bundle: &Path, id: &str, manager: Manager) -> Result<SandboxSpec> {
    let path = bundle.join("config.json");
    let text = fs::read(&path).map_err(|error| failed("read", &path, &error))?;
    let mut oci = parse(&text).map_err(|error| error.context(path.display()))?;
    require_version(oci.version())?;
    let root = oci.root().as_ref().ok_or_else(|| Error::invalid("root: missing"))?;
    let rootfs = bundle.join(root.path());
    let rootfs = fs::canonicalize(&rootfs).map_err(|error| failed("root.path", &rootfs, &error))?;
    if let Some(linux) = oci.linux_mut() {
        let path = manager.settled(linux.cgroups_path().as_deref(), id)?;
        linux.set_cgroups_path(Some(path));
    }
    let filter = oci.linux().as_ref().is_some_and(|linux| linux.seccomp().is_some());
    Ok(SandboxSpec {
        id: container_id(id),
        oci,
        rootfs: Rootfs::Directory { path: rootfs },
        identity: None,
        seccomp: if filter { Seccomp::Spec } else { Seccomp::Unconfined },
        init: false,
        create_cwd: true,
        disk_ids: DiskIds::Host,
    })
}

/// The newest version of the specification that is understood.
pub(crate) const VERSION: &str = "1.3.0";

/// Names of the specification that the library writes differently.
const RENAMED: [(&str, &str); 2] = [
    ("SCHED_FLAG_RESET_ON_FORK", "SCHED_RESET_ON_FORK"),
    ("SCHED_FLAG_DL_OVERRUN", "SCHED_FLAG_D_L_OVERRUN"),
];

/// Reads a specification; a second look is taken only at one that the first does not understand.
fn parse(text: &[u8]) -> Result<oci_spec::runtime::Spec> {
    serde_json::from_slice(text).or_else(|first| {
        let again = serde_json::from_slice(text).ok().and_then(|mut value: serde_json::Value| {
            rename(value.pointer_mut("/process/scheduler/flags")?);
            serde_json::from_value(value).ok()
        });
        again.ok_or_else(|| Error::invalid(first.to_string()))
    })
}

fn rename(flags: &mut serde_json::Value) {
    for flag in flags.as_array_mut().into_iter().flatten() {
        let known = RENAMED.iter().find(|(name, _)| flag.as_str() == Some(name));
        if let Some((_, other)) = known {
            *flag = json!(other);
        }
    }
}

/// Whatever has the same first number is the same to us; the specification promises that.
fn require_version(version: &str) -> Result<()> {
    let plain = version.split(['-', '+']).next().unwrap_or_default();
    let numbers: Option<Vec<u32>> = plain.split('.').map(|part| part.parse().ok()).collect();
    match numbers.as_deref() {
        Some([1, _, _]) => Ok(()),
        Some([_, _, _]) => Err(Error::unsupported(format!(
            "ociVersion {version:?}: this runtime understands 1.0.0 to {VERSION}"
        ))),
        _ => Err(Error::invalid(format!("ociVersion {version:?} is not in the form MAJOR.MINOR.PATCH"))),
    }
}

/// The engine's form of an id, of which the runtime only wants that it is the same for the same container.
fn container_id(id: &str) -> ContainerId {
    let mut bytes = [0_u8; 32];
    for (at, byte) in id.bytes().enumerate() {
        let slot = &mut bytes[at % 32];
        *slot = slot.wrapping_mul(31).wrapping_add(byte);
    }
    ContainerId::from_bytes(bytes)
}

/// Writes a specification that runs a shell.
pub(crate) fn write_default(args: &Args) -> Result<u8> {
    let path = args.bundle.join("config.json");
    let text = serde_json::to_string_pretty(&if args.rootless { rootless() } else { default() })
        .map_err(|error| Error::system(error.to_string()))?;
    let mut options = fs::OpenOptions::new();
    let file = options.write(true).create_new(true).open(&path);
    let written =
        file.and_then(|mut file| std::io::Write::write_all(&mut file, format!("{text}\n").as_bytes()));
    written.map_err(|error| failed("create", &path, &error))?;
    Ok(0)
}

fn default() -> serde_json::Value {
    let capabilities = json!(["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    json!({
        "ociVersion": VERSION,
        "process": {
            "terminal": true,
            "user": {"uid": 0, "gid": 0},
            "args": ["sh"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": {"bounding": capabilities, "effective": capabilities, "permitted": capabilities},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": true
        },
        "root": {"path": "rootfs", "readonly": true},
        "hostname": "tare",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
            {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]},
            {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
            {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]}
        ],
        "linux": {
            "resources": {"devices": [{"allow": false, "access": "rwm"}]},
            "namespaces": [
                {"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}, {"type": "cgroup"}
            ],
            "maskedPaths": [
                "/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
                "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware",
                "/sys/devices/virtual/powercap"
            ],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
        }
    })
}

/// The same for a user without privileges: a user namespace with one id, the host's network, no limits.
fn rootless() -> serde_json::Value {
    let mut spec = default();
    let id = |host: u32| json!([{"containerID": 0, "hostID": host, "size": 1}]);
    let linux = &mut spec["linux"];
    linux["uidMappings"] = id(rustix::process::geteuid().as_raw());
    linux["gidMappings"] = id(rustix::process::getegid().as_raw());
    linux["namespaces"] = json!([
        {"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}, {"type": "cgroup"}, {"type": "user"}
    ]);
    if let Some(linux) = linux.as_object_mut() {
        linux.remove("resources");
    }
    for mount in spec["mounts"].as_array_mut().into_iter().flatten() {
        if mount["destination"] == "/sys" {
            *mount = json!({"destination": "/sys", "type": "none", "source": "/sys",
                "options": ["rbind", "nosuid", "noexec", "nodev", "ro"]});
        } else if let Some(options) = mount["options"].as_array_mut() {
            // Only one group is mapped.
            options.retain(|option| option != "gid=5");
        }
    }
    spec
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_can_be_read() {
        let bundle = tempfile::tempdir().unwrap();
        fs::create_dir(bundle.path().join("rootfs")).unwrap();
        write_default(&Args { bundle: bundle.path().to_owned(), rootless: false }).unwrap();
        let spec = load(bundle.path(), "box", Manager::Us).unwrap();
        assert_eq!(
            spec.oci.linux().as_ref().unwrap().cgroups_path().as_deref(),
            Some(Path::new("/tare-oci-box"))
        );
        assert_eq!(spec.seccomp, Seccomp::Unconfined);
        assert!(
            write_default(&Args { bundle: bundle.path().to_owned(), rootless: false }).is_err(),
            "never over an existing one"
        );
    }

    #[test]
    fn versions_of_one_kind_are_understood_and_others_refused() {
        for version in ["1.0.0", "1.0.2-dev", "1.3.0", "1.9.9+x"] {
            assert!(require_version(version).is_ok(), "{version}");
        }
        for version in ["0.9.0", "2.0.0", "1.0", "", "one", "1.0.x"] {
            assert!(require_version(version).unwrap_err().message().contains("ociVersion"), "{version}");
        }
    }

    #[test]
    fn names_that_the_library_spells_differently_are_read() {
        let with = |flag: &str| {
            let text = json!({"ociVersion": "1.0.0", "process": {"cwd": "/", "user": {"uid": 0, "gid": 0},
                "scheduler": {"policy": "SCHED_OTHER", "flags": [flag]}}});
            parse(text.to_string().as_bytes())
        };
        for flag in ["SCHED_FLAG_RESET_ON_FORK", "SCHED_FLAG_DL_OVERRUN", "SCHED_FLAG_RECLAIM"] {
            assert!(with(flag).is_ok(), "{flag}");
        }
        assert!(with("SCHED_FLAG_NO_SUCH").is_err());
    }

    #[test]
    fn a_missing_root_is_named() {
        let bundle = tempfile::tempdir().unwrap();
        write_default(&Args { bundle: bundle.path().to_owned(), rootless: false }).unwrap();
        assert!(load(bundle.path(), "box", Manager::Us).unwrap_err().message().contains("root.path"));
        assert!(
            load(Path::new("/no/such"), "box", Manager::Us).unwrap_err().message().contains("config.json")
        );
    }

    #[test]
    fn ids_of_containers_differ() {
        assert_ne!(container_id("a"), container_id("b"));
        assert_eq!(container_id("abc"), container_id("abc"));
    }
}
