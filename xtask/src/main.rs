//! Tasks of this checkout, run as `cargo xtask TASK`.
//!
//! * `demo`   the main job: builds the four programs and runs a container on a throwaway engine
//! * `test`   everything: quick checks, unit tests, end-to-end tests on the real kernel (needs root)
//! * `older`  chosen suites as if the kernel were older (needs root; part of `test`)
//! * `crash`  the long form of the crash suite: hundreds of SIGKILLs under load (needs root)
//! * `bench`  tare against the kernel's floor and against Docker; writes `docs/bench.md` and `docs/bench.svg`
//! * `profiles` one real job of each common kind of image under each security profile; writes `docs/profiles.md`
//! * `conformance` the OCI runtime by the validation programs of others; writes `docs/conformance.md` (needs root)
//! * `edges`  imports between crates as DESIGN allows them, no import cycle inside a crate
//! * `tidy`   format, clippy, documentation links, file headers, licences
//!
//! This tool depends on no crate of the house, so it builds in seconds and works while a room does not compile.

#![allow(clippy::print_stdout, reason = "a tool: standard output is for its reader")]

mod bench;
mod conformance;
mod crash;
mod demo;
mod edges;
mod older;
mod profiles;
mod shell;
mod test;
mod tidy;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// What is asked of the tool.
#[derive(Parser)]
#[command(name = "cargo xtask", about = "Tasks of this checkout")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Build everything and run a container on a throwaway engine (needs root)
    Demo,
    /// Quick checks, unit tests, then end-to-end tests on the real kernel (needs root)
    Test,
    /// Chosen suites with the kernel's newer calls forced to ENOSYS (needs root)
    Older,
    /// Kill the daemon and the nursery again and again under load (needs root)
    Crash(crash::Options),
    /// Measure tare beside the kernel's floor and Docker (needs root)
    Bench(bench::Options),
    /// Run a job of each common kind of image under each security profile (needs root)
    Profiles(profiles::Options),
    /// Judge by suites of others (needs root)
    #[command(subcommand)]
    Conformance(conformance::Options),
    /// Check imports between crates and inside them
    Edges,
    /// Check format, lints, documentation links and file headers
    Tidy,
}

fn main() -> ExitCode {
    let done = match Cli::parse().task {
        Task::Demo => demo::run(),
        Task::Test => test::run(),
        Task::Older => test::older(),
        Task::Crash(options) => crash::run(&options),
        Task::Bench(options) => bench::run(&options),
        Task::Profiles(options) => profiles::run(&options),
        Task::Conformance(options) => conformance::run(&options),
        Task::Edges => edges::run(),
        Task::Tidy => tidy::run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("xtask: {why}");
            ExitCode::FAILURE
        }
    }
}
