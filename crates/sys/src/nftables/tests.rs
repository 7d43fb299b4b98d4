//! Rules against the real kernel: they are accepted, they act on packets, and a refused list changes nothing.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, UdpSocket};
use std::thread;
use std::time::Duration;

use rustix::io::Errno;
use rustix::thread::{UnshareFlags, unshare_unsafe};

use super::{
    Chain, Change, Data, Element, Expression as Do, Family, Field, Hook, MapData, Meta, Monitor, NatKind,
    News, Part, Payload, Register, Set, SetFlags, TableFlags, Verdict, apply, apply_all, elements, hooked,
    tables,
};
use crate::netlink::{Protocol, Socket};

const TABLE: &str = "ours";
const LOCAL_OUT: u32 = 3;
const A: Register = Register(0);
const B: Register = Register(1);

/// Runs `test` on a thread that is alone in a new network namespace with its loopback up.
fn alone(test: impl FnOnce(&mut Socket) + Send + 'static) {
    let apart = thread::spawn(move || {
        // SAFETY: a network namespace says nothing about memory or descriptors, and no other thread depends on this one's.
        unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.expect("needs root");
        crate::loopback::up().unwrap();
        test(&mut Socket::open(Protocol::Netfilter).unwrap());
    });
    apart.join().unwrap();
}

fn chain(kind: &'static str) -> Change {
    let hook = Hook { kind, number: LOCAL_OUT, priority: -100, drop: false, device: None };
    Change::AddChain(Chain { name: "out".into(), hook: Some(hook) })
}

fn rule(rule: Vec<Do>) -> Change {
    Change::AddRule { chain: "out".into(), rule, note: Vec::new() }
}

fn ports_map() -> Set {
    Set {
        name: "ports".into(),
        flags: SetFlags::NONE,
        key: vec![Field::Transport, Field::Port],
        data: Some(MapData::Fields(vec![Field::Ip, Field::Port])),
        forgets: None,
    }
}

/// Key of a protocol and a port, each in registers of its own.
fn key(port: u16) -> Vec<u8> {
    let [high, low] = port.to_be_bytes();
    vec![17, 0, 0, 0, high, low, 0, 0]
}

/// Address and port as the data of [`ports_map`].
fn target(port: u16) -> Data {
    let [high, low] = port.to_be_bytes();
    Data::value([127, 0, 0, 1, high, low, 0, 0])
}

fn send(to: u16) {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let _ = socket.send_to(b"x", (Ipv4Addr::LOCALHOST, to));
}

