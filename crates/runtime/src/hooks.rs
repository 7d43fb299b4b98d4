//! Hooks run: each a process of its own, fed with the container's state, waited for, and ended when its time is up.
//!
//! ```text
//!   state ──▶ pipe (filled, closed) ─▶ fork ─┬─▶ child: streams, seal, execve
//!                                            └─▶ poll ─┬─ output ─▶ kept for the message, if it fails
//!                                                      ├─ ended: 0 ─▶ next hook │ other ─▶ error
//!                                                      └─ time is up: killed ─▶ error
//! ```
//!
//! Those of the host's namespaces are run by the launching process, those of the container's by the process that becomes
//! its program: after its user has been changed and under its filter, if the program is one of the container's own.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};
use rustix::process::{WaitIdOptions, WaitIdStatus};
use serde::Serialize;
use tare_sys::pidfd;
use tare_sys::process::{self, Forked, Namespaces, fork};

use crate::error::{Call, Context, Error, Result};
pub use crate::plan::{Hook, Hooks};

/// A pipe takes this much without being told to; more needs telling.
const PIPE: usize = 64 << 10;
/// How often it is looked at where the kernel does not tell that it has ended.
const GLANCE: Duration = Duration::from_millis(10);
/// How much of a failing hook's output its error shows.
const SHOWN: usize = 1024;

/// Whose hooks they are: what their state says beside status and process.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The version of the specification that the container was made from.
    pub version: &'a str,
    /// The container's id.
    pub id: &'a str,
    /// Its bundle, absolute.
    pub bundle: &'a Path,
    /// Its annotations.
    pub annotations: Option<&'a HashMap<String, String>>,
}

/// The state, as the specification wants it written.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct State<'a> {
    oci_version: &'a str,
    id: &'a str,
    status: &'a str,
    pid: i32,
    bundle: &'a Path,
    #[serde(skip_serializing_if = "Option::is_none")]
    annotations: Option<&'a HashMap<String, String>>,
}

/// A hook that runs.
struct Running {
    pidfd: OwnedFd,
    output: OwnedFd,
}

// === impl Subject ===

impl Subject<'_> {
    /// Runs hooks one after another in this process's namespaces, telling them this status and process.
    ///
    /// # Errors
    /// The first that fails or takes too long; those after it are not run.
    pub fn run(&self, hooks: &[Hook], status: &str, pid: i32) -> tare_model::Result<()> {
        Ok(self.run_sealed(hooks, status, pid, &|| Ok(()))?)
    }

    /// As [`Subject::run`]; each hook's process calls `seal` before it executes the program.
    pub(crate) fn run_sealed(
        &self,
        hooks: &[Hook],
        status: &str,
        pid: i32,
        seal: &dyn Fn() -> Result<()>,
    ) -> Result<()> {
        if hooks.is_empty() {
            return Ok(());
        }
        let text = self.state(status, pid)?;
        for hook in hooks {
            run(hook, &text, seal).context(|| format!("hook {:?}", hook.path))?;
        }
        Ok(())
    }

    fn state(&self, status: &str, pid: i32) -> Result<Vec<u8>> {
        let Self { version, id, bundle, annotations } = *self;
        let state = State { oci_version: version, id, status, pid, bundle, annotations };
        serde_json::to_vec(&state).map_err(|error| Error::invalid(format!("state: {error}")))
    }
}

fn run(hook: &Hook, state: &[u8], seal: &dyn Fn() -> Result<()>) -> Result<()> {
    let input = filled(state)?;
    let running = start(hook, &input, seal)?;
    drop(input);
    let mut said = Vec::new();
    let ended = running.wait(hook.timeout, &mut said)?;
    if ended.exit_status() == Some(0) {
        return Ok(());
    }
    let how = match (ended.exit_status(), ended.terminating_signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => "it ended in an unknown way".to_owned(),
    };
    let said = String::from_utf8_lossy(&said);
    let text = if said.trim().is_empty() { how } else { format!("{how}, output: {}", said.trim()) };
    Err(Error::new(tare_model::ErrorKind::System, text))
}

/// A pipe with all of the state in it, and nobody who writes any more.
fn filled(state: &[u8]) -> Result<OwnedFd> {
    let (read, write) =
        pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).call(|| "pipe2(O_CLOEXEC|O_NONBLOCK)")?;
    if state.len() > PIPE {
        fcntl_setpipe_size(&write, state.len()).call(|| format!("fcntl(F_SETPIPE_SZ, {})", state.len()))?;
    }
    let written = rustix::io::write(&write, state).call(|| "write(state)")?;
    if written < state.len() {
        return Err(Error::invalid(format!("the state of {} bytes is too long for a pipe", state.len())));
    }
    // The hook reads it as one reads a pipe.
    rustix::io::ioctl_fionbio(&read, false).call(|| "ioctl(FIONBIO, 0)")?;
    Ok(read)
}

