//! Which device nodes a container may make and open: one meaning, said to v1 as lines and to v2 as a program.
//!
//! Meaning: each rule allows or denies some of `r`, `w`, `m` on some devices; **for each letter the last rule that speaks
//! of it decides**, and what no rule speaks of is denied. A container always starts from "everything denied" plus
//! [`usual`] devices; a rule of the document that allows everything (privileged) resets that.
//!
//! v1 cannot say all of it: an exception can be taken back only in the words in which it was made. Where a rule would
//! silently have no effect it is refused, except for `m` alone: a node that can be made and not opened is harmless, and
//! Docker's own list has such a rule.

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};

use super::error::{Error, Result};

const ALLOW: &str = "devices.allow";
const DENY: &str = "devices.deny";

/// Read, write and mknod as the kernel's bits (`BPF_DEVCG_ACC_*`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Access(pub(super) u8);

impl Access {
    /// Making nodes.
    pub(crate) const MKNOD: Self = Self(1);
    /// Reading.
    pub(crate) const READ: Self = Self(2);
    /// Writing.
    pub(crate) const WRITE: Self = Self(4);
    /// All three.
    pub(crate) const ALL: Self = Self(7);

    fn parse(text: &str) -> Result<Self> {
        text.chars().try_fold(Self(0), |all, letter| match letter {
            'm' => Ok(Self(all.0 | Self::MKNOD.0)),
            'r' => Ok(Self(all.0 | Self::READ.0)),
            'w' => Ok(Self(all.0 | Self::WRITE.0)),
            _ => Err(Error::Invalid {
                what: "device rule".to_owned(),
                why: format!("access {text:?} has a letter other than r, w, m"),
            }),
        })
    }

    pub(super) fn letters(self) -> String {
        [('r', Self::READ), ('w', Self::WRITE), ('m', Self::MKNOD)]
            .into_iter()
            .filter(|(_, bit)| self.0 & bit.0 != 0)
            .map(|(letter, _)| letter)
            .collect()
    }
}

/// Block or character.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Block device.
    Block,
    /// Character device.
    Char,
}

/// One rule about devices of one kind; `None` is every number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    /// Allowed, or denied.
    pub(crate) allow: bool,
    /// Of this kind.
    pub(crate) kind: Kind,
    /// Major number.
    pub(crate) major: Option<u32>,
    /// Minor number.
    pub(crate) minor: Option<u32>,
    /// What.
    pub(crate) access: Access,
}

/// The rules of one container, ready for either version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rules {
    /// What everything not named is.
    pub(super) allow_all: bool,
    /// In order.
    pub(super) rules: Vec<Rule>,
}

/// What every container may use: making any node (opening is another matter), and the harmless devices.
fn usual() -> Vec<Rule> {
    let any = |kind| Rule { allow: true, kind, major: None, minor: None, access: Access::MKNOD };
    let char =
        |major, minor| Rule { allow: true, kind: Kind::Char, major: Some(major), minor, access: Access::ALL };
    vec![
        any(Kind::Char),
        any(Kind::Block),
        char(1, Some(3)),    // null
        char(1, Some(5)),    // zero
        char(1, Some(7)),    // full
        char(1, Some(8)),    // random
        char(1, Some(9)),    // urandom
        char(5, Some(0)),    // tty
        char(5, Some(1)),    // console
        char(5, Some(2)),    // ptmx
        char(136, None),     // pts
        char(10, Some(200)), // net/tun: useless without NET_ADMIN, expected by VPN images
    ]
}

// === impl Rules ===

impl Rules {
    /// Reads the rules of a document and puts the usual ones before them.
    ///
    /// # Errors
    /// A rule that is no rule: unknown access letter, number out of range.
    pub(crate) fn read(document: &[LinuxDeviceCgroup]) -> Result<Self> {
        // Whatever stands before a rule about everything is overruled by it.
        let reset = document.iter().rposition(is_about_everything);
        let allow_all = reset.is_some_and(|at| document[at].allow());
        let mut rules = if allow_all { Vec::new() } else { usual() };
        for rule in document.iter().skip(reset.map_or(0, |at| at + 1)) {
            for rule in read_rule(rule)? {
                // Said already, and nothing in between that could have changed it.
                let is_known = rules.contains(&rule) && !rules.iter().any(|other| other.allow != rule.allow);
                if !is_known && rule.access.0 != 0 {
                    rules.push(rule);
                }
            }
        }
        Ok(Self { allow_all, rules })
    }

    /// The v1 files and lines, in order; the first sets what everything else is.
    ///
    /// # Errors
    /// A rule that v1 would not follow.
    pub(crate) fn lines(&self) -> Result<Vec<(&'static str, String)>> {
        let file = |allow| if allow { ALLOW } else { DENY };
        let mut lines = vec![(file(self.allow_all), "a".to_owned())];
        for (at, rule) in self.rules.iter().enumerate() {
            // Only a rule against the general line takes exceptions back, and must name them exactly.
            let lost = (rule.allow == self.allow_all)
                .then(|| self.rules[..at].iter().find(|earlier| earlier.is_only_partly_undone_by(rule)))
                .flatten();
            if let Some(earlier) = lost {
                return Err(Error::Unsupported {
                    what: format!("device rule {}", rule.describe()),
                    why: format!(
                        "cgroup v1 cannot make an exception from the earlier rule {}",
                        earlier.describe()
                    ),
                });
            }
            lines.push((file(rule.allow), rule.line()));
        }
        Ok(lines)
    }
}

