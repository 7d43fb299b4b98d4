//! `run` and `create`.
//!
//! The fast path is four requests on three connections, and one wait: create, during which the other two connections are
//! opened, then attach and wait side by side, then start, whose answer is awaited together with the output.

use super::spec::{Attached, Surroundings, create_request};
use crate::context::{Context, complain, print_line};
use crate::failure::{Failure, OWN_ERROR, Outcome, plain};
use crate::flags::Given;
use crate::options::keys;
use crate::session::{self, Control, Ended, Parts, SessionError};
use crate::term::{Signals, is_terminal, window_size};
use std::io::{stdin, stdout};
use tare_docker_api::client::{
    Client, ClientError, ErrorKind, Hijacked, Pending, Request, Response, StreamFormat,
};
use tare_docker_api::extension::CreateRequest;
use tare_docker_api::models::{ContainerCreateResponse, ContainerWaitResponse};

/// `tare run`.
pub(crate) fn run(context: &Context, given: &Given) -> Outcome {
    let body = prepare(given, "run")?;
    let attached = Attached::from(given);
    if given.on("detach") && !given.many("attach").is_empty() {
        return Err(Failure::new("conflicting options: cannot specify both --attach and --detach"));
    }
    let raw = given.on("tty") && attached.stdin && is_terminal(stdin());
    if given.on("tty") && attached.stdin && !raw {
        return Err(Failure::new("the input device is not a TTY"));
    }
    let mut client = context.client().map_err(|f| with_help(&f.message, "run", OWN_ERROR))?;
    let further = if attached.any() { 2 } else { 0 };
    let id = create(&mut client, given, &body, ("run", further))?;
    if !attached.any() {
        client.done(Request::post(format!("/containers/{id}/start"))).map_err(|e| start_failure(&e))?;
        if given.on("detach") {
            print_line(&id)?;
        }
        return Ok(0);
    }
    attached_run(client, given, &id, attached, raw)
}

/// `tare create`.
pub(crate) fn create_only(context: &Context, given: &Given) -> Outcome {
    let body = prepare(given, "create")?;
    let mut client = context.client()?;
    print_line(create(&mut client, given, &body, ("create", 0))?)?;
    Ok(0)
}

fn prepare(given: &Given, command: &str) -> Result<CreateRequest, Failure> {
    if given.args.is_empty() && given.one("rootfs").is_none() {
        return Err(Failure::new(format!(
            "tare: 'tare {command}' requires at least 1 argument\n\nUsage:  tare {command} [OPTIONS] IMAGE [COMMAND] [ARG...]\n\n\
             Run 'tare {command} --help' for more information"
        )));
    }
    let around = Surroundings {
        cwd: std::env::current_dir().unwrap_or_default(),
        variable: &|name| std::env::var(name).ok(),
        window: if given.on("tty") { window_size(stdout()) } else { None },
    };
    create_request(given, &around).map_err(|e| with_help(&e, command, OWN_ERROR))
}

/// An error of `run` itself, with the pointer to help that Docker gives.
fn with_help(message: &str, command: &str, code: i32) -> Failure {
    Failure::with_code(code, format!("tare: {message}\n\nRun 'tare {command} --help' for more information"))
}

/// Creates the container and tells what there is to tell of it; returns its id. Goes with it: the command, and how many
/// connections it needs beside this one.
fn create(
    client: &mut Client,
    given: &Given,
    body: &CreateRequest,
    (command, further): (&str, usize),
) -> Result<String, Failure> {
    let made = send_create(client, given, body, (command, further))?;
    write_cidfile(given, &made, command)?;
    Ok(made.id)
}

fn send_create(
    client: &mut Client,
    given: &Given,
    body: &CreateRequest,
    (command, further): (&str, usize),
) -> Result<ContainerCreateResponse, Failure> {
    let cidfile = given.some("cidfile");
    if let Some(path) = cidfile.as_deref().filter(|p| std::path::Path::new(p).exists()) {
        let why =
            format!("container ID file found, make sure the other container isn't running or delete {path}");
        return Err(with_help(&why, command, OWN_ERROR));
    }
    if given.some("kernel-memory").is_some() {
        complain("WARNING: --kernel-memory: Linux no longer has this limit; it is ignored");
    }
    let mut request = Request::post("/containers/create");
    if let Some(name) = given.some("name") {
        request = request.query("name", name);
    }
    let sent = request
        .json(body)
        .and_then(|request| client.json_and_connect::<ContainerCreateResponse>(request, further));
    let made =
        sent.map_err(|e| create_failure(&e, body.docker.image.as_deref().unwrap_or_default(), command))?;
    for warning in &made.warnings {
        complain(format!("WARNING: {warning}"));
    }
    Ok(made)
}

/// Writes the id file, if one was asked for.
fn write_cidfile(given: &Given, made: &ContainerCreateResponse, command: &str) -> Result<(), Failure> {
    if let Some(path) = given.some("cidfile") {
        std::fs::write(&path, &made.id).map_err(|e| {
            with_help(
                &format!("failed to write the container ID to {path}: {}", plain(&e)),
                command,
                OWN_ERROR,
            )
        })?;
    }
    Ok(())
}

