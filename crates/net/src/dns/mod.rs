//! Names: one server in the daemon answers the sockets that containers made for their own 127.0.0.11.
//!
//! ```text
//!   program ─ 127.0.0.11:53 ─[redirect, in its namespace]─▶ Sockets.dns_udp, dns_tcp ─▶ serve (tasks of the daemon)
//!                                                                                        │ wire: read the question
//!   engine ─ join, leave ─▶ Directory ─ names of the networks that the container is on ─▶ local: answered in memory
//!                                                                                        │ not ours
//!                            host's network ◀─ Upstream (sockets of the daemon) ◀─ Cache ◀┘ and a way out exists
//! ```
//!
//! - A name of a container is never asked upstream, whatever the type: a name with IPv4 only has an empty answer for AAAA, or
//!   `getaddrinfo` would believe an upstream that says there is no such name. So is an address in a subnet of its networks.
//! - A container that is on internal networks only is refused what is not ours (`SERVFAIL`, as Docker has it); not one
//!   packet leaves. Below a search domain the answer is `NXDOMAIN`, so that resolvers go on to the next domain: musl does
//!   not after `SERVFAIL`.
//! - A single label that is not ours is asked upstream, as Docker does and as resolvers of offices and homes expect, but for
//!   a container with `ndots` set: there `NXDOMAIN` sends the resolver on to its search domains. (Docker has an empty
//!   answer, after which musl gives up.)
//! - `resolv.conf` of a container with search domains has `ndots:0` unless its user said otherwise, as Docker writes it: or
//!   resolvers ask for `web.corp.example` before `web`, and who answers everything below that domain has taken its place.
//! - Upstream servers are asked from the host's network, through sockets of the daemon. A server in the container's own view
//!   would need a socket made inside for each question (or few ports that an attacker need guess), and could not be a
//!   loopback one, such as systemd-resolved. The price: a server that only the container can reach (by a VPN of its own, on
//!   a macvlan, which the host does not see) is not found.
//! - Nothing is waited for with a lock held; questions outstanding are bounded for each container and in all, such that
//!   many greedy ones leave room for the next ([`Limits::outstanding`]). Container names never wait for an upstream.
//! - Programs of the host may ask too, if the operator says where ([`Dns::serve_host`]).
//! - A container's sockets belong to somebody else, who keeps copies. Questions that come while no daemon runs wait in their buffers;
//!   [`Dns::serve`] by the next one answers them.
//!
//! Deliberately not here: DNSSEC validation (bits and records are passed on as they are), zone transfers, updates.

mod cache;
mod directory;
mod exchange;
pub mod fuzzing;
mod host;
mod local;
mod redirect;
mod server;
mod tcp;
mod udp;
mod upstream;
mod wire;

use std::collections::{BTreeMap, HashMap};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tare_model::error::{Error, Result};
use tare_model::id::{ContainerId, NetworkId};
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

pub use directory::{Directory, Member, Zone};
pub use host::DOMAIN;
pub use redirect::{ADDRESS, redirect};

use host::HostView;
use local::View;
use server::{Served, Shared};

/// The server. Dropping it ends every task of it; the sockets' other copies live on.
#[derive(Debug)]
pub struct Dns {
    runtime: Handle,
    shared: Arc<Shared>,
    directory: Arc<Directory>,
    served: Mutex<HashMap<ContainerId, Serving>>,
    host: Mutex<Option<Serving>>,
}

/// How much is held at once, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Questions outstanding upstream, of all containers. One container may have as many as are free beside its own, so that
    /// *n* greedy ones leave an *n+1*th of them; the rest is answered `SERVFAIL` at once.
    pub outstanding: usize,
    /// Questions outstanding upstream of one container (Docker: 1,024).
    pub outstanding_each: usize,
    /// TCP connections of one container; more wait in the listening queue.
    pub connections_each: usize,
    /// A TCP client that sends no whole question for this long, or takes no answer, is cut off.
    pub idle: Duration,
    /// After this the next upstream server is asked as well; the one before is still listened to.
    pub patience: Duration,
    /// After this the answer is `SERVFAIL`: before resolvers, who wait five seconds, ask again.
    pub total: Duration,
    /// Answers remembered.
    pub cache_entries: usize,
    /// Bytes of them.
    pub cache_bytes: usize,
}

/// What a container may ask, and whom for the rest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// The networks that it is on, first the one whose names win.
    pub networks: Vec<Attachment>,
    /// Servers for what is not ours, in the order in which they are asked, from the host's network.
    pub upstream: Vec<SocketAddr>,
    /// Search domains of its `resolv.conf`.
    pub search: Vec<String>,
    /// Options of its `resolv.conf`, `ndots:2`.
    pub options: Vec<String>,
}

/// A network that a container is on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// The network; the [`Directory`] knows it.
    pub network: NetworkId,
    /// Names for this container alone, and whom they stand for: a name on the same network.
    pub links: BTreeMap<String, String>,
}

