//! What an engine of an ordinary user cannot do, refused by name before there is a container.
//!
//! Such an engine is root of a user namespace: it has the ids that were given to its user, the groups that were delegated,
//! and no rights over the machine.

use tare_model::container::{ContainerConfig, HostOrPrivate, NamespaceMode, Resources};
use tare_model::{Error, ErrorKind, IdRange, Result};

/// What such an engine has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rootless {
    /// Ids of users.
    pub(crate) users: Vec<IdRange>,
    /// Ids of groups.
    pub(crate) groups: Vec<IdRange>,
    /// The cgroup that containers' groups may be made in; absent: none.
    pub(crate) cgroup: Option<String>,
    /// The controllers that those can have.
    pub(crate) controllers: Vec<String>,
    /// Its own OOM score, below which none of its processes can go.
    pub(crate) oom_score: i32,
}

/// Limits: whether one is asked for, its words, its controller.
type Limit = (fn(&Resources) -> bool, &'static str, &'static str);

const LIMITS: [Limit; 16] = [
    (|r| r.memory.is_some(), "--memory", "memory"),
    (|r| r.memory_reservation.is_some(), "--memory-reservation", "memory"),
    (|r| r.memory_swap.is_some(), "--memory-swap", "memory"),
    (|r| r.memory_swappiness.is_some(), "--memory-swappiness", "memory"),
    (|r| r.oom_kill_disable, "--oom-kill-disable", "memory"),
    (|r| r.nano_cpus.is_some(), "--cpus", "cpu"),
    (|r| r.cpu_shares.is_some(), "--cpu-shares", "cpu"),
    (|r| r.cpu_period.is_some() || r.cpu_quota.is_some(), "--cpu-period, --cpu-quota", "cpu"),
    (|r| !r.cpuset_cpus.is_empty(), "--cpuset-cpus", "cpuset"),
    (|r| !r.cpuset_mems.is_empty(), "--cpuset-mems", "cpuset"),
    (|r| r.blkio_weight.is_some_and(|weight| weight != 0), "--blkio-weight", "io"),
    (|r| !r.blkio_weight_device.is_empty(), "--blkio-weight-device", "io"),
    (
        |r| !(r.device_read_bps.is_empty() && r.device_write_bps.is_empty()),
        "--device-read-bps, --device-write-bps",
        "io",
    ),
    (
        |r| !(r.device_read_iops.is_empty() && r.device_write_iops.is_empty()),
        "--device-read-iops, --device-write-iops",
        "io",
    ),
    // Where there is one, only root of the machine has it.
    (
        |r| r.cpu_rt_period.is_some() || r.cpu_rt_runtime.is_some(),
        "--cpu-rt-period, --cpu-rt-runtime",
        "real-time cpu",
    ),
    (|r| r.pids_limit.is_some_and(|limit| limit > 0), "--pids-limit", "pids"),
];

/// What is missing where there are no groups.
pub(crate) const NO_GROUPS: &str = "this engine is an ordinary user's and may make no cgroups: that takes cgroup v2 and a \
                                    subtree delegated to the user (`systemd-run --user --scope -p Delegate=yes tared`)";

// === impl Rootless ===

impl Rootless {
    /// Refuses what cannot be done, and settles what follows.
    ///
    /// # Errors
    /// `Unsupported`, naming the option and what is missing.
    pub(crate) fn check(&self, config: &mut ContainerConfig) -> Result<()> {
        if config.namespaces.user == HostOrPrivate::Host {
            return refused(
                "--userns=host: this engine is an ordinary user's and has no rights in the host's user \
                            namespace; leave it out",
            );
        }
        if let Some(device) = config.devices.first() {
            let path = &device.host_path;
            return refused(format!(
                "--device {path}: this engine is an ordinary user's and cannot make device nodes; if you may use the device \
                 yourself, mount it (-v {path}:{path})"
            ));
        }
        if self.cgroup.is_none() && config.namespaces.pid != NamespaceMode::Private {
            return refused(format!(
                "--pid: without cgroups only a pid namespace of its own ends all processes of a \
                                    container; {NO_GROUPS}"
            ));
        }
        self.settle_oom_score(&mut config.resources)
    }

