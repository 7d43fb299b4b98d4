//! Coming, going and changing.

use super::*;

fn look(directory: &Directory, number: u8, name: &str) -> Option<Vec<String>> {
    let mut found = Vec::new();
    let known = directory.zone(&network(number)).unwrap().find(name, &mut found);
    found.sort();
    known.then(|| found.iter().map(ToString::to_string).collect())
}

#[test]
fn a_rename_forgets_the_old_name_and_a_departure_all() {
    let directory = directory();
    assert!(directory.join(&network(2), &container(2), member(&["store", "svc"], &["10.2.0.9"])));
    assert_eq!(look(&directory, 2, "db"), None);
    assert_eq!(look(&directory, 2, "store"), Some(vec!["10.2.0.9".into()]));
    let zone = directory.zone(&network(2)).unwrap();
    assert_eq!(zone.reverse("10.2.0.3".parse().unwrap()), None);
    assert_eq!(zone.reverse("10.2.0.9".parse().unwrap()), Some("store.back".into()));
    assert!(directory.leave(&network(2), &container(2)) && !directory.leave(&network(2), &container(2)));
    assert_eq!(look(&directory, 2, "svc"), None);
    assert!(!directory.join(&network(9), &container(2), Member::default()));
}

#[test]
fn an_address_that_went_to_another_container_stays_there() {
    let directory = directory();
    directory.join(&network(2), &container(5), member(&["new"], &["10.2.0.3"]));
    directory.leave(&network(2), &container(2));
    let zone = directory.zone(&network(2)).unwrap();
    assert_eq!(zone.reverse("10.2.0.3".parse().unwrap()), Some("new.back".into()));
}

#[test]
fn a_network_that_is_added_again_keeps_who_is_on_it() {
    let directory = directory();
    directory.add_network(&network(2), "back", true, vec![]);
    assert_eq!(look(&directory, 2, "db"), Some(vec!["10.2.0.3".into()]));
    directory.remove_network(&network(2));
    assert!(directory.zone(&network(2)).is_none());
}
