//! What can be changed: tables, chains, sets, elements, rules.

use super::expression::{Data, Expression};
use crate::netlink::{Error, Request, Socket};

const SUBSYSTEM: u16 = 10 << 8;
pub(super) const NEW_TABLE: u16 = SUBSYSTEM;
pub(super) const GET_TABLE: u16 = SUBSYSTEM | 1;
pub(super) const DEL_TABLE: u16 = SUBSYSTEM | 2;
pub(super) const NEW_CHAIN: u16 = SUBSYSTEM | 3;
pub(super) const GET_CHAIN: u16 = SUBSYSTEM | 4;
pub(super) const DEL_CHAIN: u16 = SUBSYSTEM | 5;
pub(super) const NEW_RULE: u16 = SUBSYSTEM | 6;
pub(super) const GET_RULE: u16 = SUBSYSTEM | 7;
const DEL_RULE: u16 = SUBSYSTEM | 8;
const NEW_SET: u16 = SUBSYSTEM | 9;
const DEL_SET: u16 = SUBSYSTEM | 11;
pub(super) const NEW_ELEMENT: u16 = SUBSYSTEM | 12;
pub(super) const GET_ELEMENT: u16 = SUBSYSTEM | 13;
const DEL_ELEMENT: u16 = SUBSYSTEM | 14;

const TABLE_NAME: u16 = 1;
const TABLE_FLAGS: u16 = 2;
const TABLE_USERDATA: u16 = 6;
pub(super) const CHAIN_TABLE: u16 = 1;
pub(super) const CHAIN_NAME: u16 = 3;
pub(super) const CHAIN_HOOK: u16 = 4;
pub(super) const CHAIN_POLICY: u16 = 5;
const CHAIN_TYPE: u16 = 7;
pub(super) const HOOK_NUMBER: u16 = 1;
const HOOK_PRIORITY: u16 = 2;
const HOOK_DEVICE: u16 = 3;
pub(super) const RULE_TABLE: u16 = 1;
pub(super) const RULE_CHAIN: u16 = 2;
pub(super) const RULE_HANDLE: u16 = 3;
const RULE_EXPRESSIONS: u16 = 4;
pub(super) const RULE_USERDATA: u16 = 7;
const SET_TABLE: u16 = 1;
const SET_NAME: u16 = 2;
const SET_FLAGS: u16 = 3;
const SET_KEY_TYPE: u16 = 4;
const SET_KEY_LENGTH: u16 = 5;
const SET_DATA_TYPE: u16 = 6;
const SET_DATA_LENGTH: u16 = 7;
const SET_DESCRIPTION: u16 = 9;
const SET_ID: u16 = 10;
const SET_TIMEOUT: u16 = 11;
const SET_USERDATA: u16 = 13;
/// As nft writes it: that the bytes of the key are in the machine's order, kind 0, length 4.
const KEY_IN_HOST_ORDER: [u8; 2] = [0, 4];
const DESCRIPTION_SIZE: u16 = 1;
const DESCRIPTION_CONCAT: u16 = 2;
const FIELD_LENGTH: u16 = 1;
pub(super) const LIST_ELEMENT: u16 = 1;
pub(super) const ELEMENTS_TABLE: u16 = 1;
pub(super) const ELEMENTS_SET: u16 = 2;
pub(super) const ELEMENTS_LIST: u16 = 3;
pub(super) const ELEMENT_KEY: u16 = 1;
pub(super) const ELEMENT_DATA: u16 = 2;
const ELEMENT_FLAGS: u16 = 3;
const ELEMENT_INTERVAL_END: u32 = 1;
/// A list is one attribute, whose length has 16 bits; an element takes 150 bytes at the most.
const ELEMENTS_IN_A_MESSAGE: usize = 256;
/// Verdicts as the data of a map have this length in the eyes of the kernel, which then ignores it.
const VERDICT_TYPE: u32 = 0xffff_ff00;
/// Bits of each part in the type of a concatenated key, as nft has it.
const TYPE_BITS: u32 = 6;

/// Whose packets a table sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4 and IPv6.
    Inet = 1,
    /// IPv4.
    Ip = 2,
    /// What enters or leaves one device, before or after everything else.
    Netdev = 5,
    /// Frames that a bridge forwards.
    Bridge = 7,
    /// IPv6.
    Ip6 = 10,
}

/// Where in the way of a packet a chain is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// `filter` or `nat`.
    pub kind: &'static str,
    /// `NF_INET_*` or its like of the family.
    pub number: u32,
    /// Smaller comes first.
    pub priority: i32,
    /// What happens to a packet that no rule decides about: dropped instead of accepted.
    pub drop: bool,
    /// The device, in family `netdev`.
    pub device: Option<String>,
}

/// A chain of rules; without a hook it is only jumped to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Its name.
    pub name: String,
    /// Where it is called.
    pub hook: Option<Hook>,
}

