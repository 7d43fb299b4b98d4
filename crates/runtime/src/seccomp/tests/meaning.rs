//! Random profiles and calls hold the compiler to the direct reading of the statement in `profile.rs`.

use proptest::prelude::*;

use super::super::arch::Arch;
use super::super::codegen;
use super::super::interpreter::{Call, run};
use super::super::meaning::meaning;
use super::super::profile::{Action, Condition, Profile, Rule, Test};
use super::super::syscalls::{self, X32_BIT};

const HIGH: u64 = 1 << 32;

// === generators ===

/// Values near one another, so that comparisons are decided by every half and bit.
fn value() -> impl Strategy<Value = u64> {
    let small = prop_oneof![Just(0u64), Just(1), Just(40), Just(0x7e02_0000), Just(0xffff_ffff), 0u64..64];
    (small.clone(), small, 0u64..4).prop_map(|(low, high, style)| match style {
        0 => low,
        1 => low | HIGH,
        2 => low.wrapping_neg(),
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

/// A machine's own architecture and some of the others that it runs.
fn arches() -> impl Strategy<Value = Vec<Arch>> {
    prop::sample::select(&[Arch::X86_64, Arch::X86_64, Arch::Aarch64, Arch::Riscv64][..]).prop_flat_map(
        |native| {
            let others = native.family()[1..].to_vec();
            let count = others.len();
            prop::sample::subsequence(others, 0..=count)
                .prop_map(move |others| [vec![native], others].concat())
        },
    )
}

fn profile() -> impl Strategy<Value = Profile<'static>> {
    (action(), action(), prop::option::of(action()), arches(), prop::collection::vec(rule(), 0..12)).prop_map(
        |(default, foreign, newer, arches, rules)| Profile { default, foreign, newer, arches, rules },
    )
}

fn call() -> impl Strategy<Value = Call> {
    let named = (prop::sample::select(NAMES), prop::sample::select(&Arch::ALL[..]))
        .prop_map(|(name, arch)| (syscalls::number(arch, name).unwrap_or(0), arch.token()));
    let odd = (
        prop_oneof![any::<u32>(), 0u32..600, Just(u32::MAX), Just(X32_BIT), X32_BIT..X32_BIT + 600],
        prop::sample::select(Arch::ALL.map(Arch::token).into_iter().chain([0x28]).collect::<Vec<_>>()),
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
