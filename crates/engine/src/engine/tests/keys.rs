//! Names, ids, prefixes, listings.

use tare_model::{ErrorKind, Status};

use super::*;
use crate::api::options::{ListFilter, RemoveOptions};

#[tokio::test]
async fn a_container_is_found_by_id_prefix_and_name() {
    let room = Room::new().await;
    let id = room.create("web").await;
    for key in [id.as_str(), id.short(), &id.as_str()[..5], "web", "/web"] {
        assert_eq!(room.engine.inspect(key).expect(key).id, id);
    }
    for key in ["", "we", "nothing", "WEB", &id.as_str()[1..]] {
        assert_eq!(message(room.engine.inspect(key)), format!("No such container: {key}"));
    }
}

#[tokio::test]
async fn a_name_wins_over_a_prefix_and_an_ambiguous_prefix_is_refused() {
    let room = Room::new().await;
    let first = room.create("first").await;
    let prefix = &first.as_str()[..3];
    let named = room.create(prefix).await;
    assert_eq!(room.engine.inspect(prefix).expect("by name").id, named);
    // No name that is the beginning of an id.
    for n in 0..40 {
        room.create(&format!("more-{n}")).await;
    }
    let ambiguous = (0..16)
        .map(|d| format!("{d:x}"))
        .find(|d| room.engine.inspect(d).is_err_and(|e| e.message().contains("Multiple")));
    let digit = ambiguous.expect("42 ids begin with at most 16 digits");
    assert_eq!(
        message(room.engine.inspect(&digit)),
        format!("Multiple IDs found with provided prefix: {digit}")
    );
}

#[tokio::test]
async fn a_name_in_use_is_refused_and_names_its_owner() {
    let room = Room::new().await;
    let id = room.create("web").await;
    let e = room.engine.create(Some("web".parse().expect("valid")), room.config()).await.expect_err("taken");
    assert_eq!(e.kind(), ErrorKind::Conflict);
    let wanted = format!("Conflict. The container name \"/web\" is already in use by container \"{id}\".");
    assert!(e.message().starts_with(&wanted), "{e}");
}

#[tokio::test]
async fn of_many_creations_with_one_name_exactly_one_succeeds() {
    let room = Room::new().await;
    let tries = (0..20).map(|_| room.engine.create(Some("web".parse().expect("valid")), room.config()));
    let results = futures_util::future::join_all(tries).await;
    assert_eq!(results.iter().filter(|r| r.is_ok()).count(), 1);
    assert_eq!(room.engine.list(&ListFilter { all: true, ..Default::default() }).expect("lists").len(), 1);
    let left = std::fs::read_dir(room.config.root.join("containers")).expect("there").count();
    assert_eq!(left, 1, "the others left nothing");
}

#[tokio::test]
async fn containers_without_a_name_get_one_each() {
    let room = Room::new().await;
    let all = futures_util::future::join_all((0..60).map(|_| room.engine.create(None, room.config()))).await;
    assert!(all.iter().all(Result::is_ok));
    let views = room.engine.list(&ListFilter { all: true, ..Default::default() }).expect("lists");
    let names: std::collections::BTreeSet<_> = views.iter().map(|v| v.name.clone()).collect();
    assert_eq!(names.len(), 60);
}

#[tokio::test]
async fn a_new_name_frees_the_old_one_and_survives_the_engine() {
    let room = Room::new().await;
    let id = room.create("old").await;
    room.create("other").await;
    let rename = |key: &'static str, name: &str| room.engine.rename(key, name.parse().expect("valid"));
    assert_eq!(rename("old", "other").await.expect_err("taken").kind(), ErrorKind::Conflict);
    assert_eq!(room.engine.inspect("old").expect("as before").id, id);
    rename("old", "new").await.expect("renames");
    assert!(room.engine.inspect("old").is_err());
    room.create("old").await;
    let room = room.reopen().await;
    assert_eq!(room.engine.inspect("new").expect("still").id, id);
}

#[tokio::test]
async fn a_removed_name_can_be_used_again() {
    let room = Room::new().await;
    room.create("web").await;
    room.engine.remove("web", RemoveOptions::default()).await.expect("removes");
    room.create("web").await;
}

#[tokio::test]
async fn listings_filter_and_show_the_newest_first() {
    let room = Room::new().await;
    room.create_with("first", |c| {
        c.labels.insert("tier".into(), "db".into());
    })
    .await;
    let second = room.run("second").await;
    let names = |filter: ListFilter| {
        let views = room.engine.list(&filter).expect("lists");
        views.iter().map(|v| v.name.to_string()).collect::<Vec<_>>().join(" ")
    };
    let all = || ListFilter { all: true, ..Default::default() };
    assert_eq!(names(ListFilter::default()), "second");
    assert_eq!(names(all()), "second first");
    assert_eq!(names(ListFilter { limit: Some(1), ..Default::default() }), "second");
    assert_eq!(names(ListFilter { status: vec![Status::Created], ..Default::default() }), "first");
    assert_eq!(names(ListFilter { name: vec!["^fir".into()], ..all() }), "first");
    assert_eq!(names(ListFilter { name: vec!["^fir$".into()], ..all() }), "");
    assert_eq!(names(ListFilter { label: vec!["tier=db".into()], ..all() }), "first");
    assert_eq!(names(ListFilter { label: vec!["tier=web".into()], ..all() }), "");
    assert_eq!(names(ListFilter { id: vec![second.short().into()], ..all() }), "second");
    assert_eq!(names(ListFilter { before: Some("second".into()), ..all() }), "first");
    assert_eq!(names(ListFilter { since: Some("first".into()), ..all() }), "second");
    assert!(room.engine.list(&ListFilter { before: Some("nobody".into()), ..all() }).is_err());
    room.world.exit(&second, 5);
    soon("exited", || room.status("second") == "exited").await;
    assert_eq!(names(ListFilter { exited: vec![5], ..Default::default() }), "second");
    assert_eq!(names(ListFilter { exited: vec![0], ..Default::default() }), "");
}
