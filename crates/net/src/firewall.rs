//! The firewall: what keeps networks apart, publishes ports, and lets containers send only as themselves.
//!
//! Tables of ours, of families `inet`, `bridge`, `ip` and `ip6`, hold a rule set that never changes and sets that do. Whatever
//! comes and goes (a network, a container's link, a published port) is a handful of elements in one transaction; a packet
//! is looked up in the same few rules however many there are.
//!
//! ```text
//!   bridge prerouting   link in @links? ─▶ (link . MAC . address) in @senders4/6, for IP, ARP, ND; else dropped
//!   bridge forward      both links in @apart (no inter-container traffic)? dropped
//!   inet   first  -300  127/8 from or to elsewhere than lo: dropped
//!   inet   prerouting, output   (address . protocol . port) in @host_ports, or a local address and
//!                               (protocol . port) in @ports ─▶ becomes the container's address and port
//!                               to a NAT subnet not by a bridge of ours: dropped
//!   inet   input        by a bridge in @carriers: dropped
//!   inet   forward      established, from or into a link of our group: passes; else
//!                       by a bridge in @carriers: passed on to another, or dropped
//!                       into a bridge ─▶ enters: within it; never if internal; established; published (DNAT, or @open
//!                                        where addresses are routed); not from another bridge; unprotected; else dropped
//!                       out of one    ─▶ leaves: not if internal
//!                       neither       ─▶ not our business, unless forwarding is only on because of us: dropped
//!   inet   postrouting  from a NAT subnet, out ─▶ the host's address; back in after DNAT, or from 127/8 ─▶ the gateway's
//! ```
//!
//! **Peace with the host's own rules.** An *accept* of ours means "no objection": other tables, and iptables, see the packet
//! as well, and what they drop on the forward hook stays dropped. Nothing of theirs is touched.
//!
//! **At every instant.** `nft flush ruleset` and the reload of a firewall pass tables by that have an owner, and since 6.9
//! such tables stay when their owner dies ([`Hold::Lasting`]). While nobody owns them, between the end of one daemon and
//! the start of the next, anybody can flush them, unless somebody keeps the owner's socket open ([`Firewall::keep`]):
//! containers' monitors do (`keep.rs`).
//! Before 6.9 the isolating part stands a second time in tables that live as long as the daemon ([`Hold::Guarded`]).
//! Everywhere a [`Watch`] loads from memory what somebody took away.
//!
//! **What the host's INPUT says about published ports** (`ufw deny 8080`) holds: what begins a connection goes there first and
//! is translated in a second round (`round.rs`), unless nobody hooks input (`direct.rs`). Where iptables' chains drop by policy, bridges are named at their ends
//! (`policy.rs`).
//!
//! **`::1`** is out of reach for DNAT: the kernel lets nothing with that source leave by another link. What the host's
//! programs connect to there is changed in their call (`loopback.rs`).
//!
//! Read `rules.rs`, `packets.rs`, `frames.rs`, then `element.rs`, `tables.rs`.

mod base;
mod check;
mod direct;
mod element;
mod flows;
mod forwarding;
mod frames;
mod keep;
mod loopback;
mod packets;
mod policy;
mod round;
mod rule;
mod rules;
mod shut;
mod sysctl;
mod tables;
mod watch;
mod zone;

#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;
use tare_model::error::{Error, Result};
use tare_model::network::{Protocol as Transport, Published};
use tare_sys::netlink::{Protocol, Socket, link};
use tare_sys::nftables::News;

use crate::link::mark;

use check::{check_bridge, check_published, clash, taken};
use element::{Member, Place, Step, add, delete, of_admitted, of_bridge, of_published, of_ruleset};
use forwarding::{Shut, Turn};
use keep::Keep;
use loopback::Loopback;
pub use rules::{Admitted, Bridge, Ruleset, Subnet};
use shut::comment;
pub use tables::Hold;
use tables::{Refused, Tables};
pub use watch::{Cause, Repair, Watch};
use zone::Zones;

/// How comments of all engines' tables begin.
const OURS: &str = "networks of tare";

/// Settings of an instance.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Name of its tables.
    pub table: String,
    /// What is done about forwarding.
    pub forwarding: Forwarding,
    /// What the host's own programs connect to on `::1` is led to published ports; without it somebody else sees to that.
    pub loopback: bool,
    /// The socket of the system's D-Bus, by which a firewalld is told about bridges.
    pub bus: PathBuf,
}

