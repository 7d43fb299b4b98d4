//! What confines the processes: capabilities, system call filter, hidden and read-only paths.

use oci_spec::runtime::{Capabilities, LinuxCapabilities, LinuxCapabilitiesBuilder, LinuxSeccomp};
use tare_model::capability::CapSet;
use tare_model::container::{SeccompChoice, Security};
use tare_model::sandbox::Seccomp;
use tare_model::{Error, Result};

use super::defaults;
use super::host::HostFacts;
use super::plan::built;
use super::seccomp;

/// The capabilities of a container: Docker's fourteen, changed as asked; never more than the engine has itself.
///
/// # Errors
/// `InvalidInput` for an unknown name.
pub(crate) fn capability_set(security: &Security, host: &HostFacts) -> Result<CapSet> {
    if security.privileged {
        return Ok(host.capabilities);
    }
    let set = CapSet::CONTAINER_DEFAULT
        .adjust(&security.cap_add, &security.cap_drop)
        .map_err(|e| Error::invalid(e.to_string()))?;
    Ok(set.intersection(host.capabilities))
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
pub(crate) fn filter(security: &Security, caps: CapSet) -> Result<(Seccomp, Option<LinuxSeccomp>)> {
    Ok(match &security.seccomp {
        // An explicit profile counts even for privileged containers, as with Docker.
        SeccompChoice::Profile { json } => (Seccomp::Spec, Some(seccomp::parse(json, caps)?)),
        SeccompChoice::Unconfined => (Seccomp::Unconfined, None),
        SeccompChoice::Default if security.privileged => (Seccomp::Unconfined, None),
        SeccompChoice::Default => (Seccomp::Default, None),
    })
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
        let of = |s: &Security| filter(s, CapSet::EMPTY).expect("valid").0;
        assert_eq!(of(&Security::default()), Seccomp::Default);
        assert_eq!(of(&Security { privileged: true, ..Default::default() }), Seccomp::Unconfined);
        let own = SeccompChoice::Profile { json: r#"{"defaultAction":"SCMP_ACT_ALLOW"}"#.into() };
        assert_eq!(of(&Security { privileged: true, seccomp: own, ..Default::default() }), Seccomp::Spec);
    }
}
