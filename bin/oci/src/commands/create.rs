//! Making containers and setting them going.
//!
//! ```text
//!   create: directory ─▶ claim ─▶ fifo ─▶ launch ─▶ state ─▶ (the process waits at the fifo)
//!   start:  the name of the fifo goes, a byte goes in ─▶ the process executes its program, which closes the fifo
//! ```

use std::fs;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use tare_model::sandbox::{Launched, Running, SandboxSpec, Stdio};
use tare_model::{Error, Result};
use tare_runtime::hooks::Hooks;
use tare_runtime::{Container, Extra, Runtime};

use super::{Context, block_signals};
use crate::cli::{Create, Run};
use crate::notify::Notify;
use crate::state::{Claim, Directory, State, Status, failed, start_time, subject};
use crate::streams::{Asked, Listeners};
use crate::{foreground, listen, notify, spec, stamp};

/// `O_NONBLOCK`: opening a pipe that nobody reads fails at once.
const NONBLOCK: i32 = 0o4000;

/// What is being made.
struct Making<'a> {
    context: &'a Context<'a>,
    directory: Directory,
    args: &'a Create,
    bundle: std::path::PathBuf,
    spec: SandboxSpec,
    runtime: Runtime,
}

pub(crate) fn create(context: &Context<'_>, args: &Create) -> Result<u8> {
    let making = Making::new(context, args)?;
    let (stdio, listeners) = making.streams(true)?;
    making.take_id()?;
    making.with_fifo(stdio, &listeners).map_err(|error| making.abandon(error))?;
    Ok(0)
}

pub(crate) fn run(context: &Context<'_>, args: &Run) -> Result<u8> {
    let making = Making::new(context, &args.create)?;
    if making.spec.oci.process().is_none() {
        return Err(Error::invalid("process: missing, there is nothing to run"));
    }
    let (stdio, listeners) = making.streams(args.detach)?;
    making.take_id()?;
    // Before the process exists, so that no signal is lost.
    let signals = if args.detach { None } else { Some(block_signals()?) };
    let notify = Notify::listen(&making.directory).map_err(|error| making.abandon(error))?;
    let made = making.launch(stdio, None, &listeners).and_then(|(mut container, launched)| {
        match making.poststart(launched.pid) {
            Ok(()) => Ok((container, launched)),
            Err(error) => {
                let _ = container.destroy();
                Err(error)
            }
        }
    });
    let (mut container, launched) = made.map_err(|error| making.abandon(error))?;
    let Some(signals) = signals else {
        return match notify {
            Some(notify) => notify.wait(launched.pid, launched.pidfd.as_fd()).map(|()| 0),
            None => Ok(0),
        };
    };
    let code = foreground::wait(&signals, &launched, notify.as_ref())?;
    if !args.keep {
        container.destroy()?;
        making.forget()?;
    }
    Ok(code)
}

// === impl Making ===

impl<'a> Making<'a> {
    fn new(context: &'a Context<'a>, args: &'a Create) -> Result<Self> {
        let mut spec = spec::load(&args.bundle, &args.id, context.manager)?;
        add_variables(&mut spec, listen::variables());
        let directory = Directory::of(context.root, &args.id)?;
        notify::add(&mut spec, &directory)?;
        let bundle =
            fs::canonicalize(&args.bundle).map_err(|error| failed("bundle", &args.bundle, &error))?;
        let runtime = context.manager.runtime()?;
        Ok(Self { context, directory, args, bundle, spec, runtime })
    }

    /// From here on the id is ours, and so is a group that is not there yet: whoever removes the container may kill what
    /// is in it.
    fn take_id(&self) -> Result<()> {
        self.directory.make()?;
        let path = self.spec.oci.linux().as_ref().and_then(|linux| linux.cgroups_path().clone());
        let claimed = match path.filter(|path| self.runtime.is_free(path)) {
            Some(cgroups_path) => {
                self.directory.claim(&Claim { manager: self.context.manager, cgroups_path })
            }
            None => Ok(()),
        };
        let made = claimed.and_then(|()| notify::make_place(&self.directory));
        made.map_err(|error| self.abandon(error))
    }

    fn streams(&self, detached: bool) -> Result<(Stdio, Listeners<'a>)> {
        let process = self.spec.oci.process().as_ref();
        let asked = Asked {
            console_socket: self.args.console_socket.as_deref(),
            pidfd_socket: self.args.pidfd_socket.as_deref(),
            pid_file: self.args.pid_file.as_deref(),
            detached,
        };
        asked.open(process.and_then(|process| process.terminal()).unwrap_or(false), process)
    }

    fn with_fifo(&self, stdio: Stdio, listeners: &Listeners<'_>) -> Result<()> {
        let fifo = self.directory.fifo();
        mknodat(CWD, &fifo, FileType::Fifo, Mode::from_raw_mode(0o600), 0)
            .map_err(|error| failed("mkfifo", &fifo, &error.into()))?;
        // Open for both, so that nobody waits now and a reader is there as long as the program waits.
        let gate = fs::OpenOptions::new().read(true).write(true).open(&fifo);
        let gate: OwnedFd = gate.map_err(|error| failed("open", &fifo, &error))?.into();
        self.launch(stdio, Some(&gate), listeners).map(drop)
    }

