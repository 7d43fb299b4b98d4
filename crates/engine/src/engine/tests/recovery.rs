//! The engine goes and comes back: what was acknowledged is there, what happened meanwhile is known.

use std::path::PathBuf;

use tare_model::{ContainerId, Exit};
use tare_shim::record::{State, Writer};

use super::fake::record;
use super::*;
use crate::api::options::WaitCondition;

fn run_dir(config: &EngineConfig, id: &ContainerId) -> PathBuf {
    config.run_dir.join("containers").join(id.as_str())
}

/// What a monitor writes that has seen its container end.
fn write_exit(config: &EngineConfig, id: &ContainerId, exit: Exit) {
    let dir = std::fs::File::open(run_dir(config, id)).expect("run directory");
    let mut writer = Writer::create(&dir, 77).expect("record");
    writer.write(State::Exited { pid: 7, started_at: 5, exit: record(exit) }).expect("writes");
}

#[tokio::test]
async fn what_was_created_is_there_again() {
    let room = Room::new().await;
    let id = room.create_with("web", |c| c.hostname = "box".into()).await;
    let before = room.engine.inspect("web").expect("there");
    let room = room.reopen().await;
    let after = room.engine.inspect("web").expect("there");
    assert_eq!((after.id.clone(), after.fixed.clone(), after.created), (id, before.fixed, before.created));
    assert_eq!(room.status("web"), "created");
}

#[tokio::test]
async fn what_runs_is_taken_over() {
    let room = Room::new().await;
    let id = room.run("web").await;
    let before = room.engine.inspect("web").expect("there").state;
    let room = room.reopen().await;
    let after = room.engine.inspect("web").expect("there").state;
    assert_eq!((after.status, after.pid, after.shim_pid), (before.status, before.pid, before.shim_pid));
    assert_eq!(after.started, before.started);
    let waiter = room.engine.wait("web", WaitCondition::NotRunning).expect("registers");
    room.world.exit(&id, 6);
    assert_eq!(waiter.await.expect("ends").code, 6);
}

#[tokio::test]
async fn what_is_frozen_is_frozen_still() {
    let room = Room::new().await;
    room.run("web").await;
    room.engine.pause("web").await.expect("freezes");
    let room = room.reopen().await;
    assert_eq!(room.status("web"), "paused");
    room.engine.unpause("web").await.expect("thaws");
}

#[tokio::test]
async fn what_ended_meanwhile_has_its_exit_code() {
    let room = Room::new().await;
    let id = room.run("web").await;
    let room = room
        .reopen_after(|config, world| {
            world.kill_shim(&id);
            write_exit(config, &id, Exit::Code(42));
        })
        .await;
    let state = room.engine.inspect("web").expect("there").state;
    assert_eq!((state.status.as_str(), state.exit_code(), state.error.as_str()), ("exited", 42, ""));
    assert_eq!(
        room.world.cleaned().len(),
        1,
        "its monitor may have been killed before it removed its groups"
    );
    let room = room.reopen().await;
    assert_eq!(room.engine.inspect("web").expect("there").state.exit_code(), 42);
    assert_eq!(room.world.cleaned().len(), 1, "once is enough");
}

#[tokio::test]
async fn what_removes_itself_and_ended_meanwhile_is_gone() {
    let room = Room::new().await;
    let id = room.create_with("once", |c| c.auto_remove = true).await;
    room.engine.start("once", Default::default()).await.expect("starts");
    let paths = room.engine.inspect("once").expect("there").fixed.paths.clone();
    let room = room
        .reopen_after(|config, world| {
            world.kill_shim(&id);
            write_exit(config, &id, Exit::Code(0));
        })
        .await;
    assert!(room.engine.inspect("once").is_err());
    assert!(!paths.run_dir.exists() && !paths.state_dir.exists());
}

#[tokio::test]
async fn what_removes_itself_and_failed_to_start_meanwhile_is_gone() {
    let room = Room::new().await;
    let id = room.create_with("once", |c| c.auto_remove = true).await;
    let paths = room.engine.inspect("once").expect("there").fixed.paths.clone();
    let room = room
        .reopen_after(|config, _| {
            std::fs::create_dir_all(run_dir(config, &id)).expect("made by the start");
            let dir = std::fs::File::open(run_dir(config, &id)).expect("run directory");
            let mut writer = Writer::create(&dir, 77).expect("record");
            writer.write(State::Failed { error: tare_model::Error::system("no") }).expect("writes");
        })
        .await;
    assert!(room.engine.inspect("once").is_err());
    assert!(!paths.run_dir.exists() && !paths.state_dir.exists());
}

