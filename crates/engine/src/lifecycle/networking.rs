//! A container and its networks: taken at its start, changed while it runs, given back at its end.
//!
//! What it has is noted in its run directory before anything of it is in the kernel, so that a later engine knows of it.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tare_model::container::{ContainerConfig, NetworkMode, Networking};
use tare_model::network::{EndpointConfig, PortBinding, Published};
use tare_model::shaping::Shaping;
use tare_model::{ContainerId, Error, ErrorKind, Result};

use super::container::{Container, Made};
use super::core::Core;
use super::driver::Driver;
use super::faults::FaultChange;
use crate::api::event::Action;
use crate::api::network::{EndpointView, NetworkingView, PortChange};
use crate::api::view::Fixed;
use crate::monitors::Monitor;
use crate::networks::{Attached, Party, bindings, connect_means, plan};

/// Name of the note in the container's run directory.
const NOTE: &str = "network";

/// What a driver can be told about networks.
pub(crate) enum NetworkChange {
    /// On one more.
    Connect(String, Box<EndpointConfig>),
    /// Off one; with force it need not be on it.
    Disconnect(String, bool),
    /// Ports.
    Ports(PortChange),
    /// Faults on purpose.
    Faults(FaultChange),
}

// === impl Container ===

impl Container {
    /// As far as networks are concerned.
    pub(crate) fn party(&self) -> Party<'_> {
        let fixed = &self.made.fixed;
        Party {
            id: &self.id,
            name: self.name.as_str(),
            config: &fixed.config,
            exposed: &fixed.process.exposed_ports,
        }
    }

    /// What a start of it noted, if it did.
    pub(crate) fn noted(&self) -> Option<Attached> {
        let path = note_path(&self.made.fixed.paths.run_dir);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return None,
            Err(e) => {
                tracing::error!("read({}): {e}", path.display());
                return None;
            }
        };
        serde_json::from_slice(&text).inspect_err(|e| tracing::error!("{}: {e}", path.display())).ok()
    }

    /// It has nothing of networks any more.
    pub(super) fn forget_note(&self) {
        let path = note_path(&self.made.fixed.paths.run_dir);
        match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                tracing::error!("unlink({}): {e}", path.display());
            }
            _ => {}
        }
    }

    /// Networks and ports as everyone may see them.
    pub(crate) fn networking(
        &self,
        core: &Core,
        attached: Option<&Attached>,
        pid: Option<i32>,
    ) -> NetworkingView {
        let mut view = NetworkingView {
            sandbox: pid.map(|pid| PathBuf::from(format!("/proc/{pid}/ns/net"))),
            published: attached.map(|attached| attached.published.clone()).unwrap_or_default(),
            ..NetworkingView::default()
        };
        view.published.sort();
        view.faults = attached.map(|attached| attached.faults.clone()).unwrap_or_default();
        for (key, config) in plan::memberships(&self.made.fixed.config).unwrap_or_default() {
            let (name, id) =
                core.networks.name_and_id(&key).map_or((key, None), |(name, id)| (name, Some(id)));
            let has = |id| attached?.joins.iter().find(|join| join.endpoint.network == id);
            let live = id.clone().and_then(has).map(|join| join.endpoint.clone());
            view.endpoints.insert(name, EndpointView { network: id, config, live });
        }
        view
    }
}

// === impl Attached ===

impl Attached {
    /// Its addresses, those of the first network first.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.joins.iter().flat_map(|join| join.endpoint.addresses.iter().map(ipnet::IpNet::addr))
    }
}

// === impl Driver ===

impl Driver {
    /// Takes what the next run needs of networks, and notes it.
    pub(super) async fn take_networks(&mut self) -> Result<()> {
        let taken = self.core.networks.take_when_free(self.me.party()).await?;
        let Some(attached) = taken else { return Ok(()) };
        let ready = self.core.networks.ready(&attached).await.and_then(|()| self.note(&attached));
        self.attached = Some(attached);
        if ready.is_err() {
            self.give_networks_back().await;
        }
        ready
    }

    pub(super) fn note(&self, attached: &Attached) -> Result<()> {
        let dir = &self.me.made.fixed.paths.run_dir;
        super::prepare::make_dir(dir, 0o700)?;
        let path = note_path(dir);
        let text = serde_json::to_vec(attached).map_err(|e| Error::system(format!("network note: {e}")))?;
        // Beside its place and renamed: an engine that is killed leaves the old or the new one.
        let fresh = dir.join(".network");
        let written = fs::write(&fresh, text).and_then(|()| fs::rename(&fresh, &path));
        written.map_err(|e| Error::system(format!("write({}): {e}", path.display())))
    }

