//! Telling whoever started the daemon how it went: one line on an inherited descriptor.

use std::fs::{File, OpenOptions};
use std::io::Write;

use tare_model::Error;

/// Says it once; dropping it without a word is the end of file that means "it died".
#[derive(Debug)]
pub(crate) struct Ready {
    pipe: Option<File>,
}

// === impl Ready ===

impl Ready {
    /// To this descriptor, if one was given. It is opened anew by its number, so that taking it over needs no unsafe
    /// code; the inherited one has no other reader and goes with the process.
    pub(crate) fn new(fd: Option<u32>) -> Self {
        let open = |fd: u32| OpenOptions::new().write(true).open(format!("/proc/self/fd/{fd}"));
        let pipe = fd.and_then(|fd| match open(fd) {
            Ok(pipe) => Some(pipe),
            Err(e) => {
                tracing::warn!("--ready-fd {fd}: {e}");
                None
            }
        });
        Self { pipe }
    }

    /// Clients can connect.
    pub(crate) fn ready(&mut self) {
        self.say("ready");
    }

    /// There will be no daemon.
    pub(crate) fn failed(&mut self, e: &Error) {
        self.say(&e.to_string().replace('\n', " "));
    }

    fn say(&mut self, line: &str) {
        if let Some(mut pipe) = self.pipe.take()
            && let Err(e) = writeln!(pipe, "{line}")
        {
            // Whoever waited has gone away; the daemon serves the others.
            tracing::debug!("--ready-fd: {e}");
        }
    }
}
