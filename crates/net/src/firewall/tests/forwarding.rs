//! Hosts that forward by some of their links, believe routers, or come to forward by themselves.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use tare_sys::netlink::link::{self, Kind, NewLink};

use super::engines::behind;
use super::world::{HOST, LAN, Space, World, ip4};
use crate::firewall::Watch;

const BEHIND: &str = "172.30.100.2";

fn read(space: &Space, setting: &str) -> String {
    let path = format!("/proc/sys/net/{setting}");
    space.run(move || std::fs::read_to_string(path).unwrap().trim().to_owned())
}

fn write(space: &Space, setting: &str, value: &'static str) {
    let path = format!("/proc/sys/net/{setting}");
    space.run(move || std::fs::write(path, value).unwrap());
}

fn end(world: &World) {
    let firewall = Arc::clone(&world.firewall);
    world.host.run(move || firewall.remove().unwrap());
}

fn soon(so: impl Fn() -> bool) -> bool {
    tare_kit::wait::until(Duration::from_secs(5), || so().then_some(())).is_some()
}

/// Another neighbour, behind a link by which nothing is forwarded.
fn stranger(world: &World) -> Space {
    let other = Space::new();
    world.host.link("eth2", None, &other, "eth0", None);
    world.host.configure("eth2", &[(ip4(101, 1), 24)], &[]);
    other.configure("eth0", &[(ip4(101, 2), 24)], &[ip4(101, 1)]);
    other
}

#[test]
fn links_that_forward_by_themselves_go_on_with_us_and_after_us() {
    let world = World::new();
    let (_behind, stranger) = (behind(&world), stranger(&world));
    let settings =
        ["eth0/forwarding", "eth1/forwarding", "eth2/forwarding", "all/forwarding", "all/accept_redirects"]
            .map(|setting| format!("ipv4/conf/{setting}"));
    for (setting, value) in settings.iter().zip(["1", "1", "0", "0", "0"]) {
        write(&world.host, setting, value);
    }
    let as_it_was = |when: &str| {
        assert_eq!(world.lan.reaches(BEHIND, 80).as_deref(), Some(LAN), "{when}");
        assert!(stranger.is_kept_from(BEHIND, 80), "by a link that does not forward, {when}");
    };
    as_it_was("before");
    world.network(1, |_| {});
    let a = world.container(1, 2);
    as_it_was("with us");
    world.lan.serve(81);
    assert_eq!(a.space.reaches(LAN, 81).as_deref(), Some(HOST), "a container");
    end(&world);
    as_it_was("after us");
    let after = settings.each_ref().map(|setting| read(&world.host, setting));
    assert_eq!(after, ["1", "1", "0", "0", "0"], "{settings:?}");
}

/// A router says on its link that it is one.
fn advertise(router: &Space) {
    router.run(|| {
        use rustix::net::{AddressFamily, SendFlags, SocketType, ipproto, sendto, socket, sockopt};
        let raw: OwnedFd = socket(AddressFamily::INET6, SocketType::RAW, Some(ipproto::ICMPV6)).unwrap();
        sockopt::set_ipv6_multicast_hops(&raw, 255).unwrap();
        // Type 134; the kernel puts the checksum in; a lifetime of half an hour.
        let [high, low] = 1800_u16.to_be_bytes();
        let message = [134, 0, 0, 0, 64, 0, high, low, 0, 0, 0, 0, 0, 0, 0, 0];
        let all: SocketAddr = "[ff02::1%2]:0".parse().unwrap();
        // Its own address may not be ready yet: it is tried again.
        let _ = sendto(&raw, &message, SendFlags::empty(), &all);
    });
}

fn learnt(world: &World) -> bool {
    world.host.program("ip", &["-6", "route", "show", "default"]).contains("proto ra")
}

#[test]
fn routes_that_were_learnt_from_routers_stay_and_links_go_on_learning() {
    let world = World::new();
    let learns = || {
        soon(|| {
            advertise(&world.lan);
            learnt(&world)
        })
    };
    let forget = || drop(world.host.program("ip", &["-6", "route", "flush", "default"]));
    assert!(learns(), "before");
    world.network(1, |_| {});
    assert!(learnt(&world), "with the first network");
    assert_eq!(read(&world.host, "ipv6/conf/eth0/accept_ra"), "1");
    forget();
    assert!(learns(), "with us");
    world.network(2, |_| {});
    assert!(learnt(&world), "with another network");
    end(&world);
    assert!(learnt(&world), "after us");
    forget();
    assert!(learns(), "once more, after us");
    let own = ["eth0", "default"].map(|link| read(&world.host, &format!("ipv6/conf/{link}/forwarding")));
    assert_eq!(own, ["0", "0"]);
}

#[test]
fn a_host_that_comes_to_forward_by_itself_forwards_all_and_keeps_it() {
    let world = World::new();
    let _behind = behind(&world);
    world.network(1, |_| {});
    let firewall = Arc::clone(&world.firewall);
    let _watch = world.host.run(move || Watch::start(firewall, |_| {}).unwrap());
    assert!(world.lan.is_kept_from(BEHIND, 80), "while it is for us only");
    // As another container engine does when it starts.
    write(&world.host, "ipv4/ip_forward", "1");
    write(&world.host, "ipv6/conf/all/forwarding", "1");
    assert!(soon(|| world.lan.reaches(BEHIND, 80).is_some()), "when the host wants it");
    end(&world);
    let left = ["ipv4/ip_forward", "ipv6/conf/all/forwarding"].map(|setting| read(&world.host, setting));
    assert_eq!(left, ["1", "1"]);
    assert_eq!(world.lan.reaches(BEHIND, 80).as_deref(), Some(LAN));
}

