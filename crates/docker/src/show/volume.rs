//! The anonymous volumes there are, read off the containers that have them.

use tare_docker_api::models::{Volume, VolumeListResponse, VolumeScopeEnum};
use tare_docker_api::stamp;
use tare_engine::{ContainerView, MountKind};

/// `GET /volumes`.
pub(crate) fn list(containers: &[ContainerView]) -> VolumeListResponse {
    VolumeListResponse { volumes: Some(volumes(containers)), warnings: None }
}

/// Every volume of these containers.
pub(crate) fn volumes(containers: &[ContainerView]) -> Vec<Volume> {
    let mut found: Vec<Volume> = Vec::new();
    for view in containers {
        for mount in view.fixed.mounts.iter().filter(|m| m.kind == MountKind::Volume) {
            let Some(id) = &mount.volume else { continue };
            found.push(Volume {
                name: id.to_string(),
                driver: "local".to_owned(),
                mountpoint: mount.source.to_string_lossy().into_owned(),
                created_at: Some(stamp::rfc3339(view.created)),
                labels: [("com.docker.volume.anonymous".to_owned(), String::new())].into(),
                scope: Some(VolumeScopeEnum::LOCAL),
                ..Default::default()
            });
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found.dedup_by(|a, b| a.name == b.name);
    found
}
