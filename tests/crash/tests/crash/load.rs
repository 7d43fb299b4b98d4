//! Clients that take containers through their lives and hold the daemon to its word, whatever dies meanwhile.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::{Value, json};
use tare_kit::engine::BUSYBOX;
use tare_kit::http::{self, Body, Response};
use tare_kit::{Engine, wait};

use crate::random::Random;

/// The network that everybody is on.
const NETWORK: &str = "storm";
/// Ports of the machine that clients' containers and witnesses publish, from here on.
const CLIENT_PORTS: usize = 9000;
const WITNESS_PORTS: usize = 9100;

/// How many clients work at once.
const CLIENTS: usize = 3;

/// Runs `storm` while clients work; ends when the storm is over and every client has finished its round.
pub(crate) fn under_load(socket: &Path, random: &mut Random, storm: impl FnOnce(&mut Random)) {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let mut client = Client::new(socket, number, random.fork());
                let over = &over;
                scope.spawn(move || {
                    while !over.load(Ordering::Relaxed) {
                        client.round();
                    }
                    client.rounds
                })
            })
            .collect();
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| storm(random)));
        over.store(true, Ordering::Relaxed);
        let rounds: Vec<_> = clients.into_iter().map(|c| c.join().expect("a client's checks")).collect();
        eprintln!("rounds of the clients: {rounds:?}");
        if let Err(panic) = ended {
            std::panic::resume_unwind(panic);
        }
    });
}

/// One client. It believes what it was told, and asks again only where an answer never came.
struct Client {
    socket: PathBuf,
    number: usize,
    rounds: usize,
    random: Random,
}

/// What came of a request.
enum Told {
    /// The daemon answered.
    Answer(Response),
    /// It died before it answered: anything may have happened, but only once.
    Nothing,
}

impl Client {
    fn new(socket: &Path, number: usize, random: Random) -> Client {
        Client { socket: socket.to_path_buf(), number, rounds: 0, random }
    }

    /// A whole life: create, start, exec, stop or kill, remove.
    fn round(&mut self) {
        self.rounds += 1;
        let name = format!("client{}-{}", self.number, self.rounds);
        let id = self.create(&name);
        let pid = self.start(&id);
        self.exec(&id);
        self.still_lives(&id, pid);
        self.end(&id);
        self.remove(&id);
    }

    fn create(&self, name: &str) -> String {
        let script = "trap 'exit 0' TERM; while :; do echo tick; sleep 0.05; done";
        let ports = json!({"80/tcp": [{"HostPort": (CLIENT_PORTS + self.number).to_string()}]});
        let host = json!({"NetworkMode": NETWORK, "PortBindings": ports});
        let body = json!({"Image": BUSYBOX, "Cmd": ["sh", "-c", script], "HostConfig": host});
        loop {
            match self.ask("POST", &format!("/containers/create?name={name}"), Some(&body)) {
                Told::Answer(answer) => return id_of(answer.expect(201)),
                Told::Nothing => {
                    let shown = self.inspect(name);
                    if shown.status == 200 {
                        return id_of(shown.json());
                    }
                    assert_eq!(shown.status, 404, "{}", shown.text());
                }
            }
        }
    }

    fn start(&self, id: &str) -> i64 {
        for _ in 0..20 {
            let told = self.ask("POST", &format!("/containers/{id}/start"), None);
            let shown = self.inspect(id);
            assert_eq!(shown.status, 200, "an acknowledged container is lost: {}", shown.text());
            let state = &shown.json()["State"];
            if let Told::Answer(answer) = told {
                let refused = answer.status >= 500;
                assert!(
                    refused || matches!(answer.status, 204 | 304),
                    "start: {} {}",
                    answer.status,
                    answer.text()
                );
                assert!(refused || state["Running"] == json!(true), "started and not running: {state}");
            }
            // A start that was cut short, or whose nursery died, may be tried again.
            if state["Running"] == json!(true) {
                return state["Pid"].as_i64().unwrap();
            }
        }
        panic!("{id} does not start: {}", self.inspect(id).text());
    }

