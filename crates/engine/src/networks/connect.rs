//! Networks and ports of a container that runs already.

use std::sync::Arc;

use tare_model::fault::Impairment;
use tare_model::network::{EndpointConfig, PortBinding, Published};
use tare_model::sandbox::NetworkSockets;
use tare_model::{ContainerId, Error, Result};

use super::fabric::Join;
use super::{Attached, Networks, Party, faults, forbidden, plan, resolver};
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
                after.host = Some(host.clone());
                Ok((after, joined))
            })
            .await?;
        let new = after.joins.last().cloned().unwrap_or(joined.clone());
        let only = Attached { joins: vec![new], ..Attached::default() };
        let done = match self.ready(&only).await {
            Ok(()) => {
                let (this, id, was, all) =
                    (Arc::clone(self), party.id.clone(), before.clone(), after.clone());
                work::blocking(move || this.come(&id, &was, &all, &only, &sockets)).await
            }
            Err(e) => Err(e),
        };
        if let Err(e) = done {
            self.lock().free(party.id, &joined);
            return Err(e);
        }
        Ok(after)
    }

    /// Puts a container on what is new; where something fails it is as before.
    fn come(
        &self,
        id: &ContainerId,
        before: &Attached,
        after: &Attached,
        new: &Attached,
        sockets: &NetworkSockets,
    ) -> Result<()> {
        let fabric = self.fabric()?;
        let new = self.joins(id, new);
        let come = fabric.attach(&new, sockets).and_then(|_| self.keep_up(id, after, &new));
        let come = come.and_then(|()| self.settle(id, after, sockets));
        let come = come.and_then(|()| {
            let suffers = |join: &Join| {
                let suffered = faults::suffered(&after.faults, &join.network.id);
                let is_whole = suffered.iter().all(Impairment::is_none);
                if is_whole { Ok(()) } else { fabric.impair(join, &suffered, sockets) }
            };
            new.iter().try_for_each(suffers)?;
            self.part_if_needed()
        });
        if come.is_err() {
            // An address that is free again must be nobody's; the first error is the one to tell.
            let left = new.iter().map(|join| fabric.detach(join, sockets));
            let left: Vec<Result<()>> = left.chain([self.settle(id, before, sockets)]).collect();
            for e in left.into_iter().filter_map(Result::err) {
                tracing::error!(container = id.as_str(), "take it off a network again: {e}");
            }
        }
        come
    }

    /// A container's questions are answered for these networks, and its default routes go by them.
    pub(super) fn settle(
        &self,
        id: &ContainerId,
        attached: &Attached,
        sockets: &NetworkSockets,
    ) -> Result<()> {
        let (fabric, joins) = (self.fabric()?, self.joins(id, attached));
        if let Some(resolver) = &attached.resolver {
            fabric.serve_names(&joins, resolver, sockets)?;
        }
        fabric.route(&joins, sockets)
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
        after.host = None;
        // What was to go wrong there alone has nothing to go wrong any more.
        after.faults.retain(|fault| fault.network.as_ref() != Some(&network.id));
        let gone: Vec<Published> = {
            let reached = |published: &Published| {
                left.endpoint.addresses.iter().any(|address| address.addr() == published.address)
            };
            let (gone, stay) = std::mem::take(&mut after.published).into_iter().partition(reached);
            after.published = stay;
            gone
        };
        let moved = {
            let table = self.lock();
            table.choose_routes(&mut after);
            table.led_anew(&gone, &after)
        };
        let (this, id, all) = (Arc::clone(self), party.id.clone(), after.clone());
        let leaving = Attached { joins: vec![left.clone()], ..Attached::default() };
        let unpublished = gone.clone();
        let moved = work::blocking(move || {
            this.go(&id, &leaving, &unpublished, &all, &sockets)?;
            Ok(this.publish_elsewhere(&id, moved))
        })
        .await?;
        let stays = |one: &&Published| !moved.iter().any(|moved| is_same_port(moved, one));
        let ended: Vec<Published> = gone.iter().filter(stays).cloned().collect();
        let mut table = self.lock();
        table.ports.give_back(&ended);
        table.free(party.id, &left);
        after.published.extend(moved);
        Ok(after)
    }

    /// Takes a container off what it leaves.
    ///
    /// # Errors
    /// What the kernel refused; its ports are published as before then. Once it is off, it is: what fails afterwards is told in
    /// the log.
    fn go(
        &self,
        id: &ContainerId,
        leaving: &Attached,
        unpublished: &[Published],
        after: &Attached,
        sockets: &NetworkSockets,
    ) -> Result<()> {
        let fabric = self.fabric()?;
        if !unpublished.is_empty() {
            fabric.unpublish(unpublished)?;
        }
        for join in self.joins(id, leaving) {
            if let Err(e) = fabric.detach(&join, sockets) {
                if let Err(worse) = self.publish_held(unpublished) {
                    tracing::error!(container = id.as_str(), "publish its ports again: {worse}");
                }
                return Err(e);
            }
        }
        self.lock().set_faults(id, &after.faults);
        for e in [self.settle(id, after, sockets), self.part_if_needed()].into_iter().filter_map(Result::err)
        {
            tracing::error!(container = id.as_str(), "after it was taken off a network: {e}");
        }
        Ok(())
    }

    /// Leads ports that were taken to containers.
    pub(super) fn publish_held(&self, ports: &[Published]) -> Result<()> {
        if ports.is_empty() {
            return Ok(());
        }
        let held = self.lock().ports.sockets(ports);
        self.fabric()?.publish(ports, held)
    }

    /// Leads ports, whose network a container has left, to where else it is reached; which of them, if it was possible.
    fn publish_elsewhere(&self, id: &ContainerId, moved: Vec<Published>) -> Vec<Published> {
        match self.publish_held(&moved) {
            Ok(()) => moved,
            Err(e) => {
                tracing::error!(container = id.as_str(), "publish its ports on another network: {e}");
                Vec::new()
            }
        }
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
            match taken {
                Ok(taken) => taken,
                Err(why) => return Err(why.told(fabric).await),
            }
        };
        let (this, new, old) = (Arc::clone(self), added.clone(), removed.clone());
        let done = work::blocking(move || {
            this.publish_held(&new)?;
            if old.is_empty() {
                return Ok(());
            }
            let taken_back = this.fabric()?.unpublish(&old);
            if taken_back.is_err()
                && !new.is_empty()
                && let Err(worse) = this.fabric()?.unpublish(&new)
            {
                tracing::error!("take ports back that were to replace others: {worse}");
            }
            taken_back
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

fn is_same_port(one: &Published, other: &Published) -> bool {
    (one.protocol, one.host, one.host_port) == (other.protocol, other.host, other.host_port)
}

/// Whether a binding to be taken back means a port that is published.
pub(crate) fn means(binding: &PortBinding, published: &Published) -> bool {
    let (first, last) = binding.host_ports;
    (binding.port, binding.protocol) == (published.port, published.protocol)
        && binding.host.is_none_or(|host| host == published.host)
        && ((first, last) == (0, 0) || (first..=last).contains(&published.host_port))
}
