//! The front door: every verb, one method each.
//!
//! A *key* names a container: its id, a unique prefix of it, or its name. Verbs that only look read published state;
//! verbs that change a container are told to its driver; everything else is in the files below this one.

mod attach;
mod exec;
mod faults;
mod images;
mod networks;
mod open;
mod system;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use tare_model::container::ContainerConfig;
use tare_model::sandbox::WindowSize;
use tare_model::{ContainerName, Result, Signal};

use crate::api::event::Action;
use crate::api::options::{
    AttachOptions, Created, ListFilter, LogOptions, RemoveOptions, StartOptions, StopOptions, WaitCondition,
    WaitResult,
};
use crate::api::stream::{AttachStream, LogStream};
use crate::api::view::ContainerView;
use crate::host::Machine;
use crate::lifecycle::core::Core;
use crate::lifecycle::handle::{Change, Handle, Published, Verb};
use crate::lifecycle::list;
use crate::lifecycle::rules::{Op, admit, not_running};
use crate::logs;
use crate::monitors::Monitor;
use crate::work;

/// Where an engine lives. Two engines with different values never see each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineConfig {
    /// Durable state: images, containers, database.
    pub root: PathBuf,
    /// What is gone after a reboot: sockets, records.
    pub run_dir: PathBuf,
    /// Where `tare-shim` is.
    pub libexec: PathBuf,
    /// What is executed to keep an ordinary user's network, by [`crate::network_keeper`].
    pub keeper: PathBuf,
    /// Name of the default network's bridge, or `none` for no default network; absent: one of this engine's own.
    pub bridge: Option<String>,
    /// Where programs of the host may ask for containers by name; absent: nowhere.
    pub host_dns: Option<SocketAddr>,
}

/// The engine. Shared by every connection; every method may be called at any time.
pub struct Engine {
    config: EngineConfig,
    core: Arc<Core>,
    machine: Machine,
}

// === impl Engine ===

impl Engine {
    /// The directories of this engine.
    pub fn config(&self) -> &EngineConfig {
        &self.config
    }

    /// Makes a container; durable when it returns. Without a name it gets a random one.
    ///
    /// # Errors
    /// `NotFound` for the image ("No such image: x"), `Conflict` for a name in use, `InvalidInput` naming the setting.
    pub async fn create(&self, name: Option<ContainerName>, config: ContainerConfig) -> Result<Created> {
        let core = Arc::clone(&self.core);
        work::whole(async move { core.create(name, config).await }).await
    }

    /// Starts it. When this returns, the program executes.
    ///
    /// # Errors
    /// `NotModified` when it runs already; `CommandNotFound`, `CommandNotExecutable`; `Conflict`.
    pub async fn start(&self, key: &str, options: StartOptions) -> Result<()> {
        self.tell(key, Verb::Start(options)).await
    }

    /// Asks it to end, then kills it; returns when it has ended.
    ///
    /// # Errors
    /// `NotModified` when it does not run.
    pub async fn stop(&self, key: &str, options: StopOptions) -> Result<()> {
        self.tell(key, Verb::Stop(options)).await
    }

    /// Stops it if it runs, and starts it.
    ///
    /// # Errors
    /// As [`Engine::start`].
    pub async fn restart(&self, key: &str, options: StopOptions) -> Result<()> {
        self.tell(key, Verb::Restart(options)).await
    }

    /// Sends a signal to its first process; for SIGKILL, returns when it has ended.
    ///
    /// # Errors
    /// `Conflict` when it does not run.
    pub async fn kill(&self, key: &str, signal: Signal) -> Result<()> {
        self.tell(key, Verb::Kill(signal)).await
    }

    /// Freezes it.
    ///
    /// # Errors
    /// `Conflict` when it does not run or is frozen already.
    pub async fn pause(&self, key: &str) -> Result<()> {
        self.tell(key, Verb::Pause).await
    }

    /// Thaws it.
    ///
    /// # Errors
    /// `Conflict` when it is not frozen.
    pub async fn unpause(&self, key: &str) -> Result<()> {
        self.tell(key, Verb::Unpause).await
    }

    /// Gives it another name.
    ///
    /// # Errors
    /// `Conflict` when the name is in use.
    pub async fn rename(&self, key: &str, name: ContainerName) -> Result<()> {
        self.tell(key, Verb::Rename(name)).await
    }

