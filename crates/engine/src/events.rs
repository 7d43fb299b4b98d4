//! Events: sent to whoever listens, and the last ones kept for whoever asks later.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use tokio::sync::broadcast;

use crate::api::event::{Action, Event};
use crate::api::stream::EventStream;
use crate::clock;

/// How many are kept, as many as Docker keeps.
const KEPT: usize = 256;
/// How far a listener may fall behind before it misses some.
const BACKLOG: usize = 1024;

/// Where events go.
#[derive(Debug)]
pub(crate) struct EventHub {
    past: Mutex<VecDeque<Event>>,
    live: broadcast::Sender<Event>,
}

// === impl EventHub ===

impl EventHub {
    /// Without past.
    pub(crate) fn new() -> Self {
        Self { past: Mutex::default(), live: broadcast::channel(BACKLOG).0 }
    }

    /// Something happened, now.
    pub(crate) fn emit(&self, action: Action, actor: &str, attributes: BTreeMap<String, String>) {
        let mut past = self.past.lock().unwrap_or_else(PoisonError::into_inner);
        let event = Event { time: clock::now(), action, actor: actor.to_owned(), attributes };
        if past.len() == KEPT {
            past.pop_front();
        }
        past.push_back(event.clone());
        // Sent under the lock, so that a new listener has each event exactly once. Nobody listening is fine.
        let _ = self.live.send(event);
    }

    /// Events from `since` on; absent: new ones only.
    pub(crate) fn listen(&self, since: Option<u64>) -> EventStream {
        let past = self.past.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = match since {
            Some(since) => past.iter().filter(|e| e.time >= since).cloned().collect(),
            None => Vec::new(),
        };
        EventStream::new(kept, self.live.subscribe())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_listener_gets_the_kept_events_and_then_new_ones_each_once() {
        let hub = EventHub::new();
        hub.emit(Action::Create, "a", BTreeMap::new());
        let mut late = hub.listen(Some(0));
        let mut fresh = hub.listen(None);
        hub.emit(Action::Start, "a", BTreeMap::new());
        assert_eq!(late.next().await.map(|e| e.action), Some(Action::Create));
        assert_eq!(late.next().await.map(|e| e.action), Some(Action::Start));
        assert_eq!(fresh.next().await.map(|e| e.action), Some(Action::Start));
    }

    #[tokio::test]
    async fn only_the_last_events_are_kept() {
        let hub = EventHub::new();
        for n in 0..300 {
            hub.emit(Action::Create, &n.to_string(), BTreeMap::new());
        }
        let mut all = hub.listen(Some(0));
        assert_eq!(all.next().await.map(|e| e.actor), Some("44".to_owned()));
    }

    #[tokio::test]
    async fn a_listener_that_falls_behind_skips_and_goes_on() {
        let hub = EventHub::new();
        let mut slow = hub.listen(None);
        for n in 0..BACKLOG + 10 {
            hub.emit(Action::Create, &n.to_string(), BTreeMap::new());
        }
        assert_eq!(slow.next().await.map(|e| e.actor), Some("10".to_owned()));
    }
}
