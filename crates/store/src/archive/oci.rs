//! `index.json`: OCI layouts, with indexes inside indexes; the manifest for this machine is taken.

use std::collections::BTreeSet;

use oci_spec::image::{Arch, Descriptor, ImageIndex, ImageManifest, MediaType, Os};
use tare_model::{Digest, Error, Reference, Result};

use super::staging::{BLOBS, Staging};
use super::{Planned, json};
use crate::error::corrupt;

const NAME: &str = "index.json";
const DEPTH_MAX: usize = 4;
const DESCRIPTORS_MAX: usize = 10_000;

const NAME_ANNOTATION: &str = "io.containerd.image.name";
const REF_ANNOTATION: &str = "org.opencontainers.image.ref.name";
/// Marks what describes another manifest and is no image.
const ATTESTATION: &str = "vnd.docker.reference.type";

/// The images `index.json` describes, one for each entry that has one for this machine.
pub(super) fn plan(staging: &Staging) -> Result<Vec<Planned>> {
    let mut planned: Vec<Planned> = Vec::new();
    for descriptor in entries(staging)? {
        let manifest = manifest(staging, &descriptor, 0)?;
        let image = image(staging, &manifest, tags(&descriptor)?)?;
        // One image under several names comes as several entries.
        match planned.iter_mut().find(|p| p.document == image.document && p.layers == image.layers) {
            Some(same) => same.tags.extend(image.tags),
            None => planned.push(image),
        }
    }
    Ok(planned)
}

/// Where an archive has both descriptions, they must describe the same images: one reader takes this, another that.
pub(super) fn check_agreement(staging: &Staging, planned: &[Planned]) -> Result<()> {
    let mut described = BTreeSet::new();
    for descriptor in entries(staging)? {
        let manifest = manifest(staging, &descriptor, 0)?;
        described.insert(image(staging, &manifest, Vec::new())?.id());
    }
    match planned.iter().find(|image| !described.contains(&image.id())) {
        Some(image) => Err(corrupt(format!(
            "manifest.json describes image {}, index.json does not: readers disagree what the archive holds",
            image.id()
        ))),
        None => Ok(()),
    }
}

/// The top entries that may be for this machine.
fn entries(staging: &Staging) -> Result<Vec<Descriptor>> {
    let index: ImageIndex = json::read(json::object(staging.document(NAME)?, NAME)?, NAME)?;
    let all = index.manifests().len();
    if all > DESCRIPTORS_MAX {
        return Err(corrupt(format!("{NAME} lists {all} manifests; at most {DESCRIPTORS_MAX} are read")));
    }
    let fitting: Vec<_> =
        index.manifests().iter().filter(|d| is_image(d) && fits(d) != Some(false)).cloned().collect();
    if fitting.is_empty() && all > 0 {
        return Err(no_platform(index.manifests()));
    }
    Ok(fitting)
}

/// Follows a descriptor to the manifest for this machine.
fn manifest(staging: &Staging, descriptor: &Descriptor, depth: usize) -> Result<ImageManifest> {
    if depth >= DEPTH_MAX {
        return Err(corrupt(format!("indexes in the archive are nested deeper than {DEPTH_MAX}")));
    }
    let (name, bytes) = blob(staging, descriptor)?;
    let object = json::object(bytes, &name)?;
    let said = descriptor.media_type().to_string();
    if let Some(own) = object.get("mediaType").and_then(|m| m.as_str())
        && own != said
    {
        return Err(corrupt(format!("{name:?} says it is {own:?}, what refers to it says {said:?}")));
    }
    if !object.contains_key("manifests") {
        return json::read(object, &name);
    }
    let index: ImageIndex = json::read(object, &name)?;
    let fitting = |strict: bool| {
        let fits = move |d: &&Descriptor| if strict { fits(d) == Some(true) } else { fits(d).is_none() };
        index.manifests().iter().filter(|d| is_image(d)).find(fits)
    };
    let chosen = fitting(true).or_else(|| fitting(false)).ok_or_else(|| no_platform(index.manifests()))?;
    manifest(staging, chosen, depth + 1)
}

