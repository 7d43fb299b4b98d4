//! Device rules: what they mean and how v1 hears of them.

use oci_spec::runtime::LinuxDeviceCgroup;

use proptest::prelude::*;

use super::super::devices::{Access, Kind, Rules, meaning, steps};

fn rules(json: &str) -> Rules {
    let document: Vec<LinuxDeviceCgroup> = serde_json::from_str(json).unwrap();
    Rules::read(&document).unwrap()
}

fn lines(json: &str) -> Vec<String> {
    rules(json).lines().unwrap().into_iter().map(|(file, line)| format!("{file} {line}")).collect()
}

const DENY_ALL: &str = r#"{"allow":false,"access":"rwm"}"#;

#[test]
fn no_rules_at_all_deny_everything_unusual() {
    let rules = rules("[]");
    assert!(meaning(&rules, Kind::Char, 1, 3, Access::ALL));
    assert!(meaning(&rules, Kind::Block, 7, 0, Access::MKNOD));
    assert!(!meaning(&rules, Kind::Block, 7, 0, Access::READ));
    assert!(!meaning(&rules, Kind::Char, 1, 1, Access::READ));
    assert_eq!(lines("[]")[0], "devices.deny a");
}

#[test]
fn a_device_that_is_allowed_is_added_to_the_usual_ones() {
    let json = format!(r#"[{DENY_ALL},{{"allow":true,"type":"c","major":10,"minor":229,"access":"rw"}}]"#);
    let lines = lines(&json);
    assert_eq!(lines[0], "devices.deny a");
    assert_eq!(lines.last().map(String::as_str), Some("devices.allow c 10:229 rw"));
    assert!(lines.contains(&"devices.allow c 136:* rwm".to_owned()));
}

#[test]
fn privileged_is_one_line() {
    assert_eq!(
        lines(r#"[{"allow":false,"access":"rwm"},{"allow":true,"access":"rwm"}]"#),
        ["devices.allow a"]
    );
    assert_eq!(lines(r#"[{"allow":true,"type":"a"}]"#), ["devices.allow a"]);
}

#[test]
fn rules_before_one_about_everything_are_overruled() {
    let json = format!(r#"[{{"allow":true,"type":"b","major":8,"minor":0,"access":"rw"}},{DENY_ALL}]"#);
    assert!(!meaning(&rules(&json), Kind::Block, 8, 0, Access::READ));
}

#[test]
fn what_is_said_twice_is_written_once() {
    let again = r#"{"allow":true,"type":"c","major":1,"minor":3,"access":"rwm"}"#;
    let json = format!("[{DENY_ALL},{again},{again}]");
    assert_eq!(lines(&json).len(), lines("[]").len());
}

#[test]
fn a_rule_about_both_kinds_becomes_two() {
    let json = format!(r#"[{DENY_ALL},{{"allow":true,"type":"a","major":9,"access":"r"}}]"#);
    let lines = lines(&json);
    assert_eq!(lines[lines.len() - 2..], ["devices.allow b 9:* r", "devices.allow c 9:* r"]);
}

#[test]
fn a_usual_device_can_be_taken_away() {
    let json = format!(r#"[{DENY_ALL},{{"allow":false,"type":"c","major":10,"minor":200,"access":"rwm"}}]"#);
    assert!(!meaning(&rules(&json), Kind::Char, 10, 200, Access::READ));
    assert!(!meaning(&rules(&json), Kind::Char, 10, 200, Access::MKNOD));
    assert_eq!(lines(&json).last().map(String::as_str), Some("devices.deny c 10:200 rwm"));
}

#[test]
fn an_exception_that_v1_would_not_make_is_refused() {
    let json = format!(
        r#"[{DENY_ALL},{{"allow":true,"type":"b","major":8,"access":"rw"}},
        {{"allow":false,"type":"b","major":8,"minor":1,"access":"w"}}]"#
    );
    let error = rules(&json).lines().unwrap_err().to_string();
    assert!(error.contains("\"b 8:1 w\"") && error.contains("\"b 8:* rw\""), "{error}");
    assert!(meaning(&rules(&json), Kind::Block, 8, 0, Access::WRITE), "and v2 does make it");
    assert!(!meaning(&rules(&json), Kind::Block, 8, 1, Access::WRITE));
}

#[test]
fn letters_are_decided_one_by_one() {
    let json = format!(
        r#"[{DENY_ALL},{{"allow":true,"type":"c","major":4,"minor":64,"access":"r"}},
        {{"allow":true,"type":"c","major":4,"minor":64,"access":"w"}}]"#
    );
    assert!(meaning(&rules(&json), Kind::Char, 4, 64, Access(6)));
}

#[test]
fn nonsense_is_refused() {
    for json in [
        r#"[{"allow":true,"type":"c","major":1,"access":"rx"}]"#,
        r#"[{"allow":true,"type":"c","major":4294967296,"access":"r"}]"#,
        r#"[{"allow":true,"type":"p","major":1,"access":"r"}]"#,
    ] {
        let document: Vec<LinuxDeviceCgroup> = serde_json::from_str(json).unwrap();
        assert!(Rules::read(&document).is_err(), "{json}");
    }
}

/// What v1 keeps after these writes, as `devices.list` shows it.
fn kept(list: &str, steps: &[(&str, String)]) -> Vec<String> {
    let mut all: Vec<(String, u8)> = Vec::new();
    let parse = |line: &str| {
        let (device, letters) = line.rsplit_once(' ').unwrap();
        let bits = letters
            .bytes()
            .map(|letter| match letter {
                b'r' => 1u8,
                b'w' => 2,
                _ => 4,
            })
            .sum::<u8>();
        (device.to_owned(), bits)
    };
    let mut apply = |file: &str, line: &str| {
        if line == "a" {
            assert_eq!(file, "devices.deny", "not in these tests");
            return all.clear();
        }
        let (device, bits) = parse(line);
        match all.iter_mut().find(|(known, _)| *known == device) {
            Some((_, known)) if file == "devices.allow" => *known |= bits,
            Some((_, known)) => *known &= !bits,
            None if file == "devices.allow" => all.push((device, bits)),
            None => {}
        }
    };
    list.lines().for_each(|line| apply("devices.allow", line));
    steps.iter().for_each(|(file, line)| apply(file, line));
    let mut shown: Vec<String> = all
        .into_iter()
        .filter(|(_, bits)| *bits != 0)
        .map(|(device, bits)| format!("{device} {bits}"))
        .collect();
    shown.sort_unstable();
    shown
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn steps_lead_to_what_writing_all_anew_would(
        now in prop::collection::btree_map("[bc] [0-3]:[0-3*]", "r?w?m?", 0..6),
        rules in prop::collection::vec((any::<bool>(), "[bc] [0-3]:[0-3*]", "r?w?m?"), 0..8),
    ) {
        let list: String = now.iter().filter(|(_, letters)| !letters.is_empty())
            .map(|(device, letters)| format!("{device} {letters}\n")).collect();
        let mut wanted = vec![("devices.deny", "a".to_owned())];
        for (allow, device, letters) in rules.iter().filter(|(_, _, letters)| !letters.is_empty()) {
            wanted.push((if *allow { "devices.allow" } else { "devices.deny" }, format!("{device} {letters}")));
        }
        let steps = steps(&list, &wanted);
        prop_assert!(steps.iter().all(|(_, line)| line != "a"), "everything is closed for a moment");
        prop_assert_eq!(kept(&list, &steps), kept("", &wanted));
        // What is allowed before and after is never denied on the way.
        let first_denial = steps.iter().position(|(file, _)| *file == "devices.deny").unwrap_or(steps.len());
        prop_assert!(steps[first_denial..].iter().all(|(file, _)| *file == "devices.deny"));
    }
}

#[test]
fn from_and_to_everything_is_said_anew() {
    let closed = rules("[]").lines().unwrap();
    let open = rules(r#"[{"allow":true,"access":"rwm"}]"#).lines().unwrap();
    assert_eq!(steps("a *:* rwm\n", &closed), closed);
    assert_eq!(steps("c 1:3 rwm\n", &open), open);
    assert_eq!(steps("", &closed)[0].0, "devices.allow");
}
