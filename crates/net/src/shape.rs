//! Shaping: how fast containers may receive and send, and who gets how much of a network's own rate.
//!
//! # Where packets wait
//! ```text
//!                 container's namespace │ host's
//!   to it:    eth0 ◀────────────────────┼── host's end ◀─ again ── ts… ◀─ redirected at egress ── bridge
//!   from it:  eth0 ─────────────────────┼─▶ host's end ── redirected at ingress ─▶ ts… ─ again ─▶ bridge
//! ```
//! Each network that has limits has one intermediate device, `ts…`, with one tree of token buckets, where each direction has a
//! part of its own:
//!
//! ```text
//!   7a7e: ─┬─ :2 everything to containers, of the network's rate ─┬─ :4 to the first
//!          │                                                      └─ :6 to the second, …
//!          └─ :3 everything from containers ───────────────────────┬─ :5 from the first, …
//! ```
//! A container is guaranteed the network's rate times its share by all shares there, and borrows what others leave, up to its
//! own limit. On a network without a rate of its own the containers' classes are roots of their own, since there is nothing to
//! divide. At the hooks of a host's end an eBPF classifier of four instructions writes the class into the packet's priority,
//! which finds it in the tree at once however many there are; who may load none, as an ordinary user, has the action `skbedit`
//! for that.
//!
//! What waits in a class is what goes in a 20th of a second: all that comes waits behind it, acknowledgements too. Where the kernel
//! can, each connection waits for itself (`fq_codel`), and where one large packet would hold up the others they are taken apart
//! (`tbf`).
//!
//! Everything is in the host's namespace: a container cannot take it off, whatever it may do in its own. Who has no limit, on a
//! network without, has no hook and pays nothing.
//!
//! # Invariants
//! - A class is there before the first packet is led to it. What belongs to none passes, it is never lost.
//! - The device stays as long as its network; classes go with their containers, off the path; hooks go with the links.
//! - Guarantees are parts of one whole: changes of one network's tree happen one after the other, under its own lock, which
//!   containers of no other network and of networks without limits never take.

mod kernel;
mod plan;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tare_model::NetworkId;
use tare_model::error::{Error, Result};
use tare_model::network::{Driver, Network};
use tare_model::shaping::Shaping;
use tare_sys::netlink::Socket;

use kernel::Abilities;
use plan::{Member, Planned};

/// A container's interface on a network, and what is asked of it.
#[derive(Clone, Copy, Debug)]
pub struct Shaped<'a> {
    /// The network.
    pub network: &'a Network,
    /// Id of the endpoint.
    pub endpoint: &'a str,
    /// Index of the host's end.
    pub end: u32,
    /// Limits.
    pub shaping: &'a Shaping,
}

/// The trees of all networks.
#[derive(Debug, Default)]
pub struct Shaper {
    trees: Mutex<HashMap<NetworkId, Arc<Mutex<Tree>>>>,
}

/// One network's tree.
#[derive(Debug, Default)]
struct Tree {
    /// Index of the device, once it is known to be there, and what can be done with what waits there.
    device: Option<(u32, Abilities)>,
    members: BTreeMap<String, Member>,
    /// Classes in the kernel.
    classes: BTreeMap<u32, Planned>,
}

/// What a network cannot be asked for, whatever the kernel has.
///
/// # Errors
/// `Unsupported` for limits on a network that is not of the bridge driver.
pub fn check(network: &Network, shaping: &Shaping) -> Result<()> {
    if network.config.driver == Driver::Bridge || shaping.is_default() {
        return Ok(());
    }
    let (name, driver) = (&network.config.name, network.config.driver.name());
    Err(Error::unsupported(format!(
        "network {name}: rates and shares need the bridge driver; what containers on a {driver} network send does not pass the \
         host's side"
    )))
}

/// There is something to be limited.
fn is_needed(network: &Network, shaping: &Shaping) -> bool {
    !network.config.bridge.rates.is_unlimited() || !shaping.rates.is_unlimited()
}

// === impl Shaper ===

impl Shaper {
    /// From now on these limits hold for an interface, and no others.
    ///
    /// # Errors
    /// [`check`]'s; `Unsupported` if the kernel lacks a part; `System` with the kernel's refusal. A new interface is as before
    /// then, of one that had limits some may hold.
    pub fn shape(&self, host: &mut Socket, what: &Shaped<'_>) -> Result<()> {
        check(what.network, what.shaping)?;
        let known = self.known(&what.network.id);
        if known.is_none() && !is_needed(what.network, what.shaping) {
            return Ok(());
        }
        let tree = known.unwrap_or_else(|| self.tree(&what.network.id));
        let mut tree = lock(&tree);
        if is_needed(what.network, what.shaping) {
            return tree.shape(host, what);
        }
        tree.release(host, what.network, what.endpoint, true)
    }

    /// An interface is gone, or going.
    ///
    /// # Errors
    /// `System` with the kernel's refusal.
    pub fn leave(&self, host: &mut Socket, network: &Network, endpoint: &str) -> Result<()> {
        let Some(tree) = self.known(&network.id) else { return Ok(()) };
        lock(&tree).release(host, network, endpoint, false)
    }

