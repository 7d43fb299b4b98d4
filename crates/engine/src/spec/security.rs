//! What confines the processes: capabilities, system call filter, hidden and read-only paths.

use oci_spec::runtime::{Capabilities, LinuxCapabilities, LinuxCapabilitiesBuilder, LinuxSeccomp};
use tare_model::capability::CapSet;
use tare_model::container::{Profile, SeccompChoice, Security};
use tare_model::sandbox::Seccomp;
use tare_model::{Error, Result};

use super::defaults;
use super::host::HostFacts;
use super::plan::built;
use super::seccomp;

/// The capabilities of a container: those of its profile, changed as asked; never more than the engine has itself.
///
/// # Errors
/// `InvalidInput` for an unknown name.
pub(crate) fn capability_set(security: &Security, host: &HostFacts) -> Result<CapSet> {
    if security.privileged {
        return Ok(host.capabilities);
    }
    let base = match security.profile {
        Profile::Default | Profile::Docker => CapSet::CONTAINER_DEFAULT,
        Profile::Strict => CapSet::CONTAINER_STRICT,
    };
    let set =
        base.adjust(&security.cap_add, &security.cap_drop).map_err(|e| Error::invalid(e.to_string()))?;
    Ok(set.intersection(host.capabilities))
}

/// Refuses a profile of a module that this machine does not run.
///
/// # Errors
/// `InvalidInput`, naming the profile.
pub(crate) fn check_apparmor(security: &Security, host: &HostFacts) -> Result<()> {
    match &security.apparmor {
        Some(profile) if !host.apparmor => Err(Error::invalid(format!(
            "AppArmor profile {profile:?}: AppArmor is not enabled on this machine; leave the option out, or use \
             apparmor=unconfined"
        ))),
        _ => Ok(()),
    }
}

/// Capabilities that were asked for by name and that this engine cannot give.
pub(crate) fn missing_capabilities(security: &Security, host: &HostFacts) -> Vec<String> {
    let asked =
        security.cap_add.iter().filter_map(|name| tare_model::capability::Capability::parse(name).ok());
    asked.filter(|cap| !host.capabilities.contains(*cap)).map(|cap| cap.to_string()).collect()
}

/// The OCI form: nothing inheritable or ambient, so that a program without file capabilities run by another user has none.
pub(crate) fn capabilities(set: CapSet) -> Result<LinuxCapabilities> {
    let names: Capabilities = set.iter().filter_map(|cap| cap.name().parse().ok()).collect();
    let none = Capabilities::new;
    built(
        LinuxCapabilitiesBuilder::default()
            .bounding(names.clone())
            .effective(names.clone())
            .permitted(names)
            .inheritable(none())
            .ambient(none())
            .build(),
    )
}

/// Which filter applies, and the profile if it is the user's own.
///
/// # Errors
/// `InvalidInput` for a profile that cannot be read.
pub(crate) fn filter(
    security: &Security,
    caps: CapSet,
    host: &HostFacts,
    thirty_two_bit: bool,
) -> Result<(Seccomp, Option<LinuxSeccomp>)> {
    Ok(match (&security.seccomp, security.profile) {
        // An explicit profile counts even for privileged containers, as with Docker.
        (SeccompChoice::Profile { json }, _) => {
            (Seccomp::Spec, Some(seccomp::parse(json, caps, host.kernel)?))
        }
        (SeccompChoice::Unconfined, _) => (Seccomp::Unconfined, None),
        (SeccompChoice::Default, _) if security.privileged => (Seccomp::Unconfined, None),
        (SeccompChoice::Default, Profile::Default) if thirty_two_bit => (Seccomp::DefaultThirtyTwoBit, None),
        (SeccompChoice::Default, Profile::Default) => (Seccomp::Default, None),
        (SeccompChoice::Default, Profile::Strict) => (Seccomp::Strict, None),
        (SeccompChoice::Default, Profile::Docker) => (Seccomp::Docker, None),
    })
}

