//! What rules are made of: expressions that load registers, compare them, and decide.

use crate::netlink::Request;

const ELEMENT: u16 = 1;
const NAME: u16 = 1;
const DATA: u16 = 2;
const DATA_VALUE: u16 = 1;
const DATA_VERDICT: u16 = 2;
const VERDICT_CODE: u16 = 1;
const VERDICT_CHAIN: u16 = 2;
const REGISTER_VERDICT: u32 = 0;
const REGISTER_FIRST: u32 = 8;

/// One of the 16 registers of four bytes; what is longer goes on in the next ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Register(pub u8);

/// A value or a verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// Bytes as they stand in a packet.
    Value(Vec<u8>),
    /// What becomes of the packet.
    Verdict(Verdict),
}

/// What becomes of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It vanishes.
    Drop,
    /// This table has no objection.
    Accept,
    /// The rules of a chain, then the next rule here.
    Jump(String),
    /// The rules of a chain instead of the rest here.
    Goto(String),
    /// Back to where this chain was jumped to.
    Return,
}

/// What is known of a packet beside its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meta {
    /// Index of the device that it came in by.
    InputIndex = 4,
    /// Index of the device that it leaves by.
    OutputIndex = 5,
    /// Name of the device that it came in by; 16 bytes.
    InputName = 6,
    /// Name of the device that it leaves by; 16 bytes.
    OutputName = 7,
    /// Its mark.
    Mark = 3,
    /// `NFPROTO_*`; 1 byte.
    Family = 15,
    /// `IPPROTO_*`; 1 byte.
    Transport = 16,
    /// `ETH_P_*`; 2 bytes.
    Protocol = 1,
    /// Number of the group of the device that it came in by.
    InputGroup = 21,
    /// Number of the group of the device that it leaves by.
    OutputGroup = 22,
    /// `PACKET_*`, for whom its frame was: the host is 0, a multicast 2; 1 byte.
    PacketType = 19,
}

/// A piece of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Payload {
    base: u32,
    offset: u32,
    length: u32,
}

/// What connection tracking knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CtKey {
    /// `NF_CT_STATE_BIT`s: invalid 1, established 2, related 4, new 8.
    State = 0,
    /// `IPS_*` bits: source translated 16, destination translated 32.
    Status = 2,
    /// The connection's mark.
    Mark = 3,
}

/// What a look into the routing table gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FibResult {
    /// `RTN_*` of the destination address: local is 2.
    DestinationType,
    /// Index of the device by which the source would be reached; 0: none.
    SourceDevice,
}

/// Which address is rewritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NatKind {
    /// The sender's.
    Source = 0,
    /// The receiver's.
    Destination = 1,
}

/// One expression of a rule. A rule ends at the first comparison that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expression {
    /// Loads what is known of the packet.
    Meta(Meta, Register),
    /// Sets what is known of the packet.
    SetMeta(Meta, Register),
    /// Loads a piece of the packet.
    Payload(Payload, Register),
    /// Loads what connection tracking knows.
    Ct(CtKey, Register),
    /// Looks into the routing table.
    Fib(FibResult, Register),
    /// Loads a constant.
    Constant(Vec<u8>, Register),
    /// Register and mask, xor value.
    Bitwise(Register, Vec<u8>, Vec<u8>),
    /// The register is this.
    Equal(Register, Vec<u8>),
    /// The register is not this.
    NotEqual(Register, Vec<u8>),
    /// The key in the register is in the set.
    In(String, Register),
    /// The key in the register is not in the set.
    NotIn(String, Register),
    /// Loads what the map has for the key in the first register.
    Map(String, Register, Register),
    /// Does what the map has for the key.
    VerdictMap(String, Register),
    /// Adds the key to a set that forgets, or lets it begin anew there. The rule ends here if the set is full.
    Remember(String, Register),
    /// Decides.
    Verdict(Verdict),
    /// Rewrites an address, and a port if one is loaded.
    Nat(NatKind, super::Family, Register, Option<Register>),
    /// Rewrites the sender to the address of the device that the packet leaves by.
    Masquerade,
    /// Sends a copy, untracked, to the address in the first register by the link in the second. Only of families `ip` and
    /// `ip6`.
    Copy(Register, Register),
    /// Connection tracking looks away from the packet.
    Untracked,
    /// Counts packets and bytes.
    Counter,
    /// Answers that nobody is there (`icmpx port-unreachable`, or a TCP reset).
    Reject {
        /// By a TCP reset.
        reset: bool,
    },
}

