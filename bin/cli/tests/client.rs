//! The binary against a scripted daemon: what it asks for, in which order, on how many connections; and how it ends
//! when the daemon is missing, hung, or gone. No container, no root, no terminal.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

/// A daemon that knows one container, `abc`, and does what its image says.
struct Daemon {
    dir: tempfile::TempDir,
    requests: Receiver<String>,
    connections: Arc<Mutex<usize>>,
}

/// What the container does.
#[derive(Clone, Copy, PartialEq)]
enum Behaviour {
    /// Writes this much to both outputs and ends with 7.
    Writes(usize),
    /// Gives back its input until the end, then ends with 0.
    Echoes,
    /// Cannot be started.
    Unstartable(&'static str),
    /// Runs on; ends with 128 + the number of signals when three came.
    Waits,
    /// The daemon takes the start request and never answers.
    Hangs,
    /// The daemon closes every connection while the container runs.
    Dies,
}

struct Shared {
    behaviour: Behaviour,
    log: Sender<String>,
    started: Mutex<Option<Receiver<()>>>,
    start: Sender<()>,
    over: Mutex<Option<Receiver<i32>>>,
    end: Sender<i32>,
}

impl Daemon {
    fn start(behaviour: Behaviour) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let listener = UnixListener::bind(dir.path().join("tared.sock")).expect("a socket");
        let (log, requests) = channel();
        let (start, started) = channel();
        let (end, over) = channel();
        let shared = Arc::new(Shared {
            behaviour,
            log,
            started: Mutex::new(Some(started)),
            start,
            over: Mutex::new(Some(over)),
            end,
        });
        let connections = Arc::new(Mutex::new(0));
        let count = Arc::clone(&connections);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                *count.lock().expect("the count") += 1;
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || serve(&mut BufReader::new(stream), &shared));
            }
        });
        Self { dir, requests, connections }
    }

    fn command(&self, args: &[&str]) -> Command {
        tare(&self.dir.path().join("tared.sock"), args)
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).stdin(Stdio::null()).output().expect("tare to run")
    }

    /// The requests so far, first lines only.
    fn seen(&self) -> Vec<String> {
        self.requests.try_iter().collect()
    }

    fn next(&self) -> String {
        self.requests.recv_timeout(std::time::Duration::from_secs(20)).expect("a request")
    }
}

fn tare(socket: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tare"));
    command.env_remove("TARE_HOST").env_remove("DOCKER_HOST").env_remove("DOCKER_API_VERSION");
    command.arg("--host").arg(format!("unix://{}", socket.display())).args(args);
    command
}

fn serve(stream: &mut BufReader<UnixStream>, shared: &Shared) -> Option<()> {
    loop {
        let (line, headers) = head(stream)?;
        let length = headers.get("content-length").map_or(0, |v| v.parse().expect("a length"));
        let mut body = vec![0; length];
        stream.read_exact(&mut body).ok()?;
        let _ = shared.log.send(line.clone());
        let path = line.split(' ').nth(1)?.strip_prefix("/v1.51")?.split('?').next()?.to_owned();
        match path.as_str() {
            "/containers/create" => answer(stream, 201, r#"{"Id":"abc","Warnings":["it is a test"]}"#)?,
            "/containers/abc/attach" => return attach(stream, shared),
            "/containers/abc/wait" => {
                stream.get_mut().write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").ok()?;
                let over = shared.over.lock().ok()?.take()?;
                let code = over.recv().ok().filter(|code| *code >= 0)?;
                let text = format!("{{\"StatusCode\":{code}}}\n");
                write!(stream.get_mut(), "{:x}\r\n{text}\r\n0\r\n\r\n", text.len()).ok()?;
            }
            "/containers/abc/start" => match shared.behaviour {
                Behaviour::Unstartable(why) => answer(stream, 400, &format!("{{\"message\":\"{why}\"}}"))?,
                Behaviour::Hangs => drop(stream.read_exact(&mut [0])),
                _ => {
                    answer(stream, 204, "")?;
                    let _ = shared.start.send(());
                }
            },
            "/containers/abc/kill" => {
                answer(stream, 204, "")?;
                let _ = shared.start.send(());
            }
            _ => answer(stream, 404, r#"{"message":"No such container: x"}"#)?,
        }
    }
}

fn head(stream: &mut BufReader<UnixStream>) -> Option<(String, HashMap<String, String>)> {
    let (mut first, mut headers) = (String::new(), HashMap::new());
    if stream.read_line(&mut first).ok()? == 0 {
        return None;
    }
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).ok()?;
        match line.trim().split_once(": ") {
            Some((name, value)) => drop(headers.insert(name.to_lowercase(), value.to_owned())),
            None => return Some((first.trim().to_owned(), headers)),
        }
    }
}

