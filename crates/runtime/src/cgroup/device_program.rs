//! The v2 form of [`Rules`]: an eBPF program that the kernel asks at each open and mknod of a device.
//!
//! ```text
//!   r2 = block or char    r3 = letters still undecided    r4 = major    r5 = minor
//!   for each rule, last first:  if it is about this device
//!       allow: r3 loses the rule's letters; none left: return 1
//!       deny:  any of the rule's letters in r3: return 0
//!   at the end: return the general line
//! ```
//!
//! Deciding letter by letter from the last rule on is exactly the stated meaning; the tests run the program against it.

use tare_sys::bpf::Instruction;

use super::devices::{Access, Kind, Rule, Rules};

const LOAD_WORD: u8 = 0x61; // BPF_LDX | BPF_MEM | BPF_W
const MOVE: u8 = 0xb7; // BPF_ALU64 | BPF_MOV | BPF_K
const MOVE_REGISTER: u8 = 0xbf; // BPF_ALU64 | BPF_MOV | BPF_X
const AND: u8 = 0x57; // BPF_ALU64 | BPF_AND | BPF_K
const SHIFT_RIGHT: u8 = 0x77; // BPF_ALU64 | BPF_RSH | BPF_K
const IF_NOT_EQUAL_32: u8 = 0x56; // BPF_JMP32 | BPF_JNE | BPF_K: numbers are 32 bits and must not be sign-extended
const IF_NONE_OF: u8 = 0x45; // BPF_JMP | BPF_JSET | BPF_K (jumps if any bit is set)
const EXIT: u8 = 0x95; // BPF_JMP | BPF_EXIT

const ANSWER: u8 = 0;
const CONTEXT: u8 = 1;
const KIND: u8 = 2;
const LETTERS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

/// `BPF_DEVCG_DEV_BLOCK` and `_CHAR`.
fn kind_code(kind: Kind) -> i32 {
    match kind {
        Kind::Block => 1,
        Kind::Char => 2,
    }
}

/// Compiles rules. At most eight instructions each.
pub(crate) fn compile(rules: &Rules) -> Vec<Instruction> {
    let mut program = vec![
        load(KIND, 0), // struct bpf_cgroup_dev_ctx: letters << 16 | kind, major, minor
        Instruction::new(MOVE_REGISTER, LETTERS, KIND, 0, 0),
        Instruction::new(SHIFT_RIGHT, LETTERS, 0, 0, 16),
        Instruction::new(AND, KIND, 0, 0, 0xffff),
        load(MAJOR, 4),
        load(MINOR, 8),
    ];
    for rule in rules.rules.iter().rev() {
        program.extend(one(rule));
    }
    program.extend(answer(i32::from(rules.allow_all)));
    program
}

fn one(rule: &Rule) -> Vec<Instruction> {
    let mut tests = vec![(KIND, kind_code(rule.kind))];
    tests.extend(rule.major.map(|number| (MAJOR, number.cast_signed())));
    tests.extend(rule.minor.map(|number| (MINOR, number.cast_signed())));
    let effect = effect(rule);
    let count = tests.len();
    let mut code: Vec<Instruction> = tests
        .into_iter()
        .enumerate()
        .map(|(at, (register, value))| {
            let over = (count - at - 1 + effect.len()) as i16; // at most 2 + 5
            Instruction::new(IF_NOT_EQUAL_32, register, 0, over, value)
        })
        .collect();
    code.extend(effect);
    code
}

fn effect(rule: &Rule) -> Vec<Instruction> {
    let letters = i32::from(rule.access.0);
    let over_answer = 2;
    if rule.allow {
        let rest = i32::from(Access::ALL.0) & !letters;
        let mut code = vec![
            Instruction::new(AND, LETTERS, 0, 0, rest),
            Instruction::new(IF_NONE_OF, LETTERS, 0, over_answer, i32::from(Access::ALL.0)),
        ];
        code.extend(answer(1));
        return code;
    }
    // There is no "if none": jump to the answer, or over it.
    let mut code = vec![
        Instruction::new(IF_NONE_OF, LETTERS, 0, 1, letters),
        Instruction::new(0x05, 0, 0, over_answer, 0), // BPF_JA
    ];
    code.extend(answer(0));
    code
}

