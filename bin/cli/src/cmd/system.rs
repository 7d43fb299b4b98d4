//! `version` and `info`.

use crate::context::{Context, complain, print};
use crate::failure::{Failure, Outcome};
use crate::flags::{Flag, Given, text};
use crate::output::format::{executing, parse};
use crate::output::human;
use crate::template::{Root, Value};
use serde_json::json;
use std::fmt::Write as _;
use tare_docker_api::client::{DEFAULT_VERSION, Request};

/// Flags of `version` and `info`.
pub(crate) const FLAGS: &[Flag] =
    &[text("format", Some('f'), "string", "Format output: 'json' or a Go template")];

/// `tare version`.
pub(crate) fn version(context: &Context, given: &Given) -> Outcome {
    let client = json!({
        "Version": env!("CARGO_PKG_VERSION"),
        "ApiVersion": DEFAULT_VERSION,
        "Os": std::env::consts::OS,
        "Arch": go_arch(std::env::consts::ARCH),
    });
    let answer = context.client().and_then(|mut c| Ok(c.json::<Value>(Request::get("/version"))?));
    let (server, failure) = match answer {
        Ok(server) => (server, None),
        Err(failure) => (Value::Null, Some(failure)),
    };
    let both = json!({"Client": client, "Server": server});
    let shown = if given.one("format") == Some("json") { both.clone() } else { with_go_names(&both) };
    match formatted(given, &shown)? {
        Some(text) => print(&text)?,
        None => print(&version_text(&both))?,
    }
    failure.map_or(Ok(0), Err)
}

/// Templates name this field as Go does, documents as JSON does; `json` alone prints the document as it is.
fn with_go_names(both: &Value) -> Value {
    let mut both = both.clone();
    for side in ["Client", "Server"] {
        if let Some(map) = both[side].as_object_mut() {
            let version = map.get("ApiVersion").cloned().unwrap_or(Value::Null);
            map.insert("APIVersion".to_owned(), version);
        }
    }
    both
}

