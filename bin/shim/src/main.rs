//! `tare-shim`: the nursery, the monitors it forks, the init of `--init` containers, and the way of an ordinary user's
//! daemon into a user namespace. Wiring only.
//!
//! - `tare-shim nursery NAME`, with a socket as standard input: started by `tared`;
//! - `docker-init -- PROGRAM ARGS…` (by that name) or `tare-shim init PROGRAM ARGS…`: process 1 of a container;
//! - `tare-shim rootless --run-dir DIR -- PROGRAM ARGS…`: becomes root of a user namespace, then that program;
//! - `tare-shim --version`.

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use tare_model::Result;
use tare_runtime::{Options, Runtime};

/// The name under which it is process 1.
const INIT: &str = "docker-init";

fn main() -> ExitCode {
    let mut args = std::env::args_os();
    let name = args.next().unwrap_or_default();
    if name.to_string_lossy().rsplit('/').next() == Some(INIT) {
        return code(tare_runtime::init::main(args));
    }
    let word = args.next().unwrap_or_default();
    match word.to_str() {
        Some("nursery") => nursery(args),
        Some("rootless") => rootless(args),
        Some("init") => code(tare_runtime::init::main(args)),
        Some("--version") => say(&mut std::io::stdout(), concat!("tare-shim ", env!("CARGO_PKG_VERSION")), 0),
        _ => {
            say(&mut std::io::stderr(), "tare-shim is started by tared; there is nothing to run by hand", 125)
        }
    }
}

fn nursery(args: impl Iterator<Item = OsString>) -> ExitCode {
    let args: Vec<String> = args.map(|arg| arg.to_string_lossy().into_owned()).collect();
    match tare_shim::nursery::main(&args, runtime) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => say(&mut std::io::stderr(), &format!("tare-shim: {error}"), 1),
    }
}

fn rootless(args: impl Iterator<Item = OsString>) -> ExitCode {
    let Err(error) = tare_shim::rootless::main(args);
    say(&mut std::io::stderr(), &format!("tared: {error}"), 1)
}

/// What every shim has from the nursery: the machine looked at, the default filter compiled.
fn runtime(program: PathBuf) -> Result<Runtime> {
    let runtime = Runtime::new(Options { init: Some(program), ..Options::default() })?;
    runtime.warm_up();
    Ok(runtime)
}

fn say(to: &mut dyn Write, text: &str, code: u8) -> ExitCode {
    // If nobody listens there is nothing else to do.
    let _ = writeln!(to, "{text}");
    ExitCode::from(code)
}

fn code(code: i32) -> ExitCode {
    ExitCode::from(u8::try_from(code & 0xff).unwrap_or(1))
}
