//! From the words on the command line to one command: global flags, names and aliases, help, version.

use crate::commands::{COMMANDS, Command};
use crate::context::{Context, print};
use crate::failure::{Failure, OWN_ERROR, Outcome};
use crate::flags::{self, Usage};
use crate::host;
use std::fmt::Write as _;

/// Groups of commands that may stand before a command's own name.
const GROUPS: &[(&str, &str)] = &[
    ("container", "Manage containers"),
    ("image", "Manage images"),
    ("network", "Manage networks"),
    ("network fault", "Let networks of containers go wrong on purpose"),
    ("system", "Manage tare"),
];

/// Commands that Docker has and tare has not, with why.
const LATER: &[(&str, &str)] = &[
    ("attest", "signing comes later"),
    ("build", "building images comes later; use `tare load` or `tare import`"),
    ("builder", "building images comes later"),
    ("buildx", "building images comes later"),
    ("checkpoint", "checkpoints come later"),
    ("commit", "making images from containers comes later"),
    ("compose", "compose comes later"),
    ("config", "there is no swarm"),
    ("context", "name the daemon with --host or TARE_HOST"),
    ("cp", "copying comes later; use `tare exec` with tar, or a bind mount"),
    ("diff", "it comes later"),
    ("export", "it comes later"),
    ("history", "it comes later"),
    ("login", "registries come later"),
    ("logout", "registries come later"),
    ("manifest", "registries come later"),
    ("node", "there is no swarm"),
    ("plugin", "there are no plugins"),
    ("prune", "it comes later; use rm and rmi"),
    ("df", "it comes later"),
    ("pull", "registries come later; use `tare load` or `tare import`"),
    ("push", "registries come later"),
    ("save", "it comes later"),
    ("search", "registries come later"),
    ("secret", "there is no swarm"),
    ("service", "there is no swarm"),
    ("stack", "there is no swarm"),
    ("swarm", "there is no swarm"),
    ("trust", "signing comes later"),
    ("volume", "named volumes come later; use a bind mount"),
];

/// Docker's global flags that are refused by name.
const LATER_GLOBALS: &[(&str, &str)] = &[
    ("config", "there is no client configuration"),
    ("context", "name the daemon with --host"),
    ("debug", "there is no client log"),
    ("log-level", "there is no client log"),
    ("tls", "the daemon listens on a unix socket"),
    ("tlscacert", "the daemon listens on a unix socket"),
    ("tlscert", "the daemon listens on a unix socket"),
    ("tlskey", "the daemon listens on a unix socket"),
    ("tlsverify", "the daemon listens on a unix socket"),
];

/// What stands before the command.
#[derive(Default)]
struct Globals {
    host: Option<String>,
    no_autostart: bool,
}

enum Start<'a> {
    Version,
    Help,
    Command(Globals, &'a [String]),
}

/// Runs one command line.
pub(crate) fn run(args: &[String]) -> Outcome {
    match globals(args)? {
        Start::Version => print(&format!("tare version {}\n", env!("CARGO_PKG_VERSION"))).map(|()| 0),
        Start::Help => print(&overview()).map(|()| 0),
        Start::Command(globals, words) => dispatch(globals, words),
    }
}

/// Splits off the flags before the command.
fn globals(args: &[String]) -> Result<Start<'_>, Failure> {
    let mut globals = Globals::default();
    let mut at = 0;
    while let Some(arg) = args.get(at).filter(|a| a.starts_with('-')) {
        at += 1;
        match arg.as_str() {
            "-v" | "--version" => return Ok(Start::Version),
            "-h" | "--help" => return Ok(Start::Help),
            "--no-autostart" => globals.no_autostart = true,
            "-H" | "--host" => {
                let value =
                    args.get(at).ok_or_else(|| global_error(format!("flag needs an argument: {arg}")))?;
                globals.host = Some(value.clone());
                at += 1;
            }
            other => match other.strip_prefix("--host=").or_else(|| other.strip_prefix("-H")) {
                Some(value) => globals.host = Some(value.trim_start_matches('=').to_owned()),
                None => return Err(unknown_global(other)),
            },
        }
    }
    if at == args.len() && globals.host.is_none() {
        return Ok(Start::Help);
    }
    Ok(Start::Command(globals, &args[at..]))
}

fn unknown_global(arg: &str) -> Failure {
    let Some(long) = arg.strip_prefix("--") else {
        let letter = arg.chars().nth(1).unwrap_or('-');
        let known = match letter {
            'D' => "debug",
            'c' => "context",
            'l' => "log-level",
            _ => return global_error(format!("unknown shorthand flag: '{letter}' in {arg}")),
        };
        return unknown_global(&format!("--{known}"));
    };
    let name = long.split('=').next().unwrap_or_default();
    match LATER_GLOBALS.iter().find(|(known, _)| *known == name) {
        Some((_, why)) => global_error(format!("--{name} is not supported: {why}")),
        None => global_error(format!("unknown flag: --{name}")),
    }
}

fn global_error(message: String) -> Failure {
    let usage = "Usage:  tare [OPTIONS] COMMAND [ARG...]\n\nRun 'tare --help' for more information";
    Failure::with_code(OWN_ERROR, format!("{message}\n\n{usage}"))
}

