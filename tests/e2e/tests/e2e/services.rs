//! An application of three services, as people have them: nginx, which asks a Python service, which asks PostgreSQL, each
//! by name, on a network of their own. What they have of networks outlives the daemon.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};
use tare_kit::engine::BUSYBOX;
use tare_kit::space::{HERE, HERE6};
use tare_kit::{Cmd, Engine, Space, debs, wait};

use crate::app::{IMAGE, have_apps};
use crate::{lines, ours};

/// PostgreSQL that trusts its network.
const DB: &str = "PATH=$(echo /usr/lib/postgresql/*/bin):$PATH; cd /tmp; \
    test -e data || { initdb -D data -A trust --no-sync >/dev/null; echo 'host all all all trust' >>data/pg_hba.conf; }; \
    rm -f data/postmaster.pid; exec postgres -D data -c listen_addresses='*' -c unix_socket_directories=/tmp";

/// Counts its visitors in the database, and says to anybody on another port what it was told.
const API: &str = r#"
import http.server, psycopg2, socketserver, threading
class Hits(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        try:
            with psycopg2.connect("host=db user=postgres dbname=postgres connect_timeout=3") as db:
                with db.cursor() as run:
                    run.execute("create table if not exists hits (at timestamptz default now())")
                    run.execute("insert into hits default values")
                    run.execute("select count(*) from hits")
                    said = "visitor %d" % run.fetchone()[0]
            self.send_response(200)
        except psycopg2.Error as e:
            said = str(e)
            self.send_response(503)
        self.end_headers()
        self.wfile.write(said.encode())
class Echo(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            self.wfile.write(line)
class Many(socketserver.ThreadingTCPServer):
    daemon_threads = allow_reuse_address = True
threading.Thread(target=Many(("0.0.0.0", 7), Echo).serve_forever).start()
class Dual(http.server.ThreadingHTTPServer):
    address_family = 10
Dual(("::", 8000), Hits).serve_forever()
"#;

/// Asks for the service by its name for every visitor.
const WEB: &str = "daemon off; error_log /dev/stderr; pid /tmp/nginx.pid; events {}\n\
    http { access_log off; resolver 127.0.0.11 valid=1s; server { listen 80; listen [::]:80; \
    location / { set $service api; proxy_connect_timeout 2s; proxy_pass http://$service:8000; } } }\n";

/// Looks names up all the time, and says how often it could and which it could not.
const PROBE: &str = r#"
import socket, time
good = 0
while True:
    for name in "db", "api", "web":
        try:
            socket.getaddrinfo(name, 80, socket.AF_INET)
            good += 1
        except OSError as e:
            print("failed:", name, e, flush=True)
    if good % 150 == 0:
        print("good:", good, flush=True)
    time.sleep(0.002)
"#;

/// `tare` or `docker`, on an engine.
type Client = fn(&Engine, &[&str]) -> Cmd;

fn tare(engine: &Engine, words: &[&str]) -> Cmd {
    engine.tare(words)
}

fn docker(engine: &Engine, words: &[&str]) -> Cmd {
    engine.docker(words)
}

/// The application, serving.
struct App {
    engine: Engine,
    client: Client,
    /// Where its visitors are; it goes before the engine.
    lan: Option<Space>,
}

// === impl App ===

impl App {
    fn start(client: Client) -> App {
        let engine = Engine::apart();
        have_apps(&engine);
        let lan = Some(engine.neighbour());
        let app = App { engine, client, lan };
        app.run(&["network", "create", "shop"]);
        let shop = ["run", "-d", "--network", "shop"];
        app.run(&[&shop[..], &["--name", "db", "-u", "postgres", IMAGE, "sh", "-c", DB]].concat());
        app.run(&[&shop[..], &["--name", "api", "-p", "7007:7", IMAGE, "python3", "-u", "-c", API]].concat());
        let conf = format!("printf %s '{WEB}' >/tmp/nginx.conf; exec nginx -c /tmp/nginx.conf");
        app.run(&[&shop[..], &["--name", "web", "-p", "8080:80", IMAGE, "sh", "-c", &conf]].concat());
        app.serves();
        app
    }

    #[track_caller]
    fn run(&self, words: &[&str]) -> String {
        (self.client)(&self.engine, words).ok()
    }

    fn lan(&self) -> &Space {
        self.lan.as_ref().expect("a neighbour")
    }

    /// It counts another visitor, whichever way he comes: from the LAN by either family, and from the machine itself.
    #[track_caller]
    fn serves(&self) {
        for address in [format!("{HERE}:8080"), format!("[{HERE6}]:8080")] {
            visit(self.lan(), &address);
        }
        visit(self.engine.space(), "127.0.0.1:8080");
        visit(self.engine.space(), &format!("[{HERE6}]:8080"));
    }

    /// What is known about what it has of networks.
    fn facts(&self) -> Value {
        let of = |name: &str| {
            let shown = self.engine.inspect(name);
            json!([
                shown["State"]["Pid"],
                shown["NetworkSettings"]["Networks"],
                shown["NetworkSettings"]["Ports"]
            ])
        };
        let mut columns: Vec<String> =
            lines(&self.run(&["ps", "--format", "{{.Names}} {{.Ports}} {{.Networks}}"]))
                .iter()
                .map(|line| (*line).to_owned())
                .collect();
        columns.sort();
        let network = self.engine.get("/networks/shop").expect(200)["Containers"].clone();
        json!([of("db"), of("api"), of("web"), columns, network, self.run(&["port", "web"])])
    }
}

impl Drop for App {
    fn drop(&mut self) {
        drop(self.lan.take());
        if !std::thread::panicking() {
            self.engine.remove_containers();
            self.run(&["network", "rm", "shop"]);
        }
    }
}

/// `GET /` from somewhere; the answer, headers and all.
fn fetch(from: &Space, address: &str) -> std::io::Result<String> {
    let mut stream = connect(from, address)?;
    stream.write_all(b"GET / HTTP/1.0\r\nHost: shop\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn connect(from: &Space, address: &str) -> std::io::Result<TcpStream> {
    let address: SocketAddr = address.parse().unwrap();
    let stream = from.inside(|| TcpStream::connect_timeout(&address, Duration::from_secs(2)))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    Ok(stream)
}

#[track_caller]
fn visit(from: &Space, address: &str) {
    let mut last = None;
    let counted = wait::until(wait::PATIENCE, || {
        let answer = fetch(from, address);
        let good = answer.as_ref().is_ok_and(|a| a.contains(" 200 OK") && a.contains("visitor "));
        last = Some(answer);
        good.then_some(())
    });
    assert!(counted.is_some(), "{address}: {last:?}");
}

/// A connection on which what is sent comes back.
struct Echo(BufReader<TcpStream>);

impl Echo {
    fn open(from: &Space, address: &str) -> Echo {
        Echo(BufReader::new(connect(from, address).unwrap_or_else(|e| panic!("{address}: {e}"))))
    }

    #[track_caller]
    fn says(&mut self, word: &str) {
        self.0.get_mut().write_all(format!("{word}\n").as_bytes()).expect("the connection is open");
        let mut line = String::new();
        self.0.read_line(&mut line).expect("the connection goes on");
        assert_eq!(line.trim_end(), word);
    }
}

/// Finds by name what is another container's.
fn finds(engine: &Engine, from: &str, name: &str) -> Option<String> {
    let found = engine.tare(["exec", from, "getent", "ahostsv4", name]).run();
    (found.code == 0).then(|| found.out().split_whitespace().next().unwrap_or_default().to_owned())
}

fn an_application_serves_through_restarts_and_renames(client: Client) {
    let app = App::start(client);
    for service in ["db", "api", "web"] {
        app.run(&["restart", "-t", "5", service]);
        app.serves();
    }
    let address = app.engine.inspect("db")["NetworkSettings"]["Networks"]["shop"]["IPAddress"].clone();
    app.run(&["rename", "db", "store"]);
    assert_eq!(finds(&app.engine, "api", "store").map(Value::from), Some(address));
    assert_eq!(finds(&app.engine, "api", "db"), None, "the old name is nobody's");
    let answer = fetch(app.lan(), &format!("{HERE}:8080")).unwrap();
    assert!(answer.contains(" 503 "), "{answer}");
    app.run(&["restart", "-t", "5", "store"]);
    assert!(finds(&app.engine, "api", "store").is_some() && finds(&app.engine, "api", "db").is_none());
    app.run(&["rename", "store", "db"]);
    app.serves();
}

#[test]
fn three_services_find_each_other_by_name_through_restarts_and_renames() {
    if ours() {
        an_application_serves_through_restarts_and_renames(tare);
    }
}

#[test]
fn three_services_do_so_by_the_stock_client() {
    if ours() {
        an_application_serves_through_restarts_and_renames(docker);
    }
}

#[test]
fn an_application_does_not_notice_that_the_daemon_is_killed() {
    if !ours() {
        return;
    }
    let mut app = App::start(tare);
    let probe = ["run", "-d", "--rm", "--name", "probe", "--network", "shop", IMAGE, "python3", "-c", PROBE];
    app.run(&probe);
    app.engine.wait_for_log("probe", "good: 300");
    let passing = ["run", "-d", "--rm", "--name", "passing", "--network", "shop", "-p", "7008:7", IMAGE];
    app.run(&[&passing[..], &["python3", "-u", "-c", API]].concat());
    let (mut there, mut local) = (Echo::open(app.lan(), &format!("{HERE}:7007")), None);
    wait::until(wait::PATIENCE, || connect(app.engine.space(), "127.0.0.1:7008").ok().map(|_| ()))
        .expect("it listens");
    let local = local.get_or_insert_with(|| Echo::open(app.engine.space(), "127.0.0.1:7008"));
    for death in 0..3 {
        let before = app.facts();
        there.says("before");
        local.says("before");
        app.engine.kill_daemon();
        there.says("while no daemon runs");
        local.says("while no daemon runs");
        Echo::open(app.lan(), &format!("{HERE}:7007")).says("a new one");
        Echo::open(app.lan(), &format!("{HERE}:7008")).says("a new one");
        wait::pause(Duration::from_millis(300));
        app.engine.start_daemon();
        there.says("after");
        local.says("after");
        assert_eq!(app.facts(), before, "after death {death}");
        app.serves();
        Echo::open(app.lan(), &format!("{HERE}:7008")).says("a new one");
    }
    let log = app.run(&["logs", "probe"]);
    assert!(!log.contains("failed"), "{log}");
    app.engine.wait_for_log("probe", &format!("good: {}", (lines(&log).len() + 3) * 150));
    app.run(&["rename", "db", "store"]);
    assert!(finds(&app.engine, "api", "store").is_some() && finds(&app.engine, "api", "db").is_none());
    app.run(&["stop", "-t", "0", "passing"]);
    assert!(connect(app.lan(), &format!("{HERE}:7008")).is_err());
}

/// `--ip` on a network of a known subnet, published: what is free again can be had by the same words.
fn fixed<'a>(name: &'a str, script: &'a str) -> Vec<&'a str> {
    let words = ["run", "-d", "--name", name, "--network", "shop", "--ip", "10.99.0.9", "-p", "8080:80"];
    [&words[..], &[BUSYBOX, "sh", "-c", script]].concat()
}

#[test]
fn what_ended_while_no_daemon_ran_has_given_back_its_address_and_its_port() {
    if !ours() {
        return;
    }
    let mut engine = Engine::apart();
    engine.tare(["network", "create", "--subnet", "10.99.0.0/24", "shop"]).ok();
    let stays = ["run", "-d", "--name", "stays", "--network", "shop", BUSYBOX, "sleep", "1000"];
    for others in [true, false] {
        if others {
            engine.tare(stays).ok();
        }
        engine.tare(fixed("ends", "sleep 1000")).ok();
        let pid = engine.pid_of("ends");
        engine.kill_daemon();
        rustix::process::kill_process(
            rustix::process::Pid::from_raw(pid.cast_signed()).unwrap(),
            rustix::process::Signal::KILL,
        )
        .unwrap();
        wait::until(wait::PATIENCE, || (!std::fs::exists(format!("/proc/{pid}")).unwrap()).then_some(()))
            .expect("it ends");
        engine.start_daemon();
        assert_eq!(engine.inspect("ends")["State"]["ExitCode"], json!(137));
        let listener = engine.space().inside(|| std::net::TcpListener::bind("127.0.0.1:8080"));
        let listener = listener.expect("the port is the machine's again");
        connect(engine.space(), "127.0.0.1:8080").expect("and leads to the machine's own programs");
        drop(listener);
        engine.tare(["start", "ends"]).ok();
        engine.tare(["rm", "-f", "ends"]).ok();
        engine.tare(fixed("next", "sleep 1000")).ok();
        engine.remove_containers();
    }
    engine.tare(["network", "rm", "shop"]).ok();
}

#[test]
fn nobody_flushes_the_rules_while_no_daemon_runs() {
    if !ours() {
        return;
    }
    let mut engine = Engine::apart();
    let lan = engine.neighbour();
    let serve = "echo inside >/tmp/index.html; exec httpd -f -p 80 -h /tmp";
    for (name, subnet) in [("front", "10.98.0.0/24"), ("back", "10.99.0.0/24")] {
        engine.tare(["network", "create", "--subnet", subnet, name]).ok();
    }
    let web = |name: &str, network: &str, ip: &str, publish: &str| {
        let words = ["run", "-d", "--name", name, "--network", network, "--ip", ip, "-p", publish];
        engine.tare([&words[..], &[BUSYBOX, "sh", "-c", serve]].concat()).ok();
    };
    web("one", "front", "10.98.0.9", "8080:80");
    web("two", "back", "10.99.0.9", "127.0.0.1:8081:80");
    // The neighbour believes that what is 127.0.0.1's lives at this machine's.
    lan.sh(
        "ip address del 127.0.0.1/8 dev lo; ip route add 127.0.0.1 via 203.0.113.1 dev lan src 203.0.113.2; \
         echo 1 >/proc/sys/net/ipv4/conf/lan/route_localnet",
    );
    let holds = |engine: &Engine, when: &str| {
        let serves = |from: &Space, address: &str| {
            let answer = wait::until(wait::PATIENCE, || fetch(from, address).ok());
            assert!(answer.is_some_and(|a| a.contains("inside")), "{when}: {address} is published");
        };
        serves(&lan, &format!("{HERE}:8080"));
        serves(engine.space(), "127.0.0.1:8081");
        for shut in ["10.98.0.9:80", "10.99.0.9:80", "127.0.0.1:8081", "203.0.113.1:8081"] {
            assert!(fetch(&lan, shut).is_err(), "{when}: {shut} is open to the LAN");
        }
    };
    let across = |engine: &Engine, pid: u32| {
        let reach = "exec 3<>/dev/tcp/10.99.0.9/80";
        let target = format!("--net=/proc/{pid}/ns/net");
        let limit = ["timeout", "1", "bash", "-c", reach];
        engine.outside([&["nsenter", &target][..], &limit].concat()).run().code == 0
    };
    holds(&engine, "with a daemon");
    for round in 0..2 {
        let pid = engine.pid_of("one");
        engine.kill_daemon();
        let flushed = debs::nft(|nft| engine.outside([nft])).args(["flush", "ruleset"]).run();
        assert_eq!(flushed.code, 0, "{flushed}");
        holds(&engine, "after a flush");
        assert!(!across(&engine, pid), "one network reaches another");
        engine.start_daemon();
        holds(&engine, "after the daemon is back");
        // What was kept is handed on by any that runs.
        engine.tare(["restart", "-t", "0", ["one", "two"][round]]).ok();
        holds(&engine, "after a restart");
    }
    drop(lan);
    engine.remove_containers();
    engine.tare(["network", "rm", "front", "back"]).ok();
}
