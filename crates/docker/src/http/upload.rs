//! A request body as a blocking reader, for archives that are unpacked while they arrive.

use std::io::{self, Read};

use bytes::{Buf, Bytes};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::sync::mpsc;

/// Pieces between socket and reader; with hyper's piece size about 1 MiB.
const AHEAD: usize = 4;

/// When the reader stops early (it found damage), so much of the rest is still taken off the socket: a client that
/// is in the middle of writing would otherwise see a broken pipe instead of the answer.
const DRAIN_MAX: usize = 256 << 20;

struct Upload {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    current: Bytes,
}

/// The body as a reader. It must be read on a thread that may block.
///
/// A client that goes away in the middle makes reading fail, never end: half an archive is not an archive.
pub(crate) fn upload(body: Option<Incoming>) -> Box<dyn Read + Send> {
    let Some(body) = body else { return Box::new(io::empty()) };
    let (sender, pieces) = mpsc::channel(AHEAD);
    tokio::spawn(pump(body, sender));
    Box::new(Upload { pieces, current: Bytes::new() })
}

async fn pump(mut body: Incoming, sender: mpsc::Sender<io::Result<Bytes>>) {
    let mut drained = 0;
    while let Some(frame) = body.frame().await {
        let piece = match frame {
            Ok(frame) => frame.into_data().map_err(|_trailers| ()),
            Err(e) => {
                let _ = sender.send(Err(io::Error::new(io::ErrorKind::UnexpectedEof, e))).await;
                return;
            }
        };
        let Ok(piece) = piece else { continue };
        let length = piece.len();
        if sender.send(Ok(piece)).await.is_err() {
            drained += length;
            if drained > DRAIN_MAX {
                return;
            }
        }
    }
}

impl Read for Upload {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.pieces.blocking_recv() {
                Some(piece) => self.current = piece?,
                None => return Ok(0),
            }
        }
        let n = self.current.len().min(out.len());
        self.current.copy_to_slice(out.get_mut(..n).unwrap_or_default());
        Ok(n)
    }
}
