//! Images: the configuration document of the OCI and Docker formats, and what the engine keeps of an image.
//!
//! `oci-spec` has types for manifests and indexes, and those are used. Its configuration type leaves out what Docker
//! writes into every document (`Healthcheck`, `OnBuild`, `Shell`) and refuses the `null` that Docker writes for an
//! empty list, so the document is described here. The bytes of the document decide the image's id and are kept as they
//! came; this type is only the reading of them.
//!
//! Everything in here was written by the image's author, an attacker for all we know. Nothing but the fields named
//! here is ever taken from an image, and none of them is a security setting.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Deserializer, Serialize};

use crate::digest::Digest;
use crate::error::{Error, ErrorKind};
use crate::reference::Reference;

/// The most bytes of JSON that are read from an image, for any one document.
pub const DOCUMENT_MAX: usize = 8 << 20;

/// The most layers an image may have; overlayfs takes 500, Docker 127.
pub const LAYERS_MAX: usize = 400;

/// An image's configuration document.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageDocument {
    /// When it was made, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Who made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// CPU, as Go names it: `amd64`, `arm64`.
    #[serde(deserialize_with = "or_default")]
    pub architecture: String,
    /// Variant of the CPU: `v8`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// Operating system; only `linux` is accepted.
    #[serde(deserialize_with = "or_default")]
    pub os: String,
    /// Defaults for containers.
    #[serde(deserialize_with = "or_default")]
    pub config: ImageConfig,
    /// The layers.
    #[serde(deserialize_with = "or_default")]
    pub rootfs: RootFs,
    /// How it was built.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<History>,
}

/// Defaults for the containers of an image.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ImageConfig {
    /// `user[:group]`, names or numbers; empty: root.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// Documented ports, `80/tcp`.
    #[serde(with = "go_set", skip_serializing_if = "BTreeSet::is_empty")]
    pub exposed_ports: BTreeSet<String>,
    /// Environment as written; [`ImageConfig::environment`] has what counts.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// Program and first arguments.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// Arguments, or the whole command without an entrypoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cmd: Option<Vec<String>>,
    /// Paths that get an anonymous volume.
    #[serde(with = "go_set", skip_serializing_if = "BTreeSet::is_empty")]
    pub volumes: BTreeSet<String>,
    /// Working directory.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    /// Labels; never interpreted.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The signal `stop` sends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    /// Docker's health check, as written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<serde_json::Value>,
    /// Docker's build triggers.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub on_build: Vec<String>,
    /// Docker's shell for command strings.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub shell: Vec<String>,
}

/// The layers of an image, lowest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RootFs {
    /// Always `layers`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Digests of the uncompressed layer archives.
    #[serde(deserialize_with = "or_default")]
    pub diff_ids: Vec<Digest>,
}

/// One step of an image's making.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct History {
    /// When, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Who.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// The instruction.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// A remark.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// The step made no layer.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "std::ops::Not::not")]
    pub empty_layer: bool,
}

/// What the engine keeps of an image besides its document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRecord {
    /// Digest of the configuration document.
    pub id: Digest,
    /// Keys of its unpacked layers, lowest first; the same one may come twice.
    pub layers: Vec<Digest>,
    /// Bytes of all files in all layers.
    pub size: u64,
    /// Bytes by layer, as [`ImageRecord::layers`].
    #[serde(default)]
    pub layer_sizes: Vec<u64>,
    /// When the document says it was made, seconds since 1970; 0 if it does not say.
    #[serde(default)]
    pub created: i64,
    /// When it came here, seconds since 1970.
    #[serde(default)]
    pub loaded: i64,
}

/// An image with all that is known about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Image {
    /// What the engine keeps.
    pub record: ImageRecord,
    /// Its document.
    pub document: ImageDocument,
    /// Its names, sorted.
    pub tags: Vec<Reference>,
}

impl Default for RootFs {
    fn default() -> Self {
        Self { kind: "layers".to_owned(), diff_ids: Vec::new() }
    }
}

// === impl ImageDocument ===

impl ImageDocument {
    /// Reads a document and refuses what cannot be run here.
    ///
    /// # Errors
    /// Too large, not JSON of this shape, not for Linux, too many layers, or layers without SHA-256 digests.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let corrupt = |why: String| Error::new(ErrorKind::Corrupt, format!("image configuration {why}"));
        if bytes.len() > DOCUMENT_MAX {
            return Err(corrupt(format!("has {} bytes; at most {DOCUMENT_MAX} are read", bytes.len())));
        }
        // serde would also take an array for a structure.
        if bytes.trim_ascii_start().first() != Some(&b'{') {
            return Err(corrupt("is not a JSON object".into()));
        }
        let document: Self =
            serde_json::from_slice(bytes).map_err(|e| corrupt(format!("cannot be read: {e}")))?;
        if !document.os.is_empty() && document.os != "linux" {
            let os: String = document.os.chars().take(40).collect();
            return Err(Error::unsupported(format!("the image is for operating system {os:?}, not linux")));
        }
        if document.rootfs.kind != "layers" {
            return Err(corrupt("has a rootfs type other than \"layers\"".into()));
        }
        if document.rootfs.diff_ids.len() > LAYERS_MAX {
            let n = document.rootfs.diff_ids.len();
            return Err(corrupt(format!("lists {n} layers; at most {LAYERS_MAX} can be stacked")));
        }
        Ok(document)
    }
}

