//! Facts of the machine that a plan depends on; gathered once, given in so that planning stays pure.

use tare_model::capability::CapSet;

use super::rootless::Rootless;
use super::selinux::SeLinux;

/// What this machine has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HostFacts {
    /// CPUs that run.
    pub(crate) cpus: u32,
    /// Which, as the kernel lists them: `0-3`.
    pub(crate) cpu_list: String,
    /// Memory nodes, `0`.
    pub(crate) mem_list: String,
    /// The kernel limits swap per group.
    pub(crate) swap_limit: bool,
    /// Files of /sys that give away other tenants' load and exist here, hidden like [`super::defaults::MASKED_PATHS`].
    pub(crate) thermal_throttle: Vec<String>,
    /// Capabilities the engine can hand on.
    pub(crate) capabilities: CapSet,
    /// Hard limit of open files that the engine can hand on.
    pub(crate) nofile_hard: u64,
    /// The machine's host name.
    pub(crate) hostname: String,
    /// AppArmor runs.
    pub(crate) apparmor: bool,
    /// What SELinux has for containers, if it runs.
    pub(crate) selinux: Option<SeLinux>,
    /// Major and minor number of the kernel.
    pub(crate) kernel: (u32, u32),
    /// What there is if the engine is an ordinary user's.
    pub(crate) rootless: Option<Rootless>,
}

// === impl HostFacts ===

impl HostFacts {
    /// What `info` lists of what confines containers here, in Docker's words and order.
    pub(crate) fn security_options(&self) -> Vec<String> {
        let all = [
            ("name=apparmor", self.apparmor),
            ("name=seccomp,profile=builtin", true),
            ("name=selinux", self.selinux.is_some()),
            ("name=rootless", self.rootless.is_some()),
            ("name=cgroupns", true),
        ];
        all.into_iter().filter(|(_, is_here)| *is_here).map(|(name, _)| name.to_owned()).collect()
    }
}

impl Default for HostFacts {
    /// A small machine that can do everything.
    fn default() -> Self {
        Self {
            cpus: 2,
            cpu_list: "0-1".into(),
            mem_list: "0".into(),
            swap_limit: true,
            thermal_throttle: Vec::new(),
            capabilities: CapSet::ALL,
            nofile_hard: 1 << 20,
            hostname: "machine".into(),
            apparmor: true,
            selinux: None,
            kernel: (6, 1),
            rootless: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_confines_containers_is_listed_as_docker_does() {
        let all = |facts: &HostFacts| facts.security_options().join(" ");
        let plain = HostFacts { apparmor: false, ..HostFacts::default() };
        assert_eq!(all(&plain), "name=seccomp,profile=builtin name=cgroupns");
        let apparmor = HostFacts { apparmor: true, ..plain };
        assert_eq!(all(&apparmor), "name=apparmor name=seccomp,profile=builtin name=cgroupns");
    }
}
