//! Coming back: what the database says, what the records in the run directory say, and which monitors live.
//!
//! | database | run directory | monitor | then |
//! |---|---|---|---|
//! | any | - | answers | it runs (or ended just now): taken over |
//! | any | record: exited | gone | exited as recorded; what is left of it is cleaned up; `--rm` ones are removed now |
//! | was running, or `--rm` | record: failed | gone | the start failed, as recorded; `--rm` ones are removed now |
//! | any | record: running, starting | gone | its remains are cleaned up; exited 137, naming the monitor |
//! | was running | no record | gone | the start was never made: as before it |
//! | was running | no directory | - | exited 255: the host was restarted |
//! | no record | directory | any | nobody knows it: ended, cleaned up |

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use tare_model::{ContainerId, ErrorKind, Exit, ExitRecord, Result};
use tare_shim::record::{NAME, Record, State};
use tare_store::Durability;

use super::container::{Container, run_directory};
use super::core::Core;
use super::driver::{Driver, Found, enlist};
use super::handle::Verb;
use super::networking;
use crate::clock;
use crate::networks::Attached;
use crate::spec::plan::cgroups_path;
use crate::work;

/// Containers looked at side by side.
const SIDE_BY_SIDE: usize = 64;
/// How often, and how far apart, a monitor that lives and does not listen yet is asked.
const ASKED: usize = 100;
const APART: Duration = Duration::from_millis(20);

/// What became of a container while no engine ran.
enum Fate {
    /// What the database says is so.
    AsRecorded,
    /// It runs.
    Runs(Box<Found>, u64),
    /// It has ended.
    Ended(ExitRecord, Option<u64>),
    /// The start that the database expects was never made.
    NeverStarted,
    /// The start that the database expects failed.
    Failed(String),
}

/// What is taken over.
#[derive(Default)]
struct Adopted {
    drivers: Vec<Driver>,
    /// Containers that run, with what they have of networks.
    running: Vec<(ContainerId, Attached)>,
    /// The same of those that ended while no engine ran.
    gone: Vec<(ContainerId, Attached)>,
}

/// Takes over what is there.
///
/// # Errors
/// The database or the run directory cannot be read.
pub(crate) async fn recover(core: &Arc<Core>) -> Result<()> {
    let store = Arc::clone(&core.store);
    let records = work::blocking(move || store.containers().all()).await?;
    let mut present = run_directories(&core.run_dir)?;
    let mut containers = Vec::new();
    for record in records {
        let id = record.id.clone();
        match Container::read(record, &core.root, &core.run_dir) {
            Ok(container) => containers.push((present.remove(&id), container)),
            // Left alone, with its processes: a newer tared may understand it.
            Err(e) => {
                present.remove(&id);
                tracing::error!("{e}");
            }
        }
    }
    let all = Mutex::new(Adopted::default());
    let strangers =
        futures_util::stream::iter(present).for_each_concurrent(SIDE_BY_SIDE, |id| stranger(core, id));
    let known = futures_util::stream::iter(containers)
        .for_each_concurrent(SIDE_BY_SIDE, |(has_dir, container)| adopt(core, container, has_dir, &all));
    tokio::join!(strangers, known);
    let Adopted { drivers, running, gone } = all.into_inner().unwrap_or_else(PoisonError::into_inner);
    restore_networks(core, &running, gone).await?;
    for (id, attached) in running.iter().filter(|(_, attached)| !attached.faults.is_empty()) {
        if let Err(e) = fault_again(core, id, attached).await {
            tracing::error!(container = id.as_str(), "let its network go wrong again: {e}");
        }
    }
    // Not before: one that ends gives back what has to be there to be given back.
    for driver in drivers {
        tokio::spawn(driver.run());
    }
    tokio::spawn(serve_names(Arc::clone(core), running));
    Ok(())
}

/// Without its rules nothing of a container's is safe: an engine that cannot restore them does not start.
async fn restore_networks(
    core: &Arc<Core>,
    running: &[(ContainerId, Attached)],
    gone: Vec<(ContainerId, Attached)>,
) -> Result<()> {
    let gone = Arc::new(gone);
    let mut attempts = 0..ASKED;
    loop {
        let kept = kept(core, running).await;
        let is_new = kept.is_none();
        let (networks, all, gone) = (Arc::clone(&core.networks), running.to_vec(), Arc::clone(&gone));
        match work::blocking(move || networks.restore(&all, &gone, kept)).await {
            // They are kept by a monitor that is just ending and answers no more.
            Err(e) if e.kind() == ErrorKind::Conflict && attempts.next().is_some() => {
                tokio::time::sleep(APART).await;
            }
            Ok(()) if is_new => {
                give_all_to_keep(core, running).await;
                return Ok(());
            }
            restored => return restored,
        }
    }
}

