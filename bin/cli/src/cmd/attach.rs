//! `attach`, and `start -a`: a session with a container that exists already.

use super::run::{attach_request, exit_code, wait_request};
use super::spec::Attached;
use super::{lifecycle, path_name};
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::flags::{Flag, Given, refused, switch, text};
use crate::options::keys;
use crate::session::{self, Control, Ended, Parts, SessionError};
use crate::term::{Signals, is_terminal};
use std::io::stdin;
use tare_docker_api::client::{Client, Request, StreamFormat};

/// Flags of `attach`.
pub(crate) const ATTACH: &[Flag] = &[
    text("detach-keys", None, "string", "Override the key sequence for detaching a container")
        .checked(keys::check),
    switch("no-stdin", None, "Do not attach STDIN"),
    switch("sig-proxy", None, "Proxy all received signals to the process (default true)"),
];
/// Flags of `start`.
pub(crate) const START: &[Flag] = &[
    switch("attach", Some('a'), "Attach STDOUT/STDERR and forward signals"),
    refused("checkpoint", None, "checkpoints come later"),
    refused("checkpoint-dir", None, "checkpoints come later"),
    text("detach-keys", None, "string", "Override the key sequence for detaching a container")
        .checked(keys::check),
    switch("interactive", Some('i'), "Attach container's STDIN"),
    switch("sig-proxy", None, "Proxy all received signals to the process (default true)"),
];

/// What the session needs to know of a container.
struct Facts {
    id: String,
    tty: bool,
    open_stdin: bool,
    auto_remove: bool,
    state: serde_json::Value,
}

/// `tare attach`.
pub(crate) fn attach(context: &Context, given: &Given) -> Outcome {
    let mut client = context.client()?;
    let facts = facts(&mut client, &given.args[0])?;
    let is = |name: &str| facts.state[name].as_bool().unwrap_or(false);
    if is("Paused") {
        return Err(Failure::new("You cannot attach to a paused container, unpause it first"));
    }
    if is("Restarting") {
        return Err(Failure::new("You cannot attach to a restarting container, wait until it is running"));
    }
    if !is("Running") {
        return Err(Failure::new("You cannot attach to a stopped container, start it first"));
    }
    let stdin = facts.open_stdin && !given.on("no-stdin");
    session(client, given, &facts, stdin, given.on_or("sig-proxy", true) && !facts.tty, false)
}

/// `tare start`, attached or not.
pub(crate) fn start(context: &Context, given: &Given) -> Outcome {
    if !given.on("attach") && !given.on("interactive") {
        return lifecycle::start(context, given);
    }
    if given.args.len() > 1 {
        return Err(Failure::new("you cannot start and attach multiple containers at once"));
    }
    let mut client = context.client()?;
    let facts = facts(&mut client, &given.args[0])?;
    let stdin = given.on("interactive") && facts.open_stdin;
    session(client, given, &facts, stdin, given.on_or("sig-proxy", true) && !facts.tty, true)
}

fn facts(client: &mut Client, name: &str) -> Result<Facts, Failure> {
    let doc: serde_json::Value =
        client.json(Request::get(format!("/containers/{}/json", path_name(name))))?;
    let on = |part: &str, field: &str| doc[part][field].as_bool().unwrap_or(false);
    Ok(Facts {
        id: doc["Id"].as_str().unwrap_or(name).to_owned(),
        tty: on("Config", "Tty"),
        open_stdin: on("Config", "OpenStdin"),
        auto_remove: on("HostConfig", "AutoRemove"),
        state: doc["State"].clone(),
    })
}

fn session(
    mut client: Client,
    given: &Given,
    facts: &Facts,
    stdin_on: bool,
    proxy: bool,
    start: bool,
) -> Outcome {
    let keys = given.one("detach-keys").filter(|k| !k.is_empty()).unwrap_or(keys::DEFAULT).to_owned();
    let raw = facts.tty && stdin_on && is_terminal(stdin());
    if facts.tty && stdin_on && !raw {
        return Err(Failure::new("the input device is not a TTY"));
    }
    let attached = Attached { stdin: stdin_on, stdout: true, stderr: true };
    let attach = client.begin(attach_request(&facts.id, attached, &keys))?;
    let condition = match (facts.auto_remove, start) {
        (true, _) => "removed",
        (false, true) => "next-exit",
        (false, false) => "not-running",
    };
    let wait = client.begin(wait_request(&facts.id, condition))?;
    let (stream, exiting) = (attach.hijack()?, wait.response()?);
    let signals = Signals::for_session(proxy).map_err(|e| Failure::io("catching signals", &e))?;
    let mut control = Control::new(client, format!("/containers/{}", facts.id), proxy, facts.tty);
    let starting = if start {
        Some(control.begin(Request::post(format!("/containers/{}/start", facts.id)))?)
    } else {
        None
    };
    let parts = Parts {
        stream,
        format: if facts.tty { StreamFormat::Raw } else { StreamFormat::Multiplexed },
        stdin: stdin_on,
        raw,
        detach_keys: if raw { keys::parse(&keys).map_err(Failure::new)? } else { Vec::new() },
        starting,
        exiting: Some(exiting),
    };
    match session::run(parts, signals, &mut control) {
        Ok(Ended::Finished(body)) => exit_code(&body),
        Ok(Ended::Detached) => Ok(0),
        Err(SessionError::Start(error)) => Err(error.into()),
        Err(SessionError::Other(failure)) => Err(failure),
    }
}
