//! The driver against a manager of our own: it speaks the protocol's other half over a socket, and makes groups as
//! systemd would.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};

use oci_spec::runtime::LinuxResources;

use super::super::controller::{Controller, Version};
use super::super::make::members;
use super::super::plan::Plan;
use super::super::{Cgroup, Error, Layout};
use super::bus::Bus;
use super::wire::{FIXED, Kind, Message, Value, Writer};
use super::{Anchor, ScopeName, Systemd};

/// What the fake does when it is asked.
#[derive(Clone, Default)]
struct Manners {
    /// Where to make the groups, and where they are then.
    make: Option<(Arc<Layout>, String)>,
    /// The refusals of the next calls of a method, by the error's name.
    refuse: Arc<Mutex<Vec<(&'static str, &'static str)>>>,
    /// How jobs end.
    result: Option<&'static str>,
    /// It says this and hangs up.
    babble: Option<&'static [u8]>,
}

/// Methods and their bodies.
type Asked = Mutex<Vec<(String, Vec<u8>)>>;

/// A manager, and what it was asked.
struct Fake {
    socket: PathBuf,
    asked: Arc<Asked>,
    _directory: tempfile::TempDir,
}

impl Fake {
    fn start(manners: Manners) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("private");
        let listener = UnixListener::bind(&socket).unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                serve(stream.unwrap(), &manners, &heard);
            }
        });
        Self { socket, asked, _directory: directory }
    }

    fn systemd(&self) -> Systemd {
        Systemd::at(self.socket.clone(), false)
    }

    fn methods(&self) -> Vec<String> {
        let all = self.asked.lock().unwrap();
        all.iter().map(|(method, _)| method.clone()).filter(|method| method != "Subscribe").collect()
    }

    /// The body of the latest call of a method.
    fn body(&self, method: &str) -> Vec<u8> {
        self.asked.lock().unwrap().iter().rev().find(|(name, _)| name == method).unwrap().1.clone()
    }
}

fn serve(mut stream: UnixStream, manners: &Manners, asked: &Asked) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let uid: String =
        rustix::process::geteuid().as_raw().to_string().bytes().map(|b| format!("{b:02x}")).collect();
    assert_eq!(line, format!("\0AUTH EXTERNAL {uid}\r\n"));
    // As systemd, which must not get a question in one reading with this.
    line.clear();
    reader.read_line(&mut line).unwrap();
    assert_eq!((line.as_str(), reader.buffer()), ("BEGIN\r\n", &[][..]));
    stream.write_all(b"OK 0123456789abcdef\r\n").unwrap();
    loop {
        let mut fixed = [0u8; FIXED];
        if reader.read_exact(&mut fixed).is_err() {
            return;
        }
        let mut bytes = vec![0; Message::size(&fixed).unwrap()];
        bytes[..FIXED].copy_from_slice(&fixed);
        reader.read_exact(&mut bytes[FIXED..]).unwrap();
        let call = Message::read(&bytes).unwrap();
        asked.lock().unwrap().push((call.member.clone(), call.body.clone()));
        if let Some(babble) = manners.babble {
            let _ = stream.write_all(babble);
            return;
        }
        for answer in answers(&call, manners) {
            if stream.write_all(&answer.write()).is_err() {
                return;
            }
        }
    }
}

fn answers(call: &Message, manners: &Manners) -> Vec<Message> {
    let reply =
        |kind, member: &str| Message { serial: 1, answers: call.serial, ..Message::new(kind, member) };
    let mut refusals = manners.refuse.lock().unwrap();
    if let Some(at) = refusals.iter().position(|(method, _)| *method == call.member) {
        let (_, error) = refusals.remove(at);
        return vec![reply(Kind::Error, error).with("s", |body| body.string("no such luck"))];
    }
    let job = "/org/freedesktop/systemd1/job/7";
    let news = |unit: &str| {
        let signal = Message {
            serial: 2,
            path: "/org/freedesktop/systemd1".to_owned(),
            interface: "org.freedesktop.systemd1.Manager".to_owned(),
            ..Message::new(Kind::Signal, "JobRemoved")
        };
        signal.with("uoss", |body| {
            body.number(7);
            body.string(job);
            body.string(unit);
            body.string(manners.result.unwrap_or("done"));
        })
    };
    let answer = reply(Kind::Return, "");
    match call.member.as_str() {
        "StartTransientUnit" => {
            let unit = call.reader().string().unwrap();
            make_groups(manners, &call.body);
            // The news may come before the answer.
            vec![news("other.service"), news(&unit), answer.with("o", |body| body.string(job))]
        }
        "StopUnit" => vec![answer.with("o", |body| body.string(job)), news("x")],
        "GetUnit" => vec![answer.with("o", |body| body.string("/org/freedesktop/systemd1/unit/x"))],
        "Get" => {
            let group = manners.make.as_ref().map_or("/fake.slice/x.scope", |(_, path)| path);
            vec![answer.with("v", |body| {
                body.0.extend([1, b's', 0]);
                body.string(group);
            })]
        }
        _ => vec![answer],
    }
}

