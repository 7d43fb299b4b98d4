//! A container that starts: it takes what it needs, and its networks are set up while it is made.

use std::sync::Arc;

use tare_model::network::Network;
use tare_model::sandbox::{NetworkReady, NetworkSockets};
use tare_model::{ContainerId, Result};

use super::door::Door;
use super::ports::Unavailable;
use super::{Attached, Networks, Party, plan, resolver};
use crate::spec::files::ResolvConf;
use crate::work;

// === impl Networks ===

impl Networks {
    /// Takes addresses and ports for a start, as soon as what those had who ended before is free; `None` for a container that
    /// is on no network.
    ///
    /// # Errors
    /// As [`Networks::take`].
    pub(crate) async fn take_when_free(&self, party: Party<'_>) -> Result<Option<Attached>> {
        self.ended(party.id).await;
        self.patiently(|| self.take(party)).await
    }

    /// Tries once more where somebody who has ended may have what was refused.
    pub(super) async fn patiently<T>(
        &self,
        attempt: impl Fn() -> std::result::Result<T, Unavailable>,
    ) -> Result<T> {
        let mut tried = attempt();
        if tried.as_ref().is_err_and(Unavailable::may_pass) {
            self.settled().await;
            tried = attempt();
        }
        match tried {
            Ok(done) => Ok(done),
            Err(why) => Err(why.told(Arc::clone(self.fabric()?)).await),
        }
    }

    /// Takes addresses and ports for a start; `None` for a container that is on no network.
    ///
    /// # Errors
    /// `NotFound` for a network; `Conflict`, `Forbidden`, `InvalidInput` for an address or a port. Nothing is taken then.
    fn take(&self, party: Party<'_>) -> std::result::Result<Option<Attached>, Unavailable> {
        let Some(fabric) = &self.fabric else { return Ok(None) };
        let mut asked = plan::memberships(party.config)?;
        if asked.is_empty() {
            return Ok(None);
        }
        // Read while nobody waits for the table.
        let host = ResolvConf::of_host();
        let mut table = self.lock();
        if table.find(plan::DEFAULT).is_err() {
            asked.retain(|(key, _)| key != plan::DEFAULT);
        }
        if asked.is_empty() {
            return Ok(None);
        }
        let mut attached = table.take(party, &asked, fabric.as_ref())?;
        attached.resolver = resolver::of(party.config, &attached, &table, &host);
        attached.host = Some(host);
        Ok(Some(attached))
    }

    /// Makes what the networks of a container are made of, as far as that has not been done.
    pub(crate) async fn ready(self: &Arc<Self>, attached: &Attached) -> Result<()> {
        let absent: Vec<Arc<Network>> = {
            let table = self.lock();
            let networks = attached.joins.iter().filter_map(|join| table.get(&join.endpoint.network));
            networks.filter(|entry| !entry.is_made).map(|entry| Arc::clone(&entry.network)).collect()
        };
        if absent.is_empty() {
            return Ok(());
        }
        let this = Arc::clone(self);
        work::blocking(move || {
            for network in absent {
                this.fabric()?.ensure(&network)?;
                this.lock().made(&network.id);
            }
            Ok(())
        })
        .await
    }

    /// Waits behind the door for the container's sockets, and sets its network up through them. Returns when that is done,
    /// or when it is clear that the container will not come.
    pub(crate) async fn serve(self: Arc<Self>, door: Door, id: ContainerId, attached: Attached) {
        let answer = match door.sockets().await {
            Ok(None) => return,
            Ok(Some(sockets)) => {
                let this = Arc::clone(&self);
                work::blocking(move || this.set_up(&id, &attached, &sockets)).await
            }
            Err(e) => Err(e),
        };
        door.answer(&answer);
    }

    pub(super) fn set_up(
        &self,
        id: &ContainerId,
        attached: &Attached,
        sockets: &NetworkSockets,
    ) -> Result<NetworkReady> {
        let fabric = self.fabric()?;
        let joins = self.joins(id, attached);
        let ready = fabric.attach(&joins, sockets)?;
        self.keep_up(id, attached, &joins)?;
        self.part_if_needed()?;
        if let Some(resolver) = &attached.resolver {
            fabric.serve_names(&joins, resolver, sockets)?;
        }
        self.publish_held(&attached.published)?;
        Ok(ready)
    }
}
