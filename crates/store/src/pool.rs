//! The pool of id ranges: who has which ids of the host, and which are free. Pure.
//!
//! A *slot* is 65,536 neighbouring ids that begin at a multiple of that, numbered by their upper sixteen bits. The pool is
//! what nobody else gives out:
//!
//! | ids | whose |
//! |---|---|
//! | below `0x0008_0000` | the system's users and its dynamic ones, and the beginning of what `useradd` gives to users |
//! | `0x0008_0000` to `0x6fff_ffff` | systemd's containers; `useradd` gives sub-ids from here, too |
//! | **`0x7000_0000` to `0x7ffd_ffff`** | ours: 4,094 slots |
//! | `0x7ffe_0000` to `0x7fff_ffff` | systemd's foreign ids |
//! | **`0x8000_0000` to `0xfffd_ffff`** | ours when the others are used up: some programs of the host show them as negative |
//! | `0xfffe_0000` to `0xffff_ffff` | not ids, in part |
//!
//! What `/etc/subuid` and `/etc/subgid` give to somebody is left out, wherever it lies.
//!
//! Each engine of a machine lends from *parts* of its own, of 64 slots each ([`crate::claims`]): ids of two engines never
//! coincide.
//!
//! A range is taken a little after the last one, so that one that was freed is not lent again at once.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use tare_model::IdRange;

/// Ids in a slot.
pub(crate) const SLOT: u32 = 1 << 16;
/// In the order in which they are used.
const REGIONS: [Range<u32>; 2] = [0x7000..0x7ffe, 0x8000..0xfffe];

/// Slots in a part.
const PART: u32 = 64;

/// The first slots of all parts: the usual ones, and those for when these are used up.
pub(crate) fn parts() -> (Vec<u32>, Vec<u32>) {
    let [usual, further] = REGIONS.map(|region| region.step_by(PART as usize).collect());
    (usual, further)
}

/// The part that ids lie in, if they are of the pool.
pub(crate) fn part_of(range: IdRange) -> Option<u32> {
    let slot = range.first / SLOT;
    let region = REGIONS.into_iter().find(|region| region.contains(&slot))?;
    Some(slot - (slot - region.start) % PART)
}

/// Who has which slots.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    /// Ranges by their first id, and how many hold each.
    held: BTreeMap<u32, (IdRange, usize)>,
    /// Somebody else's.
    foreign: Vec<IdRange>,
    /// The parts to lend from, by their first slot.
    parts: BTreeSet<u32>,
    /// Where the next search begins.
    next: u32,
}

// === impl Pool ===

impl Pool {
    /// An empty pool that has no parts yet, without what is `foreign`.
    pub(crate) fn new(foreign: Vec<IdRange>) -> Self {
        Self { foreign, ..Self::default() }
    }

    /// Parts to lend from.
    pub(crate) fn add(&mut self, parts: Vec<u32>) {
        self.parts.extend(parts);
    }

    /// No parts any more.
    pub(crate) fn forget_parts(&mut self) {
        self.parts.clear();
    }

    /// The parts that it lends from.
    pub(crate) fn parts(&self) -> &BTreeSet<u32> {
        &self.parts
    }

    /// The parts that held ranges lie in.
    pub(crate) fn used(&self) -> BTreeSet<u32> {
        self.held.values().filter_map(|(range, _)| part_of(*range)).collect()
    }

    /// Holds a range of `slots` neighbouring slots that nobody has; `None` if there is none.
    pub(crate) fn take(&mut self, slots: u32) -> Option<IdRange> {
        let parts = || self.parts.iter().map(|first| *first..end_of(*first));
        let later =
            parts().filter(|part| part.end > self.next).map(|part| part.start.max(self.next)..part.end);
        let found = later.chain(parts()).find_map(|part| self.free(part, slots))?;
        if REGIONS[0].contains(&(found.first / SLOT)) {
            self.next = found.first / SLOT + slots;
        }
        self.hold(found);
        Some(found)
    }

    /// One more holds `range`.
    pub(crate) fn hold(&mut self, range: IdRange) {
        self.held.entry(range.first).or_insert((range, 0)).1 += 1;
    }

    /// Whether somebody holds exactly `range`.
    pub(crate) fn holds(&self, range: IdRange) -> bool {
        self.held.get(&range.first).is_some_and(|(held, _)| *held == range)
    }

    /// One less holds `range`; the last one frees it.
    pub(crate) fn release(&mut self, range: IdRange) {
        if let Some((_, holders)) = self.held.get_mut(&range.first) {
            *holders -= 1;
            if *holders == 0 {
                self.held.remove(&range.first);
            }
        }
    }

    fn free(&self, region: Range<u32>, slots: u32) -> Option<IdRange> {
        let mut slot = region.start;
        while slot + slots <= region.end {
            let range = IdRange { first: slot * SLOT, count: slots * SLOT };
            match self.owner(range) {
                None => return Some(range),
                // Go on behind it.
                Some(other) => slot = (other.first + (other.count - 1)) / SLOT + 1,
            }
        }
        None
    }

    /// Somebody who has an id of `range`.
    fn owner(&self, range: IdRange) -> Option<IdRange> {
        // Held ranges do not overlap, so only the last that begins before the end of this one can reach into it.
        let last = range.first + (range.count - 1);
        let held = self.held.range(..=last).next_back().map(|(_, (held, _))| *held);
        held.into_iter().chain(self.foreign.iter().copied()).find(|other| other.overlaps(range))
    }
}

