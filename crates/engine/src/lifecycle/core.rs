//! What all drivers and verbs share.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use tare_store::Store;

use super::making::Making;
use super::table::Table;
use crate::api::event::Action;
use crate::api::view::ContainerView;
use crate::events::EventHub;
use crate::execs::Execs;
use crate::monitors::Monitors;
use crate::networks::Networks;
use crate::spec::HostFacts;

/// The parts of an engine.
pub(crate) struct Core {
    /// Durable state.
    pub(crate) root: PathBuf,
    /// Run directory.
    pub(crate) run_dir: PathBuf,
    /// The machine.
    pub(crate) host: HostFacts,
    /// The store.
    pub(crate) store: Arc<Store>,
    /// Monitors.
    pub(crate) monitors: Arc<dyn Monitors>,
    /// Events.
    pub(crate) events: EventHub,
    /// Execs.
    pub(crate) execs: Execs,
    /// Containers.
    pub(crate) table: Table,
    /// Networks.
    pub(crate) networks: Arc<Networks>,
    /// Images of containers that are not in the table yet.
    pub(crate) making: Arc<Making>,
    /// Parent of the containers' cgroups: this instance's own; empty if it may make none.
    pub(crate) cgroup_parent: String,
}

// === impl Core ===

impl Core {
    /// Tells listeners what happened to a container.
    pub(crate) fn tell(&self, view: &ContainerView, action: Action, extra: &[(&str, String)]) {
        let mut attributes: BTreeMap<String, String> = view.fixed.process.labels.clone();
        attributes.insert("image".into(), view.fixed.image_name.clone());
        attributes.insert("name".into(), view.name.as_str().to_owned());
        attributes.extend(extra.iter().map(|(k, v)| ((*k).to_owned(), v.clone())));
        self.events.emit(action, view.id.as_str(), attributes);
    }
}
