//! Which subnets are chosen, which are refused, and in which words.

use std::net::IpAddr;

use ipnet::IpNet;
use proptest::prelude::*;
use tare_model::error::ErrorKind;
use tare_model::network::{Driver, GatewayMode, NetworkConfig, ParentMode, Pool, PoolConfig};

use super::{Base, Bases, Surroundings, choose, name, shadowed};
use crate::span;

const ULA: [u8; 5] = [0x12, 0x34, 0x56, 0x78, 0x9a];

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn asked(subnet: &str) -> PoolConfig {
    PoolConfig { subnet: Some(net(subnet)), range: None, gateway: None, auxiliary: Default::default() }
}

fn config(pools: Vec<PoolConfig>) -> NetworkConfig {
    NetworkConfig { name: "web".into(), ipv4: true, ipv6: true, pools, ..Default::default() }
}

fn choose_among(config: &NetworkConfig, networks: &[(&str, IpNet)], routes: &[IpNet]) -> Vec<Pool> {
    choose(config, &Surroundings { bases: &Bases::standard(ULA), networks, routes }).unwrap()
}

fn refusal(config: &NetworkConfig) -> (ErrorKind, String) {
    let networks = [("db", net("10.9.0.0/16"))];
    let around = Surroundings { bases: &Bases::standard(ULA), networks: &networks, routes: &[] };
    let error = choose(config, &around).expect_err("it should be refused");
    (error.kind(), error.message().to_owned())
}

#[test]
fn nothing_asked_for_is_the_first_free_subnet_of_both_families() {
    let pools = choose_among(&config(vec![]), &[], &[net("0.0.0.0/0"), net("::/0")]);
    assert_eq!(
        pools.iter().map(|pool| pool.subnet).collect::<Vec<_>>(),
        [net("172.17.0.0/16"), net("fd12:3456:789a::/64")]
    );
    assert_eq!(pools[0].gateway, Some(ip("172.17.0.1")));
    assert_eq!(pools[1].gateway, Some(ip("fd12:3456:789a::1")));
    assert!(!pools[0].chosen);
}

#[test]
fn networks_and_routes_are_avoided_whatever_their_size() {
    let routes =
        ["172.16.0.0/15", "172.18.200.0/24", "172.20.0.0/14", "172.24.0.0/13", "fd12:3456:789a::/63"];
    let pools = choose_among(&config(vec![]), &[("a", net("172.19.0.0/16"))], &routes.map(net));
    assert_eq!(pools[0].subnet, net("192.168.0.0/20"));
    assert_eq!(pools[1].subnet, net("fd12:3456:789a:2::/64"));
}

#[test]
fn thousands_of_networks_have_subnets_and_none_has_anothers() {
    let mut networks: Vec<(&str, IpNet)> = Vec::new();
    let routes = [net("10.0.0.0/16"), net("10.1.2.3/32")];
    for _ in 0..3000 {
        let pools = choose_among(&config(vec![]), &networks, &routes);
        networks.extend(pools.iter().map(|pool| ("other", pool.subnet)));
    }
    let mut spans: Vec<_> =
        networks.iter().map(|(_, net)| (net.addr().is_ipv4(), span::ends(*net))).collect();
    spans.sort_unstable();
    let apart = |pair: &[(bool, (u128, u128))]| pair[0].0 != pair[1].0 || pair[0].1.1 < pair[1].1.0;
    assert!(spans.windows(2).all(apart), "two networks share addresses");
    assert!(networks.iter().all(|(_, net)| routes.iter().all(|route| !span::overlap(*net, *route))));
    assert_eq!(networks.iter().filter(|(_, net)| net.to_string().starts_with("10.1.2.")).count(), 0);
}

#[test]
fn used_up_bases_say_what_to_do() {
    let base = Base { net: net("10.0.0.0/23"), size: 24 };
    let bases = Bases::configured(vec![base], ULA).unwrap();
    let networks = [("a", net("10.0.0.0/24")), ("b", net("10.0.1.128/25"))];
    let around = Surroundings { bases: &bases, networks: &networks, routes: &[] };
    let error = choose(&config(vec![]), &around).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.message().starts_with("all predefined address pools have been fully subnetted"), "{error}");
    assert!(error.message().contains("--subnet"), "{error}");
}

