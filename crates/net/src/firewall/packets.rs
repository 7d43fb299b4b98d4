//! Rules for packets: what is dropped, what is rewritten.

use tare_sys::nftables::{
    Change, CtKey, Expression as Do, Family, FibResult, Meta, NatKind, Payload, Register, Verdict,
};

use super::IpFamily;
use super::base::rules;
use super::direct;
use super::element::{Place, Step, name};
use super::forwarding::Shut;
use super::round::{self, Round};
use super::rule::{FOUND, IPV4, IPV6, Part, Rule, when};
use super::tables;
use crate::link::mark::{CLOSED, GROUP};

const ICMP: u8 = 1;
const ICMP6: u8 = 58;
const RTN_LOCAL: u32 = 2;
const INVALID: u32 = 1;
const NEW: u32 = 8;
const ESTABLISHED_OR_RELATED: u32 = 2 | 4;
const DNATED: u32 = 32;
const LO: [u8; 16] = *b"lo\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
const LOOPBACK6: [u8; 16] = std::net::Ipv6Addr::LOCALHOST.octets();
/// First bytes of an IPv4 packet's sender and receiver.
const NETWORK_OF_SOURCE: Payload = Payload::network(12, 1);
const NETWORK_OF_DESTINATION: Payload = Payload::network(16, 1);

/// What is dropped.
pub(super) fn isolation(shut: &[Shut]) -> Vec<Step> {
    // Nearly all packets: what comes before them costs every one. To ask for a group costs least; about links that are in
    // none of ours the names decide.
    let goes_on = |by, elsewhere| {
        when().meta(by, GROUP.to_ne_bytes()).meta_not(elsewhere, CLOSED.to_ne_bytes()).accept()
    };
    let forward = [
        when().not_tracked(CtKey::State, ESTABLISHED_OR_RELATED).goto("begins"),
        goes_on(Meta::OutputGroup, Meta::InputGroup),
        goes_on(Meta::InputGroup, Meta::OutputGroup),
        when().goto("begins"),
    ];
    let published = when().tracked(CtKey::Status, DNATED).meta(Meta::OutputGroup, GROUP.to_ne_bytes());
    let begins = [
        published
            .meta_not(Meta::InputGroup, CLOSED.to_ne_bytes())
            .key(&[Part::Of(Meta::InputName)])
            .outside("internal")
            .outside("carriers")
            .accept(),
        when().input("carriers").goto("carried"),
        when().output("bridges").goto("enters"),
        when().input("bridges").goto("leaves"),
    ];
    let mut forward =
        [rules(Place::Filter, "forward", forward), rules(Place::Filter, "begins", begins)].concat();
    for Shut { family, but, bridges } in shut {
        let is = if *family == IpFamily::V4 { IPV4 } else { IPV6 };
        for link in but {
            let passes = when().family(is).meta(Meta::InputName, name(link)).accept();
            forward.extend(rules(Place::Filter, "begins", [passes]));
        }
        for bridge in bridges {
            let within = when().family(is).meta(Meta::InputName, name(bridge));
            let passes = within.meta(Meta::OutputName, name(bridge)).accept();
            forward.extend(rules(Place::Filter, "begins", [passes]));
        }
        let links = [(Meta::InputGroup, GROUP), (Meta::OutputGroup, GROUP), (Meta::InputGroup, CLOSED)];
        let others = links
            .into_iter()
            .fold(when().family(is), |rule, (meta, group)| rule.meta_not(meta, group.to_ne_bytes()));
        forward.extend(rules(Place::Filter, "begins", [others.drop()]));
    }
    [first(), forward, carriers(), enters(), leaves()].into_iter().flatten().collect()
}

