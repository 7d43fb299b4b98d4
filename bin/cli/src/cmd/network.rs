//! `network`: create, ls, rm, prune, connect, disconnect; `network inspect` stands with its siblings.

use super::{path_name, ps};
use crate::context::{Context, complain, for_each, print, print_line};
use crate::failure::{Failure, Outcome};
use crate::flags::{Flag, Given, integer, list as many, switch, text};
use crate::options::{Parsed, filter, ipam, network, resource};
use crate::output::format::{Layout, Row, render};
use crate::output::human;
use serde_json::Value;
use std::collections::HashMap;
use std::io::{BufRead, Write, stdin, stdout};
use tare_docker_api::client::{ErrorKind, Request};
use tare_docker_api::extension::NetworkUpdate;
use tare_docker_api::models::{
    ConfigReference, Ipam, NetworkConnectRequest, NetworkCreateRequest, NetworkCreateResponse,
    NetworkDisconnectRequest, NetworkPruneResponse,
};
use tare_docker_api::stamp;
use tare_model::shaping::Reshaping;

/// Flags of `network create`.
pub(crate) const CREATE: &[Flag] = &[
    switch("attachable", None, "Enable manual container attachment"),
    many("aux-address", None, "Auxiliary IPv4 or IPv6 addresses used by Network driver").valued("map"),
    text("config-from", None, "network", "The network from which to copy the configuration"),
    switch("config-only", None, "Create a configuration only network"),
    text("driver", Some('d'), "string", "Driver to manage the Network (default \"bridge\")"),
    many("gateway", None, "IPv4 or IPv6 Gateway for the master subnet").valued("ip"),
    switch("ingress", None, "Create swarm routing-mesh network"),
    switch("internal", None, "Restrict external access to the network"),
    many("ip-range", None, "Allocate container ip from a sub-range").valued("cidr"),
    text("ipam-driver", None, "string", "IP Address Management Driver (default \"default\")"),
    many("ipam-opt", None, "Set IPAM driver specific options").valued("map"),
    switch("ipv4", None, "Enable or disable IPv4 address assignment (default true)"),
    switch("ipv6", None, "Enable or disable IPv6 address assignment"),
    many("label", None, "Set metadata on a network"),
    many("opt", Some('o'), "Set driver specific options").valued("map"),
    text("scope", None, "string", "Control the network's scope"),
    many("subnet", None, "Subnet in CIDR format that represents a network segment").valued("cidr"),
];
/// Flags of `network ls`.
pub(crate) const LIST: &[Flag] = &[
    many("filter", Some('f'), "Provide filter values (e.g. \"driver=bridge\")")
        .valued("filter")
        .checked(filter::check),
    text("format", None, "string", "Format output: 'table', 'table TEMPLATE', 'json' or a Go template"),
    switch("no-trunc", None, "Do not truncate the output"),
    switch("quiet", Some('q'), "Only display network IDs"),
];
/// Flags of `network rm`.
pub(crate) const REMOVE: &[Flag] =
    &[switch("force", Some('f'), "Do not error if the network does not exist")];
/// Flags of `network prune`.
pub(crate) const PRUNE: &[Flag] = &[
    many("filter", None, "Provide filter values (e.g. \"until=<timestamp>\")")
        .valued("filter")
        .checked(filter::check),
    switch("force", Some('f'), "Do not prompt for confirmation"),
];
/// Flags of `network update`.
pub(crate) const UPDATE: &[Flag] = &[text(
    "rate",
    None,
    "rates",
    "What all containers together receive and send at most, in=RATE,out=RATE,burst=BYTES; none for no limit",
)
.checked(resource::check_network_rate)];
/// Flags of `network connect`.
pub(crate) const CONNECT: &[Flag] = &[
    many("alias", None, "Add network-scoped alias for the container"),
    many("driver-opt", None, "driver options for the network"),
    text("gw-priority", None, "int", "Highest gw-priority provides the default gateway").checked(integer),
    text("ip", None, "ip", "IPv4 address (e.g., \"172.30.100.104\")"),
    text("ip6", None, "ip", "IPv6 address (e.g., \"2001:db8::33\")"),
    many("link", None, "Add link to another container"),
    many("link-local-ip", None, "Add a link-local address for the container").valued("ip"),
];
/// Flags of `network disconnect`.
pub(crate) const DISCONNECT: &[Flag] =
    &[switch("force", Some('f'), "Force the container to disconnect from a network")];

