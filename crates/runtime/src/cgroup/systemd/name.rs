//! `slice:prefix:name`: how a document names a place in systemd's tree.

use super::super::error::{Error, Result};

/// A scope, and the slice it is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScopeName {
    slice: String,
    unit: String,
}

/// Longest name of a unit that systemd takes.
const LONGEST: usize = 255;

impl ScopeName {
    /// Reads `slice:prefix:name`. An empty slice is the manager's usual one; an empty prefix is none.
    ///
    /// # Errors
    /// There are other than three parts, or they make no names of units.
    pub fn parse(path: &str) -> Result<Self> {
        let refuse = |why| Err(Error::Path { path: path.chars().take(300).collect(), why });
        let parts: Vec<&str> = path.split(':').collect();
        let [slice, prefix, name] = parts[..] else {
            return refuse("the systemd driver wants slice:prefix:name");
        };
        if name.is_empty() || name.ends_with(".slice") {
            return refuse("the part after the last colon must name a scope");
        }
        let unit = if prefix.is_empty() { format!("{name}.scope") } else { format!("{prefix}-{name}.scope") };
        if !is_unit(&unit) || !(slice.is_empty() || is_slice(slice)) {
            return refuse("it has parts that systemd does not take as names of a slice and a scope");
        }
        Ok(Self { slice: slice.to_owned(), unit })
    }

    /// The scope's name.
    pub fn unit(&self) -> &str {
        &self.unit
    }

    /// The slice's name; `usual` if none was given.
    pub(super) fn slice<'a>(&'a self, usual: &'a str) -> &'a str {
        if self.slice.is_empty() { usual } else { &self.slice }
    }

    /// Where the scope is in the system manager's tree: `a-b.slice` lies in `a.slice`.
    pub(super) fn path(&self, usual: &str) -> String {
        format!("{}/{}", expand(self.slice(usual)), self.unit)
    }
}

fn is_unit(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b":_.\\-@".contains(&byte);
    name.len() <= LONGEST && !name.starts_with('.') && name.bytes().all(plain)
}

/// A slice is named by its way from the root: parts with a dash between, none of them empty.
fn is_slice(name: &str) -> bool {
    let Some(stem) = name.strip_suffix(".slice").filter(|_| is_unit(name)) else { return false };
    stem == "-" || stem.split('-').all(|part| !part.is_empty())
}

fn expand(slice: &str) -> String {
    let stem = slice.strip_suffix(".slice").unwrap_or(slice);
    if stem == "-" {
        return String::new();
    }
    let ends = stem.match_indices('-').map(|(at, _)| at).chain([stem.len()]);
    ends.map(|end| format!("/{}.slice", &stem[..end])).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn path(text: &str) -> String {
        ScopeName::parse(text).unwrap().path("system.slice")
    }

    #[test]
    fn a_slice_lies_in_the_slices_that_its_name_begins_with() {
        assert_eq!(path("a-b-c.slice:tare:1"), "/a.slice/a-b.slice/a-b-c.slice/tare-1.scope");
        assert_eq!(path("user.slice:tare:1"), "/user.slice/tare-1.scope");
        assert_eq!(path("-.slice:tare:1"), "/tare-1.scope");
        assert_eq!(path(":tare:1"), "/system.slice/tare-1.scope");
        assert_eq!(path("system.slice::one"), "/system.slice/one.scope");
    }

    #[test]
    fn what_names_no_scope_is_refused() {
        for text in [
            "",
            "/x/y",
            "a:b",
            "a.slice:b:c:d",
            "a.slice:b:",
            "a:b:c",
            "a--b.slice:b:c",
            "-a.slice:b:c",
            "a-.slice:b:c",
            ".slice:b:c",
            "a/b.slice:b:c",
            "a.slice:b/x:c",
            "a.slice:b:../c",
            "a.slice:b:x.slice",
            "a.slice:b:c d",
            "a.slice:b:c\n",
            "a.slice::.c",
        ] {
            assert!(ScopeName::parse(text).is_err(), "{text:?}");
        }
        assert!(ScopeName::parse(&format!(":b:{}", "x".repeat(300))).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_name_leads_out_of_the_tree(text in "[a-c./:@\\\\-]{0,24}") {
            if let Ok(name) = ScopeName::parse(&text) {
                let path = name.path("system.slice");
                prop_assert!(path.starts_with('/') && path.ends_with(".scope"), "{}", path);
                prop_assert!(path[1..].split('/').all(|part| !part.is_empty() && part != "." && part != ".."), "{}", path);
            }
        }
    }
}
