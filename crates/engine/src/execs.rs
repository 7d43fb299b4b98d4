//! The execs of all containers: prepared, running, ended. In memory only, as with Docker; the monitors know those that
//! run when the engine comes back.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tare_model::{ContainerId, Error, ExecId, Result};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::api::exec::{ExecConfig, ExecView};

/// How long an exec that has ended is remembered.
const REMEMBERED: Duration = Duration::from_secs(300);

/// One exec.
#[derive(Debug)]
pub(crate) struct Exec {
    /// Its id.
    pub(crate) id: ExecId,
    /// Its container.
    pub(crate) container: ContainerId,
    /// As asked for.
    pub(crate) config: ExecConfig,
    phase: watch::Sender<Phase>,
}

/// How far an exec is.
///
/// ```text
///   Prepared ─ claim ─▶ Starting ─▶ Running{pid} ─▶ Ended{code}
///                          └── refused, or ended at once ──▶ Ended{code}
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Not started.
    Prepared,
    /// Being started.
    Starting,
    /// Its program executes.
    Running {
        /// In the host's namespace.
        pid: i32,
    },
    /// It has ended.
    Ended {
        /// In the host's namespace, if it ever ran.
        pid: Option<i32>,
        /// 128 + n for signal n.
        code: i32,
        /// When this was noticed.
        at: Instant,
    },
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Execs {
    by_id: Mutex<HashMap<ExecId, Arc<Exec>>>,
}

// === impl Exec ===

impl Exec {
    /// Takes the right to start it, once.
    ///
    /// # Errors
    /// `Conflict` when somebody has it already.
    pub(crate) fn claim(&self) -> Result<()> {
        let claimed = self.phase.send_if_modified(|phase| {
            let free = *phase == Phase::Prepared;
            if free {
                *phase = Phase::Starting;
            }
            free
        });
        if claimed {
            return Ok(());
        }
        Err(Error::conflict(format!("Error: Exec command {} is already running", self.id)))
    }

    /// It executes (unless its end was noticed first).
    pub(crate) fn running(&self, pid: i32) {
        self.phase.send_if_modified(|phase| match phase {
            Phase::Ended { pid: known, .. } => {
                *known = Some(pid);
                true
            }
            _ => {
                *phase = Phase::Running { pid };
                true
            }
        });
    }

    /// It has ended; the first word counts.
    pub(crate) fn ended(&self, code: i32) {
        self.phase.send_if_modified(|phase| {
            let pid = match *phase {
                Phase::Ended { .. } => return false,
                Phase::Running { pid } => Some(pid),
                Phase::Prepared | Phase::Starting => None,
            };
            *phase = Phase::Ended { pid, code, at: Instant::now() };
            true
        });
    }

    /// How far it is.
    pub(crate) fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// A flag that becomes true when it has ended.
    pub(crate) fn done(self: &Arc<Self>) -> watch::Receiver<bool> {
        let (flag, done) = watch::channel(false);
        let mut phase = self.phase.subscribe();
        tokio::spawn(async move {
            // An error means that nobody knows the exec any more.
            let _ = phase.wait_for(|p| matches!(p, Phase::Ended { .. })).await;
            flag.send_replace(true);
        });
        done
    }

    /// Everything about it.
    pub(crate) fn view(&self) -> ExecView {
        let (running, pid, exit_code) = match self.phase() {
            Phase::Prepared | Phase::Starting => (false, None, None),
            Phase::Running { pid } => (true, Some(pid), None),
            Phase::Ended { pid, code, .. } => (false, pid, Some(code)),
        };
        ExecView {
            id: self.id.clone(),
            container: self.container.clone(),
            config: self.config.clone(),
            running,
            pid,
            exit_code,
        }
    }
}

// === impl Execs ===

impl Execs {
    /// Prepares one.
    pub(crate) fn add(&self, id: ExecId, container: ContainerId, config: ExecConfig) -> Arc<Exec> {
        let exec = Arc::new(Exec { id, container, config, phase: watch::channel(Phase::Prepared).0 });
        let mut all = self.lock();
        all.retain(|_, e| !matches!(e.phase(), Phase::Ended { at, .. } if at.elapsed() > REMEMBERED));
        all.insert(exec.id.clone(), Arc::clone(&exec));
        exec
    }

    /// One by its id, or by a prefix that only it has.
    ///
    /// # Errors
    /// `NotFound` in Docker's words.
    pub(crate) fn get(&self, key: &str) -> Result<Arc<Exec>> {
        let all = self.lock();
        let found = match key.parse::<ExecId>() {
            Ok(id) => all.get(&id).cloned(),
            Err(_) if key.is_empty() => None,
            Err(_) => {
                let mut with = all.values().filter(|e| e.id.as_str().starts_with(key));
                with.next().filter(|_| with.next().is_none()).cloned()
            }
        };
        found.ok_or_else(|| Error::not_found(format!("No such exec instance: {key}")))
    }

    /// Those of a container that have not ended.
    pub(crate) fn live(&self, container: &ContainerId) -> Vec<ExecId> {
        let live = |e: &&Arc<Exec>| e.container == *container && !matches!(e.phase(), Phase::Ended { .. });
        let mut ids: Vec<_> = self.lock().values().filter(live).map(|e| e.id.clone()).collect();
        ids.sort();
        ids
    }

    /// The container has ended, and every process in it: execs that ran were killed.
    pub(crate) fn container_ended(&self, container: &ContainerId) {
        for exec in self.lock().values().filter(|e| e.container == *container) {
            exec.ended(137);
        }
    }

    /// The container is gone.
    pub(crate) fn forget(&self, container: &ContainerId) {
        self.lock().retain(|_, e| e.container != *container);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ExecId, Arc<Exec>>> {
        self.by_id.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exec(execs: &Execs, n: u8) -> Arc<Exec> {
        execs.add(ExecId::from_bytes([n; 32]), ContainerId::from_bytes([1; 32]), ExecConfig::default())
    }

    #[tokio::test]
    async fn an_exec_is_started_once() {
        let execs = Execs::default();
        let one = exec(&execs, 1);
        assert!(one.claim().is_ok());
        assert!(one.claim().is_err());
    }

    #[tokio::test]
    async fn an_end_that_is_noticed_before_the_start_counts() {
        let execs = Execs::default();
        let one = exec(&execs, 1);
        one.claim().expect("free");
        one.ended(3);
        one.running(77);
        let view = one.view();
        assert_eq!((view.running, view.pid, view.exit_code), (false, Some(77), Some(3)));
        one.ended(9);
        assert_eq!(one.view().exit_code, Some(3));
    }

    #[tokio::test]
    async fn execs_end_with_their_container() {
        let execs = Execs::default();
        let one = exec(&execs, 1);
        one.running(5);
        assert_eq!(execs.live(&one.container).len(), 1);
        let mut done = one.done();
        execs.container_ended(&one.container);
        assert!(done.wait_for(|d| *d).await.is_ok());
        assert_eq!(one.view().exit_code, Some(137));
        assert!(execs.live(&one.container).is_empty());
    }

    #[tokio::test]
    async fn execs_are_found_by_id_and_unique_prefix() {
        let execs = Execs::default();
        let one = exec(&execs, 0x11);
        exec(&execs, 0x22);
        assert_eq!(execs.get("11").map(|e| e.id.clone()), Ok(one.id.clone()));
        assert_eq!(execs.get(one.id.as_str()).map(|e| e.id.clone()), Ok(one.id.clone()));
        assert_eq!(execs.get("").expect_err("no key").message(), "No such exec instance: ");
        execs.forget(&one.container);
        assert!(execs.get("11").is_err());
    }
}
