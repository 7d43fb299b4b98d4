//! A request while it is written: a header, a fixed part, attributes in attributes.

use rustix::io::Errno;

use super::Result;

/// Bytes of `struct nlmsghdr`.
pub(super) const HEADER: usize = 16;
/// Marks an attribute that holds attributes.
const NESTED: u16 = 1 << 15;

pub(super) const F_REQUEST: u16 = 0x1;
pub(super) const F_ACK: u16 = 0x4;
pub(super) const F_DUMP: u16 = 0x300;

/// One message to the kernel.
///
/// Lengths in netlink are 16 bits wide. A value that does not fit spoils the request, which then fails to be sent
/// (`EMSGSIZE`), instead of being cut to something else than was meant.
#[derive(Clone, Debug)]
pub struct Request {
    bytes: Vec<u8>,
    too_long: bool,
}

// === impl Request ===

impl Request {
    /// Fails if an object of that name is there already.
    pub const EXCLUSIVE: u16 = 0x200;
    /// Makes the object if it is not there.
    pub const CREATE: u16 = 0x400;
    /// Replaces an object that is there.
    pub const REPLACE: u16 = 0x100;
    /// Adds to the end of a list.
    pub const APPEND: u16 = 0x800;

    /// A request of type `kind`; `fixed` is the structure that this type starts with.
    pub fn new(kind: u16, flags: u16, fixed: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(256);
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&(flags | F_REQUEST).to_ne_bytes());
        bytes.extend_from_slice(&[0; 8]);
        bytes.extend_from_slice(fixed);
        let mut request = Self { bytes, too_long: false };
        request.pad();
        request
    }

    /// Adds an attribute.
    pub fn put(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        let at = self.open(kind);
        self.bytes.extend_from_slice(value);
        self.close(at);
        self
    }

    /// Adds a number in the machine's byte order.
    pub fn put_u32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.put(kind, &value.to_ne_bytes())
    }

    /// Adds a number in network byte order.
    pub fn put_be32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.put(kind, &value.to_be_bytes())
    }

    /// Adds a string and its end.
    pub fn put_str(&mut self, kind: u16, value: &str) -> &mut Self {
        let at = self.open(kind);
        self.bytes.extend_from_slice(value.as_bytes());
        self.bytes.push(0);
        self.close(at);
        self
    }

    /// Adds an attribute that holds the ones which `fill` adds.
    pub fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) -> &mut Self {
        let at = self.open(kind | NESTED);
        fill(self);
        self.close(at);
        self
    }

    /// Adds a structure that stands between attributes without a header of its own.
    pub fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(bytes);
        self.pad();
        self
    }

    fn open(&mut self, kind: u16) -> usize {
        let at = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        at
    }

    fn close(&mut self, at: usize) {
        match u16::try_from(self.bytes.len() - at) {
            Ok(length) => self.bytes[at..at + 2].copy_from_slice(&length.to_ne_bytes()),
            Err(_) => self.too_long = true,
        }
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    /// The finished message.
    pub(super) fn finish(mut self, flags: u16, sequence: u32) -> Result<Vec<u8>> {
        let length = u32::try_from(self.bytes.len()).map_err(|_| Errno::MSGSIZE)?;
        if self.too_long {
            return Err(Errno::MSGSIZE.into());
        }
        let flags = u16::from_ne_bytes([self.bytes[6], self.bytes[7]]) | flags;
        self.bytes[..4].copy_from_slice(&length.to_ne_bytes());
        self.bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        self.bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        Ok(self.bytes)
    }
}
