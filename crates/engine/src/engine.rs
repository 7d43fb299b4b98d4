//! The front door: every verb, one method each.
//!
//! A *key* names a container: its id, a unique prefix of it, or its name.

use std::future::Future;
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;

use tare_model::container::ContainerConfig;
use tare_model::sandbox::WindowSize;
use tare_model::{ContainerName, Error, ExecId, Image, ImageConfig, Reference, Result, Signal};

use crate::api::exec::{ExecConfig, ExecStartOptions, ExecView};
use crate::api::image::{LoadedImage, RemovedImage};
use crate::api::options::{
    AttachOptions, Created, ListFilter, LogOptions, RemoveOptions, StartOptions, StopOptions, WaitCondition,
    WaitResult,
};
use crate::api::stream::{AttachStream, EventStream, LogStream};
use crate::api::system::{Info, StatsSample, Top, Version};
use crate::api::view::ContainerView;

/// Where an engine lives. Two engines with different values never see each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineConfig {
    /// Durable state: images, containers, database.
    pub root: PathBuf,
    /// What is gone after a reboot: sockets, records.
    pub run_dir: PathBuf,
    /// Where `tare-shim` is.
    pub libexec: PathBuf,
}

/// The engine. Shared by every connection; every method may be called at any time.
#[derive(Debug)]
pub struct Engine {
    config: EngineConfig,
}

// === impl Engine ===

impl Engine {
    /// Opens the state below `root`, joins it with what happened while no engine ran, and takes over the containers
    /// that run. The caller holds the locks on both directories.
    ///
    /// # Errors
    /// The database cannot be opened, or a directory cannot be made.
    pub async fn open(config: EngineConfig) -> Result<Arc<Self>> {
        Ok(Arc::new(Self { config }))
    }

    /// The directories of this engine.
    pub fn config(&self) -> &EngineConfig {
        &self.config
    }

    /// Makes a container; durable when it returns. Without a name it gets a random one.
    ///
    /// # Errors
    /// `NotFound` for the image ("No such image: x"), `Conflict` for a name in use, `InvalidInput` naming the setting.
    pub async fn create(&self, _name: Option<ContainerName>, _config: ContainerConfig) -> Result<Created> {
        unwritten("create")
    }

    /// Starts it. When this returns, the program executes.
    ///
    /// # Errors
    /// `NotModified` when it runs already; `CommandNotFound`, `CommandNotExecutable`; `Conflict`.
    pub async fn start(&self, _key: &str, _options: StartOptions) -> Result<()> {
        unwritten("start")
    }

    /// Asks it to end, then kills it; returns when it has ended.
    ///
    /// # Errors
    /// `NotModified` when it does not run.
    pub async fn stop(&self, _key: &str, _options: StopOptions) -> Result<()> {
        unwritten("stop")
    }

    /// Stops it if it runs, and starts it.
    ///
    /// # Errors
    /// As [`Engine::start`].
    pub async fn restart(&self, _key: &str, _options: StopOptions) -> Result<()> {
        unwritten("restart")
    }

    /// Sends a signal to its first process; for SIGKILL, returns when it has ended.
    ///
    /// # Errors
    /// `Conflict` when it does not run.
    pub async fn kill(&self, _key: &str, _signal: Signal) -> Result<()> {
        unwritten("kill")
    }

    /// Freezes it.
    ///
    /// # Errors
    /// `Conflict` when it does not run or is frozen already.
    pub async fn pause(&self, _key: &str) -> Result<()> {
        unwritten("pause")
    }

    /// Thaws it.
    ///
    /// # Errors
    /// `Conflict` when it is not frozen.
    pub async fn unpause(&self, _key: &str) -> Result<()> {
        unwritten("unpause")
    }

    /// Gives it another name.
    ///
    /// # Errors
    /// `Conflict` when the name is in use.
    pub async fn rename(&self, _key: &str, _name: ContainerName) -> Result<()> {
        unwritten("rename")
    }

    /// Removes it and everything that belongs to it alone.
    ///
    /// # Errors
    /// `Conflict` when it runs and `force` is not set.
    pub async fn remove(&self, _key: &str, _options: RemoveOptions) -> Result<()> {
        unwritten("remove")
    }

