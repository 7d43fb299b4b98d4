//! What the face needs of an engine, one trait for each group of routes.
//!
//! The engine itself implements them all by calling its verb of the same name; tests implement them without containers.
//! A *key* is what a client wrote: an id, a unique prefix of one, or a name.

mod engine;

use std::future::Future;
use std::io::Read;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use tare_engine::{
    AttachOptions, AttachStream, Change, ContainerView, Created, CreatedNetwork, EventStream, ExecConfig,
    ExecStartOptions, ExecView, FaultRequest, FaultView, Info, ListFilter, LoadedImage, LogOptions,
    LogStream, NetworkView, PortChange, RemoveOptions, RemovedImage, StartOptions, StatsSample, StopOptions,
    Top, Version, WaitCondition, WaitResult,
};
use tare_model::container::ContainerConfig;
use tare_model::network::{EndpointConfig, NetworkConfig, Published};
use tare_model::sandbox::WindowSize;
use tare_model::shaping::Reshaping;
use tare_model::{ContainerName, ExecId, FaultId, Image, ImageConfig, Reference, Result, Signal};

/// All of them.
pub trait Backend: Containers + Streams + Execs + Images + Networks + System {}

impl<T: Containers + Streams + Execs + Images + Networks + System> Backend for T {}

/// The life of containers.
pub trait Containers: Send + Sync + 'static {
    /// Makes one.
    fn create(
        &self,
        name: Option<ContainerName>,
        config: ContainerConfig,
    ) -> impl Future<Output = Result<Created>> + Send;
    /// Starts it.
    fn start(&self, key: &str, options: StartOptions) -> impl Future<Output = Result<()>> + Send;
    /// Asks it to end, then kills it.
    fn stop(&self, key: &str, options: StopOptions) -> impl Future<Output = Result<()>> + Send;
    /// Stops it if it runs, and starts it.
    fn restart(&self, key: &str, options: StopOptions) -> impl Future<Output = Result<()>> + Send;
    /// Signals it.
    fn kill(&self, key: &str, signal: Signal) -> impl Future<Output = Result<()>> + Send;
    /// Freezes it.
    fn pause(&self, key: &str) -> impl Future<Output = Result<()>> + Send;
    /// Thaws it.
    fn unpause(&self, key: &str) -> impl Future<Output = Result<()>> + Send;
    /// Names it anew.
    fn rename(&self, key: &str, name: ContainerName) -> impl Future<Output = Result<()>> + Send;
    /// Changes the configuration of one, in force and durable when it returns; returns warnings.
    fn update(&self, key: &str, change: Change) -> impl Future<Output = Result<Vec<String>>> + Send;
    /// Removes it.
    fn remove(&self, key: &str, options: RemoveOptions) -> impl Future<Output = Result<()>> + Send;
    /// Registers a waiter, then waits.
    ///
    /// # Errors
    /// No such container.
    fn wait(&self, key: &str, condition: WaitCondition) -> Result<BoxFuture<'static, Result<WaitResult>>>;
    /// Everything about one.
    ///
    /// # Errors
    /// No such container.
    fn inspect(&self, key: &str) -> Result<ContainerView>;
    /// Those that match.
    ///
    /// # Errors
    /// The filter names a container that is not there.
    fn list(&self, filter: &ListFilter) -> Result<Vec<ContainerView>>;
    /// Its processes.
    fn top(&self, key: &str, ps_args: &str) -> impl Future<Output = Result<Top>> + Send;
    /// What it uses.
    fn stats(&self, key: &str) -> impl Future<Output = Result<StatsSample>> + Send;
}

/// Input and output of containers.
pub trait Streams: Send + Sync + 'static {
    /// Connects to its standard streams.
    fn attach(&self, key: &str, options: AttachOptions) -> impl Future<Output = Result<AttachStream>> + Send;
    /// What it has written.
    fn logs(&self, key: &str, options: LogOptions) -> impl Future<Output = Result<LogStream>> + Send;
    /// Sets the size of its terminal.
    fn resize(&self, key: &str, size: WindowSize) -> impl Future<Output = Result<()>> + Send;
}