/// Whether the processes may never gain privileges.
pub(crate) fn no_new_privileges(security: &Security) -> bool {
    security.no_new_privileges || security.profile == Profile::Strict
}

/// Whether an image of this architecture is one of 32-bit programs that this machine runs beside its own.
pub(crate) fn is_thirty_two_bit(architecture: &str) -> bool {
    match std::env::consts::ARCH {
        "x86_64" => architecture == "386",
        "aarch64" => architecture == "arm",
        _ => false,
    }
}

/// Whether the filter lets the image's programs run at all, and what there is to say about it.
///
/// The one thing about confinement that an image decides: its 32-bit programs run. The list of calls stays the same, but
/// i386 programs make sockets through a call that no filter can look into, so this is said aloud.
///
/// # Errors
/// `InvalidInput` for 32-bit programs under the strict profile.
pub(crate) fn check_image(security: &Security, thirty_two_bit: bool) -> Result<Option<String>> {
    let builtin = security.seccomp == SeccompChoice::Default && !security.privileged;
    match (builtin && thirty_two_bit, security.profile) {
        (true, Profile::Strict) => Err(Error::invalid(
            "profile=strict does not run 32-bit programs, and the image is one of them; leave the profile out",
        )),
        (true, Profile::Default) => Ok(Some(
            "the image is one of 32-bit programs: their system calls are let in, and with i386's socketcall the list of \
             socket families does not hold"
                .to_owned(),
        )),
        _ => Ok(None),
    }
}

/// Hidden paths.
pub(crate) fn masked(security: &Security, host: &HostFacts) -> Vec<String> {
    let mut paths = Vec::new();
    if !open_paths(security) {
        paths.extend(defaults::MASKED_PATHS.iter().map(|p| (*p).to_owned()));
        paths.extend(host.thermal_throttle.iter().cloned());
    }
    paths
}

/// Read-only paths.
pub(crate) fn readonly(security: &Security) -> Vec<String> {
    if open_paths(security) {
        return Vec::new();
    }
    defaults::READONLY_PATHS.iter().map(|p| (*p).to_owned()).collect()
}

fn open_paths(security: &Security) -> bool {
    security.privileged || security.unmasked_paths
}

#[cfg(test)]
mod tests {
    use tare_model::capability::Capability;

    use super::*;

    fn security(add: &[&str], drop: &[&str]) -> Security {
        let list = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
        Security { cap_add: list(add), cap_drop: list(drop), ..Default::default() }
    }

    #[test]
    fn capabilities_are_dockers_fourteen_changed_as_asked() {
        let host = HostFacts::default();
        let set = |s: Security| capability_set(&s, &host).expect("valid");
        assert_eq!(set(Security::default()), CapSet::CONTAINER_DEFAULT);
        assert_eq!(set(security(&["NET_ADMIN"], &["ALL"])).names(), ["CAP_NET_ADMIN"]);
        assert!(set(Security { privileged: true, ..Default::default() }).contains(Capability::SYS_ADMIN));
        assert!(capability_set(&security(&["FLY"], &[]), &host).is_err());
    }

    #[test]
    fn a_capability_that_the_engine_lacks_is_not_promised() {
        let host =
            HostFacts { capabilities: CapSet::ALL.without(Capability::SYS_ADMIN), ..Default::default() };
        let asked = security(&["SYS_ADMIN"], &[]);
        assert!(!capability_set(&asked, &host).expect("valid").contains(Capability::SYS_ADMIN));
        assert_eq!(missing_capabilities(&asked, &host), ["CAP_SYS_ADMIN"]);
    }

    #[test]
    fn nothing_is_inheritable_or_ambient() {
        let oci = capabilities(CapSet::CONTAINER_DEFAULT).expect("builds");
        assert_eq!(oci.bounding().as_ref().map(|c| c.len()), Some(14));
        assert_eq!(oci.ambient().as_ref().map(|c| c.len()), Some(0));
        assert_eq!(oci.inheritable().as_ref().map(|c| c.len()), Some(0));
    }