    /// Registers a waiter before it returns; the future resolves when the condition holds.
    ///
    /// # Errors
    /// `NotFound`. The future's: the engine ends.
    pub fn wait(
        &self,
        _key: &str,
        _condition: WaitCondition,
    ) -> Result<impl Future<Output = Result<WaitResult>> + Send + 'static + use<>> {
        unwritten::<()>("wait")?;
        Ok(async { unwritten("wait") })
    }

    /// Everything about one container.
    ///
    /// # Errors
    /// `NotFound`, or `InvalidInput` for a prefix of several ids.
    pub fn inspect(&self, _key: &str) -> Result<ContainerView> {
        unwritten("inspect")
    }

    /// Containers that match, the newest first.
    ///
    /// # Errors
    /// `NotFound` for a container that `before` or `since` names.
    pub fn list(&self, _filter: &ListFilter) -> Result<Vec<ContainerView>> {
        unwritten("list")
    }

    /// Connects to its standard streams. Before the start, the connection is kept and misses nothing.
    ///
    /// # Errors
    /// `Conflict` when it is frozen.
    pub async fn attach(&self, _key: &str, _options: AttachOptions) -> Result<AttachStream> {
        unwritten("attach")
    }

    /// What it has written.
    ///
    /// # Errors
    /// `Unsupported` when nothing is kept (driver `none`), `InvalidInput` when neither stream is chosen.
    pub async fn logs(&self, _key: &str, _options: LogOptions) -> Result<LogStream> {
        unwritten("logs")
    }

    /// Sets the size of its terminal.
    ///
    /// # Errors
    /// `Conflict` when it does not run.
    pub async fn resize(&self, _key: &str, _size: WindowSize) -> Result<()> {
        unwritten("resize")
    }

    /// Prepares a further process.
    ///
    /// # Errors
    /// `Conflict` when the container does not run or is frozen.
    pub async fn exec_create(&self, _key: &str, _config: ExecConfig) -> Result<ExecId> {
        unwritten("exec_create")
    }

    /// Starts a prepared process. Without `detach`, its streams come back.
    ///
    /// # Errors
    /// `NotFound` ("No such exec instance: x"), `Conflict` when it was started before, `CommandNotFound`,
    /// `CommandNotExecutable`.
    pub async fn exec_start(&self, _exec: &str, _options: ExecStartOptions) -> Result<Option<AttachStream>> {
        unwritten("exec_start")
    }

    /// Everything about one exec. Known until its container stops, or five minutes after its end.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn exec_inspect(&self, _exec: &str) -> Result<ExecView> {
        unwritten("exec_inspect")
    }

    /// Sets the size of its terminal.
    ///
    /// # Errors
    /// `Conflict` when it does not run.
    pub async fn exec_resize(&self, _exec: &str, _size: WindowSize) -> Result<()> {
        unwritten("exec_resize")
    }

    /// Its processes, read by the engine from /proc. `ps_args` is `-ef` (the default when empty), `aux` or their
    /// spellings.
    ///
    /// # Errors
    /// `Conflict` when it does not run, `Unsupported` for other `ps_args`.
    pub async fn top(&self, _key: &str, _ps_args: &str) -> Result<Top> {
        unwritten("top")
    }

    /// What it uses now. For one that does not run, empty figures.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn stats(&self, _key: &str) -> Result<StatsSample> {
        unwritten("stats")
    }

    /// Takes images from a `docker save` archive or an OCI layout in a tar file.
    ///
    /// # Errors
    /// `Corrupt` for what is damaged or hostile; nothing of it stays.
    pub async fn load(&self, _archive: Box<dyn Read + Send>) -> Result<Vec<LoadedImage>> {
        unwritten("load")
    }

    /// Makes an image of a plain root file system.
    ///
    /// # Errors
    /// As [`Engine::load`].
    pub async fn import(
        &self,
        _archive: Box<dyn Read + Send>,
        _reference: Option<Reference>,
        _config: ImageConfig,
    ) -> Result<LoadedImage> {
        unwritten("import")
    }

    /// All images, by id.
    pub fn images(&self) -> Vec<Arc<Image>> {
        Vec::new()
    }

    /// One image by reference, id or prefix of an id.
    ///
    /// # Errors
    /// `NotFound` ("No such image: x").
    pub fn image(&self, _name: &str) -> Result<Arc<Image>> {
        unwritten("image")
    }

    /// Gives an image a further name.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn tag(&self, _name: &str, _reference: Reference) -> Result<()> {
        unwritten("tag")
    }

    /// Takes a name away, and the image with its last one.
    ///
    /// # Errors
    /// `Conflict` when a container uses it, or it has several names and is named by id, without `force`.
    pub async fn remove_image(&self, _name: &str, _force: bool) -> Result<Vec<RemovedImage>> {
        unwritten("remove_image")
    }

    /// Events from `since` on (nanoseconds since the epoch; absent: new ones only). The engine keeps the last 256.
    pub fn events(&self, _since: Option<u64>) -> EventStream {
        let (_, live) = tokio::sync::broadcast::channel(1);
        EventStream { past: Vec::new().into_iter(), live }
    }

    /// The engine and its machine.
    pub fn info(&self) -> Info {
        Info::default()
    }

    /// Versions.
    pub fn version(&self) -> Version {
        Version { version: env!("CARGO_PKG_VERSION"), kernel: String::new(), architecture: "" }
    }
}

/// Until the verb is written.
fn unwritten<T>(verb: &str) -> Result<T> {
    Err(Error::new(tare_model::ErrorKind::Unavailable, format!("this build's engine cannot {verb} yet")))
}
