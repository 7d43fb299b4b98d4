//! What is refused, and which elements follow from what: without a kernel.

use ipnet::IpNet;
use proptest::prelude::*;
use tare_model::error::ErrorKind;
use tare_model::network::{GatewayMode, Mac, Protocol, Published};

use super::world::{ip4, ip6, network, published};
use crate::firewall::element::{link_local, of_published, of_ruleset};
use crate::firewall::shut::shut_by;
use crate::firewall::{
    Admitted, Bridge, IpFamily, Ruleset, Shut, check_bridge, check_published, comment, gone,
};

fn with(mode: GatewayMode) -> Bridge {
    let mut bridge = network(1);
    bridge.subnets.iter_mut().for_each(|subnet| subnet.mode = mode);
    bridge
}

#[test]
fn wrong_names_of_bridges_and_senders_of_another_family_are_refused() {
    for name in ["", ".", "..", "a/b", "a b", "sixteen-letters-", "a\nb"] {
        let bridge = Bridge { name: name.into(), ..network(1) };
        assert_eq!(check_bridge(&bridge).unwrap_err().kind(), ErrorKind::InvalidInput, "{name:?}");
    }
    let mut bridge = network(1);
    check_bridge(&bridge).unwrap();
    bridge.subnets[0].source = Some(ip6(1, 9));
    assert!(check_bridge(&bridge).unwrap_err().message().contains("other family"));
}

#[test]
fn ports_that_cannot_be_published_are_refused_with_the_reason() {
    let taken = published("0.0.0.0", 80, ip4(1, 2));
    let rules = Ruleset::new([network(1)], [], [taken.clone()]);
    let refusal = |port: &Published| check_published(&rules, port).unwrap_err();
    assert_eq!(refusal(&published("0.0.0.0", 80, ip4(1, 3))).kind(), ErrorKind::Conflict);
    assert!(refusal(&published("0.0.0.0", 80, ip4(1, 3))).message().contains("to 172.30.1.2:80"));
    let sctp = Published { protocol: Protocol::Sctp, ..published("::1", 81, ip6(1, 2)) };
    assert_eq!(refusal(&sctp).kind(), ErrorKind::Unsupported);
    assert_eq!(refusal(&published("0.0.0.0", 81, ip6(1, 2))).kind(), ErrorKind::InvalidInput);
    assert_eq!(refusal(&published("0.0.0.0", 81, ip4(2, 2))).kind(), ErrorKind::InvalidInput);
    check_published(&rules, &taken).unwrap();
    check_published(&rules, &published("127.0.0.1", 80, ip4(1, 3))).unwrap();
    let routed = Ruleset::new([with(GatewayMode::Routed)], [], [taken]);
    check_published(&routed, &published("0.0.0.0", 80, ip4(1, 3))).unwrap();
}

#[test]
fn a_bridge_of_each_mode_has_the_sets_that_it_needs() {
    let sets = |bridge: Bridge| {
        let mut sets: Vec<_> = of_ruleset(&Ruleset::new([bridge], [], [])).iter().map(|m| m.set).collect();
        sets.dedup();
        sets.join(" ")
    };
    assert_eq!(sets(with(GatewayMode::Nat)), "bridges carriers shut4 shut6 within nat4 nat6");
    assert_eq!(sets(with(GatewayMode::NatUnprotected)), "bridges carriers unprotected within nat4 nat6");
    assert_eq!(sets(with(GatewayMode::Routed)), "bridges carriers routed within");
    assert_eq!(sets(Bridge { internal: true, icc: false, ..network(1) }), "bridges carriers internal");
}

#[test]
fn the_top_of_the_address_space_has_no_end() {
    let mut bridge = network(1);
    bridge.subnets[0].net = "255.0.0.0/8".parse().unwrap();
    let members = of_ruleset(&Ruleset::new([bridge], [], []));
    assert_eq!(members.iter().filter(|m| m.set == "nat4").count(), 1);
    assert_eq!(members.iter().filter(|m| m.set == "nat6").count(), 2);
}

#[test]
fn the_address_of_a_link_follows_from_its_mac() {
    assert_eq!(link_local(Mac([0x02, 0x42, 0xac, 0x11, 0, 2])).to_string(), "fe80::42:acff:fe11:2");
}

#[test]
fn the_comment_says_for_whom_forwarding_is_shut() {
    for shut in [&[][..], &[IpFamily::V4], &[IpFamily::V6], &[IpFamily::V4, IpFamily::V6]] {
        let ours: Vec<_> = shut
            .iter()
            .map(|family| Shut { family: *family, but: Vec::new(), bridges: Vec::new() })
            .collect();
        assert_eq!(shut_by(&[("tare".into(), comment(&ours))]), shut);
    }
    let others = [("host".into(), "IPv4 is forwarded for them only".into())];
    assert!(shut_by(&[]).is_empty() && shut_by(&others).is_empty());
}

prop_compose! {
    fn port()(host in 0..3_usize, host_port in 1..4_u16, to in 2..4_u8, port in 1..3_u16, six in any::<bool>()) -> Published {
        let hosts = if six { ["::", "fd99::1", "fd99::2"] } else { ["0.0.0.0", "127.0.0.1", "10.99.0.1"] };
        let address = if six { ip6(1, to) } else { ip4(1, to) };
        Published { port, ..published(hosts[host], host_port, address) }
    }
}

proptest! {
    /// What is taken away with some ports is what no other port needs, and each element once.
    #[test]
    fn what_others_need_stays(all in proptest::collection::btree_set(port(), 0..12), some in any::<u16>(), routed in any::<bool>()) {
        let bridge = with(if routed { GatewayMode::Routed } else { GatewayMode::Nat });
        let rules = Ruleset::new([bridge.clone()], [], all.clone());
        let (away, left): (Vec<_>, Vec<_>) = all.into_iter().enumerate().partition(|(at, _)| some >> at & 1 == 1);
        let strip = |ports: Vec<(usize, Published)>| ports.into_iter().map(|(_, port)| port).collect::<Vec<_>>();
        let (away, left) = (strip(away), strip(left));
        let gone = gone(&rules, &[], &away);
        let needed: Vec<_> = left.iter().filter_map(|port| of_published(&rules, port)).collect();
        let were: Vec<_> = away.iter().filter_map(|port| of_published(&rules, port)).collect();
        for (at, member) in gone.iter().enumerate() {
            prop_assert!(!gone[..at].contains(member) && were.contains(member));
            prop_assert!(!routed || !needed.contains(member));
        }
        for member in were {
            prop_assert!(gone.contains(&member) || needed.contains(&member));
        }
    }

    /// Every range of a subnet begins at its first address and ends behind its last.
    #[test]
    fn ranges_are_the_subnets(a in any::<u32>(), bits in 8..=30_u8) {
        let net: IpNet = IpNet::new(std::net::Ipv4Addr::from(a).into(), bits).unwrap().trunc();
        let mut bridge = network(1);
        bridge.subnets = vec![crate::firewall::Subnet { net, mode: GatewayMode::Nat, source: None }];
        let members = of_ruleset(&Ruleset::new([bridge], [Admitted { link: 1, bridge: "br-1".into(), mac: Mac([2; 6]), addresses: vec![] }], []));
        let keys: Vec<u32> = members.iter().filter(|m| m.set == "nat4")
            .map(|m| u32::from_be_bytes(m.element.key.clone().try_into().unwrap())).collect();
        prop_assert_eq!(keys[0], a & (u32::MAX << (32 - bits)));
        if let Some(end) = keys.get(1) {
            prop_assert_eq!(end - keys[0], 1 << (32 - bits));
        }
    }
}
