//! The benchmark. Starts our engine and Docker side by side, each with its own socket and directories, measures them
//! in turn (floor, tare, Docker, floor, tare, …), and writes `bench.md` and `bench.svg`.
//!
//! * [`subject`]  an engine under measurement: ours, or a Docker
//! * [`docker`]   a Docker of our own: dockerd in a network namespace of its own, nothing of the machine touched
//! * [`floor`]    the kernel alone (`floor.c`)
//! * [`work`]     what is measured of starts, memory and logs; [`traffic`], [`names`]  of networks, with [`tools`] and [`around`]
//! * [`stats`]    medians and 99th percentiles
//! * [`report`], [`svg`], [`machine`]  what is written; [`publish`]  where

#![allow(clippy::print_stdout, reason = "a tool: standard output is for its reader")]

mod around;
mod docker;
mod floor;
mod machine;
mod names;
mod publish;
mod report;
mod stats;
mod subject;
mod svg;
mod tools;
mod traffic;
mod work;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, ValueEnum};

/// An outcome, or a sentence for the reader.
type Done<T = ()> = Result<T, String>;

/// What to measure.
#[derive(Parser)]
struct Options {
    /// What to measure; all of it if nothing is named
    #[arg(value_enum)]
    what: Vec<What>,
    /// Interleaved runs of each quick measurement
    #[arg(long, default_value_t = 200)]
    runs: u32,
    /// Interleaved rounds of traffic, some seconds each
    #[arg(long, default_value_t = 5)]
    rounds: u32,
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
    /// Measure Docker alone
    #[arg(long)]
    peer_only: bool,
}

/// A group of rows.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    /// `run` without a network
    CommandLine,
    /// `run` on the default bridge
    Bridged,
    /// Create, start, wait, remove by the API
    Phases,
    /// `exec`
    Exec,
    /// OCI runtimes
    Oci,
    /// Memory of idle containers
    Memory,
    /// The default log
    Logs,
    /// Bytes between containers and through published ports
    Throughput,
    /// Connections through a published port
    Connections,
    /// A thousand published ports beside one
    Ports,
    /// Questions about names
    Names,
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
    let mut docker = docker::Docker::start(&place.path().join("docker"), options.peer.as_deref())?;
    let measured = measure(options, place.path(), bundle, &docker);
    docker.stop()?;
    publish::write(&options.docs, measured?, options.what.is_empty())
}

fn measure(
    options: &Options,
    place: &Path,
    bundle: PathBuf,
    docker: &docker::Docker,
) -> Done<report::Result> {
    let peer = docker.subject();
    let engine = if options.peer_only { None } else { Some(tare_kit::Engine::apart()) };
    let ours = engine.as_ref().map(subject::ours);
    let subjects: Vec<_> = ours.iter().chain([&peer]).collect();
    let floor = floor::Floor::start(place, &bundle.join("rootfs"))?;
    let mut runtimes: Vec<_> = subjects.iter().map(|subject| subject.oci_runtime()).collect();
    runtimes.extend(options.runtimes.iter().cloned());
    let tools = tools::Tools::unpacked();
    for image in [work::bench_image(), tools.image()?] {
        let archive = image.docker_archive();
        subjects.iter().try_for_each(|subject| subject.load(&archive))?;
    }
    let mut bench = work::Bench {
        subjects: &subjects,
        runtimes: &runtimes,
        filter: docker.filter(&peer)?,
        floor,
        bundle,
        runs: options.runs,
        rounds: options.rounds,
        idle: options.idle,
        place,
        tools: &tools,
        around: around::Around::default(),
    };
    let all = What::value_variants();
    let asked = if options.what.is_empty() { all } else { &options.what };
    let mut rows = Vec::new();
    for what in asked {
        rows.extend(bench.measure(*what)?);
    }
    Ok(report::Result { key: docker.key(), peer: docker.description(), machine: machine::describe(), rows })
}
