//! A Docker of our own to measure: Debian's `docker.io` unpacked under `target/`, or one that somebody built. It has
//! its own socket, roots and network namespace; the machine's Docker, rules and bridges are not touched.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tare_kit::{Cmd, Space, cmd, debs, http, wait};

use crate::subject::Subject;
use crate::{Done, work};

/// A running dockerd.
pub(crate) struct Docker {
    daemon: Child,
    /// Its machine's network, as far as it can see.
    space: Space,
    dir: PathBuf,
    /// Directories of its programs.
    bins: Vec<PathBuf>,
    built: bool,
}

impl Docker {
    /// Starts Debian's, or the one in `peer/bin`, with everything it has under `dir`.
    pub(crate) fn start(dir: &Path, peer: Option<&Path>) -> Done<Docker> {
        let bins = match peer {
            Some(peer) => vec![
                fs::canonicalize(peer.join("bin"))
                    .map_err(|e| format!("cannot find {}: {e}", peer.display()))?,
            ],
            None => ["usr/bin", "usr/sbin"].iter().map(|d| debs::docker_root().join(d)).collect(),
        };
        fs::create_dir_all(dir).map_err(|e| format!("cannot make {}: {e}", dir.display()))?;
        let file = |name: &str| dir.join(name);
        fs::write(file("daemon.json"), "{}").map_err(|e| format!("cannot write {}: {e}", dir.display()))?;
        let log = File::create(file("log")).map_err(|e| format!("cannot write {}: {e}", dir.display()))?;
        // A namespace of its own keeps bridges, rules and addresses away from the machine; /sys stays the host's, as it needs.
        // Without the proxy, ports are published by rules alone: faster, and what one who cares for speed would choose.
        let space = Space::new();
        let (programs, rules) = iptables()?;
        let bins: Vec<PathBuf> = bins.into_iter().chain([programs]).collect();
        let mut command = space.run(["dockerd", "--userland-proxy=false"]).into_command();
        let daemon = command
            .envs(rules)
            .arg("--host")
            .arg(format!("unix://{}", file("docker.sock").display()))
            .arg("--config-file")
            .arg(file("daemon.json"))
            .arg("--data-root")
            .arg(file("data"))
            .arg("--exec-root")
            .arg(file("exec"))
            .arg("--pidfile")
            .arg(file("docker.pid"))
            .env("PATH", search_path(&bins))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(|e| format!("cannot run dockerd: {e}"))?;
        let mut docker = Docker { daemon, space, dir: dir.to_path_buf(), bins, built: peer.is_some() };
        let up = || {
            http::request(&docker.socket(), "GET", "/_ping", None)
                .is_ok_and(|a| a.status == 200)
                .then_some(())
        };
        if wait::until(Duration::from_secs(60), up).is_some() {
            return Ok(docker);
        }
        let log = fs::read_to_string(docker.dir.join("log")).unwrap_or_default();
        docker.stop()?;
        Err(format!("dockerd does not answer; it said:\n{log}"))
    }

    fn socket(&self) -> PathBuf {
        self.dir.join("docker.sock")
    }

    fn program(&self, name: &str) -> PathBuf {
        let found = self.bins.iter().map(|d| d.join(name)).find(|p| p.is_file());
        found.unwrap_or_else(|| if name == "docker" { debs::docker_client() } else { PathBuf::from(name) })
    }

