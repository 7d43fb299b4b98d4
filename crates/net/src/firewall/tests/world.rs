//! A host with two links, a neighbour, and containers on bridges.
//!
//! ```text
//!   lan 10.99.0.2, fd99::2 ── host 10.99.0.1, fd99::1 ── br-N 172.30.N.1/24, fd30:N::1/64 ── containers .2, .3 …
//! ```

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

use tare_model::network::{GatewayMode, Mac, Protocol as Transport, Published};
use tare_sys::netlink::address::{self, Address};
use tare_sys::netlink::link::{self, Change, Kind, NewLink, Port};
use tare_sys::netlink::route::{self, Route};
use tare_sys::netlink::{Protocol, Socket};
use tare_sys::process::{Namespaces, unshare};

use crate::firewall::{Admitted, Bridge, Firewall, Forwarding, Settings, Subnet};

/// How long a packet may take that is to arrive.
const PATIENCE: Duration = Duration::from_millis(2000);
/// How long to wait for one that is not.
const DOUBT: Duration = Duration::from_millis(250);

pub(super) const LAN: &str = "10.99.0.2";
pub(super) const LAN6: &str = "fd99::2";
pub(super) const HOST: &str = "10.99.0.1";
pub(super) const HOST6: &str = "fd99::1";

type Task = Box<dyn FnOnce() + Send>;

/// A network namespace and the thread that is in it.
#[derive(Clone)]
pub(super) struct Space(Sender<Task>);

pub(super) struct World {
    pub(super) host: Space,
    pub(super) lan: Space,
    pub(super) firewall: Arc<Firewall>,
}

/// A container: its namespace and what the firewall is told about it.
pub(super) struct Container {
    pub(super) space: Space,
    pub(super) admitted: Admitted,
    pub(super) ip: IpAddr,
    pub(super) ip6: IpAddr,
}

// === impl Space ===

impl Space {
    pub(super) fn new() -> Self {
        let (tasks, given) = channel::<Task>();
        thread::spawn(move || {
            unshare(Namespaces::NET).expect("needs root");
            tare_sys::loopback::up().unwrap();
            given.into_iter().for_each(|task| task());
        });
        Self(tasks)
    }

