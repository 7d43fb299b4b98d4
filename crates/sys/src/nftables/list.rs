//! What is there, and news of its changes.

use std::os::fd::{AsFd, BorrowedFd};

use super::change::{
    CHAIN_HOOK, CHAIN_NAME, CHAIN_POLICY, CHAIN_TABLE, DEL_CHAIN, DEL_TABLE, ELEMENT_DATA, ELEMENT_KEY,
    ELEMENTS_LIST, ELEMENTS_SET, ELEMENTS_TABLE, Family, GET_CHAIN, GET_ELEMENT, GET_RULE, GET_TABLE,
    HOOK_NUMBER, LIST_ELEMENT, NEW_CHAIN, NEW_ELEMENT, NEW_RULE, NEW_TABLE, RULE_CHAIN, RULE_HANDLE,
    RULE_TABLE, RULE_USERDATA, request,
};
use crate::netlink::{Message, Protocol, Result, Socket};

const TABLE_NAME: u16 = 1;
const TABLE_USERDATA: u16 = 6;
const DATA_VALUE: u16 = 1;
const NEWS_OF_NFTABLES: u32 = 7;
const NEW_GENERATION: u16 = 10 << 8 | 15;
/// Bytes of `struct nfgenmsg`.
const FIXED: usize = 4;

/// Hears of every change that anybody makes to the rules of a network namespace.
#[derive(Debug)]
pub struct Monitor(Socket);

/// A change of a table, or of something in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct News<'a> {
    /// Name of the table.
    pub table: &'a str,
    /// The chain that came or went, if it was one.
    pub chain: Option<&'a str>,
    /// Where the chain that came is called.
    pub hook: Option<u32>,
    /// The table, or the chain, is there no longer.
    pub is_gone: bool,
}

const NEWS_BUFFER: usize = 64 << 20;

// === impl Monitor ===

impl Monitor {
    /// From now on, but for what is changed by the socket of this [`Socket::port`].
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn open(but: u32) -> Result<Self> {
        let socket = Socket::open(Protocol::Netfilter)?;
        // In the kernel: a large change of the reader's own would fill the buffer, and others' news were lost to it.
        socket.deafen(but)?;
        // One transaction over thousands of containers is megabytes of news. Not taken unless used.
        let _ = rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, NEWS_BUFFER);
        socket.subscribe(&[NEWS_OF_NFTABLES])?;
        Ok(Self(socket))
    }

    /// Waits for news and gives each to `each`.
    ///
    /// # Errors
    /// `ENOBUFS` when news were lost: then anything may have changed.
    pub fn wait(&mut self, mut each: impl FnMut(News<'_>)) -> Result<()> {
        self.0.news(|message| {
            // Whatever changed, the name of its table is the first attribute; a new generation alone is no news.
            if message.kind != NEW_GENERATION
                && let Some(table) = message.attributes(FIXED).str(TABLE_NAME)
            {
                each(news(message, table));
            }
        })
    }
}

impl AsFd for Monitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn news<'a>(message: Message<'a>, table: &'a str) -> News<'a> {
    let is_chain = [NEW_CHAIN, DEL_CHAIN].contains(&message.kind);
    let attributes = message.attributes(FIXED);
    News {
        table,
        chain: attributes.str(CHAIN_NAME).filter(|_| is_chain),
        hook: hook(&message).filter(|_| message.kind == NEW_CHAIN),
        is_gone: [DEL_TABLE, DEL_CHAIN].contains(&message.kind),
    }
}

/// Where the chain of a message is called.
fn hook(message: &Message<'_>) -> Option<u32> {
    let number = message.attributes(FIXED).nested(CHAIN_HOOK).find(HOOK_NUMBER)?;
    Some(u32::from_be_bytes(number.try_into().ok()?))
}

