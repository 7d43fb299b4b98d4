//! The short way in: where none of the host's rules hooks input, nobody is to be asked about published ports, and what begins
//! a connection is translated at once.
//!
//! ```text
//!   somebody hooks input ◀── news of nftables, at once; a look at iptables-legacy, every TICK ──▶ nobody does
//!     the second round (`round.rs`)                                          the element of the family is in `direct`
//! ```
//!
//! The element is a lease: it goes by itself when nobody renews it. So what the host lays down while there is no daemon, or
//! one that hangs, is heard at the latest when the lease ends.

use std::fs;
use std::io::ErrorKind;
use std::time::Duration;

use tare_model::error::{Error, Result};
use tare_sys::netlink;
use tare_sys::nftables::{Change, Element, Family, Forgets, News, hooked};

use super::base::INPUT;
use super::element::{Place, Step};
use super::rule::{IPV4, IPV6};
use super::tables::Tables;
use super::{Firewall, OURS};

/// Families whose connections go the short way.
pub(super) const SET: &str = "direct";
/// Three times what it takes to renew it.
pub(super) const LEASE: Forgets = Forgets { after: 9_000, room: 2 };
/// How often the lease is renewed, and looked whether `iptables-legacy`, which tells nobody, has begun.
pub(super) const TICK: Duration = Duration::from_secs(3);

/// Who hooks input.
#[derive(Debug, Default)]
pub(super) struct Judges {
    /// Tables of others, and their chains.
    chains: Vec<(String, String)>,
    /// Of IPv4 and of IPv6 there are some.
    pub(super) families: [bool; 2],
}

// === impl Judges ===

impl Judges {
    /// Those that there are now. Other engines of ours judge their own ports alone.
    pub(super) fn look(tables: &mut Tables, own: &[String; 2]) -> Result<Self> {
        let mut judges = Self { chains: Vec::new(), families: ["ip", "ip6"].map(is_legacy) };
        for (family, [four, six]) in
            [(Family::Inet, [true, true]), (Family::Ip, [true, false]), (Family::Ip6, [false, true])]
        {
            let engines = tables.comments_of(family)?;
            let is_ours = |table: &String| {
                own.contains(table)
                    || engines.iter().any(|(name, comment)| name == table && comment.starts_with(OURS))
            };
            let mut chains = hooked(tables.socket_mut(), family, INPUT).map_err(|error| refused(&error))?;
            chains.retain(|(table, _)| !is_ours(table));
            judges.families[0] |= four && !chains.is_empty();
            judges.families[1] |= six && !chains.is_empty();
            judges.chains.append(&mut chains);
        }
        Ok(judges)
    }

    /// There may be one more, or one less.
    pub(super) fn may_change(&self, news: News<'_>) -> bool {
        let is_known = |(table, chain): &(String, String)| {
            table == news.table && news.chain.is_none_or(|gone| gone == chain)
        };
        news.hook == Some(INPUT) || news.is_gone && self.chains.iter().any(is_known)
    }
}

// === impl Firewall ===

impl Firewall {
    /// Lets connections in by the short way for the time of a lease, of families that nobody judges, if ports are published;
    /// says whether to look again after a [`TICK`]: while ports are published, since `iptables-legacy` tells nobody that it has
    /// gone either.
    pub(super) fn lease(&self, judges: &mut Judges) -> bool {
        let mut state = self.lock();
        if state.round.is_none() || state.rules.published.is_empty() {
            return false;
        }
        let found = Judges::look(&mut state.tables, &self.names);
        let families = found.as_ref().map_or([true; 2], |judges| judges.families);
        *judges = found.unwrap_or_default();
        let free: Vec<_> =
            [IPV4, IPV6].into_iter().zip(families).filter(|(_, judged)| !judged).map(|(ip, _)| ip).collect();
        // If it fails, everything goes the long way until it is tried again.
        let _ = state.tables.apply(&steps(&free));
        true
    }

    /// From now on everything goes the long way.
    pub(super) fn end_lease(&self) {
        let mut state = self.lock();
        if state.round.is_some() {
            // If it fails, the lease ends by itself.
            let _ = state.tables.apply(&steps(&[]));
        }
    }
}

fn steps(families: &[u8]) -> Vec<Step> {
    let elements: Vec<_> = families.iter().map(|family| Element::key(vec![*family])).collect();
    let add = (!elements.is_empty()).then(|| Change::AddElements { set: SET.into(), elements });
    let changes = std::iter::once(Change::FlushSet(SET.into())).chain(add);
    changes.map(|change| Step { place: Place::Nat, change }).collect()
}

/// There is a table of `iptables-legacy`. Of what cannot be read there may be one.
fn is_legacy(family: &str) -> bool {
    match fs::read(format!("/proc/thread-self/net/{family}_tables_names")) {
        Ok(names) => !names.is_empty(),
        Err(error) => error.kind() != ErrorKind::NotFound,
    }
}

fn refused(error: &netlink::Error) -> Error {
    Error::system(format!("nftables: list chains: {error}"))
}
