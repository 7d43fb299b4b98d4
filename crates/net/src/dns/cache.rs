//! Answers of upstream servers, for as long as they say.
//!
//! Two halves: when the young one is full it becomes the old one, and the old one is forgotten at once. An answer that is
//! wanted while it is old is young again.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::wire::{Answer, Asked};

/// Beside the bytes of an answer: its key, the map's own.
const OVERHEAD: usize = 256;

/// Shared by all containers that ask the same servers.
#[derive(Debug)]
pub(super) struct Cache {
    entries: usize,
    bytes: usize,
    halves: Mutex<Halves>,
}

/// Whom it was asked, the question, and what its answer depends on: whether there is EDNS, signatures wanted, unchecked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key(Arc<[SocketAddr]>, Vec<u8>, [bool; 3]);

#[derive(Debug, Default)]
struct Halves {
    young: HashMap<Key, Entry>,
    old: HashMap<Key, Entry>,
    young_bytes: usize,
}

#[derive(Clone, Debug)]
struct Entry {
    answer: Arc<Answer>,
    since: Instant,
    until: Instant,
}

// === impl Key ===

impl Key {
    pub(super) fn of(upstream: &Arc<[SocketAddr]>, asked: &Asked) -> Self {
        let mut section = asked.section.clone();
        // Type and class, the last four bytes, are no letters.
        let letters = section.len().saturating_sub(4);
        section.get_mut(..letters).unwrap_or_default().make_ascii_lowercase();
        let edns = [asked.edns.is_some(), asked.edns.is_some_and(|edns| edns.1), asked.checking_disabled];
        Self(upstream.clone(), section, edns)
    }
}

// === impl Cache ===

impl Cache {
    pub(super) fn new(entries: usize, bytes: usize) -> Self {
        Self { entries, bytes, halves: Mutex::default() }
    }

    /// An answer that is still true, and its age in seconds.
    pub(super) fn get(&self, key: &Key, now: Instant) -> Option<(Arc<Answer>, u32)> {
        let mut halves = self.lock();
        let entry = match halves.young.get(key) {
            Some(entry) => entry.clone(),
            None => {
                let (key, entry) = halves.old.remove_entry(key)?;
                self.put(&mut halves, key, entry.clone());
                entry
            }
        };
        drop(halves);
        let age = now.saturating_duration_since(entry.since).as_secs();
        (now < entry.until).then(|| (entry.answer, u32::try_from(age).unwrap_or(u32::MAX)))
    }

    /// Remembers an answer, if it says for how long.
    pub(super) fn insert(&self, key: Key, answer: Arc<Answer>, now: Instant) {
        let Some(seconds) = answer.keep else { return };
        let until = now + Duration::from_secs(seconds.into());
        self.put(&mut self.lock(), key, Entry { answer, since: now, until });
    }

    fn put(&self, halves: &mut Halves, key: Key, entry: Entry) {
        let size = entry.answer.size() + key.1.len() + OVERHEAD;
        if size > self.bytes / 2 || self.entries < 2 {
            return;
        }
        if halves.young.len() >= self.entries / 2 || halves.young_bytes + size > self.bytes / 2 {
            halves.old = std::mem::take(&mut halves.young);
            halves.young_bytes = 0;
        }
        halves.young_bytes += size;
        if let Some(before) = halves.young.insert(key, entry) {
            // Its key's bytes are counted twice until the halves change, which errs on the small side.
            halves.young_bytes = halves.young_bytes.saturating_sub(before.answer.size());
        }
    }

    #[cfg(test)]
    pub(super) fn held(&self) -> (usize, usize) {
        let halves = self.lock();
        let all = || halves.young.values().chain(halves.old.values());
        (all().count(), all().map(|entry| entry.answer.size()).sum())
    }

    fn lock(&self) -> MutexGuard<'_, Halves> {
        self.halves.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
