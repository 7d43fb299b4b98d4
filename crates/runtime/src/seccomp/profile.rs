//! What a filter means, before it becomes instructions: rules by name, conditions on arguments, actions.
//!
//! Meaning of a profile, in the order in which it is decided (the tests hold the compiled program to exactly this):
//!
//! 1. A call of an architecture that is not listed gets [`Profile::foreign`].
//!    (Number -1 is no call of any architecture and goes to point 5.)
//! 2. A call that is newer than every call the profile names gets [`Profile::newer`], if that is set.
//! 3. Of the rules that name the call, the first *without* conditions decides, wherever it stands: it was written for
//!    every use of the call.
//! 4. Otherwise the first rule all of whose conditions hold decides.
//! 5. Otherwise [`Profile::default`].
//!
//! Conditions compare the full 64-bit argument, except where the kernel itself takes only 32 bits ([`is_narrow`]):
//! there the upper half is ignored, as the kernel ignores it. A rule "family is not 40" otherwise lets
//! `40 + 2^32` through, which the kernel takes for 40.

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
    /// A comparison of a full argument; [`Profile::decision`] narrows it where the kernel does.
    pub(crate) fn new(argument: u8, test: Test) -> Self {
        Self { argument, narrow: false, test }
    }

    fn narrowed(self, call: &str) -> Self {
        Self { narrow: is_narrow(call, self.argument), ..self }
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

/// Whether the kernel takes only the lower 32 bits of this argument (an `int` or `unsigned int` in its definition).
pub(crate) fn is_narrow(call: &str, argument: u8) -> bool {
    match call {
        "socket" | "socketpair" => argument <= 2,
        "personality" | "prctl" | "clone" | "seccomp" | "bpf" | "keyctl" | "quotactl" | "socketcall" => {
            argument == 0
        }
        "ioctl" | "fcntl" | "setns" | "futex" | "kill" => argument == 1,
        _ => false,
    }
}

/// What decides one call.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Decision {
    /// Whatever the arguments.
    Always(Action),
    /// The first alternative that holds, or else the action.
    ByArguments(Vec<(Vec<Condition>, Action)>, Action),
}

impl Profile<'_> {
    /// Points 3 to 5 of the meaning, for one call of a listed architecture.
    pub(crate) fn decision(&self, call: &str) -> Decision {
        let mut alternatives = Vec::new();
        for rule in self.rules.iter().filter(|rule| rule.names.contains(&call)) {
            if rule.conditions.is_empty() {
                return Decision::Always(rule.action);
            }
            let conditions = rule.conditions.iter().map(|condition| condition.narrowed(call)).collect();
            alternatives.push((conditions, rule.action));
        }
        if alternatives.is_empty() {
            return Decision::Always(self.default);
        }
        Decision::ByArguments(alternatives, self.default)
    }

    /// Every name in any rule, once.
    pub(crate) fn named(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.rules.iter().flat_map(|rule| rule.names.iter().copied()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}
