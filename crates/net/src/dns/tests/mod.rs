//! The server on sockets of the loopback device, with an upstream that can be as bad as upstreams are.

mod directory;
mod faults;
mod forward;
mod host;
mod names;
mod property;
mod redirect;
mod restart;
mod speed;
mod tcp;
mod upstream;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RData, RecordType};
use tare_model::id::{ContainerId, NetworkId};
use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::{Attachment, Directory, Dns, Limits, Member, Settings};
use upstream::Fake;

/// A server with one container whose sockets are its own.
struct Place {
    dns: Dns,
    directory: Arc<Directory>,
    udp: std::net::UdpSocket,
    tcp: std::net::TcpListener,
    asked: SocketAddr,
}

fn network(number: u8) -> NetworkId {
    NetworkId::from_bytes([number; 32])
}

fn container(number: u8) -> ContainerId {
    ContainerId::from_bytes([number; 32])
}

fn member(names: &[&str], addresses: &[&str]) -> Member {
    let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
    Member { names: names.iter().map(|name| (*name).into()).collect(), addresses }
}

/// Network 1, `front`, with a way out; network 2, `back`, internal. `web` is on both, `db` on the second.
fn directory() -> Arc<Directory> {
    let directory = Directory::default();
    let subnets = |v4: &str, v6: &str| vec![v4.parse().unwrap(), v6.parse().unwrap()];
    directory.add_network(&network(1), "Front", false, subnets("10.1.0.0/24", "fd01::/64"));
    directory.add_network(&network(2), "back", true, subnets("10.2.0.0/24", "fd02::/64"));
    directory.join(&network(1), &container(1), member(&["Web", "w1", "svc"], &["10.1.0.2", "fd01::2"]));
    directory.join(&network(2), &container(1), member(&["web"], &["10.2.0.2"]));
    directory.join(&network(2), &container(2), member(&["db", "my.db", "svc"], &["10.2.0.3"]));
    Arc::new(directory)
}

fn on(networks: &[u8], upstream: &[SocketAddr]) -> Settings {
    let on = |number: &u8| Attachment { network: network(*number), links: BTreeMap::new() };
    let networks = networks.iter().map(on).collect();
    Settings { networks, upstream: upstream.to_vec(), ..Settings::default() }
}

/// Impatient, so that what is dead is known to be soon.
fn limits() -> Limits {
    let (patience, total) = (Duration::from_millis(150), Duration::from_millis(600));
    Limits { patience, total, idle: Duration::from_millis(400), ..Limits::default() }
}

impl Place {
    fn new(settings: &Settings) -> Self {
        Self::with(settings, limits())
    }

    fn with(settings: &Settings, limits: Limits) -> Self {
        let directory = directory();
        let udp = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let tcp = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let dns = Dns::open(directory.clone(), limits).unwrap();
        let asked = udp.local_addr().unwrap();
        let place = Self { dns, directory, udp, tcp, asked };
        place.serve(&container(1), settings);
        place
    }

    fn serve(&self, container: &ContainerId, settings: &Settings) {
        let (udp, tcp) = (self.udp.try_clone().unwrap(), self.tcp.try_clone().unwrap());
        self.dns.serve(container, udp.into(), tcp.into(), settings).unwrap();
    }

    async fn ask(&self, name: &str, kind: RecordType) -> Message {
        self.put(&question(name, kind)).await
    }

    async fn put(&self, message: &Message) -> Message {
        let answer = self.raw(&message.to_vec().unwrap()).await.expect("an answer");
        let answer = Message::from_vec(&answer).expect("a message");
        assert_eq!(answer.metadata.id, message.metadata.id);
        assert_eq!(answer.metadata.message_type, MessageType::Response);
        answer
    }

    async fn raw(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        socket.connect(self.asked).await.unwrap();
        socket.send(bytes).await.unwrap();
        let mut buffer = [0; 65535];
        let length = timeout(Duration::from_secs(2), socket.recv(&mut buffer)).await.ok()?.unwrap();
        Some(buffer[..length].to_vec())
    }
}

fn question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(0x1234, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

fn with_edns(mut message: Message, size: u16) -> Message {
    let mut edns = Edns::new();
    edns.set_max_payload(size);
    message.set_edns(edns);
    message
}

/// Addresses and names in an answer, as text, sorted.
fn told(message: &Message) -> Vec<String> {
    let mut told: Vec<_> = message.answers.iter().map(|record| record.data.to_string()).collect();
    told.sort();
    told
}

fn code(message: &Message) -> ResponseCode {
    message.metadata.response_code
}