/// Who may change a table, and how long it is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableFlags(u32);

/// Properties of a set; combine with `|`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SetFlags(u32);

/// What a part of a key, or of a map's data, is: the kernel compares bytes of this length, `nft list` shows the kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// An IPv4 address: 4 bytes.
    Ip,
    /// An IPv6 address: 16 bytes.
    Ip6,
    /// A hardware address: 6 bytes.
    Ether,
    /// `IPPROTO_*`: 1 byte.
    Transport,
    /// A port: 2 bytes.
    Port,
    /// `NFPROTO_*`: 1 byte.
    Family,
    /// The index of a link: 4 bytes.
    Link,
    /// The name of a link: 16 bytes.
    LinkName,
}

/// What a map gives for its keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MapData {
    /// A verdict.
    Verdict,
    /// Values, each in a whole number of registers.
    Fields(Vec<Field>),
}

/// A set of keys, or a map from keys to data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    /// Its name.
    pub name: String,
    /// Properties.
    pub flags: SetFlags,
    /// The parts of a key; each takes a whole number of registers.
    pub key: Vec<Field>,
    /// Of a map: what it gives.
    pub data: Option<MapData>,
    /// Rules add to it what it forgets again.
    pub forgets: Option<Forgets>,
}

/// How a set forgets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forgets {
    /// Milliseconds after it was added.
    pub after: u64,
    /// At most so many keys are there.
    pub room: u32,
}

/// An element of a set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Element {
    /// The key, its parts padded to registers.
    pub key: Vec<u8>,
    /// What a map gives for it.
    pub data: Option<Data>,
    /// In a set of ranges: the key is the first one that is no longer in.
    pub interval_end: bool,
}

/// One change of the rule set.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// A table, if it is not there; a note stays with it.
    AddTable {
        /// Who may change it.
        flags: TableFlags,
        /// What its owner wrote to itself.
        note: Vec<u8>,
    },
    /// A table and all that is in it. Fails with `ENOENT` if there is none.
    DeleteTable,
    /// A chain, if it is not there.
    AddChain(Chain),
    /// A chain without rules that nobody jumps to.
    DeleteChain(String),
    /// All rules of a chain.
    FlushChain(String),
    /// A rule at the end of a chain.
    AddRule {
        /// The chain.
        chain: String,
        /// What it does.
        rule: Vec<Expression>,
        /// What its owner wrote to itself.
        note: Vec<u8>,
    },
    /// A rule at the beginning of a chain.
    InsertRule {
        /// The chain.
        chain: String,
        /// What it does.
        rule: Vec<Expression>,
        /// What its owner wrote to itself.
        note: Vec<u8>,
    },
    /// One rule of a chain.
    DeleteRule {
        /// The chain.
        chain: String,
        /// Its number, as [`rules`](super::rules) gives it.
        handle: u64,
    },
    /// A set or map.
    AddSet(Set),
    /// A set or map that no rule uses.
    DeleteSet(String),
    /// Elements of a set.
    AddElements {
        /// The set.
        set: String,
        /// The elements.
        elements: Vec<Element>,
    },
    /// Elements of a set.
    DeleteElements {
        /// The set.
        set: String,
        /// The elements.
        elements: Vec<Element>,
    },
    /// All elements of a set.
    FlushSet(String),
}

// === impl TableFlags ===

impl TableFlags {
    /// Anybody with the privilege may change it.
    pub const NONE: Self = Self(0);
    /// Only the socket that made it may change it, `nft flush ruleset` passes it by, and it goes with the socket (5.12).
    pub const OWNED: Self = Self(0x2);
    /// The same, but that it stays when its socket is closed; then it is anybody's (6.9).
    pub const OWNED_AND_LASTING: Self = Self(0x2 | 0x4);
}

// === impl SetFlags ===

impl SetFlags {
    /// A plain set.
    pub const NONE: Self = Self(0);
    /// Its elements are never changed again.
    pub const CONSTANT: Self = Self(0x2);
    /// Its elements are ranges.
    pub const INTERVAL: Self = Self(0x4);
}

// === impl Change ===

