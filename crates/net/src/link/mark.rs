//! Names of links on the host, and how ours are known from others'.
//!
//! A link's name has at most 15 bytes. Ours begin with `br-` (or are what the user chose), `dm-`, or `t` and a letter, and go on
//! with digits of random ids.

use tare_model::network::{Mac, Network};
use tare_sys::netlink::link::Link;

/// Links that others' packets pass are in the group of this number: bridges of all engines that something goes out of.
pub(crate) const GROUP: u32 = 29_793;
/// The same of bridges that nothing goes through: those of internal networks, and leaves.
pub(crate) const CLOSED: u32 = 29_794;
/// What names of leaves begin with.
const LEAF: &str = "tleaf";

/// What aliases of networks' links begin with.
const ALIAS: &str = "tare network ";

/// A leaf's own name, and those of the ends of its uplink at the root and at the leaf.
pub(super) struct Leaf {
    pub(super) bridge: String,
    pub(super) at_root: String,
    pub(super) at_leaf: String,
}

/// The host's end of an endpoint's pair: `tv` and 13 digits of the endpoint's id, which is drawn anew at each start, so that
/// the link of a namespace that is still dying is in nobody's way.
pub fn host_name(endpoint_id: &str) -> String {
    format!("tv{}", endpoint_id.get(..13).unwrap_or(endpoint_id))
}

/// What the names of all leaves of a network begin with, and those of nothing else: two digits follow.
pub(crate) fn leaves(network: &Network) -> String {
    format!("{LEAF}{}", &network.id.as_str()[..8])
}

/// Of a network's leaf.
pub(super) fn leaf(network: &Network, number: usize) -> Leaf {
    let id = network.id.as_str();
    let name = |kind| format!("t{kind}{}{number:02x}", &id[..10]);
    let bridge = format!("{}{number:02x}", leaves(network));
    Leaf { bridge, at_root: name('u'), at_leaf: name('d') }
}

/// Of the link that leads nowhere, on which a network without a parent is.
pub(super) fn dummy(network: &Network) -> String {
    format!("dm-{}", network.id.short())
}

/// Of the link through which what is limited on a network passes.
pub(crate) fn shaper(network: &Network) -> String {
    format!("ts{}", network.id.short())
}

/// What the alias of a network's links says.
pub(crate) fn alias(network: &Network) -> String {
    format!("{ALIAS}{}", network.id)
}

/// The MAC of a network's bridge, or of its leaf of that number. That a bridge has one of its own keeps it from taking that of
/// one of its ports, which would change as containers come and go, and every neighbour would have to learn it anew.
pub(super) fn mac(network: &Network, leaf: Option<usize>) -> Mac {
    let digits = network.id.as_str();
    let byte = |place: usize| u8::from_str_radix(&digits[place * 2..place * 2 + 2], 16).unwrap_or(0);
    // 0a and 0e: local, and apart from those of containers, 02 and 06.
    match leaf {
        None => Mac([0x0a, byte(0), byte(1), byte(2), byte(3), byte(4)]),
        Some(number) => Mac([0x0e, byte(0), byte(1), byte(2), byte(3), number.to_le_bytes()[0]]),
    }
}

/// The bridge is ours: it has our MAC from its first moment, and our alias since soon after.
pub(super) fn is_ours(link: &Link, network: &Network, leaf: Option<usize>) -> bool {
    link.kind == "bridge" && (link.alias == alias(network) || link.mac == Some(mac(network, leaf).0))
}

/// The bridge is some engine's: it has our group, before that our alias, and before that a name and a MAC of the same digits.
pub(crate) fn is_some_engines(link: &Link) -> bool {
    let digits = |mac: [u8; 6]| mac[1..].iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let begun = |mac: [u8; 6]| mac[0] == 0x0a && link.name.starts_with(&format!("br-{}", digits(mac)));
    [GROUP, CLOSED].contains(&link.group)
        || link.alias.starts_with(ALIAS)
        || link.name.starts_with(LEAF)
        || link.mac.is_some_and(begun)
}

/// The port is an end of an uplink.
pub(super) fn is_uplink(name: &str) -> bool {
    name.starts_with("tu") || name.starts_with("td")
}
