//! `tare update`: other limits for containers that are there, running or not.

use serde::Serialize;
use tare_docker_api::client::{Client, ClientError, Request};
use tare_docker_api::models::{ContainerUpdateResponse, HostConfig, RestartPolicy};

use crate::cmd::path_name;
use crate::context::{Context, complain, print_line};
use crate::failure::{Failure, Outcome};
use crate::flags::{Flag, Given, integer, text};
use crate::options::{Parsed, resource, size};

/// Flags of `update`: Docker's.
pub(crate) const UPDATE: &[Flag] = &[
    text("blkio-weight", None, "uint16", "Block IO (relative weight), between 10 and 1000, or 0 to disable")
        .checked(integer),
    text("cpu-period", None, "int", "Limit CPU CFS (Completely Fair Scheduler) period").checked(integer),
    text("cpu-quota", None, "int", "Limit CPU CFS (Completely Fair Scheduler) quota").checked(integer),
    text("cpu-rt-period", None, "int", "Limit CPU real-time period in microseconds").checked(integer),
    text("cpu-rt-runtime", None, "int", "Limit CPU real-time runtime in microseconds").checked(integer),
    text("cpu-shares", Some('c'), "int", "CPU shares (relative weight)").checked(integer),
    text("cpus", None, "decimal", "Number of CPUs").checked(size::check_cpus),
    text("cpuset-cpus", None, "string", "CPUs in which to allow execution (0-3, 0,1)"),
    text("cpuset-mems", None, "string", "MEMs in which to allow execution (0-3, 0,1)"),
    text("kernel-memory", None, "bytes", "Kernel memory limit (Linux no longer has it; ignored)")
        .checked(size::check_bytes),
    text("memory", Some('m'), "bytes", "Memory limit").checked(size::check_bytes),
    text("memory-reservation", None, "bytes", "Memory soft limit").checked(size::check_bytes),
    text("memory-swap", None, "bytes", "Swap limit equal to memory plus swap: -1 to enable unlimited swap")
        .checked(size::check_bytes_or_unlimited),
    text("pids-limit", None, "int", "Tune container pids limit (set -1 for unlimited)").checked(integer),
    text("restart", None, "string", "Restart policy to apply when a container exits")
        .checked(resource::check_restart),
];

/// The request: the limits that `create` has, at the top level, and the restart policy.
#[derive(Serialize)]
struct Body {
    #[serde(flatten)]
    limits: HostConfig,
    #[serde(rename = "RestartPolicy", skip_serializing_if = "Option::is_none")]
    restart_policy: Option<RestartPolicy>,
}

/// `tare update`.
pub(crate) fn update(context: &Context, given: &Given) -> Outcome {
    if UPDATE.iter().all(|flag| given.one(flag.long).is_none()) {
        return Err(Failure::new("you must provide one or more flags when using this command"));
    }
    let body = body(given).map_err(Failure::new)?;
    if given.some("kernel-memory").is_some() {
        complain("WARNING: --kernel-memory: Linux no longer has this limit; it is ignored");
    }
    let mut client = context.client()?;
    let mut code = 0;
    for name in &given.args {
        match send(&mut client, name, &body) {
            Ok(warnings) => {
                warnings.iter().for_each(|warning| complain(format!("WARNING: {warning}")));
                print_line(name)?;
            }
            Err(e) => {
                complain(e.to_string());
                code = 1;
            }
        }
    }
    Ok(code)
}

fn send(client: &mut Client, name: &str, body: &Body) -> Result<Vec<String>, ClientError> {
    let request = Request::post(format!("/containers/{}/update", path_name(name))).json(body)?;
    Ok(client.json::<ContainerUpdateResponse>(request)?.warnings.unwrap_or_default())
}

fn body(given: &Given) -> Parsed<Body> {
    let bytes = |flag: &str| given.one(flag).map(size::bytes).transpose();
    let limits = HostConfig {
        blkio_weight: given.number("blkio-weight").map(resource::blkio_weight).transpose()?,
        cpu_period: given.number("cpu-period"),
        cpu_quota: given.number("cpu-quota"),
        cpu_realtime_period: given.number("cpu-rt-period"),
        cpu_realtime_runtime: given.number("cpu-rt-runtime"),
        cpu_shares: given.number("cpu-shares"),
        nano_cpus: given.one("cpus").map(size::nano_cpus).transpose()?,
        cpuset_cpus: given.some("cpuset-cpus"),
        cpuset_mems: given.some("cpuset-mems"),
        memory: bytes("memory")?,
        memory_reservation: bytes("memory-reservation")?,
        memory_swap: given.one("memory-swap").map(size::bytes_or_unlimited).transpose()?,
        pids_limit: given.number("pids-limit"),
        ..HostConfig::default()
    };
    let restart_policy = given.one("restart").map(resource::restart).transpose()?;
    Ok(Body { limits, restart_policy })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::COMMANDS;
    use crate::flags::{Usage, parse};
    use serde_json::{Value, json};

    fn sent(line: &str) -> Value {
        let update = COMMANDS.iter().find(|c| c.names[0] == "update").expect("update");
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        match parse(&update.syntax, &words) {
            Ok(Usage::Run(given)) => serde_json::to_value(body(&given).expect(line)).expect("JSON"),
            _ => panic!("{line}"),
        }
    }

    #[test]
    fn only_what_is_named_is_sent() {
        assert_eq!(sent("-c 512 web"), json!({"CpuShares": 512}));
        assert_eq!(
            sent(
                "-m 64m --memory-swap -1 --cpus 1.5 --cpuset-cpus 0 --pids-limit -1 --blkio-weight 100 --restart no web"
            ),
            json!({"Memory": 64 << 20, "MemorySwap": -1, "NanoCpus": 1_500_000_000, "CpusetCpus": "0", "PidsLimit": -1,
                "BlkioWeight": 100, "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0}})
        );
    }
}
