//! Looking into stacked layers without mounting them.
//!
//! A path is resolved as it would be inside the container: through all layers, with whiteouts and opaque directories,
//! symlinks followed from the image's own root, and `..` above that root staying there. It works on open directories,
//! one component at a time, so nothing an image says can lead out of its layers.

use std::collections::{BTreeSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, OFlags, Stat, fgetxattr};
use rustix::io::Errno;
use tare_model::{Error, Result};
use tare_sys::dir::Dir;
use tare_sys::lookup::{self, Within};

use crate::error::SystemContext;
use crate::unpack::{is_whiteout, opaque_xattr};

const LINKS_MAX: usize = 40;

/// A directory of a union: the directories that make it up, topmost first. Never empty.
pub(crate) struct MergedDir {
    parts: Vec<Dir>,
}

/// What a path leads to.
pub(crate) enum Found {
    Directory(MergedDir),
    /// Anything else: where it is, and what.
    Other {
        dir: Dir,
        stat: Stat,
    },
}

// === impl MergedDir ===

impl MergedDir {
    /// The root of a union of `layers`, topmost first.
    pub(crate) fn root(layers: &[PathBuf]) -> Result<Self> {
        let open = |path: &PathBuf| Dir::open_trusted_path(path).while_(|| "open a layer");
        let parts: Vec<_> = layers.iter().map(open).collect::<Result<_>>()?;
        if parts.is_empty() {
            return Err(Error::invalid("a union of no layers"));
        }
        Ok(Self { parts })
    }

    /// The directory whose owner, mode and times count.
    pub(crate) fn top(&self) -> &Dir {
        // Never empty: made from at least one part.
        &self.parts[0]
    }

    /// The entry `name`, symlinks not followed.
    pub(crate) fn entry(&self, name: &OsStr) -> Result<Option<Found>> {
        let mut parts = Vec::new();
        for dir in &self.parts {
            let Some(stat) = dir.stat(name).while_(|| "look into a layer")? else { continue };
            if is_whiteout(&stat) {
                break;
            }
            if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
                if parts.is_empty() {
                    let dir = dir.try_clone().while_(|| "look into a layer")?;
                    return Ok(Some(Found::Other { dir, stat }));
                }
                break;
            }
            let Some(inner) = open_unmounted(dir, name)? else { continue };
            let opaque = is_opaque(&inner);
            parts.push(inner);
            if opaque {
                break;
            }
        }
        Ok((!parts.is_empty()).then_some(Found::Directory(Self { parts })))
    }

    /// The text of the small regular file at `path`, to which no symlink leads; `None` for anything else.
    pub(crate) fn text(self, path: &str, longest: u64) -> Result<Option<String>> {
        let (mut here, mut names) = (self, path.split('/').peekable());
        while let Some(name) = names.next() {
            match here.entry(OsStr::new(name))? {
                Some(Found::Directory(dir)) => here = dir,
                Some(Found::Other { dir, stat })
                    if names.peek().is_none()
                        && FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile =>
                {
                    let file = dir.open_file(name).while_(|| "look into a layer")?;
                    let mut bytes = Vec::new();
                    let read = file.take(longest + 1).read_to_end(&mut bytes);
                    read.map_err(|e| Error::system(format!("read({path:?}): {e}")))?;
                    let fits = bytes.len() as u64 <= longest;
                    return Ok(fits.then(|| String::from_utf8_lossy(&bytes).into_owned()));
                }
                _ => return Ok(None),
            }
        }
        Ok(None)
    }

    /// Names of all entries, sorted.
    pub(crate) fn names(&self) -> Result<Vec<OsString>> {
        let mut names = BTreeSet::new();
        for dir in &self.parts {
            for entry in dir.entries().while_(|| "list a layer")? {
                names.insert(entry.while_(|| "list a layer")?.0);
            }
        }
        Ok(names.into_iter().collect())
    }

    /// What `path` leads to from this root, with symlinks followed.
    pub(crate) fn resolve(self, path: &OsStr) -> Result<Option<Found>> {
        let mut todo: VecDeque<OsString> = split(path).collect();
        let mut chain = vec![self];
        let mut links = 0;
        while let Some(name) = todo.pop_front() {
            if name == ".." {
                if chain.len() > 1 {
                    chain.pop();
                }
                continue;
            }
            let here = &chain[chain.len() - 1];
            match here.entry(&name)? {
                Some(Found::Directory(dir)) => chain.push(dir),
                Some(Found::Other { dir, stat })
                    if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink =>
                {
                    links += 1;
                    if links > LINKS_MAX {
                        return Err(Error::invalid(format!(
                            "too many symlinks on the way to {path:?} in the image"
                        )));
                    }
                    let target = dir.read_link(&name).while_(|| "look into a layer")?;
                    if target.as_bytes().starts_with(b"/") {
                        chain.truncate(1);
                    }
                    split(&target).rev().for_each(|part| todo.push_front(part));
                }
                Some(other) if todo.is_empty() => return Ok(Some(other)),
                _ => return Ok(None),
            }
        }
        Ok(chain.pop().map(Found::Directory))
    }
}

