//! A sandbox that isolates nothing, and a daemon's side that waits without a runtime.

// Each test program uses its part.
#![allow(dead_code, unreachable_pub)]

use std::collections::VecDeque;
use std::fs;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use oci_spec::runtime::LinuxResources;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::process::{Pid, PidfdFlags, Signal as KernelSignal, kill_process_group, pidfd_open};
use rustix::pty::{OpenptFlags, openpt, ptsname, unlockpt};
use tare_model::container::{LogConfig, LogDriver};
use tare_model::sandbox::{ExecSpec, Launched, Running, Sandbox, SandboxSpec, Stats, Stdio, WindowSize};
use tare_model::{ContainerId, Error, ErrorKind, ExecId, Result, Signal};
use tare_shim::logs::{Options, Reader};
use tare_shim::protocol::*;
use tare_shim::supervisor::Supervisor;
use tare_shim::wire::{self, Incoming, Outgoing};

/// How long anything may take before the test says what it waited for.
pub const LIMIT: Duration = Duration::from_secs(20);

// === the sandbox ===

/// Starts plain processes.
#[derive(Clone)]
pub struct Fake {
    /// Counts kills for lack of memory, as the kernel would.
    pub oom: Arc<OwnedFd>,
    /// `destroy` fails, and kills nothing.
    pub sticky: bool,
}

struct FakeRunning {
    fake: Fake,
    init: Launched,
    groups: Vec<Pid>,
}

impl Default for Fake {
    fn default() -> Self {
        let oom = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).expect("eventfd");
        Self { oom: Arc::new(oom), sticky: false }
    }
}

impl Sandbox for Fake {
    fn launch(
        &self,
        spec: &SandboxSpec,
        stdio: Stdio,
        _: Option<OwnedFd>,
    ) -> Result<(Box<dyn Running>, Launched)> {
        let process = spec.oci.process().as_ref().expect("a process");
        let launched = spawn(process.args().as_ref().expect("arguments"), stdio)?;
        let init = Launched {
            pid: launched.pid,
            pidfd: launched.pidfd.try_clone().expect("dup"),
            terminal: None,
            network: None,
        };
        let groups = vec![pid(launched.pid)];
        Ok((Box::new(FakeRunning { fake: self.clone(), init, groups }), launched))
    }

    fn cleanup(&self, _: &ContainerId, cgroups_path: &str) -> Result<()> {
        if cgroups_path.starts_with('/') { Ok(()) } else { Err(Error::invalid("cgroups path")) }
    }
}

impl Running for FakeRunning {
    fn exec(&mut self, spec: &ExecSpec, stdio: Stdio) -> Result<Launched> {
        let launched = spawn(&spec.args, stdio)?;
        self.groups.push(pid(launched.pid));
        Ok(launched)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        tare_sys::pidfd::send_signal(self.init.pidfd.as_fd(), signal.number())
            .map_err(|e| Error::conflict(e.to_string()))
    }

    fn pause(&mut self) -> Result<()> {
        kill_process_group(pid(self.init.pid), KernelSignal::STOP).map_err(|e| Error::system(e.to_string()))
    }

    fn resume(&mut self) -> Result<()> {
        kill_process_group(pid(self.init.pid), KernelSignal::CONT).map_err(|e| Error::system(e.to_string()))
    }

    fn update(&mut self, resources: &LinuxResources) -> Result<Vec<String>> {
        let shares = resources.cpu().as_ref().and_then(|cpu| cpu.shares());
        let shares = shares.ok_or_else(|| Error::unsupported("this one knows shares only"))?;
        Ok(vec![format!("{shares} shares")])
    }

    fn stats(&self) -> Result<Stats> {
        let detail = (0..5_000).map(|i| (format!("figure_{i}_of_many"), i)).collect();
        Ok(Stats {
            memory: Some(tare_model::sandbox::MemoryStats { detail, ..Default::default() }),
            ..Stats::default()
        })
    }

