//! The network of an ordinary user's engine as people use it: a web server that is published, found by name and reaches out;
//! and what is left when its keeper is killed.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tare_kit::engine::BUSYBOX;
use tare_kit::leftovers::Traces;
use tare_kit::space::{HERE, HERE6, NEIGHBOUR, NEIGHBOUR6};
use tare_kit::{Image, User, wait};

use crate::app::{IMAGE, apps};
use crate::ours;

/// nginx as a user of the container's, who has nothing there but a directory for scratch.
const WEB: &str = "daemon off; error_log stderr; pid /tmp/nginx.pid; events {}\n\
    http { access_log off; client_body_temp_path /tmp/c; proxy_temp_path /tmp/p; fastcgi_temp_path /tmp/f; \
    uwsgi_temp_path /tmp/u; scgi_temp_path /tmp/s; \
    server { listen 8000; listen [::]:8000; location / { return 200 \"served inside\\n\"; } } }\n";

/// The image with nginx: the machine itself where it is installed, as in the test guest, else Debian's packages.
fn nginx(user: &User) -> &'static str {
    if Path::new("/usr/sbin/nginx").exists() {
        return "host";
    }
    let import = user.tare(["import".as_ref(), apps().as_os_str(), IMAGE.as_ref()]);
    import.limit(Duration::from_secs(120)).ok();
    IMAGE
}

/// What a web server says; nothing if there is none.
fn get(address: &str) -> Option<String> {
    let address: SocketAddr = address.parse().expect("an address");
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5)).ok()?;
    stream.set_read_timeout(Some(wait::PATIENCE)).ok()?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
    let mut said = String::new();
    stream.read_to_string(&mut said).ok()?;
    Some(said).filter(|said| !said.is_empty())
}

/// A machine that serves the web and knows the address of whatever it is asked for.
struct Outside {
    web: TcpListener,
    names: UdpSocket,
    is_over: AtomicBool,
}

// === impl Outside ===

impl Outside {
    /// To be made where it is to be.
    fn new() -> Outside {
        let web = TcpListener::bind("[::]:80").expect("port 80");
        let names = UdpSocket::bind(format!("{NEIGHBOUR}:53")).expect("port 53");
        web.set_nonblocking(true).expect("fcntl");
        names.set_nonblocking(true).expect("fcntl");
        Outside { web, names, is_over: AtomicBool::new(false) }
    }

    fn serve(&self) {
        while !self.is_over.load(Ordering::Relaxed) {
            if let Ok((mut visitor, from)) = self.web.accept() {
                let _ = visitor.set_nonblocking(false);
                // What was asked must have been read: what is left unread makes a reset of the end.
                let _ = visitor.read(&mut [0; 4096]);
                let _ = write!(visitor, "HTTP/1.0 200 OK\r\n\r\noutside, to {}", from.ip().to_canonical());
            }
            let mut question = [0; 512];
            if let Ok((length, from)) = self.names.recv_from(&mut question) {
                let _ = self.names.send_to(&answer(&question[..length]), from);
            }
            wait::pause(Duration::from_millis(2));
        }
    }
}

/// The neighbour's address, to a question for one of IPv4 (RFC 1035, section 4.1); else that there is none.
fn answer(question: &[u8]) -> Vec<u8> {
    let rest = &question[12..];
    let name = rest.iter().position(|byte| *byte == 0).expect("the end of a name") + 1;
    let is_v4 = rest[name..name + 2] == [0, 1];
    let head = [&question[..2], &[0x81, 0x80, 0, 1, 0, u8::from(is_v4), 0, 0, 0, 0], &rest[..name + 4]];
    let mut answer = head.concat();
    if is_v4 {
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        answer.extend(NEIGHBOUR.split('.').map(|part| part.parse::<u8>().expect("a part of an address")));
    }
    answer
}

