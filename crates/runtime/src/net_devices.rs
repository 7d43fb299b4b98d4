//! Network devices moved into the container's namespace, with their lasting addresses, and taken up there.
//!
//! Done by the launching process, which is in the host's namespace and visits the other one: what is asked of the
//! kernel there goes through a socket that was opened there.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use tare_sys::netlink::Route;
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
    let here = Route::open().call(|| "socket(AF_NETLINK)")?;
    let there = visit(&home, &away)?;
    for device in devices {
        move_one(device, &here, &there, &away)
            .context(|| format!("linux.netDevices: {:?} to {:?}", device.host, device.inside))?;
    }
    Ok(())
}

fn move_one(device: &NetDevice, here: &Route, there: &Route, away: &OwnedFd) -> Result<()> {
    let index = here.index(&device.host).call(|| format!("RTM_GETLINK({:?})", device.host))?;
    let addresses = here.addresses(index).call(|| "RTM_GETADDR(dump)")?;
    let before = there.indexes().call(|| "RTM_GETLINK(dump)")?;
    here.move_link(index, away.as_fd(), &device.inside)
        .call(|| format!("RTM_NEWLINK(netns, name {:?})", device.inside))?;
    let after = there.indexes().call(|| "RTM_GETLINK(dump)")?;
    let arrived = after.into_iter().find(|index| !before.contains(index));
    let arrived = arrived.ok_or_else(|| {
        Error::new(tare_model::ErrorKind::System, "it did not arrive in the container's namespace")
    })?;
    for address in &addresses {
        there.add_address(arrived, address).call(|| "RTM_NEWADDR()")?;
    }
    there.up(arrived).call(|| "RTM_NEWLINK(IFF_UP)")
}

/// A socket in the other namespace.
fn visit(home: &OwnedFd, away: &OwnedFd) -> Result<Route> {
    setns(away.as_fd(), Namespaces::NET).call(|| "setns(network namespace of the container)")?;
    let socket = Route::open().call(|| "socket(AF_NETLINK)");
    setns(home.as_fd(), Namespaces::NET).call(|| "setns(own network namespace)")?;
    socket
}

fn namespace(path: &str) -> Result<OwnedFd> {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).call(|| format!("open({path:?})"))
}
