//! Who reaches whom, and how they are seen.

use std::net::UdpSocket;
use std::time::Duration;

use tare_model::network::{GatewayMode, Protocol, Published};

use super::world::{HOST, HOST6, LAN, LAN6, Space, World, ip4, ip6, published};

#[test]
fn networks_are_apart_and_the_outside_reaches_no_container() {
    let world = World::new();
    world.network(1, |_| {});
    world.network(2, |_| {});
    let (a, a2, b) = (world.container(1, 2), world.container(1, 3), world.container(2, 2));
    assert_eq!(a.space.reaches("172.30.1.3", 80).as_deref(), Some("172.30.1.2"), "within the network");
    assert_eq!(a.space.reaches("fd30:1::3", 80).as_deref(), Some("fd30:1::2"));
    assert_eq!(world.host.reaches("172.30.2.2", 80).as_deref(), Some("172.30.2.1"), "from the host");
    assert_eq!(world.host.reaches("fd30:2::2", 80).as_deref(), Some("fd30:2::1"));
    for to in ["172.30.2.2", "fd30:2::2"] {
        assert!(a.space.is_kept_from(to, 80), "from another network to {to}");
        assert!(world.lan.is_kept_from(to, 80), "from the LAN to {to}");
    }
    drop((a2, b));
}

#[test]
fn what_leaves_has_the_address_of_the_host_or_a_chosen_one() {
    let world = World::new();
    world.lan.serve(80);
    world.network(1, |_| {});
    world.host.configure("eth0", &[(ip4(200, 9), 32)], &[]);
    world.network(2, |network| network.subnets[0].source = Some(ip4(200, 9)));
    let (a, b) = (world.container(1, 2), world.container(2, 2));
    assert_eq!(a.space.reaches(LAN, 80).as_deref(), Some(HOST));
    assert_eq!(a.space.reaches(LAN6, 80).as_deref(), Some(HOST6));
    assert_eq!(b.space.reaches(LAN, 80).as_deref(), Some("172.30.200.9"));
    assert_eq!(b.space.reaches(LAN6, 80).as_deref(), Some(HOST6));
}

#[test]
fn a_published_port_is_reached_from_everywhere() {
    let world = World::new();
    world.network(1, |_| {});
    world.network(2, |_| {});
    let (a, b) = (world.container(1, 2), world.container(2, 2));
    let ports = [published("0.0.0.0", 8080, a.ip), published("::", 8080, a.ip6)];
    world.publish(&ports);
    assert_eq!(world.lan.reaches(HOST, 8080).as_deref(), Some(LAN), "remote senders are kept");
    assert_eq!(world.lan.reaches(HOST6, 8080).as_deref(), Some(LAN6));
    assert_eq!(
        world.host.reaches("127.0.0.1", 8080).as_deref(),
        Some("172.30.1.1"),
        "loopback is the gateway"
    );
    assert!(world.host.reaches(HOST, 8080).is_some() && world.host.reaches(HOST6, 8080).is_some());
    assert_eq!(a.space.reaches(HOST, 8080).as_deref(), Some("172.30.1.1"), "hairpin is the gateway");
    assert_eq!(a.space.reaches(HOST6, 8080).as_deref(), Some("fd30:1::1"));
    assert_eq!(b.space.reaches(HOST, 8080).as_deref(), Some("172.30.1.1"), "from another network");
    assert_eq!(b.space.reaches("172.30.2.1", 8080).as_deref(), Some("172.30.1.1"), "by its own gateway");
    world.firewall.unpublish(&ports).unwrap();
    assert!(world.lan.is_kept_from(HOST, 8080) && world.host.is_kept_from("127.0.0.1", 8080));
}

