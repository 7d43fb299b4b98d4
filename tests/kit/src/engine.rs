//! An engine of a test's own.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::cmd::{Cmd, ends_within};
use crate::debs;
use crate::http::{self, Body, Response};
use crate::image::Image;
use crate::leftovers::Traces;
use crate::wait;

/// The image that most tests run: a shell and small programs.
pub const BUSYBOX: &str = "kit-busybox:1";

/// A daemon with its own root, run directory and socket, which ends with this value. When a test passed, the end
/// fails it if anything is left on the machine.
pub struct Engine {
    dir: TempDir,
    daemon: Option<Child>,
    args: Vec<String>,
    /// A reference daemon that was there before and stays.
    peer: Option<PathBuf>,
    /// The daemon has a network namespace of its own, which stands for the machine's.
    apart: bool,
    /// That namespace, which outlives daemons; and what is there before the first.
    namespace: Option<File>,
    before: String,
}

impl Engine {
    /// Starts an engine that has the busybox image.
    pub fn start() -> Engine {
        let engine = Engine::empty();
        engine.have_busybox();
        engine
    }

    /// Starts an engine without images.
    pub fn empty() -> Engine {
        Engine::with_args(&[])
    }

    /// Starts an engine that has the busybox image, in a network namespace of its own: what it does to links, addresses
    /// and rules is none of the machine's. [`Engine::outside`] runs what a user of that machine would.
    pub fn apart() -> Engine {
        Engine::apart_on("true", &[])
    }

    /// The same on a machine where the commands `before` (of `sh`) have made links, routes and rules, with more arguments
    /// for the daemon.
    pub fn apart_on(before: &str, args: &[&str]) -> Engine {
        let mut engine = Engine::prepared(args);
        engine.apart = engine.peer.is_none();
        engine.before = before.into();
        match engine.apart {
            true => engine.start_daemon(),
            false => engine.remove_containers(),
        }
        engine.have_busybox();
        engine
    }

    /// A command on the machine as the engine sees it: in the daemon's network namespace.
    pub fn outside<S: AsRef<std::ffi::OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Cmd {
        if !self.apart {
            let mut args = args.into_iter();
            let program = args.next().expect("a program");
            return Cmd::new(program.as_ref()).args(args);
        }
        Cmd::new("nsenter").args([&self.namespace_argument(), "--"]).args(args)
    }

    fn namespace_argument(&self) -> String {
        let namespace = self.namespace.as_ref().expect("a daemon that was started");
        format!("--net=/proc/{}/fd/{}", std::process::id(), namespace.as_raw_fd())
    }

    /// Starts an engine with more arguments for the daemon.
    pub fn with_args(args: &[&str]) -> Engine {
        let mut engine = Engine::prepared(args);
        if engine.peer.is_none() {
            engine.start_daemon();
        } else {
            engine.remove_containers();
            engine.remove_images();
        }
        engine
    }

    /// Everything in place and no daemon: for tests of the daemon's own start.
    pub fn prepared(args: &[&str]) -> Engine {
        assert!(
            rustix::process::geteuid().is_root(),
            "end-to-end tests need root: run `cargo xtask test` under sudo"
        );
        let dir = tempfile::Builder::new().prefix("tare-kit-").tempdir().expect("a temporary directory");
        let peer = std::env::var_os("TARE_TEST_PEER").map(PathBuf::from);
        Engine {
            dir,
            daemon: None,
            args: args.iter().map(|a| (*a).to_string()).collect(),
            peer,
            apart: false,
            namespace: None,
            before: String::new(),
        }
    }

    /// True if the suite runs on a reference daemon and tests of our own features should step aside.
    pub fn is_peer() -> bool {
        std::env::var_os("TARE_TEST_PEER").is_some()
    }

    /// A scratch directory that goes with the engine.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A path in the scratch directory, as text.
    pub fn path(&self, name: &str) -> String {
        self.dir().join(name).display().to_string()
    }

    /// The engine's root: durable state.
    pub fn root(&self) -> PathBuf {
        self.dir().join("root")
    }

