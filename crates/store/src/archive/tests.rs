//! Archives of every layout load whole or not at all.

use serde_json::{Value, json};
use tare_model::{ErrorKind, ImageConfig};

use super::*;
use crate::tape::tests::{Head, Tar};
use crate::testing::{TestImage, TestStore, blob_name, descriptor, gzip, layer, list, zstd};

fn two_layers() -> TestImage {
    TestImage::new("web:1", &[layer("etc/a", "one"), layer("etc/b", "two")])
}

/// Nothing of a failed load is left: no image, no layer, no scratch.
fn assert_nothing_left(store: &TestStore, what: &str) {
    assert_eq!(store.images(), [], "{what}");
    assert_eq!((store.names("layers"), store.names("tmp")), (vec![], vec![]), "{what}");
}

fn refused(what: &str, archive: &[u8]) -> tare_model::Error {
    let store = TestStore::new();
    let e = store.load(archive).expect_err(what);
    assert_nothing_left(&store, what);
    e
}

#[test]
fn every_layout_and_compression_gives_the_same_image() {
    let image = two_layers();
    let archives = [
        image.legacy(),
        gzip(&image.legacy()),
        zstd(&image.legacy()),
        image.oci("", <[u8]>::to_vec, true),
        image.oci("+gzip", gzip, true),
        image.oci("+zstd", zstd, false),
        gzip(&image.oci("+gzip", gzip, false)),
    ];
    for (n, archive) in archives.iter().enumerate() {
        let store = TestStore::new();
        let report = store.load(archive).unwrap_or_else(|e| panic!("archive {n}: {e}"));
        let loaded = &report.images[0];
        assert_eq!((report.images.len(), loaded.image.id()), (1, &image.id()), "archive {n}");
        assert_eq!(loaded.tags[0].familiar(), "web:1", "archive {n}");
        assert_eq!(store.names("layers").len(), 2, "archive {n}");
        assert_eq!(store.names("tmp"), Vec::<String>::new(), "archive {n}");
        assert_eq!(loaded.image.record.size, 6);
        assert_eq!(loaded.image.record.created, 1_704_164_645);
        let content =
            store.root().join("layers").join(loaded.image.record.layers[1].hex()).join("diff/etc/b");
        assert_eq!(std::fs::read_to_string(content).expect("unpacked"), "two");
    }
}

#[test]
fn images_survive_a_restart_and_loading_again_changes_nothing() {
    let mut store = TestStore::new();
    let image = two_layers();
    store.load(&image.oci("", <[u8]>::to_vec, true)).expect("loads");
    let before = store.images();
    store.reopen();
    assert_eq!(store.damage(), Vec::<String>::new());
    assert_eq!(store.images(), before);
    for archive in [image.oci("", <[u8]>::to_vec, true), image.oci("+gzip", gzip, false), image.legacy()] {
        store.load(&archive).expect("loads again");
    }
    assert_eq!((store.images().len(), store.names("layers").len()), (1, 2));
    assert_eq!(store.image_document(&image.id()).expect("document"), image.document());
}

#[test]
fn images_share_layers_and_empty_layers_may_repeat() {
    let empty = Tar::default().end();
    let base = layer("base", "x");
    let store = TestStore::new();
    store.load(&TestImage::new("a", &[base.clone(), empty.clone(), empty.clone()]).legacy()).expect("loads");
    store.load(&TestImage::new("b", &[base, empty]).oci("", <[u8]>::to_vec, true)).expect("loads");
    assert_eq!((store.images().len(), store.names("layers").len()), (2, 2));
}

#[test]
fn linked_layers_of_old_archives_are_followed() {
    let image = TestImage::new("a", &[layer("f", "x"), layer("f", "x")]);
    let manifest = json!([{"Config": "c.json", "RepoTags": null, "Layers": ["a/layer.tar", "b/layer.tar"]}]);
    let archive = Tar::default()
        .file("a/layer.tar", &image.layers[0])
        .symlink("b/layer.tar", "../a/layer.tar")
        .file("c.json", image.document())
        .file("manifest.json", manifest.to_string())
        .end();
    let report = TestStore::new().load(&archive).expect("loads");
    assert_eq!(report.images[0].tags, []);
}

