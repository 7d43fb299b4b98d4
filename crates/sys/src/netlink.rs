//! Route netlink, as far as moving a network device needs it: one request, one answer, attributes by hand.
//!
//! See [rtnetlink(7)](https://man7.org/linux/man-pages/man7/rtnetlink.7.html). Everything is safe code over a socket; a
//! message is built and read as bytes.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use rustix::io::{Errno, Result};
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, send, socket_with,
};

const NEW_LINK: u16 = 16;
const GET_LINK: u16 = 18;
const NEW_ADDRESS: u16 = 20;
const GET_ADDRESS: u16 = 22;
const ERROR: u16 = 2;
const DONE: u16 = 3;
const REQUEST: u16 = 1;
const ACKNOWLEDGE: u16 = 4;
const DUMP: u16 = 0x300;
const CREATE_EXCLUSIVE: u16 = 0x600;
const HEADER: usize = 16;
const UP: u32 = 1;

const LINK_NAME: u16 = 3;
const LINK_NAMESPACE: u16 = 28;
const ADDRESS_LOCAL: u16 = 2;
const ADDRESS_FLAGS: u16 = 8;
const PERMANENT: u32 = 0x80;
const SCOPE_UNIVERSE: u8 = 0;

/// A socket in the network namespace in which it was made, wherever the caller goes later.
#[derive(Debug)]
pub struct Route(OwnedFd);

/// An address of a device, with everything the kernel told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    family: u8,
    prefix: u8,
    flags: u8,
    scope: u8,
    index: u32,
    attributes: Vec<(u16, Vec<u8>)>,
}

// === impl Route ===

impl Route {
    /// Opens one in the calling thread's network namespace.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn open() -> Result<Self> {
        let socket = socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            // The first protocol of this family is the routing one.
            None,
        )?;
        bind(&socket, &SocketAddrNetlink::new(0, 0))?;
        Ok(Self(socket))
    }

    /// The number of the device of this name.
    ///
    /// # Errors
    /// `ENODEV` if there is none.
    pub fn index(&self, name: &str) -> Result<u32> {
        let mut message = Message::new(GET_LINK, REQUEST);
        message.link(0, 0, 0);
        message.text(LINK_NAME, name);
        self.say(message)?;
        let mut found = Err(Errno::NODEV);
        self.hear(|kind, body| {
            if kind == NEW_LINK {
                found = number(body, 4);
            }
            kind == NEW_LINK
        })?;
        found
    }

    /// The addresses of a device that are permanent and of global scope.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn addresses(&self, index: u32) -> Result<Vec<Address>> {
        let mut message = Message::new(GET_ADDRESS, REQUEST | DUMP);
        message.address(0, 0, 0, 0, 0);
        self.say(message)?;
        let mut all = Vec::new();
        self.hear(|kind, body| {
            if kind == NEW_ADDRESS {
                all.extend(Address::read(body));
            }
            false
        })?;
        all.retain(|address| address.index == index && address.is_lasting());
        Ok(all)
    }

    /// Moves a device into the network namespace `target` (a file of `/proc/PID/ns`) under a new name; a name with `%d`
    /// is a template that the kernel fills in.
    ///
    /// # Errors
    /// `EEXIST` if the name is taken there.
    pub fn move_link(&self, index: u32, target: BorrowedFd<'_>, name: &str) -> Result<()> {
        let mut message = Message::new(NEW_LINK, REQUEST | ACKNOWLEDGE);
        message.link(index, 0, 0);
        message.bytes(LINK_NAMESPACE, &target.as_raw_fd().to_ne_bytes());
        message.text(LINK_NAME, name);
        self.say(message)?;
        self.hear(|_, _| false)
    }

    /// Takes a device up.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn up(&self, index: u32) -> Result<()> {
        let mut message = Message::new(NEW_LINK, REQUEST | ACKNOWLEDGE);
        message.link(index, UP, UP);
        self.say(message)?;
        self.hear(|_, _| false)
    }

    /// Gives a device an address that was read from one.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn add_address(&self, index: u32, address: &Address) -> Result<()> {
        let mut message = Message::new(NEW_ADDRESS, REQUEST | ACKNOWLEDGE | CREATE_EXCLUSIVE);
        message.address(address.family, address.prefix, address.flags, address.scope, index);
        for (kind, value) in &address.attributes {
            message.bytes(*kind, value);
        }
        self.say(message)?;
        self.hear(|_, _| false)
    }

    /// Numbers of every device, in the kernel's order.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn indexes(&self) -> Result<Vec<u32>> {
        let mut message = Message::new(GET_LINK, REQUEST | DUMP);
        message.link(0, 0, 0);
        self.say(message)?;
        let mut all = Vec::new();
        self.hear(|kind, body| {
            if kind == NEW_LINK {
                all.extend(number(body, 4));
            }
            false
        })?;
        Ok(all)
    }

    fn say(&self, message: Message) -> Result<()> {
        send(&self.0, &message.finished(), SendFlags::empty()).map(drop)
    }

    /// Reads answers until the last one, or until `each` says that it has heard enough.
    fn hear(&self, mut each: impl FnMut(u16, &[u8]) -> bool) -> Result<()> {
        let mut buffer = vec![0_u8; 64 << 10];
        loop {
            let (length, _) =
                rustix::io::retry_on_intr(|| recv(&self.0, &mut buffer[..], RecvFlags::empty()))?;
            let mut rest = &buffer[..length];
            while rest.len() >= HEADER {
                let size = usize::try_from(number(rest, 0)?).map_err(|_| Errno::BADMSG)?;
                let kind = u16::from_ne_bytes([rest[4], rest[5]]);
                let body = rest.get(HEADER..size).ok_or(Errno::BADMSG)?;
                match kind {
                    DONE => return Ok(()),
                    ERROR => {
                        return match number(body, 0)? as i32 {
                            0 => Ok(()),
                            negative => Err(Errno::from_raw_os_error(negative.saturating_neg())),
                        };
                    }
                    _ if each(kind, body) => return Ok(()),
                    _ => {}
                }
                rest = rest.get(aligned(size)..).unwrap_or_default();
            }
        }
    }
}

