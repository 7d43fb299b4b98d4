//! The rate of a network's own, changed while containers divide it.

use std::sync::Arc;

use tare_model::network::Network;
use tare_model::shaping::{Reshaping, Shaping};
use tare_model::{ContainerId, Result};

use super::fabric::Join;
use super::{Attached, Networks};
use crate::work;

/// The option that says it, as inspection shows it.
const OPTION: &str = "tare.network.rate";

// === impl Networks ===

impl Networks {
    /// All containers of a network together are limited so from now on; durable when it returns.
    ///
    /// # Errors
    /// `NotFound`; `InvalidInput` for a rate out of range, `Unsupported` for another driver than `bridge` and for what the
    /// kernel lacks; the kernel's refusal. Nothing has changed then.
    pub(crate) async fn rerate(self: &Arc<Self>, key: &str, change: Reshaping) -> Result<Arc<Network>> {
        // With networks that are made: one change of a record after another.
        let _one = self.making.lock().await;
        let before = Arc::clone(&self.lock().find(key)?.network);
        let after = Arc::new(changed(&before, &change)?);
        let (this, new) = (Arc::clone(self), Arc::clone(&after));
        work::blocking(move || {
            let done = this.divide(&new).and_then(|()| this.store.keep_network(&new));
            if done.is_err()
                && let Err(worse) = this.divide(&before)
            {
                tracing::error!("take the rate of network {} back: {worse}", before.config.name);
            }
            done
        })
        .await?;
        Ok(after)
    }

    /// The network is this, for those who come and those who are there.
    fn divide(&self, network: &Arc<Network>) -> Result<()> {
        let joins = {
            let mut table = self.lock();
            table.replace(Arc::clone(network));
            table.shaped(&network.id)
        };
        if joins.is_empty() { Ok(()) } else { self.fabric()?.shape(&joins) }
    }

    /// A container that came with what a network was may have told the kernel so after it had been changed.
    pub(super) fn keep_up(&self, id: &ContainerId, attached: &Attached, came: &[Join]) -> Result<()> {
        let rates = |join: &Join| join.network.config.bridge.rates;
        let now = self.joins(id, attached);
        let old = |join: &&Join| {
            came.iter().any(|other| other.endpoint.id == join.endpoint.id && rates(other) != rates(join))
        };
        let changed: Vec<Join> = now.iter().filter(old).cloned().collect();
        if changed.is_empty() { Ok(()) } else { self.fabric()?.shape(&changed) }
    }
}

fn changed(before: &Network, change: &Reshaping) -> Result<Network> {
    let mut after = before.clone();
    let mut limits = Shaping { rates: before.config.bridge.rates, share: None };
    limits.change(change)?;
    tare_net::shape::check(before, &limits)?;
    after.config.bridge.rates = limits.rates;
    let options = &mut after.config.raw_options;
    match limits.rates.is_unlimited() {
        true => drop(options.remove(OPTION)),
        false => drop(options.insert(OPTION.to_owned(), limits.rates.to_string())),
    }
    Ok(after)
}
