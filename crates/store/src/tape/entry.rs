//! An entry as all readers would see it: header and extensions put together.

use std::collections::BTreeMap;

use tar::Header;
use tare_model::Result;

use super::field::{number, text, unsigned};
use super::pax;
use crate::error::corrupt;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    HardLink,
    Symlink,
    CharDevice,
    BlockDevice,
    Directory,
    Fifo,
}

/// One entry of an archive. Names are bytes as they were written, not yet judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) path: Vec<u8>,
    pub(crate) kind: Kind,
    /// Target of a hard or symbolic link.
    pub(crate) link: Vec<u8>,
    /// Permissions with setuid, setgid and sticky bit.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Seconds and nanoseconds.
    pub(crate) mtime: (i64, u32),
    /// Bytes that follow; 0 unless it is a file.
    pub(crate) size: u64,
    /// Major and minor number of a device.
    pub(crate) device: (u64, u64),
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// The fields of one header.
pub(super) struct Raw {
    pub(super) kind: u8,
    pub(super) size: u64,
    path: Vec<u8>,
    link: Vec<u8>,
    mode: u64,
    uid: u64,
    gid: u64,
    mtime: i64,
    device: (u64, u64),
}

/// What the headers before an entry say about it.
#[derive(Default)]
pub(super) struct Extensions {
    pax: Option<Pax>,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
}

#[derive(Default)]
struct Pax {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    mtime: Option<(i64, u32)>,
    /// By name: a header has room for tens of thousands.
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

// === impl Raw ===

impl Raw {
    pub(super) fn read(header: &Header) -> Result<Self> {
        check_sum(header)?;
        let old = header.as_old();
        let extended = header.as_ustar().is_some() || header.as_gnu().is_some();
        // Both extended formats have the device numbers at one place.
        let bytes = header.as_bytes();
        let device = match old.linkflag[0] {
            b'3' | b'4' if extended => {
                (unsigned(&bytes[329..337], "devmajor")?, unsigned(&bytes[337..345], "devminor")?)
            }
            _ => (0, 0),
        };
        Ok(Self {
            kind: old.linkflag[0],
            size: unsigned(&old.size, "size")?,
            path: path(header),
            link: text(&old.linkname).to_vec(),
            mode: unsigned(&old.mode, "mode")?,
            uid: unsigned(&old.uid, "uid")?,
            gid: unsigned(&old.gid, "gid")?,
            mtime: number(&old.mtime, "mtime")?,
            device,
        })
    }
}

// === impl Extensions ===

impl Extensions {
    pub(super) fn is_empty(&self) -> bool {
        self.pax.is_none() && self.long_name.is_none() && self.long_link.is_none()
    }

    pub(super) fn add_pax(&mut self, bytes: &[u8]) -> Result<()> {
        if self.pax.is_some() {
            return Err(corrupt("two PAX headers before one entry: readers disagree about them"));
        }
        self.pax = Some(Pax::read(bytes)?);
        Ok(())
    }

    pub(super) fn add_long_name(&mut self, bytes: Vec<u8>) -> Result<()> {
        add_long(&mut self.long_name, bytes, "names")
    }

    pub(super) fn add_long_link(&mut self, bytes: Vec<u8>) -> Result<()> {
        add_long(&mut self.long_link, bytes, "link targets")
    }

    /// The entry that `raw` announces.
    pub(super) fn apply(self, raw: Raw) -> Result<Entry> {
        let pax = self.pax.unwrap_or_default();
        let path = one_of(self.long_name, pax.path, raw.path, "names")?;
        let link = one_of(self.long_link, pax.link, raw.link, "link targets")?;
        let size = pax.size.unwrap_or(raw.size);
        // Bytes on the tape beyond this would overflow every reader's position.
        if size > i64::MAX as u64 - 1024 {
            return Err(corrupt(format!("entry {} claims {size} bytes", shown(&path))));
        }
        let kind = kind(raw.kind, &path, size)?;
        if kind != Kind::File && size != 0 {
            return Err(corrupt(format!(
                "entry {} is no file but has {size} bytes: readers disagree whether they follow",
                shown(&path)
            )));
        }
        Ok(Entry {
            kind,
            mode: (raw.mode & 0o7777) as u32,
            uid: id(pax.uid.unwrap_or(raw.uid), &path)?,
            gid: id(pax.gid.unwrap_or(raw.gid), &path)?,
            mtime: pax.mtime.unwrap_or((raw.mtime, 0)),
            size,
            device: raw.device,
            xattrs: pax.xattrs.into_iter().collect(),
            path,
            link,
        })
    }
}

// === impl Pax ===

impl Pax {
    fn read(bytes: &[u8]) -> Result<Self> {
        let mut pax = Self::default();
        pax::records(bytes, |key, value| pax.add(key, value))?;
        Ok(pax)
    }