#[test]
fn a_port_of_one_address_is_that_addresss_only() {
    let world = World::new();
    world.network(1, |_| {});
    let a = world.container(1, 2);
    world.publish(&[published("127.0.0.1", 8080, a.ip), published(HOST, 8081, a.ip)]);
    assert!(world.host.reaches("127.0.0.1", 8080).is_some());
    assert!(world.host.is_kept_from(HOST, 8080) && world.lan.is_kept_from(HOST, 8080));
    assert_eq!(world.lan.reaches(HOST, 8081).as_deref(), Some(LAN));
    assert!(world.host.is_kept_from("127.0.0.1", 8081));
    // CVE-2020-8558: a neighbour that sends to 127.0.0.1 by our address.
    world.lan.program("ip", &["route", "del", "local", "127.0.0.0/8", "dev", "lo", "table", "local"]);
    world.lan.program("ip", &["route", "del", "local", "127.0.0.1", "dev", "lo", "table", "local"]);
    world.lan.program("ip", &["route", "add", "127.0.0.0/8", "via", HOST, "dev", "eth0", "src", LAN]);
    world.lan.run(|| std::fs::write("/proc/sys/net/ipv4/conf/all/route_localnet", "1").unwrap());
    world.host.run(|| std::fs::write("/proc/sys/net/ipv4/conf/eth0/route_localnet", "1").unwrap());
    assert!(world.lan.is_kept_from("127.0.0.1", 8080), "a port of 127.0.0.1 reached from the LAN");
    // One packet is enough for those that ask no answer.
    let udp = Published { protocol: Protocol::Udp, ..published("127.0.0.1", 8080, a.ip) };
    world.publish(&[udp]);
    let inside = a.space.run(|| UdpSocket::bind(("0.0.0.0", 80)).unwrap());
    inside.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let sent_from = |space: &Space| {
        let sent = || UdpSocket::bind(("0.0.0.0", 0)).unwrap().send_to(b"x", ("127.0.0.1", 8080)).unwrap();
        assert_eq!(space.run(sent), 1);
        inside.recv(&mut [0; 8]).is_ok()
    };
    assert!(sent_from(&world.host));
    assert!(!sent_from(&world.lan), "a datagram to 127.0.0.1 from the LAN");
}

#[test]
fn containers_do_not_reach_services_of_the_hosts_loopback() {
    let world = World::new();
    world.network(1, |network| network.spoofing = true);
    let a = world.container(1, 2);
    world.host.serve(5000);
    for args in [
        &["route", "del", "local", "127.0.0.0/8", "dev", "lo", "table", "local"][..],
        &["route", "del", "local", "127.0.0.1", "dev", "lo", "table", "local"],
        &["route", "add", "127.0.0.0/8", "via", "172.30.1.1", "dev", "eth0", "src", "172.30.1.2"],
    ] {
        a.space.program("ip", args);
    }
    a.space.run(|| std::fs::write("/proc/sys/net/ipv4/conf/all/route_localnet", "1").unwrap());
    assert!(a.space.reaches("172.30.1.1", 5000).is_some());
    assert!(a.space.is_kept_from("127.0.0.1", 5000));
    assert!(!a.space.datagram("172.30.1.2", &world.host, "127.0.0.1"));
}

#[test]
fn an_internal_network_has_no_way_out_or_in() {
    let world = World::new();
    world.lan.serve(80);
    world.network(1, |network| network.internal = true);
    world.network(2, |_| {});
    let (a, a2, b) = (world.container(1, 2), world.container(1, 3), world.container(2, 2));
    world.publish(&[published("0.0.0.0", 8080, b.ip)]);
    assert!(a.space.reaches("172.30.1.3", 80).is_some());
    assert!(world.host.reaches("172.30.1.2", 80).is_some());
    assert!(a.space.is_kept_from(LAN, 80) && a.space.is_kept_from(LAN6, 80));
    assert!(a.space.is_kept_from(HOST, 8080), "a published port leads to another network");
    assert!(b.space.is_kept_from("172.30.1.2", 80) && world.lan.is_kept_from("172.30.1.2", 80));
    drop(a2);
}

#[test]
fn containers_without_icc_are_apart_by_link_and_by_gateway() {
    let world = World::new();
    world.network(1, |network| network.icc = false);
    let (a, b) = (world.container(1, 2), world.container(1, 3));
    assert!(a.space.is_kept_from("172.30.1.3", 80) && a.space.is_kept_from("fd30:1::3", 80));
    a.space.program("ip", &["route", "add", "172.30.1.3/32", "via", "172.30.1.1"]);
    assert!(a.space.is_kept_from("172.30.1.3", 80), "by the gateway");
    assert!(world.host.reaches("172.30.1.3", 80).is_some());
    // Where bridged frames are shown to the rules of packets, what is translated stays within the bridge, and apart.
    world.host.run(|| drop(std::fs::write("/proc/sys/net/bridge/bridge-nf-call-iptables", "0")));
    world.publish(&[published("0.0.0.0", 8080, b.ip)]);
    assert!(a.space.reaches(HOST, 8080).is_some(), "by a published port");
}