#[test]
fn what_digests_promise_is_checked() {
    let image = two_layers();
    for (what, layout) in
        [("plain", image.oci("", <[u8]>::to_vec, true)), ("gzip", image.oci("+gzip", gzip, false))]
    {
        // Flip one byte in every block that is not a header and see that it is noticed.
        let mut damaged = 0;
        for at in (0..layout.len()).step_by(512).filter(|at| layout[*at..].starts_with(b"blobs/sha256/")) {
            let mut archive = layout.clone();
            let Some(byte) = archive.get_mut(at + 512 + 3).filter(|b| **b != 0) else { continue };
            *byte ^= 1;
            damaged += 1;
            refused(what, &archive);
        }
        assert!(damaged >= 3, "{what}: {damaged}");
    }
}

#[test]
fn a_layer_that_is_not_the_one_the_configuration_names_is_refused() {
    let image = two_layers();
    let other = TestImage { layers: vec![image.layers[0].clone(), layer("etc/b", "evil")], ..two_layers() };
    let manifest = json!([{"Config": "c.json", "RepoTags": [], "Layers": ["0.tar", "1.tar"]}]);
    let archive = |document: Vec<u8>| {
        let tar = Tar::default().file("0.tar", &image.layers[0]).file("1.tar", &image.layers[1]);
        tar.file("c.json", document).file("manifest.json", manifest.to_string()).end()
    };
    let e = refused("DiffID", &archive(other.document()));
    assert!(e.message().contains("but the image's configuration says"), "{e}");
    let swapped = TestImage { layers: image.layers.iter().rev().cloned().collect(), ..two_layers() };
    refused("order", &archive(swapped.document()));
    let fewer = TestImage { layers: image.layers[..1].to_vec(), ..two_layers() };
    refused("count", &archive(fewer.document()));
}

/// Every kind of wrong description; each is refused with nothing left behind.
#[test]
fn malformed_descriptions_are_refused() {
    let image = two_layers();
    let document = image.document();
    let with = |name: &str, value: Value| {
        let tar = Tar::default().file("c.json", &document).file("l.tar", &image.layers[0]);
        tar.file(name, value.to_string()).end()
    };
    let digest = |text: &str| json!({"schemaVersion": 2, "manifests": [{"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": text, "size": 1}]});
    let cases = [
        ("nothing", Tar::default().file("x", "y").end()),
        ("empty archive", Tar::default().end()),
        ("no archive", b"hello, world".repeat(100)),
        ("no images", with("manifest.json", json!([]))),
        ("null", with("manifest.json", Value::Null)),
        ("wrong type", with("manifest.json", json!({"Config": "c.json"}))),
        ("no Config", with("manifest.json", json!([{"Layers": ["l.tar"]}]))),
        ("null Config", with("manifest.json", json!([{"Config": null}]))),
        ("missing config", with("manifest.json", json!([{"Config": "d.json", "Layers": []}]))),
        ("config is a layer", with("manifest.json", json!([{"Config": "l.tar", "Layers": []}]))),
        (
            "layer is a document",
            with("manifest.json", json!([{"Config": "c.json", "Layers": ["c.json", "c.json"]}])),
        ),
        (
            "layer outside",
            with(
                "manifest.json",
                json!([{"Config": "c.json", "Layers": ["../../etc/passwd", "/etc/passwd"]}]),
            ),
        ),
        (
            "bad tag",
            with(
                "manifest.json",
                json!([{"Config": "c.json", "RepoTags": ["../x"], "Layers": ["l.tar", "l.tar"]}]),
            ),
        ),
        ("index: traversal digest", with("index.json", digest("sha256:../../x"))),
        ("index: no colon", with("index.json", digest("abc"))),
        ("index: upper case", with("index.json", digest(&format!("sha256:{}", "A".repeat(64))))),
        ("index: sha512", with("index.json", digest(&format!("sha512:{}", "a".repeat(128))))),
        ("index: long digest", with("index.json", digest(&"a".repeat(1 << 20)))),
        ("index: missing blob", with("index.json", digest(&format!("sha256:{}", "a".repeat(64))))),
        ("index: no manifests", with("index.json", json!({"schemaVersion": 2, "manifests": []}))),
        ("index: null", with("index.json", json!({"schemaVersion": 2, "manifests": null}))),
        (
            "both kinds",
            with("index.json", json!({"schemaVersion": 2, "manifests": [], "layers": [], "config": {}})),
        ),
        ("before 1.10", with("repositories", json!({}))),
        ("blob named badly", Tar::default().file("blobs/sha256/../../x", "{}").end()),
        ("blob named short", Tar::default().file("blobs/sha256/abc", "{}").end()),
        ("absolute member", Tar::default().file("/etc/x", "{}").end()),
        ("member twice", Tar::default().file("a.json", "{}").file("a.json", "{}").end()),
        ("device member", Tar::default().node(b'3', "manifest.json", (1, 3)).end()),
        ("link outside", Tar::default().symlink("manifest.json", "../../../etc/passwd").end()),
        ("absolute link", Tar::default().symlink("manifest.json", "/etc/passwd").end()),
        ("link to itself", Tar::default().symlink("manifest.json", "manifest.json").end()),
    ];
    for (what, archive) in cases {
        let e = refused(what, &archive);
        assert!(
            matches!(e.kind(), ErrorKind::Corrupt | ErrorKind::Unsupported | ErrorKind::InvalidInput),
            "{what}: {e:?}"
        );
        assert!(e.message().len() < 1000, "{what}: {} bytes of message", e.message().len());
    }
}