    #[test]
    fn only_privileged_containers_see_every_path() {
        let host = HostFacts { thermal_throttle: vec!["/sys/t".into()], ..Default::default() };
        let privileged = Security { privileged: true, ..Default::default() };
        assert!(masked(&privileged, &host).is_empty());
        assert!(readonly(&privileged).is_empty());
        let usual = masked(&Security::default(), &host);
        assert_eq!(usual.len(), 13);
        assert!(usual.contains(&"/sys/t".to_owned()));
    }

    #[test]
    fn the_filter_is_on_unless_turned_off() {
        let host = HostFacts::default();
        let of = |s: &Security| filter(s, CapSet::EMPTY, &host, false).expect("valid").0;
        assert_eq!(of(&Security::default()), Seccomp::Default);
        assert_eq!(of(&Security { privileged: true, ..Default::default() }), Seccomp::Unconfined);
        let own = SeccompChoice::Profile { json: r#"{"defaultAction":"SCMP_ACT_ALLOW"}"#.into() };
        assert_eq!(of(&Security { privileged: true, seccomp: own, ..Default::default() }), Seccomp::Spec);
    }

    #[test]
    fn a_profile_chooses_capabilities_filter_and_privileges() {
        let host = HostFacts::default();
        for (profile, caps, wanted, strict) in [
            (Profile::Default, CapSet::CONTAINER_DEFAULT, Seccomp::Default, false),
            (Profile::Strict, CapSet::CONTAINER_STRICT, Seccomp::Strict, true),
            (Profile::Docker, CapSet::CONTAINER_DEFAULT, Seccomp::Docker, false),
        ] {
            let security = Security { profile, ..Default::default() };
            assert_eq!(capability_set(&security, &host).expect("valid"), caps, "{profile:?}");
            assert_eq!(filter(&security, caps, &host, false).expect("valid").0, wanted, "{profile:?}");
            assert_eq!(no_new_privileges(&security), strict, "{profile:?}");
        }
        let more = Security { profile: Profile::Strict, ..security(&["NET_RAW"], &["KILL"]) };
        let wanted = CapSet::CONTAINER_STRICT.with(Capability::NET_RAW).without(Capability::KILL);
        assert_eq!(capability_set(&more, &host).expect("valid"), wanted);
    }

    #[test]
    fn thirty_two_bit_images_run_and_it_is_said() {
        let host = HostFacts::default();
        let of = |profile| Security { profile, ..Default::default() };
        let filtered = filter(&of(Profile::Default), CapSet::EMPTY, &host, true).expect("valid").0;
        assert_eq!(filtered, Seccomp::DefaultThirtyTwoBit);
        let said = check_image(&of(Profile::Default), true).expect("valid").expect("a warning");
        assert!(said.contains("32-bit"), "{said}");
        assert_eq!(check_image(&of(Profile::Docker), true).expect("valid"), None);
        assert_eq!(check_image(&of(Profile::Default), false).expect("valid"), None);
        let refused = check_image(&of(Profile::Strict), true).expect_err("refused");
        assert!(refused.message().contains("profile=strict"), "{refused}");
    }

    #[test]
    fn a_profile_is_refused_where_nobody_enforces_it() {
        let security = Security { apparmor: Some("p".into()), ..Default::default() };
        assert!(check_apparmor(&security, &HostFacts::default()).is_ok());
        let host = HostFacts { apparmor: false, ..Default::default() };
        assert!(check_apparmor(&security, &host).is_err_and(|e| e.message().contains("AppArmor")));
        assert!(check_apparmor(&Security::default(), &host).is_ok());
    }

    #[test]
    fn only_the_architecture_beside_this_machines_own_is_thirty_two_bit() {
        let own = if cfg!(target_arch = "aarch64") { "arm" } else { "386" };
        assert!(is_thirty_two_bit(own));
        for other in ["amd64", "arm64", "", "i386", "x86", "mips"] {
            assert!(!is_thirty_two_bit(other), "{other}");
        }
    }
}
