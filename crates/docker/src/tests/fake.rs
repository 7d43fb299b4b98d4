//! An engine without containers: it remembers what it was asked, and its processes echo.
//!
//! Some names have a meaning: `missing` is not there, `running` runs already, `slow` waits for [`Fake::gate`], `panic`
//! panics, `tty` has a terminal, `nope` cannot be executed.

use std::io::Read;
use std::sync::{Arc, Mutex, MutexGuard};

use futures_util::future::BoxFuture;
use serde_json::json;
use tare_engine::{
    AttachOptions, AttachStream, Change, ContainerView, Created, CreatedNetwork, Event, EventStream,
    ExecConfig, ExecStartOptions, ExecView, FaultRequest, FaultView, Info, ListFilter, LoadedImage, LogLine,
    LogOptions, LogStream, Member, NetworkView, PREDEFINED, PoolUsage, PortChange, RemoveOptions,
    RemovedImage, StartOptions, StateView, StatsSample, StopOptions, Top, Version, WaitCondition, WaitResult,
};
use tare_model::container::ContainerConfig;
use tare_model::fault::Fault;
use tare_model::network::{Driver, Endpoint, EndpointConfig, Network, NetworkConfig, Pool, Published};
use tare_model::sandbox::WindowSize;
use tare_model::shaping::Reshaping;
use tare_model::{
    ContainerId, ContainerName, Digest, Error, ErrorKind, ExecId, FaultId, Image, ImageConfig, ImageDocument,
    ImageRecord, NetworkId, Reference, Result, Signal, Status,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::{Notify, broadcast, mpsc, oneshot};

use crate::backend::{Containers, Execs, Images, Networks, Streams, System};
use crate::show::tests::{THEN, view};

/// Who waits for an end. The process behind an attached client ends with code 7 when its input does.
#[derive(Clone, Default)]
pub(super) struct Exits(Arc<Mutex<Waiters>>);

#[derive(Default)]
struct Waiters {
    ended: bool,
    waiting: Vec<oneshot::Sender<WaitResult>>,
}

impl Exits {
    /// The one waiter there is.
    pub(super) fn pop(&self) -> oneshot::Sender<WaitResult> {
        locked(&self.0).waiting.pop().expect("a waiter")
    }

    fn wait(&self) -> oneshot::Receiver<WaitResult> {
        let (exit, exited) = oneshot::channel();
        locked(&self.0).waiting.push(exit);
        if locked(&self.0).ended {
            self.end();
        }
        exited
    }

    fn end(&self) {
        let mut waiters = locked(&self.0);
        waiters.ended = true;
        for exit in waiters.waiting.drain(..) {
            let _ = exit.send(WaitResult { code: 7, error: None });
        }
    }
}

pub(super) struct Fake {
    /// One line per call that changes something.
    log: Mutex<Vec<String>>,
    /// `slow` waits here.
    pub(super) gate: Notify,
    /// Told whenever a line is written to the log.
    pub(super) logged: Notify,
    pub(super) events: broadcast::Sender<Event>,
    pub(super) exits: Exits,
    pub(super) configs: Mutex<Vec<ContainerConfig>>,
    pub(super) networks: Mutex<Vec<NetworkConfig>>,
    execs: Mutex<Vec<ExecConfig>>,
    exec_code: Mutex<Option<i32>>,
}

impl Default for Fake {
    fn default() -> Self {
        Self {
            log: Mutex::default(),
            gate: Notify::new(),
            logged: Notify::new(),
            events: broadcast::channel(16).0,
            exits: Exits::default(),
            configs: Mutex::default(),
            networks: Mutex::default(),
            execs: Mutex::default(),
            exec_code: Mutex::default(),
        }
    }
}

pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no test panics with the lock")
}

impl Fake {
    pub(super) fn log(&self) -> Vec<String> {
        locked(&self.log).clone()
    }

    fn write(&self, line: String) {
        locked(&self.log).push(line);
        self.logged.notify_one();
    }