/// What Go, and so Docker, calls an architecture.
fn go_arch(arch: &str) -> &str {
    match arch {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn version_text(both: &Value) -> String {
    let mut out = String::from("Client:\n");
    let line = |out: &mut String, indent: &str, name: &str, value: &Value| {
        if let Some(value) = value.as_str().filter(|v| !v.is_empty()) {
            let _ = writeln!(out, "{indent}{:<18}{value}", format!("{name}:"));
        }
    };
    let os_arch = |v: &Value| match (v["Os"].as_str(), v["Arch"].as_str()) {
        (Some(os), Some(arch)) => Value::from(format!("{os}/{arch}")),
        _ => Value::Null,
    };
    let client = &both["Client"];
    line(&mut out, " ", "Version", &client["Version"]);
    line(&mut out, " ", "API version", &client["ApiVersion"]);
    line(&mut out, " ", "OS/Arch", &os_arch(client));
    let server = &both["Server"];
    if server.is_null() {
        return out;
    }
    let _ = writeln!(out, "\nServer: {}", server["Platform"]["Name"].as_str().unwrap_or_default());
    out.truncate(out.trim_end().len());
    out.push_str("\n Engine:\n");
    line(&mut out, "  ", "Version", &server["Version"]);
    let api = match (server["ApiVersion"].as_str(), server["MinAPIVersion"].as_str()) {
        (Some(api), Some(least)) => Value::from(format!("{api} (minimum version {least})")),
        _ => server["ApiVersion"].clone(),
    };
    line(&mut out, "  ", "API version", &api);
    line(&mut out, "  ", "Git commit", &server["GitCommit"]);
    line(&mut out, "  ", "Built", &server["BuildTime"]);
    line(&mut out, "  ", "OS/Arch", &os_arch(server));
    line(&mut out, "  ", "Kernel", &server["KernelVersion"]);
    for part in server["Components"].as_array().into_iter().flatten().filter(|c| c["Name"] != "Engine") {
        let _ = writeln!(out, " {}:", part["Name"].as_str().unwrap_or_default());
        line(&mut out, "  ", "Version", &part["Version"]);
        line(&mut out, "  ", "GitCommit", &part["Details"]["GitCommit"]);
    }
    out
}

/// `tare info`.
pub(crate) fn info(context: &Context, given: &Given) -> Outcome {
    let mut server: Value = context.client()?.json(Request::get("/info"))?;
    if let Some(map) = server.as_object_mut() {
        map.insert("ClientInfo".to_owned(), json!({"Version": env!("CARGO_PKG_VERSION")}));
    }
    match formatted(given, &server)? {
        Some(text) => print(&text)?,
        None => print(&info_text(&server))?,
    }
    for warning in server["Warnings"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        complain(warning);
    }
    Ok(0)
}

fn info_text(server: &Value) -> String {
    let mut out = format!("Client:\n Version:    {}\n\nServer:\n", env!("CARGO_PKG_VERSION"));
    let fields = [
        (" Containers", "Containers"),
        ("  Running", "ContainersRunning"),
        ("  Paused", "ContainersPaused"),
        ("  Stopped", "ContainersStopped"),
        (" Images", "Images"),
        (" Server Version", "ServerVersion"),
        (" Storage Driver", "Driver"),
        (" Logging Driver", "LoggingDriver"),
        (" Cgroup Driver", "CgroupDriver"),
        (" Cgroup Version", "CgroupVersion"),
        (" Default Runtime", "DefaultRuntime"),
        (" Kernel Version", "KernelVersion"),
        (" Operating System", "OperatingSystem"),
        (" OSType", "OSType"),
        (" Architecture", "Architecture"),
        (" CPUs", "NCPU"),
        (" Name", "Name"),
        (" ID", "ID"),
        (" Root Dir", "DockerRootDir"),
    ];
    for (title, field) in fields {
        match &server[field] {
            Value::Null => {}
            Value::String(text) if text.is_empty() => {}
            Value::String(text) => out.push_str(&format!("{title}: {text}\n")),
            other => out.push_str(&format!("{title}: {other}\n")),
        }
    }
    if let Some(bytes) = server["MemTotal"].as_f64() {
        let _ = writeln!(out, " Total Memory: {}", human::size_binary(bytes));
    }
    let options: Vec<&str> =
        server["SecurityOptions"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if !options.is_empty() {
        out.push_str(" Security Options:\n");
    }
    for option in options {
        let _ = writeln!(out, "  {}", option.trim_start_matches("name="));
    }
    out
}

fn formatted(given: &Given, value: &Value) -> Result<Option<String>, Failure> {
    match given.one("format").filter(|f| !f.is_empty()) {
        None => Ok(None),
        Some("json") => Ok(Some(value.to_string() + "\n")),
        Some(format) => {
            let root = Root { optional: &|_| false, ..Root::plain(value) };
            let text = parse(format, "template parsing error")?.execute(&root).map_err(executing)?;
            Ok(Some(text + "\n"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_names_both_sides() {
        let both = json!({"Client": {"Version": "1", "ApiVersion": "1.47", "Os": "linux", "Arch": "amd64"},
            "Server": {"Version": "2", "ApiVersion": "1.55", "MinAPIVersion": "1.40", "Components": [{"Name": "Engine", "Version": "2"}, {"Name": "shim", "Version": "3"}]}});
        let text = version_text(&both);
        assert!(text.starts_with("Client:\n Version:          1\n API version:      1.47\n OS/Arch:          linux/amd64\n\nServer:\n Engine:\n"), "{text}");
        assert!(
            text.ends_with(
                "  API version:      1.55 (minimum version 1.40)\n shim:\n  Version:          3\n"
            ),
            "{text}"
        );
    }

    #[test]
    fn templates_may_use_gos_name_for_the_api_version() {
        let both = with_go_names(&json!({"Client": {"ApiVersion": "1"}, "Server": {"ApiVersion": "2"}}));
        assert_eq!(
            (&both["Client"]["APIVersion"], &both["Server"]["APIVersion"]),
            (&json!("1"), &json!("2"))
        );
    }

    #[test]
    fn the_info_leaves_out_what_the_daemon_does_not_say() {
        let text = info_text(&json!({"Containers": 3, "ServerVersion": "1", "Driver": "", "MemTotal": 1024}));
        assert!(text.contains(" Containers: 3\n Server Version: 1\n Total Memory: 1KiB\n"), "{text}");
        assert!(!text.contains("Storage"));
    }
}
