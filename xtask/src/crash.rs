//! `cargo xtask crash`: the crash suite in full length.

use clap::Args;

use crate::shell::{self, Done};

/// How often to kill.
#[derive(Args)]
pub(crate) struct Options {
    /// SIGKILLs of the daemon
    #[arg(long, default_value_t = 300)]
    daemon: u32,
    /// SIGKILLs of the nursery
    #[arg(long, default_value_t = 50)]
    nursery: u32,
    /// Seed of the random moments; shown by every run, so that one can be repeated
    #[arg(long)]
    seed: Option<u64>,
}

/// Builds the programs and runs the suite with the given counts.
pub(crate) fn run(options: &Options) -> Done {
    shell::need_root("crash")?;
    shell::run(&mut shell::cargo(&["build", "--workspace", "--bins"]))?;
    let mut test = shell::cargo(&["test", "-p", "tare-crash", "--", "--nocapture"]);
    test.env("TARE_CRASH_DAEMON", options.daemon.to_string());
    test.env("TARE_CRASH_NURSERY", options.nursery.to_string());
    if let Some(seed) = options.seed {
        test.env("TARE_CRASH_SEED", seed.to_string());
    }
    shell::run(&mut test)
}
