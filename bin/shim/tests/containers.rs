//! The program as the daemon uses it: real containers, started through the nursery. Needs root.

use std::fs;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::{Pid, Signal as KernelSignal, kill_process};
use serde_json::json;
use tare_model::sandbox::{ExecSpec, SandboxSpec, WindowSize};
use tare_model::{ContainerId, ErrorKind, ExecId, Exit, Signal};
use tare_shim::client::{Control, Events, Nursery};
use tare_shim::logs::{Options, Reader};
use tare_shim::protocol::{Event, ExecRequest, LogSettings, StartRequest, StdioSettings, Streams};
use tare_shim::record::{Record, State};

const LIMIT: Duration = Duration::from_secs(30);
const ALL: Streams = Streams { stdin: true, stdout: true, stderr: true };

/// An instance of its own, with one container at most.
struct House {
    nursery: Nursery,
    dir: tempfile::TempDir,
    id: ContainerId,
    name: String,
}

struct Tenant {
    control: Control,
    events: Events,
    peer: UnixStream,
    pid: i32,
    shim_pid: i32,
}

impl House {
    fn new() -> Self {
        let mut random = [0; 32];
        fs::File::open("/dev/urandom").expect("opens").read_exact(&mut random).expect("reads");
        let id = ContainerId::from_bytes(random);
        let name = format!("tare-shim-test-{}", id.short());
        let nursery = Nursery::spawn(env!("CARGO_BIN_EXE_tare-shim"), &name).expect("spawns");
        let dir = tempfile::tempdir().expect("temporary directory");
        for name in ["run", "log", "upper", "work"] {
            fs::create_dir(dir.path().join(name)).expect("makes");
        }
        Self { nursery, dir, id, name }
    }

    fn cgroups_path(&self) -> String {
        format!("/{}-containers/{}", self.name, self.id.short())
    }

    fn request(&self, args: &[&str]) -> StartRequest {
        let capabilities = ["CAP_CHOWN", "CAP_SETUID", "CAP_SETGID", "CAP_KILL"];
        let spec: SandboxSpec = serde_json::from_value(json!({
            "id": self.id,
            "rootfs": {
                "kind": "overlay", "lowers": ["/"],
                "upper": self.dir.path().join("upper"), "work": self.dir.path().join("work"),
            },
            "identity": null, "seccomp": "default", "init": false, "create_cwd": false,
            "oci": {
                "ociVersion": "1.2.0",
                "process": {
                    "user": { "uid": 0, "gid": 0 }, "args": args, "cwd": "/", "env": ["PATH=/usr/bin:/bin"],
                    "capabilities": { "bounding": capabilities, "effective": capabilities, "permitted": capabilities },
                },
                "root": { "path": "unused" },
                "hostname": "box",
                "mounts": [
                    { "destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"] },
                    { "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"] },
                    { "destination": "/dev/pts", "type": "devpts", "source": "devpts",
                      "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"] },
                ],
                "linux": {
                    "cgroupsPath": self.cgroups_path(),
                    "resources": { "pids": { "limit": 100 } },
                    "namespaces": [
                        { "type": "mount" }, { "type": "pid" }, { "type": "ipc" }, { "type": "uts" }, { "type": "network" },
                    ],
                },
            },
        }))
        .expect("a specification");
        StartRequest {
            spec,
            run_dir: self.dir.path().join("run"),
            stdio: StdioSettings { open_stdin: true, stdin_once: true, terminal: None },
            log: LogSettings { directory: self.dir.path().join("log"), ..LogSettings::default() },
            attach: vec![ALL],
        }
    }

    async fn launch(&self, request: StartRequest) -> tare_model::Result<Tenant> {
        let (peer, theirs) = pair();
        let (control, events, started) = self.nursery.start(None, request, vec![theirs], None).await?;
        Ok(Tenant { control, events, peer, pid: started.pid, shim_pid: started.shim_pid })
    }

    async fn start(&self, script: &str) -> Tenant {
        self.launch(self.request(&["sh", "-c", script])).await.expect("starts")
    }

    fn log(&self) -> String {
        let directory = self.dir.path().join("log");
        let mut reader = Reader::open(&directory, Default::default(), Options::default()).expect("opens");
        let mut text = String::new();
        while let Some(entry) = reader.next().expect("reads") {
            text += &String::from_utf8_lossy(entry.bytes);
        }
        text
    }

    /// The group that holds the container's, which the engine would keep, in each hierarchy.
    fn parents(&self) -> Vec<PathBuf> {
        let parent = format!("{}-containers", self.name);
        let hierarchies = fs::read_dir("/sys/fs/cgroup").expect("reads");
        hierarchies
            .map(|entry| entry.expect("entry").path().join(&parent))
            .filter(|path| path.exists())
            .collect()
    }

    /// Groups of the container that are still there.
    fn cgroups(&self) -> Vec<PathBuf> {
        let below = self.parents().into_iter().map(|path| path.join(self.id.short()));
        below.filter(|path| path.exists()).collect()
    }
}