#[test]
fn archives_cut_anywhere_are_refused() {
    let archive = two_layers().oci("+gzip", gzip, true);
    for cut in (1..archive.len() - 1200).step_by(311) {
        refused(&format!("cut at {cut}"), &archive[..cut]);
    }
}

#[test]
fn two_descriptions_that_disagree_are_refused() {
    let (good, evil) = (two_layers(), TestImage::new("web:1", &[layer("etc/a", "evil")]));
    let honest = good.oci("", <[u8]>::to_vec, false);
    // The evil image's description in front of the good layout.
    let manifest = json!([{"Config": "c.json", "RepoTags": ["web:1"], "Layers": ["l.tar"]}]);
    let mut archive = Tar::default().file("c.json", evil.document()).file("l.tar", &evil.layers[0]);
    archive = archive.file("manifest.json", manifest.to_string());
    archive.0.extend(&honest);
    let e = refused("two descriptions", &archive.0);
    assert!(e.message().contains("readers disagree"), "{e}");
}

#[test]
fn a_document_without_end_is_refused_unread() {
    for name in ["index.json", "manifest.json", "x/json", &format!("blobs/sha256/{}", "0".repeat(64))] {
        let head = Head { size: 1 << 32, ..Head::new(b'0', name) };
        let archive = Tar::default().head(&head, b"");
        let mut endless = std::io::Read::chain(&archive.0[..], std::io::repeat(b'{'));
        let store = TestStore::new();
        let e = Store::load(&store, &mut endless).expect_err(name);
        assert!(e.message().contains("bytes"), "{name}: {e}");
        assert_nothing_left(&store, name);
    }
}

