//! Port 53 in a namespace of the test's own.

use std::net::{TcpListener, UdpSocket as StdUdp};
use std::process::Command;
use std::time::Instant;

use rustix::mount::{MountPropagationFlags, mount_bind, mount_change};
use tare_sys::netlink::{Protocol, Socket};
use tare_sys::process::{Namespaces, unshare};

use super::super::{ADDRESS, redirect};
use super::*;

/// Runs `test` on a thread that is alone in a new network namespace with its loopback up, and in a mount namespace.
fn alone(test: impl FnOnce() + Send + 'static) {
    let apart = std::thread::spawn(move || {
        unshare(Namespaces::NET | Namespaces::MOUNT).expect("needs root");
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        mount_change("/", private).unwrap();
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
            let netfilter = redirect(netfilter, 1, 2).unwrap();
            // Again, with what is right: the first ones are gone.
            redirect(netfilter, ports.0, ports.1).unwrap();
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

/// The resolver of the C library, which is in no hurry to accept what is not quite right.
#[test]
fn getaddrinfo_finds_containers() {
    alone(|| {
        let scratch = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(
            scratch.path(),
            format!("nameserver {ADDRESS}\nsearch corp.example\noptions ndots:0\n"),
        )
        .unwrap();
        mount_bind(scratch.path(), "/etc/resolv.conf").unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let fake = Fake::new().await;
            let udp = StdUdp::bind((ADDRESS, 0)).unwrap();
            let tcp = TcpListener::bind((ADDRESS, 0)).unwrap();
            let ports = (udp.local_addr().unwrap().port(), tcp.local_addr().unwrap().port());
            let dns = Dns::open(directory(), limits()).unwrap();
            let settings = Settings { search: vec!["corp.example".into()], ..on(&[1, 2], &[fake.address]) };
            dns.serve(&container(1), udp.into(), tcp.into(), &settings).unwrap();
            redirect(Socket::open(Protocol::Netfilter).unwrap().into_fd(), ports.0, ports.1).unwrap();
            assert_eq!(getent("ahosts", "web").await, ["10.1.0.2", "fd01::2"]);
            assert_eq!(getent("ahosts", "db").await, ["10.2.0.3"]);
            assert_eq!(getent("ahosts", "db.back").await, ["10.2.0.3"]);
            assert_eq!(getent("ahosts", "www.example").await, ["192.0.2.1"]);
            assert_eq!(getent("hosts", "10.1.0.2").await, ["10.1.0.2"]);
            // Only the internal network: no way out, and known all the same.
            dns.update(&container(1), &Settings { search: settings.search, ..on(&[2], &[fake.address]) })
                .unwrap();
            let before = fake.asked();
            assert_eq!(getent("ahosts", "mail.example").await, [""; 0]);
            assert_eq!(getent("ahosts", "db").await, ["10.2.0.3"]);
            assert_eq!(fake.asked(), before);
        });
    });
}

/// The addresses that it prints, each once.
async fn getent(base: &'static str, key: &'static str) -> Vec<String> {
    let run = move || Command::new("getent").args([base, key]).output().unwrap();
    let output = tokio::task::spawn_blocking(run).await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mut found: Vec<_> =
        text.lines().filter_map(|line| line.split_whitespace().next()).map(String::from).collect();
    found.sort();
    found.dedup();
    found
}

#[test]
#[ignore = "measures"]
fn time_of_a_redirect() {
    let mut times: Vec<_> = (0..100)
        .map(|_| {
            let (send, receive) = std::sync::mpsc::channel();
            alone(move || {
                let netfilter = Socket::open(Protocol::Netfilter).unwrap().into_fd();
                let start = Instant::now();
                redirect(netfilter, 1000, 1001).unwrap();
                send.send(start.elapsed()).unwrap();
            });
            receive.recv().unwrap()
        })
        .collect();
    times.sort();
    eprintln!("redirect of a new namespace: {:?} at best, {:?} in the middle", times[0], times[50]);
}
