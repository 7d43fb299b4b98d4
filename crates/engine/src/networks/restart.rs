//! From one engine to the next: what there is when one begins, and what stays when one ends.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use tare_model::network::{Network, Published};
use tare_model::sandbox::NetworkSockets;
use tare_model::{ContainerId, ErrorKind, NetworkId, Result};

use super::fabric::Join;
use super::{Attached, Networks};
use crate::work;

// === impl Networks ===

impl Networks {
    /// After a restart: what a container that runs has.
    pub(crate) fn adopt(&self, id: &ContainerId, name: &str, attached: &Attached) {
        if let Some(fabric) = &self.fabric {
            self.lock().adopt(id, name, attached, fabric.as_ref());
        }
    }

    /// What a monitor is given to keep for the engine after us.
    pub(crate) fn to_be_kept(&self) -> Option<OwnedFd> {
        self.fabric.as_ref()?.to_be_kept()
    }

    /// After a restart, when every container was adopted: the kernel is told what there is. `gone` are those who ended while
    /// no engine ran; their addresses and ports are free after this.
    ///
    /// # Errors
    /// The kernel's refusal of what those who run need.
    pub(crate) fn restore(
        &self,
        running: &[(ContainerId, Attached)],
        gone: &[(ContainerId, Attached)],
        kept: Option<OwnedFd>,
    ) -> Result<()> {
        let Some(fabric) = &self.fabric else { return Ok(()) };
        let joins = |of: &[(ContainerId, Attached)]| -> Vec<Join> {
            of.iter().flat_map(|(id, attached)| self.joins(id, attached)).collect()
        };
        let (joins, gone) = (joins(running), joins(gone));
        let published: Vec<Published> =
            running.iter().flat_map(|(_, attached)| attached.published.clone()).collect();
        let on: BTreeSet<&NetworkId> = joins.iter().map(|join| &join.endpoint.network).collect();
        let networks: Vec<Arc<Network>> =
            self.lock().all().into_iter().filter(|network| on.contains(&network.id)).collect();
        let held = self.lock().ports.sockets(&published);
        match fabric.restore(&networks, &joins, (&published, held), kept) {
            // Without nftables there are no networks, and nothing to restore.
            Err(e) if joins.is_empty() && e.kind() != ErrorKind::Conflict => {
                tracing::debug!("look for an earlier engine's firewall: {e}")
            }
            restored => restored?,
        }
        networks.iter().for_each(|network| self.lock().made(&network.id));
        match self.part() {
            // There is nothing to be cut; a kernel without nftables has nothing of an earlier engine's either.
            Err(e) if !self.lock().is_anybody_apart() => {
                tracing::debug!("look for an earlier engine's network faults: {e}");
            }
            parted => parted?,
        }
        if !gone.is_empty()
            && let Err(e) = fabric.forget_connections(&gone)
        {
            tracing::error!("forget connections of containers that ended while no engine ran: {e}");
        }
        Ok(())
    }

    /// After a restart: a container's questions are answered again.
    pub(crate) async fn serve_again(
        self: &Arc<Self>,
        id: &ContainerId,
        attached: &Attached,
        sockets: NetworkSockets,
    ) -> Result<()> {
        let (this, joins, resolver) = (Arc::clone(self), self.joins(id, attached), attached.resolver.clone());
        let Some(resolver) = resolver else { return Ok(()) };
        work::blocking(move || this.fabric()?.serve_names(&joins, &resolver, &sockets)).await
    }

    /// Nothing runs and the engine ends: nothing of ours stays in the kernel.
    pub(crate) async fn retire(self: &Arc<Self>) {
        let Some(fabric) = self.fabric.clone() else { return };
        self.settled().await;
        let networks = self.lock().all();
        // It tells by itself what it cannot do.
        let _ = work::blocking(move || {
            fabric.retire(&networks);
            Ok(())
        })
        .await;
    }
}
