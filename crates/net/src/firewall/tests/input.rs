//! The host's own rules on input decide about published ports.

use std::net::UdpSocket;
use std::path::PathBuf;
use std::time::Duration;

use tare_model::network::{Protocol, Published};
use tare_sys::capability::{self, Sets};

use super::world::{Container, HOST, HOST6, LAN, LAN6, Space, World, published};

/// Numbers of capabilities.
const SYS_ADMIN: u32 = 21;
const BPF: u32 = 39;

/// Tells the host's firewall something, by Debian's `nft`; gives what it wrote.
pub(super) fn rules(world: &World, text: &str) -> String {
    let root = tare_kit::debs::unpacked("nftables", &["nftables"]);
    let nft = tare_kit::debs::find(&root, "nft").expect("the package has its program");
    let libraries: PathBuf = root.join("usr/lib").join(format!("{}-linux-gnu", std::env::consts::ARCH));
    let text = text.to_owned();
    world.host.run(move || {
        let mut nft = std::process::Command::new(nft);
        let out = nft.arg(text).env("LD_LIBRARY_PATH", libraries).output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap()
    })
}

/// A host that lets nothing in but answers, and is strict about senders; one container.
fn strict() -> (World, Container) {
    let world = World::new();
    world.host.run(|| std::fs::write("/proc/sys/net/ipv4/conf/all/rp_filter", "1").unwrap());
    world.network(1, |_| {});
    let a = world.container(1, 2);
    let udp = |port: Published| Published { protocol: Protocol::Udp, ..port };
    let ports = [published("0.0.0.0", 8080, a.ip), published("::", 8080, a.ip6), published(HOST, 8081, a.ip)];
    world.publish(&ports);
    world.publish(&ports.map(udp));
    let all = "add table inet own; \
               add chain inet own input { type filter hook input priority 10; policy drop; }; \
               add rule inet own input iif lo accept; \
               add rule inet own input ct state { established, related } accept; \
               add rule inet own input meta l4proto ipv6-icmp accept; \
               add chain inet own opened; add rule inet own input jump opened";
    rules(&world, all);
    (world, a)
}

/// A datagram sent to a port of the host gets to port 80 of the container.
fn arrives(from: &Space, to: (&str, u16), inside: &UdpSocket) -> bool {
    let to: (std::net::IpAddr, u16) = (to.0.parse().unwrap(), to.1);
    from.run(move || {
        let any = if to.0.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        UdpSocket::bind(any).unwrap().send_to(b"x", to).unwrap();
    });
    inside.recv(&mut [0; 8]).is_ok()
}

fn receiver(container: &Container) -> UdpSocket {
    let inside = container.space.run(|| UdpSocket::bind(("::", 80)).unwrap());
    inside.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    inside
}

/// As resolvers ask for both families from one socket: the second one comes while the first one is on its round.
#[test]
fn datagrams_one_behind_the_other_all_arrive() {
    let (world, a) = strict();
    rules(&world, "add rule inet own opened udp dport 8080 accept");
    let inside = receiver(&a);
    for to in [HOST, HOST6] {
        let to: (std::net::IpAddr, u16) = (to.parse().unwrap(), 8080);
        for round in 0..300 {
            world.lan.run(move || {
                let any = if to.0.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
                let (socket, both) = (UdpSocket::bind(any).unwrap(), std::sync::Barrier::new(2));
                let send = || {
                    both.wait();
                    socket.send_to(b"x", to).unwrap();
                };
                std::thread::scope(|scope| [0, 1].map(|_| scope.spawn(send)).map(|one| one.join().unwrap()));
            });
            let arrived = (0..2).filter(|_| inside.recv(&mut [0; 8]).is_ok()).count();
            assert_eq!(arrived, 2, "to {to:?}, round {round}");
        }
    }
}

#[test]
fn what_the_host_lets_in_is_published_and_nothing_else() {
    let (world, a) = strict();
    assert_eq!(world.firewall.unheard(), None);
    let inside = receiver(&a);
    let all = [(HOST, 8080), (HOST6, 8080), (HOST, 8081)];
    for (to, port) in all {
        assert!(world.lan.is_kept_from(to, port), "tcp to {to} {port}, which the host lets nobody in by");
        assert!(!arrives(&world.lan, (to, port), &inside), "udp to {to} {port}");
    }
    assert!(world.host.reaches(HOST, 8080).is_some(), "the host itself");
    assert!(a.space.reaches(HOST, 8080).is_some(), "hairpin");
    rules(&world, "add rule inet own opened iifname eth0 th dport { 8080, 8081 } accept");
    for ((to, port), seen) in all.into_iter().zip([LAN, LAN6, LAN]) {
        assert_eq!(world.lan.reaches(to, port).as_deref(), Some(seen), "tcp to {to} {port}");
        assert!(arrives(&world.lan, (to, port), &inside), "udp to {to} {port}");
    }
    rules(&world, "flush chain inet own opened");
    assert!(world.lan.is_kept_from(HOST, 8080) && world.lan.is_kept_from(HOST6, 8080));
}

