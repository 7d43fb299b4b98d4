//! The commands. Each is a short story over [`state`](crate::state) and the runtime.

use std::fs;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::json;
use tare_model::sandbox::{ExecSpec, Identity, Launched, Running, SandboxSpec, Stdio, WindowSize};
use tare_model::{Error, Result, ResultExt, Signal};
use tare_runtime::foreground::Signals;
use tare_runtime::{Container, Extra};

use crate::cli::{Create, Delete, Exec, Format, Kill, List, Ps, Run};
use crate::state::{Directory, State, Status, failed, runtime, start_time, write_file};
use crate::{console, foreground, spec, stamp};

/// `O_NONBLOCK`: opening a pipe that nobody reads fails at once.
const NONBLOCK: i32 = 0o4000;

// === create, run, start ===

pub(crate) fn create(root: &Path, args: &Create) -> Result<u8> {
    let spec = spec::load(&args.bundle, &args.id)?;
    let (stdio, socket) = streams(wants_terminal(&spec), args.console_socket.as_deref(), true)?;
    let directory = Directory::of(root, &args.id)?;
    directory.make()?;
    let made = make_waiting(&directory, spec, stdio, socket.as_ref(), args);
    made.or_else(|error| abandon(&directory, error)).map(|()| 0)
}

fn make_waiting(
    directory: &Directory,
    spec: SandboxSpec,
    stdio: Stdio,
    socket: Option<&std::os::unix::net::UnixStream>,
    args: &Create,
) -> Result<()> {
    let fifo = directory.fifo();
    mknodat(CWD, &fifo, FileType::Fifo, Mode::from_raw_mode(0o600), 0)
        .map_err(|error| failed("mkfifo", &fifo, &error.into()))?;
    // Open for both, so that nobody waits now and a reader is there as long as the program waits.
    let gate = fs::OpenOptions::new().read(true).write(true).open(&fifo);
    let gate: OwnedFd = gate.map_err(|error| failed("open", &fifo, &error))?.into();
    let extra = Extra {
        gate: Some(gate.as_fd()),
        preserved: args.preserve_fds,
        keep_keyring: args.no_new_keyring,
        subject: None,
    };
    let (container, launched) = runtime()?.launch_with(&spec, stdio, &extra)?;
    settle(directory, container, &launched, spec, socket, args).map(drop)
}

pub(crate) fn run(root: &Path, args: &Run) -> Result<u8> {
    let create = &args.create;
    let spec = spec::load(&create.bundle, &create.id)?;
    let (stdio, socket) = streams(wants_terminal(&spec), create.console_socket.as_deref(), args.detach)?;
    let directory = Directory::of(root, &create.id)?;
    directory.make()?;
    // Before the process exists, so that no signal is lost.
    let signals = if args.detach { None } else { Some(block_signals()?) };
    let extra = Extra {
        gate: None,
        preserved: create.preserve_fds,
        keep_keyring: create.no_new_keyring,
        subject: None,
    };
    let started = runtime().and_then(|runtime| runtime.launch_with(&spec, stdio, &extra));
    let (container, launched) = started.or_else(|error| abandon(&directory, error))?;
    let mut container = settle(&directory, container, &launched, spec, socket.as_ref(), create)
        .or_else(|error| abandon(&directory, error))?;
    let Some(signals) = signals else { return Ok(0) };
    let code = foreground::wait(&signals, &launched)?;
    if !args.keep {
        container.destroy()?;
        directory.remove()?;
    }
    Ok(code)
}

/// Writes down what runs, and hands over its terminal.
fn settle(
    directory: &Directory,
    mut container: Container,
    launched: &Launched,
    spec: SandboxSpec,
    socket: Option<&std::os::unix::net::UnixStream>,
    args: &Create,
) -> Result<Container> {
    let bundle = fs::canonicalize(&args.bundle).map_err(|error| failed("bundle", &args.bundle, &error))?;
    let state = State {
        id: args.id.clone(),
        pid: launched.pid,
        start_time: start_time(launched.pid).unwrap_or(0),
        bundle,
        created: stamp::now(),
        spec,
    };
    let told = directory.write(&state).and_then(|()| tell(launched, socket, args.pid_file.as_deref()));
    match told {
        Ok(()) => Ok(container),
        Err(error) => {
            // Nobody would know of it.
            let _ = container.destroy();
            Err(error)
        }
    }
}

