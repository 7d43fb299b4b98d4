//! `inspect`: what the daemon knows of a thing, word by word or through a template.

use super::path_name;
use crate::context::{Context, complain, print};
use crate::failure::{Failure, Outcome};
use crate::flags::{Flag, Given, refused, switch, text};
use crate::output::format::parse;
use crate::output::json::indent;
use crate::template::{Root, Template, Value};
use tare_docker_api::client::{Client, ClientError, ErrorKind, Request};

/// Flags of `inspect`.
pub(crate) const ANY: &[Flag] = &[
    text("format", Some('f'), "string", "Format output: 'json' or a Go template"),
    switch("size", Some('s'), "Display total file sizes if the type is container"),
    text("type", None, "string", "Only inspect objects of the given type"),
];
/// Flags of `container inspect`.
pub(crate) const CONTAINER: &[Flag] = &[
    text("format", Some('f'), "string", "Format output: 'json' or a Go template"),
    switch("size", Some('s'), "Display total file sizes"),
];
/// Flags of `image inspect`.
pub(crate) const IMAGE: &[Flag] = &[
    text("format", Some('f'), "string", "Format output: 'json' or a Go template"),
    refused("platform", None, "images have one platform"),
];

/// Flags of `network inspect`.
pub(crate) const NETWORK: &[Flag] = &[
    text("format", Some('f'), "string", "Format output: 'json' or a Go template"),
    switch("verbose", Some('v'), "Verbose output for diagnostics"),
];

/// Fields that the daemon leaves out where there is nothing, so that `{{if .State.Health}}` is a question, not an error.
const OPTIONAL: &[&str] = &[
    "Health",
    "Healthcheck",
    "ExposedPorts",
    "Volumes",
    "NetworkDisabled",
    "MacAddress",
    "OnBuild",
    "StopSignal",
    "StopTimeout",
    "Shell",
    "ArgsEscaped",
    "Labels",
    "Entrypoint",
    "Cmd",
    "Env",
    "Mounts",
    "Annotations",
    "StorageOpt",
    "Tmpfs",
    "Sysctls",
    "Init",
    "Runtime",
    "ImageManifestDescriptor",
    "GraphDriver",
    "Storage",
    "SizeRw",
    "SizeRootFs",
    "DriverOpts",
    "EnableIPv4",
    "IPAMConfig",
    "IPRange",
    "Gateway",
    "AuxiliaryAddresses",
    "Status",
    "Name",
    "BindOptions",
    "VolumeOptions",
    "TmpfsOptions",
    "ReadOnly",
    "Consistency",
    "Ports",
    "Networks",
    "Bridge",
    "IPAddress",
    "Parent",
    "Comment",
    "Variant",
    "OsVersion",
    "DockerVersion",
    "Author",
    "Container",
    "ContainerConfig",
    "Tare",
];

/// How an absent list or map prints: the daemon says `null`, Go's typed documents `[]` and `map[]`.
fn empty(field: &str) -> &'static str {
    const LISTS: &[&str] = &[
        "Binds",
        "BlkioDeviceReadBps",
        "BlkioDeviceReadIOps",
        "BlkioDeviceWriteBps",
        "BlkioDeviceWriteIOps",
        "BlkioWeightDevice",
        "CapAdd",
        "CapDrop",
        "Cmd",
        "DeviceCgroupRules",
        "DeviceRequests",
        "Devices",
        "Dns",
        "DnsOptions",
        "DnsSearch",
        "Entrypoint",
        "Env",
        "ExecIDs",
        "ExtraHosts",
        "GroupAdd",
        "Links",
        "MaskedPaths",
        "Mounts",
        "OnBuild",
        "ReadonlyPaths",
        "RepoDigests",
        "RepoTags",
        "SecurityOpt",
        "Ulimits",
        "VolumesFrom",
        "Args",
        "Shell",
    ];
    const MAPS: &[&str] = &[
        "Labels",
        "Volumes",
        "PortBindings",
        "ExposedPorts",
        "Ports",
        "Networks",
        "Tmpfs",
        "Sysctls",
        "StorageOpt",
        "Annotations",
    ];
    match field {
        field if LISTS.contains(&field) => "[]",
        field if MAPS.contains(&field) => "map[]",
        "Health" | "Healthcheck" | "Init" | "PidsLimit" | "OomKillDisable" | "MemorySwappiness"
        | "StopTimeout" | "SizeRw" | "SizeRootFs" => "<nil>",
        _ => "<no value>",
    }
}

