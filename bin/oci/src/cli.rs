//! The command line: runc's flags, strictly. What is not offered yet is known by name and refused by it.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use tare_model::{Error, Result};
use tare_runtime::cgroup::{Below, systemd};

use crate::listen;

/// As callers of runc read it: the word, the number, and a line for the specification.
const VERSION: &str = concat!("version ", env!("CARGO_PKG_VERSION"), "\nspec: 1.3.0");

/// An OCI runtime.
#[derive(Debug, Parser)]
#[command(name = "tare-oci", version = VERSION, about, disable_help_subcommand = true)]
pub(crate) struct Cli {
    /// Where the state of containers is kept (a tmpfs): /run/tare-oci, for others than root $XDG_RUNTIME_DIR/tare-oci.
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Append messages to this file instead of standard error.
    #[arg(long, value_name = "FILE")]
    pub(crate) log: Option<PathBuf>,
    /// How messages are written.
    #[arg(long, value_enum, default_value = "text")]
    pub(crate) log_format: LogFormat,
    /// Also log what is being done.
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true")]
    pub(crate) debug: bool,
    /// Have systemd make the cgroups: linux.cgroupsPath is SLICE:PREFIX:NAME then.
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true")]
    pub(crate) systemd_cgroup: bool,
    /// Cgroups of a user without privileges: the user's systemd makes them, or they are below what is delegated to us.
    #[arg(long, value_enum, default_value = "auto")]
    rootless: Rootless,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// For whom cgroups are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Rootless {
    /// For a user, unless that is root.
    Auto,
    /// For a user.
    True,
    /// For root.
    False,
}

/// How messages are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// One line of key=value pairs.
    Text,
    /// One JSON object a line.
    Json,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create a container; its program waits for `start`.
    Create(Create),
    /// Create and start a container.
    Run(Run),
    /// Execute the program of a created container.
    Start(Id),
    /// Print the state of a container as JSON.
    State(Id),
    /// Send a signal to a container's first process.
    Kill(Kill),
    /// Remove what is held by a stopped container.
    Delete(Delete),
    /// List containers.
    List(List),
    /// Start a further process in a running container.
    Exec(Box<Exec>),
    /// Show the processes of a container.
    Ps(Ps),
    /// Freeze every process of a container.
    Pause(Id),
    /// Thaw a paused container.
    Resume(Id),
    /// Change the limits of a container.
    Update(Box<Update>),
    /// Print what a container uses, again and again, and when it runs out of memory.
    Events(Events),
    /// Print what this runtime can do, as JSON.
    Features,
    /// Write a specification to begin with.
    Spec(Spec),
    /// Write a running container to disk (not offered).
    Checkpoint(Anything),
    /// Start a container from what was written to disk (not offered).
    Restore(Anything),
}

/// Whatever was said.
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Anything {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    _words: Vec<String>,
}

/// One container.
#[derive(Debug, Args)]
pub(crate) struct Id {
    /// Its id.
    pub(crate) id: String,
}

/// Flags of `create`, and of `run`.
#[derive(Debug, Args)]
pub(crate) struct Create {
    /// Directory with config.json.
    #[arg(long, short, default_value = ".", value_name = "DIR")]
    pub(crate) bundle: PathBuf,
    /// Unix socket that gets the terminal's master.
    #[arg(long, value_name = "PATH")]
    pub(crate) console_socket: Option<PathBuf>,
    /// Unix socket that gets a descriptor of the process.
    #[arg(long, value_name = "PATH")]
    pub(crate) pidfd_socket: Option<PathBuf>,
    /// File that gets the process id.
    #[arg(long, value_name = "FILE")]
    pub(crate) pid_file: Option<PathBuf>,
    /// Pass this many descriptors after the three streams and those of LISTEN_FDS.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub(crate) preserve_fds: u32,
    /// Keep the caller's session keyring.
    #[arg(long)]
    pub(crate) no_new_keyring: bool,
    /// Do not pivot_root (refused).
    #[arg(long)]
    no_pivot: bool,
    /// The container's id.
    pub(crate) id: String,
}

/// Flags of `run`.
#[derive(Debug, Args)]
pub(crate) struct Run {
    #[command(flatten)]
    pub(crate) create: Create,
    /// Return when the program runs.
    #[arg(long, short)]
    pub(crate) detach: bool,
    /// Keep the state after the program has ended.
    #[arg(long)]
    pub(crate) keep: bool,
    /// Do not become the parent of the container's orphans, which this runtime never does.
    #[arg(long)]
    no_subreaper: bool,
}