fn start(hook: &Hook, input: &OwnedFd, seal: &dyn Fn() -> Result<()>) -> Result<Running> {
    let (output, theirs) = pipe_with(PipeFlags::CLOEXEC).call(|| "pipe2(O_CLOEXEC)")?;
    rustix::io::ioctl_fionbio(&output, true).call(|| "ioctl(FIONBIO, 1)")?;
    match fork(Namespaces::NONE, None).call(|| "clone3(CLONE_PIDFD)")? {
        Forked::Parent { pidfd, .. } => Ok(Running { pidfd, output }),
        Forked::Child => {
            let error = execute(hook, input, &theirs, seal);
            // Whoever waits shows it; there is nobody else to tell.
            let _ = rustix::io::write(&theirs, error.to_string().as_bytes());
            process::exit_now(127)
        }
    }
}

/// Becomes the hook; returns why it could not.
fn execute(hook: &Hook, input: &OwnedFd, output: &OwnedFd, seal: &dyn Fn() -> Result<()>) -> Error {
    let streams = [input.as_fd(), output.as_fd(), output.as_fd()];
    let prepared = tare_sys::fd::install_stdio(streams)
        .and_then(|()| tare_sys::fd::close_on_exec_from(3))
        .call(|| "dup2(pipe, 0..2)");
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    process::default_signals();
    if let Err(error) = prepared.and_then(|()| seal()) {
        return error;
    }
    let errno = process::execve(&hook.path, &hook.args, &hook.env);
    crate::program::cannot(&hook.path.to_string_lossy(), errno, false)
}

// === impl Running ===

impl Running {
    fn wait(self, timeout: Option<Duration>, said: &mut Vec<u8>) -> Result<WaitIdStatus> {
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        let mut open = true;
        loop {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                let _ = pidfd::send_signal(self.pidfd.as_fd(), 9);
                self.status()?;
                let seconds = timeout.unwrap_or_default().as_secs();
                return Err(Error::new(
                    tare_model::ErrorKind::System,
                    format!("it did not end within its timeout of {seconds} s and was killed"),
                ));
            }
            let (ended, speaks) = self.poll(left, open)?;
            if speaks {
                open = self.listen(said);
            }
            if ended {
                if open {
                    self.listen(said);
                }
                return self.status();
            }
        }
    }

    /// Whether it has ended, and whether it has said something. Gives up after a moment where an end is not told.
    fn poll(&self, left: Option<Duration>, open: bool) -> Result<(bool, bool)> {
        let told = pidfd::tells_end(self.pidfd.as_fd());
        let left = if told { left } else { Some(left.unwrap_or(GLANCE).min(GLANCE)) };
        let mut fds = Vec::with_capacity(2);
        if open {
            fds.push(PollFd::new(&self.output, PollFlags::IN));
        }
        if told {
            fds.push(PollFd::new(&self.pidfd, PollFlags::IN));
        }
        let left = left.and_then(|left| Timespec::try_from(left).ok());
        match poll(&mut fds, left.as_ref()) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok((false, false)),
            Err(errno) => return Err(errno).call(|| "poll(hook)"),
        }
        let ready = |fd: Option<&PollFd<'_>>| fd.is_some_and(|fd| !fd.revents().is_empty());
        let speaks = open && ready(fds.first());
        let ended = if told { ready(fds.last()) } else { self.has_ended()? };
        Ok((ended, speaks))
    }

    fn has_ended(&self) -> Result<bool> {
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        pidfd::wait(self.pidfd.as_fd(), look)
            .call(|| "waitid(hook, WNOHANG|WNOWAIT)")
            .map(|end| end.is_some())
    }

    /// Takes what is there, keeping its beginning; false when nobody will say anything more.
    fn listen(&self, said: &mut Vec<u8>) -> bool {
        let mut chunk = [0_u8; 4096];
        loop {
            match rustix::io::read(&self.output, &mut chunk) {
                Ok(0) => return false,
                Ok(length) => said.extend(&chunk[..length.min(SHOWN.saturating_sub(said.len()))]),
                Err(Errno::INTR) => {}
                Err(errno) => return errno == Errno::AGAIN,
            }
        }
    }

    fn status(&self) -> Result<WaitIdStatus> {
        let ended = rustix::io::retry_on_intr(|| pidfd::wait(self.pidfd.as_fd(), WaitIdOptions::EXITED))
            .call(|| "waitid(hook)")?;
        ended.ok_or_else(|| Error::new(tare_model::ErrorKind::System, "waitid(hook): nothing to wait for"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_is_written_as_the_specification_names_it() {
        let annotations = HashMap::from([("a".to_owned(), "b".to_owned())]);
        let subject =
            Subject { version: "1.0.2", id: "box", bundle: Path::new("/b"), annotations: Some(&annotations) };
        let text = String::from_utf8(subject.state("creating", 7).unwrap()).unwrap();
        let want = r#"{"ociVersion":"1.0.2","id":"box","status":"creating","pid":7,"bundle":"/b","annotations":{"a":"b"}}"#;
        assert_eq!(text, want);
    }

    #[test]
    fn a_pipe_is_filled_with_more_than_it_takes_by_default() {
        let state = vec![b'x'; PIPE * 3];
        let read = filled(&state).unwrap();
        let mut got = Vec::new();
        std::io::Read::read_to_end(&mut std::fs::File::from(read), &mut got).unwrap();
        assert_eq!(got, state);
    }
}