fn tell(
    launched: &Launched,
    socket: Option<&std::os::unix::net::UnixStream>,
    pid_file: Option<&Path>,
) -> Result<()> {
    if let (Some(socket), Some(master)) = (socket, &launched.terminal) {
        console::send(socket, master)?;
    }
    match pid_file {
        Some(path) => write_file(path, launched.pid.to_string().as_bytes()),
        None => Ok(()),
    }
}

fn abandon<T>(directory: &Directory, error: Error) -> Result<T> {
    // The error at hand is the one to report.
    let _ = directory.remove();
    Err(error)
}

pub(crate) fn start(root: &Path, id: &str) -> Result<u8> {
    let directory = Directory::of(root, id)?;
    let state = directory.read()?;
    match state.status(&directory)? {
        Status::Created => {}
        Status::Stopped => return Err(Error::conflict("cannot start a container that has stopped")),
        other => {
            return Err(Error::conflict(format!("cannot start a container in the {} state", other.as_str())));
        }
    }
    let fifo = directory.fifo();
    let opened = fs::OpenOptions::new().write(true).custom_flags(NONBLOCK).open(&fifo);
    let mut gate = opened.map_err(|error| failed("open", &fifo, &error))?;
    // First the name: whoever asks from now on hears "running".
    fs::remove_file(&fifo).map_err(|error| failed("unlink", &fifo, &error))?;
    gate.write_all(b"0").map_err(|error| failed("write", &fifo, &error))?;
    Ok(0)
}

fn wants_terminal(spec: &SandboxSpec) -> bool {
    spec.oci.process().as_ref().and_then(|process| process.terminal()).unwrap_or(false)
}

/// The streams of the process, and the socket that gets its terminal.
fn streams(
    terminal: bool,
    socket: Option<&Path>,
    detached: bool,
) -> Result<(Stdio, Option<std::os::unix::net::UnixStream>)> {
    match (terminal, socket) {
        (true, Some(path)) => {
            Ok((Stdio::Terminal { size: WindowSize::default() }, Some(console::connect(path)?)))
        }
        (true, None) if detached => {
            Err(Error::invalid("cannot allocate tty if tare-oci will detach without setting console socket"))
        }
        (true, None) => Ok((Stdio::Terminal { size: WindowSize::default() }, None)),
        (false, Some(_)) => {
            Err(Error::invalid("cannot use console socket if tare-oci will not allocate a tty"))
        }
        (false, None) => {
            let copy = |fd: std::os::fd::BorrowedFd<'_>| {
                fd.try_clone_to_owned().map_err(|error| Error::system(format!("standard stream: {error}")))
            };
            Ok((
                Stdio::Pipes {
                    stdin: copy(std::io::stdin().as_fd())?,
                    stdout: copy(std::io::stdout().as_fd())?,
                    stderr: copy(std::io::stderr().as_fd())?,
                },
                None,
            ))
        }
    }
}

fn block_signals() -> Result<Signals> {
    Signals::block().map_err(|error| Error::system(format!("signalfd: {error}")))
}

// === state, list, ps ===

pub(crate) fn state(root: &Path, id: &str) -> Result<u8> {
    let directory = Directory::of(root, id)?;
    let state = directory.read()?;
    let status = state.status(&directory)?;
    let object = serde_json::to_string_pretty(&described(&state, status)).unwrap_or_default();
    print(&format!("{object}\n"))
}

fn described(state: &State, status: Status) -> serde_json::Value {
    let tare_model::sandbox::Rootfs::Directory { path } = &state.spec.rootfs else { return json!({}) };
    let mut object = json!({
        "ociVersion": state.spec.oci.version(),
        "id": state.id,
        "pid": if status == Status::Stopped { 0 } else { state.pid },
        "status": status.as_str(),
        "bundle": state.bundle,
        "rootfs": path,
        "created": state.created,
        "owner": "root",
    });
    if let Some(annotations) = state.spec.oci.annotations().as_ref().filter(|map| !map.is_empty()) {
        object["annotations"] = json!(annotations);
    }
    object
}

