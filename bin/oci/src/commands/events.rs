//! What a container uses, in the form that programs know from runc: one JSON object a line.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use serde_json::{Value, json};
use tare_model::sandbox::{InterfaceStats, Running};
use tare_model::{Error, Result};
use tare_runtime::Container;
use tare_runtime::cgroup::usage::Usage;

use super::{Context, print};
use crate::cli::Events;
use crate::state::Directory;

pub(crate) fn events(context: &Context<'_>, args: &Events) -> Result<u8> {
    let state = Directory::of(context.root, &args.id)?.read()?;
    let Some(pidfd) = state.process() else {
        return Err(Error::conflict(format!("container with id {} is not running", args.id)));
    };
    let mut container = state.open()?;
    if args.stats {
        return stats(&container, &args.id);
    }
    container.watch_oom()?;
    let mut next = Instant::now() + args.interval;
    loop {
        let left = next.saturating_duration_since(Instant::now());
        let ready = wait(pidfd.as_fd(), container.oom_fd(), left)?;
        if ready.oom && container.oom_killed() {
            print(&format!("{}\n", json!({"type": "oom", "id": args.id})))?;
        }
        if ready.ended {
            return Ok(0);
        }
        if next <= Instant::now() {
            next += args.interval;
            stats(&container, &args.id)?;
        }
    }
}

struct Ready {
    ended: bool,
    oom: bool,
}

fn wait(pidfd: BorrowedFd<'_>, oom: Option<BorrowedFd<'_>>, left: Duration) -> Result<Ready> {
    let mut fds = vec![PollFd::from_borrowed_fd(pidfd, PollFlags::IN)];
    fds.extend(oom.map(|oom| PollFd::from_borrowed_fd(oom, PollFlags::IN)));
    match poll(&mut fds, Timespec::try_from(left).ok().as_ref()) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(error) => return Err(Error::system(format!("poll: {error}"))),
    }
    let is_ready = |at: usize| fds.get(at).is_some_and(|fd| !fd.revents().is_empty());
    Ok(Ready { ended: is_ready(0), oom: is_ready(1) })
}

fn stats(container: &Container, id: &str) -> Result<u8> {
    let data = described(&container.usage()?, &container.networks())?;
    print(&format!("{}\n", json!({"type": "stats", "id": id, "data": data})))
}

fn described(usage: &Usage, networks: &BTreeMap<String, InterfaceStats>) -> Result<Value> {
    let mut data = serde_json::to_value(usage).map_err(|error| Error::system(format!("usage: {error}")))?;
    let networks = networks.iter().map(|(name, one)| {
        json!({
            "Name": name,
            "RxBytes": one.rx_bytes, "RxPackets": one.rx_packets, "RxErrors": one.rx_errors, "RxDropped": one.rx_dropped,
            "TxBytes": one.tx_bytes, "TxPackets": one.tx_packets, "TxErrors": one.tx_errors, "TxDropped": one.tx_dropped,
        })
    });
    data["network_interfaces"] = networks.collect();
    // Groups of Intel RDT are counted by other programs; the place is always there.
    data["intel_rdt"] = json!({});
    Ok(data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_stand_where_programs_look_for_them() {
        let mut usage = Usage::default();
        usage.cpu.usage.total = 30;
        usage.cpu.usage.percpu = vec![30];
        usage.memory.usage.limit = 9;
        usage.memory.raw = [("cache".to_owned(), 5)].into();
        usage.pids.limit = 7;
        let traffic =
            [("eth0".to_owned(), InterfaceStats { rx_bytes: 3, ..InterfaceStats::default() })].into();
        let object = described(&usage, &traffic).unwrap();
        for (place, value) in [
            ("/cpu/usage/total", json!(30)),
            ("/cpu/usage/percpu", json!([30])),
            ("/cpu/throttling/throttledTime", json!(0)),
            ("/memory/usage/limit", json!(9)),
            ("/memory/raw/cache", json!(5)),
            ("/memory/kernelTCP/failcnt", json!(0)),
            ("/pids", json!({"current": 0, "limit": 7})),
            ("/blkio", json!({})),
            ("/hugetlb", json!({})),
            ("/intel_rdt", json!({})),
            ("/network_interfaces/0/Name", json!("eth0")),
            ("/network_interfaces/0/RxBytes", json!(3)),
        ] {
            assert_eq!(object.pointer(place), Some(&value), "{place}");
        }
    }
}
