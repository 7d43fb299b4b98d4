//! Messages, as programs that drive an OCI runtime read them: to a file in one of two formats, and to standard error.

use std::fs::{File, OpenOptions};
use std::io::Write;

use tare_model::{Error, Result};

use crate::cli::{Cli, LogFormat};
use crate::stamp;

/// Where messages go.
pub(crate) struct Log {
    file: Option<File>,
    format: LogFormat,
}

// === impl Log ===

impl Log {
    /// Opens the file that was asked for.
    pub(crate) fn open(cli: &Cli) -> Result<Self> {
        let open = |path| {
            let opened = OpenOptions::new().append(true).create(true).open(path);
            opened.map_err(|error| Error::system(format!("open log {path:?}: {error}")))
        };
        let log = Self { file: cli.log.as_ref().map(open).transpose()?, format: cli.log_format };
        if cli.debug {
            log.write("debug", &format!("{:?}", cli.command));
        }
        Ok(log)
    }

    /// Says what is wrong and does no harm.
    pub(crate) fn warning(&self, message: &str) {
        self.write("warning", message);
    }

    /// Says why the command failed.
    pub(crate) fn error(&self, message: &str) {
        self.write("error", message);
        if self.file.is_some() {
            to_stderr(message);
        }
    }

    fn write(&self, level: &str, message: &str) {
        let line = line(self.format, level, message, &stamp::now());
        // Whoever cannot be told cannot be told that either.
        let _ = match &self.file {
            Some(file) => (&*file).write_all(line.as_bytes()),
            None if level != "debug" && self.format == LogFormat::Text => {
                to_stderr(message);
                Ok(())
            }
            None => std::io::stderr().write_all(line.as_bytes()),
        };
    }
}

/// One line for people.
pub(crate) fn to_stderr(message: &str) {
    let _ = writeln!(std::io::stderr(), "tare-oci: {message}");
}

fn line(format: LogFormat, level: &str, message: &str, time: &str) -> String {
    match format {
        LogFormat::Json => {
            let object = serde_json::json!({"level": level, "msg": message, "time": time});
            format!("{object}\n")
        }
        LogFormat::Text => format!("time={time:?} level={level} msg={message:?}\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_lines_are_what_containerd_reads() {
        let text = line(LogFormat::Json, "error", "a \"b\"\nc", "2026-01-02T03:04:05Z");
        let object: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((object["level"].as_str(), object["msg"].as_str()), (Some("error"), Some("a \"b\"\nc")));
        assert_eq!(text.matches('\n').count(), 1);
    }

    #[test]
    fn text_lines_stay_one_line() {
        assert_eq!(line(LogFormat::Text, "debug", "a\nb", "t"), "time=\"t\" level=debug msg=\"a\\nb\"\n");
    }
}