impl Drop for House {
    fn drop(&mut self) {
        for path in self.parents() {
            let _ = fs::remove_dir(path);
        }
    }
}

impl Tenant {
    async fn exited(&mut self) -> Exit {
        loop {
            match self.events.next().await.expect("closed before the end was told") {
                Event::Exited(exit) => return exit.exit,
                Event::Leftovers(error) => panic!("left something: {error}"),
                _ => {}
            }
        }
    }

    async fn kill(&mut self) {
        self.control.signal(Signal::KILL, None).await.expect("kills");
        assert_eq!(self.exited().await, Exit::Signal(9));
        assert_eq!(self.events.next().await, None);
    }

    /// Everything a peer without a terminal gets, without the frames' headers.
    fn rest(&mut self) -> String {
        rest(&mut self.peer)
    }
}

fn pair() -> (UnixStream, OwnedFd) {
    let (ours, theirs) = UnixStream::pair().expect("pair");
    ours.set_read_timeout(Some(LIMIT)).expect("sets");
    (ours, theirs.into())
}

fn rest(peer: &mut UnixStream) -> String {
    let mut bytes = Vec::new();
    peer.read_to_end(&mut bytes).expect("reads to the end");
    let (mut text, mut bytes) = (Vec::new(), &bytes[..]);
    while let [_, 0, 0, 0, a, b, c, d, after @ ..] = bytes {
        let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
        text.extend_from_slice(&after[..length]);
        bytes = &after[length..];
    }
    String::from_utf8(text).expect("text")
}

fn until(peer: &mut UnixStream, text: &str) -> String {
    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).contains(text) {
        let mut byte = [0];
        peer.read_exact(&mut byte).unwrap_or_else(|e| panic!("waited for {text:?}: {e}"));
        seen.push(byte[0]);
    }
    String::from_utf8_lossy(&seen).into_owned()
}

fn exec(args: &[&str]) -> ExecRequest {
    ExecRequest {
        exec: ExecId::from_bytes([7; 32]),
        spec: ExecSpec {
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            env: vec!["PATH=/usr/bin:/bin".to_owned()],
            ..ExecSpec::default()
        },
        terminal: None,
        streams: ALL,
    }
}