    fn processes(&self) -> Result<Vec<i32>> {
        Ok(vec![self.init.pid])
    }

    fn oom_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.fake.oom.as_fd())
    }

    fn oom_killed(&mut self) -> bool {
        rustix::io::read(&*self.fake.oom, &mut [0u8; 8][..]).is_ok()
    }

    fn destroy(&mut self) -> Result<()> {
        if self.fake.sticky {
            return Err(Error::system("rmdir: it sticks"));
        }
        for group in &self.groups {
            let _ = kill_process_group(*group, KernelSignal::KILL);
        }
        Ok(())
    }
}

fn pid(raw: i32) -> Pid {
    Pid::from_raw(raw).expect("positive")
}

fn spawn(args: &[String], stdio: Stdio) -> Result<Launched> {
    let mut command = Command::new(&args[0]);
    command.args(&args[1..]).process_group(0);
    let mut terminal = None;
    match stdio {
        Stdio::Pipes { stdin, stdout, stderr } => {
            command.stdin(stdin).stdout(stdout).stderr(stderr);
        }
        Stdio::Terminal { size } => {
            let (master, slave) = open_terminal(size);
            // Makes the terminal the controlling one of a new session, then executes the program.
            command = Command::new("setsid");
            command.arg("-c").args(args);
            command
                .stdin(slave.try_clone().expect("dup"))
                .stdout(slave.try_clone().expect("dup"))
                .stderr(slave);
            terminal = Some(master);
        }
    }
    let child = command
        .spawn()
        .map_err(|e| Error::new(ErrorKind::CommandNotFound, format!("execve({:?}): {e}", args[0])))?;
    let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).expect("pidfd");
    Ok(Launched { pid: child.id().cast_signed(), pidfd, terminal, network: None })
}

fn open_terminal(size: WindowSize) -> (OwnedFd, OwnedFd) {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("openpt");
    unlockpt(&master).expect("unlockpt");
    let path = ptsname(&master, Vec::new()).expect("ptsname").into_string().expect("text");
    let slave = fs::File::options().read(true).write(true).open(path).expect("opens");
    let size =
        rustix::termios::Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(&master, size).expect("size");
    (master, slave.into())
}

// === the daemon's side ===

/// A control connection.
pub struct Daemon {
    socket: OwnedFd,
    next: u64,
    pub events: VecDeque<Event>,
}

impl Daemon {
    pub fn new(socket: OwnedFd) -> Self {
        Self { socket, next: 0, events: VecDeque::new() }
    }

    pub fn connect(path: &Path) -> std::io::Result<Self> {
        use rustix::net::*;
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        connect(&socket, &SocketAddrUnix::new(path)?)?;
        Ok(Self::new(socket))
    }

    pub fn send(&mut self, request: &Request, fds: Vec<OwnedFd>) {
        Outgoing::new(request, fds).expect("encodes").send(self.socket.as_fd()).expect("sends");
    }

    pub fn send_raw(&mut self, message: &serde_json::Value) {
        Outgoing::new(message, vec![]).expect("encodes").send(self.socket.as_fd()).expect("sends");
    }

    pub fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    pub fn call_with(&mut self, call: Call, fds: Vec<OwnedFd>) -> Result<Answer> {
        self.call_in_roles(call, fds.into_iter().map(|fd| (FdRole::Stream, fd)).collect())
    }

    pub fn call_in_roles(&mut self, call: Call, fds: Vec<(FdRole, OwnedFd)>) -> Result<Answer> {
        self.next += 1;
        let (roles, fds) = fds.into_iter().unzip();
        let request = Request { fds: roles, ..Request::new(self.next, call) };
        self.send(&request, fds);
        self.reply(request.id)
    }

    /// What rides along with the answer.
    pub fn call_for_descriptors(&mut self, call: Call) -> Result<Vec<OwnedFd>> {
        self.next += 1;
        self.send(&Request::new(self.next, call), vec![]);
        loop {
            wait_readable(self.socket.as_fd(), "an answer");
            let packet = Incoming::receive(self.socket.as_fd()).expect("receives").expect("goes on");
            match packet.parse().expect("parses") {
                Message::Reply { result, .. } => return result.map(|_| packet.fds),
                Message::Event(event) => self.events.push_back(event),
                Message::Hello { .. } => {}
            }
        }
    }

