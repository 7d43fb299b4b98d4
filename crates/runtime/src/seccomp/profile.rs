//! What a filter means, before it becomes instructions: rules by name, conditions on arguments, actions.
//!
//! Meaning of a profile, in the order in which it is decided (the tests hold the compiled program to exactly this):
//!
//! 1. A call of an architecture that is not listed gets [`Profile::foreign`].
//!    (Number -1 is no call of any architecture and goes to point 5.)
//! 2. A call that is newer than every call the profile names gets [`Profile::newer`], if that is set.
//! 3. Of the rules that name the call, the first *without* conditions decides, wherever it stands: it was written for
//!    every use of the call. One with the default action says nothing and is passed over.
//! 4. Otherwise the first rule all of whose conditions hold decides.
//! 5. Otherwise [`Profile::default`].
//!
//! Rules of which one would silently undo another are no profile: [`Profile::conflict`] finds them.
//!
//! Conditions compare the full 64-bit argument, except where the kernel itself takes only 32 bits ([`is_narrow`]):
//! there the upper half is ignored, as the kernel ignores it. A rule "family is not 40" otherwise lets
//! `40 + 2^32` through, which the kernel takes for 40. A negative number written with 64 bits is cut alike.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use super::arch::Arch;

/// A whole filter.
#[derive(Clone, Debug)]
pub(crate) struct Profile<'a> {
    /// For calls that no rule decides.
    pub(crate) default: Action,
    /// For calls of architectures that are not in `arches`.
    pub(crate) foreign: Action,
    /// For calls newer than the profile; absent: as `default`.
    pub(crate) newer: Option<Action>,
    /// The architectures that the rules are for.
    pub(crate) arches: Vec<Arch>,
    /// Order matters, see above.
    pub(crate) rules: Vec<Rule<'a>>,
}

/// What happens to some calls under some conditions.
#[derive(Clone, Debug)]
pub(crate) struct Rule<'a> {
    pub(crate) names: Vec<&'a str>,
    /// All must hold; none: always.
    pub(crate) conditions: Vec<Condition>,
    pub(crate) action: Action,
}

/// One comparison of one argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Condition {
    /// 0 to 5.
    pub(crate) argument: u8,
    /// Only the lower 32 bits of the argument count.
    pub(crate) narrow: bool,
    pub(crate) test: Test,
}

impl Condition {
    /// A comparison of a full argument; [`Profile::decisions`] narrow it where the kernel does.
    pub(crate) fn new(argument: u8, test: Test) -> Self {
        Self { argument, narrow: false, test }
    }

    fn narrowed(self, call: &str) -> Self {
        if is_narrow(call, self.argument) {
            Self { narrow: true, test: self.test.narrowed(), ..self }
        } else {
            self
        }
    }
}

/// How an argument is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Test {
    Equal(u64),
    NotEqual(u64),
    Less(u64),
    LessOrEqual(u64),
    Greater(u64),
    GreaterOrEqual(u64),
    /// The argument under `mask` equals `value`.
    Masked {
        mask: u64,
        value: u64,
    },
}

impl Test {
    /// For an argument of 32 bits: a negative number is the one that the kernel sees. (Other numbers beyond 32 bits stay:
    /// no argument equals them.)
    fn narrowed(self) -> Self {
        let cut = |value: u64| if value >= NEGATIVE { value & 0xffff_ffff } else { value };
        match self {
            Self::Equal(value) => Self::Equal(cut(value)),
            Self::NotEqual(value) => Self::NotEqual(cut(value)),
            Self::Less(value) => Self::Less(cut(value)),
            Self::LessOrEqual(value) => Self::LessOrEqual(cut(value)),
            Self::Greater(value) => Self::Greater(cut(value)),
            Self::GreaterOrEqual(value) => Self::GreaterOrEqual(cut(value)),
            Self::Masked { mask, value } => Self::Masked { mask: mask & 0xffff_ffff, value: cut(value) },
        }
    }
}

/// The smallest `int`, as 64 bits hold it.
const NEGATIVE: u64 = 0xffff_ffff_8000_0000;

/// What the kernel does with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Action {
    KillProcess,
    KillThread,
    /// SIGSYS.
    Trap,
    Errno(u16),
    /// A tracer decides; it gets this number.
    Trace(u16),
    /// A listener decides.
    Notify,
    /// Allowed and logged.
    Log,
    Allow,
}

/// `EPERM`, what a refused call answers unless the profile says otherwise.
pub(crate) const EPERM: u16 = 1;
/// `ENOSYS`, what a program understands as "this kernel is older than you": it then falls back.
pub(crate) const ENOSYS: u16 = 38;

impl Action {
    /// The kernel's `SECCOMP_RET_*` value.
    pub(crate) fn code(self) -> u32 {
        match self {
            Self::KillProcess => 0x8000_0000,
            Self::KillThread => 0,
            Self::Trap => 0x0003_0000,
            Self::Errno(number) => 0x0005_0000 | u32::from(number),
            Self::Notify => 0x7fc0_0000,
            Self::Trace(number) => 0x7ff0_0000 | u32::from(number),
            Self::Log => 0x7ffc_0000,
            Self::Allow => 0x7fff_0000,
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KillProcess => out.write_str("SCMP_ACT_KILL_PROCESS"),
            Self::KillThread => out.write_str("SCMP_ACT_KILL_THREAD"),
            Self::Trap => out.write_str("SCMP_ACT_TRAP"),
            Self::Errno(number) => write!(out, "SCMP_ACT_ERRNO {number}"),
            Self::Trace(number) => write!(out, "SCMP_ACT_TRACE {number}"),
            Self::Notify => out.write_str("SCMP_ACT_NOTIFY"),
            Self::Log => out.write_str("SCMP_ACT_LOG"),
            Self::Allow => out.write_str("SCMP_ACT_ALLOW"),
        }
    }
}

