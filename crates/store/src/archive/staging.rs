//! The first half of a load: everything in the archive, read once, in the order it comes.
//!
//! A stream cannot be asked for its last entry first, and `docker save` writes the description of the images last. So
//! documents are kept in memory (they are small, or refused), and every other file is taken for a layer and unpacked
//! at once, with its digests computed on the way. What the description then does not mention is thrown away; what could
//! not be unpacked is an error only if it is mentioned.

use std::collections::HashMap;
use std::io::{BufReader, Cursor, Read};
use std::sync::Arc;

use tare_model::image::DOCUMENT_MAX;
use tare_model::{Digest, Error, Result};
use tare_sys::dir::Dir;

use crate::error::{SystemContext, corrupt, from_read};
use crate::images::StagedLayer;
use crate::layout::{Layout, unique_name};
use crate::stream::{BUFFER, Decoder, Hashing, digest_of};
use crate::tape::{Entry, Kind, Tape};
use crate::unpack::unpack;

/// Most bytes of all documents together.
const DOCUMENTS_MAX: usize = 64 << 20;
/// Most files an archive of images may have; each costs a name in memory.
const MEMBERS_MAX: usize = 50_000;
/// Where the formats keep content by digest.
pub(super) const BLOBS: &str = "blobs/sha256/";
const LINKS_MAX: usize = 8;

/// What an archive held.
pub(super) struct Staging {
    layout: Arc<Layout>,
    /// Name of our directory in `tmp`.
    name: String,
    dir: Dir,
    members: HashMap<String, Member>,
    document_bytes: usize,
}

/// A file of the archive.
enum Member {
    Document(Vec<u8>),
    Layer(Box<StagedLayer>),
    /// Another name of a file (old archives link equal layers).
    Link(String),
    Unusable(Error),
}

// === impl Staging ===

impl Staging {
    pub(super) fn new(layout: &Arc<Layout>) -> Result<Self> {
        let name = unique_name()?;
        let dir = layout.tmp.ensure_dir(&name, 0o700).while_(|| "make a directory for the archive")?;
        Ok(Self { layout: Arc::clone(layout), name, dir, members: HashMap::new(), document_bytes: 0 })
    }

    /// Reads a whole archive of images. `known` says whether the store has a layer with this uncompressed digest.
    pub(super) fn read_archive(
        &mut self,
        reader: &mut dyn Read,
        known: &dyn Fn(&Digest) -> Option<u64>,
    ) -> Result<()> {
        let input = Decoder::new(BufReader::with_capacity(BUFFER, reader))?.buffered();
        let mut tape = Tape::new(input);
        while let Some(entry) = tape.next_entry()? {
            self.member(&entry, &mut tape, known)?;
        }
        tape.drain()
    }

    /// Unpacks a single layer.
    pub(super) fn read_layer(&mut self, reader: &mut dyn Read) -> Result<StagedLayer> {
        let name = self.members.len().to_string();
        unpack_layer(&self.dir, &name, reader)
    }

    /// A document by its name in the archive.
    pub(super) fn document(&self, name: &str) -> Result<&[u8]> {
        match self.follow(name)? {
            Member::Document(bytes) => Ok(bytes),
            Member::Unusable(e) => Err(e.clone()),
            _ => Err(corrupt(format!("{name:?} in the archive is no JSON document"))),
        }
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.members.contains_key(name)
    }

    /// A layer by its name in the archive.
    pub(super) fn layer(&self, name: &str) -> Result<&StagedLayer> {
        match self.follow(name)? {
            Member::Layer(layer) => Ok(layer),
            Member::Unusable(e) => Err(e.clone().context(format!("layer {name:?}"))),
            _ => Err(corrupt(format!("{name:?} in the archive is no layer"))),
        }
    }

    /// The directory that holds unpacked layers.
    pub(super) fn dir(&self) -> &Dir {
        &self.dir
    }