/// Before connection tracking: what no network may bring, whatever else is the case.
fn first() -> Vec<Step> {
    // The name of a link costs more than a byte, of which hardly a packet has this value.
    let loopback = |payload| when().payload(payload, [127]).meta_not(Meta::InputName, LO).drop();
    // Where bridged frames are shown to the rules of packets: they are judged when they come to the root.
    let carried =
        || when().meta(Meta::InputGroup, CLOSED.to_ne_bytes()).input("carriers").then(Do::Untracked).accept();
    let four = [
        when().family(IPV6).goto("first6"),
        loopback(NETWORK_OF_DESTINATION),
        loopback(NETWORK_OF_SOURCE),
        carried(),
    ];
    let six = [carried()];
    [rules(Place::Filter, "first", four), rules(Place::Filter, "first6", six)].concat()
}

/// Further bridges of a large network bring nothing to the host and nothing through it: who is on one sends to the root. What
/// they pass on is seen here where bridged frames are shown to the rules of packets.
fn carriers() -> Vec<Step> {
    let carried = rules(Place::Filter, "carried", [when().output("carriers").accept(), when().drop()]);
    [carried, rules(Place::Filter, "to_host", [when().input("carriers").drop()])].concat()
}

fn enters() -> Vec<Step> {
    let open = |family, to, set: &str| when().family(family).key(&port_at(to)).within(set).accept();
    let on = |set: &str| when().key(&[Part::Of(Meta::OutputName), Part::Of(Meta::Family)]).within(set);
    let names = [Part::Of(Meta::InputName), Part::Of(Meta::OutputName)];
    let goes_on = when()
        .tracked(CtKey::State, ESTABLISHED_OR_RELATED)
        .key(&[Part::Of(Meta::OutputName)])
        .outside("internal")
        .key(&[Part::Of(Meta::InputName)])
        .outside("internal");
    let all = [
        goes_on.accept(),
        when().key(&names).within("within").accept(),
        when().output("internal").drop(),
        when().input("internal").drop(),
        when().tracked(CtKey::Status, DNATED).accept(),
        open(IPV4, Payload::IP_DESTINATION, "open4"),
        open(IPV6, Payload::IP6_DESTINATION, "open6"),
        on("routed").meta(Meta::Transport, [ICMP]).accept(),
        on("routed").meta(Meta::Transport, [ICMP6]).accept(),
        when().input("bridges").drop(),
        on("unprotected").accept(),
        when().drop(),
    ];
    rules(Place::Filter, "enters", all)
}

fn leaves() -> Vec<Step> {
    // What tracking cannot place is not translated either: it would leave with a container's own address.
    let astray = |family, from, set: &str| {
        when().tracked(CtKey::State, INVALID).family(family).key(&[Part::In(from)]).within(set).drop()
    };
    let all = [
        when().input("internal").drop(),
        astray(IPV4, Payload::IP_SOURCE, "shut4"),
        astray(IPV6, Payload::IP6_SOURCE, "shut6"),
    ];
    rules(Place::Filter, "leaves", all)
}

/// What the host's rules on input let in is remembered, and known when it comes again.
///
/// What is remembered and comes to input even so was not translated, and does not go round for ever. Where it cannot be
/// remembered it ends here.
pub(super) fn letting_in() -> Vec<Step> {
    let begins = || when().tracked(CtKey::State, NEW);
    let mut input = rules(Place::Nat, "input", [when().meta(Meta::InputName, LO).accept()]);
    let (mut again, mut remembered) = (Vec::new(), Vec::new());
    for (family, let_in, to, all, one) in [
        (IPV4, "let_in4", Payload::IP_DESTINATION, "ports4", "host_ports4"),
        (IPV6, "let_in6", Payload::IP6_DESTINATION, "ports6", "host_ports6"),
    ] {
        // Only what was round is known by its frame: more of a flow may come meanwhile, and goes round itself.
        let copy = begins().family(family).payload(Payload::ETHER_DESTINATION, round::ASTRAY);
        let known = copy.key(&flow(family)).within(let_in);
        input.extend(rules(Place::Nat, "input", [known.drop()]));
        let at_one = begins().family(family).key(&port_at(to)).mapped(one).goto("let_in");
        let at_all = local(begins().family(family).key(&PORT).mapped(all), Do::Equal).goto("let_in");
        // nft does not show that a map was only asked.
        input.extend([(at_one, one), (at_all, all)].map(|(rule, map)| {
            let note = tables::note(&format!("for ports of {map}"));
            Step { place: Place::Nat, change: Change::AddRule { chain: "input".into(), rule, note } }
        }));
        let remember = when().family(family).key(&flow(family)).remember(let_in);
        remembered.extend(rules(Place::Nat, "let_in", [remember.accept()]));
        // Its frame was for nobody; see `round.rs`.
        let to_host = Do::Constant(vec![round::TO_HOST], Register(0));
        let ours = when().family(family).key(&flow(family)).within(let_in).then(to_host);
        again.extend(rules(Place::Nat, "again", [ours.does(Do::SetMeta(Meta::PacketType, Register(0)))]));
    }
    remembered.extend(rules(Place::Nat, "let_in", [when().drop()]));
    let astray = || [when().meta(Meta::PacketType, [round::MULTICAST]).goto("again")];
    let first = ["first", "first6"].map(|chain| rules(Place::Nat, chain, astray()));
    [first.concat(), again, input, remembered].concat()
}