    pub fn call(&mut self, call: Call) -> Result<Answer> {
        self.call_with(call, vec![])
    }

    pub fn reply(&mut self, wanted: u64) -> Result<Answer> {
        loop {
            match self.message().unwrap_or_else(|| panic!("closed before reply {wanted}")) {
                Message::Reply { id, result } => {
                    assert_eq!(id, wanted);
                    return result;
                }
                Message::Event(event) => self.events.push_back(event),
                Message::Hello { version, .. } => assert_eq!(version, VERSION),
            }
        }
    }

    /// The next event; `None` at the end of the connection.
    pub fn event(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Some(event);
            }
            match self.message()? {
                Message::Event(event) => self.events.push_back(event),
                Message::Hello { .. } => {}
                Message::Reply { id, .. } => panic!("reply {id} to nobody"),
            }
        }
    }

    /// The event that ends everything.
    pub fn exited(&mut self) -> tare_model::ExitRecord {
        loop {
            match self.event().expect("closed before the end was told") {
                Event::Exited(exit) => return exit,
                Event::LogGrew | Event::Oom | Event::ExecExited(_) | Event::Leftovers(_) => {}
            }
        }
    }

    pub fn snapshot(&mut self) -> Snapshot {
        match self.call(Call::Snapshot).expect("a snapshot") {
            Answer::Snapshot(snapshot) => *snapshot,
            other => panic!("{other:?}"),
        }
    }

    pub fn message(&mut self) -> Option<Message> {
        wait_readable(self.socket.as_fd(), "a message");
        let packet = Incoming::receive(self.socket.as_fd()).expect("receives")?;
        Some(packet.parse().expect("parses"))
    }
}

pub fn wait_readable(fd: BorrowedFd<'_>, what: &str) {
    assert!(is_readable(fd, LIMIT), "waited for {what}");
}

pub fn is_readable(fd: BorrowedFd<'_>, limit: Duration) -> bool {
    let limit = Timespec { tv_sec: limit.as_secs().cast_signed(), tv_nsec: limit.subsec_nanos().into() };
    poll(&mut [PollFd::from_borrowed_fd(fd, PollFlags::IN)], Some(&limit)).expect("polls") > 0
}

// === a shim in a thread ===

/// A monitor, and the directories it was given.
pub struct Shim {
    pub daemon: Daemon,
    pub dir: Arc<tempfile::TempDir>,
    pub fake: Fake,
    pub driver: LogDriver,
    ended: mpsc::Receiver<Result<()>>,
    /// The thread that is the monitor.
    thread: Pid,
}

impl Shim {
    pub fn new() -> Self {
        Self::with(Fake::default())
    }

    pub fn with(fake: Fake) -> Self {
        Self::within(fake, Arc::new(tempfile::tempdir().expect("temporary directory")))
    }

    /// A monitor in directories that are used again.
    pub fn within(fake: Fake, dir: Arc<tempfile::TempDir>) -> Self {
        let (ours, theirs) = wire::pair().expect("pair");
        let (sender, ended) = mpsc::channel();
        let sandbox = fake.clone();
        let (tell, thread) = mpsc::channel();
        std::thread::spawn(move || {
            let _ = tell.send(rustix::thread::gettid());
            let _ = sender.send(Supervisor::new(theirs, &sandbox).and_then(Supervisor::run));
        });
        let _ = fs::create_dir(dir.path().join("log"));
        let _ = fs::create_dir(dir.path().join("run"));
        let thread = thread.recv().expect("a thread");
        Self { daemon: Daemon::new(ours), dir, fake, driver: LogDriver::Local, ended, thread }
    }

