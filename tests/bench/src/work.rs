//! What is measured. Quick things are measured in turn, run by run, so that whatever else the machine does meanwhile
//! falls on all alike.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use serde_json::{Value, json};
use tare_kit::{Image, Layer, image};

use crate::around::Around;
use crate::floor::Floor;
use crate::machine;
use crate::report::{Goal, Row};
use crate::stats::summary;
use crate::subject::{HANGS, Runtime, Subject};
use crate::tools::Tools;
use crate::{Done, What};

pub(crate) const IMAGE: &str = "bench:1";
/// Copies of `/lines` that one log measurement writes.
const COPIES: usize = 25;
/// Lines in `/lines`, of 71 bytes each.
const LINES: usize = 115_000;

/// Everything that the measurements need.
pub(crate) struct Bench<'a> {
    /// Ours first, Docker last.
    pub(crate) subjects: &'a [&'a Subject<'a>],
    /// Ours first, Docker's second, then further ones; without ours if that is not measured.
    pub(crate) runtimes: &'a [Runtime],
    /// Docker's system-call filter.
    pub(crate) filter: Value,
    pub(crate) floor: Floor,
    pub(crate) bundle: PathBuf,
    pub(crate) runs: u32,
    /// Rounds of what takes seconds each.
    pub(crate) rounds: u32,
    pub(crate) idle: usize,
    /// A directory that goes when all is measured.
    pub(crate) place: &'a Path,
    pub(crate) tools: &'a Tools,
    pub(crate) around: Around,
}

/// Makes an OCI bundle whose program is `true`, and a root file system that the floor uses too.
pub(crate) fn bundle(place: &Path) -> Done<PathBuf> {
    let bundle = place.join("bundle");
    std::fs::create_dir_all(&bundle).map_err(|e| format!("cannot make a bundle: {e}"))?;
    image::unpack_busybox(&bundle.join("rootfs"));
    Ok(bundle)
}

/// The image of the measurements: busybox and a file of lines.
pub(crate) fn bench_image() -> Image {
    let line = format!("{}\n", "x".repeat(70));
    Image::busybox(IMAGE).layer(Layer::new().file("lines", line.repeat(LINES)))
}

fn container(words: &[&str]) -> Value {
    json!({"Image": IMAGE, "Cmd": words, "HostConfig": {"NetworkMode": "none"}})
}

/// Values of each subject, in the order of the subjects.
pub(crate) type Values = Vec<Vec<f64>>;

