//! Which classes there are to be. Pure.

use std::collections::BTreeMap;

use tare_model::error::{Error, Result};
use tare_model::shaping::{DEFAULT_SHARE, Rates, Shaping};

/// Number of every tree of ours, which is unlikely to be that of a tree of the host's own.
pub(super) const TREE: u16 = 0x7a7e;
/// Classes of containers begin behind those of the two directions, which take the place of slot 1.
const FIRST_SLOT: u16 = 2;
/// Two classes for each, with numbers below the tree's own: queues have the numbers of their classes.
const LAST_SLOT: u16 = (TREE >> 1) - 1;
/// Bytes that are passed at once at least: a few packets.
const LEAST_BURST: u64 = 16 << 10;
const MOST_BURST: u64 = 16 << 20;
/// How much may wait: what goes in a 20th of a second, since all that comes waits behind it.
const WAITS: u64 = 20;
const MOST_QUEUE: u64 = 8 << 20;
/// Bytes of a packet as large as the kernel makes them inside of a machine.
const LARGE: u64 = 64 << 10;
/// Up to so many bytes per second large packets are taken apart: one alone would take 5 ms and more. Beyond, that costs more than
/// it is good for.
const SLOW: u64 = 12_500_000;
/// Microseconds that are no delay worth a lost packet.
const LEAST_DELAY: u64 = 5000;

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

/// What a network's kernel can do with packets, and how long they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Packets {
    /// Large ones can be taken apart.
    pub(super) split: bool,
    /// Bytes of the longest of those that are left then.
    pub(super) frame: u32,
}

/// What may wait in a class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Queue {
    pub(super) bytes: u32,
    /// Where each connection waits for itself: after how many microseconds it is told to slow down.
    pub(super) delay: u32,
    /// Larger packets are taken apart.
    pub(super) frame: Option<u32>,
}

