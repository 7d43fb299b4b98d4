//! The part of the tables that never changes: sets, chains and rules. What changes are elements of the sets.

use tare_sys::nftables::{Chain, Change, Expression as Do, Field, Forgets, Hook, MapData, Set, SetFlags};

use super::element::{Place, Step};
use super::forwarding::Shut;
use super::round::Round;
use super::{IpFamily, direct, frames, packets};

const PREROUTING: u32 = 0;
pub(super) const INPUT: u32 = 1;
const FORWARD: u32 = 2;
const OUTPUT: u32 = 3;
const POSTROUTING: u32 = 4;
/// Before connection tracking.
const RAW: i32 = -300;
const FILTER: i32 = 0;
const DNAT: i32 = -100;
const SNAT: i32 = 100;
/// Behind everybody's filter: only the kernel's own last hook comes later.
const LAST: i32 = 1_000_000_000;
/// How long what was let in may be on its way round, in milliseconds, and how much of it at a time.
const ON_THE_WAY: Forgets = Forgets { after: 1000, room: 65_535 };
/// Before `br_netfilter` shows frames to the rules of the host.
const BRIDGE_EARLY: i32 = -300;
const BRIDGE_FILTER: i32 = -200;

/// All sets, chains and rules; of the families in `shut` nothing is forwarded that does not concern our bridges. With a
/// `round` the host's rules on input decide about published ports. Containers of some networks are kept `apart`.
pub(super) fn steps(shut: &[Shut], round: Option<&Round>, apart: bool) -> Vec<Step> {
    let parts = [
        sets(),
        maps(),
        chains(),
        packets::isolation(shut),
        round.map(|_| letting_in()).unwrap_or_default(),
        packets::translation(round.is_some()),
        frames::senders(apart),
        round.map(judged).unwrap_or_default(),
    ];
    parts.into_iter().flatten().collect()
}

/// Rules at the end of a chain.
pub(super) fn rules<const N: usize>(place: Place, chain: &str, rules: [Vec<Do>; N]) -> Vec<Step> {
    let rule = |rule| Change::AddRule { chain: chain.into(), rule, note: Vec::new() };
    rules.into_iter().map(|one| Step { place, change: rule(one) }).collect()
}

/// What was let in and is on its way round, and who sees to it.
fn letting_in() -> Vec<Step> {
    use Field::{Family, Ip, Ip6, Port, Transport};
    let place = Place::Nat;
    let set = |name: &str, key, forgets| {
        let set = Set { name: name.into(), flags: SetFlags::NONE, key, data: None, forgets: Some(forgets) };
        Step { place, change: Change::AddSet(set) }
    };
    let flow = |address| vec![address, Port, address, Transport, Port];
    let chain =
        |name: &str, hook| Step { place, change: Change::AddChain(Chain { name: name.into(), hook }) };
    let filter =
        |number, priority| Some(Hook { kind: "filter", number, priority, drop: false, device: None });
    let mut steps = vec![
        set(direct::SET, vec![Family], direct::LEASE),
        set("let_in4", flow(Ip), ON_THE_WAY),
        set("let_in6", flow(Ip6), ON_THE_WAY),
        chain("again", None),
        chain("input", filter(INPUT, LAST - 1)),
        chain("let_in", None),
    ];
    steps.extend(packets::letting_in());
    steps
}

/// The tables of what comes to the host.
fn judged(round: &Round) -> Vec<Step> {
    use Field::{Ip, Ip6, Port, Transport};
    let of = |place, address, all: &str, one: &str| {
        let set = |name: &str, key: &[Field]| Step {
            place,
            change: Change::AddSet(Set {
                name: name.into(),
                flags: SetFlags::NONE,
                key: key.into(),
                data: None,
                forgets: None,
            }),
        };
        let hook = Some(Hook { kind: "filter", number: INPUT, priority: LAST, drop: false, device: None });
        let chain =
            |name: &str, hook| Step { place, change: Change::AddChain(Chain { name: name.into(), hook }) };
        vec![
            set(all, &[Transport, Port]),
            set(one, &[address, Transport, Port]),
            chain("input", hook),
            chain("round", None),
        ]
    };
    let mut steps = of(Place::Input4, Ip, "ports4", "host_ports4");
    steps.extend(packets::judged(round, IpFamily::V4));
    if round.six {
        steps.extend(of(Place::Input6, Ip6, "ports6", "host_ports6"));
        steps.extend(packets::judged(round, IpFamily::V6));
    }
    steps
}

