//! `stats`: a table that redraws itself, or one look.

use super::path_name;
use crate::context::{Context, complain, print};
use crate::failure::{Failure, Outcome};
use crate::flags::{Flag, Given, switch, text};
use crate::output::format::{Layout, Row, render};
use crate::output::human;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tare_docker_api::client::{Client, Progress, Request, Response};

/// Flags of `stats`.
pub(crate) const FLAGS: &[Flag] = &[
    switch("all", Some('a'), "Show all containers (default shows just running)"),
    text("format", None, "string", "Format output: 'table', 'table TEMPLATE', 'json' or a Go template"),
    switch("no-stream", None, "Disable streaming stats and only pull the first result"),
    switch("no-trunc", None, "Do not truncate output"),
];

/// The table is drawn anew this often.
const REDRAW: Duration = Duration::from_millis(500);

const LAYOUT: Layout = Layout {
    kind: "*container.statsContext",
    titles: &[
        ("Container", "CONTAINER"),
        ("ID", "CONTAINER ID"),
        ("Name", "NAME"),
        ("CPUPerc", "CPU %"),
        ("MemUsage", "MEM USAGE / LIMIT"),
        ("MemPerc", "MEM %"),
        ("NetIO", "NET I/O"),
        ("BlockIO", "BLOCK I/O"),
        ("PIDs", "PIDS"),
    ],
    table: "{{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}",
    quiet: "{{.ID}}",
    raw: "",
};

/// One container that is watched.
struct Watched {
    stream: Response,
    text: Vec<u8>,
    latest: Option<Value>,
    over: bool,
}

/// `tare stats`.
pub(crate) fn stats(context: &Context, given: &Given) -> Outcome {
    let mut client = context.client()?;
    if given.on("no-stream") {
        return once(&mut client, given);
    }
    stream(&mut client, given)
}

fn names(client: &mut Client, given: &Given) -> Result<Vec<String>, Failure> {
    if !given.args.is_empty() {
        return Ok(given.args.clone());
    }
    let found: Vec<Value> = client.json(Request::get("/containers/json").flag("all", given.on("all")))?;
    Ok(found.iter().filter_map(|c| c["Id"].as_str().map(str::to_owned)).collect())
}

fn request(name: &str, stream: bool) -> Request<'static> {
    let request = Request::get(format!("/containers/{}/stats", path_name(name)));
    request.query("stream", if stream { "1" } else { "0" })
}

/// One look at each; they are all asked before the first answer is read, for each takes a second.
fn once(client: &mut Client, given: &Given) -> Outcome {
    let names = names(client, given)?;
    let sent: Vec<_> = names.iter().map(|name| client.begin(request(name, false))).collect();
    let (mut rows, mut code) = (Vec::new(), 0);
    for (name, pending) in names.iter().zip(sent) {
        let answer = pending.and_then(|p| p.response()).and_then(|mut r| r.read_body());
        match answer {
            Ok(body) => {
                let value = serde_json::from_slice(&body).unwrap_or(Value::Null);
                rows.push(row(name, &value, given.on("no-trunc")));
            }
            Err(e) => {
                complain(e.to_string());
                code = 1;
            }
        }
    }
    if !rows.is_empty() || given.args.is_empty() {
        print(&render(&LAYOUT, given.one("format"), false, &rows)?)?;
    }
    Ok(code)
}

fn stream(client: &mut Client, given: &Given) -> Outcome {
    let mut watched: BTreeMap<String, Watched> = BTreeMap::new();
    let mut order = names(client, given)?;
    for name in &order {
        watch(client, name, &mut watched)?;
    }
    // Without names the list follows what starts and stops.
    let mut events = if given.args.is_empty() { Some(subscribe(client)?) } else { None };
    let mut events_text = Vec::new();
    let mut next = Instant::now();
    loop {
        if Instant::now() >= next {
            draw(given, &order, &watched)?;
            next = Instant::now() + REDRAW;
        }
        let left = next.saturating_duration_since(Instant::now());
        let ready = wait(&watched, events.as_ref(), left)?;
        for (name, w) in watched.iter_mut().filter(|(name, _)| ready.contains(name)) {
            w.advance().map_err(|e| Failure::io(format!("reading the statistics of {name}"), &e))?;
        }
        if let Some(stream) = events.as_mut().filter(|_| ready.iter().any(String::is_empty)) {
            match stream.body_mut().advance(&mut events_text) {
                Ok(Progress::More) => {}
                Ok(Progress::End) | Err(_) => {
                    return Err(Failure::new("the daemon ended the stream of events"));
                }
            }
            for event in take_lines(&mut events_text) {
                on_event(client, &event, &mut order, &mut watched)?;
            }
        }
        order.retain(|name| watched.get(name).is_some_and(|w| !w.over));
        watched.retain(|_, w| !w.over);
        if watched.is_empty() && events.is_none() {
            return Ok(0);
        }
    }
}

