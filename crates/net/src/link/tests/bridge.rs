//! Bridges, alone and in trees.

use tare_model::error::ErrorKind;
use tare_model::network::{GatewayMode, Mac, NetworkConfig};
use tare_sys::netlink::link::{self, Change, Kind, NewLink};

use super::*;
use crate::link::bridge::Bridge;
use crate::link::{ensure, mark, remove};

fn without_icc(mut config: NetworkConfig) -> NetworkConfig {
    config.bridge.icc = false;
    config
}

/// Attaches that many containers.
fn crowd(net: &mut Net, count: usize) -> Vec<(Container, Endpoint)> {
    let joined = |number| {
        let mut container = container(number);
        let endpoint = net.attach(&mut container, "eth0", true);
        (container, endpoint)
    };
    (0..count).map(joined).collect()
}

#[test]
fn containers_reach_each_other_and_the_gateway_by_both_families() {
    alone(|| {
        let mut net = Net::new(1, config("web"));
        let crowd = crowd(&mut net, 2);
        let outside = udp();
        for family in [Family::V4, Family::V6] {
            assert!(reaches(&crowd[0].0.udp, &crowd[1].0.udp, of(&crowd[1].1, family)), "{family:?}");
            assert!(reaches(&crowd[0].0.udp, &outside, net.gateway(family)), "{family:?}");
            assert!(reaches(&outside, &crowd[1].0.udp, of(&crowd[1].1, family)), "{family:?}");
        }
    });
}

#[test]
fn networks_are_apart_on_their_bridges() {
    alone(|| {
        let (mut web, mut db) = (Net::new(1, config("web")), Net::new(2, config("db")));
        let (a, b) = (crowd(&mut web, 1).remove(0), crowd(&mut db, 1).remove(0));
        let ports = |net: &Net| link::ports(&mut host(), bridge_of(net).index).unwrap().len();
        assert_eq!((ports(&web), ports(&db)), (1, 1));
        // The host does not forward here: what gets through would have gone by a bridge.
        for family in [Family::V4, Family::V6] {
            assert!(is_cut_off(&a.0.udp, &b.0.udp, of(&b.1, family)), "{family:?}");
        }
    });
}

#[test]
fn without_icc_nobody_reaches_anybody_but_the_gateway() {
    alone(|| {
        let mut net = Net::new(1, without_icc(config("web")));
        let crowd = crowd(&mut net, 2);
        let outside = udp();
        for family in [Family::V4, Family::V6] {
            assert!(is_cut_off(&crowd[0].0.udp, &crowd[1].0.udp, of(&crowd[1].1, family)), "{family:?}");
            assert!(reaches(&crowd[0].0.udp, &outside, net.gateway(family)), "{family:?}");
        }
    });
}

#[test]
fn a_tree_of_bridges_is_one_network() {
    alone(|| {
        let mut net = tree(config("web"), Limits { root: 2, leaf: 2 });
        let crowd = crowd(&mut net, 7);
        let outside = udp();
        for (place, (from, _)) in crowd.iter().enumerate() {
            for (to, endpoint) in &crowd[place + 1..] {
                assert!(reaches(&from.udp, &to.udp, of(endpoint, Family::V4)), "{place} to {endpoint:?}");
            }
            assert!(reaches(&from.udp, &outside, net.gateway(Family::V6)), "{place}");
        }
        let leaves = links(&mut host()).iter().filter(|name| name.starts_with("tl")).count();
        assert_eq!(leaves, 3);
        let shown = std::process::Command::new("ip").args(["-br", "link"]).output().unwrap().stdout;
        let silent = |line: &&str| line.starts_with("tleaf") && line.contains("NOARP");
        assert_eq!(
            String::from_utf8(shown).unwrap().lines().filter(silent).count(),
            3,
            "one answers for the gateway"
        );
        remove(&mut host(), &net.network).unwrap();
        assert!(links(&mut host()).iter().all(|name| name.starts_with("tv")), "{:?}", links(&mut host()));
    });
}

