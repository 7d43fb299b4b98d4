//! The guest's part of `cargo xtask test`: a table of boots and the tests that run in each.
//!
//! They are ordinary test programs of the workspace, copied in; what they print is shown and counted as that of the
//! others is. A job that runs no test at all fails, so that a filter cannot go stale in silence.
//!
//! Two boots run at once, as most tests are one process that waits for another: a second core would idle. What they say
//! is shown boot by boot all the same.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use super::programs::{self, TestProgram};
use super::{Boot, Init, Kernel, Lsm, Machine, cache, job};
use crate::shell::Done;

/// One boot.
struct Job {
    /// What it shows, for people.
    name: &'static str,
    kernel: Kernel,
    init: Init,
    lsm: Lsm,
    /// Nobody: root.
    user: Option<&'static str>,
    suites: &'static [Suite],
}

/// One run of a test program.
struct Suite {
    /// The crate it belongs to.
    package: &'static str,
    /// The test target: see [`TestProgram::target`].
    target: &'static str,
    /// Filters and flags, as libtest takes them.
    filters: &'static [&'static str],
    /// More of them.
    more: &'static [&'static str],
}

// === impl Suite ===

impl Suite {
    const fn and(self, more: &'static [&'static str]) -> Suite {
        Suite { more, ..self }
    }
}

const fn suite(package: &'static str, target: &'static str, filters: &'static [&'static str]) -> Suite {
    Suite { package, target, filters, more: &[] }
}

/// Races, thousands of rounds, tables of paths, and a kernel module loaded for each family of sockets: they prove as much
/// outside and would take half of a boot's time here.
const SLOW: &[&str] = &[
    "--skip",
    "exchanging_a_destination",
    "--skip",
    "a_thousand_leave_nothing",
    "--skip",
    "dockers_filter_opens_what_docker_opens",
    "--skip",
    "without_a_filter_more_families_open",
    "--skip",
    "a_working_directory_through_descriptors",
];

/// The groups against a second kernel, without races that take a minute of the first.
const ON_ANOTHER_KERNEL: &[&str] = &[
    "cgroup::tests::kernel",
    "cgroup::tests::lives",
    "--skip",
    "a_parent_may_be_removed_by_somebody_else",
    "--skip",
    "devices_that_stay_allowed_are_never_closed",
];

/// What is about the files of images and streams, which no kernel treats otherwise: it runs on the first one, and outside.
const ON_ANY_KERNEL: &[&str] = &["--skip", "hostile::", "--skip", "user::", "--skip", "terminal::"];

/// How many boots run at the same time: one for each processor that a serial test keeps busy.
const AT_ONCE: usize = 2;

/// Everything that runs in the guest, the longest first. Boots cost some seconds each, so what can share one does, as far as
/// two at once have the same to do.
const JOBS: &[Job] = &[
    Job {
        name: "cgroup v2 and containers on 6.1",
        kernel: Kernel::V6_1,
        init: Init::Plain,
        lsm: Lsm::AppArmor,
        user: None,
        suites: &[
            suite("tare-runtime", "tare_runtime", &["cgroup::tests::kernel", "cgroup::tests::lives"]),
            suite("tare-runtime", "containers", SLOW),
            // The kernel outside may have no ipvlan, VLANs, dummies and netem: here they are made and used.
            suite("tare-net", "tare_net", &["link::tests::parent", "fault::"]),
        ],
    },
    Job {
        name: "cgroup v2, containers and SELinux on 6.12",
        kernel: Kernel::V6_12,
        init: Init::Plain,
        lsm: Lsm::SeLinux,
        user: None,
        suites: &[
            suite("tare-runtime", "tare_runtime", ON_ANOTHER_KERNEL),
            suite("tare-runtime", "containers", SLOW).and(ON_ANY_KERNEL),
            // Last: it loads a policy.
            suite("tare-e2e", "e2e", &["selinux::"]),
        ],
    },
    Job {
        name: "the engine, ordinary users and AppArmor on 6.1",
        kernel: Kernel::V6_1,
        init: Init::Plain,
        lsm: Lsm::AppArmor,
        user: None,
        suites: &[suite(
            "tare-e2e",
            "e2e",
            &[
                "limits::",
                "block_io::",
                "faults::packets_",
                "rootless::",
                "rootless_networks::",
                "apparmor::",
                "::row_11_",
                "::row_15_",
                "::row_112_on_v2",
            ],
        )],
    },
    Job {
        name: "cgroup v2 and scopes under systemd on 6.1",
        kernel: Kernel::V6_1,
        init: Init::Systemd,
        lsm: Lsm::AppArmor,
        user: None,
        suites: &[
            suite("tare-runtime", "tare_runtime", &["cgroup::systemd"]),
            suite("tare-e2e", "e2e", &["oci::systemd", "users_systemd::"]),
        ],
    },
];

