//! Network devices moved into the container's namespace, with their lasting addresses, and taken up there.
//!
//! Done by the launching process, which is in the host's namespace and visits the other one: what is asked of the
//! kernel there goes through a socket that was opened there.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use tare_sys::netlink::link::{self, Change, Link};
use tare_sys::netlink::{Protocol, Socket, address};
use tare_sys::process::{Namespaces, setns};

use crate::error::{Call, Context, Error, Result};
use crate::plan::NetDevice;

/// Moves all of them into the network namespace of `pid`. What was moved before one that failed goes back with the
/// namespace, if it is a physical device, or is lost with it.
pub(crate) fn move_all(devices: &[NetDevice], pid: i32) -> Result<()> {
    if devices.is_empty() {
        return Ok(());
    }
    let (home, away) = (namespace("/proc/self/ns/net")?, namespace(&format!("/proc/{pid}/ns/net"))?);
    let mut here = open()?;
    let mut there = visit(&home, &away)?;
    for device in devices {
        move_one(device, &mut here, &mut there, &away)
            .context(|| format!("linux.netDevices: {:?} to {:?}", device.host, device.inside))?;
    }
    Ok(())
}

fn move_one(device: &NetDevice, here: &mut Socket, there: &mut Socket, away: &OwnedFd) -> Result<()> {
    let found = link::find(here, &device.host).call(|| format!("RTM_GETLINK({:?})", device.host))?;
    let addresses = address::kept(here, found.index).call(|| "RTM_GETADDR(dump)")?;
    let before = links(there)?;
    // A name with `%d` is a template that the kernel fills in.
    let change =
        Change { namespace: Some(away.as_fd()), name: Some(device.inside.as_str()), ..Change::default() };
    link::change(here, found.index, &change)
        .call(|| format!("RTM_NEWLINK(netns, name {:?})", device.inside))?;
    let arrived = links(there)?.into_iter().find(|link| before.iter().all(|old| old.index != link.index));
    let arrived = arrived.ok_or_else(|| {
        Error::new(tare_model::ErrorKind::System, "it did not arrive in the container's namespace")
    })?;
    for kept in &addresses {
        address::restore(there, arrived.index, kept).call(|| "RTM_NEWADDR()")?;
    }
    let up = Change { up: Some(true), ..Change::default() };
    link::change(there, arrived.index, &up).call(|| "RTM_NEWLINK(IFF_UP)")
}

fn links(socket: &mut Socket) -> Result<Vec<Link>> {
    link::list(socket).call(|| "RTM_GETLINK(dump)")
}

fn open() -> Result<Socket> {
    Socket::open(Protocol::Route).call(|| "socket(AF_NETLINK)")
}

/// A socket in the other namespace.
fn visit(home: &OwnedFd, away: &OwnedFd) -> Result<Socket> {
    setns(away.as_fd(), Namespaces::NET).call(|| "setns(network namespace of the container)")?;
    let socket = open();
    setns(home.as_fd(), Namespaces::NET).call(|| "setns(own network namespace)")?;
    socket
}

fn namespace(path: &str) -> Result<OwnedFd> {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).call(|| format!("open({path:?})"))
}