/// Makes the scope's group in each hierarchy and moves the process that was named into it.
fn make_groups(manners: &Manners, body: &[u8]) {
    let Some((layout, path)) = &manners.make else { return };
    // `PIDs`, its signature, the length of the array, and the number.
    let at = body.windows(5).position(|window| window == b"PIDs\0").unwrap() + 5;
    let at = (at + 4).next_multiple_of(4) + 4;
    let pid = u32::from_le_bytes(body[at..at + 4].try_into().unwrap());
    for at in members(layout, &Plan::default()) {
        let hierarchy = &layout.hierarchies[at];
        let group = path.trim_start_matches('/');
        hierarchy.mkdir_at(group).unwrap();
        hierarchy.write_at(&format!("{group}/cgroup.procs"), &pid.to_string(), layout.write_flags).unwrap();
    }
}

fn name() -> ScopeName {
    ScopeName::parse("fake.slice:tare:x").unwrap()
}

fn sleeper() -> Child {
    Command::new("/bin/sleep").arg("100").spawn().unwrap()
}

fn anchor() -> super::super::Result<Anchor> {
    Ok(Anchor::of(sleeper().id().cast_signed()))
}

fn machine() -> (Arc<Layout>, String) {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    (Arc::new(Layout::detect().unwrap()), format!("/tare-scope-{}-{number}", std::process::id()))
}

fn resources(json: &str) -> LinuxResources {
    serde_json::from_str(json).unwrap()
}

