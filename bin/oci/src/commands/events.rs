//! What a container uses, in the form that programs know from runc: one JSON object a line.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use serde_json::{Value, json};
use tare_model::sandbox::{BlockIo, CpuStats, MemoryStats, Running, Stats};
use tare_model::{Error, Result};
use tare_runtime::Container;

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
    let data = described(&container.stats()?);
    print(&format!("{}\n", json!({"type": "stats", "id": id, "data": data})))
}

fn described(stats: &Stats) -> Value {
    let networks = stats.networks.iter().map(|(name, one)| {
        json!({
            "Name": name,
            "RxBytes": one.rx_bytes, "RxPackets": one.rx_packets, "RxErrors": one.rx_errors, "RxDropped": one.rx_dropped,
            "TxBytes": one.tx_bytes, "TxPackets": one.tx_packets, "TxErrors": one.tx_errors, "TxDropped": one.tx_dropped,
        })
    });
    let pids = stats.pids.clone().unwrap_or_default();
    json!({
        "cpu": stats.cpu.as_ref().map_or_else(|| cpu(&CpuStats::default()), cpu),
        "memory": stats.memory.as_ref().map_or_else(|| memory(&MemoryStats::default()), memory),
        "pids": {"current": pids.current, "limit": pids.limit.unwrap_or(0)},
        "blkio": {"ioServiceBytesRecursive": stats.block_io.iter().map(block_io).collect::<Vec<_>>()},
        "hugetlb": {},
        "intel_rdt": {},
        "network_interfaces": networks.collect::<Vec<_>>(),
    })
}

fn cpu(stats: &CpuStats) -> Value {
    json!({
        "usage": {"total": stats.usage, "kernel": stats.system, "user": stats.user, "percpu": stats.per_cpu},
        "throttling": {
            "periods": stats.periods, "throttledPeriods": stats.throttled_periods, "throttledTime": stats.throttled_time,
        },
    })
}

fn memory(stats: &MemoryStats) -> Value {
    let cache = stats.detail.get("total_cache").or(stats.detail.get("cache")).or(stats.detail.get("file"));
    json!({
        "cache": cache.copied().unwrap_or(0),
        "usage": {
            // As the kernel's own files say "none".
            "limit": stats.limit.unwrap_or(u64::MAX), "usage": stats.usage,
            "max": stats.max_usage, "failcnt": stats.failures,
        },
        "raw": stats.detail,
    })
}

fn block_io(one: &BlockIo) -> Value {
    let op = if one.operation == "read" { "Read" } else { "Write" };
    json!({"major": one.major, "minor": one.minor, "op": op, "value": one.bytes})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_stand_where_programs_look_for_them() {
        let detail = [("cache".to_owned(), 5)].into();
        let stats = Stats {
            cpu: Some(CpuStats { usage: 30, user: 10, system: 20, per_cpu: vec![30], ..CpuStats::default() }),
            memory: Some(MemoryStats { usage: 7, limit: Some(9), detail, ..MemoryStats::default() }),
            block_io: vec![BlockIo { major: 8, minor: 0, operation: "write".into(), bytes: 4 }],
            ..Stats::default()
        };
        let object = described(&stats);
        assert_eq!(object["cpu"]["usage"], json!({"total": 30, "kernel": 20, "user": 10, "percpu": [30]}));
        assert_eq!(object["memory"]["usage"]["limit"], json!(9));
        assert_eq!((&object["memory"]["cache"], &object["memory"]["raw"]["cache"]), (&json!(5), &json!(5)));
        assert_eq!(
            object["blkio"]["ioServiceBytesRecursive"],
            json!([{"major": 8, "minor": 0, "op": "Write", "value": 4}])
        );
    }
}
