//! A running container: one handle for everything that can be done to it.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use oci_spec::runtime::LinuxResources;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use tare_model::sandbox::{ExecSpec, InterfaceStats, Launched, Running, SandboxSpec, Stats, Stdio};
use tare_model::{Error as ModelError, ErrorKind, Result as ModelResult, Signal};
use tare_sys::process::Namespaces;

use super::Runtime;
use crate::cgroup::usage::Usage;
use crate::cgroup::{Below, Cgroup, NO_GROUPS, OomWatch};
use crate::channel::Until;
use crate::error::{Call, Context, Error, Result};
use crate::label;
use crate::launch::{self, Joins, Resources};
use crate::mount::later::Later;
use crate::plan::{IdMaps, Layout, Manner, Plan};
use crate::seccomp::Program;
use crate::seccomp::listener::{Agent, Subject};
use crate::terminal_size;

/// A container with live processes.
pub struct Container {
    pub(crate) runtime: Runtime,
    pub(crate) spec: SandboxSpec,
    pub(crate) pid: i32,
    /// Absent when only what is left of a dead one is to be dealt with.
    pub(crate) pidfd: Option<OwnedFd>,
    pub(crate) cgroup: Cgroup,
    pub(crate) filter: Option<Arc<Program>>,
    pub(crate) oom: Option<OomWatch>,
    pub(crate) oom_kills: u64,
    /// Of its launch.
    pub(crate) later: Later,
}

// === impl Container ===

impl Container {
    /// As [`Running::exec`], with descriptors passed on after the three streams, and in groups below the container's own.
    ///
    /// # Errors
    /// As [`Running::exec`]; a group is not there.
    pub fn exec_with(
        &self,
        exec: &ExecSpec,
        stdio: Stdio,
        preserved: u32,
        groups: &[Below],
    ) -> ModelResult<Launched> {
        Ok(self.start(exec, stdio, preserved, groups)?)
    }

    /// Watches for kills for lack of memory from now on, see [`Running::oom_fd`].
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn watch_oom(&mut self) -> ModelResult<()> {
        self.oom = self.cgroup.oom_watch()?;
        self.oom_kills = self.oom.as_ref().and_then(|watch| watch.kills().ok()).unwrap_or(0);
        Ok(())
    }

    /// Whether every process is frozen.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn is_paused(&self) -> ModelResult<bool> {
        Ok(self.cgroup.is_frozen()?)
    }

    /// Everything that the kernel counts for it, under the names of `runc events --stats`.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn usage(&self) -> ModelResult<Usage> {
        Ok(self.cgroup.usage()?)
    }

    /// The root of the first process, if it is not that of its mount namespace, which is then not the container's own.
    fn root_elsewhere(&self) -> Result<Option<OwnedFd>> {
        if Layout::of(&self.spec.oci)?.has_new_mounts() {
            return Ok(None);
        }
        let path = format!("/proc/{}/root", self.pid);
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open(&path, flags, Mode::empty()).call(|| format!("open({path:?}, O_PATH)")).map(Some)
    }

    fn start(&self, exec: &ExecSpec, stdio: Stdio, preserved: u32, groups: &[Below]) -> Result<Launched> {
        let Some(pidfd) = &self.pidfd else {
            return Err(Error::new(ErrorKind::Conflict, "the container is not running"));
        };
        let entry = self.cgroup.entry_below(groups)?;
        let manner = Manner {
            terminal: matches!(stdio, Stdio::Terminal { .. }),
            die_with_parent: self.runtime.options().die_with_parent,
            gate: false,
            join_cgroups: !entry.tasks().is_empty(),
            keep_keyring: false,
            door: false,
        };
        let plan = Plan::exec(&self.spec, exec, manner)?;
        label::require_modules(&plan)?;
        let filter = self.filter.as_deref().filter(|_| !exec.privileged);
        let subject = Subject {
            id: self.spec.id.as_str(),
            oci: &self.spec.oci,
            bundle: std::path::Path::new(""),
            first: Some(self.pid),
        };
        let agent = Agent::of(filter, subject)?;
        let given = Resources {
            entry: &entry,
            joins: Joins::Process { pidfd: pidfd.as_fd(), kinds: plan.namespaces.listed },
            filter,
            listener: agent.as_ref(),
            cgroup_view: &[],
            init: None,
            door: None,
            gate: None,
            die_with_parent: manner.die_with_parent,
            terminal_size: terminal_size(&stdio),
            preserved,
            ids: self.ids(&plan)?,
            detached_layers: true,
            later: &self.later,
            root: self.root_elsewhere()?,
            subject: None,
            meet: &|_| Ok(()),
        };
        launch::launch(&plan, &given, stdio, Until::Executed)
    }

    fn ids(&self, plan: &Plan) -> Result<Option<IdMaps>> {
        match &plan.namespaces.ids {
            None if plan.namespaces.has_own(Namespaces::USER) => launch::userns::ids_of(self.pid).map(Some),
            known => Ok(known.clone()),
        }
    }

    fn takes_groups(&self, what: &str) -> ModelResult<()> {
        if self.cgroup.is_none() {
            return Err(ModelError::new(ErrorKind::Unsupported, format!("{what}: {NO_GROUPS}")));
        }
        Ok(())
    }

    /// What went through its network interfaces; empty if it has ended.
    pub fn networks(&self) -> BTreeMap<String, InterfaceStats> {
        self.interfaces().unwrap_or_default()
    }

    fn interfaces(&self) -> Option<BTreeMap<String, InterfaceStats>> {
        let text = std::fs::read_to_string(format!("/proc/{}/net/dev", self.pid)).ok()?;
        Some(interfaces(&text))
    }
}

