//! A question to upstream servers: the first good answer, before the asker's patience ends.
//!
//! ```text
//!   server 1 ──────────────────── still listened to ───────────────────▶│
//!      patience └▶ server 2 ───── still listened to ───────────────────▶│ total: none
//!                     └▶ server 3, or 1 again ─────────────────────────▶│
//! ```
//!
//! A server that fails hands over at once. One that was silent is asked last for a while.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hickory_proto::op::ResponseCode;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};

use super::exchange;
use super::wire::{Answer, Asked};

/// A server that was silent is asked last for this long.
const DISGRACE: Duration = Duration::from_secs(10);
/// Times that a question is put; more would be a burden to whoever is overloaded.
const TIMES: usize = 3;
/// Servers whose silence is remembered.
const REMEMBERED: usize = 1024;

#[derive(Debug)]
pub(super) struct Upstream {
    patience: Duration,
    total: Duration,
    silent: Mutex<HashMap<SocketAddr, Instant>>,
}

// === impl Upstream ===

impl Upstream {
    pub(super) fn new(patience: Duration, total: Duration) -> Self {
        Self { patience, total, silent: Mutex::default() }
    }

    /// The answer; none if no server gave one in time. If all of them failed by their own words, the last one's.
    pub(super) async fn ask(&self, servers: &[SocketAddr], asked: &Arc<Asked>) -> Option<Answer> {
        let order = self.order(servers);
        let mut fresh = order.iter().copied();
        let mut again = order.iter().copied().cycle().take(TIMES.saturating_sub(order.len()));
        let (mut pending, mut excuse) = (JoinSet::new(), None);
        let end = Instant::now() + self.total;
        let mut latest = fresh.next()?;
        let mut next = Some(latest);
        loop {
            if let Some(server) = next.take() {
                let asked = asked.clone();
                pending.spawn(async move { (server, exchange::ask(server, &asked).await) });
                latest = server;
            }
            match timeout_at(end, timeout(self.patience, pending.join_next())).await {
                Err(_) => return excuse,
                Ok(Err(_)) => {
                    self.blame(latest);
                    next = fresh.next().or_else(|| again.next());
                }
                Ok(Ok(None)) => return excuse,
                Ok(Ok(Some(Ok((server, Ok(answer)))))) if good(&answer) => {
                    self.forgive(server);
                    return Some(answer);
                }
                Ok(Ok(Some(failed))) => {
                    excuse = failed.ok().and_then(|(_, answer)| answer.ok()).or(excuse);
                    next = fresh.next();
                }
            }
        }
    }

    /// Those first that answered lately, or were not asked.
    fn order(&self, servers: &[SocketAddr]) -> Vec<SocketAddr> {
        let now = Instant::now();
        let silent = self.lock();
        let mut order = servers.to_vec();
        order.sort_by_key(|server| silent.get(server).is_some_and(|until| *until > now));
        order
    }

    fn blame(&self, server: SocketAddr) {
        let now = Instant::now();
        let mut silent = self.lock();
        if silent.len() >= REMEMBERED {
            silent.retain(|_, until| *until > now);
        }
        if silent.len() < REMEMBERED {
            silent.insert(server, now + DISGRACE);
        }
    }

    fn forgive(&self, server: SocketAddr) {
        self.lock().remove(&server);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SocketAddr, Instant>> {
        self.silent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether another server could not do better.
fn good(answer: &Answer) -> bool {
    use ResponseCode::{FormErr, NotImp, Refused, ServFail};
    !matches!(answer.code, FormErr | NotImp | Refused | ServFail)
}
