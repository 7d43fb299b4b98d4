//! A user's system call profile: from Docker's JSON form to the OCI one.
//!
//! Docker's form adds conditions (`includes`, `excludes`: capabilities, architectures, kernel) and a table of
//! architectures. They are decided here; what remains is plain OCI.

use oci_spec::runtime::{Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSyscall};
use serde::Deserialize;
use tare_model::capability::{CapSet, Capability};
use tare_model::{Error, Result};

/// The machine as Docker's conditions name it, and as libseccomp does.
const ARCH: (&str, &str) = if cfg!(target_arch = "aarch64") {
    ("arm64", "SCMP_ARCH_AARCH64")
} else {
    ("amd64", "SCMP_ARCH_X86_64")
};

/// The longest profile that is read.
const PROFILE_MAX: usize = 4 << 20;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Profile {
    default_action: LinuxSeccompAction,
    #[serde(default)]
    default_errno_ret: Option<u32>,
    #[serde(default)]
    architectures: Option<Vec<Arch>>,
    #[serde(default)]
    arch_map: Option<Vec<ArchMap>>,
    #[serde(default)]
    flags: Option<Vec<oci_spec::runtime::LinuxSeccompFilterFlag>>,
    #[serde(default)]
    listener_path: Option<serde_json::Value>,
    #[serde(default)]
    syscalls: Option<Vec<serde_json::Value>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ArchMap {
    architecture: String,
    #[serde(default)]
    sub_architectures: Option<Vec<String>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Conditions {
    includes: Option<Condition>,
    excludes: Option<Condition>,
    name: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Condition {
    caps: Option<Vec<String>>,
    arches: Option<Vec<String>>,
    min_kernel: Option<String>,
}

/// Reads a profile for a container with these capabilities.
///
/// # Errors
/// `InvalidInput`, with the place in the text; `Unsupported` for what needs a listener.
pub(crate) fn parse(json: &str, caps: CapSet) -> Result<LinuxSeccomp> {
    let bad = |e: serde_json::Error| Error::invalid(format!("decoding seccomp profile failed: {e}"));
    if json.len() > PROFILE_MAX {
        return Err(Error::invalid(format!(
            "seccomp profile has {} bytes; at most {PROFILE_MAX} are read",
            json.len()
        )));
    }
    let profile: Profile = serde_json::from_str(json).map_err(bad)?;
    if profile.listener_path.is_some_and(|p| p != "") {
        return Err(Error::unsupported("seccomp profile: listenerPath is not supported"));
    }
    let mut syscalls = Vec::new();
    for entry in profile.syscalls.unwrap_or_default() {
        let conditions: Conditions = serde_json::from_value(entry.clone()).map_err(bad)?;
        if applies(&conditions, caps) {
            syscalls.push(syscall(entry, conditions.name).map_err(bad)?);
        }
    }
    let mut out = LinuxSeccomp::default();
    out.set_default_action(profile.default_action);
    out.set_default_errno_ret(profile.default_errno_ret);
    out.set_architectures(architectures(profile.architectures, profile.arch_map));
    out.set_flags(profile.flags);
    out.set_syscalls(Some(syscalls));
    Ok(out)
}

/// One entry without conditions; the older form has a single `name`.
fn syscall(mut entry: serde_json::Value, name: Option<String>) -> serde_json::Result<LinuxSyscall> {
    if let (Some(name), Some(fields)) = (name.filter(|n| !n.is_empty()), entry.as_object_mut()) {
        fields.insert("names".into(), vec![name].into());
    }
    serde_json::from_value(entry)
}

fn architectures(list: Option<Vec<Arch>>, map: Option<Vec<ArchMap>>) -> Option<Vec<Arch>> {
    if let Some(list) = list.filter(|l| !l.is_empty()) {
        return Some(list);
    }
    let entry = map?.into_iter().find(|m| m.architecture == ARCH.1)?;
    let names = std::iter::once(entry.architecture).chain(entry.sub_architectures.unwrap_or_default());
    Some(names.filter_map(|name| name.parse().ok()).collect())
}

fn applies(conditions: &Conditions, caps: CapSet) -> bool {
    let has = |name: &String| Capability::parse(name).is_ok_and(|cap| caps.contains(cap));
    let here = |arch: &String| arch == ARCH.0;
    if let Some(excludes) = &conditions.excludes {
        let listed = |list: &Option<Vec<String>>, test: &dyn Fn(&String) -> bool| {
            list.as_ref().is_some_and(|l| l.iter().any(test))
        };
        if listed(&excludes.caps, &has) || listed(&excludes.arches, &here) || excludes.min_kernel.is_some() {
            return false;
        }
    }
    conditions.includes.as_ref().is_none_or(|includes| {
        // `minKernel` holds: every kernel this engine runs on is newer than those that profiles ask for.
        includes.caps.as_ref().is_none_or(|l| l.iter().all(has))
            && includes.arches.as_ref().is_none_or(|l| l.is_empty() || l.iter().any(here))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROFILE: &str = r#"{
      "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1,
      "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"]},
                  {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]}],
      "syscalls": [
        {"names": ["read", "write"], "action": "SCMP_ACT_ALLOW"},
        {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
        {"names": ["clone"], "action": "SCMP_ACT_ALLOW", "excludes": {"caps": ["CAP_SYS_ADMIN"]},
         "args": [{"index": 0, "value": 2114060288, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}]},
        {"names": ["ptrace"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "4.8"}},
        {"names": ["s390_x"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["s390"]}},
        {"name": "old_form", "action": "SCMP_ACT_ALLOW", "args": null}
      ]}"#;

    fn names(caps: CapSet) -> Vec<String> {
        let profile = parse(PROFILE, caps).expect("valid");
        profile.syscalls().iter().flatten().flat_map(|s| s.names().clone()).collect()
    }

    #[test]
    fn conditions_are_decided_by_capabilities_and_machine() {
        assert_eq!(names(CapSet::EMPTY), ["read", "write", "clone", "ptrace", "old_form"]);
        assert_eq!(names(CapSet::ALL), ["read", "write", "mount", "ptrace", "old_form"]);
    }

    #[test]
    fn the_architecture_table_is_resolved() {
        let profile = parse(PROFILE, CapSet::EMPTY).expect("valid");
        assert!(profile.architectures().as_ref().is_some_and(|a| a.len() >= 2));
        assert_eq!(profile.default_errno_ret(), Some(1));
    }

    #[test]
    fn a_broken_profile_is_refused_with_its_place() {
        for bad in [
            "",
            "{}",
            "[]",
            r#"{"defaultAction":"SCMP_ACT_FLY"}"#,
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{}]}"#,
        ] {
            let e = parse(bad, CapSet::EMPTY).expect_err(bad);
            assert!(e.message().starts_with("decoding seccomp profile failed"), "{e}");
        }
    }
}
