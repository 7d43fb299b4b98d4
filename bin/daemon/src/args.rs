//! The command line.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use clap::{Parser, ValueEnum};
use tracing::level_filters::LevelFilter;

/// The port of name servers.
const NAMES: u16 = 53;

/// The tare daemon. It runs in the foreground and logs to standard error.
#[derive(Debug, Parser)]
#[command(name = "tared", version, about)]
pub(crate) struct Args {
    /// Durable state: images, containers, volumes, database [default: /var/lib/tare; for an ordinary user
    /// ~/.local/share/tare].
    #[arg(long, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,
    /// What is gone after a reboot: sockets, records of running containers [default: /run/tare; for an ordinary user
    /// $XDG_RUNTIME_DIR/tare].
    #[arg(long, value_name = "DIR")]
    pub(crate) run_dir: Option<PathBuf>,
    /// Where to listen [default: tared.sock in the run directory].
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Name of the default network's bridge, or "none" for no default network [default: tare0; with another root than the
    /// usual one, a name of its own].
    #[arg(long, value_name = "NAME")]
    pub(crate) bridge: Option<String>,
    /// Where programs of the host may ask for containers by name, below "tare.internal"; the port is 53 if none is given
    /// [default: nowhere].
    #[arg(long, value_name = "ADDRESS[:PORT]", value_parser = name_server)]
    pub(crate) host_dns: Option<SocketAddr>,
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
    /// The root.
    pub(crate) fn root(&self) -> PathBuf {
        self.root.clone().unwrap_or_else(|| PathBuf::from("/var/lib/tare"))
    }

    /// The run directory.
    pub(crate) fn run_dir(&self) -> PathBuf {
        self.run_dir.clone().unwrap_or_else(|| PathBuf::from("/run/tare"))
    }

    /// The socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.socket_in(&self.run_dir())
    }

    /// The socket, if this is the run directory.
    pub(crate) fn socket_in(&self, run_dir: &Path) -> PathBuf {
        self.socket.clone().unwrap_or_else(|| run_dir.join("tared.sock"))
    }
}

// === impl Level ===

impl Level {
    /// As it is written on the command line.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }

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

/// An address with or without a port.
fn name_server(text: &str) -> Result<SocketAddr, String> {
    let whole = || text.parse().ok();
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse::<IpAddr>().ok().map(|address| SocketAddr::new(address, NAMES));
    address.or_else(whole).ok_or_else(|| "want an IP address, with or without a port".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(list: &[&str]) -> Args {
        Args::try_parse_from(["tared"].iter().chain(list)).expect("valid")
    }

    #[test]
    fn names_are_answered_where_it_is_said() {
        let host_dns = |text| args(&["--host-dns", text]).host_dns.map(|at| at.to_string());
        for (text, at) in [
            ("127.0.0.55", "127.0.0.55:53"),
            ("127.0.0.55:5353", "127.0.0.55:5353"),
            ("::1", "[::1]:53"),
            ("[::1]", "[::1]:53"),
            ("[::1]:54", "[::1]:54"),
        ] {
            assert_eq!(host_dns(text).as_deref(), Some(at));
        }
        for wrong in ["", "localhost", "127.0.0.1:", "127.0.0.1:65536", "[127.0.0.1", "53"] {
            assert!(Args::try_parse_from(["tared", "--host-dns", wrong]).is_err(), "{wrong}");
        }
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
