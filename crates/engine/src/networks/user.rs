//! The networks of an ordinary user's engine: the same as the machine's, in one network namespace that all its containers share.
//!
//! ```text
//!   the host's network                          │ the shared namespace
//!   tared ── binds published ports ──▶ keeper ══╪══▶ bridges, firewall, containers
//!   pasta ◀═════════ the way out ═══════════════╪═══ its link
//! ```
//!
//! The daemon stays in the host's namespace, where ports are taken and names are asked for. What is done in the shared one
//! is done by a thread that enters it, does one thing and ends: sockets that the keeper made there would do for links and rules,
//! but not for settings, which are files below /proc/sys/net and show the namespace of whoever opens them. The namespace,
//! its way out and what comes in by published ports are the [`keeper`]'s, a process that outlives the daemon as containers do.

mod call;
mod forward;
pub(crate) mod keeper;
mod outside;

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::{fs, thread};

use ipnet::IpNet;
use tare_model::fault::Impairment;
use tare_model::network::{Driver, Network, Protocol, Published};
use tare_model::sandbox::{NetworkReady, NetworkSockets};
use tare_model::{Error, NetworkId, Result};
use tare_net::link;
use tare_sys::netlink::{self, Socket};
use tare_sys::process::{Namespaces, setns};
use tokio::runtime::Handle;

use super::Resolver;
use super::fabric::{Cut, Fabric, Join};
use super::host::{self, Host};
use crate::work;
use call::Call;
pub(crate) use outside::MISSING;

/// Of the keeper's socket, in the run directory.
const SOCKET: &str = "net.sock";
/// What is said when there is no keeper, and should be one, and nobody has its namespace.
const LOST: &str =
    "the keeper of the network has ended: running containers have none until they are restarted";

/// See the head of this file.
pub(crate) struct User {
    me: Weak<Self>,
    runtime: Handle,
    /// Is the keeper, if asked to be.
    program: PathBuf,
    pasta: PathBuf,
    socket: PathBuf,
    table: String,
    /// Held for a moment only: those ask for it too who must not wait.
    world: Mutex<Option<Arc<World>>>,
    /// Held while a keeper begins or ends, which takes its time. Before `forwarding`.
    making: Mutex<()>,
    /// Held while the keeper is told of ports, so that what it forwards and what we know of that are the same when it gets a
    /// successor.
    forwarding: Mutex<()>,
    /// What the keeper forwards; it holds these ports. Held for a moment only.
    forwarded: Mutex<HashMap<(Protocol, SocketAddr), Forwarded>>,
}

/// A port that the keeper has.
struct Forwarded {
    published: Published,
    /// Its socket, for the next keeper; none if the keeper had it from an engine before us.
    socket: Option<OwnedFd>,
}

/// The shared namespace. A keeper that was killed has left it to us, and gets a successor.
struct World {
    host: Host,
    namespace: OwnedFd,
    /// Closed by the keeper's end.
    keeper: Mutex<OwnedFd>,
    made: Mutex<HashSet<NetworkId>>,
}

// === impl User ===

impl User {
    /// Takes over from a daemon before, if its keeper lives and is within reach. `None` where pasta is not installed.
    ///
    /// # Errors
    /// Outside of a tokio runtime; a keeper of before that does not answer.
    pub(crate) fn open(program: PathBuf, run_dir: &Path, table: String) -> Result<Option<Arc<Self>>> {
        let Some(pasta) = outside::find() else { return Ok(None) };
        let socket = run_dir.join(SOCKET);
        let runtime = Handle::try_current().map_err(|e| Error::system(format!("find the runtime: {e}")))?;
        let user = Arc::new_cyclic(|me| Self {
            me: Weak::clone(me),
            runtime,
            program,
            pasta,
            socket,
            table,
            world: Mutex::default(),
            making: Mutex::default(),
            forwarding: Mutex::default(),
            forwarded: Mutex::default(),
        });
        if let Ok(keeper) = call::connect(&user.socket) {
            match World::of(keeper, user.table.clone()) {
                Ok(world) => user.adopt(world)?,
                // Its user namespace was another daemon's, none of whose containers live.
                Err(_) => user.end_keeper()?,
            }
        }
        Ok(Some(user))
    }

    fn adopt(&self, world: World) -> Result<()> {
        let forwarded = call::call(&self.socket, &Call::List, None)?;
        let forwarded =
            forwarded.into_iter().map(|one| (place(&one), Forwarded { published: one, socket: None }));
        lock(&self.forwarded).extend(forwarded);
        self.watch(&world);
        *lock(&self.world) = Some(Arc::new(world));
        Ok(())
    }

