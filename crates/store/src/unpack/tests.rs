//! Layers arrive whole, and nothing an archive says reaches beyond its layer.

use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::*;
use crate::tape::tests::{Head, Tar};

/// A layer's directory beside a canary that must never change.
pub(crate) struct Scratch {
    _dir: tempfile::TempDir,
    pub(crate) layer: PathBuf,
    canary: PathBuf,
    root: Dir,
    aside: Dir,
}

impl Scratch {
    pub(crate) fn new() -> Self {
        // On a disk: overlayfs's attributes need its file system.
        let dir = tempfile::tempdir_in("/var/tmp").expect("scratch");
        let at = |name: &str| {
            let path = dir.path().join(name);
            std::fs::create_dir(&path).expect("directory");
            path
        };
        let (layer, aside, canary) = (at("layer"), at("aside"), at("canary"));
        std::fs::write(canary.join("file"), "untouched").expect("canary");
        let open = |path: &Path| Dir::open_trusted_path(path).expect("opens");
        Self { root: open(&layer), aside: open(&aside), layer, canary, _dir: dir }
    }

    pub(crate) fn unpack(&self, archive: &[u8]) -> Result<Unpacked> {
        let result = unpack(&mut Tape::new(archive), &self.root, &self.aside);
        let canary: Vec<_> =
            std::fs::read_dir(&self.canary).expect("canary").map(|e| e.expect("entry").file_name()).collect();
        assert_eq!(canary, ["file"], "the canary got company");
        assert_eq!(std::fs::read(self.canary.join("file")).expect("canary"), b"untouched");
        assert_eq!(
            self.canary.metadata().expect("canary").mode() & 0o7777,
            0o755,
            "the canary's mode changed"
        );
        result
    }

