//! Handing the listener of a notifying filter to the agent that decides (`listenerPath`), before the program runs.
//!
//! ```text
//!   parent                                   child
//!     │ ◀──────────────── Ready ───────────── │ everything but filter and execve is done
//!     │                                       │ load the filter: the listener is descriptor N
//!     │ ◀──────── word: N + 1 ─────────────── │ in shared memory: the filter may forbid every call
//!     │ pidfd_getfd(child, N)                 │
//!     │   or ─────── word: SEND ────────────▶ │ (where the kernel lets the parent not do that)
//!     │ ◀──────────────── Listener(fd) ────── │
//!     │ state + descriptor to the agent       │
//!     │ ─────────── word: GO ───────────────▶ │ execve (after waiting at the gate, if there is one)
//! ```
//!
//! The child makes no system call between loading and the parent's word, so the agent may be notified of any of them. It
//! spins: a few hundred microseconds, once in a container's life, for those few that have an agent.

use std::io::{IoSlice, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use oci_spec::runtime::Spec;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use rustix::process::{PidfdGetfdFlags, pidfd_getfd};
use serde_json::json;
use tare_model::ErrorKind;
use tare_sys::words::{Word, Words};

use super::Program;
use crate::channel::{Launch, Report, Service, Started, Until};
use crate::error::{Call, Context, Error, Result};

/// The parent's word: the listener is in good hands.
const GO: u32 = 1;
/// The parent's word: it cannot fetch the descriptor.
const SEND: u32 = 2;

/// How often the parent looks at the child's word; loading takes less.
const GLANCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000 };
/// The longest that a child waits for an agent that does not take its message.
const PATIENCE: Duration = Duration::from_secs(30);
/// Turns of the child's wait between two looks at the clock, which may be a system call.
const TURNS: u32 = 1 << 20;

/// The agent and what it is told.
pub(crate) struct Agent<'a> {
    words: Words,
    path: &'a Path,
    metadata: Option<&'a str>,
    container: Subject<'a>,
}

/// The container, as the agent is told of it.
pub(crate) struct Subject<'a> {
    pub(crate) id: &'a str,
    pub(crate) oci: &'a Spec,
    /// Where its `config.json` is; empty if it has none.
    pub(crate) bundle: &'a Path,
    /// Its first process, if that is not the one with the filter.
    pub(crate) first: Option<i32>,
}

// === impl Agent ===

impl<'a> Agent<'a> {
    /// The agent for a filter that notifies; none for others.
    pub(crate) fn of(filter: Option<&Program>, container: Subject<'a>) -> Result<Option<Self>> {
        if !filter.is_some_and(Program::needs_listener) {
            return Ok(None);
        }
        let spec = container.oci.linux().as_ref().and_then(|linux| linux.seccomp().as_ref());
        let missing = || Error::invalid(super::Error::NoListener.to_string());
        let spec = spec.ok_or_else(missing)?;
        let path = spec.listener_path().as_deref().ok_or_else(missing)?;
        let words = Words::new().call(|| "mmap(MAP_SHARED|MAP_ANONYMOUS)")?;
        Ok(Some(Self { words, path, metadata: spec.listener_metadata().as_deref(), container }))
    }

    // === the child ===

    /// Loads the filter and returns when the agent has the listener.
    pub(crate) fn load(&self, filter: &Program, report: &Report) -> Result<()> {
        let listener = filter.load().call(|| "seccomp(SECCOMP_SET_MODE_FILTER, NEW_LISTENER)")?;
        let listener =
            listener.ok_or_else(|| Error::new(ErrorKind::System, "the kernel gave no listener"))?;
        self.words.set(Word::Child, number(listener.as_raw_fd()));
        if self.parents_word(|word| word != 0) == SEND {
            report.listener(listener.as_fd())?;
            self.parents_word(|word| word == GO);
        }
        // The program must not have it, and closing it is a call that may be forbidden: it is close-on-exec.
        std::mem::forget(listener);
        Ok(())
    }

    /// Waits without a system call. A process that waits for nobody must not run its program.
    fn parents_word(&self, wanted: impl Fn(u32) -> bool) -> u32 {
        let mut since = None;
        loop {
            for _ in 0..TURNS {
                let word = self.words.get(Word::Parent);
                if wanted(word) {
                    return word;
                }
                std::hint::spin_loop();
            }
            let started = *since.get_or_insert_with(Instant::now);
            if started.elapsed() > PATIENCE {
                tare_sys::process::exit_now(1);
            }
        }
    }

    // === the parent ===

    /// As [`Launch::wait`], with the listener handed over in between.
    pub(crate) fn wait(
        &self,
        launch: &Launch,
        until: Until,
        pid: i32,
        pidfd: BorrowedFd<'_>,
        service: &dyn Service,
    ) -> Result<Started> {
        let started = launch.wait(Until::Ready, service)?;
        let listener = self.fetch(launch, pidfd)?;
        let what = || format!("linux.seccomp.listenerPath {}", self.path.display());
        self.tell(pid, &listener).context(what)?;
        self.words.set(Word::Parent, GO);
        if until == Until::Executed {
            launch.executed()?;
        }
        Ok(started)
    }