#[test]
fn a_container_lives_and_dies_in_a_scope() {
    let (layout, path) = machine();
    let fake = Fake::start(Manners { make: Some((layout.clone(), path.clone())), ..Manners::default() });
    let systemd = fake.systemd();
    let asked = resources(r#"{"pids":{"limit":30},"cpu":{"shares":512}}"#);
    let mut group = Cgroup::in_scope(&layout, &name(), &systemd, &asked, anchor).unwrap();
    assert_eq!(group.path().to_string(), path);
    assert_eq!(group.pids().unwrap().len(), 1, "the anchor is in it");
    let v1 = layout.version_of(Controller::Memory) == Some(Version::V1);
    let word: &[u8] = if v1 { b"CPUShares" } else { b"CPUWeight" };
    assert!(fake.body("StartTransientUnit").windows(9).any(|window| window == word));
    let read = |group: &Cgroup, file: &str| {
        let hierarchy = group.with(Controller::Pids).unwrap();
        hierarchy.read_at(&group.path.join(file)).unwrap().trim().to_owned()
    };
    assert_eq!(read(&group, "pids.max"), "30", "what systemd was told is written as well");
    let mut first = sleeper();
    group.adopt(first.id().cast_signed()).unwrap();
    group.settle();
    assert_eq!(group.pids().unwrap(), [first.id().cast_signed()]);
    group.update(&resources(r#"{"pids":{"limit":40}}"#)).unwrap();
    assert_eq!(read(&group, "pids.max"), "40");
    let told = fake.body("SetUnitProperties");
    assert!(told.windows(8).any(|window| window == b"TasksMax") && told.contains(&40));
    let again = Cgroup::open_scope(&layout, &name(), &systemd).unwrap();
    again.kill_all().unwrap();
    first.wait().unwrap();
    again.destroy().unwrap();
    assert!(!group.exists());
    let wanted = [
        "StartTransientUnit",
        "GetUnit",
        "Get",
        "AttachProcessesToUnit",
        "SetUnitProperties",
        "GetUnit",
        "Get",
        "StopUnit",
        "ResetFailedUnit",
    ];
    assert_eq!(fake.methods(), wanted);
}

#[test]
fn a_scope_is_asked_for_with_everything_it_needs() {
    let fake = Fake::start(Manners::default());
    let properties = [("TasksMax".to_owned(), Value::Number(9))];
    assert_eq!(fake.systemd().start(&name(), 77, &properties).unwrap(), "/fake.slice/x.scope");
    let mut wanted = Writer::default();
    wanted.string("tare-x.scope");
    wanted.string("replace");
    wanted.properties(&[
        ("Description".to_owned(), Value::Text("tare container tare-x.scope".to_owned())),
        ("Slice".to_owned(), Value::Text("fake.slice".to_owned())),
        ("Delegate".to_owned(), Value::Flag(true)),
        ("DefaultDependencies".to_owned(), Value::Flag(false)),
        ("PIDs".to_owned(), Value::Numbers(vec![77])),
        ("TasksMax".to_owned(), Value::Number(9)),
    ]);
    wanted.array(8, |_| {});
    assert_eq!(fake.body("StartTransientUnit"), wanted.0);
}

#[test]
fn the_remains_of_a_failed_scope_are_forgotten_and_it_starts() {
    let exists = ("StartTransientUnit", "org.freedesktop.systemd1.UnitExists");
    let refuse = Arc::new(Mutex::new(vec![exists]));
    let fake = Fake::start(Manners { refuse, ..Manners::default() });
    fake.systemd().start(&name(), 77, &[]).unwrap();
    let wanted = ["StartTransientUnit", "ResetFailedUnit", "StartTransientUnit", "GetUnit", "Get"];
    assert_eq!(fake.methods(), wanted);
    let refuse = Arc::new(Mutex::new(vec![exists, exists]));
    let fake = Fake::start(Manners { refuse, ..Manners::default() });
    let error = fake.systemd().start(&name(), 77, &[]).unwrap_err().to_string();
    assert!(
        error.contains("StartTransientUnit(tare-x.scope): no such luck") && error.contains("UnitExists"),
        "{error}"
    );
}

#[test]
fn a_job_that_fails_is_told() {
    let fake = Fake::start(Manners { result: Some("failed"), ..Manners::default() });
    let error = fake.systemd().start(&name(), 77, &[]).unwrap_err().to_string();
    assert!(error.contains("StartTransientUnit(tare-x.scope): the job ended with \"failed\""), "{error}");
    assert_eq!(fake.methods(), ["StartTransientUnit", "ResetFailedUnit"]);
}

#[test]
fn a_scope_that_is_gone_needs_no_stopping() {
    let refuse =
        vec![("StopUnit", "org.freedesktop.systemd1.NoSuchUnit"), ("ResetFailedUnit", "x.NoSuchUnit")];
    let fake = Fake::start(Manners { refuse: Arc::new(Mutex::new(refuse)), ..Manners::default() });
    fake.systemd().stop("tare-x.scope").unwrap();
    let refuse = vec![("StopUnit", "org.freedesktop.DBus.Error.AccessDenied")];
    let fake = Fake::start(Manners { refuse: Arc::new(Mutex::new(refuse)), ..Manners::default() });
    assert!(fake.systemd().stop("tare-x.scope").unwrap_err().to_string().contains("AccessDenied"));
}

#[test]
fn a_limit_that_cannot_be_is_refused_before_systemd_hears_of_it() {
    let fake = Fake::start(Manners::default());
    let (layout, _) = machine();
    let asked = resources(r#"{"rdma":{"none0":{"hcaHandles":1}},"cpu":{"shares":1}}"#);
    let made = Cgroup::in_scope(&layout, &name(), &fake.systemd(), &asked, || panic!("no anchor yet"));
    assert!(matches!(made, Err(Error::Invalid { .. } | Error::Unsupported { .. })));
    assert!(fake.methods().is_empty());
}

#[test]
fn a_limit_that_the_kernel_refuses_leaves_nothing() {
    let (layout, path) = machine();
    // As systemd would for `AllowedCPUs`: on v2 the controller is then there for groups beside this one.
    let beside =
        Cgroup::create(&layout, format!("{path}-beside"), &resources(r#"{"cpu":{"cpus":"0"}}"#)).unwrap();
    let fake = Fake::start(Manners { make: Some((layout.clone(), path.clone())), ..Manners::default() });
    let asked = resources(r#"{"cpu":{"cpus":"900"}}"#);
    let error = Cgroup::in_scope(&layout, &name(), &fake.systemd(), &asked, anchor).unwrap_err().to_string();
    beside.destroy().unwrap();
    assert!(error.contains("900"), "{error}");
    assert!(!Cgroup::open(&layout, &path).unwrap().exists());
    assert!(fake.methods().contains(&"StopUnit".to_owned()));
}

#[test]
fn a_peer_that_talks_nonsense_is_an_error() {
    let long = b"l\x02\0\x01\xff\xff\xff\xff\x01\0\0\0\xff\xff\xff\xff";
    for babble in [&b"HTTP/1.1 200 OK\r\n"[..], b"l\x02", &long[..], b""] {
        let fake = Fake::start(Manners { babble: Some(babble), ..Manners::default() });
        assert!(fake.systemd().stop("x.scope").is_err(), "{babble:?}");
    }
    let nobody = Systemd::at("/nonexistent/private".into(), false);
    assert!(nobody.stop("x.scope").unwrap_err().to_string().contains("connect to /nonexistent/private"));
}

#[test]
fn a_peer_that_does_not_know_us_is_an_error() {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    theirs.write_all(b"REJECTED EXTERNAL\r\n").unwrap();
    assert!(Bus::on(ours, false).err().unwrap().to_string().contains("REJECTED"));
}

/// Against a bus that others wrote, where one is installed: framing, introduction, subscription, a refusal.
#[test]
#[ignore = "needs dbus-daemon"]
fn a_real_bus_understands_us() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("bus");
    let address = format!("--address=unix:path={}", socket.display());
    let mut daemon = Command::new("dbus-daemon").args(["--session", "--nofork", &address]).spawn().unwrap();
    while !socket.exists() {
        std::thread::yield_now();
    }
    let refusal = Bus::open(&socket, true).unwrap().call("GetUnit", "s", |body| body.string("x"));
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    let said = refusal.err().unwrap().of("GetUnit").to_string();
    // Nobody of that name is on it, or could be started.
    assert!(said.contains("systemd: GetUnit: ") && said.contains("(org.freedesktop.DBus.Error."), "{said}");
}
