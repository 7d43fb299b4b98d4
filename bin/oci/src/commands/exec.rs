//! Further processes in a running container.

use std::fs;

use oci_spec::runtime::{Capabilities, Capability, Process};
use serde_json::json;
use tare_model::sandbox::{ExecSpec, Identity, SandboxSpec};
use tare_model::{Error, Result};

use super::{Context, block_signals};
use crate::cli::Exec;
use crate::foreground;
use crate::state::{Directory, Status, failed};
use crate::streams::Asked;

pub(crate) fn exec(context: &Context<'_>, args: &Exec) -> Result<u8> {
    let directory = Directory::of(context.root, &args.id)?;
    let mut state = directory.read()?;
    match state.status(&directory)? {
        Status::Running | Status::Created => {}
        Status::Paused if args.ignore_paused => {}
        Status::Paused => {
            return Err(Error::conflict(
                "cannot exec in a paused container (use --ignore-paused to override)",
            ));
        }
        Status::Stopped => return Err(Error::conflict("cannot exec in a stopped container")),
    }
    let (exec, terminal) = further(&mut state.spec, args)?;
    let asked = Asked {
        console_socket: args.console_socket.as_deref(),
        pidfd_socket: args.pidfd_socket.as_deref(),
        pid_file: args.pid_file.as_deref(),
        detached: args.detach,
    };
    let (stdio, listeners) = asked.open(terminal, state.spec.oci.process().as_ref())?;
    let signals = if args.detach { None } else { Some(block_signals()?) };
    let container = state.open()?;
    let launched = container.exec_with(&exec, stdio, args.preserve_fds, &args.cgroup)?;
    listeners.tell(&launched)?;
    match signals {
        Some(signals) => foreground::wait(&signals, &launched, None),
        None => Ok(0),
    }
}

/// What to execute. Rights and limits come from the specification, whose process is changed as the flags say.
fn further(spec: &mut SandboxSpec, args: &Exec) -> Result<(ExecSpec, bool)> {
    let (process, identity) = match &args.process {
        Some(path) => {
            let text = fs::read(path).map_err(|error| failed("read", path, &error))?;
            let read = serde_json::from_slice(&text);
            (read.map_err(|error| Error::invalid(format!("{}: {error}", path.display())))?, None)
        }
        None => {
            let own = spec.oci.process().clone().ok_or_else(|| Error::invalid("process: missing"))?;
            changed(own, args)?
        }
    };
    let process: Process = process;
    let exec = ExecSpec {
        args: process.args().clone().unwrap_or_default(),
        env: process.env().clone().unwrap_or_default(),
        cwd: Some(process.cwd().to_string_lossy().into_owned()),
        identity,
        privileged: false,
    };
    let terminal = process.terminal().unwrap_or(false);
    spec.oci.set_process(Some(process));
    Ok((exec, terminal))
}

/// The container's process as the flags change it, and a user if it is given by name.
fn changed(mut process: Process, args: &Exec) -> Result<(Process, Option<Identity>)> {
    if args.command.is_empty() {
        return Err(Error::invalid("exec args cannot be empty"));
    }
    process.set_args(Some(args.command.clone())).set_terminal(Some(args.tty));
    process.set_env(Some(merged(process.env().clone().unwrap_or_default(), &args.env)));
    if let Some(cwd) = &args.cwd {
        process.set_cwd(cwd.into());
    }
    if args.no_new_privs {
        process.set_no_new_privileges(Some(true));
    }
    if let Some(profile) = &args.apparmor {
        process.set_apparmor_profile(Some(profile.clone()));
    }
    if let Some(label) = &args.process_label {
        process.set_selinux_label(Some(label.clone()));
    }
    add_capabilities(&mut process, &args.cap)?;
    let identity = change_user(&mut process, args);
    Ok((process, identity))
}

