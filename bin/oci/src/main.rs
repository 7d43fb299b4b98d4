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
mod foreground;
mod listen;
mod log;
mod manager;
mod notify;
mod quantity;
mod socket;
mod spec;
mod stamp;
mod state;
mod streams;

use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command};
use commands::{Context, create, end, events, exec, features, pause, show, update};
use log::Log;
use manager::Manager;

fn main() -> ExitCode {
    let safe = move_out_of_reach();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        // Help and version go to standard output and are no failure; a wrong command line is 1, as runc says it.
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(u8::from(error.use_stderr()));
        }
    };
    // Before anything is opened: one of our own descriptors must not take the place of one that is to be passed on.
    if let Err(error) = listen::require(cli.command.preserved()) {
        log::to_stderr(&error.to_string());
        return ExitCode::FAILURE;
    }
    let log = match Log::open(&cli) {
        Ok(log) => log,
        Err(error) => {
            log::to_stderr(&error.to_string());
            return ExitCode::FAILURE;
        }
    };
    match safe.and_then(|()| run(&cli, &log)) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            log.error(&error.to_string());
            // For the callers of runc: 255 is "could not be executed", apart from what a program answers itself.
            if matches!(cli.command, Command::Exec(_)) { ExitCode::from(255) } else { ExitCode::FAILURE }
        }
    }
}

/// A program whose process comes to be in a container executes itself anew, so that nobody there can write to it by way
/// of /proc/PID/exe (CVE-2019-5736). Before anything else, so that nothing is done twice: the words alone tell, and one of
/// them as somebody's name does no harm.
fn move_out_of_reach() -> tare_model::Result<()> {
    let enters = |word: std::ffi::OsString| matches!(word.to_str(), Some("create" | "run" | "exec"));
    if std::env::args_os().any(enters) { tare_runtime::harden::reexecute_read_only() } else { Ok(()) }
}

fn run(cli: &Cli, log: &Log) -> tare_model::Result<u8> {
    cli.refuse_what_is_not_offered()?;
    let root = cli.root();
    let context = &Context { root: &root, manager: Manager::of(cli), log };
    match &cli.command {
        Command::Create(args) => create::create(context, args),
        Command::Run(args) => create::run(context, args),
        Command::Start(args) => create::start(context, &args.id),
        Command::State(args) => show::state(context, &args.id),
        Command::Kill(args) => end::kill(context, args),
        Command::Delete(args) => end::delete(context, args),
        Command::List(args) => show::list(context, args),
        Command::Exec(args) => exec::exec(context, args),
        Command::Ps(args) => show::ps(context, args),
        Command::Pause(args) => pause::pause(context, &args.id),
        Command::Resume(args) => pause::resume(context, &args.id),
        Command::Update(args) => update::update(context, args),
        Command::Events(args) => events::events(context, args),
        Command::Features => features::features(),
        Command::Spec(args) => spec::write_default(args),
        // Refused above.
        Command::Checkpoint(_) | Command::Restore(_) => Ok(1),
    }
}