/// `tare inspect`.
pub(crate) fn any(context: &Context, given: &Given) -> Outcome {
    match given.one("type").unwrap_or_default() {
        "container" => run(context, given, &[Kind::Container]),
        "image" => run(context, given, &[Kind::Image]),
        "network" => run(context, given, &[Kind::Network]),
        other if !other.is_empty() => Err(Failure::new(format!(
            "unknown type: {other:?}: must be one of \"container\", \"image\", \"network\""
        ))),
        _ => run(context, given, &[Kind::Container, Kind::Image, Kind::Network]),
    }
}

/// `tare container inspect`.
pub(crate) fn container(context: &Context, given: &Given) -> Outcome {
    run(context, given, &[Kind::Container])
}

/// `tare image inspect`.
pub(crate) fn image(context: &Context, given: &Given) -> Outcome {
    run(context, given, &[Kind::Image])
}

/// `tare network inspect`.
pub(crate) fn network(context: &Context, given: &Given) -> Outcome {
    run(context, given, &[Kind::Network])
}

#[derive(Clone, Copy)]
enum Kind {
    Container,
    Image,
    Network,
}

fn run(context: &Context, given: &Given, kinds: &[Kind]) -> Outcome {
    let format = given.one("format").filter(|f| !f.is_empty());
    let template = format.filter(|f| *f != "json").map(|f| parse(f, "template parsing error")).transpose()?;
    let mut client = context.client()?;
    let (mut found, mut errors) = (Vec::new(), Vec::new());
    for name in &given.args {
        match look_up(&mut client, name, kinds, given.on("size"))? {
            Ok(raw) => found.push(raw),
            Err(message) => errors.push(message),
        }
    }
    let text = match &template {
        Some(template) => through(template, &found)?,
        None if format.is_some() => compact(&found),
        None => indent(&format!("[{}]", found.join(","))) + "\n",
    };
    print(&text)?;
    errors.iter().for_each(complain);
    Ok(i32::from(!errors.is_empty()))
}

/// The raw document, or the daemon's word that there is none. Anything else that fails ends the command.
fn look_up(
    client: &mut Client,
    name: &str,
    kinds: &[Kind],
    size: bool,
) -> Result<Result<String, String>, Failure> {
    let mut missing: Option<ClientError> = None;
    for kind in kinds {
        let request = match kind {
            Kind::Container => {
                Request::get(format!("/containers/{}/json", path_name(name))).flag("size", size)
            }
            Kind::Image => Request::get(format!("/images/{}/json", path_name(name))),
            Kind::Network => Request::get(format!("/networks/{}", path_name(name))),
        };
        match client.bytes(request) {
            Ok(bytes) => return Ok(Ok(String::from_utf8_lossy(&bytes).trim().to_owned())),
            // A name that cannot be an image's is a 400; it may still have been meant as a container's.
            Err(e) if matches!(e.kind(), ErrorKind::Api(400 | 404)) => missing = Some(e),
            Err(e) if matches!(e.kind(), ErrorKind::Api(_)) => return Ok(Err(e.to_string())),
            Err(e) => return Err(e.into()),
        }
    }
    match missing {
        Some(error) if kinds.len() == 1 => Ok(Err(error.to_string())),
        _ => Ok(Err(format!("Error: No such object: {name}"))),
    }
}

fn compact(found: &[String]) -> String {
    let all: Vec<Value> = found.iter().filter_map(|raw| serde_json::from_str(raw).ok()).collect();
    Value::from(all).to_string() + "\n"
}

fn through(template: &Template, found: &[String]) -> Result<String, Failure> {
    let mut out = String::new();
    for raw in found {
        let value: Value = serde_json::from_str(raw)
            .map_err(|e| Failure::new(format!("the daemon's answer is not JSON: {e}")))?;
        let root =
            Root { optional: &|field| OPTIONAL.contains(&field), empty: &empty, ..Root::plain(&value) };
        let text = template
            .execute(&root)
            .map_err(|e| Failure::new(format!("template parsing error: template: {}", e.message)))?;
        out.push_str(&text);
        out.push('\n');
    }
    Ok(out)
}
