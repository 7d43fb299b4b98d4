//! Whose ids a container has: which user namespace it gets, and why not one of its own; and the ids in it.
//!
//! | asked for | user namespace |
//! |---|---|
//! | nothing | its own |
//! | `--pid`, `--ipc` of another container | that one's, be it its own or the host's |
//! | `--userns=host`, `--privileged`, the host's network or processes | the host's |
//!
//! What contradicts itself is refused: nobody gets the host's who did not ask for it.

use oci_spec::runtime::{LinuxIdMapping, LinuxIdMappingBuilder};
use tare_model::container::{ContainerConfig, HostOrPrivate, NamespaceMode, NetworkMode};
use tare_model::identity::User;
use tare_model::sandbox::Identity;
use tare_model::{Error, IdRange, Result};

use super::plan::built;
use super::selinux;
use crate::api::view::{UserIds, UserNamespace};

/// Ids that every user namespace has; any above are mapped one by one.
pub(crate) const ORDINARY: u32 = 1 << 16;
/// How many of those, of users or of groups: the kernel takes 340 lines.
const MOST_LARGE: usize = 256;
/// The largest id there is for the runtime.
const LARGEST: u32 = i32::MAX as u32;

/// What is decided before a container has ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    /// One of its own.
    Own,
    /// That of another container, for this reason.
    Shared(UserIds, String),
    /// The host's, for this reason.
    Host(String),
}

/// Containers whose namespaces are asked for: the words, and the container's key.
pub(crate) fn lenders(config: &ContainerConfig) -> Vec<(String, &str)> {
    let mut all = selinux::lenders(config);
    if let NetworkMode::Container { container } = &config.namespaces.network {
        all.push((format!("--network=container:{container}"), container.as_str()));
    }
    all
}

/// Decides; `lent` are the user namespaces of the [`lenders`], each with the words that ask for it.
///
/// # Errors
/// `InvalidInput` for settings that contradict each other.
pub(crate) fn choose(config: &ContainerConfig, lent: &[(String, UserNamespace)]) -> Result<Choice> {
    let wish = wishes_host(config);
    let Some((words, first)) = lent.first() else {
        return Ok(wish.map_or(Choice::Own, |wish| Choice::Host(wish.to_owned())));
    };
    if let Some((other, _)) = lent.iter().find(|(_, namespace)| namespace.ids() != first.ids()) {
        return Err(Error::invalid(format!(
            "conflicting options: {words} and {other}: the two containers have different user namespaces"
        )));
    }
    match (first, wish) {
        (UserNamespace::Host { .. }, _) => {
            Ok(Choice::Host(format!("{words}, which uses the host's user namespace")))
        }
        (UserNamespace::Own { .. }, Some(wish)) => Err(Error::invalid(format!(
            "conflicting options: {wish} needs the host's user namespace, and {words} has its own: create that \
             container with --userns=host, or leave out {wish}"
        ))),
        (UserNamespace::Own { ids, .. }, None) => Ok(Choice::Shared(ids.clone(), words.clone())),
        (UserNamespace::Engine { .. }, _) => Err(Error::conflict(format!(
            "{words}: that container was created by an engine that was an ordinary user's, and this one is not"
        ))),
    }
}

/// What of the settings needs the host's user namespace, in the words of the command line.
fn wishes_host(config: &ContainerConfig) -> Option<&'static str> {
    let namespaces = &config.namespaces;
    [
        (namespaces.user == HostOrPrivate::Host, "--userns=host"),
        (config.security.privileged, "--privileged"),
        (namespaces.network == NetworkMode::Host, "--network=host"),
        (namespaces.pid == NamespaceMode::Host, "--pid=host"),
    ]
    .into_iter()
    .find_map(|(wishes, words)| wishes.then_some(words))
}

/// Whether the files of the image have a say in who this is: a name is looked up there, and so are the groups of a user
/// other than root.
pub(crate) fn asks_files(identity: &Identity) -> bool {
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let (user, group) = identity.user.split_once(':').unwrap_or((&identity.user, ""));
    let root = matches!(user, "" | "0" | "root") && matches!(group, "" | "0" | "root");
    !(root || (is_number(user) && !group.is_empty() && is_number(group)))
        || !identity.groups.iter().all(|group| is_number(group))
}