    async fn verb(&self, verb: &str, key: &str) -> Result<()> {
        match key {
            "missing" => return Err(Error::not_found(format!("No such container: {key}"))),
            "running" if verb == "start" => {
                return Err(Error::new(ErrorKind::NotModified, "it runs already"));
            }
            "running" if verb == "remove" => return Err(Error::conflict("it is running")),
            "nope" => return Err(Error::new(ErrorKind::CommandNotFound, "exec: \"nope\"")),
            "panic" => panic!("as the test asked"),
            "slow" => self.gate.notified().await,
            _ => {}
        }
        self.write(format!("{verb} {key}"));
        Ok(())
    }
}

fn container(key: &str) -> Result<ContainerView> {
    if key == "missing" {
        return Err(Error::not_found(format!("No such container: {key}")));
    }
    let mut found = view(json!({"Image": "nginx", "Cmd": ["sleep", "9"], "Tty": key == "tty"}));
    found.state =
        StateView { status: Status::Running, pid: Some(42), started: Some(THEN), ..Default::default() };
    Ok(found)
}

/// A process that gives back what it gets, in frames if it has no terminal, and ends with its input.
fn echo(tty: bool, exits: Exits) -> AttachStream {
    let (near, mut far) = UnixStream::pair().expect("socketpair");
    tokio::spawn(async move {
        let mut buffer = [0; 4096];
        while let Ok(n @ 1..) = far.read(&mut buffer).await {
            let mut out = Vec::new();
            if !tty {
                out.extend_from_slice(&[1, 0, 0, 0, 0, 0, (n >> 8) as u8, n as u8]);
            }
            out.extend_from_slice(&buffer[..n]);
            if far.write_all(&out).await.is_err() {
                return;
            }
        }
        let _ = far.write_all(if tty { b"bye" } else { b"\x02\0\0\0\0\0\0\x03bye" }).await;
        exits.end();
    });
    AttachStream::new(near, tty)
}

fn image() -> Image {
    let tags = vec!["nginx:1.27".parse::<Reference>().expect("a reference")];
    let record = ImageRecord {
        id: Digest::from_bytes([1; 32]),
        layers: Vec::new(),
        size: 1000,
        layer_sizes: vec![1000],
        created: 1_700_000_000,
        loaded: 1_700_000_000,
    };
    let document = ImageDocument { architecture: "amd64".into(), os: "linux".into(), ..Default::default() };
    Image { record, document, tags }
}

impl Containers for Fake {
    async fn create(&self, name: Option<ContainerName>, config: ContainerConfig) -> Result<Created> {
        locked(&self.configs).push(config);
        self.verb("create", name.as_ref().map_or("-", ContainerName::as_str)).await?;
        Ok(Created { id: ContainerId::from_bytes([0xab; 32]), warnings: vec!["mind the gap".to_owned()] })
    }
    async fn start(&self, key: &str, _: StartOptions) -> Result<()> {
        self.verb("start", key).await
    }
    async fn stop(&self, key: &str, options: StopOptions) -> Result<()> {
        self.verb(&format!("stop {options:?}"), key).await
    }
    async fn restart(&self, key: &str, _: StopOptions) -> Result<()> {
        self.verb("restart", key).await
    }
    async fn kill(&self, key: &str, signal: Signal) -> Result<()> {
        self.verb(&format!("kill {signal}"), key).await
    }
    async fn pause(&self, key: &str) -> Result<()> {
        self.verb("pause", key).await
    }
    async fn unpause(&self, key: &str) -> Result<()> {
        self.verb("unpause", key).await
    }
    async fn rename(&self, key: &str, name: ContainerName) -> Result<()> {
        self.verb(&format!("rename to {name}"), key).await
    }
    async fn update(&self, key: &str, change: Change) -> Result<Vec<String>> {
        let mut config = tare_model::container::ContainerConfig::default();
        change(&mut config)?;
        let shares = config.resources.cpu_shares.unwrap_or_default();
        self.verb(&format!("update to {shares} shares"), key).await?;
        Ok(vec!["a warning".to_owned()])
    }
    async fn remove(&self, key: &str, options: RemoveOptions) -> Result<()> {
        if options.force {
            return self.verb("remove by force", key).await;
        }
        self.verb("remove", key).await
    }
    fn wait(&self, key: &str, _: WaitCondition) -> Result<BoxFuture<'static, Result<WaitResult>>> {
        container(key)?;
        let exited = self.exits.wait();
        Ok(Box::pin(async { exited.await.map_err(|_| Error::system("the engine ends")) }))
    }
    fn inspect(&self, key: &str) -> Result<ContainerView> {
        container(key)
    }
    fn list(&self, filter: &ListFilter) -> Result<Vec<ContainerView>> {
        let matches = filter.status.is_empty() || filter.status.contains(&Status::Running);
        Ok(matches.then(|| container("web")).transpose()?.into_iter().collect())
    }
    async fn top(&self, _: &str, _: &str) -> Result<Top> {
        Ok(Top { titles: vec!["PID".into(), "CMD".into()], rows: vec![vec!["42".into(), "sleep 9".into()]] })
    }
    async fn stats(&self, key: &str) -> Result<StatsSample> {
        container(key)?;
        Ok(StatsSample { time: THEN, running: true, online_cpus: 2, system_cpu: 9, ..Default::default() })
    }
}

