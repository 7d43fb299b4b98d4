//! From the meaning of a profile to instructions.
//!
//! ```text
//!   load arch ─▶ one section per architecture token, or the foreign action
//!   section:     load nr ─▶ balanced tree over ranges of numbers ─▶ return | chain of argument tests
//! ```
//!
//! Neighbouring numbers with the same outcome are one range, so an allow-list of three hundred calls is a few
//! dozen ranges: seven comparisons or so, under a hundred instructions in all. Where the outcome does not depend on arguments the path uses only instructions that
//! the kernel can evaluate when the filter is loaded; it then keeps a bitmap of what is always allowed, and those calls
//! do not run the filter at all.

use std::collections::{BTreeMap, HashMap};

use tare_sys::seccomp::{Instruction, MAX_INSTRUCTIONS};

use super::arch::Arch;
use super::assembler::{Assembler, Compare, Place};
use super::profile::{Action, Condition, Decision, Profile, Test};
use super::syscalls::{self, X32_BIT};
use super::{Error, Result};

const OFFSET_NR: u32 = 0;
const OFFSET_ARCH: u32 = 4;
const OFFSET_ARGS: u32 = 16;

/// What a tracer writes to skip a call, and never the number of one: it gets the profile's default.
const NO_CALL: u32 = u32::MAX;

/// The numbers from `start` up to the next range.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Range {
    start: u32,
    decision: Decision,
}

/// Compiles a profile.
pub(crate) fn generate(profile: &Profile<'_>) -> Result<Vec<Instruction>> {
    let mut program = Generator { code: Assembler::default(), chains: HashMap::new() };
    let foreign = program.code.ret(profile.foreign.code());
    let mut tokens: Vec<u32> = profile.arches.iter().map(|arch| arch.token()).collect();
    tokens.sort_unstable();
    tokens.dedup();
    // The native architecture is listed first and must be asked for first, so it is written last.
    if let Some(first) = profile.arches.first() {
        tokens.retain(|token| *token != first.token());
        tokens.insert(0, first.token());
    }
    let decisions = profile.decisions();
    let mut next = foreign;
    for token in tokens.into_iter().rev() {
        let tree = program.tree(&ranges(profile, &decisions, token));
        let section = program.code.load(OFFSET_NR, tree);
        next = program.code.branch(Compare::Equal, token, section, next);
    }
    let start = program.code.load(OFFSET_ARCH, next);
    let code = program.code.finish(start);
    if code.len() > MAX_INSTRUCTIONS {
        return Err(Error::TooLong { instructions: code.len() });
    }
    Ok(code)
}

/// Every number of one architecture token, without gaps, neighbours with the same outcome joined.
fn ranges(profile: &Profile<'_>, decisions: &BTreeMap<&str, Decision>, token: u32) -> Vec<Range> {
    let on = |arch: Arch| profile.arches.contains(&arch) && arch.token() == token;
    let mut points = BTreeMap::new();
    for arch in Arch::ALL.into_iter().filter(|arch| on(*arch)) {
        let base = if arch == Arch::X32 { X32_BIT } else { 0 };
        let numbers = decisions
            .iter()
            .filter_map(|(name, decision)| Some((syscalls::number(arch, name)?, decision.clone())));
        let mut newest = None;
        points.insert(base, Decision::Always(profile.default));
        for (number, decision) in numbers {
            newest = newest.max(Some(number));
            points.entry(number + 1).or_insert(Decision::Always(profile.default));
            points.insert(number, decision);
        }
        if let (Some(newer), Some(newest)) = (profile.newer, newest) {
            points.insert(newest + 1, Decision::Always(newer));
        }
    }
    if token == Arch::X86_64.token() {
        let missing = if on(Arch::X32) { 0 } else { X32_BIT };
        if !(on(Arch::X32) && on(Arch::X86_64)) {
            points.insert(missing, Decision::Always(profile.foreign));
        }
    }
    points.insert(NO_CALL, Decision::Always(profile.default));
    let mut ranges: Vec<Range> =
        points.into_iter().map(|(start, decision)| Range { start, decision }).collect();
    ranges.dedup_by(|later, earlier| later.decision == earlier.decision);
    ranges
}

struct Generator {
    code: Assembler,
    chains: HashMap<Decision, Place>,
}

