//! Containers that end: their ports are free at once, their addresses when no connection of theirs is left.

use std::collections::BTreeMap;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use tare_model::{ContainerId, Result};
use tokio::sync::oneshot;

use super::fabric::Join;
use super::{Attached, Networks};
use crate::work;

/// How long the addresses of those who are gone wait for those of others: to look for their connections takes a processor
/// milliseconds, for one as for a hundred.
const LULL: Duration = Duration::from_millis(500);

#[derive(Default)]
pub(super) struct Gone {
    /// Who ended and has something yet, in this order.
    under_way: BTreeMap<u64, ContainerId>,
    next: u64,
    waiting: Vec<(u64, ContainerId, Attached)>,
    is_served: bool,
}

// === impl Gone ===

impl Gone {
    fn begin(&mut self, id: &ContainerId) -> u64 {
        let ticket = self.next;
        self.next += 1;
        self.under_way.insert(ticket, id.clone());
        ticket
    }
}

// === impl Networks ===

impl Networks {
    /// The end of a container, or a start that failed. When it returns it is on no network and its ports can be had again;
    /// the rest follows.
    pub(crate) async fn give_back(self: &Arc<Self>, id: &ContainerId, attached: Attached) {
        let publishes = !attached.published.is_empty();
        let ticket = self.gone().begin(id);
        self.lock().leave(id, &attached);
        let (this, id) = (Arc::clone(self), id.clone());
        let (sender, ports_are_free) = oneshot::channel();
        tokio::task::spawn_blocking(move || this.withdraw(ticket, id, attached, sender));
        if publishes {
            // The sender is dropped as soon as they are.
            let _ = ports_are_free.await;
        }
    }

    /// Waits until nothing is left of earlier runs of a container: what is done to end one must not end the next.
    pub(super) async fn ended(&self, id: &ContainerId) {
        self.until(|gone| gone.under_way.values().all(|other| other != id)).await;
    }

    /// Waits until the addresses of all who have ended by now are free.
    pub(crate) async fn settled(&self) {
        let now = self.gone().next;
        self.until(|gone| gone.under_way.first_key_value().is_none_or(|(ticket, _)| *ticket >= now)).await;
    }

    async fn until(&self, so: impl Fn(&Gone) -> bool) {
        loop {
            let freed = self.freed.notified();
            if so(&self.gone()) {
                return;
            }
            self.wanted.notify_one();
            freed.await;
        }
    }

    fn withdraw(
        self: &Arc<Self>,
        ticket: u64,
        id: ContainerId,
        attached: Attached,
        ports_are_free: oneshot::Sender<()>,
    ) {
        let Ok(fabric) = self.fabric() else { return };
        let unpublished = match attached.published.as_slice() {
            [] => Ok(()),
            published => fabric.unpublish(published),
        };
        self.lock().ports.give_back(&attached.published);
        let forgotten = fabric.forget(&self.joins(&id, &attached));
        drop(ports_are_free);
        let mended = self.part_if_needed();
        for e in [unpublished, forgotten, mended].into_iter().filter_map(Result::err) {
            tracing::error!(container = id.as_str(), "take its network away: {e}");
        }
        let is_first = {
            let mut gone = self.gone();
            gone.waiting.push((ticket, id, attached));
            !std::mem::replace(&mut gone.is_served, true)
        };
        if is_first {
            tokio::spawn(Arc::clone(self).free_soon());
        }
    }

    /// Frees the addresses of those who are gone, as soon as somebody waits for it or after a while, until nobody is left.
    async fn free_soon(self: Arc<Self>) {
        loop {
            // Either will do.
            let _ = tokio::time::timeout(LULL, self.wanted.notified()).await;
            let this = Arc::clone(&self);
            if let Ok(false) = work::blocking(move || this.free_addresses()).await {
                return;
            }
        }
    }

    /// Frees the addresses of all who are gone; false if there were none.
    fn free_addresses(&self) -> Result<bool> {
        let gone = {
            let mut gone = self.gone();
            gone.is_served = !gone.waiting.is_empty();
            std::mem::take(&mut gone.waiting)
        };
        if gone.is_empty() {
            return Ok(false);
        }
        let joins: Vec<Join> = gone.iter().flat_map(|(_, id, attached)| self.joins(id, attached)).collect();
        if let Err(e) = self.fabric()?.forget_connections(&joins) {
            tracing::error!("forget connections of containers that are gone: {e}");
        }
        {
            let mut table = self.lock();
            for (_, id, attached) in &gone {
                attached.joins.iter().for_each(|join| table.free(id, join));
            }
        }
        self.gone().under_way.retain(|ticket, _| gone.iter().all(|(done, ..)| done != ticket));
        self.freed.notify_waiters();
        Ok(true)
    }

    fn gone(&self) -> MutexGuard<'_, Gone> {
        self.gone.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
