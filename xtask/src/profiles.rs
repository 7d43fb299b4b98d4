//! `cargo xtask profiles`: builds the programs and hands over to `tests/profiles`.

use clap::Args;

use crate::shell::{self, Done};

/// What to run.
#[derive(Args)]
pub(crate) struct Options {
    /// Only this job, for looking closer; writes nothing
    #[arg(long)]
    only: Option<String>,
}

/// Runs one real job of each common kind of image under each security profile; writes `docs/profiles.md`.
pub(crate) fn run(options: &Options) -> Done {
    shell::need_root("profiles")?;
    shell::run(&mut shell::cargo(&["build", "--workspace", "--bins"]))?;
    let mut profiles =
        shell::command(&shell::programs("debug")?.join("tare-profiles").to_string_lossy(), &[]);
    profiles.arg("--docs").arg(shell::top().join("docs"));
    if let Some(only) = &options.only {
        profiles.arg("--only").arg(only);
    }
    shell::run(&mut profiles)
}
