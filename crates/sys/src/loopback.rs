//! The loopback interface of the calling thread's network namespace, which starts out down.
//!
//! See [netdevice(7)](https://man7.org/linux/man-pages/man7/netdevice.7.html).

use std::os::fd::AsRawFd;

use rustix::io::Result;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use crate::last_errno;

/// Takes `lo` up; the kernel gives it its addresses.
///
/// # Errors
/// `EPERM` in a namespace that another user namespace owns.
pub fn up() -> Result<()> {
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    // SAFETY: all-zero is a valid value of this structure of plain data.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (slot, byte) in request.ifr_name.iter_mut().zip(b"lo") {
        *slot = *byte as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads the name and the flags of `request`, which lives over the call.
    let answer = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &request) };
    if answer < 0 { Err(last_errno()) } else { Ok(()) }
}