fn answer(stream: &mut BufReader<UnixStream>, status: u16, body: &str) -> Option<()> {
    let length = if status == 204 { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    write!(stream.get_mut(), "HTTP/1.1 {status} X\r\n{length}\r\n{body}").ok()
}

fn frame(kind: u8, data: &[u8]) -> Vec<u8> {
    let mut out = vec![kind, 0, 0, 0];
    out.extend((data.len() as u32).to_be_bytes());
    out.extend(data);
    out
}

fn attach(stream: &mut BufReader<UnixStream>, shared: &Shared) -> Option<()> {
    stream
        .get_mut()
        .write_all(b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
        .ok()?;
    let started = shared.started.lock().ok()?.take()?;
    started.recv().ok()?;
    let code = match shared.behaviour {
        Behaviour::Writes(n) => {
            for _ in 0..n / 1000 {
                stream
                    .get_mut()
                    .write_all(&[frame(1, &[b'o'; 1000]), frame(2, &[b'e'; 1000])].concat())
                    .ok()?;
            }
            7
        }
        Behaviour::Echoes => {
            let mut buf = [0; 5000];
            while let Ok(n @ 1..) = stream.read(&mut buf) {
                stream.get_mut().write_all(&frame(1, &buf[..n])).ok()?;
            }
            0
        }
        Behaviour::Waits => {
            stream.get_mut().write_all(&frame(1, b"up\n")).ok()?;
            let _both = (started.recv(), started.recv());
            130
        }
        Behaviour::Dies => {
            stream.get_ref().shutdown(std::net::Shutdown::Both).ok()?;
            return shared.end.send(-1).ok();
        }
        Behaviour::Unstartable(_) | Behaviour::Hangs => return None,
    };
    let _ = stream.get_ref().shutdown(std::net::Shutdown::Both);
    shared.end.send(code).ok()
}

fn signal(child: &Child, name: &str) {
    let status =
        Command::new("/bin/kill").args(["-s", name, &child.id().to_string()]).status().expect("kill to run");
    assert!(status.success());
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_run_is_four_requests_on_three_connections() {
    let daemon = Daemon::start(Behaviour::Writes(0));
    let output = daemon.run(&["run", "--rm", "img", "true"]);
    assert_eq!(output.status.code(), Some(7));
    let stderr = text(&output.stderr);
    assert_eq!(stderr.lines().next(), Some("WARNING: it is a test"), "{stderr}");
    let mut paths: Vec<String> = daemon.seen();
    assert_eq!(paths.len(), 4);
    assert!(paths[0].starts_with("POST /v1.51/containers/create "), "{paths:?}");
    assert!(paths.pop().is_some_and(|p| p.starts_with("POST /v1.51/containers/abc/start ")));
    paths.sort();
    assert_eq!(paths[0], "POST /v1.51/containers/abc/attach?stream=1&stdout=1&stderr=1 HTTP/1.1");
    assert_eq!(paths[1], "POST /v1.51/containers/abc/wait?condition=removed HTTP/1.1");
    assert_eq!(*daemon.connections.lock().expect("the count"), 3);
}

#[test]
fn all_output_arrives_on_its_own_stream() {
    let daemon = Daemon::start(Behaviour::Writes(3_000_000));
    let output = daemon.run(&["run", "img"]);
    assert_eq!(output.status.code(), Some(7));
    assert!(output.stdout.len() == 3_000_000 && output.stdout.iter().all(|b| *b == b'o'));
    assert!(output.stderr.ends_with(&[b'e'; 1000]) && output.stderr.len() > 3_000_000);
}

#[test]
fn input_from_a_pipe_reaches_the_container_and_so_does_its_end() {
    let daemon = Daemon::start(Behaviour::Echoes);
    let mut child = daemon
        .command(&["run", "-i", "img", "cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("tare");
    let data: Vec<u8> = (0..2_000_000u32).map(|i| (i % 251) as u8).collect();
    let (mut stdin, sent) = (child.stdin.take().expect("a pipe"), data.clone());
    let writer = std::thread::spawn(move || stdin.write_all(&sent).expect("all input to be taken"));
    let mut back = Vec::new();
    child.stdout.take().expect("a pipe").read_to_end(&mut back).expect("all output");
    writer.join().expect("the writer");
    assert_eq!(child.wait().expect("the end").code(), Some(0));
    assert!(back == data, "{} of {} bytes came back", back.len(), data.len());
}

#[test]
fn a_start_that_is_refused_has_the_shells_exit_codes() {
    for (why, code) in [
        ("exec: executable file not found in $PATH", 127),
        ("exec: permission denied", 126),
        ("no memory", 125),
    ] {
        let daemon = Daemon::start(Behaviour::Unstartable(why));
        let output = daemon.run(&["run", "img", "nope"]);
        assert_eq!(output.status.code(), Some(code));
        let stderr = text(&output.stderr);
        assert!(
            stderr.contains(&format!("tare: Error response from daemon: {why}\n\nRun 'tare run --help'")),
            "{stderr}"
        );
    }
}

#[test]
fn signals_go_to_the_container() {
    let daemon = Daemon::start(Behaviour::Waits);
    let mut child = daemon
        .command(&["run", "img"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("tare");
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().expect("a pipe")).read_line(&mut line).expect("output");
    assert_eq!(line, "up\n");
    (0..4).for_each(|_| drop(daemon.next()));
    for name in ["HUP", "USR1"] {
        signal(&child, name);
        assert_eq!(daemon.next(), format!("POST /v1.51/containers/abc/kill?signal={name} HTTP/1.1"));
    }
    assert_eq!(child.wait().expect("the end").code(), Some(130));
}

#[test]
fn without_a_proxy_a_signal_ends_the_client_alone() {
    let daemon = Daemon::start(Behaviour::Waits);
    let mut child = daemon
        .command(&["run", "--sig-proxy=false", "img"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("tare");
    BufReader::new(child.stdout.as_mut().expect("a pipe")).read_line(&mut String::new()).expect("output");
    signal(&child, "TERM");
    assert_eq!(child.wait().expect("the end").code(), Some(143));
    assert!(daemon.seen().iter().all(|r| !r.contains("kill")));
}

#[test]
fn a_hung_daemon_cannot_hold_the_client() {
    let daemon = Daemon::start(Behaviour::Hangs);
    let mut child = daemon
        .command(&["run", "img"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("tare");
    (0..4).for_each(|_| drop(daemon.next()));
    // One at a time, as fingers are: signals that arrive together may count once.
    for _ in 0..200 {
        signal(&child, "INT");
        if let Some(status) = child.try_wait().expect("a state") {
            assert_eq!(status.code(), Some(1));
            let mut stderr = String::new();
            child.stderr.take().expect("a pipe").read_to_string(&mut stderr).expect("text");
            assert!(stderr.ends_with("got 3 SIGTERM/SIGINTs, forcefully exiting\n"), "{stderr}");
            return;
        }
        std::thread::yield_now();
    }
    let _ = child.kill();
    let _ = child.wait();
    panic!("200 interrupts did not end the client");
}

#[test]
fn a_reader_that_goes_away_ends_the_client_quietly() {
    let daemon = Daemon::start(Behaviour::Writes(3_000_000));
    let mut child = daemon
        .command(&["run", "img"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("tare");
    let mut some = [0; 10];
    child.stdout.take().expect("a pipe").read_exact(&mut some).expect("some output");
    assert_eq!(child.wait().expect("the end").code(), Some(141));
}

/// A directory with a `tared` of this script.
impl Drop for Daemon {
    fn drop(&mut self) {
        // Of daemons that were started and are none.
        groups(self.dir.path()).iter().for_each(|group| {
            let _ = std::fs::remove_dir(group);
        });
    }
}

/// Of a daemon that was started for this directory; a real one's are removed by its nursery.
fn groups(dir: &Path) -> Vec<std::path::PathBuf> {
    let tail: String =
        dir.to_string_lossy().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let hierarchies = std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten();
    let roots = hierarchies.map(|entry| entry.path()).chain([std::path::PathBuf::from("/sys/fs/cgroup")]);
    roots.map(|root| root.join(format!("tared{tail}"))).filter(|group| group.exists()).collect()
}

fn fake_daemon(script: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("tared");
    std::fs::write(&path, format!("#!/bin/sh\n{script}")).expect("a script");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("its mode");
    dir
}

#[test]
fn a_daemon_that_is_missing_is_started_and_awaited() {
    let daemon = Daemon::start(Behaviour::Writes(0));
    let hidden = daemon.dir.path().join("hidden");
    std::fs::rename(daemon.dir.path().join("tared.sock"), &hidden).expect("a rename");
    // It puts the socket in place, notes how it was started, and only then says that it is ready.
    let bin = fake_daemon(
        "mv \"$(dirname \"$4\")/hidden\" \"$4\"; { echo \"$@\"; pwd; env; ls -l /proc/$$/fd; cut -d' ' -f6 /proc/$$/stat; echo $$; } > \"$6/facts\"\n\
         eval \"echo ready >&$2\"; exit 0\n",
    );
    let stray = std::fs::File::create(daemon.dir.path().join("stray")).expect("a file");
    rustix::io::fcntl_setfd(&stray, rustix::io::FdFlags::empty()).expect("an inheritable descriptor");
    let output = daemon
        .command(&["run", "img"])
        .env("TARE_LIBEXEC", bin.path())
        .env("SECRET", "x")
        .stdin(Stdio::null())
        .output()
        .expect("tare");
    assert_eq!(output.status.code(), Some(7), "{}", text(&output.stderr));
    assert_eq!(text(&output.stderr).lines().filter(|l| l.contains("starting the daemon")).count(), 1);
    let facts = std::fs::read_to_string(daemon.dir.path().join("facts")).expect("what the daemon saw");
    let lines: Vec<&str> = facts.lines().collect();
    assert!(
        lines[0].starts_with("--ready-fd ")
            && lines[0].contains(" --socket ")
            && lines[0].contains(" --run-dir "),
        "{facts}"
    );
    assert_eq!(lines[1], "/");
    assert!(!facts.contains("SECRET"), "{facts}");
    assert!(!facts.contains("stray"), "a descriptor of ours was inherited: {facts}");
    let (session, pid) = (lines[lines.len() - 2], lines[lines.len() - 1]);
    assert_eq!(session, pid, "it leads a session of its own");
}

#[test]
fn clients_that_race_start_one_daemon() {
    let daemon = Daemon::start(Behaviour::Waits);
    std::fs::rename(daemon.dir.path().join("tared.sock"), daemon.dir.path().join("hidden"))
        .expect("a rename");
    let bin = fake_daemon(
        "echo started >> \"$6/starts\"; sleep 0.3; mv \"$6/hidden\" \"$4\"; eval \"echo ready >&$2\"\n",
    );
    let start = || {
        let mut command = daemon.command(&["create", "img"]);
        command
            .env("TARE_LIBEXEC", bin.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("tare")
    };
    let clients: Vec<Child> = (0..5).map(|_| start()).collect();
    for client in clients {
        let output = client.wait_with_output().expect("the end");
        assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(0), "abc\n"));
    }
    let starts = std::fs::read_to_string(daemon.dir.path().join("starts")).expect("at least one start");
    assert_eq!(starts, "started\n");
}

#[test]
fn a_daemon_that_dies_leaves_a_clear_error() {
    let daemon = Daemon::start(Behaviour::Dies);
    let output = daemon.run(&["run", "img"]);
    assert_eq!(output.status.code(), Some(125));
    assert!(
        text(&output.stderr).contains("the daemon went away while the container ran"),
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn a_daemon_that_cannot_start_gives_its_reason() {
    let dir = tempfile::tempdir().expect("a directory");
    let run = |script: &str| {
        let bin = fake_daemon(script);
        let output = tare(&dir.path().join("tared.sock"), &["ps"])
            .env("TARE_LIBEXEC", bin.path())
            .output()
            .expect("tare");
        assert_eq!(output.status.code(), Some(125));
        text(&output.stderr)
    };
    assert!(
        run("eval \"echo no overlay here >&$2\"; exit 1").contains("tared could not start: no overlay here")
    );
    assert!(run("exit 3").contains("tared ended before it was ready (exit status: 3)"));
    assert_eq!(groups(dir.path()), [] as [std::path::PathBuf; 0], "left behind");
    let empty = tempfile::tempdir().expect("a directory");
    let output = tare(&dir.path().join("tared.sock"), &["--no-autostart", "ps"])
        .env("TARE_LIBEXEC", empty.path())
        .output()
        .expect("tare");
    assert!(text(&output.stderr).contains("--no-autostart"), "{}", text(&output.stderr));
}

#[test]
fn nothing_is_started_where_docker_host_points() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut command = Command::new(env!("CARGO_BIN_EXE_tare"));
    command
        .env_remove("TARE_HOST")
        .env("DOCKER_HOST", format!("unix://{}/tared.sock", dir.path().display()))
        .arg("ps");
    let output = command.output().expect("tare");
    assert_eq!(output.status.code(), Some(1));
    let stderr = text(&output.stderr);
    assert!(stderr.contains("Is the daemon running?") && !stderr.contains("starting"), "{stderr}");
}
