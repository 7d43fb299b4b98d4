//! Profiles and calls made of arbitrary bytes: the compiled filter must do what the profile means.

use super::arch::Arch;
use super::interpreter::{Call, run};
use super::meaning::meaning;
use super::profile::{Action, Condition, Profile, Rule, Test};
use super::{codegen, syscalls};

/// Calls that profiles name: common, with odd numbers, of one architecture only, with short arguments.
const NAMES: [&str; 16] = [
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
    "lseek",
    "execve",
    "set_tls",
    "kill",
    "riscv_hwprobe",
];

/// Compiles the profile that these bytes spell and makes the calls that the rest of them spell.
///
/// # Panics
/// If the program does anything but what the profile means.
pub(crate) fn differ(bytes: &[u8]) {
    let mut bytes = Bytes(bytes);
    let profile = profile(&mut bytes);
    let Ok(program) = codegen::generate(&profile) else { return };
    while !bytes.0.is_empty() {
        let call = call(&mut bytes);
        assert_eq!(run(&program, call), meaning(&profile, call).code(), "{call:?} under {profile:?}");
    }
}

/// Bytes that are used up; zeros when they are.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[usize::from(self.byte()) % from.len()]
    }

    fn long(&mut self) -> u64 {
        (0..8).fold(0, |number, _| number << 8 | u64::from(self.byte()))
    }

    /// Near the borders where comparisons go wrong.
    fn value(&mut self) -> u64 {
        let low = self.pick(&[0, 1, 2, 40, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 0x7e02_0000]);
        match self.byte() % 5 {
            0 => low,
            1 => low | 1 << 32,
            2 => low | 0xffff_ffff << 32,
            3 => low.wrapping_neg(),
            _ => self.long(),
        }
    }
}

fn profile(bytes: &mut Bytes<'_>) -> Profile<'static> {
    let native = bytes.pick(&[Arch::X86_64, Arch::Aarch64, Arch::Riscv64]);
    let others = bytes.byte();
    let family = native.family().iter().enumerate();
    let arches = family.filter(|(at, _)| *at == 0 || others >> at & 1 == 1).map(|(_, arch)| *arch).collect();
    let newer = (bytes.byte() & 1 == 1).then(|| action(bytes));
    let (default, foreign) = (action(bytes), action(bytes));
    let rules = (0..bytes.byte() % 16).map(|_| rule(bytes)).collect();
    Profile { default, foreign, newer, arches, rules }
}

fn rule(bytes: &mut Bytes<'_>) -> Rule<'static> {
    let names = (0..=bytes.byte() % 3).map(|_| bytes.pick(&NAMES)).collect();
    let conditions = (0..bytes.byte() % 4).map(|_| Condition::new(bytes.byte() % 6, test(bytes))).collect();
    Rule { names, conditions, action: action(bytes) }
}

fn test(bytes: &mut Bytes<'_>) -> Test {
    let (kind, value) = (bytes.byte() % 7, bytes.value());
    match kind {
        0 => Test::Equal(value),
        1 => Test::NotEqual(value),
        2 => Test::Less(value),
        3 => Test::LessOrEqual(value),
        4 => Test::Greater(value),
        5 => Test::GreaterOrEqual(value),
        _ => Test::Masked { mask: bytes.value(), value },
    }
}

fn action(bytes: &mut Bytes<'_>) -> Action {
    let number = u16::from(bytes.byte());
    match bytes.byte() % 8 {
        0 => Action::Allow,
        1 => Action::Log,
        2 => Action::KillThread,
        3 => Action::KillProcess,
        4 => Action::Trap,
        5 => Action::Notify,
        6 => Action::Errno(number),
        _ => Action::Trace(number),
    }
}

fn call(bytes: &mut Bytes<'_>) -> Call {
    let arch = bytes.pick(&Arch::ALL);
    let named = syscalls::number(arch, bytes.pick(&NAMES));
    let nr = match (bytes.byte() % 4, named) {
        (0, _) | (_, None) => bytes.long() as u32,
        (1, Some(number)) => number.wrapping_add(1),
        (_, Some(number)) => number,
    };
    Call { nr, arch: arch.token(), args: std::array::from_fn(|_| bytes.value()) }
}