    fn follow(&self, name: &str) -> Result<&Member> {
        let mut name = name;
        for _ in 0..LINKS_MAX {
            match self.members.get(name) {
                Some(Member::Link(target)) => name = target,
                Some(member) => return Ok(member),
                None => return Err(corrupt(format!("the archive has no {name:?}"))),
            }
        }
        Err(corrupt(format!("links of links in the archive at {name:?}")))
    }

    fn member<R: Read>(
        &mut self,
        entry: &Entry,
        tape: &mut Tape<R>,
        known: &dyn Fn(&Digest) -> Option<u64>,
    ) -> Result<()> {
        let Some(name) = member_name(&entry.path)? else {
            return Ok(());
        };
        let member = match entry.kind {
            Kind::Directory => return Ok(()),
            Kind::File => self.file(&name, entry.size, tape, known)?,
            Kind::Symlink => Member::Link(link_target(&name, &entry.link)?),
            Kind::HardLink => Member::Link(member_name(&entry.link)?.unwrap_or_default()),
            other => return Err(corrupt(format!("{name:?} in the archive is a {other:?}"))),
        };
        if self.members.len() >= MEMBERS_MAX {
            return Err(corrupt(format!(
                "the archive has more than {MEMBERS_MAX} files: it is no archive of images"
            )));
        }
        if self.members.insert(name.clone(), member).is_some() {
            return Err(corrupt(format!("the archive has {name:?} twice")));
        }
        Ok(())
    }

    fn file(
        &mut self,
        name: &str,
        size: u64,
        tape: &mut dyn Read,
        known: &dyn Fn(&Digest) -> Option<u64>,
    ) -> Result<Member> {
        let mut head = Vec::new();
        tape.take(512).read_to_end(&mut head).map_err(|e| from_read(e, "read archive"))?;
        let promised = promised_digest(name)?;
        if is_document(name, &head) {
            return self.read_document(name, head, size, tape, promised);
        }
        let mut whole = Cursor::new(head).chain(tape);
        let layer = match promised.and_then(|digest| known(&digest)) {
            Some(size) => hash_only(&mut whole, size),
            None => unpack_layer(&self.dir, &self.members.len().to_string(), &mut whole),
        };
        Ok(match (layer, promised) {
            (Ok(layer), Some(promised)) if layer.blob != promised => {
                Member::Unusable(corrupt(format!("the content of {name:?} has digest {}", layer.blob)))
            }
            (Ok(layer), _) => Member::Layer(Box::new(layer)),
            // Perhaps nothing refers to it. If the archive itself ends here, reading on will say so.
            (Err(e), _) => Member::Unusable(e),
        })
    }

    fn read_document(
        &mut self,
        name: &str,
        head: Vec<u8>,
        size: u64,
        tape: &mut dyn Read,
        promised: Option<Digest>,
    ) -> Result<Member> {
        let fits = usize::try_from(size).ok().filter(|size| *size <= DOCUMENT_MAX);
        let Some(size) = fits else {
            return Err(corrupt(format!(
                "{name:?} has {size} bytes; at most {DOCUMENT_MAX} are read of a document"
            )));
        };
        self.document_bytes += size;
        if self.document_bytes > DOCUMENTS_MAX {
            return Err(corrupt(format!(
                "the documents in the archive have more than {DOCUMENTS_MAX} bytes"
            )));
        }
        let mut bytes = head;
        tape.read_to_end(&mut bytes).map_err(|e| from_read(e, "read archive"))?;
        match promised {
            Some(promised) if digest_of(&bytes) != promised => {
                let found = digest_of(&bytes);
                Ok(Member::Unusable(corrupt(format!("the content of {name:?} has digest {found}"))))
            }
            _ => Ok(Member::Document(bytes)),
        }
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // What stays behind is cleared away when the store is opened next.
        let _ = self.layout.discard(&self.layout.tmp, &self.name);
    }
}