/// Nobody has what isolates these: they were started by an engine that gave them nothing, or that was killed before it did.
async fn give_all_to_keep(core: &Core, running: &[(ContainerId, Attached)]) {
    for (id, _) in running {
        let monitor = core.table.get(id.as_str()).ok().and_then(|handle| handle.now().monitor);
        if let Some(monitor) = monitor {
            networking::give_to_keep(core, id, monitor.as_ref()).await;
        }
    }
}

/// What the engine before us gave its monitors to keep. It is the same whoever has kept it.
async fn kept(core: &Core, running: &[(ContainerId, Attached)]) -> Option<OwnedFd> {
    for (id, _) in running {
        let Some(monitor) = core.table.get(id.as_str()).ok().and_then(|handle| handle.now().monitor) else {
            continue;
        };
        match monitor.kept().await {
            Ok(kept) => return Some(kept),
            Err(e) => tracing::debug!(container = id.as_str(), "ask for what its monitor keeps: {e}"),
        }
    }
    None
}

/// The engine before us may have been killed between the note of a fault and the fault.
async fn fault_again(core: &Core, id: &ContainerId, attached: &Attached) -> Result<()> {
    let Some(monitor) = core.table.get(id.as_str())?.now().monitor else { return Ok(()) };
    let sockets = monitor.network().await?;
    core.networks.fault_again(id, attached, sockets).await
}

/// Containers' questions about names have waited in their sockets, and go on doing so for a moment: nobody who wants
/// something of the engine waits for all of them. Each driver does it, so that it comes before a change or an end of its own.
async fn serve_names(core: Arc<Core>, running: Vec<(ContainerId, Attached)>) {
    let asks = running.into_iter().filter(|(_, attached)| attached.resolver.is_some());
    let serve = async |(id, _): (ContainerId, Attached)| {
        let Ok(handle) = core.table.get(id.as_str()) else { return };
        if let Err(e) = handle.tell(id.as_str(), Verb::ServeNames).await {
            tracing::error!(container = id.as_str(), "serve names to it: {e}");
        }
    };
    futures_util::stream::iter(asks).for_each_concurrent(SIDE_BY_SIDE, serve).await;
}

fn run_directories(run_dir: &Path) -> Result<BTreeSet<ContainerId>> {
    let dir = run_dir.join("containers");
    super::prepare::make_dir(&dir, 0o700)?;
    let fail = |e: std::io::Error| tare_model::Error::system(format!("readdir({}): {e}", dir.display()));
    let mut ids = BTreeSet::new();
    for entry in std::fs::read_dir(&dir).map_err(fail)? {
        ids.extend(
            entry.map_err(fail)?.file_name().to_str().and_then(|name| name.parse::<ContainerId>().ok()),
        );
    }
    Ok(ids)
}

/// A container that the database does not know: its removal or its creation was cut short.
async fn stranger(core: &Arc<Core>, id: ContainerId) {
    tracing::info!(container = id.as_str(), "in the run directory and not in the database: cleaned up");
    let path = cgroups_path(&Default::default(), &core.cgroup_parent, id.as_str());
    if let Err(e) = core.monitors.cleanup(&id, &path, vec![run_directory(&core.run_dir, &id)]).await {
        tracing::error!(container = id.as_str(), "clean up: {e}");
    }
}

