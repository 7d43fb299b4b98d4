//! `GET /containers/{id}/logs`: what a container has written, and as it writes on.

use std::io;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::{FutureExt, Stream, stream};
use tare_docker_api::{media, stamp};
use tare_engine::{LogLine, LogOptions, LogStream};
use tare_model::Error;

use crate::backend::{Containers, Streams};
use crate::error::Result;
use crate::http::{Call, Query, Reply};

/// Lines that are at hand are sent together up to this many bytes.
const BATCH: usize = 64 << 10;

/// How lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Format {
    /// Frames tell the streams apart; a terminal has but one.
    framed: bool,
    timestamps: bool,
    /// Docker puts the log driver's attributes before each line; there are none, but the blank after them stays.
    details: bool,
}

pub(crate) async fn logs<B: Containers + Streams>(backend: Arc<B>, call: Call) -> Result<Reply> {
    let key = call.param("id");
    let options = options(&call.query)?;
    let tty = backend.inspect(key)?.fixed.config.process.tty;
    let format = Format {
        framed: !tty,
        timestamps: call.query.flag("timestamps"),
        details: call.query.flag("details"),
    };
    let lines = backend.logs(key, options).await?;
    Ok(Reply::stream(media::of_stream(call.version, tty), pieces(lines, format)))
}

fn options(query: &Query) -> tare_model::Result<LogOptions> {
    let options = LogOptions {
        stdout: query.flag("stdout"),
        stderr: query.flag("stderr"),
        follow: query.flag("follow"),
        tail: tail(query.text("tail"))?,
        since: stamp::parse_query("since", query.text("since"))?,
        until: stamp::parse_query("until", query.text("until"))?,
    };
    if !options.stdout && !options.stderr {
        return Err(Error::invalid("Bad parameters: you must choose at least one stream"));
    }
    Ok(options)
}

/// A number of lines; nothing, `all` or a negative number is all of them.
fn tail(text: &str) -> tare_model::Result<Option<u64>> {
    match text {
        "" | "all" => Ok(None),
        text => match text.parse::<i64>() {
            Ok(n) => Ok(u64::try_from(n).ok()),
            Err(_) => Err(Error::invalid(format!(
                "invalid value for \"tail\": {text:?} is neither a number nor \"all\""
            ))),
        },
    }
}

/// Where a body of log lines stands.
enum Body {
    Lines(LogStream),
    /// What was good has been sent; this cuts the body.
    Failed(Error),
    Over,
}

fn pieces(lines: LogStream, format: Format) -> impl Stream<Item = io::Result<Bytes>> {
    stream::unfold(Body::Lines(lines), move |body| async move {
        match body {
            Body::Lines(mut lines) => {
                let first = lines.next().await;
                let (batch, rest) = gather(first, lines, format);
                match (batch.is_empty(), rest) {
                    (true, Body::Failed(e)) => Some((Err(io::Error::other(e)), Body::Over)),
                    (true, _) => None,
                    (false, rest) => Some((Ok(batch), rest)),
                }
            }
            Body::Failed(e) => Some((Err(io::Error::other(e)), Body::Over)),
            Body::Over => None,
        }
    })
}

/// Writes the first line and those that are at hand.
fn gather(first: Option<tare_model::Result<LogLine>>, mut lines: LogStream, format: Format) -> (Bytes, Body) {
    let mut batch = BytesMut::new();
    let mut next = first;
    loop {
        match next {
            Some(Ok(line)) => write(&mut batch, &line, format),
            Some(Err(e)) => return (batch.freeze(), Body::Failed(e)),
            None => return (batch.freeze(), Body::Over),
        }
        if batch.len() >= BATCH {
            return (batch.freeze(), Body::Lines(lines));
        }
        next = match lines.next().now_or_never() {
            Some(ready) => ready,
            None => return (batch.freeze(), Body::Lines(lines)),
        };
    }
}

fn write(out: &mut BytesMut, line: &LogLine, format: Format) {
    let stamp = if format.timestamps { stamp::rfc3339_fixed(line.time) + " " } else { String::new() };
    let details = if format.details { " " } else { "" };
    let length = stamp.len() + details.len() + line.bytes.len();
    if format.framed {
        out.put_u8(if line.stderr { 2 } else { 1 });
        out.put_bytes(0, 3);
        out.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    }
    out.put_slice(stamp.as_bytes());
    out.put_slice(details.as_bytes());
    out.put_slice(&line.bytes);
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;
    use tokio::sync::mpsc;

    use super::*;

    fn line(stderr: bool, text: &str) -> LogLine {
        LogLine { stderr, time: 1_700_000_000_120_000_000, bytes: text.as_bytes().to_vec() }
    }

    fn written(line: &LogLine, format: Format) -> Vec<u8> {
        let mut out = BytesMut::new();
        write(&mut out, line, format);
        out.to_vec()
    }

    #[test]
    fn frames_say_which_stream_and_how_long() {
        let format = Format { framed: true, ..Default::default() };
        assert_eq!(written(&line(false, "hi\n"), format), b"\x01\0\0\0\0\0\0\x03hi\n");
        assert_eq!(written(&line(true, ""), format), b"\x02\0\0\0\0\0\0\0");
    }

    #[test]
    fn stamps_are_inside_the_frame_and_aligned() {
        let format = Format { framed: true, timestamps: true, details: false };
        let bytes = written(&line(false, "hi\n"), format);
        assert_eq!(&bytes[8..], b"2023-11-14T22:13:20.120000000Z hi\n");
        assert_eq!(usize::from(bytes[7]), bytes.len() - 8);
        assert_eq!(written(&line(false, "raw"), Format::default()), b"raw");
    }

    #[test]
    fn parameters_are_checked() {
        let of = |q: &str| options(&Query::parse(q));
        assert_eq!(of("stdout=1&tail=5").map(|o| o.tail), Ok(Some(5)));
        assert_eq!(of("stdout=1&tail=all").map(|o| o.tail), Ok(None));
        assert_eq!(of("stdout=1&tail=-1").map(|o| o.tail), Ok(None));
        assert_eq!(of("stderr=1&since=1700000000").map(|o| o.since), Ok(Some(1_700_000_000_000_000_000)));
        for bad in ["", "follow=1", "stdout=1&tail=many", "stdout=1&since=yesterday"] {
            assert!(of(bad).is_err(), "{bad}");
        }
    }

    #[tokio::test]
    async fn lines_at_hand_travel_together_and_an_error_cuts_the_body() {
        let (send, receive) = mpsc::channel(8);
        for item in [Ok(line(false, "a\n")), Ok(line(false, "b\n")), Err(Error::system("read: EIO"))] {
            send.send(item).await.expect("room");
        }
        drop(send);
        let got: Vec<_> = pieces(LogStream::new(receive), Format::default()).collect().await;
        assert_eq!(got[0].as_ref().expect("lines"), &Bytes::from_static(b"a\nb\n"));
        assert!(got[1].as_ref().expect_err("error").to_string().contains("EIO"));
        assert_eq!(got.len(), 2);
    }
}