fn subscribe(client: &mut Client) -> Result<Response, Failure> {
    let filters = r#"{"event":["start","die"],"type":["container"]}"#;
    Ok(client.send(Request::get("/events").query("filters", filters))?)
}

fn on_event(
    client: &mut Client,
    event: &Value,
    order: &mut Vec<String>,
    watched: &mut BTreeMap<String, Watched>,
) -> Result<(), Failure> {
    let id = event["Actor"]["ID"].as_str().unwrap_or_default().to_owned();
    match event["Action"].as_str() {
        // It may be gone again already.
        Some("start")
            if !id.is_empty() && !watched.contains_key(&id) && watch(client, &id, watched).is_ok() =>
        {
            order.push(id)
        }
        Some("die") => {
            if let Some(w) = watched.get_mut(&id) {
                w.over = true;
            }
        }
        _ => {}
    }
    Ok(())
}

fn watch(client: &mut Client, name: &str, watched: &mut BTreeMap<String, Watched>) -> Result<(), Failure> {
    let stream = client.send(request(name, true))?;
    watched.insert(name.to_owned(), Watched { stream, text: Vec::new(), latest: None, over: false });
    Ok(())
}

/// The names of those with something to read; an empty name stands for the events.
fn wait(
    watched: &BTreeMap<String, Watched>,
    events: Option<&Response>,
    left: Duration,
) -> Result<Vec<String>, Failure> {
    let mut names: Vec<&str> = watched.keys().map(String::as_str).collect();
    let mut fds: Vec<PollFd<'_>> = watched.values().map(|w| PollFd::new(&w.stream, PollFlags::IN)).collect();
    if let Some(events) = events {
        names.push("");
        fds.push(PollFd::new(events, PollFlags::IN));
    }
    let limit = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
    match poll(&mut fds, Some(&limit)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(e) => return Err(Failure::new(format!("poll: {e}"))),
    }
    Ok(names
        .iter()
        .zip(&fds)
        .filter(|(_, fd)| !fd.revents().is_empty())
        .map(|(n, _)| (*n).to_owned())
        .collect())
}

fn draw(given: &Given, order: &[String], watched: &BTreeMap<String, Watched>) -> Result<(), Failure> {
    let rows: Vec<Row> = order
        .iter()
        .filter_map(|name| watched.get(name).map(|w| (name, w)))
        .map(|(name, w)| row(name, w.latest.as_ref().unwrap_or(&Value::Null), given.on("no-trunc")))
        .collect();
    let text = render(&LAYOUT, given.one("format"), false, &rows)?;
    // Home, each line cleared to its end, then everything below: no flicker.
    print(&format!("\x1b[H{}\x1b[J", text.replace('\n', "\x1b[K\n")))
}

