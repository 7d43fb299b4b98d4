//! `cargo xtask guest -- CMD`: a machine that we do not have. Boots a Debian kernel under QEMU with cgroup v2 alone and
//! AppArmor on, our programs and test images inside, runs a command and ends with its exit code.
//!
//! ```text
//!   packages ─▶ kernel ─┬▶ vmlinux, initramfs ─┐
//!            │          └▶ vdb: its modules    ├─▶ qemu ─▶ job ─▶ output, exit code
//!            └▶ disk ────▶ vda: Debian root    │
//!   built programs ──────▶ vdc: /guest         │
//!   CMD ─────────────────▶ vdd: a script       ┘
//! ```
//!
//! What takes long is made once and kept under `target/guest` ([`cache`]); what a run writes goes with the run.
//! Read `docs/guest.md` for how to use it, then [`stage`] for what the test run does in it.

mod cache;
mod disk;
mod initramfs;
mod job;
mod kernel;
mod packages;
mod programs;
mod qemu;
pub(crate) mod stage;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::shell::{self, Done};

/// What machine, and what to run on it.
#[derive(Args)]
pub(crate) struct Options {
    /// Series of the kernel
    #[arg(long, value_enum, default_value = "6.1")]
    kernel: Kernel,
    /// SELinux in place of AppArmor (permissive, without a policy)
    #[arg(long)]
    selinux: bool,
    /// systemd as the first process
    #[arg(long)]
    systemd: bool,
    /// Run the command as this user, who is made if need be, in a cgroup of the user's own
    #[arg(long, value_parser = user_name)]
    user: Option<String>,
    /// Memory of the machine, as QEMU takes it
    #[arg(long, default_value = "2G", value_parser = memory)]
    memory: String,
    /// Seconds after which the machine is killed
    #[arg(long, default_value_t = 120)]
    timeout: u64,
    /// A file or directory of this machine that is wanted inside, as /guest/files/NAME
    #[arg(long, value_name = "PATH")]
    with: Vec<PathBuf>,
    /// In place of a command: the guest's part of `cargo xtask test`, or those of its boots whose names have WORDS
    #[arg(long, value_name = "WORDS", num_args = 0..=1, default_missing_value = "", conflicts_with = "command")]
    stage: Option<String>,
    /// The command and its arguments
    #[arg(required_unless_present = "stage", last = true)]
    command: Vec<String>,
}

/// The series that Debian 12 has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kernel {
    /// Debian 12's own.
    #[value(name = "6.1")]
    V6_1,
    /// That of its backports, which is Debian 13's.
    #[value(name = "6.12")]
    V6_12,
}

/// The first process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Init {
    /// A script of ours: boots in a third of the time.
    Plain,
    Systemd,
}

/// The security module that is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lsm {
    AppArmor,
    SeLinux,
}

/// A machine to boot.
#[derive(Clone, Debug)]
struct Machine {
    kernel: Kernel,
    init: Init,
    lsm: Lsm,
    user: Option<String>,
    memory: String,
    timeout: Duration,
}

/// Runs the command and gives its exit code.
pub(crate) fn run(options: &Options) -> Done<ExitCode> {
    shell::need_root("guest")?;
    shell::run_to_stderr(&mut shell::cargo(&["build", "--quiet", "--workspace", "--bins"]))?;
    if let Some(words) = &options.stage {
        let sound = stage::run(words, &mut |line| println!("{line}"))?;
        return Ok(if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    let machine = Machine::from(options);
    let scratch = cache::Scratch::new()?;
    let programs = programs::disk(scratch.path(), &[], &options.with)?;
    let boot = Boot { machine: &machine, programs, scratch: scratch.path().into() };
    let mut stdout = std::io::stdout();
    let code = boot.run(&job::script(&options.command), &mut |bytes| {
        let _ = stdout.write_all(bytes).and_then(|()| stdout.flush());
    })?;
    Ok(ExitCode::from(code))
}

/// One boot of a machine.
struct Boot<'a> {
    machine: &'a Machine,
    /// The disk with our programs.
    programs: PathBuf,
    scratch: PathBuf,
}

// === impl Boot ===

impl Boot<'_> {
    /// Runs a shell script in the machine, hands what it writes to `say` and returns its exit code.
    fn run(&self, script: &str, say: &mut dyn FnMut(&[u8])) -> Done<u8> {
        let kernel = kernel::parts(self.machine.kernel)?;
        let root = disk::root()?;
        let initramfs = self.scratch.join("initramfs");
        initramfs::pack(&initramfs, &kernel)?;
        let job = self.scratch.join("job");
        job::write(script, &job)?;
        let blank = disk::blank(&self.scratch.join("blank"))?;
        let files = qemu::Files {
            kernel: kernel.image,
            initramfs,
            disks: vec![root, kernel.disk, self.programs.clone(), job],
            blank,
            scratch: self.scratch.clone(),
        };
        qemu::boot(self.machine, &files, say)
    }
}

// === impl Machine ===

impl From<&Options> for Machine {
    fn from(options: &Options) -> Machine {
        Machine {
            kernel: options.kernel,
            init: if options.systemd { Init::Systemd } else { Init::Plain },
            lsm: if options.selinux { Lsm::SeLinux } else { Lsm::AppArmor },
            user: options.user.clone(),
            memory: options.memory.clone(),
            timeout: Duration::from_secs(options.timeout),
        }
    }
}

// === impl Kernel ===

impl Kernel {
    /// As it is asked for and as its version begins.
    fn series(self) -> &'static str {
        match self {
            Kernel::V6_1 => "6.1",
            Kernel::V6_12 => "6.12",
        }
    }
}

/// Names travel on the kernel's command line, and Debian's `useradd` takes no others.
fn user_name(name: &str) -> Result<String, String> {
    let rest = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
    let sound = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_') && name.chars().all(rest);
    if sound {
        Ok(name.into())
    } else {
        Err("is no name of a user: lower case letters, digits, `_`, `-`".into())
    }
}

/// A size that cannot be taken for another of QEMU's settings.
fn memory(size: &str) -> Result<String, String> {
    let number = size.trim_end_matches(['M', 'G']);
    let sound = number.parse::<u32>().is_ok() && size.len() - number.len() <= 1;
    if sound { Ok(size.into()) } else { Err("is no size such as 512M or 2G".into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_mean_something_else_to_kernel_or_qemu_is_refused() {
        assert_eq!(user_name("tester").unwrap(), "tester");
        for bad in ["", "root panic=1", "Ann", "-x", "a'b"] {
            user_name(bad).unwrap_err();
        }
        assert_eq!(memory("512M").unwrap(), "512M");
        for bad in ["", "G", "2G,slots=2", "2GM", "-1"] {
            memory(bad).unwrap_err();
        }
    }
}