/// After this a boot counts as hung. Generous: the machine that runs it may be busy.
const TIMEOUT: Duration = Duration::from_secs(600);

/// Builds the tests, boots once for each job that `words` name (all, if none), and hands every line of output to `line`;
/// true if all was well.
pub(crate) fn run(words: &str, line: &mut dyn FnMut(&str)) -> Done<bool> {
    let jobs: Vec<&Job> = JOBS.iter().filter(|job| job.is_named(words)).collect();
    if jobs.is_empty() {
        let names: Vec<&str> = JOBS.iter().map(|job| job.name).collect();
        return Err(format!("no boot of the stage is named by {words:?}; there are: {}", names.join("; ")));
    }
    let mut crates: Vec<&str> = jobs.iter().flat_map(|job| job.suites).map(|suite| suite.package).collect();
    crates.sort_unstable();
    crates.dedup();
    let tests = programs::tests(&crates)?;
    let scratch = cache::Scratch::new()?;
    let disk = programs::disk(scratch.path(), &tests, &[])?;
    let next = AtomicUsize::new(0);
    let (send, said) = channel();
    let sound = thread::scope(|scope| {
        for _ in 0..AT_ONCE.min(jobs.len()) {
            let (send, next, jobs, disk, tests) = (send.clone(), &next, &jobs, &disk, &tests);
            let scratch = scratch.path();
            scope.spawn(move || {
                let turns = std::iter::repeat_with(|| next.fetch_add(1, Ordering::Relaxed));
                for (at, job) in turns.map_while(|at| Some((at, jobs.get(at)?))) {
                    // Whoever listens does so to the end.
                    let say = |said| drop(send.send((job.name, said)));
                    job.run_and_tell(disk, &scratch.join(at.to_string()), tests, &say);
                }
            });
        }
        drop(send);
        in_turn(&said, line)
    });
    Ok(sound)
}

/// What a job tells while it runs.
enum Said {
    /// A line of its output.
    Line(String),
    /// It has ended, and whether well.
    End(bool),
}

/// Shows what the jobs say, one job after another; true if all of them ended well.
fn in_turn(said: &Receiver<(&'static str, Said)>, line: &mut dyn FnMut(&str)) -> bool {
    let (mut turn, mut kept, mut sound) = (None, BTreeMap::<&str, Vec<Said>>::new(), true);
    for (job, said) in said {
        kept.entry(job).or_default().push(said);
        while let Some(mine) = kept.get_mut(turn.get_or_insert(job)) {
            let mut ended = false;
            for said in mine.drain(..) {
                match said {
                    Said::Line(text) => line(&text),
                    Said::End(well) => (ended, sound) = (true, sound && well),
                }
            }
            if !ended {
                break;
            }
            kept.remove(turn.take().unwrap_or_default());
            let Some(next) = kept.keys().next() else { break };
            turn = Some(*next);
        }
    }
    sound
}

// === impl Job ===

impl Job {
    /// As [`Job::run`]; a machine that does not come up is a failure of this job, and the others are still worth knowing.
    fn run_and_tell(&self, disk: &Path, scratch: &Path, tests: &[TestProgram], say: &dyn Fn(Said)) {
        let started = Instant::now();
        say(Said::Line(format!("guest: {}", self.name)));
        let ran = cache::make_dir(scratch)
            .and_then(|()| self.run(disk, scratch, tests, &mut |line| say(Said::Line(line.to_owned()))));
        let well = ran.unwrap_or_else(|why| {
            eprintln!("guest: {}: {why}", self.name);
            false
        });
        say(Said::Line(format!("guest: {}: took {} s", self.name, started.elapsed().as_secs())));
        say(Said::End(well));
    }

    /// True if each of these words is one of the job's name.
    fn is_named(&self, words: &str) -> bool {
        words.split_whitespace().all(|word| self.name.split([' ', ',']).any(|own| own == word))
    }

    fn run(
        &self,
        disk: &Path,
        scratch: &Path,
        tests: &[TestProgram],
        line: &mut dyn FnMut(&str),
    ) -> Done<bool> {
        let machine = Machine {
            kernel: self.kernel,
            init: self.init,
            lsm: self.lsm,
            user: self.user.map(String::from),
            memory: "2G".into(),
            timeout: TIMEOUT,
        };
        let boot = Boot { machine: &machine, programs: disk.into(), scratch: scratch.into() };
        let (mut lines, mut closed) = (Lines::default(), Closed::default());
        let code = boot.run(&self.script(tests)?, &mut |bytes| {
            lines.add(bytes, &mut |text| {
                closed.add(text);
                line(text);
            });
        })?;
        closed.enough(self.suites.len())?;
        Ok(code == 0)
    }

    /// Runs every suite and fails if one did.
    fn script(&self, tests: &[TestProgram]) -> Done<String> {
        let mut script = String::from("failed=0\n");
        for suite in self.suites {
            if !tests.iter().any(|test| test.target == suite.target) {
                return Err(format!("{} has no test target {}", suite.package, suite.target));
            }
            let filters: Vec<String> =
                suite.filters.iter().chain(suite.more).map(|filter| job::quoted(filter)).collect();
            // A copy, as programs of these tests are linked into the root file systems of containers.
            let program = format!("{}-{}", suite.target, std::process::id());
            script.push_str(&format!(
                "cp /guest/tests/{target} \"${{TMPDIR:-/tmp}}/{program}\" && \
                 \"${{TMPDIR:-/tmp}}/{program}\" {filters} || failed=1\n",
                target = suite.target,
                filters = filters.join(" ")
            ));
        }
        Ok(script + "exit $failed\n")
    }
}

/// Output in pieces, given on as lines.
#[derive(Default)]
struct Lines {
    rest: Vec<u8>,
}

// === impl Lines ===

impl Lines {
    fn add(&mut self, bytes: &[u8], line: &mut dyn FnMut(&str)) {
        self.rest.extend_from_slice(bytes);
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let whole: Vec<u8> = self.rest.drain(..=end).collect();
            line(String::from_utf8_lossy(&whole[..end]).trim_end_matches('\r'));
        }
    }
}