#[test]
fn routed_networks_keep_their_addresses_and_open_published_ports() {
    let world = World::new();
    world.lan.serve(80);
    world.network(1, |network| network.subnets.iter_mut().for_each(|s| s.mode = GatewayMode::Routed));
    world.network(2, |_| {});
    let (a, b) = (world.container(1, 2), world.container(2, 2));
    assert_eq!(a.space.reaches(LAN, 80).as_deref(), Some("172.30.1.2"));
    assert!(world.lan.is_kept_from("172.30.1.2", 80) && b.space.is_kept_from("172.30.1.2", 80));
    let ports = [
        published("0.0.0.0", 8080, a.ip),
        published("0.0.0.0", 8081, a.ip),
        published("::", 8080, ip6(1, 2)),
    ];
    world.publish(&ports);
    assert_eq!(world.lan.reaches("172.30.1.2", 80).as_deref(), Some(LAN));
    assert_eq!(world.lan.reaches("fd30:1::2", 80).as_deref(), Some(LAN6));
    assert!(world.lan.is_kept_from(HOST, 8080), "the host's numbers play no part");
    world.firewall.unpublish(&ports[..1]).unwrap();
    assert!(world.lan.reaches("172.30.1.2", 80).is_some(), "the other port leads there as well");
    world.firewall.unpublish(&ports[1..2]).unwrap();
    assert!(world.lan.is_kept_from("172.30.1.2", 80));
}

#[test]
fn an_unprotected_network_is_reached_at_every_port_but_not_from_other_networks() {
    let world = World::new();
    world.lan.serve(80);
    world.network(1, |network| network.subnets.iter_mut().for_each(|s| s.mode = GatewayMode::NatUnprotected));
    world.network(2, |_| {});
    let (a, b) = (world.container(1, 2), world.container(2, 2));
    assert_eq!(world.lan.reaches("172.30.1.2", 80).as_deref(), Some(LAN));
    assert_eq!(a.space.reaches(LAN, 80).as_deref(), Some(HOST));
    assert!(b.space.is_kept_from("172.30.1.2", 80));
}

#[test]
fn forwarding_that_we_switched_on_is_ours_only() {
    let world = World::new();
    let other = Space::new();
    world.host.link("eth1", None, &other, "eth0", None);
    world.host.configure("eth1", &[(ip4(100, 1), 24)], &[]);
    other.configure("eth0", &[(ip4(100, 2), 24)], &[ip4(100, 1)]);
    other.serve(80);
    world.network(1, |_| {});
    let a = world.container(1, 2);
    assert_eq!(
        a.space.reaches("172.30.100.2", 80).as_deref(),
        Some("172.30.100.1"),
        "containers are forwarded"
    );
    assert!(world.lan.is_kept_from("172.30.100.2", 80), "the host has become a router for others");
    // A daemon that comes later finds forwarding on, and knows why.
    let again = world.host.run(|| {
        let firewall = super::world::open();
        let shut = firewall.shut_families(&firewall.lock()).unwrap().len();
        (shut, std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap())
    });
    assert_eq!(again, (2, "2\n".into()));
}

#[test]
fn a_host_that_forwards_goes_on_doing_so() {
    let world = World::new();
    world.host.run(|| std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap());
    let other = Space::new();
    world.host.link("eth1", None, &other, "eth0", None);
    world.host.configure("eth1", &[(ip4(100, 1), 24)], &[]);
    other.configure("eth0", &[(ip4(100, 2), 24)], &[ip4(100, 1)]);
    other.serve(80);
    world.network(1, |_| {});
    assert_eq!(world.lan.reaches("172.30.100.2", 80).as_deref(), Some(LAN));
}

#[test]
fn a_drop_rule_of_the_hosts_holds_against_a_published_port() {
    use tare_sys::netlink::{Protocol, Socket};
    use tare_sys::nftables::{Chain, Change, Family, Hook, TableFlags, apply};

    let world = World::new();
    world.network(1, |_| {});
    let a = world.container(1, 2);
    world.publish(&[published("0.0.0.0", 8080, a.ip)]);
    assert!(world.lan.reaches(HOST, 8080).is_some());
    for priority in [-10, 10] {
        world.host.run(move || {
            let hook = Hook { kind: "filter", number: 2, priority, drop: true, device: None };
            let changes = [
                Change::AddTable { flags: TableFlags::NONE, note: Vec::new() },
                Change::AddChain(Chain { name: "forward".into(), hook: Some(hook) }),
            ];
            apply(&mut Socket::open(Protocol::Netfilter).unwrap(), Family::Ip, "host", &changes).unwrap();
        });
        assert!(world.lan.is_kept_from(HOST, 8080), "by a chain of priority {priority}");
        world.host.run(|| {
            let socket = &mut Socket::open(Protocol::Netfilter).unwrap();
            apply(socket, Family::Ip, "host", &[Change::DeleteTable]).unwrap();
        });
        assert!(world.lan.reaches(HOST, 8080).is_some());
    }
}