fn arrives(at: &UdpSocket) -> bool {
    at.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    match at.recv(&mut [0; 8]) {
        Ok(_) => true,
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => false,
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn a_map_of_ports_sends_packets_where_its_elements_say() {
    alone(|socket| {
        let to_map = vec![
            Do::Meta(Meta::Transport, A),
            Do::Payload(Payload::DESTINATION_PORT, B),
            Do::Map("ports".into(), A, Register(4)),
            Do::Nat(NatKind::Destination, Family::Ip, Register(4), Some(Register(5))),
        ];
        let set_up = [
            Change::AddTable { flags: TableFlags::NONE, note: b"v1".to_vec() },
            Change::AddSet(ports_map()),
            chain("nat"),
            rule(to_map),
        ];
        apply(socket, Family::Inet, TABLE, &set_up).unwrap();
        let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = server.local_addr().unwrap().port();
        send(5353);
        assert!(!arrives(&server));
        let element = vec![Element::map(key(5353), target(port))];
        let add = Change::AddElements { set: "ports".into(), elements: element.clone() };
        apply(socket, Family::Inet, TABLE, &[add]).unwrap();
        send(5353);
        assert!(arrives(&server));
        assert_eq!(elements(socket, Family::Inet, TABLE, "ports").unwrap().len(), 1);
        let delete = Change::DeleteElements { set: "ports".into(), elements: element };
        apply(socket, Family::Inet, TABLE, &[delete]).unwrap();
        send(5353);
        assert!(!arrives(&server));
    });
}

#[test]
fn a_verdict_map_drops_what_it_lists() {
    alone(|socket| {
        let verdicts = Set {
            name: "fate".into(),
            flags: SetFlags::NONE,
            key: vec![Field::Port],
            data: Some(MapData::Verdict),
            forgets: None,
        };
        let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = server.local_addr().unwrap().port();
        let [high, low] = port.to_be_bytes();
        let fate = Element::map([high, low], Data::Verdict(Verdict::Drop));
        let look =
            vec![Do::Counter, Do::Payload(Payload::DESTINATION_PORT, A), Do::VerdictMap("fate".into(), A)];
        let set_up = [
            Change::AddTable { flags: TableFlags::NONE, note: Vec::new() },
            Change::AddSet(verdicts),
            chain("filter"),
            rule(look),
            Change::AddElements { set: "fate".into(), elements: vec![fate] },
        ];
        apply(socket, Family::Inet, TABLE, &set_up).unwrap();
        send(port);
        assert!(!arrives(&server));
        apply(socket, Family::Inet, TABLE, &[Change::FlushSet("fate".into())]).unwrap();
        send(port);
        assert!(arrives(&server));
    });
}

#[test]
fn a_refused_list_changes_nothing_and_names_the_place() {
    alone(|socket| {
        let wrong = [
            Change::AddTable { flags: TableFlags::NONE, note: Vec::new() },
            chain("filter"),
            rule(vec![Do::In("no such set".into(), A)]),
            Change::AddSet(ports_map()),
        ];
        let (place, error) = apply(socket, Family::Inet, TABLE, &wrong).unwrap_err();
        assert_eq!((place, error.errno()), (2, Errno::NOENT));
        assert!(tables(socket, Family::Inet).unwrap().is_empty());
        assert!(apply(socket, Family::Inet, TABLE, &[]).is_ok());
    });
}

#[test]
fn notes_come_back_and_thousands_of_elements_fit() {
    alone(|socket| {
        let set_up = [
            Change::AddTable { flags: TableFlags::NONE, note: b"of instance 7".to_vec() },
            Change::AddSet(ports_map()),
        ];
        apply(socket, Family::Inet, TABLE, &set_up).unwrap();
        assert_eq!(tables(socket, Family::Inet).unwrap(), [(TABLE.to_owned(), b"of instance 7".to_vec())]);
        let element = |port: u16| Element::map(key(port), target(port));
        let add = |elements| Change::AddElements { set: "ports".into(), elements };
        let mut changes: Vec<Change> = (1..=1000).map(|port| add(vec![element(port)])).collect();
        changes.push(add((1001..=3000).map(element).collect()));
        apply(socket, Family::Inet, TABLE, &changes).unwrap();
        assert_eq!(elements(socket, Family::Inet, TABLE, "ports").unwrap().len(), 3000);
        apply(socket, Family::Inet, TABLE, &[Change::DeleteTable]).unwrap();
        assert!(tables(socket, Family::Inet).unwrap().is_empty());
    });
}

#[test]
fn a_refusal_within_a_long_list_names_the_change() {
    alone(|socket| {
        let set_up =
            [Change::AddTable { flags: TableFlags::NONE, note: Vec::new() }, Change::AddSet(ports_map())];
        apply(socket, Family::Inet, TABLE, &set_up).unwrap();
        let elements = (1..=1000).map(|port| Element::map(key(port), target(port))).collect();
        let changes =
            [Change::AddElements { set: "ports".into(), elements }, Change::DeleteChain("none".into())];
        assert_eq!(apply(socket, Family::Inet, TABLE, &changes).unwrap_err().0, 1);
    });
}

#[test]
fn a_monitor_hears_what_somebody_else_did_to_the_table() {
    alone(|socket| {
        let add = |note: &[u8]| [Change::AddTable { flags: TableFlags::NONE, note: note.to_vec() }];
        apply(socket, Family::Inet, TABLE, &add(b"")).unwrap();
        let mut other = Socket::open(Protocol::Netfilter).unwrap();
        let mut monitor = Monitor::open(other.port().unwrap()).unwrap();
        apply(&mut other, Family::Inet, "another", &add(b"")).unwrap();
        let input = Hook { kind: "filter", number: 1, priority: 0, drop: false, device: None };
        let chain = Change::AddChain(Chain { name: "input".into(), hook: Some(input) });
        apply(socket, Family::Inet, TABLE, &[chain]).unwrap();
        assert_eq!(hooked(socket, Family::Inet, 1).unwrap(), [(TABLE.to_owned(), "input".to_owned())]);
        assert_eq!(hooked(socket, Family::Inet, 2).unwrap(), []);
        apply(&mut other, Family::Inet, "another", &[Change::DeleteTable]).unwrap();
        apply(socket, Family::Inet, TABLE, &[Change::DeleteTable]).unwrap();
        let mut heard = Vec::new();
        while heard.len() < 3 {
            let text = |news: News<'_>| {
                (news.table.to_owned(), news.chain.map(str::to_owned), news.hook, news.is_gone)
            };
            monitor.wait(|news| heard.push(text(news))).unwrap();
        }
        let (table, chain) = (TABLE.to_owned(), Some("input".to_owned()));
        let gone = |chain| (table.clone(), chain, None, true);
        assert_eq!(heard, [(table.clone(), chain.clone(), Some(1), false), gone(chain), gone(None)]);
    });
}

#[test]
fn changes_of_several_tables_are_one_and_the_refused_one_is_named() {
    alone(|socket| {
        let table = Change::AddTable { flags: TableFlags::NONE, note: Vec::new() };
        let good = [table.clone(), Change::AddSet(ports_map())];
        let bad = [table.clone(), Change::AddSet(ports_map()), Change::DeleteSet("none".into())];
        let part = |family, changes| Part { family, table: TABLE, changes };
        let both = [part(Family::Inet, &good[..]), part(Family::Bridge, &bad[..])];
        let (at, place, error) = apply_all(socket, &both).unwrap_err();
        assert_eq!((at, place, error.errno()), (1, 2, Errno::NOENT));
        assert!(tables(socket, Family::Inet).unwrap().is_empty());
        apply_all(socket, &[part(Family::Inet, &good), part(Family::Bridge, &good)]).unwrap();
        assert_eq!(tables(socket, Family::Bridge).unwrap().len(), 1);
    });
}

#[test]
fn an_owned_table_is_nobody_elses_and_a_lasting_one_survives_its_socket() {
    alone(|owner| {
        let own = |flags| [Change::AddTable { flags, note: Vec::new() }];
        let mut other = Socket::open(Protocol::Netfilter).unwrap();
        match apply(owner, Family::Inet, TABLE, &own(TableFlags::OWNED_AND_LASTING)) {
            Err((0, error)) if [Errno::OPNOTSUPP, Errno::INVAL].contains(&error.errno()) => return, // before 6.9
            outcome => outcome.unwrap(),
        }
        apply(owner, Family::Inet, "brief", &own(TableFlags::OWNED)).unwrap();
        let (_, refused) = apply(&mut other, Family::Inet, TABLE, &[Change::DeleteTable]).unwrap_err();
        assert_eq!(refused.errno(), Errno::PERM);
        *owner = Socket::open(Protocol::Netfilter).unwrap();
        assert_eq!(tables(owner, Family::Inet).unwrap().len(), 1, "the brief one went with its socket");
        apply(owner, Family::Inet, TABLE, &own(TableFlags::OWNED_AND_LASTING)).unwrap();
        assert!(apply(&mut other, Family::Inet, TABLE, &[Change::DeleteTable]).is_err(), "adopted");
    });
}

#[test]
fn every_expression_is_one_that_the_kernel_knows() {
    alone(|socket| {
        let known = vec![
            Do::Meta(Meta::InputName, A),
            Do::Meta(Meta::Family, A),
            Do::Equal(A, vec![2]),
            Do::Payload(Payload::IP_SOURCE, A),
            Do::Bitwise(A, vec![255, 255, 0, 0], vec![0; 4]),
            Do::NotEqual(A, vec![10, 1, 0, 0]),
            Do::Ct(super::CtKey::State, A),
            Do::Fib(super::FibResult::DestinationType, A),
            Do::Constant(vec![0, 0, 0, 7], B),
            Do::SetMeta(Meta::Mark, B),
            Do::Counter,
            Do::Verdict(Verdict::Return),
        ];
        let set_up = [
            Change::AddTable { flags: TableFlags::NONE, note: Vec::new() },
            chain("filter"),
            Change::AddChain(Chain { name: "side".into(), hook: None }),
            rule(known),
            rule(vec![Do::Verdict(Verdict::Jump("side".into()))]),
            rule(vec![Do::Reject { reset: false }]),
            Change::FlushChain("out".into()),
            Change::DeleteChain("side".into()),
        ];
        apply(socket, Family::Inet, TABLE, &set_up).unwrap();
    });
}
