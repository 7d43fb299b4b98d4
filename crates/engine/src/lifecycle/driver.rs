//! The driver of one container: takes commands and events one at a time, and publishes what became of them.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use tare_model::{Error, ErrorKind, Exit, ExitRecord, Result, Signal, Status};
use tare_shim::protocol::{Event, ExecExit, Streams};
use tokio::sync::{mpsc, watch};

use super::container::Container;
use super::core::Core;
use super::ending::{Ending, Then};
use super::faults;
use super::handle::{Command, Handle, Published, Reply, Verb};
use super::rules::{self, Admit, Op, admit};
use crate::api::event::Action;
use crate::api::options::StopOptions;
use crate::api::view::{ContainerView, StateView};
use crate::clock;
use crate::monitors::{Link, Monitor};
use crate::networks::Attached;
use crate::work;

/// Attachments that may wait for a start; the most that one message carries.
const WAITING_MAX: usize = 60;

/// The driver of one container.
pub(crate) struct Driver {
    pub(super) core: Arc<Core>,
    pub(super) me: Container,
    pub(super) status: Status,
    pub(super) pid: Option<i32>,
    pub(super) shim_pid: Option<i32>,
    pub(super) link: Option<Link>,
    /// Attachments made before the start.
    pub(super) waiting: Vec<(Streams, OwnedFd)>,
    /// Who waits for its end, and how it is hastened.
    pub(super) ending: Ending,
    pub(super) exits: u64,
    /// What it has of networks while it runs.
    pub(super) attached: Option<Attached>,
    /// A fault of its networks could not be ended in its time.
    pub(super) fault_stays: bool,
    /// What its monitor could not remove; the nursery does it after the end.
    pub(super) leftovers: Option<Error>,
    /// It is removed; the task ends.
    pub(super) gone: bool,
    queue: mpsc::UnboundedReceiver<Command>,
    published: watch::Sender<Published>,
    log_grew: watch::Sender<u64>,
}

/// A container that runs already, as recovery found it.
pub(crate) struct Found {
    /// Its monitor.
    pub(crate) link: Link,
    /// Its first process.
    pub(crate) pid: i32,
    /// Its monitor's process.
    pub(crate) shim_pid: i32,
    /// It is frozen.
    pub(crate) paused: bool,
    /// What it has of networks.
    pub(crate) attached: Option<Attached>,
}

/// Makes the driver of a container, publishes its state and enters it into the table. The task is the caller's to spawn.
pub(crate) fn enlist(core: &Arc<Core>, me: Container, found: Option<Found>) -> Driver {
    let (sender, queue) = mpsc::unbounded_channel();
    let status = match &found {
        Some(found) if found.paused => Status::Paused,
        Some(_) => Status::Running,
        None if me.life.exit.is_some() => Status::Exited,
        None => Status::Created,
    };
    let (pid, shim_pid) = (found.as_ref().map(|f| f.pid), found.as_ref().map(|f| f.shim_pid));
    let (link, attached) = found.map(|f| (f.link, f.attached)).unzip();
    let attached = attached.flatten();
    let state = state(&me, status, pid, shim_pid);
    let first = Published {
        view: Arc::new(view(core, &me, state, attached.as_ref())),
        monitor: link.as_ref().map(|l| Arc::clone(&l.monitor)),
        exits: 0,
        removed: false,
    };
    let (published, receiver) = watch::channel(first);
    let (log_grew, growth) = watch::channel(0);
    core.table.insert(me.name.clone(), Arc::new(Handle::new(me.id.clone(), sender, receiver, growth)));
    Driver {
        core: Arc::clone(core),
        me,
        status,
        pid,
        shim_pid,
        link,
        waiting: Vec::new(),
        ending: Ending::default(),
        exits: 0,
        attached,
        fault_stays: false,
        leftovers: None,
        gone: false,
        queue,
        published,
        log_grew,
    }
}

// === impl Driver ===

