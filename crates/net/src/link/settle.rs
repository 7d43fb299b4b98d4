//! Waiting for what the kernel does a moment after it has said that it is done.
//!
//! A container's first packet may leave microseconds after its interface is there. If it is lost, it or the question for its
//! neighbour is sent again after a whole second. Both waits are short, and nothing fails for them.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use tare_model::error::Result;
use tare_sys::netlink::{Socket, link, route};

use super::refusal::Refused;

/// Usually it takes microseconds; a busy kernel's workers stand in line for the lock of all links.
const PATIENCE: Duration = Duration::from_millis(100);

/// Waits until a link, of which both ends are up, carries packets: until then its bridge drops them. Once asking is
/// enough since Linux 6.9.
pub(super) fn carries(socket: &mut Socket, index: u32) -> Result<()> {
    soon(|| Ok(link::get(socket, index).refused(|| format!("RTM_GETLINK({index})"))?.operational))
}

/// Waits until what is sent to an IPv6 address arrives: a worker adds the route, even where no duplicate is looked for.
pub(super) fn receives(socket: &mut Socket, address: IpAddr) -> Result<()> {
    if address.is_ipv4() {
        return Ok(());
    }
    soon(|| route::is_own(socket, address).refused(|| format!("RTM_GETROUTE({address})")))
}

fn soon(mut done: impl FnMut() -> Result<bool>) -> Result<()> {
    let started = Instant::now();
    while !done()? && started.elapsed() < PATIENCE {
        std::thread::yield_now();
    }
    Ok(())
}