/// Behind the last slot of the part that begins with this one.
fn end_of(part: u32) -> u32 {
    let region = REGIONS.into_iter().find(|region| region.contains(&part));
    region.map_or(part, |region| region.end.min(part + PART))
}

/// What a text like `/etc/subuid` gives away: lines of name, first id and count. Others are skipped, as shadow does.
pub(crate) fn foreign(text: &str) -> Vec<IdRange> {
    let line = |line: &str| {
        let mut fields = line.split(':').skip(1).map(|field| field.trim().parse::<u32>());
        let (first, count) = (fields.next()?.ok()?, fields.next()?.ok()?);
        // One that reaches beyond the last id counts as far as there are ids.
        let count = count.min(u32::MAX - first);
        (count > 0).then_some(IdRange { first, count })
    };
    text.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A pool of the first `count` parts.
    fn pool(foreign: Vec<IdRange>, count: usize) -> Pool {
        let mut pool = Pool::new(foreign);
        pool.add(parts().0.into_iter().take(count).collect());
        pool
    }

    fn slots(pool: &mut Pool, counts: &[u32]) -> Vec<u32> {
        counts.iter().map(|count| pool.take(*count).expect("there is room").first / SLOT).collect()
    }

    #[test]
    fn ranges_follow_each_other_and_a_freed_one_is_not_lent_at_once() {
        let mut pool = pool(vec![], 1);
        assert_eq!(slots(&mut pool, &[1, 2, 1]), [0x7000, 0x7001, 0x7003]);
        pool.release(IdRange { first: 0x7001 * SLOT, count: 2 * SLOT });
        assert_eq!(slots(&mut pool, &[1]), [0x7004]);
    }

    #[test]
    fn the_search_goes_round_its_parts_and_no_further() {
        let mut pool = pool(vec![], 1);
        assert_eq!(slots(&mut pool, &[1; 64]), (0x7000..0x7040).collect::<Vec<_>>());
        assert_eq!(pool.take(1), None);
        pool.add(vec![0x7100, 0x7fc0, 0x8000]);
        pool.release(IdRange { first: 0x7012 * SLOT, count: SLOT });
        assert_eq!(slots(&mut pool, &[1, 2]), [0x7100, 0x7101]);
        assert_eq!(slots(&mut pool, &[1; 61]), (0x7103..0x7140).collect::<Vec<_>>());
        assert_eq!(slots(&mut pool, &[1; 62]), (0x7fc0..0x7ffe).collect::<Vec<_>>(), "others' ids follow");
        assert_eq!(slots(&mut pool, &[2, 1, 1]), [0x8000, 0x8002, 0x8003]);
        assert_eq!(pool.used(), BTreeSet::from([0x7000, 0x7100, 0x7fc0, 0x8000]));
    }

    #[test]
    fn every_part_is_of_the_pool() {
        let (usual, further) = parts();
        assert_eq!((usual.len(), usual[63], further.len()), (64, 0x7fc0, 512));
        for part in usual.into_iter().chain(further) {
            let range = |slot: u32| IdRange { first: slot * SLOT, count: SLOT };
            assert_eq!([part_of(range(part)), part_of(range(end_of(part) - 1))], [Some(part); 2]);
        }
        assert_eq!(part_of(IdRange { first: 100_000, count: SLOT }), None);
    }

    #[test]
    fn a_shared_range_is_freed_by_the_last() {
        let mut pool = pool(vec![], 1);
        let range = pool.take(1).expect("there is room");
        pool.hold(range);
        pool.release(range);
        assert!(pool.holds(range));
        pool.release(range);
        assert!(!pool.holds(range));
        pool.release(range);
    }

    #[test]
    fn what_others_were_given_is_left_out() {
        let text = "ann:1879048192:65536\nbob:1879113729:1\n# x\nbroken:1\n5000:4294967290:100\nzero:1:0\n";
        let foreign = foreign(text);
        assert_eq!(foreign.len(), 3);
        let mut pool = pool(foreign, 1);
        assert_eq!(slots(&mut pool, &[1, 1]), [0x7002, 0x7003], "two slots are touched by others");
    }

    proptest! {
        #[test]
        fn no_two_holders_share_an_id(
            steps in proptest::collection::vec((any::<bool>(), 1..3_u32, any::<u16>()), 1..80),
            foreign in proptest::collection::vec((any::<u32>(), 1..1_000_000_u32), 0..4)
        ) {
            let foreign: Vec<IdRange> = foreign.into_iter()
                .map(|(first, count)| IdRange { first, count: count.min(u32::MAX - first).max(1) }).collect();
            let mut pool = pool(foreign.clone(), 64);
            let mut held: Vec<IdRange> = Vec::new();
            for (takes, count, which) in steps {
                if takes || held.is_empty() {
                    let range = pool.take(count).expect("there is room");
                    prop_assert_eq!(range.count, count * SLOT);
                    prop_assert!(REGIONS.iter().any(|r| r.contains(&(range.first / SLOT))));
                    prop_assert!(held.iter().chain(&foreign).all(|other| !other.overlaps(range)));
                    held.push(range);
                } else {
                    pool.release(held.swap_remove(usize::from(which) % held.len()));
                }
            }
        }

        #[test]
        fn any_text_is_read(text in any::<String>()) {
            foreign(&text);
        }
    }
}
