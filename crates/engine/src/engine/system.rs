//! The machine and the engine as a whole: `top`, `stats`, `info`, `version`, events.

use tare_model::{ErrorKind, Result, Status};

use super::Engine;
use crate::api::stream::EventStream;
use crate::api::system::{Info, StatsSample, Top, Version};
use crate::lifecycle::rules::Op;
use crate::spec::rootless::NO_GROUPS;
use crate::work;
use crate::{clock, host, ps};

// === impl Engine ===

impl Engine {
    /// Its processes, read by the engine from /proc. `ps_args` is `-ef` (the default when empty), `aux` or their
    /// spellings.
    ///
    /// # Errors
    /// `Conflict` when it does not run, `Unsupported` for other `ps_args`.
    pub async fn top(&self, key: &str, ps_args: &str) -> Result<Top> {
        let form = ps::Form::parse(ps_args)?;
        let (state, monitor) = self.live(key, Op::Top)?;
        let pids = self.settled(key, &state, monitor.processes().await).await?;
        work::blocking(move || Ok(ps::top(&pids, form))).await
    }

    /// What it uses now. For one that does not run, empty figures.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn stats(&self, key: &str) -> Result<StatsSample> {
        let handle = self.core.table.get(key)?;
        let mut sample = StatsSample {
            time: clock::now(),
            online_cpus: self.core.host.cpus,
            system_memory: self.machine.memory,
            ..StatsSample::default()
        };
        if let Some(monitor) = handle.now().monitor {
            match monitor.stats().await {
                Ok(stats) => (sample.stats, sample.running) = (stats, true),
                // It has ended between the look and the call.
                Err(e) if matches!(e.kind(), ErrorKind::Conflict | ErrorKind::Unavailable) => {}
                Err(e) => return Err(e),
            }
        }
        sample.system_cpu = host::system_cpu();
        sample.time = clock::now();
        Ok(sample)
    }

    /// Events from `since` on (nanoseconds since the epoch; absent: new ones only). The engine keeps the last 256.
    pub fn events(&self, since: Option<u64>) -> EventStream {
        self.core.events.listen(since)
    }

    /// The engine and its machine.
    pub fn info(&self) -> Info {
        let views: Vec<_> = self.core.table.all().iter().map(|handle| handle.view().state.status).collect();
        let count = |wanted: &dyn Fn(Status) -> bool| views.iter().filter(|status| wanted(**status)).count();
        let machine = &self.machine;
        let mut warnings = self.core.store.damage().to_vec();
        if let Some(rootless) = &self.core.host.rootless {
            if rootless.cgroup.is_none() {
                warnings.push(format!("WARNING: Nothing is limited: {NO_GROUPS}"));
            } else if !rootless.has("pids") {
                warnings.push(
                    "WARNING: No pids limit: the pids controller was not delegated to this user".into(),
                );
            }
        }
        if !self.core.host.swap_limit {
            warnings.push("WARNING: No swap limit support".into());
        }
        Info {
            id: self.core.store.instance().to_owned(),
            running: count(&|s| s == Status::Running),
            paused: count(&|s| s == Status::Paused),
            stopped: count(&|s| !s.is_live()),
            images: self.images().len(),
            root: self.core.root.clone(),
            hostname: self.core.host.hostname.clone(),
            kernel: machine.kernel.clone(),
            operating_system: machine.os.0.clone(),
            os_version: machine.os.1.clone(),
            architecture: std::env::consts::ARCH.to_owned(),
            cpus: self.core.host.cpus as usize,
            memory: machine.memory,
            cgroup_version: machine.cgroup_version,
            security_options: self.core.host.security_options(),
            warnings,
        }
    }

    /// Versions.
    pub fn version(&self) -> Version {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        Version { version: env!("CARGO_PKG_VERSION"), kernel: self.machine.kernel.clone(), architecture }
    }
}