    /// The engine's run directory: state that ends with the machine's uptime.
    pub fn run_dir(&self) -> PathBuf {
        self.dir().join("run")
    }

    /// The engine's socket.
    pub fn socket(&self) -> PathBuf {
        self.peer.clone().unwrap_or_else(|| self.dir().join("tared.sock"))
    }

    /// What the daemon has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir().join("tared.log")).unwrap_or_default()
    }

    /// The daemon's process id.
    pub fn daemon_pid(&self) -> u32 {
        self.daemon.as_ref().expect("a running daemon").id()
    }

    // === the daemon ===

    /// Starts the daemon and waits until it says that it is ready.
    pub fn start_daemon(&mut self) {
        let mut child = self.spawn_daemon();
        if let Some(mut ready) = child.stdout.take() {
            // A byte or the end: either way the daemon has made up its mind.
            let _ = ready.read(&mut [0u8; 16]);
        }
        if self.apart && self.namespace.is_none() {
            self.namespace = File::open(format!("/proc/{}/ns/net", child.id())).ok();
        }
        self.daemon = Some(child);
        if let Err(e) = UnixStream::connect(self.socket()) {
            panic!("tared does not answer: {e}; it said:\n{}", self.log());
        }
    }

    /// Starts the daemon and does not wait.
    fn spawn_daemon(&self) -> Child {
        let log =
            File::options().append(true).create(true).open(self.dir().join("tared.log")).expect("a log file");
        // Each execs the next, so the daemon is the child.
        let mut command = match (self.apart, &self.namespace) {
            (false, _) => Command::new(program("tared")),
            (true, Some(_)) => {
                let mut command = Command::new("nsenter");
                command.arg(self.namespace_argument()).arg("--").arg(program("tared"));
                command
            }
            (true, None) => {
                let script = format!("set -e; ip link set lo up; {}; exec \"$@\"", self.before);
                let mut command = Command::new("unshare");
                command.args(["--net", "--", "sh", "-c", &script, "sh"]).arg(program("tared"));
                command
            }
        };
        command.arg("--root").arg(self.root()).arg("--run-dir").arg(self.run_dir());
        command.arg("--socket").arg(self.socket());
        // Standard output is the descriptor on which the daemon says that it is ready.
        command.args(["--log-level", "debug", "--ready-fd", "1"]).args(&self.args);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        command.spawn().unwrap_or_else(|e| panic!("cannot run {}: {e}", program("tared").display()))
    }

    /// Kills the daemon with SIGKILL, as a crash would.
    pub fn kill_daemon(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            daemon.kill().expect("killing tared");
            daemon.wait().expect("waiting for tared");
        }
    }

    /// Asks the daemon to end; fails the test if it does not.
    pub fn stop_daemon(&mut self) {
        let Some(mut daemon) = self.daemon.take() else { return };
        let _ = kill_process(Pid::from_child(&daemon), Signal::TERM);
        let ended = ends_within(&daemon, Duration::from_secs(20));
        if !ended {
            let _ = daemon.kill();
        }
        let status = daemon.wait().expect("waiting for tared");
        let talk = self.log();
        assert!(ended, "tared did not end within 20 s of SIGTERM; it said:\n{talk}");
        assert!(std::thread::panicking() || status.success(), "tared ended with {status}; it said:\n{talk}");
    }

    /// True if the daemon's process has not ended by itself.
    pub fn daemon_is_alive(&mut self) -> bool {
        self.daemon.as_mut().is_some_and(|d| d.try_wait().is_ok_and(|s| s.is_none()))
    }

    // === its faces ===

    /// `tare ARGS…` on this engine (the stock client when a reference is under test).
    pub fn tare<S: AsRef<std::ffi::OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Cmd {
        if self.peer.is_some() {
            return self.docker(args);
        }
        let host = format!("unix://{}", self.socket().display());
        let args = in_asked_user_namespace(args.into_iter().map(|arg| arg.as_ref().to_owned()).collect());
        clean(Cmd::new(program("tare"))).args(["--host", &host]).args(args)
    }

    /// `docker ARGS…`, the stock client, on this engine.
    pub fn docker<S: AsRef<std::ffi::OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Cmd {
        let host = format!("unix://{}", self.socket().display());
        clean(Cmd::new(debs::docker_client()))
            .env("DOCKER_HOST", host)
            .env("DOCKER_CONFIG", self.dir())
            .args(args)
    }

    /// A request without a body.
    #[track_caller]
    pub fn get(&self, path: &str) -> Response {
        self.request("GET", path, None)
    }

    /// A request with a JSON body (`null` for none).
    #[track_caller]
    pub fn post(&self, path: &str, body: &Value) -> Response {
        let bytes = body.to_string().into_bytes();
        let body = Body { kind: "application/json", bytes: &bytes };
        self.request("POST", path, (bytes != b"null").then_some(&body))
    }

    /// Any request.
    #[track_caller]
    pub fn request(&self, method: &str, path: &str, body: Option<&Body<'_>>) -> Response {
        http::request(&self.socket(), method, path, body)
            .unwrap_or_else(|e| panic!("{method} {path}: {e}; the daemon said:\n{}", tail(&self.log())))
    }

    /// Loads an image archive over the API; the daemon's answer, which tells of failure in its last line.
    #[track_caller]
    pub fn load_archive(&self, archive: &[u8]) -> Response {
        let body = Body { kind: "application/x-tar", bytes: archive };
        self.request("POST", "/images/load?quiet=1", Some(&body))
    }

    /// Loads an image, which must succeed.
    #[track_caller]
    pub fn load(&self, image: &Image) {
        let answer = self.load_archive(&image.docker_archive());
        let said = answer.text();
        assert!(answer.status == 200 && !said.contains("\"error\""), "{} did not load: {said}", image.name);
    }

    /// Loads the busybox image if it is not there.
    pub fn have_busybox(&self) {
        if self.get(&format!("/images/{BUSYBOX}/json")).status != 200 {
            self.load(&Image::busybox(BUSYBOX));
        }
    }

    // === containers ===

    /// `run --rm --network none busybox sh -c SCRIPT` with more flags: its standard output.
    #[track_caller]
    pub fn sh(&self, flags: &[&str], script: &str) -> String {
        self.shell(flags, script).ok()
    }

    /// `run --rm --network none IMAGE sh -c SCRIPT`: its standard output.
    #[track_caller]
    pub fn sh_in(&self, image: &str, script: &str) -> String {
        self.tare(["run", "--rm", "--network", "none", image, "sh", "-c", script]).ok()
    }

    /// [`Engine::sh`], not yet run.
    pub fn shell(&self, flags: &[&str], script: &str) -> Cmd {
        self.tare([&["run", "--rm", "--network", "none"], flags, &[BUSYBOX, "sh", "-c", script]].concat())
    }

    /// Starts a container in the background and gives its full id.
    #[track_caller]
    pub fn background(&self, flags: &[&str], script: &str) -> String {
        self.tare([&["run", "-d", "--network", "none"], flags, &[BUSYBOX, "sh", "-c", script]].concat()).ok()
    }

    /// `inspect` of a container over the API.
    #[track_caller]
    pub fn inspect(&self, container: &str) -> Value {
        self.get(&format!("/containers/{container}/json")).expect(200)
    }

    /// The host's process id of a container's first process.
    #[track_caller]
    pub fn pid_of(&self, container: &str) -> u32 {
        let pid = self.inspect(container)["State"]["Pid"].as_u64().unwrap_or(0);
        assert!(pid > 0, "{container} has no process: {}", self.inspect(container)["State"]);
        u32::try_from(pid).expect("a process id")
    }

    /// Waits until the container has logged `text`.
    #[track_caller]
    pub fn wait_for_log(&self, container: &str, text: &str) {
        let path = format!("/containers/{container}/logs?stdout=1&stderr=1");
        let mut last = String::new();
        let seen = wait::until(wait::PATIENCE, || {
            last = self.get(&path).text();
            last.contains(text).then_some(())
        });
        assert!(seen.is_some(), "{container} did not log {text:?} but {last:?}");
    }

    /// Ids of all containers, running or not.
    pub fn containers(&self) -> Vec<String> {
        let Ok(answer) = http::request(&self.socket(), "GET", "/containers/json?all=1", None) else {
            return Vec::new();
        };
        let list = answer.json();
        let ids = list.as_array().into_iter().flatten().filter_map(|c| c["Id"].as_str());
        ids.map(String::from).collect()
    }

    /// Removes all containers with their anonymous volumes.
    pub fn remove_containers(&self) {
        for id in self.containers() {
            let _ = http::request(&self.socket(), "DELETE", &format!("/containers/{id}?force=1&v=1"), None);
        }
    }

    /// Removes all images: a reference daemon has those of the test before.
    fn remove_images(&self) {
        let list = self.get("/images/json?all=0").json();
        for id in list.as_array().into_iter().flatten().filter_map(|i| i["Id"].as_str()) {
            self.request("DELETE", &format!("/images/{id}?force=1"), None);
        }
    }

    // === the end ===

    /// What the engine and its containers are known by on the machine.
    pub fn traces(&self) -> Traces {
        let mut traces = Traces::new(self.dir());
        traces.ids = self.containers().into_iter().collect();
        traces.follow(self.daemon.as_ref().map(Child::id));
        traces
    }

    fn end(&mut self) -> Vec<String> {
        if self.peer.is_some() {
            self.remove_containers();
            return Vec::new();
        }
        if self.daemon.is_none() && self.run_dir().exists() && !std::thread::panicking() {
            // A test that killed the daemon leaves the tidying to the next one, as a machine would.
            self.start_daemon();
        }
        let traces = self.traces();
        self.remove_containers();
        self.stop_daemon();
        traces.left()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("tared said at last:\n{}", tail(&self.log()));
            if self.daemon.is_some() {
                let traces = self.traces();
                self.remove_containers();
                self.kill_daemon();
                for pid in traces.processes().into_iter().filter_map(|p| Pid::from_raw(p.cast_signed())) {
                    let _ = kill_process(pid, Signal::KILL);
                }
            }
            return;
        }
        let left = self.end();
        assert!(left.is_empty(), "the engine left on the machine:\n{}", left.join("\n"));
    }
}

