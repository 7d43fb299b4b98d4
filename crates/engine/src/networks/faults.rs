//! Faults on purpose of containers that run: what their interfaces suffer, and who is cut off from whom.

use std::sync::{Arc, MutexGuard, PoisonError};

use tare_model::fault::{Direction, Fault, Impairment};
use tare_model::network::Driver;
use tare_model::sandbox::NetworkSockets;
use tare_model::{ContainerId, Error, NetworkId, Result};

use super::fabric::Join;
use super::{Attached, Networks};
use crate::work;

/// What packets to an interface suffer, and what those from it do.
type Suffered = [Impairment; 2];

// === impl Networks ===

impl Networks {
    /// These are the faults of a running container from now on.
    ///
    /// # Errors
    /// `Unsupported` for what the kernel lacks, and for a network that is not made of a bridge; the kernel's refusal. Then it
    /// is as before, as far as the kernel lets that be.
    pub(crate) async fn fault(
        self: &Arc<Self>,
        id: &ContainerId,
        before: &Attached,
        faults: Vec<Fault>,
        sockets: NetworkSockets,
    ) -> Result<Attached> {
        let after = Attached { faults, ..before.clone() };
        let (this, id, old, new) = (Arc::clone(self), id.clone(), before.clone(), after.clone());
        work::blocking(move || {
            let done = this.suffer(&id, &old, &new, &sockets);
            if done.is_err()
                && let Err(worse) = this.suffer(&id, &new, &old, &sockets)
            {
                tracing::error!(container = id.as_str(), "take a network fault back: {worse}");
            }
            done
        })
        .await?;
        Ok(after)
    }

    /// After a restart: its faults, whether the kernel has them or not.
    pub(crate) async fn fault_again(
        self: &Arc<Self>,
        id: &ContainerId,
        attached: &Attached,
        sockets: NetworkSockets,
    ) -> Result<()> {
        let (this, id, attached) = (Arc::clone(self), id.clone(), attached.clone());
        let nothing = Attached { faults: Vec::new(), ..attached.clone() };
        work::blocking(move || this.suffer(&id, &nothing, &attached, &sockets)).await
    }

    fn suffer(
        &self,
        id: &ContainerId,
        before: &Attached,
        after: &Attached,
        sockets: &NetworkSockets,
    ) -> Result<()> {
        let fabric = self.fabric()?;
        let mut done = Ok(());
        for join in self.joins(id, after) {
            let [was, is] = [before, after].map(|attached| suffered(&attached.faults, &join.network.id));
            if was != is {
                let outcome = fabric.impair(&join, &is, sockets);
                done = done.and(outcome.map_err(|e| of_network(e, &join)));
            }
        }
        self.lock().set_faults(id, &after.faults);
        done.and(self.part())
    }

    /// Tells the kernel who is cut off from whom now.
    ///
    /// # Errors
    /// The kernel's refusal; then all is as before.
    pub(super) fn part(&self) -> Result<()> {
        self.part_with(&mut self.parting())
    }

    /// The same, if anybody is cut off, or was.
    pub(super) fn part_if_needed(&self) -> Result<()> {
        let mut told = self.parting();
        if *told || self.lock().is_anybody_apart() { self.part_with(&mut told) } else { Ok(()) }
    }

    fn part_with(&self, told: &mut bool) -> Result<()> {
        let cuts = self.lock().cuts();
        self.fabric()?.part(&cuts)?;
        *told = !cuts.is_empty();
        Ok(())
    }

    /// One after another: who comes second knows what the first one knew.
    fn parting(&self) -> MutexGuard<'_, bool> {
        self.parting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What packets of a container suffer on a network, to it and from it.
pub(super) fn suffered(faults: &[Fault], network: &NetworkId) -> Suffered {
    let find = |is: fn(Direction) -> bool| {
        let found = faults
            .iter()
            .find(|fault| fault.is_on(network) && !fault.impairment.is_none() && is(fault.direction));
        found.map(|fault| fault.impairment).unwrap_or_default()
    };
    [find(Direction::is_in), find(Direction::is_out)]
}

/// The fault that already does to packets what a new one would; an interface has one of them each way.
pub(crate) fn in_the_way<'a>(faults: &'a [Fault], new: &Fault) -> Option<&'a Fault> {
    let ways = |fault: &Fault| (fault.direction.is_in(), fault.direction.is_out());
    let meet = |fault: &&Fault| {
        let (a, b) = (ways(fault), ways(new));
        let networks = match (&fault.network, &new.network) {
            (Some(one), Some(other)) => one == other,
            _ => true,
        };
        networks && (a.0 && b.0 || a.1 && b.1)
    };
    let impairs = |fault: &&Fault| !fault.impairment.is_none();
    if new.impairment.is_none() { None } else { faults.iter().filter(impairs).find(meet) }
}

/// An interface that the host has no end of.
pub(crate) fn unreachable(driver: Driver) -> Error {
    Error::unsupported(format!(
        "network faults need the bridge driver: what containers on a {} network send does not pass the host's side",
        driver.name()
    ))
}

fn of_network(e: Error, join: &Join) -> Error {
    e.context(format!("network {}", join.network.config.name))
}
