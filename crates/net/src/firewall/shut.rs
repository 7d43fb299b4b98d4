//! What is forwarded because of us only, and what passes beside ours even so. The switch itself is in `forwarding.rs`.

use ipnet::IpNet;
use tare_model::error::{Error, Result};
use tare_sys::netlink::{Socket, link};

use super::forwarding::{self, Shut, Turn};
use super::{Firewall, Forwarding, IpFamily, OURS, State};
use crate::link::mark;

// === impl Firewall ===

impl Firewall {
    /// What is forwarded because of engines that are gone without a word, and whose tables somebody has taken away since, is so
    /// no longer. For whoever has nothing to load.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn stop_what_was_left(&self) -> Result<()> {
        let mut state = self.lock();
        let _turn = Turn::take();
        self.stop_forwarding(&mut state)
    }

    /// What forwards only because of us does so no longer, unless another engine needs it. The caller has the [`Turn`].
    pub(super) fn stop_forwarding(&self, state: &mut State) -> Result<()> {
        let mut others = state.tables.comments()?;
        others.retain(|(table, _)| !self.names.contains(table));
        let needed = shut_by(&others);
        state.shut.clear();
        let stopped =
            IpFamily::BOTH.into_iter().filter(|family| !needed.contains(family)).map(forwarding::stop);
        stopped.fold(Ok(()), Result::and)
    }

    /// Families that our bridges need forwarded.
    pub(super) fn needed(&self, state: &State) -> Vec<IpFamily> {
        if self.settings.forwarding == Forwarding::Leave {
            return Vec::new();
        }
        let outward = state.rules.bridges.values().filter(|bridge| !bridge.internal);
        let nets: Vec<IpNet> = outward.flat_map(|bridge| &bridge.subnets).map(|subnet| subnet.net).collect();
        let is_needed = |family: &IpFamily| {
            nets.iter().any(|net| matches!(net, IpNet::V4(_)) == (*family == IpFamily::V4))
        };
        IpFamily::BOTH.into_iter().filter(is_needed).collect()
    }

    /// Families that are forwarded because of us only, or are about to be.
    pub(super) fn shut_families(&self, state: &State) -> Result<Vec<IpFamily>> {
        let needed = self.needed(state);
        let mut shut = Vec::new();
        for family in IpFamily::BOTH.into_iter().filter(|_| self.settings.forwarding == Forwarding::Ours) {
            match forwarding::state(family)? {
                forwarding::State::ForUs => shut.push(family),
                forwarding::State::Off if needed.contains(&family) => shut.push(family),
                forwarding::State::Off | forwarding::State::Anyway => {}
            }
        }
        Ok(shut)
    }

    pub(super) fn shut(&self, state: &mut State) -> Result<Vec<Shut>> {
        let families = self.shut_families(state)?;
        let bridges = if families.is_empty() { Vec::new() } else { others_bridges(state)? };
        let shut = |family| {
            let mut but = forwarding::passing(family)?;
            but.retain(|name| !is_ours(&mut state.links, name));
            Ok(Shut { family, but, bridges: bridges.clone() })
        };
        families.into_iter().map(shut).collect()
    }

    /// The rules are not those for what our bridges need forwarded.
    pub(super) fn lacks_forwarding(&self, state: &State) -> Result<bool> {
        for family in self.needed(state) {
            if forwarding::state(family)? == forwarding::State::Off {
                return Ok(true);
            }
        }
        Ok(!self.shut_families(state)?.iter().eq(state.shut.iter().map(|shut| &shut.family)))
    }

    /// Others came to want forwarding, or want it no longer: what passes beside ours is what would without us.
    pub(super) fn heed_forwarding(&self) -> Result<()> {
        let mut state = self.lock();
        if state.removed || self.shut(&mut state)? == state.shut { Ok(()) } else { self.load_all(&mut state) }
    }

    /// Families that are forwarded because of us only, and what passes even so.
    pub(super) fn excepted(&self) -> Vec<Shut> {
        self.lock().shut.clone()
    }

    /// There is such a bridge, and it is no engine's.
    pub(super) fn is_others_bridge(&self, name: &str) -> bool {
        let State { links, rules, .. } = &mut *self.lock();
        let is_ours = |link: &link::Link| rules.bridges.contains_key(name) || mark::is_some_engines(link);
        link::find(links, name).is_ok_and(|link| !is_ours(&link))
    }

    /// The name of a link; none if it is gone.
    pub(super) fn name_of(&self, link: u32) -> Option<String> {
        link::get(&mut self.lock().links, link).ok().map(|link| link.name)
    }
}

/// Names of bridges that are no engine's.
fn others_bridges(state: &mut State) -> Result<Vec<String>> {
    let State { links, rules, .. } = state;
    let mut all =
        link::bridges(links).map_err(|error| Error::system(format!("list bridges of the host: {error}")))?;
    // One of ours may still be without its marks.
    all.retain(|bridge| !rules.bridges.contains_key(&bridge.name) && !mark::is_some_engines(bridge));
    Ok(all.into_iter().map(|bridge| bridge.name).collect())
}

/// The link is gone, or is a bridge of an engine's or a port of one. Those forward only if the host has all new links do so, and
/// the rules of their engines decide about what comes by them.
fn is_ours(links: &mut Socket, name: &str) -> bool {
    let grouped = |link: &link::Link| [mark::GROUP, mark::CLOSED].contains(&link.group);
    let Ok(found) = link::find(links, name) else { return true };
    let master = found.master.and_then(|master| link::get(links, master).ok());
    grouped(&found) || master.as_ref().is_some_and(grouped)
}

/// What the table says about itself; [`shut_by`] reads it.
pub(super) fn comment(shut: &[Shut]) -> String {
    let mut comment = String::from(OURS);
    for shut in shut {
        comment.push_str(match shut.family {
            IpFamily::V4 => "; IPv4 is forwarded for them only",
            IpFamily::V6 => "; IPv6 is forwarded for them only",
        });
    }
    comment
}

/// Families that other engines need forwarded for them.
pub(super) fn shut_by(comments: &[(String, String)]) -> Vec<IpFamily> {
    let says = |family: &str| {
        let note = format!("{family} is forwarded for them only");
        comments.iter().any(|(_, comment)| comment.starts_with(OURS) && comment.contains(&note))
    };
    let families = [(IpFamily::V4, "IPv4"), (IpFamily::V6, "IPv6")];
    families.into_iter().filter(|(_, word)| says(word)).map(|(family, _)| family).collect()
}
