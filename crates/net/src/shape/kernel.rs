//! Trees in the kernel: the device, its classes, and the hooks that lead packets there.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use tare_model::error::{Error, Result};
use tare_model::network::Network;
use tare_sys::bpf::{Instruction, load_classifier};
use tare_sys::netlink::link::{self, Change, Kind, NewLink, Which};
use tare_sys::netlink::traffic::{self, Class, Hook, Lead};
use tare_sys::netlink::{self, Request, Socket};

use super::plan::{Direction, Member, Packets, Planned, Queue, TREE};
use crate::link::mark;
use crate::link::refusal::{Refused, but};

/// Place of the priority in `struct __sk_buff`, which programs are given.
const PRIORITY: i16 = 32;

/// Index of a network's device, if it has one.
pub(super) fn find(host: &mut Socket, network: &Network) -> Result<Option<u32>> {
    let name = mark::shaper(network);
    match link::find(host, &name) {
        Err(error) if error.errno() == Errno::NODEV => Ok(None),
        found => {
            let found = found.refused(|| format!("RTM_GETLINK({name})"))?;
            if found.kind != "ifb" {
                return Err(Error::conflict(format!(
                    "link {name} is not this engine's: rename or remove it"
                )));
            }
            Ok(Some(found.index))
        }
    }
}

/// A network's device, with an empty tree or the one that it has.
pub(super) fn ensure(host: &mut Socket, network: &Network) -> Result<u32> {
    let name = mark::shaper(network);
    let index = match find(host, network)? {
        Some(index) => index,
        None => {
            let new = NewLink { queues: Some(1), ..NewLink::new(&name, Some(Kind::Ifb)) };
            lacks(but(link::create(host, &new), &[Errno::EXIST]), "ifb devices (CONFIG_IFB)")?;
            find(host, network)?.ok_or_else(|| Error::system(format!("RTM_GETLINK({name}): it is gone")))?
        }
    };
    let which = Which::Index(index);
    let alias = mark::alias(network);
    let change = Change { alias: Some(&alias), no_ipv6_address: true, ..Change::default() };
    let up = Change { up: Some(true), ..Change::default() };
    host.all(vec![change.request(which), up.request(which)])
        .refused(|| format!("RTM_SETLINK({name}, up)"))?;
    let tree = but(host.call(traffic::tree(index, TREE)), &[Errno::EXIST]);
    lacks(tree, "the queueing discipline htb (CONFIG_NET_SCH_HTB)")?;
    Ok(index)
}

/// What this kernel can do with what waits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Abilities {
    /// Take large packets apart.
    split: bool,
    /// Let each connection wait for itself.
    fair: bool,
}

// === impl Abilities ===

impl Abilities {
    /// Found by doing, in a class of the device that is gone again afterwards.
    pub(super) fn probe(host: &mut Socket, link: u32) -> Result<Self> {
        // Direction Out of slot 0, which nobody has.
        let id = u32::from(TREE) << 16 | 1;
        let class = Class { link, id, parent: None, rate: 1, ceiling: 1, burst: 1, quantum: 1514 };
        host.call(class.request()).refused(|| "RTM_NEWTCLASS(htb)".to_owned())?;
        let split = host.call(traffic::split(link, id, u32::from(u16::MAX), 1)).is_ok();
        let fair = host.call(traffic::fair(link, id, 1, 1)).is_ok();
        host.call(class.deletion()).refused(|| format!("RTM_DELTCLASS({id:#x})"))?;
        Ok(Self { split, fair })
    }

    /// Of a network.
    pub(super) fn packets(self, network: &Network) -> Packets {
        // The head of an Ethernet frame, and tags of VLANs.
        let frame = network.config.bridge.mtu.unwrap_or(1500).saturating_add(14 + 8);
        Packets { split: self.split, frame }
    }

    /// What is asked for of a class.
    fn queue(self, link: u32, class: u32, queue: &Queue) -> Vec<Request> {
        let Queue { bytes, delay, frame } = *queue;
        let mut requests: Vec<Request> =
            frame.map(|frame| traffic::split(link, class, frame, bytes)).into_iter().collect();
        let class = frame.map_or(class, |_| traffic::inner(class));
        match (self.fair, frame) {
            // Of those who do not slow down all the same, as much as would wait otherwise, and what the kernel needs beside it.
            (true, _) => requests.push(traffic::fair(link, class, delay, bytes.saturating_mul(2))),
            (false, Some(_)) => {}
            (false, None) => requests.push(traffic::queue(link, class, bytes)),
        }
        requests
    }
}

/// The classes that a device has.
pub(super) fn classes(host: &mut Socket, link: u32) -> Result<BTreeMap<u32, Planned>> {
    let found = traffic::classes(host, link).refused(|| format!("RTM_GETTCLASS(link {link})"))?;
    let known = |class: Class| {
        // What may wait in it is not read: so it differs from every plan and is set again.
        let Class { parent, rate, ceiling, burst, quantum, .. } = class;
        let queue = Some(Queue { bytes: 0, delay: 0, frame: None });
        (class.id, Planned { parent, rate, ceiling, burst, quantum, queue })
    };
    Ok(found.into_iter().map(known).collect())
}

