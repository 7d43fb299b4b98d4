//! The interface of a container: what it has, how it comes and goes, which way packets take.

use tare_model::error::ErrorKind;
use tare_model::network::NetworkConfig;
use tare_sys::netlink::{link, route, rule};

use super::*;
use crate::link::{Place, Way, destinations, detach, indexes, lead_each, set_default, sweep};

fn defaults(inside: &mut Socket) -> Vec<(Option<IpAddr>, Option<u32>)> {
    let mut found: Vec<_> = route::list(inside).unwrap();
    found.retain(|route| route.prefix == 0);
    found.sort_by_key(|route| route.network.is_ipv6());
    found.into_iter().map(|route| (route.gateway, route.link)).collect()
}

#[test]
fn an_interface_has_what_was_asked_for() {
    alone(|| {
        let mut config = config("web");
        config.bridge.mtu = Some(1400);
        let mut net = Net::new(1, config);
        let mut one = container(0);
        let endpoint = net.endpoint("eth7");
        let index = net.put(&mut one, &endpoint, true).unwrap();
        let link = link::find(&mut one.inside, "eth7").unwrap();
        assert_eq!((link.mac, link.mtu, link.up), (endpoint.mac.map(|mac| mac.0), 1400, true));
        let found = addresses(&mut one.inside, link.index);
        assert!(endpoint.addresses.iter().all(|net| found.contains(&net.addr())), "{found:?}");
        let outer = link::list(&mut host()).unwrap().into_iter().find(|l| Some(l.index) == index).unwrap();
        assert_eq!(outer.name, crate::link::host_name(&endpoint.id));
        assert!(outer.name.len() <= 15 && outer.up && outer.mtu == 1400, "{outer:?}");
        assert_eq!(outer.alias, format!("tare container {} eth7", one.id.short()));
        assert_eq!(addresses(&mut host(), outer.index), Vec::<IpAddr>::new());
        let ways = [Family::V4, Family::V6].map(|family| (Some(net.gateway(family)), Some(link.index)));
        assert_eq!(defaults(&mut one.inside), ways);
    });
}

/// As with connections that a program which was killed had not sent all on.
#[test]
fn what_is_left_of_the_gone_is_taken_away_though_their_namespaces_stay() {
    alone(|| {
        let mut net = Net::new(1, config("web"));
        let (mut gone, mut other) = (container(0), container(1));
        let endpoints: Vec<_> = (0..100).map(|_| net.endpoint("eth0")).collect();
        net.put(&mut gone, &endpoints[99], true).unwrap();
        let stays = net.endpoint("eth0");
        net.put(&mut other, &stays, true).unwrap();
        sweep(&mut host(), &endpoints).unwrap();
        let names: Vec<_> = link::names(&mut host()).unwrap().into_iter().map(|(name, _)| name).collect();
        assert!(!names.contains(&crate::link::host_name(&endpoints[99].id)), "{names:?}");
        assert!(names.contains(&crate::link::host_name(&stays.id)), "{names:?}");
        sweep(&mut host(), &endpoints).unwrap();
    });
}

#[test]
fn a_network_without_ipv6_brings_none_into_a_container() {
    alone(|| {
        let mut net = Net::new(1, NetworkConfig { ipv6: false, ..config("web") });
        let mut one = container(0);
        net.attach(&mut one, "eth0", true);
        let index = link::find(&mut one.inside, "eth0").unwrap().index;
        let found = addresses(&mut one.inside, index);
        assert!(found.iter().all(IpAddr::is_ipv4) && found.len() == 1, "{found:?}");
    });
}

#[test]
fn the_first_packet_is_not_lost() {
    alone(|| {
        let mut net = Net::new(1, config("web"));
        let outside = udp();
        for number in 0..20 {
            let mut one = container(number);
            net.attach(&mut one, "eth0", true);
            for family in [Family::V4, Family::V6] {
                let started = std::time::Instant::now();
                assert!(reaches(&one.udp, &outside, net.gateway(family)), "{number} {family:?}");
                // A lost question for the neighbour is asked again after a second.
                let took = started.elapsed();
                assert!(took < Duration::from_millis(800), "{number} {family:?}: {took:?}");
            }
        }
    });
}

