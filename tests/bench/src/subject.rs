//! An engine under measurement.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::str::FromStr;
use std::time::{Duration, Instant};

use serde_json::Value;
use tare_kit::engine::program;
use tare_kit::http::{self, Body, Response};
use tare_kit::{Engine, Space};

use crate::Done;

/// Where an engine listens and what its programs are.
pub(crate) struct Subject<'a> {
    /// `tare` or `Docker`.
    pub(crate) name: &'static str,
    pub(crate) socket: PathBuf,
    /// The command line client.
    pub(crate) client: PathBuf,
    /// The OCI runtime.
    pub(crate) runtime: PathBuf,
    /// Search path of the client and the runtime.
    pub(crate) path: Option<String>,
    /// The network namespace that is the host's for it.
    pub(crate) space: &'a Space,
    /// Process id of the daemon.
    pub(crate) daemon: u32,
}

/// How long one run may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// What is said of one that takes longer.
pub(crate) const HANGS: &str = "does not end";

/// An OCI runtime under measurement.
#[derive(Debug, Clone)]
pub(crate) struct Runtime {
    pub(crate) name: String,
    program: PathBuf,
    /// Search path.
    path: Option<String>,
}

impl FromStr for Runtime {
    type Err = String;

    /// Reads `PATH[=NAME]`; without a name it is that of the program.
    fn from_str(text: &str) -> Result<Self, String> {
        let (path, name) = text.split_once('=').unwrap_or((text, ""));
        let program = std::fs::canonicalize(path).map_err(|e| format!("cannot find {path}: {e}"))?;
        let own = || program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let name = if name.is_empty() { own() } else { name.to_owned() };
        Ok(Self { name, program, path: None })
    }
}

impl Runtime {
    /// Runs it as a whole process; milliseconds from spawn to wait, and of CPU time, its descendants' included.
    pub(crate) fn time(&self, args: &[&str]) -> Done<(f64, f64)> {
        let cpu = || tare_sys::process::cpu_time_of_children().map_err(|e| format!("getrusage: {e}"));
        let before = cpu()?;
        let took = timed(&self.name, self.path.as_deref(), Command::new(&self.program).args(args))?;
        Ok((took, (cpu()? - before).as_secs_f64() * 1e3))
    }
}

/// Ours, as the kit started it.
pub(crate) fn ours(engine: &Engine) -> Subject<'_> {
    let (client, runtime) = (program("tare"), program("tare-oci"));
    let (space, daemon) = (engine.space(), engine.daemon_pid());
    Subject { name: "tare", socket: engine.socket(), client, runtime, path: None, space, daemon }
}

