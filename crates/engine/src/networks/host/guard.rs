//! The firewall of the host: opened by its first use, watched over from then on.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tare_model::network::Driver;
use tare_model::{Error, Result};
use tare_net::firewall::{Admitted, Cause, Firewall, Forwarding, Repair, Ruleset, Settings, Watch};

use super::inside::addresses;
use super::{Host, Join, lock};

/// The system's D-Bus.
const BUS: &str = "/run/dbus/system_bus_socket";

/// The firewall, open.
pub(super) struct Guard {
    firewall: Arc<Firewall>,
    /// What is given to those who outlive us.
    pub(super) keep: OwnedFd,
    _watch: Watch,
}

// === impl Host ===

impl Host {
    /// The firewall, which is opened and watched from its first use on, with what it is to enforce then.
    pub(super) fn firewall(&self, first: impl FnOnce() -> Ruleset) -> Result<&Arc<Firewall>> {
        if let Some(guard) = self.firewall.get() {
            return Ok(&guard.firewall);
        }
        let _one = lock(&self.opening);
        if self.firewall.get().is_none() {
            self.enforce(Firewall::open(self.settings(), None)?, first())?;
        }
        self.opened().ok_or_else(|| Error::system("the firewall is not open"))
    }

    pub(super) fn opened(&self) -> Option<&Arc<Firewall>> {
        self.firewall.get().map(|guard| &guard.firewall)
    }

    fn settings(&self) -> Settings {
        let (table, loopback) = (self.table.clone(), self.loopback);
        Settings { table, forwarding: Forwarding::Ours, loopback, bus: BUS.into() }
    }

    /// Loads the firewall and watches over it from now on.
    fn enforce(&self, firewall: Firewall, first: Ruleset) -> Result<()> {
        let firewall = Arc::new(firewall);
        firewall.load(first)?;
        if let Some(why) = firewall.unheard() {
            tracing::warn!("rules of the host's on input do not decide about published ports: {why}");
        }
        if let Some(why) = firewall.detour() {
            tracing::info!("rules that name the link do not see first packets to published ports: {why}");
        }
        self.tell_unled(&firewall);
        let report = |repair: Repair| match repair {
            Repair::Done(Cause::Changed, after) => tracing::warn!(
                "somebody changed this engine's firewall tables; they are as before after {after:?}"
            ),
            Repair::Done(Cause::Lost, after) => tracing::info!(
                "the kernel had more news of firewalls than were read: this engine's tables were loaded anew in {after:?}"
            ),
            Repair::Done(Cause::Beside, after) => tracing::info!(
                "links or settings that this engine's firewall needs were changed; they are as before after {after:?}"
            ),
            Repair::Failed(e) => tracing::error!("this engine's firewall tables cannot be restored: {e}"),
        };
        let _watch = Watch::start(Arc::clone(&firewall), report)?;
        let keep = firewall.keep()?;
        // Nobody else sets it: the first use is under a lock, and a restart is over before it.
        let _ = self.firewall.set(Guard { firewall, keep, _watch });
        Ok(())
    }

    pub(super) fn tell_unled(&self, firewall: &Firewall) {
        if let Some(why) = firewall.unled()
            && !self.unled.swap(true, Ordering::Relaxed)
        {
            tracing::warn!("published ports are not reached by [::1] on this host, only by 127.0.0.1: {why}");
        }
    }

    /// The firewall of the engine before us, if it left one or one `is_needed`.
    pub(super) fn take_over(&self, rules: Ruleset, is_needed: bool, kept: Option<OwnedFd>) -> Result<()> {
        let firewall = Firewall::open(self.settings(), kept)?;
        if !is_needed && !firewall.is_loaded()? {
            // No reason not to start: where /proc/sys is read-only somebody else sees to it.
            if let Err(e) = firewall.stop_what_was_left() {
                tracing::warn!("forwarding stays as an engine before left it: {e}");
            }
            return Ok(());
        }
        self.enforce(firewall, rules)
    }

    /// What may be sent by the host's end of a new interface.
    pub(super) fn admit(&self, join: &Join, end: u32) -> Result<()> {
        lock(&self.ends).insert(join.endpoint.id.clone(), end);
        self.firewall(Ruleset::default)?.admit(&self.admitted(std::slice::from_ref(join)), &[])
    }

    /// The contrary, of interfaces that are gone.
    pub(super) fn dismiss(&self, joins: &[Join]) -> Result<()> {
        let ends = self.forget_ends(joins);
        match self.opened() {
            Some(firewall) if !ends.is_empty() => firewall.dismiss(&ends, &[]),
            _ => Ok(()),
        }
    }

    /// What may be sent from the links of these joins.
    pub(super) fn admitted(&self, joins: &[Join]) -> Vec<Admitted> {
        let ends = lock(&self.ends);
        let admit = |join: &Join| {
            Some(Admitted {
                link: *ends.get(&join.endpoint.id)?,
                bridge: join.network.bridge(),
                mac: join.endpoint.mac?,
                addresses: addresses(join),
            })
        };
        joins.iter().filter(|join| join.network.config.driver == Driver::Bridge).filter_map(admit).collect()
    }
}