    pub(super) fn run<T: Send + 'static>(&self, task: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, outcome) = channel();
        self.0.send(Box::new(move || drop(done.send(task())))).unwrap();
        outcome.recv().expect("a task of the namespace panicked")
    }

    pub(super) fn route<T: Send + 'static>(&self, task: impl FnOnce(&mut Socket) -> T + Send + 'static) -> T {
        self.run(|| task(&mut Socket::open(Protocol::Route).unwrap()))
    }

    /// Takes a link up and gives it addresses and the way out.
    pub(super) fn configure(&self, name: &str, addresses: &[(IpAddr, u8)], gateways: &[IpAddr]) {
        let (name, addresses, gateways) = (name.to_owned(), addresses.to_vec(), gateways.to_vec());
        self.route(move |socket| {
            let index = link::find(socket, &name).unwrap().index;
            link::change(socket, index, &Change { up: Some(true), ..Change::default() }).unwrap();
            for (ip, prefix) in addresses {
                address::add(socket, &Address { link: index, ip, prefix }).unwrap();
            }
            for gateway in gateways {
                route::add(socket, &Route::default_by(gateway, index)).unwrap();
            }
        });
    }

    /// A pair of links from here to `other`; gives the index of this end.
    pub(super) fn link(
        &self,
        here: &str,
        master: Option<&str>,
        other: &Space,
        there: &str,
        mac: Option<Mac>,
    ) -> u32 {
        let namespace = other.route(|socket| socket.namespace().unwrap());
        let (here, master, there) = (here.to_owned(), master.map(str::to_owned), there.to_owned());
        self.route(move |socket| {
            let master = master.map(|name| link::find(socket, &name).unwrap().index);
            let peer = NewLink {
                namespace: Some(namespace.as_fd()),
                mac: mac.map(|mac| mac.0),
                ..NewLink::new(&there, None)
            };
            let kind = Kind::Veth { peer: Box::new(peer) };
            link::create(socket, &NewLink { master, up: true, ..NewLink::new(&here, Some(kind)) }).unwrap();
            let index = link::find(socket, &here).unwrap().index;
            if master.is_some() {
                // Where bridged frames are shown to the rules of packets, a hairpin ends in the port that it began in.
                let port = Some(Port { hairpin: true, isolated: false, plain_groups: true });
                link::change(socket, index, &Change { port, ..Change::default() }).unwrap();
            }
            index
        })
    }

    /// A server that tells whoever connects how it is seen; ends with the process.
    pub(super) fn serve(&self, port: u16) {
        let listener = self.run(move || TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).unwrap());
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { continue };
                let seen = stream.peer_addr().map(|peer| peer.ip().to_canonical().to_string());
                let _ = stream.write_all(seen.unwrap_or_default().as_bytes());
            }
        });
    }

    /// How a server saw us; none if it was not reached.
    pub(super) fn reach(&self, to: &str, port: u16, patience: Duration) -> Option<IpAddr> {
        let to = SocketAddr::new(to.parse().unwrap(), port);
        self.run(move || {
            let mut stream = TcpStream::connect_timeout(&to, patience).ok()?;
            stream.set_read_timeout(Some(patience)).unwrap();
            let mut seen = String::new();
            stream.read_to_string(&mut seen).ok()?;
            seen.parse().ok()
        })
    }

    pub(super) fn reaches(&self, to: &str, port: u16) -> Option<String> {
        self.reach(to, port, PATIENCE).map(|ip| ip.to_string())
    }

    pub(super) fn is_kept_from(&self, to: &str, port: u16) -> bool {
        self.reach(to, port, DOUBT).is_none()
    }

    /// A datagram gets from `self`, sent from `from`, to a socket of `target`.
    pub(super) fn datagram(&self, from: &str, target: &Space, to: &str) -> bool {
        let at: SocketAddr = (to.parse::<IpAddr>().unwrap(), 0).into();
        let socket = target.run(move || UdpSocket::bind(at).unwrap());
        let port = socket.local_addr().unwrap().port();
        let (from, to): (IpAddr, IpAddr) = (from.parse().unwrap(), to.parse().unwrap());
        self.run(move || {
            let sender = UdpSocket::bind((from, 0)).unwrap();
            let _ = sender.send_to(b"x", (to, port));
        });
        socket.set_read_timeout(Some(DOUBT)).unwrap();
        socket.recv(&mut [0; 8]).is_ok()
    }

    /// Runs a program here.
    pub(super) fn program(&self, name: &str, args: &[&str]) -> String {
        let (name, args): (String, Vec<String>) =
            (name.into(), args.iter().map(|arg| (*arg).into()).collect());
        self.run(move || {
            let out = std::process::Command::new(&name).args(&args).output().unwrap();
            assert!(out.status.success(), "{name} {args:?}: {}", String::from_utf8_lossy(&out.stderr));
            String::from_utf8(out.stdout).unwrap()
        })
    }

    /// Packets that a link has received.
    pub(super) fn received(&self, name: &str) -> u64 {
        let name = name.to_owned();
        self.route(move |socket| link::find(socket, &name).unwrap().counters.rx_packets)
    }
}

// === impl World ===

impl World {
    pub(super) fn new() -> Self {
        Self::with(settings(Path::new("/nonexistent")))
    }

