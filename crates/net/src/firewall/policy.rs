//! Where the host drops by policy what no rule of its own decides about, what is ours passes.
//!
//! ufw, and many who write iptables' rules themselves, have chains `FORWARD` and `OUTPUT` that drop at their ends. Our
//! bridges are named there behind all other rules: a drop or a refusal of the host's own comes first, and others' packets
//! meet the same policy as before. Where ufw is to reject instead of dropping, rules of its last chains do that, and our
//! bridges are named before those. What may go into a bridge or out of it our own table has said.
//!
//! Tables that others own, or that are not iptables', are not touched.

use rustix::io::Errno;
use tare_model::error::{Error, Result};
use tare_sys::netlink::{self, Socket};
use tare_sys::nftables::{Change, Family, Meta, apply, dropping_chains, rules};

use super::element::name;
use super::rule::when;
use super::tables;

/// The table that iptables' rules are in; the news of it concern us.
pub(super) const TABLE: &str = "filter";
/// Behind what names begin with, as iptables has it.
const ANY: char = '+';
/// How often it is begun again because somebody else changed the chain meanwhile.
const ATTEMPTS: u32 = 5;

/// Who passes.
#[derive(Clone, Debug, Default)]
pub(super) struct Passing {
    /// What others know our rules by.
    pub(super) owner: String,
    /// What the rules of all engines of ours are known by.
    pub(super) engines: Vec<String>,
    /// Bridges, in and out.
    pub(super) bridges: Vec<String>,
    /// What names of further bridges begin with; of what comes by them.
    pub(super) carriers: Vec<String>,
    /// The link by which the second round begins.
    pub(super) round: Option<String>,
}

/// Sees to it that they pass, and nobody else because of us.
pub(super) fn settle(socket: &mut Socket, passing: &Passing) -> Result<()> {
    for family in [Family::Ip, Family::Ip6] {
        let mut attempts = 0..ATTEMPTS;
        while let Err(error) = settle_once(socket, family, passing) {
            let again = [Errno::NOENT, Errno::AGAIN, Errno::INTR].contains(&error.errno());
            if !again || attempts.next().is_none() {
                return Err(Error::system(format!(
                    "nftables table {} {TABLE}: let packets of our bridges pass: {error}",
                    tables::word(family)
                )));
            }
        }
    }
    Ok(())
}

fn settle_once(socket: &mut Socket, family: Family, passing: &Passing) -> netlink::Result<()> {
    let dropping = dropping_chains(socket, family, TABLE)?;
    for way in [Way::Forward, Way::Output] {
        let by_policy = |chain: &str, _: &[_]| dropping.iter().any(|name| name == chain);
        settle_chain(socket, family, passing, way, way.chain(), End::Policy, by_policy)?;
        // What others have in there is what rejects.
        let by_rule =
            |_: &str, there: &[(u64, Vec<u8>)]| there.iter().any(|(_, note)| !passing.is_engines(note));
        settle_chain(socket, family, passing, way, way.rejecting_chain(family), End::Rules, by_rule)?;
    }
    Ok(())
}

fn settle_chain(
    socket: &mut Socket,
    family: Family,
    passing: &Passing,
    way: Way,
    chain: &str,
    end: End,
    drops: impl FnOnce(&str, &[(u64, Vec<u8>)]) -> bool,
) -> netlink::Result<()> {
    let there = match rules(socket, family, TABLE, chain) {
        // There is no such table or chain.
        Err(error) if error.errno() == Errno::NOENT => return Ok(()),
        there => there?,
    };
    let wanted = if drops(chain, &there) { passing.rules(way) } else { Vec::new() };
    let changes = changes(chain, end, passing, &wanted, &there);
    if changes.is_empty() {
        Ok(())
    } else {
        apply(socket, family, TABLE, &changes).map_err(|(_, error)| error)
    }
}

