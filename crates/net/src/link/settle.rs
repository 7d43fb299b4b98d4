//! Waiting for what the kernel does a moment after it has said that it is done.
//!
//! A container's first packet may leave microseconds after its interface is there. If it is lost, it or the question for its
//! neighbour is sent again after a whole second. Both waits are short, and nothing fails for them.

use std::net::IpAddr;

use tare_model::error::Result;
use tare_sys::netlink::{Socket, link, route};

use super::refusal::Refused;

/// Enough for a worker of a busy kernel.
const ATTEMPTS: u32 = 500;

/// Waits until a link, of which both ends are up, carries packets: until then its bridge drops them. Once asking is
/// enough since Linux 6.9.
pub(super) fn carries(socket: &mut Socket, index: u32) -> Result<()> {
    for _ in 0..ATTEMPTS {
        if link::get(socket, index).refused(|| format!("RTM_GETLINK({index})"))?.operational {
            break;
        }
        std::thread::yield_now();
    }
    Ok(())
}

/// Waits until what is sent to an IPv6 address arrives: a worker adds the route, even where no duplicate is looked for.
pub(super) fn receives(socket: &mut Socket, address: IpAddr) -> Result<()> {
    if address.is_ipv4() {
        return Ok(());
    }
    for _ in 0..ATTEMPTS {
        if route::is_own(socket, address).refused(|| format!("RTM_GETROUTE({address})"))? {
            break;
        }
        std::thread::yield_now();
    }
    Ok(())
}
