//! What both transports do with a message: answered in memory, or by the cache, or handed on, within bounds.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use hickory_proto::op::ResponseCode;

use super::Limits;
use super::cache::{Cache, Key};
use super::local::{Decision, Names};
use super::upstream::Upstream;
use super::wire::{Asked, Read, Transport};

/// What all containers share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) limits: Limits,
    cache: Cache,
    upstream: Upstream,
    outstanding: AtomicUsize,
}

/// A container, or the host, whose sockets are served.
#[derive(Debug)]
pub(super) struct Served {
    pub(super) shared: Arc<Shared>,
    view: RwLock<Arc<dyn Names>>,
    outstanding: AtomicUsize,
}

/// What becomes of a message.
#[derive(Debug)]
pub(super) enum Fate {
    /// This is the answer.
    Said(Vec<u8>),
    /// It waits for an upstream server.
    Handed(Handed),
    /// There is none.
    Ignored,
}

/// A question on its way upstream, one of the bounded number.
#[derive(Debug)]
pub(super) struct Handed {
    served: Arc<Served>,
    view: Arc<dyn Names>,
    asked: Arc<Asked>,
    key: Key,
}

// === impl Shared ===

impl Shared {
    pub(super) fn new(limits: Limits) -> Self {
        let cache = Cache::new(limits.cache_entries, limits.cache_bytes);
        let upstream = Upstream::new(limits.patience, limits.total);
        Self { limits, cache, upstream, outstanding: AtomicUsize::new(0) }
    }

    #[cfg(test)]
    pub(super) fn held(&self) -> (usize, usize) {
        self.cache.held()
    }

    #[cfg(test)]
    pub(super) fn outstanding(&self) -> usize {
        self.outstanding.load(Ordering::Relaxed)
    }
}

// === impl Served ===

impl Served {
    pub(super) fn new(shared: Arc<Shared>, view: impl Names + 'static) -> Self {
        Self { shared, view: RwLock::new(Arc::new(view)), outstanding: AtomicUsize::new(0) }
    }

    pub(super) fn show(&self, view: impl Names + 'static) {
        *self.view.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(view);
    }

    /// Decides about a message. Never waits.
    pub(super) fn take(self: &Arc<Self>, bytes: &[u8], transport: Transport) -> Fate {
        let asked = match Read::query(bytes, transport) {
            Read::Asked(asked) => asked,
            Read::Wrong(answer) => return Fate::Said(answer),
            Read::Ignored => return Fate::Ignored,
        };
        let view = self.view.read().unwrap_or_else(PoisonError::into_inner).clone();
        match view.decide(&asked) {
            Decision::Say(code, data) => Fate::Said(asked.say(code, &data)),
            Decision::Forward => self.hand_on(view, *asked),
        }
    }

    fn hand_on(self: &Arc<Self>, view: Arc<dyn Names>, asked: Asked) -> Fate {
        let key = Key::of(view.upstream(), &asked);
        if let Some((answer, age)) = self.shared.cache.get(&key, Instant::now()) {
            return Fate::Said(asked.pass_on(&answer, age));
        }
        if view.upstream().is_empty() || !self.admit() {
            return Fate::Said(asked.say(ResponseCode::ServFail, &[]));
        }
        Fate::Handed(Handed { served: self.clone(), view, asked: Arc::new(asked), key })
    }

    /// Counts one more outstanding question, unless it is one too many.
    fn admit(&self) -> bool {
        let limits = &self.shared.limits;
        let all = self.shared.outstanding.fetch_add(1, Ordering::Relaxed);
        let own = self.outstanding.fetch_add(1, Ordering::Relaxed);
        let free = limits.outstanding.saturating_sub(all);
        let admitted = own < limits.outstanding_each && own < free;
        if !admitted {
            self.release();
        }
        admitted
    }

    fn release(&self) {
        self.shared.outstanding.fetch_sub(1, Ordering::Relaxed);
        self.outstanding.fetch_sub(1, Ordering::Relaxed);
    }
}

// === impl Handed ===

impl Handed {
    /// Waits for the answer, whatever it is.
    pub(super) async fn answer(self) -> Vec<u8> {
        let shared = &self.served.shared;
        let Some(answer) = shared.upstream.ask(self.view.upstream(), &self.asked).await else {
            return self.asked.say(ResponseCode::ServFail, &[]);
        };
        let answer = Arc::new(answer);
        shared.cache.insert(self.key.clone(), answer.clone(), Instant::now());
        self.asked.pass_on(&answer, 0)
    }
}

impl Drop for Handed {
    fn drop(&mut self) {
        self.served.release();
    }
}
