//! `exec`: another process in a running container.

use super::path_name;
use crate::context::Context;
use crate::failure::{Failure, Outcome, plain};
use crate::flags::{Flag, Given, list, switch, text};
use crate::options::{env, keys};
use crate::session::{self, Control, Ended, Parts, SessionError};
use crate::term::{Signals, is_terminal, window_size};
use serde_json::json;
use std::io::{stdin, stdout};
use tare_docker_api::client::{Client, ClientError, Request, StreamFormat};
use tare_docker_api::models::{ExecConfig, ExecInspectResponse, IdResponse};

/// Flags of `exec`.
pub(crate) const FLAGS: &[Flag] = &[
    switch("detach", Some('d'), "Detached mode: run command in the background"),
    text("detach-keys", None, "string", "Override the key sequence for detaching a container")
        .checked(keys::check),
    list("env", Some('e'), "Set environment variables").checked(env::check_variable),
    list("env-file", None, "Read in a file of environment variables"),
    switch("interactive", Some('i'), "Keep STDIN open even if not attached"),
    switch("privileged", None, "Give extended privileges to the command"),
    switch("tty", Some('t'), "Allocate a pseudo-TTY"),
    text("user", Some('u'), "string", "Username or UID (format: \"<name|uid>[:<group|gid>]\")"),
    text("workdir", Some('w'), "string", "Working directory inside the container"),
];

/// `tare exec`.
pub(crate) fn exec(context: &Context, given: &Given) -> Outcome {
    let (detach, tty) = (given.on("detach"), given.on("tty"));
    let stdin_on = given.on("interactive") && !detach;
    let raw = tty && stdin_on && is_terminal(stdin());
    if tty && stdin_on && !raw {
        return Err(Failure::new("the input device is not a TTY"));
    }
    let config = config(given, stdin_on)?;
    let window = if tty && !detach { window_size(stdout()) } else { None };
    let mut client = context.client()?;
    let create = Request::post(format!("/containers/{}/exec", path_name(&given.args[0]))).json(&config)?;
    let id = client.json::<IdResponse>(create)?.id;
    let mut body = json!({"Detach": detach, "Tty": tty});
    if let Some((rows, columns)) = window {
        body["ConsoleSize"] = json!([rows, columns]);
    }
    let start = Request::post(format!("/exec/{id}/start")).json(&body)?;
    if detach {
        client.done(start)?;
        return Ok(0);
    }
    attached(client, given, &id, start.upgrade(), stdin_on, raw)
}

fn config(given: &Given, stdin_on: bool) -> Result<ExecConfig, Failure> {
    let detach = given.on("detach");
    let lookup = |name: &str| std::env::var(name).ok();
    let mut variables = Vec::new();
    for path in given.many("env-file") {
        let content = std::fs::read(path).map_err(|e| Failure::new(format!("open {path}: {}", plain(&e))))?;
        let lines = env::file(&content, Some(&lookup));
        variables.extend(lines.map_err(|e| Failure::new(format!("invalid env file ({path}): {e}")))?);
    }
    variables.extend(given.many("env").into_iter().map(|v| env::variable(v, &lookup)));
    Ok(ExecConfig {
        attach_stdin: Some(stdin_on),
        attach_stdout: Some(!detach),
        attach_stderr: Some(!detach),
        tty: Some(given.on("tty")),
        detach_keys: given.some("detach-keys"),
        env: (!variables.is_empty()).then_some(variables),
        cmd: Some(given.args[1..].to_vec()),
        privileged: Some(given.on("privileged")),
        user: given.some("user"),
        working_dir: given.some("workdir"),
        console_size: None,
    })
}

/// A command that cannot be executed has the shell's exit codes; a container that cannot be executed in has 1.
fn start_failure(error: &ClientError) -> Failure {
    let message = error.to_string();
    let code = match super::run::code_of(&message) {
        code @ (126 | 127) => code,
        _ => 1,
    };
    Failure::with_code(code, message)
}

fn attached(
    mut client: Client,
    given: &Given,
    id: &str,
    start: Request<'_>,
    stdin_on: bool,
    raw: bool,
) -> Outcome {
    let stream = client.hijack(start).map_err(|e| start_failure(&e))?;
    let tty = given.on("tty");
    let signals = Signals::for_session(false).map_err(|e| Failure::io("catching signals", &e))?;
    let mut control = Control::new(client, format!("/exec/{id}"), false, tty);
    let keys = given.one("detach-keys").filter(|k| !k.is_empty()).unwrap_or(keys::DEFAULT);
    let parts = Parts {
        stream,
        format: if tty { StreamFormat::Raw } else { StreamFormat::Multiplexed },
        stdin: stdin_on,
        raw,
        detach_keys: if raw { keys::parse(keys).map_err(Failure::new)? } else { Vec::new() },
        starting: None,
        exiting: None,
    };
    match session::run(parts, signals, &mut control) {
        Ok(Ended::Finished(_)) => {}
        Ok(Ended::Detached) => return Ok(0),
        Err(SessionError::Start(error)) => return Err(error.into()),
        Err(SessionError::Other(failure)) => return Err(failure),
    }
    let state: ExecInspectResponse = control.into_client().json(Request::get(format!("/exec/{id}/json")))?;
    match state.exit_code {
        Some(code) => Ok(i32::try_from(code).unwrap_or(1)),
        None => Err(Failure::new(format!("exec {id} ended without an exit code"))),
    }
}