fn split(path: &OsStr) -> impl DoubleEndedIterator<Item = OsString> + use<> {
    let parts = path.as_bytes().split(|b| *b == b'/').filter(|part| !part.is_empty() && *part != b".");
    parts.map(|part| OsStr::from_bytes(part).to_owned()).collect::<Vec<_>>().into_iter()
}

/// Opens a directory; `None` if something is mounted on it, for a union shows nothing that is mounted on its layers.
fn open_unmounted(dir: &Dir, name: &OsStr) -> Result<Option<Dir>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
    match lookup::open(dir.as_fd(), Path::new(name), flags, Within::BENEATH.on_one_mount()) {
        Ok(inner) => Ok(Some(Dir::from_fd(inner))),
        Err(Errno::XDEV) => Ok(None),
        Err(e) => Err(e).while_(|| format!("openat2({name:?}, O_DIRECTORY, RESOLVE_NO_XDEV)")),
    }
}

fn is_opaque(dir: &Dir) -> bool {
    let mut value = [0u8; 2];
    matches!(fgetxattr(dir.as_fd(), opaque_xattr(), &mut value), Ok(1) if value[0] == b'y')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::unpack::set_opaque;
    use std::os::unix::fs::symlink;

    struct Layers {
        scratch: tempfile::TempDir,
        paths: Vec<PathBuf>,
    }

    impl Layers {
        /// Layers, topmost first.
        fn new(n: usize) -> Self {
            let scratch = tempfile::tempdir_in("/var/tmp").expect("scratch");
            let paths: Vec<_> = (0..n).map(|n| scratch.path().join(n.to_string())).collect();
            paths.iter().for_each(|path| std::fs::create_dir(path).expect("layer"));
            Self { scratch, paths }
        }

        fn file(&self, layer: usize, path: &str) {
            let path = self.paths[layer].join(path);
            std::fs::create_dir_all(path.parent().expect("parent")).expect("directories");
            std::fs::write(path, layer.to_string()).expect("file");
        }

        fn dir(&self, layer: usize, path: &str) -> Dir {
            Dir::open_trusted_path(&self.paths[layer].join(path)).expect("opens")
        }

        /// `file:` and the number of the layer it is from, `dir:` and its entries, or `-`.
        fn at(&self, path: &str) -> String {
            let root = MergedDir::root(&self.paths).expect("layers");
            match root.resolve(OsStr::new(path)).expect("resolves") {
                None => "-".into(),
                Some(Found::Directory(dir)) => {
                    let there = |name: &OsString| dir.entry(name).expect("entry").is_some();
                    let names: Vec<_> = dir.names().expect("names").into_iter().filter(there).collect();
                    format!("dir:{}", names.iter().map(|n| n.to_string_lossy()).collect::<Vec<_>>().join(","))
                }
                Some(Found::Other { dir, .. }) => {
                    let name = Path::new(path).file_name().expect("a name");
                    let text = std::io::read_to_string(dir.open_file(name).expect("opens")).expect("reads");
                    format!("file:{text}")
                }
            }
        }
    }

    #[test]
    fn upper_layers_hide_and_directories_merge() {
        let layers = Layers::new(3);
        layers.file(2, "d/low");
        layers.file(2, "d/both");
        layers.file(1, "d/both");
        layers.file(0, "e");
        layers.file(2, "e/was-a-directory");
        assert_eq!(
            (layers.at("d"), layers.at("d/both"), layers.at("/d/low")),
            ("dir:both,low".into(), "file:1".into(), "file:2".into())
        );
        assert_eq!((layers.at("e"), layers.at("e/was-a-directory")), ("file:0".into(), "-".into()));
    }

    #[test]
    fn whiteouts_and_opaque_directories_hide() {
        let layers = Layers::new(2);
        layers.file(1, "gone");
        layers.file(1, "d/low");
        layers.file(1, "o/low");
        layers.file(0, "o/new");
        std::fs::create_dir(layers.paths[0].join("d")).expect("directory");
        layers.dir(0, "").make_node("gone", FileType::CharacterDevice, 0, 0).expect("whiteout");
        layers.dir(0, "d").make_node("low", FileType::CharacterDevice, 0, 0).expect("whiteout");
        set_opaque(&layers.dir(0, "o")).expect("opaque");
        assert_eq!(
            (layers.at("gone"), layers.at("d"), layers.at("o")),
            ("-".into(), "dir:".into(), "dir:new".into())
        );
    }

    #[test]
    fn the_text_of_a_file_is_the_topmost_layers_and_is_reached_by_no_link() {
        let layers = Layers::new(3);
        layers.file(1, "etc/passwd");
        layers.file(2, "etc/passwd");
        layers.file(2, "etc/group");
        layers.file(2, "o/low");
        layers.file(0, "o/new");
        layers.file(2, "gone");
        layers.file(0, "long");
        std::fs::write(layers.paths[0].join("long"), "0123456789").expect("file");
        layers.dir(0, "").make_node("gone", FileType::CharacterDevice, 0, 0).expect("whiteout");
        layers.dir(0, "").make_node("pipe", FileType::Fifo, 0o644, 0).expect("pipe");
        set_opaque(&layers.dir(0, "o")).expect("opaque");
        symlink("etc", layers.paths[0].join("link")).expect("symlink");
        symlink("passwd", layers.paths[1].join("etc/shadow")).expect("symlink");
        let text = |path| MergedDir::root(&layers.paths).expect("layers").text(path, 9).expect("looks");
        assert_eq!(
            [text("etc/passwd"), text("etc/group"), text("o/new")],
            ["1", "2", "0"].map(|n| Some(n.into()))
        );
        for odd in
            ["o/low", "gone", "pipe", "link/passwd", "etc/shadow", "etc", "etc/passwd/x", "none/x", "long"]
        {
            assert_eq!(text(odd), None, "{odd}");
        }
    }

    #[test]
    fn symlinks_and_dots_stay_inside_the_image() {
        let layers = Layers::new(2);
        layers.file(1, "etc/passwd");
        let link = |target: &str, name: &str| symlink(target, layers.paths[0].join(name)).expect("symlink");
        link("/etc", "abs");
        link("../../../../etc", "up");
        link(layers.scratch.path().to_str().expect("text"), "outside");
        link("loop", "loop");
        link("abs/../abs", "hop");
        for path in [
            "etc/passwd",
            "/../../../etc/passwd",
            "abs/passwd",
            "up/passwd",
            "hop/passwd",
            "etc/../etc/./passwd",
        ] {
            assert_eq!(layers.at(path), "file:1", "{path}");
        }
        assert_eq!(layers.at("outside"), "-");
        assert!(MergedDir::root(&layers.paths).expect("layers").resolve(OsStr::new("loop/x")).is_err());
    }
}