impl Driver {
    /// Works until the container is removed or the engine closes.
    pub(crate) async fn run(mut self) {
        while !self.gone {
            tokio::select! {
                event = next_event(&mut self.link) => self.on_event(event).await,
                () = self.ending.deadline() => self.on_deadline().await,
                () = faults::is_over(self.attached.as_ref(), self.fault_stays) => self.end_faults().await,
                command = self.queue.recv() => match command {
                    Some(command) => self.on_command(command).await,
                    None => return,
                },
            }
        }
        // Commands that came too late see their reply dropped, which is "No such container".
    }

    async fn on_command(&mut self, Command { key, verb, reply }: Command) {
        let op = match &verb {
            Verb::Start(_) => Op::Start,
            Verb::Stop(_) => Op::Stop,
            Verb::Restart(_) => Op::Restart,
            Verb::Kill(_) => Op::Kill,
            Verb::Pause => Op::Pause,
            Verb::Unpause => Op::Unpause,
            Verb::Rename(_) => Op::Rename,
            Verb::Update(..) | Verb::Networks(..) | Verb::ServeNames => Op::Update,
            Verb::Remove(options) => Op::Remove { force: options.force },
            Verb::Attach(..) => Op::Attach,
        };
        let admitted = match admit(op, self.status, &key) {
            Ok(admitted) => admitted,
            Err(e) => return answer(reply, Err(e)),
        };
        match verb {
            Verb::Start(options) => {
                let result = self.start(&options).await;
                answer(reply, result);
            }
            Verb::Stop(options) => self.end(&options, Then::Tell(reply)).await,
            Verb::Restart(options) if admitted == Admit::EndFirst => {
                self.end(&options, Then::Start(reply)).await
            }
            Verb::Restart(_) => {
                let result = self.start(&Default::default()).await;
                self.restarted(reply, result);
            }
            Verb::Kill(signal) => self.kill(&key, signal, reply).await,
            Verb::Pause => {
                let result = self.freeze().await;
                self.settle(op, &key, reply, result);
            }
            Verb::Unpause => {
                let result = self.thaw().await;
                self.settle(op, &key, reply, result);
            }
            Verb::Rename(name) => answer(reply, self.rename(name).await),
            Verb::Update(change, warnings) => {
                let updated = self.update(change).await;
                answer(reply, updated.map(|told| drop(warnings.send(told)))); // a caller that has gone away needs none
            }
            Verb::Networks(change, published) => {
                let changed = self.change_networks(change).await;
                answer(reply, changed.map(|now| drop(published.send(now)))); // a caller that has gone away needs none
            }
            Verb::ServeNames => answer(reply, self.serve_names().await),
            Verb::Remove(options) if admitted == Admit::EndFirst => {
                self.finish_off(Then::Remove(options, reply)).await;
            }
            Verb::Remove(options) => answer(reply, self.remove(options.volumes).await),
            Verb::Attach(streams, peer) => {
                let result = self.attach(streams, peer).await;
                self.settle(op, &key, reply, result);
            }
        }
    }

    async fn on_event(&mut self, event: Option<Event>) {
        match event {
            Some(Event::Exited(record)) => {
                self.clear_leftovers().await;
                self.ended(record).await;
            }
            Some(Event::ExecExited(exit)) => self.exec_ended(&exit),
            Some(Event::LogGrew) => self.log_grew.send_modify(|n| *n += 1),
            Some(Event::Leftovers(why)) => self.leftovers = Some(why),
            Some(Event::Oom) => self.core.tell(&self.view(), Action::Oom, &[]),
            None => self.orphaned().await,
        }
    }

    fn exec_ended(&self, exit: &ExecExit) {
        // Unknown ones were started by an engine before this one.
        if let Ok(exec) = self.core.execs.get(exit.exec.as_str()) {
            exec.ended(exit.exit.code());
        }
        let attributes = [("execID", exit.exec.to_string()), ("exitCode", exit.exit.code().to_string())];
        self.core.tell(&self.view(), Action::ExecDie, &attributes);
    }

