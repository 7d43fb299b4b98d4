//! Changing limits.

use std::io::Read;

use oci_spec::runtime::LinuxResources;
use serde_json::{Value, json};
use tare_model::sandbox::Running;
use tare_model::{Error, Result};

use super::Context;
use crate::cli::Update;
use crate::state::{Directory, failed};

pub(crate) fn update(context: &Context<'_>, args: &Update) -> Result<u8> {
    let state = Directory::of(context.root, &args.id)?.read()?;
    if state.process().is_none() {
        return Err(Error::conflict("container not running"));
    }
    let resources = match &args.resources {
        Some(path) => read(path)?,
        None => from_flags(args)?,
    };
    let mut container = state.revisit()?;
    for note in container.update(&resources)? {
        context.log.warning(&note);
    }
    let schemas: Vec<&str> =
        [&args.l3_cache_schema, &args.mem_bw_schema].into_iter().flatten().map(String::as_str).collect();
    if !schemas.is_empty() {
        tare_runtime::rdt::update(&state.spec.oci, &state.id, &schemas)?;
    }
    Ok(0)
}

fn read(path: &std::path::Path) -> Result<LinuxResources> {
    let mut text = Vec::new();
    let got = if path.as_os_str() == "-" {
        std::io::stdin().read_to_end(&mut text).map(drop)
    } else {
        std::fs::read(path).map(|read| text = read)
    };
    got.map_err(|error| failed("read", path, &error))?;
    serde_json::from_slice(&text).map_err(|error| Error::invalid(format!("{}: {error}", path.display())))
}

/// The flags as the object that they stand for; what was not said is not in it.
fn from_flags(args: &Update) -> Result<LinuxResources> {
    let mut memory = json!({
        "limit": args.memory, "reservation": args.memory_reservation, "swap": args.memory_swap,
        "kernel": args.kernel_memory, "kernelTCP": args.kernel_memory_tcp,
    });
    if args.memory == Some(-1) && args.memory_swap.is_none() {
        // No limit on memory leaves none to add swap to.
        memory["swap"] = json!(-1);
    }
    let object = json!({
        "memory": said(memory),
        "cpu": said(json!({
            "shares": args.cpu_share, "quota": args.cpu_quota, "burst": args.cpu_burst, "period": args.cpu_period,
            "realtimeRuntime": args.cpu_rt_runtime, "realtimePeriod": args.cpu_rt_period,
            "idle": args.cpu_idle, "cpus": args.cpuset_cpus, "mems": args.cpuset_mems,
        })),
        "blockIO": said(json!({"weight": args.blkio_weight})),
        "pids": said(json!({"limit": args.pids_limit})),
    });
    serde_json::from_value(said(object)).map_err(|error| Error::invalid(error.to_string()))
}

/// An object without what is null or empty.
fn said(object: Value) -> Value {
    match object {
        Value::Object(map) => {
            let empty =
                |value: &Value| value.is_null() || value.as_object().is_some_and(serde_json::Map::is_empty);
            Value::Object(map.into_iter().filter(|(_, value)| !empty(value)).collect())
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn resources(line: &str) -> LinuxResources {
        match Cli::try_parse_from(format!("tare-oci update {line} box").split(' ')).unwrap().command {
            Command::Update(args) => from_flags(&args).unwrap(),
            _ => panic!("update"),
        }
    }

    #[test]
    fn flags_become_resources_and_silence_stays_silence() {
        let got = resources("--memory 64m --cpu-quota 50000 --cpuset-cpus 0-1 --pids-limit 7");
        assert_eq!(got.memory().as_ref().unwrap().limit(), Some(64 << 20));
        assert_eq!(got.memory().as_ref().unwrap().swap(), None);
        assert_eq!(got.cpu().as_ref().unwrap().quota(), Some(50_000));
        assert_eq!(got.cpu().as_ref().unwrap().cpus().as_deref(), Some("0-1"));
        assert_eq!(got.pids().as_ref().unwrap().limit(), 7);
        assert!(got.block_io().is_none());
        assert_eq!(resources("--memory=-1").memory().as_ref().unwrap().swap(), Some(-1));
    }
}
