//! Further processes in containers.

use std::sync::Arc;

use bytes::{BufMut, BytesMut};
use hyper::StatusCode;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use tare_docker_api::media;
use tare_docker_api::models::{ExecConfig as WireConfig, ExecStartConfig};
use tare_engine::{DetachKeys, ExecConfig, ExecStartOptions, ExecView};
use tare_model::Error;
use tare_model::container::AttachedStreams;
use tokio::io::AsyncWriteExt;

use super::attach::hijack;
use super::containers::window_size;
use crate::backend::Execs;
use crate::create::{console_size, environment};
use crate::error::{Fault, Result};
use crate::http::{Call, Hijack, Reply};
use crate::spelling::spell;

/// Fields of a request that makes an exec.
const CONFIG: &[&str] = &[
    "AttachStdin",
    "AttachStdout",
    "AttachStderr",
    "ConsoleSize",
    "DetachKeys",
    "Tty",
    "Env",
    "Cmd",
    "Privileged",
    "User",
    "WorkingDir",
];
/// And of one that starts it.
const START: &[&str] = &["Detach", "Tty", "ConsoleSize"];

fn spelled<T: DeserializeOwned>(mut body: Map<String, Value>, names: &[&str]) -> tare_model::Result<T> {
    spell(&mut body, names.iter().copied());
    serde_json::from_value(Value::Object(body)).map_err(|e| Error::invalid(format!("invalid JSON: {e}")))
}

pub(crate) async fn create<B: Execs>(backend: Arc<B>, mut call: Call) -> Result<Reply> {
    let config = config(spelled(call.required_json().await?, CONFIG)?)?;
    let id = backend.exec_create(call.param("id"), config).await?;
    Ok(Reply::json(StatusCode::CREATED, &json!({ "Id": id.to_string() })))
}

fn config(wire: WireConfig) -> tare_model::Result<ExecConfig> {
    let cmd = wire.cmd.unwrap_or_default();
    if cmd.is_empty() {
        return Err(Error::invalid("No exec command specified"));
    }
    let working_dir = wire.working_dir.unwrap_or_default();
    if !working_dir.is_empty() && !working_dir.starts_with('/') {
        return Err(Error::invalid(format!("WorkingDir = {working_dir:?}: it needs to be an absolute path")));
    }
    let detach_keys = wire.detach_keys.unwrap_or_default();
    DetachKeys::parse(&detach_keys)?;
    Ok(ExecConfig {
        cmd,
        env: environment("Env", wire.env.unwrap_or_default())?,
        working_dir,
        user: wire.user.unwrap_or_default(),
        tty: wire.tty.unwrap_or_default(),
        console_size: console_size("ConsoleSize", wire.console_size.as_deref())?,
        attach: AttachedStreams {
            stdin: wire.attach_stdin.unwrap_or_default(),
            stdout: wire.attach_stdout.unwrap_or_default(),
            stderr: wire.attach_stderr.unwrap_or_default(),
        },
        privileged: wire.privileged.unwrap_or_default(),
        detach_keys,
    })
}

pub(crate) async fn start<B: Execs>(backend: Arc<B>, mut call: Call) -> Result<Reply> {
    let wire: ExecStartConfig = spelled(call.json().await?.unwrap_or_default(), START)?;
    let exec = backend.exec_inspect(call.param("id"))?;
    let options = ExecStartOptions {
        detach: wire.detach.unwrap_or_default(),
        console_size: console_size("ConsoleSize", wire.console_size.as_deref())?,
    };
    let detach = options.detach;
    match backend.exec_start(call.param("id"), options).await {
        Ok(None) => Ok(Reply::empty(StatusCode::OK)),
        Ok(Some(attached)) => {
            let keys = DetachKeys::parse(&exec.config.detach_keys)?;
            Ok(hijack(&call, attached, exec.config.attach.stdin, keys))
        }
        Err(e) if !detach && was_tried(&*backend, &exec) => Ok(tell(&call, &exec, &e)),
        Err(e) => Err(e.into()),
    }
}

/// Whether the start that just failed went so far that the exec has an exit code now (126, 127).
fn was_tried<B: Execs>(backend: &B, before: &ExecView) -> bool {
    let now = backend.exec_inspect(before.id.as_str());
    before.exit_code.is_none() && now.is_ok_and(|now| now.exit_code.is_some())
}

/// Clients show no message once they have asked for the connection, and take the exit code from inspection; so the
/// reason goes to the terminal or standard error, as a shell's would.
fn tell(call: &Call, exec: &ExecView, error: &Error) -> Reply {
    let text = Fault::from(error.clone()).message + "\r\n";
    let mut bytes = BytesMut::new();
    if !exec.config.tty {
        bytes.put_u8(2);
        bytes.put_bytes(0, 3);
        bytes.put_u32(u32::try_from(text.len()).unwrap_or(u32::MAX));
    }
    bytes.put_slice(text.as_bytes());
    Reply::Hijack(Hijack {
        content_type: media::of_stream(call.version, exec.config.tty),
        upgrade: call.wants_upgrade(),
        serve: Box::new(move |mut client, _| {
            Box::pin(async move {
                let _ = client.write_all(&bytes).await;
                let _ = client.shutdown().await;
            })
        }),
    })
}

pub(crate) async fn resize<B: Execs>(backend: Arc<B>, call: Call) -> Result<Reply> {
    backend.exec_resize(call.param("id"), window_size(&call.query)?).await?;
    Ok(Reply::empty(StatusCode::OK))
}

pub(crate) async fn inspect<B: Execs>(backend: Arc<B>, call: Call) -> Result<Reply> {
    Ok(Reply::ok(&shown(&backend.exec_inspect(call.param("id"))?)))
}

/// `GET /exec/{id}/json`. The generated model would leave an absent exit code out; clients look for a null.
fn shown(exec: &ExecView) -> Value {
    let mut words = exec.config.cmd.iter();
    let program = words.next();
    json!({
        "ID": exec.id.to_string(),
        "Running": exec.running,
        "ExitCode": if exec.running { None } else { exec.exit_code },
        "ProcessConfig": {
            "tty": exec.config.tty,
            "entrypoint": program,
            "arguments": words.collect::<Vec<_>>(),
            "privileged": exec.config.privileged,
            "user": exec.config.user,
        },
        "OpenStdin": exec.config.attach.stdin,
        "OpenStderr": exec.config.attach.stderr,
        "OpenStdout": exec.config.attach.stdout,
        "CanRemove": false,
        "ContainerID": exec.container.to_string(),
        "DetachKeys": exec.config.detach_keys,
        "Pid": exec.pid.unwrap_or(0),
    })
}