    /// Gives it other limits: `change` is applied to its configuration, in the order of its other commands. In force and
    /// durable when it returns. Returns the warnings.
    ///
    /// # Errors
    /// The limit that is wrong or cannot be enforced, by name; nothing has changed then.
    pub async fn update(&self, key: &str, change: Change) -> Result<Vec<String>> {
        let (sender, warnings) = tokio::sync::oneshot::channel();
        self.tell(key, Verb::Update(change, sender)).await?;
        Ok(warnings.await.unwrap_or_default())
    }

    /// Removes it and everything that belongs to it alone.
    ///
    /// # Errors
    /// `Conflict` when it runs and `force` is not set.
    pub async fn remove(&self, key: &str, options: RemoveOptions) -> Result<()> {
        self.tell(key, Verb::Remove(options)).await
    }

    /// Registers a waiter before it returns; the future resolves when the condition holds.
    ///
    /// # Errors
    /// `NotFound`. The future's: the engine ends.
    pub fn wait(
        &self,
        key: &str,
        condition: WaitCondition,
    ) -> Result<impl Future<Output = Result<WaitResult>> + Send + 'static + use<>> {
        Ok(self.core.table.get(key)?.wait(condition))
    }

    /// Everything about one container.
    ///
    /// # Errors
    /// `NotFound`, or `InvalidInput` for a prefix of several ids.
    pub fn inspect(&self, key: &str) -> Result<ContainerView> {
        let handle = self.core.table.get(key)?;
        let mut view = (*handle.view()).clone();
        view.execs = self.core.execs.live(&view.id);
        Ok(view)
    }

    /// Containers that match, the newest first.
    ///
    /// # Errors
    /// `NotFound` for a container that `before` or `since` names.
    pub fn list(&self, filter: &ListFilter) -> Result<Vec<ContainerView>> {
        list::list(&self.core.table, filter)
    }

    /// Connects to its standard streams. Before the start, the connection is kept and misses nothing.
    ///
    /// # Errors
    /// `Conflict` when it is frozen.
    pub async fn attach(&self, key: &str, options: AttachOptions) -> Result<AttachStream> {
        attach::attach(self, key, options).await
    }

    /// What it has written.
    ///
    /// # Errors
    /// `Unsupported` when nothing is kept (driver `none`), `InvalidInput` when neither stream is chosen.
    pub async fn logs(&self, key: &str, options: LogOptions) -> Result<LogStream> {
        logs::open(self.core.table.get(key)?, options)
    }

    /// Sets the size of its terminal.
    ///
    /// # Errors
    /// `Conflict` when it does not run.
    pub async fn resize(&self, key: &str, size: WindowSize) -> Result<()> {
        let (state, monitor) = self.live(key, Op::Resize)?;
        self.settled(key, &state, monitor.resize(size, None).await).await?;
        let attributes = [("height", size.rows.to_string()), ("width", size.columns.to_string())];
        self.core.tell(&state.view, Action::Resize, &attributes);
        Ok(())
    }

    async fn tell(&self, key: &str, verb: Verb) -> Result<()> {
        self.core.table.get(key)?.tell(key, verb).await
    }

    /// The state of a container to which `op` may happen, and its monitor.
    fn live(&self, key: &str, op: Op) -> Result<(Published, Arc<dyn Monitor>)> {
        let handle = self.core.table.get(key)?;
        live(&handle, key, op)
    }

    /// What a monitor answered. One that is gone is no fault of the engine: its container has ended, and the caller
    /// hears of it when everyone can see it.
    async fn settled<T>(&self, key: &str, before: &Published, answer: Result<T>) -> Result<T> {
        match answer {
            Err(e) if e.kind() == tare_model::ErrorKind::Unavailable => {
                if let Ok(handle) = self.core.table.get(before.view.id.as_str()) {
                    // An error means that the container is gone altogether.
                    let _ = handle.watch().wait_for(|now| now.removed || now.exits > before.exits).await;
                }
                Err(not_running(key))
            }
            answer => answer,
        }
    }
}

fn live(handle: &Handle, key: &str, op: Op) -> Result<(Published, Arc<dyn Monitor>)> {
    let state = handle.now();
    admit(op, state.view.state.status, key)?;
    let monitor = state.monitor.clone().ok_or_else(|| not_running(key))?;
    Ok((state, monitor))
}

impl Drop for Engine {
    fn drop(&mut self) {
        // The drivers end when nobody can tell them anything any more; the containers live on.
        self.core.table.clear();
    }
}