/// What `docker buildx` writes: an index in the index, other platforms and attestations beside ours.
#[test]
fn the_manifest_for_this_machine_is_taken() {
    let ours = two_layers();
    let document = ours.document();
    let manifest = |layer: &[u8], config: &[u8]| {
        json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": descriptor("application/vnd.oci.image.config.v1+json", config),
            "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", layer)]})
        .to_string()
        .into_bytes()
    };
    let single = TestImage::new("x", &ours.layers[..1]);
    let (good, foreign) = (manifest(&single.layers[0], &single.document()), manifest(b"windows", b"{}"));
    let media = "application/vnd.oci.image.manifest.v1+json";
    let platform = |os: &str, arch: &str, bytes: &[u8]| {
        let mut d = descriptor(media, bytes);
        d["platform"] = json!({"os": os, "architecture": arch});
        d
    };
    let mut attestation = platform("unknown", "unknown", &foreign);
    attestation["annotations"] = json!({"vnd.docker.reference.type": "attestation-manifest"});
    let arch = oci_spec::image::Arch::default().to_string();
    let index = |all: Vec<Value>| {
        json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": all})
            .to_string()
            .into_bytes()
    };
    let inner = index(vec![
        platform("windows", &arch, &foreign),
        platform("linux", "s390x", &foreign),
        attestation,
        platform("linux", &arch, &good),
    ]);
    let mut top = descriptor("application/vnd.oci.image.index.v1+json", &inner);
    top["annotations"] = json!({"org.opencontainers.image.ref.name": "ghcr.io/a/b:c"});
    let pack = |inner: &[u8], top: Value| {
        let mut tar = Tar::default().file("index.json", index(vec![top]));
        for blob in [inner, &good, &foreign, &single.document(), &single.layers[0], &document] {
            tar = tar.file(&blob_name(blob), blob);
        }
        tar.end()
    };
    let report = TestStore::new().load(&pack(&inner, top)).expect("loads");
    assert_eq!(
        (report.images[0].image.id(), report.images[0].tags[0].to_string()),
        (&single.id(), "ghcr.io/a/b:c".into())
    );
    let none = index(vec![platform("windows", &arch, &foreign), platform("linux", "s390x", &foreign)]);
    let e =
        refused("no platform", &pack(&none, descriptor("application/vnd.oci.image.index.v1+json", &none)));
    assert!(e.message().contains("linux/s390x, windows/"), "{e}");
}

#[test]
fn an_index_that_leads_to_itself_ends() {
    // No index can contain its own digest, but sizes and media types can lie; the chain here is merely too deep.
    let mut blobs = Vec::new();
    let mut inner = json!({"schemaVersion": 2, "manifests": []}).to_string().into_bytes();
    for _ in 0..10 {
        blobs.push(inner.clone());
        let entry = descriptor("application/vnd.oci.image.index.v1+json", &inner);
        inner = json!({"schemaVersion": 2, "manifests": [entry]}).to_string().into_bytes();
    }
    let tar = blobs.iter().fold(Tar::default(), |tar, blob| tar.file(&blob_name(blob), blob));
    assert!(refused("deep", &tar.file("index.json", inner).end()).message().contains("nested"));
}

#[test]
fn a_hostile_layer_fails_the_load_and_the_next_one_works() {
    let store = TestStore::new();
    // Our own file, not one of the machine's: a build that follows the link must not cost more than this test.
    let canary = tempfile::tempdir().expect("directory");
    std::fs::write(canary.path().join("passwd"), "untouched").expect("written");
    let target = canary.path().to_str().expect("text");
    let evil = TestImage::new("evil", &[Tar::default().symlink("l", target).file("l/passwd", "x").end()]);
    assert_eq!(store.load(&evil.legacy()).expect_err("hostile").kind(), ErrorKind::Corrupt);
    assert_eq!(std::fs::read_to_string(canary.path().join("passwd")).expect("there"), "untouched");
    let mut bad_crc = gzip(&layer("f", "x"));
    let at = bad_crc.len() - 6;
    bad_crc[at] ^= 1;
    assert!(store.import(&mut &bad_crc[..], &ImportOptions::default()).is_err());
    assert_nothing_left(&store, "hostile");
    store.load(&two_layers().legacy()).expect("the store still works");
}

#[test]
fn a_layer_nobody_refers_to_may_be_anything() {
    let image = two_layers();
    let mut archive =
        Tar::default().file("README", "no layer").file("evil.tar", Tar::default().file("../x", "").end());
    archive.0.extend(image.legacy());
    let store = TestStore::new();
    store.load(&archive.0).expect("loads");
    assert_eq!((store.names("layers").len(), store.names("tmp").len()), (2, 0));
}

