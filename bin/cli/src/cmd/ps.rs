//! `ps`.

use crate::context::{Context, complain, print};
use crate::failure::{Failure, Outcome};
use crate::flags::{Flag, Given, integer, list, switch, text};
use crate::options::filter;
use crate::output::format::{Layout, Row, render};
use crate::output::human;
use crate::output::json::quote;
use crate::output::ports::ports;
use serde_json::Value;
use tare_docker_api::client::Request;
use time::OffsetDateTime;

/// Flags of `ps`.
pub(crate) const FLAGS: &[Flag] = &[
    switch("all", Some('a'), "Show all containers (default shows just running)"),
    list("filter", Some('f'), "Filter output based on conditions provided")
        .valued("filter")
        .checked(filter::check),
    text("format", None, "string", "Format output: 'table', 'table TEMPLATE', 'json' or a Go template"),
    text("last", Some('n'), "int", "Show n last created containers (includes all states)").checked(integer),
    switch("latest", Some('l'), "Show the latest created container (includes all states)"),
    switch("no-trunc", None, "Don't truncate output"),
    switch("quiet", Some('q'), "Only display container IDs"),
    switch("size", Some('s'), "Display total file sizes"),
];

const TABLE: &str = "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}";
const TABLE_WITH_SIZE: &str =
    "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}\t{{.Size}}";

const RAW: &str = "container_id: {{.ID}}\nimage: {{.Image}}\ncommand: {{.Command}}\ncreated_at: {{.CreatedAt}}\n\
    state: {{- pad .State 1 0}}\nstatus: {{- pad .Status 1 0}}\nnames: {{.Names}}\nlabels: {{- pad .Labels 1 0}}\n\
    ports: {{- pad .Ports 1 0}}\n";

const fn layout(table: &'static str) -> Layout {
    Layout {
        kind: "*formatter.ContainerContext",
        titles: &[
            ("ID", "CONTAINER ID"),
            ("Names", "NAMES"),
            ("Image", "IMAGE"),
            ("Command", "COMMAND"),
            ("CreatedAt", "CREATED AT"),
            ("RunningFor", "CREATED"),
            ("Ports", "PORTS"),
            ("State", "STATE"),
            ("Status", "STATUS"),
            ("Size", "SIZE"),
            ("Labels", "LABELS"),
            ("Mounts", "MOUNTS"),
            ("LocalVolumes", "LOCAL VOLUMES"),
            ("Networks", "NETWORKS"),
        ],
        table,
        quiet: "{{.ID}}",
        raw: RAW,
    }
}

/// `tare ps`.
pub(crate) fn ps(context: &Context, given: &Given) -> Outcome {
    let format = format(given);
    let size = given.on("size") || format.is_some_and(|f| f.contains(".Size"));
    let mut request = Request::get("/containers/json").flag("all", given.on("all")).flag("size", size);
    let last = if given.on("latest") { Some(1) } else { given.number("last").filter(|n| *n > 0) };
    if let Some(last) = last {
        request = request.query("limit", last.to_string());
    }
    if let Some(filters) = filter::query(&given.many("filter")) {
        request = request.query("filters", filters);
    }
    let found: Vec<Value> = context.client()?.json(request)?;
    let now = OffsetDateTime::now_utc();
    let rows: Vec<Row> = found.iter().map(|c| row(c, given.on("no-trunc"), now)).collect();
    let table = layout(if given.on("size") { TABLE_WITH_SIZE } else { TABLE });
    let text: Result<String, Failure> = render(&table, format, given.on("quiet"), &rows);
    print(&text?)?;
    Ok(0)
}

/// The format that was given; beside `--quiet` it does not count here, though it does with images.
fn format(given: &Given) -> Option<&str> {
    let format = given.one("format").filter(|f| !f.is_empty());
    if given.on("quiet") && format.is_some_and(|f| f != "table" && !f.starts_with("table ")) {
        complain("WARNING: Ignoring custom format, because both --format and --quiet are set.");
        return None;
    }
    format
}

fn row(c: &Value, whole: bool, now: OffsetDateTime) -> Row {
    let text = |field: &str| c[field].as_str().unwrap_or_default().to_owned();
    let created = c["Created"].as_i64().unwrap_or(0);
    let command = if whole { text("Command") } else { human::ellipsis(&text("Command"), 20) };
    let id = if whole { text("Id") } else { human::short_id(&text("Id")) };
    let labels = labels(&c["Labels"]);
    let columns = vec![
        ("ID", Value::from(id)),
        ("Names", Value::from(names(&c["Names"], whole))),
        ("Image", Value::from(image(&text("Image"), &text("ImageID"), whole))),
        ("Command", Value::from(quote(&command))),
        ("CreatedAt", Value::from(human::stamp(created))),
        ("RunningFor", Value::from(human::ago(created, now))),
        ("Platform", Value::Null),
        ("Ports", Value::from(ports(&c["Ports"]))),
        ("State", Value::from(text("State"))),
        ("Status", Value::from(text("Status"))),
        ("Size", Value::from(size(c))),
        ("Labels", Value::from(labels.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(","))),
        ("Mounts", Value::from(mounts(&c["Mounts"], whole))),
        ("LocalVolumes", Value::from(local_volumes(&c["Mounts"]).to_string())),
        ("Networks", Value::from(networks(&c["NetworkSettings"]["Networks"]))),
    ];
    Row { columns, labels }
}

