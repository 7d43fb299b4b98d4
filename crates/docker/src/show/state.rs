//! State of a container, for machines and as the sentence in `docker ps`.

use std::time::Duration;

use tare_docker_api::models::{ContainerState, ContainerStateStatusEnum as Word};
use tare_docker_api::stamp;
use tare_engine::StateView;
use tare_model::Status;

/// `State` of an inspected container.
pub(super) fn state(view: &StateView) -> ContainerState {
    let live = view.status.is_live();
    ContainerState {
        status: Some(word(view.status)),
        running: Some(live),
        paused: Some(view.status == Status::Paused),
        restarting: Some(view.status == Status::Restarting),
        oom_killed: Some(view.oom_killed()),
        dead: Some(view.status == Status::Dead),
        pid: Some(view.pid.map_or(0, i64::from)),
        exit_code: Some(if live { 0 } else { i64::from(view.exit_code()) }),
        error: Some(view.error.clone()),
        started_at: Some(moment(view.started)),
        finished_at: Some(moment(view.finished)),
        health: None,
    }
}

fn word(status: Status) -> Word {
    match status {
        Status::Created => Word::CREATED,
        Status::Running => Word::RUNNING,
        Status::Paused => Word::PAUSED,
        Status::Restarting => Word::RESTARTING,
        Status::Removing => Word::REMOVING,
        Status::Exited => Word::EXITED,
        Status::Dead => Word::DEAD,
    }
}

fn moment(at: Option<u64>) -> String {
    at.map_or_else(|| stamp::NEVER.to_owned(), stamp::rfc3339)
}

/// `Up 3 seconds (Paused)`, `Exited (137) 2 minutes ago`, …
pub(super) fn sentence(view: &StateView, now: u64) -> String {
    let since = |at: Option<u64>| stamp::human(Duration::from_nanos(now.saturating_sub(at.unwrap_or(now))));
    let code = view.exit_code();
    match view.status {
        Status::Created => "Created".to_owned(),
        Status::Running => format!("Up {}", since(view.started)),
        Status::Paused => format!("Up {} (Paused)", since(view.started)),
        Status::Restarting => format!("Restarting ({code}) {} ago", since(view.finished)),
        Status::Removing => "Removal In Progress".to_owned(),
        Status::Dead => "Dead".to_owned(),
        Status::Exited => format!("Exited ({code}) {} ago", since(view.finished)),
    }
}

#[cfg(test)]
mod tests {
    use tare_model::{Exit, ExitRecord};

    use super::*;

    const NOW: u64 = 1_700_000_000_000_000_000;

    fn view(status: Status, code: u8) -> StateView {
        let exit = ExitRecord { exit: Exit::Code(code), at: NOW, oom_killed: false, error: None };
        StateView {
            status,
            started: Some(NOW - 3_000_000_000),
            finished: Some(NOW - 125_000_000_000),
            exit: Some(exit),
            ..Default::default()
        }
    }

    #[test]
    fn sentences_are_dockers() {
        for (status, text) in [
            (Status::Created, "Created"),
            (Status::Running, "Up 3 seconds"),
            (Status::Paused, "Up 3 seconds (Paused)"),
            (Status::Restarting, "Restarting (137) 2 minutes ago"),
            (Status::Removing, "Removal In Progress"),
            (Status::Dead, "Dead"),
            (Status::Exited, "Exited (137) 2 minutes ago"),
        ] {
            assert_eq!(sentence(&view(status, 137), NOW), text);
        }
    }

    #[test]
    fn a_clock_that_went_back_shows_no_negative_time() {
        assert_eq!(sentence(&view(Status::Running, 0), 0), "Up Less than a second");
    }

    #[test]
    fn what_runs_has_no_exit_code_and_what_never_ran_no_times() {
        let running = state(&view(Status::Paused, 3));
        assert_eq!((running.exit_code, running.running, running.paused), (Some(0), Some(true), Some(true)));
        let fresh = state(&StateView::default());
        assert_eq!(fresh.started_at.as_deref(), Some(stamp::NEVER));
        assert_eq!((fresh.pid, fresh.health), (Some(0), None));
    }

    #[test]
    fn a_failed_start_keeps_its_code_and_reason() {
        let failed =
            StateView { start_failure: Some(127), error: "no such file".into(), ..Default::default() };
        let shown = state(&failed);
        assert_eq!((shown.exit_code, shown.error.as_deref()), (Some(127), Some("no such file")));
        assert_eq!(shown.status, Some(Word::CREATED));
    }
}
