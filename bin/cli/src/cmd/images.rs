//! `images`, `tag`, `rmi`, `load`, `import`.

use super::{path_name, ps};
use crate::context::{Context, complain, for_each, print, print_line};
use crate::failure::{Failure, Outcome, plain};
use crate::flags::{Flag, Given, list, refused, refused_switch, switch, text};
use crate::options::filter;
use crate::output::format::{Layout, Row, render};
use crate::output::human;
use crate::term::is_terminal;
use serde_json::Value;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, stdin};
use tare_docker_api::client::{Client, Request};
use tare_docker_api::models::ImageDeleteResponseItem;
use tare_model::reference::Reference;
use time::OffsetDateTime;

/// Flags of `images`.
pub(crate) const IMAGES: &[Flag] = &[
    switch("all", Some('a'), "Show all images (default hides intermediate images)"),
    switch("digests", None, "Show digests"),
    list("filter", Some('f'), "Filter output based on conditions provided")
        .valued("filter")
        .checked(filter::check),
    text("format", None, "string", "Format output: 'table', 'table TEMPLATE', 'json' or a Go template"),
    switch("no-trunc", None, "Don't truncate output"),
    switch("quiet", Some('q'), "Only show image IDs"),
    refused_switch("tree", None, "images have one platform"),
];
/// Flags of `rmi`.
pub(crate) const RMI: &[Flag] = &[
    switch("force", Some('f'), "Force removal of the image"),
    switch("no-prune", None, "Do not delete untagged parents"),
    refused("platform", None, "images have one platform"),
];
/// Flags of `load`.
pub(crate) const LOAD: &[Flag] = &[
    text("input", Some('i'), "string", "Read from tar archive file, or - for STDIN, which is the default"),
    refused("platform", None, "images have one platform"),
    switch("quiet", Some('q'), "Suppress the load output"),
];
/// Flags of `import`.
pub(crate) const IMPORT: &[Flag] = &[
    list("change", Some('c'), "Apply Dockerfile instruction to the created image"),
    text("message", Some('m'), "string", "Set commit message for imported image"),
    refused("platform", None, "images have one platform"),
];

const fn layout(table: &'static str) -> Layout {
    Layout {
        kind: "*formatter.imageContext",
        titles: &[
            ("ID", "IMAGE ID"),
            ("Repository", "REPOSITORY"),
            ("Tag", "TAG"),
            ("Digest", "DIGEST"),
            ("CreatedSince", "CREATED"),
            ("CreatedAt", "CREATED AT"),
            ("Size", "SIZE"),
            ("Containers", "CONTAINERS"),
            ("VirtualSize", "SIZE"),
            ("SharedSize", "SHARED SIZE"),
            ("UniqueSize", "UNIQUE SIZE"),
        ],
        table,
        quiet: "{{.ID}}",
        raw: RAW,
    }
}

const TABLE: &str = "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}";
const TABLE_WITH_DIGESTS: &str =
    "{{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}";

const RAW: &str = "repository: {{.Repository}}\ntag: {{.Tag}}\nimage_id: {{.ID}}\ncreated_at: {{.CreatedAt}}\n\
    virtual_size: {{.Size}}\n";

/// `tare images`.
pub(crate) fn images(context: &Context, given: &Given) -> Outcome {
    let reference = given.args.first().map(|r| format!("reference={r}"));
    let mut filters = given.many("filter");
    filters.extend(reference.as_deref());
    let mut request = Request::get("/images/json").flag("all", given.on("all"));
    if let Some(filters) = filter::query(&filters) {
        request = request.query("filters", filters);
    }
    let found: Vec<Value> = context.client()?.json(request)?;
    let now = OffsetDateTime::now_utc();
    let digests = given.on("digests");
    let rows: Vec<Row> = found.iter().flat_map(|i| rows(i, given.on("no-trunc"), digests, now)).collect();
    let table = layout(if digests { TABLE_WITH_DIGESTS } else { TABLE });
    let mut text = render(&table, given.one("format"), given.on("quiet"), &rows)?;
    if given.on("quiet") && given.one("format").is_none() {
        text = without_repeats(&text);
    }
    print(&text)?;
    Ok(0)
}

/// An image with several tags is listed once by `-q`.
fn without_repeats(text: &str) -> String {
    let mut seen = std::collections::HashSet::new();
    text.lines().filter(|line| seen.insert(*line)).map(|line| format!("{line}\n")).collect()
}

