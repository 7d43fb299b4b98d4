//! Nobody gets what another has, and nobody soon what another had.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use proptest::prelude::*;
use tare_model::error::ErrorKind;
use tare_model::id::NetworkId;
use tare_model::network::{Network, NetworkConfig, Pool};

use super::{Addresses, Family, mac_of};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn pool(subnet: &str, range: &str, gateway: &str, auxiliary: &[&str]) -> Pool {
    let named = |(place, text): (usize, &&str)| (format!("a{place}"), ip(text));
    Pool {
        subnet: subnet.parse().unwrap(),
        range: range.parse().unwrap(),
        gateway: Some(ip(gateway)),
        auxiliary: auxiliary.iter().enumerate().map(named).collect::<BTreeMap<_, _>>(),
        chosen: false,
    }
}

fn of(pools: Vec<Pool>) -> Addresses {
    let config = NetworkConfig { name: "web".into(), ..Default::default() };
    Addresses::new(&Network { id: NetworkId::from_bytes([7; 32]), config, pools, created: 0 })
}

fn take(addresses: &mut Addresses, family: Family) -> String {
    addresses.take(family).unwrap().unwrap().to_string()
}

#[test]
fn what_the_network_needs_itself_is_not_given() {
    let mut addresses = of(vec![pool("10.0.0.0/29", "10.0.0.0/29", "10.0.0.1", &["10.0.0.3"])]);
    let given: Vec<String> = (0..4).map(|_| take(&mut addresses, Family::V4)).collect();
    assert_eq!(given, ["10.0.0.2/29", "10.0.0.4/29", "10.0.0.5/29", "10.0.0.6/29"]);
    let full = addresses.take(Family::V4).unwrap_err();
    assert_eq!(full.kind(), ErrorKind::Conflict);
    assert!(full.message().contains("network web"), "{full}");
    for own in ["10.0.0.0", "10.0.0.1", "10.0.0.3", "10.0.0.7"] {
        assert_eq!(addresses.reserve(ip(own)).unwrap_err().kind(), ErrorKind::Forbidden, "{own}");
        assert!(!addresses.free(ip(own)), "{own}");
    }
    assert_eq!(addresses.take(Family::V6).unwrap(), None);
}

#[test]
fn how_full_a_subnet_is_can_be_asked() {
    let mut addresses = of(vec![
        pool("10.0.0.0/24", "10.0.0.128/25", "10.0.0.1", &["10.0.0.130"]),
        pool("fd00::/64", "fd00::/64", "fd00::1", &[]),
    ]);
    let (four, six) = ("10.0.0.0/24".parse().unwrap(), "fd00::/64".parse().unwrap());
    // Network, broadcast, gateway, auxiliary; the last two of the range are one of these each.
    assert_eq!(addresses.usage(four), (4, 126));
    take(&mut addresses, Family::V4);
    take(&mut addresses, Family::V6);
    addresses.reserve(ip("10.0.0.77")).unwrap();
    assert_eq!(addresses.usage(four), (6, 125));
    assert!(addresses.usage(six).1 > u64::MAX - 8);
    addresses.free(ip("10.0.0.128"));
    assert_eq!(addresses.usage(four), (5, 126));
    assert_eq!(addresses.usage("10.1.0.0/24".parse().unwrap()), (0, 0));
}

#[test]
fn a_freed_address_is_given_again_last() {
    let mut addresses = of(vec![pool("10.0.0.0/29", "10.0.0.0/29", "10.0.0.1", &[])]);
    assert_eq!(take(&mut addresses, Family::V4), "10.0.0.2/29");
    assert!(addresses.free(ip("10.0.0.2")));
    for next in ["10.0.0.3/29", "10.0.0.4/29", "10.0.0.5/29", "10.0.0.6/29", "10.0.0.2/29"] {
        assert_eq!(take(&mut addresses, Family::V4), next);
    }
}

#[test]
fn addresses_asked_for_may_lie_outside_of_the_range() {
    let mut addresses = of(vec![pool("10.0.0.0/16", "10.0.5.0/24", "10.0.0.1", &[])]);
    assert_eq!(addresses.reserve(ip("10.0.9.9")).unwrap().to_string(), "10.0.9.9/16");
    assert_eq!(addresses.reserve(ip("10.0.9.9")).unwrap_err().kind(), ErrorKind::Forbidden);
    assert_eq!(addresses.reserve(ip("10.1.0.1")).unwrap_err().kind(), ErrorKind::InvalidInput);
    let given: Vec<String> = (0..256).map(|_| take(&mut addresses, Family::V4)).collect();
    assert_eq!((given[0].as_str(), given[255].as_str()), ("10.0.5.0/16", "10.0.5.255/16"));
    addresses.take(Family::V4).unwrap_err();
}

