//! Where nobody hooks input, published ports are reached by the short way; where somebody does, by none but the long one.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tare_kit::wait;

use super::input::rules;
use super::world::{HOST, HOST6, LAN, LAN6, World, published, settings};
use crate::firewall::direct::Judges;
use crate::firewall::{Firewall, Ruleset, Settings, Watch};

/// Whether what begins a connection goes the short way, of IPv4 and of IPv6.
fn direct(world: &World) -> [bool; 2] {
    let listed = rules(world, "list set inet tare-test direct");
    ["ipv4", "ipv6"].map(|family| listed.contains(family))
}

fn is_soon(world: &World, wanted: [bool; 2]) -> bool {
    wait::until(Duration::from_secs(5), || (direct(world) == wanted).then_some(())).is_some()
}

fn watched(world: &World) -> Watch {
    let firewall = Arc::clone(&world.firewall);
    world.host.run(move || Watch::start(firewall, |repair| panic!("{repair:?}")).unwrap())
}

#[test]
fn connections_take_the_short_way_while_nobody_hooks_input() {
    let world = World::new();
    world.network(1, |_| {});
    let a = world.container(1, 2);
    let watch = watched(&world);
    let ports = [published("0.0.0.0", 8080, a.ip), published("::", 8080, a.ip6)];
    world.publish(&ports);
    assert!(is_soon(&world, [true; 2]));
    for (to, seen, went_round) in [(HOST, LAN, "let_in4"), (HOST6, LAN6, "let_in6")] {
        assert_eq!(world.lan.reaches(to, 8080).as_deref(), Some(seen));
        let listed = rules(&world, &format!("list set inet tare-test {went_round}"));
        assert!(!listed.contains("elements"), "{listed}");
    }
    // For one family, for both, and away again; a chain elsewhere is none of our business.
    for (told, direct) in [
        ("add table ip own; add chain ip own c { type filter hook forward priority 0; }", [true; 2]),
        ("add chain ip own input { type filter hook input priority 0; }", [false, true]),
        ("add table inet own; add chain inet own input { type filter hook input priority 0; }", [false; 2]),
        ("delete table ip own", [false; 2]),
        ("delete chain inet own input", [true; 2]),
        ("add chain inet own input { type filter hook input priority 0; policy drop; }", [false; 2]),
        ("flush ruleset", [true; 2]),
    ] {
        rules(&world, told);
        assert!(is_soon(&world, direct), "after {told}");
    }
    let firewall = Arc::clone(&world.firewall);
    world.host.run(move || firewall.restore().unwrap());
    assert!(is_soon(&world, [true; 2]), "after everything was loaded anew");
    world.firewall.unpublish(&ports).unwrap();
    assert!(wait::until(Duration::from_secs(15), || (direct(&world) == [false; 2]).then_some(())).is_some());
    world.publish(&ports);
    assert!(is_soon(&world, [true; 2]), "published again");
    drop(watch);
    assert_eq!(direct(&world), [false; 2], "nobody watches");
}

#[test]
fn a_refusal_of_the_hosts_holds_for_what_was_open_by_the_short_way() {
    let world = World::new();
    world.network(1, |_| {});
    let a = world.container(1, 2);
    let _watch = watched(&world);
    world.publish(&[published("0.0.0.0", 8080, a.ip), published("::", 8080, a.ip6)]);
    for round in 0..20 {
        assert!(is_soon(&world, [true; 2]), "round {round}");
        assert!(world.lan.reaches(HOST, 8080).is_some(), "round {round}");
        let refusal = "add table inet own; \
                       add chain inet own input { type filter hook input priority 0; }; \
                       add rule inet own input tcp dport 8080 drop";
        rules(&world, refusal);
        let begun = Instant::now();
        while world.lan.reach(HOST, 8080, Duration::from_millis(20)).is_some() {
            assert!(begun.elapsed() < Duration::from_millis(500), "round {round}: it is still open");
        }
        assert!(world.lan.is_kept_from(HOST6, 8080), "round {round}");
        rules(&world, "delete table inet own");
    }
}

#[test]
fn another_engine_judges_nobody_elses_ports() {
    let world = World::new();
    world.network(1, |_| {});
    let settings = Settings { table: "tare-other".into(), ..settings(Path::new("/nonexistent")) };
    let other = world.host.run(move || {
        let other = Firewall::open(settings, None).unwrap();
        other.load(Ruleset::default()).unwrap();
        other
    });
    let listed = rules(&world, "list ruleset");
    assert_eq!(listed.matches("hook input priority 1000000000").count(), 4, "{listed}");
    let judged = |world: &World| {
        let firewall = Arc::clone(&world.firewall);
        world.host.run(move || {
            let names = firewall.names.clone();
            Judges::look(&mut firewall.lock().tables, &names).unwrap().families
        })
    };
    assert_eq!(judged(&world), [false; 2]);
    rules(&world, "add table ip6 own; add chain ip6 own input { type filter hook input priority 0; }");
    assert_eq!(judged(&world), [false, true]);
    other.remove().unwrap();
}
