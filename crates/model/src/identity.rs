//! Who a process is: ids from the specification, or names looked up in the container's own files.
//!
//! The rules of [`Identity`]: a number is a number and never a name (CVE-2016-3697), it must fit in 31 bits
//! (CVE-2024-40635), an unknown name is an error.

use crate::sandbox::Identity;
use crate::{Error, Result};

/// Ids a process gets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Supplementary groups, the primary one not necessarily among them.
    pub groups: Vec<u32>,
    /// Home directory, if it was looked up.
    pub home: Option<String>,
}

/// Largest id that is accepted: beyond it, some program's signed arithmetic wraps.
const LARGEST: u32 = i32::MAX as u32;

/// One line of `passwd`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Account {
    name: String,
    uid: u32,
    gid: u32,
    home: String,
}

/// One line of `group`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Group {
    name: String,
    gid: u32,
    members: Vec<String>,
}

/// A user or group as asked for.
enum Asked<'a> {
    Nothing,
    Number(u32),
    Name(&'a str),
}

/// Resolves `identity` against the contents of the container's `passwd` and `group`.
///
/// # Errors
/// `InvalidInput` for what is neither a number in range nor a name that the files have.
pub fn resolve(identity: &Identity, passwd: &str, group: &str) -> Result<User> {
    let (user_text, group_text) = match identity.user.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (identity.user.as_str(), None),
    };
    let account = match asked(user_text, "user")? {
        Asked::Nothing => passwd_lines(passwd).find(|line| line.uid == 0).unwrap_or_else(|| nobody_knows(0)),
        Asked::Number(uid) => {
            passwd_lines(passwd).find(|line| line.uid == uid).unwrap_or_else(|| nobody_knows(uid))
        }
        Asked::Name(name) => passwd_lines(passwd)
            .find(|line| line.name == name)
            .ok_or_else(|| unknown("user", name, "passwd"))?,
    };
    let gid = match asked(group_text.unwrap_or(""), "group")? {
        Asked::Nothing => account.gid,
        Asked::Number(gid) => gid,
        Asked::Name(name) => gid_of(name, group)?,
    };
    // As Docker does: whoever names a group explicitly gets that one, without those the files list for the user.
    let mut groups: Vec<u32> = match group_text {
        Some(text) if !text.is_empty() => Vec::new(),
        _ => group_lines(group)
            .filter(|line| !account.name.is_empty() && line.members.contains(&account.name))
            .map(|line| line.gid)
            .collect(),
    };
    for further in &identity.groups {
        groups.push(match asked(further, "group")? {
            Asked::Nothing => return Err(Error::invalid("an additional group is empty")),
            Asked::Number(gid) => gid,
            Asked::Name(name) => gid_of(name, group)?,
        });
    }
    let home = if account.home.is_empty() { "/".to_owned() } else { account.home };
    Ok(User { uid: account.uid, gid, groups: distinct(gid, groups), home: Some(home) })
}

/// The home directory of a user by number; the root where the files know none.
pub fn home_of(uid: u32, passwd: &str) -> String {
    let account = passwd_lines(passwd).find(|line| line.uid == uid);
    account.map(|account| account.home).filter(|home| !home.is_empty()).unwrap_or_else(|| "/".to_owned())
}

/// Whether the answer can depend on the files at all; `HOME` always does.
fn asked<'a>(text: &'a str, what: &str) -> Result<Asked<'a>> {
    if text.is_empty() {
        return Ok(Asked::Nothing);
    }
    if text.bytes().any(|byte| byte.is_ascii_control() || byte == b':') {
        return Err(Error::invalid(format!("{what} {text:?} contains a colon or a control character")));
    }
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        // `-1`, `+1` and `0x0` look like numbers, so they are nobody's name here; `3proxy` does not.
        let signed = text.starts_with(['-', '+']);
        let hexadecimal = text.len() > 2 && text.is_char_boundary(2) && text[..2].eq_ignore_ascii_case("0x");
        if signed || hexadecimal {
            return Err(Error::invalid(format!("{what} {text:?} is neither a number nor a name")));
        }
        return Ok(Asked::Name(text));
    }
    match text.parse::<u32>() {
        Ok(number) if number <= LARGEST => Ok(Asked::Number(number)),
        _ => Err(Error::invalid(format!("{what} id {text} is out of range (0 to {LARGEST})"))),
    }
}

fn gid_of(name: &str, group: &str) -> Result<u32> {
    let found = group_lines(group).find(|line| line.name == name);
    found.map(|line| line.gid).ok_or_else(|| unknown("group", name, "group"))
}

fn unknown(what: &str, name: &str, file: &str) -> Error {
    Error::invalid(format!(
        "unable to find {what} {name}: no matching entries in {file} file of the container; give a number instead"
    ))
}

fn nobody_knows(uid: u32) -> Account {
    Account { name: String::new(), uid, gid: 0, home: String::new() }
}

/// Each group once, and not the primary one again.
fn distinct(primary: u32, groups: Vec<u32>) -> Vec<u32> {
    let mut kept = Vec::with_capacity(groups.len() + 1);
    kept.push(primary);
    for gid in groups {
        if !kept.contains(&gid) {
            kept.push(gid);
        }
    }
    kept
}

