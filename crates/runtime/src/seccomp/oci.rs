//! Reads the `linux.seccomp` section of an OCI configuration into a [`Profile`].
//!
//! Where the specification leaves room, this does what runc does, so that profiles written for it mean the same here:
//! several conditions on *one* argument in a rule are alternatives; calls newer than any the profile names answer
//! `ENOSYS` if the default forbids (programs then fall back instead of failing); the native architecture is always
//! there; unknown names, and architectures that this machine cannot run, are noted and passed over.
//!
//! Stricter in two ways: rules that contradict each other are refused, where one would win silently; and a rule for
//! `socket` or `connect` does not open i386's `socketcall` as well, which no filter can look into.

use oci_spec::runtime::{
    LinuxSeccomp, LinuxSeccompAction as OciAction, LinuxSeccompArg, LinuxSeccompFilterFlag as OciFlag,
    LinuxSeccompOperator as Op, LinuxSyscall,
};
use tare_sys::seccomp::Flags;

use super::arch::Arch;
use super::profile::{Action, Condition, Conflict, ENOSYS, EPERM, Profile, Rule, Test};
use super::{Error, Result, syscalls};

/// Largest error number a system call can answer.
const MAX_ERRNO: u32 = 4095;

/// A profile read, with what there is to say about it.
pub(crate) struct Read<'a> {
    pub(crate) profile: Profile<'a>,
    pub(crate) flags: Flags,
    pub(crate) notes: Vec<String>,
}

/// Reads the section for a machine whose own architecture is `native`.
pub(crate) fn read(spec: &LinuxSeccomp, native: Arch) -> Result<Read<'_>> {
    let default = action(spec.default_action(), spec.default_errno_ret(), "defaultAction")?;
    if default == Action::Notify {
        return Err(Error::NotifyByDefault);
    }
    let mut notes = Vec::new();
    let arches = arches(spec, native, &mut notes);
    let mut rules = Vec::new();
    for rule in spec.syscalls().iter().flatten() {
        read_rule(rule, &mut rules, &mut notes)?;
    }
    let notifies = rules.iter().any(|rule| rule.action == Action::Notify);
    let has_listener = spec.listener_path().as_ref().is_some_and(|path| !path.as_os_str().is_empty());
    if notifies && !has_listener {
        return Err(Error::NoListener);
    }
    if spec.listener_metadata().is_some() && !has_listener {
        return Err(Error::MetadataForNobody);
    }
    let profile = Profile { default, foreign: Action::KillProcess, newer: newer(default), arches, rules };
    if let Some(Conflict { call, first, second }) = profile.conflict() {
        let (call, first, second) = (call.to_owned(), first.to_string(), second.to_string());
        return Err(Error::Conflict { call, first, second });
    }
    let mut flags = flags(spec);
    if !notifies && flags.contains(Flags::WAIT_KILLABLE_RECV) {
        // The kernel refuses the flag without a listener; without one nobody waits.
        flags = flags.without(Flags::WAIT_KILLABLE_RECV);
        notes.push("SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV does nothing without SCMP_ACT_NOTIFY".to_owned());
    }
    Ok(Read { profile, flags, notes })
}

/// The answer to calls that did not exist when the profile was written.
fn newer(default: Action) -> Option<Action> {
    match default {
        Action::Allow | Action::Log | Action::Trace(_) | Action::Errno(ENOSYS) => None,
        _ => Some(Action::Errno(ENOSYS)),
    }
}

fn action(action: OciAction, number: Option<u32>, place: &str) -> Result<Action> {
    let takes_number = matches!(action, OciAction::ScmpActErrno | OciAction::ScmpActTrace);
    if let Some(number) = number.filter(|_| !takes_number) {
        return Err(Error::NumberNotTaken { place: place.to_owned(), action: format!("{action:?}"), number });
    }
    let number = number.unwrap_or(u32::from(EPERM));
    let short = u16::try_from(number).map_err(|_| Error::NumberTooLarge { place: place.to_owned(), number });
    Ok(match action {
        OciAction::ScmpActKill | OciAction::ScmpActKillThread => Action::KillThread,
        OciAction::ScmpActKillProcess => Action::KillProcess,
        OciAction::ScmpActTrap => Action::Trap,
        OciAction::ScmpActErrno if number > MAX_ERRNO => {
            return Err(Error::NumberTooLarge { place: place.to_owned(), number });
        }
        OciAction::ScmpActErrno => Action::Errno(short?),
        OciAction::ScmpActTrace => Action::Trace(short?),
        OciAction::ScmpActNotify => Action::Notify,
        OciAction::ScmpActLog => Action::Log,
        OciAction::ScmpActAllow => Action::Allow,
    })
}

