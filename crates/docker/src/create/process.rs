//! What to execute: command, environment, terminal.

use serde_json::{Map, Value};
use tare_docker_api::models::{ContainerCreateBody, HostConfig};
use tare_model::container::{AttachedStreams, ProcessConfig};
use tare_model::{Error, Result};

/// Gives the loosely typed fields the one form the generated models read.
pub(super) fn normalise(body: &mut Map<String, Value>) {
    for name in ["Cmd", "Entrypoint"] {
        if let Some(text @ Value::String(_)) = body.get(name) {
            let list = Value::Array(vec![text.clone()]);
            body.insert(name.to_owned(), list);
        }
    }
    // Go's sets: any value of a key means that the key is in it.
    for name in ["ExposedPorts", "Volumes"] {
        for value in body.get_mut(name).and_then(Value::as_object_mut).into_iter().flat_map(Map::values_mut) {
            *value = Value::Object(Map::new());
        }
    }
}

pub(super) fn process(body: &mut ContainerCreateBody, host: &HostConfig) -> Result<ProcessConfig> {
    Ok(ProcessConfig {
        entrypoint: entrypoint(body.entrypoint.take()),
        cmd: body.cmd.take().filter(|c| !c.is_empty()),
        env: environment("Env", body.env.take().unwrap_or_default())?,
        working_dir: working_dir(body.working_dir.take().unwrap_or_default())?,
        user: body.user.take().unwrap_or_default(),
        tty: body.tty.unwrap_or_default(),
        console_size: console_size("HostConfig.ConsoleSize", host.console_size.as_deref())?,
        open_stdin: body.open_stdin.unwrap_or_default(),
        stdin_once: body.stdin_once.unwrap_or_default(),
        attach: AttachedStreams {
            stdin: body.attach_stdin.unwrap_or_default(),
            stdout: body.attach_stdout.unwrap_or_default(),
            stderr: body.attach_stderr.unwrap_or_default(),
        },
    })
}

/// An empty list is the image's entrypoint; one empty word is none at all (`--entrypoint ""`).
fn entrypoint(words: Option<Vec<String>>) -> Option<Vec<String>> {
    match words.unwrap_or_default() {
        words if words.is_empty() => None,
        words if words.len() == 1 && words.iter().all(String::is_empty) => Some(Vec::new()),
        words => Some(words),
    }
}

/// `NAME=value`, or `NAME` alone to remove one.
pub(crate) fn environment(field: &str, entries: Vec<String>) -> Result<Vec<String>> {
    match entries.iter().find(|e| e.is_empty() || e.starts_with('=') || e.contains('\0')) {
        Some(entry) => Err(Error::invalid(format!("invalid environment variable in {field}: {entry:?}"))),
        None => Ok(entries),
    }
}

fn working_dir(path: String) -> Result<String> {
    if path.is_empty() {
        return Ok(path);
    }
    if !path.starts_with('/') || path.contains('\0') {
        let why = "the working directory is invalid, it needs to be an absolute path";
        return Err(Error::invalid(format!("WorkingDir = '{path}': {why}")));
    }
    Ok(path)
}

/// Rows and columns; nothing, or a zero in it, means "not set".
pub(crate) fn console_size(field: &str, size: Option<&[usize]>) -> Result<Option<(u16, u16)>> {
    let bad = || Error::invalid(format!("invalid {field} {size:?}: want rows and columns"));
    let side = |n: usize| u16::try_from(n).map_err(|_| bad());
    match size.unwrap_or_default() {
        [] | [0, _] | [_, 0] => Ok(None),
        [rows, columns] => Ok(Some((side(*rows)?, side(*columns)?))),
        _ => Err(bad()),
    }
}
