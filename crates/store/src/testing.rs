//! What the tests of several modules need: a store of their own, and archives of images.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tare_model::{ContainerId, Digest};

use crate::stream::digest_of;
use crate::tape::tests::Tar;
use crate::{Store, StoreConfig};

/// A store in a directory that goes with it. It lies in /var/tmp, which is on a disk: overlayfs needs its attributes.
pub(crate) struct TestStore {
    store: Option<Store>,
    pub(crate) dir: tempfile::TempDir,
}

impl TestStore {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir_in("/var/tmp").expect("scratch");
        let mut this = Self { store: None, dir };
        this.reopen();
        this
    }

    /// As after a crash or a restart of the daemon.
    pub(crate) fn reopen(&mut self) {
        self.store = None;
        self.store = Some(Store::open(&self.config()).expect("opens"));
    }

    pub(crate) fn close(&mut self) {
        self.store = None;
    }

    pub(crate) fn config(&self) -> StoreConfig {
        StoreConfig {
            root: self.root(),
            run_dir: self.dir.path().join("run"),
            ids: self.dir.path().join("ids"),
        }
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    /// Names in a directory of the root, sorted.
    pub(crate) fn names(&self, dir: &str) -> Vec<String> {
        list(&self.root().join(dir))
    }

    pub(crate) fn load(&self, archive: &[u8]) -> tare_model::Result<crate::LoadReport> {
        Store::load(self, &mut &archive[..])
    }
}

impl std::ops::Deref for TestStore {
    type Target = Store;
    fn deref(&self) -> &Store {
        self.store.as_ref().expect("open")
    }
}

pub(crate) fn list(path: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(path)
        .unwrap_or_else(|e| panic!("{}: {e}", path.display()))
        .map(|e| e.expect("entry").file_name().into_string().expect("text"))
        .collect();
    names.sort();
    names
}

pub(crate) fn container(n: u8) -> ContainerId {
    ContainerId::from_bytes([n; 32])
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut encoder, bytes).expect("to memory");
    encoder.finish().expect("to memory")
}

pub(crate) fn zstd(bytes: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
}

/// A layer with one file.
pub(crate) fn layer(path: &str, content: &str) -> Vec<u8> {
    Tar::default().file(path, content).end()
}

/// An image to be packed.
pub(crate) struct TestImage {
    /// Uncompressed layers.
    pub(crate) layers: Vec<Vec<u8>>,
    pub(crate) config: Value,
    pub(crate) tags: Vec<&'static str>,
}

impl TestImage {
    pub(crate) fn new(tag: &'static str, layers: &[Vec<u8>]) -> Self {
        Self { layers: layers.to_vec(), config: json!({}), tags: vec![tag] }
    }

    pub(crate) fn document(&self) -> Vec<u8> {
        let diff_ids: Vec<_> = self.layers.iter().map(|l| digest_of(l).to_string()).collect();
        let document = json!({"architecture": "amd64", "os": "linux", "created": "2024-01-02T03:04:05Z", "config": self.config,
            "rootfs": {"type": "layers", "diff_ids": diff_ids}});
        serde_json::to_vec(&document).expect("JSON")
    }

    pub(crate) fn id(&self) -> Digest {
        digest_of(&self.document())
    }

    /// As `docker save` packed it before 25: layers in directories, the description last.
    pub(crate) fn legacy(&self) -> Vec<u8> {
        let mut tar = Tar::default();
        let name = |n: usize| format!("{n:064x}");
        for (n, layer) in self.layers.iter().enumerate() {
            let dir = name(n);
            tar = tar.dir(&format!("{dir}/")).file(&format!("{dir}/VERSION"), "1.0");
            tar = tar.file(&format!("{dir}/json"), "{}").file(&format!("{dir}/layer.tar"), layer);
        }
        let config = format!("{}.json", self.id().hex());
        let layers: Vec<_> = (0..self.layers.len()).map(|n| format!("{}/layer.tar", name(n))).collect();
        let manifest = json!([{"Config": config, "RepoTags": self.tags, "Layers": layers}]);
        tar.file(&config, self.document())
            .file("manifest.json", manifest.to_string())
            .file("repositories", "{}")
            .end()
    }

    /// As an OCI layout, with every layer packed by `pack`; `docker` adds the `manifest.json` of current Dockers.
    pub(crate) fn oci(&self, media_suffix: &str, pack: fn(&[u8]) -> Vec<u8>, docker: bool) -> Vec<u8> {
        let mut tar = Tar::default().dir("blobs/").dir("blobs/sha256/");
        let mut layers = Vec::new();
        let mut members = Vec::new();
        for layer in &self.layers {
            let packed = pack(layer);
            let media = format!("application/vnd.oci.image.layer.v1.tar{media_suffix}");
            layers.push(descriptor(&media, &packed));
            let name = blob_name(&packed);
            if !members.contains(&name) {
                tar = tar.file(&name, &packed);
            }
            members.push(name);
        }
        let document = self.document();
        let manifest = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": descriptor("application/vnd.oci.image.config.v1+json", &document), "layers": layers});
        let manifest = manifest.to_string().into_bytes();
        let mut entry = descriptor("application/vnd.oci.image.manifest.v1+json", &manifest);
        entry["annotations"] = json!({"io.containerd.image.name": self.tags[0]});
        let index = json!({"schemaVersion": 2, "manifests": [entry]});
        tar = tar.file(&blob_name(&document), &document).file(&blob_name(&manifest), &manifest);
        tar =
            tar.file("index.json", index.to_string()).file("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#);
        if docker {
            let item = json!([{"Config": blob_name(&document), "RepoTags": self.tags, "Layers": members}]);
            tar = tar.file("manifest.json", item.to_string());
        }
        tar.end()
    }
}

pub(crate) fn blob_name(bytes: &[u8]) -> String {
    format!("blobs/sha256/{}", digest_of(bytes).hex())
}

pub(crate) fn descriptor(media: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": media, "digest": digest_of(bytes).to_string(), "size": bytes.len()})
}