    fn exec(&self, id: &str) {
        let body = json!({"Cmd": ["sh", "-c", "exit 3"], "AttachStdout": true});
        let Told::Answer(answer) = self.ask("POST", &format!("/containers/{id}/exec"), Some(&body)) else {
            return;
        };
        let exec = id_of(answer.expect(201));
        let body = json!({"Detach": false});
        let Told::Answer(answer) = self.ask("POST", &format!("/exec/{exec}/start"), Some(&body)) else {
            return;
        };
        // Who was killed between the two requests no longer knows the exec.
        assert!(matches!(answer.status, 200 | 101 | 404), "exec: {} {}", answer.status, answer.text());
        if answer.status == 404 {
            return;
        }
        if let Told::Answer(shown) = self.ask("GET", &format!("/exec/{exec}/json"), None)
            && shown.status == 200
            && shown.json()["Running"] == json!(false)
        {
            assert_eq!(shown.json()["ExitCode"], json!(3), "{}", shown.text());
        }
    }

    fn still_lives(&self, id: &str, pid: i64) {
        let shown = self.inspect(id).expect(200);
        let (state, networking) = (shown["State"].clone(), &shown["NetworkSettings"]);
        let port = &networking["Ports"]["80/tcp"][0]["HostPort"];
        assert_eq!(*port, json!((CLIENT_PORTS + self.number).to_string()), "its port: {networking}");
        let address = networking["Networks"][NETWORK]["IPAddress"].as_str();
        assert!(address.is_some_and(|a| !a.is_empty()), "its address: {networking}");
        assert_eq!(
            (&state["Running"], &state["Pid"]),
            (&json!(true), &json!(pid)),
            "it died by a crash: {state}"
        );
    }

    fn end(&mut self, id: &str) {
        let verb = if self.random.below(2) == 0 { "stop?t=5" } else { "kill" };
        loop {
            let told = self.ask("POST", &format!("/containers/{id}/{verb}"), None);
            if let Told::Answer(answer) = &told {
                // 409: a kill found it ended already, by the one before that was cut short.
                let known = matches!(answer.status, 204 | 304 | 409);
                assert!(known, "{verb}: {} {}", answer.status, answer.text());
            }
            let ended = || (self.inspect(id).json()["State"]["Running"] == json!(false)).then_some(());
            let patience = std::time::Duration::from_secs(if matches!(told, Told::Nothing) { 1 } else { 20 });
            if wait::until(patience, ended).is_some() {
                break;
            }
            assert!(matches!(told, Told::Nothing), "{verb} was acknowledged and {id} runs on");
        }
        let state = self.inspect(id).expect(200)["State"].clone();
        let code = state["ExitCode"].as_i64().unwrap();
        assert!(matches!(code, 0 | 137 | 143), "an exit code that nobody caused: {state}");
    }

    fn remove(&self, id: &str) {
        loop {
            if let Told::Answer(answer) = self.ask("DELETE", &format!("/containers/{id}?force=1"), None) {
                assert!(matches!(answer.status, 204 | 404), "rm: {} {}", answer.status, answer.text());
                break;
            }
        }
        assert_eq!(self.inspect(id).status, 404, "removed and still there");
    }

    /// `inspect`, asked until a daemon answers.
    fn inspect(&self, id: &str) -> Response {
        loop {
            if let Told::Answer(answer) = self.ask("GET", &format!("/containers/{id}/json"), None) {
                return answer;
            }
        }
    }

    /// One request to the daemon that is there, or to the next one.
    fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Told {
        let up = || std::os::unix::net::UnixStream::connect(&self.socket).ok();
        wait::until(wait::PATIENCE, up).expect("a daemon that answers");
        let bytes = body.map(|b| b.to_string().into_bytes());
        let body = bytes.as_ref().map(|bytes| Body { kind: "application/json", bytes });
        match http::request(&self.socket, method, path, body.as_ref()) {
            Ok(answer) => Told::Answer(answer),
            Err(_) => Told::Nothing,
        }
    }
}

/// An engine in a network namespace of its own, with the network that everybody is on.
pub(crate) fn engine() -> Engine {
    let engine = Engine::apart();
    engine.tare(["network", "create", NETWORK]).ok();
    engine
}

/// Starts a container on the network; its id.
pub(crate) fn background(engine: &Engine, flags: &[&str], script: &str) -> String {
    engine.tare([&["run", "-d", "--network", NETWORK], flags, &[BUSYBOX, "sh", "-c", script]].concat()).ok()
}