/// What came to the host, and what its own rules let in: what begins a connection to a published port goes round.
pub(super) fn judged(round: &Round, family: IpFamily) -> Vec<Step> {
    let (place, to, all, one) = match family {
        IpFamily::V4 => (Place::Input4, Payload::IP_DESTINATION, "ports4", "host_ports4"),
        IpFamily::V6 => (Place::Input6, Payload::IP6_DESTINATION, "ports6", "host_ports6"),
    };
    let gateway = match family {
        IpFamily::V4 => round::TO.octets().to_vec(),
        IpFamily::V6 => round::TO6.octets().to_vec(),
    };
    let begins = || when().tracked(CtKey::State, NEW);
    let input = [
        // It was round already, and its port is published no longer.
        when().meta(Meta::InputName, name(&round.back)).drop(),
        when().meta(Meta::InputName, LO).accept(),
        begins().key(&port_at(to)).within(one).goto("round"),
        local(begins().key(&PORT).within(all), Do::Equal).goto("round"),
    ];
    let copy = when()
        .then(Do::Constant(gateway, Register(0)))
        .then(Do::Constant(round.out.to_ne_bytes().into(), Register(FOUND)))
        .then(Do::Copy(Register(0), Register(FOUND)));
    [rules(place, "input", input), rules(place, "round", [copy.drop()])].into_iter().flatten().collect()
}

/// A connection to a container's own address came by its bridge, or by a way that we did not open. The forward hook drops it as
/// well, with everything else that is no part of one: here it is not let into the rules of others before.
fn direct() -> Vec<Step> {
    let direct = |family, to, shut: &str| {
        let by = when().meta_not(Meta::InputGroup, GROUP.to_ne_bytes());
        let elsewhere = by.family(family).key(&[Part::In(to)]).within(shut);
        let not_ours = elsewhere.key(&[Part::Of(Meta::InputName)]).outside("bridges");
        local(not_ours, Do::NotEqual).drop()
    };
    let all =
        [direct(IPV4, Payload::IP_DESTINATION, "shut4"), direct(IPV6, Payload::IP6_DESTINATION, "shut6")];
    rules(Place::Nat, "prerouting", all)
}

/// What is rewritten. What comes from outside is so only once it was let in, if that is asked.
pub(super) fn translation(is_judged: bool) -> Vec<Step> {
    let look = |rule: Rule| [rule.verdict(Verdict::Jump("published".into()))];
    let let_in = |family, set: &str| look(when().family(family).key(&flow(family)).within(set));
    let before = if is_judged {
        let at_once = when().key(&[Part::Of(Meta::Family)]).within(direct::SET);
        [
            rules(Place::Nat, "prerouting", look(at_once)),
            rules(Place::Nat, "prerouting", look(when().input("bridges"))),
            rules(Place::Nat, "prerouting", let_in(IPV4, "let_in4")),
            rules(Place::Nat, "prerouting", let_in(IPV6, "let_in6")),
        ]
        .concat()
    } else {
        rules(Place::Nat, "prerouting", look(when()))
    };
    [before, direct(), rules(Place::Nat, "output", look(when())), published(), postrouting()]
        .into_iter()
        .flatten()
        .collect()
}