    /// Gives the keeper a successor if it is killed. One that ends because it was told to leaves no world. Where this cannot be
    /// done, the next who needs the network finds out.
    fn watch(&self, world: &World) {
        let keeper = lock(&world.keeper).try_clone().map(UnixStream::from);
        let keeper = keeper.and_then(|keeper| keeper.set_nonblocking(true).map(|()| keeper));
        let keeper = match keeper {
            Ok(keeper) => keeper,
            Err(e) => return tracing::error!("watch the keeper of the network: {e}"),
        };
        let user = Weak::clone(&self.me);
        self.runtime.spawn(async move {
            let Ok(keeper) = tokio::net::UnixStream::from_std(keeper) else { return };
            let _ = keeper.readable().await;
            drop(keeper);
            if let Some(user) = user.upgrade() {
                let _ = work::blocking(move || {
                    if user.known().is_some_and(|world| !world.is_alive()) {
                        user.world()?;
                    }
                    Ok(())
                })
                .await
                .inspect_err(|e| tracing::error!("start a keeper of the network: {e}"));
            }
        });
    }

    fn end_keeper(&self) -> Result<()> {
        call::call(&self.socket, &Call::End, None).map(drop)
    }

    /// The shared namespace, made if there is none. May take as long as pasta does.
    fn world(&self) -> Result<Arc<World>> {
        let _one = lock(&self.making);
        if let Some(world) = self.known() {
            if !world.is_alive() {
                self.succeed(&world)?;
            }
            return Ok(world);
        }
        lock(&self.forwarded).clear();
        let made = Arc::new(World::of(self.keeper(None)?, self.table.clone())?);
        self.watch(&made);
        *lock(&self.world) = Some(Arc::clone(&made));
        Ok(made)
    }

    /// A new keeper, of a namespace that there is or one of its own.
    fn keeper(&self, namespace: Option<BorrowedFd<'_>>) -> Result<OwnedFd> {
        keeper::spawn(&self.program, &self.socket, &self.pasta, namespace)?;
        call::connect(&self.socket)
            .map_err(|e| Error::system(format!("connect({}): {e}", self.socket.display())))
    }

    /// Another keeper for a namespace whose own was killed. All that is in there is as before. The caller has `making`.
    fn succeed(&self, world: &World) -> Result<()> {
        // What the one before answered is known by now, and what this one is told is not told it twice.
        let _ports = lock(&self.forwarding);
        let keeper = self.keeper(Some(world.namespace.as_fd()))?;
        *lock(&world.keeper) = keeper;
        tracing::error!(
            "the keeper of the network has ended, and another is in its place: connections through published ports and \
             with the outside were cut"
        );
        let lost: Vec<Forwarded> = lock(&self.forwarded).drain().map(|(_, one)| one).collect();
        for Forwarded { published, socket } in lost {
            if let Err(e) = self.tell(&published, socket) {
                tracing::error!("{e}: its container has to be restarted");
            }
        }
        self.watch(world);
        Ok(())
    }

    /// The world of a keeper that was killed, as an engine was; of its namespace there is only what a monitor has kept.
    fn inherit(&self, kept: &OwnedFd) -> Result<Arc<World>> {
        let _one = lock(&self.making);
        let namespace = netlink::namespace_of(kept.as_fd())
            .map_err(|e| Error::system(format!("ioctl(what a monitor has kept, SIOCGSKNS): {e}")))?;
        let made = Arc::new(World::of(self.keeper(Some(namespace.as_fd()))?, self.table.clone())?);
        tracing::error!("the keeper of the network had ended, and another is in its place");
        self.watch(&made);
        *lock(&self.world) = Some(Arc::clone(&made));
        Ok(made)
    }

    fn known(&self) -> Option<Arc<World>> {
        lock(&self.world).clone()
    }

    /// In the shared namespace, if there is one.
    fn if_known(&self, work: impl FnOnce(&Host) -> Result<()> + Send) -> Result<()> {
        self.known().map_or(Ok(()), |world| world.inside(work))
    }

    fn forward(&self, published: &[Published], held: Vec<Option<OwnedFd>>) -> Result<()> {
        let _ports = lock(&self.forwarding);
        published.iter().zip(held).try_for_each(|(one, socket)| self.tell(one, socket))
    }

