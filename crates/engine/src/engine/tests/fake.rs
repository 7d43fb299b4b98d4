//! Monitors that pretend: containers are entries in a map, and end when they are told to.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use futures_util::future::BoxFuture;
use oci_spec::runtime::LinuxResources;
use tare_model::sandbox::{NetworkSockets, Stats, WindowSize};
use tare_model::{ContainerId, Error, ErrorKind, ExecId, Exit, ExitRecord, Result, Signal};
use tare_shim::client::{Network, Ready};
use tare_shim::protocol::{Event, ExecExit, ExecRequest, Snapshot, StartRequest, Started, Streams};
use tokio::sync::mpsc;

use crate::clock;
use crate::monitors::{EventSource, Link, Monitor, Monitors};

/// All pretended containers.
#[derive(Default)]
pub(super) struct World {
    state: Mutex<State>,
    pids: AtomicI32,
}

#[derive(Default)]
struct State {
    shims: HashMap<ContainerId, Arc<Shim>>,
    refuse: Option<Error>,
    hesitate: bool,
    cleaned: Vec<(ContainerId, String)>,
    requests: Vec<StartRequest>,
}

/// One pretended monitor.
pub(super) struct Shim {
    id: ContainerId,
    started: Started,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    events: Option<mpsc::UnboundedSender<Event>>,
    paused: bool,
    deaf: bool,
    dead: bool,
    signals: Vec<i32>,
    streams: Vec<OwnedFd>,
    execs: Vec<ExecRequest>,
    watched: usize,
    updates: Vec<LinuxResources>,
}

// === impl World ===

impl World {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("not poisoned")
    }

    /// The next start fails so.
    pub(super) fn refuse(&self, kind: ErrorKind, why: &str) {
        self.lock().refuse = Some(Error::new(kind, why));
    }

    /// From now on, what monitors are asked takes a while.
    pub(super) fn hesitate(&self) {
        self.lock().hesitate = true;
    }

    /// The monitor of a container.
    pub(super) fn shim(&self, id: &ContainerId) -> Arc<Shim> {
        Arc::clone(self.lock().shims.get(id).expect("it runs"))
    }

    /// It runs.
    pub(super) fn runs(&self, id: &ContainerId) -> bool {
        self.lock().shims.contains_key(id)
    }

    /// The container ends by itself.
    pub(super) fn exit(&self, id: &ContainerId, code: u8) {
        let shim = self.lock().shims.remove(id).expect("it runs");
        shim.tell(Event::Exited(record(Exit::Code(code))));
        shim.close();
    }

    /// The monitor is killed.
    pub(super) fn kill_shim(&self, id: &ContainerId) {
        self.lock().shims.remove(id).expect("it runs").close();
    }

    /// What was cleaned up, and where its cgroup was.
    pub(super) fn cleaned(&self) -> Vec<(ContainerId, String)> {
        self.lock().cleaned.clone()
    }

    /// The last request to start something.
    pub(super) fn last_request(&self) -> StartRequest {
        self.lock().requests.last().expect("there was one").clone()
    }
}

// === impl Shim ===

