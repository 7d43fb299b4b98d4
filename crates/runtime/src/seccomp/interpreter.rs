//! Runs a filter as the kernel would, for tests; refuses whatever the kernel's checker refuses.

use tare_sys::seccomp::Instruction;

use super::assembler::{AND, JUMP, JUMP_EQUAL, JUMP_GREATER, JUMP_GREATER_OR_EQUAL, LOAD, RETURN};

/// The kernel's `seccomp_data`.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Call {
    pub(crate) nr: u32,
    pub(crate) arch: u32,
    pub(crate) args: [u64; 6],
}

impl Call {
    fn word(&self, offset: u32) -> u32 {
        match offset {
            0 => self.nr,
            4 => self.arch,
            16..=60 if offset.is_multiple_of(4) => {
                let argument = self.args[(offset as usize - 16) / 8];
                if offset.is_multiple_of(8) { argument as u32 } else { (argument >> 32) as u32 }
            }
            _ => panic!("no word of an argument at offset {offset}"),
        }
    }
}

/// What the program returns for this call.
pub(crate) fn run(program: &[Instruction], call: Call) -> u32 {
    steps(program, call).0
}

/// What the program returns, and after how many instructions.
pub(crate) fn steps(program: &[Instruction], call: Call) -> (u32, usize) {
    assert!(program.len() <= tare_sys::seccomp::MAX_INSTRUCTIONS, "{} instructions", program.len());
    let (mut at, mut accumulator, mut count) = (0, 0u32, 0);
    loop {
        let Instruction { code, jt, jf, k } = program[at];
        at += 1;
        count += 1;
        let condition = match code {
            LOAD => {
                accumulator = call.word(k);
                continue;
            }
            AND => {
                accumulator &= k;
                continue;
            }
            JUMP => {
                at += k as usize;
                continue;
            }
            RETURN => return (k, count),
            JUMP_EQUAL => accumulator == k,
            JUMP_GREATER => accumulator > k,
            JUMP_GREATER_OR_EQUAL => accumulator >= k,
            other => panic!("instruction {other:#x} is not one of ours"),
        };
        at += usize::from(if condition { jt } else { jf });
    }
}
