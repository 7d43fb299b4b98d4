//! An engine under measurement.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::Value;
use tare_kit::Engine;
use tare_kit::engine::program;
use tare_kit::http::{self, Body, Response};

use crate::Done;

/// Where an engine listens and what its programs are.
pub(crate) struct Subject {
    /// `tare` or `Docker`.
    pub(crate) name: &'static str,
    pub(crate) socket: PathBuf,
    /// The command line client.
    pub(crate) client: PathBuf,
    /// The OCI runtime.
    pub(crate) runtime: PathBuf,
    /// Search path of the client and the runtime.
    pub(crate) path: Option<String>,
}

/// Ours, as the kit started it.
pub(crate) fn ours(engine: &Engine) -> Subject {
    let (client, runtime) = (program("tare"), program("tare-oci"));
    Subject { name: "tare", socket: engine.socket(), client, runtime, path: None }
}

impl Subject {
    /// Runs the client as a whole process, from spawn to wait; milliseconds.
    pub(crate) fn time_client(&self, args: &[&str]) -> Done<f64> {
        let host = format!("unix://{}", self.socket.display());
        let mut command = Command::new(&self.client);
        command.args(args).env("DOCKER_HOST", host).env_remove("TARE_HOST").env_remove("DOCKER_CONTEXT");
        self.time(&mut command)
    }

    /// Runs the OCI runtime as a whole process; milliseconds.
    pub(crate) fn time_runtime(&self, args: &[&str]) -> Done<f64> {
        self.time(Command::new(&self.runtime).args(args))
    }

    fn time(&self, command: &mut Command) -> Done<f64> {
        if let Some(path) = &self.path {
            command.env("PATH", path);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let begun = Instant::now();
        let child = command.spawn().map_err(|e| format!("{}: cannot run {command:?}: {e}", self.name))?;
        let ended = child.wait_with_output().map_err(|e| format!("{}: {e}", self.name))?;
        let took = begun.elapsed();
        if !ended.status.success() {
            let said = String::from_utf8_lossy(&ended.stderr);
            return Err(format!("{}: {command:?} ended with {}: {said}", self.name, ended.status));
        }
        Ok(took.as_secs_f64() * 1e3)
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
