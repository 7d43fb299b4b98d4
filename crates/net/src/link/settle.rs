//! Waiting for what the kernel does a moment after it has said that it is done.
//!
//! A container's first packet may leave microseconds after its interface is there. If it is lost, it or the question for its
//! neighbour is sent again after a whole second. Both waits are short, and nothing fails for them.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use rustix::event::{Timespec, poll};
use tare_model::error::Result;
use tare_sys::netlink::{Socket, link, route};

use super::refusal::Refused;

/// Usually it takes microseconds; a busy kernel's workers stand in line for the lock of all links, which dying namespaces hold
/// for long. To wait longer than a lost packet costs would be no gain.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often is asked without a pause.
const EAGER: u32 = 20;
/// Between two questions after that. The kernel tells of no event that both waits would end with.
const PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000 };

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
    let mut asked = 0;
    while !done()? && started.elapsed() < PATIENCE {
        asked += 1;
        if asked < EAGER {
            std::thread::yield_now();
        } else {
            // Interrupted, it asks again the sooner.
            let _ = poll(&mut [], Some(&PAUSE));
        }
    }
    Ok(())
}