impl Streams for Fake {
    async fn attach(&self, key: &str, options: AttachOptions) -> Result<AttachStream> {
        self.verb(&format!("attach stdin={}", options.streams.stdin), key).await?;
        locked(&self.exits.0).ended = false;
        Ok(echo(key == "tty", self.exits.clone()))
    }
    async fn logs(&self, key: &str, options: LogOptions) -> Result<LogStream> {
        container(key)?;
        let (send, lines) = mpsc::channel(4);
        let line = |stderr, text: &str| Ok(LogLine { stderr, time: THEN, bytes: text.as_bytes().to_vec() });
        let _ = send.try_send(line(false, "out\n"));
        let _ = send.try_send(line(true, "err\n"));
        if options.follow {
            // Held open until the reader goes.
            tokio::spawn(async move { send.closed().await });
        }
        Ok(LogStream::new(lines))
    }
    async fn resize(&self, key: &str, size: WindowSize) -> Result<()> {
        self.verb(&format!("resize {}x{}", size.rows, size.columns), key).await
    }
}

impl Execs for Fake {
    async fn exec_create(&self, key: &str, config: ExecConfig) -> Result<ExecId> {
        self.verb(&format!("exec {}", config.cmd.join(" ")), key).await?;
        locked(&self.execs).push(config);
        *locked(&self.exec_code) = None;
        Ok(ExecId::from_bytes([0xee; 32]))
    }
    async fn exec_start(&self, _: &str, options: ExecStartOptions) -> Result<Option<AttachStream>> {
        let config = locked(&self.execs).last().cloned().unwrap_or_default();
        let program = config.cmd.first().map_or("", String::as_str);
        *locked(&self.exec_code) = Some(if program == "nope" { 127 } else { 0 });
        self.verb("exec start", program).await?;
        Ok((!options.detach).then(|| echo(config.tty, Exits::default())))
    }
    fn exec_inspect(&self, exec: &str) -> Result<ExecView> {
        let missing = || Error::not_found(format!("No such exec instance: {exec}"));
        let config = locked(&self.execs).last().cloned().ok_or_else(missing)?;
        let exit_code = *locked(&self.exec_code);
        let (id, container) = (ExecId::from_bytes([0xee; 32]), ContainerId::from_bytes([0xab; 32]));
        Ok(ExecView { id, container, config, running: false, pid: None, exit_code })
    }
    async fn exec_resize(&self, exec: &str, _: WindowSize) -> Result<()> {
        self.verb("exec resize", exec).await
    }
}

