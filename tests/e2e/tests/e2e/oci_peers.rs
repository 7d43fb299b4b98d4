//! Other engines on our runtime: Debian's dockerd and containerd with `tare-oci` in the place of runc.
//!
//! Each peer has its own socket, roots, and network and mount namespace; the machine's own Docker is not touched, and
//! what a peer mounts goes with it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tare_kit::engine::{BUSYBOX, program};
use tare_kit::{Cmd, Image, cmd, debs, http, wait};

use crate::ours;

const PATIENCE: Duration = Duration::from_secs(60);

/// A daemon of somebody else's, and where everything of it lies. Its containers' groups are below one that is named after
/// its directory.
struct Peer {
    daemon: Child,
    dir: PathBuf,
}

// === impl Peer ===

impl Peer {
    /// Starts `words`, and waits until `up` says that it answers.
    fn start(dir: &Path, words: &[String], up: impl Fn() -> bool) -> Peer {
        let log = File::create(dir.join("log")).unwrap();
        let daemon = Command::new("unshare")
            .args(["--net", "--mount", "--propagation", "private"])
            .args(words)
            .env("PATH", search_path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let peer = Peer { daemon, dir: dir.to_owned() };
        if wait::until(PATIENCE, || up().then_some(())).is_none() {
            panic!("{} does not answer:\n{}", words[0], peer.log());
        }
        peer
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.daemon), Signal::TERM);
        if !cmd::ends_within(&self.daemon, Duration::from_secs(30)) {
            let _ = self.daemon.kill();
        }
        let _ = self.daemon.wait();
        for hierarchy in fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            // Where it never was, or where something lives in it, which the machine's own check would find.
            let _ = fs::remove_dir(hierarchy.path().join(group(&self.dir)));
        }
    }
}

/// The group above all containers of a peer.
fn group(dir: &Path) -> String {
    dir.file_name().unwrap().to_string_lossy().replace('.', "-")
}

/// Debian's programs first: dockerd starts its own containerd and shims.
fn search_path() -> String {
    let root = debs::docker_root();
    let path = std::env::var("PATH").unwrap_or_default();
    format!("{0}/usr/bin:{0}/usr/sbin:{path}", root.display())
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

fn scratch() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("tare-kit-").tempdir().unwrap()
}

#[test]
fn docker_drives_tare_oci_through_a_containers_life() {
    if !ours() {
        return;
    }
    let dir = scratch();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("daemon.json"), "{}").unwrap();
    let socket = at("docker.sock");
    let mut words = vec![text(&debs::docker("dockerd"))];
    words.extend(["--iptables=false", "--ip6tables=false", "--bridge=none"].map(str::to_owned));
    words.push(format!("--add-runtime=tare={}", program("tare-oci").display()));
    for (flag, value) in [
        ("--host", format!("unix://{}", socket.display())),
        ("--config-file", text(&at("daemon.json"))),
        ("--data-root", text(&at("data"))),
        ("--exec-root", text(&at("exec"))),
        ("--pidfile", text(&at("pid"))),
        ("--default-runtime", "tare".to_owned()),
        ("--cgroup-parent", format!("/{}", group(dir.path()))),
    ] {
        words.extend([flag.to_owned(), value]);
    }
    let answers = || http::request(&socket, "GET", "/_ping", None).is_ok_and(|answer| answer.status == 200);
    let peer = Peer::start(dir.path(), &words, answers);
    let docker = |words: &[&str]| {
        let host = format!("unix://{}", socket.display());
        Cmd::new(debs::docker_client()).args(["--host".to_owned(), host]).args(words).limit(PATIENCE)
    };
    let image = at("image.tar");
    fs::write(&image, Image::busybox(BUSYBOX).docker_archive()).unwrap();
    docker(&["load", "-i", &text(&image)]).ok();

    let run =
        docker(&["run", "--rm", "--network", "none", BUSYBOX, "sh", "-c", "echo out; echo err >&2; exit 7"])
            .run();
    assert_eq!((run.out().as_str(), run.err().as_str(), run.code), ("out", "err", 7), "{}", peer.log());
    let missing = docker(&["run", "--rm", "--network", "none", BUSYBOX, "no-such"]).run();
    assert_eq!(missing.code, 127, "{missing}");

    let limits = ["--memory", "64m", "--pids-limit", "50", "--cpu-shares", "512"];
    let begin = ["run", "-d", "--name", "box", "--network", "none", "--hostname", "inside"];
    docker(&[&begin[..], &limits[..], &[BUSYBOX, "sleep", "1000"]].concat()).ok();
    assert_eq!(docker(&["exec", "box", "hostname"]).ok(), "inside");
    assert_eq!(docker(&["exec", "-i", "box", "cat"]).input("piped").ok(), "piped");
    assert_eq!(
        docker(&["exec", "-u", "5:6", "-w", "/tmp", "-e", "A=1", "box", "sh", "-c", "id -u; pwd; echo $A"])
            .ok(),
        "5\n/tmp\n1"
    );
    assert_eq!(docker(&["exec", "box", "sh", "-c", "exit 9"]).run().code, 9);
    assert_eq!(docker(&["inspect", "-f", "{{.HostConfig.Runtime}}", "box"]).ok(), "tare");
    assert_eq!(pids_limit(&docker(&["inspect", "box"]).ok()).as_deref(), Some("50"));
    docker(&["update", "--pids-limit", "60", "--memory", "96m", "--memory-swap", "96m", "box"]).ok();
    assert_eq!(pids_limit(&docker(&["inspect", "box"]).ok()).as_deref(), Some("60"));

    docker(&["pause", "box"]).ok();
    assert_eq!(docker(&["inspect", "-f", "{{.State.Status}}", "box"]).ok(), "paused");
    docker(&["unpause", "box"]).ok();
    assert!(docker(&["top", "box"]).ok().contains("sleep 1000"));
    docker(&["stop", "-t", "0", "box"]).ok();
    assert_eq!(docker(&["inspect", "-f", "{{.State.ExitCode}}", "box"]).ok(), "137");
    docker(&["start", "box"]).ok();
    docker(&["kill", "box"]).ok();
    docker(&["rm", "-f", "box"]).ok();
    assert_eq!(docker(&["ps", "-aq"]).ok(), "");
}