/// Finds out what became of a container and gives it its driver.
async fn adopt(core: &Arc<Core>, mut me: Container, has_dir: bool, all: &Mutex<Adopted>) {
    let fate = fate(core, &me, has_dir).await;
    let before = me.life.clone();
    let (mut found, mut ended) = (None, false);
    let attached = if has_dir { me.noted() } else { None };
    match fate {
        Fate::AsRecorded => {}
        Fate::Runs(running, started) => {
            (me.life.running, me.life.started) = (true, Some(started));
            if let Some(attached) = &attached {
                core.networks.adopt(&me.id, me.name.as_str(), attached);
            }
            found = Some(Found { attached: attached.clone(), ..*running });
        }
        Fate::Ended(exit, started) => {
            me.life.started = started.or(me.life.started);
            me.life.error = exit.error.clone().unwrap_or_default();
            (me.life.running, me.life.exit) = (false, Some(exit));
            ended = true;
        }
        Fate::NeverStarted => {
            me.life.running = false;
            me.life.starts = me.life.starts.saturating_sub(1);
        }
        Fate::Failed(error) => {
            (me.life.running, me.life.start_failure, me.life.error) = (false, Some(128), error);
            ended = true;
        }
    }
    let changed = me.life != before && me.durability() == Durability::Disk;
    if found.is_none() && attached.is_some() {
        me.forget_note();
    }
    let (runs, id) = (found.is_some(), me.id.clone());
    let removes_itself = ended && me.made.fixed.config.auto_remove;
    let mut driver: Driver = enlist(core, me, found);
    if removes_itself {
        driver.remove_itself().await;
    } else if changed && let Err(e) = driver.save().await {
        tracing::error!("keep what became of a container: {e}");
    }
    let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
    all.drivers.push(driver);
    let of = if runs { &mut all.running } else { &mut all.gone };
    of.extend(attached.map(|attached| (id, attached)));
}

async fn fate(core: &Arc<Core>, me: &Container, has_dir: bool) -> Fate {
    if !has_dir {
        return match me.life.running {
            true => Fate::Ended(exit(Exit::Code(255), "host restarted".into()), None),
            false => Fate::AsRecorded,
        };
    }
    let dir = run_directory(&core.run_dir, &me.id);
    for _ in 0..ASKED {
        if let Some(fate) = ask(core, &dir).await {
            return fate;
        }
        let record = match Record::read(&dir.join(NAME)) {
            Ok(record) => record,
            Err(e) => return orphan(core, me, &e.to_string()).await,
        };
        match record {
            None if me.life.running => return Fate::NeverStarted,
            None => return Fate::AsRecorded,
            Some(Record { state: State::Exited { exit, started_at, .. }, .. }) => {
                if me.life.exit.as_ref() == Some(&exit) && !me.life.running {
                    return Fate::AsRecorded;
                }
                // The monitor says how it ended before it removes its groups; it may have been killed in between.
                if let Err(e) = clean_up(core, me).await {
                    tracing::error!(container = me.id.as_str(), "clean up: {e}");
                }
                return Fate::Ended(exit, Some(started_at));
            }
            Some(Record { state: State::Failed { error }, .. }) => {
                // That one that removes itself was started is not recorded; the record here is of its only start.
                let started = me.life.running || me.made.fixed.config.auto_remove;
                return if started { Fate::Failed(error.to_string()) } else { Fate::AsRecorded };
            }
            // It lives and does not listen: at its very beginning, or at its very end.
            Some(Record { shim_pid, .. }) if lives(shim_pid) => tokio::time::sleep(APART).await,
            Some(Record { shim_pid, .. }) => {
                return orphan(core, me, &format!("its monitor (tare-shim PID {shim_pid}) was killed")).await;
            }
        }
    }
    orphan(core, me, "its monitor (tare-shim) does not answer").await
}

/// Asks the monitor, if there is one.
async fn ask(core: &Arc<Core>, dir: &Path) -> Option<Fate> {
    let (link, snapshot) = core.monitors.connect(&dir.join("shim.sock")).await.ok()?;
    let started = snapshot.started;
    Some(match snapshot.exited {
        Some(exit) => Fate::Ended(exit, Some(started.started_at)),
        None => Fate::Runs(
            Box::new(Found {
                link,
                pid: started.pid,
                shim_pid: started.shim_pid,
                paused: snapshot.paused,
                attached: None,
            }),
            started.started_at,
        ),
    })
}

/// Ends what a container without a monitor left.
async fn orphan(core: &Arc<Core>, me: &Container, why: &str) -> Fate {
    let error = match clean_up(core, me).await {
        Ok(()) => why.to_owned(),
        Err(e) => format!("{why}; {e}"),
    };
    Fate::Ended(exit(Exit::Signal(9), error), None)
}

async fn clean_up(core: &Arc<Core>, me: &Container) -> Result<()> {
    let path = cgroups_path(&me.made.fixed.config, &core.cgroup_parent, me.id.as_str());
    core.monitors.cleanup(&me.id, &path, Vec::new()).await
}

fn exit(exit: Exit, error: String) -> ExitRecord {
    ExitRecord { exit, at: clock::now(), oom_killed: false, error: Some(error) }
}

fn lives(pid: i32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}
