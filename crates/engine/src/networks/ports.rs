//! Ports of the host: who has which, and which are given. Each is held by a socket, so that no program of the host's takes it
//! and one that has it is noticed at once.

use std::collections::BTreeMap;
use std::io::ErrorKind as Io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use tare_model::network::{PortBinding, Protocol, Published};
use tare_model::{ContainerId, Error, ErrorKind, Result};

use super::Party;
use super::fabric::Fabric;
use crate::work;

/// Ports that are published, by whom.
#[derive(Default)]
pub(super) struct Ports {
    held: BTreeMap<(Protocol, u16), Vec<Held>>,
    /// Where the search for a free one goes on.
    next: u16,
}

struct Held {
    host: IpAddr,
    owner: ContainerId,
    name: String,
    socket: Option<OwnedFd>,
}

/// A container that publishes, and where it is reached.
pub(super) struct Target<'a> {
    pub(super) id: &'a ContainerId,
    pub(super) name: &'a str,
    /// Its address in each family that is led to.
    pub(super) addresses: &'a [IpAddr],
    /// Where ports without an address of the host's are published.
    pub(super) host: Option<IpAddr>,
}

/// Why a port cannot be tried further.
enum Refusal {
    Taken(Unavailable),
    Failed(Error),
}

/// Why something could not be taken.
#[derive(Debug)]
pub(super) enum Unavailable {
    /// A program of the host's has this port. Which one is found out by [`Unavailable::told`], behind no lock: it takes a walk
    /// through all processes.
    Held(Protocol, SocketAddr),
    /// Everything else.
    Other(Error),
}

// === impl Unavailable ===

impl Unavailable {
    /// Somebody who has ended may have it, and not for long.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::Held(..) => true,
            Self::Other(e) => matches!(e.kind(), ErrorKind::Conflict | ErrorKind::Forbidden),
        }
    }

    /// The same for people. Reads all of /proc if need be, on a thread that may take its time.
    pub(super) async fn told(self, fabric: Arc<dyn Fabric>) -> Error {
        let (protocol, address) = match self {
            Self::Held(protocol, address) => (protocol, address),
            Self::Other(e) => return e,
        };
        match work::blocking(move || Ok(fabric.holder(protocol, address))).await {
            Ok(who) => Error::conflict(format!("{} by {who}", allocated(address))),
            Err(e) => e,
        }
    }
}

impl From<Error> for Unavailable {
    fn from(e: Error) -> Self {
        Self::Other(e)
    }
}

fn allocated(address: SocketAddr) -> String {
    format!("Bind for {address} failed: port is already allocated")
}

// === impl Ports ===

impl Ports {
    /// Takes a port for each binding, on every address of the host's that it means. All, or none.
    ///
    /// # Errors
    /// `Conflict` naming who has it; `InvalidInput` for an address the host does not have, or a family the container has not.
    pub(super) fn take(
        &mut self,
        bindings: &[PortBinding],
        target: &Target<'_>,
        fabric: &dyn Fabric,
    ) -> std::result::Result<Vec<Published>, Unavailable> {
        let mut all = Vec::new();
        for binding in bindings {
            match self.take_one(binding, target, fabric) {
                Ok(published) => all.extend(published),
                Err(e) => {
                    self.give_back(&all);
                    return Err(e);
                }
            }
        }
        Ok(all)
    }

    fn take_one(
        &mut self,
        binding: &PortBinding,
        target: &Target<'_>,
        fabric: &dyn Fabric,
    ) -> std::result::Result<Vec<Published>, Unavailable> {
        let pairs = pairs(binding, target)?;
        let (candidates, asked) = self.candidates(binding, fabric);
        let mut last = None;
        for port in candidates {
            match self.try_port(port, binding, &pairs, target, fabric) {
                Ok(published) => return Ok(published),
                Err(Refusal::Failed(e)) => return Err(e.into()),
                Err(Refusal::Taken(why)) => last = Some(why),
            }
        }
        Err(match last {
            Some(why) if asked == 1 => why,
            _ => Error::conflict(format!(
                "all ports are allocated: none of {}-{}/{} is free",
                binding.host_ports.0, binding.host_ports.1, binding.protocol
            ))
            .into(),
        })
    }

    /// Ports to be tried in order, and how many are meant.
    fn candidates(&mut self, binding: &PortBinding, fabric: &dyn Fabric) -> (Vec<u16>, usize) {
        let (first, last) = binding.host_ports;
        if (first, last) != (0, 0) {
            let all: Vec<u16> = (first..=last).collect();
            let count = all.len();
            return (all, count);
        }
        let (first, last) = fabric.ephemeral_ports();
        let start = self.next.clamp(first, last);
        let all: Vec<u16> = (start..=last).chain(first..start).collect();
        self.next = if start == last { first } else { start + 1 };
        let count = all.len();
        (all, count)
    }