/// What is done where the host does not forward packets between links, without which containers reach nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forwarding {
    /// It stays as it is.
    Leave,
    /// It is switched on, for packets of our bridges only.
    Ours,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum IpFamily {
    V4,
    V6,
}

// === impl IpFamily ===

impl IpFamily {
    const BOTH: [Self; 2] = [Self::V4, Self::V6];
}

/// The firewall of an instance. Its calls are made in its network namespace, and wait for each other no longer than the kernel
/// takes for one transaction.
#[derive(Debug)]
pub struct Firewall {
    settings: Settings,
    /// Names of tables and the number of the socket that changes them; they do not change.
    names: [String; 2],
    port: u32,
    /// Names of the links by which first packets go round.
    ends: [String; 2],
    state: Mutex<State>,
    /// Sockets that look at connections, which takes its time, beside the changes of others and each other.
    flows: Mutex<Vec<Socket>>,
    /// An event for the [`Watch`]: connections may go the short way, or have to be asked about anew.
    stir: OwnedFd,
    zones: Zones,
}

#[derive(Debug)]
struct State {
    tables: Tables,
    rules: Ruleset,
    /// Families that forward only because of us: what is not ours is dropped.
    shut: Vec<Shut>,
    /// Why rules of the host's see first packets to published ports come by a link of ours.
    detour: Option<Error>,
    /// Why the host's rules on input do not decide about published ports; none if they do.
    unheard: Option<Error>,
    links: Socket,
    keep: Keep,
    loopback: Loopback,
    /// Why nothing is led from `::1`, though it should be.
    unled: Option<Error>,
    /// The link by which the second round begins.
    round: Option<String>,
    /// They were taken away: the [`Watch`] brings nothing back.
    removed: bool,
}

// === impl Firewall ===

