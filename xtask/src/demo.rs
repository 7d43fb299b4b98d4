//! `cargo xtask demo`: the main job. Builds the four programs as they are shipped, starts an engine of its own in a
//! temporary place, runs real containers with `tare`, and takes everything away again.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::shell::{self, Done};

/// The tour: plain words, and a last one that may hold spaces. The image `host` is the running system itself.
const TOUR: &[(&str, &str)] = &[
    ("run --rm --network none host -- sh -c", "echo \"hello from $(hostname), I am process $$\""),
    ("run --rm --network none host -- sh -c", "echo mine > /etc/os-release; cat /etc/os-release"),
    ("run -d --network none -m 64m --name counter host -- sh -c", "seq 3; exec sleep 600"),
    ("ps --format", "table {{.Names}}\t{{.Image}}\t{{.Status}}"),
    ("exec counter sh -c", "head -1 /etc/os-release; grep -E 'Seccomp:|CapEff' /proc/self/status"),
    ("logs counter", ""),
    ("stop -t 1 counter", ""),
    ("ps -a --format", "table {{.Names}}\t{{.Image}}\t{{.Status}}"),
    ("rm counter", ""),
];

/// Builds, runs the tour, cleans up; fails if a command failed or something was left behind.
pub(crate) fn run() -> Done {
    shell::need_root("demo")?;
    shell::run(&mut shell::cargo(&["build", "--release", "--workspace", "--bins"]))?;
    let programs = shell::programs("release")?;
    let before = cgroups();
    let engine = Engine::start(&programs)?;
    let told = tour(&programs, &engine);
    let place = engine.place.clone();
    let stopped = engine.stop();
    told.and(stopped)?;
    nothing_left(&place, &before)?;
    println!("\nThe engine is stopped and nothing is left of it. `cargo xtask test` runs the tests.");
    Ok(())
}

fn tour(programs: &Path, engine: &Engine) -> Done {
    for (words, last) in TOUR {
        let args: Vec<&str> = words.split(' ').chain((!last.is_empty()).then_some(*last)).collect();
        println!("\n# tare {}", args.iter().map(|w| quoted(w)).collect::<Vec<_>>().join(" "));
        let status = Command::new(programs.join("tare"))
            .arg("--host")
            .arg(format!("unix://{}", engine.socket().display()))
            .args(&args)
            .stdin(Stdio::null())
            .status()
            .map_err(|e| format!("cannot run {}: {e}", programs.join("tare").display()))?;
        if !status.success() {
            return Err(format!("`tare {}` failed: {status}{}", args.join(" "), engine.log()));
        }
    }
    Ok(())
}

fn quoted(word: &str) -> String {
    let plain = word.chars().all(|c| c.is_alphanumeric() || "-_./=:".contains(c));
    if plain { word.into() } else { format!("'{word}'") }
}

/// A `tared` with its own root, run directory and socket.
struct Engine {
    daemon: Child,
    place: PathBuf,
}

impl Engine {
    fn start(programs: &Path) -> Done<Engine> {
        let place = std::env::temp_dir().join(format!("tare-demo-{}", std::process::id()));
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&place)
            .map_err(|e| format!("cannot make {}: {e}", place.display()))?;
        let log = File::create(place.join("tared.log")).map_err(|e| format!("cannot make a log: {e}"))?;
        // Standard output is the descriptor on which the daemon says that it is ready.
        let daemon = Command::new(programs.join("tared"))
            .args([Path::new("--root"), &place.join("root"), Path::new("--run-dir"), &place.join("run")])
            .args([Path::new("--socket"), &place.join("tared.sock"), Path::new("--ready-fd"), Path::new("1")])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn();
        let daemon = match daemon {
            Ok(daemon) => daemon,
            Err(e) => {
                let _ = fs::remove_dir_all(&place);
                return Err(format!("cannot run {}: {e}", programs.join("tared").display()));
            }
        };
        let mut engine = Engine { daemon, place };
        match engine.wait_until_ready() {
            Ok(()) => Ok(engine),
            Err(why) => {
                let log = engine.log();
                let _ = engine.stop();
                Err(format!("{why}{log}"))
            }
        }
    }

    fn socket(&self) -> PathBuf {
        self.place.join("tared.sock")
    }

    fn wait_until_ready(&mut self) -> Done {
        if let Some(ready) = &mut self.daemon.stdout {
            // A byte or the end: either way the daemon has made up its mind.
            let _ = ready.read(&mut [0u8; 16]);
        }
        UnixStream::connect(self.socket()).map(drop).map_err(|e| format!("tared does not answer: {e}"))
    }

    /// What the daemon said, for an error message.
    fn log(&self) -> String {
        let said = fs::read_to_string(self.place.join("tared.log")).unwrap_or_default();
        if said.is_empty() { String::new() } else { format!("\ntared said:\n{said}") }
    }

    fn stop(mut self) -> Done {
        if let Some(pid) = i32::try_from(self.daemon.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let status = self.daemon.wait().map_err(|e| format!("cannot wait for tared: {e}"))?;
        let said = self.log();
        fs::remove_dir_all(&self.place)
            .map_err(|e| format!("cannot remove {}: {e}", self.place.display()))?;
        if status.success() { Ok(()) } else { Err(format!("tared ended with {status}{said}")) }
    }
}

/// Looks for what a container engine could leave: mounts and cgroups.
fn nothing_left(place: &Path, before: &[PathBuf]) -> Done {
    let mounts =
        fs::read_to_string("/proc/self/mountinfo").map_err(|e| format!("cannot read mounts: {e}"))?;
    let place = place.to_string_lossy();
    if let Some(mount) = mounts.lines().find(|line| line.contains(place.as_ref())) {
        return Err(format!("a mount was left: {mount}"));
    }
    match cgroups().iter().find(|group| !before.contains(group)) {
        Some(group) => Err(format!("a cgroup was left: {}", group.display())),
        None => Ok(()),
    }
}

/// The engine's cgroups in all hierarchies: directories whose name begins with `tare`.
fn cgroups() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            if !entry.file_type().is_ok_and(|t| t.is_dir()) {
                continue;
            }
            if entry.file_name().to_string_lossy().starts_with("tare") {
                found.push(entry.path());
            } else {
                open.push(entry.path());
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_shown_as_one_would_type_them() {
        assert_eq!(quoted("--rm"), "--rm");
        assert_eq!(quoted("echo hi"), "'echo hi'");
    }
}