    fn path(&self, name: &str) -> PathBuf {
        self.layer.join(name)
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    fn whiteout(&self, name: &str) -> bool {
        let found = self.path(name).symlink_metadata().expect(name);
        found.file_type().is_char_device() && found.rdev() == 0
    }

    fn xattr(&self, name: &str, attribute: &str) -> Option<Vec<u8>> {
        let mut value = vec![0; 200];
        let n = rustix::fs::lgetxattr(self.path(name), attribute, &mut value).ok()?;
        value.truncate(n);
        Some(value)
    }

    fn canary(&self) -> &str {
        self.canary.to_str().expect("text")
    }
}

#[test]
fn everything_a_layer_can_hold_is_unpacked() {
    let scratch = Scratch::new();
    let owned =
        Head { mode: 0o4755, owner: (12, 34), size: 2, mtime: 1_234_567, ..Head::new(b'0', "bin/su") };
    let archive = Tar::default()
        .head(&Head { mode: 0o750, owner: (5, 6), mtime: 99, ..Head::new(b'5', "./") }, b"")
        .head(&Head { mtime: 77, ..Head::new(b'5', "bin/") }, b"")
        .head(&owned, b"hi")
        .link("bin/sudo", "bin/su")
        .link("bin/abs", "/bin/su")
        .head(
            &Head { link: b"/etc/passwd".to_vec(), owner: (7, 8), mtime: 55, ..Head::new(b'2', "link") },
            b"",
        )
        .head(&Head { device: (1, 3), mode: 0o666, ..Head::new(b'3', "null") }, b"")
        .node(b'4', "disk", (7, 1))
        .node(b'6', "fifo", (0, 0))
        .file("empty", "")
        .end();
    let unpacked = scratch.unpack(&archive).expect("a good layer");
    assert_eq!(unpacked, Unpacked { size: 2, entries: 10 });
    let su = scratch.path("bin/su").metadata().expect("su");
    assert_eq!(
        (su.mode() & 0o7777, su.uid(), su.gid(), su.mtime(), su.nlink()),
        (0o4755, 12, 34, 1_234_567, 3)
    );
    assert_eq!(scratch.read("bin/sudo"), "hi");
    let link = scratch.path("link").symlink_metadata().expect("link");
    assert_eq!((link.uid(), link.gid(), link.mtime()), (7, 8, 55));
    assert_eq!(std::fs::read_link(scratch.path("link")).expect("link"), Path::new("/etc/passwd"));
    let null = scratch.path("null").symlink_metadata().expect("null");
    assert_eq!((null.rdev(), null.mode() & 0o7777), (rustix::fs::makedev(1, 3), 0o666));
    assert!(scratch.path("disk").symlink_metadata().expect("disk").file_type().is_block_device());
    assert!(scratch.path("fifo").symlink_metadata().expect("fifo").file_type().is_fifo());
    assert_eq!(scratch.path("bin").metadata().expect("bin").mtime(), 77, "files made later must not move it");
    let root = scratch.layer.metadata().expect("root");
    assert_eq!((root.mode() & 0o7777, root.uid(), root.gid(), root.mtime()), (0o750, 5, 6, 99));
}

#[test]
fn directory_times_survive_entries_that_come_out_of_order() {
    let scratch = Scratch::new();
    let dir = |path: &str, mtime| Head { mtime, ..Head::new(b'5', path) };
    let archive = Tar::default()
        .head(&dir("a", 10), b"")
        .head(&dir("a/b", 20), b"")
        .head(&dir("c", 30), b"")
        .file("a/b/late", "")
        .file("c/late", "")
        .file("a/late", "")
        .end();
    scratch.unpack(&archive).expect("a good layer");
    for (path, mtime) in [("a", 10), ("a/b", 20), ("c", 30)] {
        assert_eq!(scratch.path(path).metadata().expect(path).mtime(), mtime, "{path}");
    }
}

#[test]
fn whiteouts_become_what_overlayfs_understands() {
    let scratch = Scratch::new();
    let archive = Tar::default()
        .dir("etc/")
        .file("etc/.wh.gone", "")
        .file("dir/.wh..wh..opq", "")
        .file("dir/new", "x")
        .file(".wh..wh.plnk/1.2", "aufs")
        .file(".wh..wh.aufs", "aufs")
        .end();
    scratch.unpack(&archive).expect("a good layer");
    assert!(scratch.whiteout("etc/gone"));
    assert_eq!(scratch.xattr("dir", opaque_xattr()).as_deref(), Some(b"y".as_slice()));
    assert_eq!(scratch.xattr("etc", opaque_xattr()), None);
    assert_eq!(scratch.read("dir/new"), "x");
    assert!(!scratch.path(".wh..wh.plnk").exists() && !scratch.path(".wh..wh.aufs").exists());
}

#[test]
fn a_whiteout_hides_lower_layers_and_not_its_own() {
    let scratch = Scratch::new();
    let archive = Tar::default()
        .file("f", "mine")
        .file(".wh.f", "")
        .dir("d")
        .file("d/x", "mine")
        .file(".wh.d", "")
        .file(".wh.later", "")
        .file("later", "mine")
        .file(".wh.dir", "")
        .dir("dir")
        .file("dir/x", "mine")
        .end();
    scratch.unpack(&archive).expect("a good layer");
    for file in ["f", "d/x", "later", "dir/x"] {
        assert_eq!(scratch.read(file), "mine", "{file}");
    }
    for dir in ["d", "dir"] {
        assert_eq!(scratch.xattr(dir, opaque_xattr()).as_deref(), Some(b"y".as_slice()), "{dir}");
    }
}

#[test]
fn later_entries_replace_earlier_ones_of_any_kind() {
    let scratch = Scratch::new();
    let archive = Tar::default()
        .file("a", "1")
        .dir("a")
        .file("a/x", "2")
        .symlink("a", "b")
        .file("a", "3")
        .dir("d")
        .file("d/keep", "4")
        .dir("d")
        .symlink("s", "d")
        .dir("s")
        .file("s/in", "5")
        .end();
    scratch.unpack(&archive).expect("a good layer");
    assert_eq!(
        (scratch.read("a"), scratch.read("d/keep"), scratch.read("s/in")),
        ("3".into(), "4".into(), "5".into())
    );
    assert!(!scratch.path("d/in").exists(), "written through a symlink");
}

#[test]
fn missing_parents_are_made_as_docker_makes_them() {
    let scratch = Scratch::new();
    scratch.unpack(&Tar::default().file("a/b/c", "x").end()).expect("a good layer");
    let dir = scratch.path("a/b").metadata().expect("directory");
    assert_eq!((dir.mode() & 0o777, dir.uid()), (0o755, 0));
}

#[test]
fn capabilities_and_user_attributes_are_kept_and_overlayfs_notes_are_not() {
    let scratch = Scratch::new();
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 10];
    let archive = Tar::default()
        .pax(&[
            ("SCHILY.xattr.security.capability", &capability),
            ("SCHILY.xattr.user.note", b"line\nfeed"),
            ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
            ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
            ("SCHILY.xattr.user.overlay.whiteout", b"y"),
        ])
        .head(&Head { mode: 0o4755, owner: (1, 1), ..Head::new(b'0', "ping") }, b"")
        .pax(&[("SCHILY.xattr.trusted.overlay.opaque", b"y")])
        .dir("dir")
        .end();
    scratch.unpack(&archive).expect("a good layer");
    assert_eq!(scratch.xattr("ping", "security.capability").as_deref(), Some(capability.as_slice()));
    assert_eq!(scratch.xattr("ping", "user.note").as_deref(), Some(b"line\nfeed".as_slice()));
    for (path, forged) in
        [("ping", "trusted.overlay.redirect"), ("ping", "user.overlay.whiteout"), ("dir", opaque_xattr())]
    {
        assert_eq!(scratch.xattr(path, forged), None, "{path} {forged}");
    }
    assert_eq!(scratch.path("ping").metadata().expect("ping").mode() & 0o7777, 0o4755, "owner before mode");
}

