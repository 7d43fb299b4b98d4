//! Faults of containers' networks, on purpose: begun, listed, ended.

use tare_model::fault::{Fault, Peer};
use tare_model::network::Driver;
use tare_model::{ContainerId, Error, ErrorKind, FaultId, NetworkId, Result};

use super::Engine;
use crate::api::network::{FaultRequest, FaultView};
use crate::api::options::ListFilter;
use crate::api::view::ContainerView;
use crate::lifecycle::faults::FaultChange;
use crate::lifecycle::networking::NetworkChange;
use crate::networks::faults::unreachable;
use crate::networks::plan;
use crate::{clock, work};

// === impl Engine ===

impl Engine {
    /// Lets a running container's networks go wrong: in force and noted when it returns. It ends with the run, if not before.
    ///
    /// # Errors
    /// `NotFound`; `InvalidInput` for what means nothing; `Conflict` for a container that does not run, and for a fault that
    /// would spoil the same packets as another; `Unsupported` naming what the kernel lacks.
    pub async fn fault_add(&self, container: &str, asked: FaultRequest) -> Result<FaultView> {
        let view = self.inspect(container)?;
        let network = asked.network.as_ref().map(|key| self.core.networks.name_and_id(key)).transpose()?;
        let (name, network) = network.unzip();
        let cut_off = |peer: &String| self.peer(&view, peer, network.as_ref());
        let partition = asked.partition.iter().map(cut_off).collect::<Result<_>>()?;
        let since = clock::now();
        let fault = Fault {
            id: FaultId::from_bytes(work::random()?),
            network,
            direction: asked.direction,
            impairment: asked.impairment,
            partition,
            since,
            until: asked.lasts.map(|lasts| since.saturating_add(lasts)),
        };
        fault.check()?;
        let change = FaultChange::Add(Box::new(fault.clone()));
        self.change_networks(view.id.as_str(), NetworkChange::Faults(change)).await?;
        Ok(FaultView { container: view.id, name: view.name, fault, network: name })
    }

    /// Faults of one container, or of all; the oldest first.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn faults(&self, container: Option<&str>) -> Result<Vec<FaultView>> {
        let views = match container {
            Some(key) => vec![self.inspect(key)?],
            None => self.list(&ListFilter::default())?,
        };
        let mut all: Vec<FaultView> = views.iter().flat_map(|view| self.faults_of(view)).collect();
        all.sort_by_key(|one| one.fault.since);
        Ok(all)
    }

    /// Ends one, by its id or a unique prefix of it.
    ///
    /// # Errors
    /// `NotFound`; `InvalidInput` for a prefix of several; the kernel's refusal, and then it goes on.
    pub async fn fault_remove(&self, key: &str) -> Result<()> {
        let mut found = self.faults(None)?.into_iter().filter(|one| one.fault.id.as_str().starts_with(key));
        let one = found.next().filter(|_| !key.is_empty());
        let one = one.ok_or_else(|| Error::not_found(format!("no such network fault: {key}")))?;
        if found.next().is_some() {
            return Err(Error::invalid(format!(
                "network fault {key} is ambiguous: several ids begin with it"
            )));
        }
        self.end_faults(&one.container, vec![one.fault.id]).await
    }

    /// Ends all of a container; returns their ids.
    ///
    /// # Errors
    /// `NotFound`; the kernel's refusal, and then they go on.
    pub async fn faults_clear(&self, container: &str) -> Result<Vec<FaultId>> {
        let view = self.inspect(container)?;
        let ids: Vec<FaultId> = view.networking.faults.iter().map(|fault| fault.id.clone()).collect();
        self.end_faults(&view.id, ids.clone()).await?;
        Ok(ids)
    }

    async fn end_faults(&self, container: &ContainerId, ids: Vec<FaultId>) -> Result<()> {
        let change = NetworkChange::Faults(FaultChange::Remove(ids));
        match self.change_networks(container.as_str(), change).await {
            // It has ended, and its faults with it.
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::Unavailable) => Ok(()),
            changed => changed.map(drop),
        }
    }

    fn faults_of(&self, view: &ContainerView) -> Vec<FaultView> {
        let name = |fault: &Fault| {
            let (name, _) = self.core.networks.name_and_id(fault.network.as_ref()?.as_str()).ok()?;
            Some(name)
        };
        let of = |fault: &Fault| FaultView {
            container: view.id.clone(),
            name: view.name.clone(),
            network: name(fault),
            fault: fault.clone(),
        };
        view.networking.faults.iter().map(of).collect()
    }

    /// Whom a container is to be cut off from.
    fn peer(&self, from: &ContainerView, text: &str, on: Option<&NetworkId>) -> Result<Peer> {
        let container = |key: &str| {
            let view = self.inspect(key)?;
            Ok::<_, Error>(Peer::Container { id: view.id.clone(), name: view.name.as_str().to_owned() })
        };
        let network = |key: &str| {
            let (name, id) = self.core.networks.name_and_id(key)?;
            Ok::<_, Error>(Peer::Network { id, name })
        };
        let peer = match text.split_once(':') {
            Some(("container", key)) => container(key)?,
            Some(("network", key)) => network(key)?,
            _ => match (container(text), network(text)) {
                (Ok(_), Ok(_)) => {
                    return Err(Error::invalid(format!(
                        "partition from {text}: there is a container and a network of that name: say container:{text} or \
                         network:{text}"
                    )));
                }
                (Err(e), _) | (_, Err(e)) if e.kind() != ErrorKind::NotFound => return Err(e),
                (Ok(peer), Err(_)) | (Err(_), Ok(peer)) => peer,
                (Err(_), Err(_)) => {
                    return Err(Error::not_found(format!(
                        "partition from {text}: there is no container and no network of that name"
                    )));
                }
            },
        };
        self.meets(from, &peer, on)?;
        Ok(peer)
    }

    /// Something could pass between them on the network, or on any of theirs, and by the host's side of it.
    fn meets(&self, from: &ContainerView, peer: &Peer, on: Option<&NetworkId>) -> Result<()> {
        let networks = |view: &ContainerView| -> Vec<_> {
            let keys = plan::memberships(&view.fixed.config).unwrap_or_default();
            let id = |(key, _): &(String, _)| Some(self.core.networks.name_and_id(key).ok()?.1);
            keys.iter().filter_map(id).collect()
        };
        let (own, name) = (networks(from), from.name.as_str());
        let others = match peer {
            Peer::Container { id, .. } if *id == from.id => {
                return Err(Error::invalid(format!("container {name} cannot be cut off from itself")));
            }
            Peer::Container { id, .. } => networks(&self.inspect(id.as_str())?),
            Peer::Network { id, .. } => vec![id.clone()],
        };
        let common = |id: &&NetworkId| own.contains(id) && on.is_none_or(|on| on == *id);
        let drivers = others.iter().filter(common).filter_map(|id| self.core.networks.driver(id));
        let drivers: Vec<Driver> = drivers.collect();
        match drivers.first() {
            Some(_) if drivers.contains(&Driver::Bridge) => Ok(()),
            Some(driver) => Err(unreachable(*driver)),
            None => Err(Error::invalid(format!(
                "container {name} and {} have no network in common{}: nothing passes that could be cut",
                peer.name(),
                if on.is_some() { " there" } else { "" }
            ))),
        }
    }
}