/// Fails if two containers have one address, or if there are others on the network than those that run.
pub(crate) fn addresses_are_apart(engine: &Engine, kill: u32) {
    let shown = engine.get(&format!("/networks/{NETWORK}")).expect(200)["Containers"].clone();
    let members = shown.as_object().expect("members");
    for family in ["IPv4Address", "IPv6Address", "MacAddress"] {
        let all: BTreeSet<_> = members.values().map(|member| member[family].to_string()).collect();
        assert_eq!(all.len(), members.len(), "one {family} for two after kill {kill}: {shown}");
    }
}

/// Fails if something of a container that is gone is still on the network of the machine, and takes the network away.
pub(crate) fn nothing_is_left_but(engine: &Engine, witnesses: &[Witness]) {
    let links = || engine.outside(["ip", "-o", "link", "show", "type", "veth"]).ok();
    // Another pair is the engine's own: new connections come round by it.
    let of_containers = || links().lines().filter(|link| link.contains("tare container")).count();
    let few = wait::until(wait::PATIENCE, || (of_containers() == witnesses.len()).then_some(()));
    assert!(few.is_some(), "links of containers that are gone:\n{}", links());
    for port in CLIENT_PORTS..CLIENT_PORTS + CLIENTS {
        let refused = reach(engine, port).map_err(|e| e.kind());
        assert_eq!(refused, Err(ErrorKind::ConnectionRefused), "port {port} leads somewhere");
    }
    for witness in witnesses {
        engine.tare(["rm", "-f", &witness.name]).ok();
    }
    engine.tare(["network", "rm", NETWORK]).ok();
}

fn reach(engine: &Engine, port: usize) -> std::io::Result<()> {
    let address = format!("127.0.0.1:{port}").parse().expect("an address");
    let patience = std::time::Duration::from_secs(2);
    engine.space().inside(|| TcpStream::connect_timeout(&address, patience)).map(drop)
}

/// What a container has of networks, as it is shown.
fn networking(engine: &Engine, name: &str) -> Value {
    let shown = engine.inspect(name)["NetworkSettings"].clone();
    json!([shown["Networks"], shown["Ports"]])
}

fn id_of(answer: Value) -> String {
    answer["Id"].as_str().unwrap_or_else(|| panic!("no id in {answer}")).to_string()
}

/// A container that runs through the whole storm, counts aloud, and is to be reached all the time.
pub(crate) struct Witness {
    name: String,
    pid: u32,
    port: usize,
    networking: Value,
}

impl Witness {
    /// Starts one.
    pub(crate) fn start(engine: &Engine, number: usize) -> Witness {
        let name = format!("witness{number}");
        let port = WITNESS_PORTS + number;
        let script = "httpd -p 80; i=0; while :; do echo $i; i=$((i+1)); sleep 0.02; done";
        background(engine, &["--name", &name, "-p", &format!("{port}:80")], script);
        engine.wait_for_log(&name, "0");
        let networking = networking(engine, &name);
        Witness { pid: engine.pid_of(&name), name, port, networking }
    }

    /// Fails unless it is reached at its port, whether a daemon runs or not.
    pub(crate) fn is_reached(&self, engine: &Engine, kill: u32) {
        if let Err(e) = reach(engine, self.port) {
            panic!("{} cannot be reached at port {} at kill {kill}: {e}", self.name, self.port);
        }
    }

    /// Fails unless it is the same running process as ever.
    pub(crate) fn lives(&self, engine: &Engine, kill: u32) {
        let state = engine.inspect(&self.name)["State"].clone();
        let same = (&state["Running"], &state["Pid"]) == (&json!(true), &json!(self.pid));
        assert!(same, "{} died by kill {kill}: {state}", self.name);
        assert_eq!(networking(engine, &self.name), self.networking, "{} after kill {kill}", self.name);
        self.is_reached(engine, kill);
    }

    /// Fails if its log has a gap or a double line.
    pub(crate) fn has_told_everything(&self, engine: &Engine) {
        let log = engine.tare(["logs", &self.name]).ok();
        for (expected, line) in log.lines().enumerate() {
            assert_eq!(line, expected.to_string(), "the log of {} has a gap", self.name);
        }
        assert!(log.lines().count() > 10, "{log}");
    }
}