fn answer(value: i32) -> [Instruction; 2] {
    [Instruction::new(MOVE, ANSWER, 0, 0, value), Instruction::new(EXIT, 0, 0, 0, 0)]
}

fn load(register: u8, offset: i16) -> Instruction {
    Instruction::new(LOAD_WORD, register, CONTEXT, offset, 0)
}

#[cfg(test)]
mod tests {
    use super::super::devices::meaning;
    use super::*;
    use proptest::prelude::*;

    /// Runs the program as the kernel would.
    fn run(program: &[Instruction], kind: Kind, major: u32, minor: u32, access: Access) -> bool {
        let context = [u32::from(access.0) << 16 | kind_code(kind) as u32, major, minor];
        let mut registers = [0u64; 11];
        let mut at = 0usize;
        loop {
            let Instruction { code, registers: packed, offset, immediate } = program[at];
            let (to, from) = (usize::from(packed & 15), usize::from(packed >> 4));
            at += 1;
            let jump = match code {
                LOAD_WORD => {
                    registers[to] = u64::from(context[offset as usize / 4]);
                    false
                }
                MOVE => {
                    registers[to] = immediate as u64;
                    false
                }
                MOVE_REGISTER => {
                    registers[to] = registers[from];
                    false
                }
                AND => {
                    registers[to] &= immediate as u64;
                    false
                }
                SHIFT_RIGHT => {
                    registers[to] >>= immediate;
                    false
                }
                IF_NOT_EQUAL_32 => registers[to] as u32 != immediate as u32,
                IF_NONE_OF => registers[to] & immediate as u64 != 0,
                0x05 => true,
                EXIT => return registers[0] != 0,
                other => panic!("instruction {other:#x} is not one of ours"),
            };
            if jump {
                at += usize::try_from(offset).unwrap();
            }
        }
    }

    fn rules() -> impl Strategy<Value = Rules> {
        let number = || prop::option::of(prop_oneof![Just(0u32), Just(1), Just(3), Just(u32::MAX)]);
        let kind = prop_oneof![Just(Kind::Block), Just(Kind::Char)];
        let rule = (any::<bool>(), kind, number(), number(), 1u8..8).prop_map(
            |(allow, kind, major, minor, letters)| Rule {
                allow,
                kind,
                major,
                minor,
                access: Access(letters),
            },
        );
        (any::<bool>(), prop::collection::vec(rule, 0..8))
            .prop_map(|(allow_all, rules)| Rules { allow_all, rules })
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_program_answers_what_the_rules_mean(rules in rules()) {
            let program = compile(&rules);
            for kind in [Kind::Block, Kind::Char] {
                for major in [0, 1, 3, u32::MAX] {
                    for minor in [0, 1, 3, u32::MAX] {
                        for letters in 1..8 {
                            let access = Access(letters);
                            let wanted = meaning(&rules, kind, major, minor, access);
                            prop_assert_eq!(run(&program, kind, major, minor, access), wanted, "{:?} {}:{} {}", kind, major, minor, letters);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn the_usual_devices_work_and_disks_do_not() {
        let program = compile(&Rules::read(&[]).unwrap());
        assert!(run(&program, Kind::Char, 1, 3, Access::ALL));
        assert!(run(&program, Kind::Char, 136, 77, Access::READ));
        assert!(run(&program, Kind::Block, 8, 0, Access::MKNOD));
        assert!(!run(&program, Kind::Block, 8, 0, Access::READ));
        assert!(!run(&program, Kind::Block, 7, 0, Access::ALL));
        assert!(!run(&program, Kind::Char, 10, 229, Access::READ));
    }
}