#[test]
fn a_live_connect_leaves_what_is_there_alone() {
    alone(|| {
        let (mut web, mut db) = (Net::new(1, config("web")), Net::new(2, config("db")));
        let [mut one, mut peer, mut other] = [0, 1, 2].map(container);
        web.attach(&mut one, "eth0", true);
        let at_web = web.attach(&mut peer, "eth0", true);
        let at_db = db.attach(&mut other, "eth0", true);
        let before = (defaults(&mut one.inside), link::find(&mut one.inside, "eth0").unwrap().index);
        let second = db.attach(&mut one, "eth1", false);
        assert_eq!(defaults(&mut one.inside), before.0);
        for family in [Family::V4, Family::V6] {
            assert!(reaches(&one.udp, &peer.udp, of(&at_web, family)), "{family:?}");
            assert!(reaches(&one.udp, &other.udp, of(&at_db, family)), "{family:?}");
            assert!(reaches(&other.udp, &one.udp, of(&second, family)), "{family:?}");
        }
        detach(&mut one.inside, &second).unwrap().unwrap().delete(&mut one.inside).unwrap();
        assert!(reaches(&one.udp, &peer.udp, of(&at_web, Family::V4)));
        assert_eq!(link::find(&mut one.inside, "eth0").unwrap().index, before.1);
    });
}

