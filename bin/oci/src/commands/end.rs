//! Signals, and removing what is held by a container.

use tare_model::sandbox::{Running, Sandbox};
use tare_model::{ContainerId, Error, Result, ResultExt, Signal};

use super::{Context, create};
use crate::cli::{Delete, Kill};
use crate::state::{Directory, State, Status};

pub(crate) fn kill(context: &Context<'_>, args: &Kill) -> Result<u8> {
    let signal: Signal = args.signal.parse()?;
    let state = Directory::of(context.root, &args.id)?.read()?;
    // Where the first process has no namespace of its own, its end is not the end of the others.
    if args.all || (signal == Signal::KILL && !has_own_processes(&state)) {
        let everyone = state.revisit()?.processes()?;
        if everyone.is_empty() && !args.all {
            return Err(Error::conflict("container not running"));
        }
        for pid in everyone {
            tare_runtime::foreground::signal(pid, signal)?;
        }
        return Ok(0);
    }
    let mut container = state.open()?;
    container.signal(signal)?;
    // A group that is gone already, as systemd removes it, holds nobody.
    if signal == Signal::KILL && container.is_paused().unwrap_or(false) {
        // With v1's freezer a frozen process cannot die.
        container.resume()?;
    }
    Ok(0)
}

fn has_own_processes(state: &State) -> bool {
    let listed = state.spec.oci.linux().as_ref().and_then(|linux| linux.namespaces().as_deref());
    let kind = oci_spec::runtime::LinuxNamespaceType::Pid;
    listed.unwrap_or_default().iter().any(|namespace| namespace.typ() == kind && namespace.path().is_none())
}

pub(crate) fn delete(context: &Context<'_>, args: &Delete) -> Result<u8> {
    let directory = Directory::of(context.root, &args.id)?;
    let state = match directory.read() {
        // A creation that was killed half-way has left a directory without state.
        Err(_) if args.force => return remove_half_made(&directory).map(|()| 0),
        Err(error) if directory.exists() => return Err(error.context("delete --force removes what is left")),
        other => other?,
    };
    let status = state.status(&directory)?;
    if !args.force && !matches!(status, Status::Stopped | Status::Created) {
        let text = format!("cannot delete container {} that is not stopped: {}", args.id, status.as_str());
        return Err(Error::conflict(text));
    }
    let mut container = state.revisit()?;
    container.destroy().context(|| format!("delete {}", args.id))?;
    tare_runtime::rdt::remove(&state.spec.oci, &state.id)?;
    directory.remove()?;
    create::poststop(context, &state.spec, &state.id, &state.bundle);
    Ok(0)
}

/// Ends what the claim of a creation that did not end speaks of.
fn remove_half_made(directory: &Directory) -> Result<()> {
    if let Some(claim) = directory.claimed() {
        let path = claim.cgroups_path.to_string_lossy();
        claim.manager.runtime()?.cleanup(&ContainerId::from_bytes([0; 32]), &path)?;
    }
    directory.remove()
}
