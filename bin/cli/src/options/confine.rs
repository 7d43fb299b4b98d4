//! `--security-opt` and the namespace modes.

use super::Parsed;
use crate::failure::plain;
use tare_docker_api::models::{HostConfig, HostConfigCgroupnsModeEnum};

/// Takes the `--security-opt`s into `host`. A seccomp profile is read here, because the daemon may not see the file.
pub(crate) fn security(options: &[&str], host: &mut HostConfig) -> Parsed<()> {
    let mut sent = Vec::new();
    for option in options {
        let (name, value) = match option.split_once('=').or_else(|| option.split_once(':')) {
            Some((name, value)) => (name, value),
            None if *option == "no-new-privileges" => (*option, "true"),
            None => return Err(format!("Invalid --security-opt: {option:?}")),
        };
        match (name, value) {
            ("systempaths", "unconfined") => {
                host.masked_paths = Some(Vec::new());
                host.readonly_paths = Some(Vec::new());
            }
            ("seccomp", "unconfined" | "builtin") => sent.push(format!("seccomp={value}")),
            ("seccomp", path) => sent.push(format!("seccomp={}", seccomp_profile(path)?)),
            ("no-new-privileges", "true" | "false") => sent.push(format!("no-new-privileges={value}")),
            ("apparmor" | "label" | "profile", _) => sent.push(format!("{name}={value}")),
            _ => return Err(format!("Invalid --security-opt: {option:?}")),
        }
    }
    if !sent.is_empty() {
        host.security_opt = Some(sent);
    }
    Ok(())
}

fn seccomp_profile(path: &str) -> Parsed<String> {
    let content = std::fs::read(path)
        .map_err(|e| format!("opening seccomp profile ({path}) failed: open {path}: {}", plain(&e)))?;
    let value: serde_json::Value = serde_json::from_slice(&content)
        .map_err(|e| format!("compacting json for seccomp profile ({path}) failed: {e}"))?;
    Ok(value.to_string())
}

/// `--pid`: empty, `host` or `container:NAME`.
pub(crate) fn pid(mode: &str) -> Parsed<()> {
    let container = mode.strip_prefix("container:").is_some_and(|name| !name.is_empty());
    if container || matches!(mode, "" | "host") { Ok(()) } else { Err("--pid: invalid PID mode".to_owned()) }
}

/// `--uts`: empty or `host`.
pub(crate) fn uts(mode: &str) -> Parsed<()> {
    if matches!(mode, "" | "host") { Ok(()) } else { Err("--uts: invalid UTS mode".to_owned()) }
}

/// `--userns`: empty or `host`.
pub(crate) fn userns(mode: &str) -> Parsed<()> {
    if matches!(mode, "" | "host") { Ok(()) } else { Err("--userns: invalid USER mode".to_owned()) }
}

/// `--ipc`: what the API documents.
pub(crate) fn ipc(mode: &str) -> Parsed<()> {
    let container = mode.strip_prefix("container:").is_some_and(|name| !name.is_empty());
    let known = matches!(mode, "" | "none" | "private" | "shareable" | "host");
    if container || known { Ok(()) } else { Err(format!("--ipc: invalid IPC mode: {mode}")) }
}

/// `--cgroupns`: `host` or `private`.
pub(crate) fn cgroupns(mode: &str) -> Parsed<HostConfigCgroupnsModeEnum> {
    match mode {
        "" => Ok(HostConfigCgroupnsModeEnum::EMPTY),
        "host" => Ok(HostConfigCgroupnsModeEnum::HOST),
        "private" => Ok(HostConfigCgroupnsModeEnum::PRIVATE),
        _ => Err("--cgroupns: invalid CGROUP mode".to_owned()),
    }
}
