//! Who is cut off from whom, as a table of nftables that is made anew with each change.

use std::collections::BTreeSet;

use rustix::io::Errno;
use tare_model::error::{Error, Result};
use tare_model::network::Mac;
use tare_sys::netlink::{self, Protocol, Socket};
use tare_sys::nftables::{
    Chain, Change, Element, Expression as Do, Family, Field, Hook, Meta, Payload, Register, Set, SetFlags,
    TableFlags, Verdict, apply, tables,
};

const PREROUTING: u32 = 0;
const POSTROUTING: u32 = 4;
/// Before everybody: what the cable does not carry nobody sees.
const FIRST: i32 = -400;
/// Links that carry nothing.
const DEAD: &str = "dead";
/// Links, and senders whose frames do not get to them.
const APART: &str = "apart";

/// One place where frames are dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cut {
    /// Index of the host's end of an interface.
    pub link: u32,
    /// Whose frames do not get there; absent: nobody's, and none come from there.
    pub from: Option<Mac>,
}

/// The table of an instance.
#[derive(Debug)]
pub struct Cuts {
    socket: Socket,
    table: String,
    /// What the table holds; none: not known.
    current: Option<BTreeSet<Cut>>,
}

// === impl Cuts ===

impl Cuts {
    /// Of the calling thread's network namespace. `table` names the instance's firewall.
    ///
    /// # Errors
    /// The kernel's refusal of a socket.
    pub fn open(table: &str) -> Result<Self> {
        let socket = Socket::open(Protocol::Netfilter)
            .map_err(|e| Error::system(format!("nftables: socket(AF_NETLINK, NETLINK_NETFILTER): {e}")))?;
        Ok(Self { socket, table: format!("{table}-fault"), current: None })
    }

    /// Frames are dropped in these places and no others. Without any there is no table.
    ///
    /// # Errors
    /// The kernel's refusal; then nothing has changed.
    pub fn set(&mut self, cuts: BTreeSet<Cut>) -> Result<()> {
        if self.current.as_ref() == Some(&cuts) {
            return Ok(());
        }
        let refused =
            |what: &str, e: &netlink::Error| Error::system(format!("nftables table bridge {what}: {e}"));
        let found = match tables(&mut self.socket, Family::Bridge) {
            // A kernel without nftables has no table of ours.
            Err(_) if cuts.is_empty() => Vec::new(),
            found => found.map_err(|e| refused("(list)", &e))?,
        };
        let is_there = found.iter().any(|(name, _)| *name == self.table);
        // What somebody flushes is to stay apart; such tables are passed by, and stay when we die (6.9).
        // One that is owned only goes with us (before 6.9): then rather one that can be flushed.
        let kinds = [TableFlags::OWNED_AND_LASTING, TableFlags::NONE];
        let mut last = Ok(());
        for flags in kinds {
            let changes = changes(is_there, &cuts, flags);
            if changes.is_empty() {
                break;
            }
            last = apply(&mut self.socket, Family::Bridge, &self.table, &changes).map_err(|(_, e)| e);
            match &last {
                Err(e) if [Errno::OPNOTSUPP, Errno::INVAL].contains(&e.errno()) => {}
                _ => break,
            }
        }
        last.map_err(|e| refused(&self.table, &e))?;
        self.current = Some(cuts);
        Ok(())
    }
}

fn changes(is_there: bool, cuts: &BTreeSet<Cut>, flags: TableFlags) -> Vec<Change> {
    let mut changes = Vec::new();
    if is_there {
        changes.push(Change::DeleteTable);
    }
    if cuts.is_empty() {
        return changes;
    }
    let elements = |is_dead: bool| {
        let of = cuts.iter().filter(|cut| cut.from.is_none() == is_dead);
        of.map(|cut| Element::key(key(cut))).collect::<Vec<_>>()
    };
    changes.push(Change::AddTable { flags, note: Vec::new() });
    for (name, key, elements) in
        [(DEAD, vec![Field::Link], elements(true)), (APART, vec![Field::Link, Field::Ether], elements(false))]
    {
        changes.push(Change::AddSet(Set {
            name: name.into(),
            flags: SetFlags::NONE,
            key,
            data: None,
            forgets: None,
        }));
        if !elements.is_empty() {
            changes.push(Change::AddElements { set: name.into(), elements });
        }
    }
    for (name, number, rules) in [
        ("sent", PREROUTING, vec![dead(Meta::InputIndex)]),
        ("received", POSTROUTING, vec![dead(Meta::OutputIndex), apart()]),
    ] {
        let hook = Hook { kind: "filter", number, priority: FIRST, drop: false, device: None };
        changes.push(Change::AddChain(Chain { name: name.into(), hook: Some(hook) }));
        let rule = |rule| Change::AddRule { chain: name.into(), rule, note: Vec::new() };
        changes.extend(rules.into_iter().map(rule));
    }
    changes
}

fn dead(end: Meta) -> Vec<Do> {
    vec![Do::Meta(end, Register(0)), Do::In(DEAD.into(), Register(0)), Do::Verdict(Verdict::Drop)]
}

fn apart() -> Vec<Do> {
    vec![
        Do::Meta(Meta::OutputIndex, Register(0)),
        Do::Payload(Payload::ETHER_SOURCE, Register(1)),
        Do::In(APART.into(), Register(0)),
        Do::Verdict(Verdict::Drop),
    ]
}

/// Each part in whole registers.
fn key(cut: &Cut) -> Vec<u8> {
    let mut key = cut.link.to_ne_bytes().to_vec();
    if let Some(mac) = cut.from {
        key.extend(mac.0);
        key.extend([0; 2]);
    }
    key
}
