//! Bytes, connections and datagrams between containers and through published ports, beside a bare pair of links.
//!
//! ```text
//!   pair:       client ══ veth ══ server                       two namespaces and nothing else
//!   within:     client ── bridge ── server                     both containers
//!   published:  client ══ lan ══ host:PORT ── bridge ── server   a neighbour of the host's, or the host itself
//! ```
//!
//! Whoever asks is on the first core, whoever serves on the second. Every round measures each of them once, one after
//! another.

use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tare_kit::space::{HERE, NEIGHBOUR};
use tare_kit::{Space, wait};

use crate::Done;
use crate::report::{Goal, PART, Row};
use crate::stats::summary;
use crate::subject::Subject;
use crate::tools::{LAST_PORT, SERVER, nginx_settings, said};
use crate::work::{Bench, Values};

/// The core of those who ask.
const ASKS: u8 = 0;
/// The core of those who serve.
const SERVES: u8 = 1;
/// How long a server may take until it answers.
const PATIENCE: Duration = Duration::from_secs(20);
/// A host's port.
const PORT: u16 = 8080;
const IPERF: u16 = 5201;

/// A program of the host's that serves at the far end of the pair.
struct Serving(Child);

impl Bench<'_> {
    /// Bytes per second of one TCP connection: between containers, and through a published port.
    ///
    /// By Reno's rules, which every namespace allows: a sender that paces itself by a clock (BBR) measures the clock.
    pub(crate) fn throughput(&self) -> Done<Vec<Row>> {
        let far = self.far("iperf3 -s", self.place)?;
        let ports = [(IPERF, "tcp", IPERF)];
        let servers = self.each(|s| serving(s, &["iperf3", "-s"], &ports))?;
        let clients = self.each(|s| {
            let id = s.create(&on_bridge(&["sleep", "1000000"], ASKS, &[]))?;
            s.start(&id).map(|()| id)
        })?;
        let addresses = self.zip(&servers, |s, server| s.address(server))?;
        let within = |at: usize, s: &Subject<'_>| {
            let words = ["exec", &clients[at], "iperf3", "-c", &addresses[at], "-t", "2", "-J", "-C", "reno"];
            gigabits(&s.client_says(&words)?)
        };
        let line = |address: &str| self.tools.words(ASKS, &format!("iperf3 -c {address} -t 2 -J -C reno"));
        let bare = || gigabits(&said(self.pair().0.run(line(NEIGHBOUR)?))?);
        let outside = |at: usize, _: &Subject<'_>| gigabits(&said(self.neighbour(at).run(line(HERE)?))?);
        let inside = |at: usize, s: &Subject<'_>| {
            // The address of the host is there as long as its neighbour is.
            let _lan = self.neighbour(at);
            gigabits(&said(s.space.run(line(HERE)?))?)
        };
        let goal = Some(Goal::AsBare(0.97));
        let rows = [
            self.beside_bare("TCP between containers", "Gbit/s", goal, &bare, &within)?,
            self.beside_bare("TCP from the host through a published port", "Gbit/s", goal, &bare, &inside)?,
            self.beside_bare("TCP from outside through a published port", "Gbit/s", goal, &bare, &outside)?,
        ];
        drop(far);
        self.zip(&servers, |s, id| s.remove(id))?;
        self.zip(&clients, |s, id| s.remove(id))?;
        Ok(rows.into())
    }

    /// Connections per second through a published port: each asks nginx once.
    pub(crate) fn connections(&self) -> Done<Vec<Row>> {
        let settings = self.place.join("nginx.conf");
        let text = nginx_settings(&self.place.display().to_string());
        std::fs::write(&settings, text).map_err(|e| format!("cannot write {}: {e}", settings.display()))?;
        let far = self.far(&format!("nginx -c {}", settings.display()), self.place)?;
        let servers = self.each(|s| serving(s, NGINX, &[(PORT, "tcp", 80)]))?;
        let bare = || self.connect(&self.pair().0, &format!("{NEIGHBOUR}:80"));
        let outside =
            |at: usize, _: &Subject<'_>| self.connect(self.neighbour(at), &format!("{HERE}:{PORT}"));
        let goal = Some(Goal::AtLeast(1.0));
        let row = self.beside_bare(
            "connections from outside through a published port",
            "/s",
            goal,
            &bare,
            &outside,
        )?;
        drop(far);
        self.zip(&servers, |s, id| s.remove(id))?;
        Ok(vec![row])
    }

    /// What a packet costs where a thousand ports are published, beside one: connections, which meet the rules of
    /// publishing, and small datagrams, which meet those for every packet.
    pub(crate) fn ports(&self) -> Done<Vec<Row>> {
        let count = self.subjects.len();
        let (mut connections, mut datagrams) = (vec![Vec::new(); count], vec![Vec::new(); count]);
        for _ in 0..self.rounds {
            for (at, subject) in self.subjects.iter().enumerate() {
                let one = self.through(at, subject, 1)?;
                let thousand = self.through(at, subject, 1000)?;
                connections[at].push(thousand.0 / one.0);
                datagrams[at].push(thousand.1 / one.1);
            }
        }
        let goal = Some(Goal::Above(0.97));
        let what = |what: &str| format!("{what} per second with 1,000 published ports, over those with one");
        Ok(vec![
            self.row(&what("connections"), PART, goal, connections),
            self.row(&what("datagrams of 64 bytes"), PART, goal, datagrams),
        ])
    }

    /// Connections and datagrams per second through the last of so many published ports.
    fn through(&self, at: usize, subject: &Subject<'_>, published: u16) -> Done<(f64, f64)> {
        let first = LAST_PORT + 1 - published;
        let web: Vec<Way> = (first..=LAST_PORT).map(|port| (port, "tcp", port)).collect();
        let ids = [
            serving(subject, NGINX, &web)?,
            serving(subject, &["iperf3", "-s"], &[(IPERF, "tcp", IPERF), (IPERF, "udp", IPERF)])?,
        ];
        let neighbour = self.neighbour(at);
        let connections = patiently(|| self.connect(neighbour, &format!("{HERE}:{LAST_PORT}")))?;
        let line = format!("iperf3 -u -b 0 -l 64 -c {HERE} -t 2 -J");
        let datagrams = patiently(|| arrived(&said(neighbour.run(self.tools.words(ASKS, &line)?))?))?;
        // By the client, who waits as long as it takes.
        subject.client_says(&["rm", "--force", &ids[0], &ids[1]])?;
        Ok((connections, datagrams))
    }

    fn connect(&self, from: &Space, to: &str) -> Done<f64> {
        let line = format!("wrk -t1 -c64 -d2 http://{to}/");
        let mut words = self.tools.words(ASKS, &line)?;
        words.extend(["-H".into(), "Connection: close".into()]);
        rate(&said(from.run(words))?)
    }

    /// Rounds of the pair and of each subject, one after another; one more before them does not count.
    fn beside_bare(
        &self,
        what: &str,
        unit: &str,
        goal: Option<Goal>,
        bare: &dyn Fn() -> Done<f64>,
        act: &dyn Fn(usize, &Subject<'_>) -> Done<f64>,
    ) -> Done<Row> {
        let (mut floors, mut values): (_, Values) = (Vec::new(), vec![Vec::new(); self.subjects.len()]);
        patiently(bare)?;
        self.each_at(|at, s| patiently(|| act(at, s)))?;
        for _ in 0..self.rounds {
            floors.push(bare()?);
            for (value, values) in self.each_at(act)?.into_iter().zip(&mut values) {
                values.push(value);
            }
        }
        let mut row = self.row(what, unit, goal, values);
        row.floor = Some(summary(floors));
        Ok(row)
    }

    fn zip<T>(&self, of: &[String], mut act: impl FnMut(&Subject<'_>, &str) -> Done<T>) -> Done<Vec<T>> {
        self.each_at(|at, subject| act(subject, &of[at]))
    }

    fn neighbour(&self, at: usize) -> &Space {
        self.around.neighbour(self.subjects, at)
    }

    fn pair(&self) -> &(Space, Space) {
        self.around.pair()
    }

    /// Serves at the far end of the pair.
    fn far(&self, line: &str, place: &Path) -> Done<Serving> {
        let mut command = self.pair().1.run(self.tools.words(SERVES, line)?).into_command();
        command.current_dir(place).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().map(Serving).map_err(|e| format!("cannot run {line}: {e}"))
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // nginx tells its worker at this, and not at a kill.
        let _ = rustix::process::kill_process(
            rustix::process::Pid::from_child(&self.0),
            rustix::process::Signal::TERM,
        );
        if !tare_kit::cmd::ends_within(&self.0, Duration::from_secs(5)) {
            let _ = self.0.kill();
        }
        let _ = self.0.wait();
    }
}

const NGINX: &[&str] = &["nginx", "-c", "/etc/nginx.conf"];

/// A port of the host's, the protocol, and the port of the container that it leads to.
type Way = (u16, &'static str, u16);

fn serving(subject: &Subject<'_>, words: &[&str], ways: &[Way]) -> Done<String> {
    let id = subject.create(&on_bridge(words, SERVES, ways))?;
    subject.client_says(&["start", &id]).map(|_| id)
}

/// A container on the default bridge.
fn on_bridge(words: &[&str], core: u8, ways: &[Way]) -> Value {
    let binding = |(host, protocol, port): &Way| {
        (format!("{port}/{protocol}"), json!([{"HostIp": "0.0.0.0", "HostPort": host.to_string()}]))
    };
    let bindings: serde_json::Map<String, Value> = ways.iter().map(binding).collect();
    let exposed: serde_json::Map<String, Value> =
        bindings.keys().map(|port| (port.clone(), json!({}))).collect();
    json!({
        "Image": SERVER, "Cmd": words, "ExposedPorts": exposed,
        "HostConfig": {"PortBindings": bindings, "CpusetCpus": core.to_string()}
    })
}

/// Until a server answers.
fn patiently<T>(act: impl Fn() -> Done<T>) -> Done<T> {
    let mut last = String::new();
    let done = wait::until(PATIENCE, || act().map_err(|why| last = why).ok());
    done.ok_or(last)
}

fn report(text: &str) -> Done<Value> {
    serde_json::from_str(text).map_err(|e| format!("iperf3 said {text:?}: {e}"))
}

fn gigabits(text: &str) -> Done<f64> {
    let bits = report(text)?["end"]["sum_received"]["bits_per_second"].as_f64();
    bits.map(|bits| bits / 1e9).ok_or_else(|| format!("iperf3 said {text:?}"))
}

/// Datagrams that arrived per second.
fn arrived(text: &str) -> Done<f64> {
    let report = report(text)?;
    let field = |name: &str| {
        report["end"]["sum"][name].as_f64().ok_or_else(|| format!("iperf3 said nothing of {name}: {text:?}"))
    };
    Ok((field("packets")? - field("lost_packets")?) / field("seconds")?)
}

/// wrk's requests per second; it must have been answered with nothing but 200.
fn rate(text: &str) -> Done<f64> {
    let value = |label: &str| text.lines().find_map(|line| line.trim().strip_prefix(label));
    match (value("Requests/sec:").and_then(|rate| rate.trim().parse().ok()), value("Non-2xx")) {
        (Some(rate), None) if rate > 0.0 => Ok(rate),
        _ => Err(format!("wrk said {text:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_from_what_the_programs_say() {
        assert_eq!(rate("Running\n  9 requests in 2s\nRequests/sec:   4.50\n"), Ok(4.5));
        assert!(rate("Non-2xx or 3xx responses: 3\nRequests/sec: 4.50\n").is_err());
        assert_eq!(gigabits(r#"{"end":{"sum_received":{"bits_per_second":2e9}}}"#), Ok(2.0));
        let sum = r#"{"end":{"sum":{"packets":50,"lost_packets":10,"seconds":2.0}}}"#;
        assert_eq!(arrived(sum), Ok(20.0));
    }
}
