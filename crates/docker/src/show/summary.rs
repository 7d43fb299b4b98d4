//! `GET /containers/json`: one row of `docker ps`.

use std::collections::HashMap;

use serde_json::{Value, json};
use tare_docker_api::Version;
use tare_docker_api::models::{
    ContainerSummary, ContainerSummaryHostConfig, ContainerSummaryStateEnum as Word, MountPoint,
};
use tare_engine::ContainerView;
use tare_model::Status;

use super::{container, networking, object, state};

/// Bytes a container occupies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sizes {
    /// Written by it.
    pub(crate) writable: u64,
    /// That and its image.
    pub(crate) total: u64,
}

pub(crate) fn summary(view: &ContainerView, now: u64, sizes: Option<Sizes>, version: Version) -> Value {
    let fixed = &view.fixed;
    let mode = networking::mode_word(&fixed.config.namespaces.network);
    let annotations: HashMap<_, _> = fixed.config.annotations.clone().into_iter().collect();
    let mounts: Vec<MountPoint> = fixed.mounts.iter().map(container::mount_point).collect();
    let size = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let document = ContainerSummary {
        id: Some(view.id.to_string()),
        names: Some(vec![format!("/{}", view.name)]),
        image: Some(fixed.image_name.clone()),
        image_id: Some(fixed.image_id.as_ref().map(ToString::to_string).unwrap_or_default()),
        command: Some(command_line(&fixed.process.args())),
        created: Some(i64::try_from(view.created / 1_000_000_000).unwrap_or(0)),
        size_rw: sizes.map(|s| size(s.writable)),
        size_root_fs: sizes.map(|s| size(s.total)),
        labels: Some(fixed.process.labels.clone().into_iter().collect()),
        state: Some(word(view.state.status)),
        status: Some(state::sentence(&view.state, now)),
        host_config: Some(ContainerSummaryHostConfig {
            network_mode: Some(mode),
            annotations: Some(annotations).filter(|a| !a.is_empty()),
        }),
        mounts: Some(mounts),
        ..Default::default()
    };
    let mut shown = object(&document);
    shown.insert("Ports".to_owned(), networking::port_list(view));
    let networks = networking::networks(view, version);
    shown.insert("NetworkSettings".to_owned(), json!({ "Networks": networks }));
    Value::Object(shown)
}

/// Words with blanks in quotes, as Docker shows them.
fn command_line(args: &[String]) -> String {
    let quoted = |(i, arg): (usize, &String)| match i > 0 && arg.contains(' ') {
        true => format!("'{arg}'"),
        false => arg.clone(),
    };
    args.iter().enumerate().map(quoted).collect::<Vec<_>>().join(" ")
}

fn word(status: Status) -> Word {
    match status {
        Status::Created => Word::CREATED,
        Status::Running => Word::RUNNING,
        Status::Paused => Word::PAUSED,
        Status::Restarting => Word::RESTARTING,
        Status::Removing => Word::REMOVING,
        Status::Exited => Word::EXITED,
        Status::Dead => Word::DEAD,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_with_blanks_are_quoted() {
        let line = |args: &[&str]| command_line(&args.iter().map(|a| (*a).to_owned()).collect::<Vec<_>>());
        assert_eq!(line(&["sh", "-c", "echo hi"]), "sh -c 'echo hi'");
        assert_eq!(line(&["/bin/true"]), "/bin/true");
        assert_eq!(line(&[]), "");
    }
}