/// Flags of `kill`.
#[derive(Debug, Args)]
pub(crate) struct Kill {
    /// Send it to every process of the container.
    #[arg(long, short)]
    pub(crate) all: bool,
    /// The container's id.
    pub(crate) id: String,
    /// Name or number.
    #[arg(default_value = "SIGTERM")]
    pub(crate) signal: String,
}

/// Flags of `delete`.
#[derive(Debug, Args)]
pub(crate) struct Delete {
    /// Kill it first if it runs; no error if it is not there.
    #[arg(long, short)]
    pub(crate) force: bool,
    /// The container's id.
    pub(crate) id: String,
}

/// Flags of `list`.
#[derive(Debug, Args)]
pub(crate) struct List {
    /// How.
    #[arg(long, short, value_enum, default_value = "table")]
    pub(crate) format: Format,
    /// Only ids.
    #[arg(long, short)]
    pub(crate) quiet: bool,
}

/// Form of a listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// Flags of `exec`.
#[derive(Debug, Args)]
pub(crate) struct Exec {
    /// Unix socket that gets the terminal's master.
    #[arg(long, value_name = "PATH")]
    pub(crate) console_socket: Option<PathBuf>,
    /// Unix socket that gets a descriptor of the process.
    #[arg(long, value_name = "PATH")]
    pub(crate) pidfd_socket: Option<PathBuf>,
    /// Working directory.
    #[arg(long, value_name = "DIR")]
    pub(crate) cwd: Option<String>,
    /// Set a variable.
    #[arg(long, short, value_name = "NAME=VALUE")]
    pub(crate) env: Vec<String>,
    /// Give it a terminal.
    #[arg(long, short)]
    pub(crate) tty: bool,
    /// User, and group, by name or number.
    #[arg(long, short, value_name = "USER[:GROUP]")]
    pub(crate) user: Option<String>,
    /// Further groups.
    #[arg(long, short = 'g', value_name = "GROUP")]
    pub(crate) additional_gids: Vec<String>,
    /// File with an OCI process object, instead of the flags above.
    #[arg(long, short, value_name = "FILE")]
    pub(crate) process: Option<PathBuf>,
    /// Return when the program runs.
    #[arg(long, short)]
    pub(crate) detach: bool,
    /// File that gets the process id.
    #[arg(long, value_name = "FILE")]
    pub(crate) pid_file: Option<PathBuf>,
    /// Set no_new_privs.
    #[arg(long)]
    pub(crate) no_new_privs: bool,
    /// Add a capability.
    #[arg(long, short, value_name = "CAP")]
    pub(crate) cap: Vec<String>,
    /// AppArmor profile.
    #[arg(long, value_name = "PROFILE")]
    pub(crate) apparmor: Option<String>,
    /// SELinux label.
    #[arg(long, value_name = "LABEL")]
    pub(crate) process_label: Option<String>,
    /// A group below the container's, which is there, to run it in.
    #[arg(long, value_name = "[CONTROLLER[,CONTROLLER]:]PATH")]
    pub(crate) cgroup: Vec<Below>,
    /// Pass this many descriptors after the three streams.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub(crate) preserve_fds: u32,
    /// Also in a paused container, where it will wait.
    #[arg(long)]
    pub(crate) ignore_paused: bool,
    /// The container's id.
    pub(crate) id: String,
    /// Program and arguments.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) command: Vec<String>,
}

/// Flags of `ps`.
#[derive(Debug, Args)]
pub(crate) struct Ps {
    /// How.
    #[arg(long, short, value_enum, default_value = "table")]
    pub(crate) format: Format,
    /// The container's id.
    pub(crate) id: String,
    /// Options for ps(1).
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) options: Vec<String>,
}

/// Flags of `spec`.
#[derive(Debug, Args)]
pub(crate) struct Spec {
    /// Directory to write config.json to.
    #[arg(long, short, default_value = ".", value_name = "DIR")]
    pub(crate) bundle: PathBuf,
    /// For a user without privileges.
    #[arg(long)]
    pub(crate) rootless: bool,
}

