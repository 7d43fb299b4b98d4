//! Which classes there are to be. Pure.

use std::collections::BTreeMap;

use tare_model::error::{Error, Result};
use tare_model::shaping::{DEFAULT_SHARE, Rates, Shaping};

/// Number of every tree of ours, which is unlikely to be that of a tree of the host's own.
pub(super) const TREE: u16 = 0x7a7e;
/// Classes of containers begin behind those of the two directions, which take the place of slot 1.
const FIRST_SLOT: u16 = 2;
/// Two classes for each, of 16 bits.
const LAST_SLOT: u16 = 0x7fff;
/// Bytes that are passed at once at least: a few packets.
const LEAST_BURST: u64 = 16 << 10;
const MOST_BURST: u64 = 16 << 20;
/// Bytes that wait at least: several packets as large as the kernel makes them inside of a machine.
const LEAST_QUEUE: u64 = 256 << 10;
const MOST_QUEUE: u64 = 8 << 20;
/// Bytes of a turn of the one with the smallest share: the largest packet there is inside of a machine. With less a turn is one
/// packet, and who sends larger ones gets more of what is borrowed.
const TURN: u64 = 64 << 10;
const MOST_TURN: u64 = 1 << 20;

/// To containers, or from them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    In,
    Out,
}

/// An interface in a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) slot: u16,
    /// Index of the host's end.
    pub(super) end: u32,
    pub(super) shaping: Shaping,
    /// In which directions its packets are led to the tree.
    pub(super) hooked: [bool; 2],
}

/// A class as it is to be, and what may wait in it; nothing waits in one that others borrow from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Planned {
    pub(super) parent: Option<u32>,
    pub(super) rate: u64,
    pub(super) ceiling: u64,
    pub(super) burst: u32,
    pub(super) quantum: u32,
    pub(super) queue: Option<u32>,
}

// === impl Direction ===

impl Direction {
    pub(super) const BOTH: [Self; 2] = [Self::In, Self::Out];

    fn of(self, rates: &Rates) -> Option<u64> {
        match self {
            Self::In => rates.inward,
            Self::Out => rates.outward,
        }
    }

    /// The class of a slot.
    pub(super) fn class(self, slot: u16) -> u32 {
        u32::from(TREE) << 16 | u32::from(slot) << 1 | u32::from(self == Self::Out)
    }
}

/// A slot that no member has; the same for the same link, but for rare neighbours.
///
/// # Errors
/// `Conflict` if there is none.
pub(super) fn free_slot(end: u32, members: &BTreeMap<String, Member>) -> Result<u16> {
    let taken: std::collections::BTreeSet<u16> = members.values().map(|member| member.slot).collect();
    let count = u32::from(LAST_SLOT - FIRST_SLOT) + 1;
    (0..count)
        .filter_map(|step| u16::try_from((end + step) % count).ok())
        .map(|offset| FIRST_SLOT + offset)
        .find(|slot| !taken.contains(slot))
        .ok_or_else(|| Error::conflict(format!("{count} interfaces on one network are shaped already")))
}

/// In which directions an interface is limited.
pub(super) fn hooks(whole: &Rates, member: &Member) -> [bool; 2] {
    Direction::BOTH
        .map(|direction| direction.of(whole).is_some() || direction.of(&member.shaping.rates).is_some())
}

/// All classes, by number: those that others borrow from come first.
pub(super) fn classes<'a>(
    whole: &Rates,
    members: impl Iterator<Item = &'a Member> + Clone,
) -> BTreeMap<u32, Planned> {
    let shares = Shares::of(members.clone());
    let mut classes = BTreeMap::new();
    for direction in Direction::BOTH {
        let (root, rate) = (direction.class(1), direction.of(whole));
        if let Some(rate) = rate {
            classes.insert(root, planned(None, rate, rate, whole.burst, MOST_TURN, false));
        }
        for member in members.clone() {
            let own = direction.of(&member.shaping.rates);
            let share = share(member);
            let burst = member.shaping.rates.burst;
            let class = match (rate, own) {
                (None, None) => continue,
                (None, Some(own)) => planned(None, own, own, burst, TURN, true),
                (Some(rate), own) => {
                    let ceiling = own.map_or(rate, |own| own.min(rate));
                    let guaranteed = shares.part(rate, share).min(ceiling);
                    planned(Some(root), guaranteed, ceiling, burst, shares.turn(share), true)
                }
            };
            classes.insert(direction.class(member.slot), class);
        }
    }
    classes
}

