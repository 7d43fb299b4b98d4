//! `tare-oci`: the OCI runtime command line, used as runc is.
//!
//! ```text
//!   create ──▶ created ──start──▶ running ──exits──▶ stopped ──delete──▶ gone
//!   run = create + start (+ wait + delete, in the foreground)
//! ```
//!
//! What is known about a container lies in `ROOT/ID/state.json`; whether it runs is asked of the kernel each time.
//! Read [`cli`] for the surface, [`state`] for what is kept, then the commands.

mod cli;
mod commands;
mod console;
mod foreground;
mod log;
mod spec;
mod stamp;
mod state;

use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command};
use log::Log;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let log = match Log::open(&cli) {
        Ok(log) => log,
        Err(error) => {
            log::to_stderr(&error.to_string());
            return ExitCode::FAILURE;
        }
    };
    match run(&cli) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            log.error(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> tare_model::Result<u8> {
    cli.refuse_what_is_not_offered()?;
    if cli.command.enters_containers() {
        // From here on nobody in a container can write to this program by way of /proc/PID/exe (CVE-2019-5736).
        tare_runtime::harden::reexecute_read_only()?;
    }
    let root = cli.root.as_path();
    match &cli.command {
        Command::Create(args) => commands::create(root, args),
        Command::Run(args) => commands::run(root, args),
        Command::Start(args) => commands::start(root, &args.id),
        Command::State(args) => commands::state(root, &args.id),
        Command::Kill(args) => commands::kill(root, args),
        Command::Delete(args) => commands::delete(root, args),
        Command::List(args) => commands::list(root, args),
        Command::Exec(args) => commands::exec(root, args),
        Command::Ps(args) => commands::ps(root, args),
        Command::Pause(args) => commands::pause(root, &args.id),
        Command::Resume(args) => commands::resume(root, &args.id),
        Command::Spec(args) => spec::write_default(args),
    }
}