fn tail(log: &str) -> String {
    let lines: Vec<_> = log.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}

/// Nothing of the caller's own Docker or tare settings reaches a client under test.
fn clean(cmd: Cmd) -> Cmd {
    ["DOCKER_HOST", "TARE_HOST", "DOCKER_CONTEXT", "DOCKER_API_VERSION", "DOCKER_CONFIG", "DOCKER_TLS_VERIFY"]
        .iter()
        .fold(cmd, |cmd, name| cmd.without_env(name))
}

/// One of the built programs: in `TARE_BIN_DIR`, else beside the test that runs.
pub fn program(name: &str) -> PathBuf {
    let dir = std::env::var_os("TARE_BIN_DIR").map_or_else(beside, PathBuf::from);
    let path = dir.join(name);
    assert!(path.is_file(), "{} is not built: run `cargo build --workspace --bins`", path.display());
    path
}

/// With `TARE_TEST_USERNS=host` containers of the command line are in the host's user namespace unless they say otherwise:
/// for kernels, real or played, on which they cannot have one of their own.
fn in_asked_user_namespace(mut args: Vec<OsString>) -> Vec<OsString> {
    let host = std::env::var_os("TARE_TEST_USERNS").is_some_and(|asked| asked == "host");
    let makes = args.first().is_some_and(|word| word == "run" || word == "create");
    let says = args.iter().any(|arg| arg.to_string_lossy().starts_with("--userns"));
    if host && makes && !says {
        args.insert(1, "--userns=host".into());
    }
    args
}

/// `target/TRIPLE/PROFILE`, two steps above a test program.
fn beside() -> PathBuf {
    let exe = std::env::current_exe().expect("the test's own path");
    let dir = exe.parent().expect("a directory");
    if dir.ends_with("deps") { dir.parent().unwrap_or(dir).into() } else { dir.into() }
}