impl Firewall {
    /// The firewall of the calling thread's network namespace; nothing is changed yet. `kept` is what [`Firewall::keep`]
    /// gave to somebody who outlived the daemon before.
    ///
    /// # Errors
    /// The kernel's refusal of a socket, or that it has no nftables; something else in `kept`.
    pub fn open(settings: Settings, kept: Option<OwnedFd>) -> Result<Self> {
        let (keep, socket) = match kept {
            Some(kept) => Keep::adopt(kept).map(|(keep, owner)| (keep, Socket::adopt(owner)))?,
            None => {
                let socket = Socket::open(Protocol::Netfilter).map_err(refused)?;
                (Keep::new(socket.as_fd())?, socket)
            }
        };
        let port = socket.port().map_err(refused)?;
        let mut tables = Tables::new(socket, &settings.table);
        // A kernel without nftables says so here.
        tables.comments()?;
        let names = tables.names();
        let links = Socket::open(Protocol::Route)
            .map_err(|error| Error::system(format!("socket(AF_NETLINK, NETLINK_ROUTE): {error}")))?;
        let state = State {
            tables,
            rules: Ruleset::default(),
            shut: Vec::new(),
            detour: None,
            unheard: None,
            links,
            keep,
            loopback: Loopback::default(),
            unled: None,
            round: None,
            removed: false,
        };
        let flows = Mutex::new(vec![Socket::open(Protocol::Netfilter).map_err(refused)?]);
        let (state, zones) = (Mutex::new(state), Zones::new(settings.bus.clone()));
        let ends = round::names(&settings.table);
        let stir = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|error| Error::system(format!("eventfd(): {error}")))?;
        Ok(Self { settings, names, port, ends, state, flows, zones, stir })
    }

    /// Whether the tables are there, whoever made them.
    ///
    /// # Errors
    /// The kernel's refusal; that it has no nftables.
    pub fn is_loaded(&self) -> Result<bool> {
        self.lock().tables.is_there()
    }

    /// What holds the tables and what leads from `::1`. While any copy of it is open nobody else can change or flush the
    /// tables, and ports are reached on `::1`, whether the daemon lives or not.
    ///
    /// # Errors
    /// `EMFILE`.
    pub fn keep(&self) -> Result<OwnedFd> {
        self.lock().keep.share()
    }

    /// How the tables are kept from others, once they are loaded.
    pub fn hold(&self) -> Hold {
        self.lock().tables.hold()
    }

    /// Why rules of the host's on input do not decide about published ports; none if they do.
    pub fn unheard(&self) -> Option<String> {
        self.lock().unheard.as_ref().map(ToString::to_string)
    }

    /// Why rules of the host's on forward see first packets to published ports come by a link of ours, and not by the one that
    /// they came by; none if they see that.
    pub fn detour(&self) -> Option<String> {
        self.lock().detour.as_ref().map(ToString::to_string)
    }

    /// Why firewalld may let nothing out of bridges; none if it does, or is not there.
    pub fn confined(&self) -> Option<String> {
        self.zones.why_not()
    }

    /// Why ports that are published on all addresses are not reached on `::1`; none if they are.
    pub fn unled(&self) -> Option<String> {
        self.lock().unled.as_ref().map(ToString::to_string)
    }

    /// Enforces this and nothing else, in one transaction; bridges that are there get the settings that they need.
    ///
    /// # Errors
    /// A port that is published to no subnet of `rules`, or twice; the kernel's refusal, and then nothing is changed.
    pub fn load(&self, rules: Ruleset) -> Result<()> {
        rules.bridges.values().try_for_each(check_bridge)?;
        rules.published.iter().try_for_each(|one| check_published(&rules, one))?;
        let mut state = self.lock();
        let before = std::mem::replace(&mut state.rules, rules);
        if let Err(error) = self.load_all(&mut state) {
            state.rules = before;
            return Err(error);
        }
        if self.settings.loopback {
            Self::lead_all(&mut state);
        }
        let State { rules, links, .. } = &mut *state;
        rules.bridges.keys().try_for_each(|name| prepare(links, name, rules).map(drop))?;
        drop(state);
        self.let_out();
        Ok(())
    }

    /// Adds a network, or changes it. Its bridge is there already; after it was made anew this is called again.
    ///
    /// # Errors
    /// `NotFound` without the bridge; the kernel's refusal.
    pub fn add_network(&self, bridge: Bridge) -> Result<()> {
        self.add_bridge(bridge)?;
        self.let_out();
        Ok(())
    }

    fn add_bridge(&self, bridge: Bridge) -> Result<()> {
        check_bridge(&bridge)?;
        let mut state = self.lock();
        let before = state.rules.bridges.get(&bridge.name).cloned();
        let name = bridge.name.clone();
        if before.as_ref() == Some(&bridge) {
            return there(&mut state, &name);
        }
        let mut steps = delete(before.iter().flat_map(of_bridge).collect());
        steps.extend(add(of_bridge(&bridge)));
        let apart = state.rules.keeps_apart();
        state.rules.bridges.insert(name.clone(), bridge);
        let is_first_apart = !apart && state.rules.keeps_apart();
        // What else follows from a bridge's settings is worth no trouble: they hardly ever change.
        let all = before.is_some() || is_first_apart || self.lacks_forwarding(&state)?;
        let done = if all { self.load_all(&mut state) } else { self.apply(&mut state, &steps) };
        if let Err(error) = done.and_then(|()| self.settle_in(&mut state)) {
            match before {
                Some(before) => state.rules.bridges.insert(name, before),
                None => state.rules.bridges.remove(&name),
            };
            return Err(error);
        }
        there(&mut state, &name)
    }

    /// Removes a network, with what there is on it. Nothing happens if it is not there.
    ///
    /// # Errors
    /// The kernel's refusal; then it is still there.
    pub fn remove_network(&self, name: &str) -> Result<()> {
        let mut state = self.lock();
        let rules = &state.rules;
        let Some(bridge) = rules.bridges.get(name).cloned() else { return Ok(()) };
        let inside = |one: &&Published| bridge.subnets.iter().any(|subnet| subnet.net.contains(&one.address));
        let ports: Vec<_> = rules.published.iter().filter(inside).cloned().collect();
        let links: Vec<_> = rules.admitted.values().filter(|one| one.bridge == name).cloned().collect();
        let mut members = gone(rules, &links, &ports);
        members.extend(of_bridge(&bridge));
        self.apply(&mut state, &delete(members))?;
        let unled = lead_no_longer(&mut state, &ports);
        state.rules.bridges.remove(name);
        forget(&mut state.rules, &links, &ports);
        let settled = self.settle_in(&mut state);
        drop(state);
        self.tell_firewalld([name.to_owned()]);
        settled.and(unled)
    }

    /// Lets containers send from their links, and publishes ports, all or nothing. A link is admitted before it is up.
    ///
    /// # Errors
    /// `Conflict` if a host's port is published already, `InvalidInput` if an address is on no network of ours, `Unsupported`
    /// for a port of `::1` alone where the kernel cannot lead it; the kernel's refusal. Nothing is changed then, but if the
    /// kernel would not say which datagrams went to a port before.
    pub fn admit(&self, links: &[Admitted], ports: &[Published]) -> Result<()> {
        let mut state = self.lock();
        let rules = &state.rules;
        if let Some(lost) = links.iter().find(|link| !rules.bridges.contains_key(&link.bridge)) {
            return Err(Error::invalid(format!(
                "link {} is on bridge {}, which no network has",
                lost.link, lost.bridge
            )));
        }
        let old: Vec<_> = links.iter().filter_map(|link| rules.admitted.get(&link.link)).cloned().collect();
        let mut ports: Vec<_> =
            ports.iter().filter(|port| !rules.published.contains(port)).cloned().collect();
        for (at, port) in ports.iter().enumerate() {
            check_published(rules, port)?;
            if let Some(other) = ports[..at].iter().find(|other| clash(rules, port, other)) {
                return Err(taken(port, other));
            }
        }
        let mut steps = delete(old.iter().flat_map(|one| of_admitted(rules, one)).collect());
        let mut new: Vec<Member> = links.iter().flat_map(|one| of_admitted(rules, one)).collect();
        new.extend(ports.iter().filter_map(|one| of_published(rules, one)));
        steps.extend(add(new));
        self.lead(&mut state, &ports)?;
        if let Err(error) = self.apply(&mut state, &steps) {
            // The first error is the one to tell.
            let _ = lead_no_longer(&mut state, &ports);
            return Err(error);
        }
        state.rules.admitted.extend(links.iter().map(|one| (one.link, one.clone())));
        let first = state.rules.published.is_empty() && !ports.is_empty();
        state.rules.published.extend(ports.iter().cloned());
        drop(state);
        if first {
            self.stir();
        }
        ports.retain(|port| port.protocol == Transport::Udp);
        if ports.is_empty() { Ok(()) } else { self.look(|flows| flows::of_new_ports(flows, &ports)) }
    }

    /// The contrary of [`Firewall::admit`], all or nothing. What is not there is passed by. A link is dismissed when it is
    /// gone: what it sends afterwards nobody looks at. Before its addresses are given to others comes [`Firewall::forget`].
    ///
    /// # Errors
    /// The kernel's refusal; then everything is still there.
    pub fn dismiss(&self, links: &[u32], ports: &[Published]) -> Result<()> {
        let mut state = self.lock();
        let rules = &state.rules;
        let links: Vec<_> = links.iter().filter_map(|link| rules.admitted.get(link)).cloned().collect();
        let ports: Vec<_> = ports.iter().filter(|port| rules.published.contains(port)).cloned().collect();
        let members = gone(rules, &links, &ports);
        self.apply(&mut state, &delete(members))?;
        let unled = lead_no_longer(&mut state, &ports);
        forget(&mut state.rules, &links, &ports);
        unled
    }

    /// Forgets connections of addresses whose containers are gone: they would go on to whoever has the address next. Takes
    /// milliseconds, for many addresses as for one: off the path of anybody who waits.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn forget(&self, addresses: &[IpAddr]) -> Result<()> {
        self.look(|flows| flows::of_addresses(flows, addresses))
    }

    /// Publishes ports.
    ///
    /// # Errors
    /// As [`Firewall::admit`].
    pub fn publish(&self, ports: &[Published]) -> Result<()> {
        self.admit(&[], ports)
    }

    /// Publishes ports no longer.
    ///
    /// # Errors
    /// As [`Firewall::dismiss`].
    pub fn unpublish(&self, ports: &[Published]) -> Result<()> {
        self.dismiss(&[], ports)
    }

    /// Loads everything anew from memory; nothing after [`Firewall::remove`].
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn restore(&self) -> Result<()> {
        let mut state = self.lock();
        if state.removed {
            return Ok(());
        }
        if state.unled.is_some() {
            Self::lead_all(&mut state);
        }
        self.load_all(&mut state)
    }

    /// Takes our tables away: at the end of an instance, when no network is left.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn remove(&self) -> Result<()> {
        let mut state = self.lock();
        let _turn = Turn::take();
        state.removed = true;
        let rules = std::mem::take(&mut state.rules);
        state.round = None;
        let settled = self.settle_in(&mut state);
        let State { loopback, keep, .. } = &mut *state;
        let unled = loopback.end(keep);
        // Before what keeps the host from being a router goes: between the two somebody may kill us.
        let is_ours = self.settings.forwarding == Forwarding::Ours;
        let stopped = if is_ours { self.stop_forwarding(&mut state) } else { Ok(()) };
        let deleted = state.tables.delete();
        let removed = round::remove(&mut state.links, &self.settings.table);
        drop(state);
        self.tell_firewalld(rules.bridges.into_keys());
        settled.and(deleted).and(removed).and(unled).and(stopped)
    }

    /// Where firewalld runs, it lets packets out of our bridges. What it answers is [`Firewall::confined`]'s.
    fn let_out(&self) {
        self.tell_firewalld([]);
    }

    /// It may take seconds to answer: nobody waits for the rules meanwhile.
    fn tell_firewalld(&self, gone: impl IntoIterator<Item = String>) {
        let mut state = self.lock();
        let tables = state.tables.comments();
        let outward = state.rules.bridges.values().filter(|bridge| !bridge.internal);
        let out = outward.map(|bridge| bridge.name.clone()).collect();
        drop(state);
        match tables {
            Ok(tables) if tables.iter().any(|(name, _)| name == zone::TABLE) => self.zones.tell(out, gone),
            other => self.zones.leave(other.err()),
        }
    }

    /// Everything that is published, and nothing else, is led from `::1`, or it is known why not.
    fn lead_all(state: &mut State) {
        let State { loopback, rules, keep, links, unled, .. } = state;
        *unled = loopback.load(rules, keep, links.as_fd()).err();
    }

    /// From `::1` too, where the kernel can; a port that is of no other address needs it.
    fn lead(&self, state: &mut State, ports: &[Published]) -> Result<()> {
        if !self.settings.loopback || !ports.iter().any(loopback::is_meant) {
            return Ok(());
        }
        let State { loopback, rules, keep, links, unled, .. } = state;
        // What could not be led before may be now; its reason holds as long as it cannot.
        let before = if unled.is_some() { loopback.load(rules, keep, links.as_fd()) } else { Ok(()) };
        let led = before.and_then(|()| loopback.add(rules, ports, keep, links.as_fd()));
        let needed = ports.iter().find(|port| loopback::is_loopback(port));
        *unled = led.err();
        match (needed, unled.as_ref()) {
            (Some(Published { host_port, protocol, .. }), Some(why)) => Err(Error::unsupported(format!(
                "port [::1]:{host_port}/{protocol} cannot be led to a container: {why}; publish on 127.0.0.1 or on another address"
            ))),
            _ => Ok(()),
        }
    }

    /// Lets what is ours pass where the host drops by policy.
    fn settle(&self) -> Result<()> {
        let mut state = self.lock();
        if state.removed { Ok(()) } else { self.settle_in(&mut state) }
    }

    fn settle_in(&self, state: &mut State) -> Result<()> {
        if self.settings.forwarding == Forwarding::Leave {
            return Ok(());
        }
        let tables = state.tables.comments()?.into_iter().filter(|(_, comment)| comment.starts_with(OURS));
        let bridges = state.rules.bridges.values().filter(|bridge| !bridge.internal);
        let passing = policy::Passing {
            engines: tables.map(|(name, _)| name).collect(),
            owner: self.settings.table.clone(),
            bridges: bridges.clone().map(|bridge| bridge.name.clone()).collect(),
            carriers: state.rules.bridges.values().map(|bridge| bridge.carriers.clone()).collect(),
            round: state.round.clone(),
        };
        policy::settle(state.tables.socket_mut(), &passing)
    }

    /// Somebody changed where the host may drop by policy.
    fn is_policy(news: News<'_>) -> bool {
        news.table == policy::TABLE
    }

    /// The pair by which first packets go round is to be there, and is not, or is down.
    fn lacks_round(&self) -> bool {
        let mut state = self.lock();
        state.round.is_some() && !round::is_up(&mut state.links, &self.settings.table)
    }

    /// firewalld has begun, has loaded its rules anew, or changed some.
    fn is_firewalld(news: News<'_>) -> bool {
        news.table == zone::TABLE
    }

    /// Something was done to our tables.
    fn concerns(&self, news: News<'_>) -> bool {
        self.names.iter().any(|name| name == news.table)
    }

    /// Changes the tables; where they are not as we think, makes them anew. The caller has the lock, and changes
    /// `state.rules` afterwards if this succeeded.
    fn apply(&self, state: &mut State, steps: &[Step]) -> Result<()> {
        if steps.is_empty() {
            return Ok(());
        }
        let out_of_step = |refused: &Refused| refused.is_out_of_step();
        match state.tables.apply(steps) {
            Err(refused) if out_of_step(&refused) => {
                self.load_all(state)?;
                Ok(state.tables.apply(steps)?)
            }
            outcome => Ok(outcome?),
        }
    }

    fn load_all(&self, state: &mut State) -> Result<()> {
        let _turn = Turn::take();
        state.removed = false;
        let needed = self.needed(state);
        state.shut = self.shut(state)?;
        let shut = &state.shut[..];
        let rules = add(of_ruleset(&state.rules));
        let (comment, apart) = (comment(shut), state.rules.keeps_apart());
        state.unheard = match round::ensure(&mut state.links, &self.settings.table) {
            Ok(round) => {
                state.tables.hear([true, round.six]);
                let steps = [base::steps(shut, Some(&round), apart), rules.clone()].concat();
                (state.round, state.detour) = (Some(round.there), round.detour);
                state.tables.load(&steps, &comment).err()
            }
            Err(error) => Some(error),
        };
        if state.unheard.is_some() {
            state.tables.hear([false; 2]);
            state.round = None;
            state.tables.load(&[base::steps(shut, None, apart), rules].concat(), &comment)?;
        }
        self.stir();
        // Only now that the rules are there, by which other engines see that we need it.
        for family in needed {
            if forwarding::state(family)? == forwarding::State::Off {
                forwarding::start(family)?;
            }
        }
        self.settle_in(state)
    }

    /// Has the [`Watch`], if there is one, look whether connections may go the short way.
    fn stir(&self) {
        // It fails only when it is stirred already.
        let _ = rustix::io::write(&self.stir, &1_u64.to_ne_bytes());
    }

    /// Looks at connections, by a socket of its own.
    fn look(&self, work: impl FnOnce(&mut Socket) -> Result<()>) -> Result<()> {
        let idle = self.flows().pop();
        let mut socket = idle.map_or_else(|| Socket::open(Protocol::Netfilter), Ok).map_err(refused)?;
        work(&mut socket)?;
        // After an error there may be answers on it that nobody has read. More than two look at once for a moment only.
        let mut flows = self.flows();
        if flows.len() < 2 {
            flows.push(socket);
        }
        Ok(())
    }

    fn flows(&self) -> MutexGuard<'_, Vec<Socket>> {
        self.flows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic leaves the rules as they were: they change after the kernel's.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn lead_no_longer(state: &mut State, ports: &[Published]) -> Result<()> {
    let State { loopback, rules, keep, .. } = state;
    loopback.remove(rules, ports, keep)
}

