//! The host's own programs reach published ports on `::1`, and nobody else does.

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use tare_model::network::{Protocol, Published};
use tare_sys::capability::{self, Sets};

use super::world::{Container, HOST6, LAN, Space, World, ip, network, open_with, published};
use crate::firewall::{Admitted, Firewall, Ruleset};

const LOOPBACK: &str = "::1";
/// Numbers of capabilities.
const SYS_ADMIN: u32 = 21;
const BPF: u32 = 39;

/// One container on one network.
fn world() -> (World, Container) {
    let world = World::new();
    world.network(1, |_| {});
    let a = world.container(1, 2);
    (world, a)
}

fn on_all(port: u16, a: &Container) -> Published {
    published("::", port, a.ip6)
}

fn udp(port: Published) -> Published {
    Published { protocol: Protocol::Udp, ..port }
}

fn is_refused(space: &Space, port: u16) -> bool {
    let connected =
        space.run(move || TcpStream::connect((LOOPBACK, port)).map(drop).map_err(|error| error.kind()));
    connected == Err(std::io::ErrorKind::ConnectionRefused)
}

/// Answers each datagram to port 80 of the container with what it says.
fn echo(a: &Container) {
    let socket = a.space.run(|| UdpSocket::bind("[::]:80").unwrap());
    std::thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&buffer[..length], from);
        }
    });
}

/// Sends a datagram; gives who answered.
fn answered(socket: &UdpSocket, to: &str) -> Option<SocketAddr> {
    socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    socket.send_to(b"x", to).ok()?;
    socket.recv_from(&mut [0; 8]).ok().map(|(_, from)| from)
}

/// The same until somebody answers: a neighbour that is not known yet may cost a datagram.
fn answers(socket: &UdpSocket, to: &str) -> String {
    let from = (0..10).find_map(|_| answered(socket, to));
    from.unwrap_or_else(|| panic!("nobody answers at {to}")).to_string()
}

#[test]
fn a_port_of_all_addresses_is_reached_on_the_loopback_of_ipv6() {
    let (world, a) = world();
    let ports = [on_all(8080, &a)];
    assert!(is_refused(&world.host, 8080), "before");
    world.publish(&ports);
    assert_eq!(world.firewall.unled(), None);
    assert_eq!(world.host.reaches(LOOPBACK, 8080).as_deref(), Some("fd30:1::1"), "as the gateway");
    let peer = world.host.run(|| TcpStream::connect((LOOPBACK, 8080)).unwrap().peer_addr().unwrap());
    assert_eq!(peer.to_string(), "[::1]:8080", "whom the program is told it is connected to");
    assert!(is_refused(&world.host, 8081), "another port");
    assert!(is_refused(&world.lan, 8080), "another machine's ::1");
    assert!(is_refused(&a.space, 8080), "a container's ::1");
    world.firewall.unpublish(&ports).unwrap();
    assert!(is_refused(&world.host, 8080), "afterwards");
}

#[test]
fn a_port_of_the_loopback_alone_is_shut_to_everybody_else() {
    let (world, a) = world();
    world.publish(&[published(LOOPBACK, 8080, a.ip6), udp(published(LOOPBACK, 8080, a.ip6))]);
    echo(&a);
    assert_eq!(world.host.reaches(LOOPBACK, 8080).as_deref(), Some("fd30:1::1"));
    assert!(world.host.is_kept_from(HOST6, 8080) && world.host.is_kept_from("127.0.0.1", 8080));
    assert!(world.lan.is_kept_from(HOST6, 8080), "from the LAN");
    assert!(a.space.is_kept_from(HOST6, 8080), "from a container");
    let lan = world.lan.run(|| UdpSocket::bind("[::]:0").unwrap());
    assert_eq!(answered(&lan, &format!("[{HOST6}]:8080")), None, "a datagram from the LAN");
    // A neighbour that sends to ::1 by our address.
    world.lan.program("ip", &["-6", "route", "del", "local", "::1", "dev", "lo", "table", "local"]);
    world.lan.program("ip", &["-6", "route", "add", "::1", "via", HOST6, "dev", "eth0"]);
    assert!(world.lan.is_kept_from(LOOPBACK, 8080), "to ::1 from the LAN");
}

