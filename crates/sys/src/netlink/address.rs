//! Addresses of links.
//!
//! See [ip-address(8)](https://man7.org/linux/man-pages/man8/ip-address.8.html).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Message, Request, Result, Socket};

const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_GETADDR: u16 = 22;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const IFA_FLAGS: u16 = 8;
const IFA_F_NODAD: u32 = 0x02;
const IFA_F_PERMANENT: u32 = 0x80;
const SCOPE_UNIVERSE: u8 = 0;
const SCOPE_HOST: u8 = 254;
/// Of those who have none: RFC 7600, section 4.8.
const DUMMY: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 8);
const FIXED: usize = 8;

/// An address with the length of its network's prefix, on a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    /// Index of the link.
    pub link: u32,
    /// The address.
    pub ip: IpAddr,
    /// Bits of its network.
    pub prefix: u8,
}

// === impl Address ===

impl Address {
    /// Asks for a link to be given it.
    pub fn addition(&self) -> Request {
        self.request(RTM_NEWADDR, Request::CREATE | Request::EXCLUSIVE)
    }

    fn request(&self, kind: u16, flags: u16) -> Request {
        let mut request = Request::new(kind, flags, &head(self));
        let bytes = octets(self.ip);
        request.put(IFA_LOCAL, &bytes).put(IFA_ADDRESS, &bytes);
        if let (IpAddr::V4(ip), 0..=30) = (self.ip, self.prefix) {
            let host_bits = u32::MAX >> self.prefix;
            request.put(IFA_BROADCAST, &(u32::from(ip) | host_bits).to_be_bytes());
        }
        if self.ip.is_ipv6() {
            // Whoever allocates addresses knows that they are not taken; detection would take seconds.
            request.put_u32(IFA_FLAGS, IFA_F_NODAD);
        }
        request
    }

    fn read(message: Message<'_>) -> Option<Self> {
        if message.kind != RTM_NEWADDR {
            return None;
        }
        let attributes = message.attributes(FIXED);
        let bytes = attributes.find(IFA_LOCAL).or_else(|| attributes.find(IFA_ADDRESS))?;
        Some(Self {
            link: u32::from_ne_bytes(message.body.get(4..8)?.try_into().ok()?),
            ip: ip(bytes)?,
            prefix: *message.body.get(1)?,
        })
    }
}

/// Gives a link an address.
///
/// # Errors
/// `EEXIST` if it has it already, `ENODEV` if there is no such link.
pub fn add(socket: &mut Socket, address: &Address) -> Result<()> {
    socket.call(address.addition())
}

/// Takes an address from a link.
///
/// # Errors
/// `EADDRNOTAVAIL` if it does not have it.
pub fn delete(socket: &mut Socket, address: &Address) -> Result<()> {
    socket.call(address.request(RTM_DELADDR, 0))
}

/// An address as the kernel told it, to be given to another link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    head: [u8; FIXED],
    attributes: Vec<u8>,
}

// === impl Kept ===

impl Kept {
    /// Of a link, if it is permanent and of global scope; the others the kernel makes by itself.
    fn read(message: Message<'_>, link: u32) -> Option<Self> {
        let head: [u8; FIXED] = message.body.get(..FIXED)?.try_into().ok()?;
        let [_, _, flags, scope, index @ ..] = head;
        let attributes = message.attributes(FIXED);
        let flags = attributes.u32(IFA_FLAGS).unwrap_or(u32::from(flags));
        let lasting = flags & IFA_F_PERMANENT != 0 && scope == SCOPE_UNIVERSE;
        let ours = message.kind == RTM_NEWADDR && u32::from_ne_bytes(index) == link;
        (lasting && ours).then(|| Self { head, attributes: message.body[FIXED..].to_vec() })
    }
}

/// The addresses of a link that somebody gave it.
///
/// # Errors
/// The kernel's refusal.
pub fn kept(socket: &mut Socket, link: u32) -> Result<Vec<Kept>> {
    socket.dump(&Request::new(RTM_GETADDR, 0, &[0; FIXED]), |message| Kept::read(message, link))
}

/// Gives a link an address that another one had.
///
/// # Errors
/// `EEXIST` if it has it already.
pub fn restore(socket: &mut Socket, link: u32, address: &Kept) -> Result<()> {
    let mut head = address.head;
    head[4..].copy_from_slice(&link.to_ne_bytes());
    let mut request = Request::new(RTM_NEWADDR, Request::CREATE | Request::EXCLUSIVE, &head);
    request.raw(&address.attributes);
    socket.call(request)
}

/// All addresses.
///
/// # Errors
/// The kernel's refusal.
pub fn list(socket: &mut Socket) -> Result<Vec<Address>> {
    socket.dump(&Request::new(RTM_GETADDR, 0, &[0; FIXED]), Address::read)
}

/// `struct ifaddrmsg`: family, prefix, flags, scope (0: everywhere), index.
fn head(address: &Address) -> [u8; FIXED] {
    // The kernel picks none of these as the sender of what leaves.
    let scope = if address.ip == IpAddr::V4(DUMMY) { SCOPE_HOST } else { SCOPE_UNIVERSE };
    let mut head = [family(address.ip), address.prefix, 0, scope, 0, 0, 0, 0];
    head[4..].copy_from_slice(&address.link.to_ne_bytes());
    head
}

pub(super) fn family(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { libc::AF_INET as u8 } else { libc::AF_INET6 as u8 }
}

pub(super) fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

pub(super) fn ip(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(|octets| Ipv4Addr::from(octets).into()),
        16 => <[u8; 16]>::try_from(bytes).ok().map(|octets| Ipv6Addr::from(octets).into()),
        _ => None,
    }
}
