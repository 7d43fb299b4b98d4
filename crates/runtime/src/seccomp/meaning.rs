//! A direct reading of the statement in `profile.rs`: slow, short, and nothing like the compiler. For tests and fuzzing.

use super::arch::Arch;
use super::interpreter::Call;
use super::profile::{Action, Condition, Profile, Rule, Test, is_narrow};
use super::syscalls::{self, X32_BIT};

/// What the profile means for this call, read straight from the statement in `profile.rs`.
pub(crate) fn meaning(profile: &Profile<'_>, call: Call) -> Action {
    let Some(arch) = arch_of(profile, call) else { return profile.foreign };
    if call.nr == u32::MAX {
        return profile.default;
    }
    let named = profile.rules.iter().flat_map(|rule| rule.names.iter().copied());
    let numbers: Vec<(u32, &str)> =
        named.filter_map(|name| Some((syscalls::number(arch, name)?, name))).collect();
    let Some((_, name)) = numbers.iter().find(|(number, _)| *number == call.nr) else {
        let newest = numbers.iter().map(|(number, _)| *number).max();
        let is_newer = newest.is_some_and(|newest| call.nr > newest);
        return profile.newer.filter(|_| is_newer).unwrap_or(profile.default);
    };
    let naming: Vec<&Rule<'_>> = profile.rules.iter().filter(|rule| rule.names.contains(name)).collect();
    let unconditional =
        naming.iter().find(|rule| rule.conditions.is_empty() && rule.action != profile.default);
    let holding = naming.iter().find(|rule| {
        !rule.conditions.is_empty() && rule.conditions.iter().all(|test| holds(name, *test, call))
    });
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
    // What a profile writes as a negative 64-bit number, an `int` in the kernel has as 32 bits.
    let is_narrow = is_narrow(name, condition.argument);
    let int = |value: u64| {
        let is_negative = is_narrow && i64::from(value as i32) == value as i64;
        if is_negative { u64::from(value as u32) } else { value }
    };
    if is_narrow {
        given = u64::from(given as u32);
    }
    match condition.test {
        Test::Equal(value) => given == int(value),
        Test::NotEqual(value) => given != int(value),
        Test::Less(value) => given < int(value),
        Test::LessOrEqual(value) => given <= int(value),
        Test::Greater(value) => given > int(value),
        Test::GreaterOrEqual(value) => given >= int(value),
        Test::Masked { mask, value } => given & mask == int(value),
    }
}