/// Chains of a family that are called there, with the names of their tables before theirs.
///
/// # Errors
/// The kernel's refusal.
pub fn hooked(socket: &mut Socket, family: Family, number: u32) -> Result<Vec<(String, String)>> {
    socket.dump(&request(family, GET_CHAIN, 0), |message| {
        let attributes = message.attributes(FIXED);
        let there = message.kind == NEW_CHAIN && hook(&message) == Some(number);
        let names = (attributes.str(CHAIN_TABLE)?, attributes.str(CHAIN_NAME)?);
        there.then(|| (names.0.to_owned(), names.1.to_owned()))
    })
}

/// Names of the tables of a family, with the notes of their owners.
///
/// # Errors
/// The kernel's refusal.
pub fn tables(socket: &mut Socket, family: Family) -> Result<Vec<(String, Vec<u8>)>> {
    socket.dump(&request(family, GET_TABLE, 0), |message| {
        let attributes = message.attributes(FIXED);
        let name = attributes.str(TABLE_NAME).filter(|_| message.kind == NEW_TABLE)?;
        Some((name.to_owned(), attributes.find(TABLE_USERDATA).unwrap_or_default().to_vec()))
    })
}

/// Names of the chains of a table that drop what no rule of theirs decides about.
///
/// # Errors
/// The kernel's refusal.
pub fn dropping_chains(socket: &mut Socket, family: Family, table: &str) -> Result<Vec<String>> {
    const DROP: [u8; 4] = [0; 4];
    socket.dump(&request(family, GET_CHAIN, 0), |message| {
        let attributes = message.attributes(FIXED);
        let there = message.kind == NEW_CHAIN && attributes.str(CHAIN_TABLE) == Some(table);
        let drops = attributes.find(CHAIN_POLICY).is_some_and(|policy| policy == DROP);
        attributes.str(CHAIN_NAME).filter(|_| there && drops).map(str::to_owned)
    })
}

/// Numbers of the rules of a chain, in their order, with what their owners wrote to themselves.
///
/// # Errors
/// The kernel's refusal.
pub fn rules(socket: &mut Socket, family: Family, table: &str, chain: &str) -> Result<Vec<(u64, Vec<u8>)>> {
    let mut asked = request(family, GET_RULE, 0);
    asked.put_str(RULE_TABLE, table).put_str(RULE_CHAIN, chain);
    socket.dump(&asked, |message| {
        let attributes = message.attributes(FIXED);
        let handle = attributes.find(RULE_HANDLE).filter(|_| message.kind == NEW_RULE)?;
        let note = attributes.find(RULE_USERDATA).unwrap_or_default().to_vec();
        // Older kernels ignore what is asked and give all rules.
        let here = attributes.str(RULE_TABLE) == Some(table) && attributes.str(RULE_CHAIN) == Some(chain);
        Some((u64::from_be_bytes(handle.try_into().ok()?), note)).filter(|_| here)
    })
}

/// Keys and data of a set or map.
///
/// # Errors
/// `ENOENT` if it is not there.
pub fn elements(
    socket: &mut Socket,
    family: Family,
    table: &str,
    set: &str,
) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut asked = request(family, GET_ELEMENT, 0);
    asked.put_str(ELEMENTS_TABLE, table).put_str(ELEMENTS_SET, set);
    Ok(socket.dump(&asked, read_elements)?.into_iter().flatten().collect())
}

fn read_elements(message: Message<'_>) -> Option<Vec<(Vec<u8>, Vec<u8>)>> {
    if message.kind != NEW_ELEMENT {
        return None;
    }
    let list = message.attributes(FIXED).nested(ELEMENTS_LIST);
    let elements = list.filter(|(kind, _)| *kind == LIST_ELEMENT).map(|(_, bytes)| {
        let element = crate::netlink::Attributes::new(bytes);
        let bytes = |kind| element.nested(kind).find(DATA_VALUE).unwrap_or_default().to_vec();
        (bytes(ELEMENT_KEY), bytes(ELEMENT_DATA))
    });
    Some(elements.collect())
}
