//! Lives of containers, from create to remove.

use futures_util::FutureExt;
use tare_model::container::{MountConfig, MountSource};
use tare_model::sandbox::Rootfs;
use tare_model::{ErrorKind, Signal};
use tare_shim::protocol::Event;

use super::*;
use crate::api::options::{ListFilter, RemoveOptions, StopOptions, StopTimeout, WaitCondition};

const FORCE: RemoveOptions = RemoveOptions { force: true, volumes: false };

fn after(ms: u64) -> StopOptions {
    StopOptions { signal: None, timeout: Some(StopTimeout::After(Duration::from_millis(ms))) }
}

#[tokio::test]
async fn a_container_is_created_started_and_ends() {
    let room = Room::new().await;
    let mut events = room.engine.events(None);
    let id = room.create("web").await;
    assert_eq!(room.status("web"), "created");
    let waiter = room.engine.wait("web", WaitCondition::NextExit).expect("registers");
    room.engine.start("web", Default::default()).await.expect("starts");
    let view = room.engine.inspect("web").expect("is there");
    assert_eq!((view.state.status.as_str(), view.state.starts), ("running", 1));
    assert!(view.state.pid.is_some() && view.state.started.is_some());
    room.world.exit(&id, 3);
    assert_eq!(waiter.await.expect("ends").code, 3);
    let view = room.engine.inspect("web").expect("is there");
    assert_eq!((view.state.status.as_str(), view.state.exit_code(), view.state.pid), ("exited", 3, None));
    room.engine.remove("web", Default::default()).await.expect("removes");
    assert_eq!(message(room.engine.inspect("web")), "No such container: web");
    assert_eq!(words(&mut events, 4).await, ["create", "start", "die", "destroy"]);
}

