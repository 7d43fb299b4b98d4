//! What everyone but the driver has of a container: its queue and its published state.

use std::future::Future;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use tare_model::container::ContainerConfig;
use tare_model::network::Published as NetPublished;
use tare_model::{ContainerId, ContainerName, Error, ErrorKind, Result, Signal};
use tare_shim::protocol::Streams;
use tokio::sync::{mpsc, oneshot, watch};

use super::networking::NetworkChange;
use crate::api::options::{RemoveOptions, StartOptions, StopOptions, WaitCondition, WaitResult};
use crate::api::view::ContainerView;
use crate::monitors::Monitor;

/// Where the outcome of a command goes.
pub(crate) type Reply = oneshot::Sender<Result<()>>;

/// A command to a driver, with how its caller named the container.
pub(crate) struct Command {
    /// The caller's key, for messages.
    pub(crate) key: String,
    /// What to do.
    pub(crate) verb: Verb,
    /// Where the outcome goes.
    pub(crate) reply: Reply,
}

/// A change of a configuration, made where no other can come between.
pub type Change = Box<dyn FnOnce(&mut ContainerConfig) -> Result<()> + Send>;

/// What a driver can be told.
pub(crate) enum Verb {
    /// Start.
    Start(StartOptions),
    /// Stop.
    Stop(StopOptions),
    /// Stop, then start.
    Restart(StopOptions),
    /// Signal.
    Kill(Signal),
    /// Freeze.
    Pause,
    /// Thaw.
    Unpause,
    /// Another name.
    Rename(ContainerName),
    /// Other limits; the warnings go where they are waited for.
    Update(Change, oneshot::Sender<Vec<String>>),
    /// Other networks or ports; what is published then goes where it is waited for.
    Networks(NetworkChange, oneshot::Sender<Vec<NetPublished>>),
    /// Answer its questions about names, as the engine before did.
    ServeNames,
    /// Remove.
    Remove(RemoveOptions),
    /// Attach a socket, now or with the next start.
    Attach(Streams, OwnedFd),
}

/// What a driver publishes.
#[derive(Clone)]
pub(crate) struct Published {
    /// What it is.
    pub(crate) view: Arc<ContainerView>,
    /// Its monitor, while it lives.
    pub(crate) monitor: Option<Arc<dyn Monitor>>,
    /// How often it has ended (a failed start is no end).
    pub(crate) exits: u64,
    /// It is gone.
    pub(crate) removed: bool,
}

/// A container, for everyone.
pub(crate) struct Handle {
    /// Its id.
    pub(crate) id: ContainerId,
    queue: mpsc::UnboundedSender<Command>,
    published: watch::Receiver<Published>,
    /// Counts up when the log has grown.
    pub(crate) log_grew: watch::Receiver<u64>,
}

// === impl Handle ===

impl Handle {
    /// The handle of the driver that reads `queue`.
    pub(crate) fn new(
        id: ContainerId,
        queue: mpsc::UnboundedSender<Command>,
        published: watch::Receiver<Published>,
        log_grew: watch::Receiver<u64>,
    ) -> Self {
        Self { id, queue, published, log_grew }
    }

    /// The latest published state.
    pub(crate) fn now(&self) -> Published {
        self.published.borrow().clone()
    }

    /// The latest view.
    pub(crate) fn view(&self) -> Arc<ContainerView> {
        Arc::clone(&self.published.borrow().view)
    }

    /// Published states as they change.
    pub(crate) fn watch(&self) -> watch::Receiver<Published> {
        self.published.clone()
    }

    /// Tells the driver, and waits for the outcome.
    pub(crate) async fn tell(&self, key: &str, verb: Verb) -> Result<()> {
        let (reply, outcome) = oneshot::channel();
        let gone = || Error::not_found(format!("No such container: {key}"));
        self.queue.send(Command { key: key.to_owned(), verb, reply }).map_err(|_| gone())?;
        outcome.await.unwrap_or_else(|_| Err(gone()))
    }

    /// Registers a waiter now; the future resolves when `condition` holds.
    pub(crate) fn wait(
        &self,
        condition: WaitCondition,
    ) -> impl Future<Output = Result<WaitResult>> + Send + 'static + use<> {
        let mut published = self.published.clone();
        let exits = published.borrow_and_update().exits;
        async move {
            let holds = |p: &Published| match condition {
                WaitCondition::NotRunning => p.removed || p.exits > exits || !p.view.state.status.is_live(),
                WaitCondition::NextExit => p.removed || p.exits > exits,
                WaitCondition::Removed => p.removed,
            };
            match published.wait_for(holds).await {
                Ok(p) => {
                    let state = &p.view.state;
                    let error = Some(state.error.clone()).filter(|e| !e.is_empty());
                    Ok(WaitResult { code: state.exit_code(), error })
                }
                Err(_) => Err(Error::new(ErrorKind::Unavailable, "the engine is shutting down; wait again")),
            }
        }
    }
}
