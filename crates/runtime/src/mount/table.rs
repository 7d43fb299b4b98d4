//! The host's table of mounts, `/proc/self/mountinfo`: which are below a directory, and of what type.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use tare_sys::mount::unescape;

use crate::error::{Error, Result};

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Where it is.
    pub(crate) place: PathBuf,
    /// The type of its file system.
    pub(crate) kind: String,
    /// It cannot be bound.
    pub(crate) unbindable: bool,
}

/// The mounts of the calling process's namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Table(Vec<Entry>);

// === impl Table ===

impl Table {
    /// Reads it.
    pub(crate) fn read() -> Result<Self> {
        const PATH: &str = "/proc/self/mountinfo";
        let bytes = std::fs::read(PATH)
            .map_err(|e| Error::new(tare_model::ErrorKind::System, format!("read({PATH:?}): {e}")))?;
        Ok(Self::parse(&bytes))
    }

    /// Lines that cannot be understood are left out.
    fn parse(bytes: &[u8]) -> Self {
        Self(bytes.split(|byte| *byte == b'\n').filter_map(entry).collect())
    }

    /// Mounts strictly below `directory`, each place once, parents first.
    pub(crate) fn below(&self, directory: &Path) -> Vec<&Entry> {
        let mut found: Vec<&Entry> = Vec::new();
        for entry in self.0.iter().filter(|e| e.place.starts_with(directory) && e.place != directory) {
            // A later one at the same place hides the earlier.
            found.retain(|other| other.place != entry.place);
            found.push(entry);
        }
        found.sort_by_key(|entry| entry.place.components().count());
        found
    }

    /// The type of the file system that `path` is on.
    pub(crate) fn kind_of(&self, path: &Path) -> &str {
        let holds = self.0.iter().filter(|entry| path.starts_with(&entry.place));
        // The last of those that are deepest.
        holds.max_by_key(|entry| entry.place.components().count()).map_or("unknown", |entry| &entry.kind)
    }
}

fn entry(line: &[u8]) -> Option<Entry> {
    let fields: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let dash = fields.iter().position(|field| *field == b"-")?;
    let place = PathBuf::from(OsString::from_vec(unescape(fields.get(4)?)));
    let kind = String::from_utf8_lossy(fields.get(dash + 1)?).into_owned();
    let unbindable = fields.get(6..dash)?.contains(&b"unbindable".as_slice());
    Some(Entry { place, kind, unbindable })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: &str = "\
20 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
21 20 0:5 / /proc rw - proc proc rw
22 20 0:6 / /srv/a rw shared:2 - xfs /dev/b rw
23 22 0:7 / /srv/a/b\\040c rw unbindable - tmpfs none rw
24 22 0:8 / /srv/a/x rw - ext4 /dev/c rw
25 24 0:9 / /srv/a/x rw - nfs4 host:/x rw
26 20 0:10 / /srv/ab rw - proc none rw
broken line
";

    #[test]
    fn mounts_below_a_directory_are_found_and_the_topmost_counts() {
        let table = Table::parse(TEXT.as_bytes());
        let below: Vec<_> = table.below(Path::new("/srv/a")).into_iter().collect();
        let shown: Vec<(&str, &str, bool)> =
            below.iter().map(|e| (e.place.to_str().unwrap(), e.kind.as_str(), e.unbindable)).collect();
        assert_eq!(shown, [("/srv/a/b c", "tmpfs", true), ("/srv/a/x", "nfs4", false)]);
    }

    #[test]
    fn a_path_is_on_the_deepest_mount() {
        let table = Table::parse(TEXT.as_bytes());
        for (path, kind) in [
            ("/etc", "ext4"),
            ("/srv/a", "xfs"),
            ("/srv/a/x/y", "nfs4"),
            ("/srv/abc", "ext4"),
            ("x", "unknown"),
        ] {
            assert_eq!(table.kind_of(Path::new(path)), kind, "{path}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            Table::parse(&bytes).below(Path::new("/"));
        }

        #[test]
        fn what_was_escaped_is_what_comes_back(name in proptest::collection::vec(any::<u8>(), 0..32)) {
            let escaped: Vec<u8> = name.iter().flat_map(|byte| match byte {
                b' ' | b'\t' | b'\n' | b'\\' => format!("\\{byte:03o}").into_bytes(),
                other => vec![*other],
            }).collect();
            prop_assert_eq!(unescape(&escaped), name);
        }
    }
}