    /// The monitor is gone and has not said how the container ended: end what is left, and say so.
    async fn orphaned(&mut self) {
        self.link = None;
        let shim = self.shim_pid.map_or_else(String::new, |pid| format!(" {pid}"));
        let mut error = format!("its monitor (tare-shim PID{shim}) was killed");
        if let Err(e) = self.clean_up().await {
            error = format!("{error}; {e}");
        }
        let exit = Exit::Signal(9);
        self.ended(ExitRecord { exit, at: clock::now(), oom_killed: false, error: Some(error) }).await;
    }

    /// Does what its monitor could not, if there is such a thing.
    async fn clear_leftovers(&mut self) {
        let Some(why) = self.leftovers.take() else { return };
        tracing::warn!(container = self.me.id.as_str(), "its monitor left something behind: {why}");
        if let Err(e) = self.clean_up().await {
            tracing::error!(container = self.me.id.as_str(), "clean up: {e}");
        }
    }

    /// Asks the nursery to end and remove what a dead monitor left.
    pub(super) async fn clean_up(&self) -> Result<()> {
        self.core.monitors.cleanup(&self.me.id, &self.cgroups_path(), Vec::new()).await
    }

    async fn kill(&mut self, key: &str, signal: Signal, reply: Reply) {
        let result = self.signal(signal).await;
        if result.is_ok() && signal == Signal::KILL {
            self.ending.killed(Then::Done(reply));
        } else {
            self.settle(Op::Kill, key, reply, result);
        }
    }

    /// Answers. A monitor that is gone is no fault of the engine: the container has ended, which is still to arrive as
    /// an event, and the caller hears of it when everyone does.
    fn settle(&mut self, op: Op, key: &str, reply: Reply, result: Result<()>) {
        match result {
            Err(e) if e.kind() == ErrorKind::Unavailable => {
                let why = admit(op, Status::Exited, key).err();
                self.ending.missed(why.unwrap_or_else(|| rules::not_running(key)), reply);
            }
            result => answer(reply, result),
        }
    }

    /// Signals the first process and tells listeners.
    pub(super) async fn signal(&self, signal: Signal) -> Result<()> {
        self.monitor()?.signal(signal).await?;
        self.core.tell(&self.view(), Action::Kill, &[("signal", signal.number().to_string())]);
        Ok(())
    }

    async fn freeze(&mut self) -> Result<()> {
        self.monitor()?.pause().await?;
        self.status = Status::Paused;
        self.publish();
        self.core.tell(&self.view(), Action::Pause, &[]);
        Ok(())
    }

    pub(super) async fn thaw(&mut self) -> Result<()> {
        self.monitor()?.resume().await?;
        self.status = Status::Running;
        self.publish();
        self.core.tell(&self.view(), Action::Unpause, &[]);
        Ok(())
    }

    async fn rename(&mut self, name: tare_model::ContainerName) -> Result<()> {
        if name == self.me.name {
            return Err(Error::invalid("Renaming a container with the same name as its current name"));
        }
        let old = std::mem::replace(&mut self.me.name, name.clone());
        if let Err(e) = self.save().await {
            self.me.name = old;
            return Err(e);
        }
        self.core.networks.rename(&self.me.id, name.as_str(), self.attached.as_ref());
        self.core.table.rename(&old, name, &self.me.id);
        self.publish();
        self.core.tell(&self.view(), Action::Rename, &[("oldName", format!("/{old}"))]);
        Ok(())
    }

    async fn attach(&mut self, streams: Streams, peer: OwnedFd) -> Result<()> {
        if self.status.is_live() {
            self.monitor()?.attach(streams, peer).await?;
        } else if self.waiting.len() >= WAITING_MAX {
            return Err(Error::conflict(format!(
                "container {}: {WAITING_MAX} clients wait for its start already",
                self.me.name
            )));
        } else {
            self.waiting.push((streams, peer));
        }
        self.core.tell(&self.view(), Action::Attach, &[]);
        Ok(())
    }