/// Whether the kernel takes only the lower 32 bits of this argument.
pub(crate) fn is_narrow(call: &str, argument: u8) -> bool {
    NARROW.binary_search_by(|row| row.0.cmp(call)).is_ok_and(|at| NARROW[at].1.contains(&argument))
}

/// The arguments that profiles test and that are `int`, `unsigned int` or cut to 32 bits in the kernel's definition of the
/// call. Only calls of which this is known are here; by name, in byte order.
#[rustfmt::skip]
const NARROW: &[(&str, &[u8])] = &[
    ("accept4", &[0, 3]), ("bpf", &[0, 2]), ("clock_gettime", &[0]), ("clock_settime", &[0]), ("clone", &[0]),
    ("fcntl", &[0, 1]), ("fcntl64", &[0, 1]), ("futex", &[1, 2]), ("getsockopt", &[0, 1, 2]),
    ("io_uring_setup", &[0]), ("ioctl", &[0, 1]), ("keyctl", &[0]), ("kill", &[0, 1]), ("madvise", &[2]),
    ("memfd_create", &[1]), ("mlock2", &[2]), ("mlockall", &[0]), ("msgctl", &[0, 1]), ("open", &[1]),
    ("openat", &[0, 2]), ("perf_event_open", &[1, 2, 3]), ("personality", &[0]), ("pidfd_send_signal", &[0, 1, 3]),
    ("prctl", &[0]), ("prlimit64", &[0, 1]), ("quotactl", &[0]), ("sched_setscheduler", &[0, 1]),
    ("seccomp", &[0, 1]), ("semctl", &[0, 1, 2]), ("semget", &[0, 1, 2]), ("setns", &[0, 1]),
    ("setsockopt", &[0, 1, 2, 4]), ("shmctl", &[0, 1]), ("shmget", &[0, 2]), ("socket", &[0, 1, 2]),
    ("socketcall", &[0]), ("socketpair", &[0, 1, 2]), ("tgkill", &[0, 1, 2]), ("tkill", &[0, 1]), ("umount2", &[1]),
    ("userfaultfd", &[0]),
];

/// What decides one call.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Decision {
    /// Whatever the arguments.
    Always(Action),
    /// The first alternative that holds, or else the action.
    ByArguments(Vec<(Vec<Condition>, Action)>, Action),
}

/// What a rule says about one call: alternatives in their order, and what stands without conditions.
#[derive(Default)]
struct Said {
    alternatives: Vec<(Vec<Condition>, Action)>,
    whatever: Option<Action>,
}

/// Two rules of which one would silently undo the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Conflict<'a> {
    pub(crate) call: &'a str,
    pub(crate) first: Action,
    pub(crate) second: Action,
}

impl<'a> Profile<'a> {
    /// Points 3 to 5 of the meaning, for every call of a listed architecture that is named.
    pub(crate) fn decisions(&self) -> BTreeMap<&'a str, Decision> {
        let decide = |said: Said| match (said.whatever, said.alternatives) {
            (Some(action), _) => Decision::Always(action),
            (None, alternatives) if alternatives.is_empty() => Decision::Always(self.default),
            (None, alternatives) => Decision::ByArguments(alternatives, self.default),
        };
        self.said().into_iter().map(|(call, said)| (call, decide(said))).collect()
    }

    /// The first call about which two rules contradict each other: the same conditions with different actions, or
    /// conditions that could never matter beside a rule without any.
    pub(crate) fn conflict(&self) -> Option<Conflict<'a>> {
        let mut seen: HashMap<(&str, Vec<Condition>), Action> = HashMap::new();
        for (call, rule) in self.by_call() {
            let conditions = rule.conditions.iter().map(|condition| condition.narrowed(call)).collect();
            let first = *seen.entry((call, conditions)).or_insert(rule.action);
            if first != rule.action {
                return Some(Conflict { call, first, second: rule.action });
            }
        }
        self.said().into_iter().find_map(|(call, said)| {
            let first = said.whatever?;
            let other = said.alternatives.iter().find(|(_, action)| *action != first);
            other.map(|(_, second)| Conflict { call, first, second: *second })
        })
    }

    fn said(&self) -> BTreeMap<&'a str, Said> {
        let mut all: BTreeMap<&str, Said> = BTreeMap::new();
        for (call, rule) in self.by_call() {
            let said = all.entry(call).or_default();
            if !rule.conditions.is_empty() {
                let conditions = rule.conditions.iter().map(|condition| condition.narrowed(call)).collect();
                said.alternatives.push((conditions, rule.action));
            } else if rule.action != self.default && said.whatever.is_none() {
                said.whatever = Some(rule.action);
            }
        }
        all
    }

    fn by_call(&self) -> impl Iterator<Item = (&'a str, &Rule<'a>)> {
        self.rules.iter().flat_map(|rule| rule.names.iter().map(move |call| (*call, rule)))
    }
}