fn dispatch(globals: Globals, words: &[String]) -> Outcome {
    let Some(first) = words.first() else { return print(&overview()).map(|()| 0) };
    if first == "help" {
        return help_of(&words[1..]);
    }
    // A group within a group is named by more words.
    let is_meant = |name: &str| name.split(' ').eq(words.iter().take(name.split(' ').count()));
    let group = GROUPS.iter().filter(|(name, _)| is_meant(name)).max_by_key(|(name, _)| name.len());
    let used = 1 + group.map_or(0, |(name, _)| name.split(' ').count());
    if let Some((name, about)) = group
        && words.get(used - 1).is_none_or(|w| w == "--help" || w == "-h")
    {
        return print(&group_overview(name, about)).map(|()| 0);
    }
    let name = words[..used].join(" ");
    let command = find(&name).ok_or_else(|| unknown_command(&name))?;
    match flags::parse(&command.syntax, &drop_global(&words[used..], &command.syntax))? {
        Usage::Help => print(&flags::command_help(&command.syntax, command.names)).map(|()| 0),
        Usage::Run(given) => {
            let no_autostart = globals.no_autostart || asks_no_autostart(&words[used..], &command.syntax);
            let variable = |name: &str| std::env::var(name).ok();
            let (tare, docker) = (variable("TARE_HOST"), variable("DOCKER_HOST"));
            let endpoint = host::resolve(
                globals.host.as_deref(),
                tare.as_deref(),
                docker.as_deref(),
                host::default_socket,
            )?;
            (command.run)(&Context { endpoint, autostart: !no_autostart }, &given)
        }
    }
}

/// How many of `words` may hold flags of ours: for a command whose arguments are a program's, those before the first
/// argument cannot be told without parsing, so only the leading run of words that are just `--no-autostart`.
fn leading(words: &[String], syntax: &flags::Syntax) -> usize {
    let is_ours = |w: &&String| *w == "--no-autostart";
    if syntax.mixed {
        words.iter().position(|w| w == "--").unwrap_or(words.len())
    } else {
        words.iter().take_while(is_ours).count()
    }
}

fn asks_no_autostart(words: &[String], syntax: &flags::Syntax) -> bool {
    words[..leading(words, syntax)].iter().any(|w| w == "--no-autostart")
}

fn drop_global(words: &[String], syntax: &flags::Syntax) -> Vec<String> {
    let end = leading(words, syntax);
    words
        .iter()
        .enumerate()
        .filter(|(i, w)| *i >= end || *w != "--no-autostart")
        .map(|(_, w)| w.clone())
        .collect()
}

fn find(name: &str) -> Option<&'static Command> {
    COMMANDS.iter().find(|c| c.names.contains(&name))
}

fn unknown_command(name: &str) -> Failure {
    let last = name.rsplit(' ').next().unwrap_or(name);
    if let Some((_, why)) = LATER.iter().find(|(known, _)| *known == last) {
        return Failure::new(format!("tare: 'tare {name}' is not supported yet: {why}"));
    }
    let (group, usage) = match name.rsplit_once(' ') {
        Some((group, _)) => (format!("{group} "), format!("\n\nUsage:  tare {group} COMMAND")),
        None => (String::new(), String::new()),
    };
    Failure::new(format!(
        "tare: unknown command: tare {name}{usage}\n\nRun 'tare {group}--help' for more information"
    ))
}

fn help_of(words: &[String]) -> Outcome {
    if words.is_empty() {
        return print(&overview()).map(|()| 0);
    }
    let name = words.join(" ");
    if let Some((group, about)) = GROUPS.iter().find(|(g, _)| *g == name) {
        return print(&group_overview(group, about)).map(|()| 0);
    }
    let command = find(&name).ok_or_else(|| unknown_command(&name))?;
    print(&flags::command_help(&command.syntax, command.names)).map(|()| 0)
}

fn overview() -> String {
    let mut out = String::from(
        "Usage:  tare [OPTIONS] COMMAND\n\nA small, fast container engine\n\nManagement Commands:\n",
    );
    for (name, about) in GROUPS.iter().filter(|(name, _)| !name.contains(' ')) {
        let _ = writeln!(out, "  {name:<10}  {about}");
    }
    out.push_str("\nCommands:\n");
    let mut commands: Vec<&Command> = COMMANDS.iter().filter(|c| !c.names[0].contains(' ')).collect();
    commands.sort_by_key(|c| c.names[0]);
    for command in commands {
        let _ = writeln!(out, "  {:<10}  {}", command.names[0], command.syntax.about);
    }
    out.push_str(
        "\nGlobal Options:\n  -H, --host string    Daemon socket to connect to (unix:///PATH)\n      --no-autostart   Do not start \
         the daemon if it is not running\n  -v, --version        Print version information and quit\n\n\
         Run 'tare COMMAND --help' for more information on a command.\n",
    );
    out
}

fn group_overview(group: &str, about: &str) -> String {
    let mut out = format!("Usage:  tare {group} COMMAND\n\n{about}\n\nCommands:\n");
    let mut lines: Vec<(&str, &str)> = COMMANDS
        .iter()
        .filter_map(|c| {
            let own = c.names.iter().find_map(|n| n.strip_prefix(group)?.strip_prefix(' '))?;
            Some((own, c.syntax.about))
        })
        .collect();
    lines.sort_unstable();
    for (name, about) in lines {
        let _ = writeln!(out, "  {name:<10}  {about}");
    }
    let _ = write!(out, "\nRun 'tare {group} COMMAND --help' for more information on a command.\n");
    out
}

#[cfg(test)]
mod tests;