/// Flags of `events`.
#[derive(Debug, Args)]
pub(crate) struct Events {
    /// How often to look.
    #[arg(long, default_value = "5s", value_name = "DURATION", value_parser = crate::quantity::duration)]
    pub(crate) interval: std::time::Duration,
    /// Print the figures once, then exit.
    #[arg(long)]
    pub(crate) stats: bool,
    /// The container's id.
    pub(crate) id: String,
}

/// Flags of `update`.
#[derive(Debug, Args)]
pub(crate) struct Update {
    /// File with an OCI resources object, or - for standard input, instead of the flags below.
    #[arg(long, short, value_name = "FILE")]
    pub(crate) resources: Option<PathBuf>,
    /// Weight of block I/O.
    #[arg(long, value_name = "10-1000")]
    pub(crate) blkio_weight: Option<u16>,
    /// Period of the CPU limit in microseconds.
    #[arg(long, value_name = "US")]
    pub(crate) cpu_period: Option<u64>,
    /// Time in each period in microseconds.
    #[arg(long, value_name = "US", allow_negative_numbers = true)]
    pub(crate) cpu_quota: Option<i64>,
    /// Time that may be saved up in microseconds.
    #[arg(long, value_name = "US")]
    pub(crate) cpu_burst: Option<u64>,
    /// Share of the CPU beside others.
    #[arg(long, value_name = "N")]
    pub(crate) cpu_share: Option<u64>,
    /// Period of the real-time limit in microseconds.
    #[arg(long, value_name = "US")]
    pub(crate) cpu_rt_period: Option<u64>,
    /// Real time in each period in microseconds.
    #[arg(long, value_name = "US", allow_negative_numbers = true)]
    pub(crate) cpu_rt_runtime: Option<i64>,
    /// Only when nobody else wants the CPU.
    #[arg(long, value_name = "0|1", allow_negative_numbers = true)]
    pub(crate) cpu_idle: Option<i64>,
    /// Processors to use.
    #[arg(long, value_name = "LIST")]
    pub(crate) cpuset_cpus: Option<String>,
    /// Memory nodes to use.
    #[arg(long, value_name = "LIST")]
    pub(crate) cpuset_mems: Option<String>,
    /// Without effect; kernels no longer have it.
    #[arg(long, hide = true, value_name = "BYTES", allow_hyphen_values = true, value_parser = crate::quantity::bytes)]
    pub(crate) kernel_memory: Option<i64>,
    /// Without effect; kernels no longer have it.
    #[arg(long, hide = true, value_name = "BYTES", allow_hyphen_values = true, value_parser = crate::quantity::bytes)]
    pub(crate) kernel_memory_tcp: Option<i64>,
    /// Memory.
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true, value_parser = crate::quantity::bytes)]
    pub(crate) memory: Option<i64>,
    /// Memory that is left to it under pressure.
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true, value_parser = crate::quantity::bytes)]
    pub(crate) memory_reservation: Option<i64>,
    /// Memory and swap together; -1: no limit.
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true, value_parser = crate::quantity::bytes)]
    pub(crate) memory_swap: Option<i64>,
    /// Processes and threads.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(crate) pids_limit: Option<i64>,
    /// Intel RDT: share of the cache.
    #[arg(long, value_name = "SCHEMA")]
    pub(crate) l3_cache_schema: Option<String>,
    /// Intel RDT: share of the memory's bandwidth.
    #[arg(long, value_name = "SCHEMA")]
    pub(crate) mem_bw_schema: Option<String>,
    /// The container's id.
    pub(crate) id: String,
}

// === impl Cli ===

impl Cli {
    /// Whether it is for a user without privileges.
    pub(crate) fn is_rootless(&self) -> bool {
        match self.rootless {
            Rootless::Auto if self.systemd_cgroup => systemd::is_of_user(),
            Rootless::Auto => !rustix::process::geteuid().is_root(),
            said => said == Rootless::True,
        }
    }

    /// Where states are kept.
    pub(crate) fn root(&self) -> PathBuf {
        let own = || {
            let run = std::env::var_os("XDG_RUNTIME_DIR").filter(|_| !rustix::process::geteuid().is_root());
            run.map_or_else(|| PathBuf::from("/run"), PathBuf::from).join("tare-oci")
        };
        self.root.clone().unwrap_or_else(own)
    }