    /// Launches it, writes down what runs, and tells who wants to know.
    fn launch(
        &self,
        stdio: Stdio,
        gate: Option<&OwnedFd>,
        listeners: &Listeners<'_>,
    ) -> Result<(Container, Launched)> {
        let extra = Extra {
            gate: gate.map(AsFd::as_fd),
            door: None,
            preserved: self.args.preserve_fds + listen::passed(),
            keep_keyring: self.args.no_new_keyring,
            subject: Some(subject(&self.spec, &self.args.id, &self.bundle)),
        };
        let (mut container, launched) = self.runtime.launch_with(&self.spec, stdio, &extra)?;
        let told = self.directory.write(&self.state(launched.pid)).and_then(|()| listeners.tell(&launched));
        match told {
            Ok(()) => Ok((container, launched)),
            Err(error) => {
                // Nobody would know of it.
                let _ = container.destroy();
                Err(error)
            }
        }
    }

    fn state(&self, pid: i32) -> State {
        State {
            id: self.args.id.clone(),
            pid,
            start_time: start_time(pid).unwrap_or(0),
            bundle: self.bundle.clone(),
            created: stamp::now(),
            spec: self.spec.clone(),
            manager: self.context.manager,
        }
    }

    fn poststart(&self, pid: i32) -> Result<()> {
        poststart(&self.spec, &self.args.id, &self.bundle, pid)
    }

    /// After the container is gone: its directory, and hooks that want to hear of it.
    fn forget(&self) -> Result<()> {
        let removed = tare_runtime::rdt::remove(&self.spec.oci, &self.args.id);
        let removed = removed.and(self.directory.remove());
        poststop(self.context, &self.spec, &self.args.id, &self.bundle);
        removed
    }

    /// Leaves nothing of a container that could not be made; the error at hand is the one to report.
    fn abandon(&self, error: Error) -> Error {
        let _ = self.forget();
        error
    }
}

fn add_variables(spec: &mut SandboxSpec, more: Vec<String>) {
    if more.is_empty() {
        return;
    }
    if let Some(process) = spec.oci.process_mut() {
        let mut env = process.env().clone().unwrap_or_default();
        env.extend(more);
        process.set_env(Some(env));
    }
}

fn poststart(spec: &SandboxSpec, id: &str, bundle: &Path, pid: i32) -> Result<()> {
    let hooks = Hooks::of(&spec.oci)?;
    let ran = subject(spec, id, bundle).run(&hooks.poststart, "running", pid);
    ran.map_err(|error| error.context("poststart"))
}

/// Hooks that are told of the container's end; one that fails is warned about.
pub(super) fn poststop(context: &Context<'_>, spec: &SandboxSpec, id: &str, bundle: &Path) {
    let Ok(hooks) = Hooks::of(&spec.oci) else { return };
    for hook in &hooks.poststop {
        let ran = subject(spec, id, bundle).run(std::slice::from_ref(hook), "stopped", 0);
        if let Err(error) = ran {
            context.log.warning(&format!("poststop: {error}"));
        }
    }
}

// === start ===

pub(crate) fn start(context: &Context<'_>, id: &str) -> Result<u8> {
    let directory = Directory::of(context.root, id)?;
    let state = directory.read()?;
    match state.status(&directory)? {
        Status::Created => {}
        Status::Stopped => return Err(Error::conflict("cannot start a container that has stopped")),
        other => {
            return Err(Error::conflict(format!("cannot start a container in the {} state", other.as_str())));
        }
    }
    if state.spec.oci.process().is_none() {
        return Err(Error::invalid("process: missing, there is nothing to start"));
    }
    let notify = Notify::listen(&directory)?;
    open_gate(&directory)?;
    if let Err(error) = poststart(&state.spec, &state.id, &state.bundle, state.pid) {
        // The specification wants the container stopped, and everything undone.
        let _ = state.revisit().and_then(|mut container| container.destroy());
        let _ = directory.remove();
        poststop(context, &state.spec, &state.id, &state.bundle);
        return Err(error);
    }
    if let Some((notify, pidfd)) = notify.zip(state.process()) {
        notify.wait(state.pid, pidfd.as_fd())?;
    }
    Ok(0)
}

/// Lets the process go on, and waits until its program is executed, which closes its end; a process that cannot writes
/// the reason first.
fn open_gate(directory: &Directory) -> Result<()> {
    let fifo = directory.fifo();
    let open = |write: bool| {
        let mut options = fs::OpenOptions::new();
        let opened = options.write(write).read(!write).custom_flags(NONBLOCK).open(&fifo);
        opened.map_err(|error| failed("open", &fifo, &error))
    };
    let (mut answer, mut gate) = (open(false)?, open(true)?);
    // First the name: whoever asks from now on hears "running".
    fs::remove_file(&fifo).map_err(|error| failed("unlink", &fifo, &error))?;
    gate.write_all(b"0").map_err(|error| failed("write", &fifo, &error))?;
    drop(gate);
    // Nothing but the end: the byte is for the process.
    let mut fds = [PollFd::new(&answer, PollFlags::empty())];
    rustix::io::retry_on_intr(|| poll(&mut fds, None))
        .map_err(|error| failed("poll", &fifo, &error.into()))?;
    let mut reason = String::new();
    let _ = answer.read_to_string(&mut reason);
    if reason.is_empty() { Ok(()) } else { Err(Error::system(reason)) }
}
