//! Which ids a user's engine has: the user's own as root, and after it what `/etc/subuid` and `/etc/subgid` give. Pure.

use super::Kind;

/// Ids in a row: the first inside, the first outside, how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) inside: u32,
    pub(super) outside: u32,
    pub(super) count: u32,
}

/// How many ranges of one user are used: the kernel takes 340 lines in a map.
const MOST: usize = 256;

/// The name of user `uid`, from a text like `/etc/passwd`.
pub(super) fn name_of(passwd: &str, uid: u32) -> Option<&str> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let number = fields.nth(1)?.parse::<u32>().ok()?;
        (number == uid && !name.is_empty()).then_some(name)
    })
}

/// The map of a user's namespace: `own` is root, and the ranges of a text like `/etc/subuid` follow from 1 on. A line names
/// its user by name or by number. `None` if there is no line for this one.
pub(super) fn map(text: &str, name: Option<&str>, uid: u32, own: u32) -> Option<Vec<Extent>> {
    let number = uid.to_string();
    let mut all = vec![Extent { inside: 0, outside: own, count: 1 }];
    let mut next = 1_u32;
    for (outside, count) in text.lines().filter_map(|line| range(line, name, &number)).take(MOST) {
        let count = count.min(u32::MAX - next).min(u32::MAX - outside);
        // The kernel refuses a map in which an id is there twice.
        let meets = |other: &Extent| outside < other.outside + other.count && other.outside < outside + count;
        if count == 0 || all.iter().any(meets) {
            continue;
        }
        all.push(Extent { inside: next, outside, count });
        next += count;
    }
    (all.len() > 1).then_some(all)
}

fn range(line: &str, name: Option<&str>, number: &str) -> Option<(u32, u32)> {
    let mut fields = line.trim().split(':');
    let user = fields.next()?;
    let ours = name == Some(user) || user == number;
    let mut number = || fields.next()?.trim().parse().ok();
    let range = (number()?, number()?);
    ours.then_some(range)
}

/// The words that `newuidmap` takes after the process.
pub(super) fn words(map: &[Extent]) -> Vec<String> {
    let numbers = |extent: &Extent| [extent.inside, extent.outside, extent.count];
    map.iter().flat_map(numbers).map(|number| number.to_string()).collect()
}

/// A line that would do, after all that the file gives to others; in the words of `usermod` for those who have it.
pub(super) fn advice(kind: Kind, text: &str, user: &str) -> String {
    let end = |line: &str| {
        let mut fields = line.split(':').skip(1).map(|field| field.trim().parse::<u32>());
        fields.next()?.ok()?.checked_add(fields.next()?.ok()?)
    };
    let first = text.lines().filter_map(end).max().unwrap_or(0).max(100_000);
    let file = kind.file();
    format!("add the line {user}:{first}:65536 to {file} (as root)")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapped(text: &str) -> Option<Vec<(u32, u32, u32)>> {
        let map = map(text, Some("ann"), 1000, 1000)?;
        Some(map.iter().map(|e| (e.inside, e.outside, e.count)).collect())
    }

    #[test]
    fn root_is_the_user_and_others_follow_without_a_gap() {
        let text = "bob:100000:65536\nann:165536:65536\n# x\nann:x:1\n1000:300000:10\nann:0:0\n";
        assert_eq!(mapped(text), Some(vec![(0, 1000, 1), (1, 165_536, 65_536), (65_537, 300_000, 10)]));
        assert_eq!(mapped("bob:100000:65536\n"), None);
        assert_eq!(mapped(""), None);
    }

    #[test]
    fn an_id_is_never_there_twice() {
        assert_eq!(mapped("ann:900:200\nann:5000:10\nann:5009:3\n"), Some(vec![(0, 1000, 1), (1, 5000, 10)]));
        let end = mapped("ann:4294967290:100\n").expect("a part of it is ids");
        assert_eq!(end[1], (1, 4_294_967_290, 5));
    }

    #[test]
    fn names_and_words_are_as_the_tools_have_them() {
        let passwd = "root:x:0:0::/root:/bin/sh\nann:x:1000:1000::/:/bin/sh\n";
        assert_eq!((name_of(passwd, 1000), name_of(passwd, 7)), (Some("ann"), None));
        let map = map("ann:7:8", Some("ann"), 1000, 1000).expect("there is one");
        assert_eq!(words(&map), ["0", "1000", "1", "1", "7", "8"]);
    }

    #[test]
    fn the_line_that_is_advised_is_free() {
        let line = advice(Kind::Users, "bob:100000:65536\n", "ann");
        assert!(line.contains("ann:165536:65536") && line.contains("/etc/subuid"), "{line}");
        assert!(advice(Kind::Groups, "", "ann").contains("ann:100000:65536 to /etc/subgid"));
    }
}