impl Shim {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("not poisoned")
    }

    /// Signals do not end it, but SIGKILL.
    pub(super) fn deafen(&self) {
        self.lock().deaf = true;
    }

    /// The limits that were changed.
    pub(super) fn updates(&self) -> Vec<LinuxResources> {
        self.lock().updates.clone()
    }

    /// Nothing ends it, and its signals only count.
    pub(super) fn signals(&self) -> Vec<i32> {
        self.lock().signals.clone()
    }

    /// Attached sockets, taken out.
    pub(super) fn take_streams(&self) -> Vec<OwnedFd> {
        std::mem::take(&mut self.lock().streams)
    }

    /// Execs it was asked for.
    pub(super) fn execs(&self) -> Vec<ExecRequest> {
        self.lock().execs.clone()
    }

    /// How often somebody asked to be told of the log's growth.
    pub(super) fn watched(&self) -> usize {
        self.lock().watched
    }

    /// An exec ends.
    pub(super) fn end_exec(&self, exec: &ExecId, code: u8) {
        self.tell(Event::ExecExited(ExecExit {
            exec: exec.clone(),
            exit: Exit::Code(code),
            at: clock::now(),
        }));
    }

    /// Tells the engine, if there is one.
    pub(super) fn tell(&self, event: Event) {
        if let Some(events) = &self.lock().events {
            let _ = events.send(event);
        }
    }

    /// The error of calls to one that is gone.
    fn alive(&self) -> Result<()> {
        if self.lock().dead {
            return Err(Error::new(ErrorKind::Unavailable, "the monitor is gone"));
        }
        Ok(())
    }

    fn close(&self) {
        let mut inner = self.lock();
        inner.dead = true;
        inner.events = None;
        inner.streams.clear();
    }
}

pub(super) fn record(exit: Exit) -> ExitRecord {
    ExitRecord { exit, at: clock::now(), oom_killed: false, error: None }
}

struct Queue(mpsc::UnboundedReceiver<Event>);

impl EventSource for Queue {
    fn next(&mut self) -> BoxFuture<'_, Option<Event>> {
        Box::pin(self.0.recv())
    }
}

struct Face {
    world: Arc<Shim>,
    all: Arc<World>,
}

fn link(shim: &Arc<Shim>, world: Arc<World>) -> Link {
    let (events, queue) = mpsc::unbounded_channel();
    shim.lock().events = Some(events);
    Link { monitor: Arc::new(Face { world: Arc::clone(shim), all: world }), events: Box::new(Queue(queue)) }
}

impl Monitors for Arc<World> {
    fn start(
        &self,
        _: Option<Ready>,
        request: StartRequest,
        streams: Vec<OwnedFd>,
        _: Option<Network>,
    ) -> BoxFuture<'_, Result<(Link, Started)>> {
        Box::pin(async move {
            let mut state = self.lock();
            if let Some(e) = state.refuse.take() {
                return Err(e);
            }
            assert!(request.run_dir.is_dir(), "the run directory is there");
            let pid = 100_000_000 + self.pids.fetch_add(2, Ordering::Relaxed);
            let started = Started { pid, shim_pid: pid + 1, started_at: clock::now() };
            let id = request.spec.id.clone();
            let inner = Mutex::new(Inner { streams, ..Inner::default() });
            let shim = Arc::new(Shim { id: id.clone(), started, inner });
            state.shims.insert(id, Arc::clone(&shim));
            state.requests.push(request);
            drop(state);
            Ok((link(&shim, Arc::clone(self)), started))
        })
    }

    fn connect<'a>(&'a self, socket: &'a Path) -> BoxFuture<'a, Result<(Link, Snapshot)>> {
        Box::pin(async move {
            let id = socket.parent().and_then(Path::file_name).and_then(|n| n.to_str());
            let id: ContainerId = id.expect("a directory by id").parse()?;
            let shim = self.lock().shims.get(&id).cloned();
            let gone = || Error::new(ErrorKind::Unavailable, "nobody listens");
            let shim = shim.ok_or_else(gone)?;
            let snapshot = Snapshot {
                container: shim.id.clone(),
                started: shim.started,
                paused: shim.lock().paused,
                oom_killed: false,
                exited: None,
                execs: vec![],
                ended_execs: vec![],
                log_dropped: 0,
            };
            Ok((link(&shim, Arc::clone(self)), snapshot))
        })
    }

    fn cleanup<'a>(
        &'a self,
        id: &'a ContainerId,
        cgroups_path: &'a str,
        remove: Vec<PathBuf>,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            self.lock().cleaned.push((id.clone(), cgroups_path.to_owned()));
            for dir in remove {
                std::fs::remove_dir_all(&dir).expect("is there");
            }
            Ok(())
        })
    }
}

