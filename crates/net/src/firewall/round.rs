//! The second round: what lets the host's rules on input decide about published ports.
//!
//! Behind everybody's rules on input, what begins a connection to a published port is remembered (`let_in4`, `let_in6`), a copy
//! of it is sent by a link of ours, and the original is dropped. A program on that link has the copy received once more by
//! the link that the original came by. There it is known, and translated.
//!
//! ```text
//!   eth0 ─▶ prerouting ─▶ input: the host's rules ─▶ ours: remember, copy, drop
//!    ▲                                                 │
//!    └───────── tare-…-o: the program ◀────────────────┘
//!   eth0 ─▶ prerouting: becomes the container's ─▶ forward ─▶ bridge
//! ```
//!
//! So whatever rule names the link, or asks whether a sender would be reached by it, sees what it would see without us. Its
//! frame is a multicast, since a program knows no hardware address of the link: the chain `again` makes it the host's.
//!
//! Where no program can be had, the copy comes in by the other end of the pair, `tare-…-i`, and everything else is the same.
//! Nobody else's packets are on the pair: no route leads there. Connection tracking has the translation from then on, so that
//! what follows takes the short way.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;

use rustix::io::Errno;
use tare_model::error::{Error, Result};
use tare_sys::bpf::{Instruction, load_classifier};
use tare_sys::netlink::address::{self, Address};
use tare_sys::netlink::link::{self, Change, Kind, NewLink};
use tare_sys::netlink::route::{self, Route};
use tare_sys::netlink::traffic::{self, Hook};
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

/// `PACKET_HOST` and `PACKET_MULTICAST`.
pub(super) const TO_HOST: u8 = 0;
pub(super) const MULTICAST: u8 = 2;
/// What copies are sent to. Nobody listens to it.
pub(super) const ASTRAY: link::Mac = [3, 0x74, 0x61, 0x72, 0x65, 1];

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
    /// Why copies do not come in by the link that the originals came by; none if they do.
    pub(super) detour: Option<Error>,
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
    let detour = lead_back(socket, made.0).err();
    Ok(Round { there: out, out: made.0, back, six, detour })
}

/// Copies that leave by the link come in where the originals came in.
fn lead_back(socket: &mut Socket, out: u32) -> Result<()> {
    let refused = |what: &str, error: &dyn std::fmt::Display| Error::system(format!("{what}: {error}"));
    let program = load_classifier(&program()).map_err(|e| refused("BPF_PROG_LOAD(classifier)", &e))?;
    there(socket.call(traffic::hooks(out))).map_err(|e| refused("RTM_NEWQDISC(clsact)", &e))?;
    let decide = traffic::decide(out, Hook::Egress, program.as_fd());
    socket.call(decide).map_err(|e| refused("RTM_NEWTFILTER(bpf)", &e))
}

/// Has a packet received by the link that it came by first. Without one it goes on.
fn program() -> Vec<Instruction> {
    const CAME_BY: i16 = 36; // `struct __sk_buff`: ingress_ifindex
    const ETHER: i16 = -8; // on the stack
    const STORE_BYTES: i32 = 9;
    const REDIRECT: i32 = 23;
    const INGRESS: i32 = 1;
    let [a, b, c, d, e, f] = ASTRAY;
    let (start, end) = (i32::from_ne_bytes([a, b, c, d]), i32::from_ne_bytes([e, f, 0, 0]));
    let instruction = |code, to, from, offset, value| Instruction::new(code, to, from, offset, value);
    vec![
        instruction(0xbf, 6, 1, 0, 0),       // r6 = the packet
        instruction(0x61, 7, 6, CAME_BY, 0), // r7 = the link
        instruction(0x15, 7, 0, 11, 0),      // none: to the end
        instruction(0x62, 10, 0, ETHER, start),
        instruction(0x62, 10, 0, ETHER + 4, end),
        instruction(0xb7, 2, 0, 0, 0), // where the frame begins
        instruction(0xbf, 3, 10, 0, 0),
        instruction(0x07, 3, 0, 0, ETHER.into()),
        instruction(0xb7, 4, 0, 0, 6),
        instruction(0xb7, 5, 0, 0, 0),
        instruction(0x85, 0, 0, 0, STORE_BYTES),
        instruction(0xbf, 1, 7, 0, 0),
        instruction(0xb7, 2, 0, 0, INGRESS),
        instruction(0x05, 0, 0, 2, 0), // over the end
        instruction(0xb7, 0, 0, 0, 0), // TC_ACT_OK
        instruction(0x95, 0, 0, 0, 0),
        instruction(0x85, 0, 0, 0, REDIRECT),
        instruction(0x95, 0, 0, 0, 0),
    ]
}

/// Whether the pair of a table is there and up.
pub(super) fn is_up(socket: &mut Socket, table: &str) -> bool {
    names(table).iter().all(|name| link::find(socket, name).is_ok_and(|found| found.up))
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
pub(super) fn names(table: &str) -> [String; 2] {
    // FNV-1a.
    let hash =
        table.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    ["o", "i"].map(|end| format!("tare-{hash:08x}-{end}"))
}

fn failed(name: &str, error: &netlink::Error) -> Error {
    Error::system(format!("link {name}, by which the host's rules on input are heard: {error}"))
}