pub(crate) fn list(root: &Path, args: &List) -> Result<u8> {
    let all = all(root)?;
    if args.quiet {
        return print(&all.iter().map(|(state, _)| format!("{}\n", state.id)).collect::<String>());
    }
    if args.format == Format::Json {
        let objects: Vec<_> = all.iter().map(|(state, status)| described(state, *status)).collect();
        return print(&format!("{}\n", json!(objects)));
    }
    let mut rows = vec![["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned)];
    for (state, status) in &all {
        let pid = if *status == Status::Stopped { 0 } else { state.pid };
        rows.push([
            state.id.clone(),
            pid.to_string(),
            status.as_str().to_owned(),
            state.bundle.display().to_string(),
            state.created.clone(),
            "root".to_owned(),
        ]);
    }
    print(&table(&rows))
}

/// Every container, by id. One that vanishes while we look is not there.
fn all(root: &Path) -> Result<Vec<(State, Status)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root).into_iter().flatten().flatten() {
        let Some(directory) = entry.file_name().to_str().and_then(|id| Directory::of(root, id).ok()) else {
            continue;
        };
        match directory.read() {
            Ok(state) => {
                let status = state.status(&directory)?;
                found.push((state, status));
            }
            Err(error) if error.kind() == tare_model::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    found.sort_by(|(a, _), (b, _)| a.id.cmp(&b.id));
    Ok(found)
}

fn table(rows: &[[String; 6]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..6).map(width).collect();
    let line = |row: &[String; 6]| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("   ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

pub(crate) fn ps(root: &Path, args: &Ps) -> Result<u8> {
    let pids = Directory::of(root, &args.id)?.read()?.open()?.processes()?;
    if args.format == Format::Json {
        return print(&format!("{}\n", json!(pids)));
    }
    let default = ["-ef".to_owned()];
    let options = if args.options.is_empty() { &default[..] } else { &args.options };
    let output = std::process::Command::new("ps").args(options).output();
    let output = output.map_err(|error| Error::system(format!("ps {}: {error}", options.join(" "))))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(Error::invalid(format!("ps {}: {text}", options.join(" "))));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    print(&only(&text, &pids).ok_or_else(|| Error::invalid("the output of ps has no PID column"))?)
}

/// The lines of ps(1) for these processes, with the heading.
fn only(text: &str, pids: &[i32]) -> Option<String> {
    let heading = text.lines().next()?;
    let column = heading.split_whitespace().position(|word| word == "PID")?;
    let wanted = |line: &&str| {
        let pid = line.split_whitespace().nth(column).and_then(|word| word.parse::<i32>().ok());
        pid.is_some_and(|pid| pids.contains(&pid))
    };
    let lines = std::iter::once(heading).chain(text.lines().skip(1).filter(wanted));
    Some(lines.map(|line| format!("{line}\n")).collect())
}

// === kill, pause, resume, delete ===

pub(crate) fn kill(root: &Path, args: &Kill) -> Result<u8> {
    let signal: Signal = args.signal.parse()?;
    let state = Directory::of(root, &args.id)?.read()?;
    if args.all {
        let container = runtime()?.revisit(state.spec.clone())?;
        for pid in container.processes()? {
            tare_runtime::foreground::signal(pid, signal)?;
        }
        return Ok(0);
    }
    state.open()?.signal(signal)?;
    Ok(0)
}

pub(crate) fn pause(root: &Path, id: &str) -> Result<u8> {
    let directory = Directory::of(root, id)?;
    let state = directory.read()?;
    match state.status(&directory)? {
        Status::Running | Status::Created => state.open()?.pause().map(|()| 0),
        other => Err(Error::conflict(format!("cannot pause a container that is {}", other.as_str()))),
    }
}

pub(crate) fn resume(root: &Path, id: &str) -> Result<u8> {
    let directory = Directory::of(root, id)?;
    let state = directory.read()?;
    match state.status(&directory)? {
        Status::Paused => state.open()?.resume().map(|()| 0),
        other => Err(Error::conflict(format!("cannot resume a container that is {}", other.as_str()))),
    }
}

pub(crate) fn delete(root: &Path, args: &Delete) -> Result<u8> {
    let directory = Directory::of(root, &args.id)?;
    let state = match directory.read() {
        // A creation that was killed half-way has left a directory without state.
        Err(_) if args.force => return directory.remove().map(|()| 0),
        Err(error) if directory.exists() => return Err(error.context("delete --force removes what is left")),
        other => other?,
    };
    let status = state.status(&directory)?;
    if !args.force && !matches!(status, Status::Stopped | Status::Created) {
        let text = format!("cannot delete container {} that is not stopped: {}", args.id, status.as_str());
        return Err(Error::conflict(text));
    }
    let mut container = runtime()?.revisit(state.spec.clone())?;
    container.destroy().context(|| format!("delete {}", args.id))?;
    directory.remove()?;
    Ok(0)
}

// === exec ===

pub(crate) fn exec(root: &Path, args: &Exec) -> Result<u8> {
    let directory = Directory::of(root, &args.id)?;
    let mut state = directory.read()?;
    match state.status(&directory)? {
        Status::Running | Status::Created => {}
        Status::Paused if args.ignore_paused => {}
        Status::Paused => {
            return Err(Error::conflict(
                "cannot exec in a paused container (use --ignore-paused to override)",
            ));
        }
        Status::Stopped => return Err(Error::conflict("cannot exec in a stopped container")),
    }
    let (exec, terminal) = further(&mut state.spec, args)?;
    let (stdio, socket) = streams(terminal, args.console_socket.as_deref(), args.detach)?;
    let signals = if args.detach { None } else { Some(block_signals()?) };
    let container = state.open()?;
    let launched = container.exec_with(&exec, stdio, args.preserve_fds)?;
    tell(&launched, socket.as_ref(), args.pid_file.as_deref())?;
    match signals {
        Some(signals) => foreground::wait(&signals, &launched),
        None => Ok(0),
    }
}

/// What to execute. Rights and limits come from the specification, whose process is changed as the flags say.
fn further(spec: &mut SandboxSpec, args: &Exec) -> Result<(ExecSpec, bool)> {
    let mut process = match &args.process {
        Some(path) => {
            let text = fs::read(path).map_err(|error| failed("read", path, &error))?;
            serde_json::from_slice(&text)
                .map_err(|error| Error::invalid(format!("{}: {error}", path.display())))?
        }
        None => spec.oci.process().clone().ok_or_else(|| Error::invalid("process: missing"))?,
    };
    let mut exec = ExecSpec {
        args: process.args().clone().unwrap_or_default(),
        env: process.env().clone().unwrap_or_default(),
        cwd: Some(process.cwd().to_string_lossy().into_owned()),
        identity: None,
        privileged: false,
    };
    let mut terminal = process.terminal().unwrap_or(false);
    if args.process.is_none() {
        exec.args.clone_from(&args.command);
        exec.env.extend(args.env.iter().cloned());
        exec.cwd = args.cwd.clone().or(exec.cwd);
        terminal = args.tty;
        if args.no_new_privs {
            process.set_no_new_privileges(Some(true));
        }
        add_capabilities(&mut process, &args.cap)?;
    }
    if args.user.is_some() || !args.additional_gids.is_empty() {
        let user =
            args.user.clone().unwrap_or_else(|| format!("{}:{}", process.user().uid(), process.user().gid()));
        exec.identity = Some(Identity { user, groups: args.additional_gids.clone() });
    }
    spec.oci.set_process(Some(process));
    Ok((exec, terminal))
}

fn add_capabilities(process: &mut oci_spec::runtime::Process, names: &[String]) -> Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    let mut sets = process.capabilities().clone().unwrap_or_default();
    for name in names {
        let known = name.strip_prefix("CAP_").unwrap_or(name);
        let capability: oci_spec::runtime::Capability = serde_json::from_value(json!(format!("CAP_{known}")))
            .map_err(|_| Error::invalid(format!("unknown capability {name:?}")))?;
        let with = |set: &Option<oci_spec::runtime::Capabilities>| {
            let mut set = set.clone().unwrap_or_default();
            set.insert(capability);
            Some(set)
        };
        let (bounding, effective, permitted) =
            (with(sets.bounding()), with(sets.effective()), with(sets.permitted()));
        sets.set_bounding(bounding).set_effective(effective).set_permitted(permitted);
    }
    process.set_capabilities(Some(sets));
    Ok(())
}

fn print(text: &str) -> Result<u8> {
    std::io::stdout().write_all(text.as_bytes()).map_err(|error| Error::system(format!("write: {error}")))?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_of_processes_is_cut_to_those_of_the_container() {
        let text = "UID  PID PPID CMD\nroot   7    1 sh -c 8\nroot   8    7 ls\n";
        assert_eq!(only(text, &[7]).as_deref(), Some("UID  PID PPID CMD\nroot   7    1 sh -c 8\n"));
        assert_eq!(only("no heading\n", &[7]), None);
    }

    #[test]
    fn columns_of_a_table_line_up() {
        let row = |id: &str| [id, "1", "running", "/b", "now", "root"].map(str::to_owned);
        assert_eq!(
            table(&[row("a"), row("long")]),
            "a      1   running   /b   now   root\nlong   1   running   /b   now   root\n"
        );
    }
}