    pub fn request(&self, script: &str) -> StartRequest {
        let config = LogConfig { driver: self.driver, ..LogConfig::default() };
        StartRequest {
            spec: spec(&["sh", "-c", script]),
            run_dir: self.run_dir(),
            stdio: StdioSettings::default(),
            log: LogSettings { config, directory: self.dir.path().join("log") },
            attach: vec![],
        }
    }

    /// Starts `sh -c script` with nothing attached.
    pub fn start(&mut self, script: &str) -> Started {
        let request = self.request(script);
        self.launch(request, vec![])
    }

    /// Starts `sh -c script` with one peer, after `change`.
    pub fn start_attached(&mut self, script: &str, change: impl FnOnce(&mut StartRequest)) -> Peer {
        let (peer, theirs) = Peer::pair();
        let mut request = self.request(script);
        request.attach = vec![ALL];
        change(&mut request);
        self.launch(request, vec![theirs]);
        peer
    }

    /// As [`Shim::start_attached`], with a peer whose socket takes a few kilobytes: less than a pipe.
    pub fn start_narrow(&mut self, script: &str) -> Peer {
        let (peer, theirs) = Peer::pair();
        rustix::net::sockopt::set_socket_send_buffer_size(&theirs, 4096).expect("sets");
        let mut request = self.request(script);
        request.attach = vec![OUTPUT];
        self.launch(request, vec![theirs]);
        peer
    }

    pub fn launch(&mut self, request: StartRequest, peers: Vec<OwnedFd>) -> Started {
        match self.daemon.call_with(Call::Start(Box::new(request)), peers).expect("starts") {
            Answer::Started(started) => started,
            other => panic!("{other:?}"),
        }
    }

    pub fn attach(&mut self, streams: Streams) -> Peer {
        let (peer, theirs) = Peer::pair();
        let answer = self.daemon.call_with(Call::Attach { streams }, vec![theirs]);
        assert_eq!(answer, Ok(Answer::Done));
        peer
    }

    pub fn exec(&mut self, script: &str, change: impl FnOnce(&mut ExecRequest)) -> (ExecId, Peer) {
        let (peer, theirs) = Peer::pair();
        let mut request = exec_request(script);
        change(&mut request);
        let exec = request.exec.clone();
        let answer = self.daemon.call_with(Call::Exec(Box::new(request)), vec![theirs]).expect("executes");
        assert!(matches!(answer, Answer::ExecStarted { pid } if pid > 0), "{answer:?}");
        (exec, peer)
    }

    pub fn run_dir(&self) -> PathBuf {
        self.dir.path().join("run")
    }

    /// Everything that was logged.
    pub fn log(&self) -> String {
        let mut reader =
            Reader::open(&self.dir.path().join("log"), self.driver, Options::default()).expect("opens");
        let mut text = Vec::new();
        while let Some(entry) = reader.next().expect("reads") {
            text.extend_from_slice(entry.bytes);
        }
        String::from_utf8(text).expect("text")
    }

    /// Waits for the monitor to end by itself.
    pub fn ends(&self) {
        self.ended.recv_timeout(LIMIT).expect("the shim goes on").expect("the shim failed");
    }

    /// Waits until the monitor sleeps, and stays asleep: nothing that it waits for is there.
    pub fn sleeps(&self) {
        let path = format!("/proc/self/task/{}/stat", self.thread.as_raw_nonzero());
        let limit = std::time::Instant::now() + LIMIT;
        let mut asleep = 0;
        while asleep < 20 {
            assert!(std::time::Instant::now() < limit, "the monitor is busy with nothing");
            let stat = fs::read_to_string(&path).expect("a monitor");
            asleep = if stat.contains(") S ") { asleep + 1 } else { 0 };
            let moment = rustix::event::Timespec { tv_sec: 0, tv_nsec: 5_000_000 };
            let _ = rustix::event::poll(&mut [], Some(&moment));
        }
    }

    pub fn goes_on(&self) {
        assert!(self.ended.try_recv().is_err(), "the shim has ended");
    }
}

