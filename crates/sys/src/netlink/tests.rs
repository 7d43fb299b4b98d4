//! Netlink against the real kernel, each test in a network namespace of its own thread, and against broken answers.

use std::net::IpAddr;
use std::os::fd::AsFd;
use std::thread;

use rustix::io::Errno;
use rustix::thread::{UnshareFlags, unshare_unsafe};

use super::address::{self, Address};
use super::link::{self, Change, Kind, NewLink, Port, Which};
use super::route::{self, Route};
use super::traffic::{self, Class, Hook, Lead};
use super::{Attributes, Messages, Protocol, Request, Socket};
use crate::bpf::{Instruction, load_classifier};

/// Runs `test` on a thread that is alone in a new network namespace, which ends with it.
fn alone<T: Send + 'static>(test: impl FnOnce(&mut Socket) -> T + Send + 'static) -> T {
    let apart = thread::spawn(move || {
        // SAFETY: a network namespace says nothing about memory or descriptors, and no other thread depends on this one's.
        unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.expect("needs root");
        test(&mut Socket::open(Protocol::Route).unwrap())
    });
    apart.join().unwrap()
}

/// A socket of a namespace that nobody else is in.
fn elsewhere() -> Socket {
    alone(|socket| Socket::adopt(rustix::io::dup(socket.as_fd()).unwrap()))
}