    /// These are the interfaces of a network, and there are no others: what is missing is made, what is too much is taken
    /// away. Nothing is touched on a network without limits that never had any.
    ///
    /// # Errors
    /// As [`Shaper::shape`].
    pub fn restore(&self, host: &mut Socket, network: &Network, all: &[Shaped<'_>]) -> Result<()> {
        let found = kernel::find(host, network)?;
        let needed = all.iter().any(|one| is_needed(network, one.shaping));
        if found.is_none() && !needed {
            return Ok(());
        }
        let tree = self.tree(&network.id);
        let mut tree = lock(&tree);
        tree.members.clear();
        tree.classes = match found {
            Some(link) => kernel::classes(host, link)?,
            None => BTreeMap::new(),
        };
        for one in all.iter().filter(|one| is_needed(network, one.shaping)) {
            tree.seat(one)?;
        }
        for one in all.iter().filter(|one| !is_needed(network, one.shaping)) {
            kernel::unhook(host, one.end)?;
        }
        for member in tree.members.values_mut() {
            // What hooks lead to is not known: each is set or taken away anew.
            member.hooked = plan::hooks(&network.config.bridge.rates, member).map(|wanted| !wanted);
        }
        tree.settle(host, network)
    }

    /// Takes away what a network had.
    ///
    /// # Errors
    /// `System` with the kernel's refusal; that there is nothing is none.
    pub fn remove(&self, host: &mut Socket, network: &Network) -> Result<()> {
        let tree = lock(&self.trees).remove(&network.id);
        // A network that never had limits has no device: only its own rate or a tree says that there may be one.
        if tree.is_none() && network.config.driver != Driver::Bridge {
            return Ok(());
        }
        kernel::remove(host, network)
    }

    fn known(&self, network: &NetworkId) -> Option<Arc<Mutex<Tree>>> {
        lock(&self.trees).get(network).cloned()
    }

    fn tree(&self, network: &NetworkId) -> Arc<Mutex<Tree>> {
        Arc::clone(lock(&self.trees).entry(network.clone()).or_default())
    }
}

// === impl Tree ===

impl Tree {
    fn shape(&mut self, host: &mut Socket, what: &Shaped<'_>) -> Result<()> {
        let before = self.members.get(what.endpoint).cloned();
        self.seat(what)?;
        let done = self.settle(host, what.network);
        if done.is_err() {
            match before {
                // Which of its hooks are there now is still known by what was seated.
                Some(before) => self.seat_again(what.endpoint, before),
                None => {
                    self.members.remove(what.endpoint);
                    // It may lead to a class in one direction already. The first error is the one to tell.
                    let _ = kernel::unhook(host, what.end);
                }
            }
            self.abandon(host, what.network);
        }
        done
    }

    /// Gives an interface its place among the classes.
    fn seat(&mut self, what: &Shaped<'_>) -> Result<()> {
        let known = self.members.get(what.endpoint).filter(|member| member.end == what.end);
        let (slot, hooked) = match known {
            Some(member) => (member.slot, member.hooked),
            None => (plan::free_slot(what.end, &self.members)?, [false; 2]),
        };
        let member = Member { slot, end: what.end, shaping: *what.shaping, hooked };
        self.members.insert(what.endpoint.to_owned(), member);
        Ok(())
    }

    fn seat_again(&mut self, endpoint: &str, before: Member) {
        let known = self.members.get(endpoint).filter(|member| member.end == before.end);
        let hooked = known.map_or(before.hooked, |member| member.hooked);
        self.members.insert(endpoint.to_owned(), Member { hooked, ..before });
    }

    /// Brings the kernel to where the members are.
    fn settle(&mut self, host: &mut Socket, network: &Network) -> Result<()> {
        let device @ (link, abilities) = match self.device {
            Some(device) => device,
            None => {
                let link = kernel::ensure(host, network)?;
                (link, Abilities::probe(host, link)?)
            }
        };
        self.device = Some(device);
        let rates = &network.config.bridge.rates;
        let wanted = plan::classes(rates, self.members.values(), abilities.packets(network));
        kernel::make(host, device, &mut self.classes, &wanted)?;
        for member in self.members.values_mut() {
            let hooks = plan::hooks(rates, member);
            kernel::hook(host, link, member, hooks)?;
        }
        kernel::unmake(host, link, &mut self.classes, &wanted)
    }

    /// Whoever was refused the first limit of a network leaves no device behind. The refusal is the error to tell.
    fn abandon(&mut self, host: &mut Socket, network: &Network) {
        if self.members.is_empty() && kernel::remove(host, network).is_ok() {
            *self = Self::default();
        }
    }

    /// Takes an interface out. Its link may be gone already.
    fn release(&mut self, host: &mut Socket, network: &Network, endpoint: &str, stays: bool) -> Result<()> {
        let Some(member) = self.members.remove(endpoint) else { return Ok(()) };
        if stays {
            kernel::unhook(host, member.end)?;
        }
        self.settle(host, network)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
