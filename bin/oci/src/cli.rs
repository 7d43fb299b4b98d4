//! The command line: runc's flags, strictly. What is not offered yet is known by name and refused by it.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use tare_model::{Error, Result};

/// An OCI runtime.
#[derive(Debug, Parser)]
#[command(name = "tare-oci", version, about, disable_help_subcommand = true)]
pub(crate) struct Cli {
    /// Where the state of containers is kept (a tmpfs).
    #[arg(long, default_value = "/run/tare-oci", value_name = "DIR")]
    pub(crate) root: PathBuf,
    /// Append messages to this file instead of standard error.
    #[arg(long, value_name = "FILE")]
    pub(crate) log: Option<PathBuf>,
    /// How messages are written.
    #[arg(long, value_enum, default_value = "text")]
    pub(crate) log_format: LogFormat,
    /// Also log what is being done.
    #[arg(long)]
    pub(crate) debug: bool,
    /// Manage cgroups through systemd (not supported yet).
    #[arg(long)]
    systemd_cgroup: bool,
    /// Run without root (not supported yet; `auto` and `false` are accepted).
    #[arg(long, default_value = "auto", value_name = "auto|true|false")]
    rootless: String,
    #[command(subcommand)]
    pub(crate) command: Command,
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
    Exec(Exec),
    /// Show the processes of a container.
    Ps(Ps),
    /// Freeze every process of a container.
    Pause(Id),
    /// Thaw a paused container.
    Resume(Id),
    /// Write a specification to begin with.
    Spec(Spec),
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
    /// File that gets the process id.
    #[arg(long, value_name = "FILE")]
    pub(crate) pid_file: Option<PathBuf>,
    /// Pass this many descriptors after the three streams.
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
}

// === impl Cli ===

impl Cli {
    /// Refuses, by name, what runc has and this does not yet.
    pub(crate) fn refuse_what_is_not_offered(&self) -> Result<()> {
        let no_pivot = match &self.command {
            Command::Create(create) => create.no_pivot,
            Command::Run(run) => run.create.no_pivot,
            _ => false,
        };
        for (asked, what) in [
            (self.systemd_cgroup, "--systemd-cgroup: not supported yet"),
            (!matches!(self.rootless.as_str(), "auto" | "false"), "--rootless: not supported yet"),
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
    /// Whether this program's process comes to be inside a container.
    pub(crate) fn enters_containers(&self) -> bool {
        matches!(self, Self::Create(_) | Self::Run(_) | Self::Exec(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert!(Cli::try_parse_from(line.split(' ')).unwrap().command.enters_containers());
    }

    #[test]
    fn an_execs_command_keeps_its_own_flags() {
        let cli = Cli::try_parse_from(["tare-oci", "exec", "-t", "abc", "ls", "-la", "--all"]).unwrap();
        let Command::Exec(exec) = cli.command else { panic!("exec") };
        assert_eq!(exec.command, ["ls", "-la", "--all"]);
    }

    #[test]
    fn what_is_not_offered_is_refused_by_name() {
        for (line, word) in [
            ("tare-oci --systemd-cgroup list", "--systemd-cgroup"),
            ("tare-oci --rootless true list", "--rootless"),
            ("tare-oci create --no-pivot x", "--no-pivot"),
        ] {
            let error =
                Cli::try_parse_from(line.split(' ')).unwrap().refuse_what_is_not_offered().unwrap_err();
            assert!(error.message().contains(word), "{error}");
        }
    }
}