pub const ALL: Streams = Streams { stdin: true, stdout: true, stderr: true };
pub const OUTPUT: Streams = Streams { stdin: false, stdout: true, stderr: true };

pub fn spec(args: &[&str]) -> SandboxSpec {
    serde_json::from_value(serde_json::json!({
        "id": "ab".repeat(32),
        "oci": { "ociVersion": "1.0.2", "process": { "args": args, "cwd": "/", "user": { "uid": 0, "gid": 0 } } },
        "rootfs": { "kind": "directory", "path": "/" },
        "identity": null,
        "seccomp": "unconfined",
        "init": false,
        "create_cwd": false,
    }))
    .expect("a specification")
}

pub fn exec_request(script: &str) -> ExecRequest {
    static NEXT: std::sync::atomic::AtomicU8 = std::sync::atomic::AtomicU8::new(0);
    let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let args = ["sh", "-c", script].map(str::to_owned).into();
    ExecRequest {
        exec: ExecId::from_bytes([number; 32]),
        spec: ExecSpec { args, ..ExecSpec::default() },
        terminal: None,
        streams: ALL,
    }
}

// === a peer ===

/// An attached client.
pub struct Peer {
    pub socket: UnixStream,
}

impl Peer {
    pub fn pair() -> (Self, OwnedFd) {
        let (ours, theirs) = UnixStream::pair().expect("pair");
        ours.set_read_timeout(Some(LIMIT)).expect("sets");
        ours.set_write_timeout(Some(LIMIT)).expect("sets");
        (Self { socket: ours }, theirs.into())
    }

    pub fn say(&mut self, text: &str) {
        self.socket.write_all(text.as_bytes()).expect("writes");
    }

    pub fn end_input(&self) {
        self.socket.shutdown(std::net::Shutdown::Write).expect("shuts down");
    }

    /// Whether nobody has the other end any more.
    pub fn has_ended(&self) -> bool {
        is_readable(self.socket.as_fd(), Duration::ZERO) && matches!((&self.socket).read(&mut [0]), Ok(0))
    }

    /// Comes to an end. Another test's shim, which is forked from this process, may have it for a moment.
    pub fn ends(&self) -> bool {
        is_readable(self.socket.as_fd(), LIMIT) && self.has_ended()
    }

    /// Everything until the end.
    pub fn rest(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.socket.read_to_end(&mut bytes).expect("reads to the end");
        bytes
    }

    /// Everything until the end, by stream.
    pub fn frames(&mut self) -> (String, String) {
        demux(&self.rest())
    }

    /// Reads until what was read raw contains `text`.
    pub fn until(&mut self, text: &str) -> String {
        let mut seen = Vec::new();
        while !String::from_utf8_lossy(&seen).contains(text) {
            let mut chunk = [0; 4096];
            let n = self.socket.read(&mut chunk).unwrap_or_else(|e| panic!("waited for {text:?}: {e}"));
            assert!(n > 0, "ended before {text:?}: {:?}", String::from_utf8_lossy(&seen));
            seen.extend_from_slice(&chunk[..n]);
        }
        String::from_utf8_lossy(&seen).into_owned()
    }

    pub fn is_quiet(&self) -> bool {
        !is_readable(self.socket.as_fd(), Duration::from_millis(200))
    }

    pub fn raw(&self) -> i32 {
        self.socket.as_raw_fd()
    }
}

/// Takes Docker's frames apart.
pub fn demux(mut bytes: &[u8]) -> (String, String) {
    let mut out = [Vec::new(), Vec::new()];
    while let [stream, 0, 0, 0, a, b, c, d, rest @ ..] = bytes {
        let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
        out[usize::from(*stream) - 1].extend_from_slice(&rest[..length]);
        bytes = &rest[length..];
    }
    assert!(bytes.is_empty(), "{} bytes are no frame", bytes.len());
    let [stdout, stderr] = out.map(|bytes| String::from_utf8(bytes).expect("text"));
    (stdout, stderr)
}