fn take_lines(text: &mut Vec<u8>) -> Vec<Value> {
    let end = text.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
    let whole: Vec<u8> = text.drain(..end).collect();
    whole.split(|b| *b == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect()
}

// === impl Watched ===

impl Watched {
    fn advance(&mut self) -> std::io::Result<()> {
        if self.stream.body_mut().advance(&mut self.text)? == Progress::End {
            self.over = true;
        }
        if let Some(last) = take_lines(&mut self.text).pop() {
            self.latest = Some(last);
        }
        Ok(())
    }
}

/// The numbers of one look; nothing yet is `--`.
fn row(name: &str, s: &Value, whole: bool) -> Row {
    let id = s["id"].as_str().unwrap_or(name);
    let shown = if whole { id.to_owned() } else { human::short_id(id) };
    let title = s["name"].as_str().unwrap_or("--").trim_start_matches('/').to_owned();
    let mut columns =
        vec![("Container", Value::from(name)), ("ID", Value::from(shown)), ("Name", Value::from(title))];
    if s["read"].is_null() {
        let blank = [
            ("CPUPerc", "--"),
            ("MemUsage", "-- / --"),
            ("MemPerc", "--"),
            ("NetIO", "--"),
            ("BlockIO", "--"),
            ("PIDs", "--"),
        ];
        columns.extend(blank.map(|(name, value)| (name, Value::from(value))));
        return Row { columns, labels: Vec::new() };
    }
    let (used, limit) = (memory(&s["memory_stats"]), s["memory_stats"]["limit"].as_f64().unwrap_or(0.0));
    let (received, sent) = network(&s["networks"]);
    let (read, written) = block(&s["blkio_stats"]);
    let pair = |a: f64, b: f64| Value::from(format!("{} / {}", human::size(a), human::size(b)));
    columns.extend([
        ("CPUPerc", Value::from(format!("{:.2}%", processors(s)))),
        ("MemUsage", Value::from(format!("{} / {}", human::size_binary(used), human::size_binary(limit)))),
        ("MemPerc", Value::from(format!("{:.2}%", if limit > 0.0 { used / limit * 100.0 } else { 0.0 }))),
        ("NetIO", pair(received, sent)),
        ("BlockIO", pair(read, written)),
        ("PIDs", Value::from(s["pids_stats"]["current"].as_u64().unwrap_or(0).to_string())),
    ]);
    Row { columns, labels: Vec::new() }
}

/// Share of one processor's time since the look before.
fn processors(s: &Value) -> f64 {
    let number = |part: &str, path: &str| s[part].pointer(path).and_then(Value::as_f64).unwrap_or(0.0);
    let used =
        number("cpu_stats", "/cpu_usage/total_usage") - number("precpu_stats", "/cpu_usage/total_usage");
    let passed = number("cpu_stats", "/system_cpu_usage") - number("precpu_stats", "/system_cpu_usage");
    let per_cpu = s["cpu_stats"]["cpu_usage"]["percpu_usage"].as_array().map_or(0, Vec::len);
    let online = s["cpu_stats"]["online_cpus"].as_f64().filter(|n| *n > 0.0).unwrap_or(per_cpu as f64);
    if used > 0.0 && passed > 0.0 { used / passed * online * 100.0 } else { 0.0 }
}

/// What is used and could not be dropped at once: without the inactive part of the page cache.
fn memory(m: &Value) -> f64 {
    let usage = m["usage"].as_f64().unwrap_or(0.0);
    let cache =
        m["stats"]["total_inactive_file"].as_f64().or(m["stats"]["inactive_file"].as_f64()).unwrap_or(0.0);
    if cache < usage { usage - cache } else { usage }
}

fn network(networks: &Value) -> (f64, f64) {
    let all = networks.as_object().into_iter().flatten();
    let number = |v: &Value| v.as_f64().unwrap_or(0.0);
    all.fold((0.0, 0.0), |(rx, tx), (_, n)| (rx + number(&n["rx_bytes"]), tx + number(&n["tx_bytes"])))
}

fn block(stats: &Value) -> (f64, f64) {
    let mut sums = (0.0, 0.0);
    for entry in stats["io_service_bytes_recursive"].as_array().into_iter().flatten() {
        let value = entry["value"].as_f64().unwrap_or(0.0);
        match entry["op"].as_str().and_then(|op| op.chars().next()) {
            Some('r' | 'R') => sums.0 += value,
            Some('w' | 'W') => sums.1 += value,
            _ => {}
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_numbers_are_dockers() {
        let sample = json!({
            "id": "0123456789abcdef", "name": "/web", "read": "2024-01-01T00:00:00Z", "pids_stats": {"current": 3},
            "cpu_stats": {"cpu_usage": {"total_usage": 150}, "system_cpu_usage": 2000, "online_cpus": 2},
            "precpu_stats": {"cpu_usage": {"total_usage": 100}, "system_cpu_usage": 1000},
            "memory_stats": {"usage": 3_145_728, "limit": 1_073_741_824, "stats": {"inactive_file": 1_048_576}},
            "networks": {"eth0": {"rx_bytes": 656, "tx_bytes": 0}, "eth1": {"rx_bytes": 1000, "tx_bytes": 1}},
            "blkio_stats": {"io_service_bytes_recursive": [{"op": "Read", "value": 4096}, {"op": "write", "value": 1}, {"op": "Total", "value": 9}]},
        });
        let out = render(&LAYOUT, None, false, &[row("web", &sample, false)]).expect("output");
        let want =
            "0123456789ab   web       10.00%    2MiB / 1GiB         0.20%     1.66kB / 1B   4.1kB / 1B   3\n";
        assert_eq!(out.lines().nth(1).map(|l| format!("{l}\n")).as_deref(), Some(want));
    }

    #[test]
    fn what_is_not_known_yet_is_dashes() {
        let out = render(
            &LAYOUT,
            Some("{{.Name}} {{.CPUPerc}} {{.MemUsage}}"),
            false,
            &[row("web", &Value::Null, false)],
        );
        assert_eq!(out, Ok("-- -- -- / --\n".into()));
    }

    #[test]
    fn half_a_line_waits_for_its_other_half() {
        let mut text = b"{\"a\":1}\n{\"a\":".to_vec();
        assert_eq!(take_lines(&mut text).len(), 1);
        text.extend(b"2}\n");
        assert_eq!(take_lines(&mut text), [json!({"a": 2})]);
        assert!(text.is_empty());
    }
}
