//! What each security profile breaks: images made from Debian packages, one real job of each, run under every profile.
//! Writes `docs/profiles.md`; fails if a job does anything but what [`jobs`] expects of it.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a tool: standard output is for its reader")]

mod jobs;
mod page;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use tare_kit::{Engine, debs};

use jobs::{IMAGES, Image, JOBS, Job, PROFILES};

/// Where to write, and what to run.
#[derive(Parser)]
struct Options {
    /// The directory of `profiles.md`
    #[arg(long)]
    docs: PathBuf,
    /// Only this job; nothing is written
    #[arg(long)]
    only: Option<String>,
}

/// How long one job may take; cron waits for the next minute.
const PATIENCE: Duration = Duration::from_secs(150);
/// How long an image may take to import.
const IMPORT: Duration = Duration::from_secs(300);

/// How one job went under one profile.
pub(crate) struct Outcome {
    works: bool,
    /// The last line it wrote, for people.
    said: String,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let wanted = |job: &&Job| options.only.as_ref().is_none_or(|only| only == job.name);
    let jobs: Vec<&Job> = JOBS.iter().filter(wanted).collect();
    let engine = Engine::empty();
    for image in IMAGES.iter().filter(|image| jobs.iter().any(|job| job.image == image.name)) {
        import(&engine, image);
    }
    let rows: Vec<(&Job, Vec<Outcome>)> = jobs
        .into_iter()
        .map(|job| (job, PROFILES.iter().map(|profile| run(&engine, job, profile)).collect()))
        .collect();
    let surprises: Vec<String> = rows.iter().flat_map(|(job, outcomes)| surprises(job, outcomes)).collect();
    if options.only.is_none() {
        let path = options.docs.join("profiles.md");
        if let Err(e) = std::fs::write(&path, page::page(&rows)) {
            eprintln!("cannot write {}: {e}", path.display());
            return ExitCode::FAILURE;
        }
    }
    for surprise in &surprises {
        eprintln!("{surprise}");
    }
    if surprises.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn import(engine: &Engine, image: &Image) {
    let archive = debs::debian(&format!("profiles-{}", image.name), image.packages);
    let name = format!("{}:1", image.name);
    engine.tare(["import".as_ref(), archive.as_os_str(), name.as_ref()]).limit(IMPORT).ok();
}

fn run(engine: &Engine, job: &Job, profile: &str) -> Outcome {
    let option = format!("profile={profile}");
    let image = format!("{}:1", job.image);
    let script = format!("set -e; {}", job.script);
    let flags = ["run", "--rm", "--network", "none", "--security-opt", &option];
    let command = [image.as_str(), "sh", "-c", &script];
    let done = engine.tare(flags.iter().chain(&command).copied()).limit(PATIENCE).run();
    let works = done.code == 0 && done.out().lines().any(|line| line.trim() == "42");
    let all = format!("{}\n{}", done.out(), done.err());
    let said = all.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default().trim().to_owned();
    println!("{:<12} {profile:<8} {}", job.name, if works { "works" } else { &said });
    if !works && std::env::var_os("TARE_PROFILES_VERBOSE").is_some() {
        println!("{all}");
    }
    Outcome { works, said }
}

/// What went otherwise than expected.
fn surprises(job: &Job, outcomes: &[Outcome]) -> Vec<String> {
    let pairs = PROFILES.iter().zip(outcomes);
    let odd = pairs.filter(|(profile, outcome)| outcome.works == job.broken_by.contains(profile));
    odd.map(|(profile, outcome)| {
        let how = if outcome.works { "works" } else { "does not work" };
        format!("{} under profile={profile} {how}, which was not expected: {}", job.name, outcome.said)
    })
    .collect()
}