/// A port of the host becomes one of a container.
fn published() -> Vec<Step> {
    let four = Do::Nat(NatKind::Destination, Family::Ip, Register(FOUND), Some(Register(FOUND + 1)));
    let six = Do::Nat(NatKind::Destination, Family::Ip6, Register(FOUND), Some(Register(FOUND + 4)));
    let at_one = |family, to, map: &str| when().family(family).key(&port_at(to)).mapped(map);
    let at_all = |family, map: &str| local(when().family(family).key(&PORT).mapped(map), Do::Equal);
    let all = [
        at_one(IPV4, Payload::IP_DESTINATION, "host_ports4").does(four.clone()),
        at_all(IPV4, "ports4").does(four),
        // A packet with that sender cannot leave by another link.
        when().family(IPV6).payload(Payload::IP6_DESTINATION, LOOPBACK6).verdict(Verdict::Return),
        at_one(IPV6, Payload::IP6_DESTINATION, "host_ports6").does(six.clone()),
        at_all(IPV6, "ports6").does(six),
    ];
    rules(Place::Nat, "published", all)
}

/// Senders: of what leaves, and of what comes back into a bridge where it could not be answered otherwise.
fn postrouting() -> Vec<Step> {
    let from = |family, from, set: &str| {
        when().family(family).key(&[Part::In(from)]).within(set).does(Do::Masquerade)
    };
    let chosen = |family, kind, from, map: &str| {
        let source = Do::Nat(NatKind::Source, kind, Register(FOUND), None);
        when().family(family).key(&[Part::In(from)]).mapped(map).does(source)
    };
    let out = [
        when().output("bridges").goto("inward"),
        chosen(IPV4, Family::Ip, Payload::IP_SOURCE, "source4"),
        chosen(IPV6, Family::Ip6, Payload::IP6_SOURCE, "source6"),
        from(IPV4, Payload::IP_SOURCE, "nat4"),
        from(IPV6, Payload::IP6_SOURCE, "nat6"),
    ];
    let inward = [
        when().not_tracked(CtKey::Status, DNATED).accept(),
        from(IPV4, Payload::IP_SOURCE, "nat4"),
        from(IPV6, Payload::IP6_SOURCE, "nat6"),
        when().family(IPV4).payload(NETWORK_OF_SOURCE, [127]).does(Do::Masquerade),
    ];
    [rules(Place::Nat, "postrouting", out), rules(Place::Nat, "inward", inward)]
        .into_iter()
        .flatten()
        .collect()
}

const PORT: [Part; 2] = [Part::Of(Meta::Transport), Part::In(Payload::DESTINATION_PORT)];

/// Who sends to whom, and by which ports.
fn flow(family: u8) -> [Part; 5] {
    let (from, to) = match family {
        IPV4 => (Payload::IP_SOURCE, Payload::IP_DESTINATION),
        _ => (Payload::IP6_SOURCE, Payload::IP6_DESTINATION),
    };
    let [protocol, port] = PORT;
    [Part::In(from), Part::In(Payload::SOURCE_PORT), Part::In(to), protocol, port]
}

/// A port of an address.
fn port_at(address: Payload) -> [Part; 3] {
    let [protocol, port] = PORT;
    [Part::In(address), protocol, port]
}

/// The receiver is an address of the host's, or is not.
fn local(rule: Rule, compare: fn(Register, Vec<u8>) -> Do) -> Rule {
    let result = Register(0);
    rule.then(Do::Fib(FibResult::DestinationType, result))
        .then(compare(result, RTN_LOCAL.to_ne_bytes().into()))
}
