//! What containers send as somebody else, frame by frame.

use std::net::IpAddr;

use tare_model::network::Mac;
use tare_sys::netlink::link;

use super::world::{Container, Space, World, ip};
use crate::firewall::element::link_local;

/// As many, that the kernel's own ones are no matter beside them.
const COPIES: u64 = 200;
/// How long they may take.
const SOON: std::time::Duration = std::time::Duration::from_millis(100);
const UDP: u8 = 17;
const ICMP6: u8 = 58;

/// Sends copies of a frame: true if they arrive at the other's link.
fn passes(from: &Space, to: &Space, frame: &[u8]) -> bool {
    let before = to.received("eth0");
    send(from, frame, COPIES);
    let arrived = || to.received("eth0") - before;
    // Another processor may still be at work on them.
    tare_kit::wait::until(SOON, || (arrived() >= COPIES).then_some(()));
    let arrived = arrived();
    assert!(!(COPIES / 2..COPIES).contains(&arrived), "{arrived} of {COPIES} arrived");
    arrived >= COPIES
}

/// Sends copies of a frame.
pub(super) fn send(from: &Space, frame: &[u8], copies: u64) {
    const SEND: &str = r#"
        socket(my $s, 17, 3, 0) or die $!;
        my $to = pack("S n l S C C a8", 17, 3, $ARGV[0], 0, 0, 6, "");
        for (1..$ARGV[2]) { defined(send($s, pack("H*", $ARGV[1]), 0, $to)) or die $! }"#;
    let index = from.route(|socket| link::find(socket, "eth0").unwrap().index).to_string();
    let hex: String = frame.iter().map(|byte| format!("{byte:02x}")).collect();
    from.program("perl", &["-e", SEND, &index, &hex, &copies.to_string()]);
}

