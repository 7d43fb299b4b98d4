//! A firewalld that does not answer, or answers late: nobody waits for it, and in the end it was told.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tare_sys::dbus::{FIXED, Kind, Message};
use tare_sys::netlink::{Protocol, Socket};
use tare_sys::nftables::{Change, Family, TableFlags, apply};

use super::world::{World, settings};

/// A bus whose firewalld is silent at first.
struct Bus {
    directory: tempfile::TempDir,
    listener: UnixListener,
}

impl Bus {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(directory.path().join("bus")).unwrap();
        Self { directory, listener }
    }

    fn path(&self) -> std::path::PathBuf {
        self.directory.path().join("bus")
    }

    /// Whoever is silent hangs up, and all who call from now on are answered; gives what they say.
    fn answers(self) -> Arc<Mutex<Vec<String>>> {
        let said = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&said);
        self.listener.set_nonblocking(true).unwrap();
        while self.listener.accept().is_ok() {}
        self.listener.set_nonblocking(false).unwrap();
        std::thread::spawn(move || {
            let Self { directory: _directory, listener } = self;
            while let Ok((stream, _)) = listener.accept() {
                let _ = answer(stream, &heard);
            }
        });
        said
    }
}

fn answer(mut stream: UnixStream, heard: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut introduction = Vec::new();
    while !introduction.ends_with(b"BEGIN\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        introduction.extend(byte);
    }
    stream.write_all(b"OK 0123456789abcdef0123456789abcdef\r\n")?;
    loop {
        let mut fixed = [0; FIXED];
        stream.read_exact(&mut fixed)?;
        let mut bytes = vec![0; Message::size(&fixed).unwrap()];
        bytes[..FIXED].copy_from_slice(&fixed);
        stream.read_exact(&mut bytes[FIXED..])?;
        let call = Message::read(&bytes).unwrap();
        let mut words = vec![call.member.clone()];
        let mut reader = call.reader();
        while let Ok(word) = reader.string() {
            words.push(word);
        }
        heard.lock().unwrap().push(words.join(" "));
        let answer = Message { serial: 1, answers: call.serial, ..Message::new(Kind::Return, "") };
        stream.write_all(&answer.with("s", |body| body.string("")).write())?;
    }
}

/// What shows that a firewalld runs.
fn firewalld(world: &World) {
    world.host.run(|| {
        let changes = [Change::AddTable { flags: TableFlags::NONE, note: Vec::new() }];
        apply(&mut Socket::open(Protocol::Netfilter).unwrap(), Family::Inet, "firewalld", &changes).unwrap();
    });
}

fn took(work: impl FnOnce()) -> Duration {
    let begun = Instant::now();
    work();
    begun.elapsed()
}

#[test]
fn nobody_waits_for_a_firewalld_that_hangs_and_it_is_told_when_it_answers() {
    let bus = Bus::new();
    let world = World::with(settings(&bus.path()));
    firewalld(&world);
    let first = took(|| world.network(1, |_| {}));
    assert!(first < Duration::from_secs(3), "{first:?}");
    let why = world.firewall.confined().expect("it is known that it may not let containers out");
    assert!(why.contains("no answer"), "{why}");
    let others = took(|| {
        world.network(2, |_| {});
        world.firewall.remove_network("br-2").unwrap();
        world.network(3, |network| network.internal = true);
    });
    assert!(others < Duration::from_secs(1), "{others:?}: once is enough to know that it hangs");
    let said = bus.answers();
    let told = || said.lock().unwrap().iter().any(|word| word == "addInterface trusted br-1").then_some(());
    let is_told = tare_kit::wait::until(Duration::from_secs(10), told).is_some();
    assert!(is_told, "{:?}; {:?}", said.lock().unwrap(), world.firewall.confined());
    let is_let_out = || world.firewall.confined().is_none().then_some(());
    tare_kit::wait::until(Duration::from_secs(5), is_let_out).expect("it is known");
    let said = said.lock().unwrap().join("\n");
    assert!(!said.contains("addInterface trusted br-2") && !said.contains("br-3"), "{said}");
}

#[test]
fn without_a_bus_it_is_known_why_nothing_is_let_out() {
    let world = World::with(settings(Path::new("/nonexistent")));
    world.network(1, |_| {});
    assert_eq!(world.firewall.confined(), None, "without a firewalld");
    firewalld(&world);
    world.network(2, |_| {});
    let why = world.firewall.confined().expect("it cannot be told");
    assert!(why.contains("connect to /nonexistent"), "{why}");
}