impl Generator {
    /// Binary search over ranges; the accumulator holds the number.
    fn tree(&mut self, ranges: &[Range]) -> Place {
        match ranges {
            [] => self.code.ret(Action::KillProcess.code()), // cannot be: every token has its last number
            [only] => self.decide(&only.decision),
            [around, one, rest] if around.decision == rest.decision && rest.start == one.start + 1 => {
                let no = self.decide(&around.decision);
                let yes = self.decide(&one.decision);
                self.code.branch(Compare::Equal, one.start, yes, no)
            }
            _ => {
                let (low, high) = ranges.split_at(ranges.len() / 2);
                let (below, above) = (self.tree(low), self.tree(high));
                self.code.branch(Compare::GreaterOrEqual, high[0].start, above, below)
            }
        }
    }

    fn decide(&mut self, decision: &Decision) -> Place {
        match decision {
            Decision::Always(action) => self.code.ret(action.code()),
            Decision::ByArguments(alternatives, otherwise) => {
                if let Some(place) = self.chains.get(decision) {
                    return *place;
                }
                let mut next = self.code.ret(otherwise.code());
                for (conditions, action) in alternatives.iter().rev() {
                    let yes = self.code.ret(action.code());
                    next =
                        conditions.iter().rev().fold(yes, |yes, condition| self.test(condition, yes, next));
                }
                self.chains.insert(decision.clone(), next);
                next
            }
        }
    }

    /// One comparison of a 64-bit argument in two 32-bit halves.
    fn test(&mut self, condition: &Condition, yes: Place, no: Place) -> Place {
        match condition.test {
            Test::Equal(value) => self.equal(condition, u64::MAX, value, yes, no),
            Test::NotEqual(value) => self.equal(condition, u64::MAX, value, no, yes),
            Test::Masked { mask, value } => self.equal(condition, mask, value, yes, no),
            Test::GreaterOrEqual(value) => self.at_least(condition, Compare::GreaterOrEqual, value, yes, no),
            Test::Greater(value) => self.at_least(condition, Compare::Greater, value, yes, no),
            Test::Less(value) => self.at_least(condition, Compare::GreaterOrEqual, value, no, yes),
            Test::LessOrEqual(value) => self.at_least(condition, Compare::Greater, value, no, yes),
        }
    }

    fn equal(&mut self, condition: &Condition, mask: u64, value: u64, yes: Place, no: Place) -> Place {
        let low = self.half_equal(low_word(condition), mask as u32, value as u32, yes, no);
        let (mask, value) = (if condition.narrow { 0 } else { (mask >> 32) as u32 }, (value >> 32) as u32);
        self.half_equal(high_word(condition), mask, value, low, no)
    }

    fn half_equal(&mut self, offset: u32, mask: u32, value: u32, yes: Place, no: Place) -> Place {
        if mask == 0 {
            return if value == 0 { yes } else { no }; // known without looking
        }
        let compared = self.code.branch(Compare::Equal, value, yes, no);
        let masked = if mask == u32::MAX { compared } else { self.code.and(mask, compared) };
        self.code.load(offset, masked)
    }

    fn at_least(&mut self, condition: &Condition, low: Compare, value: u64, yes: Place, no: Place) -> Place {
        let high_value = (value >> 32) as u32;
        if condition.narrow && high_value != 0 {
            return no;
        }
        let compared = self.code.branch(low, value as u32, yes, no);
        let low = self.code.load(low_word(condition), compared);
        if condition.narrow {
            return low;
        }
        let not_above = self.code.branch(Compare::Equal, high_value, low, no);
        let compared = self.code.branch(Compare::Greater, high_value, yes, not_above);
        self.code.load(high_word(condition), compared)
    }
}

/// Offset of the lower half of an argument; `seccomp_data` holds whole 64-bit words in the machine's order.
fn low_word(condition: &Condition) -> u32 {
    OFFSET_ARGS + 8 * u32::from(condition.argument) + if cfg!(target_endian = "big") { 4 } else { 0 }
}

fn high_word(condition: &Condition) -> u32 {
    OFFSET_ARGS + 8 * u32::from(condition.argument) + if cfg!(target_endian = "big") { 0 } else { 4 }
}