/// Every shape of escape from the security file; each is refused, or contained with the canary untouched (checked by
/// `unpack` itself).
#[test]
fn hostile_archives_write_nothing_outside() {
    let scratch = Scratch::new();
    let outside = scratch.canary().to_owned();
    let refused = |what: &str, tar: Tar| {
        let scratch_one = Scratch::new();
        let e = scratch_one.unpack(&tar.end()).expect_err(what);
        assert_eq!(e.kind(), tare_model::ErrorKind::Corrupt, "{what}: {e}");
    };
    let tar = Tar::default;
    refused("dot-dot", tar().file("../x", "x"));
    refused("dot-dot inside", tar().dir("a").file("a/../../x", "x"));
    refused("absolute", tar().file(&format!("{outside}/new"), "x"));
    refused("absolute directory", tar().dir("/etc"));
    refused("absolute whiteout", tar().file("/.wh.etc", ""));
    refused("below a symlink", tar().symlink("l", &outside).file("l/x", "x"));
    refused("below a relative symlink", tar().symlink("l", "../canary").file("l/x", "x"));
    refused("directories below a symlink", tar().symlink("l", "..").dir("l/exploit/foo/bar"));
    refused("two hops", tar().symlink("a", ".").symlink("a/b", &outside).file("a/b/x", "x"));
    refused("root is a symlink", tar().symlink(".", &outside).file("x", "x"));
    refused("root is a symlink by slash", tar().symlink("/", &outside).file("x", "x"));
    refused("root is a file", tar().file("./", ""));
    refused("root is a hard link", tar().link(".", "x"));
    refused("hard link out", tar().link("h", "../canary/file").file("h", "x"));
    refused("absolute hard link out", tar().link("h", &format!("{outside}/file")));
    refused("hard link through a symlink", tar().symlink("l", &outside).link("h", "l/file"));
    refused("hard link to a missing file", tar().link("h", "missing"));
    refused("hard link to a later file", tar().link("h", "later").file("later", ""));
    refused("hard link to a directory", tar().dir("d").link("h", "d"));
    refused("hard link to the root", tar().link("h", "/"));
    refused("hard link to a whiteout", tar().file(".wh.w", "").link("h", "w"));
    refused("whiteout of the parent", tar().file("a/.wh...", ""));
    refused("whiteout of itself", tar().file(".wh..", ""));
    refused("whiteout below a symlink", tar().symlink("l", &outside).file("l/.wh.file", ""));
    refused("opaque below a symlink", tar().symlink("l", &outside).file("l/.wh..wh..opq", ""));
    refused("forged whiteout", tar().node(b'3', "w", (0, 0)));
    refused("impossible device", tar().node(b'3', "w", (0o7777777, 0)));
    refused("below a file", tar().file("f", "").file("f/x", ""));
    refused("below a device", tar().node(b'3', "n", (1, 3)).file("n/x", ""));
    refused("empty symlink", tar().symlink("l", ""));
    refused("empty name", tar().file("", "x"));
}

#[test]
fn a_directory_over_a_symlink_replaces_the_symlink() {
    let scratch = Scratch::new();
    let outside = scratch.canary().to_owned();
    let dir = Head { mode: 0o700, owner: (9, 9), ..Head::new(b'5', "l") };
    scratch.unpack(&Tar::default().symlink("l", &outside).head(&dir, b"").end()).expect("contained");
    assert!(scratch.path("l").symlink_metadata().expect("l").is_dir());
}