#[test]
fn nginx_published_on_8080_is_reached_has_a_way_out_and_is_found_by_name() {
    if !ours() {
        return;
    }
    let (user, neighbour) = User::on_a_lan();
    user.tare(["load", "--quiet"]).input(Image::busybox(BUSYBOX).docker_archive()).ok();
    let image = nginx(&user);
    user.tare(["network", "create", "shop"]).ok();
    let program = format!("printf %s '{WEB}' >/tmp/nginx.conf; exec nginx -c /tmp/nginx.conf");
    let web = [
        "run",
        "-d",
        "--name",
        "web",
        "--network",
        "shop",
        "-p",
        "8080:8000",
        "-u",
        "1000",
        image,
        "sh",
        "-c",
        &program,
    ];
    user.tare(web).ok();
    let reached = |address: &str| wait::until(wait::PATIENCE, || get(address)).unwrap_or_default();
    for address in ["127.0.0.1:8080", "[::1]:8080"] {
        let said = user.space().inside(|| reached(address));
        let is_nginx = said.contains("Server: nginx") && said.ends_with("served inside\n");
        assert!(is_nginx, "{address}: {said:?}; {}", user.tare(["logs", "web"]).run());
    }
    for address in [format!("{HERE}:8080"), format!("[{HERE6}]:8080")] {
        let said = neighbour.inside(|| reached(&address));
        assert!(said.ends_with("served inside\n"), "{address}, from the LAN: {said:?}");
    }
    let outside = neighbour.inside(Outside::new);
    std::thread::scope(|scope| {
        scope.spawn(|| outside.serve());
        let ask = |url: &str| {
            let wget = ["timeout", "20", "wget", "-q", "-O", "-", url];
            user.tare([&["run", "--rm", "--init", "--network", "shop", BUSYBOX], &wget[..]].concat()).run()
        };
        let urls = [
            format!("http://{NEIGHBOUR}/"),
            format!("http://[{NEIGHBOUR6}]/"),
            "http://somewhere.example/".to_owned(),
            "http://web:8000/".to_owned(),
        ];
        let said = urls.each_ref().map(|url| ask(url));
        outside.is_over.store(true, Ordering::Relaxed);
        let wanted = [HERE, HERE6, HERE].map(|from| format!("outside, to {from}"));
        let wanted = wanted.iter().map(String::as_str).chain(["served inside"]);
        for ((url, said), wanted) in urls.iter().zip(&said).zip(wanted) {
            assert_eq!((said.code, said.out().trim_end()), (0, wanted), "{url}: {said}");
        }
    });
    drop((outside, neighbour));
}

/// Processes that one has started and that live.
fn children(parent: Pid) -> Vec<Pid> {
    let threads =
        fs::read_dir(format!("/proc/{}/task", parent.as_raw_nonzero())).into_iter().flatten().flatten();
    let lists = threads.map(|thread| fs::read_to_string(thread.path().join("children")).unwrap_or_default());
    let numbers: Vec<String> =
        lists.flat_map(|list| list.split_whitespace().map(String::from).collect::<Vec<_>>()).collect();
    numbers.iter().filter_map(|number| Pid::from_raw(number.parse().ok()?)).collect()
}

fn command_line(process: Pid) -> String {
    let words = fs::read(format!("/proc/{}/cmdline", process.as_raw_nonzero())).unwrap_or_default();
    String::from_utf8_lossy(&words).replace('\0', " ")
}

/// The keeper of a user's network, and its pasta.
#[track_caller]
fn keeper(user: &User) -> (Pid, Pid) {
    let found = wait::until(wait::PATIENCE, || {
        let all = Traces::new(user.dir()).processes().into_iter();
        let keeper = all
            .filter_map(|pid| Pid::from_raw(pid.cast_signed()))
            .find(|pid| command_line(*pid).contains(" network-keeper "))?;
        let pasta = children(keeper).into_iter().find(|pid| command_line(*pid).contains("pasta"))?;
        Some((keeper, pasta))
    });
    found.expect("a keeper with its pasta")
}

