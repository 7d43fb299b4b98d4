//! `tare`: the command line.
//!
//! A thin client of the daemon: it turns flags into Engine API requests and answers into text, and knows nothing of
//! containers itself. Order to read: `commands` (the table), `flags` (how a line is parsed), `options` (how values
//! are), `cmd` (what each command does), `session` (attach, exec and run's live stream), `template` and `output` (what
//! is printed), `host` and `autostart` (which daemon, and starting one).
//!
//! Start-up is part of `run`'s time, so nothing is built that the command at hand does not need: the tables are
//! constants, `--version` touches none of them, and no thread is ever started.

mod autostart;
mod cmd;
mod commands;
mod context;
mod failure;
mod flags;
mod front;
mod host;
mod options;
mod output;
mod say;
mod session;
mod template;
mod term;

use failure::Failure;
use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    let outcome = arguments().and_then(|args| match args.first().map(String::as_str) {
        Some(autostart::STARTER) => Err(autostart::become_daemon(&args[1..])),
        _ => front::run(&args),
    });
    let code = outcome.unwrap_or_else(|failure| {
        if !failure.message.is_empty() {
            let _ = writeln!(std::io::stderr(), "{}", failure.message);
        }
        failure.code
    });
    ExitCode::from(u8::try_from(code & 0xff).unwrap_or(1))
}

/// The API is JSON and has no place for other bytes; replaced, they would name another file or program.
fn arguments() -> Result<Vec<String>, Failure> {
    let text = |(at, arg): (usize, std::ffi::OsString)| {
        arg.into_string().map_err(|arg| {
            Failure::with_code(failure::OWN_ERROR, format!("argument {at} is not UTF-8: {}", arg.display()))
        })
    };
    std::env::args_os().enumerate().skip(1).map(text).collect()
}