fn address_of(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn a_pair_is_made_straight_into_another_namespace() {
    alone(|here| {
        let mut foreign = elsewhere();
        let there = foreign.namespace().unwrap();
        link::create(here, &NewLink { up: true, ..NewLink::new("br", Some(Kind::Bridge)) }).unwrap();
        let bridge = link::find(here, "br").unwrap();
        let peer = NewLink { namespace: Some(there.as_fd()), ..NewLink::new("eth0", None) };
        let kind = Kind::Veth { peer: Box::new(NewLink { mac: Some([2, 0, 0, 0, 0, 7]), ..peer }) };
        let new = NewLink {
            master: Some(bridge.index),
            mtu: Some(1400),
            up: true,
            ..NewLink::new("v1", Some(kind))
        };
        link::create(here, &new).unwrap();
        let made = link::find(here, "v1").unwrap();
        assert_eq!(
            (made.kind.as_str(), made.master, made.mtu, made.up),
            ("veth", Some(bridge.index), 1400, true)
        );
        assert_eq!(link::find(here, "eth0").unwrap_err().errno(), Errno::NODEV);
        let end = link::find(&mut foreign, "eth0").unwrap();
        assert_eq!((end.mac, end.up), (Some([2, 0, 0, 0, 0, 7]), false));
        link::change(&mut foreign, end.index, &Change { up: Some(true), ..Change::default() }).unwrap();
        assert!(link::find(&mut foreign, "eth0").unwrap().up);
    });
}

#[test]
fn a_socket_from_elsewhere_configures_the_namespace_it_was_made_in() {
    let mut foreign = elsewhere();
    link::create(&mut foreign, &NewLink::new("only-there", Some(Kind::Bridge))).unwrap();
    assert!(link::list(&mut foreign).unwrap().iter().any(|link| link.name == "only-there"));
    let mut ours = Socket::open(Protocol::Route).unwrap();
    assert!(link::list(&mut ours).unwrap().iter().all(|link| link.name != "only-there"));
}

#[test]
fn addresses_and_routes_of_both_families_come_and_go() {
    alone(|socket| {
        link::create(socket, &NewLink { up: true, ..NewLink::new("br", Some(Kind::Bridge)) }).unwrap();
        let link = link::find(socket, "br").unwrap().index;
        for (own, gateway) in [("10.1.0.1", "10.1.0.9"), ("fd00::1", "fd00::9")] {
            let address =
                Address { link, ip: address_of(own), prefix: if own.contains(':') { 64 } else { 16 } };
            address::add(socket, &address).unwrap();
            assert_eq!(address::add(socket, &address).unwrap_err().errno(), Errno::EXIST);
            assert!(address::list(socket).unwrap().contains(&address));
            let route = Route::default_by(address_of(gateway), link);
            route::add(socket, &route).unwrap();
            let found = route::list(socket).unwrap();
            assert!(found.iter().any(|r| r.prefix == 0 && r.gateway == route.gateway), "{found:?}");
            route::delete(socket, &route).unwrap();
            while !route::is_own(socket, address.ip).unwrap() {
                thread::yield_now();
            }
            assert!(!route::is_own(socket, route.gateway.unwrap()).unwrap());
            address::delete(socket, &address).unwrap();
            assert!(!address::list(socket).unwrap().contains(&address));
        }
    });
}

#[test]
fn addresses_that_somebody_gave_go_to_another_link() {
    alone(|socket| {
        for name in ["a", "b"] {
            link::create(socket, &NewLink { up: true, ..NewLink::new(name, Some(Kind::Bridge)) }).unwrap();
        }
        let [from, to] = ["a", "b"].map(|name| link::find(socket, name).unwrap().index);
        for (ip, prefix) in [("10.1.0.1", 16), ("fd00::1", 64)] {
            address::add(socket, &Address { link: from, ip: address_of(ip), prefix }).unwrap();
        }
        let kept = address::kept(socket, from).unwrap();
        assert_eq!(kept.len(), 2, "link-local ones are the kernel's own");
        link::delete(socket, from).unwrap();
        kept.iter().for_each(|kept| address::restore(socket, to, kept).unwrap());
        assert!(address::list(socket).unwrap().contains(&Address {
            link: to,
            ip: address_of("10.1.0.1"),
            prefix: 16
        }));
        assert_eq!(address::kept(socket, to).unwrap().len(), 2);
    });
}

#[test]
fn a_link_is_changed_and_deleted() {
    alone(|socket| {
        link::create(socket, &NewLink::new("a", Some(Kind::Bridge))).unwrap();
        let index = link::find(socket, "a").unwrap().index;
        let change =
            Change { up: Some(true), name: Some("b"), mac: Some([2, 1, 1, 1, 1, 1]), ..Change::default() };
        link::change(socket, index, &change).unwrap();
        let link = link::find(socket, "b").unwrap();
        assert_eq!((link.up, link.mac), (true, Some([2, 1, 1, 1, 1, 1])));
        link::delete(socket, index).unwrap();
        assert_eq!(link::delete(socket, index).unwrap_err().errno(), Errno::NODEV);
    });
}

#[test]
fn one_packet_makes_a_link_and_says_more_about_it() {
    alone(|socket| {
        let bridge = NewLink::new("br", Some(Kind::Bridge));
        let more = Change { up: Some(true), alias: Some("ours"), ..Change::default() };
        socket.all(vec![bridge.request(), more.request(Which::Name("br"))]).unwrap();
        let bridge = link::find(socket, "br").unwrap();
        assert_eq!((bridge.alias.as_str(), bridge.up), ("ours", true));
        let pair = Kind::Veth { peer: Box::new(NewLink::new("b", None)) };
        let pair = NewLink { master: Some(bridge.index), up: true, ..NewLink::new("a", Some(pair)) };
        let port = Change {
            port: Some(Port { isolated: true, hairpin: false, plain_groups: false }),
            ..Change::default()
        };
        let other = Change { up: Some(true), ..Change::default() };
        let packet = vec![pair.request(), port.request(Which::Name("a")), other.request(Which::Name("b"))];
        socket.all(packet).unwrap();
        let names: Vec<String> =
            link::ports(socket, bridge.index).unwrap().into_iter().map(|l| l.name).collect();
        assert_eq!(names, ["a"]);
        let [a, b] = ["a", "b"].map(|name| link::find(socket, name).unwrap());
        assert_eq!((a.lower, b.lower), (Some(b.index), Some(a.index)));
        let settled = link::get(socket, a.index).unwrap();
        assert_eq!((settled.name.as_str(), settled.operational, a.up), ("a", true, true));
        // The kernel tells neighbours and routers that somebody is there.
        assert!(link::counters(socket, b.index).unwrap().tx_packets < 100);
        assert_eq!(link::get(socket, 4242).unwrap_err().errno(), Errno::NODEV);
    });
}

#[test]
fn a_link_that_wants_no_ipv6_address_has_none() {
    alone(|socket| {
        let pair = NewLink::new("a", Some(Kind::Veth { peer: Box::new(NewLink::new("b", None)) }));
        let quiet = Change { no_ipv6_address: true, ..Change::default() };
        let up = Change { up: Some(true), ..Change::default() };
        let [a, b] = ["a", "b"].map(Which::Name);
        socket.all(vec![pair.request(), quiet.request(a), up.request(a), up.request(b)]).unwrap();
        let b = link::find(socket, "b").unwrap().index;
        let found = address::list(socket).unwrap();
        assert!(found.iter().any(|address| address.link == b), "one that does not mind has one: {found:?}");
        assert!(found.iter().all(|address| address.link == b), "{found:?}");
    });
}

#[test]
fn the_first_refusal_of_a_packet_is_told_and_the_rest_is_done() {
    alone(|socket| {
        let make = |name| NewLink::new(name, Some(Kind::Bridge)).request();
        let (place, error) = socket.all(vec![make("a"), make("a"), make("b")]).unwrap_err();
        assert_eq!((place, error.errno()), (1, Errno::EXIST));
        link::find(socket, "b").unwrap();
        let (place, error) = socket.all(vec![make("c"), make("b")]).unwrap_err();
        assert_eq!((place, error.errno()), (1, Errno::EXIST));
        socket.all(vec![]).unwrap();
        socket.all(vec![make("d")]).unwrap();
    });
}

#[test]
fn a_default_route_is_replaced_at_one_instant() {
    alone(|socket| {
        link::create(socket, &NewLink { up: true, ..NewLink::new("br", Some(Kind::Bridge)) }).unwrap();
        let link = link::find(socket, "br").unwrap().index;
        for (own, first, second) in [("10.1.0.1", "10.1.0.8", "10.1.0.9"), ("fd00::1", "fd00::8", "fd00::9")]
        {
            let prefix = if own.contains(':') { 64 } else { 16 };
            address::add(socket, &Address { link, ip: address_of(own), prefix }).unwrap();
            for gateway in [first, second] {
                let route = Route::default_by(address_of(gateway), link);
                socket.all(vec![route.replacement()]).unwrap();
                let found = route::list(socket).unwrap();
                let v4 = own.contains('.');
                let defaults: Vec<_> =
                    found.iter().filter(|r| r.prefix == 0 && r.network.is_ipv4() == v4).collect();
                assert_eq!(defaults.len(), 1, "{found:?}");
                assert_eq!(defaults[0].gateway, route.gateway);
            }
        }
    });
}

#[test]
fn a_refusal_comes_with_the_kernels_own_words() {
    alone(|socket| {
        let nowhere = Address { link: 4242, ip: address_of("10.0.0.1"), prefix: 8 };
        let error = address::add(socket, &nowhere).unwrap_err();
        assert_eq!(error.errno(), Errno::NODEV);
        let route = Route { prefix: 40, ..Route::default_by(address_of("10.0.0.1"), 1) };
        let error = route::add(socket, &route).unwrap_err();
        assert!(error.explanation().is_some_and(|words| words.contains("prefix")), "{error}");
    });
}

#[test]
fn a_list_longer_than_a_packet_is_whole() {
    alone(|socket| {
        for number in 0..300 {
            link::create(socket, &NewLink::new(&format!("br{number}"), Some(Kind::Bridge))).unwrap();
        }
        let links = link::list(socket).unwrap();
        assert_eq!(links.iter().filter(|link| link.name.starts_with("br")).count(), 300);
    });
}

#[test]
fn a_value_that_does_not_fit_is_refused_and_not_cut() {
    alone(|socket| {
        let name = "x".repeat(70_000);
        let change = Change { alias: Some(&name), ..Change::default() };
        assert_eq!(link::change(socket, 1, &change).unwrap_err().errno(), Errno::MSGSIZE);
    });
}

#[test]
fn broken_answers_end_the_reading() {
    let whole = Request::new(16, 0, &[0; 16]).finish(0, 1).unwrap();
    for cut in 0..whole.len() {
        assert_eq!(Messages::new(&whole[..cut]).count(), 0, "{cut}");
    }
    assert_eq!(Messages::new(&[255; 64]).count(), 0);
    assert_eq!(Messages::new(&[0; 64]).count(), 0, "a length of 0 must not be read for ever");
    assert_eq!(Attributes::new(&[0; 64]).count(), 0);
    assert_eq!(Attributes::new(&[3, 0, 1, 0]).count(), 0);
    assert_eq!(Attributes::new(&[5, 0, 1, 0, 9]).collect::<Vec<_>>(), [(1, &[9][..])]);
}

#[test]
fn a_tree_of_classes_is_made_changed_and_read_back() {
    alone(|socket| {
        link::create(socket, &NewLink { up: true, ..NewLink::new("shape", Some(Kind::Ifb)) }).unwrap();
        let link = link::find(socket, "shape").unwrap().index;
        socket.call(traffic::tree(link, 0x7a7e)).unwrap();
        assert_eq!(socket.call(traffic::tree(link, 0x7a7e)).unwrap_err().errno(), Errno::EXIST);
        let whole = Class {
            link,
            id: 0x7a7e_0001,
            parent: None,
            rate: 10_000_000_000,
            ceiling: 10_000_000_000,
            burst: 1 << 20,
            quantum: 60_000,
        };
        let part = Class { id: 0x7a7e_0002, parent: Some(whole.id), rate: 1_250_000, ..whole };
        socket.all(vec![whole.request(), part.request(), traffic::queue(link, part.id, 100_000)]).unwrap();
        let read = |socket: &mut Socket| {
            let mut found = traffic::classes(socket, link).unwrap();
            found.sort_by_key(|class| class.id);
            // Bursts are counted in ticks: what comes back is rounded.
            found
                .into_iter()
                .map(|class| Class { burst: (class.burst + 2048) >> 12 << 12, ..class })
                .collect::<Vec<_>>()
        };
        assert_eq!(read(socket), [whole, part]);
        let part = Class { rate: 2_500_000, ceiling: 5_000_000, ..part };
        socket.all(vec![part.request(), traffic::queue(link, part.id, 200_000)]).unwrap();
        assert_eq!(read(socket), [whole, part]);
        // A queue takes the place of another, and is changed, whatever it was.
        let splits = |bytes| traffic::split(link, part.id, 1522, bytes);
        let kinds =
            vec![splits(50_000), splits(60_000), traffic::queue(link, part.id, 200_000), splits(50_000)];
        socket.all(kinds).unwrap();
        match socket.call(traffic::fair(link, traffic::inner(part.id), 5000, 1 << 20)) {
            Ok(()) => socket.all(vec![splits(70_000), traffic::fair(link, part.id, 6000, 1 << 20)]).unwrap(),
            Err(e) => assert_eq!(e.errno(), Errno::NOENT, "this kernel has no fq_codel"),
        }
        socket.call(part.deletion()).unwrap();
        assert_eq!(read(socket), [whole]);
    });
}

#[test]
fn a_filter_at_a_hook_is_made_replaced_and_taken_away() {
    alone(|socket| {
        for (name, kind) in [("shape", Kind::Ifb), ("from", Kind::Bridge)] {
            link::create(socket, &NewLink { up: true, ..NewLink::new(name, Some(kind)) }).unwrap();
        }
        let [to, from] = ["shape", "from"].map(|name| link::find(socket, name).unwrap().index);
        let program =
            load_classifier(&[Instruction::new(0xb7, 0, 0, 0, -1), Instruction::new(0x95, 0, 0, 0, 0)])
                .unwrap();
        socket.call(traffic::hooks(from)).unwrap();
        for hook in [Hook::Ingress, Hook::Egress] {
            for _ in 0..2 {
                socket.call(traffic::redirect(from, hook, Lead::Program(program.as_fd()), to)).unwrap();
            }
            match socket.call(traffic::redirect(from, hook, Lead::Priority(1), to)) {
                Ok(()) => {}
                Err(e) => assert_eq!(e.errno(), Errno::NOENT, "this kernel has no skbedit"),
            }
            traffic::pass(socket, from, hook).unwrap();
            assert!(traffic::pass(socket, from, hook).is_err());
        }
        traffic::remove_hooks(socket, from).unwrap();
        assert!(traffic::remove_hooks(socket, from).is_err());
    });
}