    /// Refuses, by name, what runc has and this does not yet.
    pub(crate) fn refuse_what_is_not_offered(&self) -> Result<()> {
        let no_pivot = match &self.command {
            Command::Create(create) => create.no_pivot,
            Command::Run(run) => run.create.no_pivot,
            _ => false,
        };
        let frozen = matches!(&self.command, Command::Checkpoint(_) | Command::Restore(_));
        for (asked, what) in [
            (frozen, "checkpoint and restore: not offered, this runtime does not use CRIU"),
            (
                no_pivot,
                "--no-pivot: refused, the host's files would stay in reach; use a root that pivot_root takes",
            ),
        ] {
            if asked {
                return Err(Error::unsupported(what));
            }
        }
        Ok(())
    }
}

impl Command {
    /// How many descriptors after the three streams the program in the container inherits; they must be there.
    pub(crate) fn preserved(&self) -> u32 {
        match self {
            Self::Create(create) | Self::Run(Run { create, .. }) => create.preserve_fds + listen::passed(),
            Self::Exec(exec) => exec.preserve_fds,
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_in_the_form_that_docker_reads() {
        let error = Cli::try_parse_from(["tare-oci", "--version"]).unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with("tare-oci version 0.") && text.contains("\nspec: 1."), "{text}");
        assert!(text.contains(crate::spec::VERSION));
    }

    #[test]
    fn the_surface_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn the_way_containerd_calls_it_is_understood() {
        let line = "tare-oci --root /r --log /l --log-format json create --bundle /b --pid-file /p --console-socket /c abc";
        let cli = Cli::try_parse_from(line.split(' ')).unwrap();
        assert!(matches!(&cli.command, Command::Create(create) if create.id == "abc"));
        assert_eq!(cli.log_format, LogFormat::Json);
        let line = "tare-oci exec --process /p.json --detach --pid-file /p abc";
        let cli = Cli::try_parse_from(line.split(' ')).unwrap();
        assert!(matches!(&cli.command, Command::Exec(exec) if exec.detach && exec.id == "abc"));
    }

    #[test]
    fn the_way_docker_and_go_runc_call_it_is_understood() {
        for line in [
            "tare-oci --root /r --log /l --log-format json --systemd-cgroup=false --debug kill --all abc 9",
            "tare-oci --rootless=false delete --force abc",
            "tare-oci events --stats abc",
            "tare-oci events --interval=1m30s abc",
            "tare-oci update --resources=- abc",
            "tare-oci update --memory 64m --memory-swap -1 --pids-limit -1 --cpu-quota -1 abc",
            "tare-oci ps --format json abc",
            "tare-oci run -d --pidfd-socket /s --no-subreaper --keep abc",
            "tare-oci exec -e A=1 --env B=2 -u 1:2 -g 3 --apparmor p --process-label l --pidfd-socket /s abc id",
            "tare-oci features",
            "tare-oci --systemd-cgroup --rootless auto run abc",
            "tare-oci --rootless=true --systemd-cgroup=true list",
            "tare-oci exec --cgroup cpu,memory:sub --cgroup sub/sub abc sh",
        ] {
            Cli::try_parse_from(line.split(' ')).unwrap().refuse_what_is_not_offered().unwrap();
        }
    }

    #[test]
    fn an_execs_command_keeps_its_own_flags() {
        let cli = Cli::try_parse_from(["tare-oci", "exec", "-t", "abc", "ls", "-la", "--all"]).unwrap();
        let Command::Exec(exec) = cli.command else { panic!("exec") };
        assert_eq!(exec.command, ["ls", "-la", "--all"]);
    }

    #[test]
    fn words_that_mean_nothing_are_refused_where_they_stand() {
        for line in ["tare-oci --rootless maybe list", "tare-oci exec --cgroup ../up x sh"] {
            let error = Cli::try_parse_from(line.split(' ')).unwrap_err().to_string();
            assert!(error.contains("--rootless") || error.contains("--cgroup"), "{error}");
        }
    }

    #[test]
    fn what_is_not_offered_is_refused_by_name() {
        for (line, word) in [
            ("tare-oci create --no-pivot x", "--no-pivot"),
            ("tare-oci checkpoint --image-path /i x", "checkpoint"),
            ("tare-oci restore x", "restore"),
        ] {
            let error =
                Cli::try_parse_from(line.split(' ')).unwrap().refuse_what_is_not_offered().unwrap_err();
            assert!(error.message().contains(word), "{error}");
        }
    }
}