#[tokio::test]
async fn a_creation_whose_caller_hangs_up_is_whole_or_never_was() {
    let room = Room::new().await;
    for n in 0..40 {
        let name = format!("c{n}");
        let mut creation = Box::pin(room.engine.create(Some(name.parse().expect("valid")), room.config()));
        // Hangs up after so many steps.
        for _ in 0..n % 4 {
            if (&mut creation).now_or_never().is_some() {
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(creation);
    }
    let kept = || room.engine.core.store.containers().all().expect("records");
    let made = || room.engine.list(&ListFilter { all: true, ..Default::default() }).expect("lists");
    soon("records and containers agree", || !made().is_empty() && made().len() == kept().len()).await;
    let directories = || std::fs::read_dir(room.config.root.join("containers")).expect("lists").count();
    soon("directories and containers agree", || made().len() == directories()).await;
    for container in made() {
        room.engine.remove(container.id.as_str(), FORCE).await.expect("can be removed");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_image_is_not_removed_under_a_container_in_the_making() {
    let room = Room::new().await;
    for n in 0..60 {
        let archive = Box::new(std::io::Cursor::new(vec![0; 1024]));
        let name = format!("image{n}:1");
        let reference = Some(name.parse().expect("valid"));
        room.engine.import(archive, reference, Default::default()).await.expect("imports");
        let mut config = room.config();
        config.image = ImageSource::Image { name: name.clone() };
        let create = room.engine.create(None, config);
        let (created, removed) = tokio::join!(create, room.engine.remove_image(&name, false));
        assert!(created.is_ok() != removed.is_ok(), "{n}: {created:?} {removed:?}");
        if let Ok(created) = created {
            let id = created.id.as_str();
            room.engine.start(id, Default::default()).await.expect("its image is there");
            room.engine.remove(id, FORCE).await.expect("removes");
            room.engine.remove_image(&name, false).await.expect("nobody uses it");
        }
    }
}

#[tokio::test]
async fn starting_what_runs_and_stopping_what_does_not_is_not_modified() {
    let room = Room::new().await;
    room.run("web").await;
    let e = room.engine.start("web", Default::default()).await.expect_err("runs");
    assert_eq!(e.kind(), ErrorKind::NotModified);
    room.engine.stop("web", Default::default()).await.expect("stops");
    let e = room.engine.stop("web", Default::default()).await.expect_err("stopped");
    assert_eq!(e.kind(), ErrorKind::NotModified);
}

#[tokio::test]
async fn stop_asks_first_and_kills_when_patience_is_over() {
    let room = Room::new().await;
    let id = room.run("deaf").await;
    let shim = room.world.shim(&id);
    shim.deafen();
    room.engine.stop("deaf", after(20)).await.expect("stops");
    assert_eq!(shim.signals(), [15, 9]);
    assert_eq!(room.engine.inspect("deaf").expect("is there").state.exit_code(), 137);
}

#[tokio::test]
async fn the_shortest_patience_of_two_stops_counts_and_both_are_answered() {
    let room = Room::new().await;
    let id = room.run("deaf").await;
    room.world.shim(&id).deafen();
    let never = StopOptions { signal: None, timeout: Some(StopTimeout::Never) };
    let (slow, quick) = tokio::join!(room.engine.stop("deaf", never), room.engine.stop("deaf", after(20)));
    slow.expect("stops");
    quick.expect("stops");
}

#[tokio::test]
async fn a_containers_own_stop_signal_and_timeout_are_used() {
    let room = Room::new().await;
    let id = room
        .create_with("own", |c| {
            c.stop_signal = Some(Signal::INT);
            c.stop_timeout = Some(0);
        })
        .await;
    room.engine.start("own", Default::default()).await.expect("starts");
    let shim = room.world.shim(&id);
    room.engine.stop("own", Default::default()).await.expect("stops");
    assert_eq!(shim.signals(), [9], "no patience at all");
    room.engine.start("own", Default::default()).await.expect("starts");
    let shim = room.world.shim(&id);
    shim.deafen();
    room.engine.stop("own", after(10)).await.expect("stops");
    assert_eq!(shim.signals(), [2, 9]);
}

#[tokio::test]
async fn sigkill_returns_when_it_has_ended() {
    let room = Room::new().await;
    room.run("web").await;
    room.engine.kill("web", Signal::HUP).await.expect("a signal");
    assert_eq!(room.status("web"), "running");
    room.engine.kill("web", Signal::KILL).await.expect("killed");
    assert_eq!(room.status("web"), "exited");
    let e = room.engine.kill("web", Signal::KILL).await.expect_err("ended");
    assert_eq!(e.kind(), ErrorKind::Conflict);
}

#[tokio::test]
async fn a_frozen_container_is_thawed_to_be_stopped() {
    let room = Room::new().await;
    room.run("web").await;
    room.engine.pause("web").await.expect("freezes");
    assert_eq!(room.status("web"), "paused");
    assert!(message(room.engine.start("web", Default::default()).await).contains("unpause"));
    room.engine.stop("web", Default::default()).await.expect("stops");
    assert_eq!(room.engine.inspect("web").expect("is there").state.exit_code(), 143);
}

#[tokio::test]
async fn pause_and_unpause_are_told_in_order() {
    let room = Room::new().await;
    room.create("web").await;
    let mut events = room.engine.events(None);
    room.engine.start("web", Default::default()).await.expect("starts");
    room.engine.pause("web").await.expect("freezes");
    assert!(message(room.engine.pause("web").await).contains("already paused"));
    room.engine.unpause("web").await.expect("thaws");
    assert!(message(room.engine.unpause("web").await).contains("not paused"));
    assert_eq!(words(&mut events, 3).await, ["start", "pause", "unpause"]);
}

#[tokio::test]
async fn a_restart_ends_and_starts_it() {
    let room = Room::new().await;
    let id = room.run("web").await;
    let mut events = room.engine.events(None);
    room.engine.restart("web", Default::default()).await.expect("restarts");
    assert_eq!(words(&mut events, 4).await, ["kill", "die", "start", "restart"]);
    assert_eq!((room.status("web"), room.engine.inspect("web").expect("there").state.starts), ("running", 2));
    room.world.exit(&id, 0);
    soon("exited", || room.status("web") == "exited").await;
    room.engine.restart("web", Default::default()).await.expect("starts what does not run");
    assert_eq!(room.status("web"), "running");
}

#[tokio::test]
async fn a_running_container_is_removed_by_force_only() {
    let room = Room::new().await;
    let id = room.run("web").await;
    let paths = room.engine.inspect("web").expect("there").fixed.paths.clone();
    assert!(paths.upper.as_ref().is_some_and(|p| p.is_dir()) && paths.hosts.is_file());
    let text = message(room.engine.remove("web", Default::default()).await);
    assert!(text.contains("stop the container before removing or force remove"), "{text}");
    room.engine.remove("web", FORCE).await.expect("removes");
    assert!(!room.world.runs(&id));
    assert!(!paths.state_dir.exists() && !paths.run_dir.exists());
    assert!(room.engine.list(&Default::default()).expect("lists").is_empty());
}

#[tokio::test]
async fn two_forced_removals_are_both_served() {
    let room = Room::new().await;
    room.run("web").await;
    let (a, b) = tokio::join!(room.engine.remove("web", FORCE), room.engine.remove("web", FORCE));
    a.expect("removes");
    assert!(b.is_ok() || b.is_err_and(|e| e.kind() == ErrorKind::NotFound));
}

#[tokio::test]
async fn one_that_removes_itself_is_gone_after_its_end_and_tells_its_code() {
    let room = Room::new().await;
    let id = room.create_with("once", |c| c.auto_remove = true).await;
    let mut events = room.engine.events(None);
    let removed = room.engine.wait("once", WaitCondition::Removed).expect("registers");
    room.engine.start("once", Default::default()).await.expect("starts");
    let paths = room.engine.inspect("once").expect("there").fixed.paths.clone();
    room.world.exit(&id, 7);
    assert_eq!(removed.await.expect("removed").code, 7);
    assert!(room.engine.inspect("once").is_err());
    assert!(!paths.state_dir.exists() && !paths.run_dir.exists());
    assert_eq!(words(&mut events, 3).await, ["start", "die", "destroy"]);
}

#[tokio::test]
async fn what_removes_itself_is_mounted_volatile_and_nothing_else_is() {
    let room = Room::new().await;
    for auto_remove in [true, false] {
        room.create_with("web", |c| c.auto_remove = auto_remove).await;
        room.engine.start("web", Default::default()).await.expect("starts");
        match room.world.last_request().spec.rootfs {
            Rootfs::Overlay { volatile, .. } => assert_eq!(volatile, auto_remove),
            other => panic!("{other:?}"),
        }
        room.engine.remove("web", FORCE).await.expect("removes");
    }
}

#[tokio::test]
async fn a_restart_does_not_remove_what_removes_itself() {
    let room = Room::new().await;
    room.create_with("once", |c| c.auto_remove = true).await;
    room.engine.start("once", Default::default()).await.expect("starts");
    room.engine.restart("once", Default::default()).await.expect("restarts");
    assert_eq!(room.status("once"), "running");
}

#[tokio::test]
async fn a_start_that_fails_says_so_as_docker_does() {
    let room = Room::new().await;
    room.create("web").await;
    room.world.refuse(ErrorKind::CommandNotFound, "exec: \"x\": executable file not found in $PATH");
    let e = room.engine.start("web", Default::default()).await.expect_err("refused");
    assert_eq!(e.kind(), ErrorKind::CommandNotFound);
    let state = room.engine.inspect("web").expect("there").state;
    assert_eq!((state.status.as_str(), state.exit_code()), ("created", 127));
    assert!(state.error.contains("executable file not found"));
    room.engine.start("web", Default::default()).await.expect("starts now");
    assert_eq!(room.engine.inspect("web").expect("there").state.error, "");
}

#[tokio::test]
async fn a_start_that_fails_removes_what_removes_itself() {
    let room = Room::new().await;
    room.create_with("once", |c| c.auto_remove = true).await;
    let removed = room.engine.wait("once", WaitCondition::Removed).expect("registers");
    room.world.refuse(ErrorKind::CommandNotExecutable, "permission denied");
    room.engine.start("once", Default::default()).await.expect_err("refused");
    let result = removed.await.expect("removed");
    assert_eq!((result.code, result.error.as_deref()), (126, Some("permission denied")));
    assert!(room.engine.inspect("once").is_err());
}

#[tokio::test]
async fn a_killed_monitor_leaves_a_container_that_says_why() {
    let room = Room::new().await;
    let id = room.run("web").await;
    let shim = room.engine.inspect("web").expect("there").state.shim_pid.expect("has one");
    room.world.kill_shim(&id);
    soon("exited", || room.status("web") == "exited").await;
    let state = room.engine.inspect("web").expect("there").state;
    assert_eq!(state.exit_code(), 137);
    assert_eq!(state.error, format!("its monitor (tare-shim PID {shim}) was killed"));
    let (cleaned, path) = room.world.cleaned().remove(0);
    assert_eq!(cleaned, id);
    assert!(path.starts_with("/tare-") && path.ends_with(id.as_str()), "{path}");
}

#[tokio::test]
async fn what_a_monitor_could_not_remove_the_nursery_does() {
    let room = Room::new().await;
    let id = room.run("web").await;
    room.world.shim(&id).tell(Event::Leftovers(tare_model::Error::system("rmdir: EBUSY")));
    room.world.exit(&id, 0);
    soon("exited", || room.status("web") == "exited").await;
    assert_eq!(room.world.cleaned()[0].0, id);
}

#[tokio::test]
async fn memory_exhaustion_is_told() {
    let room = Room::new().await;
    let id = room.run("web").await;
    let mut events = room.engine.events(None);
    room.world.shim(&id).tell(Event::Oom);
    assert_eq!(words(&mut events, 1).await, ["oom"]);
}

#[tokio::test]
async fn waiting_for_what_does_not_run_ends_at_once() {
    let room = Room::new().await;
    room.create("web").await;
    let result = room.engine.wait("web", WaitCondition::NotRunning).expect("registers").await;
    assert_eq!(result.expect("at once").code, 0);
    assert!(room.engine.wait("nothing", WaitCondition::NotRunning).is_err());
}

#[tokio::test]
async fn a_restart_counts_as_an_end_for_those_who_wait() {
    let room = Room::new().await;
    room.run("web").await;
    let waiter = room.engine.wait("web", WaitCondition::NotRunning).expect("registers");
    room.engine.restart("web", Default::default()).await.expect("restarts");
    assert_eq!(waiter.await.expect("ended once").code, 143);
}

#[tokio::test]
async fn volumes_go_with_their_container_when_asked_or_when_it_removes_itself() {
    let room = Room::new().await;
    for (name, auto_remove, volumes, stays) in
        [("keeps", false, false, true), ("asked", false, true, false), ("once", true, false, false)]
    {
        let id = room
            .create_with(name, |c| {
                c.volumes.insert("/data".into());
                c.auto_remove = auto_remove;
            })
            .await;
        room.engine.start(name, Default::default()).await.expect("starts");
        let mount = room.engine.inspect(name).expect("there").fixed.mounts[0].clone();
        assert_eq!((mount.destination.as_str(), mount.writable), ("/data", true));
        assert!(mount.source.is_dir());
        let request = room.world.last_request();
        let binds = request.spec.oci.mounts().as_ref().expect("mounts").clone();
        assert!(binds.iter().any(|m| m.source().as_ref() == Some(&mount.source)));
        room.world.exit(&id, 0);
        if auto_remove {
            soon("removed", || room.engine.inspect(name).is_err()).await;
        } else {
            room.engine.wait(name, WaitCondition::NotRunning).expect("waits").await.expect("ended");
            room.engine.remove(name, RemoveOptions { force: false, volumes }).await.expect("removes");
        }
        assert_eq!(mount.source.exists(), stays, "{name}");
    }
}

#[tokio::test]
async fn what_cannot_be_is_refused_before_anything_is_made() {
    let room = Room::new().await;
    let missing = MountConfig {
        target: "/m".into(),
        source: MountSource::Bind {
            path: "/no/such/path".into(),
            propagation: String::new(),
            recursive: true,
            readonly_non_recursive: false,
            relabel: Default::default(),
        },
        readonly: false,
        create_source: false,
    };
    let config = ContainerConfig { mounts: vec![missing], ..room.config() };
    let text = message(room.engine.create(None, config).await);
    assert!(text.contains("bind source path does not exist: /no/such/path"), "{text}");
    let mut config = room.config();
    config.process.cmd = None;
    assert!(message(room.engine.create(None, config).await).contains("no command specified"));
    let containers = room.config.root.join("containers");
    assert_eq!(std::fs::read_dir(containers).expect("there").count(), 0);
}

#[tokio::test]
async fn the_generated_files_are_the_containers_own() {
    let room = Room::new().await;
    room.create_with("web", |c| c.hostname = "box".into()).await;
    room.engine.start("web", Default::default()).await.expect("starts");
    let paths = room.engine.inspect("web").expect("there").fixed.paths.clone();
    let read = |path| std::fs::read_to_string(path).expect("readable");
    assert_eq!(read(paths.hostname), "box\n");
    assert!(read(paths.hosts).contains("\tbox\n"));
    assert!(read(paths.resolv_conf).contains("nameserver"));
}

#[tokio::test]
async fn a_pid_namespace_is_lent_by_a_running_container_only() {
    let room = Room::new().await;
    room.create("lender").await;
    let join = |c: &mut ContainerConfig| {
        c.namespaces.pid = tare_model::container::NamespaceMode::Container { container: "lender".into() };
    };
    room.create_with("joiner", join).await;
    let text = message(room.engine.start("joiner", Default::default()).await);
    assert!(text.contains("cannot join namespace of a non running container: lender"), "{text}");
    room.engine.start("lender", Default::default()).await.expect("starts");
    room.engine.start("joiner", Default::default()).await.expect("starts");
    let pid = room.engine.inspect("lender").expect("there").state.pid.expect("runs");
    let spec = serde_json::to_string(&room.world.last_request().spec.oci).expect("serializes");
    assert!(spec.contains(&format!("/proc/{pid}/ns/pid")), "{spec}");
}

fn shares(n: u64) -> crate::Change {
    Box::new(move |config| {
        config.resources.cpu_shares = Some(n);
        Ok(())
    })
}

#[tokio::test]
async fn other_limits_are_in_force_shown_and_durable() {
    let room = Room::new().await;
    let mut events = room.engine.events(None);
    let id = room.run("web").await;
    assert!(room.engine.update("web", shares(77)).await.expect("updates").is_empty());
    let updates = room.world.shim(&id).updates();
    assert_eq!(updates.len(), 1);
    assert_eq!(updates[0].cpu().as_ref().and_then(|cpu| cpu.shares()), Some(77));
    assert!(updates[0].pids().is_none(), "what was not named stays");
    assert_eq!(words(&mut events, 3).await, ["create", "start", "update"]);
    let room = room.reopen().await;
    assert_eq!(room.engine.inspect("web").expect("is there").fixed.config.resources.cpu_shares, Some(77));
}

#[tokio::test]
async fn limits_of_what_does_not_run_are_for_the_next_start() {
    let room = Room::new().await;
    let id = room.create("web").await;
    room.engine.update("web", shares(77)).await.expect("updates");
    room.engine.start("web", Default::default()).await.expect("starts");
    assert!(room.world.shim(&id).updates().is_empty());
    let spec = room.world.last_request().spec.oci;
    let resources = spec.linux().as_ref().and_then(|linux| linux.resources().clone()).expect("limits");
    assert_eq!(resources.cpu().as_ref().and_then(|cpu| cpu.shares()), Some(77));
}

#[tokio::test]
async fn a_limit_that_is_refused_changes_nothing() {
    let room = Room::new().await;
    room.run("web").await;
    let weight: crate::Change = Box::new(|config| {
        config.resources.blkio_weight = Some(100);
        Ok(())
    });
    assert!(message(room.engine.update("web", weight).await).contains("block I/O weight"));
    let wrong: crate::Change = Box::new(|config| {
        config.resources.memory = Some(1);
        Ok(())
    });
    assert!(message(room.engine.update("web", wrong).await).contains("6MB"));
    let resources = room.engine.inspect("web").expect("is there").fixed.config.resources.clone();
    assert_eq!((resources.blkio_weight, resources.memory), (None, None));
    assert_eq!(message(room.engine.update("none", shares(5)).await), "No such container: none");
}

#[tokio::test]
async fn only_who_asked_for_a_network_is_told_that_there_is_none() {
    use tare_model::container::NetworkMode;
    let room = Room::new().await;
    for (network, told) in [
        (NetworkMode::Default, true),
        (NetworkMode::Bridge, true),
        (NetworkMode::None, false),
        (NetworkMode::Host, false),
    ] {
        let mut config = room.config();
        config.namespaces.network = network.clone();
        let created = room.engine.create(None, config).await.expect("creates");
        let warned = created.warnings.iter().any(|warning| warning.contains("no default network"));
        assert_eq!(warned, told, "{network:?}");
    }
    let mut config = room.config();
    config.namespaces.network = NetworkMode::Network { network: "nope".into() };
    let refused = room.engine.create(None, config).await.map(drop);
    assert_eq!(message(refused), "network nope not found");
}