const LAYOUT: Layout = Layout {
    kind: "*network.networkContext",
    titles: &[
        ("ID", "NETWORK ID"),
        ("Name", "NAME"),
        ("Driver", "DRIVER"),
        ("Scope", "SCOPE"),
        ("IPv4", "IPV4"),
        ("IPv6", "IPV6"),
        ("Internal", "INTERNAL"),
        ("Labels", "LABELS"),
        ("CreatedAt", "CREATED AT"),
    ],
    table: "{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}",
    quiet: "{{.ID}}",
    raw: "network_id: {{.ID}}\nname: {{.Name}}\ndriver: {{.Driver}}\nscope: {{.Scope}}\n",
};

/// `tare network create`.
pub(crate) fn create(context: &Context, given: &Given) -> Outcome {
    let body = request(given).map_err(Failure::new)?;
    let request = Request::post("/networks/create").json(&body)?;
    let made: NetworkCreateResponse = context.client()?.json(request)?;
    made.warning.lines().for_each(|warning| complain(format!("WARNING: {warning}")));
    print_line(made.id)?;
    Ok(0)
}

/// The body of a create request.
fn request(given: &Given) -> Parsed<NetworkCreateRequest> {
    let pools = ipam::pools(
        &given.many("subnet"),
        &given.many("ip-range"),
        &given.many("gateway"),
        &given.many("aux-address"),
    )?;
    let some = |map: HashMap<String, String>| Some(map).filter(|map| !map.is_empty());
    let on = |flag: &str| given.on(flag).then_some(true);
    let given_flag = |flag: &str| given.one(flag).map(|_| given.on(flag));
    let options = some(network::pairs(given, "ipam-opt"));
    let asked = given.some("ipam-driver");
    let has_ipam = asked.is_some() || options.is_some() || !pools.is_empty();
    let ipam = Ipam { driver: asked, config: Some(pools).filter(|p| !p.is_empty()), options };
    Ok(NetworkCreateRequest {
        name: given.args[0].clone(),
        driver: given.some("driver"),
        scope: given.some("scope"),
        internal: on("internal"),
        attachable: on("attachable"),
        ingress: on("ingress"),
        config_only: on("config-only"),
        config_from: given.some("config-from").map(|name| ConfigReference { network: Some(name) }),
        ipam: has_ipam.then_some(ipam),
        enable_ipv4: given_flag("ipv4"),
        enable_ipv6: given_flag("ipv6"),
        options: some(network::pairs(given, "opt")),
        labels: some(network::pairs(given, "label")),
    })
}

/// `tare network ls`.
pub(crate) fn list(context: &Context, given: &Given) -> Outcome {
    let mut request = Request::get("/networks");
    if let Some(filters) = filter::query(&given.many("filter")) {
        request = request.query("filters", filters);
    }
    let mut found: Vec<Value> = context.client()?.json(request)?;
    found.sort_by_key(|n| n["Name"].as_str().unwrap_or_default().to_owned());
    let rows: Vec<Row> = found.iter().map(|n| row(n, given.on("no-trunc"))).collect();
    print(&render(&LAYOUT, given.one("format"), given.on("quiet"), &rows)?)?;
    Ok(0)
}