#[test]
fn a_size_alone_is_cut_out_of_the_bases() {
    let pools =
        choose_among(&config(vec![asked("0.0.0.0/28"), asked("::/96")]), &[], &[net("172.17.0.0/28")]);
    assert_eq!(pools[0].subnet, net("172.17.0.16/28"));
    assert_eq!(pools[1].subnet, net("fd12:3456:789a::/96"));
}

#[test]
fn what_was_asked_for_is_given() {
    let pool = PoolConfig {
        range: Some(net("10.1.128.0/17")),
        auxiliary: [("router".to_owned(), ip("10.1.128.0"))].into(),
        ..asked("10.1.0.0/16")
    };
    let pools = choose_among(&config(vec![asked("2001:db8::/64"), pool.clone()]), &[], &[]);
    assert_eq!((pools[0].subnet, pools[0].range), (net("10.1.0.0/16"), net("10.1.128.0/17")));
    assert_eq!(pools[0].gateway, Some(ip("10.1.128.1")), "the first of the range is held");
    assert_eq!(pools[1].gateway, Some(ip("2001:db8::1")));
    assert!(pools.iter().all(|pool| pool.chosen));
    let pool = PoolConfig { gateway: Some(ip("10.1.0.254")), ..pool };
    assert_eq!(choose_among(&config(vec![pool]), &[], &[])[0].gateway, Some(ip("10.1.0.254")));
}

#[test]
fn all_that_is_wrong_with_a_subnet_is_said_in_dockers_words() {
    let pool = PoolConfig {
        subnet: Some(net("10.10.10.0/8")),
        range: Some(net("192.168.0.1/24")),
        gateway: Some(ip("192.168.0.1")),
        auxiliary: [("a".to_owned(), ip("192.168.0.1"))].into(),
    };
    let (kind, message) = refusal(&config(vec![pool]));
    assert_eq!(kind, ErrorKind::InvalidInput);
    let lines: Vec<&str> = message.lines().collect();
    assert_eq!(
        lines,
        [
            "invalid network config:",
            "invalid subnet 10.10.10.0/8: it should be 10.0.0.0/8",
            "invalid ip-range 192.168.0.1/24: it should be 192.168.0.0/24",
            "invalid ip-range 192.168.0.1/24: parent subnet 10.10.10.0/8 doesn't contain ip-range",
            "invalid gateway 192.168.0.1: parent subnet 10.10.10.0/8 doesn't contain this address",
            "invalid auxiliary address a: parent subnet 10.10.10.0/8 doesn't contain this address",
        ]
    );
}

