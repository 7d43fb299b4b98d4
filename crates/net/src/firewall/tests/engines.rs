//! Two engines on one host, and what is left of forwarding when they end.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tare_sys::netlink::{Protocol, Socket};
use tare_sys::nftables::{Chain, Change, Family, Hook, TableFlags, apply, rules};

use super::world::{Container, HOST, LAN, Space, World, ip4, network, settings};
use crate::firewall::{Firewall, Settings, Watch};

fn forwards(world: &World) -> [String; 2] {
    world.host.run(|| {
        ["ipv4/ip_forward", "ipv6/conf/all/forwarding"].map(|setting| {
            let value = std::fs::read_to_string(format!("/proc/sys/net/{setting}")).unwrap();
            // 2 where it is because of engines.
            value.trim().to_owned()
        })
    })
}

/// Another engine of the host's, without networks yet.
fn opened(world: &World) -> Arc<Firewall> {
    let settings = Settings { table: "tare-other".into(), ..settings(Path::new("/nonexistent")) };
    world.host.run(|| Arc::new(Firewall::open(settings, None).unwrap()))
}

/// Another engine of the host's, with a network and a container.
fn another(world: &World) -> (Arc<Firewall>, Container) {
    let firewall = opened(world);
    let same_host =
        World { host: world.host.clone(), lan: world.lan.clone(), firewall: Arc::clone(&firewall) };
    same_host.network(2, |_| {});
    (firewall, same_host.container(2, 2))
}

/// A neighbour behind another link of the host's, which nobody but a router leads to.
pub(super) fn behind(world: &World) -> Space {
    let other = Space::new();
    world.host.link("eth1", None, &other, "eth0", None);
    world.host.configure("eth1", &[(ip4(100, 1), 24)], &[]);
    other.configure("eth0", &[(ip4(100, 2), 24)], &[ip4(100, 1)]);
    other.serve(80);
    other
}

#[test]
fn forwarding_ends_with_the_last_engine_that_it_was_switched_on_for() {
    let world = World::new();
    let _other = behind(&world);
    world.lan.serve(80);
    assert_eq!(forwards(&world), ["0", "0"]);
    world.network(1, |_| {});
    let a = world.container(1, 2);
    let (second, b) = another(&world);
    for (container, which) in [(&a, "first"), (&b, "second")] {
        assert_eq!(container.space.reaches(LAN, 80).as_deref(), Some(HOST), "out of the {which} engine's");
    }
    assert!(world.lan.is_kept_from("172.30.100.2", 80), "with both the host is no router");
    let first = Arc::clone(&world.firewall);
    world.host.run(move || first.remove().unwrap());
    assert_eq!(forwards(&world), ["2", "2"], "the second needs it");
    assert_eq!(b.space.reaches(LAN, 80).as_deref(), Some(HOST), "when the first is gone");
    assert!(world.lan.is_kept_from("172.30.100.2", 80), "nor is it with the second alone");
    world.host.run(move || second.remove().unwrap());
    assert_eq!(forwards(&world), ["0", "0"]);
    assert!(world.lan.is_kept_from("172.30.100.2", 80), "and not with none");
}

#[test]
fn what_the_host_forwards_by_itself_it_goes_on_forwarding() {
    let world = World::new();
    let _other = behind(&world);
    world.host.run(|| std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap());
    world.network(1, |_| {});
    let firewall = Arc::clone(&world.firewall);
    world.host.run(move || firewall.remove().unwrap());
    assert_eq!(forwards(&world), ["1", "0"]);
    assert_eq!(world.lan.reaches("172.30.100.2", 80).as_deref(), Some(LAN));
}

#[test]
fn an_engine_that_begins_while_another_one_ends_has_forwarding() {
    let world = World::new();
    world.bridge(1);
    world.bridge(2);
    let second = opened(&world);
    for round in 0..60 {
        world.add_network(network(1));
        let (first, second) = (Arc::clone(&world.firewall), Arc::clone(&second));
        let forwarded = world.host.run(move || {
            // Both are in the host's network namespace, as this thread is.
            let ends = std::thread::spawn(move || {
                let begun = Instant::now();
                while begun.elapsed() < Duration::from_micros(round * 150) {
                    std::thread::yield_now();
                }
                first.remove().unwrap();
            });
            second.add_network(network(2)).unwrap();
            ends.join().unwrap();
            let forwarded = std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap();
            second.remove().unwrap();
            forwarded.trim().to_owned()
        });
        assert_ne!(forwarded, "0", "round {round}: the engine that is left forwards nothing");
        assert_eq!(forwards(&world), ["0", "0"], "round {round}: nobody is left");
    }
}

#[test]
fn what_forwards_for_engines_that_are_gone_with_their_tables_ends_unless_another_needs_it() {
    let world = World::new();
    let on = || {
        world.host.run(|| {
            for setting in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
                std::fs::write(format!("/proc/sys/net/{setting}"), "2").unwrap();
            }
        });
    };
    let begin = || {
        let firewall = Arc::clone(&world.firewall);
        world.host.run(move || firewall.stop_what_was_left().unwrap());
    };
    on();
    begin();
    assert_eq!(forwards(&world), ["0", "0"]);
    let (second, _b) = another(&world);
    begin();
    assert_eq!(forwards(&world), ["2", "2"]);
    world.host.run(move || second.remove().unwrap());
    assert_eq!(forwards(&world), ["0", "0"]);
}

#[test]
fn engines_do_not_take_turns_at_the_end_of_a_chain_that_drops() {
    let world = World::new();
    let rules = || {
        world.host.run(|| {
            let mut socket = Socket::open(Protocol::Netfilter).unwrap();
            rules(&mut socket, Family::Ip, "filter", "FORWARD").unwrap()
        })
    };
    world.host.run(|| {
        let hook = Hook { kind: "filter", number: 2, priority: 0, drop: true, device: None };
        let chain = Chain { name: "FORWARD".into(), hook: Some(hook) };
        let changes =
            [Change::AddTable { flags: TableFlags::NONE, note: Vec::new() }, Change::AddChain(chain)];
        let mut socket = Socket::open(Protocol::Netfilter).unwrap();
        apply(&mut socket, Family::Ip, "filter", &changes).unwrap();
    });
    world.network(1, |_| {});
    let (second, _b) = another(&world);
    let watches = [&world.firewall, &second].map(|firewall| {
        let firewall = Arc::clone(firewall);
        world.host.run(move || Watch::start(firewall, |_| {}).unwrap())
    });
    world.network(3, |_| {});
    let before = rules();
    assert_eq!(before.len(), 9, "three for each network");
    let moved = || (rules() != before).then_some(());
    let doubt = Duration::from_millis(300);
    assert!(tare_kit::wait::until(doubt, moved).is_none(), "one moves its rules behind the other's");
    drop(watches);
    world.host.run(move || second.remove().unwrap());
    assert_eq!(rules().len(), 6, "the other's are gone");
}
