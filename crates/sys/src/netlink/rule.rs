//! Rules that choose a table of routes.
//!
//! See [ip-rule(8)](https://man7.org/linux/man-pages/man8/ip-rule.8.html).

use std::net::IpAddr;

use rustix::io::Errno;

use super::address::{ip, octets};
use super::{Message, Request, Result, Socket};

/// The table of usual routes.
pub const MAIN: u32 = 254;

const RTM_NEWRULE: u16 = 32;
const RTM_DELRULE: u16 = 33;
const RTM_GETRULE: u16 = 34;
const FRA_SRC: u16 = 2;
const FRA_PRIORITY: u16 = 6;
const FRA_SUPPRESS_PREFIXLEN: u16 = 14;
const FRA_TABLE: u16 = 15;
const FIXED: usize = 12;
const TO_TABLE: u8 = 1;

/// Packets whose routes are in a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rule {
    /// Smaller is asked first.
    pub priority: u32,
    /// Of IPv4, or of IPv6.
    pub ipv4: bool,
    /// From this address only.
    pub source: Option<IpAddr>,
    /// Where they are looked for.
    pub table: u32,
    /// Routes with at most so many bits are passed by: with 0, default routes.
    pub passed_by: Option<u32>,
}

// === impl Rule ===

impl Rule {
    /// Asks for it to be added.
    pub fn addition(&self) -> Request {
        self.request(RTM_NEWRULE, Request::CREATE | Request::EXCLUSIVE)
    }

    /// Asks for it to be removed.
    pub fn deletion(&self) -> Request {
        self.request(RTM_DELRULE, 0)
    }

    fn request(&self, kind: u16, flags: u16) -> Request {
        let family = if self.ipv4 { libc::AF_INET } else { libc::AF_INET6 };
        let bits = self.source.map_or(0, |source| if source.is_ipv4() { 32 } else { 128 });
        let mut head = [0; FIXED];
        (head[0], head[2], head[7]) = (family.to_le_bytes()[0], bits, TO_TABLE);
        let mut request = Request::new(kind, flags, &head);
        if let Some(source) = self.source {
            request.put(FRA_SRC, &octets(source));
        }
        request.put_u32(FRA_PRIORITY, self.priority).put_u32(FRA_TABLE, self.table);
        if let Some(bits) = self.passed_by {
            request.put_u32(FRA_SUPPRESS_PREFIXLEN, bits);
        }
        request
    }

    fn read(message: Message<'_>) -> Option<Self> {
        let head = message.body.get(..FIXED).filter(|_| message.kind == RTM_NEWRULE)?;
        let attributes = message.attributes(FIXED);
        // Absent it is said as "none".
        let passed_by = attributes.u32(FRA_SUPPRESS_PREFIXLEN).filter(|bits| *bits != u32::MAX);
        Some(Self {
            priority: attributes.u32(FRA_PRIORITY).unwrap_or(0),
            ipv4: i32::from(head[0]) == libc::AF_INET,
            source: attributes.find(FRA_SRC).and_then(ip),
            table: attributes.u32(FRA_TABLE).unwrap_or(u32::from(head[4])),
            passed_by,
        })
    }
}

/// The rules of both families; the kernel's own ones are always there, but for a family that has a single table.
///
/// # Errors
/// `EOPNOTSUPP` if the kernel has one table only.
pub fn list(socket: &mut Socket) -> Result<Vec<Rule>> {
    let mut head = [0; FIXED];
    let mut all = Vec::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        head[0] = family.to_le_bytes()[0];
        match socket.dump(&Request::new(RTM_GETRULE, 0, &head), Rule::read) {
            // Of this family there is one table only.
            Err(error) if error.errno() == Errno::AFNOSUPPORT => {}
            found => all.extend(found?),
        }
    }
    Ok(all)
}