impl Monitor for Face {
    fn keep(&self, _: OwnedFd) -> BoxFuture<'_, Result<()>> {
        Box::pin(async { Err(Error::unsupported("this monitor keeps nothing")) })
    }

    fn kept(&self) -> BoxFuture<'_, Result<OwnedFd>> {
        Box::pin(async { Err(Error::not_found("nothing was given to be kept")) })
    }

    fn network(&self) -> BoxFuture<'_, Result<NetworkSockets>> {
        Box::pin(async { Err(Error::not_found("no network was set up")) })
    }

    fn signal(&self, signal: Signal) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let mut inner = self.world.lock();
            if inner.dead {
                return Err(Error::new(ErrorKind::Unavailable, "the monitor is gone"));
            }
            inner.signals.push(signal.number());
            let frozen = inner.paused && signal != Signal::KILL;
            let dies = signal == Signal::KILL || (!inner.deaf && !frozen && signal == Signal::TERM);
            drop(inner);
            if dies {
                self.all.lock().shims.remove(&self.world.id);
                let number = u8::try_from(signal.number()).expect("small");
                self.world.tell(Event::Exited(record(Exit::Signal(number))));
                self.world.close();
            }
            Ok(())
        })
    }

    fn pause(&self) -> BoxFuture<'_, Result<()>> {
        let alive = self.world.alive();
        self.world.lock().paused = true;
        Box::pin(async { alive })
    }

    fn resume(&self) -> BoxFuture<'_, Result<()>> {
        if let Err(e) = self.world.alive() {
            return Box::pin(async { Err(e) });
        }
        let mut inner = self.world.lock();
        inner.paused = false;
        // What was signalled while frozen arrives now.
        let ends = inner.signals.contains(&15) && !inner.deaf;
        drop(inner);
        if ends {
            self.all.lock().shims.remove(&self.world.id);
            self.world.tell(Event::Exited(record(Exit::Signal(15))));
            self.world.close();
        }
        Box::pin(async { Ok(()) })
    }

    fn resize(&self, _: WindowSize, _: Option<ExecId>) -> BoxFuture<'_, Result<()>> {
        Box::pin(async { self.world.alive() })
    }

    fn attach(&self, _: Streams, peer: OwnedFd) -> BoxFuture<'_, Result<()>> {
        let alive = self.world.alive();
        self.world.lock().streams.push(peer);
        Box::pin(async { alive })
    }

    fn exec(&self, request: ExecRequest, peer: Option<OwnedFd>) -> BoxFuture<'_, Result<i32>> {
        Box::pin(async move {
            let hesitate = self.all.lock().hesitate;
            if hesitate {
                tokio::task::yield_now().await;
            }
            self.world.alive()?;
            if request.spec.args[0] == "missing" {
                return Err(Error::new(
                    ErrorKind::CommandNotFound,
                    "exec: \"missing\": executable file not found",
                ));
            }
            let mut inner = self.world.lock();
            inner.streams.extend(peer);
            inner.execs.push(request);
            Ok(4242)
        })
    }

    fn update(&self, resources: LinuxResources) -> BoxFuture<'_, Result<Vec<String>>> {
        let refused = resources.block_io().is_some();
        if !refused {
            self.world.lock().updates.push(resources);
        }
        Box::pin(async move {
            if refused { Err(Error::unsupported("block I/O weight (blockIO.weight)")) } else { Ok(vec![]) }
        })
    }

    fn stats(&self) -> BoxFuture<'_, Result<Stats>> {
        Box::pin(async { Ok(Stats::default()) })
    }

    fn processes(&self) -> BoxFuture<'_, Result<Vec<i32>>> {
        Box::pin(async {
            self.world.alive()?;
            Ok(vec![i32::try_from(std::process::id()).expect("a pid")])
        })
    }

    fn watch_log(&self) -> BoxFuture<'_, Result<()>> {
        self.world.lock().watched += 1;
        Box::pin(async { Ok(()) })
    }
}