/// The closing lines of test programs that were seen.
#[derive(Default)]
struct Closed {
    suites: usize,
    /// Those in which no test passed or failed.
    empty: usize,
}

// === impl Closed ===

impl Closed {
    fn add(&mut self, line: &str) {
        if let Some(said) = line.strip_prefix("test result: ") {
            self.suites += 1;
            self.empty += usize::from(said.contains(" 0 passed; 0 failed"));
        }
    }

    /// An error unless every suite ran tests.
    fn enough(&self, asked: usize) -> Done {
        // Those that run twice, as with user namespaces and without, come to two ends.
        if self.suites >= asked && self.empty == 0 {
            return Ok(());
        }
        Err(format!(
            "{} of {asked} suites came to their end, {} of them without a test",
            self.suites, self.empty
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_two_jobs_say_at_once_is_shown_one_after_the_other() {
        let (send, said) = channel();
        let say = |job, text: &str| send.send((job, Said::Line(text.to_owned()))).unwrap();
        say("a", "1");
        say("b", "4");
        say("a", "2");
        send.send(("b", Said::End(false))).unwrap();
        say("c", "5");
        say("a", "3");
        send.send(("a", Said::End(true))).unwrap();
        say("c", "6");
        send.send(("c", Said::End(true))).unwrap();
        drop(send);
        let mut seen = Vec::new();
        assert!(!in_turn(&said, &mut |line| seen.push(line.to_string())), "b failed");
        assert_eq!(seen, ["1", "2", "3", "4", "5", "6"]);
    }

    #[test]
    fn lines_are_whole_however_they_come() {
        let (mut lines, mut seen) = (Lines::default(), Vec::new());
        for piece in ["one\ntw", "o\r\n", "", "three"] {
            lines.add(piece.as_bytes(), &mut |line| seen.push(line.to_string()));
        }
        assert_eq!(seen, ["one", "two"]);
    }

    #[test]
    fn a_suite_that_ran_nothing_or_did_not_end_is_no_success() {
        let mut closed = Closed::default();
        closed.add("test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out");
        closed.enough(1).unwrap();
        closed.enough(2).unwrap_err();
        closed.add("test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 9 filtered out");
        closed.enough(2).unwrap_err();
    }

    #[test]
    fn jobs_are_named_by_whole_words() {
        assert!(JOBS[0].is_named("") && JOBS[0].is_named("6.1 containers"));
        assert!(!JOBS[0].is_named("6.12") && !JOBS[1].is_named("6.1") && !JOBS[0].is_named("systemd"));
    }

    #[test]
    fn a_job_names_only_tests_that_there_are() {
        let error = JOBS[0].script(&[]).unwrap_err();
        assert!(error.contains(JOBS[0].suites[0].target), "{error}");
    }
}
