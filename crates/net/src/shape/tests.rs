//! Rates and shares in the real kernel: streams of TCP between namespaces say how fast one is.

use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketType, bind, listen, socket};
use tare_model::id::ContainerId;
use tare_model::network::{Endpoint, NetworkConfig};
use tare_sys::netlink::{link, traffic};

use super::*;
use crate::addresses::Family;
use crate::link::mark;
use crate::link::tests::{Container, Net, alone, config, host, of, udp};

/// Payload in a frame of 1514 bytes that Ethernet carries of TCP over IPv4 with time stamps.
const PAYLOAD: f64 = 1448.0 / 1514.0;
/// Long against the bytes that wait: after a loss a receiver gets what came behind it all at once.
const WARM_UP: Duration = Duration::from_millis(1500);
const WINDOW: Duration = Duration::from_secs(3);
const WINDOWS: usize = 4;

/// A container on a network, with sockets that were made in it.
struct Peer {
    container: Container,
    sockets: Vec<OwnedFd>,
    endpoint: Endpoint,
    end: u32,
}

fn tcp() -> OwnedFd {
    socket(AddressFamily::INET, SocketType::STREAM, None).unwrap()
}

impl Peer {
    fn new(net: &mut Net, number: u8) -> Self {
        let (inside, udp, sockets) = alone(|| (host(), udp(), (0..12).map(|_| tcp()).collect()));
        let mut container = Container { id: ContainerId::from_bytes([number; 32]), inside, udp };
        let endpoint = net.endpoint("eth0");
        let end = net.put(&mut container, &endpoint, true).unwrap().unwrap();
        Self { container, sockets, endpoint, end }
    }

    fn address(&self) -> IpAddr {
        of(&self.endpoint, Family::V4)
    }

    fn socket(&mut self) -> OwnedFd {
        self.sockets.pop().unwrap()
    }

    fn shape(&self, shaper: &Shaper, net: &Net, rates: &str, share: Option<u32>) {
        let rates = if rates.is_empty() { Default::default() } else { rates.parse().unwrap() };
        let shaping = Shaping { rates, share };
        shaper.shape(&mut host(), &self.shaped(net, &shaping)).unwrap();
    }

    fn shaped<'a>(&'a self, net: &'a Net, shaping: &'a Shaping) -> Shaped<'a> {
        Shaped { network: &net.network, endpoint: &self.endpoint.id, end: self.end, shaping }
    }
}

/// A stream from one socket to another, which is bound to `address`.
struct Stream {
    from: TcpStream,
    to: TcpStream,
}

fn stream(from: OwnedFd, to: OwnedFd, address: IpAddr) -> Stream {
    bind(&to, &SocketAddr::new(address, 0)).unwrap();
    listen(&to, 1).unwrap();
    let listener = TcpListener::from(to);
    rustix::net::connect(&from, &listener.local_addr().unwrap()).unwrap();
    Stream { from: from.into(), to: listener.accept().unwrap().0 }
}

/// How long is measured.
#[derive(Clone, Copy)]
struct Pace {
    warm_up: Duration,
    window: Duration,
}

const PACE: Pace = Pace { warm_up: WARM_UP, window: WINDOW };

/// Bytes per second in frames that each stream carries while all send what they can. Of several windows one has to fit: other
/// programs that have the processors spoil one, a wrong rate all of them.
#[track_caller]
#[expect(clippy::disallowed_methods, reason = "speed is measured over time")]
fn measure<const N: usize>(streams: [&Stream; N], pace: Pace, fits: impl Fn([f64; N]) -> bool) {
    let counts: [AtomicU64; N] = std::array::from_fn(|_| AtomicU64::new(0));
    let fitted = thread::scope(|scope| {
        for (stream, count) in streams.iter().zip(&counts) {
            scope.spawn(move || while (&stream.from).write(&[7; 16 << 10]).is_ok() {});
            scope.spawn(move || {
                let mut buffer = [0; 64 << 10];
                while let Ok(length @ 1..) = (&stream.to).read(&mut buffer) {
                    count.fetch_add(length as u64, Ordering::Relaxed);
                }
            });
        }
        let read = || counts.each_ref().map(|count| count.load(Ordering::Relaxed));
        let mut found = Vec::new();
        thread::sleep(pace.warm_up);
        let fitted = (0..WINDOWS).any(|_| {
            let (before, started) = (read(), Instant::now());
            thread::sleep(pace.window);
            let (after, took) = (read(), started.elapsed().as_secs_f64());
            let speeds = std::array::from_fn(|at| (after[at] - before[at]) as f64 / took / PAYLOAD);
            println!("{speeds:.0?} bytes/s");
            found.push(speeds);
            fits(speeds)
        });
        for stream in streams {
            let _ = stream.from.shutdown(Shutdown::Both);
            let _ = stream.to.shutdown(Shutdown::Both);
        }
        if fitted { Ok(()) } else { Err(found) }
    });
    if let Err(found) = fitted {
        panic!("none of these is as it should be, in bytes/s: {found:.0?}");
    }
}