#[test]
fn a_refusal_of_the_hosts_comes_from_the_host_at_once() {
    let (world, _a) = strict();
    rules(&world, "add rule inet own opened tcp dport 8080 reject with tcp reset");
    for to in [HOST, HOST6] {
        let refused = world
            .lan
            .run(move || std::net::TcpStream::connect((to, 8080)).map(drop).map_err(|error| error.kind()));
        assert_eq!(refused, Err(std::io::ErrorKind::ConnectionRefused), "{to}");
    }
}

#[test]
fn what_was_let_in_takes_the_short_way_afterwards() {
    let (world, a) = strict();
    rules(&world, "add rule inet own opened udp dport 8080 counter accept");
    let inside = receiver(&a);
    let socket = world.lan.run(|| UdpSocket::bind("0.0.0.0:0").unwrap());
    for _ in 0..20 {
        socket.send_to(b"x", (HOST, 8080)).unwrap();
        inside.recv(&mut [0; 8]).unwrap();
    }
    let listed = rules(&world, "list chain inet own opened");
    assert!(listed.contains("counter packets 1 "), "datagrams that input was asked about: {listed}");
    // What connects afterwards is judged anew.
    rules(&world, "flush chain inet own opened");
    assert!(!arrives(&world.lan, (HOST, 8080), &inside));
}

#[test]
fn rules_on_forward_see_the_link_that_a_connection_came_by() {
    let (world, a) = strict();
    assert_eq!(world.firewall.detour(), None);
    rules(&world, "add rule inet own opened th dport { 8080, 8081 } accept");
    let inside = receiver(&a);
    let chain = "add chain inet own forward { type filter hook forward priority 10; }";
    rules(&world, chain);
    for (rule, open) in [
        ("iifname eth0 ct state new drop", false),
        ("iifname != { eth0, br-1 } drop", true),
        ("meta pkttype != host drop", true),
        ("fib saddr . iif oif missing drop", true),
    ] {
        rules(&world, &format!("add rule inet own forward {rule}"));
        for to in [HOST, HOST6] {
            assert_eq!(world.lan.reach(to, 8080, Duration::from_millis(400)).is_some(), open, "{rule}: {to}");
            assert_eq!(arrives(&world.lan, (to, 8080), &inside), open, "{rule}: a datagram to {to}");
        }
        rules(&world, "flush chain inet own forward");
    }
}

#[test]
fn without_a_program_first_packets_go_round_by_our_own_links() {
    let (world, a) = strict();
    rules(&world, "add rule inet own opened th dport { 8080, 8081 } accept");
    let firewall = std::sync::Arc::clone(&world.firewall);
    let detour = world.host.run(move || {
        let all = capability::get().unwrap();
        let lacking = !(1 << SYS_ADMIN | 1 << BPF);
        capability::set(Sets { effective: all.effective & lacking, ..all }).unwrap();
        let rules = firewall.lock().rules.clone();
        firewall.remove().unwrap();
        firewall.load(rules).unwrap();
        capability::set(all).unwrap();
        firewall.detour()
    });
    assert!(detour.is_some_and(|why| why.contains("BPF_PROG_LOAD")));
    let inside = receiver(&a);
    for to in [HOST, HOST6] {
        assert!(world.lan.reaches(to, 8080).is_some(), "{to}");
        assert!(arrives(&world.lan, (to, 8080), &inside), "a datagram to {to}");
    }
}

#[test]
fn links_that_somebody_takes_away_or_down_are_back_within_a_second() {
    let (world, _a) = strict();
    rules(&world, "add rule inet own opened th dport 8080 accept");
    let firewall = std::sync::Arc::clone(&world.firewall);
    let watch = world.host.run(move || crate::firewall::Watch::start(firewall, |_| {}).unwrap());
    let [out, back] = crate::firewall::round::names("tare-test");
    for words in [["del", &out], ["del", &back]].map(Vec::from).into_iter().chain([vec!["set", "down", &out]])
    {
        assert!(world.lan.reaches(HOST, 8080).is_some(), "before ip link {words:?}");
        world.host.program("ip", &[&["link"], &words[..]].concat());
        let begun = std::time::Instant::now();
        let soon = Duration::from_millis(100);
        while world.lan.reach(HOST, 8080, soon).is_none() || world.lan.reach(HOST6, 8080, soon).is_none() {
            assert!(begun.elapsed() < Duration::from_secs(1), "not back after ip link {words:?}");
        }
    }
    world.firewall.remove().unwrap();
    drop(watch);
    assert!(!world.host.program("ip", &["-o", "link"]).contains(": tare-"), "they are back after their end");
}

#[test]
fn the_links_of_the_second_round_go_with_the_tables() {
    let (world, _a) = strict();
    let count = |world: &World| world.host.program("ip", &["-o", "link"]).matches(": tare-").count();
    assert_eq!(count(&world), 2);
    world.firewall.remove().unwrap();
    assert_eq!(count(&world), 0);
}