#[test]
fn modes_and_owners_of_links_change_nothing_they_lead_to() {
    let scratch = Scratch::new();
    let outside = format!("{}/file", scratch.canary());
    let mode = |flag, path: &str, link: &str| Head {
        mode: 0o4777,
        owner: (9, 9),
        link: link.into(),
        ..Head::new(flag, path)
    };
    let archive = Tar::default()
        .symlink("s", &outside)
        .head(&mode(b'1', "h", "s"), b"")
        .head(&mode(b'2', "t", &outside), b"");
    scratch.unpack(&archive.end()).expect("contained");
    let canary = std::fs::metadata(outside).expect("canary");
    assert_eq!((canary.mode() & 0o7777, canary.uid()), (0o644, 0));
    assert!(
        scratch.path("h").symlink_metadata().expect("h").is_symlink(),
        "a hard link to a symlink is one more symlink"
    );
}

#[test]
fn a_hard_link_to_itself_keeps_the_file() {
    let scratch = Scratch::new();
    scratch.unpack(&Tar::default().file("f", "x").link("f", "f").end()).expect("contained");
    assert_eq!(scratch.read("f"), "x");
}

#[test]
fn a_symlink_that_appears_on_the_way_is_noticed_even_if_the_directory_was_open() {
    let scratch = Scratch::new();
    let outside = scratch.canary().to_owned();
    let archive =
        Tar::default().dir("a").dir("a/b").file("a/b/1", "").symlink("a/b", &outside).file("a/b/2", "").end();
    assert!(scratch.unpack(&archive).is_err());
}

#[test]
fn many_levels_do_not_exhaust_descriptors() {
    let scratch = Scratch::new();
    let deep = "d/".repeat(500) + "f";
    let archive = Tar::default().pax(&[("path", deep.as_bytes())]).file("x", "").end();
    scratch.unpack(&archive).expect("500 levels");
    let archive = Tar::default().pax(&[("path", ("d/".repeat(513) + "f").as_bytes())]).file("x", "").end();
    assert!(scratch.unpack(&archive).is_err());
}

#[test]
fn setgid_directories_do_not_lend_their_group() {
    let scratch = Scratch::new();
    let dir = Head { mode: 0o2775, owner: (0, 50), ..Head::new(b'5', "d") };
    scratch.unpack(&Tar::default().head(&dir, b"").file("d/f", "").end()).expect("a good layer");
    assert_eq!(scratch.path("d/f").metadata().expect("f").gid(), 0);
}

/// What GNU tar packs from a tree and we unpack is the same tree.
#[test]
fn a_tree_comes_back_as_gnu_tar_packed_it() {
    let scratch = Scratch::new();
    let tree = tempfile::tempdir().expect("tree");
    let at = |name: &str| tree.path().join(name);
    std::fs::create_dir_all(at("usr/lib")).expect("directory");
    std::fs::write(at("usr/lib/a"), vec![b'a'; 700_000]).expect("file");
    std::fs::set_permissions(at("usr/lib/a"), PermissionsExt::from_mode(0o6711)).expect("mode");
    symlink("../lib/a", at("usr/lib/l")).expect("symlink");
    std::fs::hard_link(at("usr/lib/a"), at("usr/b")).expect("link");
    let packed = std::process::Command::new("tar")
        .args(["-C", tree.path().to_str().expect("text"), "-cf", "-", "."])
        .output();
    scratch.unpack(&packed.expect("tar runs").stdout).expect("a good layer");
    let compare = std::process::Command::new("diff").arg("-r").arg(tree.path()).arg(&scratch.layer).status();
    assert!(compare.expect("diff runs").success());
    let file = scratch.path("usr/b").metadata().expect("b");
    assert_eq!((file.mode() & 0o7777, file.nlink()), (0o6711, 2));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    /// Random archives over few names, so that kinds collide and links hit: whatever happens, the canary stays.
    #[test]
    fn random_archives_stay_inside(entries in proptest::collection::vec((0usize..7, 0usize..6, 0usize..6), 1..12)) {
        let scratch = Scratch::new();
        let outside = scratch.canary().to_owned();
        let names = ["a", "a/b", "a/b/c", "../canary/x", ".", "b/.wh.a"];
        let targets = [outside.as_str(), "../canary", "a", "a/b", "/", ".."];
        let mut tar = Tar::default();
        for (kind, name, target) in entries {
            let (name, target) = (names[name], targets[target]);
            tar = match kind {
                0 => tar.file(name, "x"),
                1 => tar.dir(name),
                2 => tar.symlink(name, target),
                3 => tar.link(name, target),
                4 => tar.node(b'6', name, (0, 0)),
                5 => tar.file(&format!("{name}/f"), "y"),
                _ => tar.head(&Head { mode: 0o7777, owner: (9, 9), ..Head::new(b'5', name) }, b""),
            };
        }
        let _ = scratch.unpack(&tar.end());
    }
}