/// Further processes in containers.
pub trait Execs: Send + Sync + 'static {
    /// Prepares one.
    fn exec_create(&self, key: &str, config: ExecConfig) -> impl Future<Output = Result<ExecId>> + Send;
    /// Starts it; its streams come back unless it is detached.
    fn exec_start(
        &self,
        exec: &str,
        options: ExecStartOptions,
    ) -> impl Future<Output = Result<Option<AttachStream>>> + Send;
    /// Everything about one.
    ///
    /// # Errors
    /// No such exec.
    fn exec_inspect(&self, exec: &str) -> Result<ExecView>;
    /// Sets the size of its terminal.
    fn exec_resize(&self, exec: &str, size: WindowSize) -> impl Future<Output = Result<()>> + Send;
}

/// Images.
pub trait Images: Send + Sync + 'static {
    /// Takes images from an archive.
    fn load(&self, archive: Box<dyn Read + Send>) -> impl Future<Output = Result<Vec<LoadedImage>>> + Send;
    /// Makes an image of a root file system.
    fn import(
        &self,
        archive: Box<dyn Read + Send>,
        reference: Option<Reference>,
        config: ImageConfig,
    ) -> impl Future<Output = Result<LoadedImage>> + Send;
    /// All of them.
    fn images(&self) -> Vec<Arc<Image>>;
    /// One by reference, id or prefix of an id.
    ///
    /// # Errors
    /// No such image.
    fn image(&self, name: &str) -> Result<Arc<Image>>;
    /// Gives it a further name.
    fn tag(&self, name: &str, reference: Reference) -> impl Future<Output = Result<()>> + Send;
    /// Takes a name away, and the image with its last one.
    fn remove_image(&self, name: &str, force: bool)
    -> impl Future<Output = Result<Vec<RemovedImage>>> + Send;
}

/// Networks, and how containers are on them.
pub trait Networks: Send + Sync + 'static {
    /// All of them.
    fn networks(&self) -> Vec<NetworkView>;
    /// One by name, id or prefix of an id.
    ///
    /// # Errors
    /// No such network.
    fn network(&self, key: &str) -> Result<NetworkView>;
    /// Makes one.
    fn network_create(&self, config: NetworkConfig) -> impl Future<Output = Result<CreatedNetwork>> + Send;
    /// Changes the rate of its own.
    fn network_update(&self, key: &str, change: Reshaping) -> impl Future<Output = Result<()>> + Send;
    /// Removes it, if no running container is on it.
    fn network_remove(&self, key: &str) -> impl Future<Output = Result<()>> + Send;
    /// Puts a container on it.
    fn network_connect(
        &self,
        network: &str,
        container: &str,
        config: EndpointConfig,
    ) -> impl Future<Output = Result<()>> + Send;
    /// Takes a container off it.
    fn network_disconnect(
        &self,
        network: &str,
        container: &str,
        force: bool,
    ) -> impl Future<Output = Result<()>> + Send;
    /// Publishes ports of a container and takes others back; returns what is published then.
    fn change_ports(
        &self,
        container: &str,
        change: PortChange,
    ) -> impl Future<Output = Result<Vec<Published>>> + Send;
    /// Lets a running container's networks go wrong.
    fn fault_add(
        &self,
        container: &str,
        asked: FaultRequest,
    ) -> impl Future<Output = Result<FaultView>> + Send;
    /// What goes wrong, of one container or of all.
    ///
    /// # Errors
    /// No such container.
    fn faults(&self, container: Option<&str>) -> Result<Vec<FaultView>>;
    /// Ends one.
    fn fault_remove(&self, key: &str) -> impl Future<Output = Result<()>> + Send;
    /// Ends all of a container; returns which.
    fn faults_clear(&self, container: &str) -> impl Future<Output = Result<Vec<FaultId>>> + Send;
}

/// The engine as a whole.
pub trait System: Send + Sync + 'static {
    /// Events from `since` on (nanoseconds since 1970).
    fn events(&self, since: Option<u64>) -> EventStream;
    /// The engine and its machine.
    fn info(&self) -> Info;
    /// Versions.
    fn version(&self) -> Version;
}
