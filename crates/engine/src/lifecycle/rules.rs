//! What may happen in which state: pure, total, and the only place that decides it.
//!
//! ```text
//!              start                      exits (or its monitor dies)
//!   Created ──────────▶ Running ───────────────────────────────▶ Exited
//!      │                 │   ▲                                    │ │
//!      │           pause │   │ unpause                      start │ │
//!      │                 ▼   │                             (to Running)
//!      │                Paused ── killed ──▶ Exited               │
//!      │                                                          │
//!      └──────────────────────── remove ──────────────────────────┴──▶ Removing ──▶ (gone)
//!                        (Running, Paused: only with force;             │ could not be cleaned up
//!                         killed first)                                 ▼
//!                                                                     Dead ── remove ──▶ Removing
//! ```
//!
//! `Restarting` belongs to restart policies, which come later; the rules know it already.

use tare_model::{Error, ErrorKind, Result, Status};

/// What is asked of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    /// Execute its program.
    Start,
    /// Ask it to end.
    Stop,
    /// Stop, then start.
    Restart,
    /// Send a signal.
    Kill,
    /// Freeze.
    Pause,
    /// Thaw.
    Unpause,
    /// Give it another name.
    Rename,
    /// Give it other limits.
    Update,
    /// Remove it.
    Remove {
        /// Kill it first if it runs.
        force: bool,
    },
    /// Prepare or start a further process.
    Exec,
    /// Connect to its streams.
    Attach,
    /// Size its terminal.
    Resize,
    /// List its processes.
    Top,
}

/// How to go about what was admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admit {
    /// Do it.
    Go,
    /// It runs: end it first.
    EndFirst,
}

/// Decides whether `op` may happen to a container that is in `status`; `key` is how the caller named it.
///
/// # Errors
/// `NotModified` when it is as asked already, else `Conflict`, in Docker's words.
pub(crate) fn admit(op: Op, status: Status, key: &str) -> Result<Admit> {
    use Status::{Created, Dead, Exited, Paused, Removing, Restarting, Running};
    let conflict = |message: String| Err(Error::conflict(message));
    match (op, status) {
        (Op::Remove { .. }, Removing) => {
            conflict(format!("removal of container {key} is already in progress"))
        }
        (Op::Start | Op::Restart, Removing | Dead) => {
            conflict("container is marked for removal and cannot be started".into())
        }
        (Op::Rename | Op::Attach | Op::Update, Removing | Dead) => {
            conflict(format!("container {key} is marked for removal"))
        }

        (Op::Start, Running | Restarting) => not_modified(format!("container {key} is already running")),
        (Op::Start, Paused) => conflict("cannot start a paused container, try unpause instead".into()),
        (Op::Start | Op::Restart, Created | Exited) => Ok(Admit::Go),
        (Op::Restart, Running | Paused | Restarting) => Ok(Admit::EndFirst),

        (Op::Stop, Running | Paused | Restarting) => Ok(Admit::EndFirst),
        (Op::Stop, _) => not_modified(format!("container {key} is already stopped")),

        (Op::Kill, Running | Paused) => Ok(Admit::Go),
        (Op::Kill, _) => conflict(format!("cannot kill container: {key}: container {key} is not running")),

        (Op::Pause, Running) => Ok(Admit::Go),
        (Op::Pause, Paused) => conflict(format!("container {key} is already paused")),
        (Op::Unpause, Paused) => Ok(Admit::Go),
        (Op::Unpause, _) => conflict(format!("container {key} is not paused")),

        (Op::Rename | Op::Update, _) => Ok(Admit::Go),

        (Op::Remove { .. }, Created | Exited | Dead) => Ok(Admit::Go),
        (Op::Remove { force: true }, Running | Paused | Restarting) => Ok(Admit::EndFirst),
        (Op::Remove { force: false }, Paused) => conflict(format!(
            "cannot remove container \"{key}\": container is paused: unpause and then stop the container before \
             removing or force remove"
        )),
        (Op::Remove { force: false }, Running | Restarting) => conflict(format!(
            "cannot remove container \"{key}\": container is {}: stop the container before removing or force remove",
            status.as_str()
        )),

        (Op::Exec, Paused) => {
            conflict(format!("container {key} is paused, unpause the container before exec"))
        }
        (Op::Attach, Paused) => {
            conflict(format!("container {key} is paused, unpause the container before attach"))
        }
        (Op::Attach, Created | Running | Restarting | Exited) => Ok(Admit::Go),
        (Op::Exec, Running) | (Op::Resize | Op::Top, Running | Paused) => Ok(Admit::Go),
        (Op::Pause | Op::Exec | Op::Resize | Op::Top, _) => Err(not_running(key)),
    }
}