/// The limit on processes as the kernel has it, for the container that `docker inspect` tells of.
fn pids_limit(inspected: &str) -> Option<String> {
    let shown: Value = serde_json::from_str(inspected).unwrap();
    let pid = shown[0]["State"]["Pid"].as_i64()?;
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let group = |line: &str| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        let place = if controllers == "pids" { "/sys/fs/cgroup/pids" } else { "/sys/fs/cgroup" };
        fs::read_to_string(format!("{place}{path}/pids.max")).ok()
    };
    groups.lines().find_map(group).map(|limit| limit.trim().to_owned())
}

#[test]
fn containerd_drives_tare_oci_through_a_containers_life() {
    if !ours() {
        return;
    }
    let dir = scratch();
    let at = |name: &str| text(&dir.path().join(name));
    let socket = at("containerd.sock");
    let config = format!(
        "version = 2\nroot = \"{}\"\nstate = \"{}\"\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
         [grpc]\naddress = \"{socket}\"\n[ttrpc]\naddress = \"{socket}.ttrpc\"\n",
        at("root"),
        at("state")
    );
    fs::write(at("config.toml"), config).unwrap();
    let ctr = |words: &[&str]| {
        Cmd::new(debs::docker("ctr"))
            .args(["--address", &socket])
            .args(words)
            .env("PATH", search_path())
            .limit(PATIENCE)
    };
    let words = [text(&debs::docker("containerd")), "--config".into(), at("config.toml")];
    let peer = Peer::start(dir.path(), &words, || ctr(&["version"]).run().code == 0);
    fs::write(at("image.tar"), Image::busybox(BUSYBOX).docker_archive()).unwrap();
    ctr(&["images", "import", &at("image.tar")]).ok();
    let name = ctr(&["images", "list", "-q"]).ok();

    let runtime = text(&program("tare-oci"));
    let cgroup = format!("/{}/one", group(dir.path()));
    let begin = ["run", "--snapshotter", "native", "--cgroup", &cgroup, "--runc-binary", &runtime];
    let ran = ctr(&[&begin[..], &["--rm", &name, "one", "sh", "-c", "echo out; exit 5"]].concat()).run();
    assert_eq!((ran.out().as_str(), ran.code), ("out", 5), "{ran}\n{}", peer.log());
    ctr(&[&begin[..], &["-d", "--memory-limit", "67108864", &name, "box", "sleep", "1000"]].concat()).ok();
    assert_eq!(ctr(&["task", "exec", "--exec-id", "e", "box", "echo", "in"]).ok(), "in");
    ctr(&["task", "pause", "box"]).ok();
    assert!(ctr(&["task", "list"]).ok().contains("PAUSED"));
    ctr(&["task", "resume", "box"]).ok();
    assert!(ctr(&["task", "ps", "box"]).ok().lines().count() >= 2);
    ctr(&["task", "kill", "-s", "SIGKILL", "box"]).ok();
    wait::until(PATIENCE, || ctr(&["task", "list"]).ok().contains("STOPPED").then_some(()))
        .expect("it stops");
    let deleted = ctr(&["task", "delete", "box"]).run();
    assert!(deleted.err().contains("137"), "how it ended is told: {deleted}");
    ctr(&["container", "delete", "box"]).ok();
    assert_eq!(ctr(&["container", "list", "-q"]).ok(), "");
}