    /// Removes it, and answers for everything that belongs to it.
    pub(super) async fn remove(&mut self, volumes: bool) -> Result<()> {
        self.status = Status::Removing;
        self.publish();
        let result = self.demolish(volumes).await;
        if let Err(e) = &result {
            self.status = Status::Dead;
            self.me.life.error = e.to_string();
            self.publish();
            return result;
        }
        self.waiting.clear();
        self.core.table.remove(&self.me.id, &self.me.name);
        self.core.execs.forget(&self.me.id);
        self.core.tell(&self.view(), Action::Destroy, &[]);
        self.gone = true;
        self.published.send_modify(|p| p.removed = true);
        result
    }

    pub(super) fn restarted(&self, reply: Reply, result: Result<()>) {
        if result.is_ok() {
            self.core.tell(&self.view(), Action::Restart, &[]);
        }
        answer(reply, result);
    }

    /// Its monitor.
    pub(super) fn monitor(&self) -> Result<Arc<dyn Monitor>> {
        let link = self.link.as_ref().map(|link| Arc::clone(&link.monitor));
        link.ok_or_else(|| {
            Error::new(ErrorKind::Unavailable, format!("container {} has no monitor now", self.me.id))
        })
    }

    /// Makes the durable record say what is so now.
    pub(super) fn save(&self) -> impl Future<Output = Result<()>> + Send + 'static + use<> {
        let record = self.me.record();
        let core = Arc::clone(&self.core);
        async move {
            let record = record?;
            if record.durability == tare_store::Durability::Process {
                // A small file in memory: quicker than to hand it to another thread.
                return core.store.containers().put(&record);
            }
            work::blocking(move || core.store.containers().put(&record)).await
        }
    }

    /// Shows everyone what is so now.
    pub(super) fn publish(&mut self) {
        let view = Arc::new(self.view());
        let monitor = self.link.as_ref().map(|link| Arc::clone(&link.monitor));
        let exits = self.exits;
        self.published.send_modify(|p| {
            p.view = view;
            p.monitor = monitor;
            p.exits = exits;
        });
    }

    /// What is so now.
    pub(super) fn view(&self) -> ContainerView {
        let state = state(&self.me, self.status, self.pid, self.shim_pid);
        view(&self.core, &self.me, state, self.attached.as_ref())
    }

    /// How a stop of it goes, its own settings filled in.
    pub(super) fn stop_signal(&self, options: &StopOptions) -> Signal {
        options.signal.or(self.me.made.fixed.process.stop_signal).unwrap_or(Signal::TERM)
    }
}

async fn next_event(link: &mut Option<Link>) -> Option<Event> {
    match link {
        Some(link) => link.events.next().await,
        None => std::future::pending().await,
    }
}

/// Answers a caller; one that has gone away does not need it.
pub(super) fn answer(reply: Reply, result: Result<()>) {
    drop(reply.send(result));
}

fn view(core: &Core, me: &Container, state: StateView, attached: Option<&Attached>) -> ContainerView {
    let networking = Arc::new(me.networking(core, attached, state.pid));
    ContainerView {
        id: me.id.clone(),
        name: me.name.clone(),
        created: me.made.created,
        fixed: Arc::clone(&me.made.fixed),
        state,
        execs: Vec::new(),
        networking,
    }
}

fn state(me: &Container, status: Status, pid: Option<i32>, shim_pid: Option<i32>) -> StateView {
    let life = &me.life;
    StateView {
        status,
        pid,
        shim_pid,
        exit: life.exit.clone(),
        start_failure: life.start_failure,
        error: life.error.clone(),
        started: life.started,
        finished: life.exit.as_ref().map(|e| e.at),
        starts: life.starts,
    }
}