    /// After a restart of the engine: questions about names are answered again, in the sockets that its monitor keeps.
    pub(super) async fn serve_names(&self) -> Result<()> {
        let (true, Some(attached)) = (self.status.is_live(), &self.attached) else { return Ok(()) };
        let sockets = match self.monitor()?.network().await {
            // It has ended just now, which is still to arrive as an event.
            Err(e) if e.kind() == ErrorKind::Unavailable => return Ok(()),
            sockets => sockets?,
        };
        self.core.networks.serve_again(&self.me.id, attached, sockets).await
    }

    /// Gives back what it has of networks, whose namespace is gone.
    pub(super) async fn give_networks_back(&mut self) {
        let Some(attached) = self.attached.take() else { return };
        self.fault_stays = false;
        self.me.forget_note();
        self.core.networks.give_back(&self.me.id, attached).await;
    }

    /// Changes its networks or ports: in force and durable, or nothing has changed. Gives what is published then.
    pub(super) async fn change_networks(&mut self, change: NetworkChange) -> Result<Vec<Published>> {
        match change {
            NetworkChange::Connect(key, config) => self.connect(&key, *config).await?,
            NetworkChange::Disconnect(key, force) => self.disconnect(&key, force).await?,
            NetworkChange::Ports(change) => self.change_ports(&change).await?,
            NetworkChange::Faults(change) => self.change_faults(change).await?,
        }
        self.publish();
        Ok(self.attached.as_ref().map(|attached| attached.published.clone()).unwrap_or_default())
    }

    async fn connect(&mut self, key: &str, config: EndpointConfig) -> Result<()> {
        let (name, network) = self.core.networks.name_and_id(key)?;
        let mut after = self.me.made.fixed.config.clone();
        let own = plan::memberships(&after)?;
        self.may_come(&own, &name)?;
        if own.is_empty() {
            after.namespaces.network = plan::mode(&name);
        }
        let is_same = |key: &str| self.core.networks.name_and_id(key).is_ok_and(|(_, id)| id == network);
        let known = own.iter().map(|(key, _)| key).find(|key| is_same(key));
        if known.is_some() && self.status.is_live() {
            let already = format!("endpoint with name {} already exists in network {name}", self.me.name);
            return Err(forbidden(already));
        }
        self.core.networks.can_join(&name, &config)?;
        // While it does not run, what is said last holds.
        let known = known.unwrap_or(&name).clone();
        after.networking.endpoints.retain(|key, _| !is_same(key));
        after.networking.endpoints.insert(known, config.clone());
        let kept = match self.attached.clone().filter(|_| self.status.is_live()) {
            Some(before) => {
                self.come(&before, &after, &name, &config).await?;
                let stays = self.stay(&before, after).await;
                if stays.is_err() {
                    self.leave_again(&name).await;
                }
                stays
            }
            None => self.keep_config(after).await,
        };
        kept?;
        self.tell_network(Action::NetworkConnect, &name, network.as_str());
        Ok(())
    }

    /// Who is on no network may come to one, unless somebody else's is shared. What runs needs to have been on one at its start,
    /// which an engine without a default network spares those who name none.
    fn may_come(&self, own: &[(String, EndpointConfig)], network: &str) -> Result<()> {
        let mode = &self.me.made.fixed.config.namespaces.network;
        let why = if own.is_empty() && *mode != NetworkMode::None {
            "it shares the network of the host or of another container"
        } else if self.status.is_live() && self.attached.is_none() {
            "it was started without any; stop it, connect it, and start it again"
        } else {
            return Ok(());
        };
        let name = &self.me.name;
        Err(forbidden(format!("container {name} cannot be connected to network {network}: {why}")))
    }

    /// Puts it on one more network while it runs.
    async fn come(
        &mut self,
        before: &Attached,
        after: &ContainerConfig,
        network: &str,
        config: &EndpointConfig,
    ) -> Result<()> {
        let networks = Arc::clone(&self.core.networks);
        let party = Party { config: after, ..self.me.party() };
        let monitor = self.monitor()?;
        let sockets = monitor.network().await?;
        // From here on it has it, whatever fails.
        self.attached = Some(networks.connect(party, before, network, config, sockets).await?);
        // Its start may have been before there was any such thing.
        give_to_keep(&self.core, &self.me.id, monitor.as_ref()).await;
        Ok(())
    }

