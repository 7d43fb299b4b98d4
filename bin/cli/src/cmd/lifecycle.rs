//! Commands that do one thing to each of several containers: start, stop, restart, kill, rm, pause, unpause, rename, wait.
//!
//! The requests for several containers are under way together, so stopping ten takes as long as the slowest.

use crate::cmd::path_name;
use crate::context::{Context, complain, print_line};
use crate::failure::{Failure, Outcome};
use crate::flags::{Flag, Given, integer, refused_switch, switch, text};
use tare_docker_api::client::{Client, ClientError, ErrorKind, Request, Response};

/// Requests that are under way at once; more wait, so that a list of thousands does not run out of descriptors.
const AT_ONCE: usize = 50;

/// Flags of `stop`.
pub(crate) const STOP: &[Flag] = &[
    text("signal", Some('s'), "string", "Signal to send to the container"),
    text("timeout", Some('t'), "int", "Seconds to wait before killing the container").checked(integer),
    text("time", None, "int", "Same as --timeout").checked(integer),
];
/// Flags of `kill`.
pub(crate) const KILL: &[Flag] = &[text("signal", Some('s'), "string", "Signal to send to the container")];
/// Flags of `rm`.
pub(crate) const RM: &[Flag] = &[
    switch("force", Some('f'), "Force the removal of a running container (uses SIGKILL)"),
    switch("volumes", Some('v'), "Remove anonymous volumes associated with the container"),
    refused_switch("link", Some('l'), "there are no links"),
];

/// `tare stop`.
pub(crate) fn stop(context: &Context, given: &Given) -> Outcome {
    each(context, &given.args, |name| timed(name, "stop", given))
}

/// `tare restart`.
pub(crate) fn restart(context: &Context, given: &Given) -> Outcome {
    each(context, &given.args, |name| timed(name, "restart", given))
}

fn timed(name: &str, verb: &str, given: &Given) -> Request<'static> {
    let mut request = action(name, verb);
    if let Some(signal) = given.some("signal") {
        request = request.query("signal", signal);
    }
    match given.number("timeout").or_else(|| given.number("time")) {
        Some(seconds) => request.query("t", seconds.to_string()),
        None => request,
    }
}

/// `tare kill`.
pub(crate) fn kill(context: &Context, given: &Given) -> Outcome {
    let signal = given.some("signal").unwrap_or_else(|| "KILL".to_owned());
    each(context, &given.args, |name| action(name, "kill").query("signal", &signal))
}

/// `tare pause`.
pub(crate) fn pause(context: &Context, given: &Given) -> Outcome {
    each(context, &given.args, |name| action(name, "pause"))
}

/// `tare unpause`.
pub(crate) fn unpause(context: &Context, given: &Given) -> Outcome {
    each(context, &given.args, |name| action(name, "unpause"))
}

/// `tare start` without attaching.
pub(crate) fn start(context: &Context, given: &Given) -> Outcome {
    let mut client = context.client()?;
    let mut failed = Vec::new();
    together(
        &mut client,
        &given.args,
        |name| action(name, "start"),
        |name, result| match result {
            Ok(_) => print_line(name),
            Err(e) => {
                complain(e.to_string());
                failed.push(name.to_owned());
                Ok(())
            }
        },
    )?;
    if failed.is_empty() {
        Ok(0)
    } else {
        Err(Failure::new(format!("Error: failed to start containers: {}", failed.join(", "))))
    }
}

/// `tare rm`. What is not there is no failure of `rm -f`, though it is said.
pub(crate) fn remove(context: &Context, given: &Given) -> Outcome {
    let force = given.on("force");
    let names: Vec<String> = given.args.iter().map(|n| n.trim_matches('/').to_owned()).collect();
    if names.iter().any(String::is_empty) {
        return Err(Failure::new("Container name cannot be empty"));
    }
    let request = |name: &str| {
        let request = Request::delete(format!("/containers/{}", path_name(name)));
        request.flag("v", given.on("volumes")).flag("force", force)
    };
    let mut code = 0;
    let mut client = context.client()?;
    together(&mut client, &names, request, |name, result| match result {
        Ok(_) => print_line(name),
        Err(e) => {
            code = if force && e.kind() == ErrorKind::Api(404) { code } else { 1 };
            complain(e.to_string());
            Ok(())
        }
    })?;
    Ok(code)
}

/// `tare rename`.
pub(crate) fn rename(context: &Context, given: &Given) -> Outcome {
    let [old, new] = given.args.as_slice() else { return Err(Failure::new("rename takes two names")) };
    if old.trim().is_empty() || new.trim().is_empty() {
        return Err(Failure::new("Error: Neither old nor new names may be empty"));
    }
    let renamed = context.client()?.done(action(old, "rename").query("name", new));
    renamed.map_err(|e| Failure::new(format!("{e}\nError: failed to rename container named {old}")))?;
    Ok(0)
}

/// `tare wait`: prints each exit code.
pub(crate) fn wait(context: &Context, given: &Given) -> Outcome {
    let mut code = 0;
    let mut client = context.client()?;
    together(
        &mut client,
        &given.args,
        |name| action(name, "wait"),
        |_, result| match result.and_then(read_all) {
            Ok(body) => print_line(super::run::exit_code(&body)?.to_string()),
            Err(e) => {
                complain(e.to_string());
                code = 1;
                Ok(())
            }
        },
    )?;
    Ok(code)
}

fn read_all(mut response: Response) -> Result<Vec<u8>, ClientError> {
    response.read_body()
}

fn action(name: &str, verb: &str) -> Request<'static> {
    Request::post(format!("/containers/{}/{verb}", path_name(name)))
}

/// Does one thing to each, prints the names of those it was done to, says the errors, ends with 1 if there were any.
fn each(context: &Context, names: &[String], request: impl Fn(&str) -> Request<'static>) -> Outcome {
    let mut client = context.client()?;
    let mut code = 0;
    together(&mut client, names, request, |name, result| match result {
        Ok(_) => print_line(name),
        Err(e) => {
            complain(e.to_string());
            code = 1;
            Ok(())
        }
    })?;
    Ok(code)
}

/// Sends a request for each name, many at once, and hands over the answers in the order of the names.
fn together(
    client: &mut Client,
    names: &[String],
    request: impl Fn(&str) -> Request<'static>,
    mut take: impl FnMut(&str, Result<Response, ClientError>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    for batch in names.chunks(AT_ONCE) {
        let sent: Vec<_> = batch.iter().map(|name| client.begin(request(name))).collect();
        for (name, pending) in batch.iter().zip(sent) {
            take(name, pending.and_then(|p| p.response()))?;
        }
    }
    Ok(())
}
