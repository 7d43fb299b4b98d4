//! A container as its driver holds it and as the database keeps it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tare_model::container::{ContainerConfig, ImageSource, LogDriver};
use tare_model::sandbox::Rootfs;
use tare_model::{ContainerId, ContainerName, Digest, Error, ErrorKind, ExitRecord, Result, VolumeId};
use tare_store::{ContainerRecord, Durability};

use crate::api::view::{Fixed, Labels, MergedProcess, MountView, Paths, UserNamespace};

/// The body's form; a later one must still read this.
const VERSION: u32 = 1;

/// One container.
#[derive(Clone, Debug)]
pub(crate) struct Container {
    /// Its id.
    pub(crate) id: ContainerId,
    /// Its name.
    pub(crate) name: ContainerName,
    /// What `create` decided.
    pub(crate) made: Arc<Made>,
    /// What changes.
    pub(crate) life: Life,
}

/// What `create` decided, for the driver.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    /// When, nanoseconds since the epoch.
    pub(crate) created: u64,
    /// What everyone may see.
    pub(crate) fixed: Arc<Fixed>,
    /// Root file system.
    pub(crate) rootfs: Rootfs,
    /// Anonymous volumes that belong to it.
    pub(crate) volumes: Vec<VolumeId>,
}

/// What is durable of its life.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Life {
    /// It was started and has not been seen to end.
    pub(crate) running: bool,
    /// How often it was started.
    pub(crate) starts: u64,
    /// When it was started last.
    pub(crate) started: Option<u64>,
    /// How the last run ended.
    pub(crate) exit: Option<ExitRecord>,
    /// What the last failed start would have exited with.
    pub(crate) start_failure: Option<i32>,
    /// Why it could not be started, or what was wrong at its end.
    pub(crate) error: String,
}

#[derive(Serialize, Deserialize)]
struct Body {
    version: u32,
    created: u64,
    config: ContainerConfig,
    process: MergedProcess,
    image_id: Option<Digest>,
    hostname: String,
    mounts: Vec<MountView>,
    warnings: Vec<String>,
    rootfs: Rootfs,
    volumes: Vec<VolumeId>,
    life: Life,
    #[serde(default)]
    user_namespace: UserNamespace,
    #[serde(default)]
    labels: Option<Labels>,
}

// === impl Container ===

impl Container {
    /// What its record survives.
    pub(crate) fn durability(&self) -> Durability {
        durability(&self.made.fixed.config)
    }

    /// As the store keeps it.
    ///
    /// # Errors
    /// None that can happen: the body is plain data.
    pub(crate) fn record(&self) -> Result<ContainerRecord> {
        let (made, fixed) = (&self.made, &self.made.fixed);
        let body = Body {
            version: VERSION,
            created: made.created,
            config: fixed.config.clone(),
            process: fixed.process.clone(),
            image_id: fixed.image_id,
            hostname: fixed.hostname.clone(),
            mounts: fixed.mounts.clone(),
            warnings: fixed.warnings.clone(),
            rootfs: made.rootfs.clone(),
            volumes: made.volumes.clone(),
            life: self.life.clone(),
            user_namespace: fixed.user_namespace.clone(),
            labels: fixed.labels.clone(),
        };
        let body = serde_json::to_vec(&body).map_err(|e| Error::system(format!("container record: {e}")))?;
        Ok(ContainerRecord {
            id: self.id.clone(),
            name: self.name.clone(),
            body,
            durability: self.durability(),
            ids: fixed.user_namespace.ids().map(|ids| ids.range),
        })
    }

    /// Reads a record; `root` and `run_dir` are the engine's.
    ///
    /// # Errors
    /// `Corrupt`, naming the container.
    pub(crate) fn read(record: ContainerRecord, root: &Path, run_dir: &Path) -> Result<Self> {
        let ContainerRecord { id, name, body, .. } = record;
        let corrupt =
            |why: String| Error::new(ErrorKind::Corrupt, format!("record of container {id}: {why}"));
        let body: Body = serde_json::from_slice(&body).map_err(|e| corrupt(e.to_string()))?;
        if body.version > VERSION {
            return Err(corrupt(format!("version {} is newer than this tared ({VERSION})", body.version)));
        }
        let fixed = Fixed {
            image_name: image_name(&body.config.image),
            paths: paths(&id, root, run_dir, &body.rootfs, &body.config),
            config: body.config,
            process: body.process,
            image_id: body.image_id,
            hostname: body.hostname,
            mounts: body.mounts,
            warnings: body.warnings,
            user_namespace: body.user_namespace,
            labels: body.labels,
        };
        let made = Made {
            created: body.created,
            fixed: Arc::new(fixed),
            rootfs: body.rootfs,
            volumes: body.volumes,
        };
        Ok(Self { id, name, made: Arc::new(made), life: body.life })
    }
}

