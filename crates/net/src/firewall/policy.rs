//! Where the host drops by policy what no rule of its own decides about, what is ours passes.
//!
//! ufw, and many who write iptables' rules themselves, have chains `FORWARD` and `OUTPUT` that drop at their ends. Our
//! bridges are named there behind all other rules: a drop or a refusal of the host's own comes first, and others' packets
//! meet the same policy as before. What may go into a bridge or out of it our own table has said.
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
    for chain in ["FORWARD", "OUTPUT"] {
        let drops = dropping.iter().any(|name| name == chain);
        let wanted = if drops { passing.rules(chain) } else { Vec::new() };
        let there = match rules(socket, family, TABLE, chain) {
            // There is no such table or chain.
            Err(error) if error.errno() == Errno::NOENT => continue,
            there => there?,
        };
        let changes = changes(chain, passing, &wanted, &there);
        if !changes.is_empty() {
            apply(socket, family, TABLE, &changes).map_err(|(_, error)| error)?;
        }
    }
    Ok(())
}

/// What makes the wanted rules the last ones; nothing if they are.
fn changes(
    chain: &str,
    passing: &Passing,
    wanted: &[(Meta, String)],
    there: &[(u64, Vec<u8>)],
) -> Vec<Change> {
    let mark = tables::note(&format!("{}: ", passing.owner));
    let ours = |note: &[u8]| note.get(2..).is_some_and(|text| text.starts_with(&mark[2..mark.len() - 1]));
    let notes: Vec<_> = wanted.iter().map(|one| passing.note(one)).collect();
    let old: Vec<_> = there.iter().filter(|(_, note)| ours(note)).collect();
    let last = there.iter().rev().zip(notes.iter().rev()).all(|((_, note), wanted)| note == wanted);
    if old.len() == wanted.len() && last {
        return Vec::new();
    }
    let delete = |(handle, _): &&(u64, Vec<u8>)| Change::DeleteRule { chain: chain.into(), handle: *handle };
    let add = |(one, note): (&(Meta, String), Vec<u8>)| Change::AddRule {
        chain: chain.into(),
        rule: when().meta(one.0, names(&one.1)).accept(),
        note,
    };
    old.iter().map(delete).chain(wanted.iter().zip(notes).map(add)).collect()
}

/// The name of a link, or what names begin with.
fn names(link: &str) -> Vec<u8> {
    link.strip_suffix(ANY).map_or_else(|| name(link).into(), |prefix| prefix.as_bytes().into())
}

// === impl Passing ===

impl Passing {
    fn rules(&self, chain: &str) -> Vec<(Meta, String)> {
        if chain == "OUTPUT" {
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