/// The lines that lead from what `devices.list` says to what `wanted` says, so that a device that is allowed before and
/// after is never closed, and groups below do not stand in the way. Only from or to "everything is allowed" all is said
/// anew, and the general line first.
pub(crate) fn steps(list: &str, wanted: &[(&'static str, String)]) -> Vec<(&'static str, String)> {
    let exceptions = |lines: &[(&str, String)]| {
        lines.iter().fold(Exceptions::new(), |mut all, (file, line)| {
            note(&mut all, *file == ALLOW, line);
            all
        })
    };
    let starts_closed = wanted.first().is_some_and(|(file, line)| *file == DENY && line == "a");
    let listed: Vec<(&str, String)> = list.lines().map(|line| (ALLOW, line.to_owned())).collect();
    if !starts_closed || listed.iter().any(|(_, line)| line.starts_with('a')) {
        return wanted.to_vec();
    }
    let (now, then) = (exceptions(&listed), exceptions(&wanted[1..]));
    let beyond = |all: &Exceptions, other: &Exceptions, file| {
        let more = all.iter().filter_map(|(device, access)| {
            let more = Access(access.0 & !other.get(device).copied().unwrap_or_default().0);
            (more.0 != 0).then(|| (file, format!("{device} {}", more.letters())))
        });
        more.collect::<Vec<_>>()
    };
    let mut steps = beyond(&then, &now, ALLOW);
    steps.extend(beyond(&now, &then, DENY));
    steps
}

/// What v1 keeps: the letters allowed for each `c 1:3`.
type Exceptions = std::collections::BTreeMap<String, Access>;

fn note(all: &mut Exceptions, allow: bool, line: &str) {
    let Some((device, letters)) = line.trim().rsplit_once(' ') else { return };
    let Ok(access) = Access::parse(letters) else { return };
    let known = all.entry(device.to_owned()).or_default();
    known.0 = if allow { known.0 | access.0 } else { known.0 & !access.0 };
}

// === impl Rule ===

impl Rule {
    /// As v1 writes it: `c 1:3 rwm`.
    fn line(&self) -> String {
        let kind = if self.kind == Kind::Block { 'b' } else { 'c' };
        let number = |number: Option<u32>| number.map_or_else(|| "*".to_owned(), |number| number.to_string());
        format!("{kind} {}:{} {}", number(self.major), number(self.minor), self.access.letters())
    }

    fn describe(&self) -> String {
        format!("{} {:?}", if self.allow { "allow" } else { "deny" }, self.line())
    }

    /// Whether `later` overrules a part of this one that v1 will not let go: other words for overlapping devices, and
    /// more at stake than making nodes.
    fn is_only_partly_undone_by(&self, later: &Self) -> bool {
        let overlap = |a: Option<u32>, b: Option<u32>| a.is_none() || b.is_none() || a == b;
        let same = self.major == later.major && self.minor == later.minor;
        let shared = self.access.0 & later.access.0 & !Access::MKNOD.0;
        self.kind == later.kind
            && self.allow != later.allow
            && !same
            && overlap(self.major, later.major)
            && overlap(self.minor, later.minor)
            && shared != 0
    }
}

fn is_about_everything(rule: &LinuxDeviceCgroup) -> bool {
    let any_kind = matches!(rule.typ(), None | Some(LinuxDeviceType::A));
    let all = rule
        .access()
        .as_deref()
        .is_none_or(|letters| ["r", "w", "m"].iter().all(|one| letters.contains(one)));
    any_kind && wildcard(rule.major()) && wildcard(rule.minor()) && all
}

/// OCI leaves the number out, older documents write -1.
fn wildcard(number: Option<i64>) -> bool {
    number.is_none_or(|number| number < 0)
}

/// One rule, or two if it is about both kinds.
fn read_rule(rule: &LinuxDeviceCgroup) -> Result<Vec<Rule>> {
    let kinds: &[Kind] = match rule.typ() {
        None | Some(LinuxDeviceType::A) => &[Kind::Block, Kind::Char],
        Some(LinuxDeviceType::B) => &[Kind::Block],
        Some(LinuxDeviceType::C | LinuxDeviceType::U) => &[Kind::Char],
        Some(LinuxDeviceType::P) => {
            return Err(Error::Invalid {
                what: "device rule".to_owned(),
                why: "a FIFO is no device".to_owned(),
            });
        }
    };
    let (major, minor) = (number(rule.major())?, number(rule.minor())?);
    let access = Access::parse(rule.access().as_deref().unwrap_or("rwm"))?;
    Ok(kinds.iter().map(|kind| Rule { allow: rule.allow(), kind: *kind, major, minor, access }).collect())
}

fn number(number: Option<i64>) -> Result<Option<u32>> {
    match number.filter(|_| !wildcard(number)) {
        None => Ok(None),
        Some(given) => u32::try_from(given).map(Some).map_err(|_| Error::Invalid {
            what: "device rule".to_owned(),
            why: format!("{given} is no device number"),
        }),
    }
}

/// What the rules mean for one request, read straight from the statement above.
#[cfg(test)]
pub(crate) fn meaning(rules: &Rules, kind: Kind, major: u32, minor: u32, access: Access) -> bool {
    let speaks = |rule: &&Rule, letter: u8| {
        rule.kind == kind
            && rule.major.is_none_or(|number| number == major)
            && rule.minor.is_none_or(|number| number == minor)
            && rule.access.0 & letter != 0
    };
    [1u8, 2, 4].into_iter().filter(|letter| access.0 & letter != 0).all(|letter| {
        rules.rules.iter().rev().find(|rule| speaks(rule, letter)).map_or(rules.allow_all, |rule| rule.allow)
    })
}
