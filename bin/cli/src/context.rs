//! What every command gets: which daemon, whether one may be started, and the client's environment.

use crate::autostart;
use crate::failure::{Failure, Outcome};
use crate::host::Endpoint;
pub(crate) use crate::say::complain;
use std::io::Write;
use tare_docker_api::client::{Client, DEFAULT_VERSION, ErrorKind};

/// The surroundings of one command.
pub(crate) struct Context {
    pub(crate) endpoint: Endpoint,
    pub(crate) autostart: bool,
}

// === impl Context ===

impl Context {
    /// A client whose daemon listens; it is started here if it is ours and nobody does.
    pub(crate) fn client(&self) -> Result<Client, Failure> {
        let asked = std::env::var("DOCKER_API_VERSION").ok().filter(|v| !v.is_empty());
        let version = asked.as_deref().map_or(DEFAULT_VERSION, |v| v.trim_start_matches('v'));
        let mut client = Client::new(&self.endpoint.socket, version);
        let connected = match (asked, self.endpoint.is_tared) {
            (Some(_), _) => client.probe(),
            // A daemon of ours has the versions that we have; asking it would cost every command a turn.
            (None, true) => {
                client.assume_version();
                client.probe()
            }
            (None, false) => client.negotiate(),
        };
        match connected {
            Ok(()) => Ok(client),
            Err(e) if e.kind() == ErrorKind::NotListening && self.endpoint.ours => {
                if !self.autostart {
                    return Err(Failure::new(format!("{e}\nIt was not started because of --no-autostart.")));
                }
                autostart::start(&self.endpoint.socket)?;
                client.probe()?;
                Ok(client)
            }
            Err(e) => Err(e.into()),
        }
    }
}

/// Writes one line to stdout.
pub(crate) fn print_line(line: impl AsRef<str>) -> Result<(), Failure> {
    let mut text = line.as_ref().to_owned();
    text.push('\n');
    print(&text)
}

/// Writes text to stdout at once.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(())
}

/// Does `work` for each name: says its errors and goes on, ends with 1 if there were any.
pub(crate) fn for_each(names: &[String], mut work: impl FnMut(&str) -> Result<(), Failure>) -> Outcome {
    let mut code = 0;
    for name in names {
        if let Err(failure) = work(name) {
            if failure.message.is_empty() {
                return Err(failure);
            }
            complain(&failure.message);
            code = 1;
        }
    }
    Ok(code)
}