/// A change of a good configuration, and words of its refusal.
type Wrong = (&'static str, ErrorKind, fn(&mut NetworkConfig));

const WRONG: [Wrong; 20] = [
    (
        "Pool overlaps with other one on this address space: 10.9.3.0/24 with 10.9.0.0/16 of network db",
        ErrorKind::Forbidden,
        |c| c.pools = vec![asked("10.9.3.0/24")],
    ),
    ("Pool overlaps with other one on this address space", ErrorKind::Forbidden, |c| {
        c.driver = Driver::Macvlan;
        c.parent.link = Some("eth0".into());
        c.pools = vec![asked("10.1.0.0/16"), asked("10.1.3.0/24")];
    }),
    ("bridge driver doesn't support multiple subnets", ErrorKind::Forbidden, |c| {
        c.pools = vec![asked("10.1.0.0/16"), asked("10.2.0.0/16")]
    }),
    ("invalid gateway fd00::1: parent subnet is an IPv4 block", ErrorKind::InvalidInput, |c| {
        c.pools[0].gateway = Some(ip("fd00::1"))
    }),
    (
        "invalid ip-range 10.0.0.0/8: CIDR block is bigger than its parent subnet 10.1.0.0/16",
        ErrorKind::InvalidInput,
        |c| c.pools[0].range = Some(net("10.0.0.0/8")),
    ),
    ("invalid ip-range fd00::/64: parent subnet is an IPv4 block", ErrorKind::InvalidInput, |c| {
        c.pools[0].range = Some(net("fd00::/64"))
    }),
    ("failed to allocate gateway (10.1.0.0): Address already in use", ErrorKind::Forbidden, |c| {
        c.pools[0].gateway = Some(ip("10.1.0.0"))
    }),
    ("failed to allocate gateway (10.1.255.255): Address already in use", ErrorKind::Forbidden, |c| {
        c.pools[0].gateway = Some(ip("10.1.255.255"))
    }),
    (
        "failed to allocate secondary ip address (a:10.1.0.9): Address already in use: it is the gateway",
        ErrorKind::Forbidden,
        |c| {
            c.pools[0].gateway = Some(ip("10.1.0.9"));
            c.pools[0].auxiliary = [("a".to_owned(), ip("10.1.0.9"))].into();
        },
    ),
    ("failed to allocate secondary ip address (a:10.1.255.255)", ErrorKind::Forbidden, |c| {
        c.pools[0].auxiliary = [("a".to_owned(), ip("10.1.255.255"))].into()
    }),
    ("needs the subnet that it lies in", ErrorKind::InvalidInput, |c| {
        c.pools = vec![PoolConfig { gateway: Some(ip("10.1.0.1")), subnet: None, ..asked("10.1.0.0/16") }]
    }),
    ("invalid subnet fd00::/64: IPv6 is not enabled", ErrorKind::InvalidInput, |c| {
        c.ipv6 = false;
        c.pools = vec![asked("fd00::/64")];
    }),
    ("invalid subnet 10.1.0.0/16: IPv4 is not enabled", ErrorKind::InvalidInput, |c| c.ipv4 = false),
    ("IPv4 or IPv6 must be enabled", ErrorKind::InvalidInput, |c| (c.ipv4, c.ipv6) = (false, false)),
    ("gateway mode 'isolated' can only be used for an internal network", ErrorKind::InvalidInput, |c| {
        c.bridge.gateway_ipv6 = GatewayMode::Isolated
    }),
    ("gateway_mode_ipv4: an internal network can only have", ErrorKind::InvalidInput, |c| {
        c.internal = true;
        c.bridge.gateway_ipv4 = GatewayMode::Routed;
    }),
    ("the host driver takes no subnet", ErrorKind::InvalidInput, |c| c.driver = Driver::Host),
    ("the macvlan driver has no mode l3", ErrorKind::InvalidInput, |c| {
        c.driver = Driver::Macvlan;
        c.parent.mode = ParentMode::L3;
    }),
    ("the ipvlan driver needs a link of the host's", ErrorKind::InvalidInput, |c| c.driver = Driver::Ipvlan),
    ("invalid bridge name \"a/b\"", ErrorKind::InvalidInput, |c| c.bridge.name = Some("a/b".into())),
];

#[test]
fn what_cannot_be_is_refused_by_name() {
    for (words, kind, change) in WRONG {
        let mut config = config(vec![asked("10.1.0.0/16")]);
        change(&mut config);
        let (found, message) = refusal(&config);
        assert!(message.contains(words), "{words:?} is not in {message:?}");
        assert_eq!(found, kind, "{message}");
    }
}

#[test]
fn where_nothing_leaves_by_a_gateway_there_is_none() {
    let mut isolated = config(vec![PoolConfig { gateway: Some(ip("10.1.0.1")), ..asked("10.1.0.0/16") }]);
    isolated.internal = true;
    isolated.bridge.gateway_ipv4 = GatewayMode::Isolated;
    let pools = choose_among(&isolated, &[], &[]);
    assert_eq!(pools[0].gateway, None);
    assert_eq!(pools[0].auxiliary.get("gateway"), Some(&ip("10.1.0.1")), "it is kept from containers");
    assert!(pools[1].gateway.is_some(), "the other family has a mode of its own");
    for (driver, mode, expected) in [
        (Driver::Ipvlan, ParentMode::L3, false),
        (Driver::Ipvlan, ParentMode::Default, true),
        (Driver::Macvlan, ParentMode::Default, true),
    ] {
        let mut config = config(vec![asked("10.1.0.0/16")]);
        (config.driver, config.parent.mode, config.parent.link) = (driver, mode, Some("eth0".into()));
        assert_eq!(choose_among(&config, &[], &[])[0].gateway.is_some(), expected, "{driver:?} {mode:?}");
    }
}

#[test]
fn a_subnet_asked_for_may_lie_over_a_route_and_is_told() {
    let routes = [net("0.0.0.0/0"), net("10.1.0.0/16"), net("10.2.0.0/16")];
    let pools = choose_among(&config(vec![asked("10.1.2.0/24")]), &[], &routes);
    assert_eq!(shadowed(&pools, &routes), [(net("10.1.2.0/24"), net("10.1.0.0/16"))]);
}

#[test]
fn names_are_dockers() {
    for good in ["web", "a", "my_net-1.x", "two words", "_x"] {
        assert!(name(good).is_ok(), "{good}");
    }
    for bad in ["", "  ", "-a", "a-", ".a", "a/b", "a\nb", "é", "a "] {
        assert_eq!(name(bad).unwrap_err().kind(), ErrorKind::InvalidInput, "{bad}");
    }
}

#[test]
fn wrong_bases_are_refused() {
    let base = |text, size| Base { net: net(text), size };
    for (bases, words) in [
        (vec![base("10.0.0.1/8", 24)], "should be 10.0.0.0/8"),
        (vec![base("10.0.0.0/16", 8)], "size of 16 to 30"),
        (vec![base("10.0.0.0/16", 31)], "size of 16 to 30"),
        (vec![base("127.0.0.0/8", 24)], "such addresses"),
        (vec![base("10.0.0.0/8", 24), base("10.3.0.0/16", 24)], "overlaps with 10.0.0.0/8"),
        (vec![base("fd00::/48", 64)], "none is of IPv4"),
    ] {
        let error = Bases::configured(bases, ULA).unwrap_err();
        assert!(error.message().contains(words), "{error}");
    }
    let both = vec![base("10.0.0.0/8", 24), base("fd00::/48", 64)];
    let bases = Bases::configured(both, ULA).unwrap();
    let pools = choose(&config(vec![]), &Surroundings { bases: &bases, networks: &[], routes: &[] }).unwrap();
    assert_eq!((pools[0].subnet, pools[1].subnet), (net("10.0.0.0/24"), net("fd00::/64")));
}

fn small_net() -> impl Strategy<Value = IpNet> {
    (0_u32..1 << 12, 20_u8..=32).prop_map(|(low, bits)| {
        let ip = std::net::Ipv4Addr::from(0x0a00_0000 | low);
        IpNet::V4(ipnet::Ipv4Net::new(ip, bits).unwrap().trunc())
    })
}

proptest! {
    #[test]
    fn the_lowest_subnet_that_is_clear_is_chosen(
        held in prop::collection::vec(small_net(), 0..12),
        split in 0_usize..12,
        size in 22_u8..=28,
    ) {
        let (nets, routes) = held.split_at(split.min(held.len()));
        let networks: Vec<(&str, IpNet)> = nets.iter().map(|net| ("n", *net)).collect();
        let base = net("10.0.0.0/20");
        let bases = Bases::configured(vec![Base { net: base, size }], ULA).unwrap();
        let config = NetworkConfig { ipv6: false, ..config(vec![]) };
        let chosen = choose(&config, &Surroundings { bases: &bases, networks: &networks, routes });
        let IpNet::V4(base) = base else { unreachable!("it is written above") };
        let mut candidates = base.subnets(size).unwrap().map(IpNet::V4);
        let expected = candidates.find(|net| held.iter().all(|other| !span::overlap(*net, *other)));
        prop_assert_eq!(chosen.ok().map(|pools| pools[0].subnet), expected);
    }

    #[test]
    fn a_pool_always_keeps_its_promises(
        subnet in small_net(),
        low in 0_u32..1 << 12,
        bits in 16_u8..=32,
        gateway in prop::option::of(0_u32..1 << 12),
    ) {
        let address = |low: u32| std::net::Ipv4Addr::from(0x0a00_0000 | low);
        let asked = PoolConfig {
            subnet: Some(subnet),
            range: Some(IpNet::V4(ipnet::Ipv4Net::new(address(low), bits).unwrap())),
            gateway: gateway.map(|low| address(low).into()),
            auxiliary: Default::default(),
        };
        let config = NetworkConfig { ipv6: false, ..config(vec![asked]) };
        let bases = Bases::standard(ULA);
        if let Ok(pools) = choose(&config, &Surroundings { bases: &bases, networks: &[], routes: &[] }) {
            let pool = &pools[0];
            let gateway = pool.gateway.unwrap();
            let usable = span::usable(pool.subnet);
            prop_assert!(pool.subnet.contains(&pool.range), "{pool:?}");
            prop_assert!(pool.subnet.contains(&gateway), "{pool:?}");
            prop_assert!((usable.0..=usable.1).contains(&span::number(gateway)), "{pool:?}");
        }
    }
}