fn refused(error: tare_sys::netlink::Error) -> Error {
    Error::system(format!("nftables: socket(AF_NETLINK, NETLINK_NETFILTER): {error}"))
}

/// Elements that go with these links and ports: not those that others need as well.
fn gone(rules: &Ruleset, links: &[Admitted], ports: &[Published]) -> Vec<Member> {
    let mut members: Vec<Member> = links.iter().flat_map(|one| of_admitted(rules, one)).collect();
    for port in ports {
        let Some(member) = of_published(rules, port) else { continue };
        // Where addresses are routed, ports of the host that lead to one port of a container are one element.
        let shared = member.place == Place::Filter
            && (members.contains(&member)
                || rules.published.iter().any(|other| {
                    !ports.contains(other)
                        && other.address == port.address
                        && of_published(rules, other).as_ref() == Some(&member)
                }));
        if !shared {
            members.push(member);
        }
    }
    members
}

fn forget(rules: &mut Ruleset, links: &[Admitted], ports: &[Published]) {
    for one in links {
        rules.admitted.remove(&one.link);
    }
    for one in ports {
        rules.published.remove(one);
    }
}

fn there(state: &mut State, name: &str) -> Result<()> {
    let State { rules, links, .. } = state;
    match prepare(links, name, rules)? {
        true => Ok(()),
        false => Err(Error::not_found(format!("bridge {name} is not there: it is made before its rules"))),
    }
}

/// What a bridge needs; false if it is not there.
fn prepare(links: &mut Socket, name: &str, rules: &Ruleset) -> Result<bool> {
    let closed = rules.bridges.get(name).is_some_and(|bridge| bridge.internal);
    let group = Some(if closed { mark::CLOSED } else { mark::GROUP });
    let group = link::Change { group, ..link::Change::default() };
    match link::find(links, name).and_then(|found| link::change(links, found.index, &group)) {
        Ok(()) => sysctl::bridge(name),
        Err(error) if error.errno() == Errno::NODEV => Ok(false),
        Err(error) => Err(Error::system(format!("link {name}: set its group: {error}"))),
    }
}
