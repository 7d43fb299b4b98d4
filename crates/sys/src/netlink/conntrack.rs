//! Connections that the kernel tracks: those of one address, and to forget one.
//!
//! What becomes of a connection is decided by its first packet. A connection that was not translated when it began never
//! will be, and one that was is translated as long as packets come, whoever has the address by then.
//!
//! See `linux/netfilter/nfnetlink_conntrack.h`.

use std::net::IpAddr;

use super::address::{family, ip, octets};
use super::{Attributes, Message, Request, Result, Socket};

const SUBSYSTEM: u16 = 1 << 8;
const NEW: u16 = SUBSYSTEM;
const GET: u16 = SUBSYSTEM | 1;
const DELETE: u16 = SUBSYSTEM | 2;
const GET_STATISTICS: u16 = SUBSYSTEM | 5;
const CTA_STATS_GLOBAL_ENTRIES: u16 = 1;
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_ID: u16 = 12;
const CTA_ZONE: u16 = 18;
const CTA_FILTER: u16 = 25;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V4_DST: u16 = 2;
const CTA_IP_V6_SRC: u16 = 3;
const CTA_IP_V6_DST: u16 = 4;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_DST_PORT: u16 = 3;
const FILTER_IP_SRC: u32 = 1 << 0;
/// Bytes of `struct nfgenmsg`.
const FIXED: usize = 4;

/// One direction of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Direction {
    /// Who sends.
    pub source: IpAddr,
    /// Who receives.
    pub destination: IpAddr,
    /// `IPPROTO_*`.
    pub protocol: u8,
    /// The receiver's port; 0 for protocols without.
    pub port: u16,
}

/// A connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// As it began, before anything was translated.
    pub original: Direction,
    /// As answers come.
    pub reply: Direction,
    family: u8,
    tuple: Vec<u8>,
    id: Vec<u8>,
    zone: Option<Vec<u8>>,
}

/// Which connections are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// All there are.
    Any,
    /// All of IPv4, or of IPv6.
    All {
        /// Of IPv6.
        ipv6: bool,
    },
    /// Those that an address began.
    From(IpAddr),
    /// Those that an address answers, under whatever address they began.
    AnsweredBy(IpAddr),
}

// === impl Which ===

impl Which {
    /// Kernels before 5.8 do not know filters, and list everything.
    fn request(self) -> Request {
        let (address, attribute) = match self {
            Self::Any => return request(GET, libc::AF_UNSPEC as u8),
            Self::All { ipv6 } => {
                return request(GET, (if ipv6 { libc::AF_INET6 } else { libc::AF_INET }) as u8);
            }
            Self::From(address) => (address, CTA_TUPLE_ORIG),
            Self::AnsweredBy(address) => (address, CTA_TUPLE_REPLY),
        };
        let source = if address.is_ipv4() { CTA_IP_V4_SRC } else { CTA_IP_V6_SRC };
        let mut request = request(GET, family(address));
        request.nest(attribute, |tuple| {
            tuple.nest(CTA_TUPLE_IP, |ip| {
                ip.put(source, &octets(address));
            });
        });
        request.nest(CTA_FILTER, |flags| {
            for kind in [CTA_TUPLE_ORIG, CTA_TUPLE_REPLY] {
                flags.put_u32(kind, if kind == attribute { FILTER_IP_SRC } else { 0 });
            }
        });
        request
    }

    fn includes(self, connection: &Connection) -> bool {
        match self {
            Self::Any | Self::All { .. } => true,
            Self::From(address) => connection.original.source == address,
            Self::AnsweredBy(address) => connection.reply.source == address,
        }
    }
}

// === impl Direction ===

impl Direction {
    fn read(tuple: Attributes<'_>) -> Option<Self> {
        let address = |four, six| {
            let addresses = tuple.nested(CTA_TUPLE_IP);
            ip(addresses.find(four).or_else(|| addresses.find(six))?)
        };
        let protocol = tuple.nested(CTA_TUPLE_PROTO);
        let port = protocol.find(CTA_PROTO_DST_PORT).and_then(|bytes| bytes.try_into().ok());
        Some(Self {
            source: address(CTA_IP_V4_SRC, CTA_IP_V6_SRC)?,
            destination: address(CTA_IP_V4_DST, CTA_IP_V6_DST)?,
            protocol: *protocol.find(CTA_PROTO_NUM)?.first()?,
            port: port.map_or(0, u16::from_be_bytes),
        })
    }
}

// === impl Connection ===

impl Connection {
    fn read(message: Message<'_>) -> Option<Self> {
        if message.kind != NEW {
            return None;
        }
        let attributes = message.attributes(FIXED);
        Some(Self {
            original: Direction::read(attributes.nested(CTA_TUPLE_ORIG))?,
            reply: Direction::read(attributes.nested(CTA_TUPLE_REPLY))?,
            family: *message.body.first()?,
            tuple: attributes.find(CTA_TUPLE_ORIG)?.to_vec(),
            id: attributes.find(CTA_ID)?.to_vec(),
            zone: attributes.find(CTA_ZONE).map(<[u8]>::to_vec),
        })
    }
}

/// How many connections there are. The kernel has counted them.
///
/// # Errors
/// The kernel's refusal.
pub fn count(socket: &mut Socket) -> Result<u32> {
    let read = |message: Message<'_>| {
        let count = message.attributes(FIXED).find(CTA_STATS_GLOBAL_ENTRIES)?;
        (message.kind == GET_STATISTICS).then(|| count.try_into().map(u32::from_be_bytes).ok())?
    };
    socket.get(request(GET_STATISTICS, libc::AF_UNSPEC as u8), read)
}

/// Connections. The kernel looks through its whole table: milliseconds.
///
/// # Errors
/// The kernel's refusal.
pub fn list(socket: &mut Socket, which: Which) -> Result<Vec<Connection>> {
    let read = |message: Message<'_>| Connection::read(message).filter(|found| which.includes(found));
    socket.dump(&which.request(), read)
}

/// Forgets a connection: its next packet begins a new one.
///
/// # Errors
/// `ENOENT` if it is over.
pub fn forget(socket: &mut Socket, connection: &Connection) -> Result<()> {
    let mut request = request(DELETE, connection.family);
    request.nest(CTA_TUPLE_ORIG, |tuple| {
        tuple.raw(&connection.tuple);
    });
    request.put(CTA_ID, &connection.id);
    if let Some(zone) = &connection.zone {
        request.put(CTA_ZONE, zone);
    }
    socket.call(request)
}

fn request(kind: u16, family: u8) -> Request {
    Request::new(kind, 0, &[family, 0, 0, 0])
}
