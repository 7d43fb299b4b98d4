//! Opening: directories, database, nursery, and the containers that are there.

use std::path::Path;
use std::sync::Arc;

use tare_model::{ContainerId, Error, Result};
use tare_shim::client::Nursery;
use tare_store::{Store, StoreConfig};

use super::{Engine, EngineConfig};
use crate::events::EventHub;
use crate::execs::Execs;
use crate::host;
use crate::lifecycle::core::Core;
use crate::lifecycle::recover;
use crate::lifecycle::table::Table;
use crate::monitors::Monitors;
use crate::networks::fabric::Fabric;
use crate::networks::host::Host;
use crate::networks::user::{MISSING, User};
use crate::networks::{Networks, Settings};
use crate::spec::rootless::Rootless;
use crate::work;

/// Where the one engine is that a machine usually has.
const DEFAULT_ROOT: &str = "/var/lib/tare";
/// The monitor's program.
const SHIM: &str = "tare-shim";

// === impl Engine ===

impl Engine {
    /// Opens the state below `root`, joins it with what happened while no engine ran, and takes over the containers
    /// that run.
    ///
    /// # Errors
    /// `Conflict` when another engine uses the root; a database that cannot be opened, a directory that cannot be made,
    /// a `tare-shim` that is not there.
    pub async fn open(config: EngineConfig) -> Result<Arc<Self>> {
        let store = open_store(&config).await?;
        let shim = config.libexec.join(SHIM);
        if !shim.is_file() {
            let path = shim.display();
            return Err(Error::system(format!(
                "{path} is not there: tared needs tare-shim beside it (or TARE_LIBEXEC)"
            )));
        }
        let group = format!("tare-shims-{}", short(store.instance()));
        let below = tare_shim::rootless::delegated_group();
        let group =
            below.map_or_else(|| group.clone(), |below| below.join(&group).to_string_lossy().into_owned());
        let nursery = Nursery::spawn(&shim, group)?;
        let table = format!("tare-{}", store.instance().get(..8).unwrap_or_default());
        let fabric = fabric(&config, table).await?;
        Self::assemble(config, store, Arc::new(nursery), fabric).await
    }

    /// Called by a daemon that stops in good order: if no container runs, takes away the group that theirs are in, and
    /// leaves ids that no container has to other engines.
    /// Containers that run are left to the next engine.
    pub async fn retire(&self) {
        // The next engine knows nothing of addresses that are not free yet.
        self.core.networks.settled().await;
        if self.core.table.all().iter().any(|handle| handle.view().state.status.is_live()) {
            return;
        }
        let parent = self.core.cgroup_parent.clone();
        let nobody = ContainerId::from_bytes([0; 32]);
        self.core.networks.retire().await;
        if let Err(e) = self.core.monitors.cleanup(&nobody, &parent, Vec::new()).await {
            tracing::debug!("remove the group {parent}: {e}");
        }
        let core = Arc::clone(&self.core);
        if let Err(e) = work::blocking(move || core.store.containers().give_ids_back()).await {
            tracing::warn!("{e}");
        }
    }

    /// An engine of these parts.
    pub(super) async fn assemble(
        config: EngineConfig,
        store: Arc<Store>,
        monitors: Arc<dyn Monitors>,
        fabric: Option<Arc<dyn Fabric>>,
    ) -> Result<Arc<Self>> {
        for damage in store.damage() {
            tracing::error!("{damage}");
        }
        let host = host::facts();
        let own = format!("/tare-{}", short(store.instance()));
        let cgroup_parent = match &host.rootless {
            None => own,
            Some(Rootless { cgroup: Some(below), .. }) => format!("{below}{own}"),
            Some(Rootless { cgroup: None, .. }) => String::new(),
        };
        let settings = settings(&config, store.instance());
        let networks = Arc::new(Networks::open(Arc::clone(&store), fabric, &settings)?);
        let core = Arc::new(Core {
            root: absolute(&config.root)?,
            run_dir: absolute(&config.run_dir)?,
            host,
            cgroup_parent,
            store,
            monitors,
            events: EventHub::new(),
            execs: Execs::default(),
            table: Table::default(),
            networks,
            making: Arc::default(),
        });
        recover::recover(&core).await?;
        Ok(Arc::new(Self { config, core, machine: host::machine() }))
    }
}

/// The kernel's networks, or an ordinary user's.
async fn fabric(config: &EngineConfig, table: String) -> Result<Option<Arc<dyn Fabric>>> {
    if !tare_shim::rootless::is_inside() {
        let host = Host::open(table, true)?;
        config.host_dns.map_or(Ok(()), |at| host.serve_host(at))?;
        return Ok(Some(Arc::new(host)));
    }
    if let Some(at) = config.host_dns {
        return Err(Error::unsupported(format!(
            "--host-dns {at}: an ordinary user's containers have no addresses that the host reaches; publish ports"
        )));
    }
    let (keeper, run_dir) = (config.keeper.clone(), absolute(&config.run_dir)?);
    let user = work::blocking(move || User::open(keeper, &run_dir, table)).await?;
    if user.is_none() {
        tracing::warn!("{MISSING}");
    }
    Ok(user.map(|user| user as Arc<dyn Fabric>))
}

/// The store of an engine that lives there.
pub(super) async fn open_store(config: &EngineConfig) -> Result<Arc<Store>> {
    let store = StoreConfig {
        root: config.root.clone(),
        run_dir: config.run_dir.clone(),
        ids: tare_store::IDS.into(),
    };
    work::blocking(move || Ok(Arc::new(Store::open(&store)?))).await
}

/// Where the networks of an engine are. Of several on a machine each has a bridge of its own.
fn settings(config: &EngineConfig, instance: &str) -> Settings {
    let own = || match config.root.as_path() {
        root if root == Path::new(DEFAULT_ROOT) => "tare0".to_owned(),
        _ => format!("tare-{}", instance.get(..8).unwrap_or(instance)),
    };
    let bridge = match config.bridge.as_deref() {
        Some("none") => None,
        Some(name) => Some(name.to_owned()),
        None => Some(own()),
    };
    let mut ula = [0; 5];
    let digits = instance.get(instance.len().saturating_sub(10)..).unwrap_or_default();
    for (at, byte) in ula.iter_mut().enumerate() {
        let pair = digits.get(2 * at..2 * at + 2).unwrap_or_default();
        *byte = u8::from_str_radix(pair, 16).unwrap_or(0);
    }
    Settings { bridge, ula }
}

/// Enough of an instance's id for names of cgroups.
fn short(instance: &str) -> &str {
    instance.get(..12).unwrap_or(instance)
}

fn absolute(path: &Path) -> Result<std::path::PathBuf> {
    path.canonicalize().map_err(|e| Error::system(format!("realpath({}): {e}", path.display())))
}
