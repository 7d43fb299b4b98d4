//! Port 53 in a namespace of the test's own.

use std::net::{TcpListener, UdpSocket as StdUdp};
use std::time::Instant;

use tare_sys::netlink::{Protocol, Socket};
use tare_sys::process::{Namespaces, unshare};

use super::super::{ADDRESS, redirect};
use super::*;

/// Runs `test` on a thread that is alone in a new network namespace with its loopback up.
fn alone(test: impl FnOnce() + Send + 'static) {
    let apart = std::thread::spawn(move || {
        unshare(Namespaces::NET).expect("needs root");
        tare_sys::loopback::up().unwrap();
        test();
    });
    apart.join().unwrap();
}

#[test]
fn port_53_leads_to_ours_answers_come_from_it_and_a_program_may_have_it() {
    alone(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let udp = StdUdp::bind((ADDRESS, 0)).unwrap();
            let tcp = TcpListener::bind((ADDRESS, 0)).unwrap();
            let ports = (udp.local_addr().unwrap().port(), tcp.local_addr().unwrap().port());
            let dns = Dns::open(directory(), limits()).unwrap();
            dns.serve(&container(1), udp.into(), tcp.into(), &on(&[1], &[])).unwrap();
            let netfilter = Socket::open(Protocol::Netfilter).unwrap().into_fd();
            let start = Instant::now();
            let netfilter = redirect(netfilter, 1, 2).unwrap();
            let first = start.elapsed();
            // Again, with what is right: the first ones are gone.
            let start = Instant::now();
            redirect(netfilter, ports.0, ports.1).unwrap();
            eprintln!("redirect: {first:?} the first time, {:?} again", start.elapsed());
            let own = StdUdp::bind((Ipv4Addr::UNSPECIFIED, 53)).expect("port 53 is free for a program");
            own.set_nonblocking(true).unwrap();
            ask_both().await;
            assert!(own.recv(&mut [0; 8]).is_err(), "the program got what is ours");
        });
    });
}

async fn ask_both() {
    let asked = question("web.", RecordType::A).to_vec().unwrap();
    let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    client.send_to(&asked, (ADDRESS, 53)).await.unwrap();
    let mut buffer = [0; 512];
    let received = timeout(Duration::from_secs(2), client.recv_from(&mut buffer)).await.unwrap();
    let (length, from) = received.unwrap();
    assert_eq!(from, (ADDRESS, 53).into());
    assert_eq!(told(&Message::from_vec(&buffer[..length]).unwrap()), ["10.1.0.2"]);
    let stream = timeout(Duration::from_secs(2), tokio::net::TcpStream::connect((ADDRESS, 53))).await;
    assert_eq!(stream.unwrap().unwrap().peer_addr().unwrap(), (ADDRESS, 53).into());
}
