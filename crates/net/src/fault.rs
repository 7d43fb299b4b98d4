//! Faults on purpose: what packets to and from a container's interface suffer, and between whom none pass.
//!
//! ```text
//!                 container's namespace │ host's
//!   to it:    eth0 ◀────────────────────┼── host's end: netem ◀── (rates and shares) ◀── bridge: what is cut is dropped
//!   from it:  eth0: netem ──────────────┼─▶ host's end ── (rates and shares) ──▶ bridge
//! ```
//! Each end of the pair holds back what it sends; rates come after that on the way out and before it on the way in, and know
//! nothing of it. Nobody's packets pass anything of this without a fault.
//!
//! Who is cut off is in a table of nftables of its own, which is there only while somebody is: what is dropped are frames, as
//! if the cable had been pulled, whatever connections there are.

mod cuts;

use rustix::io::Errno;
use tare_model::error::{Error, Result};
use tare_model::fault::{Impairment, WHOLE};
use tare_sys::netlink::traffic::{Netem, mend};
use tare_sys::netlink::{Socket, link};

pub use cuts::{Cut, Cuts};

use crate::link::refusal::{Refused, but};

/// Packets that may be held back at once: some megabytes of a fast stream with a long delay.
const HELD: u32 = 10_000;

/// What a link sends suffers this from now on, and nothing else.
///
/// # Errors
/// `Unsupported` naming what the kernel lacks; `System` with its refusal.
pub fn impair(socket: &mut Socket, link: u32, how: &Impairment) -> Result<()> {
    if how.is_none() {
        let mended = but(mend(socket, link), &[Errno::NOENT, Errno::INVAL, Errno::NODEV]);
        return mended.refused(|| format!("RTM_DELQDISC(link {link}, netem)"));
    }
    socket.call(netem(how).request(link)).map_err(|error| match error.errno() {
        Errno::OPNOTSUPP | Errno::NOENT => Error::unsupported(format!(
            "network fault: latency, jitter, loss, corrupt, duplicate, reorder and rate need the queueing discipline netem \
             (CONFIG_NET_SCH_NETEM), which this kernel lacks: {error}; a partition needs none"
        )),
        _ => Error::system(format!("RTM_NEWQDISC(link {link}, netem): {error}")),
    })
}

/// Index of the link of that name.
///
/// # Errors
/// `NotFound` without it.
pub fn index(socket: &mut Socket, name: &str) -> Result<u32> {
    link::find(socket, name).map(|link| link.index).refused(|| format!("RTM_GETLINK({name})"))
}

fn netem(how: &Impairment) -> Netem {
    let odds = |millionths: u32| {
        let part = u64::from(millionths) * u64::from(u32::MAX) / u64::from(WHOLE);
        u32::try_from(part).unwrap_or(u32::MAX)
    };
    Netem {
        latency: how.latency,
        jitter: how.jitter,
        limit: HELD,
        loss: odds(how.loss),
        corrupt: odds(how.corrupt),
        duplicate: odds(how.duplicate),
        reorder: odds(how.reorder),
        rate: how.rate,
    }
}

#[cfg(test)]
mod tests;