/// Within 5 per cent.
fn is_near(measured: f64, wanted: f64) -> bool {
    (measured / wanted - 1.0).abs() <= 0.05
}

#[track_caller]
fn are_near<const N: usize>(streams: [&Stream; N], wanted: [f64; N]) {
    measure(streams, PACE, |found| found.iter().zip(wanted).all(|(found, wanted)| is_near(*found, wanted)));
}

#[track_caller]
fn is_free(stream: &Stream) {
    measure([stream], PACE, |[found]| found > 50e6);
}

/// Both together have 10 MB, and the first one so many per cent of it, within three points.
#[track_caller]
fn is_split(streams: [&Stream; 2], percent: f64) {
    measure(streams, PACE, |[first, second]| {
        let sum = first + second;
        is_near(sum, 10e6) && (first / sum * 100.0 - percent).abs() <= 3.0
    });
}

fn to(peer: &mut Peer) -> Stream {
    let address = peer.address();
    stream(tcp(), peer.socket(), address)
}

fn out_of(peer: &mut Peer, gateway: IpAddr) -> Stream {
    stream(peer.socket(), tcp(), gateway)
}

#[test]
fn caps_hold_in_both_directions_and_change_while_it_runs() {
    alone(|| {
        let (shaper, mut net) = (Shaper::default(), Net::new(1, config("web")));
        let gateway = net.gateway(Family::V4);
        let mut one = Peer::new(&mut net, 1);
        one.shape(&shaper, &net, "in=40mbit,out=5MB", None);
        are_near([&to(&mut one)], [5e6]);
        are_near([&out_of(&mut one, gateway)], [5e6]);
        one.shape(&shaper, &net, "in=200mbit,out=4MB", None);
        are_near([&to(&mut one)], [25e6]);
        are_near([&out_of(&mut one, gateway)], [4e6]);
        one.shape(&shaper, &net, "in=1MB", None);
        is_free(&out_of(&mut one, gateway)); // a limit was taken away
        one.shape(&shaper, &net, "", None);
        is_free(&to(&mut one)); // all limits were taken away
    });
}

