//! 127.0.0.11:53 of a container leads to the ports where its questions are taken.
//!
//! Two rules in a table of the container's own namespace: so a program inside may have port 53 of every other address.
//! Answers come back from port 53, as resolvers insist: connection tracking turns around what it translated.

use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;

use tare_model::error::{Error, Result};
use tare_sys::netlink::Socket;
use tare_sys::nftables::{
    Chain, Change, Expression as Do, Family, Hook, Meta, NatKind, Payload, Register, apply,
};

/// Where resolvers of containers ask.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);
const PORT: u16 = 53;
const TABLE: &str = "tare-names";
const CHAIN: &str = "output";
const LOCAL_OUT: u32 = 3;
/// Where destinations are translated (`NF_IP_PRI_NAT_DST`).
const TRANSLATION: i32 = -100;
const TCP: u8 = 6;
const UDP: u8 = 17;

/// Leads questions to 127.0.0.11:53 by UDP and TCP to ports of that address, in the namespace that the NETLINK_NETFILTER
/// socket belongs to. One batch; what was there before of ours is replaced by it.
///
/// # Errors
/// The kernel's refusal: `EOPNOTSUPP` or `ENOENT` where it lacks nf_tables or its NAT.
pub fn redirect(netfilter: OwnedFd, udp: u16, tcp: u16) -> Result<OwnedFd> {
    let mut socket = Socket::adopt(netfilter);
    let hook = Hook { kind: "nat", number: LOCAL_OUT, priority: TRANSLATION, drop: false, device: None };
    let changes = [
        Change::AddTable { note: Vec::new() },
        Change::AddChain(Chain { name: CHAIN.into(), hook: Some(hook) }),
        // Nothing is there the first time; to delete the table, if empty, would make the kernel wait for others.
        Change::FlushChain(CHAIN.into()),
        rule(UDP, udp),
        rule(TCP, tcp),
    ];
    apply(&mut socket, Family::Ip, TABLE, &changes).map_err(|(place, error)| {
        Error::system(format!(
            "lead {ADDRESS}:{PORT} to ports {udp} (udp) and {tcp} (tcp): nftables table ip {TABLE}, change {place}: {error}; \
             the kernel needs nf_tables with NAT (CONFIG_NFT_NAT)"
        ))
    })?;
    Ok(socket.into_fd())
}

fn rule(protocol: u8, port: u16) -> Change {
    let (a, b) = (Register(0), Register(1));
    let rule = vec![
        Do::Payload(Payload::IP_DESTINATION, a),
        Do::Equal(a, ADDRESS.octets().to_vec()),
        Do::Meta(Meta::Transport, a),
        Do::Equal(a, vec![protocol]),
        Do::Payload(Payload::DESTINATION_PORT, a),
        Do::Equal(a, PORT.to_be_bytes().to_vec()),
        Do::Constant(ADDRESS.octets().to_vec(), a),
        Do::Constant(port.to_be_bytes().to_vec(), b),
        Do::Nat(NatKind::Destination, Family::Ip, a, Some(b)),
    ];
    Change::AddRule { chain: CHAIN.into(), rule, note: Vec::new() }
}