/// A row for each tag, or one for an image without any.
fn rows(image: &Value, whole: bool, digests: bool, now: OffsetDateTime) -> Vec<Row> {
    let strings = |field: &str| -> Vec<&str> {
        let all = image[field].as_array().into_iter().flatten().filter_map(Value::as_str);
        all.filter(|t| !t.starts_with("<none>")).collect()
    };
    let (tags, named) = (strings("RepoTags"), strings("RepoDigests"));
    let digest_of = |repository: &str| {
        let found = named.iter().find_map(|d| d.strip_prefix(repository)?.strip_prefix('@'));
        found.filter(|_| digests).unwrap_or("<none>").to_owned()
    };
    if tags.is_empty() {
        let repository = named.first().and_then(|d| d.split('@').next()).unwrap_or("<none>");
        return vec![row(image, repository, "<none>", &digest_of(repository), whole, now)];
    }
    let split = |tag: &str| {
        tag.rsplit_once(':')
            .map_or((tag.to_owned(), "<none>".to_owned()), |(r, t)| (r.to_owned(), t.to_owned()))
    };
    tags.iter()
        .map(|tag| {
            let (repository, tag) = split(tag);
            row(image, &repository, &tag, &digest_of(&repository), whole, now)
        })
        .collect()
}

fn row(image: &Value, repository: &str, tag: &str, digest: &str, whole: bool, now: OffsetDateTime) -> Row {
    let id = image["Id"].as_str().unwrap_or_default();
    let created = image["Created"].as_i64().unwrap_or(0);
    let since = if created > 0 { human::ago(created, now) } else { "N/A".to_owned() };
    let counted = |field: &str| image[field].as_f64().filter(|n| *n >= 0.0);
    let size = human::size(counted("Size").unwrap_or(0.0));
    let or_none = |value: Option<String>| Value::from(value.unwrap_or_else(|| "N/A".to_owned()));
    let columns = vec![
        ("ID", Value::from(if whole { id.to_owned() } else { human::short_id(id) })),
        ("Repository", Value::from(repository)),
        ("Tag", Value::from(tag)),
        ("Digest", Value::from(digest)),
        ("CreatedSince", Value::from(since)),
        ("CreatedAt", Value::from(human::stamp(created))),
        ("Size", Value::from(size)),
        ("Containers", or_none(counted("Containers").map(|n| n.to_string()))),
        ("VirtualSize", Value::from(human::size_precise(counted("Size").unwrap_or(0.0)))),
        ("SharedSize", or_none(counted("SharedSize").map(human::size))),
        ("UniqueSize", or_none(None)),
    ];
    Row { columns, labels: ps::labels(&image["Labels"]) }
}

/// `tare tag`.
pub(crate) fn tag(context: &Context, given: &Given) -> Outcome {
    let [source, target] = given.args.as_slice() else { return Err(Failure::new("tag takes two names")) };
    if let Err(e) = target.parse::<Reference>() {
        let why = format!("Error parsing reference: {target:?} is not a valid repository/tag: {e}");
        return Err(Failure::new(why));
    }
    let (repository, tag) = split_reference(target);
    let request = Request::post(format!("/images/{}/tag", path_name(source)))
        .query("repo", repository)
        .query("tag", tag);
    context.client()?.done(request)?;
    Ok(0)
}

/// `host:5000/name:tag` into what is before the tag and the tag, `latest` if there is none.
fn split_reference(reference: &str) -> (&str, &str) {
    match reference.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository, tag),
        _ => (reference, "latest"),
    }
}

/// `tare rmi`.
pub(crate) fn remove(context: &Context, given: &Given) -> Outcome {
    let mut client = context.client()?;
    for_each(&given.args, |name| {
        let request = Request::delete(format!("/images/{}", path_name(name)));
        let request = request.flag("force", given.on("force")).flag("noprune", given.on("no-prune"));
        for item in client.json::<Vec<ImageDeleteResponseItem>>(request)? {
            if let Some(name) = item.untagged {
                print_line(format!("Untagged: {name}"))?;
            }
            if let Some(id) = item.deleted {
                print_line(format!("Deleted: {id}"))?;
            }
        }
        Ok(())
    })
}

/// `tare load`.
pub(crate) fn load(context: &Context, given: &Given) -> Outcome {
    let mut source = open(given.one("input").unwrap_or("-"))?;
    let request = Request::post("/images/load").flag("quiet", given.on("quiet")).stream(&mut source);
    progress(&mut context.client()?, request, &["stream"])
}