#[test]
fn isolation_holds_across_the_tree() {
    alone(|| {
        let mut net = tree(without_icc(config("web")), Limits { root: 2, leaf: 2 });
        let crowd = crowd(&mut net, 6);
        let outside = udp();
        // Two on the root, two on each leaf: all kinds of pairs are among these.
        for (from, to) in [(0, 1), (0, 2), (2, 0), (2, 3), (2, 4), (4, 2)] {
            let address = of(&crowd[to].1, Family::V4);
            assert!(is_cut_off(&crowd[from].0.udp, &crowd[to].0.udp, address), "{from} to {to}");
        }
        for (container, _) in &crowd {
            assert!(reaches(&container.udp, &outside, net.gateway(Family::V4)));
        }
    });
}

#[test]
fn many_start_at_once_and_a_tree_grows_under_them() {
    alone(|| {
        let mut net = tree(config("web"), Limits { root: 2, leaf: 4 });
        let mut crowd: Vec<(Container, Endpoint)> =
            (0..24).map(|number| (container(number), net.endpoint("eth0"))).collect();
        // Threads would begin in the namespace of this one, which is the host that they need.
        thread::scope(|scope| {
            for part in crowd.chunks_mut(6) {
                let net = &net;
                scope.spawn(move || {
                    part.iter_mut().for_each(|(one, end)| {
                        net.put(one, end, true).unwrap();
                    })
                });
            }
        });
        let (last, first) = (&crowd[23].0.udp, &crowd[0]);
        assert!(reaches(last, &first.0.udp, of(&first.1, Family::V4)));
        let all = links(&mut host());
        assert_eq!(all.iter().filter(|name| name.starts_with("tv")).count(), 24);
        let outside = udp();
        let gateway = net.gateway(Family::V4);
        assert!(crowd.iter().all(|(one, _)| reaches(&one.udp, &outside, gateway)));
    });
}

#[test]
fn ports_of_dead_containers_are_used_again() {
    alone(|| {
        let mut net = tree(config("web"), Limits { root: 2, leaf: 2 });
        for _ in 0..5 {
            let crowd = crowd(&mut net, 2);
            for (mut container, endpoint) in crowd {
                let doomed = crate::link::detach(&mut container.inside, &endpoint).unwrap().unwrap();
                doomed.delete(&mut container.inside).unwrap();
            }
        }
        assert!(links(&mut host()).iter().all(|name| !name.starts_with("tl")), "it need not have grown");
    });
}

#[test]
fn a_daemon_that_comes_back_finds_the_tree_and_goes_on() {
    alone(|| {
        let limits = Limits { root: 1, leaf: 1 };
        let mut net = tree(config("web"), limits);
        let mut first = crowd(&mut net, 2);
        let before = links(&mut host());
        let uplink = mark::leaf(&net.network, 0).at_root;
        let index = link::find(&mut host(), &uplink).unwrap().index;
        link::delete(&mut host(), index).unwrap();
        net.fabric = Fabric::Bridge(Bridge::ensure(&mut host(), &net.network, limits).unwrap());
        let after = links(&mut host());
        assert_eq!(before.len(), after.len(), "{before:?} {after:?}");
        first.extend(crowd(&mut net, 1));
        assert!(reaches(&first[0].0.udp, &first[1].0.udp, of(&first[1].1, Family::V4)));
        assert!(reaches(&first[1].0.udp, &first[2].0.udp, of(&first[2].1, Family::V4)));
    });
}