/// Makes and changes classes, in one packet.
pub(super) fn make(
    host: &mut Socket,
    (link, abilities): (u32, Abilities),
    current: &mut BTreeMap<u32, Planned>,
    wanted: &BTreeMap<u32, Planned>,
) -> Result<()> {
    // A class keeps its parent: who comes under one, or out from under it, is made anew. What waits in it is lost.
    let moved: Vec<u32> = wanted
        .iter()
        .filter(|(id, class)| current.get(id).is_some_and(|old| old.parent != class.parent))
        .map(|(id, _)| *id)
        .collect();
    delete(host, link, current, moved)?;
    let mut requests = Vec::new();
    for (id, class) in wanted.iter().filter(|(id, class)| current.get(id) != Some(class)) {
        requests.push(typed(link, *id, class).request());
        if let Some(queue) = &class.queue {
            requests.extend(abilities.queue(link, *id, queue));
        }
    }
    host.all(requests).refused(|| "RTM_NEWTCLASS(htb)")?;
    current.extend(wanted);
    Ok(())
}

/// Takes classes away that are not wanted any more.
pub(super) fn unmake(
    host: &mut Socket,
    link: u32,
    current: &mut BTreeMap<u32, Planned>,
    wanted: &BTreeMap<u32, Planned>,
) -> Result<()> {
    // Those that others borrow from have the lowest numbers: they go last.
    let gone: Vec<u32> = current.keys().copied().filter(|id| !wanted.contains_key(id)).rev().collect();
    delete(host, link, current, gone)
}

fn delete(host: &mut Socket, link: u32, current: &mut BTreeMap<u32, Planned>, gone: Vec<u32>) -> Result<()> {
    for id in gone {
        let class = typed(link, id, &current[&id]);
        but(host.call(class.deletion()), &[Errno::NOENT]).refused(|| format!("RTM_DELTCLASS({id:#x})"))?;
        current.remove(&id);
    }
    Ok(())
}

fn typed(link: u32, id: u32, class: &Planned) -> Class {
    let Planned { parent, rate, ceiling, burst, quantum, .. } = *class;
    Class { link, id, parent, rate, ceiling, burst, quantum }
}

/// Leads packets of a member to its classes, in those directions and no others.
pub(super) fn hook(host: &mut Socket, link: u32, member: &mut Member, wanted: [bool; 2]) -> Result<()> {
    if member.hooked == wanted {
        return Ok(());
    }
    let hooks = but(host.call(traffic::hooks(member.end)), &[Errno::EXIST, Errno::NODEV]);
    lacks(hooks, "the hooks clsact (CONFIG_NET_SCH_INGRESS)")?;
    for (place, direction) in Direction::BOTH.into_iter().enumerate() {
        let at = at(direction);
        if wanted[place] {
            lead(host, member.end, at, direction.class(member.slot), link)?;
        } else if member.hooked[place] {
            but(traffic::pass(host, member.end, at), &[Errno::NOENT, Errno::INVAL, Errno::NODEV])
                .refused(|| format!("RTM_DELTFILTER(link {})", member.end))?;
        }
        member.hooked[place] = wanted[place];
    }
    Ok(())
}

/// Leads what is seen at a hook to a class.
fn lead(host: &mut Socket, end: u32, at: Hook, class: u32, link: u32) -> Result<()> {
    let program = program(class)?;
    let (lead, parts) = match &program {
        Some(program) => (
            Lead::Program(program.as_fd()),
            "the classifier bpf or the action mirred (CONFIG_NET_CLS_BPF, CONFIG_NET_ACT_MIRRED)",
        ),
        None => (
            Lead::Priority(class),
            "the classifier bpf or the actions skbedit and mirred, as there are no rights over the machine to load an eBPF \
             program (CONFIG_NET_CLS_BPF, CONFIG_NET_ACT_SKBEDIT, CONFIG_NET_ACT_MIRRED)",
        ),
    };
    // A link that is gone has nothing to be led.
    lacks(but(host.call(traffic::redirect(end, at, lead, link)), &[Errno::NODEV]), parts)
}

/// Leads nothing any more; that nothing was led is no error.
pub(super) fn unhook(host: &mut Socket, end: u32) -> Result<()> {
    let gone = but(traffic::remove_hooks(host, end), &[Errno::NOENT, Errno::INVAL, Errno::NODEV]);
    gone.refused(|| format!("RTM_DELQDISC(link {end}, clsact)"))
}

/// Takes a network's device away, with its tree.
pub(super) fn remove(host: &mut Socket, network: &Network) -> Result<()> {
    let Some(index) = find(host, network)? else { return Ok(()) };
    but(link::delete(host, index), &[Errno::NODEV])
        .refused(|| format!("RTM_DELLINK({})", mark::shaper(network)))
}

/// What a container receives is what the host sends.
fn at(direction: Direction) -> Hook {
    match direction {
        Direction::In => Hook::Egress,
        Direction::Out => Hook::Ingress,
    }
}

/// Writes a class into the packet's priority and answers with the filter's own verdict, which is to send it elsewhere. `None` for
/// who may load no program: an ordinary user, whatever rights there are over the network.
fn program(class: u32) -> Result<Option<OwnedFd>> {
    let instructions = [
        Instruction::new(0xb4, 2, 0, 0, class.cast_signed()),
        Instruction::new(0x63, 1, 2, PRIORITY, 0),
        Instruction::new(0xb7, 0, 0, 0, -1),
        Instruction::new(0x95, 0, 0, 0, 0),
    ];
    match load_classifier(&instructions) {
        Err(Errno::PERM) => Ok(None),
        loaded => loaded.map(Some).map_err(|e| Error::system(format!("bpf(BPF_PROG_LOAD, classifier): {e}"))),
    }
}

/// A refusal because the kernel was built without something names it.
fn lacks(outcome: netlink::Result<()>, what: &str) -> Result<()> {
    outcome.map_err(|error| match error.errno() {
        Errno::OPNOTSUPP | Errno::NOENT => {
            Error::unsupported(format!("rates and shares need {what}, which this kernel lacks: {error}"))
        }
        _ => Error::system(format!("set up {what}: {error}")),
    })
}
