//! The command line.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};
use tracing::level_filters::LevelFilter;

/// The tare daemon. It runs in the foreground and logs to standard error.
#[derive(Debug, Parser)]
#[command(name = "tared", version, about)]
pub(crate) struct Args {
    /// Durable state: images, containers, volumes, database.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/tare")]
    pub(crate) root: PathBuf,
    /// What is gone after a reboot: sockets, records of running containers.
    #[arg(long, value_name = "DIR")]
    run_dir: Option<PathBuf>,
    /// Where to listen [default: tared.sock in the run directory].
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// The least important messages to log.
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    pub(crate) log_level: Level,
    /// An inherited descriptor to write "ready" to, or one line that says what is wrong.
    #[arg(long, value_name = "FD")]
    pub(crate) ready_fd: Option<u32>,
}

/// Log levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Level {
    /// What failed.
    Error,
    /// And what is odd.
    Warn,
    /// And what happens.
    Info,
    /// And why.
    Debug,
    /// Everything.
    Trace,
}

// === impl Args ===

impl Args {
    /// The run directory.
    pub(crate) fn run_dir(&self) -> PathBuf {
        self.run_dir.clone().unwrap_or_else(|| PathBuf::from("/run/tare"))
    }

    /// The socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.socket.clone().unwrap_or_else(|| self.run_dir().join("tared.sock"))
    }
}

// === impl Level ===

impl Level {
    /// As the logger takes it.
    pub(crate) fn filter(self) -> LevelFilter {
        match self {
            Self::Error => LevelFilter::ERROR,
            Self::Warn => LevelFilter::WARN,
            Self::Info => LevelFilter::INFO,
            Self::Debug => LevelFilter::DEBUG,
            Self::Trace => LevelFilter::TRACE,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn args(list: &[&str]) -> Args {
        Args::try_parse_from(["tared"].iter().chain(list)).expect("valid")
    }

    #[test]
    fn the_socket_follows_the_run_directory() {
        assert_eq!(args(&[]).socket(), Path::new("/run/tare/tared.sock"));
        assert_eq!(args(&["--run-dir", "/r"]).socket(), Path::new("/r/tared.sock"));
        assert_eq!(args(&["--run-dir", "/r", "--socket", "/s"]).socket(), Path::new("/s"));
    }

    #[test]
    fn levels_are_words_and_others_are_refused() {
        assert_eq!(args(&["--log-level", "debug"]).log_level, Level::Debug);
        assert!(Args::try_parse_from(["tared", "--log-level", "loud"]).is_err());
    }
}
