//! Containers begin as their image and see nothing of the engine.

use std::os::unix::fs::{FileTypeExt, MetadataExt};

use tare_model::VolumeId;
use tare_model::container::ImageSource;

use super::*;
use crate::stream::digest_of;
use crate::tape::tests::{Head, Tar};
use crate::testing::{TestImage, TestStore, container, layer};
use crate::{ContainerRecord, Durability, NewVolume};

fn image(store: &TestStore, layers: &[Vec<u8>]) -> RootSource {
    let image = TestImage::new("test:1", layers);
    store.load(&image.legacy()).expect("loads");
    store.root_source(&ImageSource::Image { name: "test:1".into() }).expect("found")
}

fn overlay(rootfs: Rootfs) -> (Vec<PathBuf>, PathBuf, PathBuf) {
    match rootfs {
        Rootfs::Overlay { lowers, upper, work, .. } => (lowers, upper, work),
        other => panic!("{other:?}"),
    }
}

fn keep(store: &TestStore, n: u8) {
    let id = container(n);
    let record = ContainerRecord {
        id,
        name: "web".parse().expect("name"),
        body: vec![],
        durability: Durability::Disk,
        ids: None,
    };
    store.containers().put(&record).expect("kept");
}

#[test]
fn a_container_has_its_images_layers_topmost_first() {
    let mut store = TestStore::new();
    let root = Head { mode: 0o1770, owner: (3, 4), ..Head::new(b'5', "./") };
    let top = Tar::default().head(&root, b"").file("f", "top").end();
    let source = image(&store, &[layer("f", "low"), top.clone(), layer("g", "mid"), top.clone()]);
    let (lowers, upper, work) =
        overlay(store.prepare(&container(1), &source, Durability::Disk).expect("prepares"));
    let (places, layers) = lowers.split_last().expect("layers");
    assert!(places.ends_with("places"), "{places:?}");
    let keys: Vec<_> =
        layers.iter().map(|p| p.parent().expect("layer").file_name().expect("key").to_owned()).collect();
    let expected =
        [&top, &layer("g", "mid"), &layer("f", "low")].map(|l| std::ffi::OsString::from(digest_of(l).hex()));
    assert_eq!(keys, expected, "the topmost of equal layers counts");
    let stat = upper.metadata().expect("upper");
    assert_eq!(
        (stat.mode() & 0o7777, stat.uid(), stat.gid()),
        (0o1770, 3, 4),
        "the root looks like the image's"
    );
    assert!(work.is_dir());
    std::fs::write(upper.join("data"), "kept").expect("a container writes");
    keep(&store, 1);
    store.reopen();
    store.prepare(&container(1), &source, Durability::Disk).expect("again");
    assert!(upper.join("data").exists(), "preparing again changes nothing");
    store.discard_container(&container(1)).expect("discards");
    store.discard_container(&container(1)).expect("again is fine");
    assert!(!upper.exists());
}

