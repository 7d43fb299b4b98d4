//! What an entry's name means: where in the layer it goes, or what it takes away.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use tare_model::Result;

use crate::error::corrupt;

/// Deeper trees cannot be made by any path a program could name, and would cost a descriptor per level.
const DEPTH_MAX: usize = 512;
/// The kernel's limit for a path.
const PATH_MAX: usize = 4096;

const WHITEOUT: &[u8] = b".wh.";
const AUFS: &[u8] = b".wh..wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// What an entry asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Place<'a> {
    /// The layer's root directory.
    Root,
    /// An entry `name` below `parents`.
    At { parents: Vec<&'a OsStr>, name: &'a OsStr },
    /// Whatever lower layers have as `name` below `parents` is gone.
    Whiteout { parents: Vec<&'a OsStr>, name: &'a OsStr },
    /// Whatever lower layers have in the directory is gone.
    Opaque { directory: Vec<&'a OsStr> },
    /// Book-keeping of another union file system, of no meaning here.
    Skip,
}

/// The components of a path below the layer's root; `..` is refused wherever it stands. A leading slash means that root:
/// the targets of hard links may have one (kaniko writes them so), names of entries may not, see [`place`].
pub(super) fn components(path: &[u8]) -> Result<Vec<&OsStr>> {
    if path.len() > PATH_MAX {
        return refuse(path, "has a name longer than 4096 bytes");
    }
    let parts = path.split(|b| *b == b'/').filter(|part| !part.is_empty() && *part != b".");
    let components: Vec<_> = parts.map(OsStr::from_bytes).collect();
    if components.iter().any(|c| c.as_bytes() == b"..") {
        return refuse(path, "has a name with \"..\" in it");
    }
    if components.len() > DEPTH_MAX {
        return refuse(path, "lies deeper than 512 directories");
    }
    Ok(components)
}

/// What an entry of this name asks for. An absolute name means a place of the machine to one reader and of the layer to
/// another, so only the root itself may be written so.
pub(super) fn place(path: &[u8]) -> Result<Place<'_>> {
    if path.is_empty() {
        return Err(corrupt("an entry has an empty name"));
    }
    let mut parents = components(path)?;
    let Some(name) = parents.pop() else {
        return Ok(Place::Root);
    };
    if path.starts_with(b"/") {
        return refuse(path, "has an absolute name: pack the layer with names relative to its root");
    }
    let bytes = name.as_bytes();
    if bytes == OPAQUE {
        return Ok(Place::Opaque { directory: parents });
    }
    if bytes.starts_with(AUFS) || parents.first().is_some_and(|first| first.as_bytes().starts_with(AUFS)) {
        return Ok(Place::Skip);
    }
    if parents.iter().any(|part| part.as_bytes().starts_with(WHITEOUT)) {
        return refuse(path, "lies below the mark of a removed file");
    }
    match bytes.strip_prefix(WHITEOUT) {
        Some(b"" | b"." | b"..") => refuse(path, "marks no file as removed"),
        Some(removed) => Ok(Place::Whiteout { parents, name: OsStr::from_bytes(removed) }),
        None => Ok(Place::At { parents, name }),
    }
}

/// Says what is wrong with an entry, naming it as far as a line reaches.
fn refuse<T>(path: &[u8], why: &str) -> Result<T> {
    Err(corrupt(format!("entry \"{}\" {why}", path[..path.len().min(120)].escape_ascii())))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(path: &str) -> String {
        match place(path.as_bytes()) {
            Ok(Place::At { parents, name }) => {
                let all: Vec<_> = parents.into_iter().chain([name]).map(|c| c.to_string_lossy()).collect();
                all.join("/")
            }
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn names_lie_below_the_root_however_they_are_written() {
        for path in ["a/b", "./a/b", ".//a/b", "./a//./b/", "a/b/."] {
            assert_eq!(at(path), "a/b", "{path}");
        }
        for path in ["/", ".", "./", "//./"] {
            assert_eq!(place(path.as_bytes()).expect(path), Place::Root);
        }
    }

    #[test]
    fn absolute_names_are_refused_but_for_the_root_itself() {
        for path in ["/a", "//a", "/./a", "/etc/passwd", "/.wh.a", "/a/.wh..wh..opq", "/.wh..wh.plnk"] {
            let e = place(path.as_bytes()).expect_err(path);
            assert!(e.message().contains(path) && e.message().contains("absolute"), "{e}");
        }
        assert_eq!(components(b"/a/b").expect("a link's target"), ["a", "b"]);
    }

    #[test]
    fn two_dots_are_refused_everywhere() {
        for path in ["..", "../a", "a/..", "a/../b", "/../a", "./..", "a/b/../../c", "..//"] {
            assert!(place(path.as_bytes()).is_err(), "{path}");
        }
        assert_eq!(at("..a/b.."), "..a/b..");
    }

    #[test]
    fn whiteouts_name_one_entry_of_their_directory() {
        let expected = Place::Whiteout { parents: vec![OsStr::new("a")], name: OsStr::new("b") };
        assert_eq!(place(b"a/.wh.b").expect("whiteout"), expected);
        assert_eq!(
            place(b"a/.wh..wh..opq").expect("opaque"),
            Place::Opaque { directory: vec![OsStr::new("a")] }
        );
        assert_eq!(place(b".wh..wh..opq").expect("opaque"), Place::Opaque { directory: vec![] });
        for bad in [".wh.", "a/.wh.", ".wh..", ".wh...", "a/.wh.../", ".wh.a/b", "a/.wh.b/c"] {
            assert!(place(bad.as_bytes()).is_err(), "{bad}");
        }
        for aufs in [".wh..wh.plnk", ".wh..wh.plnk/12.34", ".wh..wh.aufs", ".wh..wh.orph"] {
            assert_eq!(place(aufs.as_bytes()).expect(aufs), Place::Skip);
        }
    }

    #[test]
    fn endless_names_and_depths_are_refused() {
        assert!(place(&b"a".repeat(4097)).is_err());
        assert!(place("a/".repeat(600).as_bytes()).is_err());
        assert!(place("a/".repeat(500).as_bytes()).is_ok());
        assert!(place(b"").is_err());
    }

    proptest! {
        #[test]
        fn no_place_ever_leads_upwards(path in proptest::collection::vec(prop_oneof![
            Just(b'.'), Just(b'/'), Just(b'w'), Just(b'h'), any::<u8>()], 0..40)) {
            let up = |c: &&OsStr| matches!(c.as_bytes(), b"" | b"." | b"..") || c.as_bytes().contains(&b'/');
            let bad = match place(&path) {
                Ok(Place::At { parents, name } | Place::Whiteout { parents, name }) =>
                    parents.iter().any(up_ref(&up)) || up(&name),
                Ok(Place::Opaque { directory }) => directory.iter().any(up_ref(&up)),
                _ => false,
            };
            prop_assert!(!bad);
        }
    }

    fn up_ref<'a>(up: &'a impl Fn(&&OsStr) -> bool) -> impl Fn(&&OsStr) -> bool + 'a {
        move |c| up(c)
    }
}