impl Images for Fake {
    async fn load(&self, mut archive: Box<dyn Read + Send>) -> Result<Vec<LoadedImage>> {
        let read = tokio::task::spawn_blocking(move || {
            let mut first = [0; 4];
            archive.read_exact(&mut first).map_err(|e| Error::system(format!("read: {e}")))?;
            if first == *b"evil" {
                return Err(Error::new(ErrorKind::Corrupt, "hostile entry"));
            }
            let rest = std::io::copy(&mut archive, &mut std::io::sink());
            rest.map(|n| n + 4).map_err(|e| Error::system(format!("read: {e}")))
        });
        let result = read.await.expect("the reader does not panic");
        match &result {
            Ok(n) => self.write(format!("loaded {n} bytes")),
            Err(e) => self.write(format!("load failed: {e}")),
        }
        result?;
        Ok(vec![LoadedImage { id: Digest::from_bytes([1; 32]), tags: image().tags }])
    }
    async fn import(
        &self,
        mut archive: Box<dyn Read + Send>,
        reference: Option<Reference>,
        config: ImageConfig,
    ) -> Result<LoadedImage> {
        let size = tokio::task::spawn_blocking(move || std::io::copy(&mut archive, &mut std::io::sink()));
        let size =
            size.await.expect("the reader does not panic").map_err(|e| Error::system(e.to_string()))?;
        let name = reference.map(|r| r.familiar()).unwrap_or_default();
        self.write(format!("import {name} {size} {:?}", config.cmd.unwrap_or_default()));
        Ok(LoadedImage { id: Digest::from_bytes([3; 32]), tags: Vec::new() })
    }
    fn images(&self) -> Vec<Arc<Image>> {
        vec![Arc::new(image())]
    }
    fn image(&self, name: &str) -> Result<Arc<Image>> {
        match name {
            "missing" | "missing:latest" => Err(Error::not_found(format!("No such image: {name}"))),
            _ => Ok(Arc::new(image())),
        }
    }
    async fn tag(&self, name: &str, reference: Reference) -> Result<()> {
        self.verb(&format!("tag {reference}"), name).await
    }
    async fn remove_image(&self, name: &str, force: bool) -> Result<Vec<RemovedImage>> {
        self.verb(&format!("rmi force={force}"), name).await?;
        Ok(vec![
            RemovedImage::Untagged(image().tags[0].clone()),
            RemovedImage::Deleted(Digest::from_bytes([1; 32])),
        ])
    }
}

/// `bridge`, `host`, `none`, `idle`, and `front`, on which the container `web` is.
fn network(name: &str) -> NetworkView {
    let (driver, byte) = match name {
        "bridge" => (Driver::Bridge, 0xb0),
        "host" => (Driver::Host, 0xc0),
        "none" => (Driver::None, 0xd0),
        "idle" => (Driver::Bridge, 0x1d),
        _ => (Driver::Bridge, 0xf0),
    };
    let id = NetworkId::from_bytes([byte; 32]);
    let pool = Pool {
        subnet: "172.20.0.0/16".parse().expect("a subnet"),
        range: "172.20.0.0/16".parse().expect("a range"),
        gateway: Some("172.20.0.1".parse().expect("an address")),
        auxiliary: Default::default(),
        chosen: false,
    };
    let pools = if name == "front" { vec![pool] } else { Vec::new() };
    let endpoint = Endpoint {
        network: id.clone(),
        id: "e0".repeat(32),
        interface: "eth0".to_owned(),
        mac: Some("02:42:ac:14:00:02".parse().expect("a MAC")),
        addresses: vec!["172.20.0.2/16".parse().expect("an address")],
        gateways: vec!["172.20.0.1".parse().expect("an address")],
    };
    let web = Member {
        container: ContainerId::from_bytes([0xab; 32]),
        name: "web".parse().expect("a name"),
        endpoint,
    };
    let config = NetworkConfig {
        name: name.to_owned(),
        driver,
        ipv4: true,
        labels: [("tier".to_owned(), name.to_owned())].into(),
        ..Default::default()
    };
    NetworkView {
        usage: pools.iter().map(|_| PoolUsage { in_use: 4, available: 65_532 }).collect(),
        network: Network { id, config, pools, created: THEN },
        containers: if name == "front" { vec![web] } else { Vec::new() },
    }
}

