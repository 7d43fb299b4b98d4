//! A direct reading of the statement in `profile.rs`, and random profiles and calls that hold the compiler to it.

use proptest::prelude::*;

use super::super::arch::Arch;
use super::super::codegen;
use super::super::interpreter::{Call, run};
use super::super::profile::{Action, Condition, Profile, Rule, Test, is_narrow};
use super::super::syscalls::{self, X32_BIT};

const HIGH: u64 = 1 << 32;

// === a direct reading of the meaning ===

/// What the profile means for this call, read straight from the statement in `profile.rs`.
fn meaning(profile: &Profile<'_>, call: Call) -> Action {
    let Some(arch) = arch_of(profile, call) else { return profile.foreign };
    if call.nr == u32::MAX {
        return profile.default;
    }
    let numbers: Vec<(u32, &str)> =
        profile.named().into_iter().filter_map(|name| Some((syscalls::number(arch, name)?, name))).collect();
    let Some((_, name)) = numbers.iter().find(|(number, _)| *number == call.nr) else {
        let newest = numbers.iter().map(|(number, _)| *number).max();
        let is_newer = newest.is_some_and(|newest| call.nr > newest);
        return profile.newer.filter(|_| is_newer).unwrap_or(profile.default);
    };
    let naming: Vec<&Rule<'_>> = profile.rules.iter().filter(|rule| rule.names.contains(name)).collect();
    let unconditional = naming.iter().find(|rule| rule.conditions.is_empty());
    let holding = naming.iter().find(|rule| rule.conditions.iter().all(|test| holds(name, *test, call)));
    unconditional.or(holding).map_or(profile.default, |rule| rule.action)
}

/// The listed architecture that the call is of.
fn arch_of(profile: &Profile<'_>, call: Call) -> Option<Arch> {
    let is_x32 = call.nr >= X32_BIT && call.nr != u32::MAX;
    let fits = |arch: &Arch| match arch {
        Arch::X86_64 => !is_x32,
        Arch::X32 => is_x32,
        _ => true,
    };
    profile.arches.iter().copied().find(|arch| arch.token() == call.arch && fits(arch))
}

fn holds(name: &str, condition: Condition, call: Call) -> bool {
    let mut given = call.args[usize::from(condition.argument)];
    if is_narrow(name, condition.argument) {
        given &= 0xffff_ffff;
    }
    match condition.test {
        Test::Equal(value) => given == value,
        Test::NotEqual(value) => given != value,
        Test::Less(value) => given < value,
        Test::LessOrEqual(value) => given <= value,
        Test::Greater(value) => given > value,
        Test::GreaterOrEqual(value) => given >= value,
        Test::Masked { mask, value } => given & mask == value,
    }
}

// === generators ===

/// Values near one another, so that comparisons are decided by every half and bit.
fn value() -> impl Strategy<Value = u64> {
    let small = prop_oneof![Just(0u64), Just(1), Just(40), Just(0x7e02_0000), Just(0xffff_ffff), 0u64..64];
    (small.clone(), small, 0u64..3).prop_map(|(low, high, style)| match style {
        0 => low,
        1 => low | HIGH,
        _ => low | high << 32,
    })
}

fn test() -> impl Strategy<Value = Test> {
    prop_oneof![
        value().prop_map(Test::Equal),
        value().prop_map(Test::NotEqual),
        value().prop_map(Test::Less),
        value().prop_map(Test::LessOrEqual),
        value().prop_map(Test::Greater),
        value().prop_map(Test::GreaterOrEqual),
        (value(), value()).prop_map(|(mask, value)| Test::Masked { mask, value }),
    ]
}

const NAMES: &[&str] = &[
    "read",
    "write",
    "open",
    "openat",
    "socket",
    "clone",
    "ioctl",
    "personality",
    "socketcall",
    "mseal",
    "futex",
];

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        Just(Action::Allow),
        Just(Action::Log),
        Just(Action::KillThread),
        Just(Action::KillProcess),
        Just(Action::Trap),
        Just(Action::Notify),
        (0u16..4096).prop_map(Action::Errno),
        any::<u16>().prop_map(Action::Trace),
    ]
}

fn rule() -> impl Strategy<Value = Rule<'static>> {
    let names = prop::collection::vec(prop::sample::select(NAMES), 1..4);
    let condition = (0u8..6, test()).prop_map(|(argument, test)| Condition::new(argument, test));
    (names, prop::collection::vec(condition, 0..4), action()).prop_map(|(names, conditions, action)| Rule {
        names,
        conditions,
        action,
    })
}

fn arches() -> impl Strategy<Value = Vec<Arch>> {
    let further = prop::sample::subsequence(vec![Arch::I386, Arch::X32], 0..=2);
    further.prop_map(|further| [vec![Arch::X86_64], further].concat())
}

fn profile() -> impl Strategy<Value = Profile<'static>> {
    (action(), action(), prop::option::of(action()), arches(), prop::collection::vec(rule(), 0..12)).prop_map(
        |(default, foreign, newer, arches, rules)| Profile { default, foreign, newer, arches, rules },
    )
}

fn call() -> impl Strategy<Value = Call> {
    let named =
        (prop::sample::select(NAMES), prop::sample::select(&[Arch::X86_64, Arch::I386, Arch::X32][..]))
            .prop_map(|(name, arch)| (syscalls::number(arch, name).unwrap_or(0), arch.token()));
    let odd = (
        prop_oneof![any::<u32>(), 0u32..600, Just(u32::MAX), Just(X32_BIT), X32_BIT..X32_BIT + 600],
        prop::sample::select(vec![Arch::X86_64.token(), Arch::I386.token(), Arch::Aarch64.token(), 0x28]),
    );
    (prop_oneof![4 => named, 1 => odd], prop::array::uniform6(value())).prop_map(|((nr, arch), args)| Call {
        nr,
        arch,
        args,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn the_program_does_what_the_profile_means(profile in profile(), calls in prop::collection::vec(call(), 60)) {
        let program = codegen::generate(&profile).unwrap();
        for call in calls {
            prop_assert_eq!(run(&program, call), meaning(&profile, call).code(), "{:?}", call);
        }
    }
}