/// Unpacks the layer in `reader` to `NAME/diff` in `dir`, through decompression and both digests.
fn unpack_layer(dir: &Dir, name: &str, reader: &mut dyn Read) -> Result<StagedLayer> {
    let place = dir.ensure_dir(name, 0o700).while_(|| "make a directory for a layer")?;
    let root = place.ensure_dir("diff", 0o755).while_(|| "make a directory for a layer")?;
    rustix::fs::fchmod(&root, rustix::fs::Mode::from_raw_mode(0o755)).while_(|| "fchmod(diff)")?;
    let aside = dir.ensure_dir(format!("aside-{name}"), 0o700).while_(|| "make a directory for a layer")?;
    let mut blob = Hashing::new(reader);
    let decoder = Decoder::new(BufReader::with_capacity(BUFFER, &mut blob))?;
    // Hashing twice what is not compressed would cost as much as unpacking it.
    let (size, diff_id) = if decoder.is_plain() {
        (run(&mut Tape::new(decoder.buffered()), &root, &aside)?, None)
    } else {
        let mut content = Hashing::new(decoder);
        let size = run(&mut Tape::new(BufReader::with_capacity(BUFFER, &mut content)), &root, &aside)?;
        (size, Some(content.finish().0))
    };
    let (blob, blob_size) = blob.finish();
    Ok(StagedLayer {
        blob,
        blob_size,
        diff_id: diff_id.unwrap_or(blob),
        size,
        directory: Some(name.to_owned()),
    })
}

fn run<R: Read>(tape: &mut Tape<R>, root: &Dir, aside: &Dir) -> Result<u64> {
    let unpacked = unpack(tape, root, aside)?;
    tape.drain()?;
    Ok(unpacked.size)
}

/// The store has this very content; make sure that the archive has it too.
fn hash_only(reader: &mut dyn Read, size: u64) -> Result<StagedLayer> {
    let mut hashing = Hashing::new(reader);
    std::io::copy(&mut hashing, &mut std::io::sink()).map_err(|e| from_read(e, "read archive"))?;
    let (blob, blob_size) = hashing.finish();
    Ok(StagedLayer { blob, blob_size, diff_id: blob, size, directory: None })
}

/// A member's name without `./`; `None` for the root itself. Names are only ever looked up in a map.
fn member_name(path: &[u8]) -> Result<Option<String>> {
    let text = std::str::from_utf8(path).map_err(|_| corrupt("a name in the archive is not UTF-8"))?;
    if text.len() > 1024 {
        return Err(corrupt("a name in the archive is longer than 1024 bytes"));
    }
    let parts: Vec<_> = text.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if text.starts_with('/') || parts.contains(&"..") {
        return Err(corrupt(format!("the archive has a file named {text:?}")));
    }
    Ok((!parts.is_empty()).then(|| parts.join("/")))
}

/// What the symlink `name` means inside the archive.
fn link_target(name: &str, target: &[u8]) -> Result<String> {
    let outside = || corrupt(format!("{name:?} in the archive links out of it"));
    let target = std::str::from_utf8(target).map_err(|_| outside())?;
    if target.starts_with('/') || target.len() > 1024 {
        return Err(outside());
    }
    let mut parts: Vec<_> = name.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop().ok_or_else(outside)?),
            part => parts.push(part),
        }
    }
    Ok(parts.join("/"))
}

/// The digest a member's name promises, if it does.
fn promised_digest(name: &str) -> Result<Option<Digest>> {
    name.strip_prefix(BLOBS).map(Digest::from_hex).transpose().map_err(|e| corrupt(e.message()))
}

fn is_document(name: &str, head: &[u8]) -> bool {
    let last = name.rsplit('/').next().unwrap_or(name);
    let named = name.ends_with(".json") || matches!(last, "json" | "VERSION" | "oci-layout" | "repositories");
    let tar = head.get(257..262) == Some(b"ustar");
    named || (!tar && matches!(head.trim_ascii_start().first(), Some(b'{' | b'[')))
}