/// What makes the wanted rules the last ones, or the first ones before rules that reject; nothing if they are. Other engines'
/// rules may be on either side of them, or two engines would take turns for ever.
fn changes(
    chain: &str,
    end: End,
    passing: &Passing,
    wanted: &[(Meta, String)],
    there: &[(u64, Vec<u8>)],
) -> Vec<Change> {
    let notes: Vec<_> = wanted.iter().map(|one| passing.note(one)).collect();
    let old: Vec<_> = there.iter().filter(|(_, note)| passing.is_own(note)).collect();
    let same = |((_, note), wanted): (&(u64, Vec<u8>), &Vec<u8>)| note == wanted;
    let counts = |(_, note): &&(u64, Vec<u8>)| passing.is_own(note) || !passing.is_engines(note);
    let counting = there.iter().filter(counts);
    let in_place = match end {
        End::Policy => counting.rev().zip(notes.iter().rev()).all(same),
        End::Rules => counting.zip(&notes).all(same),
    };
    if old.len() == wanted.len() && in_place {
        return Vec::new();
    }
    let delete = |(handle, _): &&(u64, Vec<u8>)| Change::DeleteRule { chain: chain.into(), handle: *handle };
    let mut changes: Vec<_> = old.iter().map(delete).collect();
    let rules = wanted.iter().map(|one| when().meta(one.0, names(&one.1)).accept()).zip(notes);
    match end {
        End::Policy => {
            changes.extend(rules.map(|(rule, note)| Change::AddRule { chain: chain.into(), rule, note }));
        }
        End::Rules => {
            changes.extend(rules.rev().map(|(rule, note)| Change::InsertRule {
                chain: chain.into(),
                rule,
                note,
            }));
        }
    }
    changes
}

/// What happens to a packet that no rule of the host's has decided about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The chain's policy drops it.
    Policy,
    /// The chain's rules reject it: policies cannot.
    Rules,
}

/// Which packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Forward,
    Output,
}

// === impl Way ===

impl Way {
    fn chain(self) -> &'static str {
        match self {
            Self::Forward => "FORWARD",
            Self::Output => "OUTPUT",
        }
    }

    /// Where ufw rejects what others drop (`ufw default reject routed`).
    fn rejecting_chain(self, family: Family) -> &'static str {
        match (self, family) {
            (Self::Forward, Family::Ip6) => "ufw6-reject-forward",
            (Self::Forward, _) => "ufw-reject-forward",
            (Self::Output, Family::Ip6) => "ufw6-reject-output",
            (Self::Output, _) => "ufw-reject-output",
        }
    }
}

/// The name of a link, or what names begin with.
fn names(link: &str) -> Vec<u8> {
    link.strip_suffix(ANY).map_or_else(|| name(link).into(), |prefix| prefix.as_bytes().into())
}

fn is_of(engine: &str, note: &[u8]) -> bool {
    let mark = tables::note(&format!("{engine}: "));
    note.get(2..).is_some_and(|text| text.starts_with(&mark[2..mark.len() - 1]))
}

// === impl Passing ===

impl Passing {
    /// The rule is ours.
    fn is_own(&self, note: &[u8]) -> bool {
        is_of(&self.owner, note)
    }

    /// The rule is ours or another engine's.
    fn is_engines(&self, note: &[u8]) -> bool {
        self.is_own(note) || self.engines.iter().any(|engine| is_of(engine, note))
    }

    fn rules(&self, way: Way) -> Vec<(Meta, String)> {
        if way == Way::Output {
            return self.round.iter().map(|link| (Meta::OutputName, link.clone())).collect();
        }
        let both = |bridge: &String| [Meta::InputName, Meta::OutputName].map(|way| (way, bridge.clone()));
        let carried = self.carriers.iter().map(|prefix| (Meta::InputName, format!("{prefix}{ANY}")));
        self.bridges.iter().flat_map(both).chain(carried).collect()
    }

    /// What `iptables -L` shows beside the rule.
    fn note(&self, (way, link): &(Meta, String)) -> Vec<u8> {
        let way = if *way == Meta::InputName { "from" } else { "to" };
        tables::note(&format!("{}: {way} {link}", self.owner))
    }
}