    fn try_port(
        &mut self,
        port: u16,
        binding: &PortBinding,
        pairs: &[(IpAddr, IpAddr)],
        target: &Target<'_>,
        fabric: &dyn Fabric,
    ) -> std::result::Result<Vec<Published>, Refusal> {
        let protocol = binding.protocol;
        let mut held = Vec::new();
        for (host, _) in pairs {
            let socket = SocketAddr::new(*host, port);
            let others = self.held.get(&(protocol, port)).into_iter().flatten();
            if let Some(other) = others.into_iter().find(|other| overlap(other.host, *host)) {
                let why = format!("{} by container {}", allocated(socket), other.name);
                return Err(Refusal::Taken(Error::conflict(why).into()));
            }
            match fabric.hold(protocol, socket) {
                Ok(fd) => held.push(Held {
                    host: *host,
                    owner: target.id.clone(),
                    name: target.name.to_owned(),
                    socket: fd,
                }),
                Err(e) if e.kind() == Io::AddrInUse => {
                    return Err(Refusal::Taken(Unavailable::Held(protocol, socket)));
                }
                Err(e) if e.kind() == Io::AddrNotAvailable => {
                    let why = format!("cannot publish on {socket}: the host has no address {host}");
                    return Err(Refusal::Failed(Error::invalid(why)));
                }
                Err(e) => {
                    let why = format!("bind({protocol}, {socket}): {e}");
                    return Err(Refusal::Failed(Error::system(why)));
                }
            }
        }
        self.held.entry((protocol, port)).or_default().extend(held);
        let published = pairs.iter().map(|(host, address)| Published {
            host: *host,
            host_port: port,
            protocol,
            address: *address,
            port: binding.port,
        });
        Ok(published.collect())
    }

    /// After a restart: what a running container has. A port that somebody took meanwhile is still led to the container.
    pub(super) fn adopt(
        &mut self,
        published: &[Published],
        id: &ContainerId,
        name: &str,
        fabric: &dyn Fabric,
    ) {
        for one in published {
            let address = SocketAddr::new(one.host, one.host_port);
            let socket = fabric.hold(one.protocol, address);
            if let Err(e) = &socket {
                tracing::warn!(container = id.as_str(), "hold its port {address}/{}: {e}", one.protocol);
            }
            let held = Held {
                host: one.host,
                owner: id.clone(),
                name: name.to_owned(),
                socket: socket.ok().flatten(),
            };
            self.held.entry((one.protocol, one.host_port)).or_default().push(held);
        }
    }

    /// What holds these ports, in their order.
    pub(super) fn sockets(&self, published: &[Published]) -> Vec<Option<OwnedFd>> {
        let socket = |one: &Published| {
            let held = self.held.get(&(one.protocol, one.host_port))?;
            // Where descriptors are used up, who needs it says so.
            held.iter().find(|held| held.host == one.host)?.socket.as_ref()?.try_clone().ok()
        };
        published.iter().map(socket).collect()
    }

    /// Gives ports back.
    pub(super) fn give_back(&mut self, published: &[Published]) {
        for one in published {
            let key = (one.protocol, one.host_port);
            if let Some(held) = self.held.get_mut(&key) {
                held.retain(|held| held.host != one.host);
                if held.is_empty() {
                    self.held.remove(&key);
                }
            }
        }
    }

    /// A container has another name.
    pub(super) fn rename(&mut self, id: &ContainerId, name: &str) {
        for held in self.held.values_mut().flatten().filter(|held| held.owner == *id) {
            name.clone_into(&mut held.name);
        }
    }
}

/// Bindings of a container: those asked for and, if all exposed ports are to be published, one for each that has none.
///
/// # Errors
/// `InvalidInput` for an exposed port that is none.
pub(crate) fn bindings(party: Party<'_>) -> Result<Vec<PortBinding>> {
    let networking = &party.config.networking;
    let mut all = networking.ports.clone();
    if networking.publish_all {
        for exposed in party.exposed {
            let wrong = || Error::invalid(format!("invalid exposed port {exposed:?}: want 80/tcp"));
            let (port, protocol) = exposed.split_once('/').unwrap_or((exposed, "tcp"));
            let protocol = protocol.parse()?;
            let (first, last) = port.split_once('-').unwrap_or((port, port));
            let range = first.parse::<u16>().ok().zip(last.parse::<u16>().ok()).ok_or_else(wrong)?;
            for port in range.0..=range.1 {
                if !all.iter().any(|binding| (binding.port, binding.protocol) == (port, protocol)) {
                    all.push(PortBinding { port, protocol, host: None, host_ports: (0, 0) });
                }
            }
        }
    }
    Ok(all)
}

/// Addresses of the host that a binding means, each with the container's address in that family.
fn pairs(binding: &PortBinding, target: &Target<'_>) -> Result<Vec<(IpAddr, IpAddr)>> {
    let of_family = |ipv4: bool| target.addresses.iter().copied().find(|address| address.is_ipv4() == ipv4);
    let what = format!("{}/{}", binding.port, binding.protocol);
    let pairs: Vec<_> = match binding.host.or(target.host) {
        Some(host) => {
            let address = of_family(host.is_ipv4()).ok_or_else(|| {
                Error::invalid(format!(
                    "cannot publish {what} on {host}: the container has no address of that family"
                ))
            })?;
            vec![(host, address)]
        }
        None => {
            let any = [IpAddr::from(Ipv4Addr::UNSPECIFIED), IpAddr::from(Ipv6Addr::UNSPECIFIED)];
            any.into_iter().filter_map(|host| Some((host, of_family(host.is_ipv4())?))).collect()
        }
    };
    if pairs.is_empty() {
        return Err(Error::invalid(format!(
            "cannot publish {what}: the container is on no network that leads to the host"
        )));
    }
    Ok(pairs)
}

fn overlap(a: IpAddr, b: IpAddr) -> bool {
    a == b || (a.is_ipv4() == b.is_ipv4() && (a.is_unspecified() || b.is_unspecified()))
}