/// A frame and what it is.
type Case = (&'static str, Vec<u8>);

pub(super) fn frame(to: Mac, from: Mac, kind: u16, rest: &[u8]) -> Vec<u8> {
    [&to.0[..], &from.0, &kind.to_be_bytes(), rest].concat()
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

/// An empty datagram to port 9.
pub(super) fn ip4_packet(from: IpAddr, to: IpAddr) -> Vec<u8> {
    let mut head = [&[0x45, 0, 0, 28, 0, 0, 0, 0, 64, UDP, 0, 0][..], &octets(from), &octets(to)].concat();
    // The bridge looks at the checksum of the header where it shows frames to the rules of packets.
    let sum: u32 = head.chunks(2).map(|two| u32::from(two[0]) << 8 | u32::from(two[1])).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let checksum = !u16::try_from((folded & 0xffff) + (folded >> 16)).unwrap();
    head[10..12].copy_from_slice(&checksum.to_be_bytes());
    [&head[..], &[0, 9, 0, 9, 0, 8, 0, 0]].concat()
}

fn ip6_packet(from: IpAddr, to: IpAddr, kind: u8, rest: &[u8]) -> Vec<u8> {
    let length = u8::try_from(rest.len()).unwrap();
    [&[0x60, 0, 0, 0, 0, length, kind, 255][..], &octets(from), &octets(to), rest].concat()
}

/// A message of neighbour discovery about `target`.
fn discovery(kind: u8, target: IpAddr) -> Vec<u8> {
    [&[kind, 0, 0, 0, 0, 0, 0, 0][..], &octets(target)].concat()
}

fn arp(mac: Mac, sender: IpAddr, target: IpAddr) -> Vec<u8> {
    arp_that(2, mac, sender, target)
}

/// A question (1) or an answer (2).
fn arp_that(operation: u8, mac: Mac, sender: IpAddr, target: IpAddr) -> Vec<u8> {
    [&[0, 1, 8, 0, 6, 4, 0, operation][..], &mac.0, &octets(sender), &[0; 6], &octets(target)].concat()
}

/// What `a` may send to `b`, and what not, with a name for each.
fn cases(a: &Container, b: &Container) -> (Vec<Case>, Vec<Case>) {
    const IP: u16 = 0x0800;
    const ARP: u16 = 0x0806;
    const IP6: u16 = 0x86dd;
    let (own, other) = (a.admitted.mac, b.admitted.mac);
    let send = |kind, rest: &[u8]| frame(other, own, kind, rest);
    let fake = Mac([2, 9, 9, 9, 9, 9]);
    let local: IpAddr = link_local(own).into();
    let nobody = ip("::");
    let icmp = |from, rest: &[u8]| send(IP6, &ip6_packet(from, b.ip6, ICMP6, rest));
    let udp = ip6_packet(a.ip6, b.ip6, UDP, &[0; 8]);
    let hidden = [&[ICMP6, 0, 1, 4, 0, 0, 0, 0][..], &discovery(134, nobody)].concat();
    let good = vec![
        ("IPv4", send(IP, &ip4_packet(a.ip, b.ip))),
        ("ARP", send(ARP, &arp(own, a.ip, b.ip))),
        ("IPv6", send(IP6, &udp)),
        ("IPv6 from the link's address", send(IP6, &ip6_packet(local, b.ip6, UDP, &[0; 8]))),
        ("solicitation", icmp(a.ip6, &discovery(135, b.ip6))),
        ("solicitation from nobody", icmp(nobody, &discovery(135, b.ip6))),
        ("ARP question", send(ARP, &arp_that(1, own, a.ip, b.ip))),
        ("advertisement", icmp(a.ip6, &discovery(136, a.ip6))),
        ("echo", icmp(a.ip6, &[128, 0, 0, 0, 0, 0, 0, 0])),
    ];
    let bad = vec![
        ("IPv4 from another MAC", frame(other, fake, IP, &ip4_packet(a.ip, b.ip))),
        ("IPv4 from another address", send(IP, &ip4_packet(ip("172.30.1.77"), b.ip))),
        ("IPv4 from the gateway", send(IP, &ip4_packet(ip("172.30.1.1"), b.ip))),
        ("IPv4 from nobody", send(IP, &ip4_packet(ip("0.0.0.0"), b.ip))),
        ("IPv4 from loopback", send(IP, &ip4_packet(ip("127.0.0.1"), b.ip))),
        ("ARP for the gateway", send(ARP, &arp(own, ip("172.30.1.1"), b.ip))),
        ("ARP with another MAC inside", send(ARP, &arp(fake, a.ip, b.ip))),
        ("ARP from another MAC", frame(other, fake, ARP, &arp(own, a.ip, b.ip))),
        ("ARP question for another", send(ARP, &arp_that(1, own, a.ip, ip("172.30.1.9")))),
        ("solicitation of another", icmp(a.ip6, &discovery(135, ip("fd30:1::9")))),
        ("router solicitation", icmp(local, &[133, 0, 0, 0, 0, 0, 0, 0])),
        ("report of a listener", icmp(local, &[143, 0, 0, 0, 0, 0, 0, 0])),
        ("IPv6 from another MAC", frame(other, fake, IP6, &udp)),
        ("IPv6 from another address", send(IP6, &ip6_packet(ip("fd30:1::77"), b.ip6, UDP, &[0; 8]))),
        ("IPv6 from another link's address", send(IP6, &ip6_packet(ip("fe80::1"), b.ip6, UDP, &[0; 8]))),
        ("advertisement of the gateway", icmp(a.ip6, &discovery(136, ip("fd30:1::1")))),
        ("advertisement of nobody's asking", icmp(nobody, &discovery(136, a.ip6))),
        ("router advertisement", icmp(local, &[134, 0, 0, 0, 64, 0, 0, 255, 0, 0, 0, 0, 0, 0, 0, 0])),
        ("router advertisement behind a header", send(IP6, &ip6_packet(local, b.ip6, 60, &hidden))),
        ("redirect", icmp(local, &discovery(137, b.ip6))),
        ("data from nobody", send(IP6, &ip6_packet(nobody, b.ip6, UDP, &[0; 8]))),
        ("VLAN", send(0x8100, &[&[0, 5, 8, 0][..], &ip4_packet(a.ip, b.ip)].concat())),
        ("VLAN 0", send(0x8100, &[&[0, 0, 8, 0][..], &ip4_packet(a.ip, b.ip)].concat())),
        ("VLAN in VLAN", send(0x88a8, &[&[0, 5, 0x81, 0, 0, 6, 8, 0][..], &ip4_packet(a.ip, b.ip)].concat())),
        ("LLDP", send(0x88cc, &[0; 46])),
        ("802.3", send(46, &[0x42; 46])),
    ];
    (good, bad)
}

/// Two containers whose links are up and known to the bridge.
fn pair(world: &World) -> (Container, Container) {
    let (a, b) = (world.container(1, 2), world.container(1, 3));
    assert!(world.host.reaches("172.30.1.2", 80).is_some() && world.host.reaches("172.30.1.3", 80).is_some());
    (a, b)
}

#[test]
fn a_container_sends_as_itself_only() {
    let world = World::new();
    world.network(1, |_| {});
    let (a, b) = pair(&world);
    let (good, bad) = cases(&a, &b);
    let wrong = |cases: &[Case], should: bool| -> Vec<&str> {
        cases
            .iter()
            .filter(|(_, frame)| passes(&a.space, &b.space, frame) != should)
            .map(|(n, _)| *n)
            .collect()
    };
    assert_eq!(wrong(&good, true), [""; 0], "dropped");
    assert_eq!(wrong(&bad, false), [""; 0], "passed");
}

#[test]
fn where_spoofing_is_allowed_everything_passes() {
    let world = World::new();
    world.network(1, |network| network.spoofing = true);
    let (a, b) = pair(&world);
    let (_, bad) = cases(&a, &b);
    let mut kept: Vec<_> =
        bad.iter().filter(|(_, f)| !passes(&a.space, &b.space, f)).map(|(n, _)| *n).collect();
    // No packet from there is let by, where the rules of packets see those of bridges.
    kept.retain(|name| *name != "IPv4 from loopback");
    assert_eq!(kept, [""; 0]);
}

#[test]
fn a_network_without_ipv6_carries_none() {
    let world = World::new();
    world.network(1, |_| {});
    let (a, b) = pair(&world);
    let mut only4 = a.admitted.clone();
    only4.addresses.retain(IpAddr::is_ipv4);
    world.firewall.admit(&[only4], &[]).unwrap();
    let (good, _) = cases(&a, &b);
    for (name, frame) in &good {
        assert_eq!(
            passes(&a.space, &b.space, frame),
            ["IPv4", "ARP", "ARP question"].contains(name),
            "{name}"
        );
    }
}

#[test]
fn a_router_advertisement_changes_nothing_of_the_hosts() {
    let world = World::new();
    world.network(1, |network| network.spoofing = true);
    let (a, b) = pair(&world);
    let from = link_local(a.admitted.mac).into();
    let prefix = [3, 4, 64, 0xc0, 0, 0, 0xff, 0xff, 0, 0, 0xff, 0xff, 0, 0, 0, 0];
    let offer =
        [&[134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0][..], &prefix, &octets(ip("fd66::"))].concat();
    let packet = ip6_packet(from, ip("ff02::1"), ICMP6, &offer);
    let before = world.host.program("ip", &["-6", "route"]);
    let everybody = Mac([0x33, 0x33, 0, 0, 0, 1]);
    assert!(passes(&a.space, &b.space, &frame(everybody, a.admitted.mac, 0x86dd, &packet)));
    let routes =
        |text: &str| text.lines().filter(|l| !l.contains("fe80")).map(String::from).collect::<Vec<_>>();
    assert_eq!(routes(&world.host.program("ip", &["-6", "route"])), routes(&before));
    assert!(!world.host.program("ip", &["-6", "addr"]).contains("fd66"));
}
