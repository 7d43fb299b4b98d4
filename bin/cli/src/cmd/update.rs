//! `tare update`: other limits for containers that are there, running or not.

use serde::Serialize;
use tare_docker_api::client::{Client, ClientError, Request};
use tare_docker_api::extension::UpdateExtension;
use tare_docker_api::models::{ContainerUpdateResponse, HostConfig, RestartPolicy};

use crate::cmd::path_name;
use crate::cmd::spec_flags::LIMITS;
use crate::context::{Context, complain, print_line};
use crate::failure::{Failure, Outcome};
use crate::flags::Given;
use crate::options::{Parsed, resource};

/// The request: the limits that `create` has, at the top level, and the restart policy.
#[derive(Serialize)]
struct Body {
    #[serde(flatten)]
    limits: HostConfig,
    #[serde(rename = "RestartPolicy", skip_serializing_if = "Option::is_none")]
    restart_policy: Option<RestartPolicy>,
    #[serde(rename = "Tare", skip_serializing_if = "Option::is_none")]
    tare: Option<UpdateExtension>,
}

/// `tare update`.
pub(crate) fn update(context: &Context, given: &Given) -> Outcome {
    if LIMITS.iter().all(|flag| given.one(flag.long).is_none()) {
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
    let network = resource::network_limits(given)?;
    Ok(Body {
        limits: resource::limits(given)?,
        restart_policy: resource::restart_policy(given)?,
        tare: network.map(|limits| UpdateExtension { network: Some(limits) }),
    })
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
    fn every_flag_is_one_of_run_and_is_sent_alike() {
        let run = COMMANDS.iter().find(|c| c.names[0] == "run").expect("run");
        for flag in LIMITS {
            let same = |f: &crate::flags::Flag| (f.name(), f.help) == (flag.name(), flag.help);
            assert!(run.syntax.flags.iter().flat_map(|table| table.iter()).any(same), "--{}", flag.long);
            let value = match flag.long {
                "restart" => "no",
                "network-rate" => "in=1MB",
                _ => "100",
            };
            let sent = sent(&format!("--{} {value} web", flag.long));
            let ignored = flag.long == "kernel-memory";
            assert_eq!(
                sent.as_object().map(serde_json::Map::len),
                Some(usize::from(!ignored)),
                "--{}",
                flag.long
            );
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
