//! `GET /containers/json`: which containers, and how much they occupy.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use regex_lite::Regex;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags};
use serde_json::Value;
use tare_docker_api::Filters;
use tare_engine::{ContainerView, ListFilter};
use tare_model::{Error, Status};

use super::now;
use crate::backend::{Containers, Images};
use crate::create::ports::expand;
use crate::error::Result;
use crate::http::{Call, Reply};
use crate::show::networking;
use crate::show::summary::{self, Sizes};

const KNOWN: [&str; 14] = [
    "ancestor", "before", "exited", "expose", "health", "id", "is-task", "label", "name", "network",
    "publish", "since", "status", "volume",
];

pub(crate) async fn list<B: Containers + Images>(backend: Arc<B>, call: Call) -> Result<Reply> {
    let filters = Filters::parse(call.query.text("filters"))?;
    filters.only(&KNOWN)?;
    let names = filters.values("name").map(NamePattern::parse).collect::<tare_model::Result<Vec<_>>>()?;
    let limit = call.query.number::<i64>("limit")?.filter(|n| *n > 0).and_then(|n| usize::try_from(n).ok());
    let all = call.query.flag("all") || limit.is_some();
    let mut found = backend.list(&engine_filter(&filters, all)?)?;
    found.retain(|view| {
        (names.is_empty() || names.iter().any(|n| n.matches(view.name.as_str())))
            && passes_others(view, &filters)
    });
    found.truncate(limit.unwrap_or(usize::MAX));
    let with_sizes = call.query.flag("size");
    let mut rows: Vec<Value> = Vec::with_capacity(found.len());
    for view in &found {
        let sizes = if with_sizes { Some(sizes(&*backend, view).await?) } else { None };
        rows.push(summary::summary(view, now(), sizes, call.version));
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

/// Filters on ports and networks, and on what all containers have in common here: no health checks, and no task of a
/// cluster's.
fn passes_others(view: &ContainerView, filters: &Filters) -> bool {
    let any =
        |name: &str, test: &dyn Fn(&str) -> bool| !filters.contains(name) || filters.values(name).any(test);
    any("health", &|v| v == "none")
        && any("publish", &|v| networking::publishes(view, v))
        && any("is-task", &|v| matches!(v, "false" | "0"))
        && any("expose", &|v| view.fixed.process.exposed_ports.iter().any(|port| is_exposed(port, v)))
        && any("network", &|v| networking::is_on(view, v))
}

/// Whether a port (`80/tcp`, `8000-8010/tcp`) is the one that is asked for (`80`, `80/tcp`) or one of those (`8000-8010`).
fn is_exposed(port: &str, wanted: &str) -> bool {
    match (expand(port), expand(wanted)) {
        (Some((a, p)), Some((b, q))) => p == q && a.start() <= b.end() && b.start() <= a.end(),
        _ => false,
    }
}

/// A name filter: a regular expression that is looked for in the name, which may have its slash or not.
struct NamePattern(Regex);

impl NamePattern {
    fn parse(pattern: &str) -> tare_model::Result<Self> {
        Regex::new(pattern)
            .map(Self)
            .map_err(|e| Error::invalid(format!("invalid filter 'name={pattern}': {e}")))
    }

    fn matches(&self, name: &str) -> bool {
        self.0.is_match(name) || self.0.is_match(&format!("/{name}"))
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

/// Sum of the lengths of all regular files. What vanishes or cannot be read while we look is not counted. The container
/// may turn a directory into a link between two steps, so each is opened from the root's descriptor and no link is
/// followed.
fn tree_bytes(root: &Path) -> u64 {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let Ok(top) = rustix::fs::open(root, flags, Mode::empty()) else { return 0 };
    let inside = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let mut sum = 0;
    let mut directories = vec![PathBuf::from(".")];
    while let Some(path) = directories.pop() {
        let opened = rustix::fs::openat2(&top, &path, flags, Mode::empty(), inside);
        let Ok(directory) = opened.and_then(Dir::new) else { continue };
        let Ok(here) = rustix::fs::openat2(&top, &path, flags, Mode::empty(), inside) else { continue };
        for entry in directory.flatten().filter(|e| !matches!(e.file_name().to_bytes(), b"." | b"..")) {
            let Ok(stat) = rustix::fs::statat(&here, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW) else {
                continue;
            };
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => {
                    directories.push(path.join(OsStr::from_bytes(entry.file_name().to_bytes())))
                }
                FileType::RegularFile => sum += u64::try_from(stat.st_size).unwrap_or(0),
                _ => {}
            }
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn names_match_by_regular_expression() {
        for (pattern, name, matches) in [
            ("web", "my-web-1", true),
            ("^web", "my-web-1", false),
            ("^/web$", "web", true),
            ("^web$", "web", true),
            ("^/web$", "web2", false),
            ("/web", "web2", true),
            ("/web", "my-web", false),
            ("1$", "web-1", true),
            ("^web-[0-9]+$", "web-12", true),
            ("^(db|web)$", "db", true),
            ("w.b", "my-wab", true),
            ("", "web", true),
        ] {
            assert_eq!(NamePattern::parse(pattern).map(|p| p.matches(name)), Ok(matches), "{pattern} {name}");
        }
        assert!(NamePattern::parse("a(").is_err_and(|e| e.message().contains("name=a(")));
    }

    #[test]
    fn a_port_is_exposed_in_its_protocol_alone_or_in_a_range() {
        assert!(
            is_exposed("80/tcp", "80") && is_exposed("80/tcp", "80/tcp") && is_exposed("80-90/udp", "85/udp")
        );
        assert!(
            is_exposed("80/tcp", "70-80") && !is_exposed("80/tcp", "80/udp") && !is_exposed("80/tcp", "81")
        );
        assert!(!is_exposed("80/tcp", "http") && !is_exposed("80/tcp", ""));
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
        assert_eq!(tree_bytes(&dir.path().join("root")), 0, "nor one that stands for the whole");
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
