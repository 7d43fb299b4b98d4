//! Images as archives: what `docker save` wrote before version 25, and OCI layouts with gzip layers.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::canary::hex;
use crate::image::{Image, Layer};

/// `sha256:…` of some bytes.
pub fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex(&Sha256::digest(bytes)))
}

/// Bytes, gzipped.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("writing to memory")
}

impl Image {
    /// The image's configuration document; its digest is the image's id.
    pub fn document(&self) -> Vec<u8> {
        let diffs: Vec<String> = self.layers.iter().map(|l| digest(&l.finish())).collect();
        let document = json!({
            "architecture": architecture(),
            "os": "linux",
            "created": "2024-01-02T03:04:05Z",
            "config": self.config,
            "rootfs": {"type": "layers", "diff_ids": diffs},
            "history": self.layers.iter().map(|_| json!({"created": "2024-01-02T03:04:05Z", "created_by": "kit"}))
                .collect::<Vec<_>>(),
        });
        document.to_string().into_bytes()
    }

    /// The image's id.
    pub fn id(&self) -> String {
        digest(&self.document())
    }

    /// As `docker save` wrote it before version 25: `manifest.json`, a configuration, a folder per layer.
    pub fn docker_archive(&self) -> Vec<u8> {
        let document = self.document();
        let config = format!("{}.json", hex(&Sha256::digest(&document)));
        let mut out = Layer::new();
        let mut layers = Vec::new();
        for layer in &self.layers {
            let tar = layer.finish();
            let folder = hex(&Sha256::digest(&tar));
            // A 64-digit folder leaves room in a header.
            let name = format!("{folder}/layer.tar");
            if !layers.contains(&json!(name)) {
                out = out.file(&name, &tar);
            }
            layers.push(json!(name));
        }
        let manifest = json!([{"Config": config, "RepoTags": [self.name], "Layers": layers}]);
        out.file(&config, &document).file("manifest.json", manifest.to_string()).finish()
    }

    /// As an OCI layout with gzip layers, the image's name in the index.
    pub fn oci_archive(&self) -> Vec<u8> {
        self.oci_archive_with(|_| {})
    }

    /// As an OCI layout whose manifest was changed by `edit` before its digest was taken.
    pub fn oci_archive_with(&self, edit: impl FnOnce(&mut Value)) -> Vec<u8> {
        let mut blobs = Blobs::default();
        let document = self.document();
        let layers: Vec<Value> = self
            .layers
            .iter()
            .map(|l| blobs.add("application/vnd.oci.image.layer.v1.tar+gzip", &gzip(&l.finish())))
            .collect();
        let config = blobs.add("application/vnd.oci.image.config.v1+json", &document);
        let mut manifest =
            json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
        edit(&mut manifest);
        let mut descriptor = blobs.add(MANIFEST, manifest.to_string().as_bytes());
        descriptor["annotations"] = json!({
            "io.containerd.image.name": format!("docker.io/library/{}", self.name),
            "org.opencontainers.image.ref.name": self.name.split(':').next_back(),
        });
        let index = json!({"schemaVersion": 2, "manifests": [descriptor]});
        let layout = json!({"imageLayoutVersion": "1.0.0"});
        blobs.out.file("oci-layout", layout.to_string()).file("index.json", index.to_string()).finish()
    }
}

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// The blobs of an OCI layout in the making.
#[derive(Default)]
struct Blobs {
    out: Layer,
}

impl Blobs {
    /// Adds a blob and gives its descriptor.
    fn add(&mut self, kind: &str, bytes: &[u8]) -> Value {
        let digest = digest(bytes);
        let name = format!("blobs/{}", digest.replace(':', "/"));
        self.out = std::mem::take(&mut self.out).file(&name, bytes);
        json!({"mediaType": kind, "digest": digest, "size": bytes.len()})
    }
}

/// This machine as OCI names it.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