/// Labels in the order of their names.
pub(super) fn labels(value: &Value) -> Vec<(String, String)> {
    let map = value.as_object().into_iter().flatten();
    let mut out: Vec<(String, String)> =
        map.map(|(k, v)| (k.clone(), v.as_str().unwrap_or_default().to_owned())).collect();
    out.sort();
    out
}

fn strings(value: &Value) -> impl Iterator<Item = &str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str)
}

/// A name with a second slash is another container's name for this one, which only `--no-trunc` shows.
fn names(value: &Value, whole: bool) -> String {
    let names = strings(value).map(|n| n.trim_start_matches('/'));
    names.filter(|n| whole || !n.contains('/')).collect::<Vec<_>>().join(",")
}

fn image(name: &str, id: &str, whole: bool) -> String {
    match name {
        "" => "<no image>".to_owned(),
        name if !whole && (name == id || name.starts_with("sha256:")) => human::short_id(name),
        name if !whole => name.split('@').next().unwrap_or(name).to_owned(),
        name => name.to_owned(),
    }
}

fn size(c: &Value) -> String {
    let bytes = |field: &str| c[field].as_f64().unwrap_or(0.0);
    let own = human::size(bytes("SizeRw"));
    if bytes("SizeRootFs") > 0.0 {
        format!("{own} (virtual {})", human::size(bytes("SizeRootFs")))
    } else {
        own
    }
}

fn mounts(value: &Value, whole: bool) -> String {
    let names = value.as_array().into_iter().flatten().map(|m| {
        let name = m["Name"].as_str().filter(|n| !n.is_empty()).or(m["Source"].as_str()).unwrap_or_default();
        if whole { name.to_owned() } else { human::ellipsis(name, 15) }
    });
    names.collect::<Vec<_>>().join(",")
}

fn local_volumes(value: &Value) -> usize {
    value.as_array().into_iter().flatten().filter(|m| m["Driver"].as_str() == Some("local")).count()
}

fn networks(value: &Value) -> String {
    let mut names: Vec<&str> = value.as_object().into_iter().flatten().map(|(k, _)| k.as_str()).collect();
    names.sort_unstable();
    names.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use time::macros::datetime;

    fn sample() -> Value {
        json!({
            "Id": "0123456789abcdef", "Names": ["/web", "/other/web"], "Image": "sha256:fedcba9876543210", "ImageID": "x",
            "Command": "sh -c 'sleep 1000; echo \"done\"'", "Created": 1_704_164_640, "State": "running", "Status": "Up 5 seconds",
            "Ports": [{"PrivatePort": 80, "Type": "tcp"}, {"IP": "::", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"}],
            "Labels": {"b": "2", "a": "1"}, "SizeRw": 5, "SizeRootFs": 1_000_000,
            "Mounts": [{"Name": "", "Source": "/a/very/long/source", "Driver": ""}, {"Name": "vol", "Driver": "local"}],
            "NetworkSettings": {"Networks": {"none": {}}},
        })
    }

    fn show(format: &str, whole: bool) -> String {
        let rows = [row(&sample(), whole, datetime!(2024-01-02 03:04:20 UTC))];
        render(&layout(TABLE), Some(format), false, &rows).expect("output")
    }

    #[test]
    fn every_column_reads_as_dockers() {
        assert_eq!(
            show("{{.ID}}|{{.Names}}|{{.Image}}|{{.Command}}|{{.RunningFor}}|{{.Status}}|{{.Ports}}", false),
            "0123456789ab|web|fedcba987654|\"sh -c 'sleep 1000; …\"|20 seconds ago|Up 5 seconds|80/tcp, [::]:8080->80/tcp\n"
        );
        assert_eq!(
            show(
                "{{.Size}}|{{.Labels}}|{{.Mounts}}|{{.LocalVolumes}}|{{.Networks}}|{{.CreatedAt}}|{{.Label \"b\"}}",
                false
            ),
            "5B (virtual 1MB)|a=1,b=2|/a/very/long/s…,vol|1|none|2024-01-02 03:04:00 +0000 UTC|2\n"
        );
    }

    #[test]
    fn nothing_is_cut_when_asked_so() {
        assert_eq!(
            show("{{.ID}}|{{.Names}}|{{.Image}}|{{.Command}}", true),
            "0123456789abcdef|web,other/web|sha256:fedcba9876543210|\"sh -c 'sleep 1000; echo \\\"done\\\"'\"\n"
        );
    }

    #[test]
    fn the_table_has_dockers_titles() {
        let head = show("table", false);
        let words =
            "CONTAINER ID   IMAGE          COMMAND                  CREATED          STATUS         PORTS";
        assert!(head.starts_with(words), "{head}");
    }
}
