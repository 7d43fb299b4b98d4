//! Faults in the real kernel. What needs `netem` is passed by where there is none, and runs in the guest.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tare_model::error::ErrorKind;
use tare_model::id::ContainerId;
use tare_model::network::Endpoint;
use tare_sys::netlink::Protocol;
use tare_sys::nftables::{Family as Table, tables};

use super::*;
use crate::addresses::Family;
use crate::link::tests::{Container, Net, alone, config, host, of, udp};

/// Of the tests' datagrams.
const PATIENCE: Duration = Duration::from_millis(300);

/// A container with a socket of each family.
struct Peer {
    container: Container,
    endpoint: Endpoint,
    end: u32,
}

impl Peer {
    fn new(net: &mut Net, number: u8) -> Self {
        let (inside, udp) = alone(|| (host(), udp()));
        udp.iter().for_each(|socket| socket.set_read_timeout(Some(PATIENCE)).unwrap());
        let mut container = Container { id: ContainerId::from_bytes([number; 32]), inside, udp };
        let endpoint = net.endpoint("eth0");
        let end = net.put(&mut container, &endpoint, true).unwrap().unwrap();
        Self { container, endpoint, end }
    }

    /// A datagram gets to another one, in a family.
    fn reaches(&self, other: &Self, family: Family) -> bool {
        let at = usize::from(family == Family::V6);
        let to = SocketAddr::new(
            of(&other.endpoint, family),
            other.container.udp[at].local_addr().unwrap().port(),
        );
        let mut buffer = [0; 8];
        // What waited for an answer of a neighbour comes late.
        while other.container.udp[at].recv(&mut buffer).is_ok() {}
        self.container.udp[at].send_to(b"x", to).unwrap();
        other.container.udp[at].recv(&mut buffer).is_ok()
    }
}

#[track_caller]
fn is_apart(one: &Peer, other: &Peer, wanted: bool) {
    for family in [Family::V4, Family::V6] {
        for (from, to) in [(one, other), (other, one)] {
            assert_eq!(from.reaches(to, family), !wanted, "{family:?}");
        }
    }
}

fn names() -> Vec<String> {
    let mut socket = Socket::open(Protocol::Netfilter).unwrap();
    tables(&mut socket, Table::Bridge).unwrap().into_iter().map(|(name, _)| name).collect()
}

#[test]
fn two_are_cut_off_from_each_other_and_from_nobody_else() {
    alone(|| {
        let mut net = Net::new(1, config("web"));
        let [one, two, third] = [1, 2, 3].map(|number| Peer::new(&mut net, number));
        is_apart(&one, &two, false);
        let mut cuts = Cuts::open("t").unwrap();
        let between = |a: &Peer, b: &Peer| [Cut { link: a.end, from: b.endpoint.mac }];
        let both: BTreeSet<Cut> = [between(&one, &two), between(&two, &one)].into_iter().flatten().collect();
        cuts.set(both.clone()).unwrap();
        // Neighbours know each other already: what is open is cut.
        is_apart(&one, &two, true);
        is_apart(&one, &third, false);
        cuts.set(BTreeSet::new()).unwrap();
        is_apart(&one, &two, false);
        assert_eq!(names(), [""; 0], "there is no table without a cut");
        cuts.set(both).unwrap();
        assert_eq!(names(), ["t-fault"]);
        drop(cuts);
        // Another engine after a crash: what it does not know of goes.
        Cuts::open("t").unwrap().set(BTreeSet::new()).unwrap();
        is_apart(&one, &two, false);
    });
}

#[test]
fn a_dead_link_carries_nothing() {
    alone(|| {
        let mut net = Net::new(1, config("web"));
        let [one, two, third] = [1, 2, 3].map(|number| Peer::new(&mut net, number));
        let mut cuts = Cuts::open("t").unwrap();
        cuts.set([Cut { link: one.end, from: None }].into()).unwrap();
        is_apart(&one, &two, true);
        is_apart(&one, &third, true);
        is_apart(&two, &third, false);
        let gateway = SocketAddr::new(net.gateway(Family::V4), 9);
        let socket = &one.container.udp[0];
        socket.send_to(b"x", gateway).unwrap();
        assert!(socket.recv(&mut [0; 8]).is_err(), "not even that nobody listens is heard");
    });
}

/// Whether this kernel has netem; if not, that it is said so.
fn has_netem(end: u32) -> bool {
    let how = Impairment { loss: 1, ..Impairment::default() };
    match impair(&mut host(), end, &how) {
        Ok(()) => true,
        Err(e) => {
            assert_eq!(e.kind(), ErrorKind::Unsupported, "{e}");
            assert!(e.message().contains("CONFIG_NET_SCH_NETEM"), "{e}");
            eprintln!("step aside: {e}");
            false
        }
    }
}

#[test]
fn what_a_link_sends_is_delayed_lost_and_mended() {
    alone(|| {
        let mut net = Net::new(1, config("web"));
        let [mut one, two] = [1, 2].map(|number| Peer::new(&mut net, number));
        if !has_netem(one.end) {
            return;
        }
        let none = Impairment::default();
        let took = |one: &Peer| {
            one.container.udp[0].set_read_timeout(Some(Duration::from_secs(3))).unwrap();
            two.container.udp[0].set_read_timeout(Some(Duration::from_secs(3))).unwrap();
            let to = |peer: &Peer| {
                let port = peer.container.udp[0].local_addr().unwrap().port();
                SocketAddr::new(of(&peer.endpoint, Family::V4), port)
            };
            let (started, mut buffer) = (Instant::now(), [0; 8]);
            one.container.udp[0].send_to(b"x", to(&two)).unwrap();
            two.container.udp[0].recv(&mut buffer).unwrap();
            two.container.udp[0].send_to(b"x", to(one)).unwrap();
            one.container.udp[0].recv(&mut buffer).unwrap();
            started.elapsed()
        };
        impair(&mut host(), one.end, &none).unwrap();
        impair(&mut host(), one.end, &none).unwrap();
        took(&one);
        let slow = Impairment { latency: 200_000_000, ..none };
        impair(&mut host(), one.end, &slow).unwrap();
        assert!(took(&one) >= Duration::from_millis(200));
        let inside = index(&mut one.container.inside, "eth0").unwrap();
        impair(&mut one.container.inside, inside, &slow).unwrap();
        assert!(took(&one) >= Duration::from_millis(400));
        let jittery = Impairment { jitter: 5_000_000, reorder: 100_000, duplicate: 1, ..slow };
        impair(&mut one.container.inside, inside, &jittery).unwrap();
        impair(&mut one.container.inside, inside, &none).unwrap();
        let lossy = Impairment { loss: WHOLE, ..none };
        impair(&mut host(), one.end, &lossy).unwrap();
        two.container.udp[0].set_read_timeout(Some(PATIENCE)).unwrap();
        one.container.udp[0].set_read_timeout(Some(PATIENCE)).unwrap();
        assert!(one.reaches(&two, Family::V4) && !two.reaches(&one, Family::V4));
        impair(&mut host(), one.end, &none).unwrap();
        assert!(two.reaches(&one, Family::V4));
        assert!(took(&one) < Duration::from_millis(200));
    });
}
