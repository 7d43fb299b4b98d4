//! Group commit: whoever finds no commit under way leads, and takes along what the others have queued.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use tare_model::Result;

use super::Op;

/// The queue in front of the one writer.
#[derive(Default)]
pub(crate) struct Group {
    state: Mutex<State>,
    done: Condvar,
}

#[derive(Default)]
struct State {
    /// Ops of the batch that is being collected.
    ops: Vec<Op>,
    /// Callers in that batch.
    callers: usize,
    /// Number of that batch.
    collecting: u64,
    /// A leader is writing the batch before it.
    busy: bool,
    /// Results of written batches that some caller has not yet picked up.
    results: Vec<(u64, usize, Result<()>)>,
}

// === impl Group ===

impl Group {
    /// Returns when `ops` have gone through `write`, alone or with those of other callers. Every caller of a batch
    /// that failed gets its error.
    pub(crate) fn run(&self, ops: Vec<Op>, write: impl Fn(&[Op]) -> Result<()>) -> Result<()> {
        let mut state = self.lock();
        state.ops.extend(ops);
        state.callers += 1;
        let mine = state.collecting;
        loop {
            if let Some(result) = state.take_result(mine) {
                return result;
            }
            if !state.busy && state.collecting == mine {
                break;
            }
            state = self.done.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        self.lead(state, write)
    }

    fn lead(&self, mut state: MutexGuard<'_, State>, write: impl Fn(&[Op]) -> Result<()>) -> Result<()> {
        let batch = std::mem::take(&mut state.ops);
        let others = std::mem::take(&mut state.callers) - 1;
        let number = state.collecting;
        state.collecting += 1;
        state.busy = true;
        drop(state);
        let result = write(&batch);
        let mut state = self.lock();
        state.busy = false;
        if others > 0 {
            state.results.push((number, others, result.clone()));
        }
        drop(state);
        self.done.notify_all();
        result
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A caller that panicked while it held the lock has changed nothing halfway: each change is one assignment.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl State ===

impl State {
    fn take_result(&mut self, batch: u64) -> Option<Result<()>> {
        let at = self.results.iter().position(|(number, ..)| *number == batch)?;
        let (_, waiting, result) = &mut self.results[at];
        *waiting -= 1;
        let result = result.clone();
        if self.results[at].1 == 0 {
            drop(self.results.swap_remove(at));
        }
        Some(result)
    }
}
