//! Tasks of this checkout, run as `cargo xtask TASK`.
//!
//! * `demo`   the main job: builds the four programs and runs a container on a throwaway engine
//! * `test`   everything: quick checks, unit tests, end-to-end tests on the real kernel (needs root)
//! * `older`  chosen suites as if the kernel were older (needs root; part of `test`)
//! * `guest`  a command on a machine with cgroup v2, AppArmor, or systemd, under QEMU (needs root)
//! * `crash`  the long form of the crash suite: hundreds of SIGKILLs under load (needs root)
//! * `bench`  tare against the kernel's floor and against Docker; writes `docs/bench.md` and `docs/bench.svg`
//! * `profiles` one real job of each common kind of image under each security profile; writes `docs/profiles.md`
//! * `conformance` the OCI runtime by the validation programs of others; writes `docs/conformance.md` (needs root)
//! * `edges`  imports between crates as DESIGN allows them, no import cycle inside a crate
//! * `tidy`   format, clippy, documentation links, file headers, licences
//!
//! Of the house this tool depends on the kit alone, so it builds in seconds and works while a room does not compile.

#![allow(clippy::print_stdout, reason = "a tool: standard output is for its reader")]

mod bench;
mod conformance;
mod crash;
mod demo;
mod edges;
mod guest;
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
    /// Run a command on a machine with cgroup v2, AppArmor, or systemd, under QEMU (needs root)
    Guest(guest::Options),
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
    let success = |()| ExitCode::SUCCESS;
    let done = match Cli::parse().task {
        Task::Demo => demo::run().map(success),
        Task::Test => test::run().map(success),
        Task::Older => test::older().map(success),
        Task::Guest(options) => guest::run(&options),
        Task::Crash(options) => crash::run(&options).map(success),
        Task::Bench(options) => bench::run(&options).map(success),
        Task::Profiles(options) => profiles::run(&options).map(success),
        Task::Conformance(options) => conformance::run(&options).map(success),
        Task::Edges => edges::run().map(success),
        Task::Tidy => tidy::run().map(success),
    };
    match done {
        Ok(code) => code,
        Err(why) => {
            eprintln!("xtask: {why}");
            ExitCode::FAILURE
        }
    }
}
