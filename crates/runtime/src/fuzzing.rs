//! The functions that read foreign bytes, as targets for `fuzz/`. Each must neither panic, hang nor grow without bound; what
//! it returns is of no interest.

use oci_spec::runtime::{LinuxSeccomp, Spec};
use tare_model::ContainerId;
use tare_model::capability::{CapSet, Capability};
use tare_model::sandbox::{DiskIds, ExecSpec, Rootfs, SandboxSpec, Seccomp};

use crate::plan::{Manner, Plan, Step};
use crate::seccomp;

/// A filter against its meaning, both spelled by these bytes.
///
/// # Panics
/// If they differ.
pub fn filter(bytes: &[u8]) {
    seccomp::fuzzing::differ(bytes);
}

/// Compiles the `linux.seccomp` section of a configuration.
pub fn filter_document(bytes: &[u8]) {
    if let Ok(section) = serde_json::from_slice::<LinuxSeccomp>(bytes) {
        let _ = seccomp::compile(&section);
    }
}

/// Plans the container of a `config.json`, and a further process of it: id maps, mounts, hooks, devices, capabilities and
/// all. Nothing is made.
///
/// # Panics
/// If a plan does not end with the program, or with the word that there is none.
pub fn configuration(bytes: &[u8]) {
    let Ok(oci) = serde_json::from_slice::<Spec>(bytes) else { return };
    let spec = SandboxSpec {
        id: ContainerId::from_bytes([7; 32]),
        oci,
        rootfs: Rootfs::Directory { path: "/nowhere".into() },
        disk_ids: DiskIds::Host,
        identity: None,
        seccomp: Seccomp::Spec,
        init: false,
        create_cwd: false,
    };
    let manner = Manner {
        terminal: false,
        die_with_parent: true,
        gate: false,
        join_cgroups: true,
        keep_keyring: false,
        door: false,
    };
    let exec = ExecSpec { args: vec!["sh".to_owned()], ..ExecSpec::default() };
    // What a first process is refused for, a further one may still be told.
    for plan in [Plan::container(&spec, manner), Plan::exec(&spec, &exec, manner)].into_iter().flatten() {
        assert!(plan.steps.last().is_some_and(|step| matches!(step, Step::Become | Step::NoProgram)));
    }
}

/// Reads the names of capabilities; what is accepted must read back as itself.
///
/// # Panics
/// If it does not.
pub fn capabilities(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let names: Vec<&str> = text.split(',').collect();
    for name in &names {
        if let Ok(cap) = Capability::parse(name) {
            assert_eq!(Capability::parse(cap.name()), Ok(cap), "{name:?}");
        }
    }
    let (add, drop) = names.split_at(names.len() / 2);
    let _ = CapSet::CONTAINER_DEFAULT.adjust(add, drop);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Documents to be damaged.
    const SEEDS: [&str; 4] = [
        r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":5,"architectures":["SCMP_ARCH_X86"],"flags":[],
            "syscalls":[{"names":["socket","read"],"action":"SCMP_ACT_ALLOW","args":[
            {"index":0,"value":18446744073709551615,"valueTwo":3,"op":"SCMP_CMP_MASKED_EQ"}]}]}"#,
        r#"{"ociVersion":"1.2.0","process":{"args":["/x"],"cwd":"/","capabilities":{"bounding":["CAP_KILL"]},
            "user":{"uid":0,"gid":0}},"root":{"path":"r"},"linux":{"namespaces":[{"type":"mount"}],
            "uidMappings":[{"containerID":0,"hostID":4294967295,"size":4294967295}]},
            "mounts":[{"destination":"/proc","type":"proc","source":"proc","options":["ro"]}]}"#,
        r#"{"ociVersion":"1.3.0","process":{"user":{"uid":0,"gid":0},"args":["sh"],"env":["A=1"],"cwd":"/",
            "capabilities":{"bounding":["CAP_KILL"]},"rlimits":[{"type":"RLIMIT_CORE","soft":1,"hard":2}],
            "scheduler":{"policy":"SCHED_FIFO","priority":1},"ioPriority":{"class":"IOPRIO_CLASS_RT","priority":0}},
            "root":{"path":"r"},"hostname":"h","mounts":[{"destination":"/t","type":"tmpfs","source":"t","options":["ro","size=1m"]}],
            "hooks":{"prestart":[{"path":"/h","timeout":1}]},"linux":{"namespaces":[{"type":"mount"},{"type":"uts"},{"type":"time"}],
            "timeOffsets":{"monotonic":{"secs":1}},"maskedPaths":["/proc/x"],"memoryPolicy":{"mode":"MPOL_BIND","nodes":"0-3"}}}"#,
        "CAP_CHOWN,all,cap_kill,CAP_,MKNOD,\u{130}",
    ];

    fn everything(bytes: &[u8]) {
        filter(bytes);
        filter_document(bytes);
        configuration(bytes);
        capabilities(bytes);
    }

    #[test]
    fn the_documents_are_planned() {
        for document in &SEEDS[1..3] {
            assert!(serde_json::from_str::<Spec>(document).is_ok(), "or nothing is tried: {document}");
            configuration(document.as_bytes());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

        #[test]
        fn random_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            everything(&bytes);
        }

        #[test]
        fn damaged_documents_do_no_harm(
            seed in prop::sample::select(&SEEDS[..]),
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        ) {
            let mut bytes = seed.as_bytes().to_vec();
            for (at, byte) in damage {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            everything(&bytes);
        }
    }
}