fn row(network: &Value, whole: bool) -> Row {
    let text = |field: &str| network[field].as_str().unwrap_or_default().to_owned();
    let truth = |field: &str| Value::from(network[field].as_bool().unwrap_or(false).to_string());
    let id = if whole { text("Id") } else { human::short_id(&text("Id")) };
    let labels = ps::labels(&network["Labels"]);
    let created = stamp::parse_rfc3339(&text("Created")).map_or(0, |nanos| nanos / 1_000_000_000);
    let columns = vec![
        ("ID", Value::from(id)),
        ("Name", Value::from(text("Name"))),
        ("Driver", Value::from(text("Driver"))),
        ("Scope", Value::from(text("Scope"))),
        ("IPv4", truth("EnableIPv4")),
        ("IPv6", truth("EnableIPv6")),
        ("Internal", truth("Internal")),
        ("Labels", Value::from(labels.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(","))),
        ("CreatedAt", Value::from(human::stamp(i64::try_from(created).unwrap_or(0)))),
    ];
    Row { columns, labels }
}

/// `tare network rm`.
pub(crate) fn remove(context: &Context, given: &Given) -> Outcome {
    let mut client = context.client()?;
    let force = given.on("force");
    for_each(&given.args, |name| {
        match client.done(Request::delete(format!("/networks/{}", path_name(name)))) {
            Err(e) if force && e.kind() == ErrorKind::Api(404) => Ok(()),
            Err(e) => Err(e.into()),
            Ok(()) => print_line(name),
        }
    })
}

/// `tare network prune`.
pub(crate) fn prune(context: &Context, given: &Given) -> Outcome {
    const WARNING: &str = "WARNING! This will remove all custom networks not used by at least one container.";
    if !given.on("force") && !confirmed(WARNING)? {
        return Err(Failure::new("network prune has been cancelled"));
    }
    let mut request = Request::post("/networks/prune");
    if let Some(filters) = filter::query(&given.many("filter")) {
        request = request.query("filters", filters);
    }
    let gone: NetworkPruneResponse = context.client()?.json(request)?;
    let names = gone.networks_deleted.unwrap_or_default();
    if !names.is_empty() {
        print(&format!("Deleted Networks:\n{}\n\n", names.join("\n")))?;
    }
    Ok(0)
}

/// Asks; nothing but a yes is one.
fn confirmed(warning: &str) -> Result<bool, Failure> {
    print(&format!("{warning}\nAre you sure you want to continue? [y/N] "))?;
    stdout().flush()?;
    let mut answer = String::new();
    stdin().lock().read_line(&mut answer).map_err(|e| Failure::io("reading the answer", &e))?;
    Ok(answer.trim().eq_ignore_ascii_case("y"))
}

/// `tare network update`.
pub(crate) fn update(context: &Context, given: &Given) -> Outcome {
    let Some(rate) = given.one("rate") else {
        return Err(Failure::new("network update: nothing to do: give --rate in=RATE,out=RATE,burst=BYTES"));
    };
    let body = rates(rate).map_err(Failure::new)?;
    let name = &given.args[0];
    let request = Request::post(format!("/networks/{}/update", path_name(name))).json(&body)?;
    context.client()?.done(request)?;
    print_line(name)?;
    Ok(0)
}

fn rates(text: &str) -> Parsed<NetworkUpdate> {
    let Reshaping { inward, outward, burst, .. } = resource::network_rate(text)?;
    Ok(NetworkUpdate { in_rate: inward, out_rate: outward, burst })
}

/// `tare network connect`.
pub(crate) fn connect(context: &Context, given: &Given) -> Outcome {
    let [name, container] = given.args.as_slice() else {
        return Err(Failure::new("network connect takes a network and a container"));
    };
    let endpoint = network::connect(given).map_err(Failure::new)?;
    let body = NetworkConnectRequest { container: container.clone(), endpoint_config: Some(endpoint) };
    let request = Request::post(format!("/networks/{}/connect", path_name(name))).json(&body)?;
    context.client()?.done(request)?;
    Ok(0)
}