fn create_failure(error: &ClientError, image: &str, command: &str) -> Failure {
    let missing = error.api_message().is_some_and(|m| m.to_lowercase().contains("no such image"));
    if missing && error.kind() == ErrorKind::Api(404) {
        let image = if image.contains([':', '@']) { image.to_owned() } else { format!("{image}:latest") };
        complain(format!("Unable to find image '{image}' locally"));
        let hint = "tare does not pull images yet: use `tare load` or `tare import`, or the image `host`";
        return with_help(&format!("{error}\n{hint}"), command, OWN_ERROR);
    }
    with_help(&error.to_string(), command, code_of(&error.to_string()))
}

fn start_failure(error: &ClientError) -> Failure {
    with_help(&error.to_string(), "run", code_of(&error.to_string()))
}

/// 127 for a command that is not there, 126 for one that cannot be executed, 125 for everything else.
pub(super) fn code_of(message: &str) -> i32 {
    let has = |words: &[&str]| words.iter().any(|w| message.contains(w));
    if has(&[
        "executable file not found",
        "no such file or directory",
        "system cannot find the file specified",
    ]) {
        127
    } else if has(&["permission denied", "is a directory"]) {
        126
    } else {
        OWN_ERROR
    }
}

fn attached_run(mut client: Client, given: &Given, id: &str, attached: Attached, raw: bool) -> Outcome {
    let keys = given.one("detach-keys").filter(|k| !k.is_empty()).unwrap_or(keys::DEFAULT).to_owned();
    let attach = client.begin(attach_request(id, attached, &keys))?;
    let condition = if given.on("rm") { "removed" } else { "next-exit" };
    let wait = client.begin(wait_request(id, condition))?;
    let (stream, exiting) = open(attach, wait)?;
    let proxy = given.on_or("sig-proxy", true);
    let signals = Signals::for_session(proxy).map_err(|e| Failure::io("catching signals", &e))?;
    let tty = given.on("tty");
    let mut control = Control::new(client, format!("/containers/{id}"), proxy, tty);
    let starting = control.begin(Request::post(format!("/containers/{id}/start")))?;
    let parts = Parts {
        stream,
        format: if tty { StreamFormat::Raw } else { StreamFormat::Multiplexed },
        stdin: attached.stdin,
        raw,
        detach_keys: if raw { keys::parse(&keys).map_err(Failure::new)? } else { Vec::new() },
        starting: Some(starting),
        exiting: Some(exiting),
    };
    match session::run(parts, signals, &mut control) {
        Ok(Ended::Detached) => Ok(0),
        Ok(Ended::Finished(body)) => exit_code(&body),
        Err(SessionError::Start(error)) => Err(start_failure(&error)),
        Err(SessionError::Other(failure)) => Err(failure),
    }
}

fn open(attach: Pending, wait: Pending) -> Result<(Hijacked, Response), Failure> {
    Ok((attach.hijack()?, wait.response()?))
}

/// `POST /containers/ID/attach` for these streams.
pub(super) fn attach_request(id: &str, attached: Attached, keys: &str) -> Request<'static> {
    let request = Request::post(format!("/containers/{id}/attach")).flag("stream", true).upgrade();
    let request =
        request.flag("stdin", attached.stdin).flag("stdout", attached.stdout).flag("stderr", attached.stderr);
    if keys == keys::DEFAULT { request } else { request.query("detachKeys", keys) }
}

/// `POST /containers/ID/wait`; its head comes at once, its body when the container is gone that far.
pub(super) fn wait_request(id: &str, condition: &str) -> Request<'static> {
    Request::post(format!("/containers/{id}/wait")).query("condition", condition)
}

/// The exit code in `wait`'s answer.
pub(super) fn exit_code(body: &[u8]) -> Outcome {
    let answer: ContainerWaitResponse = serde_json::from_slice(body).map_err(|e| {
        Failure::with_code(OWN_ERROR, format!("unexpected answer while waiting for the container: {e}"))
    })?;
    if let Some(message) = answer.error.and_then(|e| e.message).filter(|m| !m.is_empty()) {
        return Err(Failure::with_code(OWN_ERROR, format!("Error waiting for container: {message}")));
    }
    Ok(i32::try_from(answer.status_code).unwrap_or(OWN_ERROR))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_errors_have_the_shells_exit_codes() {
        assert_eq!(code_of("exec: \"foo\": executable file not found in $PATH"), 127);
        assert_eq!(code_of("exec /x: no such file or directory"), 127);
        assert_eq!(code_of("exec: \"/etc\": is a directory"), 126);
        assert_eq!(code_of("exec /x: permission denied"), 126);
        assert_eq!(code_of("Conflict. The container name is in use"), 125);
    }

    #[test]
    fn the_exit_code_is_the_containers() {
        assert_eq!(exit_code(br#"{"StatusCode":137}"#), Ok(137));
        let failed = exit_code(br#"{"StatusCode":0,"Error":{"Message":"lost"}}"#).expect_err("an error");
        assert_eq!((failed.code, failed.message.as_str()), (125, "Error waiting for container: lost"));
        assert_eq!(exit_code(b"").expect_err("an error").code, 125);
    }

    #[test]
    fn an_attach_asks_for_its_streams() {
        let attached = Attached { stdin: false, stdout: true, stderr: true };
        assert_eq!(attach_request("x", attached, keys::DEFAULT).describe(), "POST /containers/x/attach");
    }
}
