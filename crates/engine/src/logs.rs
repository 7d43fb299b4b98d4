//! Reading a container's log for a face: in batches on a thread that may block, as fast as lines are taken.
//!
//! Following: ask the monitor to tell of growth, *then* read to the end, then wait. Nothing is missed in between, and no
//! memory but the channel's is used however fast the container writes.

use std::path::PathBuf;
use std::sync::Arc;

use tare_model::container::LogDriver;
use tare_model::{Error, Result};
use tare_shim::logs::{Options, Reader, Stream};
use tokio::sync::mpsc;

use crate::api::options::LogOptions;
use crate::api::stream::{LogLine, LogStream};
use crate::clock;
use crate::lifecycle::handle::Handle;
use crate::work;

/// Lines on their way to a face.
const IN_FLIGHT: usize = 256;

/// Opens the log of a container.
///
/// # Errors
/// `InvalidInput` when neither stream is chosen, `Unsupported` when nothing is kept.
pub(crate) fn open(handle: Arc<Handle>, options: LogOptions) -> Result<LogStream> {
    if !options.stdout && !options.stderr {
        return Err(Error::invalid("Bad parameters: you must choose at least one stream"));
    }
    let view = handle.view();
    let driver = view.fixed.config.log.driver;
    if driver == LogDriver::None {
        return Err(Error::unsupported("configured logging driver does not support reading"));
    }
    let source = Source { directory: view.fixed.paths.log.clone(), driver, options };
    let (sender, lines) = mpsc::channel(IN_FLIGHT);
    tokio::spawn(async move {
        if let Err(e) = pump(&handle, source, &sender).await {
            // Nobody reads any more: nothing to tell.
            let _ = sender.send(Err(e)).await;
        }
    });
    Ok(LogStream { lines })
}

struct Source {
    directory: PathBuf,
    driver: LogDriver,
    options: LogOptions,
}

async fn pump(handle: &Handle, source: Source, sender: &mpsc::Sender<Result<LogLine>>) -> Result<()> {
    let mut states = handle.watch();
    let mut grew = handle.log_grew.clone();
    let options = source.options.clone();
    let mut reader = None;
    loop {
        let live = states.borrow_and_update().monitor.clone();
        grew.mark_unchanged();
        let watching = match (&live, options.follow) {
            (Some(monitor), true) => monitor.watch_log().await.is_ok(),
            _ => false,
        };
        let step = Step { source: &source, follow: watching, options: &options };
        reader = step.read(reader.take(), sender).await?;
        let late = options.until.is_some_and(|until| clock::now() > until);
        if reader.is_none() || !options.follow || late || sender.is_closed() {
            return Ok(());
        }
        if !watching && live.is_none() {
            // It does not run: what there is has been read.
            return Ok(());
        }
        tokio::select! {
            grown = grew.changed() => if grown.is_err() { return Ok(()) },
            changed = states.changed() => if changed.is_err() { return Ok(()) },
            () = sender.closed() => return Ok(()),
            () = until(options.until) => {}
        }
    }
}

/// Resolves when the time of `until` has come.
async fn until(until: Option<u64>) {
    match until {
        Some(at) => {
            let left = at.saturating_sub(clock::now()).saturating_add(1_000_000);
            tokio::time::sleep(std::time::Duration::from_nanos(left)).await;
        }
        None => std::future::pending().await,
    }
}

struct Step<'a> {
    source: &'a Source,
    follow: bool,
    options: &'a LogOptions,
}

impl Step<'_> {
    /// Reads to the present end. `None` comes back when the face reads no more, or there is no log.
    async fn read(
        &self,
        reader: Option<Reader>,
        sender: &mpsc::Sender<Result<LogLine>>,
    ) -> Result<Option<Reader>> {
        let (directory, driver) = (self.source.directory.clone(), self.source.driver);
        let (options, follow, sender) = (self.options.clone(), self.follow, sender.clone());
        work::blocking(move || {
            let mut reader = match reader {
                Some(reader) => reader,
                None => match first(&directory, driver, &options) {
                    // Never started: an empty log.
                    Err(e) if e.kind() == tare_model::ErrorKind::NotFound && !follow => return Ok(None),
                    opened => opened?,
                },
            };
            if !follow {
                reader.stop_following();
            }
            while let Some(entry) = reader.next()? {
                let stderr = entry.stream == Stream::Stderr;
                if if stderr { options.stderr } else { options.stdout } {
                    let line = LogLine { stderr, time: entry.time, bytes: entry.bytes.to_vec() };
                    if sender.blocking_send(Ok(line)).is_err() {
                        return Ok(None);
                    }
                }
            }
            Ok(Some(reader))
        })
        .await
    }
}

fn first(directory: &std::path::Path, driver: LogDriver, options: &LogOptions) -> Result<Reader> {
    Reader::open(
        directory,
        driver,
        Options { tail: options.tail, since: options.since, until: options.until, follow: options.follow },
    )
}