/// `tare import`.
pub(crate) fn import(context: &Context, given: &Given) -> Outcome {
    let from = &given.args[0];
    if from.starts_with("http://") || from.starts_with("https://") {
        return Err(Failure::new(format!(
            "importing from a URL is not supported yet: download {from} and import the file"
        )));
    }
    let mut source = open(from)?;
    let mut request = Request::post("/images/create").query("fromSrc", "-");
    if let Some(reference) = given.args.get(1) {
        let (repository, tag) = split_reference(reference);
        request = request.query("repo", repository).query("tag", tag);
    }
    if let Some(message) = given.some("message") {
        request = request.query("message", message);
    }
    for change in given.many("change") {
        request = request.query("changes", change);
    }
    progress(&mut context.client()?, request.stream(&mut source), &["status"])
}

fn open(path: &str) -> Result<Box<dyn Read>, Failure> {
    if path != "-" {
        let file = File::open(path).and_then(|file| match file.metadata()?.is_dir() {
            true => Err(std::io::ErrorKind::IsADirectory.into()),
            false => Ok(file),
        });
        let file = file.map_err(|e| Failure::new(format!("open {path}: {}", plain(&e))))?;
        return Ok(Box::new(file));
    }
    if is_terminal(stdin()) {
        return Err(Failure::new("requested load from stdin, but stdin is empty"));
    }
    Ok(Box::new(stdin()))
}

/// Sends an archive and prints what the daemon says of it, one JSON document a line.
fn progress(client: &mut Client, request: Request<'_>, shown: &[&str]) -> Outcome {
    let what = request.describe();
    let response = client.send(request)?;
    let mut code = 0;
    for line in BufReader::new(response).lines() {
        let line = line.map_err(|e| Failure::io(&what, &e))?;
        if line.trim().is_empty() {
            continue;
        }
        let Ok(message) = serde_json::from_str::<Value>(&line) else {
            print_line(&line)?;
            continue;
        };
        if let Some(error) = message["error"].as_str().or(message["errorDetail"]["message"].as_str()) {
            complain(error);
            code = 1;
        }
        if let Some(text) = shown.iter().find_map(|field| message[*field].as_str()) {
            print_line(text.trim_end_matches('\n'))?;
        }
    }
    Ok(code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use time::macros::datetime;

    #[test]
    fn a_reference_is_cut_at_its_tag_and_not_at_a_port() {
        assert_eq!(split_reference("a/b:1"), ("a/b", "1"));
        assert_eq!(split_reference("host:5000/b"), ("host:5000/b", "latest"));
        assert_eq!(split_reference("host:5000/b:x"), ("host:5000/b", "x"));
    }

    #[test]
    fn an_image_has_a_row_for_each_tag() {
        let image = json!({
            "Id": "sha256:0123456789abcdef", "RepoTags": ["a:1", "host:5000/b:2"], "RepoDigests": ["a@sha256:d"],
            "Created": 1_704_164_640, "Size": 72_800_000, "SharedSize": -1, "Containers": -1,
        });
        let all = rows(&image, false, true, datetime!(2024-01-02 03:04:20 UTC));
        let out = render(&layout(TABLE_WITH_DIGESTS), None, false, &all).expect("output");
        let want = "REPOSITORY    TAG       DIGEST     IMAGE ID       CREATED          SIZE\n\
                    a             1         sha256:d   0123456789ab   20 seconds ago   72.8MB\n\
                    host:5000/b   2         <none>     0123456789ab   20 seconds ago   72.8MB\n";
        assert_eq!(out, want);
        let quiet = render(&layout(TABLE), None, true, &all).expect("output");
        assert_eq!(without_repeats(&quiet), "0123456789ab\n");
    }

    #[test]
    fn an_image_without_a_tag_is_listed_as_none() {
        let image = json!({"Id": "sha256:0123456789abcdef", "RepoTags": ["<none>:<none>"], "RepoDigests": [], "Created": 0, "Size": 1});
        let all = rows(&image, false, false, datetime!(2024-01-02 03:04:20 UTC));
        assert_eq!(
            render(&layout(TABLE), Some("{{.Repository}}:{{.Tag}} {{.CreatedSince}}"), false, &all),
            Ok("<none>:<none> N/A\n".into())
        );
    }
}