#[tokio::test]
async fn a_container_runs_isolated_and_leaves_nothing() {
    let house = House::new();
    let mut tenant = house.start("echo $$ $(hostname); read x; echo got $x; exit 7").await;
    tenant.peer.write_all(b"it\n").expect("writes");
    assert_eq!(tenant.rest(), "1 box\ngot it\n");
    assert_eq!(tenant.exited().await, Exit::Code(7));
    assert_eq!(house.log(), "1 box\ngot it\n");
    assert_eq!(house.cgroups(), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn execs_see_the_container_and_have_their_own_terminal() {
    let house = House::new();
    let mut tenant = house.start("exec sleep 1000").await;
    let (mut peer, theirs) = pair();
    let size = WindowSize { rows: 33, columns: 111 };
    let request =
        ExecRequest { terminal: Some(size), ..exec(&["sh", "-c", "hostname; stty size; tty; exit 3"]) };
    tenant.control.exec(request, Some(theirs)).await.expect("executes");
    let mut text = String::new();
    peer.read_to_string(&mut text).expect("reads to the end");
    assert_eq!(text, "box\r\n33 111\r\n/dev/pts/0\r\n");
    match tenant.events.next().await {
        Some(Event::ExecExited(exit)) => assert_eq!(exit.exit, Exit::Code(3)),
        other => panic!("{other:?}"),
    }
    let pids = tenant.control.processes().await.expect("lists");
    assert_eq!(pids, [tenant.pid]);
    assert_eq!(tenant.control.stats().await.expect("counts").pids.map(|pids| pids.current), Some(1));
    tenant.kill().await;
}

#[tokio::test]
async fn a_program_that_is_not_there_is_told_apart() {
    let house = House::new();
    let Err(error) = house.launch(house.request(&["/no/such/program"])).await else { panic!("it started") };
    assert_eq!(error.kind(), ErrorKind::CommandNotFound, "{error}");
    let record = Record::read(&house.dir.path().join("run/record")).expect("reads").expect("there");
    assert_eq!(record.state, State::Failed { error });
    assert_eq!(house.cgroups(), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn a_pause_holds_and_sigkill_ends_it_all_the_same() {
    let house = House::new();
    let mut tenant = house.start("read x; echo on; read x").await;
    tenant.control.pause().await.expect("pauses");
    assert!(tenant.control.snapshot().await.expect("answers").paused);
    let error = tenant.control.exec(exec(&["true"]), None).await.expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::Conflict);
    tenant.control.resume().await.expect("resumes");
    tenant.peer.write_all(b"\n").expect("writes");
    until(&mut tenant.peer, "on");
    tenant.control.pause().await.expect("pauses");
    tenant.kill().await;
    assert_eq!(house.cgroups(), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn a_killed_monitor_takes_its_container_along_and_clean_up_removes_the_rest() {
    let house = House::new();
    let mut tenant = house.start("trap '' TERM; while :; do sleep 1000; done").await;
    kill_process(Pid::from_raw(tenant.shim_pid).expect("positive"), KernelSignal::KILL).expect("kills");
    assert_eq!(tenant.events.next().await, None);
    let run = house.dir.path().join("run");
    house.nursery.cleanup(&house.id, &house.cgroups_path(), vec![run.clone()]).await.expect("cleans up");
    assert!(!run.exists());
    assert_eq!(house.cgroups(), Vec::<PathBuf>::new());
    assert!(!PathBuf::from(format!("/proc/{}/root/proc", tenant.pid)).exists(), "its first process lives");
}

#[tokio::test]
async fn a_daemon_comes_back_to_a_container_that_went_on() {
    let house = House::new();
    let mut tenant = house.start("read x; echo still here; exit 4").await;
    drop((tenant.control, tenant.events));
    let socket = house.dir.path().join("run/shim.sock");
    let (control, mut events) = Control::connect(&socket).await.expect("connects");
    assert_eq!(control.snapshot().await.expect("answers").started.pid, tenant.pid);
    tenant.peer.write_all(b"\n").expect("writes");
    assert_eq!(rest(&mut tenant.peer), "still here\n");
    assert!(matches!(events.next().await, Some(Event::Exited(exit)) if exit.exit == Exit::Code(4)));
}

#[tokio::test]
async fn the_init_of_a_container_reaps_and_passes_on() {
    let house = House::new();
    let mut request = house.request(&["sh", "-c", "echo pid $$; exit 9"]);
    request.spec.init = true;
    let mut tenant = house.launch(request).await.expect("starts");
    assert_eq!(tenant.rest(), "pid 2\n");
    assert_eq!(tenant.exited().await, Exit::Code(9));
}

#[tokio::test]
async fn an_idle_monitor_is_small() {
    let house = House::new();
    let mut tenant = house.start("seq 1 1000; read x").await;
    until(&mut tenant.peer, "1000\n");
    let figures = || {
        let rollup = fs::read_to_string(format!("/proc/{}/smaps_rollup", tenant.shim_pid)).expect("reads");
        ["Private_Dirty:", "Pss:"].map(|name| {
            let line = rollup.lines().find(|line| line.starts_with(name)).expect("a figure");
            line.split_whitespace().nth(1).expect("a number").parse::<u64>().expect("a number")
        })
    };
    // It gives back what the start needed as soon as nothing has happened for a moment. Pss also counts pages of the
    // program that are in use, which are more in a build for debugging.
    let most = [250, if cfg!(debug_assertions) { 1_000 } else { 512 }];
    let limit = std::time::Instant::now() + LIMIT;
    let mut seen = figures();
    while seen[0] > most[0] || seen[1] > most[1] {
        assert!(std::time::Instant::now() < limit, "kB of its own and in all: {seen:?}, at most {most:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
        seen = figures();
    }
    println!("monitor: private and dirty {} kB, Pss {} kB", seen[0], seen[1]);
    tenant.kill().await;
}

#[tokio::test]
async fn the_program_answers_for_itself() {
    let run = |args: &[&str]| {
        let output =
            std::process::Command::new(env!("CARGO_BIN_EXE_tare-shim")).args(args).output().expect("runs");
        (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    assert_eq!(run(&["--version"]), (Some(0), format!("tare-shim {}\n", env!("CARGO_PKG_VERSION"))));
    assert_eq!(run(&[]).0, Some(125));
    let (code, text) = run(&["nursery"]);
    assert!(code == Some(1) && text.contains("usage: tare-shim nursery NAME"), "{text}");
}