    /// Later records replace earlier ones; an empty value means the header's.
    fn add(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let given = (!value.is_empty()).then_some(value);
        match key {
            b"path" => self.path = given.map(|v| no_nul(v, "path")).transpose()?,
            b"linkpath" => self.link = given.map(|v| no_nul(v, "linkpath")).transpose()?,
            b"size" => self.size = given.map(|v| pax::decimal(v, "size")).transpose()?,
            b"uid" => self.uid = given.map(|v| pax::decimal(v, "uid")).transpose()?,
            b"gid" => self.gid = given.map(|v| pax::decimal(v, "gid")).transpose()?,
            b"mtime" => self.mtime = given.map(pax::time).transpose()?,
            _ if key.starts_with(b"GNU.sparse.") => return Err(sparse()),
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    let name = no_nul(name, "attribute name")?;
                    self.xattrs.insert(name, value.to_vec());
                }
            }
        }
        Ok(())
    }
}

fn kind(flag: u8, path: &[u8], size: u64) -> Result<Kind> {
    let slash = path.ends_with(b"/");
    Ok(match flag {
        // Before there was a type for directories, they were empty files with a slash.
        0 if slash && size == 0 => Kind::Directory,
        0 | b'0' | b'7' if slash => {
            return Err(corrupt(format!("entry {} is a file named like a directory", shown(path))));
        }
        0 | b'0' | b'7' => Kind::File,
        b'1' => Kind::HardLink,
        b'2' => Kind::Symlink,
        b'3' => Kind::CharDevice,
        b'4' => Kind::BlockDevice,
        b'5' => Kind::Directory,
        b'6' => Kind::Fifo,
        b'S' => return Err(sparse()),
        other => {
            let other = other.escape_ascii();
            return Err(corrupt(format!("entry {} is of unknown type '{other}'", shown(path))));
        }
    })
}

fn path(header: &Header) -> Vec<u8> {
    let bytes = header.as_bytes();
    // star writes its own trailer and a shorter prefix.
    let prefix = match header.as_ustar() {
        Some(_) if bytes.ends_with(b"tar\0") => text(&bytes[345..476]),
        Some(ustar) => text(&ustar.prefix),
        None => b"",
    };
    let name = text(&bytes[..100]);
    if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() }
}

/// The sum of all bytes with the sum's own field as blanks; old tars added signed bytes.
fn check_sum(header: &Header) -> Result<()> {
    let bytes = header.as_bytes();
    let counted = || bytes[..148].iter().chain(&[b' '; 8]).chain(&bytes[156..]);
    let plain: i64 = counted().map(|b| i64::from(*b)).sum();
    let signed: i64 = counted().map(|b| i64::from(b.cast_signed())).sum();
    match number(&bytes[148..156], "checksum")? {
        sum if sum == plain || sum == signed => Ok(()),
        _ => Err(corrupt("an archive header's checksum is wrong: no tar archive, or a damaged one")),
    }
}

fn add_long(place: &mut Option<Vec<u8>>, bytes: Vec<u8>, what: &str) -> Result<()> {
    if place.is_some() {
        return Err(corrupt(format!("two long {what} before one entry: readers disagree about them")));
    }
    *place = Some(text(&bytes).to_vec());
    Ok(())
}

fn one_of(gnu: Option<Vec<u8>>, pax: Option<Vec<u8>>, header: Vec<u8>, what: &str) -> Result<Vec<u8>> {
    match (gnu, pax) {
        (Some(gnu), Some(pax)) if gnu != pax => {
            Err(corrupt(format!("an entry has two long {what}, {} and {}", shown(&gnu), shown(&pax))))
        }
        (Some(name), _) | (None, Some(name)) => Ok(name),
        (None, None) => Ok(header),
    }
}

/// The highest number means "leave as it is" to chown(2), so nobody can be given it.
fn id(value: u64, path: &[u8]) -> Result<u32> {
    u32::try_from(value).ok().filter(|id| *id != u32::MAX).ok_or_else(|| {
        corrupt(format!("entry {} belongs to user or group {value}, which cannot be", shown(path)))
    })
}

fn no_nul(value: &[u8], what: &str) -> Result<Vec<u8>> {
    if value.contains(&0) {
        return Err(corrupt(format!("PAX {what} holds a NUL byte")));
    }
    Ok(value.to_vec())
}

fn sparse() -> tare_model::Error {
    tare_model::Error::unsupported("sparse entries are not supported: make the archive without --sparse")
}

/// A name for a message: escaped, and not longer than a line.
pub(super) fn shown(path: &[u8]) -> String {
    format!("\"{}\"", path[..path.len().min(120)].escape_ascii())
}
