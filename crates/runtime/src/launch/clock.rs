//! A child in a time namespace of its own.
//!
//! Offsets can be set only while nobody is in the namespace. So the launching process makes it for its children, sets
//! the offsets, forks, and has its next children born at home again.

use rustix::fs::{Mode, OFlags};
use std::os::fd::AsFd;
use tare_sys::process::{Forked, Namespaces, setns, unshare};

use crate::error::{Call, Context, Result};
use crate::plan::Plan;

/// Forks with `make`, in a new time namespace if the plan wants one.
pub(crate) fn fork_in(plan: &Plan, make: impl FnOnce() -> Result<Forked>) -> Result<Forked> {
    const OWN: &str = "/proc/self/ns/time";
    const OFFSETS: &str = "/proc/self/timens_offsets";
    if !plan.namespaces.new_time {
        return make();
    }
    let home = rustix::fs::open(OWN, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .call(|| format!("open({OWN:?})"))
        .context(|| "time namespace")?;
    unshare(Namespaces::TIME).call(|| "unshare(CLONE_NEWTIME)")?;
    let offsets = plan.time_offsets.as_str();
    let set =
        if offsets.is_empty() { Ok(()) } else { write(OFFSETS, offsets).context(|| "linux.timeOffsets") };
    let made = set.and_then(|()| make());
    if !matches!(made, Ok(Forked::Child)) {
        setns(home.as_fd(), Namespaces::TIME).call(|| "setns(own time namespace)")?;
    }
    made
}

fn write(path: &str, text: &str) -> Result<()> {
    let file = rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
        .call(|| format!("open({path:?}, O_WRONLY)"))?;
    rustix::io::write(&file, text.as_bytes()).call(|| format!("write({path:?}, {text:?})")).map(drop)
}