impl Networks for Fake {
    fn networks(&self) -> Vec<NetworkView> {
        ["bridge", "front", "host", "idle", "none"].map(network).into()
    }
    fn network(&self, key: &str) -> Result<NetworkView> {
        let found = self.networks().into_iter().find(|n| n.network.config.name == key);
        let by_id = || self.networks().into_iter().find(|n| n.network.id.as_str().starts_with(key));
        found.or_else(by_id).ok_or_else(|| Error::not_found(format!("network {key} not found")))
    }
    async fn network_create(&self, config: NetworkConfig) -> Result<CreatedNetwork> {
        self.verb("network create", &config.name).await?;
        locked(&self.networks).push(config);
        Ok(CreatedNetwork { id: NetworkId::from_bytes([0xf1; 32]), warnings: vec!["a warning".to_owned()] })
    }
    async fn network_update(&self, key: &str, change: Reshaping) -> Result<()> {
        self.network(key)?;
        self.verb(&format!("network update in={:?}", change.inward), key).await
    }
    async fn network_remove(&self, key: &str) -> Result<()> {
        let found = self.network(key)?;
        if !found.containers.is_empty() || PREDEFINED.contains(&key) {
            return Err(Error::new(ErrorKind::Forbidden, format!("network {key} has active endpoints")));
        }
        self.verb("network remove", key).await
    }
    async fn network_connect(&self, network: &str, container: &str, config: EndpointConfig) -> Result<()> {
        self.verb(&format!("connect {network} {:?}", config.aliases), container).await
    }
    async fn network_disconnect(&self, network: &str, container: &str, force: bool) -> Result<()> {
        self.verb(&format!("disconnect {network} force={force}"), container).await
    }
    async fn change_ports(&self, container: &str, change: PortChange) -> Result<Vec<Published>> {
        self.verb(&format!("ports +{} -{}", change.add.len(), change.remove.len()), container).await?;
        Ok(Vec::new())
    }
    async fn fault_add(&self, container: &str, asked: FaultRequest) -> Result<FaultView> {
        self.verb(&format!("fault {}", asked.impairment), container).await?;
        let fault = Fault {
            id: FaultId::from_bytes([0xfa; 32]),
            network: None,
            direction: asked.direction,
            impairment: asked.impairment,
            partition: Vec::new(),
            since: THEN,
            until: asked.lasts.map(|lasts| THEN + lasts),
        };
        let (container, name) = (ContainerId::from_bytes([0xab; 32]), "web".parse()?);
        Ok(FaultView { container, name, fault, network: asked.network })
    }
    fn faults(&self, _: Option<&str>) -> Result<Vec<FaultView>> {
        Ok(Vec::new())
    }
    async fn fault_remove(&self, key: &str) -> Result<()> {
        self.verb("fault remove", key).await
    }
    async fn faults_clear(&self, container: &str) -> Result<Vec<FaultId>> {
        self.verb("faults clear", container).await?;
        Ok(Vec::new())
    }
}

impl System for Fake {
    fn events(&self, since: Option<u64>) -> EventStream {
        let past = vec![event(THEN), event(THEN + 5_000_000_000)];
        let kept = past.into_iter().filter(|e| since.is_some_and(|s| e.time >= s)).collect();
        EventStream::new(kept, self.events.subscribe())
    }
    fn info(&self) -> Info {
        Info {
            id: "fake".into(),
            running: 1,
            cgroup_version: "1",
            cpus: 2,
            memory: 1 << 30,
            ..Default::default()
        }
    }
    fn version(&self) -> Version {
        Version { version: "0.1.0", kernel: "6.18".into(), architecture: "amd64" }
    }
}

pub(super) fn event(time: u64) -> Event {
    let attributes = [("name".to_owned(), "web".to_owned())].into();
    Event { time, action: tare_engine::Action::Start, actor: "ab".repeat(32), attributes }
}