#[test]
fn a_keeper_that_is_killed_has_a_successor_with_or_without_a_daemon() {
    if !ours() {
        return;
    }
    let (user, neighbour) = User::on_a_lan();
    user.tare(["load", "--quiet"]).input(Image::busybox(BUSYBOX).docker_archive()).ok();
    let program = "mkdir /www; echo busy >/www/index.html; exec httpd -f -p 80 -h /www";
    user.tare(["network", "create", "front"]).ok();
    let web = ["run", "-d", "--name", "web", "--network", "front", "-p", "8080:80", BUSYBOX];
    user.tare([&web[..], &["sh", "-c", program]].concat()).ok();
    user.tare(["run", "-d", "--name", "peer", "--network", "front", BUSYBOX, "sleep", "1000"]).ok();
    let published =
        || wait::until(wait::PATIENCE, || get("127.0.0.1:8080").filter(|said| said.contains("busy")));
    assert!(user.space().inside(published).is_some());
    // Somebody counts on a connection between containers.
    user.tare(["exec", "-d", "web", "sh", "-c", "sleep 1000 | nc -l -p 7000 >/got"]).ok();
    let talk = "sleep 0.5; n=0; while :; do n=$((n+1)); echo $n; sleep 0.1; done | nc web 7000";
    user.tare(["exec", "-d", "peer", "sh", "-c", talk]).ok();
    let size = || {
        let size = user.tare(["exec", "web", "sh", "-c", "wc -c </got"]).run().out();
        size.trim().parse::<u64>().ok().filter(|size| *size > 0)
    };
    wait::until(wait::PATIENCE, size).expect("the connection is there");
    for has_daemon in [true, false] {
        let (killed, pasta) = keeper(&user);
        if !has_daemon {
            user.kill_daemon();
        }
        kill_process(killed, Signal::KILL).expect("kill");
        let is_gone = || command_line(pasta).is_empty().then_some(());
        assert!(wait::until(wait::PATIENCE, is_gone).is_some(), "pasta lives: {}", command_line(pasta));
        user.tare(["ps"]).ok();
        assert!(
            user.space().inside(published).is_some(),
            "with another keeper ({has_daemon}): {}",
            user.log()
        );
        let before = size().unwrap_or_default();
        let goes_on = || size().filter(|size| *size > before);
        assert!(wait::until(wait::PATIENCE, goes_on).is_some(), "the connection goes on ({has_daemon})");
    }
    let (_, pasta) = keeper(&user);
    kill_process(pasta, Signal::KILL).expect("kill");
    assert!(user.space().inside(published).is_some(), "without pasta");
    user.tare(["port", "rm", "web", "8080:80"]).ok();
    user.tare(["port", "add", "web", "8080:80"]).ok();
    assert!(user.space().inside(published).is_some(), "taken back and published again");
    drop(neighbour);
}

/// Bytes of the file that is fetched where speed is measured.
const SIZE: u32 = 16 << 20;

/// A user with a network, and two containers on it that serve a large file: `one`, with these flags, and `two`; or why not.
fn two_on_a_network(flags: &[&str]) -> (User, Result<(), String>) {
    let user = User::new();
    user.tare(["load", "--quiet"]).input(Image::busybox(BUSYBOX).docker_archive()).ok();
    user.tare(["network", "create", "front"]).ok();
    let script = format!("mkdir /www; head -c {SIZE} /dev/zero >/www/big; exec httpd -f -p 80 -h /www");
    for (name, flags) in [("one", flags), ("two", &[])] {
        let run = ["run", "-d", "--name", name, "--network", "front"];
        let started = user.tare([&run, flags, &[BUSYBOX, "sh", "-c", &script]].concat()).run();
        if started.code != 0 {
            return (user, Err(started.err()));
        }
    }
    (user, Ok(()))
}