impl Change {
    /// The messages for it; `number` tells sets of one batch apart.
    fn requests(&self, family: Family, table: &str, number: u32) -> Vec<Request> {
        let one = match self {
            Self::AddTable { flags, note } => add_table(family, table, *flags, note),
            Self::DeleteTable => named(family, DEL_TABLE, TABLE_NAME, table),
            Self::AddChain(chain) => chain.request(family, table),
            Self::DeleteChain(name) => in_table(family, DEL_CHAIN, table, CHAIN_NAME, name),
            Self::FlushChain(name) => in_table(family, DEL_RULE, table, RULE_CHAIN, name),
            Self::AddRule { chain, rule, note } => {
                add_rule(family, table, Request::APPEND, chain, rule, note)
            }
            Self::InsertRule { chain, rule, note } => add_rule(family, table, 0, chain, rule, note),
            Self::DeleteRule { chain, handle } => {
                let mut request = in_table(family, DEL_RULE, table, RULE_CHAIN, chain);
                request.put(RULE_HANDLE, &handle.to_be_bytes());
                request
            }
            Self::AddSet(set) => set.request(family, table, number),
            Self::DeleteSet(name) => in_table(family, DEL_SET, table, SET_NAME, name),
            Self::FlushSet(name) => in_table(family, DEL_ELEMENT, table, ELEMENTS_SET, name),
            Self::AddElements { set, elements } => {
                let pieces = elements.chunks(ELEMENTS_IN_A_MESSAGE);
                let add =
                    |piece| put_elements(request(family, NEW_ELEMENT, Request::CREATE), table, set, piece);
                return pieces.map(add).collect();
            }
            Self::DeleteElements { set, elements } => {
                let pieces = elements.chunks(ELEMENTS_IN_A_MESSAGE);
                let delete = |piece| put_elements(request(family, DEL_ELEMENT, 0), table, set, piece);
                return pieces.map(delete).collect();
            }
        };
        vec![one]
    }
}

/// Makes changes of one table, all or none.
///
/// # Errors
/// The kernel's refusal, with the place in the list of the change that it refused.
pub fn apply(
    socket: &mut Socket,
    family: Family,
    table: &str,
    changes: &[Change],
) -> std::result::Result<(), (usize, Error)> {
    apply_all(socket, &[Part { family, table, changes }]).map_err(|(_, place, error)| (place, error))
}

/// Changes of one table among those of others.
#[derive(Clone, Copy, Debug)]
pub struct Part<'a> {
    /// Of the table.
    pub family: Family,
    /// Its name.
    pub table: &'a str,
    /// In this order.
    pub changes: &'a [Change],
}

