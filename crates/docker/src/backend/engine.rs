//! The real backend: each method is the engine's verb of the same name.

use std::io::Read;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use tare_engine::{
    AttachOptions, AttachStream, Change, ContainerView, Created, CreatedNetwork, Engine, EventStream,
    ExecConfig, ExecStartOptions, ExecView, FaultRequest, FaultView, Info, ListFilter, LoadedImage,
    LogOptions, LogStream, NetworkView, PortChange, RemoveOptions, RemovedImage, StartOptions, StatsSample,
    StopOptions, Top, Version, WaitCondition, WaitResult,
};
use tare_model::container::ContainerConfig;
use tare_model::network::{EndpointConfig, NetworkConfig, Published};
use tare_model::sandbox::WindowSize;
use tare_model::shaping::Reshaping;
use tare_model::{ContainerName, ExecId, FaultId, Image, ImageConfig, Reference, Result, Signal};

use super::{Containers, Execs, Images, Networks, Streams, System};

impl Containers for Engine {
    async fn create(&self, name: Option<ContainerName>, config: ContainerConfig) -> Result<Created> {
        Engine::create(self, name, config).await
    }
    async fn start(&self, key: &str, options: StartOptions) -> Result<()> {
        Engine::start(self, key, options).await
    }
    async fn stop(&self, key: &str, options: StopOptions) -> Result<()> {
        Engine::stop(self, key, options).await
    }
    async fn restart(&self, key: &str, options: StopOptions) -> Result<()> {
        Engine::restart(self, key, options).await
    }
    async fn kill(&self, key: &str, signal: Signal) -> Result<()> {
        Engine::kill(self, key, signal).await
    }
    async fn pause(&self, key: &str) -> Result<()> {
        Engine::pause(self, key).await
    }
    async fn unpause(&self, key: &str) -> Result<()> {
        Engine::unpause(self, key).await
    }
    async fn rename(&self, key: &str, name: ContainerName) -> Result<()> {
        Engine::rename(self, key, name).await
    }
    async fn update(&self, key: &str, change: Change) -> Result<Vec<String>> {
        Engine::update(self, key, change).await
    }
    async fn remove(&self, key: &str, options: RemoveOptions) -> Result<()> {
        Engine::remove(self, key, options).await
    }
    fn wait(&self, key: &str, condition: WaitCondition) -> Result<BoxFuture<'static, Result<WaitResult>>> {
        Ok(Box::pin(Engine::wait(self, key, condition)?))
    }
    fn inspect(&self, key: &str) -> Result<ContainerView> {
        Engine::inspect(self, key)
    }
    fn list(&self, filter: &ListFilter) -> Result<Vec<ContainerView>> {
        Engine::list(self, filter)
    }
    async fn top(&self, key: &str, ps_args: &str) -> Result<Top> {
        Engine::top(self, key, ps_args).await
    }
    async fn stats(&self, key: &str) -> Result<StatsSample> {
        Engine::stats(self, key).await
    }
}

impl Streams for Engine {
    async fn attach(&self, key: &str, options: AttachOptions) -> Result<AttachStream> {
        Engine::attach(self, key, options).await
    }
    async fn logs(&self, key: &str, options: LogOptions) -> Result<LogStream> {
        Engine::logs(self, key, options).await
    }
    async fn resize(&self, key: &str, size: WindowSize) -> Result<()> {
        Engine::resize(self, key, size).await
    }
}

impl Execs for Engine {
    async fn exec_create(&self, key: &str, config: ExecConfig) -> Result<ExecId> {
        Engine::exec_create(self, key, config).await
    }
    async fn exec_start(&self, exec: &str, options: ExecStartOptions) -> Result<Option<AttachStream>> {
        Engine::exec_start(self, exec, options).await
    }
    fn exec_inspect(&self, exec: &str) -> Result<ExecView> {
        Engine::exec_inspect(self, exec)
    }
    async fn exec_resize(&self, exec: &str, size: WindowSize) -> Result<()> {
        Engine::exec_resize(self, exec, size).await
    }
}

impl Images for Engine {
    async fn load(&self, archive: Box<dyn Read + Send>) -> Result<Vec<LoadedImage>> {
        Engine::load(self, archive).await
    }
    async fn import(
        &self,
        archive: Box<dyn Read + Send>,
        reference: Option<Reference>,
        config: ImageConfig,
    ) -> Result<LoadedImage> {
        Engine::import(self, archive, reference, config).await
    }
    fn images(&self) -> Vec<Arc<Image>> {
        Engine::images(self)
    }
    fn image(&self, name: &str) -> Result<Arc<Image>> {
        Engine::image(self, name)
    }
    async fn tag(&self, name: &str, reference: Reference) -> Result<()> {
        Engine::tag(self, name, reference).await
    }
    async fn remove_image(&self, name: &str, force: bool) -> Result<Vec<RemovedImage>> {
        Engine::remove_image(self, name, force).await
    }
}

impl Networks for Engine {
    fn networks(&self) -> Vec<NetworkView> {
        Engine::networks(self)
    }
    fn network(&self, key: &str) -> Result<NetworkView> {
        Engine::network(self, key)
    }
    async fn network_create(&self, config: NetworkConfig) -> Result<CreatedNetwork> {
        Engine::network_create(self, config).await
    }
    async fn network_update(&self, key: &str, change: Reshaping) -> Result<()> {
        Engine::network_update(self, key, change).await
    }
    async fn network_remove(&self, key: &str) -> Result<()> {
        Engine::network_remove(self, key).await
    }
    async fn network_connect(&self, network: &str, container: &str, config: EndpointConfig) -> Result<()> {
        Engine::network_connect(self, network, container, config).await
    }
    async fn network_disconnect(&self, network: &str, container: &str, force: bool) -> Result<()> {
        Engine::network_disconnect(self, network, container, force).await
    }
    async fn change_ports(&self, container: &str, change: PortChange) -> Result<Vec<Published>> {
        Engine::change_ports(self, container, change).await
    }
    async fn fault_add(&self, container: &str, asked: FaultRequest) -> Result<FaultView> {
        Engine::fault_add(self, container, asked).await
    }
    fn faults(&self, container: Option<&str>) -> Result<Vec<FaultView>> {
        Engine::faults(self, container)
    }
    async fn fault_remove(&self, key: &str) -> Result<()> {
        Engine::fault_remove(self, key).await
    }
    async fn faults_clear(&self, container: &str) -> Result<Vec<FaultId>> {
        Engine::faults_clear(self, container).await
    }
}

impl System for Engine {
    fn events(&self, since: Option<u64>) -> EventStream {
        Engine::events(self, since)
    }
    fn info(&self) -> Info {
        Engine::info(self)
    }
    fn version(&self) -> Version {
        Engine::version(self)
    }
}
