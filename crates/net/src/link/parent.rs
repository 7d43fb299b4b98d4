//! The link that macvlan and ipvlan networks are on: one of the host's, a VLAN of one, or one that leads nowhere.

use rustix::io::Errno;
use tare_model::error::{Error, ErrorKind, Result};
use tare_model::network::{Driver, Network, ParentMode};
use tare_sys::netlink::Socket;
use tare_sys::netlink::link::{self, Change, Kind, Link, NewLink};

use super::bridge::find;
use super::mark;
use super::refusal::{Refused, but};

// <linux/if_link.h>
const MACVLAN_MODE_PRIVATE: u32 = 1;
const MACVLAN_MODE_VEPA: u32 = 2;
const MACVLAN_MODE_BRIDGE: u32 = 4;
const MACVLAN_MODE_PASSTHRU: u32 = 8;
const IPVLAN_MODE_L2: u16 = 0;
const IPVLAN_MODE_L3: u16 = 1;
const IPVLAN_MODE_L3S: u16 = 2;
const IPVLAN_F_PRIVATE: u16 = 1;
const IPVLAN_F_VEPA: u16 = 2;

/// The kind of a container's link on `parent`; none for drivers that have no such.
pub(super) fn kind(network: &Network, parent: u32) -> Option<Kind<'static>> {
    let mode = network.config.parent.mode;
    match network.config.driver {
        Driver::Macvlan => {
            let mode = match mode {
                ParentMode::Vepa => MACVLAN_MODE_VEPA,
                ParentMode::Passthru => MACVLAN_MODE_PASSTHRU,
                ParentMode::Private => MACVLAN_MODE_PRIVATE,
                ParentMode::Default | ParentMode::L3 | ParentMode::L3s => MACVLAN_MODE_BRIDGE,
            };
            Some(Kind::Macvlan { parent, mode })
        }
        Driver::Ipvlan => {
            let (mode, flags) = match mode {
                ParentMode::L3 => (IPVLAN_MODE_L3, 0),
                ParentMode::L3s => (IPVLAN_MODE_L3S, 0),
                ParentMode::Private => (IPVLAN_MODE_L2, IPVLAN_F_PRIVATE),
                ParentMode::Vepa => (IPVLAN_MODE_L2, IPVLAN_F_VEPA),
                ParentMode::Default | ParentMode::Passthru => (IPVLAN_MODE_L2, 0),
            };
            Some(Kind::Ipvlan { parent, mode, flags })
        }
        Driver::Bridge | Driver::Host | Driver::None => None,
    }
}

/// Index of the link, which is made if it is a VLAN or leads nowhere.
pub(super) fn ensure(host: &mut Socket, network: &Network) -> Result<u32> {
    let name = name(network);
    if let Some(link) = find(host, &name)? {
        if ours(&link, network) {
            up(host, network, &link)?;
        }
        return Ok(link.index);
    }
    let kind = match vlan(network) {
        _ if network.config.parent.link.is_none() => Kind::Dummy,
        Some((parent, id)) => Kind::Vlan { parent: existing(host, parent)?.index, id },
        None => return Err(missing(&name)),
    };
    let word = if matches!(kind, Kind::Dummy) { "dummy" } else { "vlan" };
    let made = link::create(host, &NewLink::new(&name, Some(kind)));
    unsupported(made, word)
        .and_then(|made| but(made, &[Errno::EXIST]).refused(|| format!("RTM_NEWLINK({word} {name})")))?;
    let link = link::find(host, &name).refused(|| format!("RTM_GETLINK({name})"))?;
    up(host, network, &link)?;
    Ok(link.index)
}

/// Removes the link if it is ours.
pub(super) fn remove(host: &mut Socket, network: &Network) -> Result<()> {
    let name = name(network);
    match find(host, &name)? {
        Some(link) if ours(&link, network) => {
            but(link::delete(host, link.index), &[Errno::NODEV]).refused(|| format!("RTM_DELLINK({name})"))
        }
        _ => Ok(()),
    }
}

/// A kernel without such links says so in a word that nobody understands.
pub(super) fn unsupported(
    outcome: tare_sys::netlink::Result<()>,
    kind: &str,
) -> Result<tare_sys::netlink::Result<()>> {
    match outcome {
        Err(error) if error.errno() == Errno::OPNOTSUPP => Err(Error::unsupported(format!(
            "this kernel has no {kind} links: RTM_NEWLINK({kind}): {error}: load the module {kind}, or use a kernel \
             with CONFIG_{}",
            match kind {
                "vlan" => "VLAN_8021Q".to_owned(),
                _ => kind.to_uppercase(),
            }
        ))),
        outcome => Ok(outcome),
    }
}

fn up(host: &mut Socket, network: &Network, link: &Link) -> Result<()> {
    let alias = mark::alias(network);
    let change = Change { up: Some(true), alias: Some(&alias), ..Change::default() };
    link::change(host, link.index, &change).refused(|| format!("RTM_SETLINK({}, up)", link.name))
}

fn name(network: &Network) -> String {
    network.config.parent.link.clone().unwrap_or_else(|| mark::dummy(network))
}

fn ours(link: &Link, network: &Network) -> bool {
    matches!(link.kind.as_str(), "vlan" | "dummy") && link.alias == mark::alias(network)
}

/// `eth0.20` is VLAN 20 of `eth0`.
fn vlan(network: &Network) -> Option<(&str, u16)> {
    let (parent, id) = network.config.parent.link.as_deref()?.rsplit_once('.')?;
    let id = id.parse().ok().filter(|id| (1..=4094).contains(id))?;
    Some((parent, id))
}

fn existing(host: &mut Socket, name: &str) -> Result<Link> {
    find(host, name)?.ok_or_else(|| missing(name))
}

fn missing(name: &str) -> Error {
    let message = format!(
        "parent link {name} does not exist on the host: `ip link` shows those that do; a VLAN is written LINK.ID, with an ID of \
         1 to 4094"
    );
    Error::new(ErrorKind::NotFound, message)
}