impl Running for Container {
    fn exec(&mut self, spec: &ExecSpec, stdio: Stdio) -> ModelResult<Launched> {
        self.start(spec, stdio, 0, &[]).map_err(ModelError::from)
    }

    fn signal(&self, signal: Signal) -> ModelResult<()> {
        let sent = self
            .pidfd
            .as_ref()
            .map_or(Err(Errno::SRCH), |pidfd| tare_sys::pidfd::send_signal(pidfd.as_fd(), signal.number()));
        match sent {
            Err(Errno::SRCH) => Err(ModelError::conflict("the container's first process has ended")),
            other => Ok(other.call(|| format!("pidfd_send_signal({}, {signal})", self.pid))?),
        }
    }

    fn settle(&mut self) {
        self.later.drop_all();
    }

    fn pause(&mut self) -> ModelResult<()> {
        self.takes_groups("pausing")?;
        Ok(self.cgroup.freeze()?)
    }

    fn resume(&mut self) -> ModelResult<()> {
        Ok(self.cgroup.thaw()?)
    }

    fn update(&mut self, resources: &LinuxResources) -> ModelResult<Vec<String>> {
        self.takes_groups("limits")?;
        let known = self.cgroup.notes().len();
        self.cgroup.update(resources)?;
        Ok(self.cgroup.notes()[known..].to_vec())
    }

    fn stats(&self) -> ModelResult<Stats> {
        self.takes_groups("figures of what a container uses")?;
        let mut stats = self.cgroup.stats()?;
        stats.networks = self.networks();
        Ok(stats)
    }

    fn processes(&self) -> ModelResult<Vec<i32>> {
        if self.cgroup.is_none() {
            return Ok(descendants(std::process::id()));
        }
        Ok(self.cgroup.pids()?)
    }

    fn oom_fd(&self) -> Option<BorrowedFd<'_>> {
        self.oom.as_ref().map(AsFd::as_fd)
    }

    fn oom_killed(&mut self) -> bool {
        let kills = self.oom.as_ref().and_then(|watch| watch.kills().ok()).unwrap_or(0);
        let more = kills > self.oom_kills;
        self.oom_kills = self.oom_kills.max(kills);
        more
    }

    fn destroy(&mut self) -> ModelResult<()> {
        let killed = self.cgroup.kill_all().map_err(crate::Error::from).context(|| "kill what is left");
        let removed = self.cgroup.destroy().map_err(crate::Error::from).context(|| "remove cgroups");
        match (killed, removed) {
            (Ok(()), Ok(())) => Ok(()),
            (Err(one), Ok(())) | (Ok(()), Err(one)) => Err(one.into()),
            (Err(one), Err(other)) => Err(ModelError::system(format!("{one}; {other}"))),
        }
    }
}

/// Everything that a process has started and that has not ended: of a monitor, its container's processes. (What loses its
/// parent in a pid namespace falls to that one's first process.)
fn descendants(pid: u32) -> Vec<i32> {
    let mut all = Vec::new();
    let mut open = vec![pid.to_string()];
    while let Some(pid) = open.pop() {
        for task in std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
            let children = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
            open.extend(children.split_whitespace().map(str::to_owned));
            all.extend(children.split_whitespace().filter_map(|child| child.parse::<i32>().ok()));
        }
    }
    all
}

/// Reads `/proc/PID/net/dev`; loopback is nobody's traffic.
fn interfaces(text: &str) -> BTreeMap<String, InterfaceStats> {
    let mut all = BTreeMap::new();
    for line in text.lines().skip(2) {
        let Some((name, figures)) = line.split_once(':') else { continue };
        let figures: Vec<u64> = figures.split_whitespace().map_while(|f| f.parse().ok()).collect();
        let [
            rx_bytes,
            rx_packets,
            rx_errors,
            rx_dropped,
            _,
            _,
            _,
            _,
            tx_bytes,
            tx_packets,
            tx_errors,
            tx_dropped,
            ..,
        ] = figures[..]
        else {
            continue;
        };
        let name = name.trim();
        if name != "lo" {
            let stats = InterfaceStats {
                rx_bytes,
                rx_packets,
                rx_errors,
                rx_dropped,
                tx_bytes,
                tx_packets,
                tx_errors,
                tx_dropped,
            };
            all.insert(name.to_owned(), stats);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interface_figures_are_read_and_loopback_left_out() {
        let text = "Inter-|   Receive    |  Transmit\n face |bytes packets errs drop fifo frame compressed multicast|bytes\n\
                    \x20   lo: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n\
                    \x20 eth0:100 2 3 4 0 0 0 0 900 10 11 12 0 0 0 0\n broken: 1 2\n";
        let all = interfaces(text);
        assert_eq!(all.len(), 1);
        let eth0 = &all["eth0"];
        assert_eq!((eth0.rx_bytes, eth0.rx_dropped, eth0.tx_bytes, eth0.tx_dropped), (100, 4, 900, 12));
    }
}