    /// Tells the keeper of a port. The caller has `forwarding`.
    fn tell(&self, one: &Published, socket: Option<OwnedFd>) -> Result<()> {
        let (protocol, address) = place(one);
        let failed = |e| Error::system(format!("Bind for {address}/{protocol} failed: {e}"));
        // Nobody has one where the keeper had it from an engine before us: it listens, or has closed it since.
        let socket = socket.map_or_else(|| self.hold(protocol, address), |socket| Ok(Some(socket)));
        let Some(socket) = socket.map_err(failed)? else { return Ok(()) };
        call::call(&self.socket, &Call::Publish(one.clone()), Some(socket.as_fd()))?;
        let forwarded = Forwarded { published: one.clone(), socket: Some(socket) };
        lock(&self.forwarded).insert((protocol, address), forwarded);
        Ok(())
    }
}

impl Fabric for User {
    fn routes(&self) -> Result<Vec<IpNet>> {
        let mut host = Socket::open(netlink::Protocol::Route)
            .map_err(|e| Error::system(format!("socket(AF_NETLINK, NETLINK_ROUTE): {e}")))?;
        link::destinations(&mut host)
    }

    fn ensure(&self, network: &Network) -> Result<()> {
        if !matches!(network.config.driver, Driver::Bridge) {
            return Err(Error::unsupported(format!(
                "driver {}: this engine is an ordinary user's, and links of the machine are not its to share; want bridge",
                network.config.driver.name()
            )));
        }
        self.world()?.ensure(network)
    }

    fn remove(&self, network: &Network) -> Result<()> {
        let Some(world) = self.known() else { return Ok(()) };
        lock(&world.made).remove(&network.id);
        world.inside(|host| host.remove(network))
    }

    fn attach(&self, joins: &[Join], sockets: &NetworkSockets) -> Result<NetworkReady> {
        let world = self.world()?;
        for join in joins {
            // The keeper may be another one than that of the first use.
            if !lock(&world.made).contains(&join.network.id) {
                world.ensure(&join.network)?;
            }
        }
        world.inside(|host| host.attach(joins, sockets))
    }

    fn serve_names(&self, joins: &[Join], resolver: &Resolver, sockets: &NetworkSockets) -> Result<()> {
        self.world()?.host.serve_names(joins, resolver, sockets)
    }

    fn shape(&self, joins: &[Join]) -> Result<()> {
        self.world()?.inside(|host| host.shape(joins))
    }

    fn impair(&self, join: &Join, suffered: &[Impairment; 2], sockets: &NetworkSockets) -> Result<()> {
        self.world()?.inside(|host| host.impair(join, suffered, sockets))
    }

    fn part(&self, cuts: &[Cut]) -> Result<()> {
        self.if_known(|host| host.part(cuts))
    }

    fn detach(&self, join: &Join, sockets: &NetworkSockets) -> Result<()> {
        self.world()?.inside(|host| host.detach(join, sockets))
    }

    fn route(&self, joins: &[Join], sockets: &NetworkSockets) -> Result<()> {
        self.world()?.host.route(joins, sockets)
    }

    fn rename(&self, joins: &[Join]) {
        if let Some(world) = self.known() {
            world.host.rename(joins);
        }
    }

    fn forget(&self, joins: &[Join]) -> Result<()> {
        self.if_known(|host| host.forget(joins))
    }

    fn forget_connections(&self, joins: &[Join]) -> Result<()> {
        self.if_known(|host| host.forget_connections(joins))
    }

    /// By the firewall too: to a container, an address of the host is one of the shared namespace.
    fn publish(&self, published: &[Published], held: Vec<Option<OwnedFd>>) -> Result<()> {
        self.world()?.inside(|host| host.publish(published, Vec::new()))?;
        let forwarded = self.forward(published, held);
        if forwarded.is_err() {
            // The first error is the one to tell.
            let _ = self.unpublish(published);
        }
        forwarded
    }

    fn unpublish(&self, published: &[Published]) -> Result<()> {
        if self.known().is_some() {
            self.world()?;
        }
        let mut first = self.if_known(|host| host.unpublish(published));
        let _ports = lock(&self.forwarding);
        for one in published {
            if lock(&self.forwarded).remove(&place(one)).is_some() {
                first = first.and(call::call(&self.socket, &Call::Unpublish(one.clone()), None).map(drop));
            }
        }
        first
    }

    fn to_be_kept(&self) -> Option<OwnedFd> {
        self.known()?.host.to_be_kept()
    }