/// Ids above the ordinary ones that a container names, its user, or the image's, and further groups; and those that the
/// image's files have for them.
///
/// # Errors
/// `InvalidInput` for more than can be mapped.
pub(crate) fn large_ids(identity: &Identity, found: Option<&User>) -> Result<(Vec<u32>, Vec<u32>)> {
    let (user, group) = identity.user.split_once(':').unwrap_or((&identity.user, ""));
    let groups = identity.groups.iter().map(String::as_str);
    let uids = large(numbers(std::iter::once(user)).chain(found.map(|user| user.uid)));
    let theirs = found.into_iter().flat_map(|user| user.groups.iter().copied().chain([user.gid]));
    let gids = large(numbers(std::iter::once(group).chain(groups)).chain(theirs));
    if gids.len() > MOST_LARGE {
        return Err(Error::invalid(format!(
            "{} groups above {ORDINARY}: a container can have {MOST_LARGE}; use --userns=host for more",
            gids.len()
        )));
    }
    Ok((uids, gids))
}

/// What is no number, or too large a one, is the runtime's to refuse.
fn numbers<'a>(texts: impl Iterator<Item = &'a str>) -> impl Iterator<Item = u32> {
    texts.filter_map(|text| text.parse::<u32>().ok())
}

fn large(ids: impl Iterator<Item = u32>) -> Vec<u32> {
    let mut all: Vec<u32> = ids.filter(|id| (ORDINARY..=LARGEST).contains(id)).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// How many blocks of 65,536 ids of the host a container takes.
pub(crate) fn blocks(uids: &[u32], gids: &[u32]) -> u32 {
    if uids.is_empty() && gids.is_empty() { 1 } else { 2 }
}

/// The two lists of the specification; `None` with the host's user namespace.
pub(crate) fn mappings(
    namespace: &UserNamespace,
) -> Result<Option<(Vec<LinuxIdMapping>, Vec<LinuxIdMapping>)>> {
    let same = |ranges: &[IdRange]| {
        ranges.iter().map(|range| mapping(range.first, range.first, range.count)).collect::<Result<Vec<_>>>()
    };
    Ok(match namespace {
        UserNamespace::Host { .. } => None,
        UserNamespace::Own { ids, .. } => Some((list(ids.range, &ids.uids)?, list(ids.range, &ids.gids)?)),
        UserNamespace::Engine { users, groups, .. } => Some((same(users)?, same(groups)?)),
    })
}

fn mapping(inside: u32, outside: u32, size: u32) -> Result<LinuxIdMapping> {
    built(LinuxIdMappingBuilder::default().container_id(inside).host_id(outside).size(size).build())
}

/// Ascending on both sides, so that a range of ids inside is one outside, and those who test for one find no gap.
fn list(range: IdRange, large: &[u32]) -> Result<Vec<LinuxIdMapping>> {
    let mut all = vec![mapping(0, range.first, ORDINARY)?];
    for (inside, outside) in large.iter().zip(range.first + ORDINARY..) {
        all.push(mapping(*inside, outside, 1)?);
    }
    Ok(all)
}

/// `net.ipv4.ping_group_range` over all groups: both ends must be ids of the network's user namespace.
pub(crate) fn ping_groups(namespace: &UserNamespace) -> String {
    let last = match namespace {
        UserNamespace::Host { .. } => LARGEST,
        UserNamespace::Own { ids, .. } => ids.gids.last().copied().unwrap_or(ORDINARY - 1),
        UserNamespace::Engine { groups, .. } => {
            groups.iter().map(|range| range.first + (range.count - 1)).max().unwrap_or(0)
        }
    };
    format!("0 {last}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use tare_model::container::IpcMode;

    use super::*;

    fn own(block: u32) -> UserNamespace {
        let range = IdRange { first: block << 16, count: ORDINARY };
        let ids = UserIds { range, uids: vec![], gids: vec![] };
        UserNamespace::Own { ids, shared: String::new() }
    }

    fn host() -> UserNamespace {
        UserNamespace::Host { reason: "--privileged".into() }
    }

    fn asked(change: impl FnOnce(&mut ContainerConfig)) -> ContainerConfig {
        let mut config = ContainerConfig::default();
        change(&mut config);
        config
    }

    fn lent(namespaces: &[UserNamespace]) -> Vec<(String, UserNamespace)> {
        let words = ["--pid=container:a", "--ipc=container:b"];
        words.iter().zip(namespaces).map(|(words, n)| ((*words).to_owned(), n.clone())).collect()
    }

    #[test]
    fn a_container_has_its_own_unless_it_says_otherwise() {
        assert_eq!(choose(&ContainerConfig::default(), &[]), Ok(Choice::Own));
        for (config, words) in [
            (asked(|c| c.namespaces.user = HostOrPrivate::Host), "--userns=host"),
            (asked(|c| c.security.privileged = true), "--privileged"),
            (asked(|c| c.namespaces.network = NetworkMode::Host), "--network=host"),
            (asked(|c| c.namespaces.pid = NamespaceMode::Host), "--pid=host"),
        ] {
            assert_eq!(choose(&config, &[]), Ok(Choice::Host(words.into())));
        }
        for config in [
            asked(|c| c.namespaces.ipc = IpcMode::Host),
            asked(|c| c.namespaces.uts = HostOrPrivate::Host),
            asked(|c| c.namespaces.cgroup = HostOrPrivate::Host),
            asked(|c| c.security.cap_add = vec!["ALL".into()]),
        ] {
            assert_eq!(choose(&config, &[]), Ok(Choice::Own));
        }
    }

    #[test]
    fn whoever_joins_another_has_that_ones() {
        let plain = ContainerConfig::default();
        let UserNamespace::Own { ids, .. } = own(0x7001) else { panic!("its own") };
        let shared = Choice::Shared(ids, "--pid=container:a".into());
        assert_eq!(choose(&plain, &lent(&[own(0x7001)])), Ok(shared.clone()));
        assert_eq!(choose(&plain, &lent(&[own(0x7001), own(0x7001)])), Ok(shared));
        let reason = "--pid=container:a, which uses the host's user namespace";
        assert_eq!(choose(&plain, &lent(&[host()])), Ok(Choice::Host(reason.into())));
        assert!(choose(&plain, &lent(&[own(0x7001), own(0x7002)])).is_err());
        assert!(choose(&plain, &lent(&[own(0x7001), host()])).is_err());
    }

    #[test]
    fn a_contradiction_is_refused_with_both_words() {
        let config = asked(|c| c.namespaces.user = HostOrPrivate::Host);
        let e = choose(&config, &lent(&[own(0x7001)])).expect_err("contradicts");
        assert!(e.message().contains("--userns=host") && e.message().contains("--pid=container:a"), "{e}");
        assert!(choose(&config, &lent(&[host()])).is_ok());
    }

    fn identity(user: &str, groups: &[&str]) -> Identity {
        Identity { user: user.to_owned(), groups: groups.iter().map(|group| (*group).to_owned()).collect() }
    }

    #[test]
    fn large_ids_are_those_that_are_named_by_number() {
        let asked = identity("100000:65536", &["70000", "audio", "29", "70000", "4294967295"]);
        assert_eq!(large_ids(&asked, None), Ok((vec![100_000], vec![65_536, 70_000])));
        for small in ["", "0", "65535:65535", "www:www", "-1", "2147483648", "99999999999"] {
            assert_eq!(large_ids(&identity(small, &[]), None), Ok((vec![], vec![])), "{small}");
        }
        let many: Vec<String> = (0..300).map(|n| (100_000 + n).to_string()).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(large_ids(&identity("", &many), None).is_err());
    }

    #[test]
    fn large_ids_of_names_are_those_of_the_files() {
        let found = User { uid: 100_000, gid: 65_536, groups: vec![65_536, 29, 200_000], home: None };
        let asked = identity("www", &["80000"]);
        assert_eq!(large_ids(&asked, Some(&found)), Ok((vec![100_000], vec![65_536, 80_000, 200_000])));
    }

    #[test]
    fn the_files_are_asked_for_names_and_for_the_groups_of_others_than_root() {
        for asks in ["www", "33", "33:www", "root:www", "www:33", ":www"] {
            assert!(asks_files(&identity(asks, &[])), "{asks}");
        }
        for plain in ["", "0", "root", "0:0", "root:root", "33:33"] {
            assert!(!asks_files(&identity(plain, &["29", "70000"])), "{plain}");
            assert!(asks_files(&identity(plain, &["audio"])), "{plain} with a named group");
        }
    }

    #[test]
    fn ping_is_for_every_group_and_no_other() {
        assert_eq!(ping_groups(&host()), "0 2147483647");
        assert_eq!(ping_groups(&own(0x7001)), "0 65535");
        let range = IdRange { first: 0x7001 << 16, count: 2 * ORDINARY };
        let ids = UserIds { range, uids: vec![], gids: vec![70_000, 80_000] };
        assert_eq!(ping_groups(&UserNamespace::Own { ids, shared: String::new() }), "0 80000");
    }

    proptest! {
        #[test]
        fn every_id_lies_in_the_range(large in proptest::collection::btree_set(ORDINARY..LARGEST, 0..256)) {
            let range = IdRange { first: 0x7001 << 16, count: 2 * ORDINARY };
            let large: Vec<u32> = large.into_iter().collect();
            let all = list(range, &large).expect("builds");
            prop_assert_eq!(all.len(), large.len() + 1);
            for pair in all.windows(2) {
                prop_assert!(pair[0].container_id() + pair[0].size() <= pair[1].container_id());
                prop_assert_eq!(pair[0].host_id() + pair[0].size(), pair[1].host_id());
            }
            let last = all.last().expect("there is one");
            prop_assert!(last.host_id() + last.size() <= range.first + range.count);
        }
    }
}