/// The architectures this filter is for, the native one first.
fn arches(spec: &LinuxSeccomp, native: Arch, notes: &mut Vec<String>) -> Vec<Arch> {
    let mut arches = vec![native];
    for named in spec.architectures().iter().flatten() {
        match Arch::from_oci(*named, native) {
            Some(arch) if arches.contains(&arch) => {}
            Some(arch) if native.family().contains(&arch) => arches.push(arch),
            _ => notes
                .push(format!("architecture {named:?} cannot run on this machine; its rules are left out")),
        }
    }
    arches
}

fn flags(spec: &LinuxSeccomp) -> Flags {
    let Some(named) = spec.flags() else {
        return Flags::SPEC_ALLOW; // as runc: the mitigation costs much and browsers are not what runs here
    };
    named.iter().fold(Flags::NONE, |flags, flag| {
        flags
            | match flag {
                OciFlag::SeccompFilterFlagLog => Flags::LOG,
                OciFlag::SeccompFilterFlagTsync => Flags::TSYNC,
                OciFlag::SeccompFilterFlagSpecAllow => Flags::SPEC_ALLOW,
                OciFlag::SeccompFilterFlagWaitKillableRecv => Flags::WAIT_KILLABLE_RECV,
            }
    })
}

fn read_rule<'a>(rule: &'a LinuxSyscall, rules: &mut Vec<Rule<'a>>, notes: &mut Vec<String>) -> Result<()> {
    let place = rule.names().first().map(String::as_str).ok_or(Error::NoNames)?;
    let action = action(rule.action(), rule.errno_ret(), place)?;
    let names = rule.names().iter().map(|name| syscalls::canonical(name));
    let (mut names, unknown): (Vec<&str>, Vec<&str>) = names.partition(|name| syscalls::is_known(name));
    names.sort_unstable();
    names.dedup();
    notes
        .extend(unknown.iter().map(|name| format!("unknown system call {name:?} is left out of the filter")));
    let conditions =
        rule.args().iter().flatten().map(|arg| condition(arg, place)).collect::<Result<Vec<Condition>>>()?;
    let mut alternatives = vec![conditions];
    if repeats_an_argument(&alternatives[0]) {
        alternatives = alternatives.remove(0).into_iter().map(|one| vec![one]).collect();
    }
    for conditions in alternatives {
        rules.push(Rule { names: names.clone(), conditions, action });
    }
    Ok(())
}

fn repeats_an_argument(conditions: &[Condition]) -> bool {
    conditions
        .iter()
        .enumerate()
        .any(|(at, one)| conditions[..at].iter().any(|other| other.argument == one.argument))
}

fn condition(arg: &LinuxSeccompArg, place: &str) -> Result<Condition> {
    let argument = u8::try_from(arg.index()).ok().filter(|index| *index < 6);
    let argument =
        argument.ok_or_else(|| Error::NoSuchArgument { call: place.to_owned(), index: arg.index() })?;
    let value = arg.value();
    let test = match arg.op() {
        Op::ScmpCmpNe => Test::NotEqual(value),
        Op::ScmpCmpLt => Test::Less(value),
        Op::ScmpCmpLe => Test::LessOrEqual(value),
        Op::ScmpCmpEq => Test::Equal(value),
        Op::ScmpCmpGe => Test::GreaterOrEqual(value),
        Op::ScmpCmpGt => Test::Greater(value),
        Op::ScmpCmpMaskedEq => Test::Masked { mask: value, value: arg.value_two().unwrap_or(0) },
    };
    Ok(Condition::new(argument, test))
}