#[test]
fn datagrams_come_back_from_where_they_were_sent_to() {
    let (world, a) = world();
    world.publish(&[on_all(8080, &a), udp(on_all(8081, &a)), udp(published(LOOPBACK, 8082, a.ip6))]);
    echo(&a);
    let socket = world.host.run(|| UdpSocket::bind("[::]:0").unwrap());
    for to in ["[::1]:8081", "[::1]:8082", "[fd30:1::2]:80", "[::1]:8081"] {
        // One port of a container by two names: what was sent to last counts.
        let expected = if to == "[fd30:1::2]:80" { "[::1]:8082" } else { to };
        assert_eq!(answers(&socket, to), expected, "sent to {to}");
    }
    let direct = world.host.run(|| UdpSocket::bind("[::]:0").unwrap());
    assert_eq!(answers(&direct, "[fd30:1::2]:80"), "[fd30:1::2]:80");
    let connected = world.host.run(|| {
        let socket = UdpSocket::bind("[::]:0").unwrap();
        socket.connect("[::1]:8081").unwrap();
        socket
    });
    connected.send(b"x").unwrap();
    connected.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    assert_eq!(connected.recv_from(&mut [0; 8]).unwrap().1.to_string(), "[::1]:8081");
    assert_eq!(connected.peer_addr().unwrap().to_string(), "[::1]:8081");
    assert_eq!(answered(&socket, "[::1]:8080"), None, "8080 is of TCP");
}

#[test]
fn what_is_not_published_is_as_without_us() {
    let (world, a) = world();
    world.publish(&[on_all(8080, &a), udp(on_all(8080, &a))]);
    let listener = world.host.run(|| TcpListener::bind((LOOPBACK, 9000)).unwrap());
    let client = world.host.run(|| TcpStream::connect((LOOPBACK, 9000)).unwrap());
    let (mut server, from) = listener.accept().unwrap();
    server.write_all(b"x").unwrap();
    assert_eq!((from.ip(), client.peer_addr().unwrap().port()), (ip(LOOPBACK), 9000));
    // Bound to ::1 nobody reaches a container: that is said at once.
    let bound = world.host.run(|| UdpSocket::bind((LOOPBACK, 0)).unwrap());
    assert_eq!(answered(&bound, "[::1]:8080"), None);
    let other = world.host.run(|| UdpSocket::bind((LOOPBACK, 0)).unwrap());
    bound.send_to(b"x", other.local_addr().unwrap()).unwrap();
    assert_eq!(other.recv_from(&mut [0; 8]).unwrap().1, bound.local_addr().unwrap());
    world.host.configure("eth0", &[(ip("fd99::80"), 64)], &[]);
    world.lan.serve(80);
    assert!(world.host.reaches("fd99::2", 80).is_some(), "IPv6 elsewhere");
    assert!(world.host.reaches(&format!("::ffff:{LAN}"), 80).is_some(), "IPv4 by way of IPv6");
}

#[test]
fn a_port_is_led_to_one_container() {
    let (world, a) = world();
    let b = world.container(1, 3);
    world.publish(&[published(LOOPBACK, 8080, a.ip6)]);
    let taken = world.firewall.publish(&[on_all(8080, &b)]).unwrap_err();
    assert!(taken.to_string().contains("published already"), "{taken}");
    let both = [published(LOOPBACK, 8081, a.ip6), on_all(8081, &b)];
    assert!(world.firewall.publish(&both).is_err());
    assert!(is_refused(&world.host, 8081), "all or nothing");
    let sctp = Published { protocol: Protocol::Sctp, ..published(LOOPBACK, 8082, a.ip6) };
    let refused = world.firewall.publish(&[sctp]).unwrap_err();
    assert!(refused.to_string().contains("only TCP and UDP"), "{refused}");
}

