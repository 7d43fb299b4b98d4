//! Every field that Docker's create request has, and what becomes of it here.
//!
//! A field that is not in the tables is unknown to Docker too and is ignored, as Docker does. A field that asks for
//! something this version does not do is refused by its name; nothing is dropped in silence that would change what the
//! container is.

use serde_json::{Map, Value};
use tare_model::{Error, Result};

use super::endpoint;
use crate::spelling::{spell, spell_within};

/// What becomes of a field.
enum Rule {
    /// It has its effect.
    Honoured,
    /// Only its zero value is accepted: null, false, 0, "", [], {}. The text says why and what to do.
    Empty(&'static str),
    /// Its zero value and these words are accepted.
    Words(&'static [&'static str], &'static str),
    /// Any value is accepted, though it has no effect here; the remark beside it says why.
    Harmless,
}

use Rule::{Empty, Harmless, Honoured, Words};

const WINDOWS: &str = "it exists on Windows only";

/// Fields at the top level of the request.
const TOP: &[(&str, Rule)] = &[
    ("ArgsEscaped", Harmless), // a remark of Windows images
    ("AttachStderr", Honoured),
    ("AttachStdin", Honoured),
    ("AttachStdout", Honoured),
    ("Cmd", Honoured),
    ("Domainname", Honoured),
    ("Entrypoint", Honoured),
    ("Env", Honoured),
    ("ExposedPorts", Honoured),
    ("Healthcheck", Honoured), // see `healthcheck`
    ("HostConfig", Honoured),
    ("Hostname", Honoured),
    ("Image", Honoured),
    ("Labels", Honoured),
    ("MacAddress", Honoured), // of the network of the mode
    ("NetworkDisabled", Honoured),
    ("NetworkingConfig", Honoured),
    ("OnBuild", Harmless), // a remark for image builds
    ("OpenStdin", Honoured),
    ("Shell", Harmless), // a remark for image builds
    ("StdinOnce", Honoured),
    ("StopSignal", Honoured),
    ("StopTimeout", Honoured),
    ("Tare", Honoured),
    ("Tty", Honoured),
    ("User", Honoured),
    ("Volumes", Honoured),
    ("WorkingDir", Honoured),
];

/// Fields of `HostConfig`.
const HOST: &[(&str, Rule)] = &[
    ("Annotations", Honoured),
    ("AutoRemove", Honoured),
    ("Binds", Honoured),
    ("BlkioDeviceReadBps", Honoured),
    ("BlkioDeviceReadIOps", Honoured),
    ("BlkioDeviceWriteBps", Honoured),
    ("BlkioDeviceWriteIOps", Honoured),
    ("BlkioWeight", Honoured),
    ("BlkioWeightDevice", Honoured),
    ("CapAdd", Honoured),
    ("CapDrop", Honoured),
    ("Cgroup", Empty("it was never implemented by anyone")),
    ("CgroupParent", Honoured),
    ("CgroupnsMode", Honoured),
    ("ConsoleSize", Honoured),
    ("ContainerIDFile", Harmless), // the client writes that file
    ("CpuCount", Empty(WINDOWS)),
    ("CpuPercent", Empty(WINDOWS)),
    ("CpuPeriod", Honoured),
    ("CpuQuota", Honoured),
    ("CpuRealtimePeriod", Honoured),
    ("CpuRealtimeRuntime", Honoured),
    ("CpuShares", Honoured),
    ("CpusetCpus", Honoured),
    ("CpusetMems", Honoured),
    ("DeviceCgroupRules", Honoured),
    (
        "DeviceRequests",
        Empty("device drivers (GPUs, CDI) are not supported yet; name the device nodes in Devices"),
    ),
    ("Devices", Honoured),
    ("Dns", Honoured),
    ("DnsOptions", Honoured),
    ("DnsSearch", Honoured),
    ("ExtraHosts", Honoured),
    ("GroupAdd", Honoured),
    ("IOMaximumBandwidth", Empty(WINDOWS)),
    ("IOMaximumIOps", Empty(WINDOWS)),
    ("Init", Honoured),
    ("IpcMode", Honoured),
    ("Isolation", Words(&["default"], WINDOWS)),
    ("KernelMemory", Harmless), // Linux has no such limit any more; a warning says so
    ("KernelMemoryTCP", Empty("limits of TCP buffers are not supported")),
    ("Links", Honoured),
    ("LogConfig", Honoured),
    ("MaskedPaths", Honoured),
    ("Memory", Honoured),
    ("MemoryReservation", Honoured),
    ("MemorySwap", Honoured),
    ("MemorySwappiness", Honoured),
    ("Mounts", Honoured),
    ("NanoCpus", Honoured),
    ("NetworkMode", Honoured),
    ("OomKillDisable", Honoured),
    ("OomScoreAdj", Honoured),
    ("PidMode", Honoured),
    ("PidsLimit", Honoured),
    ("PortBindings", Honoured),
    ("Privileged", Honoured),
    ("PublishAllPorts", Honoured),
    ("ReadonlyPaths", Honoured),
    ("ReadonlyRootfs", Honoured),
    ("RestartPolicy", Honoured), // see `restart_policy`
    ("Runtime", Words(&["tare", "runc"], "there is one runtime, \"tare\"; leave it empty")),
    ("SecurityOpt", Honoured),
    ("ShmSize", Honoured),
    ("StorageOpt", Empty("storage options (such as a size limit) are not supported yet")),
    ("Sysctls", Honoured),
    ("Tmpfs", Honoured),
    ("UTSMode", Honoured),
    ("Ulimits", Honoured),
    ("UsernsMode", Words(&["host"], "leave it empty: then the container has a user namespace of its own")),
    ("VolumeDriver", Words(&["local"], "volume drivers are not supported")),
    (
        "VolumesFrom",
        Empty("sharing another container's volumes is not supported yet; bind a directory into both"),
    ),
];

/// Fields of what stands in these, for their spelling; what they hold is checked where it is read.
const NESTED: &[(&str, &[&str])] = &[
    ("Healthcheck", &["Test", "Interval", "Timeout", "Retries", "StartPeriod", "StartInterval"]),
    ("HostConfig.BlkioDeviceReadBps.[]", &["Path", "Rate"]),
    ("HostConfig.BlkioDeviceReadIOps.[]", &["Path", "Rate"]),
    ("HostConfig.BlkioDeviceWriteBps.[]", &["Path", "Rate"]),
    ("HostConfig.BlkioDeviceWriteIOps.[]", &["Path", "Rate"]),
    ("HostConfig.BlkioWeightDevice.[]", &["Path", "Weight"]),
    ("HostConfig.Devices.[]", &["PathOnHost", "PathInContainer", "CgroupPermissions"]),
    ("HostConfig.LogConfig", &["Type", "Config"]),
    (
        "HostConfig.Mounts.[]",
        &[
            "Type",
            "Source",
            "Target",
            "ReadOnly",
            "Consistency",
            "BindOptions",
            "ImageOptions",
            "TmpfsOptions",
            "VolumeOptions",
        ],
    ),
    (
        "HostConfig.Mounts.[].BindOptions",
        &[
            "Propagation",
            "NonRecursive",
            "CreateMountpoint",
            "ReadOnlyNonRecursive",
            "ReadOnlyForceRecursive",
        ],
    ),
    ("HostConfig.Mounts.[].ImageOptions", &["Subpath"]),
    ("HostConfig.Mounts.[].TmpfsOptions", &["SizeBytes", "Mode", "Options"]),
    ("HostConfig.Mounts.[].VolumeOptions", &["NoCopy", "Labels", "DriverConfig", "Subpath"]),
    ("HostConfig.Mounts.[].VolumeOptions.DriverConfig", &["Name", "Options"]),
    ("HostConfig.RestartPolicy", &["Name", "MaximumRetryCount"]),
    ("HostConfig.Ulimits.[]", &["Name", "Soft", "Hard"]),
    ("HostConfig.PortBindings.{}.[]", &["HostIp", "HostPort"]),
    ("NetworkingConfig", &["EndpointsConfig"]),
    ("NetworkingConfig.EndpointsConfig.{}", endpoint::FIELDS),
    ("NetworkingConfig.EndpointsConfig.{}.IPAMConfig", endpoint::IPAM_FIELDS),
];

/// Gives the fields their canonical spelling (Docker ignores case) and refuses what is asked for and not done.
pub(super) fn check(body: &mut Map<String, Value>) -> Result<()> {
    spell(body, TOP.iter().map(|(name, _)| *name));
    if let Some(Value::Object(host)) = body.get_mut("HostConfig") {
        spell(host, HOST.iter().map(|(name, _)| *name));
    }
    spell_within(body, NESTED);
    enforce(body, TOP, "")?;
    if let Some(Value::Object(host)) = body.get("HostConfig") {
        enforce(host, HOST, "HostConfig.")?;
        restart_policy(host.get("RestartPolicy").unwrap_or(&Value::Null))?;
    }
    healthcheck(body.get("Healthcheck").unwrap_or(&Value::Null))
}

/// Whether the value is Go's zero value, which clients send for "not set".
pub(super) fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Number(n) => n.as_f64() == Some(0.0),
        Value::String(s) => s.is_empty(),
        Value::Array(a) => a.is_empty(),
        Value::Object(o) => o.values().all(is_zero),
        Value::Bool(true) => false,
    }
}