fn share(member: &Member) -> u64 {
    member.shaping.share.unwrap_or(DEFAULT_SHARE).max(1).into()
}

fn planned(
    parent: Option<u32>,
    rate: u64,
    ceiling: u64,
    burst: Option<u64>,
    turn: u64,
    waits: bool,
) -> Planned {
    let narrow = |bytes: u64| u32::try_from(bytes).unwrap_or(u32::MAX);
    let burst = burst.unwrap_or_else(|| (ceiling / 100).clamp(LEAST_BURST, MOST_BURST));
    // A tenth of a second, what is passed at once, and more than a turn: who runs empty in its turn loses the rest of it.
    let queue = (ceiling / 10).clamp(LEAST_QUEUE, MOST_QUEUE).max(burst).max(turn + TURN);
    Planned {
        parent,
        rate,
        ceiling,
        burst: narrow(burst),
        quantum: narrow(turn),
        queue: waits.then_some(narrow(queue)),
    }
}

/// The shares of a network's members.
struct Shares {
    sum: u64,
    least: u64,
}

// === impl Shares ===

impl Shares {
    fn of<'a>(members: impl Iterator<Item = &'a Member> + Clone) -> Self {
        let sum = members.clone().map(share).sum::<u64>().max(1);
        Self { sum, least: members.map(share).min().unwrap_or(1) }
    }

    /// What is guaranteed; never nothing.
    fn part(&self, rate: u64, share: u64) -> u64 {
        let part = u128::from(rate) * u128::from(share) / u128::from(self.sum);
        u64::try_from(part).unwrap_or(rate).max(1)
    }

    /// Bytes of a turn of what is borrowed.
    fn turn(&self, share: u64) -> u64 {
        (TURN * share / self.least).min(MOST_TURN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(slot: u16, rates: &str, share: Option<u32>) -> Member {
        let rates = if rates.is_empty() { Rates::default() } else { rates.parse().unwrap() };
        Member { slot, end: 9, shaping: Shaping { rates, share }, hooked: [false; 2] }
    }

    fn rates(class: &Planned) -> (Option<u32>, u64, u64) {
        (class.parent, class.rate, class.ceiling)
    }

    #[test]
    fn without_a_rate_of_the_network_each_limit_stands_alone() {
        let members = [member(2, "in=1MB", None), member(3, "out=2MB", Some(5)), member(4, "", Some(7))];
        let all = classes(&Rates::default(), members.iter());
        let found: Vec<_> = all.iter().map(|(id, class)| (*id, rates(class))).collect();
        let alone = |rate| (None, rate, rate);
        assert_eq!(found, [(0x7a7e_0004, alone(1_000_000)), (0x7a7e_0007, alone(2_000_000))]);
    }

    #[test]
    fn shares_divide_the_whole_and_limits_hold() {
        let whole = "in=10MB".parse().unwrap();
        let members = [member(2, "", Some(80)), member(3, "in=1MB", Some(20))];
        let all = classes(&whole, members.iter());
        let (root, first, second) = (0x7a7e_0002, 0x7a7e_0004, 0x7a7e_0006);
        assert_eq!(all.len(), 3);
        assert_eq!(rates(&all[&root]), (None, 10_000_000, 10_000_000));
        assert_eq!(rates(&all[&first]), (Some(root), 8_000_000, 10_000_000));
        assert_eq!(rates(&all[&second]), (Some(root), 1_000_000, 1_000_000));
        assert_eq!(all[&first].quantum, 4 * all[&second].quantum);
        assert!(all[&root].queue.is_none() && all[&first].queue.is_some());
    }

    #[test]
    fn a_slot_is_that_of_the_link_unless_it_is_taken() {
        let mut members = BTreeMap::new();
        let slot = free_slot(70_000, &members).unwrap();
        members.insert("a".to_owned(), member(slot, "", None));
        assert_eq!(free_slot(70_000, &members).unwrap(), slot + 1);
        assert!((FIRST_SLOT..=LAST_SLOT).contains(&slot));
    }
}
