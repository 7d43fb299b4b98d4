//! The benchmark. Starts our engine and Docker side by side, each with its own socket and directories, measures them
//! in turn (floor, tare, Docker, floor, tare, …), and writes `bench.md` and `bench.svg`.
//!
//! * [`subject`]  an engine under measurement: ours, or a Docker
//! * [`docker`]   a Docker of our own: dockerd in a network namespace of its own, nothing of the machine touched
//! * [`floor`]    the kernel alone (`floor.c`)
//! * [`work`]     what is measured
//! * [`stats`]    medians and 99th percentiles
//! * [`report`], [`svg`], [`machine`]  what is written; [`publish`]  where

#![allow(clippy::print_stdout, reason = "a tool: standard output is for its reader")]

mod docker;
mod floor;
mod machine;
mod publish;
mod report;
mod stats;
mod subject;
mod svg;
mod work;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

/// An outcome, or a sentence for the reader.
type Done<T = ()> = Result<T, String>;

/// What to measure.
#[derive(Parser)]
struct Options {
    /// Interleaved runs of each quick measurement
    #[arg(long, default_value_t = 200)]
    runs: u32,
    /// Where the results go
    #[arg(long)]
    docs: PathBuf,
    /// A directory with `bin/{dockerd,containerd,runc,docker,…}` instead of Debian's docker.io
    #[arg(long)]
    peer: Option<PathBuf>,
    /// Idle containers of the memory measurement
    #[arg(long, default_value_t = 100)]
    idle: usize,
    /// A further OCI runtime to measure beside Docker's; may be said several times
    #[arg(long = "runtime", value_name = "PATH[=NAME]")]
    runtimes: Vec<subject::Runtime>,
    /// Measure OCI runtimes alone; nothing is written
    #[arg(long)]
    runtimes_only: bool,
    /// Measure Docker alone
    #[arg(long)]
    peer_only: bool,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("bench: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Done {
    let place = tempfile::Builder::new()
        .prefix("tare-bench-")
        .tempdir()
        .map_err(|e| format!("cannot make a directory: {e}"))?;
    let bundle = work::bundle(place.path())?;
    let docker = docker::Docker::start(&place.path().join("docker"), options.peer.as_deref())?;
    let peer = docker.subject();
    let engine = if options.peer_only { None } else { Some(tare_kit::Engine::apart()) };
    let ours = engine.as_ref().map(subject::ours);
    let subjects: Vec<_> = ours.iter().chain([&peer]).collect();
    let floor = floor::Floor::start(place.path(), &bundle.join("rootfs"))?;
    let mut runtimes: Vec<_> = subjects.iter().map(|subject| subject.oci_runtime()).collect();
    runtimes.extend(options.runtimes.iter().cloned());
    let archive = work::bench_image().docker_archive();
    subjects.iter().try_for_each(|subject| subject.load(&archive))?;
    let filter = docker.filter(&peer)?;
    let (runs, idle) = (options.runs, options.idle);
    let mut bench =
        work::Bench { subjects: &subjects, runtimes: &runtimes, filter, floor, bundle, runs, idle };
    if options.runtimes_only {
        let measured = bench.oci().map(drop);
        return measured.and(docker.stop());
    }
    let rows = bench.all()?;
    let result =
        report::Result { key: docker.key(), peer: docker.description(), machine: machine::describe(), rows };
    docker.stop()?;
    publish::write(&options.docs, result)
}