#[test]
fn importing_a_root_file_system_makes_an_image() {
    let store = TestStore::new();
    let tar = Tar::default().dir("bin/").file("bin/sh", "#!").end();
    let options = ImportOptions {
        reference: Some("mine:1".parse().expect("reference")),
        message: String::new(),
        changes: vec!["CMD [\"/bin/sh\"]".into(), "ENV A=b".into()],
        config: ImageConfig { user: "www".into(), cmd: Some(vec!["old".into()]), ..ImageConfig::default() },
    };
    for archive in [tar.clone(), gzip(&tar), zstd(&tar)] {
        let image = store.import(&mut &archive[..], &options).expect("imports");
        assert_eq!(image.document.config.cmd, Some(vec!["/bin/sh".into()]));
        assert_eq!(image.document.config.user, "www", "what no instruction changes stays");
        assert_eq!(image.document.rootfs.diff_ids, [crate::stream::digest_of(&tar)]);
        assert_eq!(store.image("mine:1").expect("tagged").id(), image.id());
    }
    assert_eq!(store.names("layers").len(), 1, "one layer, however it was packed");
    let bad = ImportOptions { changes: vec!["RUN x".into()], ..options };
    assert_eq!(store.import(&mut &tar[..], &bad).expect_err("refused").kind(), ErrorKind::Unsupported);
}

#[test]
fn an_image_may_not_take_the_name_of_the_host() {
    let store = TestStore::new();
    let e = store.load(&TestImage::new("host:latest", &[layer("a", "b")]).legacy()).expect_err("reserved");
    assert_eq!(e.kind(), ErrorKind::InvalidInput);
    assert_nothing_left(&store, "reserved");
}

#[test]
fn what_a_crash_left_is_cleared_away_at_open() {
    let mut store = TestStore::new();
    store.load(&two_layers().legacy()).expect("loads");
    store.close();
    let root = store.root();
    for orphan in
        ["layers/abc/diff", "tmp/xyz/0/diff", "containers/123/upper", "volumes/456/_data", "trash/old/deep"]
    {
        std::fs::create_dir_all(root.join(orphan)).expect("orphan");
    }
    store.reopen();
    assert_eq!((store.names("layers").len(), store.names("tmp").len()), (2, 0));
    assert_eq!((store.names("containers").len(), store.names("volumes").len()), (0, 0));
    // Dropping waits for the worker, which is past its start once a new item has gone.
    let wait = std::time::Instant::now();
    while !list(&root.join("trash")).is_empty() && wait.elapsed().as_secs() < 10 {
        std::thread::yield_now();
    }
    assert_eq!(list(&root.join("trash")), Vec::<String>::new());
}

#[test]
fn a_lost_layer_is_reported_and_loading_again_heals_it() {
    let mut store = TestStore::new();
    let image = two_layers();
    store.load(&image.legacy()).expect("loads");
    let lost = store.images()[0].record.layers[0].hex();
    store.close();
    std::fs::remove_dir_all(store.root().join("layers").join(&lost)).expect("lost");
    store.reopen();
    assert!(store.damage()[0].contains("is gone"), "{:?}", store.damage());
    store.load(&image.legacy()).expect("loads again");
    store.reopen();
    assert_eq!(store.damage(), Vec::<String>::new());
}

/// A look at what a load costs beside `tar -x` of the same bytes: `cargo test -p tare-store cost_of_a_load -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn cost_of_a_load() {
    let tar = |args: &[&str]| std::process::Command::new("tar").args(args).output().expect("tar runs").stdout;
    let layer =
        tar(&["-C", "/usr", "-cf", "-", "bin", "sbin", "lib/python3", "share/perl", "share/doc", "include"]);
    let image = TestImage::new("big:1", std::slice::from_ref(&layer));
    let scratch = tempfile::tempdir_in("/var/tmp").expect("scratch");
    let file = scratch.path().join("layer.tar");
    std::fs::write(&file, &layer).expect("written");
    let text = |path: &std::path::Path| path.to_str().expect("text").to_owned();
    println!(
        "{} MB, {} entries",
        layer.len() >> 20,
        String::from_utf8_lossy(&tar(&["-tf", &text(&file)])).lines().count()
    );
    rustix::fs::sync();
    let timed = |what: &str, work: &mut dyn FnMut()| {
        let begin = std::time::Instant::now();
        work();
        println!("{what}: {:?}", begin.elapsed());
    };
    timed("tar -x", &mut || drop(tar(&["-C", &text(scratch.path()), "-xf", &text(&file)])));
    timed("sync after it", &mut || rustix::fs::sync());
    for (what, archive) in [("plain", image.legacy()), ("OCI gzip", image.oci("+gzip", gzip, false))] {
        let store = TestStore::new();
        timed(what, &mut || drop(store.load(&archive).expect("loads")));
    }
}
