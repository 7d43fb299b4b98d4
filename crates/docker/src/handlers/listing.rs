//! `GET /containers/json`: which containers, and how much they occupy.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;
use tare_docker_api::Filters;
use tare_engine::{ContainerView, ListFilter};
use tare_model::container::NetworkMode;
use tare_model::{Error, Status};

use super::now;
use crate::backend::{Containers, Images};
use crate::error::Result;
use crate::http::{Call, Reply};
use crate::show::summary::{self, Sizes};

const KNOWN: [&str; 11] =
    ["ancestor", "before", "exited", "health", "id", "label", "name", "network", "since", "status", "volume"];

pub(crate) async fn list<B: Containers + Images>(backend: Arc<B>, call: Call) -> Result<Reply> {
    let filters = Filters::parse(call.query.text("filters"))?;
    filters.only(&KNOWN)?;
    let names = filters.values("name").map(NamePattern::parse).collect::<tare_model::Result<Vec<_>>>()?;
    let limit = call.query.number::<i64>("limit")?.filter(|n| *n > 0).and_then(|n| usize::try_from(n).ok());
    let all = call.query.flag("all") || limit.is_some();
    let mut found = backend.list(&engine_filter(&filters, all)?)?;
    found.retain(|view| {
        (names.is_empty() || names.iter().any(|n| n.matches(view.name.as_str())))
            && has_no_other(view, &filters)
    });
    found.truncate(limit.unwrap_or(usize::MAX));
    let with_sizes = call.query.flag("size");
    let mut rows: Vec<Value> = Vec::with_capacity(found.len());
    for view in &found {
        let sizes = if with_sizes { Some(sizes(&*backend, view).await?) } else { None };
        rows.push(summary::summary(view, now(), sizes));
    }
    Ok(Reply::ok(&rows))
}

/// The part of the filters that the engine applies.
fn engine_filter(filters: &Filters, all: bool) -> tare_model::Result<ListFilter> {
    let list = |name: &str| filters.values(name).map(str::to_owned).collect::<Vec<_>>();
    let one = |name: &str| filters.values(name).next().map(str::to_owned);
    let code = |v: &str| v.parse::<i32>().map_err(|_| Error::invalid(format!("invalid filter 'exited={v}'")));
    Ok(ListFilter {
        // A state is asked for, so those that do not run are meant too.
        all: all || filters.contains("status"),
        limit: None,
        status: filters.values("status").map(status).collect::<Result<_, _>>()?,
        id: list("id"),
        name: Vec::new(),
        label: list("label"),
        ancestor: list("ancestor"),
        exited: filters.values("exited").map(code).collect::<Result<_, _>>()?,
        before: one("before"),
        since: one("since"),
        volume: list("volume"),
    })
}

fn status(word: &str) -> tare_model::Result<Status> {
    const ALL: [Status; 7] = [
        Status::Created,
        Status::Running,
        Status::Paused,
        Status::Restarting,
        Status::Removing,
        Status::Exited,
        Status::Dead,
    ];
    let found = ALL.into_iter().find(|s| s.as_str() == word);
    found.ok_or_else(|| Error::invalid(format!("invalid filter 'status={word}'")))
}

/// Filters on what all containers have in common here: no health checks, and one of two networks.
fn has_no_other(view: &ContainerView, filters: &Filters) -> bool {
    let network = match view.fixed.config.namespaces.network {
        NetworkMode::Host => "host",
        NetworkMode::Default | NetworkMode::Bridge | NetworkMode::None => "none",
    };
    (!filters.contains("health") || filters.values("health").any(|v| v == "none"))
        && (!filters.contains("network") || filters.values("network").any(|v| v == network))
}

/// A name filter: part of a name, or with `^` and `$` its beginning and end. Docker takes any regular expression here;
/// people use these two signs.
struct NamePattern {
    text: String,
    from_start: bool,
    to_end: bool,
}

impl NamePattern {
    fn parse(pattern: &str) -> tare_model::Result<Self> {
        let (from_start, rest) = pattern.strip_prefix('^').map_or((false, pattern), |p| (true, p));
        let (to_end, rest) = rest.strip_suffix('$').map_or((false, rest), |p| (true, p));
        let text = rest.strip_prefix('/').map_or(rest, |t| t);
        if text.contains(['*', '+', '?', '(', ')', '[', ']', '{', '}', '|', '\\', '^', '$']) {
            return Err(Error::unsupported(format!(
                "filter name={pattern:?}: regular expressions other than ^ and $ are not supported"
            )));
        }
        // A leading slash is the beginning of every name.
        Ok(Self { from_start: from_start || text.len() < rest.len(), to_end, text: text.to_owned() })
    }

    fn matches(&self, name: &str) -> bool {
        match (self.from_start, self.to_end) {
            (false, false) => name.contains(&self.text),
            (true, false) => name.starts_with(&self.text),
            (false, true) => name.ends_with(&self.text),
            (true, true) => name == self.text,
        }
    }
}

/// Bytes of the container's own files, and with its image's.
pub(super) async fn sizes<B: Images>(backend: &B, view: &ContainerView) -> Result<Sizes> {
    let image = view.fixed.image_id.as_ref().and_then(|id| backend.image(&id.to_string()).ok());
    let writable = match view.fixed.paths.upper.clone() {
        Some(upper) => tokio::task::spawn_blocking(move || tree_bytes(&upper)).await.unwrap_or(0),
        None => 0,
    };
    Ok(Sizes { writable, total: writable + image.map_or(0, |i| i.record.size) })
}

/// Sum of the lengths of all regular files. What vanishes or cannot be read while we look is not counted.
fn tree_bytes(root: &Path) -> u64 {
    let mut sum = 0;
    let mut directories: Vec<PathBuf> = vec![root.to_path_buf()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(meta) if meta.is_dir() => directories.push(entry.path()),
                Ok(meta) if meta.is_file() => sum += meta.len(),
                _ => {}
            }
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_by_part_beginning_and_end() {
        for (pattern, name, matches) in [
            ("web", "my-web-1", true),
            ("^web", "my-web-1", false),
            ("^/web$", "web", true),
            ("^/web$", "web2", false),
            ("/web", "web2", true),
            ("/web", "my-web", false),
            ("1$", "web-1", true),
            ("", "web", true),
        ] {
            assert_eq!(NamePattern::parse(pattern).map(|p| p.matches(name)), Ok(matches), "{pattern} {name}");
        }
        assert!(NamePattern::parse("a.*b").is_err());
    }

    #[test]
    fn sizes_count_files_and_follow_no_links() {
        let dir = tempfile::tempdir().expect("tempdir");
        fs::write(dir.path().join("a"), [0; 10]).expect("write");
        fs::create_dir(dir.path().join("d")).expect("mkdir");
        fs::write(dir.path().join("d/b"), [0; 5]).expect("write");
        std::os::unix::fs::symlink("/", dir.path().join("root")).expect("symlink");
        assert_eq!(tree_bytes(dir.path()), 15);
        assert_eq!(tree_bytes(&dir.path().join("none")), 0);
    }

    #[test]
    fn asking_for_a_state_means_all_containers() {
        let filters = Filters::parse(r#"{"status":["exited"],"exited":["137"]}"#).expect("parses");
        let filter = engine_filter(&filters, false).expect("valid");
        assert!(filter.all);
        assert_eq!((filter.status, filter.exited), (vec![Status::Exited], vec![137]));
        let bad = Filters::parse(r#"{"status":["sleeping"]}"#).expect("parses");
        assert!(engine_filter(&bad, false).is_err());
    }
}