/// The tasks of a container, or of the host.
#[derive(Debug)]
struct Serving {
    served: Arc<Served>,
    tasks: [AbortHandle; 2],
}

// === impl Limits ===

impl Default for Limits {
    fn default() -> Self {
        Self {
            outstanding: 4096,
            outstanding_each: 1024,
            connections_each: 64,
            idle: Duration::from_secs(10),
            patience: Duration::from_millis(1500),
            total: Duration::from_millis(4500),
            cache_entries: 4096,
            cache_bytes: 4 << 20,
        }
    }
}

// === impl Dns ===

impl Dns {
    /// A server without sockets, whose tasks run where this is called.
    ///
    /// # Errors
    /// Outside of a tokio runtime.
    pub fn open(directory: Arc<Directory>, limits: Limits) -> Result<Self> {
        let runtime = Handle::try_current()
            .map_err(|error| Error::system(format!("the name server needs a tokio runtime: {error}")))?;
        Ok(Self {
            runtime,
            shared: Arc::new(Shared::new(limits)),
            directory,
            served: Mutex::default(),
            host: Mutex::default(),
        })
    }

    /// Answers what comes to these sockets, instead of the ones that the container had before.
    ///
    /// # Errors
    /// `NotFound` for a network that the directory does not know; `InvalidInput` for an option that cannot be read;
    /// a socket that cannot be waited for.
    pub fn serve(
        &self,
        container: &ContainerId,
        udp: OwnedFd,
        tcp: OwnedFd,
        settings: &Settings,
    ) -> Result<()> {
        let context = |error: Error| error.context(format!("serve names to container {}", container.short()));
        let view = View::of(&self.directory, settings).map_err(context)?;
        let serving = self.start(Served::new(self.shared.clone(), view), udp, tcp).map_err(context)?;
        // The serving before ends as it is dropped.
        drop(self.lock().insert(container.clone(), serving));
        Ok(())
    }

    /// Answers programs of the host on a socket address: names of all networks, below [`DOMAIN`].
    ///
    /// # Errors
    /// An address that cannot be had.
    pub fn serve_host(&self, at: SocketAddr) -> Result<()> {
        let failed =
            |call: &str, e| Error::system(format!("answer for containers' names on {at}: {call}: {e}"));
        let udp = UdpSocket::bind(at).map_err(|e| failed("bind(UDP)", e))?;
        let tcp = TcpListener::bind(at).map_err(|e| failed("bind(TCP)", e))?;
        self.serve_host_on(udp.into(), tcp.into())
    }

    fn serve_host_on(&self, udp: OwnedFd, tcp: OwnedFd) -> Result<()> {
        let view = HostView::of(self.directory.clone());
        let serving = self.start(Served::new(self.shared.clone(), view), udp, tcp)?;
        *self.host.lock().unwrap_or_else(PoisonError::into_inner) = Some(serving);
        Ok(())
    }

    /// Other settings for a container that is served: from the next question on.
    ///
    /// # Errors
    /// As [`Dns::serve`]; `NotFound` for a container that is not served.
    pub fn update(&self, container: &ContainerId, settings: &Settings) -> Result<()> {
        let context =
            |error: Error| error.context(format!("change names served to container {}", container.short()));
        let view = View::of(&self.directory, settings).map_err(context)?;
        let served = self.lock();
        let serving = served.get(container);
        serving.ok_or_else(|| context(Error::not_found("no sockets of it are served")))?.served.show(view);
        Ok(())
    }

    /// Closes our copies of a container's sockets, which kept its network namespace alive; whether it had any.
    pub fn stop(&self, container: &ContainerId) -> bool {
        self.lock().remove(container).is_some()
    }

    fn start(&self, served: Served, udp: OwnedFd, tcp: OwnedFd) -> Result<Serving> {
        let served = Arc::new(served);
        let (udp, tcp) = self.adopt(udp, tcp)?;
        let tasks = [
            self.runtime.spawn(udp::run(served.clone(), udp)).abort_handle(),
            self.runtime.spawn(tcp::run(served.clone(), tcp)).abort_handle(),
        ];
        Ok(Serving { served, tasks })
    }

    fn adopt(&self, udp: OwnedFd, tcp: OwnedFd) -> Result<(tokio::net::UdpSocket, tokio::net::TcpListener)> {
        let failed =
            |what: &'static str| move |error| Error::system(format!("wait for its {what} socket: {error}"));
        let _inside = self.runtime.enter();
        let udp = UdpSocket::from(udp);
        udp.set_nonblocking(true).map_err(failed("UDP"))?;
        let tcp = TcpListener::from(tcp);
        tcp.set_nonblocking(true).map_err(failed("TCP"))?;
        let udp = tokio::net::UdpSocket::from_std(udp).map_err(failed("UDP"))?;
        Ok((udp, tokio::net::TcpListener::from_std(tcp).map_err(failed("TCP"))?))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ContainerId, Serving>> {
        self.served.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Serving ===

impl Drop for Serving {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

#[cfg(test)]
mod tests;
