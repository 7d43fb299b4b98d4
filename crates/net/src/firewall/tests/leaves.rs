//! Networks of several bridges: the further ones carry frames, and nothing comes to the host by them.

use std::io::{BufRead, BufReader};
use std::net::IpAddr;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use tare_model::id::ContainerId;
use tare_model::network::{Mac, NetworkConfig};
use tare_sys::netlink::link;

use super::frames::{frame, ip4_packet, send};
use super::world::{Container, HOST, LAN, Space, World, ip, published};
use crate::addresses::Family;
use crate::firewall::{Admitted, Bridge};
use crate::link::tests as links;
use crate::link::tests::Limits;

const IP: u16 = 0x0800;
const BRIDGED_IS_SHOWN: [&str; 2] =
    ["/proc/sys/net/bridge/bridge-nf-call-iptables", "/proc/sys/net/bridge/bridge-nf-call-ip6tables"];
/// The nearest bridge that is not of two ports, which no bridge passes on (IEEE 802.1D); LLDP is sent to it.
const NEAREST: Mac = Mac([0x01, 0x80, 0xc2, 0, 0, 0x0e]);

/// A container of a tree, by which bridge, and how the host's end of its link is called.
struct Member {
    container: Container,
    bridge: String,
    port: String,
}

/// A network of as many bridges as it has containers.
fn tree(world: &World, size: usize, internal: bool) -> (Vec<Member>, IpAddr) {
    let net = world.host.run(move || {
        let config = NetworkConfig { internal, ..links::config("web") };
        links::tree(config, Limits { root: 1, leaf: 1 })
    });
    let gateway = net.gateway(Family::V4);
    world.add_network(Bridge::of(&net.network));
    let net = Arc::new(Mutex::new(net));
    let member = |number: usize| {
        let space = Space::new();
        let id = ContainerId::from_bytes([u8::try_from(number).unwrap() + 1; 32]);
        let (inside, udp) = space.run(|| (links::host(), links::udp()));
        let mut inner = links::Container { id, inside, udp };
        let (net, bridge) = (Arc::clone(&net), net.lock().unwrap().network.bridge());
        let (endpoint, link, port, at) = world.host.run(move || {
            let mut net = net.lock().unwrap();
            let endpoint = net.endpoint("eth0");
            let link = net.put(&mut inner, &endpoint, true).unwrap().unwrap();
            let port = link::get(&mut links::host(), link).unwrap();
            let at = link::get(&mut links::host(), port.master.unwrap()).unwrap().name;
            (endpoint, link, port.name, at)
        });
        let (ip, ip6) = (links::of(&endpoint, Family::V4), links::of(&endpoint, Family::V6));
        let admitted = Admitted { link, bridge, mac: endpoint.mac.unwrap(), addresses: vec![ip, ip6] };
        world.firewall.admit(std::slice::from_ref(&admitted), &[]).unwrap();
        space.serve(80);
        Member { container: Container { space, admitted, ip, ip6 }, bridge: at, port }
    };
    ((0..size).map(member).collect(), gateway)
}

impl World {
    fn mac_of(&self, link: &str) -> Mac {
        let link = link.to_owned();
        Mac(self.host.route(move |socket| link::find(socket, &link).unwrap().mac.unwrap()))
    }

    /// Datagrams of a frame, which is sent some times, come to port 9 of the host by that link.
    fn hears(&self, by: &str, from: &Space, frame: &[u8]) -> bool {
        const HEAR: &str = r#"
            $| = 1; socket(my $s, 2, 2, 0) or die $!;
            setsockopt($s, 1, 25, "$ARGV[0]\0") or die $!; # SO_BINDTODEVICE
            bind($s, pack("S n a4 x8", 2, 9, "\0" x 4)) or die $!;
            print "ready\n"; my $in = ""; vec($in, fileno($s), 1) = 1;
            print select($in, undef, undef, 0.5) ? "heard\n" : "silence\n""#;
        let by = by.to_owned();
        let mut perl = self.host.run(move || {
            Command::new("perl").args(["-e", HEAR, &by]).stdout(Stdio::piped()).spawn().unwrap()
        });
        let mut lines = BufReader::new(perl.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "ready");
        send(from, frame, 5);
        let said = lines.next().unwrap().unwrap();
        assert!(perl.wait().unwrap().success());
        said == "heard"
    }
}