    /// Makes what it came to last; the first network brings its ports along.
    async fn stay(&mut self, before: &Attached, after: ContainerConfig) -> Result<()> {
        let now = self.attached.clone().unwrap_or_default();
        let party = Party { config: &after, ..self.me.party() };
        let add = if before.joins.is_empty() { bindings(party)? } else { Vec::new() };
        if !add.is_empty() {
            let networks = Arc::clone(&self.core.networks);
            let ports = PortChange { add, ..PortChange::default() };
            self.attached = Some(networks.change_ports(party, &now, &ports).await?);
        }
        if let Some(attached) = &self.attached {
            self.show(attached)?;
        }
        self.keep_config(after).await
    }

    /// Notes what it has, and tells it so in its files.
    fn show(&self, attached: &Attached) -> Result<()> {
        self.note(attached)?;
        super::prepare::name_files(&self.core, &self.me, Some(attached))
    }

    /// What it came to could not be made to last: it is off it again, or noted to be on it. What fails here is told in the log,
    /// since the first error is the one to tell.
    async fn leave_again(&mut self, name: &str) {
        let Some(attached) = self.attached.clone() else { return };
        let sockets = match self.monitor() {
            Ok(monitor) => monitor.network().await,
            Err(e) => Err(e),
        };
        let networks = Arc::clone(&self.core.networks);
        let left = match sockets {
            Ok(sockets) => networks.disconnect(self.me.party(), &attached, name, sockets).await,
            Err(e) => Err(e),
        };
        let (is_off, now) = match left {
            Ok(before) => (Ok(()), before),
            Err(e) => (Err(e), attached),
        };
        self.attached = Some(now.clone());
        for e in [is_off, self.show(&now)].into_iter().filter_map(Result::err) {
            tracing::error!(container = self.me.id.as_str(), "take it off network {name} again: {e}");
        }
    }

    async fn disconnect(&mut self, key: &str, force: bool) -> Result<()> {
        let (name, network) = self.core.networks.name_and_id(key)?;
        let mut networking = self.networking().clone();
        let own = plan::memberships(&self.me.made.fixed.config)?;
        let is_same = |key: &str| self.core.networks.name_and_id(key).is_ok_and(|(_, id)| id == network);
        let at = own.iter().position(|(key, _)| is_same(key));
        // It may be off it already, if that could not be written down the last time, or on it still, if it could not be taken off
        // what it failed to come to.
        let is_on = |attached: &Attached| attached.joins.iter().any(|join| join.endpoint.network == network);
        let live = self.attached.clone().filter(|_| self.status.is_live());
        if at.is_none() && !live.as_ref().is_some_and(is_on) {
            if force {
                return Ok(());
            }
            let not = format!("container {} is not connected to network {name}", self.me.name);
            return Err(forbidden(not));
        }
        if let Some(attached) = live.clone().filter(is_on) {
            let sockets = self.monitor()?.network().await?;
            let networks = Arc::clone(&self.core.networks);
            let after = networks.disconnect(self.me.party(), &attached, &name, sockets).await?;
            let over = attached.faults.iter().filter(|fault| !after.faults.contains(fault));
            over.for_each(|fault| self.tell_fault(Action::FaultRemove, fault));
            self.attached = Some(after);
        }
        if let Some(attached) = self.attached.clone().filter(|_| live.is_some()) {
            self.show(&attached)?;
        }
        networking.endpoints.retain(|key, _| !is_same(key));
        let mut config = self.me.made.fixed.config.clone();
        config.networking = networking;
        if at == Some(0) {
            plan::forget_first(&mut config);
        }
        self.keep_config(config).await?;
        self.tell_network(Action::NetworkDisconnect, &name, network.as_str());
        Ok(())
    }

    /// Other limits on its networks, if it is on any: in force and noted.
    pub(super) async fn reshape(&mut self, shaping: Shaping) -> Result<()> {
        let (true, Some(attached)) = (self.status.is_live(), &self.attached) else { return Ok(()) };
        let networks = Arc::clone(&self.core.networks);
        let after = networks.reshape(&self.me.id, attached, shaping).await?;
        self.note(&after)?;
        self.attached = Some(after);
        Ok(())
    }