fn sets() -> Vec<Step> {
    use Field::{Ether, Family, Ip, Ip6, Link, LinkName, Port, Transport};
    let set = |place, name: &str, key: &[Field]| {
        let flags = if ["shut", "nat", "carriers"].iter().any(|kind| name.starts_with(kind)) {
            SetFlags::INTERVAL
        } else {
            SetFlags::NONE
        };
        Step {
            place,
            change: Change::AddSet(Set {
                name: name.into(),
                flags,
                key: key.to_vec(),
                data: None,
                forgets: None,
            }),
        }
    };
    vec![
        set(Place::Filter, "bridges", &[LinkName]),
        set(Place::Filter, "carriers", &[LinkName]),
        set(Place::Filter, "internal", &[LinkName]),
        set(Place::Filter, "within", &[LinkName, LinkName]),
        set(Place::Filter, "routed", &[LinkName, Family]),
        set(Place::Filter, "unprotected", &[LinkName, Family]),
        set(Place::Filter, "shut4", &[Ip]),
        set(Place::Filter, "shut6", &[Ip6]),
        set(Place::Filter, "open4", &[Ip, Transport, Port]),
        set(Place::Filter, "open6", &[Ip6, Transport, Port]),
        set(Place::Nat, "nat4", &[Ip]),
        set(Place::Nat, "nat6", &[Ip6]),
        set(Place::Frames, "links", &[Link]),
        set(Place::Frames, "apart", &[Link]),
        set(Place::Frames, "senders4", &[Link, Ether, Ip]),
        set(Place::Frames, "senders6", &[Link, Ether, Ip6]),
        set(Place::Frames, "owners4", &[Link, Ip]),
        set(Place::Frames, "owners6", &[Link, Ip6]),
    ]
}

fn maps() -> Vec<Step> {
    use Field::{Ip, Ip6, Port, Transport};
    let map = |name: &str, flags, key: &[Field], data: &[Field]| {
        let data = Some(MapData::Fields(data.to_vec()));
        let set = Set { name: name.into(), flags, key: key.to_vec(), data, forgets: None };
        Step { place: Place::Nat, change: Change::AddSet(set) }
    };
    let (plain, ranges) = (SetFlags::NONE, SetFlags::INTERVAL);
    vec![
        map("source4", ranges, &[Ip], &[Ip]),
        map("source6", ranges, &[Ip6], &[Ip6]),
        map("ports4", plain, &[Transport, Port], &[Ip, Port]),
        map("ports6", plain, &[Transport, Port], &[Ip6, Port]),
        map("host_ports4", plain, &[Ip, Transport, Port], &[Ip, Port]),
        map("host_ports6", plain, &[Ip6, Transport, Port], &[Ip6, Port]),
    ]
}

fn chains() -> Vec<Step> {
    let chain =
        |place, name: &str, hook| Step { place, change: Change::AddChain(Chain { name: name.into(), hook }) };
    let hooked = |place, name, kind, number, priority| {
        chain(place, name, Some(Hook { kind, number, priority, drop: false, device: None }))
    };
    vec![
        hooked(Place::Filter, "first", "filter", PREROUTING, RAW),
        hooked(Place::Filter, "forward", "filter", FORWARD, FILTER),
        hooked(Place::Filter, "to_host", "filter", INPUT, FILTER),
        chain(Place::Filter, "first6", None),
        chain(Place::Filter, "begins", None),
        chain(Place::Filter, "carried", None),
        chain(Place::Filter, "enters", None),
        chain(Place::Filter, "leaves", None),
        hooked(Place::Nat, "prerouting", "nat", PREROUTING, DNAT),
        hooked(Place::Nat, "output", "nat", OUTPUT, DNAT),
        hooked(Place::Nat, "postrouting", "nat", POSTROUTING, SNAT),
        chain(Place::Nat, "published", None),
        chain(Place::Nat, "inward", None),
        hooked(Place::Frames, "prerouting", "filter", PREROUTING, BRIDGE_EARLY),
        hooked(Place::Frames, "forward", "filter", FORWARD, BRIDGE_FILTER),
        hooked(Place::Frames, "output", "filter", OUTPUT, BRIDGE_FILTER),
        chain(Place::Frames, "asked", None),
        chain(Place::Frames, "sent", None),
        chain(Place::Frames, "sent_arp", None),
        chain(Place::Frames, "sent_ip6", None),
        chain(Place::Frames, "sent_nobody", None),
        chain(Place::Frames, "sent_neighbour", None),
    ]
}