#[test]
fn a_second_subnet_is_used_when_the_first_is_full() {
    let mut addresses = of(vec![
        pool("10.0.0.0/30", "10.0.0.0/30", "10.0.0.1", &[]),
        pool("10.0.1.0/30", "10.0.1.0/30", "10.0.1.1", &[]),
    ]);
    assert_eq!(take(&mut addresses, Family::V4), "10.0.0.2/30");
    assert_eq!(take(&mut addresses, Family::V4), "10.0.1.2/30");
    addresses.take(Family::V4).unwrap_err();
}

#[test]
fn the_ends_of_the_address_space_hold() {
    let last = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
    let subnet = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffc/126";
    let gateway = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffd";
    let mut addresses = of(vec![pool(subnet, subnet, gateway, &[])]);
    take(&mut addresses, Family::V6);
    assert_eq!(take(&mut addresses, Family::V6), format!("{last}/126"));
    addresses.take(Family::V6).unwrap_err();
}

#[test]
fn tens_of_thousands_are_given_fast_and_all_differ() {
    let started = std::time::Instant::now();
    let mut addresses = of(vec![
        pool("10.0.0.0/16", "10.0.0.0/16", "10.0.0.1", &[]),
        pool("fd00::/64", "fd00::/64", "fd00::1", &[]),
    ]);
    let mut seen = BTreeSet::new();
    let mut macs = BTreeSet::new();
    for _ in 0..65_533 {
        for family in [Family::V4, Family::V6] {
            let address = addresses.take(family).unwrap().unwrap().addr();
            assert!(macs.insert(mac_of(address)), "{address}");
            assert!(seen.insert(address), "{address}");
        }
    }
    addresses.take(Family::V4).unwrap_err();
    assert!(addresses.free(ip("10.0.77.7")));
    assert_eq!(take(&mut addresses, Family::V4), "10.0.77.7/16");
    // Linear search would take minutes.
    assert!(started.elapsed().as_secs() < 20, "{:?}", started.elapsed());
}

#[test]
fn macs_are_dockers_for_ipv4_and_always_local_and_of_one() {
    assert_eq!(mac_of(ip("172.17.0.2")).to_string(), "02:42:ac:11:00:02");
    for text in ["255.255.255.255", "fd00::2", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"] {
        let first = mac_of(ip(text)).0[0];
        assert_eq!(first & 3, 2, "{text}");
    }
    assert_ne!(mac_of(ip("fd00::2")), mac_of(ip("fd00::3")));
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Take,
    Reserve(u8),
    Free(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![Just(Step::Take), any::<u8>().prop_map(Step::Reserve), any::<u8>().prop_map(Step::Free)]
}

proptest! {
    /// Against the plainest thing that could be right: a set, and a search from the last one given.
    #[test]
    fn it_does_as_a_set_would(steps in prop::collection::vec(step(), 0..400)) {
        let mut addresses = of(vec![pool("10.0.0.0/26", "10.0.0.32/27", "10.0.0.33", &["10.0.0.40"])]);
        let own = [0, 33, 40, 63];
        let mut held: BTreeSet<u8> = BTreeSet::new();
        let mut last = 31;
        let low = |ip: IpAddr| match ip { IpAddr::V4(ip) => ip.octets()[3], IpAddr::V6(_) => 0 };
        for step in steps {
            match step {
                Step::Take => {
                    let free = |n: &u8| !held.contains(n) && !own.contains(n);
                    let expected = (last + 1..64).find(free).or_else(|| (32..64).find(free));
                    let found = addresses.take(Family::V4).ok().flatten().map(|net| low(net.addr()));
                    prop_assert_eq!(found, expected);
                    held.extend(found);
                    last = found.unwrap_or(last);
                }
                Step::Reserve(n) => {
                    let expected = n < 64 && !own.contains(&n) && !held.contains(&n);
                    prop_assert_eq!(addresses.reserve(IpAddr::from([10, 0, 0, n])).is_ok(), expected);
                    if expected { held.insert(n); }
                }
                Step::Free(n) => prop_assert_eq!(addresses.free(IpAddr::from([10, 0, 0, n])), held.remove(&n)),
            }
        }
    }
}
