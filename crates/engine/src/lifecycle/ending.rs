//! Ending a container: who waits for it, what comes then, and when patience is over.
//!
//! ```text
//!   stop: signal ──▶ asked ── deadline ──▶ SIGKILL ──▶ killed ── deadline ──▶ callers are told that it does not die
//!                      └────── exits ──────────┴──▶ each caller's `Then`
//! ```

use std::time::Duration;

use tare_model::{Error, Signal, Status};
use tokio::time::Instant;

use super::driver::{Driver, answer};
use super::handle::Reply;
use crate::api::options::{RemoveOptions, StopOptions, StopTimeout};

/// How long a process may take to die of SIGKILL; one that takes longer hangs in the kernel.
const DYING: Duration = Duration::from_secs(30);

/// What a caller wants once the container has ended.
pub(super) enum Then {
    /// To know, and that listeners hear of a stop.
    Tell(Reply),
    /// To know.
    Done(Reply),
    /// That it is started again.
    Start(Reply),
    /// That it is removed.
    Remove(RemoveOptions, Reply),
    /// Something of a running container; it had ended just before.
    Missed(Error, Reply),
}

/// An end that is under way, if callers wait for one.
#[derive(Default)]
pub(super) struct Ending {
    deadline: Option<Instant>,
    killed: bool,
    then: Vec<Then>,
}

// === impl Ending ===

impl Ending {
    /// Resolves when patience is over.
    pub(super) async fn deadline(&self) {
        match self.deadline {
            Some(deadline) => tokio::time::sleep_until(deadline).await,
            None => std::future::pending().await,
        }
    }

    /// It was asked to end; the shortest patience of all callers counts.
    fn asked(&mut self, patience: Option<Duration>, then: Then) {
        self.then.push(then);
        let Some(deadline) = patience.map(|p| Instant::now() + p) else { return };
        self.deadline = Some(self.deadline.map_or(deadline, |d| d.min(deadline)));
    }

    /// It was killed.
    pub(super) fn killed(&mut self, then: Then) {
        self.then.push(then);
        self.killed = true;
        self.deadline = Some(Instant::now() + DYING);
    }

    /// A caller came too late, and is told once the end is known.
    pub(super) fn missed(&mut self, why: Error, reply: Reply) {
        self.then.push(Then::Missed(why, reply));
    }

    /// It has ended: everyone who waited.
    pub(super) fn take(&mut self) -> Vec<Then> {
        std::mem::take(self).then
    }
}

// === impl Then ===

impl Then {
    fn reply(self) -> Reply {
        match self {
            Self::Tell(reply) | Self::Done(reply) | Self::Start(reply) => reply,
            Self::Remove(_, reply) | Self::Missed(_, reply) => reply,
        }
    }
}

// === impl Driver ===

impl Driver {
    /// Asks the container to end, and arranges that it does.
    pub(super) async fn end(&mut self, options: &StopOptions, then: Then) {
        let patience = match options.timeout.or_else(|| self.own_timeout()) {
            Some(StopTimeout::Never) => None,
            Some(StopTimeout::After(Duration::ZERO)) => return self.finish_off(then).await,
            Some(StopTimeout::After(patience)) => Some(patience),
            None => Some(Duration::from_secs(10)),
        };
        let signal = self.stop_signal(options);
        if signal == Signal::KILL {
            return self.finish_off(then).await;
        }
        // One that cannot be signalled has ended just now, or has lost its monitor: both arrive as events.
        if self.signal(signal).await.is_ok() && self.status == Status::Paused {
            // Frozen, it would not see the signal.
            if let Err(e) = self.thaw().await {
                tracing::warn!(container = self.me.id.as_str(), "thaw before stop: {e}");
            }
        }
        self.ending.asked(patience, then);
    }

    /// Kills it.
    pub(super) async fn finish_off(&mut self, then: Then) {
        if let Err(e) = self.signal(Signal::KILL).await {
            tracing::debug!(container = self.me.id.as_str(), "SIGKILL: {e}");
        }
        self.ending.killed(then);
    }

    /// Patience is over.
    pub(super) async fn on_deadline(&mut self) {
        if !self.ending.killed {
            if let Err(e) = self.signal(Signal::KILL).await {
                tracing::debug!(container = self.me.id.as_str(), "SIGKILL: {e}");
            }
            self.ending.killed = true;
            self.ending.deadline = Some(Instant::now() + DYING);
            return;
        }
        let name = self.me.name.clone();
        for then in self.ending.take() {
            let e = Error::system(format!(
                "container {name}: tried to kill container, but did not receive an exit event; a process of it hangs \
                 in the kernel"
            ));
            answer(then.reply(), Err(e));
        }
    }

    fn own_timeout(&self) -> Option<StopTimeout> {
        self.made_timeout().map(|seconds| match u64::try_from(seconds) {
            Ok(seconds) => StopTimeout::After(Duration::from_secs(seconds)),
            Err(_) => StopTimeout::Never,
        })
    }

    fn made_timeout(&self) -> Option<i32> {
        self.me.made.fixed.config.stop_timeout
    }
}