    /// What the measurements use.
    pub(crate) fn subject(&self) -> Subject<'_> {
        Subject {
            name: "Docker",
            socket: self.socket(),
            client: self.program("docker"),
            runtime: self.program("runc"),
            path: Some(search_path(&self.bins)),
            space: &self.space,
            daemon: self.daemon.id(),
        }
    }

    /// The system-call filter that it gives its containers, as its runtime reads it.
    pub(crate) fn filter(&self, subject: &Subject<'_>) -> Done<Value> {
        let id = subject.create(&serde_json::json!({
            "Image": work::IMAGE, "Cmd": ["sleep", "1000000"], "HostConfig": {"NetworkMode": "none"}
        }))?;
        subject.start(&id)?;
        let found = bundle(&self.dir.join("exec"), &id);
        subject.remove(&id)?;
        let text = found.ok_or("Docker keeps no bundle where it was looked for")?;
        let mut spec: Value = serde_json::from_str(&text).map_err(|e| format!("Docker's bundle: {e}"))?;
        match spec["linux"]["seccomp"].take() {
            Value::Null => Err("Docker gives its containers no filter".into()),
            filter => Ok(filter),
        }
    }

    /// Under which name the results are kept.
    pub(crate) fn key(&self) -> String {
        if self.built { "current" } else { "debian" }.into()
    }

    /// Versions of everything measured, as one line.
    pub(crate) fn description(&self) -> String {
        let version =
            http::request(&self.socket(), "GET", "/version", None).map(|a| a.json()).unwrap_or_default();
        let mut parts = Vec::new();
        for component in version["Components"].as_array().into_iter().flatten() {
            let (name, version) = (component["Name"].as_str(), component["Version"].as_str());
            match (name, version) {
                // Built from modules, the daemon does not know its version; its client's tells the release.
                (Some("Engine"), Some(v)) if !v.starts_with(|c: char| c.is_ascii_digit()) => {}
                (Some("Engine"), Some(v)) => parts.push(format!("Docker {v}")),
                (Some("docker-init"), _) => {}
                (Some(n), Some(v)) if !v.is_empty() => {
                    parts.push(format!("{n} {}", v.trim_start_matches('v')))
                }
                _ => {}
            }
        }
        let client = Cmd::new(self.program("docker")).args(["--version"]).ok();
        let client = client.split([' ', ',']).nth(2).unwrap_or("?").to_string();
        if self.built {
            parts.insert(0, format!("Docker {client} (built from modules)"));
        } else {
            parts.push(format!("client {client}"));
        }
        let runc = Cmd::new(self.program("runc")).args(["--version"]).ok();
        if !parts.iter().any(|p| p.starts_with("runc")) {
            parts.push(runc.lines().next().unwrap_or("runc").replace("version ", ""));
        }
        parts.join(", ")
    }

    /// Ends it and takes away what it leaves.
    pub(crate) fn stop(&mut self) -> Done {
        let _ = kill_process(Pid::from_child(&self.daemon), Signal::TERM);
        if !cmd::ends_within(&self.daemon, Duration::from_secs(30)) {
            let _ = self.daemon.kill();
        }
        self.daemon.wait().map_err(|e| format!("cannot wait for dockerd: {e}"))?;
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let place = self.dir.to_string_lossy();
        for point in
            mounts.lines().filter_map(|l| l.split(' ').nth(4)).filter(|p| p.starts_with(place.as_ref()))
        {
            let _ = rustix::mount::unmount(point, rustix::mount::UnmountFlags::DETACH);
        }
        Ok(())
    }
}

/// Debian's iptables, of the kind that the machine would have: a directory of programs, and what they need to be told.
fn iptables() -> Done<(PathBuf, Vec<(&'static str, PathBuf)>)> {
    let root = debs::unpacked("iptables", &["iptables"]);
    let program =
        debs::find(&root, "xtables-nft-multi").ok_or("no xtables-nft-multi in Debian's iptables")?;
    let programs = root.join("programs");
    fs::create_dir_all(&programs).map_err(|e| format!("cannot make {}: {e}", programs.display()))?;
    // Alternatives, which an unpacked package does not have.
    for name in ["iptables", "ip6tables", "iptables-save", "ip6tables-save", "iptables-restore"] {
        match std::os::unix::fs::symlink(&program, programs.join(name)) {
            Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(format!("cannot make a link to {}: {e}", program.display()));
            }
            _ => {}
        }
    }
    let libraries = root.join("usr/lib").join(format!("{}-linux-gnu", std::env::consts::ARCH));
    let extensions = libraries.join("xtables");
    Ok((programs, vec![("LD_LIBRARY_PATH", libraries), ("XTABLES_LIBDIR", extensions)]))
}

/// The configuration of a container, somewhere below `dir`.
fn bundle(dir: &Path, id: &str) -> Option<String> {
    let entries = fs::read_dir(dir).ok()?.flatten().filter(|e| e.file_type().is_ok_and(|kind| kind.is_dir()));
    for entry in entries {
        let path = entry.path();
        let text = match entry.file_name() == id {
            true => fs::read_to_string(path.join("config.json")).ok(),
            false => bundle(&path, id),
        };
        if text.is_some() {
            return text;
        }
    }
    None
}

fn search_path(bins: &[PathBuf]) -> String {
    let path = std::env::var("PATH").unwrap_or_default();
    bins.iter().map(|b| format!("{}:", b.display())).collect::<String>() + &path
}
