//! Other limits for a container that is there: checked, in force, durable, in this order. Nothing is told before all three.

use std::sync::Arc;

use tare_model::Result;
use tare_model::container::Resources;

use super::container::Made;
use super::driver::Driver;
use super::handle::Change;
use super::prepare::block_device;
use crate::api::event::Action;
use crate::api::view::Fixed;
use crate::spec::limits;

impl Driver {
    /// Changes the configuration's limits and, if it runs, those in force. Returns the warnings.
    ///
    /// # Errors
    /// The limit that is wrong or cannot be enforced, by name; nothing has changed then.
    pub(super) async fn update(&mut self, change: Change) -> Result<Vec<String>> {
        let old = Arc::clone(&self.me.made);
        let mut config = old.fixed.config.clone();
        change(&mut config)?;
        let mut warnings = limits::check(&mut config.resources, &self.core.host)?;
        let (was, shaping) = (old.fixed.config.networking.shaping, config.networking.shaping);
        if was != shaping {
            self.core.networks.check(&config)?;
        }
        let (before, after) = (&old.fixed.config.resources, &config.resources);
        let changes = difference(before, after);
        // Who may limit nothing may change everything else.
        let is_limited = self.status.is_live() && changes != Resources::default();
        let read = |r: Resources| limits::resources(&r, limits::Absent::Stays, block_device);
        let (forth, back) = (read(changes)?, read(difference(after, before))?);
        if is_limited {
            warnings.extend(self.monitor()?.update(forth).await?);
        }
        let reshaped = if was == shaping { Ok(()) } else { self.reshape(shaping).await };
        let fixed = Fixed { config, ..Fixed::clone(&old.fixed) };
        self.me.made = Arc::new(Made { fixed: Arc::new(fixed), ..Made::clone(&old) });
        let saved = match reshaped {
            Ok(()) => self.save().await,
            refused => refused,
        };
        if let Err(e) = saved {
            self.me.made = old;
            if was != shaping
                && let Err(worse) = self.reshape(was).await
            {
                tracing::error!(container = self.me.id.as_str(), "take its network limits back: {worse}");
            }
            if is_limited && let Err(worse) = self.monitor()?.update(back).await {
                return Err(e.context(format!("the limits in force could not be taken back ({worse})")));
            }
            return Err(e);
        }
        self.publish();
        self.core.tell(&self.view(), Action::Update, &[]);
        Ok(warnings)
    }
}

/// What `after` has that `before` has not. Figures that the kernel takes together stay together.
fn difference(before: &Resources, after: &Resources) -> Resources {
    let mut all = after.clone();
    let memory = |r: &Resources| (r.memory, r.memory_swap);
    if memory(before) == memory(after) {
        (all.memory, all.memory_swap) = (None, None);
    }
    let quota = |r: &Resources| (r.nano_cpus, r.cpu_period, r.cpu_quota);
    if quota(before) == quota(after) {
        (all.nano_cpus, all.cpu_period, all.cpu_quota) = (None, None, None);
    }
    let real_time = |r: &Resources| (r.cpu_rt_period, r.cpu_rt_runtime);
    if real_time(before) == real_time(after) {
        (all.cpu_rt_period, all.cpu_rt_runtime) = (None, None);
    }
    macro_rules! unless_new {
        ($($field:ident),*) => { $(if before.$field == after.$field { all.$field = Default::default(); })* };
    }
    unless_new!(
        memory_reservation,
        memory_swappiness,
        cpu_shares,
        cpuset_cpus,
        cpuset_mems,
        pids_limit,
        blkio_weight
    );
    unless_new!(blkio_weight_device, device_read_bps, device_write_bps, device_read_iops, device_write_iops);
    all.oom_kill_disable = after.oom_kill_disable && !before.oom_kill_disable;
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_changes_is_written() {
        let before =
            Resources { memory: Some(1), memory_swap: Some(2), cpu_shares: Some(3), ..Default::default() };
        assert_eq!(difference(&before, &before), Resources::default());
        let after = Resources { cpu_shares: Some(4), pids_limit: Some(9), ..before.clone() };
        let wanted = Resources { cpu_shares: Some(4), pids_limit: Some(9), ..Default::default() };
        assert_eq!(difference(&before, &after), wanted);
    }

    #[test]
    fn memory_goes_with_swap_and_quota_with_period() {
        let before =
            Resources { memory: Some(1), memory_swap: Some(2), cpu_period: Some(5), ..Default::default() };
        let after = Resources { memory_swap: Some(3), cpu_quota: Some(6), ..before.clone() };
        assert_eq!(difference(&before, &after), after);
    }
}
