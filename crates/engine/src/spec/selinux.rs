//! Which SELinux labels a container has.
//!
//! | asked for | labels |
//! |---|---|
//! | `label=disable` | none |
//! | `label=user:`, `role:`, `type:`, `level:`, `filetype:` | the machine's own for containers, with these in place of theirs |
//! | `--privileged`, the host's processes or IPC objects | none |
//! | `--pid`, `--ipc` of another container | that one's, or none if it has none |
//! | nothing | the machine's own for containers, where its policy knows any |
//!
//! Unless a level is asked for, two categories that no other container has keep its files and processes from theirs.

use std::fmt;

use tare_model::container::{ContainerConfig, IpcMode, LabelChoice, LabelParts, NamespaceMode};
use tare_model::{Error, Result};

use crate::api::view::Labels;

/// What a machine with SELinux has for containers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SeLinux {
    /// The label of processes, without categories.
    pub(crate) process: Context,
    /// That of files.
    pub(crate) files: Context,
    /// The loaded policy knows both, with every pair of categories.
    pub(crate) known: bool,
}

/// A label, in its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Context {
    /// SELinux's user.
    pub(crate) user: String,
    /// Role.
    pub(crate) role: String,
    /// Type.
    pub(crate) kind: String,
    /// Sensitivity and categories; absent where the policy has no levels.
    pub(crate) level: Option<String>,
}

/// What is decided before categories are drawn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    /// Exactly these, or none.
    Labels(Option<Labels>),
    /// Labels of its own, with two categories that nobody else has.
    Own(SeLinux),
}

/// Containers whose label is asked for along with their namespaces: the words, and the container's key.
pub(crate) fn lenders(config: &ContainerConfig) -> Vec<(String, &str)> {
    let mut all = Vec::new();
    if let NamespaceMode::Container { container } = &config.namespaces.pid {
        all.push((format!("--pid=container:{container}"), container.as_str()));
    }
    if let IpcMode::Container { container } = &config.namespaces.ipc {
        all.push((format!("--ipc=container:{container}"), container.as_str()));
    }
    all
}

/// Decides; `lent` are the labels of the [`lenders`], each with the words that ask for it.
///
/// # Errors
/// `InvalidInput` for labels that nobody here enforces, and for settings that contradict each other.
pub(crate) fn choose(
    config: &ContainerConfig,
    machine: Option<&SeLinux>,
    lent: &[(String, Option<Labels>)],
) -> Result<Choice> {
    match (&config.security.label, machine) {
        (LabelChoice::Disabled, _) | (LabelChoice::Default, None) => Ok(Choice::Labels(None)),
        (LabelChoice::Changed(_), None) => Err(Error::invalid(
            "SecurityOpt label: SELinux is not enabled on this machine (no selinuxfs at /sys/fs/selinux; the kernel's \
             parameters security= and lsm= choose it); leave the option out, or use label=disable",
        )),
        (LabelChoice::Changed(parts), Some(machine)) => Ok(changed(parts, machine)),
        (LabelChoice::Default, Some(machine)) => usual(config, machine, lent),
    }
}

fn usual(config: &ContainerConfig, machine: &SeLinux, lent: &[(String, Option<Labels>)]) -> Result<Choice> {
    let of_host = config.security.privileged
        || config.namespaces.pid == NamespaceMode::Host
        || config.namespaces.ipc == IpcMode::Host;
    if of_host {
        return Ok(Choice::Labels(None));
    }
    let Some((words, first)) = lent.first() else {
        return Ok(if machine.known { Choice::Own(machine.clone()) } else { Choice::Labels(None) });
    };
    match lent.iter().find(|(_, labels)| labels != first) {
        None => Ok(Choice::Labels(first.clone())),
        Some((other, _)) => Err(Error::invalid(format!(
            "conflicting options: {words} and {other}: the two containers have different SELinux labels; use \
             --security-opt label=disable, or name the labels"
        ))),
    }
}