/// Variables given later win over earlier ones of the same name.
fn merged(mut env: Vec<String>, more: &[String]) -> Vec<String> {
    for entry in more {
        let name = entry.split('=').next().unwrap_or_default();
        env.retain(|other| other.split('=').next() != Some(name));
        env.push(entry.clone());
    }
    env
}

/// Numbers change the process's own; names have to be looked up in the container.
fn change_user(process: &mut Process, args: &Exec) -> Option<Identity> {
    let number = |text: &str| text.parse::<u32>().ok().filter(|_| !text.starts_with('+'));
    let groups: Option<Vec<u32>> = args.additional_gids.iter().map(|text| number(text)).collect();
    let ids = match args.user.as_deref().map(|text| text.split_once(':').unwrap_or((text, ""))) {
        None => Some((process.user().uid(), process.user().gid())),
        Some((user, "")) => number(user).map(|uid| (uid, process.user().gid())),
        Some((user, group)) => number(user).zip(number(group)),
    };
    let (Some(groups), Some((uid, gid))) = (groups, ids) else {
        let own = || format!("{}:{}", process.user().uid(), process.user().gid());
        let user = args.user.clone().unwrap_or_else(own);
        return Some(Identity { user, groups: args.additional_gids.clone() });
    };
    let mut all = process.user().additional_gids().clone().unwrap_or_default();
    all.extend(groups);
    let mut user = process.user().clone();
    user.set_uid(uid).set_gid(gid).set_additional_gids((!all.is_empty()).then_some(all));
    process.set_user(user);
    None
}

fn add_capabilities(process: &mut Process, names: &[String]) -> Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    let mut sets = process.capabilities().clone().unwrap_or_default();
    for name in names {
        let known = name.strip_prefix("CAP_").unwrap_or(name);
        let capability: Capability = serde_json::from_value(json!(format!("CAP_{known}")))
            .map_err(|_| Error::invalid(format!("unknown capability {name:?}")))?;
        let with = |set: &Option<Capabilities>| {
            let mut set = set.clone().unwrap_or_default();
            set.insert(capability);
            Some(set)
        };
        let (bounding, effective, permitted) =
            (with(sets.bounding()), with(sets.effective()), with(sets.permitted()));
        // Only what is inheritable can be ambient.
        if sets.inheritable().as_ref().is_some_and(|set| !set.is_empty()) {
            let ambient = with(sets.ambient());
            sets.set_ambient(ambient);
        }
        sets.set_bounding(bounding).set_effective(effective).set_permitted(permitted);
    }
    process.set_capabilities(Some(sets));
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn flags(line: &str) -> Exec {
        match Cli::try_parse_from(format!("tare-oci exec {line}").split(' ')).unwrap().command {
            Command::Exec(exec) => *exec,
            _ => panic!("exec"),
        }
    }

    fn own() -> Process {
        serde_json::from_value(json!({"cwd": "/", "user": {"uid": 5, "gid": 6, "additionalGids": [7]},
            "args": ["own"], "env": ["A=1", "B=2"], "terminal": true}))
        .unwrap()
    }

    #[test]
    fn flags_change_what_they_name_and_nothing_else() {
        let (process, identity) = changed(own(), &flags("-e A=3 -u 9 -g 8 --cwd /tmp box id")).unwrap();
        assert_eq!(process.env().as_deref(), Some(&["B=2".to_owned(), "A=3".to_owned()][..]));
        assert_eq!((process.user().uid(), process.user().gid()), (9, 6));
        assert_eq!(process.user().additional_gids().as_deref(), Some(&[7, 8][..]));
        assert_eq!((process.terminal(), identity), (Some(false), None));
        assert_eq!(process.cwd().to_str(), Some("/tmp"));
    }

    #[test]
    fn a_user_by_name_is_left_to_the_container() {
        let (_, identity) = changed(own(), &flags("-u alice:users box id")).unwrap();
        assert_eq!(identity.unwrap().user, "alice:users");
        assert!(changed(own(), &flags("box")).is_err(), "there is nothing to run");
    }
}