#[test]
fn slow_caps_hold_too() {
    alone(|| {
        let (shaper, mut net) = (Shaper::default(), Net::new(1, config("web")));
        let gateway = net.gateway(Family::V4);
        let mut one = Peer::new(&mut net, 1);
        one.shape(&shaper, &net, "in=1MB,out=250kB", None);
        // Long against a packet as large as the kernel makes them. One after the other: answers to what comes in wait behind
        // what goes out.
        let pace = Pace { warm_up: Duration::from_secs(2), window: Duration::from_secs(8) };
        measure([&to(&mut one)], pace, |[inward]| is_near(inward, 1e6));
        measure([&out_of(&mut one, gateway)], pace, |[outward]| is_near(outward, 250e3));
    });
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a burst is what a pause leaves")]
fn a_burst_passes_at_once_after_a_pause() {
    alone(|| {
        let (shaper, mut net) = (Shaper::default(), Net::new(1, config("web")));
        let mut one = Peer::new(&mut net, 1);
        let mut took = |rates: &str| {
            one.shape(&shaper, &net, rates, None);
            let stream = to(&mut one);
            thread::sleep(Duration::from_millis(1200));
            let started = Instant::now();
            let mut got = vec![0; 800_000];
            thread::scope(|scope| {
                let from = &stream.from;
                scope.spawn(move || (&*from).write_all(&[7; 800_000]).unwrap());
                (&stream.to).read_exact(&mut got).unwrap();
            });
            started.elapsed()
        };
        let without = took("in=1MB");
        assert!(without >= Duration::from_millis(600), "{without:?}");
        // A busy machine makes it slower, never faster.
        let with = (0..3).map(|_| took("in=1MB,burst=4MB")).min().unwrap();
        assert!(with < Duration::from_millis(300), "{with:?}");
    });
}

/// How long datagrams take that come behind streams at their cap: the median of many.
#[expect(clippy::disallowed_methods, reason = "what waits has to pile up first")]
fn delay(streams: &[Stream], from: &UdpSocket, to: &UdpSocket, address: IpAddr) -> Duration {
    to.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
    let address = SocketAddr::new(address, to.local_addr().unwrap().port());
    thread::scope(|scope| {
        for stream in streams {
            scope.spawn(|| while (&stream.from).write(&[7; 16 << 10]).is_ok() {});
            scope.spawn(|| while let Ok(1..) = (&stream.to).read(&mut [0; 64 << 10]) {});
        }
        thread::sleep(WARM_UP);
        let mut took: Vec<Duration> = (0..41)
            .filter_map(|_| {
                let started = Instant::now();
                from.send_to(b"?", address).unwrap();
                // A full queue drops it.
                let came = to.recv(&mut [0; 8]).is_ok().then(|| started.elapsed());
                thread::sleep(Duration::from_millis(20));
                came
            })
            .collect();
        for stream in streams {
            let _ = stream.from.shutdown(Shutdown::Both);
            let _ = stream.to.shutdown(Shutdown::Both);
        }
        took.sort_unstable();
        println!("{took:?}");
        took[took.len() / 2]
    })
}

#[test]
fn what_comes_behind_streams_does_not_wait_long() {
    alone(|| {
        let (shaper, mut net) = (Shaper::default(), Net::new(1, config("web")));
        let gateway = net.gateway(Family::V4);
        let mut one = Peer::new(&mut net, 1);
        one.shape(&shaper, &net, "in=10mbit,out=10mbit", None);
        let host = UdpSocket::bind(SocketAddr::new(gateway, 0)).unwrap();
        let inside = one.container.udp[0].try_clone().unwrap();
        // Twice what may wait, for a busy machine.
        let longest = Duration::from_millis(100);
        let streams = [0; 4].map(|_| out_of(&mut one, gateway));
        let up = delay(&streams, &inside, &host, gateway);
        assert!(up < longest, "{up:?} from the container");
        let address = one.address();
        let streams = [0; 4].map(|_| to(&mut one));
        let down = delay(&streams, &host, &inside, address);
        assert!(down < longest, "{down:?} to the container");
    });
}

fn shared(number: u8) -> Net {
    let mut config: NetworkConfig = config("web");
    config.bridge.rates = "in=10MB,out=10MB".parse().unwrap();
    Net::new(number, config)
}

#[test]
fn eighty_twenty_holds_and_an_idle_partner_lends_everything() {
    alone(|| {
        let (shaper, mut net) = (Shaper::default(), shared(1));
        let gateway = net.gateway(Family::V4);
        let (mut one, mut two) = (Peer::new(&mut net, 1), Peer::new(&mut net, 2));
        one.shape(&shaper, &net, "", Some(80));
        two.shape(&shaper, &net, "", Some(20));
        is_split([&to(&mut one), &to(&mut two)], 80.0);
        is_split([&out_of(&mut one, gateway), &out_of(&mut two, gateway)], 80.0);
        are_near([&to(&mut two)], [10e6]);
        are_near([&out_of(&mut two, gateway)], [10e6]);
        one.shape(&shaper, &net, "", Some(20));
        is_split([&to(&mut one), &to(&mut two)], 50.0);
    });
}

#[test]
fn a_networks_own_rate_changes_while_it_is_divided() {
    alone(|| {
        let (shaper, mut net) = (Shaper::default(), Net::new(1, config("web")));
        let (mut one, mut two) = (Peer::new(&mut net, 1), Peer::new(&mut net, 2));
        one.shape(&shaper, &net, "in=6MB", Some(80));
        two.shape(&shaper, &net, "", Some(20));
        for (rates, both) in [("in=10MB", [6e6, 4e6]), ("in=5MB", [4e6, 1e6])] {
            net.network.config.bridge.rates = rates.parse().unwrap();
            one.shape(&shaper, &net, "in=6MB", Some(80));
            two.shape(&shaper, &net, "", Some(20));
            are_near([&to(&mut one), &to(&mut two)], both);
        }
        net.network.config.bridge.rates = Default::default();
        one.shape(&shaper, &net, "in=6MB", Some(80));
        two.shape(&shaper, &net, "", Some(20));
        are_near([&to(&mut one)], [6e6]);
        is_free(&to(&mut two)); // there is no limit any more
    });
}

#[test]
fn what_an_idle_third_leaves_is_borrowed_by_shares() {
    alone(|| {
        let (shaper, mut net) = (Shaper::default(), shared(1));
        let [mut one, mut two, idle] = [1, 2, 3].map(|number| Peer::new(&mut net, number));
        idle.shape(&shaper, &net, "", Some(900));
        one.shape(&shaper, &net, "", Some(80));
        two.shape(&shaper, &net, "", Some(20));
        is_split([&to(&mut one), &to(&mut two)], 80.0);
    });
}

#[test]
fn a_limit_of_its_own_leaves_the_rest_to_the_others() {
    alone(|| {
        let (shaper, mut net) = (Shaper::default(), shared(1));
        let (mut one, mut two) = (Peer::new(&mut net, 1), Peer::new(&mut net, 2));
        one.shape(&shaper, &net, "in=2MB", Some(80));
        two.shape(&shaper, &net, "", Some(20));
        are_near([&to(&mut one), &to(&mut two)], [2e6, 8e6]);
    });
}

fn ids(net: &Net) -> Vec<u32> {
    let link = link::find(&mut host(), &mark::shaper(&net.network)).unwrap().index;
    let mut ids: Vec<u32> =
        traffic::classes(&mut host(), link).unwrap().iter().map(|class| class.id).collect();
    ids.sort_unstable();
    ids
}

#[test]
fn another_shaper_finds_or_makes_what_should_be_there() {
    alone(|| {
        let (shaper, mut net) = (Shaper::default(), shared(1));
        let (mut one, two) = (Peer::new(&mut net, 1), Peer::new(&mut net, 2));
        let shaping = Shaping { rates: "in=8MB".parse().unwrap(), share: None };
        one.shape(&shaper, &net, "in=8MB", None);
        two.shape(&shaper, &net, "", None);
        let before = ids(&net);
        let later = Shaper::default();
        later.restore(&mut host(), &net.network, &[one.shaped(&net, &shaping)]).unwrap();
        let after = ids(&net);
        assert_eq!((before.len(), after.len()), (6, 4), "{before:x?} {after:x?}");
        are_near([&to(&mut one)], [8e6]);
        // Everything was taken away behind its back.
        let device = link::find(&mut host(), &mark::shaper(&net.network)).unwrap().index;
        link::delete(&mut host(), device).unwrap();
        traffic::remove_hooks(&mut host(), one.end).unwrap();
        let last = Shaper::default();
        last.restore(&mut host(), &net.network, &[one.shaped(&net, &shaping)]).unwrap();
        assert_eq!(ids(&net), after);
        are_near([&to(&mut one)], [8e6]);
    });
}

#[test]
fn ends_leave_no_class_and_networks_no_device() {
    alone(|| {
        let (shaper, mut net) = (Shaper::default(), Net::new(1, config("web")));
        let (one, two) = (Peer::new(&mut net, 1), Peer::new(&mut net, 2));
        two.shape(&shaper, &net, "", None);
        assert!(link::find(&mut host(), &mark::shaper(&net.network)).is_err(), "nobody asked for a limit");
        one.shape(&shaper, &net, "in=1MB,out=1MB", None);
        assert_eq!(ids(&net).len(), 2);
        let id = one.endpoint.id.clone();
        link::delete(&mut host(), one.end).unwrap();
        drop(one.container);
        shaper.leave(&mut host(), &net.network, &id).unwrap();
        assert_eq!(ids(&net), [0u32; 0]);
        shaper.remove(&mut host(), &net.network).unwrap();
        shaper.remove(&mut host(), &net.network).unwrap();
        assert!(link::find(&mut host(), &mark::shaper(&net.network)).is_err());
    });
}

#[test]
fn who_is_refused_a_limit_is_led_nowhere() {
    alone(|| {
        let (shaper, mut net) = (Shaper::default(), Net::new(1, config("web")));
        let one = Peer::new(&mut net, 1);
        let shaping = Shaping { rates: "in=1MB,out=1MB".parse().unwrap(), share: None };
        // Behind it comes what the kernel refuses, as there is no such link.
        let none = Member { slot: 7, end: u32::MAX, shaping, hooked: [false; 2] };
        lock(&shaper.tree(&net.network.id)).members.insert("~".into(), none);
        shaper.shape(&mut host(), &one.shaped(&net, &shaping)).unwrap_err();
        host().call(traffic::hooks(one.end)).expect("it has no hooks");
    });
}
