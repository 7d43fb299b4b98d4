//! What the engine needs of monitors, as two small contracts: one for starting them, one for each that lives.
//!
//! The real ones are `tare_shim`'s nursery and control connection; tests bring their own. Futures are boxed so that the
//! engine is not generic over them.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::future::BoxFuture;
use oci_spec::runtime::LinuxResources;
use tare_model::sandbox::{NetworkSockets, Stats, WindowSize};
use tare_model::{ContainerId, ExecId, Result, Signal};
use tare_shim::client::{Control, Events, Network, Nursery, Ready};
use tare_shim::protocol::{Event, ExecRequest, Snapshot, StartRequest, Started, Streams};

/// Starts monitors, finds them again, cleans up after dead ones.
pub(crate) trait Monitors: Send + Sync + 'static {
    /// Has a monitor made ready for the start that comes next. Without one, that start makes it.
    fn ready(&self) -> BoxFuture<'_, Option<Ready>> {
        Box::pin(async { None })
    }

    /// Starts a container under `ready` or a new monitor; `streams` are the attachments of `request.attach`, `network` is there
    /// if its network is set up from here.
    fn start(
        &self,
        ready: Option<Ready>,
        request: StartRequest,
        streams: Vec<OwnedFd>,
        network: Option<Network>,
    ) -> BoxFuture<'_, Result<(Link, Started)>>;

    /// Connects to the monitor that listens at `socket`, and asks what it knows.
    fn connect<'a>(&'a self, socket: &'a Path) -> BoxFuture<'a, Result<(Link, Snapshot)>>;

    /// Ends what a dead monitor left: processes, cgroups, the directories `remove`. Idempotent.
    fn cleanup<'a>(
        &'a self,
        id: &'a ContainerId,
        cgroups_path: &'a str,
        remove: Vec<PathBuf>,
    ) -> BoxFuture<'a, Result<()>>;
}

/// A living monitor.
pub(crate) struct Link {
    /// Takes calls.
    pub(crate) monitor: Arc<dyn Monitor>,
    /// Tells what happens.
    pub(crate) events: Box<dyn EventSource>,
}

/// Calls to a monitor. Every one fails with `Unavailable` once it is gone.
pub(crate) trait Monitor: Send + Sync + 'static {
    /// Signals the first process. SIGKILL also thaws.
    fn signal(&self, signal: Signal) -> BoxFuture<'_, Result<()>>;
    /// Freezes.
    fn pause(&self) -> BoxFuture<'_, Result<()>>;
    /// Thaws.
    fn resume(&self) -> BoxFuture<'_, Result<()>>;
    /// Sizes the terminal of the container or of an exec.
    fn resize(&self, size: WindowSize, exec: Option<ExecId>) -> BoxFuture<'_, Result<()>>;
    /// Attaches one end of a socket pair.
    fn attach(&self, streams: Streams, peer: OwnedFd) -> BoxFuture<'_, Result<()>>;
    /// Starts a further process; its id comes back.
    fn exec(&self, request: ExecRequest, peer: Option<OwnedFd>) -> BoxFuture<'_, Result<i32>>;
    /// Changes its limits; gives what was asked for without effect.
    fn update(&self, resources: LinuxResources) -> BoxFuture<'_, Result<Vec<String>>>;
    /// What the container uses.
    fn stats(&self) -> BoxFuture<'_, Result<Stats>>;
    /// Its processes in the host's namespace.
    fn processes(&self) -> BoxFuture<'_, Result<Vec<i32>>>;
    /// Sockets of its network namespace, if that was set up from here.
    fn network(&self) -> BoxFuture<'_, Result<NetworkSockets>>;
    /// Gives it something to keep for us.
    fn keep(&self, what: OwnedFd) -> BoxFuture<'_, Result<()>>;
    /// What it was given to keep for us.
    fn kept(&self) -> BoxFuture<'_, Result<OwnedFd>>;
    /// One [`Event::LogGrew`] when the log grows after this.
    fn watch_log(&self) -> BoxFuture<'_, Result<()>>;
}

/// What a monitor tells unasked.
pub(crate) trait EventSource: Send + Sync + 'static {
    /// The next event; `None` once it is gone.
    fn next(&mut self) -> BoxFuture<'_, Option<Event>>;
}

// === impl the real ones ===

impl Monitors for Nursery {
    fn ready(&self) -> BoxFuture<'_, Option<Ready>> {
        // The start tries it again, and tells.
        Box::pin(async { Nursery::ready(self).await.ok() })
    }

    fn start(
        &self,
        ready: Option<Ready>,
        request: StartRequest,
        streams: Vec<OwnedFd>,
        network: Option<Network>,
    ) -> BoxFuture<'_, Result<(Link, Started)>> {
        Box::pin(async move {
            let (control, events, started) = Nursery::start(self, ready, request, streams, network).await?;
            Ok((Link { monitor: Arc::new(control), events: Box::new(events) }, started))
        })
    }

    fn connect<'a>(&'a self, socket: &'a Path) -> BoxFuture<'a, Result<(Link, Snapshot)>> {
        Box::pin(async move {
            let (control, events, snapshot) = Control::find(socket).await?;
            Ok((Link { monitor: Arc::new(control), events: Box::new(events) }, snapshot))
        })
    }

    fn cleanup<'a>(
        &'a self,
        id: &'a ContainerId,
        cgroups_path: &'a str,
        remove: Vec<PathBuf>,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(Nursery::cleanup(self, id, cgroups_path, remove))
    }
}

impl Monitor for Control {
    fn signal(&self, signal: Signal) -> BoxFuture<'_, Result<()>> {
        Box::pin(Control::signal(self, signal, None))
    }
    fn pause(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(Control::pause(self))
    }
    fn resume(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(Control::resume(self))
    }
    fn resize(&self, size: WindowSize, exec: Option<ExecId>) -> BoxFuture<'_, Result<()>> {
        Box::pin(Control::resize(self, size, exec))
    }
    fn attach(&self, streams: Streams, peer: OwnedFd) -> BoxFuture<'_, Result<()>> {
        Box::pin(Control::attach(self, streams, peer))
    }
    fn exec(&self, request: ExecRequest, peer: Option<OwnedFd>) -> BoxFuture<'_, Result<i32>> {
        Box::pin(Control::exec(self, request, peer))
    }
    fn update(&self, resources: LinuxResources) -> BoxFuture<'_, Result<Vec<String>>> {
        Box::pin(Control::update(self, resources))
    }
    fn stats(&self) -> BoxFuture<'_, Result<Stats>> {
        Box::pin(Control::stats(self))
    }
    fn processes(&self) -> BoxFuture<'_, Result<Vec<i32>>> {
        Box::pin(Control::processes(self))
    }
    fn network(&self) -> BoxFuture<'_, Result<NetworkSockets>> {
        Box::pin(Control::network(self))
    }
    fn keep(&self, what: OwnedFd) -> BoxFuture<'_, Result<()>> {
        Box::pin(Control::keep(self, what))
    }
    fn kept(&self) -> BoxFuture<'_, Result<OwnedFd>> {
        Box::pin(Control::kept(self))
    }
    fn watch_log(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(Control::watch_log(self))
    }
}

impl EventSource for Events {
    fn next(&mut self) -> BoxFuture<'_, Option<Event>> {
        Box::pin(Events::next(self))
    }
}