fn image(staging: &Staging, manifest: &ImageManifest, tags: Vec<Reference>) -> Result<Planned> {
    let config_type = manifest.config().media_type().to_string();
    if !matches!(
        config_type.as_str(),
        "application/vnd.oci.image.config.v1+json" | "application/vnd.docker.container.image.v1+json"
    ) {
        return Err(Error::unsupported(format!(
            "a manifest in the archive is no image: its configuration is {config_type:?}"
        )));
    }
    let (_, document) = blob(staging, manifest.config())?;
    let mut layers = Vec::new();
    for layer in manifest.layers() {
        check_layer_type(layer.media_type())?;
        let digest = digest(layer)?;
        let name = format!("{BLOBS}{}", digest.hex());
        let staged = staging.layer(&name)?;
        if staged.blob != digest || staged.blob_size != layer.size() {
            return Err(corrupt(format!(
                "layer {digest} has {} bytes; its manifest says {}",
                staged.blob_size,
                layer.size()
            )));
        }
        layers.push(name);
    }
    Planned::new(document, layers, tags)
}

fn check_layer_type(media_type: &MediaType) -> Result<()> {
    let text = media_type.to_string();
    let base = text.split('+').next().unwrap_or_default();
    let known = matches!(
        base,
        "application/vnd.oci.image.layer.v1.tar" | "application/vnd.oci.image.layer.nondistributable.v1.tar"
    ) || matches!(
        text.as_str(),
        "application/vnd.docker.image.rootfs.diff.tar.gzip"
            | "application/vnd.docker.image.rootfs.diff.tar"
            | "application/vnd.docker.image.rootfs.diff.tar.zstd"
    );
    if known { Ok(()) } else { Err(Error::unsupported(format!("a layer of type {text:?} is not supported"))) }
}

/// The content a descriptor names, with the size it says. Its digest was checked when it was read.
fn blob<'a>(staging: &'a Staging, descriptor: &Descriptor) -> Result<(String, &'a [u8])> {
    let name = format!("{BLOBS}{}", digest(descriptor)?.hex());
    let bytes = staging.document(&name)?;
    if bytes.len() as u64 != descriptor.size() {
        return Err(corrupt(format!(
            "{name:?} has {} bytes; what refers to it says {}",
            bytes.len(),
            descriptor.size()
        )));
    }
    Ok((name, bytes))
}

fn digest(descriptor: &Descriptor) -> Result<Digest> {
    descriptor.digest().to_string().parse()
}

fn annotation<'a>(descriptor: &'a Descriptor, key: &str) -> Option<&'a str> {
    descriptor.annotations().as_ref()?.get(key).map(String::as_str)
}

/// A full name makes a tag; a bare version (`1.2`), which OCI layouts may have, names no repository.
fn tags(descriptor: &Descriptor) -> Result<Vec<Reference>> {
    let full = |text: &&str| text.contains(['/', ':']);
    let name = annotation(descriptor, NAME_ANNOTATION)
        .or_else(|| annotation(descriptor, REF_ANNOTATION).filter(full));
    name.map(|name| Ok(name.parse::<Reference>()?.or_latest())).into_iter().collect()
}

fn is_image(descriptor: &Descriptor) -> bool {
    annotation(descriptor, ATTESTATION).is_none()
}

/// Whether the descriptor is for this machine; `None` if it does not say.
fn fits(descriptor: &Descriptor) -> Option<bool> {
    let platform = descriptor.platform().as_ref()?;
    Some(*platform.os() == Os::Linux && *platform.architecture() == Arch::default())
}

fn no_platform(found: &[Descriptor]) -> Error {
    let names = found.iter().take(20).filter_map(|d| d.platform().as_ref());
    let names: BTreeSet<_> = names.map(|p| format!("{}/{}", p.os(), p.architecture())).collect();
    let names: Vec<_> = names.into_iter().collect();
    Error::unsupported(format!("the image is for {}, not for linux/{}", names.join(", "), Arch::default()))
}
