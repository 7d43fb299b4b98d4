//! The second round: what lets the host's rules on input decide about published ports.
//!
//! A pair of links of ours, both ends the host's. Behind everybody's rules on input a copy of what begins a connection to a
//! published port goes into the one end and comes in again by the other, where it is translated; the original is dropped.
//!
//! ```text
//!   eth0 ─▶ prerouting ─▶ input: the host's rules ─▶ ours: copy, drop
//!                                                     │
//!             ┌─ tare-…-i ◀─ tare-…-o ◀───────────────┘
//!             ▼
//!           prerouting: becomes the container's ─▶ forward ─▶ bridge
//! ```
//!
//! Nobody else's packets are on it: no route leads there. Connection tracking has the translation from then on, so that
//! what follows takes the short way.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rustix::io::Errno;
use tare_model::error::{Error, Result};
use tare_sys::netlink::address::{self, Address};
use tare_sys::netlink::link::{self, Change, Kind, NewLink};
use tare_sys::netlink::route::{self, Route};
use tare_sys::netlink::{self, Socket};

use super::sysctl;

/// Both ends have it, so that each takes what the other sends.
const MAC: link::Mac = [2, 0x74, 0x61, 0x72, 0x65, 1];
/// What a datagram of many fragments may measure.
const MTU: u32 = 65_535;
/// Whoever has no address cannot be asked whether a sender can be reached (`rp_filter`). This is the one of those who have
/// none (RFC 7600, section 4.8).
const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 0, 8));
/// Where copies are sent to, which nobody has to have (RFC 5737).
pub(super) const TO: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// The same of IPv6; needs a route.
pub(super) const TO6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

/// The pair as the rules know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Round {
    /// Name of the end that copies are sent by.
    pub(super) there: String,
    /// Index of the end that copies are sent by.
    pub(super) out: u32,
    /// Name of the end that they come in by.
    pub(super) back: String,
    /// The host has IPv6.
    pub(super) six: bool,
}

/// The pair of a table, which is made if it is not there.
pub(super) fn ensure(socket: &mut Socket, table: &str) -> Result<Round> {
    let [out, back] = names(table);
    let made = match (link::find(socket, &out), link::find(socket, &back)) {
        (Ok(out), Ok(back)) => (out.index, back.index),
        _ => make(socket, &out, &back).map_err(|error| failed(&out, &error))?,
    };
    let six = sysctl::round(&out, &back)?;
    for index in [made.1, made.0] {
        prepare(socket, index).map_err(|error| failed(&out, &error))?;
    }
    let address = Address { link: made.1, ip: ADDRESS, prefix: 32 };
    there(address::add(socket, &address)).map_err(|error| failed(&back, &error))?;
    if six {
        let route =
            Route { network: TO6.into(), prefix: 128, gateway: None, link: Some(made.0), metric: None };
        there(route::add(socket, &route)).map_err(|error| failed(&out, &error))?;
    }
    Ok(Round { there: out, out: made.0, back, six })
}

/// Takes it away.
pub(super) fn remove(socket: &mut Socket, table: &str) -> Result<()> {
    let [out, _] = names(table);
    match link::find(socket, &out).and_then(|found| link::delete(socket, found.index)) {
        Err(error) if error.errno() != Errno::NODEV => Err(failed(&out, &error)),
        _ => Ok(()),
    }
}

fn make(socket: &mut Socket, out: &str, back: &str) -> netlink::Result<(u32, u32)> {
    let end = |name| NewLink { mac: Some(MAC), mtu: Some(MTU), ..NewLink::new(name, None) };
    let peer = Box::new(end(back));
    link::create(socket, &NewLink { kind: Some(Kind::Veth { peer }), ..end(out) })?;
    Ok((link::find(socket, out)?.index, link::find(socket, back)?.index))
}

fn prepare(socket: &mut Socket, index: u32) -> netlink::Result<()> {
    let quiet = Change { no_ipv6_address: true, ..Change::default() };
    match link::change(socket, index, &quiet) {
        // The host has no IPv6.
        Err(error) if error.errno() != Errno::AFNOSUPPORT => return Err(error),
        _ => {}
    }
    link::change(socket, index, &Change { up: Some(true), no_arp: true, ..Change::default() })
}

fn there(done: netlink::Result<()>) -> netlink::Result<()> {
    done.or_else(|error| if error.errno() == Errno::EXIST { Ok(()) } else { Err(error) })
}

/// Names of the ends: a link's name has no room for that of every table.
fn names(table: &str) -> [String; 2] {
    // FNV-1a.
    let hash =
        table.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    ["o", "i"].map(|end| format!("tare-{hash:08x}-{end}"))
}

fn failed(name: &str, error: &netlink::Error) -> Error {
    Error::system(format!("link {name}, by which the host's rules on input are heard: {error}"))
}