// === impl ImageConfig ===

impl ImageConfig {
    /// The environment entries that set a variable: `NAME=value` with a name. Others (`NAME`, `PREFIX*`, empty) mean
    /// "take it from the caller" to some tools; here they mean nothing, so an image cannot ask for host variables.
    pub fn environment(&self) -> impl Iterator<Item = &str> {
        let sets = |e: &&str| e.find('=').is_some_and(|at| at > 0) && !e.contains('\0');
        self.env.iter().map(String::as_str).filter(sets)
    }
}

// === impl Image ===

impl Image {
    /// Digest of the configuration document.
    pub fn id(&self) -> &Digest {
        &self.record.id
    }
}

/// `null` is an empty value: Go writes it for one.
fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(d: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(d)?.unwrap_or_default())
}

/// Go's `map[string]struct{}`.
mod go_set {
    use std::collections::{BTreeMap, BTreeSet};

    use serde::de::IgnoredAny;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(set: &BTreeSet<String>, s: S) -> Result<S::Ok, S::Error> {
        s.collect_map(set.iter().map(|key| (key, serde_json::Map::new())))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<BTreeSet<String>, D::Error> {
        let map: Option<BTreeMap<String, IgnoredAny>> = Option::deserialize(d)?;
        Ok(map.unwrap_or_default().into_keys().collect())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn dockers_nulls_are_empty_values() {
        let text = br#"{"architecture":"amd64","os":"linux","config":{"Env":null,"Cmd":null,"Volumes":null,
            "Labels":null,"ExposedPorts":null,"OnBuild":null,"User":null,"Entrypoint":null,"WorkingDir":null},
            "rootfs":{"type":"layers","diff_ids":null},"history":null,"container_config":{"x":1}}"#;
        let document = ImageDocument::parse(text).expect("a valid document");
        assert_eq!(document.config, ImageConfig::default());
        assert!(document.rootfs.diff_ids.is_empty());
    }

    #[test]
    fn what_docker_adds_is_read() {
        let text = br#"{"os":"linux","architecture":"amd64","config":{"Volumes":{"/data":{}},"Healthcheck":
            {"Test":["CMD","true"]},"OnBuild":["RUN x"],"Shell":["/bin/bash","-c"],"StopSignal":"SIGQUIT"}}"#;
        let config = ImageDocument::parse(text).expect("a valid document").config;
        assert!(config.volumes.contains("/data"));
        assert_eq!(config.stop_signal.as_deref(), Some("SIGQUIT"));
        assert_eq!((config.on_build.len(), config.shell.len(), config.healthcheck.is_some()), (1, 2, true));
    }

    #[test]
    fn entries_without_a_value_are_no_environment() {
        let env = ["PATH=/bin", "AWS*", "HOME", "", "=x", "A=", "B=a\0b", "C=d=e"];
        let config = ImageConfig { env: env.map(String::from).to_vec(), ..Default::default() };
        assert_eq!(config.environment().collect::<Vec<_>>(), ["PATH=/bin", "A=", "C=d=e"]);
    }

    #[test]
    fn what_cannot_run_here_is_refused() {
        let many = format!(
            r#"{{"rootfs":{{"type":"layers","diff_ids":[{}]}}}}"#,
            vec![format!("\"sha256:{}\"", "0".repeat(64)); LAYERS_MAX + 1].join(",")
        );
        for bad in [
            r#"{"os":"windows"}"#,
            r#"{"rootfs":{"type":"vhd"}}"#,
            r#"{"rootfs":{"type":"layers","diff_ids":["sha512:00"]}}"#,
            r#"{"rootfs":{"type":"layers","diff_ids":["sha256:../../x"]}}"#,
            r#"{"config":{"Env":"A=b"}}"#,
            r#"{"os":"linux","os":"linux"}"#,
            "[]",
            "",
            "null",
            &many,
        ] {
            assert!(ImageDocument::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_document_larger_than_the_limit_is_not_parsed() {
        let e = ImageDocument::parse(&vec![b' '; DOCUMENT_MAX + 1]).expect_err("too large");
        assert!(e.message().contains("bytes"), "{e}");
    }

    #[test]
    fn a_written_document_reads_back() {
        let config = ImageConfig {
            volumes: BTreeSet::from(["/v".into()]),
            cmd: Some(vec!["sh".into()]),
            ..Default::default()
        };
        let document = ImageDocument { os: "linux".into(), config, ..Default::default() };
        let text = serde_json::to_vec(&document).expect("serializes");
        assert!(String::from_utf8_lossy(&text).contains(r#""Volumes":{"/v":{}}"#));
        assert_eq!(ImageDocument::parse(&text).expect("parses"), document);
    }

    proptest! {
        #[test]
        fn any_bytes_are_judged_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = ImageDocument::parse(&bytes);
        }
    }
}