    async fn change_ports(&mut self, change: &PortChange) -> Result<()> {
        if plan::memberships(&self.me.made.fixed.config)?.is_empty() {
            return Err(Error::invalid(format!(
                "container {} shares the network of the host or of another container, or has none: it has no ports to \
                 publish",
                self.me.name
            )));
        }
        let mut networking = self.networking().clone();
        let published =
            self.attached.as_ref().map(|attached| attached.published.as_slice()).unwrap_or_default();
        for binding in &change.remove {
            let before = networking.ports.len();
            networking.ports.retain(|own| !is_meant(binding, own));
            let was_published = published.iter().any(|one| connect_means(binding, one));
            if networking.ports.len() == before && !was_published {
                return Err(Error::invalid(format!(
                    "container {}: port {}/{} is not published so",
                    self.me.name, binding.port, binding.protocol
                )));
            }
        }
        networking.ports.extend(change.add.iter().cloned());
        if let (true, Some(attached)) = (self.status.is_live(), self.attached.clone()) {
            let networks = Arc::clone(&self.core.networks);
            let after = networks.change_ports(self.me.party(), &attached, change).await?;
            self.attached = Some(after.clone());
            let kept = match self.note(&after) {
                Ok(()) => self.keep_networking(networking).await,
                failed => failed,
            };
            if kept.is_err() {
                self.change_ports_back(attached, &after).await;
            }
            return kept;
        }
        self.keep_networking(networking).await
    }

    /// Other ports could not be written down: they are as before. What fails here is told in the log.
    async fn change_ports_back(&mut self, before: Attached, after: &Attached) {
        let only_in = |one: &Attached, other: &Attached| {
            let only = one.published.iter().filter(|port| !other.published.contains(port));
            only.map(binding).collect()
        };
        let back = PortChange { add: only_in(&before, after), remove: only_in(after, &before) };
        let networks = Arc::clone(&self.core.networks);
        let undone = match networks.change_ports(self.me.party(), after, &back).await {
            Ok(undone) => {
                self.attached = Some(undone.clone());
                self.note(&undone)
            }
            Err(e) => Err(e),
        };
        if let Err(e) = undone {
            tracing::error!(container = self.me.id.as_str(), "publish its ports as before: {e}");
        }
    }

    fn networking(&self) -> &Networking {
        &self.me.made.fixed.config.networking
    }

    async fn keep_networking(&mut self, networking: Networking) -> Result<()> {
        let config = ContainerConfig { networking, ..self.me.made.fixed.config.clone() };
        self.keep_config(config).await
    }

    async fn keep_config(&mut self, config: ContainerConfig) -> Result<()> {
        let old = Arc::clone(&self.me.made);
        let fixed = Fixed { config, ..Fixed::clone(&old.fixed) };
        self.me.made = Arc::new(Made { fixed: Arc::new(fixed), ..Made::clone(&old) });
        let saved = self.save().await;
        if saved.is_err() {
            self.me.made = old;
        }
        saved
    }

    fn tell_network(&self, action: Action, name: &str, id: &str) {
        let attributes = [("container", self.me.id.to_string()), ("name", name.to_owned())];
        let attributes = attributes.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        self.core.events.emit(action, id, attributes);
    }

    /// Listeners hear that it is on its networks, or is not any more.
    pub(super) fn tell_networks(&self, action: &Action) {
        for join in self.attached.iter().flat_map(|attached| &attached.joins) {
            let id = join.endpoint.network.as_str();
            if let Ok((name, _)) = self.core.networks.name_and_id(id) {
                self.tell_network(action.clone(), &name, id);
            }
        }
    }
}

/// What isolates a container is to outlive the engine.
pub(super) async fn give_to_keep(core: &Core, id: &ContainerId, monitor: &dyn Monitor) {
    let Some(keep) = core.networks.to_be_kept() else { return };
    if let Err(e) = monitor.keep(keep).await {
        let container = id.as_str();
        tracing::warn!(container, "its monitor does not keep the firewall while no engine runs: {e}");
    }
}

/// What asks for a port that is published.
fn binding(published: &Published) -> PortBinding {
    let Published { host, host_port, protocol, port, .. } = *published;
    PortBinding { port, protocol, host: Some(host), host_ports: (host_port, host_port) }
}

/// Whether a binding to be taken back means one that was asked for.
fn is_meant(binding: &PortBinding, own: &PortBinding) -> bool {
    (binding.port, binding.protocol) == (own.port, own.protocol)
        && (binding.host.is_none() || binding.host == own.host)
        && (binding.host_ports == (0, 0) || binding.host_ports == own.host_ports)
}

fn note_path(run_dir: &Path) -> PathBuf {
    run_dir.join(NOTE)
}

fn forbidden(why: String) -> Error {
    Error::new(ErrorKind::Forbidden, why)
}
