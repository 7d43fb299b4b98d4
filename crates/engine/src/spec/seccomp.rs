//! A user's system call profile: from Docker's JSON form to the OCI one.
//!
//! Docker's form adds conditions (`includes`, `excludes`: capabilities, architectures, kernel) and a table of
//! architectures. They are decided here; what remains is plain OCI.

use std::path::PathBuf;

use oci_spec::runtime::{Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSyscall};
use serde::Deserialize;
use tare_model::capability::{CapSet, Capability};
use tare_model::{Error, Result};

/// The machine as Docker's conditions name it, and as libseccomp does.
const ARCH: (&str, &str) = if cfg!(target_arch = "aarch64") {
    ("arm64", "SCMP_ARCH_AARCH64")
} else if cfg!(target_arch = "riscv64") {
    ("riscv64", "SCMP_ARCH_RISCV64")
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
    listener_path: Option<PathBuf>,
    #[serde(default)]
    listener_metadata: Option<String>,
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
    names: Option<serde_json::Value>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Condition {
    caps: Option<Vec<String>>,
    arches: Option<Vec<String>>,
    min_kernel: Option<String>,
}

/// Reads a profile for a container with these capabilities on this kernel.
///
/// # Errors
/// `InvalidInput`, with the place in the text.
pub(crate) fn parse(json: &str, caps: CapSet, kernel: (u32, u32)) -> Result<LinuxSeccomp> {
    if json.len() > PROFILE_MAX {
        return Err(Error::invalid(format!(
            "seccomp profile has {} bytes; at most {PROFILE_MAX} are read",
            json.len()
        )));
    }
    let profile: Profile = serde_json::from_str(json).map_err(bad)?;
    let mut syscalls = Vec::new();
    for entry in profile.syscalls.unwrap_or_default() {
        let conditions: Conditions = serde_json::from_value(entry.clone()).map_err(bad)?;
        if applies(&conditions, caps, kernel)? {
            syscalls.push(syscall(entry, &conditions)?);
        }
    }
    let mut out = LinuxSeccomp::default();
    out.set_default_action(profile.default_action);
    out.set_default_errno_ret(profile.default_errno_ret);
    out.set_architectures(architectures(profile.architectures, profile.arch_map)?);
    out.set_flags(profile.flags);
    out.set_listener_path(profile.listener_path.filter(|path| !path.as_os_str().is_empty()));
    out.set_listener_metadata(profile.listener_metadata.filter(|text| !text.is_empty()));
    out.set_syscalls(Some(syscalls));
    Ok(out)
}

/// One entry without conditions; the older form has a single `name`.
fn syscall(mut entry: serde_json::Value, conditions: &Conditions) -> Result<LinuxSyscall> {
    if let (Some(name), Some(fields)) =
        (conditions.name.as_ref().filter(|n| !n.is_empty()), entry.as_object_mut())
    {
        let also = |names: &serde_json::Value| names.as_array().is_some_and(|names| !names.is_empty());
        if conditions.names.as_ref().is_some_and(also) {
            return Err(Error::invalid(format!(
                "seccomp profile: an entry has both name ({name:?}) and names; use names"
            )));
        }
        fields.insert("names".into(), vec![name.clone()].into());
    }
    serde_json::from_value(entry).map_err(bad)
}

fn architectures(list: Option<Vec<Arch>>, map: Option<Vec<ArchMap>>) -> Result<Option<Vec<Arch>>> {
    match (list.filter(|l| !l.is_empty()), map.filter(|m| !m.is_empty())) {
        (Some(_), Some(_)) => {
            Err(Error::invalid("seccomp profile: it has both architectures and archMap; use one of them"))
        }
        (list, None) => Ok(list),
        (None, Some(map)) => {
            let Some(entry) = map.into_iter().find(|m| m.architecture == ARCH.1) else { return Ok(None) };
            let names =
                std::iter::once(entry.architecture).chain(entry.sub_architectures.unwrap_or_default());
            let known = |name: String| {
                name.parse().map_err(|_| {
                    Error::invalid(format!("seccomp profile: archMap: unknown architecture {name:?}"))
                })
            };
            names.map(known).collect::<Result<_>>().map(Some)
        }
    }
}

fn applies(conditions: &Conditions, caps: CapSet, kernel: (u32, u32)) -> Result<bool> {
    let has = |name: &String| Capability::parse(name).is_ok_and(|cap| caps.contains(cap));
    let here = |arch: &String| arch == ARCH.0;
    let since = |condition: &Condition| {
        let least = condition.min_kernel.as_deref().filter(|v| !v.is_empty()).map(version).transpose()?;
        Ok::<_, Error>(least.map(|least| kernel >= least))
    };
    if let Some(excludes) = &conditions.excludes {
        let listed = |list: &Option<Vec<String>>, test: &dyn Fn(&String) -> bool| {
            list.as_ref().is_some_and(|l| l.iter().any(test))
        };
        if listed(&excludes.caps, &has) || listed(&excludes.arches, &here) || since(excludes)? == Some(true) {
            return Ok(false);
        }
    }
    let Some(includes) = &conditions.includes else { return Ok(true) };
    Ok(includes.caps.as_ref().is_none_or(|l| l.iter().all(has))
        && includes.arches.as_ref().is_none_or(|l| l.is_empty() || l.iter().any(here))
        && since(includes)? != Some(false))
}

/// `4.8`
fn version(text: &str) -> Result<(u32, u32)> {
    let numbers =
        text.split_once('.').and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
    numbers.ok_or_else(|| {
        Error::invalid(format!("seccomp profile: minKernel {text:?}: want two numbers, as in 4.8"))
    })
}

fn bad(e: serde_json::Error) -> Error {
    Error::invalid(format!("decoding seccomp profile failed: {e}"))
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

    const KERNEL: (u32, u32) = (6, 1);

    fn names(caps: CapSet) -> Vec<String> {
        let profile = parse(PROFILE, caps, KERNEL).expect("valid");
        profile.syscalls().iter().flatten().flat_map(|s| s.names().clone()).collect()
    }

    #[test]
    fn conditions_are_decided_by_capabilities_and_machine() {
        assert_eq!(names(CapSet::EMPTY), ["read", "write", "clone", "ptrace", "old_form"]);
        assert_eq!(names(CapSet::ALL), ["read", "write", "mount", "ptrace", "old_form"]);
    }

    #[test]
    fn the_architecture_table_is_resolved() {
        let profile = parse(PROFILE, CapSet::EMPTY, KERNEL).expect("valid");
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
            let e = parse(bad, CapSet::EMPTY, KERNEL).expect_err(bad);
            assert!(e.message().starts_with("decoding seccomp profile failed"), "{e}");
        }
    }

    /// The names of a profile with one entry under this condition.
    fn under(condition: &str) -> Result<usize> {
        let json = format!(
            r#"{{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{{"names":["read"],"action":"SCMP_ACT_ALLOW",{condition}}}]}}"#
        );
        Ok(parse(&json, CapSet::EMPTY, KERNEL)?.syscalls().as_ref().map_or(0, Vec::len))
    }

    #[test]
    fn an_entry_for_another_kernel_does_not_apply() {
        for (kernel, wanted) in [("4.8", 1), ("6.1", 1), ("6.2", 0), ("7.0", 0), ("10.0", 0)] {
            let includes = under(&format!(r#""includes":{{"minKernel":"{kernel}"}}"#)).expect("valid");
            assert_eq!(includes, wanted, "from {kernel}");
            let excludes = under(&format!(r#""excludes":{{"minKernel":"{kernel}"}}"#)).expect("valid");
            assert_eq!(excludes, 1 - wanted, "before {kernel}");
        }
        let e = under(r#""includes":{"minKernel":"new"}"#).expect_err("refused");
        assert!(e.message().contains("minKernel \"new\""), "{e}");
    }

    #[test]
    fn what_a_profile_says_twice_is_refused() {
        for (bad, told) in [
            (
                r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86"],"archMap":[{"architecture":"SCMP_ARCH_X86_64"}]}"#,
                "archMap",
            ),
            (
                r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"name":"read","names":["write"],"action":"SCMP_ACT_ALLOW"}]}"#,
                "both name",
            ),
        ] {
            let e = parse(bad, CapSet::EMPTY, KERNEL).expect_err(bad);
            assert!(e.message().contains(told), "{e}");
        }
    }

    #[test]
    fn the_listener_is_passed_on() {
        let json = r#"{"defaultAction":"SCMP_ACT_ALLOW","listenerPath":"/run/agent","listenerMetadata":"m",
            "syscalls":[{"names":["mkdir"],"action":"SCMP_ACT_NOTIFY"}]}"#;
        let profile = parse(json, CapSet::EMPTY, KERNEL).expect("valid");
        assert_eq!(profile.listener_path().as_deref(), Some(std::path::Path::new("/run/agent")));
        assert_eq!(profile.listener_metadata().as_deref(), Some("m"));
    }
}
