//! `port`: what of the host's reaches a container, and changing it while it runs.

use super::path_name;
use crate::context::{Context, print};
use crate::failure::{Failure, Outcome};
use crate::flags::Given;
use crate::options::port;
use crate::output::ports::bracketed;
use serde_json::Value;
use tare_docker_api::client::Request;
use tare_docker_api::extension::PortsRequest;
use tare_docker_api::models::{PortBinding, PortMap};

/// `tare port`. `add` and `rm` before a container and ports are verbs; alone they are the name of a container.
pub(crate) fn port(context: &Context, given: &Given) -> Outcome {
    let words: Vec<&str> = given.args.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["add", container, specs @ ..] if !specs.is_empty() => {
            let add = port::map(specs).map_err(Failure::new)?;
            change(context, container, &PortsRequest { add, ..PortsRequest::default() })
        }
        ["rm", container, specs @ ..] if !specs.is_empty() => {
            let remove = removed(specs).map_err(Failure::new)?;
            change(context, container, &PortsRequest { remove, ..PortsRequest::default() })
        }
        [container] => list(context, container, None),
        [container, wanted] => list(context, container, Some(wanted)),
        _ => Err(Failure::new(
            "tare: 'tare port' takes CONTAINER [PRIVATE_PORT[/PROTO]], or add or rm with CONTAINER and ports\n\n\
             Run 'tare port --help' for more information",
        )),
    }
}

/// What is to be taken back: a port alone is every binding of it.
fn removed(specs: &[&str]) -> Result<PortMap, String> {
    let mut map = port::map(specs)?;
    for binding in map.values_mut().flatten().flatten() {
        let set = |text: &mut Option<String>| *text = text.take().filter(|t| !t.is_empty());
        let PortBinding { host_ip, host_port } = binding;
        set(host_ip);
        set(host_port);
    }
    Ok(map)
}

fn change(context: &Context, container: &str, body: &PortsRequest) -> Outcome {
    let request = Request::post(format!("/containers/{}/ports", path_name(container))).json(body)?;
    let answer: Value = context.client()?.json(request)?;
    print(&lines(&answer["Ports"]))?;
    Ok(0)
}

fn list(context: &Context, container: &str, wanted: Option<&str>) -> Outcome {
    let request = Request::get(format!("/containers/{}/json", path_name(container)));
    let document: Value = context.client()?.json(request)?;
    let ports = &document["NetworkSettings"]["Ports"];
    let text = match wanted {
        None => lines(ports),
        Some(wanted) => {
            let key = if wanted.contains('/') { wanted.to_owned() } else { format!("{wanted}/tcp") };
            let found: Vec<String> = hosts(&ports[&key]);
            if found.is_empty() {
                return Err(Failure::new(format!("Error: No public port '{key}' published for {container}")));
            }
            found.iter().map(|host| format!("{host}\n")).collect()
        }
    };
    print(&text)?;
    Ok(0)
}

/// `80/tcp -> 0.0.0.0:8080`, by number.
fn lines(ports: &Value) -> String {
    let mut all: Vec<(&String, Vec<String>)> =
        ports.as_object().into_iter().flatten().map(|(port, list)| (port, hosts(list))).collect();
    all.sort_by_key(|(port, _)| {
        let (number, protocol) = port.split_once('/').unwrap_or((port, ""));
        (number.parse::<u32>().unwrap_or(u32::MAX), protocol)
    });
    let line = |(port, hosts): (&String, Vec<String>)| {
        hosts.into_iter().map(|host| format!("{port} -> {host}\n")).collect::<String>()
    };
    all.into_iter().map(line).collect()
}

/// Where a port is published: by address, then by number.
fn hosts(list: &Value) -> Vec<String> {
    let text = |binding: &Value, field: &str| binding[field].as_str().unwrap_or_default().to_owned();
    let mut all: Vec<(String, String)> = list
        .as_array()
        .into_iter()
        .flatten()
        .map(|binding| (bracketed(&text(binding, "HostIp")), text(binding, "HostPort")))
        .collect();
    all.sort_by_key(|(ip, port)| (ip.clone(), port.parse::<u32>().unwrap_or(u32::MAX)));
    all.into_iter().map(|(ip, port)| format!("{ip}:{port}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn ports_are_listed_by_number() {
        let ports = json!({"443/tcp": null, "8000/tcp": [{"HostIp": "127.0.0.1", "HostPort": "9"}],
            "80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}, {"HostIp": "::", "HostPort": "8080"}]});
        assert_eq!(lines(&ports), "80/tcp -> 0.0.0.0:8080\n80/tcp -> [::]:8080\n8000/tcp -> 127.0.0.1:9\n");
        assert_eq!(lines(&Value::Null), "");
        let host = |ip: &str, port: &str| json!({"HostIp": ip, "HostPort": port});
        let ports =
            json!({"80/tcp": [host("0.0.0.0", "10080"), host("::", "8080"), host("0.0.0.0", "8080")]});
        let expected = ["0.0.0.0:8080", "0.0.0.0:10080", "[::]:8080"].map(|at| format!("80/tcp -> {at}\n"));
        assert_eq!(lines(&ports), expected.concat());
    }

    #[test]
    fn a_port_alone_takes_every_binding_back() {
        let body =
            |specs: &[&str]| json!(PortsRequest { remove: removed(specs).unwrap(), ..Default::default() });
        assert_eq!(body(&["80"]), json!({"Remove": {"80/tcp": [{}]}}));
        assert_eq!(
            body(&["127.0.0.1:8080:80/udp"]),
            json!({"Remove": {"80/udp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}]}})
        );
    }
}