/// `tare network disconnect`.
pub(crate) fn disconnect(context: &Context, given: &Given) -> Outcome {
    let [name, container] = given.args.as_slice() else {
        return Err(Failure::new("network disconnect takes a network and a container"));
    };
    let body = NetworkDisconnectRequest { container: container.clone(), force: Some(given.on("force")) };
    let request = Request::post(format!("/networks/{}/disconnect", path_name(name))).json(&body)?;
    context.client()?.done(request)?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::COMMANDS;
    use crate::flags::{Usage, parse};
    use serde_json::json;

    fn given(command: &str, line: &str) -> Given {
        let found = COMMANDS.iter().find(|c| c.names[0] == command).expect(command);
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        match parse(&found.syntax, &words) {
            Ok(Usage::Run(given)) => given,
            Ok(Usage::Help) => panic!("{line}"),
            Err(failure) => panic!("{line}: {}", failure.message),
        }
    }

    #[test]
    fn only_what_is_named_is_sent() {
        let sent = |line: &str| json!(request(&given("network create", line)).expect(line));
        assert_eq!(sent("front"), json!({"Name": "front"}));
        assert_eq!(
            sent(
                "-d macvlan --subnet 10.9.0.0/16 --gateway 10.9.0.1 --ip-range 10.9.8.0/24 --aux-address nas=10.9.0.9 \
                  -o parent=eth0 --label a=b --internal --attachable --ipv6=false --ipam-opt x=y back"
            ),
            json!({"Name": "back", "Driver": "macvlan", "Internal": true, "Attachable": true, "EnableIPv6": false,
                "Options": {"parent": "eth0"}, "Labels": {"a": "b"}, "IPAM": {"Options": {"x": "y"}, "Config": [
                    {"Subnet": "10.9.0.0/16", "Gateway": "10.9.0.1", "IPRange": "10.9.8.0/24",
                     "AuxiliaryAddresses": {"nas": "10.9.0.9"}}]}})
        );
    }

    #[test]
    fn a_rate_is_sent_in_bytes_and_none_takes_it_away() {
        assert_eq!(
            json!(rates("in=8mbit,out=none").expect("valid")),
            json!({"InRate": 1_000_000, "OutRate": 0})
        );
        assert!(rates("in=8").is_err());
    }

    #[test]
    fn a_connection_has_its_settings() {
        let sent = |line: &str| json!(network::connect(&given("network connect", line)).expect(line));
        assert_eq!(sent("front web"), json!({}));
        assert_eq!(
            sent(
                "--alias www --ip 10.9.0.5 --ip6 fd00::5 --link db:sql --gw-priority 2 --driver-opt k=v \
                  --link-local-ip 169.254.1.1 front web"
            ),
            json!({"Aliases": ["www"], "Links": ["db:sql"], "GwPriority": 2, "DriverOpts": {"k": "v"},
                "IPAMConfig": {"IPv4Address": "10.9.0.5", "IPv6Address": "fd00::5", "LinkLocalIPs": ["169.254.1.1"]}})
        );
    }

    #[test]
    fn the_list_reads_as_dockers() {
        let network = json!({"Id": "0123456789abcdef", "Name": "front", "Driver": "bridge", "Scope": "local",
            "EnableIPv4": true, "EnableIPv6": false, "Internal": false, "Labels": {"a": "1"},
            "Created": "2024-01-02T03:04:00.5Z"});
        let rows = [row(&network, false)];
        assert_eq!(
            render(&LAYOUT, None, false, &rows).expect("a table"),
            "NETWORK ID     NAME      DRIVER    SCOPE\n0123456789ab   front     bridge    local\n"
        );
        assert_eq!(render(&LAYOUT, None, true, &rows).expect("ids"), "0123456789ab\n");
        assert_eq!(
            render(
                &LAYOUT,
                Some("{{.IPv4}} {{.IPv6}} {{.Internal}} {{.Labels}} {{.CreatedAt}} {{.Label \"a\"}}"),
                false,
                &rows
            )
            .expect("a line"),
            "true false false a=1 2024-01-02 03:04:00 +0000 UTC 1\n"
        );
    }
}