    fn restore(
        &self,
        networks: &[Arc<Network>],
        joins: &[Join],
        (published, held): (&[Published], Vec<Option<OwnedFd>>),
        kept: Option<OwnedFd>,
    ) -> Result<()> {
        if joins.is_empty() {
            self.retire(networks);
            return Ok(());
        }
        let world = match (self.known(), &kept) {
            (Some(world), _) => world,
            (None, Some(kept)) => self.inherit(kept)?,
            (None, None) => {
                tracing::error!("{LOST}");
                return Ok(());
            }
        };
        let ports = lock(&self.forwarding);
        for one in call::call(&self.socket, &Call::List, None)? {
            if !published.contains(&one) {
                call::call(&self.socket, &Call::Unpublish(one.clone()), None)?;
                lock(&self.forwarded).remove(&place(&one));
            }
        }
        drop(ports);
        world.inside(|host| host.restore(networks, joins, (published, Vec::new()), kept))?;
        lock(&world.made).extend(networks.iter().map(|network| network.id.clone()));
        for (one, socket) in published.iter().zip(held) {
            let is_forwarded = lock(&self.forwarded).contains_key(&place(one));
            if !is_forwarded && let Err(e) = self.forward(std::slice::from_ref(one), vec![socket]) {
                tracing::error!("{e}: its container has to be restarted");
            }
        }
        Ok(())
    }

    fn hold(&self, protocol: Protocol, address: SocketAddr) -> io::Result<Option<OwnedFd>> {
        if lock(&self.forwarded).contains_key(&(protocol, address)) {
            return Ok(None);
        }
        if protocol == Protocol::Sctp {
            let why = "an ordinary user's engine publishes ports of TCP and UDP only";
            return Err(io::Error::new(io::ErrorKind::Unsupported, why));
        }
        host::hold(protocol, address).map(Some).map_err(|e| match e.kind() {
            io::ErrorKind::PermissionDenied => io::Error::new(
                e.kind(),
                format!(
                    "{e}: ports below {} are root's; take a higher one, or have root lower the sysctl \
                     net.ipv4.ip_unprivileged_port_start to {}",
                    first_port(),
                    address.port()
                ),
            ),
            _ => e,
        })
    }

    fn ephemeral_ports(&self) -> (u16, u16) {
        host::ephemeral_ports()
    }

    /// All that there is goes with the namespace.
    fn retire(&self, _: &[Arc<Network>]) {
        let _one = lock(&self.making);
        let world = lock(&self.world).take();
        lock(&self.forwarded).clear();
        if world.is_some_and(|world| world.is_alive())
            && let Err(e) = self.end_keeper()
        {
            tracing::error!("end the keeper of the network: {e}");
        }
    }
}

// === impl World ===

impl World {
    /// Of the keeper at the other end.
    ///
    /// # Errors
    /// `System` if its namespace cannot be entered: it belongs to another user namespace than ours.
    fn of(keeper: OwnedFd, table: String) -> Result<Self> {
        let peer = rustix::net::sockopt::socket_peercred(&keeper)
            .map_err(|e| Error::system(format!("getsockopt(SO_PEERCRED): {e}")))?;
        let path = format!("/proc/{}/ns/net", peer.pid.as_raw_nonzero());
        let namespace = fs::File::open(&path).map_err(|e| Error::system(format!("open({path}): {e}")))?;
        // The keeper listens at the host's ::1, like at its other addresses.
        let host = Host::open(table, false)?;
        let (keeper, made) = (Mutex::new(keeper), Mutex::default());
        let world = Self { host, namespace: namespace.into(), keeper, made };
        world.inside(|_| Ok(()))?;
        Ok(world)
    }

    fn is_alive(&self) -> bool {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let keeper = lock(&self.keeper);
        let mut fds = [PollFd::new(&*keeper, PollFlags::IN)];
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        rustix::io::retry_on_intr(|| poll(&mut fds, Some(&at_once))) == Ok(0)
    }

    fn ensure(&self, network: &Network) -> Result<()> {
        self.inside(|host| host.ensure(network))?;
        lock(&self.made).insert(network.id.clone());
        Ok(())
    }

    /// On a thread of its own: a thread that has entered cannot come back, as the host's namespace is not this user's.
    fn inside<T: Send>(&self, work: impl FnOnce(&Host) -> Result<T> + Send) -> Result<T> {
        let run = || {
            setns(self.namespace.as_fd(), Namespaces::NET).map_err(|e| {
                Error::system(format!("setns(network namespace of this engine's containers): {e}"))
            })?;
            work(&self.host)
        };
        thread::scope(|scope| {
            let thread = thread::Builder::new().name("network".into()).spawn_scoped(scope, run);
            let thread =
                thread.map_err(|e| Error::system(format!("start a thread for the shared network: {e}")))?;
            thread.join().unwrap_or_else(|_| Err(Error::system("the thread in the shared network panicked")))
        })
    }
}

fn place(published: &Published) -> (Protocol, SocketAddr) {
    (published.protocol, SocketAddr::new(published.host, published.host_port))
}

fn first_port() -> String {
    let text = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    text.map_or_else(|_| "1024".into(), |text| text.trim().to_owned())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
