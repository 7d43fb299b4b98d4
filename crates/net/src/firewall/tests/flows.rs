//! Connections that outlive their rules.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use tare_model::network::{Protocol, Published};

use super::world::{HOST, Space, World, ip, published};

fn bind(space: &Space, at: (IpAddr, u16)) -> UdpSocket {
    let socket = space.run(move || UdpSocket::bind(at).unwrap());
    socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    socket
}

/// A datagram of one and the same client goes to one of them.
fn receives(client: &UdpSocket, to: SocketAddr, server: &UdpSocket) -> bool {
    let _ = client.send_to(b"x", to);
    server.recv(&mut [0; 8]).is_ok()
}

#[test]
fn datagrams_that_go_on_and_on_follow_the_rules_nevertheless() {
    let world = World::new();
    world.network(1, |_| {});
    let (a, b) = (world.container(1, 2), world.container(1, 3));
    let to = SocketAddr::new(ip(HOST), 5353);
    let client = bind(&world.lan, ("0.0.0.0".parse().unwrap(), 7777));
    let host = bind(&world.host, (ip(HOST), 5353));
    let (in_a, in_b) = (bind(&a.space, (a.ip, 80)), bind(&b.space, (b.ip, 80)));
    assert!(receives(&client, to, &host), "before anything is published");
    let port = |address| Published { protocol: Protocol::Udp, ..published("0.0.0.0", 5353, address) };
    world.publish(&[port(a.ip)]);
    assert!(receives(&client, to, &in_a), "to the container as soon as the port is published");
    world.firewall.unpublish(&[port(a.ip)]).unwrap();
    world.publish(&[port(b.ip)]);
    assert!(receives(&client, to, &in_b), "to the container that the port is published to now");
    world.firewall.unpublish(&[port(b.ip)]).unwrap();
    world.firewall.forget(&[b.ip]).unwrap();
    assert!(receives(&client, to, &host), "to the host again");
    let many: Vec<IpAddr> = (2..20).map(|number| super::world::ip4(1, number)).collect();
    world.publish(&[port(a.ip)]);
    assert!(receives(&client, to, &in_a));
    world.firewall.unpublish(&[port(a.ip)]).unwrap();
    world.firewall.forget(&many).unwrap();
    assert!(receives(&client, to, &host) && !receives(&client, to, &in_a));
}

#[test]
fn what_begins_waits_for_nobody_who_looks_at_connections() {
    let world = World::new();
    world.network(1, |_| {});
    let a = world.container(1, 2);
    let (done, is_done) = std::sync::mpsc::channel();
    let firewall = Arc::clone(&world.firewall);
    let (entered, is_entered) = std::sync::mpsc::channel();
    // One that ended is looked after for as long as it takes.
    let (leave, may_leave) = std::sync::mpsc::channel::<()>();
    let looking = std::thread::spawn(move || {
        firewall.look(|_| {
            entered.send(()).unwrap();
            may_leave.recv().unwrap();
            Ok(())
        })
    });
    is_entered.recv().unwrap();
    let firewall = Arc::clone(&world.firewall);
    let udp = Published { protocol: Protocol::Udp, ..published("0.0.0.0", 8080, a.ip) };
    let admitted = a.admitted.clone();
    world.host.run(move || {
        std::thread::spawn(move || done.send(firewall.admit(&[admitted], &[udp])));
    });
    let outcome = is_done.recv_timeout(Duration::from_secs(5)).expect("it waits");
    outcome.unwrap();
    leave.send(()).unwrap();
    looking.join().unwrap().unwrap();
}
