//! Real programs: nginx and PostgreSQL of a Debian image made by mmdebstrap.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::chown;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;
use tare_kit::{Engine, debs, wait};

use crate::ours;

/// The image of all of them.
pub(crate) const IMAGE: &str = "debian-apps:1";

/// Its files, as an archive.
pub(crate) fn apps() -> PathBuf {
    debs::debian("services", &["nginx-light", "postgresql", "python3-psycopg2"])
}

/// Gives an engine the Debian image.
pub(crate) fn have_apps(engine: &Engine) {
    let import = engine.tare(["import".as_ref(), apps().as_os_str(), IMAGE.as_ref()]);
    import.limit(Duration::from_secs(120)).ok();
}

/// An engine with the Debian image.
fn engine() -> Engine {
    let engine = Engine::empty();
    have_apps(&engine);
    engine
}

/// A port that nobody has just now.
fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn fetch(port: u16) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

#[test]
fn nginx_serves_a_bind_mount_over_the_hosts_network_and_stops_cleanly() {
    if !ours() {
        return;
    }
    let engine = engine();
    let (port, html, conf) = (free_port(), engine.path("html"), engine.path("nginx.conf"));
    fs::create_dir(&html).unwrap();
    fs::write(format!("{html}/index.html"), "served by a container\n").unwrap();
    let text = format!(
        "daemon off; error_log /dev/stderr; pid /tmp/nginx.pid; events {{}}\n\
         http {{ access_log /dev/stdout; server {{ listen 127.0.0.1:{port}; root /html; }} }}\n"
    );
    fs::write(&conf, text).unwrap();
    let (html, conf) = (format!("{html}:/html:ro"), format!("{conf}:/nginx.conf:ro"));
    engine
        .tare([
            "run",
            "-d",
            "--name",
            "web",
            "--network",
            "host",
            "-v",
            &html,
            "-v",
            &conf,
            IMAGE,
            "nginx",
            "-c",
            "/nginx.conf",
        ])
        .ok();
    let answer = wait::until(wait::PATIENCE, || fetch(port).ok().filter(|a| a.contains("200 OK")));
    assert!(answer.as_deref().is_some_and(|a| a.ends_with("served by a container\n")), "{answer:?}");
    engine.wait_for_log("web", "GET / HTTP/1.0");
    engine.tare(["restart", "web"]).ok();
    wait::until(wait::PATIENCE, || fetch(port).ok().filter(|a| a.contains("200 OK")))
        .expect("it serves after a restart");
    engine.tare(["stop", "web"]).ok();
    assert_eq!(engine.inspect("web")["State"]["ExitCode"], json!(0), "nginx ends cleanly on SIGTERM");
    assert!(fetch(port).is_err());
}

#[test]
fn postgresql_keeps_its_data_in_a_bind_mount_over_restarts() {
    if !ours() {
        return;
    }
    let engine = engine();
    let (data, port) = (engine.path("pgdata"), free_port().to_string());
    fs::create_dir(&data).unwrap();
    let user = engine.tare(["run", "--rm", "--network", "none", IMAGE, "id", "-u", "postgres"]).ok();
    let id: u32 = user.trim().parse().unwrap();
    chown(&data, Some(id), Some(id)).unwrap();
    let volume = format!("{data}:/data");
    let bin = "PATH=$(echo /usr/lib/postgresql/*/bin):$PATH";
    let setup = format!("{bin}; initdb -D /data -A trust --no-sync >/dev/null && echo done");
    let out = engine
        .tare([
            "run",
            "--rm",
            "--network",
            "none",
            "-u",
            "postgres",
            "-v",
            &volume,
            IMAGE,
            "sh",
            "-c",
            &setup,
        ])
        .ok();
    assert!(out.ends_with("done"), "{out}");
    let serve = format!(
        "{bin}; exec postgres -D /data -p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories=/tmp"
    );
    let words = [
        "run",
        "-d",
        "--name",
        "db",
        "--network",
        "host",
        "--shm-size",
        "128m",
        "-u",
        "postgres",
        "-v",
        &volume,
        IMAGE,
        "sh",
        "-c",
        &serve,
    ];
    engine.tare(words).ok();
    let sql = |statement: &str| {
        let query = format!("{bin}; psql -h /tmp -p {port} -U postgres -tAc \"{statement}\"");
        wait::until(wait::PATIENCE, || {
            let out = engine.tare(["exec", "-u", "postgres", "db", "sh", "-c", &query]).run();
            (out.code == 0).then(|| out.out())
        })
        .unwrap_or_else(|| panic!("{statement} failed"))
    };
    sql("create table t as select generate_series(1, 10000) as n");
    engine.tare(["stop", "db"]).ok();
    assert_eq!(engine.inspect("db")["State"]["ExitCode"], json!(0), "PostgreSQL ends cleanly on SIGTERM");
    assert!(engine.tare(["logs", "db"]).run().err().contains("database system is shut down"));
    engine.tare(["start", "db"]).ok();
    assert_eq!(sql("select count(*) from t"), "10000");
    TcpStream::connect(("127.0.0.1", port.parse::<u16>().unwrap())).expect("it is reachable from the host");
    engine.tare(["rm", "-f", "db"]).ok();
    engine.tare(words).ok();
    assert_eq!(sql("select sum(n) from t"), "50005000", "data outlives the container, and a crash");
    engine.tare(["stop", "db"]).ok();
}