#[test]
fn more_than_a_thousand_containers_are_on_one_network() {
    alone(|| {
        let config = NetworkConfig { ipv6: false, ..config("web") };
        let mut net = tree(config, Limits::default());
        let mut insides: Vec<Socket> = (0..1100).map(|_| alone(host)).collect();
        let id = ContainerId::from_bytes([1; 32]);
        let mut ends = Vec::new();
        for (number, inside) in insides.iter_mut().enumerate() {
            let endpoint = net.endpoint("eth0");
            // A few have ears: of the root's first and last, of the leaf's first and last.
            if [0, 959, 960, 1099].contains(&number) {
                let mut container = container(number);
                net.put(&mut container, &endpoint, true).unwrap();
                ends.push((container, endpoint));
                continue;
            }
            let (network, fabric, container) = (&net.network, &net.fabric, &id);
            let (default_ipv4, default_ipv6) = (true, false);
            let what = Attach { network, fabric, container, endpoint: &endpoint, default_ipv4, default_ipv6 };
            attach(&mut host(), inside, &what, |_| Ok(())).unwrap();
        }
        for (from, _) in &ends {
            for (to, endpoint) in &ends {
                if from.id != to.id {
                    assert!(reaches(&from.udp, &to.udp, of(endpoint, Family::V4)), "{endpoint:?}");
                }
            }
        }
        assert_eq!(links(&mut host()).iter().filter(|name| name.starts_with("tl")).count(), 1);
    });
}

#[test]
fn a_link_of_somebody_elses_is_left_alone() {
    alone(|| {
        let mut config = config("web");
        config.bridge.name = Some("theirs".into());
        let network = network(1, config);
        for kind in [Kind::Bridge, Kind::Veth { peer: Box::new(NewLink::new("other", None)) }] {
            let host = &mut host();
            link::create(host, &NewLink::new("theirs", Some(kind))).unwrap();
            let theirs = link::find(host, "theirs").unwrap();
            let error = ensure(host, &network).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Conflict);
            assert!(error.message().contains("named theirs"), "{error}");
            remove(host, &network).unwrap();
            assert_eq!(link::find(host, "theirs").unwrap(), theirs);
            link::delete(host, theirs.index).unwrap();
        }
    });
}

#[test]
fn a_tree_grows_past_links_of_others_and_leaves_them_alone() {
    alone(|| {
        let limits = Limits { root: 1, leaf: 1 };
        let mut net = tree(config("web"), limits);
        // Of the first leaf's names its own is taken, of the second's that of an end of its uplink.
        let taken = [mark::leaf(&net.network, 0).bridge, mark::leaf(&net.network, 1).at_leaf];
        for (name, other) in taken.iter().zip(["one", "two"]) {
            let pair = Kind::Veth { peer: Box::new(NewLink::new(other, None)) };
            link::create(&mut host(), &NewLink::new(name, Some(pair))).unwrap();
        }
        let theirs = taken.clone().map(|name| link::find(&mut host(), &name).unwrap());
        let mut all = crowd(&mut net, 3);
        net.fabric = Fabric::Bridge(Bridge::ensure(&mut host(), &net.network, limits).unwrap());
        all.extend(crowd(&mut net, 1));
        for (from, to) in [(0, 1), (1, 2), (2, 3), (3, 0)] {
            let there = of(&all[to].1, Family::V4);
            assert!(reaches(&all[from].0.udp, &all[to].0.udp, there), "{from} to {to}");
        }
        remove(&mut host(), &net.network).unwrap();
        let after = taken.clone().map(|name| link::find(&mut host(), &name).unwrap());
        assert_eq!(after, theirs);
        let ours = |name: &String| !name.starts_with("tv") && !["one", "two"].contains(&name.as_str());
        let left: Vec<String> = links(&mut host()).into_iter().filter(ours).collect();
        assert_eq!(left.len(), taken.len(), "{left:?}");
    });
}

