//! Faults on purpose of a container's networks: of a running one, and gone with the run.
//!
//! A fault is noted before the kernel hears of it and forgotten after the kernel has: whenever an engine is killed, the next one
//! knows of every fault that there may be. One whose time was over meanwhile ends then.

use std::sync::Arc;
use std::time::Duration;

use tare_model::fault::Fault;
use tare_model::{Error, ErrorKind, FaultId, NetworkId, Result};

use super::driver::Driver;
use crate::api::event::Action;
use crate::clock;
use crate::networks::Attached;
use crate::networks::faults::in_the_way;

/// After how long an end that failed is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// What a driver can be told about faults.
pub(crate) enum FaultChange {
    /// One more.
    Add(Box<Fault>),
    /// These no longer.
    Remove(Vec<FaultId>),
}

/// Resolves when a fault is to end by itself; where one could not be ended, a while later.
pub(super) async fn is_over(attached: Option<&Attached>, again: bool) {
    let faults = attached.into_iter().flat_map(|attached| &attached.faults);
    let Some(until) = faults.filter_map(|fault| fault.until).min() else {
        return std::future::pending().await;
    };
    let left = Duration::from_nanos(until.saturating_sub(clock::now()));
    tokio::time::sleep(if again { left.max(AGAIN) } else { left }).await;
}

// === impl Driver ===

impl Driver {
    /// Ends those whose time is over.
    pub(super) async fn end_faults(&mut self) {
        let now = clock::now();
        let faults = self.attached.iter().flat_map(|attached| &attached.faults);
        let over = faults.filter(|fault| fault.until.is_some_and(|until| until <= now));
        let over: Vec<FaultId> = over.map(|fault| fault.id.clone()).collect();
        if over.is_empty() {
            return;
        }
        let ended = self.remove_faults(&over).await;
        self.fault_stays = ended.is_err();
        match ended {
            Ok(()) => self.publish(),
            Err(e) => tracing::error!(container = self.me.id.as_str(), "end a network fault: {e}"),
        }
    }

    pub(super) async fn change_faults(&mut self, change: FaultChange) -> Result<()> {
        match change {
            FaultChange::Add(fault) => self.add_fault(*fault).await,
            FaultChange::Remove(ids) => {
                self.remove_faults(&ids).await?;
                self.fault_stays = false;
                Ok(())
            }
        }
    }

    async fn add_fault(&mut self, fault: Fault) -> Result<()> {
        let name = &self.me.name;
        let (true, Some(attached)) = (self.status.is_live(), self.attached.clone()) else {
            return Err(Error::conflict(format!(
                "container {name} is not running, or is on no network of its own: there is nothing to go wrong"
            )));
        };
        let on = |network: &NetworkId| attached.joins.iter().any(|join| join.endpoint.network == *network);
        if fault.network.as_ref().is_some_and(|network| !on(network)) {
            let why = format!("container {name} is not connected to the network that is to go wrong");
            return Err(Error::new(ErrorKind::Forbidden, why));
        }
        if let Some(other) = in_the_way(&attached.faults, &fault) {
            return Err(Error::conflict(format!(
                "container {name}: fault {} ({other}) spoils the same packets: remove it, or name all of both in one",
                other.id.short()
            )));
        }
        let sockets = self.monitor()?.network().await?;
        let mut faults = attached.faults.clone();
        faults.push(fault.clone());
        self.note(&Attached { faults: faults.clone(), ..attached.clone() })?;
        let networks = Arc::clone(&self.core.networks);
        match networks.fault(&self.me.id, &attached, faults, sockets).await {
            Ok(after) => self.attached = Some(after),
            Err(e) => {
                self.note(&attached)?;
                return Err(e);
            }
        }
        self.tell_fault(Action::FaultAdd, &fault);
        Ok(())
    }

    async fn remove_faults(&mut self, ids: &[FaultId]) -> Result<()> {
        let Some(attached) = self.attached.clone() else { return Ok(()) };
        let (gone, stay): (Vec<Fault>, Vec<Fault>) =
            attached.faults.iter().cloned().partition(|fault| ids.contains(&fault.id));
        if gone.is_empty() {
            return Ok(());
        }
        let sockets = self.monitor()?.network().await?;
        let networks = Arc::clone(&self.core.networks);
        let after = networks.fault(&self.me.id, &attached, stay, sockets).await?;
        self.note(&after)?;
        self.attached = Some(after);
        gone.iter().for_each(|fault| self.tell_fault(Action::FaultRemove, fault));
        Ok(())
    }

    pub(super) fn tell_fault(&self, action: Action, fault: &Fault) {
        let attributes = [("fault", fault.id.to_string()), ("what", fault.to_string())];
        self.core.tell(&self.view(), action, &attributes);
    }
}