#[test]
fn a_container_that_need_not_survive_the_machine_is_mounted_volatile() {
    let store = TestStore::new();
    let source = image(&store, &[]);
    for (n, durability, expected) in [(1, Durability::Process, true), (2, Durability::Disk, false)] {
        match store.prepare(&container(n), &source, durability).expect("prepares") {
            Rootfs::Overlay { volatile, .. } => assert_eq!(volatile, expected, "{durability:?}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn an_image_without_layers_is_an_empty_directory() {
    let store = TestStore::new();
    let source = image(&store, &[]);
    let (lowers, ..) = overlay(store.prepare(&container(1), &source, Durability::Disk).expect("prepares"));
    assert_eq!((lowers.len(), lowers[0].read_dir().expect("directory").count()), (2, 0));
}

#[test]
fn what_every_container_has_mounted_has_its_place_below_the_layers_of_an_image() {
    let mut store = TestStore::new();
    let source = image(&store, &[layer("f", "text")]);
    let places = |store: &TestStore| {
        let (lowers, ..) =
            overlay(store.prepare(&container(1), &source, Durability::Disk).expect("prepares"));
        lowers.last().expect("a layer").clone()
    };
    let found = places(&store);
    for (name, mode) in [
        ("dev", 0o40755),
        ("proc", 0o40755),
        ("sys", 0o40755),
        ("etc", 0o40755),
        ("etc/hosts", 0o100_644),
        ("etc/hostname", 0o100_644),
        ("etc/resolv.conf", 0o100_644),
    ] {
        assert_eq!(found.join(name).symlink_metadata().expect(name).mode(), mode, "{name}");
    }
    store.reopen();
    assert_eq!(places(&store), found);
}

/// Mounted for real, in a mount namespace that goes with the child.
#[test]
fn the_hosts_secrets_and_the_engine_are_hidden_from_the_built_in_image() {
    let store = TestStore::new();
    let find = |name: &str| store.root_source(&ImageSource::Image { name: name.into() }).expect("built in");
    assert_eq!(
        (find("host"), find("host:full")),
        (RootSource::Host { full: false }, RootSource::Host { full: true })
    );
    let show = |n: u8, source: &RootSource, command: &str| {
        let (lowers, upper, work) =
            overlay(store.prepare(&container(n), source, Durability::Disk).expect("prepares"));
        assert_eq!(lowers, [PathBuf::from("/")]);
        let target = store.dir.path().join("mnt");
        std::fs::create_dir_all(&target).expect("mount point");
        let script = format!(
            "mount --bind / /mnt && mount -t overlay o -o lowerdir=/mnt,upperdir={},workdir={} {m} && cd {m} && {command}",
            upper.display(),
            work.display(),
            m = target.display()
        );
        let run = std::process::Command::new("unshare")
            .args(["-m", "sh", "-c", &script])
            .output()
            .expect("unshare runs");
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
        String::from_utf8(run.stdout).expect("text")
    };
    let root = store.root();
    let look = format!(
        "ls -A root home .{} | grep -v : | grep . ; cat etc/shadow; stat -c %a.%g etc/shadow; test -s etc/passwd && echo passwd",
        root.display()
    );
    let gid = std::fs::metadata("/etc/shadow").expect("shadow");
    let expected = format!("{:o}.{}\npasswd\n", gid.mode() & 0o7777, gid.gid());
    assert_eq!(show(1, &find("host"), &look), expected, "empty homes, empty engine, empty shadow");
    let look = format!("ls -A .{} ; cat etc/shadow", root.display());
    assert_eq!(show(2, &find("host:full"), &look), std::fs::read_to_string("/etc/shadow").expect("shadow"));
}

#[test]
fn an_upper_layer_that_was_half_made_is_made_anew() {
    let store = TestStore::new();
    let half = store.container_dir(&container(1)).join("upper.unfinished/etc");
    std::fs::create_dir_all(&half).expect("left by a crash");
    std::fs::write(half.join("left"), "x").expect("left by a crash");
    let (_, upper, _) = overlay(
        store.prepare(&container(1), &RootSource::Host { full: false }, Durability::Disk).expect("prepares"),
    );
    assert!(upper.join("etc/shadow").exists() && !upper.join("etc/left").exists());
    assert!(!store.container_dir(&container(1)).join("upper.unfinished").exists());
}

#[test]
fn masked_directories_look_like_the_hosts() {
    let store = TestStore::new();
    let (_, upper, _) = overlay(
        store.prepare(&container(1), &RootSource::Host { full: false }, Durability::Disk).expect("prepares"),
    );
    for path in ["etc", "root", "var"] {
        let (here, there) =
            (upper.join(path).metadata(), Path::new("/").join(path).metadata().expect("host"));
        if let Ok(here) = here {
            assert_eq!(
                (here.mode(), here.uid(), here.gid()),
                (there.mode(), there.uid(), there.gid()),
                "{path}"
            );
        }
    }
    if Path::new("/etc/shadow-").exists() {
        let mark = upper.join("etc/shadow-").symlink_metadata().expect("marked");
        assert!(mark.file_type().is_char_device() && mark.rdev() == 0);
    }
}

#[test]
fn a_directory_of_the_host_may_be_a_root_and_the_engines_may_not() {
    let store = TestStore::new();
    let tree = tempfile::tempdir().expect("tree");
    let source = |path: &Path, writable| {
        store.root_source(&ImageSource::Directory { path: path.to_str().expect("text").into(), writable })
    };
    let (lowers, ..) = overlay(
        store
            .prepare(&container(1), &source(tree.path(), false).expect("fine"), Durability::Disk)
            .expect("prepares"),
    );
    assert_eq!(lowers, [tree.path().canonicalize().expect("real")]);
    let direct = store
        .prepare(&container(2), &source(tree.path(), true).expect("fine"), Durability::Disk)
        .expect("prepares");
    assert_eq!(direct, Rootfs::Directory { path: tree.path().canonicalize().expect("real") });
    assert_eq!(source(&tree.path().join("missing"), false).expect_err("missing").kind(), ErrorKind::NotFound);
    assert_eq!(source(&store.root().join("layers"), false).expect_err("ours").kind(), ErrorKind::Forbidden);
    assert_eq!(source(store.dir.path(), true).expect_err("writable above ours").kind(), ErrorKind::Forbidden);
    let above = source(store.dir.path(), false).expect("read-only above ours");
    let (_, upper, _) = overlay(store.prepare(&container(3), &above, Durability::Disk).expect("prepares"));
    assert!(upper.join("root").is_dir(), "the engine's root is hidden");
}

fn volume<'a>(id: u8, container: &'a ContainerId, path: &'a str, source: &'a RootSource) -> NewVolume<'a> {
    let id = VolumeId::from_bytes([id; 32]);
    NewVolume { id, container, path, copy_from: Some(source), durability: Durability::Disk }
}

#[test]
fn a_volume_begins_as_what_the_image_has_there() {
    let mut store = TestStore::new();
    let low = Tar::default()
        .head(&Head { mode: 0o2750, owner: (33, 34), mtime: 99, ..Head::new(b'5', "data") }, b"")
        .head(&Head { owner: (5, 6), size: 2, mtime: 77, mode: 0o4711, ..Head::new(b'0', "data/f") }, b"hi")
        .symlink("data/l", "/etc/passwd")
        .file("data/gone", "x")
        .file("data/sub/deep", "y")
        .node(b'6', "data/fifo", (0, 0))
        .end();
    let source = image(&store, &[low, Tar::default().file("data/.wh.gone", "").file("data/new", "z").end()]);
    let id = container(1);
    let data = store.create_volume(&volume(7, &id, "/data", &source)).expect("made");
    assert_eq!(crate::testing::list(&data), ["f", "fifo", "l", "new", "sub"]);
    let dir = data.metadata().expect("data");
    assert_eq!(
        (dir.mode() & 0o7777, dir.uid(), dir.gid()),
        (0o755, 0, 0),
        "the topmost layer's directory counts"
    );
    let file = data.join("f").metadata().expect("f");
    assert_eq!((file.mode() & 0o7777, file.uid(), file.gid(), file.mtime()), (0o4711, 5, 6, 77));
    assert_eq!(std::fs::read_link(data.join("l")).expect("l"), Path::new("/etc/passwd"));
    store.reopen();
    let volumes = store.volumes().expect("listed");
    assert_eq!((volumes.len(), volumes[0].path.as_str(), &volumes[0].container), (1, "/data", &id));
    store.remove_volume(&volumes[0].id).expect("removed");
    assert!(store.volumes().expect("listed").is_empty() && !data.exists());
}

#[test]
fn a_volume_path_never_leads_out_of_the_image() {
    let store = TestStore::new();
    let host = store.dir.path().join("canary");
    std::fs::create_dir(&host).expect("canary");
    std::fs::write(host.join("secret"), "host").expect("secret");
    let layer = Tar::default()
        .file("etc/mine", "image")
        .symlink("l", host.to_str().expect("text"))
        .symlink("up", "../../../../etc")
        .end();
    let source = image(&store, &[layer]);
    let id = container(1);
    for (n, path) in ["/../../../etc", "up", "/up/../up", "etc/../../etc"].into_iter().enumerate() {
        let data = store.create_volume(&volume(n as u8, &id, path, &source)).expect(path);
        assert_eq!(crate::testing::list(&data), ["mine"], "{path}");
    }
    for (n, path) in
        ["/l", host.to_str().expect("text"), "l/../l", "/missing", "/etc/mine", "/proc/self/root/etc"]
            .into_iter()
            .enumerate()
    {
        let data = store.create_volume(&volume(100 + n as u8, &id, path, &source)).expect(path);
        assert_eq!(crate::testing::list(&data), Vec::<String>::new(), "{path}");
    }
}

#[test]
fn a_volume_begins_as_what_the_container_would_see_of_the_host() {
    let store = TestStore::new();
    let (id, host) = (container(1), RootSource::Host { full: false });
    for (n, path) in ["/root", "/home", "/proc", "/proc/self", "/dev"].into_iter().enumerate() {
        let data = store.create_volume(&volume(n as u8, &id, path, &host)).expect(path);
        assert_eq!(crate::testing::list(&data), Vec::<String>::new(), "{path}");
    }
    let data = store.create_volume(&volume(100, &id, "/etc", &host)).expect("made");
    assert_eq!(std::fs::read_to_string(data.join("shadow")).expect("there"), "", "no password hashes");
    assert!(!data.join("shadow-").exists());
    assert!(data.join("passwd").metadata().expect("there").len() > 0);
}

#[test]
fn a_volume_of_a_container_that_removes_itself_needs_no_database() {
    let mut store = TestStore::new();
    let id = container(1);
    let new = NewVolume {
        copy_from: None,
        durability: Durability::Process,
        ..volume(1, &id, "/d", &RootSource::Host { full: true })
    };
    let data = store.create_volume(&new).expect("made");
    store.reopen();
    assert!(data.exists());
    store.remove_volume(&new.id).expect("removed");
    assert!(!data.exists() && store.volumes().expect("listed").is_empty());
}

#[test]
fn nobody_but_the_engine_enters_its_directories() {
    let store = TestStore::new();
    image(&store, &[layer("f", "x")]);
    for dir in ["", "layers", "containers", "volumes", "tmp", "trash"] {
        assert_eq!(store.root().join(dir).metadata().expect(dir).mode() & 0o077, 0, "{dir}");
    }
}