/// What a container survives: one that removes itself need not survive the machine.
pub(crate) fn durability(config: &ContainerConfig) -> Durability {
    if config.auto_remove { Durability::Process } else { Durability::Disk }
}

/// The image as listings name it.
pub(crate) fn image_name(source: &ImageSource) -> String {
    match source {
        ImageSource::Image { name } => name.clone(),
        ImageSource::Directory { path, .. } => path.clone(),
    }
}

/// Where the files of a container are.
pub(crate) fn paths(
    id: &ContainerId,
    root: &Path,
    run_dir: &Path,
    rootfs: &Rootfs,
    config: &ContainerConfig,
) -> Paths {
    let state_dir = root.join("containers").join(id.as_str());
    let run_dir = run_directory(run_dir, id);
    let (lowers, upper, work) = match rootfs {
        Rootfs::Overlay { lowers, upper, work, .. } => {
            (lowers.clone(), Some(upper.clone()), Some(work.clone()))
        }
        Rootfs::Parts { base, .. } => {
            (vec![base.lower.clone()], Some(base.upper.clone()), Some(base.work.clone()))
        }
        Rootfs::Directory { .. } => (Vec::new(), None, None),
    };
    Paths {
        log: if config.log.driver == LogDriver::None { PathBuf::new() } else { state_dir.join("log") },
        resolv_conf: run_dir.join("resolv.conf"),
        hosts: run_dir.join("hosts"),
        hostname: run_dir.join("hostname"),
        state_dir,
        run_dir,
        lowers,
        upper,
        work,
    }
}

/// `RUN/containers/ID`.
pub(crate) fn run_directory(run_dir: &Path, id: &ContainerId) -> PathBuf {
    run_dir.join("containers").join(id.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_survives_the_database() {
        let fixed = Fixed {
            config: ContainerConfig::default(),
            process: MergedProcess { cmd: vec!["true".into()], ..Default::default() },
            image_id: None,
            image_name: String::new(),
            hostname: "h".into(),
            mounts: vec![],
            paths: paths(
                &ContainerId::from_bytes([1; 32]),
                Path::new("/r"),
                Path::new("/n"),
                &Rootfs::Directory { path: "/d".into() },
                &ContainerConfig::default(),
            ),
            warnings: vec!["w".into()],
            user_namespace: UserNamespace::Host { reason: "--privileged".into() },
            labels: Some(Labels { process: "u:r:t:s0:c1,c2".into(), files: "u:r:f:s0:c1,c2".into() }),
        };
        let container = Container {
            id: ContainerId::from_bytes([1; 32]),
            name: "web".parse().expect("valid"),
            made: Arc::new(Made {
                created: 7,
                fixed: Arc::new(fixed),
                rootfs: Rootfs::Directory { path: "/d".into() },
                volumes: vec![VolumeId::from_bytes([2; 32])],
            }),
            life: Life { starts: 2, error: "e".into(), ..Default::default() },
        };
        let back = Container::read(container.record().expect("writes"), Path::new("/r"), Path::new("/n"))
            .expect("reads");
        assert_eq!((back.id, back.name, back.life), (container.id, container.name, container.life));
        assert_eq!(back.made.fixed, container.made.fixed);
        assert_eq!((back.made.created, &back.made.volumes), (7, &container.made.volumes));
    }

    #[test]
    fn a_damaged_record_names_its_container() {
        let record = ContainerRecord {
            id: ContainerId::from_bytes([0xab; 32]),
            name: "web".parse().expect("valid"),
            body: b"{".to_vec(),
            durability: Durability::Disk,
            ids: None,
        };
        let e = Container::read(record, Path::new("/r"), Path::new("/n")).expect_err("damaged");
        assert_eq!(e.kind(), ErrorKind::Corrupt);
        assert!(e.message().contains("abab"), "{e}");
    }
}
