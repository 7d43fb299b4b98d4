//! Classic BPF written backwards: the last instruction first.
//!
//! A conditional jump reaches only 255 instructions ahead, and only forward. Written from the end, the target of every
//! jump is already in place, its distance known, and a target that is too far away is brought near by one more
//! instruction (a copy of a return, or a plain jump) right where it is needed. No labels, no second pass.

use std::collections::HashMap;

use tare_sys::seccomp::Instruction;

/// An instruction already written; jumps go to these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place(usize);

/// How the accumulator is compared with a constant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compare {
    Equal,
    GreaterOrEqual,
    Greater,
}

pub(crate) const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
pub(crate) const AND: u16 = 0x54; // BPF_ALU | BPF_AND | BPF_K
pub(crate) const JUMP: u16 = 0x05; // BPF_JMP | BPF_JA
pub(crate) const JUMP_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
pub(crate) const JUMP_GREATER: u16 = 0x25; // BPF_JMP | BPF_JGT | BPF_K
pub(crate) const JUMP_GREATER_OR_EQUAL: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
pub(crate) const RETURN: u16 = 0x06; // BPF_RET | BPF_K

/// How far a conditional jump reaches.
const REACH: usize = 255;

/// A program being written from its end.
#[derive(Debug, Default)]
pub(crate) struct Assembler {
    /// Last instruction first.
    backwards: Vec<Instruction>,
    returns: HashMap<u32, Place>,
}

impl Assembler {
    /// Ends the program with this value; one copy serves every use until it is out of reach.
    pub(crate) fn ret(&mut self, value: u32) -> Place {
        if let Some(place) = self.returns.get(&value).copied().filter(|place| self.distance(*place) < REACH) {
            return place;
        }
        let place = self.push(RETURN, 0, 0, value);
        self.returns.insert(value, place);
        place
    }

    /// Loads a word of `seccomp_data` into the accumulator and goes on at `next`.
    pub(crate) fn load(&mut self, offset: u32, next: Place) -> Place {
        self.adjoin(next);
        self.push(LOAD, 0, 0, offset)
    }

    /// Masks the accumulator and goes on at `next`.
    pub(crate) fn and(&mut self, mask: u32, next: Place) -> Place {
        self.adjoin(next);
        self.push(AND, 0, 0, mask)
    }

    /// Goes to `yes` or `no`.
    pub(crate) fn branch(&mut self, compare: Compare, k: u32, yes: Place, no: Place) -> Place {
        if yes == no {
            return yes;
        }
        let (mut yes, mut no) = (yes, no);
        // Bringing one near puts an instruction between us and the other, so both are looked at again.
        while self.distance(yes) > REACH || self.distance(no) > REACH {
            if self.distance(yes) > REACH {
                yes = self.near(yes);
            } else {
                no = self.near(no);
            }
        }
        let code = match compare {
            Compare::Equal => JUMP_EQUAL,
            Compare::GreaterOrEqual => JUMP_GREATER_OR_EQUAL,
            Compare::Greater => JUMP_GREATER,
        };
        let (jt, jf) = (self.distance(yes) as u8, self.distance(no) as u8);
        self.push(code, jt, jf, k)
    }

    /// The program, first instruction first, entered at `start`.
    pub(crate) fn finish(mut self, start: Place) -> Vec<Instruction> {
        self.adjoin(start);
        self.backwards.reverse();
        self.backwards
    }

    /// How many instructions lie between the next one to be written and `place`.
    fn distance(&self, place: Place) -> usize {
        self.backwards.len() - place.0 - 1
    }

    /// Makes the next instruction fall through to `place`.
    fn adjoin(&mut self, place: Place) {
        if self.distance(place) > 0 {
            self.near(place);
        }
    }

    /// A copy of `place`, or a jump to it, as the latest instruction.
    fn near(&mut self, place: Place) -> Place {
        let there = self.backwards[place.0];
        if there.code == RETURN {
            let copy = self.push(RETURN, 0, 0, there.k);
            self.returns.insert(there.k, copy);
            return copy;
        }
        let far = u32::try_from(self.distance(place)).unwrap_or(u32::MAX);
        self.push(JUMP, 0, 0, far)
    }

    fn push(&mut self, code: u16, jt: u8, jf: u8, k: u32) -> Place {
        self.backwards.push(Instruction { code, jt, jf, k });
        Place(self.backwards.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::super::interpreter::{Call, run};
    use super::*;

    #[test]
    fn a_branch_falls_through_to_what_was_written_last() {
        let mut program = Assembler::default();
        let no = program.ret(2);
        let yes = program.ret(1);
        let start = program.branch(Compare::Equal, 7, yes, no);
        let start = program.load(0, start);
        let code = program.finish(start);
        assert_eq!(code.len(), 4);
        assert_eq!(run(&code, Call { nr: 7, ..Call::default() }), 1);
        assert_eq!(run(&code, Call { nr: 8, ..Call::default() }), 2);
    }

    #[test]
    fn targets_beyond_the_reach_of_a_conditional_jump_are_still_reached() {
        let mut program = Assembler::default();
        let far = program.ret(1);
        let inner = program.load(4, far); // not a return: needs a real jump
        let mut chain = program.ret(2);
        for k in 0..2000 {
            let target = if k % 2 == 0 { inner } else { far };
            chain = program.branch(Compare::Equal, 10 + k, target, chain);
        }
        let start = program.load(0, chain);
        let code = program.finish(start);
        for nr in 10..2010 {
            assert_eq!(run(&code, Call { nr, ..Call::default() }), 1, "{nr}");
        }
        assert_eq!(run(&code, Call { nr: 9, ..Call::default() }), 2);
        assert_eq!(run(&code, Call { nr: 2010, ..Call::default() }), 2);
    }

    #[test]
    fn a_branch_with_one_outcome_is_no_branch() {
        let mut program = Assembler::default();
        let only = program.ret(1);
        assert_eq!(program.branch(Compare::Equal, 7, only, only), only);
    }
}
