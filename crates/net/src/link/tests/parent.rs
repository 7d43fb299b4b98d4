//! Networks on a link of the host's. This kernel may lack some kinds: then it must be said.

use tare_model::error::ErrorKind;
use tare_model::network::{Driver, NetworkConfig, ParentMode};
use tare_sys::netlink::link::{self, Change, Kind, NewLink};

use super::*;
use crate::link::{ensure, remove};

/// A link that plays hardware: one end of a pair, of which the other is up too.
fn hardware() {
    let host = &mut host();
    let peer = Box::new(NewLink::new("wire", None));
    link::create(host, &NewLink { up: true, ..NewLink::new("nic0", Some(Kind::Veth { peer })) }).unwrap();
    let wire = link::find(host, "wire").unwrap().index;
    link::change(host, wire, &Change { up: Some(true), ..Change::default() }).unwrap();
}

fn on(driver: Driver, mode: ParentMode, link: Option<&str>) -> NetworkConfig {
    let mut config = config("lan");
    (config.driver, config.parent.mode, config.parent.link) = (driver, mode, link.map(Into::into));
    config.internal = link.is_none();
    config
}

#[test]
fn macvlan_containers_reach_each_other_unless_private() {
    alone(|| {
        hardware();
        for (number, mode, expected) in [(1, ParentMode::Default, true), (2, ParentMode::Private, false)] {
            let mut net = Net::new(number, on(Driver::Macvlan, mode, Some("nic0")));
            let [mut one, mut two] = [0, 1].map(container);
            let first = net.endpoint("eth0");
            assert_eq!(net.put(&mut one, &first, true).unwrap(), None, "it has no end on the host");
            let second = net.attach(&mut two, "eth0", true);
            for family in [Family::V4, Family::V6] {
                assert_eq!(reaches(&one.udp, &two.udp, of(&second, family)), expected, "{mode:?} {family:?}");
            }
            let found = link::find(&mut one.inside, "eth0").unwrap();
            assert_eq!((found.kind.as_str(), found.mac), ("macvlan", first.mac.map(|mac| mac.0)));
            remove(&mut host(), &net.network).unwrap();
        }
        link::find(&mut host(), "nic0").expect("the host's own link stays");
    });
}

#[test]
fn every_mode_of_macvlan_is_taken_and_passthru_shares_the_mac() {
    alone(|| {
        hardware();
        let mut vepa = Net::new(1, on(Driver::Macvlan, ParentMode::Vepa, Some("nic0")));
        vepa.attach(&mut container(0), "eth0", true);
        let mut one = container(1);
        let mut passthru = Net::new(2, on(Driver::Macvlan, ParentMode::Passthru, Some("wire")));
        let mut endpoint = passthru.endpoint("eth0");
        let error = passthru.put(&mut one, &endpoint, true).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        endpoint.mac = None;
        passthru.put(&mut one, &endpoint, true).unwrap();
        let parent = link::find(&mut host(), "wire").unwrap().mac;
        assert_eq!(link::find(&mut one.inside, "eth0").unwrap().mac, parent);
    });
}

#[test]
fn ipvlan_works_or_the_kernel_is_said_to_lack_it() {
    alone(|| {
        hardware();
        for (number, mode) in [(1, ParentMode::Default), (2, ParentMode::L3), (3, ParentMode::L3s)] {
            // All on one link have one mode.
            let mut net = Net::new(number, on(Driver::Ipvlan, mode, Some("nic0")));
            let [mut one, mut two] = [0, 1].map(container);
            let mut endpoints = [net.endpoint("eth0"), net.endpoint("eth0")];
            endpoints.iter_mut().for_each(|endpoint| endpoint.mac = None);
            match net.put(&mut one, &endpoints[0], true) {
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
                    assert!(error.message().contains("this kernel has no ipvlan links"), "{error}");
                }
                Ok(_) => {
                    net.put(&mut two, &endpoints[1], true).unwrap();
                    for family in [Family::V4, Family::V6] {
                        assert!(
                            reaches(&one.udp, &two.udp, of(&endpoints[1], family)),
                            "{mode:?} {family:?}"
                        );
                    }
                }
            }
        }
    });
}

#[test]
fn a_vlan_and_a_link_to_nowhere_are_made_and_removed_or_said_to_be_lacking() {
    alone(|| {
        hardware();
        for (parent, name, kind) in [(Some("nic0.20"), "nic0.20", "vlan"), (None, "dm-", "dummy")] {
            let network = network(1, on(Driver::Macvlan, ParentMode::Default, parent));
            match ensure(&mut host(), &network) {
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
                    assert!(error.message().contains(&format!("this kernel has no {kind} links")), "{error}");
                }
                Ok(_) => {
                    ensure(&mut host(), &network).unwrap();
                    let made =
                        link::list(&mut host()).unwrap().into_iter().find(|l| l.name.starts_with(name));
                    assert!(made.is_some_and(|link| link.up && link.kind == kind));
                    remove(&mut host(), &network).unwrap();
                }
            }
            assert!(links(&mut host()).iter().all(|link| !link.starts_with(name)));
        }
    });
}

#[test]
fn a_parent_that_is_missing_is_named() {
    alone(|| {
        for parent in ["nic9", "nic9.20"] {
            let network = network(1, on(Driver::Macvlan, ParentMode::Default, Some(parent)));
            let error = ensure(&mut host(), &network).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotFound);
            assert!(error.message().contains("parent link nic9"), "{error}");
        }
    });
}
