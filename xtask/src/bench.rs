//! `cargo xtask bench`: builds the programs as they are shipped and hands over to `tests/bench`.

use std::path::PathBuf;

use clap::Args;

use crate::shell::{self, Done};

/// What to measure against, and how often.
#[derive(Args)]
pub(crate) struct Options {
    /// A directory with `bin/{dockerd,containerd,runc,docker,…}` to measure instead of Debian's docker.io
    #[arg(long)]
    peer: Option<PathBuf>,
    /// A further OCI runtime to measure `run` beside; may be said several times
    #[arg(long = "runtime", value_name = "PATH[=NAME]")]
    runtimes: Vec<String>,
    /// Rows to measure: command-line, bridged, phases, exec, oci, memory, logs, throughput, connections, ports, names; all of
    /// them if none is named
    rows: Vec<String>,
    /// Interleaved runs of each quick measurement
    #[arg(long, default_value_t = 200)]
    runs: u32,
    /// Interleaved rounds of traffic, some seconds each
    #[arg(long, default_value_t = 5)]
    rounds: u32,
}

/// Builds release programs and runs the benchmark, which writes into `docs/`.
pub(crate) fn run(options: &Options) -> Done {
    shell::need_root("bench")?;
    shell::run(&mut shell::cargo(&["build", "--release", "--workspace", "--bins"]))?;
    let mut bench = shell::command(&shell::programs("release")?.join("tare-bench").to_string_lossy(), &[]);
    bench.arg("--docs").arg(shell::top().join("docs")).arg("--runs").arg(options.runs.to_string());
    bench.arg("--rounds").arg(options.rounds.to_string());
    if let Some(peer) = &options.peer {
        bench.arg("--peer").arg(peer);
    }
    for runtime in &options.runtimes {
        bench.arg("--runtime").arg(runtime);
    }
    bench.args(&options.rows);
    shell::run(&mut bench)
}