/// Whether a create request has such a field in its `HostConfig`.
pub(super) fn is_known(name: &str) -> bool {
    HOST.iter().any(|(known, _)| known.eq_ignore_ascii_case(name))
}

fn enforce(object: &Map<String, Value>, table: &[(&str, Rule)], prefix: &str) -> Result<()> {
    for (name, rule) in table {
        let Some(value) = object.get(*name).filter(|v| !is_zero(v)) else { continue };
        let accepted = match rule {
            Honoured | Harmless => true,
            Empty(_) => false,
            Words(words, _) => value.as_str().is_some_and(|v| words.contains(&v)),
        };
        if let (false, Empty(why) | Words(_, why)) = (accepted, rule) {
            return Err(refused(&format!("{prefix}{name}"), value, why));
        }
    }
    Ok(())
}

fn refused(field: &str, value: &Value, why: &str) -> Error {
    let text: String = value.to_string().chars().take(100).collect();
    Error::unsupported(format!("{field} = {text}: {why}"))
}

/// Restarting is the engine's; until it does it, only "never" is accepted.
fn restart_policy(policy: &Value) -> Result<()> {
    match policy.get("Name").unwrap_or(&Value::Null) {
        name if is_zero(name) || name == "no" => match policy.get("MaximumRetryCount") {
            Some(count) if !is_zero(count) => Err(Error::invalid(format!(
                "invalid restart policy: maximum retry count can only be used with 'on-failure' \
                 (HostConfig.RestartPolicy.MaximumRetryCount = {count})"
            ))),
            _ => Ok(()),
        },
        name => Err(refused(
            "HostConfig.RestartPolicy.Name",
            name,
            "restart policies are not supported yet, only \"no\"",
        )),
    }
}

