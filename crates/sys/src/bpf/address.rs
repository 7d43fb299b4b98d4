//! Programs that rewrite the addresses which the sockets of a v2 group's processes connect to, send to and hear from.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::io::Result;

use super::{Instruction, bpf, load, raw};
use crate::last_errno;

const TYPE_SOCKET_ADDRESS: u32 = 18;
const LINK_CREATE: libc::c_int = 28;
const LINK_UPDATE: libc::c_int = 29;
const LINK_DETACH: libc::c_int = 34;
const SO_NETNS_COOKIE: libc::c_int = 71;

/// When the program is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressHook {
    /// Before a socket of IPv6 connects.
    Connect6 = 11,
    /// Before a socket of IPv6 that is not connected sends a datagram.
    Send6 = 15,
    /// After a socket of IPv6 has received a datagram.
    Receive6 = 20,
    /// When a socket of IPv6 is asked whom it is connected to.
    Peer6 = 30,
}

/// A program that is attached for as long as any copy of this descriptor is open.
#[derive(Debug)]
pub struct Link(OwnedFd);

/// As `BPF_LINK_CREATE` reads it.
#[repr(C)]
struct Create {
    program: u32,
    target: u32,
    hook: u32,
    flags: u32,
}

/// As `BPF_LINK_UPDATE` reads it.
#[repr(C)]
struct Update {
    link: u32,
    program: u32,
    flags: u32,
    former: u32,
}

// === impl AddressHook ===

impl AddressHook {
    /// Loads a program for this.
    ///
    /// # Errors
    /// `EPERM` without `CAP_BPF` and `CAP_NET_ADMIN` in the initial user namespace; `EINVAL` or `EACCES` if the kernel's checker
    /// does not like it, or does not know the hook.
    pub fn load(self, program: &[Instruction]) -> Result<OwnedFd> {
        load(TYPE_SOCKET_ADDRESS, self as u32, *b"tare_loopback\0\0\0", program)
    }

    /// Attaches a program to a group, beside those of others.
    ///
    /// # Errors
    /// `EPERM` if somebody else has attached a program to this very group that tolerates no other; `E2BIG` beside 64 others.
    pub fn attach(self, group: BorrowedFd<'_>, program: BorrowedFd<'_>) -> Result<Link> {
        let mut attributes =
            Create { program: raw(program), target: raw(group), hook: self as u32, flags: 0 };
        // SAFETY: the attributes hold numbers only.
        let fd = unsafe { bpf(LINK_CREATE, &mut attributes) }?;
        // SAFETY: the answer is a new descriptor that nobody else owns.
        Ok(Link(unsafe { OwnedFd::from_raw_fd(fd) }))
    }
}

// === impl Link ===

impl Link {
    /// One that was made elsewhere.
    pub fn adopt(fd: OwnedFd) -> Self {
        Self(fd)
    }

    /// From one call of the hook to the next it is this program's.
    ///
    /// # Errors
    /// `ENOLINK` if it is detached.
    pub fn replace(&self, program: BorrowedFd<'_>) -> Result<()> {
        let mut attributes = Update { link: raw(self.as_fd()), program: raw(program), flags: 0, former: 0 };
        // SAFETY: the attributes hold numbers only.
        unsafe { bpf(LINK_UPDATE, &mut attributes) }.map(drop)
    }

    /// Detaches the program, whoever else has a copy.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn detach(&self) -> Result<()> {
        let mut link = raw(self.as_fd());
        // SAFETY: the only attribute is a number.
        unsafe { bpf(LINK_DETACH, &mut link) }.map(drop)
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The number by which programs know the network namespace of a socket. No other has it, nor will until the machine is off.
///
/// # Errors
/// `ENOPROTOOPT` before Linux 5.14.
pub fn network_cookie(socket: BorrowedFd<'_>) -> Result<u64> {
    let mut cookie = 0_u64;
    let mut size = size_of::<u64>() as libc::socklen_t;
    // SAFETY: `cookie` has room for `size` bytes, and both live over the call.
    let answer = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            std::ptr::from_mut(&mut cookie).cast(),
            &raw mut size,
        )
    };
    if answer < 0 { Err(last_errno()) } else { Ok(cookie) }
}
