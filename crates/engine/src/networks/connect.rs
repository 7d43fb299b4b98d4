//! Networks and ports of a container that runs already.

use std::sync::Arc;

use tare_model::network::{EndpointConfig, PortBinding, Published};
use tare_model::sandbox::NetworkSockets;
use tare_model::{Error, Result};

use super::ports::Refused;
use super::{Attached, Networks, Party, forbidden, plan, resolver};
use crate::api::network::PortChange;
use crate::spec::files::ResolvConf;
use crate::work;

// === impl Networks ===

impl Networks {
    /// Puts a running container on one more network.
    ///
    /// # Errors
    /// As [`Networks::take`]; what the kernel refused. Nothing has changed then.
    pub(crate) async fn connect(
        self: &Arc<Self>,
        party: Party<'_>,
        before: &Attached,
        key: &str,
        config: &EndpointConfig,
        sockets: NetworkSockets,
    ) -> Result<Attached> {
        if !config.sysctls.is_empty() {
            return Err(Error::invalid(
                "endpoint sysctls are set by a container's first process: they cannot be given to one that runs already",
            ));
        }
        let host = ResolvConf::of_host();
        let (after, joined) = self
            .patiently(|| {
                let mut table = self.lock();
                let network = Arc::clone(&table.find(key)?.network);
                let taken: Vec<String> =
                    before.joins.iter().map(|join| join.endpoint.interface.clone()).collect();
                let interface = plan::interfaces(&[(&network, config)], &taken)?.pop().unwrap_or_default();
                let joined = table.join(party, &network.id, config, interface)?;
                let mut after = before.clone();
                after.joins.push(joined.clone());
                table.choose_routes(&mut after);
                after.resolver = resolver::of(party.config, &after, &table, &host);
                Ok((after, joined))
            })
            .await?;
        let new = after.joins.last().cloned().unwrap_or(joined.clone());
        let only = Attached { joins: vec![new], ..Attached::default() };
        let done = match self.ready(&only).await {
            Ok(()) => {
                let (this, id, all) = (Arc::clone(self), party.id.clone(), after.clone());
                work::blocking(move || {
                    let fabric = this.fabric()?;
                    fabric.attach(&this.joins(&id, &only), &sockets)?;
                    let joins = this.joins(&id, &all);
                    if let Some(resolver) = &all.resolver {
                        fabric.serve_names(&joins, resolver, &sockets)?;
                    }
                    fabric.route(&joins, &sockets)
                })
                .await
            }
            Err(e) => Err(e),
        };
        if let Err(e) = done {
            self.lock().free(party.id, &joined);
            return Err(e);
        }
        Ok(after)
    }

    /// Takes a running container off a network.
    ///
    /// # Errors
    /// `Forbidden` if it is not on it; what the kernel refused.
    pub(crate) async fn disconnect(
        self: &Arc<Self>,
        party: Party<'_>,
        before: &Attached,
        key: &str,
        sockets: NetworkSockets,
    ) -> Result<Attached> {
        let (at, network) = {
            let table = self.lock();
            let network = Arc::clone(&table.find(key)?.network);
            let at = before.joins.iter().position(|join| join.endpoint.network == network.id);
            (at, network)
        };
        let at = at.ok_or_else(|| {
            let (name, network) = (party.name, &network.config.name);
            forbidden(format!("container {name} is not connected to network {network}"))
        })?;
        let mut after = before.clone();
        let left = after.joins.remove(at);
        let gone: Vec<Published> = {
            let reached = |published: &Published| {
                left.endpoint.addresses.iter().any(|address| address.addr() == published.address)
            };
            let (gone, stay) = std::mem::take(&mut after.published).into_iter().partition(reached);
            after.published = stay;
            gone
        };
        self.lock().choose_routes(&mut after);
        let (this, id, all) = (Arc::clone(self), party.id.clone(), after.clone());
        let (leaving, unpublished) =
            (Attached { joins: vec![left.clone()], ..Attached::default() }, gone.clone());
        work::blocking(move || {
            let fabric = this.fabric()?;
            if !unpublished.is_empty() {
                fabric.unpublish(&unpublished)?;
            }
            for join in this.joins(&id, &leaving) {
                fabric.detach(&join, &sockets)?;
            }
            let joins = this.joins(&id, &all);
            if let Some(resolver) = &all.resolver {
                fabric.serve_names(&joins, resolver, &sockets)?;
            }
            fabric.route(&joins, &sockets)
        })
        .await?;
        let mut table = self.lock();
        table.ports.give_back(&gone);
        table.free(party.id, &left);
        Ok(after)
    }

    /// Publishes ports of a running container and takes others back.
    ///
    /// # Errors
    /// `Conflict` for a port that is taken, `InvalidInput` for one to be taken back that is not published. Nothing has
    /// changed then.
    pub(crate) async fn change_ports(
        self: &Arc<Self>,
        party: Party<'_>,
        before: &Attached,
        change: &PortChange,
    ) -> Result<Attached> {
        let mut after = before.clone();
        let mut removed = Vec::new();
        for binding in &change.remove {
            let (gone, stay) =
                std::mem::take(&mut after.published).into_iter().partition(|one| means(binding, one));
            after.published = stay;
            removed.extend::<Vec<Published>>(gone);
        }
        let added = {
            let fabric = Arc::clone(self.fabric()?);
            let taken = self.lock().publish(party, &change.add, before, fabric.as_ref());
            taken.map_err(Refused::tell)?
        };
        let (this, new, old) = (Arc::clone(self), added.clone(), removed.clone());
        let done = work::blocking(move || {
            if !new.is_empty() {
                let held = this.lock().ports.sockets(&new);
                this.fabric()?.publish(&new, held)?;
            }
            if old.is_empty() { Ok(()) } else { this.fabric()?.unpublish(&old) }
        })
        .await;
        let mut table = self.lock();
        if let Err(e) = done {
            table.ports.give_back(&added);
            return Err(e);
        }
        table.ports.give_back(&removed);
        after.published.extend(added);
        Ok(after)
    }
}

/// Whether a binding to be taken back means a port that is published.
pub(crate) fn means(binding: &PortBinding, published: &Published) -> bool {
    let (first, last) = binding.host_ports;
    (binding.port, binding.protocol) == (published.port, published.protocol)
        && binding.host.is_none_or(|host| host == published.host)
        && ((first, last) == (0, 0) || (first..=last).contains(&published.host_port))
}