// === impl Register ===

impl Register {
    fn number(self) -> u32 {
        REGISTER_FIRST + u32::from(self.0)
    }
}

// === impl Data ===

impl Data {
    /// A value.
    pub fn value(bytes: impl Into<Vec<u8>>) -> Self {
        Self::Value(bytes.into())
    }

    pub(super) fn put(&self, request: &mut Request) {
        match self {
            Self::Value(bytes) => request.put(DATA_VALUE, bytes),
            Self::Verdict(verdict) => request.nest(DATA_VERDICT, |inside| verdict.put(inside)),
        };
    }
}

// === impl Verdict ===

impl Verdict {
    fn put(&self, request: &mut Request) {
        let (code, chain) = match self {
            Self::Drop => (0, None),
            Self::Accept => (1, None),
            Self::Jump(chain) => (-3, Some(chain)),
            Self::Goto(chain) => (-4, Some(chain)),
            Self::Return => (-5_i32, None),
        };
        request.put(VERDICT_CODE, &code.to_be_bytes());
        if let Some(chain) = chain {
            request.put_str(VERDICT_CHAIN, chain);
        }
    }
}

// === impl Meta ===

impl Meta {
    /// How many registers it takes.
    pub fn registers(self) -> u8 {
        if matches!(self, Self::InputName | Self::OutputName) { 4 } else { 1 }
    }
}

// === impl Payload ===

impl Payload {
    /// The sender's IPv4 address.
    pub const IP_SOURCE: Self = Self::network(12, 4);
    /// The receiver's IPv4 address.
    pub const IP_DESTINATION: Self = Self::network(16, 4);
    /// The sender's IPv6 address.
    pub const IP6_SOURCE: Self = Self::network(8, 16);
    /// The receiver's IPv6 address.
    pub const IP6_DESTINATION: Self = Self::network(24, 16);
    /// The sender's port.
    pub const SOURCE_PORT: Self = Self::transport(0, 2);
    /// The receiver's port.
    pub const DESTINATION_PORT: Self = Self::transport(2, 2);
    /// The receiver's hardware address.
    pub const ETHER_DESTINATION: Self = Self { base: 0, offset: 0, length: 6 };
    /// The sender's hardware address.
    pub const ETHER_SOURCE: Self = Self { base: 0, offset: 6, length: 6 };
    /// The sender's hardware address as an ARP packet has it.
    pub const ARP_ETHER_SOURCE: Self = Self::network(8, 6);
    /// The sender's IPv4 address as an ARP packet has it.
    pub const ARP_IP_SOURCE: Self = Self::network(14, 4);
    /// `ARPOP_*`.
    pub const ARP_OPERATION: Self = Self::network(6, 2);
    /// The IPv4 address that an ARP packet asks for.
    pub const ARP_IP_TARGET: Self = Self::network(24, 4);
    /// `ICMP_*` or `ICMPV6_*`.
    pub const ICMP_TYPE: Self = Self::transport(0, 1);
    /// The address that neighbour discovery is about.
    pub const ND_TARGET: Self = Self::transport(8, 16);
    /// What the frame carries; of a tagged one the tag.
    pub const ETHER_TYPE: Self = Self { base: 0, offset: 12, length: 2 };

    /// How many registers it takes.
    pub fn registers(self) -> u8 {
        u8::try_from(self.length.div_ceil(4)).unwrap_or(u8::MAX)
    }

    /// A piece of the network header.
    pub const fn network(offset: u32, length: u32) -> Self {
        Self { base: 1, offset, length }
    }

    /// A piece of the transport header.
    pub const fn transport(offset: u32, length: u32) -> Self {
        Self { base: 2, offset, length }
    }
}

// === impl Expression ===