/// Makes changes of several tables, all or none.
///
/// # Errors
/// The kernel's refusal, with the part and the place in it of the change that it refused.
pub fn apply_all(socket: &mut Socket, parts: &[Part<'_>]) -> std::result::Result<(), (usize, usize, Error)> {
    let (mut requests, mut places) = (Vec::new(), Vec::new());
    let mut numbers = 1..;
    for (at, part) in parts.iter().enumerate() {
        for ((place, change), number) in part.changes.iter().enumerate().zip(&mut numbers) {
            requests.extend(change.requests(part.family, part.table, number));
            places.resize(requests.len(), (at, place));
        }
    }
    socket.batch(requests).map_err(|(place, error)| {
        let (part, change) = places.get(place).copied().unwrap_or_default();
        (part, change, error)
    })
}

fn add_table(family: Family, table: &str, flags: TableFlags, note: &[u8]) -> Request {
    let mut request = request(family, NEW_TABLE, Request::CREATE);
    request.put_str(TABLE_NAME, table);
    if flags != TableFlags::NONE {
        request.put_be32(TABLE_FLAGS, flags.0);
    }
    if !note.is_empty() {
        request.put(TABLE_USERDATA, note);
    }
    request
}

// === impl Chain ===

impl Chain {
    fn request(&self, family: Family, table: &str) -> Request {
        let mut request = request(family, NEW_CHAIN, Request::CREATE);
        request.put_str(CHAIN_TABLE, table).put_str(CHAIN_NAME, &self.name);
        let Some(hook) = &self.hook else { return request };
        request.nest(CHAIN_HOOK, |inside| {
            inside.put_be32(HOOK_NUMBER, hook.number);
            inside.put(HOOK_PRIORITY, &hook.priority.to_be_bytes());
            if let Some(device) = &hook.device {
                inside.put_str(HOOK_DEVICE, device);
            }
        });
        request.put_be32(CHAIN_POLICY, u32::from(!hook.drop)).put_str(CHAIN_TYPE, hook.kind);
        request
    }
}

// === impl Set ===

impl Set {
    fn request(&self, family: Family, table: &str, number: u32) -> Request {
        const MAP: u32 = 0x8;
        const CONCAT: u32 = 0x80;
        const TIMEOUT: u32 = 0x10;
        const DYNAMIC: u32 = 0x20;
        let several = self.key.len() > 1;
        let mut flags = self.flags.0;
        if self.data.is_some() {
            flags |= MAP;
        }
        if several {
            flags |= CONCAT;
        }
        if self.forgets.is_some() {
            flags |= TIMEOUT | DYNAMIC;
        }
        let mut request = request(family, NEW_SET, Request::CREATE);
        request.put_str(SET_TABLE, table).put_str(SET_NAME, &self.name).put_be32(SET_FLAGS, flags);
        // Types are for readers; the kernel compares bytes.
        request.put_be32(SET_KEY_TYPE, type_of(&self.key)).put_be32(SET_KEY_LENGTH, length_of(&self.key));
        match &self.data {
            Some(MapData::Verdict) => {
                request.put_be32(SET_DATA_TYPE, VERDICT_TYPE).put_be32(SET_DATA_LENGTH, 0);
            }
            Some(MapData::Fields(fields)) => {
                request.put_be32(SET_DATA_TYPE, type_of(fields)).put_be32(SET_DATA_LENGTH, length_of(fields));
            }
            None => {}
        }
        if let Some(forgets) = self.forgets {
            request.put(SET_TIMEOUT, &forgets.after.to_be_bytes());
        }
        if several {
            request.nest(SET_DESCRIPTION, |description| {
                if let Some(forgets) = self.forgets {
                    description.put_be32(DESCRIPTION_SIZE, forgets.room);
                }
                description.nest(DESCRIPTION_CONCAT, |parts| {
                    for part in &self.key {
                        parts.nest(LIST_ELEMENT, |field| {
                            field.put_be32(FIELD_LENGTH, part.length());
                        });
                    }
                });
            });
        }
        if let [Field::Link | Field::LinkName] = self.key[..] {
            request.put(SET_USERDATA, &[&KEY_IN_HOST_ORDER[..], &1_u32.to_ne_bytes()].concat());
        }
        request.put_be32(SET_ID, number);
        request
    }
}

// === impl Field ===

impl Field {
    /// Bytes of it.
    fn length(self) -> u32 {
        match self {
            Self::Transport | Self::Family => 1,
            Self::Port => 2,
            Self::Ip | Self::Link => 4,
            Self::Ether => 6,
            Self::Ip6 | Self::LinkName => 16,
        }
    }

    /// The number that nft has for it.
    fn kind(self) -> u32 {
        match self {
            Self::Family => 2,
            Self::Ip => 7,
            Self::Ip6 => 8,
            Self::Ether => 9,
            Self::Transport => 12,
            Self::Port => 13,
            Self::Link => 20,
            Self::LinkName => 41,
        }
    }
}

fn type_of(fields: &[Field]) -> u32 {
    fields.iter().fold(0, |kind, field| kind << TYPE_BITS | field.kind())
}

/// One part is as long as it is; several take whole registers.
fn length_of(fields: &[Field]) -> u32 {
    match fields {
        [one] => one.length(),
        several => several.iter().map(|field| field.length().next_multiple_of(4)).sum(),
    }
}

fn add_rule(
    family: Family,
    table: &str,
    place: u16,
    chain: &str,
    rule: &[Expression],
    note: &[u8],
) -> Request {
    let mut request = request(family, NEW_RULE, Request::CREATE | place);
    request.put_str(RULE_TABLE, table).put_str(RULE_CHAIN, chain);
    request.nest(RULE_EXPRESSIONS, |list| rule.iter().for_each(|expression| expression.put(list)));
    if !note.is_empty() {
        request.put(RULE_USERDATA, note);
    }
    request
}

fn put_elements(mut request: Request, table: &str, set: &str, elements: &[Element]) -> Request {
    request.put_str(ELEMENTS_TABLE, table).put_str(ELEMENTS_SET, set);
    request.nest(ELEMENTS_LIST, |list| {
        for element in elements {
            list.nest(LIST_ELEMENT, |inside| element.put(inside));
        }
    });
    request
}

// === impl Element ===

impl Element {
    /// A member of a set.
    pub fn key(key: impl Into<Vec<u8>>) -> Self {
        Self { key: key.into(), data: None, interval_end: false }
    }

    /// An entry of a map.
    pub fn map(key: impl Into<Vec<u8>>, data: Data) -> Self {
        Self { key: key.into(), data: Some(data), interval_end: false }
    }

    fn put(&self, request: &mut Request) {
        request.nest(ELEMENT_KEY, |key| Data::value(&self.key[..]).put(key));
        if let Some(data) = &self.data {
            request.nest(ELEMENT_DATA, |inside| data.put(inside));
        }
        if self.interval_end {
            request.put_be32(ELEMENT_FLAGS, ELEMENT_INTERVAL_END);
        }
    }
}

/// A request with `struct nfgenmsg`: family, version, resource.
pub(super) fn request(family: Family, kind: u16, flags: u16) -> Request {
    Request::new(kind, flags, &[family as u8, 0, 0, 0])
}

fn named(family: Family, kind: u16, attribute: u16, name: &str) -> Request {
    let mut request = request(family, kind, 0);
    request.put_str(attribute, name);
    request
}

fn in_table(family: Family, kind: u16, table: &str, attribute: u16, name: &str) -> Request {
    // The table is attribute 1 of chains, rules and sets alike.
    let mut request = named(family, kind, CHAIN_TABLE, table);
    request.put_str(attribute, name);
    request
}