    pub(super) fn with(settings: Settings) -> Self {
        let (host, lan) = (Space::new(), Space::new());
        // New namespaces forward if the machine's does.
        host.run(|| std::fs::write("/proc/sys/net/ipv4/ip_forward", "0").unwrap());
        host.link("eth0", None, &lan, "eth0", None);
        host.configure("eth0", &[(ip(HOST), 24), (ip(HOST6), 64)], &[]);
        lan.configure("eth0", &[(ip(LAN), 24), (ip(LAN6), 64)], &[ip(HOST), ip(HOST6)]);
        let firewall = host.run(|| Arc::new(Firewall::open(settings, None).unwrap()));
        Self { host, lan, firewall }
    }

    /// The link of a bridge network.
    pub(super) fn bridge(&self, number: u8) {
        let name = format!("br-{number}");
        let new = name.clone();
        self.host.route(move |socket| {
            let kind = Some(Kind::Bridge);
            let mac = Some([2, 0, 0, 0, number, 1]);
            link::create(socket, &NewLink { up: true, mac, ..NewLink::new(&new, kind) }).unwrap();
        });
        self.host.configure(&name, &[(ip4(number, 1), 24), (ip6(number, 1), 64)], &[]);
    }

    /// A bridge network with its rules.
    pub(super) fn network(&self, number: u8, change: impl FnOnce(&mut Bridge)) {
        self.bridge(number);
        let mut bridge = network(number);
        change(&mut bridge);
        self.add_network(bridge);
    }

    pub(super) fn add_network(&self, bridge: Bridge) {
        let firewall = Arc::clone(&self.firewall);
        self.host.run(move || firewall.add_network(bridge).unwrap());
    }

    /// A container that serves port 80, admitted.
    pub(super) fn container(&self, network: u8, number: u8) -> Container {
        let space = Space::new();
        let mac = Mac([2, 0, 0, 0, network, number]);
        let (name, bridge) = (format!("v{network}-{number}"), format!("br-{network}"));
        let link = self.host.link(&name, Some(&bridge), &space, "eth0", Some(mac));
        let (ip, ip6) = (ip4(network, number), ip6(network, number));
        let admitted = Admitted { link, bridge, mac, addresses: vec![ip, ip6] };
        let (firewall, one) = (Arc::clone(&self.firewall), admitted.clone());
        self.host.run(move || firewall.admit(&[one], &[]).unwrap());
        space.configure("eth0", &[(ip, 24), (ip6, 64)], &[ip4(network, 1), self::ip6(network, 1)]);
        space.serve(80);
        Container { space, admitted, ip, ip6 }
    }

    pub(super) fn publish(&self, ports: &[Published]) {
        self.firewall.publish(ports).unwrap();
    }
}

pub(super) fn open() -> Firewall {
    open_with(None)
}

/// With what a daemon before has left.
pub(super) fn open_with(kept: Option<OwnedFd>) -> Firewall {
    Firewall::open(settings(Path::new("/nonexistent")), kept).unwrap()
}

pub(super) fn settings(bus: &Path) -> Settings {
    Settings { table: "tare-test".into(), forwarding: Forwarding::Ours, loopback: true, bus: bus.into() }
}

/// A network as [`World::bridge`] makes one.
pub(super) fn network(number: u8) -> Bridge {
    let subnet = |text: String| Subnet { net: text.parse().unwrap(), mode: GatewayMode::Nat, source: None };
    Bridge {
        name: format!("br-{number}"),
        carriers: format!("tleaf{number:08x}"),
        subnets: vec![subnet(format!("172.30.{number}.0/24")), subnet(format!("fd30:{number}::/64"))],
        internal: false,
        icc: true,
        spoofing: false,
    }
}

pub(super) fn published(host: &str, host_port: u16, address: IpAddr) -> Published {
    Published { host: ip(host), host_port, protocol: Transport::Tcp, address, port: 80 }
}

pub(super) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(super) fn ip4(network: u8, number: u8) -> IpAddr {
    Ipv4Addr::new(172, 30, network, number).into()
}

pub(super) fn ip6(network: u8, number: u8) -> IpAddr {
    format!("fd30:{network}::{number}").parse().unwrap()
}
