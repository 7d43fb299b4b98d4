//! Routes.
//!
//! See [ip-route(8)](https://man7.org/linux/man-pages/man8/ip-route.8.html).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::address::{family, ip, octets};
use super::{Message, Request, Result, Socket};

const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_GETROUTE: u16 = 26;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_TABLE: u16 = 15;
const FIXED: usize = 12;
const MAIN: u8 = 254;
const LOCAL: u8 = 255;
/// The number of the table is in an attribute.
const COMPATIBLE: u8 = 252;
const PROTOCOL_STATIC: u8 = 4;
const UNICAST: u8 = 1;
/// The type of routes to the machine's own addresses.
const OWN: u8 = 2;
const SCOPE_UNIVERSE: u8 = 0;
const SCOPE_LINK: u8 = 253;
/// A route that the kernel keeps for what was learnt about one destination.
const CLONED: u32 = 0x200;

/// Where packets to a network go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The network; `0.0.0.0` or `::` with prefix 0 is everything.
    pub network: IpAddr,
    /// Bits of it.
    pub prefix: u8,
    /// The next hop; absent: the network is on the link.
    pub gateway: Option<IpAddr>,
    /// Index of the link.
    pub link: Option<u32>,
    /// Smaller is preferred; absent: the kernel's default.
    pub metric: Option<u32>,
}

// === impl Route ===

impl Route {
    /// Everything goes to `gateway`, on `link`.
    pub fn default_by(gateway: IpAddr, link: u32) -> Self {
        let network = match gateway {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        Self { network, prefix: 0, gateway: Some(gateway), link: Some(link), metric: None }
    }

    /// Asks for it to be added to the main table.
    pub fn addition(&self) -> Request {
        self.request(RTM_NEWROUTE, Request::CREATE | Request::EXCLUSIVE)
    }

    /// Asks for it to take the place of the one to the same network and of the same metric, at one instant; it is added if
    /// there is none.
    pub fn replacement(&self) -> Request {
        self.request(RTM_NEWROUTE, Request::CREATE | Request::REPLACE)
    }

    /// The same in another table than the main one.
    pub fn replacement_in(&self, table: u32) -> Request {
        let mut request = self.request_in(COMPATIBLE, RTM_NEWROUTE, Request::CREATE | Request::REPLACE);
        request.put_u32(RTA_TABLE, table);
        request
    }

    fn request(&self, kind: u16, flags: u16) -> Request {
        self.request_in(MAIN, kind, flags)
    }

    fn request_in(&self, table: u8, kind: u16, flags: u16) -> Request {
        let scope =
            if self.gateway.is_some() || self.network.is_ipv6() { SCOPE_UNIVERSE } else { SCOPE_LINK };
        let head =
            [family(self.network), self.prefix, 0, 0, table, PROTOCOL_STATIC, scope, UNICAST, 0, 0, 0, 0];
        let mut request = Request::new(kind, flags, &head);
        if self.prefix != 0 {
            request.put(RTA_DST, &octets(self.network));
        }
        if let Some(gateway) = self.gateway {
            request.put(RTA_GATEWAY, &octets(gateway));
        }
        for (kind, value) in [(RTA_OIF, self.link), (RTA_PRIORITY, self.metric)] {
            if let Some(value) = value {
                request.put_u32(kind, value);
            }
        }
        request
    }

    fn read(message: Message<'_>, wanted: impl Fn(u32) -> bool) -> Option<Self> {
        let head = message.body.get(..FIXED).filter(|_| message.kind == RTM_NEWROUTE)?;
        let attributes = message.attributes(FIXED);
        let flags = u32::from_ne_bytes(head[8..12].try_into().ok()?);
        let table = attributes.u32(RTA_TABLE).unwrap_or(u32::from(head[4]));
        if !wanted(table) || flags & CLONED != 0 {
            return None;
        }
        let everything: IpAddr = match i32::from(head[0]) {
            libc::AF_INET => Ipv4Addr::UNSPECIFIED.into(),
            libc::AF_INET6 => Ipv6Addr::UNSPECIFIED.into(),
            _ => return None,
        };
        Some(Self {
            network: attributes.find(RTA_DST).and_then(ip).unwrap_or(everything),
            prefix: head[1],
            gateway: attributes.find(RTA_GATEWAY).and_then(ip),
            link: attributes.u32(RTA_OIF),
            metric: attributes.u32(RTA_PRIORITY),
        })
    }
}

/// Adds a route to the main table.
///
/// # Errors
/// `EEXIST` if there is one to that network, `ENETUNREACH` if the gateway cannot be reached.
pub fn add(socket: &mut Socket, route: &Route) -> Result<()> {
    socket.call(route.addition())
}

/// Removes a route from the main table.
///
/// # Errors
/// `ESRCH` if there is none.
pub fn delete(socket: &mut Socket, route: &Route) -> Result<()> {
    socket.call(route.request(RTM_DELROUTE, 0))
}

/// Packets to that address are for this namespace itself. The kernel begins to take those of a new IPv6 address a moment after
/// it has added it.
///
/// # Errors
/// `ENETUNREACH` if packets to it go nowhere.
pub fn is_own(socket: &mut Socket, address: IpAddr) -> Result<bool> {
    let bytes = octets(address);
    let bits = if address.is_ipv4() { 32 } else { 128 };
    let mut request = Request::new(RTM_GETROUTE, 0, &[family(address), bits, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    request.put(RTA_DST, &bytes);
    socket.get(request, |message| {
        let kind = message.body.get(7).filter(|_| message.kind == RTM_NEWROUTE)?;
        Some(*kind == OWN)
    })
}

/// The routes of the main table.
///
/// # Errors
/// The kernel's refusal.
pub fn list(socket: &mut Socket) -> Result<Vec<Route>> {
    let main = |table| table == u32::from(MAIN);
    socket.dump(&Request::new(RTM_GETROUTE, 0, &[0; FIXED]), |message| Route::read(message, main))
}

/// The routes of all tables but the one in which the kernel keeps its own addresses.
///
/// # Errors
/// The kernel's refusal.
pub fn list_all(socket: &mut Socket) -> Result<Vec<Route>> {
    let foreign = |table| table != u32::from(LOCAL);
    socket.dump(&Request::new(RTM_GETROUTE, 0, &[0; FIXED]), |message| Route::read(message, foreign))
}
