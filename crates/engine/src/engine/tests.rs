//! The engine end to end, on a real store, with monitors that only pretend.

mod fake;
mod keys;
mod life;
mod races;
mod recovery;
mod streams;

use std::sync::Arc;
use std::time::Duration;

use tare_model::container::{ContainerConfig, ImageSource, ProcessConfig};
use tare_model::{ContainerId, Result};

use super::open::open_store;
use super::{Engine, EngineConfig};
use crate::api::event::Action;
use crate::api::stream::EventStream;
use fake::World;

/// An engine in directories of its own.
struct Room {
    engine: Arc<Engine>,
    world: Arc<World>,
    config: EngineConfig,
    scratch: tempfile::TempDir,
}

impl Room {
    async fn new() -> Self {
        let scratch = tempfile::tempdir().expect("scratch");
        let config = EngineConfig {
            root: scratch.path().join("root"),
            run_dir: scratch.path().join("run"),
            libexec: scratch.path().into(),
            keeper: scratch.path().into(),
            bridge: None,
            host_dns: None,
        };
        std::fs::create_dir_all(&config.run_dir).expect("run directory");
        let world = Arc::new(World::default());
        let engine = open(&config, &world).await;
        Self { engine, world, config, scratch }
    }

    /// The engine goes, as with SIGKILL, and another comes.
    async fn reopen(self) -> Self {
        self.reopen_after(|_, _| {}).await
    }

    /// Lets things happen while there is no engine.
    async fn reopen_after(self, meanwhile: impl FnOnce(&EngineConfig, &World)) -> Self {
        let Self { engine, world, config, scratch } = self;
        let store = Arc::downgrade(&engine.core.store);
        drop(engine);
        while store.strong_count() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        meanwhile(&config, &world);
        let engine = open(&config, &world).await;
        Self { engine, world, config, scratch }
    }

    /// A container made of a plain directory.
    async fn create(&self, name: &str) -> ContainerId {
        self.create_with(name, |_| {}).await
    }

    async fn create_with(&self, name: &str, change: impl FnOnce(&mut ContainerConfig)) -> ContainerId {
        let mut config = self.config();
        change(&mut config);
        let name = Some(name.parse().expect("valid"));
        self.engine.create(name, config).await.expect("creates").id
    }

    async fn run(&self, name: &str) -> ContainerId {
        let id = self.create(name).await;
        self.engine.start(name, Default::default()).await.expect("starts");
        id
    }

    fn config(&self) -> ContainerConfig {
        ContainerConfig {
            image: ImageSource::Directory {
                path: self.scratch.path().display().to_string(),
                writable: false,
            },
            process: ProcessConfig { cmd: Some(vec!["true".into()]), ..Default::default() },
            ..Default::default()
        }
    }

    fn status(&self, key: &str) -> &'static str {
        self.engine.inspect(key).expect("is there").state.status.as_str()
    }
}

async fn open(config: &EngineConfig, world: &Arc<World>) -> Arc<Engine> {
    let store = open_store(config).await.expect("store");
    let monitors = Arc::new(Arc::clone(world));
    Engine::assemble(config.clone(), store, monitors, None).await.expect("opens")
}

/// The next so many events, by their words.
async fn words(events: &mut EventStream, n: usize) -> Vec<&'static str> {
    let mut words = Vec::new();
    for _ in 0..n {
        words.push(events.next().await.map_or("end", |e| Action::word(&e.action)));
    }
    words
}

/// Waits until `test` holds; it must, soon.
async fn soon(what: &str, test: impl Fn() -> bool) {
    for _ in 0..2000 {
        if test() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("never: {what}");
}

fn message<T: std::fmt::Debug>(result: Result<T>) -> String {
    result.expect_err("refused").message().to_owned()
}