fn changed(parts: &LabelParts, machine: &SeLinux) -> Choice {
    let or = |asked: &String, own: &String| if asked.is_empty() { own.clone() } else { asked.clone() };
    let (process, files) = (&machine.process, &machine.files);
    let level = |own: &Option<String>| match parts.level.as_str() {
        "" => own.clone(),
        asked => Some(asked.to_owned()),
    };
    let process = Context {
        user: or(&parts.user, &process.user),
        role: or(&parts.role, &process.role),
        kind: or(&parts.domain, &process.kind),
        level: level(&process.level),
    };
    let files = Context {
        user: or(&parts.user, &files.user),
        role: files.role.clone(),
        kind: or(&parts.file_type, &files.kind),
        level: level(&files.level),
    };
    if parts.level.is_empty() {
        return Choice::Own(SeLinux { process, files, known: machine.known });
    }
    Choice::Labels(Some(Labels { process: process.to_string(), files: files.to_string() }))
}

/// The label of files that belong to a container's network, by which others find their way there: whoever joins it reads them,
/// whatever labels the two have. `own` are the container's own labels.
pub(crate) fn of_network_files(own: Option<&Labels>, machine: Option<&SeLinux>) -> Option<String> {
    let machine = machine.filter(|machine| machine.known);
    own.map(Labels::shared_files).or_else(|| machine.map(|machine| machine.files.to_string()))
}

// === impl Context ===

impl Context {
    /// Reads `user:role:type` or `user:role:type:level`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(4, ':').map(str::to_owned);
        let (user, role, kind) = (parts.next()?, parts.next()?, parts.next()?);
        let level = parts.next();
        let whole = ![&user, &role, &kind].iter().any(|part| part.is_empty());
        whole.then_some(Self { user, role, kind, level })
    }

    /// The same for all containers: the lowest sensitivity of its level alone, which every level dominates.
    pub(crate) fn shared(mut self) -> Self {
        self.level = self.level.map(|level| {
            let end = level.find(['-', ':']).unwrap_or(level.len());
            level[..end].to_owned()
        });
        self
    }

    /// With two categories in place of its own.
    pub(crate) fn with_categories(self, (one, other): (u16, u16)) -> Self {
        let Self { level, .. } = self.clone().shared();
        let level = level.map(|level| format!("{level}:c{},c{}", one.min(other), one.max(other)));
        Self { level, ..self }
    }
}

impl fmt::Display for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.user, self.role, self.kind)?;
        self.level.iter().try_for_each(|level| write!(f, ":{level}"))
    }
}

// === impl Labels ===

impl Labels {
    /// Sensitivity and categories.
    pub(crate) fn level(&self) -> Option<String> {
        Context::parse(&self.process)?.level
    }