impl Bench<'_> {
    /// Measures what is asked for.
    pub(crate) fn measure(&mut self, what: What) -> Done<Vec<Row>> {
        match what {
            What::CommandLine => self.command_line().map(|row| vec![row]),
            What::Bridged => self.bridged(),
            What::Phases => self.phases(),
            What::Exec => self.exec().map(|row| vec![row]),
            What::Oci => self.oci(),
            What::Memory => self.memory(),
            What::Logs => self.logs().map(|row| vec![row]),
            What::Throughput => self.throughput(),
            What::Connections => self.connections(),
            What::Ports => self.ports(),
            What::Names => self.names(),
        }
    }

    pub(crate) fn each<T>(&self, mut act: impl FnMut(&Subject<'_>) -> Done<T>) -> Done<Vec<T>> {
        self.each_at(|_, subject| act(subject))
    }

    /// The same, and which of them it is.
    pub(crate) fn each_at<T>(&self, mut act: impl FnMut(usize, &Subject<'_>) -> Done<T>) -> Done<Vec<T>> {
        self.subjects.iter().enumerate().map(|(at, subject)| act(at, subject)).collect()
    }

    /// Runs `act` on each subject in turn, `runs` times; one more run before them does not count.
    fn in_turn(&self, runs: u32, mut act: impl FnMut(&Subject<'_>) -> Done<f64>) -> Done<Values> {
        let mut values = vec![Vec::new(); self.subjects.len()];
        for run in 0..=runs {
            for (subject, values) in self.subjects.iter().zip(&mut values) {
                let value = act(subject)?;
                if run > 0 {
                    values.push(value);
                }
            }
        }
        Ok(values)
    }

    pub(crate) fn row(&self, what: &str, unit: &str, goal: Option<Goal>, values: Values) -> Row {
        let mut summaries = values.into_iter().map(summary);
        let tare = if self.subjects.len() > 1 { summaries.next() } else { None };
        let row = Row::new(what, unit, goal, tare, summaries.next());
        println!("{}", row.line());
        row
    }

    fn command_line(&mut self) -> Done<Row> {
        let words = ["run", "--rm", "--network", "none", IMAGE, "true"];
        let (mut floors, mut values) = (Vec::new(), vec![Vec::new(); self.subjects.len()]);
        for _ in 0..self.runs {
            floors.push(self.floor.once()?);
            for (subject, values) in self.subjects.iter().zip(&mut values) {
                values.push(subject.time_client(&words)?);
            }
        }
        let mut row = self.row(
            "`run --rm --network none IMAGE true`, command line",
            "ms",
            Some(Goal::CommandLine),
            values,
        );
        row.floor = Some(summary(floors));
        Ok(row)
    }

    /// With a bridge and without, one after the other, so that the difference is the network's.
    fn bridged(&self) -> Done<Vec<Row>> {
        let mut none = vec![Vec::new(); self.subjects.len()];
        let values = self.in_turn(self.runs, |subject| {
            let without = subject.time_client(&["run", "--rm", "--network", "none", IMAGE, "true"])?;
            let at = self.subjects.iter().position(|other| other.name == subject.name).unwrap_or(0);
            none[at].push(without);
            subject.time_client(&["run", "--rm", IMAGE, "true"])
        })?;
        let more = values
            .iter()
            .zip(&none)
            .map(|(with, without)| vec![summary(with.clone()).median - summary(without.clone()).median]);
        let more = more.collect();
        let what = "`run --rm IMAGE true` on the default bridge, command line";
        Ok(vec![
            self.row(what, "ms", Some(Goal::AtMost(1.0 / 25.0)), values),
            self.row("what the bridge adds to the median of `--network none`", "ms", None, more),
        ])
    }

    fn phases(&self) -> Done<Vec<Row>> {
        let names = ["create", "start", "wait", "remove"];
        let mut values: Vec<Values> = vec![vec![Vec::new(); self.subjects.len()]; names.len() + 1];
        for _ in 0..self.runs {
            for (i, subject) in self.subjects.iter().enumerate() {
                let mut marks = vec![Instant::now()];
                let id = subject.create(&container(&["true"]))?;
                marks.push(Instant::now());
                subject.start(&id)?;
                marks.push(Instant::now());
                subject.wait(&id)?;
                marks.push(Instant::now());
                subject.remove(&id)?;
                marks.push(Instant::now());
                let took = |a: usize, b: usize| (marks[b] - marks[a]).as_secs_f64() * 1e3;
                for (values, phase) in values.iter_mut().zip(0..names.len()) {
                    values[i].push(took(phase, phase + 1));
                }
                values[names.len()][i].push(took(0, names.len()));
            }
        }
        let names =
            names.iter().map(|n| format!("API {n}")).chain(["API create, start, wait, remove".into()]);
        Ok(names.zip(values).map(|(name, values)| self.row(&name, "ms", None, values)).collect())
    }

    fn exec(&self) -> Done<Row> {
        let ids = self.each(|s| {
            let id = s.create(&container(&["sleep", "1000000"]))?;
            s.start(&id).map(|()| id)
        })?;
        let id = |s: &Subject<'_>| {
            self.subjects.iter().position(|o| o.name == s.name).map_or("", |i| ids[i].as_str())
        };
        let values = self.in_turn(self.runs, |s| s.time_client(&["exec", id(s), "true"]))?;
        self.each(|s| s.remove(id(s)))?;
        Ok(self.row("`exec CONTAINER true`, command line", "ms", Some(Goal::AtMost(1.0 / 10.0)), values))
    }

    /// The OCI runtimes in turn, judged by the fastest of the others.
    pub(crate) fn oci(&self) -> Done<Vec<Row>> {
        self.write_spec()?;
        let root = self.bundle.with_file_name("runtime").display().to_string();
        let bundle = self.bundle.display().to_string();
        let mut values = vec![(Vec::new(), Vec::new()); self.runtimes.len()];
        for run in 0..=self.runs {
            for (runtime, (wall, cpu)) in self.runtimes.iter().zip(&mut values) {
                let id = format!("bench-{}-{run}", std::process::id());
                let root = format!("{root}-{}", runtime.name);
                let took = match runtime.time(&["--root", &root, "run", "--bundle", &bundle, &id]) {
                    // youki misses the end of its container now and then: a run that says nothing of speed.
                    Err(why) if why.ends_with(HANGS) && runtime.name != "tare-oci" => {
                        println!("{why}");
                        let _ = runtime.time(&["--root", &root, "delete", "--force", &id]);
                        continue;
                    }
                    other => other?,
                };
                if run > 0 {
                    wall.push(took.0);
                    cpu.push(took.1);
                }
            }
        }
        let (wall, cpu): (Values, Values) = values.into_iter().unzip();
        let mut rows = Vec::new();
        for (what, part, values) in [("command line", 1.0 / 4.0, wall), ("CPU time", 1.0 / 3.0, cpu)] {
            let what = format!("OCI `run` with filter and limits, {what}");
            rows.extend(self.beside(&what, Goal::AtMost(part), values));
        }
        Ok(rows)
    }

    /// Ours beside the fastest of the others, and beside each of them if there are several.
    fn beside(&self, what: &str, goal: Goal, values: Values) -> Vec<Row> {
        let mut named: Vec<_> =
            self.runtimes.iter().map(|r| &r.name).zip(values.into_iter().map(summary)).collect();
        let tare = (self.subjects.len() > 1).then(|| named.remove(0).1);
        let fastest = named.iter().min_by(|(_, one), (_, other)| one.median.total_cmp(&other.median));
        let of = |what: String, goal, peer| Row::new(&what, "ms", goal, tare, peer);
        let mut rows = vec![of(what.to_owned(), Some(goal), fastest.map(|(_, summary)| *summary))];
        if named.len() > 1 {
            rows.extend(
                named.iter().map(|(name, other)| of(format!("{what}, beside {name}"), None, Some(*other))),
            );
        }
        for row in &rows {
            println!("{}", row.line());
        }
        rows
    }

    /// The default specification of Docker's own runtime, with all that an engine asks for: the six namespaces, a filter and
    /// limits. Its program is `true`, without a terminal.
    fn write_spec(&self) -> Done {
        let runtime = &self.subjects.last().ok_or("nothing to measure")?.runtime;
        let path = self.bundle.join("config.json");
        let made = Command::new(runtime).arg("spec").current_dir(&self.bundle).status();
        let text = std::fs::read_to_string(&path).map_err(|e| format!("`runc spec`: {e} ({made:?})"))?;
        let mut spec: Value = serde_json::from_str(&text).map_err(|e| format!("`runc spec`: {e}"))?;
        spec["process"]["terminal"] = json!(false);
        spec["process"]["args"] = json!(["true"]);
        spec["linux"]["seccomp"] = self.filter.clone();
        spec["linux"]["resources"] = json!({
            "devices": [{"allow": false, "access": "rwm"}],
            "memory": {"limit": 256 << 20, "swap": 256 << 20},
            "cpu": {"shares": 512, "quota": 100_000, "period": 100_000},
            "pids": {"limit": 100},
        });
        let kinds = ["mount", "pid", "ipc", "uts", "network", "cgroup"];
        spec["linux"]["namespaces"] = kinds.iter().map(|kind| json!({"type": kind})).collect();
        std::fs::write(&path, spec.to_string()).map_err(|e| format!("cannot write the bundle: {e}"))
    }

    fn memory(&self) -> Done<Vec<Row>> {
        let idle = self.idle;
        let (shims, hosts) = self.idle_containers(&container(&["sleep", "1000000"]))?;
        let (_, bridged) = self.idle_containers(&json!({"Image": IMAGE, "Cmd": ["sleep", "1000000"]}))?;
        Ok(vec![
            self.row("memory of a container's monitor (PSS)", "MB", Some(Goal::Below(0.5)), shims),
            self.row(&format!("memory of the host per idle container ({idle})"), "MB", None, hosts),
            self.row(
                &format!("memory of the host per idle container on the default bridge ({idle})"),
                "MB",
                Some(Goal::Below(0.9)),
                bridged,
            ),
        ])
    }

    /// What monitors of such containers take, each, and what the host has less for each container.
    fn idle_containers(&self, container: &Value) -> Done<(Values, Values)> {
        let (mut shims, mut hosts) = (Vec::new(), Vec::new());
        for subject in self.subjects {
            // What the first of its kind brings with it, a bridge or an allocator's arenas, is not each container's.
            let first = subject.create(container)?;
            subject.start(&first)?;
            let before = machine::available();
            let mut ids = Vec::new();
            for _ in 0..self.idle {
                let id = subject.create(container)?;
                subject.start(&id)?;
                ids.push(id);
            }
            hosts.push(vec![(before - machine::available()) / ids.len() as f64 / 1e6]);
            let mut shares = Vec::new();
            for id in &ids {
                let shim = machine::parent(subject.pid(id)?).and_then(machine::share);
                shares.push(shim.ok_or("a monitor without memory figures")? / 1e6);
            }
            shims.push(shares);
            ids.iter().chain([&first]).try_for_each(|id| subject.remove(id))?;
        }
        Ok((shims, hosts))
    }

    fn logs(&self) -> Done<Row> {
        let bytes = (LINES * 71 * COPIES) as f64;
        let words: Vec<&str> = std::iter::once("cat").chain(std::iter::repeat_n("/lines", COPIES)).collect();
        let values = self.in_turn(5, |s| {
            let id = s.create(&container(&words))?;
            let begun = Instant::now();
            s.start(&id)?;
            s.wait(&id)?;
            let took = begun.elapsed().as_secs_f64();
            s.remove(&id)?;
            Ok(bytes / 1e6 / took)
        })?;
        Ok(self.row("default log, lines of 71 bytes", "MB/s", Some(Goal::AtLeast(10.0)), values))
    }
}