    /// Refuses limits that cannot be kept.
    ///
    /// # Errors
    /// `Unsupported`, naming the option and what is missing.
    pub(crate) fn check_limits(&self, resources: &Resources) -> Result<()> {
        for (is_asked, words, controller) in LIMITS {
            if !is_asked(resources) || self.has(controller) {
                continue;
            }
            return refused(match &self.cgroup {
                None => format!("{words}: {NO_GROUPS}"),
                Some(group) => format!(
                    "{words}: the {controller} controller was not delegated to this engine's user ({group} has: {})",
                    self.controllers.join(" ")
                ),
            });
        }
        if let Some(rule) = resources.device_rules.first() {
            return refused(format!(
                "--device-cgroup-rule \"{rule}\": this engine is an ordinary user's, and devices are not its to give"
            ));
        }
        let parent = &resources.cgroup_parent;
        match &self.cgroup {
            _ if parent.is_empty() => Ok(()),
            Some(group) if parent.starts_with(&format!("{group}/")) => Ok(()),
            Some(group) => {
                refused(format!("--cgroup-parent {parent}: want a group below {group}, which was delegated"))
            }
            None => refused(format!("--cgroup-parent: {NO_GROUPS}")),
        }
    }

    /// A score can be made worse than the engine's and not better.
    fn settle_oom_score(&self, resources: &mut Resources) -> Result<()> {
        match resources.oom_score_adj {
            0 => resources.oom_score_adj = self.oom_score.max(0),
            score if score < self.oom_score => {
                let own = self.oom_score;
                return refused(format!(
                    "--oom-score-adj {score}: below the engine's own ({own}) takes rights over the machine, and this engine \
                     is an ordinary user's"
                ));
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether groups can have this controller.
    pub(crate) fn has(&self, controller: &str) -> bool {
        self.cgroup.is_some() && self.controllers.iter().any(|one| one == controller)
    }

    /// Refuses a user or a group, named by number, that does not exist here.
    ///
    /// # Errors
    /// `InvalidInput`, naming the number and how many there are.
    pub(crate) fn check_ids(&self, user: &str, further: &[String]) -> Result<()> {
        let (user, group) = user.split_once(':').unwrap_or((user, ""));
        let groups = std::iter::once(group).chain(further.iter().map(String::as_str));
        let users = std::iter::once(user).map(|text| (text, &self.users, "user", "/etc/subuid"));
        let groups = groups.map(|text| (text, &self.groups, "group", "/etc/subgid"));
        for (text, ranges, what, file) in users.chain(groups) {
            // What is no number is looked up in the container, and checked there.
            let Ok(id) = text.parse::<u32>() else { continue };
            let one = IdRange { first: id, count: 1 };
            if id == u32::MAX || !ranges.iter().any(|range| range.overlaps(one)) {
                let count: u32 = ranges.iter().map(|range| range.count).sum();
                return Err(Error::invalid(format!(
                    "{what} {id}: this engine is an ordinary user's and has {count} ids, as {file} says"
                )));
            }
        }
        Ok(())
    }
}

fn refused<T>(message: impl Into<String>) -> Result<T> {
    Err(Error::new(ErrorKind::Unsupported, message))
}

#[cfg(test)]
mod tests {
    use tare_model::container::DeviceConfig;

    use super::*;

    fn plain() -> Rootless {
        let range = |first, count| IdRange { first, count };
        Rootless {
            users: vec![range(0, 1), range(1, 65_536)],
            groups: vec![range(0, 1), range(1, 10)],
            oom_score: 200,
            ..Rootless::default()
        }
    }

    fn delegated() -> Rootless {
        let controllers = vec!["memory".to_owned(), "pids".to_owned()];
        Rootless { cgroup: Some("/user.slice/x".into()), controllers, ..plain() }
    }

    fn checked(engine: &Rootless, change: impl FnOnce(&mut ContainerConfig)) -> Result<ContainerConfig> {
        let mut config = ContainerConfig::default();
        change(&mut config);
        engine.check(&mut config).map(|()| config)
    }

    fn words(engine: &Rootless, change: impl FnOnce(&mut ContainerConfig)) -> String {
        let error = checked(engine, change).expect_err("should be refused");
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        error.message().to_owned()
    }

    #[test]
    fn every_limit_is_refused_by_name_without_its_controller() {
        for (change, flag) in [
            ((|r| r.memory = Some(1 << 30)) as fn(&mut Resources), "--memory:"),
            (|r| r.nano_cpus = Some(1), "--cpus:"),
            (|r| r.cpuset_cpus = "0".into(), "--cpuset-cpus:"),
            (|r| r.pids_limit = Some(5), "--pids-limit:"),
            (|r| r.blkio_weight = Some(10), "--blkio-weight:"),
            (|r| r.cgroup_parent = "/x".into(), "--cgroup-parent:"),
        ] {
            let mut resources = Resources::default();
            change(&mut resources);
            let error = plain().check_limits(&resources).expect_err("should be refused");
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            let said = error.message();
            assert!(said.starts_with(flag) && said.contains("Delegate=yes"), "{said}");
        }
        let asked = |pids_limit| plain().check_limits(&Resources { pids_limit, ..Default::default() });
        assert_eq!((asked(None), asked(Some(-1))), (Ok(()), Ok(())));
    }

    #[test]
    fn what_was_delegated_can_be_used() {
        let asked = |change: fn(&mut Resources)| {
            let mut resources = Resources::default();
            change(&mut resources);
            delegated().check_limits(&resources).map_err(|e| e.message().to_owned())
        };
        assert_eq!(asked(|r| r.memory = Some(1 << 30)), Ok(()));
        let said = asked(|r| r.nano_cpus = Some(1)).expect_err("not delegated");
        assert!(said.contains("cpu controller") && said.contains("memory pids"), "{said}");
        assert_eq!(asked(|r| r.cgroup_parent = "/user.slice/x/y".into()), Ok(()));
        let said = asked(|r| r.cgroup_parent = "/y".into()).expect_err("elsewhere");
        assert!(said.contains("below /user.slice/x"), "{said}");
        assert!(checked(&delegated(), |c| c.namespaces.pid = NamespaceMode::Host).is_ok());
    }

    #[test]
    fn rights_over_the_machine_are_refused() {
        assert!(words(&delegated(), |c| c.namespaces.user = HostOrPrivate::Host).contains("--userns=host"));
        let device = DeviceConfig {
            host_path: "/dev/fuse".into(),
            container_path: "/x".into(),
            permissions: "r".into(),
        };
        assert!(words(&delegated(), |c| c.devices.push(device)).contains("--device /dev/fuse"));
        assert!(words(&plain(), |c| c.namespaces.pid = NamespaceMode::Host).starts_with("--pid:"));
        assert!(words(&plain(), |c| c.resources.oom_score_adj = 100).contains("200"));
    }

    #[test]
    fn the_oom_score_is_at_least_the_engines() {
        let score = |asked| {
            checked(&plain(), |c| c.resources.oom_score_adj = asked).map(|c| c.resources.oom_score_adj)
        };
        assert_eq!((score(0), score(300)), (Ok(200), Ok(300)));
    }

    #[test]
    fn ids_that_the_user_was_not_given_are_refused() {
        let engine = plain();
        for fine in ["", "0", "65536:10", "www:www", ":5"] {
            assert_eq!(engine.check_ids(fine, &[]), Ok(()), "{fine}");
        }
        for (user, groups, want) in
            [("65537", &[][..], "65537 ids"), ("1:11", &[], "11 ids"), ("", &["70000"], "group 70000")]
        {
            let groups: Vec<String> = groups.iter().map(|group| (*group).to_owned()).collect();
            let error = engine.check_ids(user, &groups).expect_err("no such id");
            assert!(error.message().contains(want), "{error}");
        }
    }
}