/// A class as it is to be, and what may wait in it; nothing waits in one that others borrow from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Planned {
    pub(super) parent: Option<u32>,
    pub(super) rate: u64,
    pub(super) ceiling: u64,
    pub(super) burst: u32,
    pub(super) quantum: u32,
    pub(super) queue: Option<Queue>,
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
    packets: Packets,
) -> BTreeMap<u32, Planned> {
    let shares = Shares::of(members.clone());
    let mut classes = BTreeMap::new();
    for direction in Direction::BOTH {
        let (root, rate) = (direction.class(1), direction.of(whole));
        let turns = Turns::of(packets, rate.unwrap_or_default());
        let planned = |parent, [rate, ceiling]: [u64; 2], burst: Option<u64>, turn| {
            let queue = Queue::of(packets, [rate, ceiling], turn);
            let burst = burst.unwrap_or_else(|| (ceiling / 100).clamp(LEAST_BURST, MOST_BURST));
            Planned { parent, rate, ceiling, burst: narrow(burst), quantum: narrow(turn), queue: Some(queue) }
        };
        if let Some(rate) = rate {
            let root_class = planned(None, [rate; 2], whole.burst, turns.most);
            classes.insert(root, Planned { queue: None, ..root_class });
        }
        for member in members.clone() {
            let own = direction.of(&member.shaping.rates);
            let share = share(member);
            let burst = member.shaping.rates.burst;
            let class = match (rate, own) {
                (None, None) => continue,
                (None, Some(own)) => planned(None, [own; 2], burst, turns.least),
                (Some(rate), own) => {
                    let ceiling = own.map_or(rate, |own| own.min(rate));
                    let guaranteed = shares.part(rate, share).min(ceiling);
                    planned(Some(root), [guaranteed, ceiling], burst, shares.turn(share, turns))
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

fn narrow(bytes: u64) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

// === impl Packets ===

impl Packets {
    /// Of the largest that is sent at this rate.
    fn longest(self, rate: u64) -> u64 {
        if self.split && rate <= SLOW { self.frame.into() } else { LARGE }
    }
}

// === impl Queue ===

impl Queue {
    /// For a class with this rate and ceiling.
    fn of(packets: Packets, [rate, ceiling]: [u64; 2], turn: u64) -> Self {
        let longest = packets.longest(ceiling);
        // Who runs empty in its turn loses the rest of it; without borrowing there are no turns.
        let turn = if rate < ceiling { turn } else { 0 };
        let least = if longest < LARGE { 10 * longest } else { 4 * longest };
        let bytes = (ceiling / WAITS).clamp(least, MOST_QUEUE).max(turn + longest);
        let delay = ((turn + 2 * longest) * 1_000_000 / ceiling.max(1)).max(LEAST_DELAY);
        let frame = (longest < LARGE).then_some(packets.frame);
        Self { bytes: narrow(bytes), delay: narrow(delay), frame }
    }
}

/// Bytes that those who borrow send in their turn.
#[derive(Clone, Copy)]
struct Turns {
    /// Of the one with the smallest share. With less than the longest packet a turn is one packet, and who sends larger ones gets
    /// more of what is borrowed.
    least: u64,
    most: u64,
}

// === impl Turns ===

impl Turns {
    fn of(packets: Packets, rate: u64) -> Self {
        let least = packets.longest(rate);
        Self { least, most: 16 * least }
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
    fn turn(&self, share: u64, turns: Turns) -> u64 {
        (turns.least * share / self.least).min(turns.most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(slot: u16, rates: &str, share: Option<u32>) -> Member {
        let rates = if rates.is_empty() { Rates::default() } else { rates.parse().unwrap() };
        Member { slot, end: 9, shaping: Shaping { rates, share }, hooked: [false; 2] }
    }

    const PACKETS: Packets = Packets { split: true, frame: 1522 };

    fn rates(class: &Planned) -> (Option<u32>, u64, u64) {
        (class.parent, class.rate, class.ceiling)
    }

    #[test]
    fn without_a_rate_of_the_network_each_limit_stands_alone() {
        let members = [member(2, "in=1MB", None), member(3, "out=2MB", Some(5)), member(4, "", Some(7))];
        let all = classes(&Rates::default(), members.iter(), PACKETS);
        let found: Vec<_> = all.iter().map(|(id, class)| (*id, rates(class))).collect();
        let alone = |rate| (None, rate, rate);
        assert_eq!(found, [(0x7a7e_0004, alone(1_000_000)), (0x7a7e_0007, alone(2_000_000))]);
    }

    #[test]
    fn shares_divide_the_whole_and_limits_hold() {
        let whole = "in=10MB".parse().unwrap();
        let members = [member(2, "", Some(80)), member(3, "in=1MB", Some(20))];
        let all = classes(&whole, members.iter(), PACKETS);
        let (root, first, second) = (0x7a7e_0002, 0x7a7e_0004, 0x7a7e_0006);
        assert_eq!(all.len(), 3);
        assert_eq!(rates(&all[&root]), (None, 10_000_000, 10_000_000));
        assert_eq!(rates(&all[&first]), (Some(root), 8_000_000, 10_000_000));
        assert_eq!(rates(&all[&second]), (Some(root), 1_000_000, 1_000_000));
        assert_eq!(all[&first].quantum, 4 * all[&second].quantum);
        assert!(all[&root].queue.is_none() && all[&first].queue.is_some());
    }

    #[test]
    fn what_waits_takes_a_twentieth_of_a_second_where_packets_are_small() {
        let queue = |rate: &str, packets| {
            let all = classes(&Rates::default(), [member(2, rate, None)].iter(), packets);
            all.values().next().and_then(|class| class.queue).unwrap()
        };
        let whole = Packets { split: false, ..PACKETS };
        assert_eq!(queue("in=10mbit", PACKETS), Queue { bytes: 62_500, delay: 5000, frame: Some(1522) });
        assert_eq!(queue("in=10mbit", whole), Queue { bytes: 4 << 16, delay: 104_857, frame: None });
        assert_eq!(queue("in=1mbit", PACKETS), Queue { bytes: 15_220, delay: 24_352, frame: Some(1522) });
        assert_eq!(queue("in=1gbit", PACKETS), Queue { bytes: 6_250_000, delay: 5000, frame: None });
        assert_eq!(queue("in=10mbit,burst=4MB", PACKETS).bytes, 62_500, "what passes at once does not wait");
    }

    #[test]
    fn who_borrows_does_not_run_empty_in_a_turn() {
        for (rate, least) in [("in=10mbit", 1522), ("in=1gbit", LARGE)] {
            let members = [member(2, "", Some(80)), member(3, "", Some(10)), member(4, "", Some(10_000))];
            let all = classes(&rate.parse().unwrap(), members.iter(), PACKETS);
            for (id, turns) in [(0x7a7e_0004, 8), (0x7a7e_0006, 1), (0x7a7e_0008, 16)] {
                let class: &Planned = &all[&id];
                assert_eq!(u64::from(class.quantum), turns * least, "{rate} {id:x}");
                assert!(class.queue.unwrap().bytes >= class.quantum + narrow(least));
            }
        }
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