// === impl Address ===

impl Address {
    fn read(body: &[u8]) -> Option<Self> {
        let [family, prefix, flags, scope, rest @ ..] = body else { return None };
        let index = number(rest, 0).ok()?;
        let attributes = attributes(rest.get(4..)?);
        Some(Self { family: *family, prefix: *prefix, flags: *flags, scope: *scope, index, attributes })
    }

    /// Permanent and of global scope: what is to be kept when the device moves.
    fn is_lasting(&self) -> bool {
        let wide = self.attributes.iter().find(|(kind, _)| *kind == ADDRESS_FLAGS);
        let flags = wide.and_then(|(_, value)| number(value, 0).ok()).unwrap_or(u32::from(self.flags));
        let named = self.attributes.iter().any(|(kind, _)| *kind == ADDRESS_LOCAL || *kind == 1);
        flags & PERMANENT != 0 && self.scope == SCOPE_UNIVERSE && named
    }
}

// === messages ===

struct Message(Vec<u8>);

impl Message {
    fn new(kind: u16, flags: u16) -> Self {
        let mut bytes = vec![0; HEADER];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        bytes[8..12].copy_from_slice(&1_u32.to_ne_bytes());
        Self(bytes)
    }

    fn link(&mut self, index: u32, flags: u32, changed: u32) {
        self.0.extend([0; 4]);
        for word in [index, flags, changed] {
            self.0.extend(word.to_ne_bytes());
        }
    }

    fn address(&mut self, family: u8, prefix: u8, flags: u8, scope: u8, index: u32) {
        self.0.extend([family, prefix, flags, scope]);
        self.0.extend(index.to_ne_bytes());
    }

    fn text(&mut self, kind: u16, text: &str) {
        self.bytes(kind, &[text.as_bytes(), b"\0"].concat());
    }

    fn bytes(&mut self, kind: u16, value: &[u8]) {
        let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(aligned(self.0.len()), 0);
    }

    fn finished(mut self) -> Vec<u8> {
        let length = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        self.0[0..4].copy_from_slice(&length.to_ne_bytes());
        self.0
    }
}

fn attributes(mut bytes: &[u8]) -> Vec<(u16, Vec<u8>)> {
    let mut all = Vec::new();
    while bytes.len() >= 4 {
        let length = usize::from(u16::from_ne_bytes([bytes[0], bytes[1]]));
        let kind = u16::from_ne_bytes([bytes[2], bytes[3]]);
        let Some(value) = bytes.get(4..length) else { return all };
        all.push((kind, value.to_vec()));
        bytes = bytes.get(aligned(length)..).unwrap_or_default();
    }
    all
}

fn aligned(length: usize) -> usize {
    length.next_multiple_of(4)
}

fn number(bytes: &[u8], at: usize) -> Result<u32> {
    let four = bytes.get(at..at + 4).and_then(|four| <[u8; 4]>::try_from(four).ok());
    four.map(u32::from_ne_bytes).ok_or(Errno::BADMSG)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_device_is_number_one_and_its_addresses_stay() {
        let route = Route::open().unwrap();
        assert_eq!(route.index("lo"), Ok(1));
        assert!(route.indexes().unwrap().contains(&1));
        // Loopback's own addresses are of host scope.
        assert_eq!(route.addresses(1), Ok(Vec::new()));
    }

    #[test]
    fn a_device_that_is_not_there_is_said_so() {
        assert_eq!(Route::open().unwrap().index("nosuch0"), Err(Errno::NODEV));
    }

    #[test]
    fn attributes_end_where_the_bytes_do() {
        assert_eq!(attributes(&[5, 0, 3, 0, 9, 0, 0, 0, 4, 0, 7, 0]), [(3, vec![9]), (7, vec![])]);
        assert_eq!(attributes(&[9, 0, 3, 0, 9]), []);
        assert_eq!(attributes(&[2, 0, 3, 0]), []);
    }
}
