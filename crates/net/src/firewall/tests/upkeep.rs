//! Tables that others take away, daemons that die, and what a change costs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tare_sys::netlink::{Protocol, Request, Socket};
use tare_sys::nftables::{Family, tables};

use super::world::{HOST, World, ip4, ip6, network, open, published};
use crate::firewall::{Admitted, Firewall, Hold, Repair, Ruleset, Watch};

/// What `nft flush ruleset` sends: delete table, of any family, without a name.
fn flush(socket: &mut Socket) {
    const DELETE_TABLE: u16 = 10 << 8 | 2;
    let request = Request::new(DELETE_TABLE, 0, &[0, 0, 0, 0]);
    let _ = socket.batch(vec![request]);
}

fn flush_once() {
    flush(&mut socket());
}

fn socket() -> Socket {
    Socket::open(Protocol::Netfilter).unwrap()
}

fn there(socket: &mut Socket) -> Vec<String> {
    let mut names = Vec::new();
    for family in [Family::Inet, Family::Bridge] {
        names.extend(tables(socket, family).unwrap().into_iter().map(|(name, _)| name));
    }
    names
}

/// A world whose firewall holds its tables no better than `hold`; none if the kernel cannot do that much.
fn held(hold: Hold) -> Option<World> {
    let world = World::new();
    world.firewall.lock().tables.hold_by(hold);
    let firewall = Arc::clone(&world.firewall);
    world.host.run(move || firewall.load(Ruleset::default()).unwrap());
    (world.firewall.hold() == hold).then_some(world)
}

fn watch(world: &World, repaired: &Arc<AtomicU32>) -> Watch {
    let (firewall, repaired) = (Arc::clone(&world.firewall), Arc::clone(repaired));
    let report = move |repair| match repair {
        Repair::Done(..) => drop(repaired.fetch_add(1, Ordering::Relaxed)),
        Repair::Failed(error) => panic!("{error}"),
    };
    world.host.run(move || Watch::start(firewall, report).unwrap())
}

/// Flushes all the time while probes try what must never succeed; gives how many of them did.
fn openings_while_flushed(world: &World) -> usize {
    world.network(1, |_| {});
    world.network(2, |_| {});
    let (a, b) = (world.container(1, 2), world.container(2, 2));
    world.publish(&[published("127.0.0.1", 8080, b.ip), published("0.0.0.0", 8081, b.ip)]);
    // Neighbours know each other, and the LAN would send to a container and to 127.0.0.1 if it were let.
    assert!(world.host.reaches("172.30.2.2", 80).is_some() && world.lan.reaches(HOST, 8081).is_some());
    let repaired = Arc::default();
    let watch = watch(world, &repaired);
    let stop = Arc::new(AtomicBool::new(false));
    let end = Arc::clone(&stop);
    let mut open = 0;
    let flusher = world.host.run(move || {
        std::thread::spawn(move || {
            let mut socket = socket();
            while !end.load(Ordering::Relaxed) {
                flush(&mut socket);
            }
        })
    });
    let until = Instant::now() + Duration::from_secs(2);
    while Instant::now() < until {
        let brief = Duration::from_millis(20);
        open += usize::from(a.space.reach("172.30.2.2", 80, brief).is_some());
        open += usize::from(world.lan.reach("172.30.2.2", 80, brief).is_some());
        open += usize::from(world.lan.reach(HOST, 8080, brief).is_some());
    }
    stop.store(true, Ordering::Relaxed);
    flusher.join().unwrap();
    drop(watch);
    println!("{:?}: {open} openings, {} repairs", world.firewall.hold(), repaired.load(Ordering::Relaxed));
    open
}

#[test]
fn isolation_holds_at_every_instant_while_somebody_flushes() {
    for hold in [Hold::Lasting, Hold::Guarded] {
        let Some(world) = held(hold) else { continue };
        assert_eq!(openings_while_flushed(&world), 0, "{hold:?}");
    }
}

#[test]
fn a_table_that_was_taken_away_is_back_at_once() {
    for hold in [Hold::Guarded, Hold::Watched] {
        let Some(world) = held(hold) else { continue };
        world.network(1, |_| {});
        let a = world.container(1, 2);
        world.publish(&[published("0.0.0.0", 8080, a.ip)]);
        let repaired = Arc::new(AtomicU32::new(0));
        let watch = watch(&world, &repaired);
        let mut times = world.host.run(|| {
            // Closing a socket waits for what was deleted, and lets nobody change anything meanwhile.
            let mut socket = socket();
            let names = there(&mut socket).len();
            let time = |_| {
                let begun = Instant::now();
                flush(&mut socket);
                while there(&mut socket).len() < names && begun.elapsed() < Duration::from_secs(1) {
                    std::thread::yield_now();
                }
                begun.elapsed()
            };
            (0..50).map(time).collect::<Vec<_>>()
        });
        times.sort();
        println!("{hold:?}: back after {:?} (median), {:?} (worst)", times[25], times[49]);
        assert!(times[49] < Duration::from_secs(1), "it is not back within a second");
        assert!(world.lan.reaches(HOST, 8080).is_some());
        drop(watch);
        assert!(repaired.load(Ordering::Relaxed) > 0);
    }
}

