//! Who shares a link with the machine, or thinks so: advertisements of routers, and packets to and from its loopback.

use std::fs::File;
use std::io::Read;
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6, TcpListener, TcpStream};
use std::time::Duration;

use rustix::net::{AddressFamily, SendFlags, SocketType, ipproto, sendto, socket, sockopt};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tare_kit::space::{HERE, NEIGHBOUR};
use tare_kit::{Engine, wait};

use crate::networks::{reached, web, wget};

/// "I am a router, and 2001:db8:bad::/64 is on this link", but for the checksum, which the kernel adds.
const ADVERTISEMENT: [u8; 48] = {
    let mut packet = [0; 48];
    packet[0] = 134;
    packet[4] = 64; // hop limit
    packet[6] = 0x07; // lifetime in seconds: 1800
    packet[7] = 0x08;
    let prefix = [3, 4, 64, 0xc0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0x20, 0x01, 0x0d, 0xb8, 0x0b, 0xad];
    let mut at = 0;
    while at < prefix.len() {
        packet[16 + at] = prefix[at];
        at += 1;
    }
    packet
};

/// Index of a link of the calling thread's namespace, once its link-local address is known to be nobody else's: a router sends
/// from no other.
fn index(link: &str) -> Option<u32> {
    const LINK_LOCAL: &str = "20";
    const TENTATIVE: u32 = 0x40;
    let number = |text: &str| u32::from_str_radix(text, 16).expect("a number");
    let addresses = std::fs::read_to_string("/proc/thread-self/net/if_inet6").expect("IPv6");
    addresses.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, index, _, scope, flags, name] = fields.as_slice() else { return None };
        let fits = *name == link && *scope == LINK_LOCAL && number(flags) & TENTATIVE == 0;
        fits.then(|| number(index))
    })
}

/// Sends an advertisement by a link of the calling thread's namespace to all nodes on it.
fn advertise(link: &str) {
    let index = wait::until(wait::PATIENCE, || index(link)).expect("the link has an address of IPv6");
    let raw = socket(AddressFamily::INET6, SocketType::RAW, Some(ipproto::ICMPV6)).expect("a raw socket");
    sockopt::set_ipv6_multicast_hops(&raw, 255).expect("hops");
    let all = SocketAddrV6::new(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1), 0, 0, index);
    for _ in 0..3 {
        sendto(&raw, &ADVERTISEMENT, SendFlags::empty(), &SocketAddr::V6(all)).expect("it is sent");
    }
}

/// Does something in the network of a container, as a process of it could, with more rights than one has.
fn inside<T: Send>(engine: &Engine, container: &str, work: impl FnOnce() -> T + Send) -> T {
    let namespace = File::open(format!("/proc/{}/ns/net", engine.pid_of(container))).expect("its namespace");
    let enter = || {
        let kind = Some(LinkNameSpaceType::Network);
        move_into_link_name_space(rustix::fd::AsFd::as_fd(&namespace), kind).expect("setns");
        work()
    };
    std::thread::scope(|scope| scope.spawn(enter).join()).expect("it does not panic")
}

#[test]
fn row_128_a_container_is_nobodys_router() {
    let engine = Engine::apart();
    let lan = engine.neighbour();
    // So does a host that learns its routes from its LAN.
    engine.space().sh("sysctl -qw net.ipv6.conf.all.accept_ra=2 net.ipv6.conf.default.accept_ra=2 net.ipv6.conf.lan.accept_ra=2");
    engine.tare(["network", "create", "front"]).ok();
    for name in ["router", "peer"] {
        web(&engine, name, &["--network", "front"]);
    }
    assert_eq!(reached(|| wget(&engine, "peer", "http://router/")), "router");
    // Whether an address of a link is somebody else's too is found out meanwhile.
    let host = || engine.space().sh("ip -6 route; ip -6 address").replace(" tentative", "");
    let peer = || engine.tare(["exec", "peer", "ip", "-6", "route"]).ok();
    let before = (host(), peer());
    inside(&engine, "router", || advertise("eth0"));
    wait::pause(Duration::from_millis(500));
    assert_eq!((host(), peer()), before);
    // The same from where it may come.
    lan.inside(|| advertise("lan"));
    let learnt = || host().contains("2001:db8:bad:").then_some(());
    assert!(wait::until(wait::PATIENCE, learnt).is_some(), "the packet is a good one: {}", host());
    assert_eq!(peer(), before.1);
}

/// Somebody listens there and is reached, at once or not at all.
fn is_reached(at: &str) -> bool {
    TcpStream::connect_timeout(&at.parse().expect("an address"), Duration::from_secs(1)).is_ok()
}

#[test]
fn row_129_the_loopback_is_nobody_elses_and_senders_are_who_they_are() {
    let engine = Engine::apart();
    let lan = engine.neighbour();
    engine.tare(["network", "create", "front"]).ok();
    web(&engine, "web", &["--network", "front", "-p", "8080:80"]);
    // A service of the host's for itself alone, on a host that routes to its loopback, as some engines have it.
    let service = engine.space().inside(|| TcpListener::bind("127.0.0.1:9000").expect("it listens"));
    engine.space().sh("sysctl -qw net.ipv4.conf.all.route_localnet=1 net.ipv4.conf.lan.route_localnet=1");
    let lead = "ip address del 127.0.0.1/8 dev lo; ip route add 127.0.0.1 via GATEWAY src OWN; \
                sysctl -qw net.ipv4.conf.all.route_localnet=1 net.ipv4.conf.LINK.route_localnet=1";
    let lead = |gateway: &str, own: &str, link: &str| {
        lead.replace("GATEWAY", gateway).replace("OWN", own).replace("LINK", link)
    };
    lan.sh(&lead(HERE, NEIGHBOUR, "lan"));
    assert!(lan.inside(|| is_reached(&format!("{HERE}:8080"))), "what is published is reached");
    assert!(!lan.inside(|| is_reached("127.0.0.1:9000")), "what is the host's own is not");
    assert!(!lan.inside(|| is_reached("127.0.0.1:8080")));
    let networks = &engine.inspect("web")["NetworkSettings"]["Networks"]["front"];
    let [gateway, own] = ["Gateway", "IPAddress"].map(|field| networks[field].as_str().expect("an address"));
    let script = lead(gateway, own, "eth0");
    inside(&engine, "web", || {
        let done = std::process::Command::new("sh").args(["-ec", &script]).status().expect("it runs");
        assert!(done.success(), "{script}");
        assert!(!is_reached("127.0.0.1:9000"), "nor by a container");
    });
    assert!(engine.space().inside(|| is_reached("127.0.0.1:9000")), "it is there all the time");
    drop(service);
    // Who connects is seen as who it is.
    let mut open = lan.inside(|| TcpStream::connect(format!("{HERE}:8080")).expect("it is reached"));
    let seen = || {
        let shown = engine.tare(["exec", "web", "netstat", "-tn"]).ok();
        shown.contains(&format!("{NEIGHBOUR}:")).then_some(())
    };
    wait::until(wait::PATIENCE, seen).expect("the sender is the neighbour");
    let _ = open.set_read_timeout(Some(Duration::from_millis(1)));
    let _ = open.read(&mut [0; 1]);
}