    /// The label of files that every container may use.
    pub(crate) fn shared_files(&self) -> String {
        Context::parse(&self.files).map_or_else(|| self.files.clone(), |files| files.shared().to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(known: bool) -> SeLinux {
        let context = |text| Context::parse(text).expect("a label");
        SeLinux {
            process: context("system_u:system_r:container_t:s0"),
            files: context("system_u:object_r:container_file_t:s0"),
            known,
        }
    }

    fn labels(level: &str) -> Labels {
        Labels { process: format!("u:r:t:{level}"), files: format!("u:object_r:f:{level}") }
    }

    fn asked(change: impl FnOnce(&mut ContainerConfig)) -> ContainerConfig {
        let mut config = ContainerConfig::default();
        change(&mut config);
        config
    }

    fn parts(change: impl FnOnce(&mut LabelParts)) -> ContainerConfig {
        let mut parts = LabelParts::default();
        change(&mut parts);
        asked(|c| c.security.label = LabelChoice::Changed(parts))
    }

    #[test]
    fn a_container_has_labels_of_its_own_where_the_policy_knows_containers() {
        let plain = ContainerConfig::default();
        assert_eq!(choose(&plain, Some(&machine(true)), &[]), Ok(Choice::Own(machine(true))));
        assert_eq!(choose(&plain, Some(&machine(false)), &[]), Ok(Choice::Labels(None)));
        assert_eq!(choose(&plain, None, &[]), Ok(Choice::Labels(None)));
    }

    #[test]
    fn none_is_what_is_asked_for_by_name_or_with_the_hosts_processes() {
        for config in [
            asked(|c| c.security.label = LabelChoice::Disabled),
            asked(|c| c.security.privileged = true),
            asked(|c| c.namespaces.pid = NamespaceMode::Host),
            asked(|c| c.namespaces.ipc = IpcMode::Host),
        ] {
            assert_eq!(choose(&config, Some(&machine(true)), &[]), Ok(Choice::Labels(None)));
        }
        assert_eq!(
            choose(&asked(|c| c.security.label = LabelChoice::Disabled), None, &[]),
            Ok(Choice::Labels(None))
        );
    }

    #[test]
    fn parts_that_are_named_take_the_place_of_the_machines_own() {
        let config = parts(|p| {
            p.user = "u".into();
            p.domain = "t".into();
            p.file_type = "f".into();
        });
        let Ok(Choice::Own(own)) = choose(&config, Some(&machine(false)), &[]) else { panic!("its own") };
        assert_eq!(own.process.to_string(), "u:system_r:t:s0");
        assert_eq!(own.files.to_string(), "u:object_r:f:s0");
        let config = parts(|p| p.level = "s0:c1,c2".into());
        let wanted = Labels {
            process: "system_u:system_r:container_t:s0:c1,c2".into(),
            files: "system_u:object_r:container_file_t:s0:c1,c2".into(),
        };
        assert_eq!(choose(&config, Some(&machine(true)), &[]), Ok(Choice::Labels(Some(wanted))));
        // Even if nothing else would be confined.
        let config = asked(|c| {
            c.security = parts(|p| p.domain = "t".into()).security;
            c.security.privileged = true;
        });
        assert!(matches!(choose(&config, Some(&machine(true)), &[]), Ok(Choice::Own(_))));
    }

    #[test]
    fn labels_are_refused_where_nobody_enforces_them() {
        let refused = choose(&parts(|p| p.domain = "t".into()), None, &[]).expect_err("refused");
        assert!(refused.message().contains("SELinux is not enabled"), "{refused}");
    }

    #[test]
    fn whoever_joins_another_has_that_ones() {
        let config = asked(|c| c.namespaces.pid = NamespaceMode::Container { container: "a".into() });
        assert_eq!(lenders(&config), [("--pid=container:a".to_owned(), "a")]);
        let lent = |labels: &[Option<Labels>]| -> Vec<(String, Option<Labels>)> {
            labels.iter().map(|labels| ("--pid=container:a".to_owned(), labels.clone())).collect()
        };
        let chosen = |lent: &[(String, Option<Labels>)]| choose(&config, Some(&machine(true)), lent);
        let one = Some(labels("s0:c1,c2"));
        assert_eq!(chosen(&lent(std::slice::from_ref(&one))), Ok(Choice::Labels(one.clone())));
        assert_eq!(chosen(&lent(&[None])), Ok(Choice::Labels(None)));
        assert_eq!(chosen(&lent(&[one.clone(), one.clone()])), Ok(Choice::Labels(one.clone())));
        assert!(chosen(&lent(&[one, None])).is_err());
    }

    #[test]
    fn files_of_a_network_are_for_all_who_join_it_even_that_of_a_container_without_labels() {
        let own = labels("s0:c1,c2");
        let shared = Some("system_u:object_r:container_file_t:s0".to_owned());
        assert_eq!(of_network_files(Some(&own), Some(&machine(true))).as_deref(), Some("u:object_r:f:s0"));
        assert_eq!(of_network_files(None, Some(&machine(true))), shared);
        // Nobody is confined here.
        assert_eq!(of_network_files(None, Some(&machine(false))), None);
        assert_eq!(of_network_files(None, None), None);
    }

    #[test]
    fn a_level_is_a_sensitivity_and_categories() {
        for (text, shared) in [
            ("u:r:t:s0", "u:r:t:s0"),
            ("u:r:t:s0:c1,c2", "u:r:t:s0"),
            ("u:r:t:s1-s2:c0.c1023", "u:r:t:s1"),
            ("u:r:t", "u:r:t"),
        ] {
            let context = Context::parse(text).expect("a label");
            assert_eq!(context.to_string(), text);
            assert_eq!(context.shared().to_string(), shared);
        }
        let context = |text| Context::parse(text).expect("a label");
        assert_eq!(context("u:r:t:s0").with_categories((7, 3)).to_string(), "u:r:t:s0:c3,c7");
        assert_eq!(context("u:r:t").with_categories((7, 3)).to_string(), "u:r:t", "without levels");
        assert_eq!(labels("s0:c1,c2").shared_files(), "u:object_r:f:s0");
        assert_eq!(labels("s0:c1,c2").level().as_deref(), Some("s0:c1,c2"));
        for bad in ["", "a", "a:b", "a::c", "::"] {
            assert_eq!(Context::parse(bad), None, "{bad}");
        }
    }
}