#[test]
fn where_the_kernel_cannot_a_port_of_the_loopback_alone_is_refused_by_name() {
    let (world, a) = world();
    let firewall = Arc::clone(&world.firewall);
    let (all, alone) = (on_all(8080, &a), published(LOOPBACK, 8081, a.ip6));
    let (refused, unled) = world.host.run(move || {
        let all_rights = capability::get().unwrap();
        let lacking = !(1 << SYS_ADMIN | 1 << BPF);
        capability::set(Sets { effective: all_rights.effective & lacking, ..all_rights }).unwrap();
        firewall.publish(&[all]).unwrap();
        let refused = firewall.publish(&[alone]).unwrap_err();
        capability::set(all_rights).unwrap();
        (refused, firewall.unled())
    });
    assert!(
        refused.to_string().starts_with("port [::1]:8081/tcp cannot be led to a container: "),
        "{refused}"
    );
    assert!(refused.to_string().contains("CAP_BPF"), "{refused}");
    assert!(unled.is_some_and(|why| why.contains("BPF_MAP_CREATE")));
    assert!(world.lan.reaches(HOST6, 8080).is_some(), "everything else is as ever");
    assert!(is_refused(&world.host, 8080));
}

/// Without the rights that are needed to lead anything.
fn without_rights<T>(work: impl FnOnce() -> T) -> T {
    let all_rights = capability::get().unwrap();
    let lacking = !(1 << SYS_ADMIN | 1 << BPF);
    capability::set(Sets { effective: all_rights.effective & lacking, ..all_rights }).unwrap();
    let outcome = work();
    capability::set(all_rights).unwrap();
    outcome
}

#[test]
fn what_could_not_be_led_is_tried_again() {
    let (world, a) = world();
    let publish = |port: u16, can: bool| {
        let (firewall, port) = (Arc::clone(&world.firewall), on_all(port, &a));
        world.host.run(move || {
            let publish = || firewall.publish(&[port]).unwrap();
            if can { publish() } else { without_rights(publish) }
        });
    };
    publish(8080, false);
    let (firewall, four) = (Arc::clone(&world.firewall), published("0.0.0.0", 8081, a.ip));
    world.host.run(move || firewall.publish(&[four]).unwrap());
    assert!(world.firewall.unled().is_some(), "a port that needs none of it says nothing about the other");
    publish(8082, true);
    assert_eq!(world.firewall.unled(), None);
    assert!(!is_refused(&world.host, 8080), "with the next one that could be led");
    publish(8083, true);
    world.firewall.unpublish(&[on_all(8080, &a), on_all(8082, &a), on_all(8083, &a)]).unwrap();
    publish(8084, false);
    assert!(is_refused(&world.host, 8084));
    let firewall = Arc::clone(&world.firewall);
    world.host.run(move || firewall.restore().unwrap());
    assert!(!is_refused(&world.host, 8084), "with a repair");
    assert_eq!(world.firewall.unled(), None);
}

#[test]
fn it_outlives_the_daemon_and_the_next_one_takes_it() {
    let (world, a) = world();
    let World { host, lan: _lan, firewall } = world;
    // Others keep it before there is anything to be kept, as containers' monitors do.
    let kept = firewall.keep().unwrap();
    firewall.publish(&[on_all(8080, &a), udp(on_all(8080, &a)), on_all(8081, &a)]).unwrap();
    echo(&a);
    drop(firewall);
    assert!(host.reaches(LOOPBACK, 8080).is_some(), "without a daemon");
    let socket = host.run(|| UdpSocket::bind("[::]:0").unwrap());
    assert_eq!(answers(&socket, "[::1]:8080"), "[::1]:8080");
    let next = |kept: &std::os::fd::OwnedFd, admitted: Admitted, ports: Vec<Published>| {
        let (kept, bridge) = (kept.try_clone().unwrap(), network(1));
        host.run(move || {
            let firewall = open_with(Some(kept));
            firewall.load(Ruleset::new([bridge], [admitted], ports)).unwrap();
            firewall
        })
    };
    let second = next(&kept, a.admitted.clone(), vec![on_all(8080, &a), on_all(8082, &a)]);
    assert!(host.reaches(LOOPBACK, 8080).is_some() && host.reaches(LOOPBACK, 8082).is_some());
    assert!(is_refused(&host, 8081), "published no longer");
    drop(second);
    assert!(host.reaches(LOOPBACK, 8082).is_some(), "without the second daemon");
    let third: Firewall = next(&kept, a.admitted.clone(), Vec::new());
    assert!(is_refused(&host, 8080) && is_refused(&host, 8082));
    third.publish(&[on_all(8083, &a)]).unwrap();
    assert!(host.reaches(LOOPBACK, 8083).is_some());
    drop((third, kept));
    assert!(is_refused(&host, 8083), "nobody holds it any longer");
}