/// One gets the large file of the other, within so many seconds.
fn fetch(user: &User, to: &str, from: &str, limit: &str) -> bool {
    let get = ["exec", to, "timeout", limit, "wget", "-q", "-O", "/dev/null"];
    user.tare([&get[..], &[&format!("http://{from}/big")]].concat()).run().code == 0
}

/// Bytes per second, of frames, at which one gets the large file of the other.
#[track_caller]
fn speed(user: &User, to: &str, from: &str) -> f64 {
    wait::until(wait::PATIENCE, || {
        let started = Instant::now();
        let speed = || f64::from(SIZE) / started.elapsed().as_secs_f64() * (1514.0 / 1448.0);
        fetch(user, to, from, "20").then(speed)
    })
    .expect("the file")
}

#[test]
fn rates_hold_for_a_users_containers_too_or_the_kernels_lack_is_named() {
    if !ours() {
        return;
    }
    let (user, started) = two_on_a_network(&["--network-rate", "in=2MB,out=4MB"]);
    if let Err(why) = started {
        assert!(why.contains("CONFIG_NET_ACT_SKBEDIT") && why.contains("lacks"), "{why}");
        let (keeper, _) = keeper(&user);
        let links = fs::read_to_string(format!("/proc/{}/net/dev", keeper.as_raw_nonzero())).unwrap();
        let has = |name: &str| links.lines().any(|line| line.trim_start().starts_with(name));
        assert!(has("br-") && !has("ts"), "nothing is left of it: {links}");
        eprintln!("step aside: {why}");
        return;
    }
    // A cap is not exceeded; where processors are emulated, starting programs takes a part of the time.
    let is_near = |measured: f64, wanted: f64| {
        let part = measured / wanted;
        assert!((0.6..1.05).contains(&part), "{measured:.0} bytes/s, not {wanted:.0}");
    };
    is_near(speed(&user, "one", "two"), 2e6);
    is_near(speed(&user, "two", "one"), 4e6);
    user.kill_daemon();
    is_near(speed(&user, "two", "one"), 4e6);
    user.tare(["network", "update", "--rate", "in=3MB", "front"]).ok();
    is_near(speed(&user, "two", "one"), 3e6);
    user.tare(["network", "update", "--rate", "in=none", "front"]).ok();
    user.tare(["update", "--network-rate", "in=none,out=none", "one"]).ok();
    assert!(speed(&user, "one", "two") > 1e7, "there is no limit any more");
}

#[test]
fn a_users_networks_go_wrong_on_purpose() {
    if !ours() {
        return;
    }
    let (user, started) = two_on_a_network(&[]);
    started.unwrap();
    let reach =
        |to: &str, from: &str| wait::until(wait::PATIENCE, || fetch(&user, to, from, "5").then_some(()));
    assert!(reach("one", "two").is_some());
    user.tare(["network", "fault", "add", "--partition", "two", "one"]).ok();
    assert!(!fetch(&user, "one", "two", "1") && !fetch(&user, "two", "one", "1"));
    user.kill_daemon();
    assert!(!fetch(&user, "one", "two", "1"), "it outlives the daemon");
    user.tare(["network", "fault", "rm", "--all"]).ok();
    assert!(reach("one", "two").is_some() && reach("two", "one").is_some());
    let added = user.tare(["network", "fault", "add", "--latency", "200ms", "one"]).run();
    if added.code != 0 {
        let why = added.err();
        assert!(why.contains("CONFIG_NET_SCH_NETEM") && why.contains("lacks"), "{why}");
        eprintln!("step aside: {why}");
        return;
    }
    let said = user.tare(["exec", "two", "ping", "-c", "3", "-q", "one"]).ok();
    let least = said.rsplit_once(" = ").and_then(|(_, times)| times.split('/').next()).expect(&said);
    assert!(least.parse::<f64>().expect("a number") >= 400.0, "{said}");
}