/// The refusal of what needs a running container.
pub(crate) fn not_running(key: &str) -> Error {
    Error::conflict(format!("container {key} is not running"))
}

fn not_modified(message: String) -> Result<Admit> {
    Err(Error::new(ErrorKind::NotModified, message))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STATES: [Status; 7] = [
        Status::Created,
        Status::Running,
        Status::Paused,
        Status::Restarting,
        Status::Removing,
        Status::Exited,
        Status::Dead,
    ];

    const OPS: [Op; 14] = [
        Op::Start,
        Op::Stop,
        Op::Restart,
        Op::Kill,
        Op::Pause,
        Op::Unpause,
        Op::Rename,
        Op::Update,
        Op::Remove { force: false },
        Op::Remove { force: true },
        Op::Exec,
        Op::Attach,
        Op::Resize,
        Op::Top,
    ];

    fn kind(op: Op, status: Status) -> Option<ErrorKind> {
        admit(op, status, "web").err().map(|e| e.kind())
    }

    #[test]
    fn what_is_already_so_is_not_modified() {
        assert_eq!(kind(Op::Start, Status::Running), Some(ErrorKind::NotModified));
        assert_eq!(kind(Op::Stop, Status::Exited), Some(ErrorKind::NotModified));
        assert_eq!(kind(Op::Stop, Status::Created), Some(ErrorKind::NotModified));
    }

    #[test]
    fn a_running_container_is_only_removed_by_force() {
        let e = admit(Op::Remove { force: false }, Status::Running, "/web").expect_err("running");
        assert_eq!(
            e.message(),
            "cannot remove container \"/web\": container is running: stop the container before removing or force remove"
        );
        assert_eq!(admit(Op::Remove { force: true }, Status::Running, "web"), Ok(Admit::EndFirst));
    }

    #[test]
    fn attaching_before_the_start_is_allowed() {
        assert_eq!(admit(Op::Attach, Status::Created, "web"), Ok(Admit::Go));
    }

    #[test]
    fn a_frozen_container_can_be_killed_stopped_and_thawed_but_not_entered() {
        assert_eq!(admit(Op::Kill, Status::Paused, "web"), Ok(Admit::Go));
        assert_eq!(admit(Op::Stop, Status::Paused, "web"), Ok(Admit::EndFirst));
        assert_eq!(admit(Op::Unpause, Status::Paused, "web"), Ok(Admit::Go));
        assert_eq!(kind(Op::Exec, Status::Paused), Some(ErrorKind::Conflict));
    }

    proptest! {
        #[test]
        fn whatever_needs_a_process_is_refused_without_one(op in 0usize..OPS.len(), state in 0usize..STATES.len()) {
            let (op, status) = (OPS[op], STATES[state]);
            let needs_process = matches!(op, Op::Kill | Op::Pause | Op::Unpause | Op::Exec | Op::Resize | Op::Top);
            if needs_process && !status.is_live() {
                prop_assert_eq!(kind(op, status), Some(ErrorKind::Conflict));
            }
        }

        #[test]
        fn only_what_has_processes_is_ended_first(op in 0usize..OPS.len(), state in 0usize..STATES.len()) {
            let (op, status) = (OPS[op], STATES[state]);
            if admit(op, status, "x") == Ok(Admit::EndFirst) {
                prop_assert!(status.is_live() || status == Status::Restarting);
            }
        }

        #[test]
        fn nothing_starts_or_changes_what_is_being_removed(op in 0usize..OPS.len()) {
            if OPS[op] != Op::Stop {
                prop_assert_eq!(kind(OPS[op], Status::Removing), Some(ErrorKind::Conflict));
            }
        }

        #[test]
        fn every_refusal_names_the_container_or_says_what_to_do(op in 0usize..OPS.len(), state in 0usize..STATES.len()) {
            if let Err(e) = admit(OPS[op], STATES[state], "web-7") {
                prop_assert!(e.message().contains("web-7") || e.message().contains("unpause")
                    || e.message().contains("marked for removal"), "{}", e);
            }
        }

        #[test]
        fn there_is_always_a_way_to_be_rid_of_a_container(state in 0usize..STATES.len()) {
            let status = STATES[state];
            let removed = admit(Op::Remove { force: true }, status, "x");
            prop_assert!(status == Status::Removing || removed.is_ok());
        }
    }
}