/// `["NONE"]` means no health check, which is what there is.
fn healthcheck(check: &Value) -> Result<()> {
    let test = check.get("Test").unwrap_or(&Value::Null);
    let none = is_zero(check) || *test == serde_json::json!(["NONE"]);
    let why = "health checks are not supported yet; use Test [\"NONE\"] (--no-healthcheck)";
    if none { Ok(()) } else { Err(refused("Healthcheck", check, why)) }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde::de::{Deserializer, Error as _, Visitor, value::Error as Stop};
    use serde_json::json;
    use tare_docker_api::models;

    use super::*;

    /// Catches the list of fields that a generated type asks its deserializer for.
    struct Fields<'a>(&'a mut &'static [&'static str]);

    impl<'de> Deserializer<'de> for Fields<'_> {
        type Error = Stop;
        fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Stop> {
            Err(Stop::custom("only structures"))
        }
        fn deserialize_struct<V: Visitor<'de>>(
            self,
            _: &'static str,
            fields: &'static [&'static str],
            _: V,
        ) -> Result<V::Value, Stop> {
            *self.0 = fields;
            Err(Stop::custom("seen"))
        }
        serde::forward_to_deserialize_any! {
            bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct
            newtype_struct seq tuple tuple_struct map enum identifier ignored_any
        }
    }

    fn fields_of<T: for<'de> Deserialize<'de>>() -> &'static [&'static str] {
        let mut fields: &'static [&'static str] = &[];
        let _ = T::deserialize(Fields(&mut fields));
        fields
    }

    fn verdict(body: Value) -> Result<()> {
        check(body.as_object().cloned().as_mut().expect("an object"))
    }

    #[test]
    fn the_tables_have_every_field_of_the_generated_models() {
        let top = fields_of::<models::ContainerCreateBody>();
        let host = fields_of::<models::HostConfig>();
        assert!(top.len() > 20 && host.len() > 60, "the models were read");
        for (fields, table) in [(top, TOP), (host, HOST)] {
            for field in fields {
                assert!(table.iter().any(|(name, _)| name == field), "{field} is missing from the table");
            }
        }
    }

    #[test]
    fn a_field_stands_in_its_table_once_and_in_order() {
        for table in [TOP, HOST] {
            assert!(table.windows(2).all(|w| w[0].0 < w[1].0));
        }
    }

    #[test]
    fn the_documentation_names_every_field_that_is_not_honoured() {
        let page = include_str!("../../../../docs/api.md");
        for (name, rule) in TOP.iter().chain(HOST) {
            assert!(matches!(rule, Honoured) || page.contains(&format!("`{name}`")), "{name}");
        }
    }

    #[test]
    fn what_is_not_supported_is_refused_by_its_name() {
        for (body, field) in [
            (json!({"HostConfig": {"UsernsMode": "private"}}), "HostConfig.UsernsMode"),
            (json!({"HostConfig": {"RestartPolicy": {"Name": "always"}}}), "HostConfig.RestartPolicy.Name"),
            (json!({"HostConfig": {"VolumesFrom": ["web"]}}), "HostConfig.VolumesFrom"),
            (json!({"HostConfig": {"DeviceRequests": [{"Count": -1}]}}), "HostConfig.DeviceRequests"),
            (json!({"HostConfig": {"StorageOpt": {"size": "1G"}}}), "HostConfig.StorageOpt"),
            (json!({"HostConfig": {"Runtime": "kata"}}), "HostConfig.Runtime"),
            (json!({"HostConfig": {"KernelMemoryTCP": 4096}}), "HostConfig.KernelMemoryTCP"),
            (json!({"Healthcheck": {"Test": ["CMD", "true"]}}), "Healthcheck"),
        ] {
            let e = verdict(body.clone()).expect_err(field);
            assert!(e.message().contains(field), "{e}");
            assert_eq!(e.kind(), tare_model::ErrorKind::Unsupported, "{body}");
        }
    }

    #[test]
    fn zero_values_ask_for_nothing() {
        let zero = |v: Value| {
            HOST.iter().map(|(name, _)| ((*name).to_owned(), v.clone())).collect::<Map<String, Value>>()
        };
        for v in [json!(null), json!(false), json!(0), json!(""), json!([]), json!({})] {
            assert_eq!(verdict(json!({ "HostConfig": zero(v.clone()) })), Ok(()), "{v}");
        }
        let policy = json!({"HostConfig": {"RestartPolicy": {"Name": "no", "MaximumRetryCount": 0}}});
        assert_eq!(verdict(policy), Ok(()));
        assert_eq!(verdict(json!({"Healthcheck": {"Test": ["NONE"]}})), Ok(()));
        let networking = json!({"EndpointsConfig": {"host": {"Links": null}}});
        let host = json!({"HostConfig": {"NetworkMode": "host"}, "NetworkingConfig": networking});
        assert_eq!(verdict(host), Ok(()));
    }

    #[test]
    fn unknown_fields_are_dockers_to_ignore() {
        assert_eq!(verdict(json!({"Colour": "red", "HostConfig": {"Weather": {"sun": 1}}})), Ok(()));
    }

    #[test]
    fn another_spelling_is_the_same_field() {
        let e = verdict(json!({"hostconfig": {"VOLUMESFROM": ["web"]}}));
        assert!(e.expect_err("refused").message().contains("HostConfig.VolumesFrom"));
    }
}
