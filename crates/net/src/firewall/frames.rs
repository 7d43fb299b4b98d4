//! Rules for frames: a container sends as itself. Whatever is not known to be in order is dropped.
//!
//! Who is asked for by ARP or neighbour discovery hears it, and nobody else: a bridge tells all ports, and with more than a
//! thousand of them the kernel's queue for such copies (`netdev_max_backlog`) overflows and takes the answers along.

use tare_sys::nftables::{Expression, Meta, Payload};

use super::base::rules;
use super::element::{Place, Step};
use super::rule::{Part, Rule, when};

const ETHER_IP: [u8; 2] = [0x08, 0x00];
const ETHER_ARP: [u8; 2] = [0x08, 0x06];
const ETHER_IP6: [u8; 2] = [0x86, 0xdd];
const ICMP6: u8 = 58;
const ARP_REQUEST: [u8; 2] = [0, 1];
/// Queries are not among them: who wants to know listens.
const LISTENER_REPORTS: [u8; 3] = [131, 132, 143];
const ROUTER_SOLICITATION: u8 = 133;
const ROUTER_ADVERTISEMENT: u8 = 134;
const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
const REDIRECT: u8 = 137;

/// Who may send what; where containers of some networks are kept `apart`, to whom.
pub(super) fn senders(apart: bool) -> Vec<Step> {
    let carries = |what: [u8; 2]| when().payload(Payload::ETHER_TYPE, what);
    let between = when().key(&[Part::Of(Meta::InputIndex)]).within("apart");
    let kept_apart = between.key(&[Part::Of(Meta::OutputIndex)]).within("apart").drop();
    let parts = [
        rules(
            Place::Frames,
            "prerouting",
            // Nearly all frames: what comes before them costs every one.
            [
                carries(ETHER_IP)
                    .key(&sender(Payload::ETHER_SOURCE, Payload::IP_SOURCE))
                    .within("senders4")
                    .accept(),
                when().key(&[Part::Of(Meta::InputIndex)]).within("links").goto("sent"),
            ],
        ),
        if apart { rules(Place::Frames, "forward", [kept_apart]) } else { Vec::new() },
        rules(Place::Frames, "forward", [ip(), to_container()]),
        rules(Place::Frames, "output", [ip(), to_container()]),
        asked(),
        rules(
            Place::Frames,
            "sent",
            [
                carries(ETHER_IP6).goto("sent_ip6"),
                carries(ETHER_ARP).goto("sent_arp"),
                when().drop(), // IPv4 of others, and frames with tags of VLANs
            ],
        ),
        arp(),
        ip6(),
    ];
    parts.into_iter().flatten().collect()
}

/// Frames of IPv4: who sends them was looked at before, and there is none with the tag of a VLAN among them.
fn ip() -> Vec<Expression> {
    when().meta(Meta::Protocol, ETHER_IP).accept()
}

fn to_container() -> Vec<Expression> {
    when().key(&[Part::Of(Meta::OutputIndex)]).within("links").goto("asked")
}

/// A question for a neighbour on its way to a container. The uplinks of a network's bridges are not among the links.
fn asked() -> Vec<Step> {
    let arp = when().payload(Payload::ETHER_TYPE, ETHER_ARP).payload(Payload::ARP_OPERATION, ARP_REQUEST);
    let icmp = |kind: u8| {
        let ip6 = when().payload(Payload::ETHER_TYPE, ETHER_IP6).meta(Meta::Transport, [ICMP6]);
        ip6.payload(Payload::ICMP_TYPE, [kind])
    };
    let for_other = |rule: Rule, target, owners: &str| {
        rule.key(&[Part::Of(Meta::OutputIndex), Part::In(target)]).outside(owners).drop()
    };
    let [report, done, report2] = LISTENER_REPORTS.map(|kind| icmp(kind).drop());
    let all = [
        for_other(arp, Payload::ARP_IP_TARGET, "owners4"),
        for_other(icmp(NEIGHBOUR_SOLICITATION), Payload::ND_TARGET, "owners6"),
        // No container is a router, and no bridge of ours counts listeners.
        icmp(ROUTER_SOLICITATION).drop(),
        report,
        done,
        report2,
    ];
    rules(Place::Frames, "asked", all)
}

/// Both the frame and what it says are from the container.
fn arp() -> Vec<Step> {
    let says = sender(Payload::ARP_ETHER_SOURCE, Payload::ARP_IP_SOURCE);
    let honest = own(Payload::ARP_IP_SOURCE, "senders4").key(&says).within("senders4");
    rules(Place::Frames, "sent_arp", [honest.accept(), when().drop()])
}

fn ip6() -> Vec<Step> {
    let icmp = |kind: u8| when().meta(Meta::Transport, [ICMP6]).payload(Payload::ICMP_TYPE, [kind]);
    let source = sender(Payload::ETHER_SOURCE, Payload::IP6_SOURCE);
    let sent = [
        when().payload(Payload::IP6_SOURCE, [0; 16]).goto("sent_nobody"),
        when().key(&source).outside("senders6").drop(),
        when().meta_not(Meta::Transport, [ICMP6]).accept(),
        icmp(ROUTER_ADVERTISEMENT).drop(),
        icmp(REDIRECT).drop(),
        icmp(NEIGHBOUR_ADVERTISEMENT).goto("sent_neighbour"),
        when().meta(Meta::Transport, [ICMP6]).accept(),
        // Headers that the kernel could not follow here it may follow elsewhere.
        when().drop(),
    ];
    // Whether an address is taken is asked by one who has none yet.
    let asks = [icmp(NEIGHBOUR_SOLICITATION).key(&source).within("senders6").accept(), when().drop()];
    let answers = [own(Payload::ND_TARGET, "senders6").accept(), when().drop()];
    let parts = [
        rules(Place::Frames, "sent_ip6", sent),
        rules(Place::Frames, "sent_nobody", asks),
        rules(Place::Frames, "sent_neighbour", answers),
    ];
    parts.into_iter().flatten().collect()
}

/// An address is one of those of the link and of the frame's sender.
fn own(address: Payload, set: &str) -> Rule {
    when().key(&sender(Payload::ETHER_SOURCE, address)).within(set)
}

fn sender(mac: Payload, address: Payload) -> [Part; 3] {
    [Part::Of(Meta::InputIndex), Part::In(mac), Part::In(address)]
}