impl Expression {
    fn name(&self) -> &'static str {
        match self {
            Self::Meta(..) | Self::SetMeta(..) => "meta",
            Self::Payload(..) => "payload",
            Self::Ct(..) => "ct",
            Self::Fib(..) => "fib",
            Self::Constant(..) | Self::Verdict(_) => "immediate",
            Self::Bitwise(..) => "bitwise",
            Self::Equal(..) | Self::NotEqual(..) => "cmp",
            Self::In(..) | Self::NotIn(..) | Self::Map(..) | Self::VerdictMap(..) => "lookup",
            Self::Remember(..) => "dynset",
            Self::Nat(..) => "nat",
            Self::Masquerade => "masq",
            Self::Copy(..) => "dup",
            Self::Untracked => "notrack",
            Self::Counter => "counter",
            Self::Reject { .. } => "reject",
        }
    }

    pub(super) fn put(&self, list: &mut Request) {
        list.nest(ELEMENT, |element| {
            element.put_str(NAME, self.name());
            element.nest(DATA, |data| self.put_data(data));
        });
    }

    fn put_data(&self, data: &mut Request) {
        match self {
            Self::Meta(key, to) => numbers(data, &[(2, *key as u32), (1, to.number())]),
            Self::SetMeta(key, from) => numbers(data, &[(2, *key as u32), (3, from.number())]),
            Self::Payload(piece, to) => {
                numbers(data, &[(1, to.number()), (2, piece.base), (3, piece.offset), (4, piece.length)]);
            }
            Self::Ct(key, to) => numbers(data, &[(1, to.number()), (2, *key as u32)]),
            Self::Fib(result, to) => {
                let (result, flags) = match result {
                    FibResult::DestinationType => (3, 2),
                    FibResult::SourceDevice => (1, 1 | 8),
                };
                numbers(data, &[(1, to.number()), (2, result), (3, flags)]);
            }
            Self::Constant(value, to) => immediate(data, to.number(), &Data::Value(value.clone())),
            Self::Verdict(verdict) => immediate(data, REGISTER_VERDICT, &Data::Verdict(verdict.clone())),
            Self::Bitwise(register, mask, xor) => bitwise(data, *register, mask, xor),
            Self::Equal(register, value) => compare(data, *register, 0, value),
            Self::NotEqual(register, value) => compare(data, *register, 1, value),
            Self::In(set, key) => lookup(data, set, *key, None, false),
            Self::NotIn(set, key) => lookup(data, set, *key, None, true),
            Self::Map(set, key, to) => lookup(data, set, *key, Some(to.number()), false),
            Self::VerdictMap(set, key) => lookup(data, set, *key, Some(REGISTER_VERDICT), false),
            Self::Remember(set, key) => change_set(data, set, *key, 1),
            Self::Nat(kind, family, address, port) => {
                numbers(data, &[(1, *kind as u32), (2, *family as u32), (3, address.number())]);
                if let Some(port) = port {
                    numbers(data, &[(5, port.number())]);
                }
            }
            Self::Copy(address, link) => numbers(data, &[(1, address.number()), (2, link.number())]),
            Self::Masquerade | Self::Untracked | Self::Counter => {}
            Self::Reject { reset: true } => numbers(data, &[(1, 1)]),
            Self::Reject { reset: false } => {
                const PORT_UNREACHABLE: u8 = 1;
                numbers(data, &[(1, 2)]);
                data.put(2, &[PORT_UNREACHABLE]);
            }
        }
    }
}

fn numbers(data: &mut Request, values: &[(u16, u32)]) {
    for (kind, value) in values {
        data.put_be32(*kind, *value);
    }
}

fn immediate(data: &mut Request, register: u32, value: &Data) {
    data.put_be32(1, register);
    data.nest(2, |inside| value.put(inside));
}

fn bitwise(data: &mut Request, register: Register, mask: &[u8], xor: &[u8]) {
    let length = u32::try_from(mask.len()).unwrap_or(u32::MAX);
    numbers(data, &[(1, register.number()), (2, register.number()), (3, length)]);
    for (kind, bytes) in [(4, mask), (5, xor)] {
        data.nest(kind, |inside| Data::value(bytes).put(inside));
    }
}

fn compare(data: &mut Request, register: Register, operation: u32, value: &[u8]) {
    numbers(data, &[(1, register.number()), (2, operation)]);
    data.nest(3, |inside| Data::value(value).put(inside));
}

fn lookup(data: &mut Request, set: &str, key: Register, to: Option<u32>, inverted: bool) {
    data.put_str(1, set).put_be32(2, key.number());
    if let Some(to) = to {
        data.put_be32(3, to);
    }
    if inverted {
        data.put_be32(5, 1);
    }
}

fn change_set(data: &mut Request, set: &str, key: Register, operation: u32) {
    data.put_str(1, set).put_be32(3, operation).put_be32(4, key.number());
}