/// Lines that are well formed; others are skipped, as libc does.
fn passwd_lines(text: &str) -> impl Iterator<Item = Account> + '_ {
    text.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, uid, gid, _, home, ..] = fields[..] else { return None };
        let home = if home.starts_with('/') { home.to_owned() } else { String::new() };
        Some(Account { name: name.to_owned(), uid: id(uid)?, gid: id(gid)?, home })
    })
}

fn group_lines(text: &str) -> impl Iterator<Item = Group> + '_ {
    text.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, gid, members, ..] = fields[..] else { return None };
        let members = members.split(',').filter(|m| !m.is_empty()).map(str::to_owned).collect();
        Some(Group { name: name.to_owned(), gid: id(gid)?, members })
    })
}

fn id(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|id| digits && *id <= LARGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "\
root:x:0:0:root:/root:/bin/sh
# a comment
alice:x:1000:1001:Alice:/home/alice:/bin/sh
broken:x:nine
1000:x:0:0:hostile:/evil:/bin/sh
0x0:x:0:0:hostile:/evil:/bin/sh
huge:x:4294967296:0::/:/bin/sh
relative:x:7:7::not/absolute:/bin/sh
";
    const GROUP: &str = "root:x:0:\naudio:x:29:alice,bob\nusers:x:100:\nstaff:x:50:alice\nwheel:x:0:alice\n";

    fn resolved(user: &str) -> Result<User> {
        resolve(&Identity { user: user.to_owned(), groups: Vec::new() }, PASSWD, GROUP)
    }

    fn ids(user: &str) -> (u32, u32) {
        let user = resolved(user).unwrap();
        (user.uid, user.gid)
    }

    #[test]
    fn every_form_of_user_gives_exactly_these_ids() {
        for (text, want) in [
            ("", (0, 0)),
            ("1", (1, 0)),
            ("1:", (1, 0)),
            (":1", (0, 1)),
            ("01", (1, 0)),
            ("1:1", (1, 1)),
            ("alice", (1000, 1001)),
            ("alice:29", (1000, 29)),
            ("alice:audio", (1000, 29)),
            ("1000", (1000, 1001)),
            ("1000:users", (1000, 100)),
            ("2147483647", (2_147_483_647, 0)),
        ] {
            assert_eq!(ids(text), want, "{text:?}");
        }
    }

    #[test]
    fn a_number_is_never_looked_up_as_a_name() {
        assert_eq!(ids("1000"), (1000, 1001), "the line named 1000 has uid 0");
    }

    #[test]
    fn what_is_no_small_number_is_refused() {
        for text in [
            "-1",
            "+1",
            "0x0",
            "4294967296",
            "2147483648",
            "4294967295",
            "99999999999999999999",
            "1a",
            ":-1",
            "1:0x0",
        ] {
            assert!(resolved(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn control_characters_and_extra_colons_are_refused() {
        for text in ["a\nb", "a\0", "a\rb", "1:2:3", "alice:x:"] {
            assert!(resolved(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn unknown_names_are_an_error() {
        assert!(resolved("mallory").unwrap_err().to_string().contains("mallory"));
        assert!(resolved("alice:mallory").is_err());
        assert!(resolved("huge").is_err(), "its line is malformed");
    }

    #[test]
    fn supplementary_groups_are_those_of_the_files_and_those_added() {
        assert_eq!(resolved("alice").unwrap().groups, [1001, 29, 50, 0]);
        assert_eq!(resolved("alice:users").unwrap().groups, [100]);
        let more = Identity { user: "alice".into(), groups: vec!["users".into(), "29".into(), "777".into()] };
        assert_eq!(resolve(&more, PASSWD, GROUP).unwrap().groups, [1001, 29, 50, 0, 100, 777]);
    }

    #[test]
    fn the_primary_group_is_among_the_supplementary_ones() {
        assert_eq!(
            resolved("1:5").unwrap().groups,
            [5],
            "a setgid program must not shed it (CVE-2022-36109)"
        );
    }

    #[test]
    fn home_comes_from_the_entry_and_is_absolute() {
        assert_eq!(resolved("alice").unwrap().home.as_deref(), Some("/home/alice"));
        assert_eq!(resolved("7").unwrap().home.as_deref(), Some("/"));
        assert_eq!(resolved("12345").unwrap().home.as_deref(), Some("/"));
    }

    #[test]
    fn a_number_has_the_home_that_the_files_give_it() {
        assert_eq!(home_of(1000, PASSWD), "/home/alice");
        assert_eq!(home_of(7, PASSWD), "/", "not an absolute path");
        assert_eq!(home_of(4242, PASSWD), "/");
    }

    #[test]
    fn no_files_at_all_still_give_numbers() {
        let user = resolve(&Identity { user: "5:6".into(), groups: vec!["7".into()] }, "", "").unwrap();
        assert_eq!((user.uid, user.gid, user.groups), (5, 6, vec![6, 7]));
        assert!(resolve(&Identity { user: "root".into(), groups: vec![] }, "", "").is_err());
    }
}