#[tokio::test]
async fn an_exit_that_was_told_is_not_forgotten() {
    let room = Room::new().await;
    let id = room.run("web").await;
    let waiter = room.engine.wait("web", WaitCondition::NotRunning).expect("registers");
    room.world.exit(&id, 7);
    assert_eq!(waiter.await.expect("ends").code, 7);
    // Killed as soon as somebody knew; nothing but the database is left to say so.
    let room =
        room.reopen_after(|config, _| std::fs::remove_dir_all(run_dir(config, &id)).expect("gone")).await;
    let state = room.engine.inspect("web").expect("there").state;
    assert_eq!((state.status.as_str(), state.exit_code(), state.error.as_str()), ("exited", 7, ""));
    assert!(state.finished.is_some() && !room.world.runs(&id));
}

#[tokio::test]
async fn what_lost_its_monitor_meanwhile_is_cleaned_up_and_says_why() {
    let room = Room::new().await;
    let id = room.run("web").await;
    let room = room
        .reopen_after(|config, world| {
            world.kill_shim(&id);
            let dir = std::fs::File::open(run_dir(config, &id)).expect("run directory");
            // No process has this number.
            let mut writer = Writer::create(&dir, 999_999_999).expect("record");
            writer.write(State::Running { pid: 7, started_at: 5 }).expect("writes");
        })
        .await;
    let state = room.engine.inspect("web").expect("there").state;
    assert_eq!((state.status.as_str(), state.exit_code()), ("exited", 137));
    assert_eq!(state.error, "its monitor (tare-shim PID 999999999) was killed");
    assert_eq!(room.world.cleaned().len(), 1);
}

#[tokio::test]
async fn after_a_reboot_everything_has_ended() {
    let room = Room::new().await;
    let id = room.run("web").await;
    room.create("idle").await;
    let room = room
        .reopen_after(|config, world| {
            world.kill_shim(&id);
            std::fs::remove_dir_all(&config.run_dir).expect("emptied");
            std::fs::create_dir_all(&config.run_dir).expect("made");
        })
        .await;
    let state = room.engine.inspect("web").expect("there").state;
    assert_eq!((state.status.as_str(), state.error.as_str()), ("exited", "host restarted"));
    assert_eq!(room.status("idle"), "created");
    room.engine.start("web", Default::default()).await.expect("starts again");
}

#[tokio::test]
async fn directories_that_a_power_cut_took_are_made_again_at_the_start() {
    let room = Room::new().await;
    room.create("web").await;
    let paths = room.engine.inspect("web").expect("there").fixed.paths.clone();
    let room = room
        .reopen_after(|config, _| {
            std::fs::remove_dir_all(config.root.join("containers")).expect("lost");
        })
        .await;
    room.engine.start("web", Default::default()).await.expect("starts");
    let upper = paths.upper.expect("an overlay");
    assert!(upper.is_dir() && paths.work.expect("an overlay").is_dir());
    let hidden = upper.join("root");
    assert!(hidden.is_dir(), "what hides the engine is there again, too");
}

#[tokio::test]
async fn a_start_that_was_cut_short_before_its_monitor_is_as_before() {
    let room = Room::new().await;
    let id = room.run("web").await;
    // The monitor never came to write its record.
    let room = room.reopen_after(|_, world| world.kill_shim(&id)).await;
    let state = room.engine.inspect("web").expect("there").state;
    assert_eq!((state.status.as_str(), state.starts), ("created", 0));
    room.engine.start("web", Default::default()).await.expect("starts");
}

#[tokio::test]
async fn what_no_record_explains_is_cleaned_up() {
    let room = Room::new().await;
    let stranger = ContainerId::from_bytes([0xee; 32]);
    let room = room
        .reopen_after(|config, _| {
            std::fs::create_dir_all(run_dir(config, &stranger)).expect("made");
            std::fs::create_dir_all(config.root.join("containers").join(stranger.as_str())).expect("made");
        })
        .await;
    assert_eq!(room.world.cleaned()[0].0, stranger);
    assert!(!run_dir(&room.config, &stranger).exists());
}

#[tokio::test]
async fn a_second_engine_on_the_same_root_is_refused() {
    let room = Room::new().await;
    let e = open_store(&room.config).await.map(drop).expect_err("locked");
    assert_eq!(e.kind(), tare_model::ErrorKind::Conflict);
}

#[tokio::test]
async fn an_engine_without_running_containers_leaves_no_group() {
    let room = Room::new().await;
    let id = room.run("web").await;
    room.engine.retire().await;
    assert!(room.world.cleaned().is_empty(), "it runs");
    room.world.exit(&id, 0);
    soon("exited", || room.status("web") == "exited").await;
    room.engine.retire().await;
    assert_eq!(room.world.cleaned()[0].1, room.engine.core.cgroup_parent);
}

#[tokio::test]
async fn many_containers_come_back_side_by_side() {
    let room = Room::new().await;
    for n in 0..100 {
        room.run(&format!("c{n}")).await;
    }
    let room = room.reopen().await;
    assert_eq!(room.engine.list(&Default::default()).expect("lists").len(), 100);
}