#[test]
fn a_tree_is_one_network_also_where_packets_on_bridges_are_shown_to_the_rules() {
    for shown in ["0", "1"] {
        let world = World::new();
        // Where the kernel has no such setting, there is one case.
        world.host.run(move || BRIDGED_IS_SHOWN.iter().for_each(|path| drop(std::fs::write(path, shown))));
        let (members, _) = tree(&world, 3, false);
        let first = &members[0].container;
        world.publish(&[published("0.0.0.0", 8080, first.ip)]);
        world.lan.serve(81);
        for (a, from) in members.iter().enumerate() {
            let from = &from.container;
            for (b, to) in members.iter().enumerate().filter(|(b, _)| *b != a) {
                for (to, seen) in [(to.container.ip, from.ip), (to.container.ip6, from.ip6)] {
                    let reached = from.space.reaches(&to.to_string(), 80);
                    assert_eq!(reached, Some(seen.to_string()), "{a} to {b} at {to}, shown {shown}");
                }
            }
            assert_eq!(from.space.reaches(LAN, 81).as_deref(), Some(HOST), "{a} to the LAN, shown {shown}");
            assert!(from.space.reaches(HOST, 8080).is_some(), "{a} to a published port, shown {shown}");
        }
    }
}

#[test]
fn what_is_sent_to_a_leaf_comes_neither_to_the_host_nor_through_it() {
    for internal in [false, true] {
        let world = World::new();
        world.host.program("sysctl", &["-q", "-w", "net.ipv4.ip_forward=1", "net.ipv4.conf.all.rp_filter=0"]);
        let (members, gateway) = tree(&world, 2, internal);
        let Member { container, bridge, port } = &members[1];
        world.host.program("sysctl", &["-q", "-w", &format!("net.ipv4.conf.{bridge}.rp_filter=0")]);
        let own = container.admitted.mac;
        let to_host = |mac| frame(mac, own, IP, &ip4_packet(container.ip, gateway));
        let root = &members[0].bridge;
        assert!(world.hears(root, &container.space, &to_host(world.mac_of(root))), "the gateway hears");
        let outside = world.lan.run(|| std::net::UdpSocket::bind((LAN, 9)).unwrap());
        outside.set_read_timeout(Some(std::time::Duration::from_millis(300))).unwrap();
        for link in [bridge, port] {
            let mac = world.mac_of(link);
            assert!(!world.hears(bridge, &container.space, &to_host(mac)), "by the MAC of {link}");
            send(&container.space, &frame(mac, own, IP, &ip4_packet(container.ip, ip(LAN))), 5);
            assert!(outside.recv(&mut [0; 8]).is_err(), "through the host by the MAC of {link}");
        }
    }
}

#[test]
fn what_is_sent_to_the_nearest_bridge_is_judged_like_everything_else() {
    let world = World::new();
    world.host.program("sysctl", &["-q", "-w", "net.ipv4.conf.all.rp_filter=0"]);
    let (members, gateway) = tree(&world, 2, false);
    for Member { container, port, .. } in &members {
        world.host.program("sysctl", &["-q", "-w", &format!("net.ipv4.conf.{port}.rp_filter=0")]);
        let own = container.admitted.mac;
        for from in [container.ip, ip("203.0.113.9")] {
            let sent = frame(NEAREST, own, IP, &ip4_packet(from, gateway));
            assert!(!world.hears(port, &container.space, &sent), "from {from} by {port} itself");
        }
        let spoofed = frame(NEAREST, own, IP, &ip4_packet(ip("203.0.113.9"), gateway));
        assert!(!world.hears(&members[0].bridge, &container.space, &spoofed), "from another's address");
    }
}