    fn fetch(&self, launch: &Launch, pidfd: BorrowedFd<'_>) -> Result<OwnedFd> {
        let number = self.childs_word(launch)?;
        match pidfd_getfd(pidfd, number, PidfdGetfdFlags::empty()) {
            // An old kernel, or a child that this process may not trace.
            Err(Errno::NOSYS | Errno::PERM | Errno::ACCESS) => {
                self.words.set(Word::Parent, SEND);
                launch.listener()
            }
            other => other.call(|| format!("pidfd_getfd(child, {number})")),
        }
    }

    /// Waits until the filter is loaded, or the child says that it could not be.
    fn childs_word(&self, launch: &Launch) -> Result<RawFd> {
        loop {
            if let Some(number) = self.words.get(Word::Child).checked_sub(1) {
                return Ok(RawFd::try_from(number).unwrap_or(-1));
            }
            let mut ends = [PollFd::new(launch, PollFlags::IN)];
            let seen = rustix::io::retry_on_intr(|| poll(&mut ends, Some(&GLANCE)))
                .call(|| "poll(launch channel)")?;
            if seen > 0 {
                launch.executed()?;
                return Err(Error::new(
                    ErrorKind::System,
                    "the process was killed when its filter was loaded",
                ));
            }
        }
    }

    /// One connection, one message, closed.
    fn tell(&self, pid: i32, listener: &OwnedFd) -> Result<()> {
        let failed = |call: &str, error: std::io::Error| {
            Error::new(ErrorKind::System, format!("{call}: {error}; is the seccomp agent running?"))
        };
        let state = self.state(pid).to_string();
        let mut agent = UnixStream::connect(self.path).map_err(|error| failed("connect()", error))?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let fds = [listener.as_fd()];
        control.push(SendAncillaryMessage::ScmRights(&fds));
        let parts = [IoSlice::new(state.as_bytes())];
        let sent = rustix::io::retry_on_intr(|| sendmsg(&agent, &parts, &mut control, SendFlags::NOSIGNAL));
        let sent = sent.map_err(|errno| failed("sendmsg()", errno.into()))?;
        agent.write_all(&state.as_bytes()[sent..]).map_err(|error| failed("write()", error))
    }

    /// The container process state of the specification.
    fn state(&self, pid: i32) -> serde_json::Value {
        let Subject { id, oci, bundle, first } = &self.container;
        let bundle = std::path::absolute(bundle).unwrap_or_default();
        let mut state = json!({
            "ociVersion": oci.version(),
            "fds": ["seccompFd"],
            "pid": pid,
            "state": {
                "ociVersion": oci.version(),
                "id": id,
                "status": if first.is_some() { "running" } else { "creating" },
                "pid": first.unwrap_or(pid),
                "bundle": bundle,
            },
        });
        if let Some(metadata) = self.metadata {
            state["metadata"] = json!(metadata);
        }
        if let Some(annotations) = oci.annotations().as_ref().filter(|all| !all.is_empty()) {
            state["state"]["annotations"] = json!(annotations);
        }
        state
    }
}

/// A descriptor as the child's word.
fn number(fd: RawFd) -> u32 {
    fd.unsigned_abs() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent<'a>(oci: &'a Spec, metadata: Option<&'a str>, first: Option<i32>) -> Agent<'a> {
        let container = Subject { id: "c1", oci, bundle: Path::new("/b"), first };
        Agent { words: Words::new().unwrap(), path: Path::new("/run/agent"), metadata, container }
    }

    #[test]
    fn the_state_of_a_first_process_is_the_containers() {
        let mut oci = Spec::default();
        oci.set_annotations(Some([("k".to_owned(), "v".to_owned())].into()));
        let state = agent(&oci, Some("m"), None).state(42);
        let version = oci.version();
        let wanted = json!({
            "ociVersion": version, "fds": ["seccompFd"], "pid": 42, "metadata": "m",
            "state": {"ociVersion": version, "id": "c1", "status": "creating", "pid": 42, "bundle": "/b",
                "annotations": {"k": "v"}},
        });
        assert_eq!(state, wanted);
    }

    #[test]
    fn a_further_process_is_told_apart_from_the_first() {
        let mut oci = Spec::default();
        oci.set_annotations(None);
        let state = agent(&oci, None, Some(7)).state(42);
        assert_eq!((&state["pid"], &state["state"]["pid"]), (&json!(42), &json!(7)));
        assert_eq!(state["state"]["status"], "running");
        assert!(state.get("metadata").is_none() && state["state"].get("annotations").is_none());
    }

    #[test]
    fn a_filter_that_does_not_notify_needs_no_agent() {
        let oci = Spec::default();
        let container = Subject { id: "c1", oci: &oci, bundle: Path::new(""), first: None };
        assert!(Agent::of(None, container).unwrap().is_none());
    }
}
