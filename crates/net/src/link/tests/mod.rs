//! Networks in the real kernel: each test is on a thread that is alone in a network namespace, its host, and has namespaces
//! for containers, which live as long as their sockets. Real packets say who reaches whom.

mod bridge;
mod endpoint;
mod parent;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::thread;
use std::time::Duration;

use ipnet::IpNet;
use tare_model::id::{ContainerId, NetworkId};
use tare_model::network::{Endpoint, Network, NetworkConfig};
use tare_sys::netlink::{Protocol, Socket, address, link};
use tare_sys::process::{Namespaces, unshare};

use super::bridge::Bridge;
pub(crate) use super::bridge::Limits;
use super::{Attach, Fabric, attach};
use crate::addresses::{Addresses, Family, mac_of};
use crate::pool::{Bases, Surroundings, choose};

const PORT: u16 = 7777;

/// Runs `test` on a thread that is alone in a new network namespace, which ends with it.
pub(crate) fn alone<T: Send + 'static>(test: impl FnOnce() -> T + Send + 'static) -> T {
    let apart = thread::spawn(move || {
        unshare(Namespaces::NET).expect("needs root");
        test()
    });
    apart.join().unwrap()
}

/// A namespace with what a container's first process makes in it.
pub(crate) struct Container {
    pub(crate) id: ContainerId,
    pub(crate) inside: Socket,
    pub(crate) udp: [UdpSocket; 2],
}

/// A network and who has which address.
pub(crate) struct Net {
    pub(crate) network: Network,
    addresses: Addresses,
    fabric: Fabric,
}

pub(crate) fn host() -> Socket {
    Socket::open(Protocol::Route).unwrap()
}

pub(crate) fn udp() -> [UdpSocket; 2] {
    let any: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
    any.map(|ip| {
        let socket = v6_only(ip);
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        socket
    })
}

/// Both families have the port for themselves.
fn v6_only(ip: IpAddr) -> UdpSocket {
    use rustix::net::{AddressFamily, SocketType, bind, socket, sockopt};
    let family = if ip.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let fd = socket(family, SocketType::DGRAM, None).unwrap();
    if ip.is_ipv6() {
        sockopt::set_ipv6_v6only(&fd, true).unwrap();
    }
    bind(&fd, &SocketAddr::new(ip, PORT)).unwrap();
    fd.into()
}

fn container(number: usize) -> Container {
    let mut id = [0; 32];
    id[..8].copy_from_slice(&(number as u64 + 1).to_be_bytes());
    let (inside, udp) = alone(|| (host(), udp()));
    Container { id: ContainerId::from_bytes(id), inside, udp }
}

/// Says a word to an address and waits for it to come back.
fn reaches(from: &[UdpSocket; 2], to: &[UdpSocket; 2], address: IpAddr) -> bool {
    let family = usize::from(address.is_ipv6());
    let (from, to) = (&from[family], &to[family]);
    let mut buffer = [0; 16];
    if from.send_to(b"word", (address, PORT)).is_err() {
        return false;
    }
    let Ok((length, back)) = to.recv_from(&mut buffer) else { return false };
    to.send_to(&buffer[..length], back).is_ok()
        && from.recv(&mut buffer).is_ok_and(|length| &buffer[..length] == b"word")
}

/// A word to an address does not arrive.
fn is_cut_off(from: &[UdpSocket; 2], to: &[UdpSocket; 2], address: IpAddr) -> bool {
    let limit = |time| to.iter().for_each(|socket| socket.set_read_timeout(Some(time)).unwrap());
    limit(Duration::from_millis(300));
    let reached = reaches(from, to, address);
    limit(Duration::from_secs(5));
    !reached
}

pub(crate) fn config(name: &str) -> NetworkConfig {
    NetworkConfig { name: name.into(), ipv4: true, ipv6: true, ..Default::default() }
}

/// A network of which the bridges have few ports.
pub(crate) fn tree(config: NetworkConfig, limits: Limits) -> Net {
    let network = network(1, config);
    let fabric = Fabric::Bridge(Bridge::ensure(&mut host(), &network, limits).unwrap());
    Net { addresses: Addresses::new(&network), network, fabric }
}

/// A network of that configuration, not yet in the kernel. `number` makes its id and its subnets.
fn network(number: u8, config: NetworkConfig) -> Network {
    let bases = Bases::standard([number; 5]);
    let taken: Vec<(&str, IpNet)> =
        (0..number).map(|n| ("other", format!("172.{}.0.0/16", 17 + n).parse().unwrap())).collect();
    let around = Surroundings { bases: &bases, networks: &taken, routes: &[] };
    let pools = choose(&config, &around).unwrap();
    let id = NetworkId::from_bytes(std::array::from_fn(|place| number ^ (place as u8).wrapping_mul(37)));
    Network { id, config, pools, created: 0 }
}

impl Net {
    pub(crate) fn new(number: u8, config: NetworkConfig) -> Self {
        let network = network(number, config);
        let fabric = super::ensure(&mut host(), &network).unwrap();
        Self { addresses: Addresses::new(&network), network, fabric }
    }

    pub(crate) fn gateway(&self, family: Family) -> IpAddr {
        self.network.pools.iter().filter_map(|p| p.gateway).find(|ip| Family::of(*ip) == family).unwrap()
    }

    /// An endpoint with addresses of its own.
    pub(crate) fn endpoint(&mut self, interface: &str) -> Endpoint {
        let mut take = |family| self.addresses.take(family).unwrap();
        let addresses: Vec<IpNet> = [Family::V4, Family::V6].into_iter().filter_map(&mut take).collect();
        let gateways = self.network.pools.iter().filter_map(|pool| pool.gateway).collect();
        let mac = mac_of(addresses[0].addr());
        let id = format!("{:0<64}", mac.to_string().replace(':', ""));
        Endpoint {
            network: self.network.id.clone(),
            id,
            interface: interface.into(),
            mac: Some(mac),
            addresses,
            gateways,
        }
    }

    pub(crate) fn attach(&mut self, container: &mut Container, interface: &str, default: bool) -> Endpoint {
        let endpoint = self.endpoint(interface);
        self.put(container, &endpoint, default).unwrap();
        endpoint
    }

    pub(crate) fn put(
        &self,
        container: &mut Container,
        endpoint: &Endpoint,
        default: bool,
    ) -> tare_model::error::Result<Option<u32>> {
        let (network, fabric, id) = (&self.network, &self.fabric, &container.id);
        let what =
            Attach { network, fabric, container: id, endpoint, default_ipv4: default, default_ipv6: default };
        attach(&mut host(), &mut container.inside, &what, |_| Ok(()))
    }
}

pub(crate) fn of(endpoint: &Endpoint, family: Family) -> IpAddr {
    endpoint.addresses.iter().map(IpNet::addr).find(|ip| Family::of(*ip) == family).unwrap()
}

fn links(socket: &mut Socket) -> Vec<String> {
    link::list(socket).unwrap().into_iter().map(|link| link.name).filter(|name| name != "lo").collect()
}

fn addresses(socket: &mut Socket, link: u32) -> Vec<IpAddr> {
    address::list(socket).unwrap().into_iter().filter(|a| a.link == link).map(|a| a.ip).collect()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}")).trim().to_owned()
}
