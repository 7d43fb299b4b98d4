//! Many callers and one container: whatever they do at once could have been done one after the other.
//!
//! In each round eight callers do something at the same moment. Then an order is searched in which the rules, applied
//! to one state after the other, give every caller the answer it got and end in the state that is seen afterwards.

use tare_model::{ErrorKind, Status};

use super::*;
use crate::api::exec::ExecConfig;
use crate::api::options::RemoveOptions;
use crate::lifecycle::rules::{Op, admit};

const CALLERS: usize = 8;
const ROUNDS: usize = 300;

/// What a caller was answered: nothing wrong, or the kind of the error.
type Answer = Option<ErrorKind>;
/// `None`: there is no such container any more.
type State = Option<Status>;

const OPS: [Op; 10] = [
    Op::Start,
    Op::Start,
    Op::Stop,
    Op::Restart,
    Op::Kill,
    Op::Pause,
    Op::Unpause,
    Op::Rename,
    Op::Exec,
    Op::Remove { force: true },
];

/// A sequence of numbers that look random, the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).expect("small") % sides
    }
}

async fn act(engine: &Engine, id: &str, op: Op, name: String) -> Answer {
    let done = match op {
        Op::Start => engine.start(id, Default::default()).await,
        Op::Stop => engine.stop(id, Default::default()).await,
        Op::Restart => engine.restart(id, Default::default()).await,
        Op::Kill => engine.kill(id, tare_model::Signal::KILL).await,
        Op::Pause => engine.pause(id).await,
        Op::Unpause => engine.unpause(id).await,
        Op::Rename => engine.rename(id, name.parse().expect("valid")).await,
        Op::Remove { force } => engine.remove(id, RemoveOptions { force, volumes: false }).await,
        Op::Exec => {
            let config = ExecConfig { cmd: vec!["true".into()], ..Default::default() };
            engine.exec_create(id, config).await.map(drop)
        }
        Op::Attach | Op::Resize | Op::Top | Op::Update => unreachable!("not among those drawn"),
    };
    done.err().map(|e| e.kind())
}

/// What `op` may do to a container in `state`: the answers a caller may get, each with the state afterwards.
fn may(op: Op, state: State) -> Vec<(Answer, State)> {
    let Some(status) = state else {
        // Whoever waited for the end of what another removed gets what it wanted, or hears that it cannot.
        let late = match op {
            Op::Remove { .. } => Some((None, None)),
            Op::Start | Op::Restart => Some((Some(ErrorKind::Conflict), None)),
            _ => None,
        };
        return [(Some(ErrorKind::NotFound), None)].into_iter().chain(late).collect();
    };
    let after = match op {
        Op::Start | Op::Restart | Op::Unpause => Some(Status::Running),
        Op::Stop | Op::Kill => Some(Status::Exited),
        Op::Pause => Some(Status::Paused),
        Op::Remove { .. } => None,
        _ => state,
    };
    let by_the_rules = match admit(op, status, "c") {
        Ok(_) => (None, after),
        Err(e) => (Some(e.kind()), state),
    };
    // Two who ask for the same end are both served by it.
    let shared = (op == Op::Stop && status == Status::Exited).then_some((None, state));
    [by_the_rules].into_iter().chain(shared).collect()
}

/// What ends a container takes steps, which others may see: it is thawed, it has ended, and only then is it started
/// again or removed.
fn steps(state: State, round: &[(Op, Answer)]) -> &'static [Status] {
    let ends = |op: &Op| matches!(op, Op::Stop | Op::Kill | Op::Restart | Op::Remove { .. });
    match state {
        _ if !round.iter().any(|(op, answer)| ends(op) && answer.is_none()) => &[],
        Some(Status::Paused) => &[Status::Running, Status::Exited],
        Some(Status::Running) => &[Status::Exited],
        _ => &[],
    }
}

fn order_exists(left: &[(Op, Answer)], state: State, end: State, round: &[(Op, Answer)]) -> bool {
    if left.is_empty() {
        return state == end;
    }
    let acted = (0..left.len()).any(|n| {
        let mut rest = left.to_vec();
        let (op, answer) = rest.swap_remove(n);
        let fitting = may(op, state).into_iter().filter(|(a, _)| *a == answer);
        fitting.map(|(_, after)| after).any(|after| order_exists(&rest, after, end, round))
    });
    acted || steps(state, round).iter().any(|next| order_exists(left, Some(*next), end, round))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn eight_callers_at_once_are_served_as_if_one_after_the_other() {
    let room = Room::new().await;
    let mut dice = Dice(7);
    let mut names = 0..;
    let mut name = move || format!("c{}", names.next().unwrap_or(0));
    let mut id = room.create(&name()).await;
    for n in 0..ROUNDS {
        let status = |id: &ContainerId| room.engine.inspect(id.as_str()).ok().map(|view| view.state.status);
        let Some(before) = status(&id) else {
            id = room.create(&name()).await;
            continue;
        };
        let barrier = Arc::new(tokio::sync::Barrier::new(CALLERS));
        let callers: Vec<_> = (0..CALLERS)
            .map(|_| {
                let (engine, barrier) = (Arc::clone(&room.engine), Arc::clone(&barrier));
                let (op, name, id) = (OPS[dice.roll(OPS.len())], name(), id.clone());
                tokio::spawn(async move {
                    barrier.wait().await;
                    (op, act(&engine, id.as_str(), op, name).await)
                })
            })
            .collect();
        let mut round = Vec::new();
        for caller in callers {
            round.push(caller.await.expect("no panic"));
        }
        let after = status(&id);
        let internal =
            |kind| !matches!(kind, ErrorKind::Conflict | ErrorKind::NotModified | ErrorKind::NotFound);
        assert!(!round.iter().any(|(_, answer)| answer.is_some_and(internal)), "round {n}: {round:?}");
        assert!(
            order_exists(&round, Some(before), after, &round),
            "round {n}: no order of {round:?} leads from {before:?} to {after:?}"
        );
    }
}