#[test]
fn our_own_changes_are_no_reason_to_repair() {
    let world = World::new();
    let repaired = Arc::new(AtomicU32::new(0));
    world.network(1, |_| {});
    let watch = watch(&world, &repaired);
    for number in 1..100 {
        world.publish(&[published("0.0.0.0", number, ip4(1, 2))]);
    }
    drop(watch);
    assert_eq!(repaired.load(Ordering::Relaxed), 0);
}

#[test]
fn changes_go_on_after_a_flush_that_nobody_watched() {
    let Some(world) = held(Hold::Watched) else { return };
    world.network(1, |_| {});
    let a = world.container(1, 2);
    let ports = [published("0.0.0.0", 8080, a.ip)];
    world.publish(&ports);
    for change in [Firewall::unpublish, Firewall::publish] {
        world.host.run(flush_once);
        let (firewall, ports) = (Arc::clone(&world.firewall), ports.clone());
        world.host.run(move || change(&firewall, &ports).unwrap());
    }
    assert!(world.lan.reaches(HOST, 8080).is_some());
    world.firewall.remove_network("br-1").unwrap();
    assert!(world.lan.is_kept_from(HOST, 8080));
}

#[test]
fn what_a_daemon_leaves_behind_goes_on_and_the_next_one_takes_it() {
    let world = World::new();
    world.network(1, |_| {});
    let a = world.container(1, 2);
    let port = published("0.0.0.0", 8080, a.ip);
    world.publish(std::slice::from_ref(&port));
    let World { host, lan, firewall } = world;
    let kept = firewall.keep().unwrap();
    assert_eq!(Arc::strong_count(&firewall), 1);
    drop(firewall);
    assert!(lan.reaches(HOST, 8080).is_some(), "without a daemon");
    if host.run(|| open().hold()) == Hold::Lasting {
        let left = host.run(|| {
            flush_once();
            there(&mut socket()).len()
        });
        assert_eq!(left, 2, "somebody keeps the owner's socket");
        let refused = host.run(|| open().load(Ruleset::default()).unwrap_err());
        assert!(refused.to_string().contains("another process"), "{refused}");
    }
    drop(kept);
    let (bridge, link) = (network(1), a.admitted.clone());
    let firewall = host.run(move || {
        let firewall = open();
        firewall.load(Ruleset::new([bridge], [link], [port])).unwrap();
        firewall
    });
    assert!(lan.reaches(HOST, 8080).is_some());
    firewall.remove().unwrap();
    assert!(host.run(|| there(&mut socket())).is_empty());
}

#[test]
fn a_change_costs_the_same_however_much_there_is() {
    let world = World::new();
    world.network(1, |_| {});
    let firewall = Arc::clone(&world.firewall);
    world.host.run(move || {
        let mac = tare_model::network::Mac([2, 0, 0, 0, 1, 2]);
        let link =
            |link| Admitted { link, bridge: "br-1".into(), mac, addresses: vec![ip4(1, 2), ip6(1, 2)] };
        let cost = |rounds: u16, from: u16| {
            let one = |port: u16| {
                let ports = [published("0.0.0.0", port, ip4(1, 2)), published("::", port, ip6(1, 2))];
                let begun = Instant::now();
                firewall.admit(&[link(u32::from(port))], &ports).unwrap();
                begun.elapsed()
            };
            let mut times: Vec<_> = (from..from + rounds).map(one).collect();
            times.sort();
            times[times.len() / 2]
        };
        let first = cost(200, 1);
        cost(5000, 1000);
        let later = cost(200, 10_000);
        println!("a container's link and two ports: {first:?} of the first ones, {later:?} with 5,000 there");
        assert!(later < first * 10 && later < Duration::from_millis(2));
        let begun = Instant::now();
        firewall.restore().unwrap();
        println!("everything anew: {:?}", begun.elapsed());
        let begun = Instant::now();
        firewall.dismiss(&[10_000], &[published("::", 10_000, ip6(1, 2))]).unwrap();
        println!("away: {:?}", begun.elapsed());
    });
}