#[test]
fn the_way_out_changes_at_one_instant_and_can_be_none() {
    alone(|| {
        let (mut web, mut db) = (Net::new(1, config("web")), Net::new(2, config("db")));
        let mut one = container(0);
        web.attach(&mut one, "eth0", true);
        db.attach(&mut one, "eth1", false);
        let index = indexes(&mut one.inside, ["eth1"]).unwrap()[0];
        let way = |family| Some(Way { link: index, gateway: Some(db.gateway(family)) });
        set_default(&mut one.inside, way(Family::V4), way(Family::V6)).unwrap();
        let expected = [Family::V4, Family::V6].map(|family| (Some(db.gateway(family)), Some(index)));
        assert_eq!(defaults(&mut one.inside), expected);
        set_default(&mut one.inside, None, way(Family::V6)).unwrap();
        assert_eq!(defaults(&mut one.inside), [expected[1]]);
        set_default(&mut one.inside, None, None).unwrap();
        assert_eq!(defaults(&mut one.inside), []);
        let error = indexes(&mut one.inside, ["eth1", "eth9"]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
    });
}

#[test]
fn each_of_several_networks_has_a_way_of_its_own_and_a_single_one_needs_none() {
    alone(|| {
        let [mut front, mut back] = [1, 2].map(|number| Net::new(number, config("web")));
        let mut one = container(0);
        let ends = [front.attach(&mut one, "eth0", true), back.attach(&mut one, "eth1", false)];
        let place = |end: &Endpoint| end.addresses.iter().map(ipnet::IpNet::addr).collect::<Vec<_>>();
        let links = indexes(&mut one.inside, ["eth0", "eth1"]).unwrap();
        let places = [0, 1].map(|at| (&ends[at], links[at])).map(|(end, link)| Place {
            link,
            addresses: place(end),
            gateways: &end.gateways,
        });
        let usual = rule::list(&mut one.inside).unwrap();
        // Said twice it is as said once.
        for _ in 0..2 {
            lead_each(&mut one.inside, &places).unwrap();
            let rules = rule::list(&mut one.inside).unwrap();
            let by_source = rules.iter().filter(|rule| rule.source.is_some());
            let mut tables: Vec<_> = by_source.map(|rule| (rule.source.unwrap(), rule.table)).collect();
            tables.sort_by_key(|(source, table)| (*table, *source));
            let sources: Vec<_> = tables.iter().map(|(source, _)| *source).collect();
            assert_eq!(sources, places.iter().flat_map(|place| place.addresses.clone()).collect::<Vec<_>>());
            assert_eq!(rules.len(), usual.len() + 2 + 4, "{rules:?}");
            let ways = route::list_all(&mut one.inside).unwrap();
            let gateways = ways.iter().filter(|way| way.prefix == 0).filter_map(|way| way.gateway);
            assert_eq!(gateways.filter(|gateway| ends[1].gateways.contains(gateway)).count(), 2, "{ways:?}");
        }
        lead_each(&mut one.inside, &places[..1]).unwrap();
        assert_eq!(rule::list(&mut one.inside).unwrap(), usual);
    });
}

#[test]
fn a_detached_interface_is_gone_at_once_and_its_name_free() {
    alone(|| {
        let mut net = Net::new(1, config("web"));
        let [mut one, mut peer] = [0, 1].map(container);
        let endpoint = net.attach(&mut one, "eth0", true);
        let other = net.attach(&mut peer, "eth0", true);
        let doomed = detach(&mut one.inside, &endpoint).unwrap().unwrap();
        assert!(is_cut_off(&one.udp, &peer.udp, of(&other, Family::V4)));
        net.attach(&mut one, "eth0", true);
        assert!(reaches(&one.udp, &peer.udp, of(&other, Family::V4)), "the new one works beside the old one");
        doomed.delete(&mut one.inside).unwrap();
        assert_eq!(links(&mut one.inside), ["eth0"]);
        assert!(!links(&mut host()).contains(&crate::link::host_name(&endpoint.id)));
        let missing = Endpoint { interface: "eth5".into(), ..endpoint };
        assert!(detach(&mut one.inside, &missing).unwrap().is_none());
    });
}

#[test]
fn a_refusal_leaves_nothing_behind() {
    alone(|| {
        let mut net = Net::new(1, config("web"));
        let mut one = container(0);
        net.attach(&mut one, "eth0", true);
        let before = (links(&mut host()), links(&mut one.inside));
        let taken = net.endpoint("eth0");
        let error = net.put(&mut one, &taken, false).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        let said = error.message().starts_with("RTM_NEWLINK(veth ") && error.message().contains("eth0");
        assert!(said, "{error}: whoever calls says which network");
        let mut wrong = net.endpoint("eth1");
        wrong.addresses.push(wrong.addresses[0]);
        let error = net.put(&mut one, &wrong, false).unwrap_err();
        assert!(error.message().contains("set up of eth1"), "{error}");
        assert_eq!((links(&mut host()), links(&mut one.inside)), before);
    });
}

#[test]
fn nothing_passes_by_a_link_before_it_is_said_what_may() {
    alone(|| {
        let mut net = Net::new(1, config("web"));
        let mut one = container(0);
        for refused in [true, false] {
            let endpoint = net.endpoint("eth0");
            let (network, fabric, container) = (&net.network, &net.fabric, &one.id);
            let (default_ipv4, default_ipv6) = (false, false);
            let what = Attach { network, fabric, container, endpoint: &endpoint, default_ipv4, default_ipv6 };
            let mut told = None;
            let outcome = attach(&mut host(), &mut one.inside, &what, |index| {
                let link = link::get(&mut host(), index).unwrap();
                told = Some((index, link.up, link.master.is_some()));
                if refused { Err(tare_model::Error::conflict("no")) } else { Ok(()) }
            });
            let (index, up, is_port) = told.expect("somebody is told");
            assert!(!up && is_port, "refused: {refused}");
            match outcome {
                Ok(made) => assert_eq!((made, refused), (Some(index), false)),
                Err(error) => assert_eq!((error.message(), refused), ("no", true)),
            }
            assert_eq!(link::get(&mut host(), index).is_ok_and(|link| link.up), !refused);
        }
    });
}

#[test]
fn what_the_host_sends_somewhere_is_known() {
    alone(|| {
        let net = Net::new(1, config("web"));
        let found = destinations(&mut host()).unwrap();
        let mut expected: Vec<IpNet> = net.network.pools.iter().map(|pool| pool.subnet).collect();
        expected.sort();
        assert_eq!(found, expected);
    });
}
