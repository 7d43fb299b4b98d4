//! Names, ids and removal mean what they mean to Docker.

use tare_model::ErrorKind;

use super::*;
use crate::testing::{TestImage, TestStore, layer};

fn reference(text: &str) -> Reference {
    text.parse().expect("a reference")
}

/// `a` and `b` share a layer; each has one of its own.
fn store() -> (TestStore, Digest, Digest) {
    let store = TestStore::new();
    let base = layer("base", "x");
    let (a, b) = (
        TestImage::new("one:1", &[base.clone(), layer("a", "a")]),
        TestImage::new("two:1", &[base, layer("b", "b")]),
    );
    for image in [&a, &b] {
        store.load(&image.legacy()).expect("loads");
    }
    (store, a.id(), b.id())
}

#[test]
fn an_image_is_found_by_name_id_and_beginning_of_its_id() {
    let (store, a, _) = store();
    for name in
        ["one:1", "docker.io/library/one:1", &a.to_string(), &a.hex(), &a.hex()[..12], &a.to_string()[..20]]
    {
        assert_eq!(store.image(name).expect(name).id(), &a);
    }
    for name in ["one", "one:2", "w", "", "sha256:", "zz", &"f".repeat(65)] {
        assert_eq!(store.image(name).expect_err(name).kind(), ErrorKind::NotFound, "{name}");
    }
    assert_eq!(store.image("one").expect_err("no latest").message(), "No such image: one:latest");
}

#[test]
fn a_name_moves_to_the_image_tagged_last() {
    let (mut store, a, b) = store();
    store.tag_image("one:1", &reference("x")).expect("tags");
    store.tag_image("two:1", &reference("x:latest")).expect("tags");
    store.reopen();
    assert_eq!(store.image("x").expect("found").id(), &b);
    assert_eq!(store.image_by_id(&a).expect("found").tags, [reference("one:1")]);
    for bad in ["host", "host:full", &format!("x@{a}")] {
        assert!(store.tag_image("one:1", &reference(bad)).is_err(), "{bad}");
    }
}

#[test]
fn loading_a_name_takes_it_from_the_older_image() {
    let (store, a, _) = store();
    let newer = TestImage::new("one:1", &[layer("new", "n")]);
    store.load(&newer.legacy()).expect("loads");
    assert_eq!(store.image("one:1").expect("found").id(), &newer.id());
    assert_eq!(store.image_by_id(&a).expect("dangling").tags, []);
}

#[test]
fn the_last_name_takes_the_image_and_its_own_layers_with_it() {
    let (mut store, a, b) = store();
    store.tag_image("one:1", &reference("one:2")).expect("tags");
    let removed = store.remove_image("one:1", false, &InUse::new()).expect("untags");
    assert_eq!(removed, Removed { untagged: vec![reference("one:1")], ..Removed::default() });
    let removed = store.remove_image("one:2", false, &InUse::new()).expect("removes");
    assert_eq!((removed.deleted, removed.layers.len()), (vec![a], 1), "the shared layer stays");
    store.reopen();
    assert_eq!((store.images().len(), store.names("layers").len()), (1, 2));
    let removed = store.remove_image(&b.hex()[..8], false, &InUse::new()).expect("removes by id");
    assert_eq!((removed.untagged, removed.layers.len()), (vec![reference("two:1")], 2));
    assert_eq!(store.names("layers"), Vec::<String>::new());
    assert_eq!(
        store.remove_image("two:1", true, &InUse::new()).expect_err("gone").kind(),
        ErrorKind::NotFound
    );
}

#[test]
fn an_image_with_several_names_is_not_removed_by_id_without_force() {
    let (store, a, _) = store();
    store.tag_image("one:1", &reference("other/a")).expect("tags");
    let e = store.remove_image(&a.hex(), false, &InUse::new()).expect_err("several names");
    assert!(e.message().contains("referenced in multiple repositories"), "{e}");
    assert_eq!(store.remove_image(&a.hex(), true, &InUse::new()).expect("forced").untagged.len(), 2);
}

#[test]
fn what_a_container_was_made_from_keeps_its_layers_even_when_forced() {
    let (store, a, _) = store();
    let used = InUse::from([a]);
    let e = store.remove_image("one:1", false, &used).expect_err("in use");
    assert!(e.kind() == ErrorKind::Conflict && e.message().contains("must force"), "{e}");
    let removed = store.remove_image("one:1", true, &used).expect("forced");
    assert_eq!((removed.untagged.len(), removed.deleted.len()), (1, 0));
    assert_eq!(store.names("layers").len(), 3);
    assert_eq!(store.remove_image(&a.hex(), true, &used).expect_err("in use").kind(), ErrorKind::Conflict);
    store.remove_image(&a.hex(), false, &InUse::new()).expect("free now");
}

#[test]
fn a_damaged_image_does_not_hide_the_others_nor_lose_its_layers() {
    let (mut store, a, b) = store();
    store.meta.commit(vec![Op::Put(Table::Documents, a.to_string(), b"{}".to_vec())]).expect("damage");
    store.reopen();
    assert!(store.damage()[0].contains("not what its id says"), "{:?}", store.damage());
    assert_eq!(store.images().len(), 1);
    assert_eq!(store.image("two:1").expect("found").id(), &b);
    assert_eq!(store.names("layers").len(), 3);
}

#[test]
fn images_come_oldest_first_with_their_names() {
    let (store, ..) = store();
    let tags: Vec<_> = store.images().iter().map(|image| image.tags[0].familiar()).collect();
    assert_eq!(tags.len(), 2);
    assert!(store.images().is_sorted_by_key(|image| image.record.created));
}

/// Loads and removals of images that share layers, all at once: what is left is whole, and nothing else is left.
#[test]
fn loads_and_removals_at_once_leave_whole_images() {
    let mut store = TestStore::new();
    let shared = layer("shared", "s");
    let names = ["one:1", "two:1", "three:1", "four:1"];
    let image = |name| TestImage::new(name, &[shared.clone(), layer("own", name)]);
    std::thread::scope(|scope| {
        for name in names {
            let (store, image) = (&store, image(name));
            scope.spawn(move || {
                for _ in 0..8 {
                    // Another thread may remove the shared layer between our reading and adopting it: then the load
                    // says so, and nothing of it shows.
                    let _ = store.load(&image.oci("", <[u8]>::to_vec, true));
                    let _ = store.remove_image(name, false, &InUse::new());
                }
                store.load(&image.legacy()).expect("with every layer in it, a load cannot miss one");
            });
        }
    });
    for again in 0..2 {
        assert_eq!(
            (store.images().len(), store.names("layers").len(), store.names("tmp").len()),
            (4, 5, 0),
            "{again}"
        );
        assert_eq!(store.damage(), Vec::<String>::new());
        store.reopen();
    }
}
