//! `logs`.

use super::path_name;
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::flags::{Flag, Given, refused_switch, switch, text};
use crate::options::when;
use std::io::{BufWriter, Read, Write, stderr, stdout};
use tare_docker_api::client::{Client, Frames, Request, Stream, StreamFormat};
use time::OffsetDateTime;

/// Flags of `logs`.
pub(crate) const FLAGS: &[Flag] = &[
    refused_switch("details", None, "log entries have no extra details"),
    switch("follow", Some('f'), "Follow log output"),
    text(
        "since",
        None,
        "string",
        "Show logs since timestamp (e.g. \"2013-01-02T13:23:37Z\", UTC without a zone) or relative (e.g. \"42m\")",
    ),
    text("tail", Some('n'), "string", "Number of lines to show from the end of the logs (default \"all\")"),
    switch("timestamps", Some('t'), "Show timestamps"),
    text("until", None, "string", "Show logs before a timestamp or relative time, as --since"),
];

/// `tare logs`.
pub(crate) fn logs(context: &Context, given: &Given) -> Outcome {
    let name = &given.args[0];
    let mut request = Request::get(format!("/containers/{}/logs", path_name(name)))
        .flag("stdout", true)
        .flag("stderr", true)
        .flag("follow", given.on("follow"))
        .flag("timestamps", given.on("timestamps"));
    for (flag, value) in [("since", given.some("since")), ("until", given.some("until"))] {
        if let Some(value) = value {
            let at = when::timestamp(&value, OffsetDateTime::now_utc());
            request = request
                .query(flag, at.map_err(|e| Failure::new(format!("invalid value for \"{flag}\": {e}")))?);
        }
    }
    request = request.query("tail", given.some("tail").unwrap_or_else(|| "all".to_owned()));
    let mut client = context.client()?;
    let mut response = client.send(request)?;
    let format = match response.format() {
        Some(format) => format,
        None => format_of(&mut client, name)?,
    };
    copy(&mut response, format)?;
    Ok(0)
}

/// Daemons that do not say how the streams are mixed are asked whether the container has a terminal.
fn format_of(client: &mut Client, name: &str) -> Result<StreamFormat, Failure> {
    let doc: serde_json::Value =
        client.json(Request::get(format!("/containers/{}/json", path_name(name))))?;
    let tty = doc["Config"]["Tty"].as_bool().unwrap_or(false);
    Ok(if tty { StreamFormat::Raw } else { StreamFormat::Multiplexed })
}

/// Copies to our two outputs; each piece that was read is out before the next is read.
fn copy(source: &mut impl Read, format: StreamFormat) -> Result<(), Failure> {
    let mut frames = Frames::default();
    let mut buf = vec![0u8; 64 << 10];
    let (mut out, mut err) = (BufWriter::with_capacity(64 << 10, stdout().lock()), stderr().lock());
    loop {
        let n = match source.read(&mut buf) {
            Ok(0) => return Ok(out.flush()?),
            Ok(n) => n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(Failure::io("reading the log", &e)),
        };
        if format == StreamFormat::Raw {
            out.write_all(&buf[..n])?;
        } else {
            let mut result = Ok(());
            let fed = frames.feed(&buf[..n], &mut |stream, data| {
                let wrote = match stream {
                    Stream::Stdout => out.write_all(data),
                    // What came before on the other stream is shown before.
                    Stream::Stderr | Stream::SystemError => out.flush().and_then(|()| err.write_all(data)),
                };
                if result.is_ok() {
                    result = wrote;
                }
            });
            result?;
            fed.map_err(|e| Failure::new(format!("the log is not framed as it should be: {e}")))?;
        }
        out.flush()?;
    }
}