#[test]
fn links_that_come_to_forward_by_themselves_do() {
    let world = World::new();
    let _behind = behind(&world);
    world.network(1, |_| {});
    let firewall = Arc::clone(&world.firewall);
    let _watch = world.host.run(move || Watch::start(firewall, |_| {}).unwrap());
    assert!(world.lan.is_kept_from(BEHIND, 80));
    for link in ["eth0", "eth1"] {
        write(&world.host, &format!("ipv4/conf/{link}/forwarding"), "1");
    }
    assert!(soon(|| world.lan.reaches(BEHIND, 80).is_some()));
}

#[test]
fn what_was_taken_away_is_not_brought_back_when_forwarding_changes() {
    let world = World::new();
    world.network(1, |_| {});
    let firewall = Arc::clone(&world.firewall);
    let _watch = world.host.run(move || Watch::start(firewall, |_| {}).unwrap());
    end(&world);
    write(&world.host, "ipv4/ip_forward", "2");
    let is_back = || {
        let firewall = Arc::clone(&world.firewall);
        world.host.run(move || firewall.is_loaded().unwrap())
    };
    let doubt = Duration::from_millis(200);
    assert!(tare_kit::wait::until(doubt, || is_back().then_some(())).is_none());
}

#[test]
fn links_that_come_to_forward_ipv6_by_themselves_do() {
    let world = World::new();
    let _behind = behind(&world);
    let force = "ipv6/conf/eth0/force_forwarding";
    if !world.host.run(move || std::fs::exists(format!("/proc/sys/net/{force}")).unwrap()) {
        return;
    }
    world.network(1, |_| {});
    let firewall = Arc::clone(&world.firewall);
    let _watch = world.host.run(move || Watch::start(firewall, |_| {}).unwrap());
    let passes = |link: &str| world.firewall.lock().shut.iter().any(|shut| shut.but.contains(&link.into()));
    assert!(!passes("eth0"));
    write(&world.host, force, "1");
    assert!(soon(|| passes("eth0")));
    write(&world.host, force, "0");
    assert!(soon(|| !passes("eth0")));
}

/// Two guests on a bridge of the host's own, of which the second has .2 of that network.
fn guests(world: &World, bridge: &'static str, network: u8) -> [Space; 2] {
    world.host.route(move |socket| {
        link::create(socket, &NewLink { up: true, ..NewLink::new(bridge, Some(Kind::Bridge)) }).unwrap();
    });
    [1, 2].map(|number| {
        let guest = Space::new();
        world.host.link(&format!("vnet{network}-{number}"), Some(bridge), &guest, "eth0", None);
        guest.configure("eth0", &[(ip4(network, number), 24)], &[]);
        guest.serve(80);
        guest
    })
}

#[test]
fn bridges_of_others_pass_on_frames_that_are_shown_to_the_rules() {
    let world = World::new();
    // Where there is no such setting, frames are not shown.
    world.host.run(|| drop(std::fs::write("/proc/sys/net/bridge/bridge-nf-call-iptables", "1")));
    let [a, _b] = guests(&world, "virbr0", 102);
    assert!(a.reaches("172.30.102.2", 80).is_some(), "before");
    world.network(1, |_| {});
    assert!(a.reaches("172.30.102.2", 80).is_some(), "with us");
    let firewall = Arc::clone(&world.firewall);
    let _watch = world.host.run(move || Watch::start(firewall, |_| {}).unwrap());
    let [c, _d] = guests(&world, "virbr1", 103);
    assert!(soon(|| c.reaches("172.30.103.2", 80).is_some()), "of a bridge that came later");
}

#[test]
fn a_link_does_not_pass_because_another_of_its_name_did() {
    let world = World::new();
    let _stranger = stranger(&world);
    write(&world.host, "ipv4/conf/eth2/forwarding", "1");
    world.network(1, |_| {});
    let firewall = Arc::clone(&world.firewall);
    let _watch = world.host.run(move || Watch::start(firewall, |_| {}).unwrap());
    let passes = || world.firewall.lock().shut.iter().any(|shut| shut.but.contains(&"eth2".into()));
    assert!(passes());
    world.host.program("ip", &["link", "delete", "eth2"]);
    let _another = stranger(&world);
    assert!(soon(|| !passes()));
}

#[test]
fn links_of_containers_are_no_links_that_forward_by_themselves() {
    let world = World::new();
    write(&world.host, "ipv4/conf/default/forwarding", "1");
    world.network(1, |_| {});
    let _a = world.container(1, 2);
    assert_eq!(read(&world.host, "ipv4/conf/v1-2/forwarding"), "1");
    let firewall = Arc::clone(&world.firewall);
    world.host.run(move || firewall.restore().unwrap());
    let passing: Vec<_> = world.firewall.lock().shut.iter().flat_map(|shut| shut.but.clone()).collect();
    let ours = |name: &&String| name.starts_with("br-") || name.starts_with("v1");
    assert_eq!(passing.iter().filter(ours).count(), 0, "{passing:?}");
}

#[test]
fn what_an_engine_left_half_done_is_no_links_own_setting() {
    let world = World::new();
    world.network(1, |_| {});
    // Killed right after it had switched all of them.
    write(&world.host, "ipv6/conf/eth0/forwarding", "2");
    write(&world.host, "ipv6/conf/default/forwarding", "2");
    end(&world);
    let left = ["eth0", "default"].map(|link| read(&world.host, &format!("ipv6/conf/{link}/forwarding")));
    assert_eq!(left, ["0", "0"]);
}