impl Subject<'_> {
    /// Runs the client as a whole process, from spawn to wait; milliseconds.
    pub(crate) fn time_client(&self, args: &[&str]) -> Done<f64> {
        timed(self.name, self.path.as_deref(), &mut self.client(args))
    }

    /// What the client writes, which must succeed.
    pub(crate) fn client_says(&self, args: &[&str]) -> Done<String> {
        let mut command = self.client(args);
        let done = command.stdin(Stdio::null()).output();
        let done = done.map_err(|e| format!("{}: cannot run {command:?}: {e}", self.name))?;
        if !done.status.success() {
            let said = String::from_utf8_lossy(&done.stderr);
            return Err(format!("{}: {command:?} ended with {}: {said}", self.name, done.status));
        }
        Ok(String::from_utf8_lossy(&done.stdout).into_owned())
    }

    fn client(&self, args: &[&str]) -> Command {
        let host = format!("unix://{}", self.socket.display());
        let mut command = Command::new(&self.client);
        command.args(args).env("DOCKER_HOST", host).env_remove("TARE_HOST").env_remove("DOCKER_CONTEXT");
        command
    }

    /// Its OCI runtime.
    pub(crate) fn oci_runtime(&self) -> Runtime {
        let name = if self.name == "tare" { "tare-oci" } else { "runc" };
        Runtime { name: name.into(), program: self.runtime.clone(), path: self.path.clone() }
    }

    /// One API request, which must not fail.
    pub(crate) fn request(&self, method: &str, path: &str, body: Option<&Value>) -> Done<Response> {
        let bytes = body.map(|b| b.to_string().into_bytes());
        let body = bytes.as_ref().map(|bytes| Body { kind: "application/json", bytes });
        let answer = http::request(&self.socket, method, path, body.as_ref());
        let answer = answer.map_err(|e| format!("{}: {method} {path}: {e}", self.name))?;
        if answer.status >= 400 {
            return Err(format!("{}: {method} {path}: {} {}", self.name, answer.status, answer.text()));
        }
        Ok(answer)
    }

    /// Creates a container and gives its id.
    pub(crate) fn create(&self, body: &Value) -> Done<String> {
        let answer = self.request("POST", "/containers/create", Some(body))?.json();
        answer["Id"].as_str().map(String::from).ok_or_else(|| format!("{}: no id in {answer}", self.name))
    }

    /// Starts a container.
    pub(crate) fn start(&self, id: &str) -> Done {
        self.request("POST", &format!("/containers/{id}/start"), None).map(drop)
    }

    /// The address of a container on the default bridge.
    pub(crate) fn address(&self, id: &str) -> Done<String> {
        let shown = self.request("GET", &format!("/containers/{id}/json"), None)?.json();
        let address = shown["NetworkSettings"]["Networks"]["bridge"]["IPAddress"].as_str().map(String::from);
        address.ok_or_else(|| format!("{}: {id} has no address", self.name))
    }

    /// Waits for a container's end.
    pub(crate) fn wait(&self, id: &str) -> Done {
        self.request("POST", &format!("/containers/{id}/wait"), None).map(drop)
    }

    /// Removes a container, running or not.
    pub(crate) fn remove(&self, id: &str) -> Done {
        self.request("DELETE", &format!("/containers/{id}?force=1"), None).map(drop)
    }

    /// Loads an image archive.
    pub(crate) fn load(&self, archive: &[u8]) -> Done {
        let body = Body { kind: "application/x-tar", bytes: archive };
        let answer = http::request(&self.socket, "POST", "/images/load?quiet=1", Some(&body));
        let answer = answer.map_err(|e| format!("{}: load: {e}", self.name))?;
        let said = answer.text();
        if answer.status == 200 && !said.contains("\"error\"") {
            Ok(())
        } else {
            Err(format!("{}: load: {said}", self.name))
        }
    }

    /// The host's process id of a container's first process.
    pub(crate) fn pid(&self, id: &str) -> Done<i64> {
        let shown = self.request("GET", &format!("/containers/{id}/json"), None)?.json();
        shown["State"]["Pid"]
            .as_i64()
            .filter(|p| *p > 0)
            .ok_or_else(|| format!("{}: {id} has no process", self.name))
    }
}

/// Runs a command as a whole process, from spawn to wait, in `path` if there is one; milliseconds.
fn timed(name: &str, path: Option<&str>, command: &mut Command) -> Done<f64> {
    if let Some(path) = path {
        command.env("PATH", path);
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let begun = Instant::now();
    let mut child = command.spawn().map_err(|e| format!("{name}: cannot run {command:?}: {e}"))?;
    if !tare_kit::cmd::ends_within(&child, PATIENCE) {
        let _ = child.kill();
        let _ = child.wait();
        return Err(format!("{name}: {command:?} {HANGS}"));
    }
    let ended = child.wait_with_output().map_err(|e| format!("{name}: {e}"))?;
    let took = begun.elapsed();
    if !ended.status.success() {
        let said = String::from_utf8_lossy(&ended.stderr);
        return Err(format!("{name}: {command:?} ended with {}: {said}", ended.status));
    }
    Ok(took.as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runtime_is_a_path_with_a_name_or_without() {
        let name = |text: &str| text.parse::<Runtime>().map(|runtime| runtime.name);
        assert_eq!(name("/bin/sh=other").as_deref(), Ok("other"));
        assert!(name("/no/such/runtime").unwrap_err().contains("/no/such/runtime"));
        assert!(!name("/bin/sh").unwrap().is_empty());
    }
}
