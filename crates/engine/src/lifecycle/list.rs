//! Which containers a listing shows: filters over published views, without asking anyone.

use std::sync::Arc;

use tare_model::Result;

use super::table::Table;
use crate::api::options::ListFilter;
use crate::api::view::ContainerView;

/// Containers that match, the newest first.
///
/// # Errors
/// `NotFound` for a container that `before` or `since` names.
pub(crate) fn list(table: &Table, filter: &ListFilter) -> Result<Vec<ContainerView>> {
    let created = |key: &Option<String>| -> Result<Option<u64>> {
        key.as_ref().map(|k| Ok(table.get(k)?.view().created)).transpose()
    };
    let (before, since) = (created(&filter.before)?, created(&filter.since)?);
    let mut views: Vec<Arc<ContainerView>> = table.all().iter().map(|handle| handle.view()).collect();
    views.retain(|view| {
        before.is_none_or(|t| view.created < t)
            && since.is_none_or(|t| view.created > t)
            && matches(view, filter)
    });
    views.sort_by(|a, b| b.created.cmp(&a.created).then_with(|| a.id.cmp(&b.id)));
    views.truncate(filter.limit.unwrap_or(usize::MAX));
    Ok(views.iter().map(|view| (**view).clone()).collect())
}

fn matches(view: &ContainerView, filter: &ListFilter) -> bool {
    // A status, an exit code or a limit asks for containers that do not run, too.
    let all = filter.all || filter.limit.is_some() || !filter.status.is_empty() || !filter.exited.is_empty();
    let state = &view.state;
    let any = |list: &[String], test: &dyn Fn(&str) -> bool| {
        list.is_empty() || list.iter().any(|entry| test(entry))
    };
    (all || state.status.is_live())
        && (filter.status.is_empty() || filter.status.contains(&state.status))
        && (filter.exited.is_empty()
            || (state.finished.is_some()
                && !state.status.is_live()
                && filter.exited.contains(&state.exit_code())))
        && any(&filter.id, &|id| view.id.as_str().starts_with(id))
        && any(&filter.name, &|name| named(view, name))
        && filter.label.iter().all(|label| labelled(view, label))
        && any(&filter.ancestor, &|image| descends(view, image))
        && any(&filter.volume, &|volume| mounts(view, volume))
}

/// Part of the name; `^` and `$` anchor it, as scripts write them.
fn named(view: &ContainerView, pattern: &str) -> bool {
    let name = view.name.as_str();
    let (start, rest) = match pattern.strip_prefix('^') {
        Some(rest) => (true, rest),
        None => (false, pattern),
    };
    let (end, rest) = match rest.strip_suffix('$') {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    let rest = rest.strip_prefix('/').unwrap_or(rest);
    match (start, end) {
        (true, true) => name == rest,
        (true, false) => name.starts_with(rest),
        (false, true) => name.ends_with(rest),
        (false, false) => name.contains(rest),
    }
}

fn labelled(view: &ContainerView, label: &str) -> bool {
    let labels = &view.fixed.process.labels;
    match label.split_once('=') {
        Some((key, value)) => labels.get(key).is_some_and(|v| v == value),
        None => labels.contains_key(label),
    }
}

fn descends(view: &ContainerView, image: &str) -> bool {
    let canonical = |name: &str| name.parse::<tare_model::Reference>().map(|r| r.or_latest().to_string());
    let same = |name: &str| match (canonical(name), canonical(image)) {
        (Ok(a), Ok(b)) => a == b,
        _ => name == image,
    };
    let hex = image.strip_prefix("sha256:").unwrap_or(image);
    let by_id = hex.len() >= 6 && view.fixed.image_id.as_ref().is_some_and(|id| id.hex().starts_with(hex));
    by_id || same(&view.fixed.image_name)
}

fn mounts(view: &ContainerView, volume: &str) -> bool {
    let is = |m: &crate::api::view::MountView| {
        m.destination == volume || m.volume.as_ref().is_some_and(|id| id.as_str() == volume)
    };
    view.fixed.mounts.iter().any(is)
}