#[test]
fn leaves_behind_one_that_somebody_deleted_are_found() {
    alone(|| {
        let limits = Limits { root: 1, leaf: 2 };
        let mut net = tree(config("web"), limits);
        let mut all = crowd(&mut net, 4);
        let [lost, kept] = [0, 1].map(|number| mark::leaf(&net.network, number).bridge);
        let gone = link::find(&mut host(), &lost).unwrap().index;
        link::delete(&mut host(), gone).unwrap();
        net.fabric = Fabric::Bridge(Bridge::ensure(&mut host(), &net.network, limits).unwrap());
        all.extend(crowd(&mut net, 1));
        let seated = link::find(&mut host(), &kept).unwrap().index;
        assert_eq!(link::ports(&mut host(), seated).unwrap().len(), 3, "two containers and the uplink");
        all.extend(crowd(&mut net, 1));
        assert!(link::find(&mut host(), &lost).is_ok(), "its number is free again");
        for (from, to) in [(0, 3), (3, 4), (4, 5), (5, 0)] {
            let there = of(&all[to].1, Family::V4);
            assert!(reaches(&all[from].0.udp, &all[to].0.udp, there), "{from} to {to}");
        }
    });
}

#[test]
fn a_bridge_has_what_was_asked_for_however_often() {
    alone(|| {
        let mut config = config("web");
        config.bridge.mtu = Some(1400);
        let network = network(1, config);
        let host = &mut host();
        for _ in 0..2 {
            let Fabric::Bridge(bridge) = ensure(host, &network).unwrap() else { panic!("not a bridge") };
            let link = link::find(host, &network.bridge()).unwrap();
            assert_eq!((link.index, link.mtu, link.up), (bridge.index, 1400, true));
            assert_eq!(link.alias, format!("tare network {}", network.id));
            let found = addresses(host, link.index);
            for pool in &network.pools {
                assert!(found.contains(&pool.gateway.unwrap()), "{found:?}");
            }
            // As if the daemon had died before it said whose it is, and somebody had taken it down.
            let spoilt = Change { up: Some(false), alias: Some(""), ..Change::default() };
            link::change(host, link.index, &spoilt).unwrap();
        }
    });
}

#[test]
fn the_mac_of_a_bridge_stays_whatever_its_ports_have() {
    alone(|| {
        let mut net = Net::new(1, config("web"));
        let mac = |net: &Net| Mac(link::find(&mut host(), &net.network.bridge()).unwrap().mac.unwrap());
        let before = mac(&net);
        let mut one = container(0);
        let mut endpoint = net.endpoint("eth0");
        endpoint.mac = Some(Mac([0; 6].map(|_| 2)));
        net.put(&mut one, &endpoint, false).unwrap();
        assert_eq!(mac(&net), before);
    });
}

#[test]
fn no_router_is_believed_and_without_ipv6_there_is_none() {
    alone(|| {
        for (number, ipv6) in [(1, true), (2, false)] {
            let net = Net::new(number, NetworkConfig { ipv6, ..config("web") });
            let bridge = net.network.bridge();
            let setting = |name| read(&format!("/proc/sys/net/ipv6/conf/{bridge}/{name}"));
            assert_eq!(setting("accept_ra"), "0");
            assert_eq!(setting("disable_ipv6"), if ipv6 { "0" } else { "1" });
            crate::link::route_localnet(&bridge, true).unwrap();
            assert_eq!(read(&format!("/proc/sys/net/ipv4/conf/{bridge}/route_localnet")), "1");
        }
        assert!(
            crate::link::route_localnet("nowhere", true).unwrap_err().message().contains("is the link gone")
        );
    });
}

#[test]
fn the_host_has_no_address_on_an_isolated_network() {
    alone(|| {
        let mut config = NetworkConfig { internal: true, ..config("web") };
        config.bridge.gateway_ipv4 = GatewayMode::Isolated;
        config.bridge.gateway_ipv6 = GatewayMode::Isolated;
        let net = Net::new(1, config);
        assert_eq!(addresses(&mut host(), bridge_of(&net).index), Vec::<IpAddr>::new());
    });
}

fn bridge_of(net: &Net) -> &Bridge {
    match &net.fabric {
        Fabric::Bridge(bridge) => bridge,
        other => panic!("{other:?}"),
    }
}
